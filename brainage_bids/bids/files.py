"""Write a file whole or not at all, and read and write the tables of BIDS.

Knows nothing of what the files mean. A file is written under a temporary name in its own folder and renamed, so a
reader never meets half a file and a killed run leaves nothing that looks finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainage_bids.errors import BadDataError, CannotCreateError

MISSING = "n/a"


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path (same folder, same extension) that becomes ``path`` when the block ends well."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", suffix="-" + path.name, dir=path.parent)
    except OSError as error:
        raise CannotCreateError(
            f"cannot create {path}: {error.strerror}; check the permissions and the free space of {path.parent}"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, values: Any) -> Path:
    """Write indented JSON atomically; NaN and infinity become null, numpy scalars and arrays plain numbers."""
    return write_text(path, json.dumps(_plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON (a byte-order mark is accepted).

    Raises
    ------
    BadDataError
        When the file is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadDataError(f"{path} is not JSON ({error}); repair or remove it") from error


def read_tsv(path: str | Path) -> pd.DataFrame:
    """Read a tab-separated table as text, cells and column names stripped; nothing is turned into NaN.

    Raises
    ------
    BadDataError
        When the file cannot be parsed as a table.
    """
    try:
        table = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig", quoting=3, skip_blank_lines=True
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise BadDataError(f"{path} is not a tab-separated table ({error}); repair it") from error
    table.columns = [str(name).replace("\xa0", " ").strip() for name in table.columns]
    for name in table.columns:
        table[name] = table[name].str.replace("\xa0", " ").str.strip()
    return table


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read a small table as :func:`read_tsv` does, one dict per row; a tenth of its time, for thousands of files.

    Raises
    ------
    BadDataError
        When the file cannot be parsed as a table.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path} is not a tab-separated table ({error}); repair it") from error
    rows = [[cell.replace("\xa0", " ").strip() for cell in line.split("\t")] for line in lines if line.strip()]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise BadDataError(f"{path} is not a tab-separated table (rows of unequal length, or none); repair it")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def write_tsv(path: str | Path, table: pd.DataFrame) -> Path:
    """Write a table at full precision, ``n/a`` for missing."""
    # No cell holds a tab or a line break, so nothing needs quotes; a quote in a cell stays what it is.
    columns = [[cell_text(name), *map(cell_text, table[name])] for name in table.columns]
    lines = ["\t".join(row) for row in zip(*columns, strict=True)]
    return write_text(path, "\n".join(lines) + "\n")


def numbers(column: pd.Series) -> pd.Series:
    """Return a text column as float64, missing values as NaN."""
    return pd.to_numeric(column.replace({MISSING: None, "": None}), errors="coerce").astype("float64")


def cell_text(value: Any) -> str:
    """Return a value as the text of one table cell: full precision, ``n/a`` for missing, one line, no tab."""
    if value is None or value is pd.NA or value is pd.NaT:
        return MISSING
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value):
            return MISSING
        return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
    if isinstance(value, (list, tuple)):
        return ";".join(map(str, value)) or MISSING
    return " ".join(str(value).split()) or MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
