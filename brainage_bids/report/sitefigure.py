"""Figure of the error by site: of a model that knew nobody of the site, beside one that knew others of it.

The numbers come from ``siteerror.tsv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from brainage_bids.bids.outputs import model_label
from brainage_bids.report import figures, readable_names
from brainage_bids.report.groupdata import GroupPage
from brainage_bids.report.html import decimals, interval, number, text

DRAWN = 24  # places at most, the largest
_ALL = "all"


def draw(page: GroupPage, album) -> list[dict[str, Any]]:
    """Draw one figure for each model that leaves places out."""
    rows = page.rows("siteerror")
    return [
        _of_model(name, [row for row in rows if text(row["left_out_by"]) == name], album)
        for name in dict.fromkeys(text(row["left_out_by"]) for row in rows)
    ]


def site_figure(places: Sequence[str], series: Sequence[dict[str, Any]]) -> Figure:
    """Draw error and mean gap by place, each with its 95 % interval.

    Parameters
    ----------
    places
        Labels from top to bottom.
    series
        For each model: ``label``, and ``mae``, ``gap`` (estimate, low, high in years, or None) and ``null`` (years or
        None) by place.
    """
    figure, (left, right) = figures.new_figure(9.6, 1.7 + (0.34 + 0.16 * len(series)) * len(places), 1, 2, sharey=True)
    styles = figures.style([one["label"] for one in series])
    step = 0.22
    for at, one in enumerate(series):
        colour, marker = styles[one["label"]]
        offset = (at - (len(series) - 1) / 2) * step
        for axes, what in ((left, "mae"), (right, "gap")):
            label = one["label"] if axes is left else None
            for y, found in enumerate(one[what]):
                if found is None:
                    continue
                estimate, low, high = found
                if low is not None and high is not None:
                    axes.plot([low, high], [y + offset] * 2, color=colour, linewidth=2, solid_capstyle="butt")
                axes.plot(estimate, y + offset, marker, color=colour, markersize=7, label=label)
                label = None
        known = [(value, y + offset) for y, value in enumerate(one["null"]) if value is not None]
        if known:
            label = "always the mean age" if at == 0 else None
            x, y = zip(*known, strict=True)
            left.plot(x, y, "|", color="#6b6b6b", markersize=11, markeredgewidth=1.6, label=label)
    right.axvline(0, color=figures.INK, linewidth=1, linestyle=(0, (5, 3)))
    left.set_yticks(range(len(places)), places)
    left.set(ylim=(len(places) - 0.5, -0.5), xlabel="mean absolute error (years), 95 % CI")
    left.set_xlim(0)
    right.set_xlabel("mean gap (years), 95 % CI")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=8.5, loc="outside upper left", ncols=3)
    return figure


def _of_model(name: str, rows: list[dict], album) -> dict[str, Any]:
    sizes = {text(row["subset"]): row["n"] for row in rows if text(row["kind"]) == "across"}
    named = sorted((place for place in sizes if place != _ALL), key=lambda place: (-sizes[place], place))
    shown = [*([_ALL] if _ALL in sizes else []), *sorted(named[:DRAWN])]
    models = dict.fromkeys((text(row["kind"]), text(row["model"])) for row in rows)
    series = []
    for kind, model in models:
        by_place = {text(r["subset"]): r for r in rows if (text(r["kind"]), text(r["model"])) == (kind, model)}
        chosen = [by_place.get(place, {}) for place in shown]
        series.append(
            {
                "label": f"{kind} places: {model}",
                "mae": [_estimate(row, "mae", "mae_ci") for row in chosen],
                "gap": [_estimate(row, "bag_mean", "bag_ci") for row in chosen],
                "null": [number(row.get("mae_null")) for row in chosen],
            }
        )
    labels = [f"{readable_names.place_name(place)}\nn = {sizes[place]}" for place in shown]
    summary = "; ".join(map(_words, [row for row in rows if text(row["subset"]) == _ALL]))
    caption = (
        "Error (left) and mean gap (right) at each place, of people whom the member that predicts never saw. Across: "
        f"it knew nobody of the place. Within: it knew others of it. All places: {summary}."
    )
    caption += f" The {DRAWN} largest of {len(named)} places." if len(named) > DRAWN else ""
    figure = site_figure(labels, series)
    return album.add(f"sites-{model_label(name)}", figure, caption, f"Error and mean gap by place. {summary}")


def _estimate(row: dict, name: str, ends: str) -> tuple | None:
    value = number(row.get(name))
    return None if value is None else (value, number(row.get(f"{ends}_lo")), number(row.get(f"{ends}_hi")))


def _words(row: dict) -> str:
    ends = interval(row.get("mae_ci_lo"), row.get("mae_ci_hi"))
    within = f" [95 % CI {ends}]" if ends != "n/a" else ""
    return f"{text(row['kind'])} ({text(row['model'])}, n = {row['n']}): MAE {decimals(row['mae'])} years{within}"
