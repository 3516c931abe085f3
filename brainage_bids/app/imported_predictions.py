"""Predictions made elsewhere: match them to scans, and check that they can be ages of these people.

A row is matched by participant, by session, and by the entities of the scan that it names (run, acq). Reads no file.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainage_bids.app.results import refuse_same_columns
from brainage_bids.app.types import GAP_COLUMNS, Results
from brainage_bids.bids.faults import some
from brainage_bids.bids.ids import how_ids_differ
from brainage_bids.bids.sessions import session_key, unpadded
from brainage_bids.errors import BadDataError, UsageError

LOG = logging.getLogger("brainage_bids")

STUCK = "saturated"  # flag of predictions that are all the same
FAR = "age_gap_implausible"  # flag of a prediction that is FAR_YEARS or more from the age
FAR_YEARS = 40.0  # a scan this far from its age is flagged; a table where most scans are is refused
UNITS = {"months": 12.0, "weeks": 365.25 / 7, "days": 365.25}  # per year; a table in one of these units is refused
UNIT_SHARE = 0.25  # relative tolerance of the ratio of predicted value to age, to recognise a unit
UNIT_YEARS = 2.0  # if predicted and true age differ by less than this, the ratio tells nothing
GAP_AGE = 5.0  # years; in younger people a gap looks like an age
MANY = 5  # scans; fewer are not enough for a correlation
FOLLOWS = 0.5  # correlation with age below which small values are gaps, not ages on another scale
LOOSE, LOOSE_MANY, LOOSE_SD = 0.2, 20, 5.0  # r, scans, SD of age (years): predictions that do not follow age
SHIFTED = 0.7  # a correlation this high with the age of the neighbouring row means that the ids were moved by a row


@dataclass(frozen=True)
class _Row:
    session: str | None
    entities: frozenset[tuple[str, str]]
    age: float
    shown: str


def add_external(results: Results, predictions: Mapping[str, pd.DataFrame]) -> Results:
    """Add predictions made elsewhere, matched by participant, session and entities.

    Raises
    ------
    UsageError, BadDataError
        When a model of that name exists already; when two rows match a scan equally well.
    """
    scans, models, gaps = results.scans, list(results.models), [results.gaps]
    people = {*scans["participant_id"], *results.failed["participant_id"]}
    for name, external in predictions.items():
        if name in models:
            raise UsageError(f"--predictions {name}: there is a model of that name already; choose another name")
        refuse_same_columns([*models, name])
        models.append(name)
        ages = pd.Series(_matched(scans, external, people, name), index=scans.index, dtype="float64").dropna()
        rows = pd.DataFrame({"prefix": ages.index, "model": name, "predicted_age": ages.to_numpy()})
        rows["bag"] = rows["predicted_age"] - scans.loc[ages.index, "age"].to_numpy()
        rows["flags"] = _flags(rows, scans.loc[ages.index, "age_flags"], name)
        gaps.append(rows.reindex(columns=list(GAP_COLUMNS)).astype(GAP_COLUMNS))
    joined = pd.concat([part for part in gaps if len(part)] or [results.gaps], ignore_index=True)
    return dataclasses.replace(results, gaps=joined, models=tuple(models))


def _matched(table: pd.DataFrame, external: pd.DataFrame, people: Iterable[str], name: str) -> list[float]:
    """Return the predicted age of every scan of the table (NaN without one); warn about rows that match no scan."""
    rows = _by_person(external)
    sessions = table.groupby("participant_id")["session_id"].nunique(dropna=False)
    ages, unclear, used = [], set(), set()
    for scan in table.itertuples():
        session, entities = _spelling(scan.session_id), _entities(scan.run)
        of_scan = [
            row for row in rows.get(scan.participant_id, ())
            if row.session in (None, session) and row.entities <= entities
        ]  # fmt: skip
        used |= set(map(id, of_scan))
        if of_scan and all(row.session is None for row in of_scan) and sessions[scan.participant_id] > 1:
            unclear.add(scan.participant_id)  # the same prediction in all sessions would mean that nobody ages
            of_scan = []
        ages.append(_best(of_scan, name))
    if unclear:
        LOG.warning(
            "--predictions %s: %d participants have several sessions and a prediction without one, which is not "
            "used (%s); add a column session_id",
            name, len(unclear), some(sorted(unclear)),
        )  # fmt: skip
    lost = sorted(row.shown for rows_of_person in rows.values() for row in rows_of_person if id(row) not in used)
    if lost:
        how = how_ids_differ(rows, people)
        LOG.warning(
            "--predictions %s: %d rows belong to no scan of the study (%s)%s",
            name, len(lost), some(lost), f"; {how}" if how else "",
        )  # fmt: skip
    return ages


def _by_person(external: pd.DataFrame) -> dict[str, list[_Row]]:
    runs = external["run"] if "run" in external else [None] * len(external)
    by_person: dict[str, list[_Row]] = {}
    for person, session, run, age in zip(
        external["participant_id"], external["session_id"], runs, external["predicted_age"], strict=True
    ):
        shown = " ".join(part for part in (person, session, run) if isinstance(part, str))
        by_person.setdefault(person, []).append(_Row(_spelling(session), _entities(run), age, shown))
    return by_person


def _best(rows: Sequence[_Row], name: str) -> float:
    """Return the age (years) of the row that names session and entities most fully; NaN without rows."""
    if not rows:
        return float("nan")
    most = max(_detail(row) for row in rows)
    best = [row for row in rows if _detail(row) == most]
    if len({None if np.isnan(row.age) else row.age for row in best}) > 1:
        raise BadDataError(
            f"--predictions {name}: {some(row.shown for row in best)} are rows of one scan; keep one row per scan"
        )
    return best[0].age


def _detail(row: _Row) -> tuple[bool, int]:
    return row.session is not None, len(row.entities)


def _spelling(session: str | None) -> str | None:
    """Return a common form for all spellings of a session (``ses-01``, ``1``); None without a session."""
    return session_key(session) if isinstance(session, str) else None


def _entities(run: str | None) -> frozenset[tuple[str, str]]:
    """Return a common form for all spellings of a scan's entities (``run-01``, ``run-1``)."""
    pairs = (part.partition("-") for part in run.split("_")) if isinstance(run, str) else ()
    return frozenset((key, unpadded(value)) for key, _, value in pairs)


def _flags(rows: pd.DataFrame, age_flags: pd.Series, name: str) -> list[str]:
    """Return the flags of every prediction, in the same form as those of our own models."""
    far = (rows["bag"].abs() >= FAR_YEARS).to_numpy()
    stuck = len(rows) >= MANY and rows["predicted_age"].nunique() == 1
    if stuck:
        LOG.warning(
            "--predictions %s: all %d scans have the predicted age %g; that program did not read these images",
            name, len(rows), rows["predicted_age"].iloc[0],
        )  # fmt: skip
    if far.any():
        LOG.warning(
            "--predictions %s: %d scans are %g years or more from their age (%s); look at their ids and units",
            name, far.sum(), FAR_YEARS, some(rows["prefix"][far]),
        )  # fmt: skip
    return [
        ";".join(filter(None, [flags if isinstance(flags, str) else "", STUCK if stuck else "", FAR if is_far else ""]))
        or "n/a"
        for flags, is_far in zip(age_flags, far, strict=True)
    ]


# --- can they be ages of these people -------------------------------------------------------------------------------


def refuse_strangers(external: Mapping[str, pd.DataFrame], results: Results, people: Iterable[str]) -> None:
    """Raise when no row of a table of predictions matches a scan of the study; the message shows how the ids differ.

    Parameters
    ----------
    external
        Predictions made elsewhere, by name.
    results
        Results of all datasets.
    people
        Participant labels of the study.
    """
    people, predicted = set(people), set(results.gaps["model"])
    for name, given in external.items():
        if name in predicted:
            continue
        ids = list(dict.fromkeys(given["participant_id"]))
        if (given["session_id"].isna() & given["participant_id"].isin(people)).any():
            continue  # the user was warned already: the rows do not say which session
        if not people & set(ids):
            raise BadDataError(f"--predictions {name}: no id matches: {how_ids_differ(ids, people)}")
        scans = sorted(set(results.scans["session_id"].dropna()))
        raise BadDataError(
            f"--predictions {name}: the participants are known, but no row gives an age of one of their scans; the "
            f"file has the sessions {some(sorted(set(given['session_id'].dropna())) or ['none'], 3)}, the study "
            f"{some(scans or ['none'], 3)}"
        )


def refuse_no_ages(external: Iterable[str], results: Results) -> None:
    """Raise when the predictions of a table cannot be ages of these people in years; warn when this is doubtful.

    Only scans with a known age are compared. The thresholds are the constants above.
    """
    for name in external:
        predicted = results.gaps[results.gaps["model"] == name].set_index("prefix")["predicted_age"]
        both = results.scans[["age"]].join(predicted).dropna()  # in the order of the scans
        age, predicted = both.to_numpy().T
        reason = _no_ages(predicted, age) if len(both) else None
        if reason:
            raise BadDataError(
                f"--predictions {name}: {reason}; give predicted ages in years (name their column as "
                f"{name}=FILE:ID_COLUMN:AGE_COLUMN)"
            )
        if _ages_vary(age) and np.ptp(predicted) > 0 and _correlation(predicted, age) < LOOSE:
            LOG.warning(
                "--predictions %s: the predicted ages do not follow the ages (r = %.2f over %d scans); look at the ids",
                name, _correlation(predicted, age), len(both),
            )  # fmt: skip


def _no_ages(predicted: np.ndarray, age: np.ndarray) -> str | None:
    """Return why the predicted values ``(n,)`` cannot be ages (years) of these people; None when they can."""
    middle, years = float(np.median(predicted)), float(np.median(age))
    follows = len(age) < MANY or _correlation(predicted, age) >= FOLLOWS
    medians = f"the middle of its values is {middle:.3g} and that of the ages {years:.3g}"
    if years >= GAP_AGE and predicted.min() >= 0 and predicted.max() <= 1.5:
        return f"its values lie between {predicted.min():.3g} and {predicted.max():.3g}, a scale from 0 to 1"
    if years >= GAP_AGE and abs(middle) < years / 2:
        if predicted.min() < 0:
            return f"its values are gaps or standard scores, not ages ({medians})"
        if not follows:
            return f"its values are gaps, not ages ({medians})"
    if abs(middle - years) > UNIT_YEARS and follows:
        ratio = float(np.median(predicted / np.maximum(age, 1e-6)))
        for unit, number in UNITS.items():
            if abs(ratio / number - 1) < UNIT_SHARE:
                return f"its values are in {unit} ({medians})"
    if abs(np.median(predicted - age)) > FAR_YEARS:
        return f"its values are no ages of these people ({medians})"
    if _is_shifted(predicted, age):
        return "its ages would fit if each belonged to the scan before or after: ids or ages were moved by a row"
    return None


def _is_shifted(predicted: np.ndarray, age: np.ndarray) -> bool:
    if not _ages_vary(age) or _correlation(predicted, age) >= FOLLOWS:
        return False
    return max(_correlation(predicted[1:], age[:-1]), _correlation(predicted[:-1], age[1:])) >= SHIFTED


def _ages_vary(age: np.ndarray) -> bool:
    """Return whether there are enough people, of different enough ages, for a useful correlation."""
    return len(age) >= LOOSE_MANY and age.std() >= LOOSE_SD


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's r of two columns ``(n,)``; 0 if one is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
