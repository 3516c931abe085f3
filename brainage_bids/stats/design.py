"""Turn covariates into a design matrix: text becomes dummy columns; useless columns are dropped with a note."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainage_bids.errors import UsageError
from brainage_bids.stats.columns import is_constant, levels, number, text

RANK_TOLERANCE = 1e-10  # share of the largest singular value
TEXT_COVARIATES = ("sex", "site", "dataset", "group", "family")


def complete_rows(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, list[str], list[str]]:
    """Find the rows with all covariates; covariates without any value are dropped.

    Returns
    -------
    tuple
        ``(n,)`` bool, the remaining covariates, and notes.

    Raises
    ------
    UsageError
        When the table has no such column.
    """
    complete, known, notes = np.ones(len(table), dtype=bool), [], []
    for name in names:
        if name not in table.columns:
            raise UsageError(f"covariate '{name}' is no column of the table ({', '.join(map(str, table.columns))})")
        present = _values(table, name).notna().to_numpy()
        if len(table) and not present.any():
            notes.append(f"dropped {name} (not recorded)")
            continue
        known.append(name)
        complete &= present
    return complete, known, notes


def covariate_matrix(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the covariates of complete rows as a matrix without intercept.

    Numbers stay as they are. Text gives one 0/1 column per level except the first. Constant covariates are dropped.

    Returns
    -------
    tuple
        ``(n, k)`` float64, and notes.
    """
    columns, notes = [], []
    for name in names:
        values = _values(table, name)
        if values.dtype == object:
            labels = levels(values)
            dummies = [(values == level).to_numpy(dtype="float64") for level in labels[1:]]
            constant = not dummies
        else:
            dummies = [values.to_numpy(dtype="float64")]
            constant = is_constant(dummies[0])
        if constant:
            notes.append(f"dropped {name} (constant)")
        else:
            columns += dummies
    return (np.column_stack(columns) if columns else np.empty((len(table), 0))), notes


def has_full_rank(matrix: np.ndarray) -> bool:
    """Return whether the columns of ``(n, k)``, scaled to unit length, are linearly independent."""
    if matrix.shape[1] == 0:
        return True
    if matrix.shape[0] < matrix.shape[1]:
        return False
    length = np.linalg.norm(matrix, axis=0)
    triangle = np.linalg.qr(matrix / np.where(length > 0, length, 1.0), mode="r")  # same singular values, (k, k)
    singular = np.linalg.svd(triangle, compute_uv=False)
    return bool(singular[-1] > RANK_TOLERANCE * singular[0])


def with_intercept(matrix: np.ndarray) -> np.ndarray:
    """Return ``(n, 1 + k)``: a column of ones and the centred columns (same fit, better conditioned)."""
    centred = matrix - matrix.mean(axis=0) if matrix.size else matrix
    return np.column_stack([np.ones(len(matrix)), centred])


def _values(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a covariate as float64 with NaN, or as text (object) with None."""
    if name not in TEXT_COVARIATES and pd.api.types.is_numeric_dtype(table[name]):
        return pd.Series(number(table, name), index=table.index)
    labels = [None if value is None else str(value) for value in text(table, name).to_numpy()]
    return pd.Series(labels, index=table.index, dtype=object)
