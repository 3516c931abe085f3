"""Figures that compare sites, or groups and models. Each function takes numbers and returns a Figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from brainage_bids.report.figures import INK, mean_interval, new_figure, plain_figure, style

_BIN_YEARS = 5.0
_SMALL = 5  # with fewer values than this, points are drawn instead of a violin


def ages_by_site(ages: Mapping[str, np.ndarray], label: str) -> Figure:
    """Draw stacked age histograms, one colour per site.

    Parameters
    ----------
    ages
        Ages in years per site, none empty.
    label
        Label of the value axis, with whom the bars count.
    """
    figure, (axes,) = plain_figure(8.0, 4.0)
    everyone = np.concatenate(list(ages.values()))
    first, last = np.floor(everyone.min() / _BIN_YEARS), np.floor(everyone.max() / _BIN_YEARS)
    edges = np.arange(first, last + 2) * _BIN_YEARS
    colours = [colour for colour, _ in style(list(ages)).values()]
    labels = [f"{site} (n = {values.size})" for site, values in ages.items()]
    axes.hist(list(ages.values()), edges, stacked=True, color=colours, label=labels, edgecolor="white", linewidth=0.6)
    axes.set(xlabel="age at the scan (years)", ylabel=label)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(top=axes.get_ylim()[1] * 1.3)  # room for the legend above the bars
    axes.legend(frameon=False, fontsize=8.5, loc="upper left", ncols=3)
    return figure


def gap_violins_by_model(gaps: Mapping[str, Mapping[str, np.ndarray]], label: str) -> Figure:
    """Draw the gaps of every group, the models side by side, each with its mean and 95 % interval.

    Parameters
    ----------
    gaps
        Model -> group -> gaps in years, none empty.
    label
        Label of the value axis.
    """
    groups = list(dict.fromkeys(group for by_group in gaps.values() for group in by_group))
    figure, (axes,) = new_figure(max(5.0, 1.6 + (0.5 + 0.55 * len(gaps)) * len(groups)), 4.8)
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (5, 3)))
    width = 0.84 / len(gaps)
    for rank, (model, (colour, _)) in enumerate(style(list(gaps)).items()):
        for index, group in enumerate(groups):
            values = gaps[model].get(group, np.empty(0))
            if not values.size:
                continue
            x = index + (rank - (len(gaps) - 1) / 2) * width
            if values.size >= _SMALL and np.ptp(values) > 0:
                body = axes.violinplot(values, [x], widths=0.92 * width, showextrema=False)["bodies"][0]
                body.set(facecolor=colour, edgecolor=colour, alpha=0.35)
            else:
                axes.scatter(np.full(values.size, x), values, 16, colour, alpha=0.7, linewidths=0)
            mean, half = mean_interval(values)
            axes.errorbar(x, mean, half, fmt="o", color=INK, markersize=4, capsize=3, linewidth=1.4, zorder=5)
        axes.bar(0, 0, color=colour, alpha=0.5, label=model)  # for the legend only
    axes.set_xticks(range(len(groups)), groups)
    axes.set(ylabel=label, xlim=(-0.6, len(groups) - 0.4))
    axes.legend(frameon=False, fontsize=9)
    return figure
