"""Remove the noise around the head in an MP2RAGE image (UNIT1).

A UNIT1 image is the ratio of two inversions, ``Re(INV1* INV2) / (INV1^2 + INV2^2)``, from -0.5 to 0.5, often stored as
0 to 4095. In air the ratio is noise divided by noise, so every voxel has a random value.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi

WITH_INV2 = "is an MP2RAGE image (UNIT1): noise without signal was removed by the second inversion (INV2)"
BY_NOISE = "is an MP2RAGE image (UNIT1) without INV2: voxels as noisy as air were removed"
CLEAN = "is an MP2RAGE image (UNIT1) whose background holds no noise: it was used as it is"
STORED_MAX = 4095.0  # largest value in the 12 bits that scanners write
ABOVE_NOISE = 4.0  # square root of the regularising term, in units of the noise of INV2
REACH_MM = 2.0  # width of the average of the noise
NOISE_LEAST = 0.15  # mean deviation from the neighbours in air, below which it holds no noise (pure noise: about 0.25)
NOISE_KEPT, NOISE_LOST = (
    0.5,
    0.75,
)  # shares of the noise level in air: voxels are kept up to the first, 0 from the second


def without_noise(data: np.ndarray, inv2: np.ndarray | None, zooms: np.ndarray) -> tuple[np.ndarray, str]:
    """Return a UNIT1 image that is 0 where there is no signal, and a description of what was done.

    With INV2, the ratio is computed again with an added term, which keeps it at its lower end where the signal does not
    exceed the noise (O'Brien et al. 2014, PLoS ONE 9:e99676, equation 2). INV1 follows from the ratio and INV2. Without
    INV2, a voxel is weighted down the more its neighbourhood is as noisy as the faces of the volume, which are air.

    Parameters
    ----------
    data
        UNIT1 as stored, float32 ``(X, Y, Z)``: -0.5 to 0.5, 0 to 1, or 0 to 4095.
    inv2
        Magnitude of INV2 on the same grid, in any unit; None without it.
    zooms
        Voxel size, mm.

    Returns
    -------
    data, words
        float32 from 0 (air, CSF) to 1; a sentence that continues after the name of the file.
    """
    ratio = ratio_of(data)
    if inv2 is not None:
        return _regularised(ratio, inv2), WITH_INV2
    noise = _noise(ratio, zooms)
    level = float(np.median(np.concatenate([np.take(noise, (0, -1), axis=axis).ravel() for axis in range(3)])))
    if level < NOISE_LEAST:
        return (ratio + 0.5).astype(np.float32), CLEAN
    weight = np.clip((NOISE_LOST - noise / level) / (NOISE_LOST - NOISE_KEPT), 0, 1)
    return ((ratio + 0.5) * weight).astype(np.float32), BY_NOISE


def ratio_of(data: np.ndarray) -> np.ndarray:
    """Return a UNIT1 image as the ratio, -0.5 to 0.5, whatever scale it is stored in."""
    low, high = float(data.min()), float(data.max())
    if low < 0:
        return data / max(1.0, 2 * max(-low, high))
    return data / (1.0 if high <= 1 else max(STORED_MAX, high)) - 0.5


def _regularised(ratio: np.ndarray, inv2: np.ndarray) -> np.ndarray:
    # ratio = q / (1 + q^2) with q = INV1 / INV2; of the two solutions the smaller belongs to tissue
    root = np.sqrt(np.maximum(1 - 4 * ratio**2, 0))
    quotient = np.divide(1 - root, 2 * ratio, out=np.zeros_like(ratio), where=np.abs(ratio) > 1e-6)
    total = inv2.astype(np.float64) ** 2 * (1 + quotient**2)  # INV1^2 + INV2^2
    air = inv2 < _between(inv2)
    beta = (ABOVE_NOISE * float(np.median(inv2[air]))) ** 2 if air.any() else 0.0
    robust = np.divide(ratio * total - beta, total + 2 * beta, out=np.full(total.shape, -0.5), where=total > 0)
    return np.maximum(robust + 0.5, 0).astype(np.float32)


def _noise(ratio: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    """Return the distance of voxels from the mean of their neighbours, averaged over about 2 mm."""
    apart = np.abs(ratio - ndi.uniform_filter(ratio, 3))
    return ndi.gaussian_filter(apart, REACH_MM / np.asarray(zooms))


def _between(values: np.ndarray) -> float:
    """Return the value that best separates two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * centres)
    rest = below[-1] - below
    parted = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * rest, 1)
    return float(edges[1:][parted[:-1].argmax()])
