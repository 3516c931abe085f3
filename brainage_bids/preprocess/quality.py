"""Compute quality numbers of a scan, and judge them with limits (quality gates).

Everything is measured on the native scan, or at points of the template about 2 mm apart. So no number depends on the
grids of the volumes. How the limits were set: ``benchmarks/quality_gates.py`` and ``docs/qc.md``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.ndimage as ndi
from nibabel.affines import voxel_sizes

if TYPE_CHECKING:
    from brainage_bids.preprocess.affine import Fit
    from brainage_bids.preprocess.intake import Brain
    from brainage_bids.preprocess.template import Template

COARSE_MM = 2.0  # distance of the points where scan and template are compared
NEIGHBOURHOOD_MM = 2.0  # longer voxels are not used as neighbours in the estimate of noise
BINS = 256
MAY_BE_MISSING = ("snr", "cnr")  # noise cannot be measured in coarse voxels

ANY = float("inf")
# docs/qc.md explains the limits; benchmarks/quality_gates.py checks them against real scans.
# Outside these limits no brain was found or the registration failed: the scan is refused.
REFUSE = {"mask_volume_ml": (450.0, 2600.0), "template_dice": (0.80, ANY), "template_ncc": (0.36, ANY)}
# Outside these the volume is kept but fails the quality gate and leaves training and statistics.
FAIL = {"template_dice": (0.92, ANY), "template_ncc": (0.44, ANY), "fov_cut_fraction": (-ANY, 0.05)}
# Outside these the scan is flagged. Coarse and long voxels are reported by `intake`.
WARN = {
    "mask_volume_ml": (900.0, 2000.0),
    "template_dice": (0.93, ANY),
    "template_ncc": (0.52, ANY),
    "fov_cut_fraction": (-ANY, 0.01),
    "mask_edge_fraction": (-ANY, 0.04),
    "scale_min": (0.85, ANY),
    "scale_max": (-ANY, 1.4),
    "scale_volume": (0.95, 2.1),
    "shear_max": (-ANY, 0.09),
    "rotation_deg": (-ANY, 35.0),
    "snr": (10.0, ANY),
    "tissue_contrast": (0.20, ANY),
    "fwhm_mm": (-ANY, 7.5),
}
HINTS = {
    "mask_volume_ml": "too little or too much was taken for brain, or the voxel size is wrong",
    "template_dice": "mask or registration may be off",
    "template_ncc": "registration may be off, or this is no adult's T1w brain",
    "fov_cut_fraction": "part of the brain was not scanned",
    "mask_edge_fraction": "the brain touches the edge of the scan",
    "scale_min": "voxel size may be wrong",
    "scale_max": "voxel size may be wrong",
    "scale_volume": "a very small or large brain, or the voxel size is wrong",
    "shear_max": "mask or registration may be off",
    "rotation_deg": "the head lies turned",
    "snr": "noisy",
    "tissue_contrast": "white and grey matter hardly differ: a child, motion, thick slices, or not T1w",
    "fwhm_mm": "blurred or coarse",
}


def measure(brain: Brain, fit: Fit, template: Template) -> dict[str, float]:
    """Return the quality numbers of one scan; `brainage_bids.schema.QC_METRICS` explains them.

    Parameters
    ----------
    brain
        Bias-corrected scan and brain mask in native RAS+ space.
    fit
        The affine, template world to native world (mm).
    template
        The template that the scan was registered to.
    """
    affine, matrix = np.asarray(brain.affine), np.asarray(fit.matrix)
    zooms = voxel_sizes(affine)
    box = box_of(brain.mask)
    mask, data = brain.mask[box], np.asarray(brain.data[box], dtype=np.float32)
    volume = float(mask.sum() * np.prod(zooms) / 1000)
    scales, shear, angle = shape_of_affine(matrix)
    widths = widths_of_detail(data, mask, zooms)
    return {
        "mask_volume_ml": volume,
        **_against_template(brain, box, volume, matrix, template),
        "scale_min": float(scales[0]),
        "scale_max": float(scales[2]),
        "scale_volume": float(np.prod(scales)),
        "shear_max": shear,
        "rotation_deg": angle,
        "mask_edge_fraction": edge_fraction(brain.mask, box, zooms),
        "voxel_size_min_mm": float(zooms.min()),
        "voxel_size_max_mm": float(zooms.max()),
        "anisotropy": float(zooms.max() / zooms.min()),
        **signal(data, mask, zooms),
        "fwhm_mm": float(np.cbrt(np.prod(widths))),
        "fwhm_max_mm": float(widths.max()),
    }


def shape_of_affine(matrix: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return three scales (native mm to template mm, ascending), the largest shear and the rotation (degrees).

    Parameters
    ----------
    matrix
        4 x 4, template world to native world.
    """
    turn, stretch = scipy.linalg.polar(np.linalg.inv(matrix[:3, :3]))  # symmetric: scales, and shears off the diagonal
    off = stretch[np.triu_indices(3, 1)] / np.cbrt(abs(np.linalg.det(stretch)))
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return np.sort(np.linalg.eigvalsh(stretch)), float(np.abs(off).max()), float(angle)


@lru_cache(maxsize=4)
def _points(template: Template) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the template's brain at about 2 mm: world points (N, 4), values (N,), and the volume per point (mL)."""
    values, affine = _shrunk(template.data, template.affine)
    inside, _ = _shrunk(template.mask.astype(np.float32), template.affine)
    chosen = inside > 0.5
    index = np.argwhere(chosen)
    points = np.concatenate([index, np.ones((len(index), 1))], axis=1) @ affine.T
    return points, values[chosen], float(abs(np.linalg.det(affine[:3, :3])) / 1000)


def _shrunk(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return block means of about 2 mm (the last incomplete block is left out) and their affine."""
    zooms = voxel_sizes(affine)
    factor = np.minimum(np.maximum(1, np.rint(COARSE_MM / zooms).astype(int)), data.shape)
    whole_blocks = tuple(slice(0, n // f * f) for n, f in zip(data.shape, factor, strict=True))
    (nx, ny, nz), (fx, fy, fz) = np.asarray(data.shape) // factor, factor
    means = data[whole_blocks].reshape(nx, fx, ny, fy, nz, fz).mean(axis=(1, 3, 5))
    step = np.eye(4)
    step[:3, :3], step[:3, 3] = np.diag(factor), (factor - 1) / 2
    return means, affine @ step


def _against_template(
    brain: Brain, box: tuple[slice, ...], volume: float, matrix: np.ndarray, template: Template
) -> dict[str, float]:
    """Return Dice, correlation and the share of the template's brain that was not scanned.

    Dice compares the masks in template space. Pearson's correlation is taken over the scanned part of the template's
    brain; the scan counts as 0 outside its own mask.
    """
    points, values, each = _points(template)
    to_voxel = np.linalg.inv(brain.affine) @ matrix
    voxel = points @ to_voxel[:3].T  # (N, 3)
    seen = ((voxel >= -0.5) & (voxel <= np.asarray(brain.mask.shape) - 0.5)).all(axis=1)
    nearest = tuple(np.rint(voxel[seen]).astype(int).clip(0, np.asarray(brain.mask.shape) - 1).T)
    shared = int(brain.mask[nearest].sum())
    own = volume / abs(np.linalg.det(matrix[:3, :3]))  # mL of the scan's mask in template space
    dice = 2 * shared * each / (len(points) * each + own)
    corner = np.eye(4)
    corner[:3, 3] = [s.start for s in box]
    small, grid = _shrunk(np.where(brain.mask[box], brain.data[box], 0).astype(np.float32), brain.affine @ corner)
    index = points[seen] @ (np.linalg.inv(grid) @ matrix)[:3].T
    sampled = ndi.map_coordinates(small, index.T, order=1, mode="constant")
    return {
        "template_dice": float(min(dice, 1.0)),
        "template_ncc": correlation(values[seen], sampled),
        "fov_cut_fraction": float(1 - seen.mean()),
    }


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation; 0 when one of the two is constant or has fewer than two values."""
    if a.size < 2:
        return 0.0
    a, b = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (a, b))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0


def box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the bounding box of a mask, which must not be empty."""
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def edge_fraction(mask: np.ndarray, box: tuple[slice, ...], zooms: np.ndarray) -> float:
    """Return the share of the mask's surface on the border of the image, where the scan cuts the brain."""
    inside = mask[box]
    total = border = 0.0
    for axis, (span, length) in enumerate(zip(box, mask.shape, strict=True)):
        face = float(np.prod(np.delete(zooms, axis)))
        first, last = (np.count_nonzero(np.take(inside, end, axis=axis)) for end in (0, -1))
        border += face * (first * (span.start == 0) + last * (span.stop == length))
        total += face * (first + last + np.count_nonzero(np.diff(inside, axis=axis)))
    return float(border / total)


def widths_of_detail(data: np.ndarray, mask: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    """Return the effective resolution along each axis: full width at half maximum (mm) of the image inside ``mask``.

    Computed from the variance of differences between neighbours and the variance of the values, as for a Gaussian
    random field (Forman et al. 1995, Magn Reson Med 33:636; the classic estimate of AFNI's 3dFWHMx, Cox et al. 2017,
    Brain Connect 7:152). Anatomy adds to it: a sharp 1 mm scan of a brain has 3 to 4 mm.
    """
    values = data[mask].astype(np.float64)
    variance = max(float(values.var()), np.finfo(np.float64).tiny)
    widths = []
    for axis, zoom in enumerate(zooms):
        ahead = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        behind = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        steps = (data[ahead] - data[behind])[mask[ahead] & mask[behind]]
        ratio = 1 - float(steps.var(dtype=np.float64)) / (2 * variance) if steps.size > 1 else 0.0
        # uncorrelated neighbours mean a width of less than one voxel: the result is limited to 0.5 voxel
        ratio = min(max(ratio, 2.0**-4), 1 - 1e-9)
        widths.append(float(zoom * np.sqrt(-2 * np.log(2) / np.log(ratio))))
    return np.asarray(widths)


def signal(data: np.ndarray, mask: np.ndarray, zooms: np.ndarray) -> dict[str, float]:
    """Return ``snr``, ``cnr`` and ``tissue_contrast`` of a bias-corrected brain, in native voxels.

    White matter, grey matter and CSF are separated by two thresholds (Otsu 1979) on the local means. Noise is the
    robust SD (1.4826 MAD) of white matter voxels about the mean of their neighbourhood, corrected for the voxel's own
    share in that mean. ``snr`` = white / noise, ``cnr`` = (white - grey) / noise, ``tissue_contrast`` =
    (white - grey) / white, with medians. NaN when it cannot be measured, as noise in coarse voxels.
    """
    size = np.where(zooms <= NEIGHBOURHOOD_MM, 3, 1)
    n = int(size.prod())
    smooth = ndi.uniform_filter(data, tuple(size), mode="nearest")
    inside, smooth = data[::2][mask[::2]], smooth[::2][mask[::2]]  # every second slice is enough
    low, high = two_thresholds(smooth)
    white, grey = smooth > high, (smooth > low) & (smooth <= high)
    result = dict.fromkeys(("snr", "cnr", "tissue_contrast"), float("nan"))
    if min(white.sum(), grey.sum()) < 2:
        return result
    middle, dark = float(np.median(smooth[white])), float(np.median(smooth[grey]))
    if middle > 0:
        result["tissue_contrast"] = (middle - dark) / middle
    rest = (inside - smooth)[white]
    noise = 1.4826 * float(np.median(np.abs(rest - np.median(rest)))) / np.sqrt(1 - 1 / n) if n > 1 else 0.0
    if noise > 0:
        result |= {"snr": float(middle / noise), "cnr": float((middle - dark) / noise)}
    return result


def two_thresholds(values: np.ndarray) -> tuple[float, float]:
    """Return the two values that divide a histogram into the three most compact classes (Otsu 1979)."""
    low, high = np.percentile(values, (0.1, 99.9))
    counts, edges = np.histogram(values, bins=BINS, range=(low, max(high, low + 1e-9)))
    middle = (edges[:-1] + edges[1:]) / 2
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * middle)])
    i, j = np.triu_indices(BINS - 1, 1)
    i, j = i + 1, j + 1  # classes [0, i), [i, j), [j, end)
    between = np.zeros(i.size)
    for first, last in ((np.zeros_like(i), i), (i, j), (j, np.full_like(j, BINS))):
        share = weight[last] - weight[first]
        between += (moment[last] - moment[first]) ** 2 / np.maximum(share, 1e-12)
    best = int(between.argmax())
    return float(edges[i[best]]), float(edges[j[best]])


def judge(metrics: dict[str, float]) -> tuple[list[str], list[str], list[str]]:
    """Return three lists of reasons: to refuse the scan, to fail the gate, and to warn.

    Example: ``snr 7.1 is below 10 (noisy)``. A missing number is a reason too, except snr and cnr.
    """
    return tuple(
        [reason for name, ends in gates.items() if (reason := _beyond(name, metrics[name], *ends))]
        for gates in (REFUSE, FAIL, WARN)
    )


def _beyond(name: str, value: float, low: float, high: float) -> str | None:
    words = name.replace("_", " ")
    if low <= value <= high:
        return None
    if np.isnan(value):
        return None if name in MAY_BE_MISSING else f"{words} cannot be measured"
    side = f"below {low:g}" if value < low else f"above {high:g}"
    return f"{words} {value:.3g} is {side} ({HINTS[name]})"
