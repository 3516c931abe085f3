"""Figures of people who were scanned more than once: the gap over the years, one figure per model."""

from __future__ import annotations

import numpy as np

from brainage_bids.bids.outputs import model_label
from brainage_bids.report import figures
from brainage_bids.report.groupdata import UNSTATED, GroupPage, column, group_order
from brainage_bids.report.html import text

DRAWN = 200  # people per panel, at most


def trajectories(page: GroupPage, album) -> list[dict]:
    """Draw the gap of people with two or more sessions against the years since the first; one figure per model."""
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
    panels, n_not_drawn = [], 0
    for group in group_order(rows, page.controls):
        part = rows[rows["group"] == group]
        begins = np.flatnonzero(~part["participant_id"].duplicated().to_numpy())[1:]  # the rows are sorted by person
        times, gaps = part["time"].to_numpy(), column(part, f"bag_{model}")
        pairs = zip(np.split(times, begins), np.split(gaps, begins), strict=True)
        people = [(time, gap) for time, gap in pairs if len(gap) > 1 and np.isfinite(gap).all()]
        if not people:
            continue
        chosen = np.unique(np.linspace(0, len(people) - 1, min(DRAWN, len(people))).astype(int))
        n_not_drawn += len(people) - len(chosen)
        rate = _rate_of(page, model, group)
        start = float(np.mean([gap[0] for _, gap in people]))
        panels.append(
            {"group": group, "n": len(people), "people": [people[i] for i in chosen], "start": start, "rate": rate}
        )
    if not panels:
        return []
    summary = "; ".join(f"{p['group']}: {p['n']} people" for p in panels)
    caption = (
        f"Model {model}: uncorrected gap of each person over the years since the first scan. Black: mean gap at the "
        f"first scan and mean rate. {summary}."
    )
    caption += f" {n_not_drawn} people are not drawn, for room." if n_not_drawn else ""
    figure = figures.trajectories(panels, "brain age gap, uncorrected (years)")
    alt = f"Gap over time, model {model}. {summary}"
    return [album.add(f"trajectories-{model_label(model)}", figure, caption, alt, narrow=len(panels) == 1)]


def _rate_of(page: GroupPage, model: str, group: str) -> float | None:
    for row in page.rows("longitudinal"):
        if (row["model"], row["analysis"], row["group"], row["term"]) == (model, "bag_rate", group, "mean"):
            return row["estimate"]
    return None
