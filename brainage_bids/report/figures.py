"""Plots of the group page, and the interval graphic of one person. Each function takes numbers and returns a Figure.

Computes only what a plot needs: a regression line with its band, a mean with its interval. Uses no pyplot and no
global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

# The colours of Okabe and Ito in an order that is dark enough on white; lines and text are black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
INK, GRID = "#1a1a1a", "#d9d9d9"
HEXBIN_FROM = 2000
_JITTER_SEED = 20251127


def style(groups: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return group -> colour and marker, so that groups never differ by colour alone."""
    return {group: (COLOURS[i % 8], MARKERS[(i + i // 8) % 8]) for i, group in enumerate(groups)}


def age_histogram(ages: Mapping[str, np.ndarray], bin_years: float = 5.0) -> Figure:
    """Draw stacked age histograms, one panel per group on a shared axis.

    Parameters
    ----------
    ages
        Ages in years per group; empty groups are left out.
    bin_years
        Width of a bar, years.
    """
    ages = {group: np.asarray(values, float) for group, values in ages.items() if len(values)}
    figure, panels = plain_figure(8.0, 0.6 + 1.25 * len(ages), len(ages), 1, top=0.3, sharex=True)
    everyone = np.concatenate(list(ages.values()))
    edges = np.arange(np.floor(everyone.min() / bin_years), np.floor(everyone.max() / bin_years) + 2) * bin_years
    colours = style(list(ages))
    for axes, (group, values) in zip(panels, ages.items(), strict=True):
        axes.hist(values, edges, color=colours[group][0], edgecolor="white", linewidth=0.8)
        set_title(axes, f"{group} (n = {values.size})")
        axes.set_ylabel("people")
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    panels[-1].set_xlabel("age at the scan (years)")
    return figure


def age_scatter(age: np.ndarray, predicted: np.ndarray, groups: Sequence[str], order: Sequence[str]) -> Figure:
    """Draw predicted against chronological age (years) with the line of identity; hexagons above 2,000 people.

    Parameters
    ----------
    age, predicted
        Years, (n,).
    groups
        Group of each person, (n,).
    order
        Groups in the order of the legend.
    """
    age, predicted, groups = np.asarray(age, float), np.asarray(predicted, float), np.asarray(groups, object)
    figure, (axes,) = plain_figure(6.4, 5.8, bars=age.size > HEXBIN_FROM)
    low, high = min(age.min(), predicted.min()) - 3, max(age.max(), predicted.max()) + 3
    axes.plot([low, high], [low, high], color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label="identity", zorder=4)
    if age.size > HEXBIN_FROM:
        _hexagons(figure, axes, age, predicted)
    else:
        for group, (colour, marker) in style(order).items():
            chosen = groups == group
            label = f"{group} (n = {chosen.sum()})"
            if chosen.any():
                axes.scatter(
                    age[chosen], predicted[chosen], 26, colour, marker=marker, alpha=0.75, linewidths=0, label=label
                )
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="chronological age (years)", ylabel="predicted age (years)")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    return figure


def gap_violins(gaps: Mapping[str, np.ndarray], label: str) -> Figure:
    """Draw the gap per group: the distribution, each person (up to 2,000), and the mean with its 95 % interval.

    Parameters
    ----------
    gaps
        Gaps in years per group.
    label
        Label of the value axis.
    """
    gaps = {group: np.asarray(values, float) for group, values in gaps.items() if len(values)}
    figure, (axes,) = new_figure(max(4.6, 1.5 + 1.25 * len(gaps)), 4.8)
    jitter = np.random.default_rng(_JITTER_SEED)
    everyone = sum(values.size for values in gaps.values())
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (5, 3)))
    for x, (group, (colour, marker)) in enumerate(style(list(gaps)).items()):
        values = gaps[group]
        if values.size >= 5 and np.ptp(values) > 0:
            body = axes.violinplot(values, [x], widths=0.85, showextrema=False)["bodies"][0]
            body.set(facecolor=colour, edgecolor=colour, alpha=0.22)
        if everyone <= HEXBIN_FROM:
            spread = x + jitter.uniform(-0.13, 0.13, values.size)
            axes.scatter(spread, values, 16, colour, marker=marker, alpha=0.6, linewidths=0)
        mean, half = mean_interval(values)
        axes.errorbar(x, mean, half, fmt="_", color=INK, markersize=16, capsize=5, linewidth=1.8, zorder=5)
    ticks = [f"{group}\nn = {values.size}" for group, values in gaps.items()]
    axes.set_xticks(range(len(gaps)), ticks)
    axes.set(ylabel=label, xlim=(-0.6, len(gaps) - 0.4))
    return figure


def trajectories(panels: Sequence[Mapping[str, Any]], label: str) -> Figure:
    """Draw gaps over time, one panel per group: a thin line per person, a black one for the mean rate.

    Parameters
    ----------
    panels
        ``group``, ``n``, ``people`` (pairs of years since the first scan and gaps in years), ``start`` (mean gap at
        the first scan) and ``rate`` (years a year, or None).
    label
        Label of the value axis.
    """
    size = (max(4.6, 3.4 * len(panels)), 4.2)
    figure, all_axes = plain_figure(*size, 1, len(panels), top=0.35, sharex=True, sharey=True)
    colours = style([panel["group"] for panel in panels])
    for axes, panel in zip(all_axes, panels, strict=True):
        colour, marker = colours[panel["group"]]
        for time, gap in panel["people"]:
            axes.plot(time, gap, color=colour, marker=marker, markersize=3, linewidth=0.8, alpha=0.5)
        last = max(time[-1] for time, _ in panel["people"])
        if panel["rate"] is not None and np.isfinite(panel["rate"]):
            axes.plot([0, last], [panel["start"], panel["start"] + panel["rate"] * last], color=INK, linewidth=2.4)
        axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (5, 3)))
        set_title(axes, f"{panel['group']} (n = {panel['n']})")
        axes.set_xlabel("years since the first scan")
    all_axes[0].set_ylabel(label)
    return figure


def score_scatter(panels: Sequence[Mapping[str, Any]], label: str) -> Figure:
    """Draw the gap against a score, one panel per group, with the least-squares line and its 95 % band.

    Parameters
    ----------
    panels
        Each with ``group``, ``score`` (n,), ``gap`` (n,) in years, ``title`` (the correlation in words), ``colour``,
        ``marker`` and ``name`` (of the score).
    label
        Label of the gap axis.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    bars = any(len(panel["score"]) > HEXBIN_FROM for panel in panels)
    size = (4.4 * columns + 0.3, 4.1 * rows)
    figure, all_axes = plain_figure(*size, rows, columns, top=0.55, bars=bars, sharey=True)
    for index, panel in enumerate(panels):
        axes, score, gap = all_axes[index], np.asarray(panel["score"], float), np.asarray(panel["gap"], float)
        axes.axhline(0, color=GRID, linewidth=1.2)
        if score.size > HEXBIN_FROM:
            _hexagons(figure, axes, score, gap)
        else:
            axes.scatter(score, gap, 24, panel["colour"], marker=panel["marker"], alpha=0.75, linewidths=0)
        if (band := line_band(score, gap)) is not None:
            x, fit, half = band
            axes.fill_between(x, fit - half, fit + half, color=panel["colour"], alpha=0.16, linewidth=0)
            axes.plot(x, fit, color=panel["colour"], linewidth=2)
        set_title(axes, panel["title"], 9.5)
        axes.set_xlabel(panel["name"])
        if np.ptp(score) <= 12 and np.all(score == np.round(score)):  # an ordinal scale
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if index % columns == 0:
            axes.set_ylabel(label)
    for empty in all_axes[len(panels) :]:
        empty.set_axis_off()
    return figure


def forest(rows: Sequence[Mapping[str, Any]], label: str) -> Figure:
    """Draw estimates with their 95 % intervals, one line each.

    Parameters
    ----------
    rows
        Each with ``label``, ``estimate``, ``low``, ``high``, ``note`` (the numbers in words) and ``series`` (colour).
    label
        Label of the value axis.
    """
    figure, (axes,) = new_figure(9.2, 1.1 + 0.36 * len(rows))
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (5, 3)))
    series = style(list(dict.fromkeys(row["series"] for row in rows)))
    for name, (colour, marker) in series.items():  # a plot for each row would take several times as long
        places = [y for y, row in enumerate(rows) if row["series"] == name]
        low, high, estimate = ([rows[y][key] for y in places] for key in ("low", "high", "estimate"))
        axes.hlines(places, low, high, color=colour, linewidth=2)
        axes.plot(estimate, places, marker, color=colour, markersize=8)
    for y, row in enumerate(rows):
        axes.text(1.01, y, row["note"], transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=label)
    axes.grid(axis="y", visible=False)
    return figure


def bias_lines(
    age: np.ndarray, before: np.ndarray, after: np.ndarray, controls: np.ndarray, line: Mapping[str, float] | None
) -> Figure:
    """Draw the gap against age before and after removal of the age-bias line.

    Parameters
    ----------
    age, before, after
        Years, (n,): age, raw gap, corrected gap.
    controls
        Who is a control, bool (n,).
    line
        ``slope``, ``intercept``, ``age_min``, ``age_max`` of the line that was removed, or None.
    """
    figure, all_axes = plain_figure(9.6, 4.2, 1, 2, top=0.35, bars=age.size > HEXBIN_FROM, sharey=True, sharex=True)
    names = ("others", "controls") if controls.any() else ("everyone", "controls")
    for axes, gap, title in zip(all_axes, (before, after), ("before: raw gap", "after: corrected gap"), strict=True):
        axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (5, 3)))
        if age.size > HEXBIN_FROM:
            _hexagons(figure, axes, age, gap)
        else:
            for chosen, name, colour, marker in (
                (~controls, names[0], COLOURS[1], "^"),
                (controls, names[1], COLOURS[0], "o"),
            ):
                if chosen.any():
                    label = f"{name} (n = {chosen.sum()})"
                    axes.scatter(
                        age[chosen], gap[chosen], 20, colour, marker=marker, alpha=0.6, linewidths=0, label=label
                    )
        set_title(axes, title)
        axes.set_xlabel("chronological age (years)")
    if line is not None:
        ends = np.array([line["age_min"], line["age_max"]])
        all_axes[0].plot(ends, line["slope"] * ends + line["intercept"], color=INK, linewidth=2.2, label="line removed")
    all_axes[0].set_ylabel("brain age gap (years)")
    if all_axes[0].get_legend_handles_labels()[0]:
        all_axes[0].legend(frameon=False, fontsize=9)
    return figure


def interval_graphic(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a person's corrected gap next to the interval that contains 95 % of healthy held-out people.

    Parameters
    ----------
    rows
        One per model: ``model``, ``gap`` (corrected, years), ``half`` (half width of the 95 % interval, or None).
    """
    figure, (axes,) = new_figure(5.2, 1.3 + 0.6 * len(rows))  # readable on a phone
    reach = max([5.0, *(abs(row["gap"]) for row in rows), *(row["half"] or 0 for row in rows)]) * 1.25
    axes.axvline(0, color=INK, linewidth=1.2)
    for y, row in enumerate(rows):
        if row["half"] is not None:
            axes.barh(y, 2 * row["half"], 0.56, -row["half"], color="#BFDDF0", edgecolor="#0072B2", linewidth=1)
        axes.plot(row["gap"], y, "D", color="#B34700", markersize=11, markeredgecolor="white", zorder=5)
        text = f"{row['gap']:+.2f}".replace("-", "\u2212")
        axes.annotate(text, (row["gap"], y), (0, 11), textcoords="offset points", ha="center", fontweight="bold")
    axes.set_yticks(range(len(rows)), [row["model"] for row in rows])
    axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.4, -0.75))
    axes.set_xlabel("corrected brain age gap (years)\n\u2190 younger-looking      older-looking \u2192")
    axes.grid(axis="y", visible=False)
    return figure


def study_figure(table: pd.DataFrame, setting: str) -> Figure:
    """Draw the error for each value of one setting: a mark with its interval for each run, a line through the means.

    Parameters
    ----------
    table
        ``value seed n mae mae_ci_lo mae_ci_hi mae_null`` of finished runs, years.
    setting
        Name of the setting.
    """
    figure, (axes,) = new_figure(6.4, 4.4)
    values, seeds = list(dict.fromkeys(table.value)), list(dict.fromkeys(table.seed))
    for index, seed in enumerate(seeds):
        rows = table[table.seed == seed]
        x = np.array([values.index(value) for value in rows.value]) + 0.08 * (index - (len(seeds) - 1) / 2)
        spread = np.abs(rows[["mae_ci_lo", "mae_ci_hi"]].to_numpy().T - rows.mae.to_numpy())
        look = {"color": COLOURS[index % 8], "marker": MARKERS[index % 8], "markersize": 6, "linestyle": "none"}
        label = f"seed {int(seed)} (n = {int(rows.n.max())})"
        axes.errorbar(x, rows.mae, np.nan_to_num(spread), capsize=3, elinewidth=1, label=label, **look)
    means = [table[table.value == value].mae.mean() for value in values]
    axes.plot(range(len(values)), means, color=INK, linewidth=1, zorder=1)
    axes.axhline(table.mae_null.mean(), color=INK, linewidth=1, linestyle=(0, (2, 2)), label="always the mean age")
    axes.set_xticks(range(len(values)), values)
    axes.set_xlabel(setting)
    axes.set_ylabel("MAE on held-out people (years), 95 % CI")
    axes.set_ylim(0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % t interval; the half width is 0 for fewer than 2 values."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, 0.0
    quantile = stats.t.ppf(0.975, len(values) - 1)
    return mean, float(quantile * np.std(values, ddof=1) / np.sqrt(len(values)))


def line_band(x: np.ndarray, y: np.ndarray, points: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the least-squares line of y on x over the range of x and the half width of its 95 % confidence band.

    Half width = t(.975, n - 2) * s * sqrt(1/n + (x - mean x)^2 / Sxx). None for fewer than 3 points or a constant x.
    """
    if len(x) < 3 or np.ptp(x) == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.sum((x - x.mean()) ** 2)
    residual = np.sqrt(np.sum((y - intercept - slope * x) ** 2) / (len(x) - 2))
    grid = np.linspace(x.min(), x.max(), points)
    half = stats.t.ppf(0.975, len(x) - 2) * residual * np.sqrt(1 / len(x) + (grid - x.mean()) ** 2 / spread)
    return grid, intercept + slope * grid, half


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **share: bool
) -> tuple[Figure, list[Axes]]:
    """Return a white figure (size in inches) and its panels, row by row, with a grid and without a frame.

    The layout makes room for labels of any length. That takes as long as to draw them; see `plain_figure`.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, _styled(figure.subplots(rows, columns, **share))


def plain_figure(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    top: float = 0.15,
    bars: bool = False,
    **share: bool,
) -> tuple[Figure, list[Axes]]:
    """Return a figure like `new_figure` with numbers on both axes, so that its margins need not be measured.

    Parameters
    ----------
    width, height
        Inches.
    rows, columns
        Of panels.
    top
        Room above each panel, for its title, inches.
    bars
        Whether there is a colour bar beside each panel (`_hexagons`).
    share
        ``sharex``, ``sharey``: whether panels have one axis.
    """
    left, right, below = 0.72, 0.85 if bars else 0.12, 0.52
    across = right + (0.1 if share.get("sharey") else left)  # between panels
    along = top + (0.1 if share.get("sharex") else below)
    panel_width = (width - left - right - (columns - 1) * across) / columns
    panel_height = (height - top - below - (rows - 1) * along) / rows
    places = {"left": left / width, "right": 1 - right / width, "bottom": below / height, "top": 1 - top / height}
    places |= {"wspace": across / panel_width, "hspace": along / panel_height}
    figure = Figure(figsize=(width, height), facecolor="white")
    return figure, _styled(figure.subplots(rows, columns, gridspec_kw=places, **share))


def _styled(panels: Any) -> list[Axes]:
    panels = list(np.ravel(panels))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9.5)
    return panels


def set_title(axes: Axes, title: str, size: float = 10, pad: float | None = None) -> None:
    """Put a title above the left end of a panel.

    The height is given: otherwise each drawing would measure all numbers on the axes, to find that none is above.
    """
    axes.set_title(title, loc="left", fontsize=size, y=1.0, pad=pad)


def _hexagons(figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    drawn = axes.hexbin(x, y, gridsize=45, bins="log", mincnt=1, cmap="cividis_r", edgecolors="none")
    most = drawn.get_array().max()
    counts = [step * 10**power for power in range(7) for step in (1, 2, 5) if step * 10**power <= most]
    beside = axes.inset_axes((1.03, 0.1, 0.035, 0.8))
    bar = figure.colorbar(drawn, cax=beside, label="people per hexagon", ticks=counts, format="%d")
    bar.minorticks_off()  # unlabelled, and each costs time in the layout and in both files
