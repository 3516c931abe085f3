"""Report where the ages of a dataset come from, which are missing, and which columns may hold them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.headings import (
    AGE_BASELINE,
    AGE_FIRST_SCAN,
    AGE_SESSION,
    AGE_UNUSABLE,
    AGE_VISIT,
    age_headings,
    counts_from_conception,
    may_be_age,
    names_birth,
)
from brainage_bids.bids.parse import parse_age, parse_text
from brainage_bids.bids.tablefile import read_table
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.schema import NOT_OF_SESSION, Scan

_KNOWN = (*AGE_SESSION, *AGE_VISIT, *AGE_FIRST_SCAN, *AGE_BASELINE, *AGE_UNUSABLE)
_LARGEST = 5_000_000  # bytes; larger tables are not searched for a column of ages


def age_faults(scans: Sequence[Scan], tables: Tables, root: Path, asked: bool) -> list[Fault]:
    """Return faults for scans without an age, and for scans with an age that is not that of their session.

    ``asked`` says whether the user named the age columns.
    """
    faults = []
    missing = [scan for scan in scans if scan.age is None]
    if missing:
        people = {scan.participant_id for scan in missing}
        message = f"{len(missing)} of {len(scans)} scans have no age: {some(scan.prefix for scan in missing)}; "
        faults.append(make_fault("AGE_MISSING", "participants.tsv", message + _advice(tables, root, people, asked)))
    shared = [scan.prefix for scan in scans if NOT_OF_SESSION in scan.age_flags]
    if shared:
        message = f"{len(shared)} scans take an age that is not of their session: {some(shared)}; add a sessions table"
        faults.append(make_fault("AGE_NOT_SESSION_SPECIFIC", "participants.tsv", message))
    return faults


def _advice(tables: Tables, root: Path, people: Collection[str], asked: bool) -> str:
    """Return a text that names columns which may hold the missing ages, and the option to choose one."""
    read = [*tables.ordered, *_other_tables(root, tables)]
    known = {table.name for table in tables.ordered}
    near = [(t, name) for t in read for name in t.columns if may_be_age(name) and _has_ages(t, name, people)]
    if not asked:  # columns of a known heading were read already, or have their own fault
        near = [(t, name) for t, name in near if t.name not in known or not age_headings([name], _KNOWN)]
    births = [f"{name!r} ({t.name})" for t in read for name in t.columns if names_birth(name) and _has(t, name, people)]
    weeks = [f"{name!r} ({t.name})" for t in read for name in t.columns if counts_from_conception(name)]
    parts = []
    if near:
        table, name = near[0]
        columns_found = some((f"{column!r} ({t.name})" for t, column in near), 4)
        which = "another column" if asked else "it"
        parts.append(f"perhaps {columns_found} holds it: name {which} with --age-column {table.name}:{name}[:UNIT]")
    if births:
        dates = " and acq_time" if tables.times else ""
        parts.append(
            f"{some(births, 2)}{dates} can tell it: write the years between birth and scan into a column age, or name "
            "one with --age-column FILE:COLUMN[:UNIT]"
        )
    if weeks:
        parts.append(f"{some(weeks, 2)} counts weeks from conception and is not used")
    if not near and not births:
        parts.append("add a column age, or name one with --age-column FILE:COLUMN[:UNIT]")
    return "; ".join(parts)


def _other_tables(root: Path, tables: Tables) -> Iterator[Table]:
    known = {table.name for table in tables.ordered} | {"participants.tsv", "sessions.tsv"}
    for path in sorted([*root.glob("*.tsv"), *root.glob("*.csv")]):
        if path.name not in known and path.is_file() and path.stat().st_size <= _LARGEST:
            table = read_table(path, root, [])
            if table is not None:
                yield table


def _rows_of(table: Table, people: Collection[str]) -> list[int]:
    return [i for i, (participant, _) in enumerate(table.keys) if participant in people]


def _has(table: Table, name: str, people: Collection[str]) -> bool:
    cells = table.cells(name)
    return any(parse_text(cells[i]) for i in _rows_of(table, people))


def _has_ages(table: Table, name: str, people: Collection[str]) -> bool:
    """Return whether a column holds a possible age, in any unit, of at least one of the people."""
    cells = table.cells(name)
    return any(parse_age(cells[i], "day")[0] is not None for i in _rows_of(table, people))


def age_notes(scans: Sequence[Scan]) -> list[str]:
    """Return sentences that name the tables and columns of the ages, and count capped ages."""
    counts: dict[str, int] = {}
    for scan in scans:
        if scan.age_source:
            file, rest = scan.age_source.split(":", 1)
            file = "sub-*_sessions.tsv" if file.startswith("sub-") else file
            rest = rest.split(" + ")[0] + (" + time since baseline" if " + " in rest else "")
            counts[f"{file}:{rest}"] = counts.get(f"{file}:{rest}", 0) + 1
    if not counts:
        return ["No age was found."]
    sources = ", ".join(f"{source} ({count} scans)" for source, count in counts.items())
    capped = sum(bool({"top_coded", "possibly_top_coded"} & set(scan.age_flags)) for scan in scans)
    return [f"Age in years from {sources}."] + ([f"{capped} ages are top-coded or may be."] if capped else [])
