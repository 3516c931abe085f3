"""Summarise Grad-RAM maps in the regions of an atlas: one value per person and region, and a table for every group.

Interpolation is linear in the cells of a map, so the mean of a region is a fixed weighted sum of the cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse, stats

from brainage_bids.map_tables import SALIENCY_REGIONS
from brainage_bids.schema import DEFAULT_SEED, VolumeSpec
from brainage_bids.stats.atlas import LEFT, RIGHT, without_side
from brainage_bids.stats.columns import frame
from brainage_bids.stats.maps import PersonMap, axis_weights, resample

THRESHOLD = 0.8  # value of the normalised map, as in the paper
FEW_CELLS = 2
MIN_N = 5  # people for an interval of the rank
N_RESAMPLES = 10_000
MANY = 2_000  # people; with more, a tenth of the resamples is used
_BATCH_CELLS = 4_000_000


@dataclass(frozen=True)
class Regions:
    """The regions of an atlas on one grid.

    Parameters
    ----------
    names, hemispheres
        Label -> name, label -> ``L``, ``R`` or ``both``; the order is that of the table.
    labels
        ``(x, y, z)`` int32 on the grid: 0 outside every region and outside the brain.
    inside
        ``(x, y, z)`` bool: the brain mask.
    grid
        The grid.
    """

    names: Mapping[int, str]
    hemispheres: Mapping[int, str]
    labels: np.ndarray
    inside: np.ndarray
    grid: VolumeSpec


@dataclass
class RegionReader:
    """Read the maps of people one by one (called by `mean_maps`) and store the values of the regions.

    Memory grows with people x regions, not with the number of cells.

    Parameters
    ----------
    regions
        The regions.
    groups
        ``(label, (people,) bool)``: the members of each group (`subsets`), people in the order of the maps.

    Attributes
    ----------
    normalised
        One row ``(regions,)`` per person: mean of the map after ReLU and min-max scaling inside the mask (0 to 1); NaN
        for a region without voxels.
    up, down
        The same for the years that a region adds to the predicted age, and subtracts from it.
    empty
        Whether nothing was positive inside the mask; the normalised row is then 0.
    """

    regions: Regions
    groups: Sequence[tuple[str, np.ndarray]]
    normalised: list[np.ndarray] = field(default_factory=list)
    up: list[np.ndarray] = field(default_factory=list)
    down: list[np.ndarray] = field(default_factory=list)
    empty: list[bool] = field(default_factory=list)

    def __call__(self, person: PersonMap) -> None:
        """Read the map of the next person."""
        if not self.normalised:
            self._weights = axis_weights(person.affine, person.values.shape, self.regions.grid)
            mean, self._share, self.n_cells, self.volume_ml = _weighting(self.regions, self._weights)
            self._mean, self._absent = mean, self.volume_ml == 0
            self._positive = np.zeros((len(self.groups), *person.values.shape))
        positive = np.maximum(person.values, 0.0)
        row = self._mean @ person.share.ravel() - (0.0 if person.empty else person.floor)
        self.normalised.append(np.where(self._absent, np.nan, row))
        self.up.append(np.where(self._absent, np.nan, self._share @ positive.ravel()))
        self.down.append(np.where(self._absent, np.nan, self._share @ np.minimum(person.values, 0.0).ravel()))
        self._positive[[member[len(self.empty)] for _, member in self.groups]] += positive
        self.empty.append(person.empty)

    def of_group(self, place: int) -> np.ndarray:
        """Return ``(regions,)``: regional means of a group's mean positive map, min-max scaled inside the mask."""
        mean = self._positive[place] / int(self.groups[place][1].sum())
        brain = resample(mean, self._weights)[self.regions.inside]
        low, high = float(brain.min()), float(brain.max())
        if high - low <= 1e-9 * max(high, 1e-300):
            return np.where(self._absent, np.nan, 0.0)
        return np.where(self._absent, np.nan, (self._mean @ mean.ravel() - low) / (high - low))


def _weighting(regions: Regions, weights: Sequence[np.ndarray]) -> tuple:
    """Turn regions into weights of cells.

    Returns
    -------
    tuple
        ``(regions, cells)`` sparse: weights; the weighted sum of cells is the mean over the region's voxels.
        ``(regions, cells)`` sparse: share of each cell's total weight on the grid that falls into the region.
        ``(regions,)``: number of cells that are nearest to a voxel of the region. ``(regions,)``: volume, mL.
    """
    order = {label: row for row, label in enumerate(regions.names)}
    where = np.nonzero(np.isin(regions.labels, list(order)))
    row = np.array([order[label] for label in regions.labels[where].tolist()], dtype=int)  # (voxels,)
    shape = tuple(w.shape[1] for w in weights)
    size = (len(order), int(np.prod(shape)))
    total = sparse.csr_array(size)
    # linear interpolation: the two cells beside each voxel along each axis
    ends = [_two_ends(w) for w in weights]
    for corner in np.ndindex(2, 2, 2):
        cell = [ends[axis][0][where[axis], corner[axis]] for axis in range(3)]
        weight = np.prod([ends[axis][1][where[axis], corner[axis]] for axis in range(3)], axis=0)
        total += sparse.csr_array((weight, (row, np.ravel_multi_index(cell, shape))), shape=size)
    voxels = np.bincount(row, minlength=len(order))
    spread = np.einsum("a,b,c->abc", *(w.sum(axis=0) for w in weights)).ravel()  # (cells,) sum over the whole grid
    nearest = [w.argmax(axis=1)[where[axis]] for axis, w in enumerate(weights)]
    pairs = np.unique(np.stack([row, np.ravel_multi_index(nearest, shape)]), axis=1)
    mean = sparse.diags_array(1.0 / np.maximum(voxels, 1)) @ total
    share = total @ sparse.diags_array(1.0 / np.where(spread > 0, spread, np.inf))
    millilitres = voxels * regions.grid.resolution**3 / 1000.0
    return mean.tocsr(), share.tocsr(), np.bincount(pairs[0], minlength=len(order)), millilitres


def _two_ends(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each voxel along one axis the two cells with weight, and their weights, each ``(voxels, 2)``."""
    second = np.argsort(weight, axis=1, kind="stable")[:, ::-1][:, : min(2, weight.shape[1])]
    values = np.take_along_axis(weight, second, axis=1)
    if second.shape[1] == 1:  # one cell along this axis
        return np.repeat(second, 2, axis=1), np.concatenate([values, np.zeros_like(values)], axis=1)
    return second, values


def saliency_regions(
    reader: RegionReader, model: str, threshold: float = THRESHOLD, seed: int = DEFAULT_SEED
) -> pd.DataFrame:
    """Describe every region in every group of people.

    Parameters
    ----------
    reader
        The reader, after the last map.
    threshold
        Mean normalised value from which a region counts as relevant (0.8 in the paper; arbitrary).

    Returns
    -------
    pandas.DataFrame
        `SALIENCY_REGIONS`, one row per group and region in the order of the atlas; regions without voxels have
        the status ``skipped``.
    """
    normalised, up, down = (np.array(values) for values in (reader.normalised, reader.up, reader.down))
    rows = []
    for place, (subset, member) in enumerate(reader.groups):
        kind, _, group = subset.partition("=")
        about = {"model": model, "group_by": "all" if group == "all" else kind, "group": group}
        about |= {"n": int(member.sum()), "n_empty": int(np.array(reader.empty)[member].sum())}
        described = _describe(normalised[member], threshold, seed)
        described["groupnorm_mean"] = reader.of_group(place)
        described["contribution_up_years"] = up[member].mean(axis=0)
        described["contribution_down_years"] = down[member].mean(axis=0)
        described["contribution_years"] = described["contribution_up_years"] + described["contribution_down_years"]
        described["laterality_index"] = laterality(described["mean"], reader.regions)
        for row, (label, name) in enumerate(reader.regions.names.items()):
            rows.append(about | _identity(reader, row, label, name))
            if reader.volume_ml[row]:
                rows[-1] |= {column: values[row] for column, values in described.items()}
    return frame(rows, SALIENCY_REGIONS)


def _identity(reader: RegionReader, row: int, label: int, name: str) -> dict:
    cells = int(reader.n_cells[row])
    if not reader.volume_ml[row]:
        status, note = "skipped", "no voxel of this region inside the brain on the grid of the maps"
    elif cells < FEW_CELLS:
        status, note = "ok", "one cell of the map: the model cannot tell the region from its neighbours"
    else:
        status, note = "ok", ""
    return {
        "index": label,
        "name": name,
        "hemisphere": reader.regions.hemispheres[label],
        "volume_ml": reader.volume_ml[row],
        "n_cells": cells,
        "status": status,
        "note": note,
    }


def _describe(values: np.ndarray, threshold: float, seed: int) -> dict[str, Sequence]:
    n = len(values)
    mean = values.mean(axis=0)
    nothing = np.full(mean.size, np.nan)
    summary = {"mean": mean, "median": np.median(values, axis=0), "rank": _ranks(mean)}
    summary["above_threshold"] = np.where(np.isnan(mean), np.nan, mean >= threshold)
    summary |= {"sd": nothing, "ci_lo": nothing, "ci_hi": nothing, "rank_ci": [None] * mean.size}
    if n > 1:
        summary["sd"] = sd = values.std(axis=0, ddof=1)
        margin = stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n)
        summary |= {"ci_lo": mean - margin, "ci_hi": mean + margin}
    if n >= MIN_N:
        low, high = _rank_interval(values, seed)
        summary["rank_ci"] = [f"{a:.0f}-{b:.0f}" for a, b in zip(low, high, strict=True)]
    return summary


def _ranks(means: np.ndarray) -> np.ndarray:
    """Return the rank of each mean along the last axis; 1 is the highest, ties get the better rank, NaN stays."""
    return stats.rankdata(-means, method="min", axis=-1, nan_policy="omit")


def _rank_interval(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5 and 97.5 percentiles of every region's rank over resamples of people."""
    n, regions = values.shape
    known = ~np.isnan(values).any(axis=0)
    resamples = N_RESAMPLES if n <= MANY else N_RESAMPLES // 10
    rng, ranks = np.random.default_rng(seed), []
    batch = max(1, _BATCH_CELLS // max(n, regions))
    for start in range(0, resamples, batch):
        counts = rng.multinomial(n, np.full(n, 1.0 / n), size=min(batch, resamples - start))  # (B, n)
        # rounding errors must not make equal means different
        means = np.round(counts @ values[:, known] / n, 12)
        ranks.append(_ranks(means).astype("float32"))
    low, high = np.full(regions, np.nan), np.full(regions, np.nan)
    low[known], high[known] = np.percentile(np.concatenate(ranks), [2.5, 97.5], axis=0)
    return low, high


def laterality(mean: np.ndarray, regions: Regions) -> np.ndarray:
    """Return ``(L - R) / (L + R)`` ``(regions,)`` for means of left and right regions; NaN without counterpart."""
    row_of: dict[tuple[str, str], int] = {}
    for row, (label, name) in enumerate(regions.names.items()):
        row_of[without_side(name), regions.hemispheres[label]] = row
    index = np.full(mean.size, np.nan)
    for (name, side), left in row_of.items():
        right = row_of.get((name, RIGHT))
        if side == LEFT and right is not None and mean[left] + mean[right] > 0:
            index[[left, right]] = (mean[left] - mean[right]) / (mean[left] + mean[right])
    return index
