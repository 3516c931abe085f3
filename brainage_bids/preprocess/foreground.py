"""Find the foreground of an image with a constant background, such as a skull-stripped brain."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi

from brainage_bids.preprocess.intake import Native


def own_mask(native: Native) -> np.ndarray | None:
    """Return the foreground (bool) of an image with a constant background; None without such a background.

    A whole head may also have a constant background: compare with `brain.upright_mask` before use.
    """
    data = native.data
    faces = np.concatenate([np.take(data, (0, -1), axis=axis).ravel() for axis in range(3)])
    values, counts = np.unique(faces, return_counts=True)
    background = values[counts.argmax()]
    if counts.max() < 0.9 * faces.size or (data != background).mean() > 0.6:
        return None
    distance = np.abs(data - background)
    # blurred edges leave a halo of small values round a stripped brain
    foreground = distance > 0.1 * np.percentile(distance[data != background], 90)
    largest = largest_piece(foreground)
    if largest is None:
        return None
    closed = ndi.binary_closing(np.pad(largest, 2), iterations=2)[2:-2, 2:-2, 2:-2]
    return ndi.binary_fill_holes(closed)


def largest_piece(mask: np.ndarray) -> np.ndarray | None:
    """Return the largest connected piece of a mask; None when the mask is empty."""
    labels, n = ndi.label(mask)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1 if n else None
