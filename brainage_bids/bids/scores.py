"""Find the clinical scores that belong to a scan.

A score belongs to a scan when it was taken at the same session, or else at the nearest session within a gap. Baseline
values belong to baseline scans only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brainage_bids.bids.agebook import AgeBook
from brainage_bids.bids.ages import is_baseline, months_between
from brainage_bids.bids.aliases import (
    MEDICATION_STATE,
    SCORE_RULES,
    canonical_score,
    normalise,
    score_state,
)
from brainage_bids.bids.asked import asked_tables, nearest
from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.grouptables import BY_MODEL
from brainage_bids.bids.parse import check_score, natural_key, parse_numbers
from brainage_bids.bids.sessions import session_tails, wide_names
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.errors import UsageError, shorten
from brainage_bids.schema import BRAINAGE_COLUMNS, DATASET, QC_WARNINGS, RATE_AGE, Scan

RESERVED = frozenset({*BRAINAGE_COLUMNS, DATASET, RATE_AGE, QC_WARNINGS, "split"})  # names a score must not have

ScoreRequest = tuple[str, ...]  # name, file, column[, unit]


def parse_score_option(text: str, option: str = "--score") -> ScoreRequest:
    """Read ``NAME=FILE:COLUMN``, for instance ``BDI=participants.tsv:BDI``; ``option`` is named in errors.

    Raises
    ------
    UsageError
        When the text has another form.
    """
    match = re.fullmatch(r"\s*([^=]+?)\s*=\s*(.+?\.(?:tsv|csv))\s*:([^:]+)", text)
    if not match:
        raise UsageError(
            f"{option} {shorten(text)!r} must be NAME=FILE:COLUMN, for instance BDI=participants.tsv:BDI or "
            "updrs3=phenotype/updrs.tsv:NP3TOT"
        )
    if not re.fullmatch(r"[A-Za-z][0-9A-Za-z_.-]*", match[1]):
        raise UsageError(
            f"{option} {shorten(text)!r}: the name {shorten(match[1])!r} must start with a letter and hold no blanks"
        )
    if match[1] in RESERVED or match[1].startswith(tuple(BY_MODEL)):
        raise UsageError(
            f"{option} {shorten(text)!r}: brainage.tsv has a column {shorten(match[1])!r} already; choose another name"
        )
    return tuple(part.strip() for part in match.groups())


@dataclass(frozen=True, eq=False)
class ScoreColumn:
    """The values of one score in one table (numbers or None); in wide tables ``tail`` names the session."""

    table: Table
    name: str
    values: tuple[float | None, ...]
    baseline_only: bool = False
    tail: str = ""

    def at(self, rows: Sequence[int]) -> set[float]:
        """Return the distinct values on the given rows."""
        return {self.values[i] for i in rows if self.values[i] is not None}


@dataclass(frozen=True, eq=False)
class ScoreBook:
    """The columns of every score in order of preference, the largest gap (months), and remarks for faults."""

    columns: Mapping[str, tuple[ScoreColumn, ...]]
    ages: AgeBook
    max_gap: float
    events: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))


# --- columns --------------------------------------------------------------------------------------------------------


def read_score_book(
    tables: Tables, asked: Sequence[ScoreRequest], max_gap: float, ages: AgeBook, root: Path, faults: list[Fault]
) -> ScoreBook:
    """Read the columns of requested and recognised scores; ambiguous ones become faults.

    Parameters
    ----------
    max_gap
        Largest time between a scan and a score of another session, months.
    root
        BIDS_DIR, absolute.
    """
    columns: dict[str, list[ScoreColumn]] = {}
    for request in asked:
        columns.setdefault(request[0], []).extend(_asked_columns(tables, request, root, faults))
    taken = {canonical_score(name) for name in columns}
    sessions = {session for known in ages.sessions.values() for session in known}
    tails = frozenset().union(*(session_tails(session) for session in sessions))
    for name, rule in SCORE_RULES.items():
        if name in taken:
            continue
        per_table = [_recognised_columns(table, name, rule.aliases, tails, faults) for table in tables.ordered]
        if any(per_table):
            columns[name] = [column for some_columns in per_table for column in some_columns]
    return ScoreBook({name: tuple(group) for name, group in columns.items()}, ages, max_gap)


def _asked_columns(tables: Tables, request: ScoreRequest, root: Path, faults: list[Fault]) -> list[ScoreColumn]:
    name, file, column = request
    chosen = asked_tables(tables, file, root, faults)
    if chosen is None:
        have = some((table.name for table in tables.ordered), 10)
        message = f"--score {name}: {shorten(file)} is not in the dataset (there: {have}); check the path"
        faults.append(make_fault("SCORE_FILE_UNKNOWN", file, message))
        return []
    matches = [(table, names[0]) for table in chosen if len(names := table.named(column)) == 1]
    if chosen and not matches:
        message = f"--score {name}: there is no column {shorten(column)!r} ({nearest(column, chosen)})"
        faults.append(make_fault("SCORE_COLUMN_UNKNOWN", file, message))
    return [_read_column(table, written, name, faults) for table, written in matches]


def _recognised_columns(
    table: Table, score: str, aliases: Sequence[str], tails: frozenset[str], faults: list[Fault]
) -> list[ScoreColumn]:
    """Return at most one column of session or participant values, one of baseline values, and all wide columns."""
    plain = table.find(aliases)
    best = [n for state in ("off", "", "on") for n in plain if score_state(n) == state]
    best = [n for n in best if score_state(n) == score_state(best[0])]  # OFF before unstated before ON, never mixed
    read = [_read_column(table, name, score, faults) for name in best if not _is_lookalike(table, name, score, faults)]
    found = _merged(read, score, faults)
    base = table.find([f"{alias}bl" for alias in aliases])
    found += _merged([_read_column(table, name, score, faults, baseline=True) for name in base], score, faults)
    taken = {*plain, *base}
    wide = [(tail, name) for tail, name, _ in wide_names(table.columns, aliases, tails) if name not in taken]
    return found + [_read_column(table, name, score, faults, tail=tail) for tail, name in wide]


def _merged(columns: list[ScoreColumn], score: str, faults: list[Fault]) -> list[ScoreColumn]:
    """Merge columns that agree into one; if they disagree, add a fault and return none."""
    if len(columns) < 2:
        return columns
    first, values = columns[0], list(columns[0].values)
    for column in columns[1:]:
        for row, value in enumerate(column.values):
            if values[row] is None:
                values[row] = value
            elif value is not None and value != values[row]:
                names = " and ".join(repr(c.name) for c in columns)
                message = (
                    f"columns {names} disagree on {score} ({values[row]:g} and {value:g}); choose one with --score"
                )
                faults.append(make_fault("SCORE_AMBIGUOUS", *_place(first.table, row, message)))
                return []
    return [ScoreColumn(first.table, first.name, tuple(values), first.baseline_only, first.tail)]


def _place(table: Table, row: int, message: str) -> tuple[str, str, int]:
    file, line = table.places[row]
    return file, message, line


def _is_lookalike(table: Table, name: str, score: str, faults: list[Fault]) -> bool:
    """Return whether a column named ``cdr`` is not the global CDR (the NIFD converter stores the sum of boxes)."""
    if score != "cdr_global" or normalise(name) != "cdr":
        return False
    values = {v for v in parse_numbers(table.cells(name))[0] if v is not None and v >= 0 and v != 999}
    strange = sorted(values - {0.0, 0.5, 1.0, 2.0, 3.0})
    if strange:
        message = (
            f"{name!r} holds {strange[0]:g}, which is no global CDR; name it with --score cdr_sb={table.name}:{name}"
        )
        faults.append(make_fault("SCORE_LOOKALIKE", table.name, message))
    return bool(strange)


def _read_column(
    table: Table, column: str, score: str, faults: list[Fault], baseline: bool = False, tail: str = ""
) -> ScoreColumn:
    """Read one column of scores; sentinels and impossible values become missing, with one fault per column."""
    cells = table.cells(column) if table.is_sure(column, faults, sidecar=False) else [""] * len(table.rows)
    numbers, unreadable = parse_numbers(cells)
    rule_name = score if canonical_score(score) else column
    # -1 and -4 mean missing, unless the score has other negative values (z scores, changes).
    signed = canonical_score(rule_name) is None and any(n is not None and n < 0 and n not in (-1, -4) for n in numbers)
    checked = [(n, None) if n is None or signed else check_score(rule_name, n) for n in numbers]
    bad = {"SCORE_SENTINEL": [], "SCORE_VALUE": list(unreadable)}
    for row, (_, flag) in enumerate(checked):
        if flag:
            bad["SCORE_SENTINEL" if flag == "sentinel" else "SCORE_VALUE"].append(row)
    for code, rows in bad.items():
        if rows:
            listed = some(f"{table.keys[row][0]} {cells[row]!r}" for row in sorted(rows))
            message = f"{len(rows)} values of {column!r} are read as missing for {score}: {listed}"
            faults.append(make_fault(code, *_place(table, min(rows), message)))
    values = _in_one_state(table, score, column, [value for value, _ in checked], faults)
    return ScoreColumn(table, column, tuple(values), baseline, tail)


def _in_one_state(
    table: Table, score: str, column: str, values: list[float | None], faults: list[Fault]
) -> list[float | None]:
    """Drop motor scores taken ON medication when the table also has OFF values: states are never mixed."""
    states = table.find(MEDICATION_STATE)
    motor = (canonical_score(score) or canonical_score(column)) in ("updrs3", "hy")
    if not states or not motor or score_state(column):
        return values
    if not table.is_sure(states[0], faults):
        return [None] * len(values)
    state_cells = [cell.strip().casefold() for cell in table.cells(states[0])]
    return [None if state == "on" and "off" in state_cells else v for v, state in zip(values, state_cells, strict=True)]


# --- resolution -----------------------------------------------------------------------------------------------------


def resolve_score(book: ScoreBook, name: str, participant: str, session: str | None) -> float | None:
    """Return one score of a participant at a session, None when there is none.

    The first available of: the value of that session; a wide column for that session; the nearest other session within
    the largest gap; the participant's value; the baseline value, for a baseline scan.
    """
    columns = book.columns[name]
    dated = [c for c in columns if not c.tail and not c.baseline_only]
    for column in dated:
        values = column.at(column.table.session_rows(participant, session))
        if values:
            return _only(book, name, participant, session, values)
    tails = session_tails(session)
    values = [c.at(c.table.participant_rows(participant)) for c in columns if c.tail in tails]
    values = next((v for v in values if v), None) or _nearest(book, name, dated, participant, session)
    if values:
        return _only(book, name, participant, session, values)
    for column in dated:
        values = column.at(column.table.participant_rows(participant))
        if values:
            if book.ages.n_scanned(participant) > 1:
                book.events["SCORE_NOT_SESSION_SPECIFIC", name].append(participant)
            return _only(book, name, participant, session, values)
    return _baseline_value(book, name, participant, session)


def _only(book: ScoreBook, name: str, participant: str, session: str | None, values: set[float]) -> float | None:
    if len(values) == 1:
        return next(iter(values))
    listed = " and ".join(f"{value:g}" for value in sorted(values))
    book.events["SCORE_CONFLICT", name].append(f"{' '.join(filter(None, [participant, session]))} ({listed})")
    return None


def _nearest(
    book: ScoreBook, name: str, columns: Sequence[ScoreColumn], participant: str, session: str | None
) -> set[float]:
    """Return the values of the other session nearest in time (the earlier of two equally near)."""
    near = []
    for order, column in enumerate(columns):
        keys = column.table.keys
        for other in {keys[i][1] for i in column.table.rows_by_participant.get(participant, ())} - {None, session}:
            values = column.at(column.table.session_rows(participant, other))
            gap = months_between(book.ages, participant, session, other)
            if values and gap is not None and gap <= book.max_gap:
                near.append((round(gap, 6), order, natural_key(other), other, values))
    if not near:
        return set()
    gap, _, _, other, values = min(near, key=lambda item: item[:3])
    where = " ".join(filter(None, [participant, session]))
    book.events["SCORE_OTHER_SESSION", name].append(f"{where} from {other} ({gap:.1f} months)")
    return values


def _baseline_value(book: ScoreBook, name: str, participant: str, session: str | None) -> float | None:
    for column in book.columns[name]:
        values = column.at(column.table.rows_by_participant.get(participant, [])) if column.baseline_only else set()
        if values and is_baseline(book.ages, participant, session):
            return _only(book, name, participant, session, values)
        if values:
            book.events["SCORE_BASELINE_ONLY", name].append(" ".join(filter(None, [participant, session])))
            return None
    return None


def score_notes(book: ScoreBook, used: Sequence[str]) -> list[str]:
    """Return one sentence per score: its columns, and the medication state when stated."""
    notes = []
    for name in used:
        rule = SCORE_RULES.get(canonical_score(name) or "")
        columns = list(dict.fromkeys(f"{column.table.name}:{column.name}" for column in book.columns[name]))
        notes.append(
            f"Score {name}{f' ({rule.title})' if rule else ''} from {', '.join(columns)}.{_state_note(book, name)}"
        )
    return notes


def _state_note(book: ScoreBook, name: str) -> str:
    if canonical_score(name) not in ("updrs3", "hy"):
        return ""
    states = {score_state(column.name) for column in book.columns[name]} - {""}
    for column in book.columns[name]:
        for state_column in column.table.find(MEDICATION_STATE):
            stated = {cell.casefold() for cell in column.table.cells(state_column)} & {"on", "off"}
            states |= {"off"} if "off" in stated else stated
    if not states:
        return " The medication state is not stated."
    return f" Medication state: {' and '.join(sorted(s.upper() for s in states))}."


def unused_faults(book: ScoreBook, scans: Sequence[Scan]) -> list[Fault]:
    """Return faults for scores that people have but that match none of their scans, for reasons not yet reported."""
    faults, people = [], {scan.participant_id for scan in scans}
    for name, columns in book.columns.items():
        having = {scan.participant_id for scan in scans if name in dict(scan.scores)}
        reported = {who.split()[0] for (_, score), where in book.events.items() if score == name for who in where}
        missing, lost, places = people - having - reported, {}, []
        for column in columns:
            for (participant, session), value in zip(column.table.keys, column.values, strict=True):
                if value is not None and participant in missing:
                    lost.setdefault(participant, []).append(session or column.tail or "no session")
                    places.append(column.table.name)
        if lost:
            who = some(f"{participant} ({', '.join(dict.fromkeys(visits))})" for participant, visits in lost.items())
            message = (
                f"{name}: values of {len(lost)} people are from no session of their selected scans and are not used: "
                f"{who}; use the session names of the folders, or allow a larger --max-score-gap"
            )
            faults.append(make_fault("SCORE_UNUSED", places[0], message))
    return faults


def event_faults(book: ScoreBook) -> list[Fault]:
    """Return the faults collected by `resolve_score`, one per score and kind."""
    wording = {
        "SCORE_OTHER_SESSION": "comes from another session for",
        "SCORE_NOT_SESSION_SPECIFIC": "is one value for several sessions of",
        "SCORE_CONFLICT": "has several values, so none is used, for",
        "SCORE_BASELINE_ONLY": "is known at baseline only, so it is missing for the later scan of",
    }
    faults = []
    for (code, name), who in sorted(book.events.items()):
        columns = book.columns[name]
        message = f"{name} {wording[code]} {some(dict.fromkeys(who))}"
        faults.append(make_fault(code, columns[0].table.name, message))
    return faults
