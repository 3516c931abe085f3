"""Interpret session labels: spellings of the same session, columns of one session, and the time since entry.

Functions on text only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from brainage_bids.bids.aliases import normalise

# Words for the same kind of visit, followed by a number: ses-wave1 and AgeMRI_W1 mean the same.
_HEADS = (
    ("wave", "w"), ("visit", "v", "session", "sess", "ses"), ("timepoint", "tp", "time", "t"),
    ("month", "months", "mo", "m"), ("day", "days", "d"), ("week", "weeks", "wk"), ("year", "years", "yr", "y"),
    ("followup", "fu"),
)  # fmt: skip
_GROUP_OF = {head: group for group in _HEADS for head in group}
_WORDS = (("baseline", "bl"), ("followup", "fu"))
_PREFIXES = ("", "ses", "sess", "session", "examses")
# A session that is only a number may follow these words in a column name; w1 may be a week, t1 a kind of image.
_BEFORE_NUMBER = (
    "ses", "sess", "session", "examses", "visit", "v", "wave", "timepoint", "tp", "scan", "mri", "mr",
)  # fmt: skip
_ENDINGS = ("", "t1w", "t1", "mri", "mr", "scan", "anat")  # age_ses-T1_T1w is the age at session T1

# Time since entry. Not used, as the meaning is uncertain: ses-6mo (age of a child?), w1 (a wave?), year1 (first year?).
_TIME = re.compile(
    r"(?:m|mo|month|months)(?P<month>\d{1,3})|(?:d|day|days)(?P<day>\d{1,5})|(?:wk|week|weeks)(?P<week>\d{1,3})"
)
_FOLLOW_UP = re.compile(
    r"(?:fu|followup)?(?P<number>\d{1,4})(?P<unit>years?|yrs?|y|months?|mo|m|weeks?|wks?|days?|d)"
    r"(?:(?:fu|followup)(?:yarm\d)?)?"
)
_IN_A_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7.0, "d": 365.25}


def bare(session: str | None) -> str:
    """Return the label of a session without its prefix, in lower case, letters and digits only."""
    return normalise((session or "").removeprefix("ses-"))


def unpadded(text: str) -> str:
    """Return a text with the leading zeros of its numbers dropped."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def session_key(session: str | None) -> str:
    """Return a key shared by spellings of a session: ``ses-01``, ``1``, ``Visit 1``, ``V01`` and ``wave1`` -> ``1``."""
    text = re.sub(r"[^a-z0-9]", "", (session or "").lower().removeprefix("ses-"))
    return re.sub(r"^(?:ses|sess|session|visit|v|wave|timepoint|tp)(?=\d+$)", "", unpadded(text))


@lru_cache(maxsize=4096)
def session_tails(session: str | None) -> frozenset[str]:
    """Return the names a session may have in columns of a wide table: ``ses-W1`` -> ``w1``, ``wave1``, ``sesw1``, ...

    A number alone is not among them: ``age1`` may mean anything, ``age_ses-1`` is clear.
    """
    text = unpadded(bare(session))
    if not text:
        return frozenset()
    if text.isdigit():
        return frozenset(head + text for head in _BEFORE_NUMBER)
    meant = {text}
    if match := re.fullmatch(r"([a-z]+)(\d+)", text):
        meant |= {head + match[2] for head in _GROUP_OF.get(match[1], ())}
        if match[1] in ("month", "months", "mo", "m", "year", "years", "yr", "y"):
            meant |= {match[2] + head for head in _GROUP_OF[match[1]]}  # mmse_24m
    meant |= {word for words in _WORDS if text in words for word in words}
    return frozenset(prefix + one for prefix in _PREFIXES for one in meant)


def wide_names(
    columns: Sequence[str], aliases: Sequence[str], tails: frozenset[str], beside: Collection[str] = ()
) -> list[tuple[str, str, str]]:
    """Return ``(tail, column, rest)`` of columns whose name joins an alias and a tail, in the order of the aliases.

    The tail names the session. It follows the alias (``AgeMRI_W1``), or precedes it if it holds a number (``W1_age``).
    A word of ``beside`` may stand before or after the tail (units: ``age_months_ses-1``, ``age_W1_months``). A word for
    the image may stand after it (``age_ses-T1_T1w``). ``rest`` is the word of ``beside``, or empty.
    """
    names = [(normalise(name), name) for name in columns]
    matches = []
    for alias in aliases:
        for normal, name in names:
            if normal.startswith(alias) and (parts := _tail_of(normal[len(alias) :], tails, beside)):
                matches.append((parts[0], name, parts[1]))
            elif normal.endswith(alias) and (tail := unpadded(normal[: -len(alias)])) in tails and tail[-1].isdigit():
                matches.append((tail, name, ""))
    return matches


def _tail_of(text: str, tails: frozenset[str], beside: Collection[str]) -> tuple[str, str] | None:
    """Return the tail in a text and the word of ``beside``; None when there is no tail or more text."""
    tail = unpadded(text)
    if tail in tails:
        return tail, ""
    cut = [(tail.removesuffix(end + one), one) for end in _ENDINGS for one in ("", *beside) if tail.endswith(end + one)]
    cut += [(tail.removeprefix(one), one) for one in beside if tail.startswith(one)]
    return next(((one, rest) for one, rest in cut if one in tails), None)


@lru_cache(maxsize=4096)
def label_years(session: str | None) -> float | None:
    """Return the years since entry stated in a session label; None when it states none.

    ``ses-M024`` is 2, ``ses-d3132`` (days, OASIS-3) 8.57, ``ses-week12`` 0.23, ``ses-2YearFollowUp`` 2, ``ses-BL`` 0.
    """
    text = bare(session)
    if text in {"bl", "baseline"} or re.fullmatch(r"baselineyear1arm1", text):  # the last is ABCD's
        return 0.0
    if match := _TIME.fullmatch(text):
        unit = match.lastgroup
        return float(match[unit]) / _IN_A_YEAR[unit[0]]
    match = _FOLLOW_UP.fullmatch(text)
    if match and ("fu" in text or "followup" in text):
        return float(match["number"]) / _IN_A_YEAR[match["unit"][0]]
    return None


def tells_days(session: str | None) -> bool:
    """Return whether a label states the days since entry (``ses-d0129``)."""
    return bool((match := _TIME.fullmatch(bare(session))) and match["day"])


def follows(session: str | None, other: str | None) -> bool:
    """Return whether the labels show that a session was after the other one: ``ses-2`` after ``ses-1``.

    Other labels (``ses-post``, ``ses-a``) show no order.
    """
    times = label_years(session), label_years(other)
    if None not in times:
        return times[0] > times[1]
    ends = [re.fullmatch(r"(.*?)(\d+)", bare(one)) for one in (session, other)]
    return all(ends) and ends[0][1] == ends[1][1] and int(ends[0][2]) > int(ends[1][2])
