"""Select the rows for the statistics, and describe the people."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from brainage_bids.bids.choice import preference
from brainage_bids.errors import NothingSelectedError, UsageError
from brainage_bids.result_tables import COHORT
from brainage_bids.schema import DATASET, QC_WARNINGS
from brainage_bids.stats.columns import ALL, frame, is_constant, joined, levels, number, optional_number, text

NO_AGE, QC_FAILED, IN_TRAINING = "no_age", "qc_failed", "in_training"
OTHER_RUN, OTHER_SESSION = "other_run", "other_session"


def select_rows(table: pd.DataFrame, session_select: str = "first") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the rows that may enter a cross-sectional test: one per participant.

    First, rows that failed quality control, have no age or were used in training are removed. Then the best scan of
    each session is kept (`brainage_bids.bids.choice.preference`), then one session. A missing ``qc_pass`` counts as
    passed (predictions made elsewhere have none).

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``; one row per scan. ``qc_warnings``, the number of quality warnings, is used
        if present.
    session_select
        ``first`` or ``last`` (by age, then by label), ``closest:<months>`` (months since the participant's first
        usable session), or a session label with or without ``ses-``.

    Returns
    -------
    tuple of pandas.DataFrame
        The selected rows, and the rows left out with a ``reason`` column; both keep the index and order of ``table``.

    Raises
    ------
    NothingSelectedError
        When ``session_select`` names a session that no row has.
    UsageError
        When the months of ``closest:`` are not a number.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainage_bids import select_rows
    >>> people = {"participant_id": ["sub-1", "sub-1", "sub-2"], "session_id": ["ses-1", "ses-2", None]}
    >>> table = pd.DataFrame(people | {"age": [60.0, 62.5, 71.0], "in_training": [0, 0, 1]})
    >>> kept, left_out = select_rows(table)
    >>> kept["session_id"].tolist(), left_out["participant_id"].tolist()
    (['ses-1'], ['sub-1', 'sub-2'])
    """
    reason = pd.Series([None] * len(table), index=range(len(table)), dtype=object)
    reason[~_flag(table, "qc_pass", missing=True)] = QC_FAILED
    reason[_flag(table, "in_training", missing=False)] = IN_TRAINING
    reason[np.isnan(number(table, "age"))] = NO_AGE

    keys = _sort_keys(table)
    usable = keys[reason.isna().to_numpy()].sort_values(["person", "session", "run"])
    best_run = usable.drop_duplicates(["person", "session"])
    reason[usable.index.difference(best_run.index)] = OTHER_RUN
    chosen = _choose_session(best_run, session_select)
    reason[best_run.index.difference(chosen)] = OTHER_SESSION

    selected = reason.isna().to_numpy()
    return table[selected].copy(), table[~selected].assign(reason=reason[~selected].to_numpy())


def session_choices(selected: pd.DataFrame, left_out: pd.DataFrame) -> list[list[str]]:
    """Return the index of the usable scans of each session with several; the selected scan comes first.

    Parameters
    ----------
    selected, left_out
        The result of :func:`select_rows`.
    """
    taken = pd.concat([selected, left_out[left_out["reason"] == OTHER_SESSION]])
    scans_of: dict[tuple, list[str]] = {}
    for rows in (taken, left_out[left_out["reason"] == OTHER_RUN]):
        for person, session, at in zip(rows["participant_id"], text(rows, "session_id"), rows.index, strict=True):
            scans_of.setdefault((person, session), []).append(at)
    return [scans for scans in scans_of.values() if len(scans) > 1]


def usable(table: pd.DataFrame) -> np.ndarray:
    """Return ``(n,)`` bool: the scan passed quality control, and no model was trained on the person."""
    return _flag(table, "qc_pass", missing=True) & ~_flag(table, "in_training", missing=False)


def every_session(table: pd.DataFrame) -> pd.DataFrame:
    """Return the best scan of every usable session with an age, for longitudinal analyses."""
    keep = usable(table) & ~np.isnan(number(table, "age"))
    keys = _sort_keys(table)[keep].sort_values(["person", "session", "run"])
    return table.iloc[sorted(keys.drop_duplicates(["person", "session"]).index)].copy()


def cohort_table(table: pd.DataFrame) -> pd.DataFrame:
    """Describe the people: one row per group, one for people without a group (``group`` None), and ``all``.

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``; a person with several rows counts once per group (the first row).

    Returns
    -------
    pandas.DataFrame
        `COHORT`; ages in years, SD with n - 1.
    """
    group = text(table, "group")
    rows = [_describe(table[(group == label).to_numpy()], label) for label in levels(group)]
    if group.isna().any() and rows:
        rows.append(_describe(table[group.isna().to_numpy()], None))
    return frame([*rows, _describe(table, ALL)], COHORT)


def cohort_by_dataset(table: pd.DataFrame) -> pd.DataFrame:
    """Describe the people of each dataset, then of all datasets (``dataset`` is ``all``).

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``, with ``dataset``, and a ``participant_id`` that is unique over datasets.

    Returns
    -------
    pandas.DataFrame
        `COHORT` and ``dataset``; the result of ``cohort_table`` if the table has no ``dataset``.
    """
    if DATASET not in table:
        return cohort_table(table)
    names = list(dict.fromkeys(table[DATASET]))
    parts = [cohort_table(table[(table[DATASET] == name).to_numpy()]).assign(dataset=name) for name in names]
    return pd.concat([*parts, cohort_table(table).assign(dataset=ALL)], ignore_index=True)


def natural_key(label: str | None) -> tuple:
    """Return a sort key in which ``run-2`` precedes ``run-10`` and a missing label comes first."""
    parts = re.split(r"(\d+)", label or "")
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _sort_keys(table: pd.DataFrame) -> pd.DataFrame:
    """Return integer keys that sort sessions naturally and scans by preference; indexed by row position."""
    session, run = text(table, "session_id"), text(table, "run")
    session_order = {key: rank for rank, key in enumerate(sorted({natural_key(s) for s in session}))}
    keys = [preference(*scan) for scan in zip(run, optional_number(table, QC_WARNINGS), strict=True)]
    run_order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return pd.DataFrame(
        {
            "person": table["participant_id"].astype(str).to_numpy(),
            "session": [session_order[natural_key(s)] for s in session],
            "label": [None if s is None else str(s).removeprefix("ses-") for s in session],
            "run": [run_order[key] for key in keys],
            "age": number(table, "age"),
        },
        index=range(len(table)),
    )


def _choose_session(rows: pd.DataFrame, select: str) -> pd.Index:
    if select == "first":
        return rows.sort_values(["age", "session"]).drop_duplicates("person").index
    if select == "last":
        return rows.sort_values(["age", "session"]).drop_duplicates("person", keep="last").index
    if select.startswith("closest:"):
        try:
            years = float(select.removeprefix("closest:")) / 12
        except ValueError:
            raise UsageError(f"session selection '{select}' does not give a number of months; try closest:12") from None
        elapsed = rows["age"] - rows.groupby("person")["age"].transform("min")
        distance = rows.assign(distance=(elapsed - years).abs())
        return distance.sort_values(["distance", "session"]).drop_duplicates("person").index
    wanted = select.removeprefix("ses-")
    if len(rows) and wanted not in set(rows["label"].dropna()):
        known = ", ".join(levels(rows["label"])) or "none"
        raise NothingSelectedError(f"no usable scan has session '{select}'; sessions with usable scans: {known}")
    return rows.index[(rows["label"] == wanted).to_numpy()]


def _flag(table: pd.DataFrame, column: str, missing: bool) -> np.ndarray:
    if column not in table.columns:
        return np.full(len(table), missing)
    values = pd.to_numeric(table[column], errors="coerce").astype("float64")
    return np.where(values.isna(), missing, values != 0).astype(bool)


def _describe(rows: pd.DataFrame, label: str | None) -> dict:
    people = rows.drop_duplicates("participant_id")
    age, sex = number(people, "age"), text(people, "sex")
    age = age[~np.isnan(age)]
    female, male = int((sex == "F").sum()), int((sex == "M").sum())
    other = int((sex.notna() & ~sex.isin(["F", "M"])).sum())
    row = {"group": label, "n": len(people), "n_with_age": age.size, "n_female": female, "n_male": male}
    row["n_sex_unknown"] = len(people) - female - male
    notes = [f"{len(rows)} rows, the first of each participant described" if len(rows) > len(people) else ""]
    notes.append(f"{other} of another sex counted in n_sex_unknown" if other else "")
    status = "ok"
    if age.size:
        row |= {"age_mean": age.mean(), "age_min": age.min(), "age_max": age.max()}
    if age.size >= 2:
        row["age_sd"] = 0.0 if is_constant(age) else age.std(ddof=1)
    else:
        status = "insufficient_n"
        notes.append("fewer than 2 ages: no SD")
    return row | {"status": status, "note": joined(notes)}
