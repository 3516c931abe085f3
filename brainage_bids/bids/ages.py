"""Find the age of a person on the day of a scan, and say where it came from.

Knows tables, sessions and dates; not images, groups or scores. The order is that of a careful reader: the age written
for that session, else an earlier age plus the time that passed, else the age in participants.tsv, with a flag when the
person was scanned more than once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from brainage_bids.bids.agecolumns import (
    KEPT_FLAGS,
    Age,
    AgeColumn,
    Gestation,
    find_gestation,
    merged_column,
    read_age_column,
)
from brainage_bids.bids.agetimes import DAYS_PER_YEAR, believable_times, years_between
from brainage_bids.bids.aliases import normalise
from brainage_bids.bids.asked import ColumnRequest
from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.headings import (
    AGE_BASELINE,
    AGE_FIRST_SCAN,
    AGE_SESSION,
    AGE_UNUSABLE,
    AGE_VISIT,
    PPMI_BASELINE,
    PPMI_VISIT_MONTHS,
    UNIT_ENDS,
    WIDE_AGES,
    age_headings,
    is_no_age,
)
from brainage_bids.bids.parse import AGE_MAX, natural_key
from brainage_bids.bids.sessions import label_years, session_tails, tells_days, wide_names
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.schema import NOT_OF_SESSION

ROUNDED = 1.0  # years; two rounded ages and the time between them agree better than this


@dataclass(frozen=True, eq=False)
class AgeBook:
    """Every age column of a dataset and what is needed to move an age from one session to another.

    Parameters
    ----------
    session, participant, baseline
        Columns of ages at a session, per participant, and at baseline, in the order in which they are asked.
    wide
        Columns for one session each (``AgeMRI_W1``), by the tail that tells the session.
    sessions
        Every session known of a participant: folders and rows of sessions tables.
    scanned
        Those of them with a T1w image.
    times
        Acquisition time of sessions, where the dates of a person can be true.
    since_entry
        Whether people have several sessions named by the days since entry: then one age of theirs is that at entry.
    """

    session: tuple[AgeColumn, ...]
    participant: tuple[AgeColumn, ...]
    baseline: tuple[AgeColumn, ...]
    wide: tuple[tuple[Table, Mapping[str, AgeColumn]], ...]
    sessions: Mapping[str, tuple[str | None, ...]]
    scanned: Mapping[str, tuple[str | None, ...]]
    times: Mapping[tuple[str, str | None], datetime]
    since_entry: bool = False

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
    """Read the age columns of the tables; ambiguous, unitless and unreadable ones become faults.

    Parameters
    ----------
    folders, scanned
        The sessions of each participant, and those with a T1w image.
    asked
        Columns that the user named; then no others are read.
    """
    known = known_sessions(tables, folders)
    tails = frozenset().union(*(session_tails(s) for s in {s for sessions in known.values() for s in sessions}))
    gestation = find_gestation(tables)
    found = _Columns([], [], [], [])
    for one in asked:
        found.add_asked(one, tails, gestation, faults)
    for table in () if asked else tables.ordered:
        found.add_recognised(table, tails, gestation, faults)
    if not asked:
        _tell_recruitment(tables, [*found.session, *found.participant, *found.baseline], faults)
    days = [sum(map(tells_days, sessions)) > 1 for sessions in scanned.values()]
    sessions = {person: tuple(sorted(set(mine), key=natural_key)) for person, mine in scanned.items()}
    book = AgeBook(
        tuple(found.session), tuple(found.participant), tuple(found.baseline), tuple(found.wide), known, sessions,
        tables.times, any(days),
    )  # fmt: skip
    return _with_believable_times(book, faults)


@dataclass(frozen=True)
class _Columns:
    """Age columns as they are found."""

    session: list[AgeColumn]
    participant: list[AgeColumn]
    baseline: list[AgeColumn]
    wide: list[tuple[Table, Mapping[str, AgeColumn]]]

    def add_recognised(self, table: Table, tails: frozenset[str], gestation: Gestation, faults: list[Fault]) -> None:
        """Add the columns of a table that have the heading of an age."""
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
        """Add a column that the user named, for what its heading says it is."""
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
    """Return columns such as ``AgeMRI_W1`` or ``age_ses-01`` by the tail that tells their session."""
    taken = {*age_headings(columns, (*AGE_SESSION, *AGE_BASELINE, *AGE_UNUSABLE)), *filter(is_no_age, columns)}
    names = [found for found in wide_names(columns, WIDE_AGES, tails, UNIT_ENDS) if found[1] not in taken]
    read = [(tail, read_age_column(table, name, gestation, faults, unit or UNIT_ENDS.get(rest)))
            for tail, name, rest in names]  # fmt: skip
    return {tail: column for tail, column in reversed(read) if column}


def _tell_recruitment(tables: Tables, columns: list, faults: list[Fault]) -> None:
    for table in tables.ordered:
        names = table.find(AGE_UNUSABLE)
        if names and not columns:
            message = (
                f"{names[0]!r} is the age at recruitment; add the age at the scan as column age of a sessions table"
            )
            faults.append(make_fault("AGE_AT_RECRUITMENT", table.name, message))


def _with_believable_times(book: AgeBook, faults: list[Fault]) -> AgeBook:
    """Return the book without the dates that cannot be true; they are told."""

    def age_at(participant: str, session: str | None) -> float | None:
        age = _of_session(book, participant, session)
        return age.value if age else None

    def age_of(participant: str) -> float | None:
        age = _baseline(book, participant) or _participant(book, participant)
        return age.value if age else None

    times, doubts = believable_times(book.times, book.sessions, age_at, age_of)
    if doubts:
        message = (
            f"the dates of acquisition of {len(doubts)} participants cannot be true and are not used: {some(doubts)}; "
            "the ages of the tables stand: correct acq_time, or add an age for each session"
        )
        faults.append(make_fault("AGE_DATES", "acq_time", message))
    return replace(book, times=times)


# --- time between sessions ------------------------------------------------------------------------------------------


def years_since_first(book: AgeBook, participant: str, session: str | None) -> float | None:
    """Return the years between a participant's first session and this one, from acquisition times.

    None unless every session has a time, since the first one would be unknown.
    """
    known = book.sessions.get(participant, (session,))
    times = [book.times.get((participant, s)) for s in known]
    now = book.times.get((participant, session))
    if now is None or any(time is None for time in times):
        return None
    return years_between(min(times), now)


def is_baseline(book: AgeBook, participant: str, session: str | None) -> bool:
    """Say whether a session is the participant's baseline: its label says so, or it is the first and tells no time."""
    years = label_years(session)
    if years is not None:
        return years == 0.0
    return session == book.sessions.get(participant, (session,))[0]


def months_between(book: AgeBook, participant: str, first: str | None, second: str | None) -> float | None:
    """Return the months between two sessions (absolute) from dates, labels or ages with decimals; None when unknown."""
    times = [book.times.get((participant, session)) for session in (first, second)]
    if None not in times:
        return abs(years_between(*times)) * 12.0
    labels = [label_years(session) for session in (first, second)]
    if None not in labels:
        return abs(labels[1] - labels[0]) * 12.0
    for column in book.session:
        ages = [column.at(column.table.session_rows(participant, session)) for session in (first, second)]
        if all(ages) and not column.whole_years:
            return abs(ages[1].value - ages[0].value) * 12.0
    return None


def age_for_rates(book: AgeBook, participant: str, session: str | None) -> float | None:
    """Return an age whose distances from those of the person's other sessions are those of the scans (years).

    Ages in whole years may be a year off in the time between two scans. Where all ages of a person's sessions stand in
    columns of whole years, the age at the first session plus the time since then by dates, else by the labels, is
    better for rates; it is used for nothing else. None, for all sessions of the person, where the ages themselves are
    as good, are capped, the time is not known for each, or times and ages contradict each other.
    """
    ages: dict[str | None, float] = {}
    for one in book.sessions.get(participant, ()):
        for column, age in _own_ages(book, participant, one):
            if not column.whole_years or KEPT_FLAGS & set(age.flags):
                return None
            ages[one] = age.value
            break
    if len(ages) < 2 or session not in ages:
        return None
    times = {one: book.times.get((participant, one)) for one in ages}
    labels = {one: label_years(one) for one in ages}
    if None not in times.values():
        begin = min(times.values()).date()
        years = {one: (time.date() - begin).days / DAYS_PER_YEAR for one, time in times.items()}
    elif None not in labels.values():
        years = labels
    else:
        return None
    first = min(ages, key=lambda one: (years[one], ages[one]))
    found = {one: ages[first] + years[one] - years[first] for one in ages}
    if any(abs(found[one] - ages[one]) >= ROUNDED for one in ages):
        return None
    return found[session]


# --- resolution -----------------------------------------------------------------------------------------------------


def resolve_age(book: AgeBook, participant: str, session: str | None) -> Age:
    """Return the age of a participant at a session.

    The first that is there: (1, 2) the age of that session in a sessions or phenotype table, or in a column for that
    session; (3) an earlier age plus the time since the first session by acquisition times; (4) the baseline age plus
    the time in the session label (``ses-M024``, ``ses-d3132``); (5) the participant's age where one session has a T1w
    image; (6) the same where several have, flagged ``age_not_session_specific``.
    """
    steps = (_of_session, _by_dates, _by_label, _of_participant, _at_questionnaire)
    for step in steps:
        age = step(book, participant, session)
        if age is not None and age.value is not None:
            return age
    return Age()


def _of_session(book: AgeBook, participant: str, session: str | None) -> Age | None:
    return next((age for _, age in _own_ages(book, participant, session)), None)


def _at_questionnaire(book: AgeBook, participant: str, session: str | None) -> Age | None:
    ages = (column.at(column.table.session_rows(participant, session)) for column in book.session)
    return next((age for age in ages if age), None)


def _own_ages(book: AgeBook, participant: str, session: str | None) -> Iterator[tuple[AgeColumn, Age]]:
    """Yield the ages written for a session, and their columns, in the order in which they are asked."""
    for column in book.session:
        if session is None and column.of_questionnaire:
            continue  # a scan without a session was not made at the visit of a questionnaire
        if age := column.at(column.table.session_rows(participant, session)):
            yield column, age
    for table, columns in book.wide:
        for tail in sorted(session_tails(session) & set(columns)):
            if age := columns[tail].at(table.participant_rows(participant)):
                yield columns[tail], age


def _all_rows(column: AgeColumn, participant: str) -> list[int]:
    return column.table.rows_by_participant.get(participant, [])


def _baseline(book: AgeBook, participant: str) -> Age | None:
    ages = (column.at(_all_rows(column, participant)) for column in book.baseline)
    return next((age for age in ages if age), None)


def _participant(book: AgeBook, participant: str) -> Age | None:
    ages = (column.at(column.table.participant_rows(participant)) for column in book.participant)
    return next((age for age in ages if age), None)


def _by_dates(book: AgeBook, participant: str, session: str | None) -> Age | None:
    """Add the time since the first session; a baseline age also needs to know the time of the first session."""
    known = book.sessions.get(participant, (session,))
    years = years_since_first(book, participant, session)
    if years is None or len(known) < 2:
        return None
    first = min(known, key=lambda s: book.times[(participant, s)])
    before = label_years(first) or 0.0
    base = _baseline(book, participant) or _at_entry(book, participant, first)
    if base is not None:
        return _later(base, before + years, "acq_time", "age_from_dates")
    age = _participant(book, participant)
    return _later(age, years, "acq_time", "age_from_dates") if age and not before else None


def _by_label(book: AgeBook, participant: str, session: str | None) -> Age | None:
    """Add the time since entry that the label of the session tells to the age at entry."""
    base = _baseline(book, participant) or _at_entry(book, participant, session)
    if base is None:
        return None
    years = label_years(session)
    if years is None and normalise(str(base.source).split(":")[-1]) == PPMI_BASELINE:
        months = PPMI_VISIT_MONTHS.get((session or "").removeprefix("ses-").lower())
        years = None if months is None else months / 12.0
    return None if years is None else _later(base, years, session, "age_from_session_label")


def _at_entry(book: AgeBook, participant: str, session: str | None) -> Age | None:
    """Return the one age of a person where it must be that at entry, None elsewhere.

    It must be where the person was scanned at entry and again later, and where sessions are named by the days since
    entry (OASIS-3) and people of the dataset have several of them.
    """
    labels = [label_years(one) for one in book.scanned.get(participant, ())]
    if (len(labels) > 1 and 0.0 in labels) or (book.since_entry and tells_days(session)):
        return _participant(book, participant)
    return None


def _later(base: Age, years: float, how: str, flag: str) -> Age | None:
    if years == 0.0:
        return base
    if base.value + years > AGE_MAX:
        return None
    return Age(base.value + years, f"{base.source} + {how}", (*base.flags, flag))


def _of_participant(book: AgeBook, participant: str, session: str | None) -> Age | None:
    age = _participant(book, participant)
    base = _baseline(book, participant) if age is None else None
    found = age or base
    if found is None:
        return None
    flags = found.flags
    if book.n_scanned(participant) > 1:
        flags = (*flags, NOT_OF_SESSION)
    elif base is not None and session is not None and label_years(session) != 0.0:
        flags = (*flags, "age_at_baseline")
    elif age is not None and label_years(session):
        flags = (*flags, "age_may_be_baseline")  # a lone ses-M024: the tables of converters often keep the age at entry
    return Age(found.value, found.source, flags)
