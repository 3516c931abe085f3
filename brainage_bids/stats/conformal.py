"""Check the coverage of the split-conformal intervals in the study's own controls.

Residuals are always those of the age-bias line (Beheshti's form), for every form of corrected gap. So the
half width refers to the bias-corrected predicted age, in years.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from brainage_bids.result_tables import CALIBRATION
from brainage_bids.stats.bias import conformal_half_width, corrected_bag, interval_scales, lines_by_fold
from brainage_bids.stats.columns import frame, joined, number

LEVELS = (95, 90, 80)  # percent
NOT_COVERED = "controls differ from the calibration people: fewer are covered than promised"


def calibrated(rows: pd.DataFrame, calibration: pd.DataFrame) -> pd.DataFrame:
    """Compare each row with the healthy held-out people outside its own fold.

    Parameters
    ----------
    rows, calibration
        As in ``correct_with_calibration``.

    Returns
    -------
    pandas.DataFrame
        Indexed like ``rows``: ``residual`` (years), ``n_calibration``, ``conformal_p`` and, for each level,
        ``half_width_<level>`` (years). ``conformal_p`` = (1 + #{residuals >= this}) / (n + 1), one-sided: a small value
        means a brain that looks older than those of the calibration people. Residuals are compared after division by
        ``scale`` (`bias.interval_scales`).
    """
    age, predicted = number(rows, "age"), number(rows, "predicted_age")
    names = ["residual", "n_calibration", "conformal_p", "scale", *(f"half_width_{level}" for level in LEVELS)]
    values = np.full((len(rows), len(names)), np.nan)
    for here, others, line in lines_by_fold(rows, calibration):
        healthy_age, healthy_predicted = number(others, "age"), number(others, "predicted_age")
        healthy = corrected_bag(line, healthy_age, healthy_predicted - healthy_age)
        scale, healthy_scale = interval_scales(rows[here], others)
        healthy = healthy / healthy_scale
        healthy = np.sort(healthy[np.isfinite(healthy)])
        residual = corrected_bag(line, age[here], predicted[here] - age[here])
        reached = healthy.size - np.searchsorted(healthy, residual / scale, side="left")
        p = np.where(np.isfinite(residual), (1 + reached) / (healthy.size + 1), np.nan)
        halves = [conformal_half_width(healthy, 1 - level / 100) for level in LEVELS]
        columns = [residual, healthy.size, p if healthy.size else np.nan, scale]
        columns += [math.nan if half is None else half * scale for half in halves]
        for position, column in enumerate(columns):
            values[here, position] = column
    return pd.DataFrame(values, columns=names, index=rows.index)


def coverage(people: Mapping[str, pd.DataFrame | None], controls: Sequence[bool]) -> pd.DataFrame:
    """Count how many of the study's controls lie inside the intervals.

    Parameters
    ----------
    people
        By model: the result of ``calibrated`` for the rows of the tests; None without an age-bias line.
    controls
        ``(n,)`` bool: which of those rows are controls.

    Returns
    -------
    pandas.DataFrame
        `CALIBRATION`, one row per model and level (percent), with Wilson's 95 % interval of the coverage. If
        rows have different calibration people (folds), ``n_calibration`` is the smallest number and ``half_width`` the
        median. The note warns when the whole interval lies below the level.
    """
    healthy, rows = np.asarray(controls, dtype=bool), []
    for model, table in people.items():
        for level in LEVELS:
            rows.append({"model": model, "level": level, **_covered(table, healthy, level)})
    return frame(rows, CALIBRATION)


def _covered(table: pd.DataFrame | None, healthy: np.ndarray, level: int) -> dict:
    row = {"n_calibration": 0, "n_controls": 0}
    if table is None:
        return row | {"status": "skipped", "note": "no age-bias line"}
    table = table[healthy]
    table = table[np.isfinite(table["residual"]).to_numpy()]
    row["n_controls"] = len(table)
    if table.empty:
        return row | {"status": "no_controls", "note": "no control with a corrected gap is in the tests"}
    row["n_calibration"] = int(table["n_calibration"].min())
    half = table[f"half_width_{level}"].to_numpy()
    if not np.isfinite(half).all():
        needed = math.ceil(round(level / (100 - level), 9))
        note = f"{row['n_calibration']} calibration people, {level} % needs {needed}"
        return row | {"status": "insufficient_n", "note": note}
    inside = int((np.abs(table["residual"].to_numpy()) <= half).sum())
    low, high = proportion_confint(inside, len(table), alpha=0.05, method="wilson")
    row |= {"half_width": np.median(half), "covered": inside, "coverage": inside / len(table)}
    row |= {"wilson_lo": low, "wilson_hi": high, "status": "ok"}
    scale = table["scale"].to_numpy()
    folds = "each fold is calibrated by the others" if len(np.unique(np.round(half / scale, 9))) > 1 else ""
    spread = "intervals follow the spread of the trainings" if np.ptp(scale) > 0 else ""
    return row | {"note": joined([NOT_COVERED if high < level / 100 else "", folds, spread])}
