"""Whether a scan has a contrast that a model knows, by the median intensity inside the brain.

After the intensity rule this is a matter of how bright grey matter is against white: of scanner and sequence more than
of age. Networks that were not trained with changes of contrast read it as years (docs/measured.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LARGE = 2**21  # voxels; of a larger volume every second one along each axis is looked at
LEAST_MARGIN = 0.02
IGNORED_POWER = 2.0  # what `LinearMap` with ``ignore_contrast`` was measured to bear


def median_intensity(volume: np.ndarray) -> float:
    """Return the median of what is not zero in ``(X, Y, Z)``."""
    some = volume[::2, ::2, ::2] if volume.size > LARGE else volume
    return float(np.median(some[some != 0].astype(np.float32)))


def known_medians(medians: Sequence[float]) -> dict[str, float]:
    """Return what ``model.json`` keeps of the scans that trained a model."""
    return {"median_min": float(np.min(medians)), "median_max": float(np.max(medians))}


def known_range(card: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the medians that a model knows: those of its training scans and half their range more at each end.

    The margin is at least `LEAST_MARGIN`. For a model that was trained with powers of the intensities, both ends are
    moved by the largest one. None for a model that does not say what contrast it was trained on.
    """
    known = card["training"].get("intensity")
    if known is None:
        return None
    margin = max((known["median_max"] - known["median_min"]) / 2, LEAST_MARGIN)
    low, high = known["median_min"] - margin, known["median_max"] + margin
    power = _largest_power(card["recipe"])
    if power > 1:  # intensities are those from 0 to 1, see `recipe`
        low, high = max(low, 0.0) ** power, high ** (1 / power)
    return low, high


def unlike_training(median: float, card: Mapping[str, Any]) -> bool:
    """Say whether a scan lies outside of what a model knows (`known_range`); of older models nothing is said."""
    known = known_range(card)
    return known is not None and not known[0] <= median <= known[1]


def _largest_power(recipe: Mapping[str, Any]) -> float:
    if recipe["method"] == "ridge":
        return IGNORED_POWER if recipe["ridge"].get("ignore_contrast") else 1.0
    augmentation = recipe["augmentation"]
    return augmentation.get("gamma_max", 1.0) if augmentation["enabled"] else 1.0
