"""The steps of one scan as plain functions on files: brain, align, volumes, pictures. No nipype, no workflow.

Files in the work directory carry a step's result to the next; only `volumes` and `pictures` write into OUTPUT_DIR.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from brainage_bids import __version__
from brainage_bids.bids.files import atomic, read_json, write_json, write_text
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import quality, resample
from brainage_bids.preprocess.options import ENGINE_VERSION
from brainage_bids.preprocess.template import load_template, template_volume
from brainage_bids.schema import Scan, VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.preprocess.affine import Fit
    from brainage_bids.preprocess.intake import Native

BRAIN, MASK, MATRIX, FACTS = "brain.nii", "mask.nii", "affine.npy", "facts.json"


def input_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def extract_brain(scan: Scan, folder: Path, gpu: bool = False) -> None:
    """Read the scan, mask the brain, correct the bias field; write both in native RAS+ space to ``folder``."""
    from brainage_bids.preprocess import brain
    from brainage_bids.preprocess.intake import read_scan

    native = read_scan(scan.path)
    mask, source = brain.brain_mask(native, gpu)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"InputHash": input_hash(scan.path), "Warnings": list(native.warnings)}
    _keep_brain(native, mask, source, folder, facts)


def _keep_brain(native: Native, mask: np.ndarray, source: str, folder: Path, facts: dict) -> np.ndarray:
    """Correct the bias field inside ``mask``, write scan, mask and facts to ``folder``; return the corrected scan."""
    from brainage_bids.preprocess import brain

    data, shifted = brain.lift_negative(native.data, mask)
    corrected = brain.n4(data, mask, native.zooms)
    nib.save(nib.Nifti1Image(corrected, native.affine), folder / BRAIN)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), native.affine), folder / MASK)
    warnings = [*facts["Warnings"], *(["values below zero inside the brain were shifted up"] if shifted else [])]
    volume = brain.volume_ml(mask, native.zooms)
    write_json(folder / FACTS, {**facts, "Warnings": warnings, "MaskSource": source, "VolumeML": volume})
    return corrected


def align(scan: Scan, folder: Path, device: str = "cpu") -> None:
    """Register the brain to the template; a suspect fit is tried again with the head turned, and the best kept."""
    from brainage_bids.preprocess import rescue
    from brainage_bids.preprocess.affine import register

    data, mask, affine = load_native(folder)
    fit = register(data, mask, affine, load_template(), device=device)
    if rescue.suspect(fit.ncc, read_json(folder / FACTS)["VolumeML"]):
        fit = _second_chance(scan, folder, fit, device)
    np.save(folder / MATRIX, fit.matrix)
    write_json(folder / FACTS, {**read_json(folder / FACTS), "NCC": fit.ncc})


def _second_chance(scan: Scan, folder: Path, first: Fit, device: str) -> Fit:
    """Search turned poses; when one fits clearly better, correct and register again from it."""
    from brainage_bids.preprocess import rescue
    from brainage_bids.preprocess.affine import gpu_wanted, register
    from brainage_bids.preprocess.intake import read_scan

    template, native = load_template(), read_scan(scan.path)
    data, mask, affine = load_native(folder)
    coarse = register(data, mask, affine, template, device=device, coarse=True)
    pose = rescue.search(native, template, device, gpu_wanted(device))
    if pose is None or pose.fit.ncc < coarse.ncc + rescue.CLEARLY_BETTER:
        return first
    mask = rescue.finest_mask(native, pose, template, device, gpu_wanted(device))
    facts = read_json(folder / FACTS)
    facts["Warnings"] = [*facts["Warnings"], "the head lies turned in its header; its brain was found in another pose"]
    source = "deepbet, head turned"
    data = _keep_brain(native, mask, source, folder, facts)
    return register(data, mask, affine, template, rescue.starts_in(rescue.upright(pose.fit)), device)


def load_native(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the corrected scan (float32), its mask (bool) and the native affine (4 x 4)."""
    image = nib.load(folder / BRAIN)
    mask = np.asarray(nib.load(folder / MASK).dataobj) > 0
    return np.asarray(image.dataobj, dtype=np.float32), mask, np.asarray(image.affine, dtype=np.float64)


def write_volumes(scan: Scan, folder: Path, specs: list[VolumeSpec], outputs: Outputs, threads: int = 1) -> None:
    """Resample to every grid, judge the result, and write volume, mask, transform and sidecars.

    The sidecar of the volume is written last: it and the volume together mean done.

    Raises
    ------
    BadDataError
        When the numbers say that there is no brain or that the registration is lost; nothing is written then.
    """
    data, mask, affine = load_native(folder)
    matrix, facts = np.load(folder / MATRIX), read_json(folder / FACTS)
    finished = [resample.volume_on_grid(data, mask, affine, matrix, spec, threads) for spec in specs]
    metrics = measure(finished[0], mask, affine, matrix, specs[0], facts)
    refuse, fail, warn = quality.judge(metrics)
    if refuse:
        raise BadDataError(
            f"no brain could be placed on the template: {'; '.join(refuse)}; look at the scan and exclude it"
        )
    warn += facts["Warnings"]
    write_transform(outputs.transform(scan, specs[0]), matrix, relative(scan), specs[0].template)
    for spec, (values, inside) in zip(specs, finished, strict=True):
        sidecar = {
            "Sources": [f"bids:raw:{relative(scan)}"],
            "SkullStripped": True,
            "Resolution": f"{spec.resolution:g} mm isotropic",
            "VolumeSpec": spec.to_dict(),
            "VolumeSpecFingerprint": spec.fingerprint,
            "Engine": "builtin",
            "EngineVersion": ENGINE_VERSION,
            "InputHash": facts["InputHash"],
            "MaskSource": facts["MaskSource"],
            "QC": metrics,
            "qc_pass": not fail,
            "qc_warn": [*fail, *warn],
            "Software": versions(),
        }
        volume, brain_mask = outputs.volume(scan, spec), outputs.mask(scan, spec)
        sidecar_path(volume).unlink(missing_ok=True)
        save(brain_mask, inside.astype(np.uint8), spec)
        write_json(
            sidecar_path(brain_mask),
            {**{k: sidecar[k] for k in ("Sources", "Resolution", "MaskSource")}, "Type": "Brain"},
        )
        save(volume, values, spec)
        write_json(sidecar_path(volume), sidecar)


def measure(
    finished: tuple[np.ndarray, np.ndarray],
    mask: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    spec: VolumeSpec,
    facts: dict,
) -> dict[str, float]:
    """Return the quality numbers of one scan."""
    values, inside = finished
    _, template_mask = template_volume(spec)
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    scales, shear = quality.scale_and_shear(matrix)
    overlap = 2 * (inside & template_mask).sum() / max(inside.sum() + template_mask.sum(), 1)
    return {
        "mask_volume_ml": float(facts["VolumeML"]),
        "template_dice": float(overlap),
        "template_ncc": float(facts["NCC"]),
        "scale_min": float(scales[0]),
        "scale_max": float(scales[-1]),
        "shear_max": shear,
        "fov_cut_fraction": quality.fov_cut(template_mask, spec, matrix, affine, mask.shape),
        "voxel_size_max_mm": float(zooms.max()),
        "anisotropy": float(zooms.max() / zooms.min()),
        **quality.signal_numbers(values, inside),
    }


def save(path: Path, values: np.ndarray, spec: VolumeSpec) -> None:
    """Write an array on a grid as compressed NIfTI, template space, atomically; the same array gives the same bytes."""
    image = nib.Nifti1Image(values, np.asarray(spec.affine))
    image.set_sform(image.affine, code="mni")
    image.set_qform(image.affine, code="mni")
    image.header.set_xyzt_units("mm")
    with atomic(path) as temporary:
        nib.save(image, temporary)


def write_transform(path: Path, matrix: np.ndarray, source: str, template: str) -> None:
    """Write the affine as ITK text and its JSON sidecar.

    ITK's convention: the file maps points of the template (LPS+, mm) to points of the native scan, which is what
    ``sitk.Resample(T1w, template, transform)`` or ``antsApplyTransforms -i T1w -r template -t`` need to bring the
    scan to the template. To carry coordinates from the scan to the template, use its inverse.

    Parameters
    ----------
    path
        The ``.txt`` file.
    matrix
        4 x 4, template world to native world (mm, RAS+).
    source, template
        The scan (path inside its dataset) and the name of the template.
    """
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ to LPS+
    lps = flip @ matrix @ flip
    numbers = " ".join(repr(float(v)) for v in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    write_text(
        path,
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n",
    )
    meaning = "Resamples the T1w image to the template; as a map of points (LPS+ mm) it goes from template to T1w (ITK)"
    sidecar = {"Sources": [f"bids:raw:{source}"], "Description": meaning, "Template": template, "MatrixRAS": matrix}
    write_json(path.with_suffix(".json"), sidecar)


def remove_outputs(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs) -> None:
    """Remove what an earlier run made of this scan, so that a failure leaves nothing that looks current."""
    stale = [outputs.qc_figure(scan, name) for name in ("mask", "template")]
    for spec in specs:
        volume, mask, transform = outputs.volume(scan, spec), outputs.mask(scan, spec), outputs.transform(scan, spec)
        stale += [sidecar_path(volume), volume, sidecar_path(mask), mask, transform, transform.with_suffix(".json")]
    for path in stale:
        path.unlink(missing_ok=True)


def relative(scan: Scan) -> str:
    """Return the path of the raw image inside its dataset."""
    parts = Path(scan.path).parts
    return "/".join(parts[parts.index(scan.participant_id) :]) if scan.participant_id in parts else parts[-1]


def versions() -> dict[str, str]:
    """Return the versions of what touches the numbers."""
    names = ("deepbet", "SimpleITK", "torch", "nibabel", "scipy", "nilearn", "nipype", "numpy")
    return {"brainage-bids": __version__, **{name: importlib.metadata.version(name) for name in names}}


def draw_pictures(scan: Scan, folder: Path, spec: VolumeSpec, outputs: Outputs) -> None:
    """Draw the two quality pictures of one scan from the files of the steps before."""
    from brainage_bids.preprocess import pictures

    data, mask, affine = load_native(folder)
    pictures.mask_picture(outputs.qc_figure(scan, "mask"), data, mask, affine, scan.prefix)
    volume = np.asarray(nib.load(outputs.volume(scan, spec)).dataobj, dtype=np.float32)
    template, inside = template_volume(spec)
    pictures.template_picture(outputs.qc_figure(scan, "template"), volume, inside, template, spec, scan.prefix)
