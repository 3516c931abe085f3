"""Numbers that say whether a volume can be trusted, and the gates on them. Arrays and numbers only.

The gates were set on 40 open scans (0.7 to 3 mm, a child, thick slices, wide ventricles) and simulated moves of them:
upright whole heads correlate with the template at 0.60 to 0.71, heads cut by 20-30 % at 0.57 to 0.64, a sphere without
a brain at 0.40.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from brainage_bids.schema import VolumeSpec

# Outside these no brain was found or the registration is lost: the scan is refused.
REFUSE = {"mask_volume_ml": (450.0, 2600.0), "template_dice": (0.80, 1.0), "template_ncc": (0.44, 1.0)}
# Outside these the volume is kept but fails the quality gate and leaves training and statistics.
FAIL = {"fov_cut_fraction": (0.0, 0.20), "template_dice": (0.85, 1.0), "template_ncc": (0.50, 1.0)}
# Outside these the scan is flagged.
WARN = {
    "mask_volume_ml": (900.0, 2100.0),
    "template_dice": (0.92, 1.0),
    "template_ncc": (0.56, 1.0),
    "scale_min": (0.7, 1.4),
    "scale_max": (0.7, 1.4),
    "shear_max": (0.0, 0.15),
    "fov_cut_fraction": (0.0, 0.02),
    "voxel_size_max_mm": (0.0, 2.5),
    "anisotropy": (1.0, 2.0),
}


def scale_and_shear(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the three scales (native mm to template mm) and the largest shear of a template-to-native affine."""
    native_to_template = np.linalg.inv(matrix[:3, :3])
    stretch = scipy.linalg.polar(native_to_template)[1]  # symmetric: scales on the diagonal, shears off it
    scales = np.sort(np.linalg.eigvalsh(stretch))
    off = stretch[np.triu_indices(3, 1)] / np.cbrt(abs(np.linalg.det(stretch)))
    return scales, float(np.abs(off).max())


def fov_cut(template_mask: np.ndarray, spec: VolumeSpec, matrix: np.ndarray, affine: np.ndarray, shape: tuple) -> float:
    """Return the share of the template's brain that the scan's field of view does not cover."""
    index = np.argwhere(template_mask)[::7]  # every seventh voxel is plenty
    to_voxel = np.linalg.inv(affine) @ matrix @ np.asarray(spec.affine)
    voxel = index @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    outside = ((voxel < -0.5) | (voxel > np.asarray(shape) - 0.5)).any(axis=1)
    return float(outside.mean())


def signal_numbers(volume: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Return ``snr`` (mean / SD of the bright tissue) and ``cnr`` (bright - dark, over pooled SD), split by Otsu."""
    values = volume[inside].astype(np.float64)
    counts, edges = np.histogram(values, bins=256)
    middle = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts) / counts.sum()
    mean = np.cumsum(counts * middle) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mean[-1] * weight - mean) ** 2 / (weight * (1 - weight)))
    cut = middle[int(between.argmax())]
    bright, dark = values[values > cut], values[values <= cut]
    if bright.size < 2 or dark.size < 2:
        return {"snr": float("nan"), "cnr": float("nan")}
    pooled = np.sqrt((bright.var() + dark.var()) / 2)
    return {
        "snr": float(bright.mean() / max(bright.std(), 1e-12)),
        "cnr": float((bright.mean() - dark.mean()) / max(pooled, 1e-12)),
    }


def judge(metrics: dict[str, float]) -> tuple[list[str], list[str], list[str]]:
    """Return the reasons to refuse, to fail the gate, and to warn, each as ``name value outside low-high``."""

    def beyond(gates: dict[str, tuple[float, float]]) -> list[str]:
        return [
            f"{name.replace('_', ' ')} {metrics[name]:.3g} is outside {low:g} to {high:g}"
            for name, (low, high) in gates.items()
            if not low <= metrics[name] <= high
        ]

    return beyond(REFUSE), beyond(FAIL), beyond(WARN)
