"""From a Figure to files and to bytes, the same bytes every time.

Knows nothing of what is drawn.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from brainage_bids.bids.files import atomic

_FIXED = {"svg.hashsalt": "brainage", "svg.fonttype": "path", "font.family": "sans-serif"}
_NO_DATE = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure as PNG."""
    return _render(figure, "png", dpi)


def save_both(figure: Figure, stem: Path, dpi: int = 200) -> tuple[bytes, list[Path]]:
    """Write ``stem.png`` and ``stem.svg`` atomically; return the PNG's bytes and both paths.

    Raises
    ------
    CannotCreateError
        When the folder cannot be written.
    """
    drawn = {"png": _render(figure, "png", dpi)}
    figure.set_layout_engine("none")  # the parts are placed now; placing them again would take as long as the drawing
    drawn["svg"] = _render(figure, "svg", dpi)
    paths = []
    for kind, content in drawn.items():
        path = stem.with_name(f"{stem.name}.{kind}")
        with atomic(path) as temporary:
            temporary.write_bytes(content)
        paths.append(path)
    return drawn["png"], paths


def _render(figure: Figure, kind: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    for words in figure.findobj(Text):
        if words.get_text() and "\\mathdefault" not in words.get_text():
            words.set_parse_math(False)  # a group may be called $a$; numbers on axes are matplotlib's own
    with matplotlib.rc_context(_FIXED):
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=_NO_DATE[kind])
    return buffer.getvalue()
