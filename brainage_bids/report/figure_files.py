"""Turn a Figure into a picture and into files. The same figure always gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter
from PIL import Image

from brainage_bids.bids.files import atomic

_FIXED = {"svg.hashsalt": "brainage", "svg.fonttype": "path", "font.family": "sans-serif"}
_PNG_LEVEL = 3  # compression of zlib; level 6 takes twice as long and saves a tenth
_SVG_DPI = 100  # of pictures inside, such as maps and colour bars


def draw_picture(figure: Figure, dpi: float = 150) -> Image.Image:
    """Draw a figure as an RGB picture."""
    _without_math(figure)
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context(_FIXED):
        canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


def save_both(figure: Figure, stem: Path, dpi: float = 200) -> tuple[Image.Image, list[Path]]:
    """Write ``stem.png`` and ``stem.svg`` atomically; return the picture and both paths.

    Raises
    ------
    CannotCreateError
        When the folder cannot be written.
    """
    picture = draw_picture(figure, dpi)
    figure.set_layout_engine(None)  # the layout is done; with any engine, also "none", savefig would draw twice
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with atomic(paths[0]) as temporary:
        picture.save(temporary, "PNG", compress_level=_PNG_LEVEL, dpi=(dpi, dpi))
    with atomic(paths[1]) as temporary, matplotlib.rc_context(_FIXED):
        figure.set_dpi(_SVG_DPI)
        # `savefig` would draw once more for the layout, which is done
        FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None, "Creator": None})
    return picture, paths


def _without_math(figure: Figure) -> None:
    """Show ``$`` as a dollar sign: a group may be named $a$. Numbers on axes keep their math text."""
    for label in _texts(figure):
        label.set_parse_math(False)


def _texts(artist: Artist) -> Iterator[Text]:
    """Yield the texts of a figure without the numbers on axes, because these would need all ticks to be made first."""
    if isinstance(artist, Text):
        yield artist
    elif isinstance(artist, Axis):
        yield artist.label
        if isinstance(artist.get_major_formatter(), FixedFormatter):  # names, not numbers
            yield from artist.get_ticklabels()
    else:
        for child in artist.get_children():
            yield from _texts(child)
