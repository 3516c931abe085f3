"""Read the columns that a user names on the command line (``[NAME=]FILE:COLUMN[:UNIT]``) and find their tables."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.faults import ERROR, Fault, make_fault, some
from brainage_bids.bids.ids import id_faults
from brainage_bids.bids.tablefile import read_table
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.bids.units import UNITS_PER_YEAR, unit_name
from brainage_bids.errors import UsageError, shorten


@dataclass(frozen=True)
class ColumnRequest:
    """A column that the user named.

    Parameters
    ----------
    option
        ``--age-column`` or ``--sex-column``; named in errors.
    file, column
        As written.
    dataset
        Name of the dataset it is meant for; None: all.
    unit
        ``year``, ``month``, ``week`` or ``day``; None: as stated by heading and sidecar.
    """

    option: str
    file: str
    column: str
    dataset: str | None = None
    unit: str | None = None

    def __str__(self) -> str:
        return f"{self.option} {shorten(self.column)!r} of {shorten(self.file)}"


def parse_column_option(text: str, option: str) -> ColumnRequest:
    """Read ``[NAME=]FILE:COLUMN[:UNIT]``, for instance ``participants.tsv:age_of_volunteer:months``.

    Raises
    ------
    UsageError
        When the text has another form, or the unit is unknown.
    """
    with_unit = option == "--age-column"
    form = f"[NAME=]FILE:COLUMN{'[:UNIT]' if with_unit else ''}"
    example = "participants.tsv:age_mri" if with_unit else "participants.tsv:gender_code"
    match = re.fullmatch(r"\s*(?:([^=:]+?)\s*=\s*)?(.+?\.(?:tsv|csv))\s*:([^:]+)(?::([^:]*))?", text, re.IGNORECASE)
    if not match or not match[3].strip():
        raise UsageError(
            f"{option} {shorten(text)!r} must be {form}, for instance {example} (FILE ends in .tsv or .csv)"
        )
    name, file, column, unit = (part.strip() if part else part for part in match.groups())
    if unit is not None and not with_unit:
        raise UsageError(f"{option} {shorten(text)!r} must be {form}; a column of that option has no unit")
    if unit is not None and unit_name(unit) is None:
        raise UsageError(
            f"{option} {shorten(text)!r}: {shorten(unit)!r} is no unit; use one of {', '.join(UNITS_PER_YEAR)}"
        )
    return ColumnRequest(option, file, column, name, unit_name(unit) if unit else None)


def asked_columns(
    tables: Tables, requests: Sequence[ColumnRequest], root: Path, dataset: str, faults: list[Fault]
) -> list[tuple[Table, str, ColumnRequest]]:
    """Return the table and column of each request; a missing one becomes a fault that names those that exist."""
    columns = []
    for request in requests:
        if request.dataset not in (None, dataset):
            message = (
                f"{request}: it is meant for the dataset {shorten(request.dataset)!r}, but this one is {dataset!r}"
            )
            faults.append(make_fault("ASKED_COLUMN_UNKNOWN", request.file, message))
            continue
        chosen = asked_tables(tables, request.file, root, faults)
        if chosen is None:
            have = some((table.name for table in tables.ordered), 10) or "no table"
            message = f"{request}: there is no such file (there: {have}); check the path"
            faults.append(make_fault("ASKED_FILE_UNKNOWN", request.file, message))
            continue
        mine = [(table, names[0], request) for table in chosen if len(names := table.named(request.column)) == 1]
        if chosen and not mine:
            message = f"{request}: there is no such column ({nearest(request.column, chosen)})"
            faults.append(make_fault("ASKED_COLUMN_UNKNOWN", request.file, message))
        columns += mine
    return columns


def asked_tables(tables: Tables, file: str, root: Path, faults: list[Fault]) -> list[Table] | None:
    """Return the tables a file name means; an empty list when the file is broken, None when there is no such file."""
    wanted = file.replace("\\", "/").removeprefix("./")
    if re.fullmatch(r"(?:.*/)?(?:sub-[^/]*|\*)_sessions\.tsv|sessions\.tsv", wanted) and tables.sessions:
        return list(tables.sessions)
    named = [t for t in tables.ordered if wanted in (t.name, t.name.removeprefix("phenotype/"))]
    if named:
        return named
    for path in (root / wanted, Path(file)):
        if os.path.lexists(path):
            reported = any(
                fault.file == wanted and fault.severity == ERROR for fault in faults if fault.code.startswith("TABLE_")
            )
            table = None if reported else read_table(path, root, faults, severity=ERROR)
            faults.extend(id_faults(table, tables.people) if table else [])
            return [table] if table else []
    return None


def nearest(column: str, tables: Sequence[Table]) -> str:
    """Return the columns with names most like a missing one, or else the first columns, as text."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    near = difflib.get_close_matches(column, names, n=3, cutoff=0.4)
    return f"nearest: {some(near)}" if near else f"it has {some(names, 10)}"
