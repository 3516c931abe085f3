"""Compare the correlations of one score with the gaps of two models, in the same people.

Raw gaps are primary, as in the correlations of the paper. The test does not say how large either correlation is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.result_tables import CORRELATIONCOMPARISON
from brainage_bids.stats.columns import frame, is_constant, joined, number, optional_number
from brainage_bids.stats.correlate import pearson, primary_statistic, scored_subsets

MIN_N = 4
_COLUMNS = {"raw": "bag_", "corrected": "bag_corrected_"}


def williams_t(score: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict:
    """Test whether a score correlates more with one gap than with another (Williams 1959; Steiger 1980).

    Parameters
    ----------
    score, first, second
        ``(n,)`` values of the same people; rows with any missing value are left out.

    Returns
    -------
    dict
        ``n n_missing r_a r_b r_between t df p status note``; two-sided, df = n - 3.
    """
    data = np.column_stack([np.asarray(v, dtype="float64") for v in (score, first, second)])
    complete = np.isfinite(data).all(axis=1)
    data = data[complete]
    n, nan = len(data), math.nan
    row = {"n": n, "n_missing": int((~complete).sum())}
    row |= dict.fromkeys(("r_a", "r_b", "r_between", "t", "df", "p"), nan)
    if n < MIN_N:
        return row | {"status": "insufficient_n", "note": f"fewer than {MIN_N} complete rows"}
    if any(is_constant(column) for column in data.T):
        return row | {"status": "constant_input", "note": "a variable is constant"}
    r12, r13, r23 = (pearson(data[:, i], data[:, j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    row |= {"r_a": r12, "r_b": r13, "r_between": r23}
    determinant = 1 - r12**2 - r13**2 - r23**2 + 2 * r12 * r13 * r23
    mean = (r12 + r13) / 2
    variance = 2 * determinant * (n - 1) / (n - 3) + mean**2 * (1 - r23) ** 3
    if variance <= 1e-12:
        return row | {"status": "degenerate", "note": "the two gaps are the same up to scale"}
    t = (r12 - r13) * math.sqrt((n - 1) * (1 + r23) / variance)
    return row | {"t": t, "df": n - 3, "p": float(2 * stats.t.sf(abs(t), n - 3)), "status": "ok", "note": ""}


def correlation_comparison(
    table: pd.DataFrame, models: Sequence[str], scores: Sequence[str], controls: Sequence[str] = ()
) -> pd.DataFrame:
    """Compare the correlations of every pair of models with every score, within each group and in everyone.

    Parameters
    ----------
    table, models, scores, controls
        As in `correlate.correlations`.

    Returns
    -------
    pandas.DataFrame
        `CORRELATIONCOMPARISON`: variants ``raw`` (primary) and ``corrected``, in the people with the score
        and both gaps; for ordinal scores on ranks. There is no q: each row answers its own question.
    """
    rows = []
    for score in scores:
        for label, member, pooled in scored_subsets(table, score, controls):
            part = table[member]
            for model_a, model_b in itertools.combinations(models, 2):
                keys = {"group": label, "score": score, "model_a": model_a, "model_b": model_b}
                for variant, prefix in _COLUMNS.items():
                    row = _compare(number(part, score), part, [prefix + model_a, prefix + model_b], score)
                    rows.append({**keys, "variant": variant, **row, "note": joined([row["note"], pooled])})
    return frame(rows, CORRELATIONCOMPARISON)


def _compare(values: np.ndarray, part: pd.DataFrame, columns: Sequence[str], score: str) -> dict:
    gaps = [optional_number(part, name) for name in columns]
    if any(not np.isfinite(gap).any() for gap in gaps):
        row = williams_t(values, *gaps)
        return row | {"status": "skipped", "note": "a model has no such gap"}
    if primary_statistic(score) == "pearson":
        return williams_t(values, *gaps)
    data = np.column_stack([values, *gaps])
    complete = np.isfinite(data).all(axis=1)
    data[complete] = stats.rankdata(data[complete], axis=0)
    row = williams_t(*data.T)
    return row | {"note": joined([row["note"], "ordinal score: ranks are used (Spearman)"])}
