"""Compare the error within and across sites: of people whose site a model knew, and of the same people without it.

Across: the member that predicts a person was trained without the person's site (or other place). Within: it was trained
without the person, but with others of the site. Only people who were held out enter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainage_bids.result_tables import SITEERROR
from brainage_bids.schema import DEFAULT_SEED
from brainage_bids.stats.accuracy import accuracy_of, compare_errors, one_sample_t
from brainage_bids.stats.columns import ALL, control_label, frame, is_member, joined, levels, number, text

ACROSS, WITHIN = "across", "within"
_MEASURES = "n n_missing mae mae_ci_lo mae_ci_hi bag_mean bag_ci_lo bag_ci_hi pearson_r status".split()
ALONE = "no model of the same recipe was trained in folds within sites: there is nothing to compare with"


def site_errors(
    table: pd.DataFrame,
    held_out: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    controls: Sequence[str],
    seed: int = DEFAULT_SEED,
) -> pd.DataFrame:
    """Measure each model that leaves places out, by place, beside the same recipe in folds within places.

    Parameters
    ----------
    table
        Rows selected by ``select_rows``: one per participant.
    held_out
        ``prefix model place n_train train_mean_age`` of every prediction by a member that held the person out.
        ``prefix`` is the index of ``table``; ``place`` is what the member left out (``site=A``), None for members
        within places; ``n_train`` and ``train_mean_age`` (years) are those of the member.
    pairs
        Models that differ in their folds only: (across, within).
    controls
        Labels of the healthy controls; without any in the table everyone enters (see ``note``).
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        `SITEERROR`, rows ``across`` and ``within`` for all places together and for each. Rows ``within`` also hold the
        paired differences: ``mae_diff`` is the error across minus within, ``shift`` the mean of the age predicted
        across minus that within, in the people with both. The table is empty when no model leaves places out.
    """
    group = text(table, "group")
    healthy = is_member(group, controls)
    base = healthy if healthy.any() else np.ones(len(table), dtype=bool)
    who = f"controls only ({control_label(levels(group[healthy]))})" if healthy.any() else "everyone, no controls"
    rows = []
    for across in dict.fromkeys(held_out["model"][held_out["place"].notna()]):
        mine = _aligned(held_out, across, table)
        place = text(mine, "place")
        within = [model for first, model in pairs if first == across]
        for subset in [ALL, *levels(place[base])]:
            member = base & (place.notna().to_numpy() if subset == ALL else is_member(place, [subset]))
            if not member.any():
                continue
            people, left_out = table[member], {across: mine[member]}
            left_out |= {model: _aligned(held_out, model, table)[member] for model in within}
            key = {"left_out_by": across, "subset": subset}
            of_all = [who] * (subset == ALL)
            notes = [*of_all, *_notes(place[member], subset, within)]
            rows.append({**key, "kind": ACROSS, "n_both": 0} | _measured(people, across, left_out[across], notes, seed))
            for model in within:
                row = _measured(people, model, left_out[model], of_all, seed)
                paired = _paired(people, across, model, left_out, seed)
                row["note"] = joined([row["note"], paired.pop("note")])
                rows.append({**key, "kind": WITHIN, **row, **paired})
    return frame(rows, SITEERROR)


def _notes(place: pd.Series, subset: str, within: Sequence[str]) -> list[str]:
    """Return what to know of a row of all places: whom the interval is about, and that nothing is beside it."""
    if subset != ALL:
        return []
    n = len(levels(place))
    return [f"the interval is for people at these {n} places; another one may be farther off"] + [ALONE] * (not within)


def _aligned(held_out: pd.DataFrame, model: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of a model in the order of the table; missing for people whom it did not hold out."""
    mine = held_out[held_out["model"] == model].set_index("prefix")
    return mine[["place", "n_train", "train_mean_age"]].assign(held_out=True).reindex(table.index)


def _predicted(people: pd.DataFrame, model: str, left_out: pd.DataFrame) -> np.ndarray:
    """Return the ages that a model predicts ``(n,)``, years; NaN for people whom it did not hold out."""
    return np.where(left_out["held_out"].notna(), number(people, f"predicted_age_{model}"), np.nan)


def _measured(people: pd.DataFrame, model: str, left_out: pd.DataFrame, notes: Sequence[str], seed: int) -> dict:
    age, predicted = number(people, "age"), _predicted(people, model, left_out)
    found = accuracy_of(age, predicted, seed=seed)
    row = {"model": model} | {name: found[name] for name in _MEASURES if name in found}
    known = np.isfinite(predicted)
    row["trained_on"] = left_out["n_train"][known].mean()
    row["mae_null"] = (left_out["train_mean_age"] - age)[known].abs().mean()
    return row | {"note": joined([*notes, found["note"]])}


def _paired(people: pd.DataFrame, across: str, within: str, left_out: dict[str, pd.DataFrame], seed: int) -> dict:
    """Return the differences across minus within in the people whom both models held out."""
    age = number(people, "age")
    first, second = (_predicted(people, model, left_out[model]) for model in (across, within))
    found = compare_errors(np.abs(first - age), np.abs(second - age), seed)
    shift = one_sample_t(first - second)
    row = {"n_both": found["n"], "mae_diff": found["mae_diff"], "shift": shift["mean"]}
    row |= {"shift_ci_lo": shift["ci_lo"], "shift_ci_hi": shift["ci_hi"]}
    if found["status"] != "ok":
        return row | {"note": found["note"]}
    return row | {"ci_lo": found["ci_lo"], "ci_hi": found["ci_hi"], "p": found["p"], "note": ""}
