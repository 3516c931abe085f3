"""Compare training runs that differ in one setting, in people on whom none of them was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from brainage_bids.result_tables import STUDY
from brainage_bids.stats.accuracy import compare_errors, mean_interval
from brainage_bids.stats.columns import frame, joined


def study_table(runs: Sequence[Mapping], seed: int) -> pd.DataFrame:
    """Return one row per run: its error with a 95 % interval, and the paired difference from the first value.

    Parameters
    ----------
    runs
        ``setting value seed`` and, if the run is finished, ``age predicted_age`` (years, one per held-out person in a
        fixed order), ``mae_null epochs minutes``; otherwise ``note`` with the reason.

    Returns
    -------
    pandas.DataFrame
        `STUDY`; years. ``mae_diff`` is the error minus that of the first value with the same seed, in the
        same people; missing when the people differ.
    """
    rows, first = [], {}
    reference = runs[0]["value"] if runs else None
    for run in runs:
        row = {name: run.get(name) for name in ("setting", "value", "seed", "mae_null", "epochs", "minutes")}
        if "age" not in run:
            rows.append(row | {"n": 0, "status": "skipped", "note": run.get("note", "not finished")})
            continue
        age, predicted = (np.asarray(run[name], dtype="float64") for name in ("age", "predicted_age"))
        errors = np.abs(predicted - age)
        low, high, note = mean_interval(errors, seed)
        row |= {
            "n": errors.size,
            "mae": errors.mean(),
            "mae_ci_lo": low,
            "mae_ci_hi": high,
            "status": "ok",
            "note": note,
        }
        if run["value"] == reference:
            first[run["seed"]] = age, errors
        base_age, base = first.get(run["seed"], (None, errors))
        if base_age is None:
            row["note"] = joined([note, f"not compared: {reference} is not finished with this seed"])
        elif base is not errors and np.array_equal(base_age, age):
            paired = compare_errors(errors, base, seed)
            row["mae_diff"] = paired["mae_diff"]
            if paired["status"] == "ok":
                row |= {"diff_ci_lo": paired["ci_lo"], "diff_ci_hi": paired["ci_hi"], "p": paired["p"]}
            else:
                row["note"] = joined([note, paired["note"]])
        rows.append(row)
    return frame(rows, STUDY)
