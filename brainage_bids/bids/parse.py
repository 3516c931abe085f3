"""Turn the cells of BIDS tables into ages, sexes, scores, groups and labels.

Functions on text; no file is opened. A cell that cannot be read becomes None, with a short flag that says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from brainage_bids.bids.aliases import (
    CONTROL_VALUES,
    DISEASE_VALUES,
    PPMI_COHORT_CODES,
    SCORE_RULES,
    SCORE_SENTINELS,
    canonical_score,
    normalise,
)
from brainage_bids.bids.units import UNITS_PER_YEAR, unit_name
from brainage_bids.errors import UsageError, shorten

MISSING_TEXT = frozenset({"", "n/a", "N/A", "nan", "NaN"})  # in text cells; a site may be called NA, a group None
MISSING_NUMBER = frozenset({"", "n/a", "na", "nan", "none", "null", "."})  # compared in lower case

AGE_MAX = 120.0  # years
TOP_CODE = 89.0  # years; BIDS asks to enter older people as 89
CAP_FROM = 80.0  # years; 85+ may hide the exact age of the very old, 36+ is an age group
_AGE = re.compile(
    r"(?P<over>>=?|≥)?\s*(?P<number>[+-]?\d+(?:[.,]\d*)?)\s*(?P<plus>\+)?\s*(?P<unit>[A-Za-z]+(?: old)?)?"
)
_YEARS = r"\d+(?:[.,]\d+)?"
_RANGE = re.compile(  # 35-40, 25 to 30, [20, 30), 20s
    rf"[(\[]?\s*{_YEARS}\s*[a-z]*\s*(?:[-‐‑–—−~_/]|\.\.+|to|bis|through|,(?=\s*{_YEARS}\s*[)\]]))\s*{_YEARS}\s*[a-z]*\s*"
    r"[)\]]?\+?|(?:early|mid|late)?[ -]*\d+'?s",
    re.IGNORECASE,
)
_OR = r"\s*(?:years?|yrs?)?\s*(?:and|or|&)\s*"
_BELOW = re.compile(
    rf"(?:<=?|≤|under|below|up to|younger than|less than)\s*{_YEARS}\s*[a-z]*|{_YEARS}\s*-|"
    rf"{_YEARS}{_OR}(?:under|below|younger|less)",
    re.IGNORECASE,
)
_ABOVE = re.compile(
    rf"(?:above|over|older than|more than|at least)\s*({_YEARS})|({_YEARS}){_OR}(?:above|over|older|up|more)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")

_SEX_WORDS = {
    "F": {"f", "female", "females", "woman", "women", "girl", "girls"},
    "M": {"m", "male", "males", "man", "men", "boy", "boys"},
    "O": {"o", "other", "others"},
}


def clean(text: Any) -> str:
    """Return a cell without surrounding blanks, non-breaking spaces and quotation marks."""
    cell = str("" if text is None else text).replace("\xa0", " ").strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def parse_text(text: Any) -> str | None:
    """Return a text cell, or None for an empty cell, ``n/a`` and ``nan`` (``NA`` is text)."""
    cell = clean(text)
    return None if cell in MISSING_TEXT else cell


# --- ages -----------------------------------------------------------------------------------------------------------


def parse_age(text: Any, unit: str = "year") -> tuple[float | None, str | None]:
    """Read one age.

    Parameters
    ----------
    text
        Cell as written: ``72``, ``72,5``, ``89+``, ``>89``, ``072Y`` (DICOM), ``864 months``, ``n/a``.
    unit
        Unit of a number without one: ``year``, ``month``, ``week`` or ``day``.

    Returns
    -------
    value, flag
        Age in years, or None. The flag is None or one of ``decimal_comma``, ``top_coded`` (89 or older, exact age
        hidden), ``possibly_top_coded`` (exactly 89, the cap of BIDS), ``unit_suffix``, ``sentinel`` (a number that
        means missing), ``out_of_range`` (outside 0-120 years), ``age_range`` (``35-40``, ``<25``, ``20s``),
        ``unreadable``.
    """
    cell = clean(text)
    if cell.lower() in MISSING_NUMBER:
        return None, None
    if _RANGE.fullmatch(cell) or _BELOW.fullmatch(cell):
        return None, "age_range"
    match = _AGE.fullmatch(_ABOVE.sub(lambda found: f">{found[1] or found[2]}", cell))
    own_unit = unit_name(match["unit"]) if match and match["unit"] else None
    if not match or (match["unit"] and own_unit is None):
        return None, "unreadable"
    if re.search(r",\d{3}$", match["number"]) and (own_unit or unit) != "year":
        return None, "unreadable"  # 26,298 days may be 72 years or 26 days
    number = float(match["number"].replace(",", "."))
    if is_age_sentinel(number, own_unit or unit):
        return None, "sentinel"
    years = number / UNITS_PER_YEAR[own_unit or unit]
    if not 0.0 < years <= AGE_MAX:
        return None, "out_of_range"
    if match["over"] or match["plus"]:
        return years, "top_coded"
    if years == TOP_CODE:
        return years, "possibly_top_coded"
    if own_unit:
        return years, "unit_suffix"
    return years, "decimal_comma" if "," in match["number"] else None


def read_ages(cells: Sequence[Any], unit: str = "year") -> list[tuple[float | None, str | None]]:
    """Read a column of ages: :func:`parse_age` of every cell, with checks over the whole column.

    In a column of age ranges no cell is an age, neither ``22-25`` nor ``36+``. Otherwise ``89+`` is a capped age if it
    is at least ``CAP_FROM`` and nobody is older. A comma is a decimal sign only if the whole column uses it so.
    """
    parsed = [parse_age(cell, unit) for cell in cells]
    if not has_decimal_comma(cells):
        parsed = [(None, "unreadable") if flag == "decimal_comma" else (value, flag) for value, flag in parsed]
    exact = [value for value, flag in parsed if value is not None and flag != "top_coded"]
    if sum(flag == "age_range" for _, flag in parsed) > len(exact):
        return [(value, flag) if value is flag is None else (None, "age_range") for value, flag in parsed]
    cap = max([CAP_FROM, *exact])
    return [
        (None, "age_range") if flag == "top_coded" and value < cap else (value, flag) for value, flag in parsed
    ]  # fmt: skip


def is_age_sentinel(number: float, unit: str) -> bool:
    """Return whether a number in an age column means missing; 999 does only in years (999 months is 83 years)."""
    return number in {-1.0, -4.0, -8.0, -9.0, -99.0, -999.0, -9999.0} or (unit == "year" and number in {999.0, 9999.0})


# --- numbers and scores ---------------------------------------------------------------------------------------------


def parse_number(text: Any, decimal_comma: bool = False) -> tuple[float | None, str | None]:
    """Read one number; return it (or None) and a flag (None or ``unreadable``)."""
    cell = clean(text)
    if cell.lower() in MISSING_NUMBER:
        return None, None
    if not _NUMBER.fullmatch(cell) or ("," in cell and not decimal_comma) or ("." in cell and decimal_comma):
        return None, "unreadable"
    return float(cell.replace(",", ".")), None


def has_decimal_comma(cells: Iterable[Any]) -> bool:
    """Return whether a column uses the decimal comma: some value does, and every value can be read that way.

    A column that mixes ``72,5`` and ``72.5`` does not: its commas may separate thousands.
    """
    values = [cell for cell in map(clean, cells) if cell.lower() not in MISSING_NUMBER]
    return any("," in cell for cell in values) and not any("." in cell for cell in values if _NUMBER.fullmatch(cell))


def parse_numbers(cells: Sequence[Any]) -> tuple[list[float | None], list[int]]:
    """Read a numeric column.

    Returns
    -------
    values, unreadable
        One number or None per cell, and the indices of cells that are not numbers.
    """
    comma = has_decimal_comma(cells)
    parsed = [parse_number(cell, comma) for cell in cells]
    return [value for value, _ in parsed], [index for index, (_, flag) in enumerate(parsed) if flag]


def check_score(name: str, value: float) -> tuple[float | None, str | None]:
    """Return a score and a flag: None, ``sentinel`` or ``out_of_range``. With a flag the score is None.

    Ranges and sentinels are in :data:`brainage_bids.bids.aliases.SCORE_RULES`. Other scores have no range, only the
    sentinels -1 and -4. 101 is a possible UPDRS-III total but means "unable to rate" in Hoehn & Yahr.
    """
    rule = SCORE_RULES.get(canonical_score(name) or "")
    if value in (rule.sentinels if rule else SCORE_SENTINELS):
        return None, "sentinel"
    if rule and not (rule.low <= value <= rule.high and (not rule.step or (value / rule.step).is_integer())):
        return None, "out_of_range"
    return value, None


# --- sex and group --------------------------------------------------------------------------------------------------


def level_meaning(text: Any, levels: Mapping[str, Any] | None) -> str | None:
    """Return the meaning of a value in ``Levels`` of a JSON sidecar; None when it has none."""
    cell = clean(text)
    if not isinstance(levels, Mapping):
        return None
    keys = {clean(key).casefold(): key for key in levels}
    key = keys.get(cell.casefold())
    if key is None and re.fullmatch(r"\d+\.0+", cell):
        key = keys.get(cell.split(".")[0])
    meaning = levels.get(key)
    if isinstance(meaning, Mapping):
        meaning = meaning.get("Description") or meaning.get("LongName")
    return clean(meaning) if meaning is not None else None


def parse_sex(text: Any, levels: Mapping[str, Any] | None = None) -> str | None:
    """Read a sex as ``F``, ``M``, ``O`` or None.

    Numbers are read only with ``levels`` (of participants.json): public data use 0, 1 and 2 both ways. A word that
    contradicts its level gives None.
    """
    cell = clean(text)
    own = next((sex for sex, words in _SEX_WORDS.items() if cell.casefold() in words), None)
    meaning = level_meaning(cell, levels)
    if meaning is None:
        return own
    words = set(re.findall(r"[a-z]+", meaning.casefold()))
    meant = {sex for sex, known in _SEX_WORDS.items() if words & known}
    if len(meant) != 1:
        return own
    return meant.pop() if own is None or own in meant else None


def disease_class(value: Any, column: str = "", levels: Mapping[str, Any] | None = None) -> str | None:
    """Return ``control``, ``AD``, ``MCI`` or ``PD`` for a recognised group value, else None.

    Case and punctuation do not matter. A number is recognised by ``levels`` or by the PPMI column name ``COHORT``.
    """
    meaning = level_meaning(value, levels)
    for text in (clean(value), meaning or ""):
        key = normalise(text)
        if key in CONTROL_VALUES:
            return "control"
        if key in DISEASE_VALUES:
            return DISEASE_VALUES[key]
    return PPMI_COHORT_CODES.get(clean(value)) if normalise(column) == "cohort" and not meaning else None


def is_control(value: Any, controls: Iterable[str] = ()) -> bool:
    """Return whether a group value is a healthy control.

    Parameters
    ----------
    value
        Group as written in the data; None is not a control.
    controls
        Values that mean controls (case does not matter). When empty, the recognised ones: CN, NC, HC, CON, CTL,
        control, healthy control, healthy, ... An unknown label is never a control.
    """
    if value is None:
        return False
    chosen = {clean(control).casefold() for control in controls}
    return clean(value).casefold() in chosen if chosen else disease_class(value) == "control"


# --- labels ---------------------------------------------------------------------------------------------------------


def label(text: Any, prefix: str) -> str | None:
    """Return ``sub-01`` for ``01`` or ``sub-01`` (``prefix`` ``sub``); None for an empty cell or ``n/a``.

    Raises
    ------
    UsageError
        When the label holds anything but letters, digits and ``+``.
    """
    cell, head = clean(text), prefix.rstrip("-") + "-"
    if cell in MISSING_TEXT:
        return None
    bare = cell[len(head) :] if cell.casefold().startswith(head) else cell
    if not re.fullmatch(r"[0-9A-Za-z+]+", bare):
        raise UsageError(
            f"{shorten(cell)!r} is not a BIDS label; use letters and digits only, with or without {head!r}"
        )
    return head + bare


def natural_key(text: str | None) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts ``ses-2`` before ``ses-10``."""
    parts = re.findall(r"\d+|\D+", text or "")
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts)
