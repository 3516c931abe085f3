"""Do two scans of one brain give one volume? Pairs of real scans through the builtin engine.

Three kinds of pairs hold the same measurement (a defaced twin, another data type, another storage order of the same
voxels) and should correlate above 0.995; two sessions of one person cannot: there the correlation is given beside the
best that a direct registration of the one session to the other reaches on the same grid; ``seen`` counts only what lies
in the field of view of both. A last table cuts the field of view of whole heads and says how far that moves the brain.

Run ``python benchmarks/invariance.py DATA [--resolution 1 2]``; DATA holds ``scans``, ``ds000011`` and ``openms``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pandas as pd
import scipy.ndimage as ndi

from brainage_bids.preprocess import steps
from brainage_bids.preprocess.affine import Fit, register, set_threads
from brainage_bids.preprocess.brain import dice
from brainage_bids.preprocess.intake import Brain, Native, read_scan
from brainage_bids.preprocess.resample import volume_on_grid
from brainage_bids.preprocess.template import Template, load_template
from brainage_bids.schema import VolumeSpec

SCANS = {
    "face, defaced": ("scans/bisweb_sag_2mm.nii.gz", "scans/bisweb_sag_2mm_defaced.nii.gz"),
    "uint8, float64": ("scans/hippodeep_example_t1.nii.gz", "scans/deepwmh_t1_float64.nii.gz"),
}
STORED = "ds000011/sub-02/anat/sub-02_T1w.nii.gz"
WHOLE = "ds000011/sub-*/anat/*_T1w.nii.gz"
CUTS = ((5.0, 5.0), (10.0, 10.0), (20.0, 0.0))  # mm of the brain left out below and above
ORDERS = ("LPS", "PSR", "LIA", "ASL")
SESSIONS = tuple(f"openms/sub-ms01/ses-{n}/anat/sub-ms01_ses-{n}_T1w.nii.gz" for n in (1, 2))


@dataclass(frozen=True)
class Done:
    """A scan that went through the engine."""

    brain: Brain
    fit: Fit

    def volume(self, spec: VolumeSpec, matrix: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the volume and its mask, by the engine's own affine or another."""
        matrix = self.fit.matrix if matrix is None else matrix
        return volume_on_grid(self.brain.data, self.brain.mask, self.brain.affine, matrix, spec)


def through(path: Path) -> Done:
    """Read, mask, correct and register one scan."""
    return processed(read_scan(path))


def processed(native: Native) -> Done:
    """Mask, correct and register one scan."""
    return Done(*steps.align(native, steps.find_brain(native), load_template()))


def stored_as(path: Path, order: str, folder: Path) -> Path:
    """Write the same scan with its voxels in another order; return the file."""
    image = nib.load(path)
    now, wanted = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(order)
    turned = image.as_reoriented(nib.orientations.ornt_transform(now, wanted))
    out = folder / f"{order}.nii.gz"
    nib.save(turned, out)
    return out


def direct(first: Done, second: Done) -> np.ndarray:
    """Return the affine of template to second scan that goes through a registration of the second to the first."""
    brain = first.brain
    values = np.where(brain.mask, brain.data, 0) / np.percentile(brain.data[brain.mask], 99.5)
    target = Template("first", np.clip(values, 0, 1).astype(np.float32), brain.mask, brain.affine, "")
    other = second.brain
    return register(other.data, other.mask, other.affine, target).matrix @ first.fit.matrix


def cut_alike(first: Done, second: Done, native: Native) -> Native:
    """Return the second scan without the slices that lie outside the field of view of the first."""
    to_first = np.linalg.inv(first.brain.affine) @ first.fit.matrix @ np.linalg.inv(second.fit.matrix) @ native.affine
    axis = int(np.argmax(native.zooms))  # of the slices
    centre = (np.asarray(native.data.shape) - 1) / 2
    places = np.tile(np.append(centre, 1.0), (native.data.shape[axis], 1))
    places[:, axis] = np.arange(native.data.shape[axis])
    along = (places @ to_first.T)[:, int(np.argmax(first.brain.zooms))]
    seen = (along >= -0.5) & (along <= first.brain.data.shape[int(np.argmax(first.brain.zooms))] - 0.5)
    kept = np.flatnonzero(seen)
    affine = native.affine.copy()
    affine[:3, 3] += kept[0] * native.affine[:3, axis]
    return Native(np.ascontiguousarray(np.compress(seen, native.data, axis=axis)), affine)


def without_ends(native: Native, mask: np.ndarray, below: float, above: float) -> Native:
    """Return a scan whose field of view ends ``below`` and ``above`` mm within its brain (feet and crown)."""
    up = native.affine[2, :3] / native.zooms
    axis = int(np.argmax(np.abs(up)))
    ends = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]]
    less = np.round(np.array([below, above] if up[axis] > 0 else [above, below]) / native.zooms[axis]).astype(int)
    kept = np.arange(ends[0] + less[0], ends[1] + 1 - less[1])
    affine = native.affine.copy()
    affine[:3, 3] += kept[0] * native.affine[:3, axis]
    return Native(np.ascontiguousarray(np.take(native.data, kept, axis=axis)), affine)


def distance(one: Fit, two: Fit) -> float:
    """Return the mean distance inside the template's brain between two affines of one scan, template mm."""
    template = load_template()
    index = np.argwhere(template.mask)[::101]
    points = np.c_[index @ template.affine[:3, :3].T + template.affine[:3, 3], np.ones(len(index))]
    there_and_back = np.linalg.inv(one.matrix) @ two.matrix
    return float(np.linalg.norm((points @ there_and_back.T - points)[:, :3], axis=1).mean())


def cut_table(paths: list[Path]) -> pd.DataFrame:
    """Return how far the brain moves when the field of view ends within it: one row a cut, over all heads."""
    moved: dict[tuple[float, float], list[float]] = {cut: [] for cut in CUTS}
    for path in paths:
        native = read_scan(path)
        whole = processed(native)
        for cut in CUTS:
            moved[cut].append(distance(whole.fit, processed(without_ends(native, whole.brain.mask, *cut)).fit))
    rows = [
        {"below mm": cut[0], "above mm": cut[1], "heads": len(d), "median mm": np.median(d), "max mm": max(d)}
        for cut, d in moved.items()
    ]
    return pd.DataFrame(rows)


def scanned(done: Done, spec: VolumeSpec) -> np.ndarray:
    """Return the voxels of a grid that lie inside the field of view of a scan."""
    to_voxel = np.linalg.inv(done.brain.affine) @ done.fit.matrix @ np.asarray(spec.affine)
    places = np.indices(spec.shape, dtype=np.float32).reshape(3, -1)
    voxels = to_voxel[:3, :3] @ places + to_voxel[:3, 3:]
    inside = (voxels >= -0.5) & (voxels <= np.array(done.brain.data.shape)[:, None] - 0.5)
    return inside.all(axis=0).reshape(spec.shape)


def correlation(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray], where=True) -> float:
    """Return the correlation of two volumes inside the union of their masks (and ``where``)."""
    union = (one[1] | two[1]) & where
    return float(np.corrcoef(one[0][union], two[0][union])[0, 1])


def compare(kind: str, first: Done, second: Done, resolutions: list[float], best: bool = False) -> list[dict]:
    """Return one row a grid: correlation, overlap of masks, distance, and with ``best`` the reachable correlation."""
    rows = []
    for spec in map(VolumeSpec.on_grid, resolutions):
        one, two = first.volume(spec), second.volume(spec)
        core = ndi.binary_erosion(one[1] & two[1], iterations=max(1, round(3 / spec.resolution)))
        row = {"pair": kind, "grid mm": spec.resolution, "r": correlation(one, two), "mask Dice": dice(one[1], two[1])}
        row |= {"r of the core": float(np.corrcoef(one[0][core], two[0][core])[0, 1])}
        if best:
            directly = second.volume(spec, direct(first, second)), first.volume(spec, direct(second, first))
            both = scanned(first, spec) & scanned(second, spec)
            for name, where in (("", True), (" seen", both)):
                reached = correlation(one, directly[0], where), correlation(directly[1], two, where)
                row |= {f"r{name}": correlation(one, two, where), f"reachable r{name}": max(reached)}
                row[f"ratio{name}"] = row[f"r{name}"] / row[f"reachable r{name}"]
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--resolution", type=float, nargs="+", default=[1.0, 2.0])
    options = parser.parse_args()
    set_threads(1)
    rows = []
    for kind, pair in SCANS.items():
        rows += compare(kind, *(through(options.data / name) for name in pair), options.resolution)
    original = through(options.data / STORED)
    with TemporaryDirectory() as folder:
        for order in ORDERS:
            again = through(stored_as(options.data / STORED, order, Path(folder)))
            rows += compare(f"stored as {order}", original, again, options.resolution)
    first, second = (through(options.data / name) for name in SESSIONS)
    rows += compare("two sessions", first, second, options.resolution, best=True)
    alike = processed(cut_alike(first, second, read_scan(options.data / SESSIONS[1])))
    rows += compare("two sessions, one field of view", first, alike, options.resolution, best=True)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.5f}".format))
    table = cut_table(sorted(options.data.glob(WHOLE)))
    print(table.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
