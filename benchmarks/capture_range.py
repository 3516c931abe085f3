"""Capture range of the builtin engine on moved heads, beside picsl-greedy and antspyx where they are installed.

Every case is a real whole head moved by a known affine K (a turn of up to 30 degrees about any axis, 15 % of scale
along each axis, 60 mm of shift, in one case of six an origin that is hundreds of mm wrong), with a smooth bias field
and noise, resampled by cubic B-splines onto another grid of 1 to 1.5 mm that holds the whole head. The engine sees the
head as it is and the moved one; a perfect engine would answer K A for the second where it said A for the first. The
error of a case is the mean distance in template mm, over points of the template's brain, between a point and where
inv(A_moved) K A sends it. A head whose field of view cuts the brain makes no fair case: its moved copies have air where
the scan has an edge. Its cases are run too and stand in a line of their own; ``--cases`` counts those of whole heads.

Run ``python benchmarks/capture_range.py HEADS --work FOLDER [--cases 300] [--peer-cases 60] [--processes 1]``; HEADS is
a folder, searched for ``*.nii.gz`` of whole heads. Results are kept case by case in ``FOLDER/cases.jsonl``: the same
command goes on where it was interrupted (take a new folder after a change of the engine). The peers get the masked,
bias-corrected brains of the builtin engine, and their seconds count the registration alone.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from brainage_bids.errors import BrainageError
from brainage_bids.preprocess import steps
from brainage_bids.preprocess.affine import register, set_threads
from brainage_bids.preprocess.intake import Native, read_scan
from brainage_bids.preprocess.template import load_template

MAX_DEGREES, MAX_SCALE, MAX_SHIFT_MM, ORIGIN_MM = 30.0, 0.15, 60.0, (200.0, 600.0)
VOXEL_MM, MARGIN_MM = (1.0, 1.5), 8.0
FIELD, NOISE = 0.15, 0.02  # of the log field's terms, and of the brightest tissue
NO_HEAD = ("phantom", "defaced", "float64")  # no brain; twins of scans that are there already
LOST_MM = 5.0
WHOLE = 0.001  # most of the template's brain that may lie outside the field of view of a whole head
PEERS = {"picsl-greedy": "picsl_greedy", "antspyx": "ants"}
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ to LPS+


def known_move(rng: np.random.Generator, centre: np.ndarray, wrong_origin: bool) -> np.ndarray:
    """Draw K (4 x 4, world mm): scale along the axes and a turn about ``centre``, then a shift."""
    axis, shift = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    turn = Rotation.from_rotvec(axis * rng.uniform(0, MAX_DEGREES), degrees=True).as_matrix()
    move = np.eye(4)
    move[:3, :3] = turn @ np.diag(rng.uniform(1 - MAX_SCALE, 1 + MAX_SCALE, 3))
    shift = shift * rng.uniform(0, MAX_SHIFT_MM)
    if wrong_origin:
        shift = shift + rng.uniform(*ORIGIN_MM, 3) * rng.choice([-1, 1], 3)
    move[:3, 3] = centre + shift - move[:3, :3] @ centre
    return move


def simulate(native: Native, case: int, seed: int) -> tuple[Native, np.ndarray]:
    """Return the moved head of a case and its K."""
    rng = np.random.default_rng([seed, case])
    air = 0.1 * np.percentile(native.data, 99)
    head = np.argwhere(native.data[::3, ::3, ::3] > air) * 3
    world = head @ native.affine[:3, :3].T + native.affine[:3, 3]
    move = known_move(rng, world.mean(axis=0), case % 6 == 5)
    moved = world @ move[:3, :3].T + move[:3, 3]
    zooms = rng.uniform(*VOXEL_MM, 3)
    grid = np.diag([*zooms, 1.0])
    grid[:3, 3] = moved.min(axis=0) - MARGIN_MM
    shape = np.ceil((np.ptp(moved, axis=0) + 2 * MARGIN_MM) / zooms).astype(int)
    index = np.linalg.inv(native.affine) @ np.linalg.inv(move) @ grid  # new voxel to old voxel
    data = np.clip(_cubic(native.data, index, shape), 0, None)
    bright = np.percentile(data[data > air], 95)
    noise = NOISE * bright * rng.standard_normal((2, *shape), dtype=np.float32)
    data = np.hypot(data * _field(rng, shape) + noise[0], noise[1])  # as a magnitude image has it
    return Native(data.astype(np.float32), grid), move


def _cubic(data: np.ndarray, index: np.ndarray, shape: np.ndarray) -> np.ndarray:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in shape])
    resampler.SetTransform(sitk.AffineTransform(index[:3, :3].ravel().tolist(), index[:3, 3].tolist()))
    resampler.SetInterpolator(sitk.sitkBSpline3)
    return sitk.GetArrayFromImage(resampler.Execute(sitk.GetImageFromArray(np.ascontiguousarray(data.T)))).T


def _field(rng: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    terms = (x, y, z, x * x, y * y, z * z, x * y, y * z, x * z)
    return np.exp(sum(weight * term for weight, term in zip(rng.normal(0, FIELD, len(terms)), terms, strict=True)))


@lru_cache(maxsize=1)
def _points() -> np.ndarray:
    template = load_template()
    index = np.argwhere(template.mask)[::101]
    return np.c_[index @ template.affine[:3, :3].T + template.affine[:3, 3], np.ones(len(index))]


def displacement(at_rest: np.ndarray, moved: np.ndarray, move: np.ndarray) -> tuple[float, float]:
    """Return the mean and the largest displacement inside the template's brain, template mm."""
    there_and_back = np.linalg.inv(moved) @ move @ at_rest
    distance = np.linalg.norm((_points() @ there_and_back.T - _points())[:, :3], axis=1)
    return float(distance.mean()), float(distance.max())


def fit(native: Native, engine: str) -> dict:
    """Register a head: ``matrix`` (template to native), ``seconds`` (CPU), and what the builtin engine says of it."""
    template = load_template()
    begin = time.process_time()
    brain = steps.find_brain(native)
    if engine == "builtin":
        found, result = steps.align(native, brain, template)
        seconds = time.process_time() - begin
        notes = {"ncc": result.ncc, "ml": float(found.mask.sum() * np.prod(native.zooms) / 1000), "mask": found.source}
        return {"matrix": result.matrix.tolist(), "seconds": seconds, **notes}
    masked = np.where(brain.mask, brain.data, 0).astype(np.float32)
    begin = time.process_time()
    matrix = {"picsl-greedy": greedy, "antspyx": ants_affine, "builtin, affine alone": own_affine}[engine](
        masked, brain.mask, native.affine, template
    )
    return {"matrix": matrix.tolist(), "seconds": time.process_time() - begin}


def own_affine(masked: np.ndarray, mask: np.ndarray, affine: np.ndarray, template) -> np.ndarray:
    """Return the builtin registration alone, to compare its seconds with the peers'."""
    return register(masked, mask, affine, template).matrix


def greedy(masked: np.ndarray, mask: np.ndarray, affine: np.ndarray, template) -> np.ndarray:
    """Return the affine of picsl-greedy: second moments, then NCC of 2-voxel patches on three levels."""
    from picsl_greedy import Greedy3D

    images = {
        "fix": _itk(template.data, template.affine),
        "inside": _itk(template.mask.astype(np.float32), template.affine),
        "mov": _itk(masked, affine),
    }
    tool = Greedy3D()
    tool.execute("-i fix mov -moments 2 -det 1 -o first -threads 1 -V 0", first=None, **images)
    tool.execute(
        "-i fix mov -gm inside -a -dof 12 -m NCC 2x2x2 -n 100x50x10 -ia first -o found -seed 1 -threads 1 -V 0",
        found=None,
    )
    return np.asarray(tool["found"], dtype=float)


def ants_affine(masked: np.ndarray, mask: np.ndarray, affine: np.ndarray, template) -> np.ndarray:
    """Return the affine of ANTs: centres of mass, rigid then affine, global correlation, four levels."""
    import ants

    fixed = _ants(template.data, template.affine)
    moving = _ants(masked, affine)
    found = None
    for kind in ("Rigid", "Affine"):
        result = ants.registration(
            fixed,
            moving,
            kind,
            initial_transform=found,
            mask=_ants(template.mask.astype(np.float32), template.affine),
            aff_metric="GC",
            random_seed=1,
            singleprecision=True,
        )
        found = result["fwdtransforms"]
    transform = ants.read_transform(found[0])
    numbers, centre = transform.parameters, np.asarray(transform.fixed_parameters)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(numbers[:9], (3, 3))
    matrix[:3, 3] = np.asarray(numbers[9:]) + centre - matrix[:3, :3] @ centre
    for path in {*found, *result["invtransforms"]}:
        Path(path).unlink(missing_ok=True)
    return FLIP @ matrix @ FLIP


def _geometry(affine: np.ndarray) -> tuple[list, list, np.ndarray]:
    lps = FLIP @ affine
    zooms = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    return lps[:3, 3].tolist(), zooms.tolist(), lps[:3, :3] / zooms


def _itk(data: np.ndarray, affine: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    origin, zooms, direction = _geometry(affine)
    image.SetOrigin(origin)
    image.SetSpacing(zooms)
    image.SetDirection(direction.ravel().tolist())
    return image


def _ants(data: np.ndarray, affine: np.ndarray):
    import ants

    origin, zooms, direction = _geometry(affine)
    return ants.from_numpy(np.asarray(data, dtype=np.float32), origin=origin, spacing=zooms, direction=direction)


def run_one(engine: str, head: str, case: int | None, seed: int, at_rest: list | None) -> dict:
    """Run one case, or with ``case`` None the head as it is; every number that goes into the file."""
    set_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    native, move = read_scan(head), np.eye(4)
    if case is not None:
        native, move = simulate(native, case, seed)
    row = {"engine": engine, "head": head, "case": case, "seed": seed}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            row |= fit(native, engine)
    except (BrainageError, RuntimeError) as error:
        return {**row, "error": str(error)[:200]}
    if case is not None and at_rest is not None:
        row["mean"], row["max"] = displacement(np.asarray(at_rest), np.asarray(row["matrix"]), move)
        angle = np.degrees(
            Rotation.from_matrix(np.linalg.svd(move[:3, :3])[0] @ np.linalg.svd(move[:3, :3])[2]).magnitude()
        )
        row["degrees"] = float(angle)
    return row


class Results:
    """The finished cases: a JSON-lines file, one line a case, written as each one ends."""

    def __init__(self, path: Path, seed: int):
        self.path, self.seed = path, seed
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows = {self._key(row): row for row in map(json.loads, filter(None, lines))}

    def _key(self, row: dict) -> tuple:
        return row["engine"], row["head"], row["case"], row["seed"]

    def has(self, engine: str, head: str, case: int | None) -> bool:
        """Say whether a case (or with None the head at rest) is done."""
        return (engine, head, case, self.seed) in self.rows

    def at_rest(self, engine: str, head: str) -> list | None:
        """Return the matrix of the head as it is, None when the engine refused it."""
        return self.rows[engine, head, None, self.seed].get("matrix")

    def cut_heads(self, heads: list[str]) -> set[str]:
        """Return the heads whose field of view cuts the brain, as far as the builtin engine has seen them at rest."""
        seen = [head for head in heads if self.has("builtin", head, None) and self.at_rest("builtin", head)]
        return {head for head in seen if cut_share(head, self.at_rest("builtin", head)) > WHOLE}

    def add(self, row: dict) -> None:
        """Keep a finished case."""
        self.rows[self._key(row)] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def cut_share(head: str, at_rest: list) -> float:
    """Return the share of the template's brain that lies outside the field of view of a head as it is."""
    image = nib.load(head)
    voxels = _points() @ np.asarray(at_rest).T @ np.linalg.inv(image.affine).T
    outside = (voxels[:, :3] < -0.5) | (voxels[:, :3] > np.array(image.shape[:3]) - 0.5)
    return float(outside.any(axis=1).mean())


def heads_of_cases(heads: list[str], cut: set[str], cases: int) -> dict[int, str]:
    """Deal cases out to the heads in turn until ``cases`` of them are of whole heads."""
    of_case: dict[int, str] = {}
    while sum(head not in cut for head in of_case.values()) < cases:
        of_case[len(of_case)] = heads[len(of_case) % len(heads)]
    return of_case


def run_all(results: Results, engine: str, heads: list[str], cases: int, processes: int) -> None:
    """Do what is missing: first the heads at rest, then the cases."""
    for stage in ("rest", "cases"):
        cut = results.cut_heads(heads)
        of_case = heads_of_cases(heads, cut, cases)
        jobs = [(head, case) for case, head in of_case.items()]
        if stage == "rest":
            jobs = [(head, None) for head in dict.fromkeys(of_case.values())]
        missing = [(head, case) for head, case in jobs if not results.has(engine, head, case)]
        given = [(engine, h, c, results.seed, None if c is None else results.at_rest(engine, h)) for h, c in missing]
        if processes == 1:
            for one in given:
                results.add(run_one(*one))
        else:
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                for row in pool.map(run_one, *zip(*given, strict=True)) if given else ():
                    results.add(row)


def table(rows: list[dict], by: str) -> pd.DataFrame:
    """Return displacement (template mm), share under 1 mm, lost cases and CPU seconds."""
    frame = pd.DataFrame([row for row in rows if row["case"] is not None])
    frame["mean"] = frame.get("mean", pd.Series(dtype=float)).astype(float)
    lines = []
    for group, part in frame.groupby(by, sort=False):
        good = part["mean"].fillna(np.inf)
        numbers = {
            "cases": len(part),
            **{
                label: np.percentile(good, q, method="lower") for label, q in (("median", 50), ("p95", 95), ("p99", 99))
            },
            "max": good.max(),
            "under 1 mm": f"{100 * (good < 1).mean():.1f} %",
            "lost": int((good > LOST_MM).sum()),
            "CPU s": part.get("seconds", pd.Series(dtype=float)).median(),
        }
        lines.append({by: group if by == "engine" else Path(group).name.removesuffix(".nii.gz"), **numbers})
    return pd.DataFrame(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--peer-cases", type=int, default=60)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20251127)
    options = parser.parse_args()
    found = [path for folder in options.heads for path in sorted(folder.resolve().rglob("*.nii.gz"))]
    heads = [str(path) for path in found if not any(word in path.name for word in NO_HEAD)]
    results = Results(options.work / "cases.jsonl", options.seed)
    plan = {"builtin": options.cases}
    if options.peer_cases:
        plan |= dict.fromkeys(("builtin, affine alone", *PEERS), options.peer_cases)
    for engine, cases in plan.items():
        if engine in PEERS and importlib.util.find_spec(PEERS[engine]) is None:
            print(f"{engine}: not installed")
        else:
            run_all(results, engine, heads, cases, options.processes)
    with pd.option_context("display.float_format", "{:.2f}".format, "display.width", 160):
        rows = [row for row in results.rows.values() if row["seed"] == options.seed]
        cut = results.cut_heads(heads)
        rows = [{**row, "engine": row["engine"] + (", brain cut" if row["head"] in cut else "")} for row in rows]
        print("displacement, template mm; CPU s: builtin whole chain, all others registration alone")
        print(table(rows, "engine").to_string(index=False))
        own = [row for row in rows if row["engine"] in ("builtin", "builtin, brain cut")]
        print(table(own, "head").to_string(index=False))


if __name__ == "__main__":
    main()
