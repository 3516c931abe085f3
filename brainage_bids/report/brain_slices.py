"""Draw slices of a brain with a coarse map on top.

Both images are sampled at the same world positions (mm, RAS+) through their own affines, so they may have different
grids and orientations. Pictures follow the neurological convention: the left side of an axial or coronal picture is
the left side of the person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates

from brainage_bids.bids.images import load_image
from brainage_bids.errors import BadDataError

# World positions of the slices (mm): axial z, coronal y, sagittal x. The sagittal slices cover both halves.
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
PANEL_WIDTH, SMALL_WIDTH = 210, 140  # pixels of a slice: for the map of one person, and for rows of mean maps
BAR_WIDTH, FRAME = 116, 2  # pixels: the colour bar beside the slices, and the white lines between them
ROWS_WIDTH, ROWS_SHARE = 11, 0.85  # width of a figure with rows of maps, inches; the share that the slices take
ROWS_DPI = 9 * (SMALL_WIDTH + 2 * FRAME) / (ROWS_WIDTH * ROWS_SHARE)  # makes a pixel of a slice a pixel of the figure
GREYS = 1.1  # values of this multiple of the 99.5th percentile are shown white


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
        """99.5th percentile of the positive values, for the grey scale; 1 for an empty image."""
        positive = self.data[self.data > 0]
        return float(np.percentile(positive, 99.5)) if positive.size else 1.0

    @cached_property
    def _slices(self) -> dict[tuple, np.ndarray]:
        """Cache of sampled slices: rows of maps share the slices of the template."""
        return {}

    def slice(self, plane: str, position: float, step: float) -> np.ndarray:
        """Return the values of a slice, (rows, columns), NaN outside of the image; see `slice_world`."""
        if (plane, position, step) not in self._slices:
            self._slices[plane, position, step] = sample(self, slice_world(plane, position, step))
        return self._slices[plane, position, step]


def load(source: str | Path | Brain | tuple[np.ndarray, np.ndarray]) -> Brain:
    """Load a three-dimensional NIfTI image, or take an array with its affine. NaN and infinity become 0.

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

    Rows go upwards in the picture (use ``origin="lower"``). Columns go from the left to the right of the person in
    axial and coronal slices, from back to front in sagittal ones.
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
        Values, (...). Up to one voxel outside the image, the nearest value; NaN further outside.
    """
    inverse = np.linalg.inv(brain.affine)
    voxels = world @ inverse[:3, :3].T + inverse[:3, 3]  # (..., 3)
    last = np.asarray(brain.data.shape) - 1
    outside = ((voxels < -1) | (voxels > last + 1)).any(axis=-1)
    clipped = np.clip(voxels, 0, last)
    values = map_coordinates(brain.data, np.moveaxis(clipped, -1, 0), order=1, mode="nearest", output=np.float64)
    return np.where(outside, np.nan, values)


def overlay_picture(underlay: Brain | None, overlay: Brain, label: str = "years per cell") -> Image.Image:
    """Draw a signed map on a brain: six slices in each of three planes, with one colour scale symmetric about 0.

    The slices are joined as arrays: eighteen matplotlib axes would take ten times as long.

    Parameters
    ----------
    underlay
        Anatomy; voxels above 0 count as brain. None draws the map alone.
    overlay
        Signed map, years per cell.
    label
        Title of the colour bar.
    """
    limit = _limit([(underlay, overlay)], CUTS, signed=True)
    rows = [
        np.hstack([_framed(_panel(underlay, overlay, (plane, position), limit, True)) for position in positions])
        for plane, positions in CUTS.items()
    ]
    slices = np.vstack(rows)
    picture = Image.new("RGB", (slices.shape[1] + BAR_WIDTH, slices.shape[0]), "white")
    picture.paste(Image.fromarray(slices))
    _draw_bar(picture, slices.shape[1], limit, label)
    return picture


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
    if limit is None:
        limit = scale_limit(underlay, [overlay for _, overlay in rows], signed)
    cuts = [(plane, position) for plane, positions in SHORT_CUTS.items() for position in positions]
    slices = [[_panel(underlay, overlay, cut, limit, signed, 2.0, SMALL_WIDTH) for cut in cuts] for _, overlay in rows]
    tallest = max(panel.shape[0] for panel in slices[0])
    mosaic = np.vstack([np.hstack([_framed(_tall(panel, tallest)) for panel in row]) for row in slices])
    height = ROWS_WIDTH * ROWS_SHARE * mosaic.shape[0] / mosaic.shape[1]
    whole = height + 0.8
    figure = Figure(figsize=(ROWS_WIDTH, whole), facecolor="white")
    axes = figure.add_axes((0.145, 0.8 / whole, ROWS_SHARE, height / whole))
    axes.imshow(mosaic, interpolation="none", aspect="auto")
    axes.set_axis_off()
    for row, (title, _) in enumerate(rows):
        middle = 1 - (row + 0.5) / len(rows)
        axes.text(-0.007, middle, title, transform=axes.transAxes, ha="right", va="center", fontsize=9, color=_INK)
    _colour_bar(figure, (0.36, 0.5 / whole, 0.4, 0.12 / whole), limit, signed, label)
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
    """Return the anatomy, the map values, and where to draw the map (bool), each (rows, columns)."""
    values = overlay.slice(plane, position, step)
    anatomy = np.zeros(values.shape) if underlay is None else np.nan_to_num(underlay.slice(plane, position, step))
    inside = np.isfinite(values) & ((anatomy > 0) if underlay is not None else True)
    return anatomy, values, inside


def _panel(
    underlay: Brain | None,
    overlay: Brain,
    cut: tuple[str, int],
    limit: float,
    signed: bool,
    step: float = 1.0,
    width: int = PANEL_WIDTH,
) -> np.ndarray:
    """Return one slice with its letters and its position, RGB (rows, columns, 3) uint8, the first row at the top."""
    plane, position = cut
    anatomy, values, inside = _cut(underlay, overlay, plane, position, step)
    shown = np.where(inside, np.nan_to_num(values), 0.0)
    norm = Normalize(-limit, limit) if signed else Normalize(0.0, limit)
    colours = matplotlib.colormaps[_map_name(signed)](norm(shown))[..., :3]
    # Small values are nearly transparent, so that large ones stand out and the anatomy remains visible.
    strength = np.clip(np.abs(shown) / limit, 0, 1)
    alpha = np.where(inside, 0.12 + 0.68 * strength**0.6, 0.0)[..., None]
    top = underlay.bright if underlay is not None else 1.0
    grey = np.clip(anatomy / (GREYS * top), 0, 1)[..., None]
    mixed = np.round(255 * (grey * (1 - alpha) + colours * alpha)).astype(np.uint8)[::-1]
    height = round(width * mixed.shape[0] / mixed.shape[1])
    picture = Image.fromarray(mixed).resize((width, height), Image.Resampling.BICUBIC)
    pen, middle = ImageDraw.Draw(picture), height / 2
    left, right = _LETTERS[plane]
    for x, letter, anchor in ((4, left, "lm"), (width - 4, right, "rm")):
        pen.text((x, middle), letter, "white", _font(14, bold=True), anchor=anchor)
    caption = f"{'xyz'[_NORMAL[plane]]} = {position:+d}".replace("-", "\u2212")
    pen.text((5, height - 5), caption, "white", _font(12), anchor="ls")
    return np.asarray(picture)


def _tall(panel: np.ndarray, height: int) -> np.ndarray:
    """Return a panel centred between black rows."""
    above = (height - panel.shape[0]) // 2
    return np.pad(panel, ((above, height - panel.shape[0] - above), (0, 0), (0, 0)))


def _framed(panel: np.ndarray) -> np.ndarray:
    """Return a panel with a white line around it."""
    return np.pad(panel, ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=255)


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font that comes with matplotlib, so that every machine has it."""
    properties = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(properties), size)


def _map_name(signed: bool) -> str:
    return "RdBu_r" if signed else "inferno"


def _draw_bar(picture: Image.Image, left: int, limit: float, label: str) -> None:
    """Draw a vertical colour bar of a signed scale beside the slices."""
    top, height, width = round(0.2 * picture.height), round(0.6 * picture.height), 20
    begin = left + 24
    colours = matplotlib.colormaps[_map_name(True)](np.linspace(1, 0, height))[:, None, :3]
    bar = np.repeat(np.round(255 * colours).astype(np.uint8), width, axis=1)
    picture.paste(Image.fromarray(bar), (begin, top))
    pen, font = ImageDraw.Draw(picture), _font(13)
    pen.rectangle((begin, top, begin + width - 1, top + height - 1), outline=_INK)
    ticks = [tick for tick in MaxNLocator(8, symmetric=True).tick_values(-limit, limit) if abs(tick) <= limit]
    formatter = ScalarFormatter()
    formatter.create_dummy_axis()
    for tick, label_text in zip(ticks, formatter.format_ticks(ticks), strict=True):
        y = top + (height - 1) * (limit - tick) / (2 * limit)
        pen.line((begin + width, y, begin + width + 4, y), _INK)
        pen.text((begin + width + 7, y), label_text, _INK, font, anchor="lm")
    title = Image.new("RGB", (height, 20), "white")
    ImageDraw.Draw(title).text((height / 2, 10), label, _INK, _font(14), anchor="mm")
    picture.paste(title.rotate(90, expand=True), (picture.width - 24, top))


def _colour_bar(figure: Figure, box: tuple[float, ...], limit: float, signed: bool, label: str) -> None:
    norm = Normalize(-limit, limit) if signed else Normalize(0.0, limit)
    bar = figure.colorbar(ScalarMappable(norm, _map_name(signed)), cax=figure.add_axes(box), orientation="horizontal")
    bar.set_label(label, fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
