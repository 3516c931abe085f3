"""The template brain that scans are registered to: the embedded one, or a copy of another one in OUTPUT_DIR.

The embedded template is ICBM 2009a symmetric T1, which comes with nilearn. The grid of the output is not that of the
template but of `VolumeSpec`, which also identifies the template by a hash. For other templates see `template_source`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.ndimage as ndi

from brainage_bids.bids.files import atomic, read_json, write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.preprocess.foreground import own_mask
from brainage_bids.preprocess.intake import read_mask, read_scan
from brainage_bids.schema import DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA, GRID_EXTENT_MM, GRID_ORIGIN_MM, VolumeSpec

ADULT_ML = (900.0, 2300.0)  # brains of adult templates: about 1200 (brain) to 1950 (inside of the skull)


@dataclass(frozen=True, eq=False)
class Template:
    """A skull-stripped template; its arrays are read-only.

    Parameters
    ----------
    name
        Label of the space, as in ``space-<name>``.
    data
        float32 ``(X, Y, Z)``, RAS+ order, 0 to 1, 0 outside the brain.
    mask
        Brain mask, bool, same shape.
    affine
        4 x 4, voxel to world (mm, RAS+).
    sha
        See :func:`content_sha`.
    """

    name: str
    data: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    sha: str


def content_sha(data: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> str:
    """Return the first 12 hex digits of the SHA-256 over shape, float32 values, mask bits and float64 affine."""
    digest = hashlib.sha256(repr(data.shape).encode())
    for part in (data.astype("<f4"), np.packbits(mask), affine.astype("<f8")):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:12]


def load_template(name: str = DEFAULT_TEMPLATE, root: Path | None = None) -> Template:
    """Return the embedded template, or the copy of another one in OUTPUT_DIR.

    Parameters
    ----------
    name
        Its label.
    root
        OUTPUT_DIR.

    Raises
    ------
    UsageError
        When OUTPUT_DIR has no such template, or nilearn has another image than the known one.
    BadDataError
        When the copy was changed.
    """
    return _embedded() if name == DEFAULT_TEMPLATE else _stored(name, root)


def template_of(spec: VolumeSpec, root: Path | None = None) -> Template:
    """Return the template of a spec.

    Raises
    ------
    UsageError
        When there is none of this name, or it has another content.
    """
    template = load_template(spec.template, root)
    if template.sha != spec.template_sha:
        raise UsageError(
            f"the template {spec.template} here has content {template.sha}, but {spec.template_sha} is needed; "
            "give the right one with --template PATH and a new OUTPUT_DIR"
        )
    return template


@lru_cache(maxsize=1)
def _embedded() -> Template:
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    data = np.asarray(image.dataobj, dtype=np.float32)
    mask = ndi.binary_fill_holes(data > 0.05 * data.max())
    template = _frozen(DEFAULT_TEMPLATE, data, mask, np.asarray(image.affine, dtype=np.float64))
    if template.sha != DEFAULT_TEMPLATE_SHA:
        raise UsageError(
            f"this version of nilearn carries another {DEFAULT_TEMPLATE} template (content {template.sha}) than "
            f"brainage-bids knows ({DEFAULT_TEMPLATE_SHA}); install the nilearn version of constraints.txt"
        )
    return template


@lru_cache(maxsize=4)
def _stored(name: str, root: Path | None) -> Template:
    if root is None or not is_kept(name, Outputs(root)):
        where = "" if root is None else f" in {root}"
        raise UsageError(f"no template {name!r} is kept{where}; name it or give its file with --template")
    outputs = Outputs(root)
    template = read_template(outputs.template_image(name), outputs.template_mask(name), name)
    recorded_sha = read_json(sidecar_path(outputs.template_image(name))).get("TemplateSha")
    if template.sha != recorded_sha:
        raise BadDataError(
            f"{outputs.template_image(name)} has content {template.sha}, its sidecar says {recorded_sha}: it was "
            f"changed; remove {outputs.template_image(name).parent} and give the template with --template again"
        )
    return template


def is_kept(name: str, outputs: Outputs) -> bool:
    """Return whether OUTPUT_DIR holds a complete copy of a template (its sidecar is written last)."""
    image = outputs.template_image(name)
    return all(path.is_file() for path in (image, outputs.template_mask(name), sidecar_path(image)))


def keep_template(template: Template, outputs: Outputs) -> None:
    """Store a copy of a template in OUTPUT_DIR, so that later runs need neither the original nor a network.

    Raises
    ------
    UsageError
        When OUTPUT_DIR holds another template of the same name.
    """
    if template.name == DEFAULT_TEMPLATE:
        return
    image, mask = outputs.template_image(template.name), outputs.template_mask(template.name)
    if is_kept(template.name, outputs):
        check_same(template, load_template(template.name, outputs.root), outputs)
        return
    for path, values in ((image, template.data), (mask, template.mask.astype(np.uint8))):
        copy = nib.Nifti1Image(values, template.affine)
        copy.set_sform(template.affine, code="mni" if template.name.startswith("MNI") else "aligned")
        copy.set_qform(None, code=0)
        copy.header.set_xyzt_units("mm")
        with atomic(path) as temporary:
            nib.save(copy, temporary)
    description = {"Description": f"template brain of space-{template.name}", "Template": template.name}
    write_json(sidecar_path(mask), {**description, "Type": "Brain"})
    write_json(sidecar_path(image), {**description, "SkullStripped": True, "TemplateSha": template.sha})


def check_same(template: Template, kept: Template, outputs: Outputs) -> None:
    """Raise UsageError when OUTPUT_DIR already uses another template of the same name."""
    if template.sha != kept.sha:
        raise UsageError(
            f"OUTPUT_DIR {outputs.root} holds volumes on another template called {template.name} (content {kept.sha}, "
            f"asked for {template.sha}); choose another OUTPUT_DIR, or rename the template file"
        )


def read_template(image: Path, mask: Path | None, name: str) -> Template:
    """Read a template from its files; files written by :func:`keep_template` give the same arrays again.

    Parameters
    ----------
    image
        T1w image; skull-stripped when there is no mask.
    mask
        Brain mask on the grid of the image, or None.
    name
        Its label.

    Raises
    ------
    UsageError
        When it is not an adult brain in millimetres, or lies outside the grid of the volumes.
    BadDataError
        When a file is not a usable image.
    """
    native = read_scan(image, as_stored=True)
    if mask is not None:
        inside, grid = read_mask(mask)
        if inside.shape != native.data.shape or not np.allclose(grid, native.affine, atol=1e-3):
            raise UsageError(f"the mask {mask} does not lie on the grid of the template {image}; give both on one grid")
    else:
        inside = own_mask(native)
        if inside is None:
            raise UsageError(
                f"the template {image} is not skull-stripped (its background is not one constant) and has no mask "
                "beside it; put X_desc-brain_mask.nii.gz beside X_T1w.nii.gz"
            )
    # a NIfTI header stores the matrix in single precision: use the same numbers as will be read back
    affine = native.affine.astype(np.float32).astype(np.float64)
    _check_place(image, inside, affine)
    data = np.where(inside, np.maximum(native.data, 0), 0).astype(np.float32)
    return _frozen(name, data / data.max(), inside, affine)


def brain_mm(template: Template) -> tuple[int, ...]:
    """Return the first and last whole mm of a template's brain along x, y and z (RAS+)."""
    low, high = _ends(template.mask, template.affine)
    return tuple(int(at) for ends in zip(np.floor(low), np.ceil(high), strict=True) for at in ends)


def _ends(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest place (mm) of a mask's voxels along x, y and z."""
    world = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return world.min(axis=0), world.max(axis=0)


def _check_place(path: Path, mask: np.ndarray, affine: np.ndarray) -> None:
    """Raise when the brain does not have an adult's size, or lies outside the grid of the volumes."""
    volume = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
    if not ADULT_ML[0] <= volume <= ADULT_ML[1]:
        raise UsageError(
            f"the brain of the template {path} has {volume:.0f} mL, an adult's {ADULT_ML[0]:.0f} to {ADULT_ML[1]:.0f}: "
            "check that it is skull-stripped or has its mask beside it, and that its voxel size is in mm"
        )
    low, high = _ends(mask, affine)
    first = np.asarray(GRID_ORIGIN_MM)
    last = first + np.asarray(GRID_EXTENT_MM) - 1
    if (low < first - 0.5).any() or (high > last + 0.5).any():
        brain, grid = (
            ", ".join(f"{axis} {a:.0f} to {b:.0f}" for axis, a, b in zip("xyz", *ends, strict=True))
            for ends in ((low, high), (first, last))
        )
        raise UsageError(
            f"the brain of the template {path} reaches over {brain} mm, beyond the grid of the volumes ({grid} mm); "
            "set its origin to the anterior commissure, as in MNI space"
        )


def _frozen(name: str, data: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> Template:
    for array in (data, mask, affine):
        array.setflags(write=False)
    return Template(name, data, mask, affine, content_sha(data, mask, affine))


@lru_cache(maxsize=4)
def template_volume(spec: VolumeSpec, root: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the template's T1 (float32, 0-1) and brain mask (bool) on the grid of ``spec``; both are read-only."""
    from brainage_bids.preprocess.resample import mask_to_grid, to_grid

    template = template_of(spec, root)
    identity = np.eye(4)
    inside = mask_to_grid(template.mask, template.affine, identity, spec)
    values = np.maximum(to_grid(template.data, template.affine, identity, spec, 3, inside), 0)
    values = (values / values.max()).astype(np.float32)
    values.setflags(write=False)
    inside.setflags(write=False)
    return values, inside


@lru_cache(maxsize=4)
def template_tissue(spec: VolumeSpec, root: Path | None = None) -> np.ndarray:
    """Return the template's tissue on the grid of ``spec`` (bool): its brain without ventricles and sulci."""
    values, inside = template_volume(spec, root)
    smooth = ndi.gaussian_filter(values, 1.0 / max(spec.resolution, 1.0))
    tissue = smooth > 0.45 * np.percentile(smooth[inside], 90)
    tissue.setflags(write=False)
    return tissue
