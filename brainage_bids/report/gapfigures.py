"""Figures on the use of the gap: ROC curves (patients against controls), and the interval of healthy people.

The numbers come from ``roc_curves.tsv``, ``roc.tsv``, ``calibration.tsv`` and ``biascorrection.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainage_bids.bids.outputs import model_label
from brainage_bids.report import figures, html_tables, readable_names
from brainage_bids.report.groupdata import GroupPage, is_control
from brainage_bids.report.html import decimals, interval, number, text

_LINES = ("-", (0, (6, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
LEVEL = 95


def draw(page: GroupPage, rows: pd.DataFrame, album) -> dict[str, list[dict[str, Any]]]:
    """Draw the figures ``roc`` and ``calibration``; a list is empty if there is nothing to draw."""
    return {
        "roc": _roc(page, album),
        "calibration": [shown for model in page.models for shown in _band(page, rows, model, album)],
    }


def roc_figure(curves: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw ROC curves over each other.

    Parameters
    ----------
    curves
        ``label``, ``fpr``, ``tpr`` (n,) each.
    title
        Title with the groups.
    """
    figure, (axes,) = figures.plain_figure(5.4, 5.2, top=0.35)
    axes.plot([0, 1], [0, 1], color=figures.INK, linewidth=1, linestyle=(0, (2, 2)))
    for i, curve in enumerate(curves):
        colour, line = figures.COLOURS[i % 8], _LINES[i % len(_LINES)]
        axes.plot(curve["fpr"], curve["tpr"], color=colour, linestyle=line, linewidth=2, label=curve["label"])
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("share of controls called patients (1 − specificity)")
    axes.set_ylabel("share of patients found (sensitivity)")
    figures.set_title(axes, title)
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    return figure


def band_figure(age: np.ndarray, predicted: np.ndarray, line: Mapping[str, float]) -> Figure:
    """Draw predicted against chronological age of controls, with the age-bias line and the interval around it.

    Parameters
    ----------
    age, predicted
        Years, (n,).
    line
        ``slope``, ``intercept`` of predicted age on age, ``half`` (half width, years).
    """
    figure, (axes,) = figures.plain_figure(5.4, 4.8)
    ends = np.array([age.min(), age.max()])
    middle = line["slope"] * ends + line["intercept"]
    axes.fill_between(ends, middle - line["half"], middle + line["half"], color="#BFDDF0", label=f"{LEVEL} % interval")
    axes.plot(ends, middle, color=figures.COLOURS[0], linewidth=2, label="age-bias line")
    axes.plot(ends, ends, color=figures.INK, linewidth=1, linestyle=(0, (5, 3)), label="prediction = age")
    outside = np.abs(predicted - line["slope"] * age - line["intercept"]) > line["half"]
    for chosen, colour, marker, name in ((~outside, "#4d4d4d", "o", "inside"), (outside, "#B34700", "D", "outside")):
        if chosen.any():
            label = f"controls {name} (n = {chosen.sum()})"
            axes.scatter(age[chosen], predicted[chosen], 22, colour, marker=marker, linewidths=0, label=label, zorder=3)
    axes.set_xlabel("chronological age (years)")
    axes.set_ylabel("predicted age (years)")
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")  # to search the best place takes a third of the time
    return figure


def _roc(page: GroupPage, album) -> list[dict]:
    """Draw one figure for each patient group: of the age-corrected gap if it has a curve, else of the raw gap."""
    all_curves = page.frame("roc_curves")
    areas = {_key(row): row for row in page.rows("roc")}
    shown = []
    for case, part in all_curves.groupby("case", sort=True):
        variant = "corrected" if (part["variant"] == "corrected").any() else "raw"
        curves, summaries = [], []
        for model, curve in part[part["variant"] == variant].groupby("model", sort=False):
            row = areas.get(_key(curve.iloc[0]), {})
            ends = interval(*(row.get(name) for name in html_tables.interval_names(row)))
            label = f"{model}: AUC {decimals(row.get('auc'))}" + (f" [{ends}]" if ends != "n/a" else "")
            summaries.append(label)
            curves.append({"label": label, "fpr": curve["fpr"].to_numpy(), "tpr": curve["tpr"].to_numpy()})
        control = text(part["control"].iloc[0])
        title = f"{case} against {control}"
        caption = (
            f"ROC curves, {title}, {readable_names.variant_name(variant)}. {'; '.join(summaries)}. "
            "Dotted: no separation. No threshold on these curves is a recommendation."
        )
        figure = roc_figure(curves, title)
        alt = f"ROC curves of {title}. {'; '.join(summaries)}"
        shown.append(album.add(f"roc-{model_label(str(case))}", figure, caption, alt, narrow=True))
    return shown


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(text(row.get(name)) for name in ("model", "variant", "case", "control"))


def _band(page: GroupPage, rows: pd.DataFrame, model: str, album) -> list[dict]:
    level = [r for r in page.rows("calibration") if text(r["model"]) == model and r["level"] == LEVEL]
    values = (page.bias or {}).get(model) or {}
    half = number(level[0].get("half_width")) if level else None
    line = {"slope": number(values.get("slope")), "intercept": number(values.get("intercept")), "half": half}
    age, predicted = rows["age"].to_numpy(), rows[f"predicted_age_{model}"].to_numpy()
    known = is_control(rows, page.controls) & np.isfinite(age) & np.isfinite(predicted)
    if None in line.values() or not known.any():
        return []
    row = level[0]
    summary = (
        f"{text(row['covered'])} of {text(row['n_controls'])} controls lie within {decimals(half)} years "
        f"({decimals(100 * row['coverage'], 0)} %)"
    )
    caption = (
        f"Model {model}: predicted age of the controls and the {LEVEL} % interval around the age-bias line. {summary}."
    )
    caption += " Drawn with the line of everybody; each person is judged without the own fold." * (
        "each fold" in text(row["note"])
    )
    figure = band_figure(age[known], predicted[known], line)
    alt = f"Scatter of predicted against chronological age of controls with an interval, model {model}. {summary}"
    return [album.add(f"interval-{model_label(model)}", figure, caption, alt, narrow=True)]
