"""Write files completely or not at all, and read and write BIDS tables.

A file is written under a temporary name in its folder and then renamed. So nobody reads half a file, and a killed run
leaves no file that looks finished.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainage_bids.bids.text import Unreadable, read_json, read_text, split_lines
from brainage_bids.errors import BrainageError, CannotCreateError, InputOutputError, NoRoomError, shorten

__all__ = [
    "MISSING", "TEMPORARY", "as_written", "atomic", "cell_text", "cell_value", "harmless", "is_full", "no_room",
    "not_written", "numbers", "read_json", "read_rows", "read_tsv", "write_json", "write_text", "write_tsv",
]  # fmt: skip

MISSING = "n/a"
TEMPORARY = ".tmp-"  # start of the name of a file that is being written
# A spreadsheet runs a cell that begins with one of these as a formula. A plain number may begin so too and is harmless.
_QUOTES, _SIGNS = "'\"", "=+-@＝＋－＠"
_FORMULA = re.compile(f"[{_QUOTES}]*[{re.escape(_SIGNS)}]")
_MAY_START_ONE = frozenset(_QUOTES + _SIGNS)  # most cells start otherwise, and need no search
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")


def file_state(path: str | Path) -> tuple[int, int, int]:
    """Return inode, size (bytes) and time of change (ns): they tell whether a file was replaced."""
    stat = os.stat(path)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def is_file(path: str | Path) -> bool:
    """Return whether there is such a file; False for text that cannot be a path (too long, with a NUL)."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path (same folder, same extension) that becomes ``path`` when the block ends well.

    Raises
    ------
    CannotCreateError
        When the file or its folder cannot be created.
    NoRoomError
        When the disk is full.
    InputOutputError
        When the disk fails.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix="-" + path.name, dir=path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        ours = error.errno is not None and error.filename in (None, name, temporary)
        if not (is_full(error) or ours):  # the error concerns another file of the block
            raise
        raise not_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Return whether there was no room: a full disk, a used-up quota, a limit on the size of files."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_room(error: BaseException | None) -> str | None:
    """Return the message when an error or its cause means a full disk, else None; nipype passes errors on as text."""
    while error is not None:
        if isinstance(error, NoRoomError):
            return str(error)
        if isinstance(error, OSError) and is_full(error):
            return str(not_written(Path(error.filename or "a file"), error))
        lines = [line.strip() for line in str(error).splitlines()]
        for line in reversed(lines):
            if match := re.match(r"(?:\w+\.)*NoRoomError: (.+)", line):
                return match[1]
            if match := re.match(r"OSError: \[Errno (\d+)\] [^:]+(?:: '(.+)')?", line):
                full = OSError(int(match[1]), os.strerror(int(match[1])))
                if is_full(full):
                    return str(not_written(Path(match[2] or "a file"), full))
        error = error.__cause__
    return None


def not_written(path: Path, error: OSError) -> BrainageError:
    """Return the error for a file that could not be written: its name, the reason, and what to do."""
    why = error.strerror or str(error)
    if is_full(error):
        return NoRoomError(f"{path} cannot be written: {why}; make room there, then start the same command again")
    if error.errno == errno.EIO:
        return InputOutputError(f"{path} cannot be written: {why}; check the disk, then start the same command again")
    return CannotCreateError(f"cannot create {path}: {why}; check the permissions and the free space of {path.parent}")


def write_text(path: str | Path, text: str) -> Path:
    r"""Write UTF-8 text atomically; what UTF-8 cannot hold (bytes of odd file names) is written as ``\udcff``."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def write_json(path: str | Path, values: Any) -> Path:
    """Write indented JSON atomically; NaN and infinity become null, numpy scalars and arrays plain numbers."""
    return write_text(path, json.dumps(_plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_tsv(path: str | Path) -> pd.DataFrame:
    """Read a table written by this program as text; cells and names are stripped, nothing is turned into NaN.

    Raises
    ------
    BadDataError
        When the file cannot be parsed as a table.
    """
    header, rows = _cells(path)
    return pd.DataFrame(rows, columns=header, dtype="str")


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read a table like :func:`read_tsv`, as one dict per row; ten times faster, for thousands of files.

    Raises
    ------
    BadDataError
        When the file cannot be parsed as a table.
    """
    header, rows = _cells(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def _cells(path: str | Path) -> tuple[list[str], list[list[str]]]:
    text = read_text(path)
    lines = [(number, line) for number, line in enumerate(split_lines(text), start=1) if line.strip()]
    value = cell_value if "'" in text or "\xa0" in text else str.strip  # the same without these, and faster
    rows = [[value(cell) for cell in line.split("\t")] for _, line in lines]
    if not rows:
        raise Unreadable(path, "is not a tab-separated table: it is empty; repair it")
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            fault = f"line {number} has {len(row)} cells under {len(rows[0])} columns"
            raise Unreadable(path, f"is not a tab-separated table: {fault}; repair it")
    if twice := {shorten(name) for name in rows[0] if rows[0].count(name) > 1}:
        raise Unreadable(path, f"has several columns named {min(twice)}; rename or remove all but one")
    return rows[0], rows[1:]


def write_tsv(path: str | Path, table: pd.DataFrame) -> Path:
    """Write a table at full precision, ``n/a`` for missing."""
    # No cell holds a tab or a line break, so nothing needs quotes; a quote in a cell stays as it is.
    columns = [[cell_text(name), *_cell_texts(table[name])] for name in table.columns]
    lines = ["\t".join(row) for row in zip(*columns, strict=True)]
    return write_text(path, "\n".join(lines) + "\n")


def numbers(column: pd.Series) -> pd.Series:
    """Return a text column as float64, missing values as NaN."""
    return pd.to_numeric(column.replace({MISSING: None, "": None}), errors="coerce").astype("float64")


def _cell_texts(column: pd.Series) -> Iterator[str]:
    """Return `cell_text` of every cell; numbers need not be asked what they are."""
    if column.dtype == np.float64:
        return _number_texts(column.to_numpy())
    if column.dtype == np.int64:
        return map(str, column.tolist())
    texts: dict[str, str] = {}  # the same few words fill most columns

    def known(value: Any) -> str:
        if type(value) is not str:
            return cell_text(value)
        if value not in texts:
            texts[value] = cell_text(value)
        return texts[value]

    return map(known, column.tolist())


def _number_texts(values: np.ndarray) -> Iterator[str]:
    """Return `_number_text` of float64 values ``(n,)``; most have decimals, and nothing else need be asked of them."""
    texts = list(map(repr, values.tolist()))
    for place in np.flatnonzero(~np.isfinite(values) | (values == np.trunc(values))).tolist():
        texts[place] = _number_text(float(values[place]))
    return iter(texts)


def _number_text(value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def cell_text(value: Any) -> str:
    """Return a value as one table cell: full precision, ``n/a`` for missing, one line, no tab, no formula.

    :func:`cell_value` reads the cell.
    """
    if type(value) is float:  # most values
        return _number_text(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return MISSING
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    if isinstance(value, (float, np.floating)):
        return _number_text(float(value))
    if isinstance(value, (list, tuple)):
        value = ";".join(map(str, value))
    return harmless(" ".join(str(value).split())) or MISSING


def harmless(text: str) -> str:
    """Put an apostrophe before the text of a cell that a spreadsheet would run as a formula."""
    if text[:1] not in _MAY_START_ONE:
        return text
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def cell_value(cell: str) -> str:
    """Return the text of a cell written by :func:`cell_text`, without outer blanks and the added apostrophe."""
    return as_written(cell.replace("\xa0", " ").strip())


def as_written(text: str) -> str:
    """Return a text without the apostrophe added by :func:`harmless`."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


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
