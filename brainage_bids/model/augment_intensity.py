"""Augmentations of intensity: blur, thick slices, a smooth field, a power, and noise; all on the device of the volumes.

Zero is air and stays zero. The first three work on whole batches. Blur and slices are linear along each axis, so they
are one matrix an axis. What they mix in from the air is divided out again, because a scanner blurs a head before its
brain is cut out, and no dark rim remains of that. The field is a polynomial along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

FWHM_PER_SD = math.sqrt(8 * math.log(2))
TINY = 1e-7  # weights below it are none; numbers close to the least of float32 are slow
FIELD_ORDER = 3  # of the polynomial along each axis
MIDDLE = (0.125, 0.875)  # share of each axis where the brain lies; the strength of a field is its largest there


def draw_fields(count: int, strongest: float, rng: np.random.Generator) -> np.ndarray:
    """Draw smooth fields whose log factor reaches from -s to s where the brain lies, s uniform from 0 to ``strongest``.

    Returns
    -------
    ndarray
        ``(count, 4, 4, 4)``: coefficients of Bernstein polynomials of order `FIELD_ORDER` along each axis.
    """
    fields = rng.standard_normal((count, *[FIELD_ORDER + 1] * 3))
    basis = _bernstein(np.linspace(*MIDDLE, 13))
    values = np.einsum("bijk,xi,yj,zk->bxyz", fields, basis, basis, basis, optimize=True).reshape(count, -1)
    low, high = values.min(1), values.max(1)
    strength = rng.uniform(0, strongest, count)
    # the polynomials of the basis add up to one, so what is taken from all coefficients is taken from the field
    return (fields - ((low + high) / 2)[:, None, None, None]) * (2 * strength / (high - low))[:, None, None, None]


def smoothing_matrices(fwhm: np.ndarray, slices: np.ndarray, shape: Sequence[int]) -> list[np.ndarray | None]:
    """Return what blurs and thickens the slices of B volumes, one matrix a volume and axis.

    Parameters
    ----------
    fwhm
        Of the Gaussian, voxels, ``(B,)``; 0 for none.
    slices
        Thickness along each axis, voxels, ``(B, 3)``; up to 1 leaves the axis as it is.
    shape
        Voxels ``(X, Y, Z)``.

    Returns
    -------
    list of ndarray or None
        For each axis float32 ``(B, n, n)``, None where no volume needs one. Rows need not add up to one: `smoothed`
        divides by what they do.
    """
    found = []
    for axis, n in enumerate(shape):
        if not ((fwhm > 0) | (slices[:, axis] > 1)).any():
            found.append(None)
            continue
        matrices = np.tile(np.eye(n), (len(fwhm), 1, 1))
        for matrix, width, thickness in zip(matrices, fwhm, slices[:, axis], strict=True):
            if width > 0:
                matrix[:] = _gaussian(n, width)
            if thickness > 1:
                matrix[:] = _thick_slices(n, thickness) @ matrix
        found.append(np.where(matrices < TINY, 0, matrices).astype(np.float32))
    return found


def smoothed(volumes: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Return volumes ``(b, X, Y, Z)`` smoothed by one matrix ``(b, n, n)`` an axis, within what is not zero."""
    inside = volumes != 0
    mixed, share = _along_axes(volumes, matrices), _along_axes(inside.to(volumes.dtype), matrices)
    return torch.where(inside, mixed / share.clamp_min(TINY), 0.0)


def log_field(coefficients: Tensor, bases: Sequence[Tensor]) -> Tensor:
    """Return the log factors ``(b, X, Y, Z)`` of fields ``(b, 4, 4, 4)``; ``bases`` are those of `field_bases`."""
    return torch.einsum("bijk,xi,yj,zk->bxyz", coefficients, *bases)


def field_bases(shape: Sequence[int]) -> list[np.ndarray]:
    """Return the polynomials at the voxels of each axis, float32 ``(n, 4)``."""
    return [_bernstein((np.arange(n) + 0.5) / n).astype(np.float32) for n in shape]


def as_bright(volumes: Tensor, largest: Tensor) -> Tensor:
    """Return volumes ``(b, X, Y, Z)`` scaled so that their largest value is ``largest`` ``(b,)``, as it was before.

    The rule of intensity, which follows on every real change of a scan, does about the same.
    """
    now = volumes.amax((1, 2, 3))
    scale = torch.where(now > 0, largest / now.clamp_min(TINY), 1.0)
    return volumes * scale[:, None, None, None]


def with_noise(brain: Tensor, sd: float, seed: int) -> Tensor:
    """Add noise where there is brain: the network must not see a halo in training only."""
    generator = torch.Generator(device=brain.device if brain.device.type == "cuda" else "cpu").manual_seed(seed)
    noise = torch.randn(brain.shape, generator=generator, device=generator.device).to(brain.device)
    return torch.add(brain, noise.masked_fill_(brain == 0, 0), alpha=sd)


def _along_axes(volumes: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    x, y, z = matrices
    count, *shape = volumes.shape
    if x is not None:
        volumes = torch.bmm(x, volumes.reshape(count, shape[0], -1)).reshape(count, *shape)
    if y is not None:
        volumes = torch.matmul(y[:, None], volumes)
    if z is not None:
        volumes = torch.bmm(volumes.reshape(count, -1, shape[2]), z.transpose(1, 2)).reshape(count, *shape)
    return volumes


def _gaussian(n: int, fwhm: float) -> np.ndarray:
    distance = np.subtract.outer(np.arange(n), np.arange(n))
    return np.exp(-0.5 * (distance * FWHM_PER_SD / fwhm) ** 2)


def _thick_slices(n: int, thickness: float) -> np.ndarray:
    """Return slices of so many voxels, side by side from the middle of the axis, and linear interpolation between them.

    A slice is the mean over its thickness.
    """
    half = math.ceil((n / thickness - 1) / 2) + 1
    centres = (n - 1) / 2 + thickness * np.arange(-half, half + 1)  # (m,)
    voxels = np.arange(n)
    ends = np.minimum(voxels[:, None] + 0.5, centres + thickness / 2)
    overlap = np.clip(ends - np.maximum(voxels[:, None] - 0.5, centres - thickness / 2), 0, None)  # (n, m)
    weights = np.clip(1 - np.abs(voxels[:, None] - centres) / thickness, 0, None)  # (n, m)
    return weights @ (overlap / thickness).T


def _bernstein(places: np.ndarray) -> np.ndarray:
    """Return the Bernstein polynomials at places from 0 to 1, ``(n, FIELD_ORDER + 1)``."""
    powers = np.arange(FIELD_ORDER + 1)
    binomial = np.array([math.comb(FIELD_ORDER, k) for k in powers])
    return binomial * places[:, None] ** powers * (1 - places[:, None]) ** (FIELD_ORDER - powers)
