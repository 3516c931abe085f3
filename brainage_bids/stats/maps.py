"""Write mean Grad-RAM maps of groups of people on the template grid.

The coarse cells of a map are placed by their world coordinates. Image resizing functions would place them up to 13 mm
off, since the centre of the first cell is not the first voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from brainage_bids.bids.files import atomic, write_json
from brainage_bids.bids.images import load_image
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.map_tables import MAPS
from brainage_bids.schema import AGE_BINS, VolumeSpec
from brainage_bids.stats.columns import ALL, age_label, bin_label, frame, is_member, levels, number, text

PAPER, SIGNED = "mean", "signed"
WORDS = {
    PAPER: "Mean of the Grad-RAM maps of these people, each rectified and scaled to 0 to 1 in the brain",
    SIGNED: "Mean of the signed Grad-RAM maps of these people, years a cell",
}
MIN_RESOLUTION = 2.0  # mm; the cells are 16 to 64 mm, so finer grids would only use disk space


@dataclass(frozen=True)
class PersonMap:
    """One person's Grad-RAM map on its cells.

    Parameters
    ----------
    values
        ``(a, b, c)`` signed map, years per cell.
    affine
        Cell to world (mm, RAS+).
    share, floor
        ``share`` resampled to the grid minus ``floor`` is the map after ReLU and min-max scaling inside the mask.
    empty
        Whether nothing inside the mask is positive, or there is no contrast; ``share`` and ``floor`` are then 0.
    """

    values: np.ndarray
    affine: np.ndarray
    share: np.ndarray
    floor: float
    empty: bool


def maps_grid(spec: VolumeSpec) -> VolumeSpec:
    """Return the grid of mean maps: the model's own from 2 mm upwards, else the same field of view at 2 mm."""
    if spec.resolution >= MIN_RESOLUTION:
        return spec
    return spec.at(MIN_RESOLUTION)


def mean_maps(
    records: pd.DataFrame,
    grid: VolumeSpec,
    mask: np.ndarray | str | Path,
    path: Callable[[str, str], Path],
    model: str,
    controls: Sequence[str] = (),
    visit: Callable[[PersonMap], None] = lambda person: None,
) -> pd.DataFrame:
    """Write the mean map of everyone and of each subset (see `subsets`), in one pass over the people.

    Kind ``mean``, as in the paper: ReLU of each person's cells, trilinear resampling in world space, min-max scaling
    inside the mask to [0, 1], mean over people. Kind ``signed``: mean of the signed maps (years per cell). Both are 0
    outside the mask. Resampling is linear, so sums are kept on the cells and resampled once; memory does not grow with
    the number of people.

    Parameters
    ----------
    records
        ``map`` (path of the signed NIfTI on cells with its own affine), ``age`` (years), ``sex``, ``group``.
    grid
        Template grid (``maps_grid``).
    mask
        Brain mask on ``grid``: bool array of its shape, or an image.
    path
        Returns the file to write for ``(subset, kind)``; subsets as in the accuracy table (``group=all``: everyone).
    controls
        Labels of the healthy controls.
    visit
        Called with the map of every person, in the order of the records.

    Returns
    -------
    pandas.DataFrame
        ``model subset n n_empty kind path``; a person without a positive value inside the mask (or without contrast)
        counts in ``n_empty`` and adds zeros to the ``mean`` map. Subsets without people give no row and no file.

    Raises
    ------
    BadDataError
        When maps lie on different cells, on oblique axes, hold non-finite values, or the mask does not fit the grid.
    NoInputError
        When a map is missing.
    """
    inside = _mask(mask, grid)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(inside))  # the part with the brain
    brain = np.flatnonzero(inside[box])
    wanted_subsets = subsets(records, controls)
    if not wanted_subsets:
        return frame([], MAPS)
    member = np.array([m for _, m in wanted_subsets])  # (subsets, people)
    cells = affine = weights = boxed = None
    for index, source in enumerate(records["map"]):
        values, here = _load(source)
        if weights is None:
            affine, weights = here, axis_weights(here, values.shape, grid)
            boxed = [axis[part] for axis, part in zip(weights, box, strict=True)]
            cells = np.zeros((2, len(wanted_subsets), *values.shape))
            floor, empty = np.zeros(len(wanted_subsets)), np.zeros(len(wanted_subsets), dtype=int)
        elif values.shape != cells.shape[2:] or not np.allclose(here, affine, atol=1e-4):
            raise BadDataError(f"{source} lies on other cells than the maps before it; average the maps of one model")
        wanted = member[:, index]
        cells[1, wanted] += values
        share, low, is_empty = _normalised(values, boxed, brain)
        cells[0, wanted] += share
        floor[wanted] += low
        empty[wanted] += is_empty
        visit(PersonMap(values, here, share, low, is_empty))
    rows = []
    for k, (subset, members) in enumerate(wanted_subsets):
        n = int(members.sum())
        for kind, total, offset in ((PAPER, cells[0, k], floor[k]), (SIGNED, cells[1, k], 0.0)):
            volume = np.where(inside, (resample(total, weights) - offset) / n, 0.0)
            target = path(subset, kind)
            _save(volume, grid, target)
            about = {
                "Description": WORDS[kind],
                "Model": model,
                "Subset": subset,
                "People": n,
                "Resolution": f"{grid.resolution:g} mm",
            }
            write_json(sidecar_path(target), {**about, "VolumeSpec": grid.to_dict(), "SkullStripped": True})
            rows.append({"model": model, "subset": subset, "n": n, "n_empty": int(empty[k])})
            rows[-1] |= {"kind": kind, "path": str(target)}
    return frame(rows, MAPS)


def axis_weights(affine: np.ndarray, shape: tuple[int, int, int], grid: VolumeSpec) -> list[np.ndarray]:
    """Return for each axis the ``(voxels, cells)`` matrix of linear interpolation at the grid's world positions.

    Beyond the first and last cell centre the value of the edge cell is used.

    Raises
    ------
    BadDataError
        When the cells have other axes than the grid.
    """
    affine = np.asarray(affine, dtype="float64")
    steps = np.diag(affine)[:3]
    oblique = np.abs(affine[:3, :3] - np.diag(steps)).max() > 1e-4
    if oblique or np.any(steps == 0):
        raise BadDataError(f"map affine {affine.tolist()} is oblique or swaps axes; write maps along the RAS+ axes")
    weights = []
    for axis in range(3):
        world = grid.origin[axis] + grid.resolution * np.arange(grid.shape[axis])
        position = np.clip((world - affine[axis, 3]) / steps[axis], 0.0, shape[axis] - 1.0)
        lower = np.minimum(np.floor(position).astype(int), max(shape[axis] - 2, 0))
        fraction = position - lower
        matrix = np.zeros((grid.shape[axis], shape[axis]))
        rows = np.arange(grid.shape[axis])
        matrix[rows, lower] = 1.0 - fraction
        matrix[rows, np.minimum(lower + 1, shape[axis] - 1)] += fraction
        weights.append(matrix)
    return weights


def resample(values: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Return cells ``(a, b, c)`` resampled to the grid ``(x, y, z)`` by trilinear interpolation."""
    x, y, z = weights
    return np.tensordot(x, y @ (values @ z.T), 1)  # (a, b, z), then (a, y, z), then (x, y, z)


def _normalised(values: np.ndarray, weights: list[np.ndarray], brain: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """Return cells and floor: resampled cells minus floor are the map scaled to [0, 1]; also whether it is empty.

    ``brain`` holds the flat indices of the brain's voxels on the grid of ``weights``.
    """
    positive = np.maximum(values, 0.0)
    if not positive.any():
        return np.zeros_like(values), 0.0, True
    seen = resample(positive, weights).ravel()[brain]
    low, high = float(seen.min()), float(seen.max())
    if high - low <= 1e-9 * max(high, 1e-300):
        return np.zeros_like(values), 0.0, True
    return positive / (high - low), low / (high - low), False


def subsets(records: pd.DataFrame, controls: Sequence[str] = ()) -> list[tuple[str, np.ndarray]]:
    """Return ``(label, (n,) bool)`` of everyone (``group=all``), of each group, and of age bins and sexes.

    Age bins and sexes are taken within the controls (as in figures 4 and 5 of the paper), or within everyone if there
    are no controls. Subsets without people are left out.
    """
    group = text(records, "group")
    healthy = is_member(group, controls)
    base = healthy if healthy.any() else np.ones(len(records), dtype=bool)
    result = [(f"group={ALL}", np.ones(len(records), dtype=bool))]
    bins = pd.Series([age_label(age) for age in number(records, "age")], dtype=object)
    labels = [f"<{AGE_BINS[0][0]:g}", *(bin_label(low, high) for low, high in AGE_BINS)]
    result += [(f"age={label}", base & is_member(bins, [label])) for label in labels]
    sex = text(records, "sex")
    result += [(f"sex={label}", base & is_member(sex, [label])) for label in levels(sex)]
    result += [(f"group={label}", is_member(group, [label])) for label in levels(group) if label != ALL]
    return [(label, member) for label, member in result if member.any()]


def _load(source: str | Path) -> tuple[np.ndarray, np.ndarray]:
    if not Path(source).is_file():
        raise NoInputError(f"Grad-RAM map {source} is missing; run the participant level again")
    image = load_image(source, "remove it and run the participant level again")
    values = np.asarray(image.dataobj, dtype="float64")
    if values.ndim != 3 or not np.isfinite(values).all():
        raise BadDataError(f"Grad-RAM map {source} is not a finite 3D map; run the participant level again")
    return values, image.affine


def _mask(mask: np.ndarray | str | Path, grid: VolumeSpec) -> np.ndarray:
    if isinstance(mask, (str, Path)):
        image = load_image(mask)
        if not np.allclose(image.affine, grid.affine, atol=1e-3):
            raise BadDataError(f"brain mask {mask} is not on the grid of the maps; resample it first")
        mask = np.asarray(image.dataobj)
    inside = np.asarray(mask) > 0
    if inside.shape != tuple(grid.shape) or not inside.any():
        raise BadDataError(f"brain mask of shape {inside.shape} is empty or does not fit the grid {tuple(grid.shape)}")
    return inside


def _save(volume: np.ndarray, grid: VolumeSpec, target: str | Path) -> None:
    image = nib.Nifti1Image(volume.astype("float32"), np.array(grid.affine))
    code = "mni" if grid.template.startswith("MNI") else "aligned"
    image.set_sform(image.affine, code)
    image.set_qform(image.affine, code)
    with atomic(target) as temporary:
        nib.save(image, temporary)
