"""Turn a Figure into a picture and into files. The same figure always gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from brainage_bids.bids.files import atomic

_FIXED = {"svg.hashsalt": "brainage", "svg.fonttype": "path", "font.family": "sans-serif"}
_PNG_LEVEL = 3  # compression of zlib; level 6 takes twice as long and saves a tenth


def draw_picture(figure: Figure, dpi: float = 150) -> Image.Image:
    """Draw a figure as an RGB picture."""
    _without_math(figure)
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(_FIXED):
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def save_both(figure: Figure, stem: Path, dpi: float = 200) -> tuple[Image.Image, list[Path]]:
    """Write ``stem.png`` and ``stem.svg`` atomically; return the picture and both paths.

    Raises
    ------
    CannotCreateError
        When the folder cannot be written.
    """
    picture = draw_picture(figure, dpi)
    figure.set_layout_engine("none")  # the layout is done; computing it again would take as long as drawing
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with atomic(paths[0]) as temporary:
        picture.save(temporary, "PNG", compress_level=_PNG_LEVEL, dpi=(dpi, dpi))
    with atomic(paths[1]) as temporary, matplotlib.rc_context(_FIXED):
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    return picture, paths


def _without_math(figure: Figure) -> None:
    """Show text with dollar signs as it is: a group may be named $a$. Numbers on axes need their math text."""
    for label in figure.findobj(Text):
        if label.get_text() and "\\mathdefault" not in label.get_text():
            label.set_parse_math(False)
