"""Resample a native brain onto a grid with one interpolation, and scale its intensities."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi
from nibabel.affines import voxel_sizes

from brainage_bids.schema import VolumeSpec

FWHM = 2.3548200450309493
SPLINE_TAIL = 12  # voxels after which the tail of a cubic B-spline coefficient is below 1e-6


def to_grid(
    data: np.ndarray,
    native_affine: np.ndarray,
    matrix: np.ndarray,
    spec: VolumeSpec,
    order: int,
    inside: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``data`` on the grid of ``spec``: one interpolation, after a low-pass filter if the grid is coarser.

    Parameters
    ----------
    data
        ``(X, Y, Z)`` float32.
    native_affine
        4 x 4, native voxel to native world (mm, RAS+).
    matrix
        4 x 4, template world to native world (mm, RAS+).
    spec
        The grid.
    order
        3: cubic B-spline; 1: linear.
    inside
        Voxels of the grid to compute, bool; default all. The others stay 0.

    Returns
    -------
    ndarray
        float32, ``spec.shape``; 0 outside the field of view.
    """
    values = np.zeros(spec.shape, dtype=np.float32)
    zooms = voxel_sizes(native_affine)
    sigma = np.sqrt(np.maximum(spec.resolution**2 - zooms**2, 0)) / FWHM / zooms  # voxels
    box = _box_of_content(data, np.ceil(3 * sigma).astype(int) + (SPLINE_TAIL if order > 1 else 1))
    if box is None:
        return values
    data = np.asarray(data[box], dtype=np.float32)
    if (sigma > 0.1).any():
        data = ndi.gaussian_filter(data, np.where(sigma > 0.1, sigma, 0), mode="constant", truncate=3)
    if order > 1:
        data = ndi.spline_filter(data, order, output=np.float32, mode="mirror")
    index = np.linalg.inv(native_affine) @ matrix @ np.asarray(spec.affine)  # grid voxel -> native voxel
    index[:3, 3] -= [s.start for s in box]
    how = {"order": order, "mode": "constant", "prefilter": False, "output": np.float32}
    if inside is not None:
        points = index[:3, :3] @ np.argwhere(inside).T + index[:3, 3:]
        values[inside] = ndi.map_coordinates(data, points, **how)
        return values
    target = _target_box(index, data.shape, spec.shape)
    if all(s.stop > s.start for s in target):
        index[:3, 3] += index[:3, :3] @ [s.start for s in target]
        size = tuple(s.stop - s.start for s in target)
        values[target] = ndi.affine_transform(data, index[:3, :3], index[:3, 3], size, **how)
    return values


def _box_of_content(data: np.ndarray, margin: np.ndarray) -> tuple[slice, ...] | None:
    """Return the box of the voxels that are not 0, widened by ``margin``; None when all are 0."""
    box = ndi.find_objects((data != 0).astype(np.uint8))
    if not box:
        return None
    spans = zip(box[0], margin, data.shape, strict=True)
    return tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in spans)


def _target_box(index: np.ndarray, shape: tuple[int, ...], grid: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part of the grid that is covered by an array of ``shape``."""
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    seen = (corners - index[:3, 3]) @ np.linalg.inv(index[:3, :3]).T
    low, high = np.floor(seen.min(axis=0)).astype(int), np.ceil(seen.max(axis=0)).astype(int) + 1
    return tuple(slice(min(max(0, a), n), max(0, min(n, b))) for a, b, n in zip(low, high, grid, strict=True))


def mask_to_grid(mask: np.ndarray, native_affine: np.ndarray, matrix: np.ndarray, spec: VolumeSpec) -> np.ndarray:
    """Return a bool mask on the grid: where the linearly interpolated mask exceeds one half."""
    return to_grid(mask.astype(np.float32), native_affine, matrix, spec, 1) > 0.5


def volume_on_grid(
    brain: np.ndarray, mask: np.ndarray, native_affine: np.ndarray, matrix: np.ndarray, spec: VolumeSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Return the finished volume (float32) and its mask (bool) on the grid of ``spec``.

    The skull-stripped brain is resampled by a cubic B-spline inside the resampled mask. Negative overshoot is clipped
    at 0. Then the intensity rule of ``spec`` is applied.
    """
    inside = mask_to_grid(mask, native_affine, matrix, spec)
    values = to_grid(np.where(mask, brain, 0), native_affine, matrix, spec, 3, inside)
    return intensity_rule(np.maximum(values, 0), inside, spec.intensity), inside


def intensity_rule(values: np.ndarray, inside: np.ndarray, rule: str) -> np.ndarray:
    """Apply ``minmax`` or ``zscore`` (see `VolumeSpec`) inside the mask; return float32, 0 outside.

    Raises
    ------
    ValueError
        For an unknown rule.
    """
    chosen = values[inside].astype(np.float64)
    low, high = np.percentile(chosen, (0.5, 99.5))
    chosen = np.clip(chosen, low, high)
    if rule == "minmax":
        chosen = (chosen - low) / max(high - low, np.finfo(np.float32).tiny)
    elif rule == "zscore":
        chosen = (chosen - chosen.mean()) / max(chosen.std(), np.finfo(np.float32).tiny)
    else:
        raise ValueError(f"intensity rule {rule!r} is not known; use minmax or zscore")
    scaled = np.zeros(values.shape, dtype=np.float32)
    scaled[inside] = chosen
    return scaled
