"""Read the tables of a dataset: participants, sessions, phenotype, and the times in scans tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from brainage_bids.bids.faults import ERROR, WARNING, Fault, make_fault, some
from brainage_bids.bids.ids import id_faults, session_faults
from brainage_bids.bids.sessions import bare, session_key, session_tails, unpadded
from brainage_bids.bids.tablefile import read_sheet, read_sidecar, read_table, shown_name, wrong_separator
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.bids.units import about_age, of_column

PARTICIPANTS = "participants.tsv"
LIKE_TABLES = (".tsv", ".csv", ".txt", ".xlsx", ".xls", ".ods", ".gz")


def read_tables(
    root: Path,
    sessions: Mapping[str, Sequence[str | None]],
    faults: list[Fault],
    people: Collection[str] = (),
    is_ignored: Callable[[str], bool] = lambda _: False,
) -> Tables:
    """Read the tables of a dataset.

    Parameters
    ----------
    root
        BIDS_DIR, absolute.
    sessions
        Participants whose sessions and scans tables are read, with their session folders.
    faults
        Faults are added to this list.
    people
        Every participant with a folder; empty: those of ``sessions``.
    is_ignored
        Returns whether ``.bidsignore`` names a table.
    """
    everyone = frozenset(people or sessions)
    participants = _participants(root, faults, is_ignored)
    joined = _joined_sessions(root, sessions, faults, is_ignored)
    alone = _unless_ignored(root / "sessions.tsv", root, faults, is_ignored)
    phenotype = [
        _unless_ignored(path, root, faults, is_ignored, severity=WARNING) for path in _phenotype_files(root, faults)
    ]
    if participants:
        participants = _as_folders(participants, sessions)
    session_tables = tuple(_as_folders(table, sessions) for table in (joined, alone) if table)
    tables = Tables(
        participants, session_tables, tuple(_as_folders(table, sessions) for table in phenotype if table),
        _session_times(root, sessions, session_tables, faults, is_ignored), everyone,
    )  # fmt: skip
    for table in tables.ordered:
        faults.extend(id_faults(table, everyone) if table is not joined else [])
    for table in (*session_tables, *((participants,) if participants else ())):
        faults.extend(session_faults(table, sessions))
    return tables


def _unless_ignored(
    path: Path,
    root: Path,
    faults: list[Fault],
    is_ignored: Callable[[str], bool],
    participant: str | None = None,
    severity: str | None = None,
) -> Table | None:
    """Read a table; None when it is absent, unusable, or named by ``.bidsignore``."""
    if not os.path.lexists(path):
        return None
    if is_ignored(shown_name(path, root)):
        faults.append(make_fault("TABLE_IGNORED", shown_name(path, root), "is named in .bidsignore and is not read"))
        return None
    return read_table(path, root, faults, participant, severity)


def _phenotype_files(root: Path, faults: list[Fault]) -> list[Path]:
    folder = root / "phenotype"
    try:
        names = os.listdir(folder)  # glob gives no error for an unreadable folder
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check its permissions and links"
        faults.append(make_fault("FOLDER_UNREADABLE", folder.name, message))
        return []
    return [folder / name for name in sorted(names) if name.endswith(".tsv") and not name.startswith(".")]


def _participants(root: Path, faults: list[Fault], is_ignored: Callable[[str], bool]) -> Table | None:
    if os.path.lexists(root / PARTICIPANTS):
        table = _unless_ignored(root / PARTICIPANTS, root, faults, is_ignored)
        return _unrepeated(table, faults) if table else None
    near = sorted(name for name in os.listdir(root) if name.casefold().startswith("participant"))
    near = [name for name in near if Path(name).suffix.lower() in LIKE_TABLES]
    message = "is not there; ages and groups can come from sessions and phenotype tables only"
    faults.append(make_fault("PARTICIPANTS_MISSING", PARTICIPANTS, message))
    if near:
        faults.append(make_fault("TABLE_NAME", near[0], f"is not read; save it as tab-separated text {PARTICIPANTS}"))
    return None


def _as_folders(table: Table, sessions: Mapping[str, Sequence[str | None]]) -> Table:
    """Return the table with its sessions spelled like the folders (``1`` -> ``ses-01``), if only one fits."""
    spelled: dict[str, dict[str, list[str]]] = {}
    for participant, folders in sessions.items():
        for session in filter(None, folders):
            spelled.setdefault(participant, {}).setdefault(session_key(session), []).append(session)

    def folder(participant: str, session: str | None) -> str | None:
        if session is None:
            return None
        meant = spelled.get(participant, {}).get(session_key(session), [])
        text = unpadded(bare(session))  # W1 in a table means the folder ses-wave1
        meant = meant or [name for name in sessions.get(participant, ()) if text in session_tails(name)]
        return meant[0] if len(meant) == 1 else session

    return replace(table, keys=tuple((person, folder(person, session)) for person, session in table.keys))


def _unrepeated(table: Table, faults: list[Fault]) -> Table | None:
    """Return participants.tsv without identical rows; None when rows of one person differ and no session is given."""
    first: dict[tuple, int] = {}
    for index, (key, row) in enumerate(zip(table.keys, table.rows, strict=True)):
        if (key, row) in first:
            message = f"repeats the row of {key[0]}; remove one of the two"
            faults.append(make_fault("ROW_REPEATED", table.name, message, table.places[index][1]))
        first.setdefault((key, row), index)
    indices = sorted(first.values())
    people = Counter(table.keys[i][0] for i in indices if table.keys[i][1] is None)
    twice = sorted(person for person, count in people.items() if count > 1)
    if twice:
        message = (
            f"repeats {some(twice)} with different cells and no session_id or visit column tells them apart; "
            "keep one row per participant or add session_id"
        )
        faults.append(make_fault("PARTICIPANT_DUPLICATED", table.name, message))
        return None
    pick = lambda values: tuple(values[i] for i in indices)  # noqa: E731
    return replace(table, rows=pick(table.rows), keys=pick(table.keys), places=pick(table.places))


# --- sessions -------------------------------------------------------------------------------------------------------


def _joined_sessions(
    root: Path, sessions: Mapping[str, Sequence], faults: list[Fault], is_ignored: Callable[[str], bool]
) -> Table | None:
    """Join every ``sub-X/sub-X_sessions.tsv`` into one table; columns missing in a file get empty cells."""
    tables = []
    for participant in sessions:
        path = root / participant / f"{participant}_sessions.tsv"
        tables.append(_unless_ignored(path, root, faults, is_ignored, participant))
        _report_other_names(path, root, faults)
    tables = [table for table in tables if table is not None]
    if not tables:
        return None
    above = read_sidecar(root / "sessions.json", root, faults, ERROR) or {}
    columns = tuple(dict.fromkeys(name for table in tables for name in table.columns))
    sidecar: dict[str, Any] = dict(above)
    doubts: dict[str, Fault] = {}
    meanings: dict[str, tuple[object, str]] = {}  # meaning of a column in the first sidecar, and its table
    rows = []
    for table in tables:
        where = [table.columns.index(name) if name in table.columns else None for name in columns]
        rows.extend(tuple("" if at is None else row[at] for at in where) for row in table.rows)
        doubts |= table.doubts
        merged = _inherited(above, table.sidecar)
        for name in table.columns:
            meaning = _meaning(merged.get(name))
            before = meanings.setdefault(name, (meaning, table.name))
            if meaning != before[0]:
                message = f"gives {name!r} another unit or other levels than that of {before[1]}; make them equal"
                doubts[name] = make_fault("SIDECAR_CONFLICT", Path(table.name).with_suffix(".json").name, message)
        sidecar |= {name: merged[name] for name in table.sidecar}
    faults.extend(replace(fault, severity=WARNING) for fault in doubts.values() if fault.code == "SIDECAR_CONFLICT")
    keys = tuple(key for table in tables for key in table.keys)
    places = tuple((Path(file).name, line) for table in tables for file, line in table.places)
    odd = tuple(name for table in tables for name in table.odd_ids)
    return Table("sub-*_sessions.tsv", columns, tuple(rows), keys, places, sidecar, doubts, odd)


def _meaning(about: object) -> object:
    """Return the parts of a sidecar entry that change how cells are read: units, levels, words on ages."""
    if isinstance(about, str):
        about = {"Description": about}
    if not isinstance(about, Mapping):
        return None
    texts = [of_column(about, key) for key in ("LongName", "Description")]
    words = about_age(". ".join(text for text in texts if isinstance(text, str)))
    return repr([of_column(about, "Units", "Unit"), of_column(about, "Levels")]), words


def _inherited(above: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two sidecars: entries of the table's own sidecar replace those of the one above."""
    merged = dict(above)
    for name, about in own.items():
        before = merged.get(name)
        merged[name] = {**before, **about} if isinstance(before, Mapping) and isinstance(about, Mapping) else about
    return merged


def _report_other_names(path: Path, root: Path, faults: list[Fault]) -> None:
    """Add a fault for each sessions table in a participant's folder that has a wrong name."""
    try:
        names = [name for name in os.listdir(path.parent) if name.lower().endswith(("_sessions.tsv", "_sessions.csv"))]
    except OSError:
        return  # reported by the search for images
    for name in names:
        if name != path.name and not name.startswith("."):
            message = f"is not read; the sessions table of {path.parent.name} must be named {path.name}"
            faults.append(make_fault("TABLE_NAME", f"{path.parent.name}/{name}", message))


# --- times ----------------------------------------------------------------------------------------------------------


def _session_times(
    root: Path,
    sessions: Mapping[str, Sequence],
    tables: Sequence[Table],
    faults: list[Fault],
    is_ignored: Callable[[str], bool],
) -> dict[tuple[str, str | None], datetime]:
    """Return the earliest ``acq_time`` of every session, from sessions tables, else from ``*_scans.tsv``."""
    times: dict[tuple[str, str | None], datetime] = {}
    for table in tables:
        if "acq_time" in table.columns and "acq_time" not in table.doubts:
            for key, cell in zip(table.keys, table.cells("acq_time"), strict=True):
                _note_time(times, key, cell)
    for participant, folders in sessions.items():
        for session in folders:
            if (participant, session) in times:
                continue
            stem = "_".join(filter(None, [participant, session]))
            path = root.joinpath(*filter(None, [participant, session]), f"{stem}_scans.tsv")
            if os.path.lexists(path) and not is_ignored(shown_name(path, root)):
                # dates matter for the ages at several sessions; for one session they change nothing
                for cell in _times_of(path, root, faults, ERROR if len(folders) > 1 else WARNING):
                    _note_time(times, (participant, session), cell)
    return times


def _times_of(path: Path, root: Path, faults: list[Fault], unfetched: str) -> list[str]:
    shown = shown_name(path, root)
    sheet = read_sheet(path, shown, faults, severity=WARNING, unfetched=unfetched)
    if sheet is None:
        return []
    if reason := wrong_separator(sheet.columns):
        faults.append(make_fault("TABLE_UNREADABLE", shown, reason, 1, WARNING))
    if "acq_time" not in sheet.columns or "acq_time" in sheet.doubts:
        return []
    at = sheet.columns.index("acq_time")
    return [cells[at] for _, cells in sheet.rows]


def _note_time(times: dict, key: tuple[str, str | None], cell: str) -> None:
    try:
        time = datetime.fromisoformat(cell).replace(tzinfo=None)
    except ValueError:
        return
    times[key] = min(time, times.get(key, time))
