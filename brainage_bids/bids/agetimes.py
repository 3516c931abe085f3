"""Check acquisition dates: they must agree with the order of the sessions, with session labels and with ages.

Public datasets shift dates for privacy, some of them for each session separately. Differences of such dates are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import combinations

from brainage_bids.bids.parse import AGE_MAX
from brainage_bids.bids.sessions import follows, label_years

DAYS_PER_YEAR = 365.25
LONGEST = 30.0  # years between two scans of a person
ROOM = 2.0  # years by which dates and ages may differ: both ages may be rounded
LABEL_ROOM = (1.0, 0.25)  # a visit may be late by 1 year plus this share of the years in its label

Times = Mapping[tuple[str, str | None], datetime]


def years_between(first: datetime, second: datetime) -> float:
    """Return the years from the first time to the second."""
    return (second - first).total_seconds() / 86400.0 / DAYS_PER_YEAR


def believable_times(
    times: Times,
    sessions: Mapping[str, Sequence[str | None]],
    age_at: Callable[[str, str | None], float | None],
    age_of: Callable[[str], float | None],
) -> tuple[dict[tuple[str, str | None], datetime], list[str]]:
    """Return the plausible times, and one text for each person whose dates contradict something.

    Parameters
    ----------
    age_at, age_of
        Give the age at a session and the age of a person, in years; None when unknown.
    """
    plausible, doubts = {}, []
    by_person: dict[str, dict[str | None, datetime]] = {}
    for (person, session), time in times.items():
        by_person.setdefault(person, {})[session] = time
    for person, mine in by_person.items():
        order = [session for session in sessions.get(person, tuple(mine)) if session in mine]
        doubt = _doubt(person, {session: mine[session] for session in order}, age_at, age_of(person))
        if doubt:
            doubts.append(f"{person} ({doubt})")
        elif len(order) < 2 or len({mine[session] for session in order}) > 1:  # one date for all is a placeholder
            plausible |= {(person, session): time for session, time in mine.items()}
    return plausible, doubts


def _doubt(
    person: str,
    times: Mapping[str | None, datetime],
    age_at: Callable[[str, str | None], float | None],
    age: float | None,
) -> str | None:
    """Return why the dates of one person are implausible; None when they are plausible."""
    written = {session: age_at(person, session) for session in times} if len(times) > 1 else {}
    for first, second in combinations(times, 2):
        earlier, later = (first, second) if follows(second, first) or not follows(first, second) else (second, first)
        years = years_between(times[earlier], times[later])
        if years < 0.0 and (follows(later, earlier) or years <= -LONGEST):
            return f"{later} is dated {-years:.1f} years before {earlier}"
        if abs(years) >= LONGEST:
            return f"{later} is dated {years:.1f} years after {earlier}"
        labels = label_years(earlier), label_years(later)
        if None not in labels:
            stated = labels[1] - labels[0]
            if abs(years - stated) > LABEL_ROOM[0] + LABEL_ROOM[1] * stated:
                return f"{later} is dated {years:.1f} years after {earlier}, their names say {stated:.1f}"
        ages = written[earlier], written[later]
        if None not in ages and abs(years - (ages[1] - ages[0])) >= ROOM:
            return f"{later} is dated {years:.1f} years after {earlier}, the ages say {ages[1] - ages[0]:.1f}"
        if age is not None and None in ages and age + abs(years) > AGE_MAX:
            return f"{later} is dated {years:.1f} years after {earlier} of a person of {age:g} years"
    return None
