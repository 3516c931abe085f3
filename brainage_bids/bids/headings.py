"""Column headings that mean an age, the unit a heading states, and headings that only look like an age.

Headings are compared after :func:`~brainage_bids.bids.aliases.normalise`, whole and never in part: ``brain_age``,
``age_of_onset`` and ``paternal_age`` are not ages at a scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from brainage_bids.bids.aliases import normalise

# --- ages -----------------------------------------------------------------------------------------------------------

# A unit at the end of a heading: age_at_mri_months, "Age (yrs)", ageInDays.
_UNIT_ENDS = {
    "year": "years year yrs yr y inyears inyear inyrs decimalyears yearsdecimal indecimalyears yearsold",
    "month": "months month mos mo mths inmonths inmonth inmos decimalmonths monthsold",
    "week": "weeks week wks wk inweeks inweek weeksold",
    "day": "days day indays inday daysold",
}
UNIT_ENDS = {end: unit for unit, ends in _UNIT_ENDS.items() for end in ends.split()}
_LONGEST_FIRST = sorted(UNIT_ENDS, key=len, reverse=True)
_SCAN = (
    "scan scans scanning scandate scantime mri mriscan mriscanning mridate mrisession mr mrscan mrsession imaging "
    "imagingvisit imagingsession acquisition t1 t1w neuroimaging"
).split()
_VISIT = (
    "exam examination assessment testing interview study studyvisit experiment participation datacollection "
    "measurement appointment image test"
).split()
_JOINS = ("ageat", "ageatthe", "ageattimeof", "ageatthetimeof", "agewhen", "ageon", "ageduring")
_OWN = "subject subjects participant participants patient patients subj pt person individual child infant".split()
_KINDS = "chronological chron calendar current actual exact decimal".split()

_UNIT_FIRST = {"yearsofage": "year", "monthsofage": "month", "weeksofage": "week", "daysofage": "day"}

# The age at a session, in order of preference. If a table has several of these, they must agree.
AGE_SESSION = tuple(
    dict.fromkeys([
        "age", "ages", "ageatsession", "ageatsessions", "ageatvisit", "ageatscan", "scanage", "agemri",
        "participantage", "interviewage", "agevisit", "visitage", "agesession", "sessionage",
        *(join + place for place in _SCAN for join in _JOINS), *(f"age{place}" for place in _SCAN),
        *(f"{place}age" for place in _SCAN), *(f"{one}age" for one in _OWN), *(f"ageof{one}" for one in _OWN),
        *(f"{one}ageat{place}" for one in _OWN for place in ("scan", "mri")), *(f"{kind}age" for kind in _KINDS),
        *(f"age{kind}" for kind in _KINDS), *_UNIT_FIRST,
        "agewhenattendedassessmentcentref2100320",  # UK Biobank, first imaging visit
    ])
)  # fmt: skip
# The age at a visit that may not be that of the scan. Used only when a table has none of the headings above.
AGE_VISIT = tuple(join + place for place in _VISIT for join in (*_JOINS, *(("age",) if place == "exam" else ())))
AGE_FIRST_SCAN = tuple(
    f"ageat{first}"
    for first in "firstscan firstmri firstvisit firstsession scan1 mri1 visit1 session1".split()
)  # fmt: skip
AGE_BASELINE = tuple(
    "agebl ageatentry ageatbaseline agebaseline enrollage blage baselineage ageatbl ageentry entryage ageatstudyentry "
    "ageatenrollment ageatenrolment ageatenroll ageenrollment ageenrolment enrollmentage enrolmentage ageatinclusion "
    "ageinclusion ageatscreening agescreening screeningage ageatintake".split()
)
AGE_UNUSABLE = ("ageatrecruitment", "ageatrecruitmentf2102200")  # UK Biobank: years before the first scan
WIDE_AGES = (*AGE_SESSION, "ageat")  # followed by the name of a session: AgeMRI_W1, age_at_visit_2
PPMI_BASELINE = "enrollage"
# Months since baseline of the PPMI visit codes (PPMI schedule of activities); used only beside ENROLL_AGE.
PPMI_VISIT_MONTHS = {
    "sc": 0, "bl": 0, "v01": 3, "v02": 6, "v03": 9, "v04": 12, "v05": 18, "v06": 24, "v07": 30, "v08": 36, "v09": 42,
    "v10": 48, "v11": 54, "v12": 60,
}  # fmt: skip
_STEMS = frozenset({*WIDE_AGES, *AGE_VISIT, *AGE_FIRST_SCAN, *AGE_BASELINE})
_UNIT_BY_HABIT = {"interviewage": "month"}  # the NDA archive defines this column in months


def stems_of(name: str) -> tuple[tuple[str, str | None], ...]:
    """Return a normalised heading with its unit, and again without a unit at its end, each as (heading, unit)."""
    key = normalise(name)
    ends = [end for end in _LONGEST_FIRST if key.endswith(end) and len(key) > len(end)]
    return ((key, _UNIT_FIRST.get(key)), *((key.removesuffix(end), UNIT_ENDS[end]) for end in ends))


def age_headings(columns: Iterable[str], stems: Sequence[str]) -> list[str]:
    """Return the columns whose heading is a stem, with or without a unit at its end, in the order of the stems."""
    order = {stem: place for place, stem in enumerate(stems)}
    matches = []
    for name in columns:
        places = [order[stem] for stem, _ in stems_of(name) if stem in order]
        if places:
            matches.append((min(places), name))
    return [name for _, name in sorted(matches, key=lambda item: item[0])]


def unit_of_heading(name: str) -> str | None:
    """Return the unit that the heading of an age states: ``year``, ``month``, ``week``, ``day`` or None.

    In an unknown heading the unit is the last word; ``age_at_12_months`` states none.
    """
    known = (unit for stem, unit in stems_of(name) if unit and stem in _STEMS)
    before, last = ["", "", *words_of(name)][-2:]
    return next(known, UNIT_ENDS.get(last) if len(last) > 2 and not before.isdigit() else None)


def unit_by_habit(name: str) -> str | None:
    """Return the unit of a heading when none is stated (``interview_age`` of NDA: months)."""
    return _UNIT_BY_HABIT.get(normalise(name))


# --- headings that look like an age ---------------------------------------------------------------------------------

# A heading with one of these words is not the age of the person on the day of the scan.
_NO_AGES = frozenset(
    "onset diagnosis diagnosed dx symptom symptoms brain brainage predicted prediction estimated bone paternal "
    "maternal father mother parent parents parental sibling education educ edu school schooling death died menarche "
    "menopause gap delta diff difference group grp range bin bins category cat code equivalent mental reading language "
    "smoking since duration disease illness treatment acquired retirement marriage surgery injury stroke matched "
    "squared zscore score experience training recruitment norm norms".split()
)
_GESTATION = frozenset(
    "gestation gestational ga pma pca postmenstrual menstrual postconceptional conception corrected adjusted".split()
)
_GESTATION_NAMES = frozenset("birthage ageatbirth gaatbirth gestage gaweeks gabirth birthga correctedage".split())
_BIRTH = frozenset("birth dob ptdob birthdate birthday birthyear yob dateofbirth yearofbirth".split())
_WORDS_FOR_AGE = frozenset("age ages aged alter edad idade eta leeftijd alder years yrs".split())


def words_of(name: str) -> list[str]:
    """Return the words of a heading, in lower case: ``AgeAtScan_1`` -> age, at, scan, 1."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[a-z]+|\d+", parted.lower())


def is_no_age(name: str) -> bool:
    """Return whether a word in a heading excludes that it is the age of the person on the day of the scan."""
    return bool(_NO_AGES & set(words_of(name))) or counts_from_conception(name)


def counts_from_conception(name: str) -> bool:
    """Return whether a heading names weeks of gestation or an age since conception (``birth_age``, ``pma_at_scan``)."""
    return normalise(name) in _GESTATION_NAMES or bool(_GESTATION & set(words_of(name)))


def names_birth(name: str) -> bool:
    """Return whether a heading names the date or year of birth."""
    return bool(_BIRTH & {normalise(name), *words_of(name)}) and not counts_from_conception(name)


def may_be_age(name: str) -> bool:
    """Return whether a heading may be an age: it has a word for age or years, and no word that excludes it."""
    if is_no_age(name) or names_birth(name):
        return False
    return any(word in _WORDS_FOR_AGE or _joined_to_age(word) for word in words_of(name))


def _joined_to_age(word: str) -> bool:
    """Return whether a word joins age to another word: ``agescan``, ``mriage``; not agent, language."""
    for rest in (word.removeprefix("age"), word.removesuffix("age")):
        if rest != word and not any(no in rest for no in _NO_AGES if len(no) > 2):
            known = rest.startswith(_STARTS) if word.startswith("age") else rest in _STARTS
            if known:
                return True
    return False


_STARTS = ("at", "of", "in", "years", "yrs", "months", "days", "when", "on", *_SCAN, *_VISIT, *_OWN, *_KINDS,
           "visit", "session", "volunteer", "my", "demo", "real", "true", "donor")  # fmt: skip
