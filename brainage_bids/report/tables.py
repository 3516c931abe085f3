"""Statistic tables as the page shows them: rounded, in words, an estimate with its n and its interval beside every p.

A table is a dict with ``caption``, ``columns`` (``title``, ``kind``: ``n`` number, ``w`` no wrap, ``long`` text) and
``rows`` of cells (``text``, ``style``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from brainage_bids.report import words
from brainage_bids.report.html import NOT_AVAILABLE, count, decimals, interval, number, p_value, text

Row = Mapping[str, Any]
Column = tuple[str, str, Callable[[Row], str]]


def rows_of(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts; None and an empty table give an empty list."""
    return [] if table is None else table.to_dict("records")


def cohort(rows: Iterable[Row]) -> dict[str, Any]:
    """Return who is in the study, one line per group."""
    columns: list[Column] = [
        ("Dataset", "long", lambda r: text(r.get("dataset"))),
        ("Group", "w", lambda r: text(r.get("group"))),
        ("n", "n", lambda r: count(r.get("n"))),
        ("with age", "n", lambda r: count(r.get("n_with_age"))),
        ("Age, mean ± SD (years)", "n", lambda r: plus_minus(r.get("age_mean"), r.get("age_sd"))),
        ("Age range (years)", "n", lambda r: interval(r.get("age_min"), r.get("age_max"), 1)),
        ("Women", "n", lambda r: count(r.get("n_female"))),
        ("Men", "n", lambda r: count(r.get("n_male"))),
        ("Sex not stated", "n", lambda r: count(r.get("n_sex_unknown"))),
        ("Note", "note", note),
    ]
    return _table("The cohort, by group as written in the data", columns, list(rows))


def accuracy(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the accuracy of every model in every subset; R2 of age bins is grey (low there by construction)."""
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Subset", "long", lambda r: words.subset_name(r.get("subset"))),
        ("n", "n", lambda r: count(r.get("n"))),
        ("MAE [95 % CI] (years)", "n", lambda r: estimate(r, "mae", "mae_ci_lo", "mae_ci_hi")),
        ("MAE of the null model", "n", lambda r: decimals(r.get("mae_null"))),
        ("RMSE", "n", lambda r: decimals(r.get("rmse"))),
        ("R²", "n", lambda r: decimals(r.get("r2"))),
        ("Pearson r", "n", lambda r: decimals(r.get("pearson_r"))),
        ("Mean gap [95 % CI] (years)", "n", lambda r: estimate(r, "bag_mean", "bag_ci_lo", "bag_ci_hi", sign=True)),
        ("SD of the gap", "n", lambda r: decimals(r.get("bag_sd"))),
        ("p of mean gap = 0", "n", lambda r: p_value(r.get("bag_p"))),
        ("Slope of the gap on age", "n", lambda r: decimals(r.get("agebias_slope"), 3, sign=True)),
        ("Note", "note", note),
    ]
    kept = list(rows)
    built = _table("Accuracy of the uncorrected predictions; patients are shown for information", columns, kept)
    place = [column[0] for column in columns].index("R²")
    for row, cells in zip(kept, built["rows"], strict=True):
        if words.family_of(row.get("subset")) == "age":
            cells[place]["style"] = "grey"
    return built


def comparison(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the paired comparisons of models."""
    columns: list[Column] = [
        ("Model A", "w", lambda r: text(r.get("model_a"))),
        ("Model B", "w", lambda r: text(r.get("model_b"))),
        ("Subset", "w", lambda r: words.subset_name(r.get("subset"))),
        ("n", "n", lambda r: count(r.get("n"))),
        ("MAE of A − B [95 % CI] (years)", "n", lambda r: estimate(r, "mae_diff", "ci_lo", "ci_hi", sign=True)),
        ("dz", "n", lambda r: decimals(r.get("dz"), sign=True)),
        ("t (df)", "n", lambda r: t_of(r)),
        ("p", "n", lambda r: p_value(r.get("p"))),
        ("Wilcoxon p", "n", lambda r: p_value(r.get("wilcoxon_p"))),
        ("Bootstrap", "note", _bootstrap),
        ("Note", "note", note),
    ]
    return _table("Paired comparison of absolute errors; below zero means that model A errs less", columns, list(rows))


def correlations(rows: Iterable[Row], caption: str) -> dict[str, Any]:
    """Return correlations of the gap with scores."""
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Group", "w", lambda r: text(r.get("group"))),
        ("Score", "w", lambda r: words.score_name(text(r.get("score")))),
        ("Gap tested", "long", lambda r: words.variant_name(r.get("variant"))),
        ("Statistic", "w", lambda r: words.statistic_name(text(r.get("statistic")))),
        ("n (missing)", "n", lambda r: f"{count(r.get('n'))} ({count(r.get('n_missing'))})"),
        ("Estimate [95 % CI]", "n", lambda r: estimate(r, "estimate", "ci_lo", "ci_hi", sign=True)),
        ("p", "n", lambda r: p_value(r.get("p"))),
        ("q (FDR)", "n", lambda r: p_value(r.get("q_fdr"))),
        ("Bootstrap", "note", _bootstrap),
        ("Note", "note", note),
    ]
    return _table(caption, columns, list(rows))


def correlation_comparison(rows: Iterable[Row]) -> dict[str, Any]:
    """Return which of two models' gaps goes more with a score."""
    columns: list[Column] = [
        ("Group", "w", lambda r: text(r.get("group"))),
        ("Score", "w", lambda r: words.score_name(text(r.get("score")))),
        ("Gap tested", "long", lambda r: words.variant_name(r.get("variant"))),
        ("Model A", "w", lambda r: text(r.get("model_a"))),
        ("Model B", "w", lambda r: text(r.get("model_b"))),
        ("n (missing)", "n", lambda r: f"{count(r.get('n'))} ({count(r.get('n_missing'))})"),
        ("r of A", "n", lambda r: decimals(r.get("r_a"), sign=True)),
        ("r of B", "n", lambda r: decimals(r.get("r_b"), sign=True)),
        ("r between A and B", "n", lambda r: decimals(r.get("r_between"), sign=True)),
        ("t (df)", "n", t_of),
        ("p", "n", lambda r: p_value(r.get("p"))),
        ("Note", "note", note),
    ]
    return _table("Does a score go with one model more than with the other? Williams' test", columns, list(rows))


def interval_names(row: Row, name: str = "ci") -> tuple[str, str]:
    """Return the columns of the interval to show: the one that counts the age-bias line's error, where there is one."""
    known = number(row.get(f"line_{name}_lo")) is not None
    return (f"line_{name}_lo", f"line_{name}_hi") if known else (f"{name}_lo", f"{name}_hi")


def group_differences(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the differences between patients and controls."""
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Comparison", "w", lambda r: f"{text(r.get('case'))} − {text(r.get('control'))}"),
        ("Gap tested", "long", lambda r: words.variant_name(r.get("variant"))),
        ("n", "n", lambda r: f"{count(r.get('n_case'))} / {count(r.get('n_control'))}"),
        ("Difference [95 % CI] (years)", "n", lambda r: estimate(r, "mean_diff", *interval_names(r), sign=True)),
        ("Hedges g [95 % CI]", "n", lambda r: estimate(r, "hedges_g", *interval_names(r, "g_ci"), sign=True)),
        ("t (df)", "n", lambda r: t_of(r)),
        ("p", "n", lambda r: p_value(r.get("p"))),
        ("q (FDR)", "n", lambda r: p_value(r.get("q_fdr"))),
        ("Checks", "note", _checks),
        ("Note", "note", note),
    ]
    return _table("Brain age gap of patients minus controls", columns, list(rows))


def roc(rows: Iterable[Row]) -> dict[str, Any]:
    """Return how well the gap separates patients from controls."""
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Comparison", "w", lambda r: f"{text(r.get('case'))} against {text(r.get('control'))}"),
        ("Gap", "long", lambda r: words.variant_name(r.get("variant"))),
        ("n", "n", lambda r: f"{count(r.get('n_case'))} / {count(r.get('n_control'))}"),
        ("AUC [95 % CI]", "n", lambda r: estimate(r, "auc", *interval_names(r))),
        ("Note", "note", note),
    ]
    return _table("Area under the ROC curve (0.5: no separation, 1: complete separation)", columns, list(rows))


def calibration(rows: Iterable[Row]) -> dict[str, Any]:
    """Return how many controls the conformal intervals hold."""
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Promised", "n", lambda r: f"{r['level']:.0f} %"),
        ("Half width (years)", "n", lambda r: decimals(r.get("half_width"))),
        ("Calibration people", "n", lambda r: count(r.get("n_calibration"))),
        ("Controls held", "n", lambda r: f"{count(r.get('covered'))} of {count(r.get('n_controls'))}"),
        ("Share [95 % CI]", "n", lambda r: estimate(r, "coverage", "wilson_lo", "wilson_hi")),
        ("Note", "note", note),
    ]
    return _table("Do the intervals keep their promise in this study's controls?", columns, list(rows))


def bias(lines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the age-bias lines that were removed."""
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Source", "long", lambda r: text(r.get("source")).replace("_", " ")),
        ("Method", "long", lambda r: text(r.get("method")).replace("_", " ")),
        ("n", "n", lambda r: count(r.get("n"))),
        ("Ages (years)", "n", lambda r: interval(r.get("age_min"), r.get("age_max"), 1)),
        ("Slope of predicted age on age ± SE", "n", lambda r: plus_minus(r.get("slope"), r.get("slope_se"), 3)),
        ("Intercept (years)", "n", lambda r: decimals(r.get("intercept"), sign=True)),
        ("Residual SD (years)", "n", lambda r: decimals(r.get("residual_sd"))),
        ("Warnings", "note", lambda r: _joined(r.get("warnings"))),
    ]
    rows = [{"model": model, **line} for model, line in lines.items()]
    return _table("Age-bias lines", columns, rows)


def failures(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the scans that failed."""
    columns: list[Column] = [
        ("Dataset", "long", lambda r: text(r.get("dataset"))),
        ("Participant", "w", lambda r: text(r.get("participant_id"))),
        ("Session", "w", lambda r: text(r.get("session_id"))),
        ("Step", "w", lambda r: text(r.get("step"))),
        ("Reason", "long", lambda r: text(r.get("reason"))),
    ]
    return _table("Scans that failed", columns, list(rows))


def plain(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> dict[str, Any]:
    """Return any other table from its columns ``(title, kind, row -> text)``."""
    return _table(caption, list(columns), list(rows))


def is_primary(row: Row) -> bool:
    """Return whether a correlation belongs to the primary tests: it has a q value, or a family but no result."""
    if number(row.get("q_fdr")) is not None:
        return True
    return text(row.get("family")) == "scores" and number(row.get("p")) is None


def primary_statistic(correlations: pd.DataFrame | None, score: str) -> str | None:
    """Return the statistic of the primary tests of a score, None where there is no such test."""
    primary = (row for row in rows_of(correlations) if text(row.get("score")) == score and is_primary(row))
    return next((text(row.get("statistic")) for row in primary), None)


def _table(caption: str, columns: list[Column], rows: list[Row]) -> dict[str, Any]:
    cells = [[{"text": make(row), "style": ""} for _, _, make in columns] for row in rows]
    # A column that says nothing anywhere (no notes, no warnings) only takes room.
    blank = {NOT_AVAILABLE, ""}
    used = [
        i
        for i, (_, kind, _) in enumerate(columns)
        if kind != "note" and (kind != "long" or any(row[i]["text"] not in blank for row in cells))
    ]
    noted = [i for i, (_, kind, _) in enumerate(columns) if kind == "note"]
    notes = ["; ".join(row[i]["text"] for i in noted if row[i]["text"] not in blank) for row in cells]
    return {
        "caption": caption,
        "columns": [{"title": columns[i][0], "kind": columns[i][1]} for i in used],
        "rows": [[row[i] for i in used] for row in cells],
        "notes": notes,  # one line below each row; a column of its own would push the numbers off the page
    }


def estimate(row: Row, name: str, low: str, high: str, sign: bool = False, places: int = 2) -> str:
    """Return an estimate with its interval: ``1.20 [0.40 to 2.00]``."""
    value = decimals(row.get(name), places, sign)
    ends = interval(row.get(low), row.get(high), places, sign)
    return value if NOT_AVAILABLE in (value, ends) else f"{value} [{ends}]"


def plus_minus(value: Any, spread: Any, places: int = 2, sign: bool = False) -> str:
    """Return ``1.20 ± 0.40``; without a spread the value alone."""
    shown, width = decimals(value, places, sign), decimals(spread, places)
    return shown if NOT_AVAILABLE in (shown, width) else f"{shown} ± {width}"


def t_of(row: Row) -> str:
    """Return a t value with its degrees of freedom: ``2.26 (58.3)``."""
    t, df = decimals(row.get("t")), number(row.get("df"))
    return t if t == NOT_AVAILABLE or df is None else f"{t} ({df:.0f})" if df == round(df) else f"{t} ({df:.1f})"


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _checks(row: Row) -> str:
    """Return what stands beside the test of a group difference: robust, rank and interaction p."""
    named = (("p_hc3", "HC3 p"), ("p_interaction", "case × age p"), ("mannwhitney_p", "Mann-Whitney p"))
    shown = {title: p_value(row.get(name)) for name, title in named}
    return "; ".join(f"{title} {_equals(p)}" for title, p in shown.items() if p != NOT_AVAILABLE)


def _bootstrap(row: Row) -> str:
    ends = interval(row.get("bca_ci_lo"), row.get("bca_ci_hi"), sign=True)
    return "" if ends == NOT_AVAILABLE else f"bootstrap 95 % CI {ends}"


def note(row: Row) -> str:
    """Return the status in words and the note of a row."""
    status = text(row.get("status"))
    parts = [words.STATUSES.get(status, status) if status != NOT_AVAILABLE else "", text(row.get("note"))]
    return "; ".join(part for part in parts if part and part != NOT_AVAILABLE)


def _joined(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "; ".join(text(item) for item in value)
    return text(value)


def in_words(row: Row | None, n: int) -> str:
    """Return a correlation in words: ``n = 28, r = 0.63 [0.34 to 0.81], p <0.001``; only n when there is no row."""
    if row is None or number(row.get("estimate")) is None:
        return f"n = {n}"
    symbol = {"pearson": "r", "spearman": "ρ", "kendall": "τ-b"}.get(text(row.get("statistic")), "estimate")
    ends = interval(row.get("ci_lo"), row.get("ci_hi"))
    shown = f"n = {count(row.get('n'))}, {symbol} = {decimals(row.get('estimate'))}"
    shown += f" [{ends}]" if ends != NOT_AVAILABLE else ""
    p = p_value(row.get("p"))
    return shown + (f", p {_equals(p)}" if p != NOT_AVAILABLE else "")
