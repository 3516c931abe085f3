"""Read a small text table written by another program, with any separator, quotes, comments and row names.

A table whose cells might be under the wrong column is refused, never repaired.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.parse import clean, parse_number
from brainage_bids.bids.text import read_text, split_lines
from brainage_bids.errors import BadDataError, NoInputError

SEPARATORS = ("\t", ";", ",")
UNNAMED = re.compile(r"(unnamed: *\d+)?", re.IGNORECASE)  # heading that R and pandas give to row names


@dataclass(frozen=True)
class ForeignTable:
    """Columns as written and cells as text; ``lines`` holds the line of each row as an editor counts it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def cells(self, column: int) -> list[str]:
        """Return the cells of a column."""
        return [row[column] for row in self.rows]


def read_foreign(path: Path) -> ForeignTable:
    """Read a table separated by tabs, semicolons or commas.

    Lines that begin with ``#`` are comments. A line ``sep=;`` (Excel) gives the separator. A line quoted as a whole is
    read without its quotes. A header repeated below (joined files) is left out.

    Raises
    ------
    NoInputError, BadDataError
        When there is no such file; when it is not such a table. The message begins with the path.
    """
    try:
        text = read_text(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoInputError(f"{path} is not there; check the path") from error
    lines = [(n, line) for n, line in enumerate(split_lines(text), 1) if line.strip()]
    lines = _without_comments(lines)
    stated = re.fullmatch(r'"?sep=(.)"?', lines[0][1].strip()) if lines else None
    if stated:
        lines.pop(0)
    if len(lines) < 2:
        raise BadDataError(f"{path} holds no rows; it needs a header and one row per scan")
    # look at the header only: a comma inside the rows may be a decimal sign
    separator = stated[1] if stated else next((sign for sign in SEPARATORS if sign in lines[0][1]), None)
    if separator is None:
        raise BadDataError(f"{path} has one column only; separate columns by tab, ; or comma")
    header, *rows = [_cells(path, number, line, separator) for number, line in lines]
    while header and not header[-1]:
        header.pop()
    data_rows = []
    for (number, _), row in zip(lines[1:], rows, strict=True):
        if row[: len(header)] == header:
            continue
        if len(row) < len(header) or any(row[len(header) :]):
            raise BadDataError(
                f"{path}: row {number} has {len(row)} cells under {len(header)} columns; with decimal commas separate "
                "columns by tab or semicolon, and write no row names (R: row.names = FALSE) or give them a name"
            )
        data_rows.append((number, tuple(row[: len(header)])))
    if not data_rows:
        raise BadDataError(f"{path} holds no rows; it needs a header and one row per scan")
    return ForeignTable(tuple(header), tuple(row for _, row in data_rows), tuple(number for number, _ in data_rows))


def _without_comments(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the lines without comments; a header written as a comment (``#id,age``) is kept without the sign."""
    kept = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    above = [(number, line.lstrip().lstrip("# ")) for number, line in lines if line.lstrip().startswith("#")]
    above = [pair for pair in above if kept and pair[0] < kept[0][0]][-1:]
    if not above:
        return kept
    separator = next((sign for sign in SEPARATORS if sign in above[0][1]), None)
    first, marked = (_split(line, separator) for line in (kept[0][1], above[0][1]))
    is_header = len(marked) == len(first) > 1 and any(parse_number(cell, "," in cell)[0] is not None for cell in first)
    return [*above, *kept] if is_header else kept


def _split(line: str, separator: str | None) -> list[str]:
    return line.split(separator) if separator else [line]


def _cells(path: Path, number: int, line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator, strict=True))
        if len(cells) == 1 and separator in cells[0]:  # the whole line is in quotes
            cells = next(csv.reader([cells[0]], delimiter=separator, strict=True))
    except csv.Error as error:
        raise BadDataError(f"{path}: row {number} has a quotation mark too few or too many; remove it") from error
    return [clean(cell) for cell in cells]
