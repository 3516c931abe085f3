"""The figure of the quality page: one strip of points per metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brainage_bids.report import readable_names
from brainage_bids.report.figures import COLOURS, GRID, INK, set_title

_LINES = {"warn": ("#8a6a00", (0, (1, 1.5))), "fail": ("#b3261e", "-"), "refuse": (INK, (0, (5, 2)))}


def strips(
    metrics: np.ndarray, passed: np.ndarray, names: Sequence[str], gates: Mapping[str, Mapping[str, tuple]]
) -> Figure:
    """Draw one strip of points per metric; triangles are scans that do not pass, lines are the gates.

    Parameters
    ----------
    metrics
        (scans, names), NaN where missing.
    passed
        (scans,) bool.
    names
        Names of the metrics.
    gates
        Metric -> kind (``warn``, ``fail``, ``refuse``) -> lower and upper limit.
    """
    lines = -(-len(names) // 3)
    figure = Figure(figsize=(9.2, 1.15 * lines + 0.1))
    panels = figure.subplots(lines, 3, squeeze=False).ravel()
    edge = 0.25 / (1.15 * lines + 0.1)
    figure.subplots_adjust(left=0.02, right=0.98, top=1 - edge, bottom=edge, hspace=1.1, wspace=0.1)
    height = (np.arange(len(metrics)) * 0.6180339887) % 1  # evenly spread, and the same in every run
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name, values in zip(panels, names, metrics.T, strict=False):
        for chosen, colour, marker in ((passed, COLOURS[0], "o"), (~passed, COLOURS[1], "^")):
            axes.scatter(values[chosen], height[chosen], 16, colour, marker=marker, alpha=0.6, linewidths=0)
        low, high = np.nanmin(values), np.nanmax(values)
        span = high - low or abs(high) or 1.0
        for kind, limits in gates.get(name, {}).items():
            for limit in limits:
                if low - span <= limit <= high + span and 0 not in (limit, span):
                    axes.axvline(limit, color=_LINES[kind][0], linestyle=_LINES[kind][1], linewidth=1.2)
        set_title(axes, readable_names.metric_name(name), 8.5, pad=3)
        axes.set(ylim=(-0.15, 1.15), yticks=[])
        axes.tick_params(labelsize=7.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
    return figure
