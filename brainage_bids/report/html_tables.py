"""Format the result tables for pages: round numbers, and write codes in words.

A table is a dict with ``caption``, ``columns`` (``title``, ``kind``: ``n`` number, ``w`` no wrap, ``long`` text) and
``rows`` of cells (``text``, ``style``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from brainage_bids.report import readable_names
from brainage_bids.report.html import NOT_AVAILABLE, count, decimals, interval, number, p_value, text
from brainage_bids.table_declaration import Page, Shown

Row = Mapping[str, Any]
Column = tuple[str, str, Callable[[Row], str]]
RATES = {"rate": "brain years a year", "bag_rate": "change of the gap a year"}  # analyses of longitudinal.tsv


def rows_of(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts; None and an empty table give an empty list."""
    return [] if table is None else table.to_dict("records")


def interval_names(row: Row, name: str = "ci") -> tuple[str, str]:
    """Return the columns of the interval to show: the one that includes the error of the age-bias line, if present."""
    known = number(row.get(f"line_{name}_lo")) is not None
    return (f"line_{name}_lo", f"line_{name}_hi") if known else (f"{name}_lo", f"{name}_hi")


def declared(page: Page, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return a table as it is declared (`brainage_bids.result_tables`); None without rows."""
    if not rows:
        return None
    columns: list[Column] = [(shown.title, shown.kind, _writer(shown)) for shown in page.columns]
    built = plain(page.caption, columns, rows)
    titles = [column["title"] for column in built["columns"]]
    for shown in page.columns:
        if shown.grey_in and shown.title in titles:
            for row, cells in zip(rows, built["rows"], strict=True):
                if readable_names.family_of(row.get("subset")) == shown.grey_in:
                    cells[titles.index(shown.title)]["style"] = "grey"
    return built


def _writer(shown: Shown) -> Callable[[Row], str]:
    form, *names = shown.form.split()
    return lambda row: FORMS[form](row, names, shown)


def _counts(between: str, end: str = "") -> Callable:
    return lambda row, names, _: between.join(count(row.get(name)) for name in names) + end


def _texts(between: str) -> Callable:
    return lambda row, names, _: between.join(text(row.get(name)) for name in names)


def _worded(to_words: Callable[[Any], str]) -> Callable:
    return lambda row, names, _: to_words(row.get(names[0]))


def _rate_of(row: Row, names: Sequence[str], _: Shown) -> str:
    """Return the group of a rate, or for a difference ``PD − NC`` (term ``PD-NC`` of the group PD)."""
    term, group = (text(row[name]) for name in names)
    if term == "mean":
        return group
    return f"{group} − {term.removeprefix(group + '-')}" if term.startswith(group + "-") else term


def _adjusted(analysis: Any) -> str:
    held = text(analysis).partition(":")[2]
    return held.replace("age_bl", "age at the first scan").replace("+", " + ") or "–"


# Format -> function that makes the text of a cell from the row, the names of its columns, and the declaration.
FORMS: dict[str, Callable[[Row, Sequence[str], Shown], str]] = {
    "text": _texts(""),
    "minus": _texts(" − "),
    "against": _texts(" against "),
    "count": _counts(""),
    "missing": _counts(" (", ")"),
    "pair": _counts(" / "),
    "of": _counts(" of "),
    "counts": _counts(", "),
    "decimals": lambda row, names, shown: decimals(row.get(names[0]), shown.places, shown.sign),
    "percent": lambda row, names, _: f"{row[names[0]]:.0f} %",
    "p": _worded(p_value),
    "t": lambda row, *_: t_of(row),
    "plus_minus": lambda row, names, shown: plus_minus(*map(row.get, names), shown.places, shown.sign),
    "interval": lambda row, names, shown: interval(*map(row.get, names), shown.places, shown.sign),
    "estimate": lambda row, names, shown: estimate(row, *names, sign=shown.sign, places=shown.places),
    "line_estimate": lambda row, names, shown: estimate(row, names[0], *interval_names(row, names[1]), sign=shown.sign),
    "subset": _worded(readable_names.subset_name),
    "place": _worded(readable_names.place_name),
    "variant": _worded(readable_names.variant_name),
    "score": _worded(lambda name: readable_names.score_name(text(name))),
    "statistic": _worded(lambda name: readable_names.statistic_name(text(name))),
    "plural": _worded(lambda name: f"{text(name)}s" if name else "sites"),
    "measure": _worded({"bag": "gap", "predicted_age": "predicted age"}.__getitem__),
    "rate": _worded(RATES.__getitem__),
    "rate_of": _rate_of,
    "rate_estimate": lambda row, names, _: estimate(row, *names, sign=row["analysis"] != "rate"),
    "adjusted": _worded(_adjusted),
    "term": _worded(lambda term: text(term).replace(":", " × ").replace("var_", "variance: ")),
    "note": lambda row, *_: note(row),
    "checks": lambda row, *_: _checks(row),
    "bootstrap": lambda row, *_: _bootstrap(row),
}


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
    return plain("Age-bias lines", columns, rows)


def is_primary(row: Row) -> bool:
    """Return whether a correlation belongs to the primary tests: it has a q value, or a family but no result."""
    if number(row.get("q_fdr")) is not None:
        return True
    return text(row.get("family")) == "scores" and number(row.get("p")) is None


def primary_statistic(correlations: Iterable[Row], score: str) -> str | None:
    """Return the statistic of the primary tests of a score, or None without such a test."""
    primary = (row for row in correlations if text(row.get("score")) == score and is_primary(row))
    return next((text(row.get("statistic")) for row in primary), None)


def plain(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a table from its columns ``(title, kind, row -> text)``; notes go below the rows."""
    cells = [[{"text": make(row), "style": ""} for _, _, make in columns] for row in rows]
    # Empty columns (no notes, no warnings) are not shown.
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
        "notes": notes,  # one line below each row; as a column they would push the numbers off the page
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
    """Return the p values that check a group difference: robust (HC3), interaction with age, and Mann-Whitney."""
    named = (("p_hc3", "HC3 p"), ("p_interaction", "case × age p"), ("mannwhitney_p", "Mann-Whitney p"))
    shown = {title: p_value(row.get(name)) for name, title in named}
    return "; ".join(f"{title} {_equals(p)}" for title, p in shown.items() if p != NOT_AVAILABLE)


def _bootstrap(row: Row) -> str:
    ends = interval(row.get("bca_ci_lo"), row.get("bca_ci_hi"), sign=True)
    return "" if ends == NOT_AVAILABLE else f"bootstrap 95 % CI {ends}"


def note(row: Row) -> str:
    """Return the status in words and the note of a row."""
    status = text(row.get("status"))
    parts = [readable_names.STATUSES.get(status, status) if status != NOT_AVAILABLE else "", text(row.get("note"))]
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
