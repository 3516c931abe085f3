"""Which dates of acquisition can be believed: those in the order of the sessions and in keeping with labels and ages.

Plain functions on dates and labels. Public datasets shift dates, for some per session; then a difference means nothing.
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
LABEL_ROOM = (1.0, 0.25)  # years, and share of the years a label tells, by which a visit may be late

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
    """Return the times of the people whose dates can be true, and for each of the others what contradicts what.

    Parameters
    ----------
    age_at, age_of
        The age written for a session, and the one of a person; None when unknown.
    """
    kept, doubts = {}, []
    by_person: dict[str, dict[str | None, datetime]] = {}
    for (person, session), time in times.items():
        by_person.setdefault(person, {})[session] = time
    for person, mine in by_person.items():
        order = [session for session in sessions.get(person, tuple(mine)) if session in mine]
        doubt = _doubt(person, {session: mine[session] for session in order}, age_at, age_of(person))
        if doubt:
            doubts.append(f"{person} ({doubt})")
        elif len(order) < 2 or len({mine[session] for session in order}) > 1:  # one date for all is a placeholder
            kept |= {(person, session): time for session, time in mine.items()}
    return kept, doubts


def _doubt(
    person: str,
    times: Mapping[str | None, datetime],
    age_at: Callable[[str, str | None], float | None],
    age: float | None,
) -> str | None:
    """Return why the dates of one person cannot be true, None when they can."""
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
            told = labels[1] - labels[0]
            if abs(years - told) > LABEL_ROOM[0] + LABEL_ROOM[1] * told:
                return f"{later} is dated {years:.1f} years after {earlier}, their names say {told:.1f}"
        ages = written[earlier], written[later]
        if None not in ages and abs(years - (ages[1] - ages[0])) >= ROOM:
            return f"{later} is dated {years:.1f} years after {earlier}, the ages say {ages[1] - ages[0]:.1f}"
        if age is not None and None in ages and age + abs(years) > AGE_MAX:
            return f"{later} is dated {years:.1f} years after {earlier} of a person of {age:g} years"
    return None
