"""The flow diagram of who was left out and why, similar to CONSORT.

The same layout is drawn twice: as SVG in the page (by the template), and as a Figure for the files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

INK, SOFT, FILL = "#1a1a1a", "#4d5560", "#f4f7fa"
WIDTH = 412.0  # units of the drawing; a unit is about a pixel on a phone
_MAIN, _SIDE = (6.0, 186.0), (220.0, 188.0)  # left edge and width of the boxes
_LINE, _PAD, _GAP, _FONT = 16.0, 8.0, 22.0, 12.5
_LETTERS = {True: 22, False: 26}  # letters per line, bold and plain, in a wide font


@dataclass(frozen=True)
class Step:
    """A box of the main column.

    Parameters
    ----------
    title, count
        What remains, and its number.
    left
        ``(reason, number)`` of what is left out before the next box.
    parts
        ``(name, number)`` of the parts of this box.
    """

    title: str
    count: str
    left: Sequence[tuple[str, str]] = ()
    parts: Sequence[tuple[str, str]] = ()


def layout(steps: Sequence[Step]) -> dict[str, Any]:
    """Return ``width height boxes lines heads`` of the diagram, y downwards.

    A box is ``x y w h`` and ``rows`` of ``x y text bold``; a line is ``x1 y1 x2 y2``; a head is three points.
    """
    boxes, lines, heads = [], [], []
    y, centre = 4.0, _MAIN[0] + _MAIN[1] / 2
    for index, step in enumerate(steps):
        box = _box(_MAIN, y, [(step.title, True), (f"n = {step.count}", True), *_lines(step.parts)])
        boxes.append(box)
        bottom = y + box["h"]
        if index == len(steps) - 1:
            return {"width": WIDTH, "height": bottom + 4, "boxes": boxes, "lines": lines, "heads": heads}
        y = bottom + _GAP
        if step.left:
            side = _box(_SIDE, bottom + _GAP / 2, _lines(step.left))
            boxes.append(side)
            middle = side["y"] + side["h"] / 2
            lines.append((centre, middle, _SIDE[0], middle))
            heads.append(((_SIDE[0], middle), (_SIDE[0] - 7, middle - 4), (_SIDE[0] - 7, middle + 4)))
            y = side["y"] + side["h"] + _GAP / 2
        lines.append((centre, bottom, centre, y))
        heads.append(((centre, y), (centre - 4, y - 7), (centre + 4, y - 7)))
    return {"width": WIDTH, "height": y, "boxes": boxes, "lines": lines, "heads": heads}


def flow_figure(drawing: dict[str, Any]) -> Figure:
    """Draw a layout, 72 units an inch."""
    figure = Figure(figsize=(drawing["width"] / 72, drawing["height"] / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, drawing["width"]), ylim=(drawing["height"], 0))
    axes.set_axis_off()
    for x1, y1, x2, y2 in drawing["lines"]:
        axes.plot([x1, x2], [y1, y2], color=SOFT, linewidth=1.2)
    for points in drawing["heads"]:
        axes.add_patch(Polygon(points, color=SOFT, linewidth=0))
    for box in drawing["boxes"]:
        axes.add_patch(Rectangle((box["x"], box["y"]), box["w"], box["h"], facecolor=FILL, edgecolor=SOFT))
        for row in box["rows"]:
            weight = "bold" if row["bold"] else "normal"
            axes.text(row["x"], row["y"], row["text"], fontsize=_FONT * 0.88, color=INK, weight=weight)
    return figure


def in_words(steps: Sequence[Step]) -> str:
    """Return the diagram as text, for readers who cannot see it."""
    parts = []
    for step in steps:
        parts.append(f"{step.title}: {step.count}" + "".join(f", {name}: {n}" for name, n in step.parts))
        parts += [f"left out: {reason}: {n}" for reason, n in step.left]
    return "; ".join(parts)


def _lines(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, bool]]:
    return [(f"{name}: {n}", False) for name, n in pairs]


def _box(column: tuple[float, float], y: float, texts: Sequence[tuple[str, bool]]) -> dict[str, Any]:
    """Return a box with its top at ``y``; ``texts`` are ``(text, bold)``."""
    left, width = column
    rows = []
    for text, bold in texts:
        for line in textwrap.wrap(text, _LETTERS[bold], max_lines=4, placeholder=" …") or [""]:
            baseline = y + _PAD + _LINE * (len(rows) + 0.78)
            rows.append({"x": left + _PAD, "y": baseline, "text": line, "bold": bold})
    return {"x": left, "y": y, "w": width, "h": 2 * _PAD + _LINE * len(rows), "rows": rows}
