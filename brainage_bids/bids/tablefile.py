"""Read one table of a dataset, and the JSON sidecar beside it; what is wrong becomes faults, never an exception.

Tables are read as text, by tabs only: no quoting, no type guessing, no index guessing, so a cell can never slip under
another column or person. A fault of one column is a doubt about that column (`Table.doubts`), not about the table.
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
    """The columns of a file (each name once), its rows of equal length, and faults of single columns."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    doubts: Mapping[str, Fault] = field(default_factory=dict)


def shown_name(path: Path, root: Path) -> str:
    """Return how a file is named to the user: below BIDS_DIR, with forward slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


# --- cells ----------------------------------------------------------------------------------------------------------


def read_sheet(
    path: Path, shown: str, faults: list[Fault], severity: str | None = None, unfetched: str = ERROR
) -> Sheet | None:
    """Read the cells of a table; None and a fault when it cannot be used.

    ``.csv`` files are read by commas (semicolons or tabs, where the first line has none), all others by tabs.

    Parameters
    ----------
    severity
        Of faults that make the table, or a column of it, unusable; None: that of their code.
    unfetched
        Severity when the content of the file is not here.
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
    """Return the sheet with every column name once: of columns of one name the first, doubtful if they differ."""
    first: dict[str, int] = {}
    doubts, same = {}, []
    for at, name in enumerate(sheet.columns):
        one = first.setdefault(name, at)
        if any(cells[one] != cells[at] for _, cells in sheet.rows):
            named = f"several columns named {shorten(name)!r}" if name else "several columns without a name"
            message = f"has {named} that differ; rename or remove all but one"
            doubts[name] = make_fault("TABLE_COLUMN_REPEATED", shown, message, 1, severity)
        elif one != at:
            same.append(name)
    if same := [repr(shorten(name)) for name in dict.fromkeys(same) if name and name not in doubts]:
        message = f"repeats the columns {some(same)} with the same cells; the first is read"
        faults.append(make_fault("TABLE_COLUMN_REPEATED", shown, message, 1, WARNING))
    if len(first) == len(sheet.columns):
        return sheet
    kept = tuple((number, tuple(cells[at] for at in first.values())) for number, cells in sheet.rows)
    return Sheet(tuple(first), kept, doubts)


def _readable(sheet: Sheet, shown: str, severity: str | None) -> Sheet:
    """Return the sheet with bytes that are not UTF-8 replaced, and a doubt about the columns that hold some.

    Line ends, tabs, digits and plain letters are the same bytes in every encoding that a table is saved in by mistake
    and that holds no NUL, so no other cell is touched by it.
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
    """Say that a table with one column is separated by something else than tabs; None when it is not."""
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
        The participant the file belongs to (``sub-01_sessions.tsv``); None when a column names them.
    severity
        Overrides the severity of faults that make the table, or a column of it, unusable.
    """
    shown = shown_name(path, root)
    sheet = read_sheet(path, shown, faults, severity)
    if sheet is None:
        return None
    header = sheet.columns
    ids = [name for name in header if normalise(name) == "participantid"]
    reason = wrong_separator(header)
    if participant is None and not ids:
        message = reason or f"has no participant_id column but {some(header)}; name the column so"
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
    keys, kept, odd = [], [], []
    for number, cells in sheet.rows:
        written = cells[header.index(ids[0])] if ids else participant
        try:
            named = label(written, "sub")
            key = (named, _session_label(cells[header.index(session_column)]) if session_column else None)
        except UsageError as error:
            faults.append(make_fault("TABLE_BAD_ID", shown, f"the row is ignored: {error}", number))
            odd.append(written)
            continue
        if named is None or (participant is not None and named != participant):
            other = f", not {participant}" if participant and named else ""
            message = f"the row is ignored: its participant_id is {shorten(named or 'empty')}{other}"
            faults.append(make_fault("TABLE_BAD_ID", shown, message, number))
            continue
        keys.append(key)
        kept.append((number, cells))
    sidecar, doubts = _meanings(path, root, header, faults, severity, participant)
    if sidecar is None:
        return None
    places = tuple((shown, number) for number, _ in kept)
    rows = tuple(cells for _, cells in kept)
    return Table(shown, header, rows, tuple(keys), places, sidecar, {**doubts, **sheet.doubts}, tuple(odd))


def _session_column(header: Sequence[str], rows: Sequence[Row], session_table: bool) -> str | None:
    """Return the column that tells sessions; ``visit`` counts in participants.tsv only if people repeat."""
    by_name = {normalise(name): name for name in reversed(header)}
    if "sessionid" in by_name:
        return by_name["sessionid"]
    first = [normalise(name) for name in header].index("participantid") if "participantid" in by_name else None
    distinct = {tuple(cells) for _, cells in rows}  # a row that stands twice tells no sessions
    repeats = first is not None and len({cells[first] for cells in distinct}) < len(distinct)
    if session_table or repeats:
        return next((by_name[name] for name in SESSION_COLUMNS if name in by_name), None)
    return None


def _session_label(cell: str) -> str | None:
    """Return ``ses-...`` for the session of a row; blanks and signs inside (``Visit 1``) are dropped."""
    text = parse_text(cell)
    if text is None:
        return None
    bare = text[4:] if text.lower().startswith("ses-") else text
    if re.fullmatch(r"\d+\.\d*", bare):  # 1.0 of a spreadsheet is session 1; 1.5 is none
        return label(bare.rstrip("0").rstrip(".") if not bare.partition(".")[2].strip("0") else bare, "ses")
    return label(re.sub(r"[^0-9A-Za-z+]", "", text[4:] if text.lower().startswith("ses-") else text) or text, "ses")


# --- sidecars -------------------------------------------------------------------------------------------------------


def read_sidecar(
    path: Path, root: Path, faults: list[Fault], severity: str | None = None, unfetched: str = ERROR
) -> dict[str, Any] | None:
    """Read a JSON sidecar: empty when there is none, None and a fault when it cannot be used.

    Parameters
    ----------
    severity
        Of a broken one.
    unfetched
        Of one whose content is not here.
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
        message = f"is not a JSON object but {kind} (line 1), so what it tells is unknown; repair or remove it"
        faults.append(make_fault("SIDECAR_UNREADABLE", shown, message, severity=severity))
        return None
    if odd:
        message = f"{some(odd, 2)}; such a value is taken as missing: repair it"
        faults.append(make_fault("SIDECAR_VALUE", shown, message))
    return values


def _meanings(
    path: Path, root: Path, header: Sequence[str], faults: list[Fault], severity: str | None, participant: str | None
) -> tuple[dict[str, Any] | None, dict[str, Fault]]:
    """Return the sidecar of a table, and doubts about the columns whose meaning it leaves unknown.

    Units and levels of participants and sessions change numbers, so a broken sidecar is an error; that of one
    participant makes the sessions table of that one useless (None), and that of a phenotype table its columns.
    """
    one = severity or (WARNING if participant else ERROR)
    place = path.with_suffix(".json")
    sidecar = read_sidecar(place, root, faults, one)
    if sidecar is None and participant is not None:
        return None, {}
    if sidecar is None and one == ERROR:
        return {}, {}
    if sidecar is None:
        words = f"its columns have no known unit or levels, since {shown_name(place, root)} cannot be read"
        fault = make_fault("SIDECAR_UNREADABLE", shown_name(path, root), words, severity=one)
        return {}, dict.fromkeys(header, fault)
    unsure = [name for name, about in sidecar.items() if is_ambiguous(about)]
    message = "gives {} several meanings; keep the right one"
    doubts = {
        name: make_fault("SIDECAR_UNREADABLE", shown_name(place, root), message.format(repr(shorten(name))), None, one)
        for name in unsure
    }
    return {name: about for name, about in sidecar.items() if name not in doubts}, doubts
