"""Helpers shared by all statistics tables: columns, labels, missing cells, constant input, result rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from brainage_bids.errors import UsageError
from brainage_bids.schema import AGE_BINS
from brainage_bids.table_declaration import ResultTable

ALL = "all"
PLACES = ("site", "dataset")  # columns with the origin of the scans
# Note on corrected gaps: in simulations ci_lo to ci_hi cover 90 %, line_ci_lo to line_ci_hi 95 % (docs/simulation.md).
LINE_EXACT = "p, ci_lo and ci_hi take the age-bias line as exact; line_ci_lo and line_ci_hi count its error"


def age_label(age: float) -> str | None:
    """Return the half-open age bin (``<20``, ``[20,40)``, ... ``[80,inf)``) of an age in years; None when missing."""
    if age is None or not np.isfinite(age):
        return None
    for low, high in AGE_BINS:
        if low <= age < high:
            return bin_label(low, high)
    return f"<{AGE_BINS[0][0]:g}"


def bin_label(low: float, high: float) -> str:
    """Return the label of one age bin."""
    return f"[{low:g},{high:g})"


def has_age_flag(table: pd.DataFrame, flag: str) -> np.ndarray:
    """Return ``(n,)`` bool: whether ``age_flags``, a list separated by semicolons, has the flag."""
    return text(table, "age_flags").fillna("").str.split(";").map(lambda flags: flag in flags).to_numpy(dtype=bool)


def text(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a text column with None for missing cells; all None when there is no such column."""
    if column not in table.columns:
        return pd.Series([None] * len(table), index=table.index, dtype=object)
    values = table[column].astype(object)
    return values.where(values.notna() & (values != ""), None)


def number(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a numeric column as float64 ``(n,)``, with NaN for missing and infinite values.

    Raises
    ------
    UsageError
        When the table has no such column.
    """
    if column not in table.columns:
        raise UsageError(f"the table has no column '{column}'; it has: {', '.join(map(str, table.columns))}")
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def optional_number(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a numeric column as float64 ``(n,)``; all NaN when there is no such column."""
    return number(table, column) if column in table.columns else np.full(len(table), np.nan)


def levels(values: Iterable[str | None]) -> list[str]:
    """Return the distinct non-missing labels, sorted."""
    return sorted({str(value) for value in values if value is not None})


def is_member(values: pd.Series, labels: Iterable[str]) -> np.ndarray:
    """Return ``(n,)`` bool: whether the value is one of ``labels`` (compared exactly)."""
    wanted = set(labels)
    return np.array([value is not None and str(value) in wanted for value in values], dtype=bool)


def control_label(controls: Sequence[str]) -> str:
    """Return the name of the pooled controls: their labels joined by ``+``."""
    return "+".join(sorted(set(controls)))


def is_constant(values: np.ndarray) -> bool:
    """Return whether values differ by no more than rounding (1e-10 of their size)."""
    values = np.asarray(values, dtype="float64")
    return values.size == 0 or bool(np.ptp(values) <= 1e-10 * max(1.0, float(np.max(np.abs(values)))))


def joined(notes: Iterable[str]) -> str:
    """Join notes in order, without empty ones and repeats."""
    return "; ".join(dict.fromkeys(note for note in notes if note))


def frame(rows: list[dict] | pd.DataFrame, declared: ResultTable) -> pd.DataFrame:
    """Return rows as the table that is declared: counts int64, other numbers float64 with NaN, text as str.

    Raises
    ------
    KeyError
        When a row has a value without a column, which would be lost.
    """
    columns, texts = declared.columns, declared.text_columns
    given = rows.columns if isinstance(rows, pd.DataFrame) else {name for row in rows for name in row}
    if lost := set(given).difference(columns):
        raise KeyError(f"{', '.join(sorted(lost))}: no column of {declared.name} ({', '.join(columns)})")
    table = pd.DataFrame(rows, columns=columns)
    for name in columns:
        if name in texts:
            table[name] = table[name].astype(object).where(table[name].notna(), None)
        elif name == "n" or name.startswith("n_"):
            table[name] = table[name].astype("int64")
        else:
            values = table[name].astype("float64")
            table[name] = values.where(np.isfinite(values))
    return table
