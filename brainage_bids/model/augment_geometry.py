"""The resampling of an augmentation: the box of a brain, where an affine moves it, and what it reads there."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SLAB = 8  # planes resampled at a time


def brain_box(volume: Tensor) -> tuple[slice, slice, slice] | None:
    """Return the smallest box around what is not zero in ``(X, Y, Z)``, or None when all is zero."""
    inside = volume != 0
    planes = inside.any(2)  # (X, Y)
    slices = []
    for line in (planes.any(1), planes.any(0), inside.any(0).any(0)):
        inner = line.nonzero()
        if not len(inner):
            return None
        slices.append(slice(int(inner[0]), int(inner[-1]) + 1))
    return tuple(slices)


def resampled(
    brain: Tensor, box: tuple[slice, ...], pull: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], Tensor]:
    """Resample the brain of a box; return the box it moves to and its values there."""
    low, high = (np.array([getattr(side, end) for side in box], dtype=float) for end in ("start", "stop"))
    corners = np.array(np.meshgrid(*np.stack([low - 1, high], 1), indexing="ij")).reshape(3, 8)  # a voxel beyond
    reached = np.linalg.solve(pull[:3, :3], corners - pull[:3, 3:])  # (3, 8), output voxels
    first = np.clip(np.ceil(reached.min(1) - 1e-6), 0, shape).astype(int)
    last = np.clip(np.floor(reached.max(1) + 1e-6) + 1, first, shape).astype(int)
    target = tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))
    size = tuple((last - first).tolist())
    if min(size) == 0:
        return target, brain.new_zeros(size)
    lines = sampling_lines(pull[None], low, first, tuple(brain.shape), size)
    x, y, z = (torch.from_numpy(line[0]) for line in lines)
    plane = y[:, None] + z  # (Y, Z, 3)
    out = brain.new_empty(size)
    for start in range(0, size[0], SLAB):
        grid = x[start : start + SLAB, None, None] + plane  # (S, Y, Z, 3)
        sampled = F.grid_sample(brain[None, None], grid[None], padding_mode="zeros", align_corners=False)
        out[start : start + SLAB] = sampled[0, 0]
    return target, out


def sampling_lines(
    pulls: np.ndarray, low: np.ndarray, first: np.ndarray, shape: tuple[int, ...], size: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Return the coordinates that ``grid_sample`` wants as a sum of one part an axis, float32 ``(B, n, 3)`` each.

    Parameters
    ----------
    pulls
        Output voxel to input voxel of the whole grid, ``(B, 4, 4)``.
    low, shape
        First voxel and size of the input box.
    first, size
        The same of the output box.
    """
    # Input voxel v of an axis of n voxels is (2 v + 1) / n - 1 for `grid_sample`, which counts the last axis first.
    scale = 2 / np.array(shape)
    linear = (pulls[:, :3, :3] * scale[:, None])[:, ::-1]  # (B, 3, 3)
    offset = ((pulls[:, :3, :3] @ first + pulls[:, :3, 3] - low + 0.5) * scale - 1)[:, ::-1]  # (B, 3)
    x, y, z = (np.arange(n)[:, None] * linear[:, None, :, axis] for axis, n in enumerate(size))
    return tuple(line.astype(np.float32) for line in (x, y + offset[:, None], z))
