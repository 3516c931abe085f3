"""Read the unit of an age from the Units and the free text of a JSON sidecar.

Nothing is guessed: if the words leave the unit open, none is returned.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNITS_PER_YEAR = {"year": 1.0, "month": 12.0, "week": 365.25 / 7.0, "day": 365.25}

# Units as people write them, alone or after a number; accents are removed before.
_UNIT_WORDS = {
    "year": "y yr yrs yo year years yearsold anno anni annee annees ans ano anos jahr jahre jahren jaar jaren",
    "month": "m mo mos mon month months mth mths monat monate monaten mois mes meses mese mesi maand maanden",
    "week": "w wk wks week weeks woche wochen semaine semaines semana semanas settimana settimane weken",
    "day": "d day days tag tage tagen jour jours dia dias giorno giorni dag dagen pnd dol",
}
_UNIT_OF = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}
_CJK = {"year": "岁歲年", "month": "月", "week": "周週", "day": "天日"}
# In free text only words that cannot mean anything else.
_TEXT_WORDS = {
    "year": "years?|yrs?|annees|anos|jahren?|jahre|jaar|anni",
    "month": "months?|mths?|monate?n?|mois|meses|mesi|maanden",
    "week": "weeks?|wks?|wochen?|semaines|semanas|settimane|weken",
    "day": "days?|tagen?|tage|jours|dias|giorni|dagen",
}
_NO_UNIT = frozenset(
    "n a na none integer int float number numeric numerical decimal continuous value scalar string".split()
)

# Ages that are not counted from birth.
_CONCEPTION = re.compile(
    r"gestation|post[\s-]*menstrual|menstrual|post[\s-]*concept|\bconception|\bpma\b|"
    r"(?<!not )\bcorrected (?:\w+ )?(?:age|weeks|months)|\badjusted age|(?<!not )\bcorrected for prematurity"
)
_CONCEPTION_UNIT = re.compile(r"gestation|menstrual|concept|\bpma\b|\bga\b|\bpca\b")
_BINS = re.compile(
    r"\b(?:binned|bins?|brackets?|categor\w+ age|age[\s-]?(?:bands?|categor\w*|groups?|class\w*)|"
    r"age[\s-]ranges?(?! *[:(=]? *(?:of |from )?\d))\b|"
    r"\b\d+ *[=:] *\D{0,8}\d+ *(?:-|–|to) *\d+|[<>] ?\d+ *[;,] *\d+ *(?:-|–|to) *\d+|"
    r"(?:rounded|truncated|floored|nearest)[^.;]{0,30}\b(?:5|five|10|ten|decades?)\b|\bdecades? (?:of age|of life)\b"
)


@dataclass(frozen=True)
class Told:
    """What a description says about the numbers of an age column.

    Parameters
    ----------
    units
        Stated units: none, one or several of ``year``, ``month``, ``week``, ``day``.
    conception
        Whether the age is counted from conception, not from birth.
    bins
        Whether the column holds age groups.
    """

    units: frozenset[str] = frozenset()
    conception: bool = False
    bins: bool = False


def plain(text: Any) -> str:
    """Return a text in lower case, without accents, double blanks and outer blanks."""
    bare = unicodedata.normalize("NFKD", str("" if text is None else text))
    return re.sub(r"\s+", " ", "".join(c for c in bare if not unicodedata.combining(c))).strip().lower()


def unit_name(text: Any) -> str | None:
    """Return ``year``, ``month``, ``week`` or ``day`` for a unit as people write it; None when unknown."""
    words = re.findall(r"[a-z]+", plain(text))
    known = _UNIT_OF.get("".join(words))
    if known or _CONCEPTION_UNIT.search(plain(text)):
        return known
    units = {_UNIT_OF[word] for word in words if len(word) > 2 and word in _UNIT_OF}  # "months since birth"
    units |= {unit for unit, signs in _CJK.items() if set(signs) & set(plain(text))}
    return units.pop() if len(units) == 1 else None


def says_nothing(units: Any) -> bool:
    """Return whether Units name no unit: empty, ``n/a``, ``integer``, ``number``."""
    return set(re.findall(r"[a-z]+", plain(units))) <= _NO_UNIT and not re.search(r"[^\x00-\x7f]", plain(units))


def about_age(text: Any) -> Told:
    """Read what a Description or LongName says about an age."""
    words = plain(text).replace("_", " ")
    units = frozenset(unit for unit in _TEXT_WORDS if _states(words, unit))
    return Told(units, bool(_CONCEPTION.search(words)), bool(_BINS.search(words)))


def _states(words: str, unit: str) -> bool:
    """Return whether a text says that its numbers are in a unit; "day of the scan" and "6-month visit" do not."""
    return any(pattern.search(words) for pattern in _STATEMENTS[unit])


def _statements(words: str, short: str, plurals: str) -> tuple[re.Pattern, ...]:
    word = f"(?:{words})"
    kinds = (
        "(?:(?:decimal|whole|full|completed?|fractional|calendar|rounded|exact|integer|chronological|post-?natal|total|"
        "the|number|of|life|gestational|postmenstrual|corrected|floored|truncated|units?) ){0,3}"
    )
    of_event = r"(?! ?/ ?\d)(?! of (?:the )?(?:scan|mri|visit|test|birth|assessment|education))"
    more = r"(?:,? (?:decimal|old|of age|since birth|rounded|to [^)\]]*))?"
    uncounted = r"(?<!\d )(?<![\d.])(?<!\d-)"  # "18 years of age", "the 6-month visit" do not state the unit
    after = "age|scan|mri|scanning|visit|birthday|birth|testing|assessment|child|participant|subject|patient|session"
    forms = (
        rf"\b(?:in|en|as|em|number of|units?(?: is| are|:| =|=)?|age|alter|edad|idade) {kinds}{word}\b{of_event}",
        rf"[(\[{{]\s*(?:in |units?: )?{kinds}(?:{word}|{short})\.?{more}\s*[)\]}}]",
        rf"{uncounted}\b{word} (?:old|of age|of life|since birth|(?:after|from|post) birth)\b",
        rf"(?:^|[(\[,.;:/|] ?|- ){uncounted}{kinds}{word}(?:\.?$|[,;:/|)]|\. )",
        rf"^{kinds}{word}\.?$",
        rf"\b(?:{after}) {kinds}(?:{plurals})\.?$",
    )
    return tuple(re.compile(form) for form in forms)


_STATEMENTS = {
    unit: _statements(_TEXT_WORDS[unit], short, plurals)
    for unit, short, plurals in (
        ("year", "y|yo", "years|yrs"), ("month", "m|mo|mos", "months|mths"), ("week", "w", "weeks|wks"),
        ("day", "d", "days"),
    )
}  # fmt: skip


def of_column(about: Mapping[str, Any], *keys: str) -> Any:
    """Return the entry of a sidecar under one of the keys, in any spelling (``Units``, ``units``); None without one."""
    wanted = {re.sub("[^a-z]", "", key.lower()) for key in keys}
    values = (value for key, value in about.items() if re.sub("[^a-z]", "", str(key).lower()) in wanted)
    return next((value for value in values if value not in (None, "")), None)
