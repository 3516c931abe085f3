"""Read one column of ages: find its unit, and check that it holds ages at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from brainage_bids.bids.aliases import normalise
from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.headings import counts_from_conception, unit_by_habit, unit_of_heading
from brainage_bids.bids.parse import AGE_MAX, clean, parse_age, parse_number, read_ages
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.bids.units import Told, about_age, of_column, says_nothing, unit_name

KEPT_FLAGS = frozenset({"top_coded", "possibly_top_coded"})
SAME_AGE = 0.05  # years; two columns that differ by less hold the same ages, rounded differently
WEEKS_AT_SCAN = 60.0  # weeks since conception; newborns are scanned before
_BORN_AT = (20.0, 45.0)  # weeks of gestation
_BIRTH_AGE = "birthage"  # in dHCP, together with scan_age
_MANY = 20  # a column with more different ages than this does not hold codes of age groups
_MISSING = re.compile(
    r"\b(?:missing|unknown|not (?:available|known|reported|recorded|applicable)|n/?a|refused|declined|withheld|"
    r"no (?:answer|data))\b"
)
_ADVICE = "write Units into the JSON sidecar, or name the column with its unit: --age-column FILE:COLUMN:UNIT"


@dataclass(frozen=True, eq=False)
class Age:
    """An age in years (None: unknown), with its table and column, and flags."""

    value: float | None = None
    source: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AgeColumn:
    """The ages of one table: for each row an age in years or None, and a flag."""

    table: Table
    name: str
    values: tuple[float | None, ...]
    flags: tuple[str | None, ...]

    @property
    def of_questionnaire(self) -> bool:
        """Whether the table is a phenotype table: its ages are those at a questionnaire, not at a scan."""
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
class Gestation:
    """The weeks of gestation at birth in a dataset. If it has them, an age without a unit may also be in weeks."""

    table: str = ""
    column: str = ""
    weeks: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.column)


def find_gestation(tables: Tables) -> Gestation:
    """Return the first column of weeks of gestation in the tables; an empty object when there is none."""
    for table in tables.ordered:
        for name in filter(counts_from_conception, table.columns):
            cells = zip(table.keys, table.cells(name), strict=True)
            weeks = {key[0]: weeks for key, cell in cells if (weeks := _weeks_at_birth(cell)) is not None}
            if weeks or normalise(name) == _BIRTH_AGE:
                return Gestation(table.name, name, weeks)
    return Gestation()


def _weeks_at_birth(cell: str) -> float | None:
    """Return weeks of gestation from ``38``, ``38.7``, ``38+2`` or 270 (days); None for anything else."""
    match = re.match(r"\d{2,3}(?:\.\d+)?", clean(cell))
    number = float(match[0]) if match else 0.0
    weeks = number / 7.0 if number > 100.0 else number
    return weeks if _BORN_AT[0] <= weeks <= _BORN_AT[1] else None


# --- one column of a table ------------------------------------------------------------------------------------------


def merged_column(
    table: Table, names: Sequence[str], gestation: Gestation, faults: list[Fault], unit: str | None = None
) -> AgeColumn | None:
    """Return the age column of a table. Several that agree are merged; several that disagree are a fault.

    ``unit`` is the unit given by the user.
    """
    read = [read_age_column(table, name, gestation, faults, unit) for name in names]
    columns = sorted(filter(None, read), key=lambda column: column.whole_years)  # the more exact one first
    if not columns:
        return None
    merged, flags = list(columns[0].values), list(columns[0].flags)
    for column in columns[1:]:
        room = 1.0 if column.whole_years else SAME_AGE
        for row, value in enumerate(column.values):
            if merged[row] is None:
                merged[row], flags[row] = value, column.flags[row]
            elif value is not None and abs(value - merged[row]) >= room:
                message = (
                    f"columns {' and '.join(repr(c.name) for c in columns)} disagree on the age ({merged[row]:g} and "
                    f"{value:g} years for {table.keys[row][0]}); rename all but the age at the scan, or name it: "
                    f"--age-column {table.name}:COLUMN"
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
            aside = column.of_questionnaire  # only a warning: these ages may not be needed
            message = f"{who} is {seen[key]:g} and {value:g} years old in {column.name!r}; keep the right row"
            faults.append(make_fault("AGE_CONFLICT", file, message, line, "warning" if aside else None))
            return not aside
    return False


def read_age_column(
    table: Table, name: str, gestation: Gestation, faults: list[Fault], unit: str | None = None
) -> AgeColumn | None:
    """Read one age column in years; None and a fault when it may not hold ages or its unit is uncertain.

    ``unit`` is given by the user, or is in the heading of a column for one session.
    """
    if not table.is_sure(name, faults):
        return None
    described = _read_description(table, name)
    cells, coded = _without_levels(table, name, described, unit)
    if coded:
        message = (
            f"{name!r} holds codes or ranges, not years: {coded}; its ages are missing: give exact ages, or name "
            "another column with --age-column FILE:COLUMN"
        )
        faults.append(make_fault("AGE_BINS", table.name, message))
        return None
    if unit is None:
        unit, sure = _stated_unit(table, name, described, faults)
        if not sure or not _fits_unit(table, name, cells, unit, gestation, faults):
            return None
        unit = unit or unit_by_habit(name) or "year"
    parsed = read_ages(cells, unit)
    _report_values(table, name, cells, parsed, faults)
    return AgeColumn(table, name, tuple(value for value, _ in parsed), tuple(flag for _, flag in parsed))


def _report_values(table: Table, name: str, cells: Sequence[str], parsed: Sequence[tuple], faults: list[Fault]) -> None:
    flags = [flag for _, flag in parsed]
    for reason in ("sentinel", "out_of_range", "age_range", "unreadable"):
        rows = [i for i, flag in enumerate(flags) if flag == reason]
        if rows:
            examples = some(f"{table.keys[i][0]} {cells[i]!r}" for i in rows)
            message = f"{reason.replace('_', ' ')} in {name!r}: {examples}; read as missing"
            file, line = table.places[rows[0]]
            faults.append(make_fault("AGE_VALUE", file, message, line))


def _read_description(table: Table, name: str) -> Told:
    about = table.about(name)
    texts = [of_column(about, key) for key in ("LongName", "Description", "Levels")]
    return about_age(". ".join(text for text in texts if isinstance(text, str)))


# --- codes ----------------------------------------------------------------------------------------------------------


def _without_levels(table: Table, name: str, described: Told, unit: str | None) -> tuple[list[str], str]:
    """Return the cells, with codes for missing ages emptied, and a text on codes of age groups (empty: none)."""
    cells = table.cells(name)
    levels = of_column(table.about(name), "Levels")
    items = levels.items() if isinstance(levels, Mapping) else ()
    meanings = {_number_key(key): _meaning(value) for key, value in items}
    groups, read = {}, []
    for cell in cells:
        meaning = meanings.get(_number_key(cell), "")
        age, flag = parse_age(meaning)
        if not meaning or (age is not None and age == parse_age(cell)[0]):
            read.append(meaning if flag == "top_coded" else cell)  # 25 means "25 years"; 89 means "89 or older"
        elif _MISSING.search(meaning.lower()):
            read.append("")
        else:
            groups[cell] = meaning
            read.append("")
    if groups:
        examples = some(f"{cell!r} means {meaning[:40]!r}" for cell, meaning in groups.items())
        return read, f"Levels say that {examples}"
    numbers = {clean(cell) for cell in cells if clean(cell)}
    whole = all(re.fullmatch(r"\d+(?:\.0*)?|n/?a", number.lower()) for number in numbers)
    if unit is None and whole and len(numbers) <= _MANY and (described.bins or _lists_ranges(levels)):
        return read, f"its description or Levels mention age groups ({some(sorted(numbers), 3)})"
    return read, ""


def _lists_ranges(levels: object) -> bool:
    """Return whether Levels are a list of age ranges (they should be a mapping)."""
    return isinstance(levels, list) and any(parse_age(item)[1] == "age_range" for item in levels)


def _number_key(text: object) -> str:
    """Return the same text for ``1``, ``01`` and ``1.0``."""
    cell = clean(text).casefold()
    return f"{float(cell):g}" if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", cell) else cell


def _meaning(value: object) -> str:
    if isinstance(value, Mapping):
        value = of_column(value, "Description", "LongName")
    return clean(value)


# --- units ----------------------------------------------------------------------------------------------------------


def _stated_unit(table: Table, name: str, described: Told, faults: list[Fault]) -> tuple[str | None, bool]:
    """Return the unit stated by sidecar and heading (None: none), and whether the column can be used."""
    units = of_column(table.about(name), "Units", "Unit")
    if units is not None and unit_name(units) is None and not says_nothing(units):
        message = f"column {name!r} is in {str(units)[:60]!r}, which is not a unit of age; use year, month, week or day"
        faults.append(make_fault("AGE_UNIT_UNKNOWN", table.name, message))
        return None, False
    if described.conception or counts_from_conception(name):
        message = (
            f"{name!r} is counted from conception (weeks of gestation), not from birth; its ages are missing: give the "
            "age since birth"
        )
        faults.append(make_fault("AGE_UNIT_UNKNOWN", table.name, message, severity="warning"))
        return None, False
    stated = {
        "Units": {unit_name(units)} - {None},
        "the description": set(described.units),
        "the heading": {unit_of_heading(name)} - {None},
    }
    stated = {source: units_found for source, units_found in stated.items() if units_found}
    agreed = set.intersection(*stated.values()) if stated else set()
    if len(agreed) == 1 or not stated:
        return (agreed.pop() if agreed else None), True
    shown = ", ".join(f"{source}: {' and '.join(sorted(units_found))}" for source, units_found in stated.items())
    message = f"the unit of {name!r} is not clear ({shown}); its ages are missing: make them agree, or {_ADVICE}"
    faults.append(make_fault("AGE_UNIT_CONFLICT", table.name, message))
    return None, False


def _fits_unit(
    table: Table, name: str, cells: Sequence[str], unit: str | None, gestation: Gestation, faults: list[Fault]
) -> bool:
    """Return whether the numbers of an age column can be in its unit.

    A column without a unit is refused when a value exceeds 120, or when the values may be weeks since conception (dHCP:
    ``scan_age`` is in post-menstrual weeks). A column in years is refused when most values exceed 120.
    """
    unit = unit or unit_by_habit(name)
    bare = [(i, parse_number(cell, decimal_comma="," in cell)[0]) for i, cell in enumerate(cells)]
    numbers = [(i, v) for i, v in bare if v is not None and v not in {999.0, 9999.0}]
    over = [i for i, v in numbers if v > AGE_MAX]
    if over and (unit is None or (unit == "year" and len(over) > len(numbers) / 2)):
        what = f"holds {cells[over[0]]!r} ({table.keys[over[0]][0]})"
        message = (
            f"age column {name!r} {what} and its unit is {'stated as years' if unit else 'not stated'}; correct it or "
            f'write the unit into the JSON sidecar: {{"{name}": {{"Units": "month"}}}}'
        )
        file, line = table.places[over[0]]
        faults.append(make_fault("AGE_UNIT_UNKNOWN", file, message, line))
        return False
    if unit is None and gestation and _may_be_weeks(table, name, numbers, gestation):
        message = (
            f"age column {name!r} may be in weeks since conception: {gestation.column!r} ({gestation.table}) holds "
            f"weeks of gestation and no unit is stated; {_ADVICE}"
        )
        severity = None if gestation.table == table.name and _of_newborns(name, gestation) else "warning"
        faults.append(make_fault("AGE_UNIT_UNKNOWN", table.name, message, severity=severity))
        return False
    return True


def _of_newborns(name: str, gestation: Gestation) -> bool:
    return normalise(name) == "scanage" and normalise(gestation.column) == _BIRTH_AGE


def _may_be_weeks(table: Table, name: str, numbers: Sequence[tuple[int, float]], gestation: Gestation) -> bool:
    """Return whether most ages without a unit can be weeks since conception: at or soon after birth."""
    if _of_newborns(name, gestation):
        return True
    born = [gestation.weeks.get(table.keys[row][0], _BORN_AT[0]) for row, _ in numbers]
    fitting = sum(weeks <= value <= WEEKS_AT_SCAN for weeks, (_, value) in zip(born, numbers, strict=True))
    return bool(numbers) and fitting > len(numbers) / 2
