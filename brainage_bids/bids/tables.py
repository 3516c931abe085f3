"""Read the tables of a BIDS dataset: participants, sessions, phenotype, scans.

Knows rows, labels and sidecars, not what an age or a score is. Tables are read as text, by tabs only: no quoting, no
type guessing, no index guessing, so a cell can never slip under another column or person.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from brainage_bids.bids.aliases import SESSION_COLUMNS, normalise
from brainage_bids.bids.faults import ERROR, Fault, make_fault, some
from brainage_bids.bids.files import read_json
from brainage_bids.bids.parse import clean, label, parse_text
from brainage_bids.errors import BadDataError, UsageError


@dataclass(frozen=True, eq=False)
class Table:
    """One table, or the same table of many participants joined.

    Parameters
    ----------
    name
        Path below BIDS_DIR with forward slashes; what the user sees.
    columns
        Names as written (stripped).
    rows
        Cells as text, one tuple per row.
    keys
        ``(participant_id, session_id)`` of every row, with prefixes; the session is None where the row has none.
    places
        ``(file, line)`` of every row.
    sidecar
        JSON sidecar by column name.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: tuple[tuple[str, str | None], ...]
    places: tuple[tuple[str, int], ...]
    sidecar: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def rows_by_participant(self) -> dict[str, list[int]]:
        """Row numbers of every participant."""
        found: dict[str, list[int]] = {}
        for index, (participant, _) in enumerate(self.keys):
            found.setdefault(participant, []).append(index)
        return found

    @cached_property
    def by_normal_name(self) -> dict[str, tuple[str, ...]]:
        """Column names as written, by normalised name."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.columns:
            found[normalise(name)] = (*found.get(normalise(name), ()), name)
        return found

    def cells(self, column: str) -> list[str]:
        """Return the cells of a column."""
        position = self.columns.index(column)
        return [row[position] for row in self.rows]

    def about(self, column: str) -> Mapping[str, Any]:
        """Return what the JSON sidecar says about a column (an empty mapping when nothing)."""
        told = self.sidecar.get(column)
        if told is None:
            told = next((about for key, about in self.sidecar.items() if normalise(key) == normalise(column)), None)
        return told if isinstance(told, Mapping) else {}

    def named(self, asked: str) -> list[str]:
        """Return the columns a user may mean: the exact name, else those equal after normalisation."""
        return [asked] if asked in self.columns else list(self.by_normal_name.get(normalise(asked), ()))

    def find(self, aliases: Sequence[str]) -> list[str]:
        """Return the columns whose normalised name is one of the aliases, in the order of the aliases."""
        return [name for alias in aliases for name in self.by_normal_name.get(alias, ())]

    def session_rows(self, participant: str, session: str | None) -> list[int]:
        """Return the rows of one participant that belong to one session.

        A scan without session belongs to the one session that a table may list for the participant, if it is one.
        """
        rows = [i for i in self.rows_by_participant.get(participant, ()) if self.keys[i][1] is not None]
        if session is None:
            return rows if len({self.keys[i][1] for i in rows}) == 1 else []
        exact = [i for i in rows if self.keys[i][1] == session]
        return exact or [i for i in rows if session_key(self.keys[i][1]) == session_key(session)]

    def participant_rows(self, participant: str) -> list[int]:
        """Return the rows of one participant that name no session."""
        return [i for i in self.rows_by_participant.get(participant, ()) if self.keys[i][1] is None]

    @cached_property
    def has_sessions(self) -> bool:
        """Whether some row names a session."""
        return any(session is not None for _, session in self.keys)

    @cached_property
    def has_participants(self) -> bool:
        """Whether some row names no session."""
        return any(session is None for _, session in self.keys)


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a dataset; ``times`` holds the acquisition time of sessions, by participant and session."""

    participants: Table | None
    sessions: tuple[Table, ...]
    phenotype: tuple[Table, ...]
    times: Mapping[tuple[str, str | None], datetime]

    @property
    def ordered(self) -> tuple[Table, ...]:
        """Tables in the order in which they are asked: sessions, participants, phenotype."""
        first = (self.participants,) if self.participants else ()
        return (*self.sessions, *first, *self.phenotype)


def session_key(session: str | None) -> str:
    """Return what two spellings of a session share: ``ses-01``, ``1``, ``Visit 1`` and ``V01`` -> ``1``."""
    text = re.sub(r"[^a-z0-9]", "", (session or "").lower().removeprefix("ses-"))
    text = unpadded(text)
    return re.sub(r"^(?:ses|sess|session|visit|v)(?=\d+$)", "", text)


def session_tails(session: str | None) -> frozenset[str]:
    """Return how the columns of a wide table may end for a session: ``ses-W1`` -> ``w1``, ``sesw1``, ...

    A bare number is no tail: ``age1`` may mean anything, ``age_ses-1`` may not.
    """
    text = unpadded(normalise((session or "").removeprefix("ses-")))
    heads = ("", "ses", "sess", "session", "examses") if text[:1].isalpha() else ("ses", "sess", "session", "examses")
    return frozenset(head + text for head in heads) if text else frozenset()


def unpadded(text: str) -> str:
    """Return a text with the leading zeros of its numbers dropped."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def wide_names(table: Table, aliases: Sequence[str], tails: frozenset[str]) -> list[tuple[str, str, str]]:
    """Return ``(tail, column, alias)`` of the columns made of an alias and one of the tails, as the aliases go."""
    names = [(normalise(name), name) for name in table.columns]
    return [
        (unpadded(normal[len(alias) :]), name, alias)
        for alias in aliases
        for normal, name in names
        if normal.startswith(alias) and unpadded(normal[len(alias) :]) in tails
    ]


# --- one file -------------------------------------------------------------------------------------------------------


def read_rows(path: Path, shown: str, faults: list[Fault], severity: str | None = None) -> tuple[list[str], list]:
    """Read the header and ``(line number, cells)`` of a table; faults instead of exceptions, and an empty answer then.

    ``.csv`` files are read by commas, all others by tabs.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot be read as UTF-8 text ({error}); save it as a tab-separated UTF-8 table"
        faults.append(make_fault("TABLE_UNREADABLE", shown, message, severity=severity))
        return [], []
    lines = list(enumerate(re.split(r"\r\n|\r|\n", text), start=1))
    if path.suffix == ".csv":
        split = [(n, next(csv.reader([line]))) for n, line in lines if line.strip()]
    else:
        split = [(n, line.split("\t")) for n, line in lines if line.strip()]
    if not split:
        faults.append(make_fault("TABLE_UNREADABLE", shown, "is empty; add a header and rows", severity=severity))
        return [], []
    header, rows = [clean(cell) for cell in split[0][1]], []
    while header and not header[-1]:
        header.pop()
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        message = f"has several columns named {some(repeated)}; rename or remove all but one"
        faults.append(make_fault("TABLE_COLUMN_REPEATED", shown, message, 1, severity))
        return [], []
    for number, raw in split[1:]:
        cells = [clean(cell) for cell in raw]
        if any(cells[len(header) :]):
            message = f"has {len(cells)} cells under {len(header)} columns; look for a stray tab"
            faults.append(make_fault("TABLE_ROW_LENGTH", shown, message, number, severity))
            continue
        if any(cells):
            rows.append((number, tuple((cells + [""] * len(header))[: len(header)])))
    return header, rows


def read_table(
    path: Path, root: Path, faults: list[Fault], participant: str | None = None, severity: str | None = None
) -> Table | None:
    """Read one table with its sidecar; None (and a fault) when it cannot be used.

    Parameters
    ----------
    participant
        The participant the file belongs to (``sub-01_sessions.tsv``); None when a column names them.
    severity
        Overrides the severity of faults that make the table unusable.
    """
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    header, rows = read_rows(path, shown, faults, severity)
    if not header:
        return None
    ids = [name for name in header if normalise(name) == "participantid"][:1]
    if participant is None and not ids:
        message = f"has no participant_id column but {some(header)}; is it separated by tabs? Name the column so"
        faults.append(make_fault("TABLE_ID_MISSING", shown, message, 1, severity))
        return None
    by_session = participant is not None or path.stem == "sessions" or path.parent.name == "phenotype"
    session_column = _session_column(header, rows, by_session)
    keys, kept = [], []
    for number, cells in rows:
        try:
            named = label(cells[header.index(ids[0])], "sub") if ids else participant
            key = (named, _session_label(cells[header.index(session_column)]) if session_column else None)
        except UsageError as error:
            faults.append(make_fault("TABLE_BAD_ID", shown, f"the row is ignored: {error}", number))
            continue
        if key[0] is None or (participant is not None and key[0] != participant):
            message = f"the row is ignored: its participant_id is {key[0] or 'empty'}"
            faults.append(make_fault("TABLE_BAD_ID", shown, message, number))
            continue
        keys.append(key)
        kept.append((number, cells))
    places = tuple((shown, number) for number, _ in kept)
    sidecar = read_sidecar(path.with_suffix(".json"), root, faults)
    return Table(shown, tuple(header), tuple(cells for _, cells in kept), tuple(keys), places, sidecar)


def _session_column(header: list[str], rows: list, session_table: bool) -> str | None:
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


def read_sidecar(path: Path, root: Path, faults: list[Fault], severity: str | None = None) -> dict[str, Any]:
    """Read a JSON sidecar; an absent one is empty, a broken one too, with a fault."""
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
    except (BadDataError, OSError) as error:
        values = error
    if isinstance(values, dict):
        return values
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    # Units and Levels of participants.json change numbers, so a broken one stops the run.
    severity = severity or (ERROR if shown == "participants.json" else None)
    message = "is not a JSON object, so units and levels are unknown; repair or remove it"
    faults.append(make_fault("SIDECAR_UNREADABLE", shown, message, severity=severity))
    return {}


# --- the dataset ----------------------------------------------------------------------------------------------------


def read_tables(root: Path, sessions: Mapping[str, Sequence[str | None]], faults: list[Fault]) -> Tables:
    """Read the tables of a dataset.

    Parameters
    ----------
    root
        BIDS_DIR, absolute.
    sessions
        The participants to read sessions and scans tables of, with their session folders.
    faults
        Receives what is wrong.
    """
    participants = None
    if (root / "participants.tsv").exists():
        participants = read_table(root / "participants.tsv", root, faults)
        participants = _unrepeated(participants, faults) if participants else None
    else:
        message = "is not there; ages and groups can come from sessions and phenotype tables only"
        faults.append(make_fault("PARTICIPANTS_MISSING", "participants.tsv", message))
    session_tables = [_joined_sessions(root, sessions, faults)]
    if (root / "sessions.tsv").exists():
        session_tables.append(read_table(root / "sessions.tsv", root, faults))
    phenotype = [read_table(path, root, faults, severity="warning") for path in sorted(root.glob("phenotype/*.tsv"))]
    read = tuple(_as_folders(table, sessions) for table in session_tables if table is not None)
    return Tables(
        _as_folders(participants, sessions) if participants else None, read,
        tuple(_as_folders(table, sessions) for table in phenotype if table is not None),
        _session_times(root, sessions, read, faults),
    )  # fmt: skip


def _as_folders(table: Table, sessions: Mapping[str, Sequence[str | None]]) -> Table:
    """Return the table with its sessions spelled as the folders are (``1`` -> ``ses-01``), where only one fits."""
    spelled: dict[str, dict[str, list[str]]] = {}
    for participant, folders in sessions.items():
        for session in filter(None, folders):
            spelled.setdefault(participant, {}).setdefault(session_key(session), []).append(session)

    def folder(participant: str, session: str | None) -> str | None:
        meant = spelled.get(participant, {}).get(session_key(session), []) if session else []
        return meant[0] if len(meant) == 1 else session

    return replace(table, keys=tuple((person, folder(person, session)) for person, session in table.keys))


def _unrepeated(table: Table, faults: list[Fault]) -> Table | None:
    """Return participants.tsv with word-for-word repeated rows read once; None when people repeat otherwise."""
    first: dict[tuple, int] = {}
    for index, (key, row) in enumerate(zip(table.keys, table.rows, strict=True)):
        if (key, row) in first:
            message = f"repeats the row of {key[0]}; remove one of the two"
            faults.append(make_fault("ROW_REPEATED", table.name, message, table.places[index][1]))
        first.setdefault((key, row), index)
    kept = sorted(first.values())
    people = [table.keys[i][0] for i in kept if table.keys[i][1] is None]
    twice = sorted({person for person in people if people.count(person) > 1}) if len(set(people)) < len(people) else []
    if twice:
        message = (
            f"repeats {some(twice)} with different cells and no session_id or visit column tells them apart; "
            "keep one row per participant or add session_id"
        )
        faults.append(make_fault("PARTICIPANT_DUPLICATED", table.name, message))
        return None
    pick = lambda values: tuple(values[i] for i in kept)  # noqa: E731
    return Table(table.name, table.columns, pick(table.rows), pick(table.keys), pick(table.places), table.sidecar)


def _joined_sessions(root: Path, sessions: Mapping[str, Sequence], faults: list[Fault]) -> Table | None:
    """Join every ``sub-X/sub-X_sessions.tsv`` into one table; a column that a file lacks is empty there."""
    tables = []
    for participant in sessions:
        path = root / participant / f"{participant}_sessions.tsv"
        if path.exists():
            tables.append(read_table(path, root, faults, participant))
    tables = [table for table in tables if table is not None]
    if not tables:
        return None
    columns = tuple(dict.fromkeys(name for table in tables for name in table.columns))
    sidecar = read_sidecar(root / "sessions.json", root, faults)
    rows = []
    for table in tables:
        where = [table.columns.index(name) if name in table.columns else None for name in columns]
        rows.extend(tuple("" if at is None else row[at] for at in where) for row in table.rows)
        for name, about in table.sidecar.items():
            before = sidecar.get(name)
            if isinstance(before, dict) and isinstance(about, dict):
                differ = [key for key in ("Units", "Levels") if before.get(key, about.get(key)) != about.get(key)]
                if differ:
                    message = f"gives {name!r} other {' and '.join(differ)} than the files before; make them one"
                    faults.append(make_fault("SIDECAR_CONFLICT", Path(table.name).with_suffix(".json").name, message))
        sidecar = {**sidecar, **table.sidecar}
    keys = tuple(key for table in tables for key in table.keys)
    places = tuple((Path(file).name, line) for table in tables for file, line in table.places)
    return Table("sub-*_sessions.tsv", columns, tuple(rows), keys, places, sidecar)


def _session_times(
    root: Path, sessions: Mapping[str, Sequence], tables: Sequence[Table], faults: list[Fault]
) -> dict[tuple[str, str | None], datetime]:
    """Return the earliest ``acq_time`` of every session, from sessions tables, else from ``*_scans.tsv``."""
    times: dict[tuple[str, str | None], datetime] = {}
    for table in tables:
        if "acq_time" in table.columns:
            for key, cell in zip(table.keys, table.cells("acq_time"), strict=True):
                _note_time(times, key, cell)
    for participant, folders in sessions.items():
        for session in folders:
            if (participant, session) in times:
                continue
            stem = "_".join(filter(None, [participant, session]))
            path = root.joinpath(*filter(None, [participant, session]), f"{stem}_scans.tsv")
            if path.exists():
                header, rows = read_rows(path, path.relative_to(root).as_posix(), faults, severity="warning")
                for _, cells in rows if "acq_time" in header else ():
                    _note_time(times, (participant, session), cells[header.index("acq_time")])
    return times


def _note_time(times: dict, key: tuple[str, str | None], cell: str) -> None:
    try:
        time = datetime.fromisoformat(cell).replace(tzinfo=None)
    except ValueError:
        return
    times[key] = min(time, times.get(key, time))
