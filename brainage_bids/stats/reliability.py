"""Measure how well two scans of the same person, at most 90 days apart, agree in brain age."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.bids.choice import acquisition, preference
from brainage_bids.result_tables import RELIABILITY
from brainage_bids.stats.cohort_tables import natural_key, usable
from brainage_bids.stats.columns import frame, is_constant, number, text

MIN_PAIRS = 5
SHORT = 90 / 365.25  # years
OF_SESSION = "sessions.tsv"


def reliability(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Measure the agreement of two scans of the same person.

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``; rows that failed quality control or were used in training are left out.
    models
        Suffixes of the prediction columns.

    Returns
    -------
    pandas.DataFrame
        `RELIABILITY`, for brain age and gap (years) of each model: ICC(2,1) and ICC(3,1) with the intervals
        of McGraw and Wong (1996), within-person SD, repeatability coefficient, Bland-Altman bias (second minus first)
        and limits. Empty when nobody has two such scans; with fewer than 5 pairs no number is given.

    Examples
    --------
    Five people, each scanned twice in one session.

    >>> import pandas as pd
    >>> from brainage_bids import reliability
    >>> people = [f"sub-{number}" for number in range(5)]
    >>> table = pd.DataFrame({"participant_id": people * 2, "run": ["run-1"] * 5 + ["run-2"] * 5})
    >>> table["age"] = [50.0, 55.0, 60.0, 65.0, 70.0] * 2
    >>> table["predicted_age_m"] = [52.0, 54.0, 63.0, 64.0, 75.0, 53.0, 53.0, 64.0, 65.0, 74.0]
    >>> reliability(table, ["m"])[["measure", "n", "ba_bias", "status"]]
             measure  n  ba_bias status
    0  predicted_age  5      0.2     ok
    1            bag  5      0.2     ok
    """
    rows = table[usable(table)]
    pairs = scan_pairs(rows)
    results = []
    for model in models if pairs else ():
        predicted = number(rows, f"predicted_age_{model}")
        for measure, values in (("predicted_age", predicted), ("bag", predicted - number(rows, "age"))):
            both = values[np.array(pairs)]  # (n, 2)
            results.append({"model": model, "measure": measure, **agreement(both[np.isfinite(both).all(axis=1)])})
    return frame(results, RELIABILITY)


def scan_pairs(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """Return the positions of the first two comparable scans of each person, at most one pair per person.

    Scans are comparable if their names differ in ``run-`` only, and they are from the same session, or from two
    sessions whose ages are at most 90 days apart. These ages must be recorded for each session: an age from
    ``participants.tsv`` does not give the time between sessions. Acquisitions are taken in order of preference, runs in
    natural order.
    """
    session, run, source = (text(rows, name).tolist() for name in ("session_id", "run", "age_source"))
    age, person = number(rows, "age"), rows["participant_id"].tolist()
    order = sorted(range(len(rows)), key=lambda i: (natural_key(session[i]), preference(run[i])))
    people: dict[str, list[int]] = {}
    for i in order:
        people.setdefault(str(person[i]), []).append(i)

    def comparable(i: int, j: int) -> bool:
        if acquisition(run[i]) != acquisition(run[j]):
            return False
        if session[i] == session[j]:
            return True
        known = all(OF_SESSION in str(source[k]) for k in (i, j))
        return known and 0 < abs(age[i] - age[j]) <= SHORT

    pairs = []
    for scans in people.values():
        comparable_pairs = [(i, j) for at, i in enumerate(scans) for j in scans[at + 1 :] if comparable(i, j)]
        pairs += comparable_pairs[:1]
    return pairs


def agreement(pairs: np.ndarray) -> dict:
    """Return the agreement of ``(n, 2)`` measurements (years); McGraw and Wong 1996, Bland and Altman 1986.

    ICC(2,1) is absolute agreement (``A,1``), ICC(3,1) consistency (``C,1``).
    """
    n, k = len(pairs), 2
    if n < MIN_PAIRS:
        return {"n": n, "status": "insufficient_n", "note": f"fewer than {MIN_PAIRS} people with two such scans"}
    difference = pairs[:, 1] - pairs[:, 0]
    wsd = math.sqrt((difference**2).mean() / 2)
    margin = 1.96 * difference.std(ddof=1)
    row = {"n": n, "wsd": wsd, "rc": 1.96 * math.sqrt(2) * wsd, "mean_abs_diff": np.abs(difference).mean(),
           "ba_bias": difference.mean(), "ba_loa_lo": difference.mean() - margin,
           "ba_loa_hi": difference.mean() + margin}  # fmt: skip
    grand = pairs.mean()
    between = k * ((pairs.mean(axis=1) - grand) ** 2).sum() / (n - 1)
    scans = n * ((pairs.mean(axis=0) - grand) ** 2).sum() / (k - 1)
    residual = pairs - pairs.mean(axis=1, keepdims=True) - pairs.mean(axis=0) + grand
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    if is_constant(pairs.mean(axis=1)) or is_constant(difference):
        return row | {"status": "zero_variance", "note": "no spread between people or between scans: no ICC"}
    return row | _consistency(between, error, n, k) | _absolute(between, scans, error, n, k) | {"status": "ok"}


def _consistency(between: float, error: float, n: int, k: int) -> dict:
    ratio, df = between / error, (n - 1) * (k - 1)
    low = ratio / stats.f.ppf(0.975, n - 1, df)
    high = ratio * stats.f.ppf(0.975, df, n - 1)
    values = ((f - 1) / (f + k - 1) for f in (ratio, low, high))
    return dict(zip(("icc31", "icc31_ci_lo", "icc31_ci_hi"), values, strict=True))


def _absolute(between: float, scans: float, error: float, n: int, k: int) -> dict:
    icc = (between - error) / (between + (k - 1) * error + k * (scans - error) / n)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    df = (a * scans + b * error) ** 2 / ((a * scans) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    lower, upper = stats.f.ppf(0.975, n - 1, df), stats.f.ppf(0.975, df, n - 1)
    rest = k * scans + (k * n - k - n) * error
    low = n * (between - lower * error) / (lower * rest + n * between)
    high = n * (upper * between - error) / (rest + n * upper * between)
    return {"icc21": icc, "icc21_ci_lo": low, "icc21_ci_hi": high}
