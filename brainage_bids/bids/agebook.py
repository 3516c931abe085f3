"""Collect every age column of a dataset, and the dates and sessions needed to compute an age at another session.

The module `ages` looks ages up here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from brainage_bids.bids.agecolumns import Age, AgeColumn, Gestation, find_gestation, merged_column, read_age_column
from brainage_bids.bids.agetimes import believable_times
from brainage_bids.bids.asked import ColumnRequest
from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.headings import (
    AGE_BASELINE,
    AGE_FIRST_SCAN,
    AGE_SESSION,
    AGE_UNUSABLE,
    AGE_VISIT,
    UNIT_ENDS,
    WIDE_AGES,
    age_headings,
    is_no_age,
)
from brainage_bids.bids.parse import natural_key
from brainage_bids.bids.sessions import session_tails, tells_days, wide_names
from brainage_bids.bids.tables import Table, Tables


@dataclass(frozen=True, eq=False)
class AgeBook:
    """Every age column of a dataset, and the dates and sessions needed to compute an age at another session.

    Parameters
    ----------
    session, participant, baseline
        Columns of ages at a session, of a participant, and at baseline, in order of preference.
    wide
        Columns that hold the ages of one session (``AgeMRI_W1``), by the part of the name that means the session.
    sessions
        Every known session of a participant, from folders and sessions tables.
    scanned
        The sessions with a T1w image.
    times
        Acquisition times of sessions, where they are plausible.
    since_entry
        Whether someone has several sessions named by the days since entry. A single age is then the age at entry.
    """

    session: tuple[AgeColumn, ...]
    participant: tuple[AgeColumn, ...]
    baseline: tuple[AgeColumn, ...]
    wide: tuple[tuple[Table, Mapping[str, AgeColumn]], ...]
    sessions: Mapping[str, tuple[str | None, ...]]
    scanned: Mapping[str, tuple[str | None, ...]]
    times: Mapping[tuple[str, str | None], datetime]
    since_entry: bool = False

    def own_ages(self, participant: str, session: str | None) -> Iterator[tuple[AgeColumn, Age]]:
        """Yield the ages written for a session, and their columns, in order of preference."""
        for column in self.session:
            if session is None and column.of_questionnaire:
                continue  # the visit of a questionnaire is not known to be that of a scan without session
            if age := column.at(column.table.session_rows(participant, session)):
                yield column, age
        for table, columns in self.wide:
            for tail in sorted(session_tails(session) & columns.keys()):
                if age := columns[tail].at(table.participant_rows(participant)):
                    yield columns[tail], age

    def age_at(self, participant: str, session: str | None) -> Age | None:
        """Return the age written for a session."""
        return next((age for _, age in self.own_ages(participant, session)), None)

    def age_at_baseline(self, participant: str) -> Age | None:
        """Return the age at baseline."""
        rows = (column.at(column.table.rows_by_participant.get(participant, [])) for column in self.baseline)
        return next((age for age in rows if age), None)

    def age_of(self, participant: str) -> Age | None:
        """Return the age of a participant from a row without session."""
        ages = (column.at(column.table.participant_rows(participant)) for column in self.participant)
        return next((age for age in ages if age), None)

    def n_scanned(self, participant: str) -> int:
        """Return how many sessions of a participant have a T1w image."""
        return len(self.scanned.get(participant, (None,)))


# --- columns --------------------------------------------------------------------------------------------------------

AskedColumn = tuple[Table, str, ColumnRequest]


def read_age_book(
    tables: Tables,
    folders: Mapping[str, Sequence[str | None]],
    scanned: Mapping[str, Sequence[str | None]],
    faults: list[Fault],
    asked: Sequence[AskedColumn] = (),
) -> AgeBook:
    """Read the age columns of the tables; add a fault for each that is ambiguous, without unit or unreadable.

    Parameters
    ----------
    folders, scanned
        The sessions of each participant, and those with a T1w image.
    asked
        Columns that the user named. If there are any, no others are read.
    """
    known = known_sessions(tables, folders)
    tails = frozenset().union(*(session_tails(s) for s in {s for sessions in known.values() for s in sessions}))
    gestation = find_gestation(tables)
    columns = _Columns([], [], [], [])
    for request in asked:
        columns.add_asked(request, tails, gestation, faults)
    for table in () if asked else tables.ordered:
        columns.add_recognised(table, tails, gestation, faults)
    if not asked:
        _report_recruitment(tables, [*columns.session, *columns.participant, *columns.baseline], faults)
    days = [sum(map(tells_days, sessions)) > 1 for sessions in scanned.values()]
    sessions = {person: tuple(sorted(set(mine), key=natural_key)) for person, mine in scanned.items()}
    book = AgeBook(
        tuple(columns.session), tuple(columns.participant), tuple(columns.baseline), tuple(columns.wide), known,
        sessions, tables.times, any(days),
    )  # fmt: skip
    return _with_believable_times(book, faults)


@dataclass(frozen=True)
class _Columns:
    """The age columns found so far."""

    session: list[AgeColumn]
    participant: list[AgeColumn]
    baseline: list[AgeColumn]
    wide: list[tuple[Table, Mapping[str, AgeColumn]]]

    def add_recognised(self, table: Table, tails: frozenset[str], gestation: Gestation, faults: list[Fault]) -> None:
        """Add the columns of a table whose heading is a known name for an age."""
        at_session = age_headings(table.columns, AGE_SESSION) or age_headings(table.columns, AGE_VISIT)
        first = age_headings(table.columns, AGE_FIRST_SCAN)
        read = merged_column(table, at_session, gestation, faults) if at_session else None
        if table.has_sessions and read:
            self.session.append(read)
        if table.has_participants:
            if table.has_sessions or not first:
                self._add(self.participant, read)
            else:
                self._add(self.participant, merged_column(table, [*at_session, *first], gestation, faults))
            if wide := _wide_columns(table, table.columns, tails, gestation, faults):
                self.wide.append((table, wide))
        self._add(self.baseline, merged_column(table, age_headings(table.columns, AGE_BASELINE), gestation, faults))

    def add_asked(self, asked: AskedColumn, tails: frozenset[str], gestation: Gestation, faults: list[Fault]) -> None:
        """Add a column that the user named; its heading says whether it is of a session, a person or baseline."""
        table, name, request = asked
        if wide := _wide_columns(table, [name], tails, gestation, faults, request.unit):
            self.wide.append((table, wide))
            return
        column = merged_column(table, [name], gestation, faults, request.unit)
        if age_headings([name], AGE_BASELINE):
            self._add(self.baseline, column)
            return
        if table.has_sessions:
            self._add(self.session, column)
        if table.has_participants:
            self._add(self.participant, column)

    @staticmethod
    def _add(columns: list[AgeColumn], column: AgeColumn | None) -> None:
        if column is not None:
            columns.append(column)


def known_sessions(tables: Tables, folders: Mapping[str, Sequence[str | None]]) -> dict[str, tuple[str | None, ...]]:
    """Return every session of each participant, from folders and sessions tables, in natural order."""
    known = {participant: set(sessions) for participant, sessions in folders.items()}
    for table in tables.sessions:
        for participant, session in table.keys:
            if session is not None and known.get(participant, {None}) != {None}:
                known[participant].add(session)
    return {participant: tuple(sorted(sessions, key=natural_key)) for participant, sessions in known.items()}


def _wide_columns(
    table: Table,
    columns: Sequence[str],
    tails: frozenset[str],
    gestation: Gestation,
    faults: list[Fault],
    unit: str | None = None,
) -> dict[str, AgeColumn]:
    """Return columns such as ``AgeMRI_W1`` or ``age_ses-01`` by the part of the name that means the session."""
    taken = {*age_headings(columns, (*AGE_SESSION, *AGE_BASELINE, *AGE_UNUSABLE)), *filter(is_no_age, columns)}
    names = [match for match in wide_names(columns, WIDE_AGES, tails, UNIT_ENDS) if match[1] not in taken]
    read = [(tail, read_age_column(table, name, gestation, faults, unit or UNIT_ENDS.get(rest)))
            for tail, name, rest in names]  # fmt: skip
    return {tail: column for tail, column in reversed(read) if column}


def _report_recruitment(tables: Tables, columns: list, faults: list[Fault]) -> None:
    for table in tables.ordered:
        names = table.find(AGE_UNUSABLE)
        if names and not columns:
            message = (
                f"{names[0]!r} is the age at recruitment; add the age at the scan as column age of a sessions table"
            )
            faults.append(make_fault("AGE_AT_RECRUITMENT", table.name, message))


def _with_believable_times(book: AgeBook, faults: list[Fault]) -> AgeBook:
    """Return the book without implausible dates; add a fault for them."""

    def age_at(participant: str, session: str | None) -> float | None:
        age = book.age_at(participant, session)
        return age.value if age else None

    def age_of(participant: str) -> float | None:
        age = book.age_at_baseline(participant) or book.age_of(participant)
        return age.value if age else None

    times, doubts = believable_times(book.times, book.sessions, age_at, age_of)
    if doubts:
        message = (
            f"the dates of acquisition of {len(doubts)} participants cannot be true and are not used: {some(doubts)}; "
            "the ages in the tables are used: correct acq_time, or add an age for each session"
        )
        faults.append(make_fault("AGE_DATES", "acq_time", message))
    return replace(book, times=times)
