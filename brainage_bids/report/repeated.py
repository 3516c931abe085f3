"""What the group page says of people scanned more than once, and of sites: tables in words, one figure a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainage_bids.bids.outputs import model_label
from brainage_bids.report import figures
from brainage_bids.report.groupdata import UNSTATED, GroupPage, column, group_order
from brainage_bids.report.html import count, decimals, interval, p_value, text
from brainage_bids.report.tables import Column, Row, estimate, note, plain, rows_of, t_of

DRAWN = 200  # people a panel
_RATES = {"rate": "brain years a year", "bag_rate": "change of the gap a year"}


def repeated_tables(page: GroupPage) -> dict[str, Any]:
    """Return the tables ``rates mixed reliability site``; None where there is nothing to say."""
    rows = page.rows("longitudinal")
    rates = [row for row in rows if row["analysis"] in _RATES]
    mixed = [row for row in rows if row["analysis"] not in _RATES]
    return {
        "rates": _rates(rates) if rates else None,
        "mixed": _mixed(mixed) if mixed else None,
        "reliability": _reliability(page.rows("reliability")) if page.rows("reliability") else None,
        "site": _site(page.rows("site")) if page.rows("site") else None,
    }


def _difference(term: str, group: str) -> str:
    """Return ``PD-denovo-NC`` of the group ``PD-denovo`` as a difference."""
    return f"{group} − {term.removeprefix(group + '-')}" if term.startswith(group + "-") else term


def _rates(rows: list[Row]) -> dict[str, Any]:
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("What", "w", lambda r: _RATES[r["analysis"]]),
        (
            "Who",
            "w",
            lambda r: text(r["group"]) if r["term"] == "mean" else _difference(text(r["term"]), text(r["group"])),
        ),
        ("People (scans)", "n", lambda r: f"{count(r.get('n'))} ({count(r.get('n_scans'))})"),
        ("Mean [95 % CI]", "n", lambda r: estimate(r, "estimate", "ci_lo", "ci_hi", sign=r["analysis"] != "rate")),
        ("SD", "n", lambda r: decimals(r.get("sd"))),
        ("t (df)", "n", t_of),
        ("p", "n", lambda r: p_value(r.get("p"))),
        ("Note", "note", note),
    ]
    return plain(
        "Rate of each person (slope of predicted on true age), averaged; 1 brain year a year is usual", columns, rows
    )


def _mixed(rows: list[Row]) -> dict[str, Any]:
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Adjusted for", "w", lambda r: _adjusted(text(r["analysis"]))),
        ("Term", "w", lambda r: text(r["term"]).replace(":", " × ").replace("var_", "variance: ")),
        ("People (scans)", "n", lambda r: f"{count(r.get('n'))} ({count(r.get('n_scans'))})"),
        ("Estimate [95 % CI]", "n", lambda r: estimate(r, "estimate", "ci_lo", "ci_hi", sign=True)),
        ("p (Wald)", "n", lambda r: p_value(r.get("p"))),
        ("Note", "note", note),
    ]
    said: set[tuple] = set()  # what holds for the whole fit is said once
    shown = []
    for row in rows:
        parts = [(row["model"], row["analysis"], part) for part in str(row["note"] or "").split("; ")]
        shown.append({**row, "note": "; ".join(part for *fit, part in parts if (*fit, part) not in said)})
        said.update(parts)
    return plain(
        "Mixed model: gap (years) on time (years) and group, random intercept per person (REML)", columns, shown
    )


def _adjusted(analysis: str) -> str:
    return analysis.partition(":")[2].replace("age_bl", "age at the first scan").replace("+", " + ") or "–"


def _reliability(rows: list[Row]) -> dict[str, Any]:
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Measure", "w", lambda r: {"bag": "gap", "predicted_age": "predicted age"}[r["measure"]]),
        ("People", "n", lambda r: count(r.get("n"))),
        ("ICC(2,1) [95 % CI]", "n", lambda r: estimate(r, "icc21", "icc21_ci_lo", "icc21_ci_hi", places=3)),
        ("ICC(3,1) [95 % CI]", "n", lambda r: estimate(r, "icc31", "icc31_ci_lo", "icc31_ci_hi", places=3)),
        ("Within-person SD (years)", "n", lambda r: decimals(r.get("wsd"))),
        ("Repeatability (years)", "n", lambda r: decimals(r.get("rc"))),
        ("Second − first (years)", "n", lambda r: decimals(r.get("ba_bias"), sign=True)),
        ("95 % limits of agreement", "n", lambda r: interval(r.get("ba_loa_lo"), r.get("ba_loa_hi"), sign=True)),
        ("Note", "note", note),
    ]
    return plain("Two scans of the same person, one session or at most 90 days apart", columns, rows)


def _site(rows: list[Row]) -> dict[str, Any]:
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Between", "w", lambda r: f"{text(r['effect'])}s" if r.get("effect") else "sites"),
        ("Controls", "n", lambda r: count(r.get("n"))),
        ("Number", "n", lambda r: count(r.get("n_sites"))),
        ("F", "n", lambda r: decimals(r.get("f"))),
        ("df", "n", lambda r: f"{count(r.get('df_num'))}, {count(r.get('df_den'))}"),
        ("p", "n", lambda r: p_value(r.get("p"))),
        ("Note", "note", note),
    ]
    return plain("Do the sites differ in the gap of healthy people? F test, age and sex held", columns, rows)


def trajectories(page: GroupPage, album) -> list[dict]:
    """Draw the gap of people with two sessions or more against the years since their first, one figure a model."""
    if page.sessions is None or not len(page.sessions) or not page.rows("longitudinal"):
        return []
    rows = page.sessions.assign(age=column(page.sessions, "age"))
    rows["group"] = [UNSTATED if text(cell) == "n/a" else text(cell) for cell in rows["group"]]
    rows = rows.sort_values(["participant_id", "age"], kind="stable")
    first = rows.drop_duplicates("participant_id").set_index("participant_id")
    rows = rows.assign(
        time=rows["age"] - rows["participant_id"].map(first["age"]), group=rows["participant_id"].map(first["group"])
    )
    rows = rows[rows.groupby("participant_id")["time"].transform("max") > 0]
    return [shown for model in page.models for shown in _trajectories(page, rows, model, album)]


def _trajectories(page: GroupPage, rows, model: str, album) -> list[dict]:
    panels, left = [], 0
    for group in group_order(rows, page.controls):
        part = rows[rows["group"] == group]
        begins = np.flatnonzero(~part["participant_id"].duplicated().to_numpy())[1:]  # the rows are sorted by person
        times, gaps = part["time"].to_numpy(), column(part, f"bag_{model}")
        pairs = zip(np.split(times, begins), np.split(gaps, begins), strict=True)
        people = [(time, gap) for time, gap in pairs if len(gap) > 1 and np.isfinite(gap).all()]
        if not people:
            continue
        chosen = np.unique(np.linspace(0, len(people) - 1, min(DRAWN, len(people))).astype(int))
        left += len(people) - len(chosen)
        rate = _rate_of(page, model, group)
        start = float(np.mean([gap[0] for _, gap in people]))
        panels.append(
            {"group": group, "n": len(people), "people": [people[i] for i in chosen], "start": start, "rate": rate}
        )
    if not panels:
        return []
    said = "; ".join(f"{p['group']}: {p['n']} people" for p in panels)
    caption = (
        f"Model {model}: uncorrected gap of each person over the years since the first scan. Black: mean gap at the "
        f"first scan and mean rate. {said}."
    )
    caption += f" {left} people are not drawn, for room." if left else ""
    figure = figures.trajectories(panels, "brain age gap, uncorrected (years)")
    alt = f"Gap over time, model {model}. {said}"
    return [album.add(f"trajectories-{model_label(model)}", figure, caption, alt, narrow=len(panels) == 1)]


def _rate_of(page: GroupPage, model: str, group: str) -> float | None:
    for row in page.rows("longitudinal"):
        if (row["model"], row["analysis"], row["group"], row["term"]) == (model, "bag_rate", group, "mean"):
            return row["estimate"]
    return None
