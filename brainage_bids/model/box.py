"""The box of the grid that a network reads: the template's brain with a margin, a multiple of the network's stride.

Most of the grid is air. A network computes it all the same, and batch norm makes it other than zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from brainage_bids.schema import VolumeSpec

MARGIN_MM = 2  # around the template's brain; models know their box by it, so it must not change
MOST_OUTSIDE = 0.005  # share of a brain; measured on real scans, see docs/measured.md


def brain_box(spec: VolumeSpec, brain_mm: Sequence[int], stride: int) -> tuple[tuple[int, int], ...]:
    """Return first and last voxel along each axis of the box that a network reads.

    It is the brain and `MARGIN_MM` around it, in the nearest voxels, as far as the grid goes, then grown evenly on both
    sides to a multiple of ``stride``: a voxel more would cost the network's last stage a layer of cells on each axis.
    An axis of the grid that is too short for this is read whole.

    Parameters
    ----------
    spec
        The whole grid.
    brain_mm
        First and last mm of the template's brain along x, y, z.
    stride
        Voxels from one cell of the last stage to the next.
    """
    box = []
    for axis, side in enumerate(spec.shape):
        low, high = brain_mm[2 * axis] - MARGIN_MM, brain_mm[2 * axis + 1] + MARGIN_MM
        first = max(0, math.floor((low - spec.origin[axis]) / spec.resolution + 0.5))
        last = min(side - 1, math.ceil((high - spec.origin[axis]) / spec.resolution - 0.5))
        wanted = -(-(last - first + 1) // stride) * stride
        if wanted > side:
            box.append((0, side - 1))
            continue
        first = min(max(0, first - (wanted - (last - first + 1)) // 2), side - wanted)
        box.append((first, first + wanted - 1))
    return tuple(box)


def share_outside(volume: np.ndarray, spec: VolumeSpec) -> float:
    """Return the share of a volume's brain, what is not zero in ``spec.shape``, that a model does not read."""
    return 1 - np.count_nonzero(volume[spec.slices]) / np.count_nonzero(volume)


def brain_is_cropped(volume: np.ndarray, spec: VolumeSpec) -> bool:
    """Say whether a model does not read more than `MOST_OUTSIDE` of a volume's brain."""
    return spec.box is not None and share_outside(volume, spec) > MOST_OUTSIDE
