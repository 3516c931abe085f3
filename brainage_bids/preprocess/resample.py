"""Resample a native brain once onto a grid, and make the grid's intensities comparable. Arrays only."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi
import SimpleITK as sitk

from brainage_bids.schema import VolumeSpec

FWHM = 2.3548200450309493


def to_grid(
    data: np.ndarray, native_affine: np.ndarray, matrix: np.ndarray, spec: VolumeSpec, order: int, threads: int = 1
) -> np.ndarray:
    """Return ``data`` on the grid of ``spec``: one interpolation, after a low-pass where the grid is coarser.

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
        3 cubic B-spline, 1 linear.
    threads
        Threads of ITK.

    Returns
    -------
    ndarray
        float32, ``spec.shape``; 0 outside the field of view.
    """
    zooms = np.sqrt((native_affine[:3, :3] ** 2).sum(axis=0))
    sigma = np.sqrt(np.maximum(spec.resolution**2 - zooms**2, 0)) / FWHM / zooms  # voxels
    if (sigma > 0.1).any():
        data = ndi.gaussian_filter(data, np.where(sigma > 0.1, sigma, 0), mode="constant", truncate=3)
    index = np.linalg.inv(native_affine) @ matrix @ np.asarray(spec.affine)  # grid voxel -> native voxel
    move = sitk.AffineTransform(3)
    move.SetMatrix(index[:3, :3].ravel().tolist())
    move.SetTranslation(index[:3, 3].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(int(threads))
    resampler.SetSize([int(n) for n in spec.shape])
    resampler.SetTransform(move)
    resampler.SetInterpolator(sitk.sitkBSpline3 if order == 3 else sitk.sitkLinear)
    resampler.SetDefaultPixelValue(0.0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T, dtype=np.float32))
    return np.ascontiguousarray(sitk.GetArrayViewFromImage(resampler.Execute(image)).T)


def mask_to_grid(
    mask: np.ndarray, native_affine: np.ndarray, matrix: np.ndarray, spec: VolumeSpec, threads: int = 1
) -> np.ndarray:
    """Return a bool mask on the grid: where the linearly interpolated mask exceeds one half."""
    return to_grid(mask.astype(np.float32), native_affine, matrix, spec, 1, threads) > 0.5


def volume_on_grid(
    brain: np.ndarray,
    mask: np.ndarray,
    native_affine: np.ndarray,
    matrix: np.ndarray,
    spec: VolumeSpec,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the finished volume (float32) and its mask (bool) on the grid of ``spec``.

    The skull-stripped brain is resampled by a cubic B-spline, its negative overshoot clipped at 0, the mask applied
    again, and the intensity rule of ``spec`` applied last.
    """
    inside = mask_to_grid(mask, native_affine, matrix, spec, threads)
    values = to_grid(np.where(mask, brain, 0), native_affine, matrix, spec, 3, threads)
    return intensity_rule(np.maximum(values, 0), inside, spec.intensity), inside


def intensity_rule(values: np.ndarray, inside: np.ndarray, rule: str) -> np.ndarray:
    """Apply ``minmax`` or ``zscore`` inside the mask (science of both: `VolumeSpec`); 0 outside.

    Raises
    ------
    ValueError
        For an unknown rule.
    """
    low, high = np.percentile(values[inside], (0.5, 99.5))
    clipped = np.clip(values, low, high)
    if rule == "minmax":
        scaled = (clipped - low) / max(high - low, np.finfo(np.float32).tiny)
    elif rule == "zscore":
        chosen = clipped[inside].astype(np.float64)
        scaled = (clipped - chosen.mean()) / max(chosen.std(), np.finfo(np.float32).tiny)
    else:
        raise ValueError(f"intensity rule {rule!r} is not known; use minmax or zscore")
    return np.where(inside, scaled, 0).astype(np.float32)
