"""Find the age of a person on the day of a scan, and note its source.

The age written for the session comes first. Next is an earlier age plus the time since then. Last is the age in
participants.tsv, with a flag when the person was scanned more than once.
"""

from __future__ import annotations

from brainage_bids.bids.agebook import AgeBook
from brainage_bids.bids.agecolumns import KEPT_FLAGS, Age
from brainage_bids.bids.agetimes import DAYS_PER_YEAR, years_between
from brainage_bids.bids.aliases import normalise
from brainage_bids.bids.headings import PPMI_BASELINE, PPMI_VISIT_MONTHS
from brainage_bids.bids.parse import AGE_MAX
from brainage_bids.bids.sessions import label_years, tells_days
from brainage_bids.schema import NOT_OF_SESSION

ROUNDED = 1.0  # years; the difference of two rounded ages is closer than this to the true time between them


# --- time between sessions ------------------------------------------------------------------------------------------


def years_since_first(book: AgeBook, participant: str, session: str | None) -> float | None:
    """Return the years between a participant's first session and this one, from acquisition times.

    None unless every session has a time: otherwise the first session is unknown.
    """
    known = book.sessions.get(participant, (session,))
    times = [book.times.get((participant, s)) for s in known]
    now = book.times.get((participant, session))
    if now is None or any(time is None for time in times):
        return None
    return years_between(min(times), now)


def is_baseline(book: AgeBook, participant: str, session: str | None) -> bool:
    """Return whether a session is the baseline: its label says so, or it states no time and is the first session."""
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
    """Return an age in years for rates of change only, computed from the exact time between sessions.

    Ages in whole years can misstate the time between two scans by up to a year. If all ages of a person are in whole
    years, this age is that at the first session plus the time since then, from dates or else from session labels. It is
    None for all sessions of a person if an age has decimals or is capped, if the time of a session is unknown, or if
    times and ages contradict each other.
    """
    ages: dict[str | None, float] = {}
    for visit in book.sessions.get(participant, ()):
        for column, age in book.own_ages(participant, visit):
            if not column.whole_years or KEPT_FLAGS & set(age.flags):
                return None
            ages[visit] = age.value
            break
    if len(ages) < 2 or session not in ages:
        return None
    times = {visit: book.times.get((participant, visit)) for visit in ages}
    labels = {visit: label_years(visit) for visit in ages}
    if None not in times.values():
        begin = min(times.values()).date()
        years = {visit: (time.date() - begin).days / DAYS_PER_YEAR for visit, time in times.items()}
    elif None not in labels.values():
        years = labels
    else:
        return None
    first = min(ages, key=lambda visit: (years[visit], ages[visit]))
    precise = {visit: ages[first] + years[visit] - years[first] for visit in ages}
    if any(abs(precise[visit] - ages[visit]) >= ROUNDED for visit in ages):
        return None
    return precise[session]


# --- resolution -----------------------------------------------------------------------------------------------------


def resolve_age(book: AgeBook, participant: str, session: str | None) -> Age:
    """Return the age of a participant at a session.

    The first available of: (1, 2) the age of that session in a sessions or phenotype table, or in a column for that
    session; (3) an earlier age plus the time since the first session, from acquisition times; (4) the baseline age plus
    the time in the session label (``ses-M024``, ``ses-d3132``); (5) the participant's age, if one session has a T1w
    image; (6) the same if several have one, flagged ``age_not_session_specific``.
    """
    steps = (AgeBook.age_at, _by_dates, _by_label, _of_participant, _at_questionnaire)
    for step in steps:
        age = step(book, participant, session)
        if age is not None and age.value is not None:
            return age
    return Age()


def _at_questionnaire(book: AgeBook, participant: str, session: str | None) -> Age | None:
    ages = (column.at(column.table.session_rows(participant, session)) for column in book.session)
    return next((age for age in ages if age), None)


def _by_dates(book: AgeBook, participant: str, session: str | None) -> Age | None:
    """Add the time since the first session to the age then; a baseline age also needs the time of that session."""
    known = book.sessions.get(participant, (session,))
    years = years_since_first(book, participant, session)
    if years is None or len(known) < 2:
        return None
    first = min(known, key=lambda s: book.times[(participant, s)])
    before = label_years(first) or 0.0
    base = book.age_at_baseline(participant) or _at_entry(book, participant, first)
    if base is not None:
        return _later(base, before + years, "acq_time", "age_from_dates")
    age = book.age_of(participant)
    return _later(age, years, "acq_time", "age_from_dates") if age and not before else None


def _by_label(book: AgeBook, participant: str, session: str | None) -> Age | None:
    """Add the time since entry, from the session label, to the age at entry."""
    base = book.age_at_baseline(participant) or _at_entry(book, participant, session)
    if base is None:
        return None
    years = label_years(session)
    if years is None and normalise(str(base.source).split(":")[-1]) == PPMI_BASELINE:
        months = PPMI_VISIT_MONTHS.get((session or "").removeprefix("ses-").lower())
        years = None if months is None else months / 12.0
    return None if years is None else _later(base, years, session, "age_from_session_label")


def _at_entry(book: AgeBook, participant: str, session: str | None) -> Age | None:
    """Return the single age of a person if it must be the age at entry, else None.

    It must be if the person was scanned at entry and later. It also must be if sessions are named by the days since
    entry (OASIS-3) and people of the dataset have several.
    """
    labels = [label_years(visit) for visit in book.scanned.get(participant, ())]
    if (len(labels) > 1 and 0.0 in labels) or (book.since_entry and tells_days(session)):
        return book.age_of(participant)
    return None


def _later(base: Age, years: float, how: str, flag: str) -> Age | None:
    if years == 0.0:
        return base
    if base.value + years > AGE_MAX:
        return None
    return Age(base.value + years, f"{base.source} + {how}", (*base.flags, flag))


def _of_participant(book: AgeBook, participant: str, session: str | None) -> Age | None:
    age = book.age_of(participant)
    base = book.age_at_baseline(participant) if age is None else None
    source = age or base
    if source is None:
        return None
    flags = source.flags
    if book.n_scanned(participant) > 1:
        flags = (*flags, NOT_OF_SESSION)
    elif base is not None and session is not None and label_years(session) != 0.0:
        flags = (*flags, "age_at_baseline")
    elif age is not None and label_years(session):
        flags = (*flags, "age_may_be_baseline")  # only ses-M024: tables of converters often hold the age at entry
    return Age(source.value, source.source, flags)
