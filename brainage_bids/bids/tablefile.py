"""Read one table of a dataset and its JSON sidecar. Problems become faults, never exceptions.

Tables are read as text, split at tabs only, without quoting and without guessing types. So a cell can never move to
another column or person. A problem of one column is a doubt about that column (`Table.doubts`), not about the table.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainage_bids.bids.aliases import SESSION_COLUMNS, normalise
from brainage_bids.bids.faults import ERROR, WARNING, Fault, make_fault, some
from brainage_bids.bids.parse import clean, label, parse_text
from brainage_bids.bids.tables import Table
from brainage_bids.bids.text import (
    NotFetched,
    Unreadable,
    damaged,
    is_ambiguous,
    mended,
    read_json,
    read_text,
    split_lines,
)
from brainage_bids.errors import UsageError, shorten

Row = tuple[int, tuple[str, ...]]  # the line of the file, the cells
SEPARATORS = {",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}


@dataclass(frozen=True)
class Sheet:
    """The columns of a file (each name once), its rows (of equal length), and faults of single columns."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    doubts: Mapping[str, Fault] = field(default_factory=dict)


def shown_name(path: Path, root: Path) -> str:
    """Return the path of a file as shown to the user: below BIDS_DIR, with forward slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


# --- cells ----------------------------------------------------------------------------------------------------------


def read_sheet(
    path: Path, shown: str, faults: list[Fault], severity: str | None = None, unfetched: str = ERROR
) -> Sheet | None:
    """Read the cells of a table; None and a fault when it cannot be used.

    ``.csv`` files are split at commas (at semicolons or tabs if the first line has no comma), all others at tabs.

    Parameters
    ----------
    severity
        Severity of faults that make the table, or a column, unusable; None: that of their code.
    unfetched
        Severity of the fault when the content of the file is not here.
    """
    try:
        text = read_text(path, keep_bytes=True)
        lines = _split(path, text)
    except NotFetched as error:
        faults.append(make_fault("TABLE_NOT_FETCHED", shown, error.reason, severity=unfetched))
        return None
    except (Unreadable, OSError, csv.Error) as error:
        reason = error.reason if isinstance(error, Unreadable) else f"cannot be read ({error}); check the file"
        faults.append(make_fault("TABLE_UNREADABLE", shown, reason, severity=severity))
        return None
    if not lines:
        faults.append(make_fault("TABLE_UNREADABLE", shown, "is empty; add a header and rows", severity=severity))
        return None
    header = [clean(cell) for cell in lines[0][1]]
    while header and not header[-1]:
        header.pop()
    rows = []
    for number, raw in lines[1:]:
        cells = [clean(cell) for cell in raw]
        if any(cells[len(header) :]):
            message = f"has {len(cells)} cells under {len(header)} columns; look for a stray tab"
            faults.append(make_fault("TABLE_ROW_LENGTH", shown, message, number, severity))
        elif any(cells):
            rows.append((number, tuple((cells + [""] * len(header))[: len(header)])))
    sheet = _each_once(Sheet(tuple(header), tuple(rows)), shown, faults, severity)
    sheet = _readable(sheet, shown, severity) if damaged(text) else sheet
    faults.extend(dataclasses.replace(fault, severity=WARNING) for fault in sheet.doubts.values())
    return sheet


def _split(path: Path, text: str) -> list[tuple[int, list[str]]]:
    lines = [(number, line) for number, line in enumerate(split_lines(text), start=1) if line.strip()]
    if path.suffix.lower() != ".csv":
        return [(number, line.split("\t")) for number, line in lines]
    comma = next((sign for sign in (",", ";", "\t") if lines and sign in lines[0][1]), ",")
    return [(number, next(csv.reader([line], delimiter=comma))) for number, line in lines]


def _each_once(sheet: Sheet, shown: str, faults: list[Fault], severity: str | None) -> Sheet:
    """Keep only the first of columns with the same name; add a doubt if they differ."""
    first: dict[str, int] = {}
    doubts, same = {}, []
    for at, name in enumerate(sheet.columns):
        earlier = first.setdefault(name, at)
        if any(cells[earlier] != cells[at] for _, cells in sheet.rows):
            named = f"several columns named {shorten(name)!r}" if name else "several columns without a name"
            message = f"has {named} that differ; rename or remove all but one"
            doubts[name] = make_fault("TABLE_COLUMN_REPEATED", shown, message, 1, severity)
        elif earlier != at:
            same.append(name)
    if same := [repr(shorten(name)) for name in dict.fromkeys(same) if name and name not in doubts]:
        message = f"repeats the columns {some(same)} with the same cells; the first is read"
        faults.append(make_fault("TABLE_COLUMN_REPEATED", shown, message, 1, WARNING))
    if len(first) == len(sheet.columns):
        return sheet
    rows = tuple((number, tuple(cells[at] for at in first.values())) for number, cells in sheet.rows)
    return Sheet(tuple(first), rows, doubts)


def _readable(sheet: Sheet, shown: str, severity: str | None) -> Sheet:
    """Replace bytes that are not UTF-8, and add a doubt about their columns.

    Other cells are safe: line ends, tabs, digits and plain letters are the same bytes in every likely wrong encoding
    without NUL bytes.
    """
    doubts = dict(sheet.doubts)
    for number, cells in ((1, sheet.columns), *sheet.rows):
        for name, cell in zip(sheet.columns, cells, strict=True):
            if damaged(cell) and mended(name) not in doubts:
                message = f"column {shorten(mended(name))!r} holds {shorten(mended(cell))!r}, which is not UTF-8 text"
                message += "; save the table as UTF-8"
                doubts[mended(name)] = make_fault("TABLE_LETTERS", shown, message, number, severity)
    if len(doubts) == len(sheet.doubts):
        return sheet
    rows = tuple((number, tuple(map(mended, cells))) for number, cells in sheet.rows)
    return Sheet(tuple(map(mended, sheet.columns)), rows, doubts)


def wrong_separator(columns: Sequence[str]) -> str | None:
    """Return a message when a table with one column is not separated by tabs; else None."""
    if len(columns) != 1 or normalise(columns[0]) in ("participantid", "sessionid"):
        return None
    signs = [words for sign, words in SEPARATORS.items() if sign in columns[0]]
    return f"is separated by {signs[0]}, not by tabs (line 1); save it as tab-separated text" if signs else None


# --- rows -----------------------------------------------------------------------------------------------------------


def read_table(
    path: Path, root: Path, faults: list[Fault], participant: str | None = None, severity: str | None = None
) -> Table | None:
    """Read one table with its sidecar; None (and a fault) when it cannot be used.

    Parameters
    ----------
    participant
        The participant of the file (``sub-01_sessions.tsv``); None when a column names participants.
    severity
        Severity of faults that make the table, or a column, unusable; None: that of their code.
    """
    shown = shown_name(path, root)
    sheet = read_sheet(path, shown, faults, severity)
    if sheet is None:
        return None
    header = sheet.columns
    ids = [name for name in header if normalise(name) == "participantid"]
    reason = wrong_separator(header)
    if participant is None and not ids:
        message = reason or f"has no participant_id column (it has {some(header)}); rename the column of the ids"
        faults.append(make_fault("TABLE_ID_MISSING", shown, message, 1, severity))
        return None
    if participant is not None and reason:
        faults.append(make_fault("TABLE_UNREADABLE", shown, reason, 1, severity))
        return None
    by_session = participant is not None or path.stem == "sessions" or path.parent.name == "phenotype"
    session_column = _session_column(header, sheet.rows, by_session)
    needed = [*ids[:1], *([session_column] if session_column else [])]
    if doubtful := [sheet.doubts[name] for name in needed if name in sheet.doubts]:
        faults.append(doubtful[0])
        return None
    keys, numbered_rows, odd_ids = [], [], []
    for number, cells in sheet.rows:
        written = cells[header.index(ids[0])] if ids else participant
        try:
            named = label(written, "sub")
            key = (named, _session_label(cells[header.index(session_column)]) if session_column else None)
        except UsageError as error:
            faults.append(make_fault("TABLE_BAD_ID", shown, f"the row is ignored: {error}", number))
            odd_ids.append(written)
            continue
        if named is None or (participant is not None and named != participant):
            other = f", not {participant}" if participant and named else ""
            message = f"the row is ignored: its participant_id is {shorten(named or 'empty')}{other}"
            faults.append(make_fault("TABLE_BAD_ID", shown, message, number))
            continue
        keys.append(key)
        numbered_rows.append((number, cells))
    sidecar, doubts = _meanings(path, root, header, faults, severity, participant)
    if sidecar is None:
        return None
    places = tuple((shown, number) for number, _ in numbered_rows)
    rows = tuple(cells for _, cells in numbered_rows)
    return Table(shown, header, rows, tuple(keys), places, sidecar, {**doubts, **sheet.doubts}, tuple(odd_ids))


def _session_column(header: Sequence[str], rows: Sequence[Row], session_table: bool) -> str | None:
    """Return the column of sessions; in participants.tsv ``visit`` is one only if people repeat."""
    by_name = {normalise(name): name for name in reversed(header)}
    if "sessionid" in by_name:
        return by_name["sessionid"]
    first = [normalise(name) for name in header].index("participantid") if "participantid" in by_name else None
    distinct = {tuple(cells) for _, cells in rows}  # a duplicate row does not mean several sessions
    repeats = first is not None and len({cells[first] for cells in distinct}) < len(distinct)
    if session_table or repeats:
        return next((by_name[name] for name in SESSION_COLUMNS if name in by_name), None)
    return None


def _session_label(cell: str) -> str | None:
    """Return ``ses-...`` for the session of a row, without blanks and signs (``Visit 1``); None when missing."""
    text = parse_text(cell)
    if text is None:
        return None
    bare = text[4:] if text.lower().startswith("ses-") else text
    if re.fullmatch(r"\d+\.\d*", bare):  # 1.0 from a spreadsheet means session 1; 1.5 is refused
        return label(bare.rstrip("0").rstrip(".") if not bare.partition(".")[2].strip("0") else bare, "ses")
    return label(re.sub(r"[^0-9A-Za-z+]", "", text[4:] if text.lower().startswith("ses-") else text) or text, "ses")


# --- sidecars -------------------------------------------------------------------------------------------------------


def read_sidecar(
    path: Path, root: Path, faults: list[Fault], severity: str | None = None, unfetched: str = ERROR
) -> dict[str, Any] | None:
    """Read a JSON sidecar: empty when there is none; None and a fault when it cannot be used.

    Parameters
    ----------
    severity
        Severity of the fault when it is broken.
    unfetched
        Severity of the fault when its content is not here.
    """
    shown, odd = shown_name(path, root), []
    try:
        values = read_json(path, odd)
    except FileNotFoundError:
        return {}
    except NotFetched as error:
        faults.append(make_fault("TABLE_NOT_FETCHED", shown, error.reason, severity=unfetched))
        return None
    except (Unreadable, OSError) as error:
        reason = error.reason if isinstance(error, Unreadable) else f"cannot be read ({error})"
        faults.append(make_fault("SIDECAR_UNREADABLE", shown, reason, severity=severity))
        return None
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else shorten(repr(values), 20)
        message = f"is not a JSON object but {kind} (line 1), so its content is unknown; repair or remove it"
        faults.append(make_fault("SIDECAR_UNREADABLE", shown, message, severity=severity))
        return None
    if odd:
        message = f"{some(odd, 2)}; such a value is taken as missing: repair it"
        faults.append(make_fault("SIDECAR_VALUE", shown, message))
    return values


def _meanings(
    path: Path, root: Path, header: Sequence[str], faults: list[Fault], severity: str | None, participant: str | None
) -> tuple[dict[str, Any] | None, dict[str, Fault]]:
    """Return the sidecar of a table, and doubts about columns whose meaning is unknown.

    Units and levels change numbers, so a broken sidecar of the dataset is an error. A broken sidecar of one participant
    makes that sessions table unusable (None). A broken sidecar of a phenotype table makes its columns unusable.
    """
    severity = severity or (WARNING if participant else ERROR)
    json_path = path.with_suffix(".json")
    sidecar = read_sidecar(json_path, root, faults, severity)
    if sidecar is None and participant is not None:
        return None, {}
    if sidecar is None and severity == ERROR:
        return {}, {}
    if sidecar is None:
        words = f"its columns have no known unit or levels, since {shown_name(json_path, root)} cannot be read"
        fault = make_fault("SIDECAR_UNREADABLE", shown_name(path, root), words, severity=severity)
        return {}, dict.fromkeys(header, fault)
    unsure = [name for name, about in sidecar.items() if is_ambiguous(about)]
    message = "gives {} several meanings; keep the right one"
    doubts = {
        name: make_fault(
            "SIDECAR_UNREADABLE", shown_name(json_path, root), message.format(repr(shorten(name))), None, severity
        )
        for name in unsure
    }
    return {name: about for name, about in sidecar.items() if name not in doubts}, doubts
