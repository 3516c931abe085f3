"""Slices of a brain with a coarse map on top, cut in world space.

Both images are sampled at the same world positions (mm, RAS+) through their own affines, so neither the storage order
nor the grid of either matters, and a Grad-RAM cell lands where its affine says. Knows nothing of models or tables.
Pictures follow the neurological convention: the left of an axial or coronal picture is the left of the person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

from brainage_bids.bids.images import load_image
from brainage_bids.errors import BadDataError

# World positions of the slices (mm): axial z, coronal y, sagittal x. Both halves of the brain are met sagittally.
CUTS = {
    "axial": (-30, -14, 2, 18, 34, 50),
    "coronal": (-84, -60, -36, -12, 12, 36),
    "sagittal": (-50, -28, -8, 8, 28, 50),
}
SHORT_CUTS = {"axial": (-14, 10, 34), "coronal": (-60, -20, 20), "sagittal": (-36, -6, 36)}
_NORMAL = {"sagittal": 0, "coronal": 1, "axial": 2}
_LETTERS = {"axial": ("L", "R"), "coronal": ("L", "R"), "sagittal": ("P", "A")}
_FIELD_MM = ((-80.0, 80.0), (-116.0, 84.0), (-76.0, 92.0))  # window around an adult brain in MNI space, x, y, z
_INK = "#1a1a1a"


@dataclass(frozen=True)
class Brain:
    """An image in memory.

    Parameters
    ----------
    data
        Values, (X, Y, Z).
    affine
        Voxel to world (mm, RAS+), 4 x 4.
    """

    data: np.ndarray
    affine: np.ndarray

    @property
    def cell_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, mm."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))

    @cached_property
    def bright(self) -> float:
        """99.5th percentile of the positive values, the white end of a grey scale; 1 for an empty image."""
        positive = self.data[self.data > 0]
        return float(np.percentile(positive, 99.5)) if positive.size else 1.0


def load(source: str | Path | Brain | tuple[np.ndarray, np.ndarray]) -> Brain:
    """Load a three-dimensional NIfTI image (or accept an array with its affine); NaN and infinity become 0.

    Raises
    ------
    BadDataError
        When the file cannot be read, is not three-dimensional or its affine cannot be inverted.
    """
    if isinstance(source, Brain):
        return source
    if isinstance(source, tuple):
        name, (data, affine) = "the image given", source
    else:
        name = str(source)
        image = load_image(source, "write it again")
        data, affine = np.asarray(image.dataobj), image.affine
    data = np.asarray(data, dtype=np.float32)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise BadDataError(f"{name} has {data.ndim} dimensions; a picture of slices needs 3")
    affine = np.asarray(affine, dtype=np.float64)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise BadDataError(f"{name} has an affine that cannot be inverted; write the image again")
    return Brain(np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0), affine)


def slice_world(plane: str, position: float, step: float = 1.0) -> np.ndarray:
    """Return the world positions of a slice's pixels, (rows, columns, 3) in mm.

    Rows run upwards in the picture (use ``origin="lower"``); columns run from left to right of the person in axial and
    coronal slices, from back to front in sagittal ones.
    """
    normal = _NORMAL[plane]
    across, up = (axis for axis in range(3) if axis != normal)
    columns = np.arange(_FIELD_MM[across][0], _FIELD_MM[across][1] + step / 2, step)
    rows = np.arange(_FIELD_MM[up][0], _FIELD_MM[up][1] + step / 2, step)
    world = np.empty((rows.size, columns.size, 3))
    world[..., normal] = position
    world[..., across] = columns[None, :]
    world[..., up] = rows[:, None]
    return world


def sample(brain: Brain, world: np.ndarray) -> np.ndarray:
    """Interpolate an image linearly at world positions.

    Parameters
    ----------
    brain
        The image.
    world
        Positions, (..., 3) in mm.

    Returns
    -------
    numpy.ndarray
        Values, (...); within one voxel outside the outermost centres the nearest value holds, NaN beyond.
    """
    inverse = np.linalg.inv(brain.affine)
    voxels = world @ inverse[:3, :3].T + inverse[:3, 3]  # (..., 3)
    last = np.asarray(brain.data.shape) - 1
    outside = ((voxels < -1) | (voxels > last + 1)).any(axis=-1)
    clipped = np.clip(voxels, 0, last)
    values = map_coordinates(brain.data, np.moveaxis(clipped, -1, 0), order=1, mode="nearest", output=np.float64)
    return np.where(outside, np.nan, values)


def overlay_figure(underlay: Brain | None, overlay: Brain, label: str = "years per cell") -> Figure:
    """Draw a signed map on a brain: six slices in each of three planes, one symmetric colour scale centred at 0.

    Parameters
    ----------
    underlay
        Anatomy; voxels above 0 count as brain. None draws the map alone.
    overlay
        Signed map, years per cell.
    label
        Title of the colour bar.
    """
    rows = list(CUTS)
    shapes = [slice_world(plane, 0.0, 10.0).shape for plane in rows]
    heights = [shape[0] / shape[1] for shape in shapes]  # of a slice whose width is 1
    height = 11 * 0.895 / 6 * sum(heights)
    figure = Figure(figsize=(11, height), facecolor="white")
    limit = _limit([(underlay, overlay)], CUTS, signed=True)
    grid = figure.add_gridspec(
        3, 6, left=0.005, right=0.9, top=0.995, bottom=0.005, wspace=0.02, hspace=0.02, height_ratios=heights
    )
    for row, plane in enumerate(rows):
        for column, position in enumerate(CUTS[plane]):
            _panel(figure.add_subplot(grid[row, column]), underlay, overlay, (plane, position), limit, True)
    _colour_bar(figure, (0.925, 0.2, 0.015, 0.6), limit, True, label)
    return figure


def map_rows_figure(
    underlay: Brain | None, rows: Sequence[tuple[str, Brain]], signed: bool, label: str, limit: float | None = None
) -> Figure:
    """Draw one row of nine slices (three per plane) for each map, all on one colour scale.

    Parameters
    ----------
    underlay
        Template; None draws the maps alone.
    rows
        ``(title, map)`` per row.
    signed
        True: diverging colours centred at 0 (years); False: sequential colours from 0 to 1.
    label
        Title of the colour bar.
    limit
        End of the signed scale, so that several figures share it; None takes the largest value drawn here.
    """
    height = 1.15 * len(rows)
    figure = Figure(figsize=(11, height + 0.75), facecolor="white")
    if limit is None:
        limit = scale_limit(underlay, [overlay for _, overlay in rows], signed)
    grid = figure.add_gridspec(
        len(rows), 9, left=0.145, right=0.995, top=0.995, bottom=0.75 / (height + 0.75), wspace=0.02, hspace=0.03
    )
    for row, (title, overlay) in enumerate(rows):
        cuts = [(plane, position) for plane, positions in SHORT_CUTS.items() for position in positions]
        for column, cut in enumerate(cuts):
            axes = figure.add_subplot(grid[row, column])
            _panel(axes, underlay, overlay, cut, limit, signed, step=2.0)
            if column == 0:
                axes.text(-0.06, 0.5, title, transform=axes.transAxes, ha="right", va="center", fontsize=9, color=_INK)
    bottom = 0.5 / (height + 0.75)
    _colour_bar(figure, (0.36, bottom, 0.4, 0.12 / (height + 0.75)), limit, signed, label, "horizontal")
    return figure


def scale_limit(underlay: Brain | None, overlays: Sequence[Brain], signed: bool) -> float:
    """Return the end of a colour scale shared by several maps: 1 for normalised ones, else the largest magnitude."""
    return _limit([(underlay, overlay) for overlay in overlays], SHORT_CUTS, signed)


def _limit(pairs: Sequence[tuple[Brain | None, Brain]], cuts: dict, signed: bool) -> float:
    if not signed:
        return 1.0
    largest = 0.0
    for underlay, overlay in pairs:
        for plane, positions in cuts.items():
            for position in positions:
                _, values, inside = _cut(underlay, overlay, plane, position, 4.0)
                largest = max(largest, float(np.abs(values[inside]).max(initial=0.0)))
    return largest or 1.0


def _cut(underlay: Brain | None, overlay: Brain, plane: str, position: float, step: float):
    """Return anatomy, map values and where the map may be drawn, each (rows, columns)."""
    world = slice_world(plane, position, step)
    values = sample(overlay, world)
    anatomy = np.nan_to_num(sample(underlay, world)) if underlay is not None else np.zeros(values.shape)
    inside = np.isfinite(values) & ((anatomy > 0) if underlay is not None else True)
    return anatomy, values, inside


def _panel(
    axes: Axes, underlay: Brain | None, overlay: Brain, cut: tuple, limit: float, signed: bool, step=1.0
) -> None:
    plane, position = cut
    anatomy, values, inside = _cut(underlay, overlay, plane, position, step)
    shown = np.where(inside, np.nan_to_num(values), 0.0)
    norm = Normalize(-limit, limit) if signed else Normalize(0.0, limit)
    colours = matplotlib.colormaps[_map_name(signed)](norm(shown))
    # Small values stay see-through, so that the eye is drawn to the large ones and the anatomy remains visible.
    strength = np.clip(np.abs(shown) / limit, 0, 1)
    colours[..., 3] = np.where(inside, 0.12 + 0.68 * strength**0.6, 0.0)
    top = underlay.bright if underlay is not None else 1.0
    axes.imshow(anatomy, cmap="gray", vmin=0, vmax=1.1 * top, origin="lower", interpolation="bilinear")
    axes.imshow(colours, origin="lower", interpolation="nearest")
    axes.set_axis_off()
    left, right = _LETTERS[plane]
    style = {"transform": axes.transAxes, "color": "white", "fontsize": 8, "va": "center"}
    axes.text(0.02, 0.5, left, ha="left", fontweight="bold", **style)
    axes.text(0.98, 0.5, right, ha="right", fontweight="bold", **style)
    axis_name = "xyz"[_NORMAL[plane]]
    caption = f"{axis_name} = {position:+d}".replace("-", "\u2212")
    axes.text(0.03, 0.03, caption, transform=axes.transAxes, color="white", fontsize=7, ha="left", va="bottom")


def _map_name(signed: bool) -> str:
    return "RdBu_r" if signed else "inferno"


def _colour_bar(figure: Figure, box: tuple, limit: float, signed: bool, label: str, orientation="vertical") -> None:
    norm = Normalize(-limit, limit) if signed else Normalize(0.0, limit)
    axes = figure.add_axes(box)
    bar = figure.colorbar(ScalarMappable(norm, _map_name(signed)), cax=axes, orientation=orientation)
    bar.set_label(label, fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
