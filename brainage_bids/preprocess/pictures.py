"""Draw the two pictures for visual quality control: the mask on the scan, and template edges on the volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
from nibabel.affines import voxel_sizes
from PIL import Image, ImageDraw, ImageFont

from brainage_bids.bids.files import atomic
from brainage_bids.preprocess.quality import box_of
from brainage_bids.schema import VolumeSpec

FRACTIONS = (0.3, 0.42, 0.58, 0.7)  # positions of the slices along the brain
OUTLINE, EDGE = (213, 94, 0), (86, 180, 233)  # Okabe-Ito vermilion and sky blue
WHITE = (255, 255, 255)
PANEL, HEAD = (176, 174), 26  # pixels: size of a panel, and height of the text line above
GREYS = 1.1  # multiple of the 99.5th percentile that is shown white


def mask_picture(path: Path, data: np.ndarray, mask: np.ndarray, affine: np.ndarray, title: str) -> None:
    """Draw the brain mask's outline on the native scan (RAS+ array), three planes."""
    zooms = voxel_sizes(affine)
    high = np.percentile(data[mask], 99.5)
    _draw(path, data / max(high, 1e-12), mask, mask, zooms, OUTLINE, f"{title}: brain mask on the native scan")


def template_picture(
    path: Path, volume: np.ndarray, inside: np.ndarray, tissue: np.ndarray, spec: VolumeSpec, title: str
) -> None:
    """Draw the edges of the template (`template_tissue`) over the preprocessed volume, three planes."""
    shown = volume / max(float(np.percentile(volume[inside], 99.5)), 1e-12)
    zooms = np.full(3, spec.resolution)
    _draw(path, shown, tissue, tissue, zooms, EDGE, f"{title}: template edges on the preprocessed volume")


def _draw(
    path: Path,
    data: np.ndarray,
    outlined: np.ndarray,
    where: np.ndarray,
    zooms: np.ndarray,
    colour: tuple[int, int, int],
    title: str,
) -> None:
    """Draw slices through ``where``, one row per plane, with the edge of ``outlined`` over the grey values."""
    across, up = PANEL
    canvas = Image.new("RGB", (across * len(FRACTIONS), up * 3 + HEAD))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    scale = min(n / mm for axis in range(3) for n, mm in zip(PANEL, _extent(data, zooms, axis), strict=True))
    box = box_of(where)
    for row in range(3):
        for column, fraction in enumerate(FRACTIONS):
            at = int(box[row].start + fraction * (box[row].stop - box[row].start))
            size = tuple(max(1, round(scale * mm)) for mm in _extent(data, zooms, row))
            picture = _panel(np.take(data, at, axis=row), np.take(outlined, at, axis=row), size, colour)
            left, top = column * across, row * up + HEAD
            canvas.paste(picture, (left + (across - size[0]) // 2, top + (up - size[1]) // 2))
            letters = ("P", "A") if row == 0 else ("L", "R")
            pen.text((left + 3, top + up / 2), letters[0], WHITE, font, anchor="lm")
            pen.text((left + across - 3, top + up / 2), letters[1], WHITE, font, anchor="rm")
    pen.text((6, HEAD / 2), title, WHITE, font, anchor="lm")
    words = "left of the picture = left of the person"
    pen.text((canvas.width - 6, HEAD / 2), words, WHITE, ImageFont.load_default(11), anchor="rm")
    with atomic(path) as temporary:  # 40 colours are enough, and keep the file small
        canvas.quantize(40, dither=Image.Dither.NONE).save(temporary, format="png", optimize=True)


def _extent(data: np.ndarray, zooms: np.ndarray, axis: int) -> tuple[float, float]:
    """Return width and height (mm) of a slice across ``axis``."""
    width, height = (n * zoom for k, (n, zoom) in enumerate(zip(data.shape, zooms, strict=True)) if k != axis)
    return width, height


def _panel(grey: np.ndarray, line: np.ndarray, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """Return one slice of ``size`` pixels: grey values, and the edge of ``line`` drawn over them."""
    shown = np.clip(grey.T[::-1] * (255 / GREYS), 0, 255).astype(np.uint8)  # the first row of a picture is its top
    pixels = np.repeat(np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR))[..., None], 3, axis=2)
    smooth = Image.fromarray(line.T[::-1].astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    inside = np.asarray(smooth) > 0.5
    pixels[inside & ~ndi.binary_erosion(inside, border_value=1)] = colour
    return Image.fromarray(pixels)
