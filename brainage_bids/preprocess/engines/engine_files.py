"""Files in the work folder of one scan, which pass data between the programs of an engine.

Every program sees the scan as the same plain image: a RAS+ array with voxels along the world axes, and 0 in the middle
of the grid. So it does not matter how programs treat oblique, sheared or contradictory headers. ``scan.json`` holds the
scan's own affine, to map results back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import scipy.ndimage as ndi
from nibabel.affines import voxel_sizes

from brainage_bids.bids.files import atomic, read_json, write_json
from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import brain, quality, recognise
from brainage_bids.preprocess.intake import Brain, Native, read_scan
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.steps import SHIFTED_UP
from brainage_bids.preprocess.template import Template, template_of

if TYPE_CHECKING:
    from brainage_bids.preprocess.affine import Fit

T1W, HEAD, MASK, CORRECTED, BRAIN = (f"{name}.nii.gz" for name in ("T1w", "head", "mask", "corrected", "brain"))
RECORD = "scan.json"
MARGIN_MM = brain.N4_MARGIN_MM  # around the brain
EVERY_MM = 2.0  # distance of the points where scan and template are correlated


def plain_affine(zooms: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the affine (4 x 4) from voxels to plain world (mm): scaled axes, 0 in the middle of the grid."""
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = -np.asarray(zooms) * (np.asarray(shape) - 1) / 2
    return affine


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> str:
    """Write an image that every program reads in the same way (equal sform and qform, mm); return its path."""
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    with atomic(path) as temporary:
        nib.save(image, temporary)
    return str(path)


def load(path: str | Path) -> np.ndarray:
    """Return the values of an image as float32 (X, Y, Z)."""
    values = np.asarray(nib.load(path).dataobj, dtype=np.float32)
    return values.reshape(values.shape[:3])


def read_head(job: Job) -> dict[str, str]:
    """Read and check the scan and write it as a plain image; returns ``head``, its path."""
    return {"head": keep_head(job, read_scan(job.scan.path, job.scan.second_inversion))}


def keep_head(job: Job, native: Native) -> str:
    """Write the scan as a plain image, and its own affine into ``scan.json``; return the path of the image."""
    record = {"affine": native.affine, "warnings": native.warnings, "says_mni": native.says_mni}
    write_json(job.folder / RECORD, record)
    return save(job.folder / T1W, native.data, plain_affine(native.zooms, native.data.shape))


def kept_head(job: Job) -> Native:
    """Return the scan written by `keep_head`."""
    record = read_json(job.folder / RECORD)
    values = load(job.folder / T1W)
    return Native(values, np.asarray(record["affine"]), tuple(record["warnings"]), record["says_mni"])


def mask_of(values: np.ndarray, shape: tuple[int, ...], program: str) -> np.ndarray:
    """Return a program's mask as bool.

    Raises
    ------
    BadDataError
        When it is empty or not on the grid of the scan.
    """
    mask = values > 0.5
    if mask.shape != shape or not mask.any():
        raise BadDataError(f"{program} found no brain in the image; look at it and exclude the scan")
    return mask


def cut(job: Job, native: Native, mask: np.ndarray, source: str, corrected: np.ndarray | None = None) -> dict[str, str]:
    """Write the box of the brain: ``head``, ``mask`` and, if given, ``corrected``; return their paths.

    The returned ``shrink`` is the factor for N4 that brings the voxels near 4 mm.
    """
    box, affine = boxed(mask, native.affine)
    lifted, shifted = brain.lift_negative(native.data, mask)
    notes = [SHIFTED_UP] if shifted else []
    record = read_json(job.folder / RECORD)
    start = [s.start for s in box]
    write_json(job.folder / RECORD, {**record, "start": start, "box": affine, "source": source, "notes": notes})
    plain = plain_affine(native.zooms, mask[box].shape)
    images = {HEAD: lifted[box], MASK: mask[box].astype(np.uint8)}
    if corrected is not None:
        images[CORRECTED] = corrected[box]
    shrink = int(np.clip(round(4 / float(np.cbrt(native.zooms.prod()))), 1, 4))
    paths = {name.split(".")[0]: save(job.folder / name, data, plain) for name, data in images.items()}
    return {**paths, "shrink": shrink}


def strip(job: Job, corrected: str) -> dict[str, str]:
    """Write the bias-corrected brain and the templates; return their paths as ``brain`` and ``template<k>``."""
    image = nib.load(corrected)
    data = np.maximum(load(corrected), 0) * (load(job.folder / MASK) > 0)
    paths = {"brain": save(job.folder / BRAIN, data, image.affine)}
    for k, template in enumerate(templates(job)):
        box, affine = boxed(template.mask, template.affine)
        paths[f"template{k}"] = save(job.folder / f"template{k}.nii.gz", template.data[box], affine)
    return paths


def boxed(mask: np.ndarray, affine: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return the box of a mask with margin, and the affine of that box."""
    margin = np.ceil(MARGIN_MM / voxel_sizes(affine)).astype(int)
    spans = zip(quality.box_of(mask), margin, mask.shape, strict=True)
    box = tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in spans)
    corner = np.eye(4)
    corner[:3, 3] = [s.start for s in box]
    return box, affine @ corner


def names(job: Job, word: str) -> list[str]:
    """Return ``<word>0``, ``<word>1``, ...: one for each template that the grids of a job need."""
    return [f"{word}{k}" for k in range(len({spec.template for spec in job.specs}))]


def templates(job: Job) -> list[Template]:
    """Return the templates that the grids of a job need, each once, in the order of `names`."""
    return [template_of(spec, job.outputs.root) for spec in {spec.template: spec for spec in job.specs}.values()]


def gathered(job: Job, corrected: str) -> Brain:
    """Return the scan with the mask and bias correction of the engine.

    Outside the box of the brain the scan is not corrected, only scaled: that part is used in the picture only.
    """
    native, record = kept_head(job), read_json(job.folder / RECORD)
    inner, inside = np.maximum(load(corrected), 0), load(job.folder / MASK) > 0
    box = tuple(slice(a, a + n) for a, n in zip(record["start"], inner.shape, strict=True))
    mask = np.zeros(native.data.shape, dtype=bool)
    mask[box] = inside
    scale = np.median(inner[inside]) / max(float(np.median(native.data[mask])), np.finfo(np.float32).tiny)
    data = np.maximum(native.data, 0) * np.float32(scale)
    remarks = recognise.remarks(native.data[box], inner, inside, record["source"])
    data[box] = inner
    notes = (*native.warnings, *record["notes"])
    return Brain(data, mask, native.affine, record["source"], notes, remarks, native.says_mni)


def to_native(job: Job, matrix: np.ndarray) -> np.ndarray:
    """Convert a matrix (4 x 4, mm) from template to plain world of the brain's box into template to native world."""
    plain = nib.load(job.folder / MASK).affine
    return np.asarray(read_json(job.folder / RECORD)["box"]) @ np.linalg.inv(plain) @ matrix


def fits_of(job: Job, found: Brain, matrices: Sequence[np.ndarray]) -> dict[str, Fit]:
    """Return one `Fit` per template from the programs' matrices (template world to plain world of the box)."""
    from brainage_bids.preprocess.affine import Fit

    fits = {}
    for template, matrix in zip(templates(job), matrices, strict=True):
        native = to_native(job, matrix)
        fits[template.name] = Fit(native, correlation(found, native, template))
    return fits


def correlation(found: Brain, matrix: np.ndarray, template: Template) -> float:
    """Return Pearson's correlation of scan and template, every 2 mm of the template's brain that was scanned.

    Parameters
    ----------
    found
        Scan and mask; the scan counts as 0 outside its mask.
    matrix
        4 x 4, template world to native world (mm).
    template
        The template that it was registered to.

    Raises
    ------
    BadDataError
        When the matrix is not finite or not invertible.
    """
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
        raise BadDataError("the registration gave no usable matrix; look at the scan and exclude it")
    every = np.maximum(1, np.rint(EVERY_MM / voxel_sizes(template.affine))).astype(int)
    chosen = tuple(slice(None, None, step) for step in every)
    index = np.argwhere(template.mask[chosen])
    points = np.c_[index * every, np.ones(len(index))] @ template.affine.T
    voxel = points @ (np.linalg.inv(found.affine) @ matrix)[:3].T
    seen = ((voxel >= 0) & (voxel <= np.asarray(found.mask.shape) - 1)).all(axis=1)
    masked = np.where(found.mask, found.data, 0)
    sampled = ndi.map_coordinates(masked, voxel[seen].T, order=1)
    return quality.correlation(template.data[chosen][tuple(index[seen].T)], sampled)
