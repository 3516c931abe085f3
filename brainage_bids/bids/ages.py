"""Find the age of a person on the day of a scan, and say where it came from.

Knows tables, sessions and dates; not images, groups or scores. The order is that of a careful reader: the age written
for that session, else an earlier age plus the time that passed, else the age in participants.tsv, with a flag when the
person was scanned more than once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from brainage_bids.bids.aliases import (
    AGE_BASELINE,
    AGE_PARTICIPANT,
    AGE_SESSION,
    AGE_UNIT_BY_NAME,
    AGE_UNUSABLE,
    PPMI_BASELINE,
    PPMI_VISIT_MONTHS,
    normalise,
)
from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.parse import (
    AGE_MAX,
    has_decimal_comma,
    natural_key,
    parse_age,
    parse_number,
    parse_text,
    unit_name,
)
from brainage_bids.bids.tables import Table, Tables, session_tails, wide_names
from brainage_bids.schema import NOT_OF_SESSION

DAYS_PER_YEAR = 365.25
KEPT_FLAGS = frozenset({"top_coded", "possibly_top_coded"})
ROUNDED = 1.0  # years; two rounded ages and the time between them agree better than this
SAME_AGE = 0.05  # years; two columns that agree this well are one measurement rounded twice


@dataclass(frozen=True)
class Age:
    """An age in years (None: unknown), the table and column it came from, and flags."""

    value: float | None = None
    source: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AgeColumn:
    """The ages of one table: years or None and a flag per row."""

    table: Table
    name: str
    values: tuple[float | None, ...]
    flags: tuple[str | None, ...]

    @property
    def of_questionnaire(self) -> bool:
        """Whether the ages stand in a phenotype table: at the visit of a questionnaire, not of a scan."""
        return self.table.name.startswith("phenotype/")

    @cached_property
    def whole_years(self) -> bool:
        """Whether every age is a whole number of years."""
        return all(value is None or value.is_integer() for value in self.values)

    def at(self, rows: Sequence[int]) -> Age | None:
        """Return the age on the given rows; None when missing or when the rows disagree."""
        known = [i for i in rows if self.values[i] is not None]
        if not known or len({self.values[i] for i in known}) > 1:
            return None
        flags = tuple(sorted({self.flags[i] for i in known if self.flags[i] in KEPT_FLAGS}))
        return Age(self.values[known[0]], f"{self.table.places[known[0]][0]}:{self.name}", flags)


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
    times
        Acquisition time of sessions.
    """

    session: tuple[AgeColumn, ...]
    participant: tuple[AgeColumn, ...]
    baseline: tuple[AgeColumn, ...]
    wide: tuple[tuple[Table, Mapping[str, AgeColumn]], ...]
    sessions: Mapping[str, tuple[str | None, ...]]
    times: Mapping[tuple[str, str | None], datetime]


# --- columns --------------------------------------------------------------------------------------------------------


def read_age_book(tables: Tables, folders: Mapping[str, Sequence[str | None]], faults: list[Fault]) -> AgeBook:
    """Read every age column of the tables; ambiguous, unitless and unreadable ones become faults."""
    known = known_sessions(tables, folders)
    tails = frozenset().union(*(session_tails(s) for s in {s for sessions in known.values() for s in sessions}))
    session, participant, baseline, wide = [], [], [], []
    for table in tables.ordered:
        if table.has_sessions:
            session.append(age_column(table, AGE_SESSION, faults))
        if table.has_participants:
            participant.append(age_column(table, AGE_PARTICIPANT, [] if table.has_sessions else faults))
            wide.append((table, _wide_columns(table, tails, faults)))
        baseline.append(age_column(table, AGE_BASELINE, faults))
    _tell_recruitment(tables, [*session, *participant, *baseline], faults)
    present = [tuple(column for column in columns if column) for columns in (session, participant, baseline)]
    return AgeBook(*present, tuple(w for w in wide if w[1]), known, tables.times)


def known_sessions(tables: Tables, folders: Mapping[str, Sequence[str | None]]) -> dict[str, tuple[str | None, ...]]:
    """Return every session of each participant, from folders and sessions tables, in natural order."""
    known = {participant: set(sessions) for participant, sessions in folders.items()}
    for table in tables.sessions:
        for participant, session in table.keys:
            if session is not None and known.get(participant, {None}) != {None}:
                known[participant].add(session)
    return {participant: tuple(sorted(sessions, key=natural_key)) for participant, sessions in known.items()}


def age_column(table: Table, aliases: Sequence[str], faults: list[Fault]) -> AgeColumn | None:
    """Return the age column of a table; several that agree are one, several that disagree are a fault."""
    columns = [column for name in table.find(aliases) if (column := read_age_column(table, name, faults))]
    if not columns:
        return None
    columns.sort(key=lambda column: column.whole_years)  # the more exact one first
    merged, flags = list(columns[0].values), list(columns[0].flags)
    for column in columns[1:]:
        room = 1.0 if column.whole_years else SAME_AGE
        for row, value in enumerate(column.values):
            if merged[row] is None:
                merged[row], flags[row] = value, column.flags[row]
            elif value is not None and abs(value - merged[row]) >= room:
                message = (
                    f"columns {' and '.join(repr(c.name) for c in columns)} disagree on the age ({merged[row]:g} and "
                    f"{value:g} years for {table.keys[row][0]}); rename all but the age at the scan"
                )
                faults.append(make_fault("AGE_AMBIGUOUS", table.places[row][0], message, table.places[row][1]))
                return None
    column = AgeColumn(table, columns[0].name, tuple(merged), tuple(flags))
    return None if _has_conflict(column, faults) else column


def _has_conflict(column: AgeColumn, faults: list[Fault]) -> bool:
    seen: dict[tuple, float] = {}
    for row, (key, value) in enumerate(zip(column.table.keys, column.values, strict=True)):
        if value is not None and seen.setdefault(key, value) != value:
            file, line = column.table.places[row]
            who = " ".join(filter(None, key))
            aside = column.of_questionnaire  # may be needed by nobody: such an age is not used
            message = f"{who} is {seen[key]:g} and {value:g} years old in {column.name!r}; keep the right row"
            faults.append(make_fault("AGE_CONFLICT", file, message, line, "warning" if aside else None))
            return not aside
    return False


def read_age_column(table: Table, name: str, faults: list[Fault], alias: str | None = None) -> AgeColumn | None:
    """Read one age column in years; None and a fault when its unit is not known.

    ``alias`` is the column's name without the tail that tells a session.
    """
    if not table.is_sure(name, faults):
        return None
    cells = table.cells(name)
    units = parse_text(table.about(name).get("Units"))
    unit = unit_name(units) or AGE_UNIT_BY_NAME.get(alias or normalise(name))
    if units and not unit_name(units):
        message = f"column {name!r} is in {units!r}, which is no unit of time since birth; use year, month, week or day"
        faults.append(make_fault("AGE_UNIT_UNKNOWN", table.name, message))
        return None
    if not _unit_is_safe(table, name, cells, unit, faults):
        return None
    parsed = [parse_age(cell, unit or "year") for cell in cells]
    if not has_decimal_comma(cells):
        parsed = [(None, "unreadable") if flag == "decimal_comma" else (value, flag) for value, flag in parsed]
    values, flags = [value for value, _ in parsed], [flag for _, flag in parsed]
    for reason in ("sentinel", "out_of_range", "age_range", "unreadable"):
        rows = [i for i, flag in enumerate(flags) if flag == reason]
        if rows:
            told = some(f"{table.keys[i][0]} {cells[i]!r}" for i in rows)
            message = f"{reason.replace('_', ' ')} in {name!r}: {told}; read as missing"
            file, line = table.places[rows[0]]
            faults.append(make_fault("AGE_VALUE", file, message, line))
    return AgeColumn(table, name, tuple(values), tuple(flags))


def _unit_is_safe(table: Table, name: str, cells: Sequence[str], unit: str | None, faults: list[Fault]) -> bool:
    """Say whether the unit of an age column is certain enough.

    A column above 120 without a unit is refused; so is one whose unit is stated as years but most of which is above
    120, and ``scan_age`` beside ``birth_age``, which is post-menstrual weeks (dHCP).
    """
    in_weeks = normalise(name) == "scanage" and "birthage" in table.by_normal_name
    bare = [(i, parse_number(cell, decimal_comma="," in cell)[0]) for i, cell in enumerate(cells)]
    numbers = [(i, v) for i, v in bare if v is not None and v not in {999.0, 9999.0}]
    over = [i for i, v in numbers if v > AGE_MAX]
    wrong = over and (unit is None or (unit == "year" and len(over) > len(numbers) / 2))
    if not wrong and not (in_weeks and unit is None):
        return True
    row = over[0] if over else 0
    what = f"holds {cells[row]!r} ({table.keys[row][0]})" if over else "stands beside birth_age, so it may be weeks"
    message = (
        f"age column {name!r} {what} and its unit is {'stated as years' if unit else 'not stated'}; correct it or "
        f'write the unit into the JSON sidecar: {{"{name}": {{"Units": "month"}}}}'
    )
    file, line = table.places[row] if table.places else (table.name, 1)
    faults.append(make_fault("AGE_UNIT_UNKNOWN", file, message, line))
    return False


def _wide_columns(table: Table, tails: frozenset[str], faults: list[Fault]) -> dict[str, AgeColumn]:
    """Return columns such as ``AgeMRI_W1`` or ``age_ses-01`` by the tail that tells their session."""
    known = {*AGE_PARTICIPANT, *AGE_BASELINE, *AGE_UNUSABLE}
    names = [found for found in wide_names(table, AGE_SESSION, tails) if normalise(found[1]) not in known]
    read = [(tail, read_age_column(table, name, faults, alias)) for tail, name, alias in names]
    return {tail: column for tail, column in reversed(read) if column}


def _tell_recruitment(tables: Tables, columns: list, faults: list[Fault]) -> None:
    for table in tables.ordered:
        names = table.find(AGE_UNUSABLE)
        if names and not any(columns):
            message = (
                f"{names[0]!r} is the age at recruitment; add the age at the scan as column age of a sessions table"
            )
            faults.append(make_fault("AGE_AT_RECRUITMENT", table.name, message))


# --- time between sessions ------------------------------------------------------------------------------------------


def label_months(session: str | None) -> float | None:
    """Return the months since baseline that a label tells (``ses-M024`` -> 24, ``ses-BL`` -> 0), None otherwise."""
    text = (session or "").removeprefix("ses-").lower()
    if text in {"bl", "baseline"}:
        return 0.0
    match = re.fullmatch(r"m(\d{1,3})", text)
    return float(match[1]) if match else None


def years_since_first(book: AgeBook, participant: str, session: str | None) -> float | None:
    """Return the years between a participant's first session and this one, from acquisition times.

    None unless every session has a time, since the first one would be unknown, and when the dates cannot be true.
    """
    known = book.sessions.get(participant, (session,))
    times = [book.times.get((participant, s)) for s in known]
    now = book.times.get((participant, session))
    if now is None or any(time is None for time in times):
        return None
    years = (now - min(times)).total_seconds() / 86400.0 / DAYS_PER_YEAR
    return years if years < 60.0 else None


def is_baseline(book: AgeBook, participant: str, session: str | None) -> bool:
    """Say whether a session is the participant's baseline: its label says so, or it is the first and tells no month."""
    months = label_months(session)
    if months is not None:
        return months == 0.0
    return session == book.sessions.get(participant, (session,))[0]


def months_between(book: AgeBook, participant: str, first: str | None, second: str | None) -> float | None:
    """Return the months between two sessions (absolute) from dates, labels or ages with decimals; None when unknown."""
    times = [book.times.get((participant, session)) for session in (first, second)]
    if None not in times:
        return abs((times[1] - times[0]).total_seconds()) / 86400.0 / DAYS_PER_YEAR * 12.0
    labels = [label_months(session) for session in (first, second)]
    if None not in labels:
        return abs(labels[1] - labels[0])
    for column in book.session:
        ages = [column.at(column.table.session_rows(participant, session)) for session in (first, second)]
        if all(ages) and not column.whole_years:
            return abs(ages[1].value - ages[0].value) * 12.0
    return None


def age_for_rates(book: AgeBook, participant: str, session: str | None) -> float | None:
    """Return an age whose distances from those of the person's other sessions are those of the scans (years).

    Ages in whole years may be a year off in the time between two scans. Where all ages of a person's sessions stand in
    columns of whole years, the age at the first session plus the time since then by dates, else by the months of the
    labels, is better for rates; it is used for nothing else. None, for all sessions of the person, where the ages
    themselves are as good, are capped, the time is not known for each, or times and ages contradict each other.
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
    months = {one: label_months(one) for one in ages}
    if None not in times.values():
        begin = min(times.values()).date()
        years = {one: (time.date() - begin).days / DAYS_PER_YEAR for one, time in times.items()}
    elif None not in months.values():
        years = {one: month / 12.0 for one, month in months.items()}
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
    the months in the session label; (5) the participant's age where there is one session; (6) the same where there
    are several, flagged ``age_not_session_specific``.
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
    """Add the time since the first session; a baseline age also needs to know the month of the first session."""
    known = book.sessions.get(participant, (session,))
    years = years_since_first(book, participant, session)
    if years is None or len(known) < 2:
        return None
    first_months = label_months(min(known, key=lambda s: book.times[(participant, s)])) or 0.0
    base = _baseline(book, participant)
    if base is not None:
        return _later(base, first_months / 12.0 + years, "acq_time", "age_from_dates")
    age = _participant(book, participant)
    return _later(age, years, "acq_time", "age_from_dates") if age and not first_months else None


def _by_label(book: AgeBook, participant: str, session: str | None) -> Age | None:
    base = _baseline(book, participant)
    if base is None:
        return None
    months = label_months(session)
    if months is None and normalise(str(base.source).split(":")[-1]) == PPMI_BASELINE:
        months = PPMI_VISIT_MONTHS.get((session or "").removeprefix("ses-").lower())
    return None if months is None else _later(base, months / 12.0, session, "age_from_session_label")


def _later(base: Age, years: float, how: str, flag: str) -> Age:
    if years == 0.0:
        return base
    return Age(base.value + years, f"{base.source} + {how}", (*base.flags, flag))


def _of_participant(book: AgeBook, participant: str, session: str | None) -> Age | None:
    age = _participant(book, participant)
    base = _baseline(book, participant) if age is None else None
    found = age or base
    if found is None:
        return None
    flags = found.flags
    if len(book.sessions.get(participant, (session,))) > 1:
        flags = (*flags, NOT_OF_SESSION)
    elif base is not None and session is not None and label_months(session) != 0.0:
        flags = (*flags, "age_at_baseline")
    elif age is not None and label_months(session):
        flags = (*flags, "age_may_be_baseline")  # a lone ses-M024: the tables of converters often keep the age at entry
    return Age(found.value, found.source, flags)
