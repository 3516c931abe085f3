"""Find columns that may hold the diagnosis when no group column is recognised.

The user chooses one of them with ``--group-column``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from brainage_bids.bids.aliases import FAMILY, MEDICATION_STATE, SESSION_COLUMNS, SEX, SITE, canonical_score, normalise
from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.headings import words_of
from brainage_bids.bids.parse import MISSING_TEXT, disease_class, level_meaning, parse_sex, parse_text
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.bids.units import of_column

FEWEST, MOST = 2, 8  # different values of a column of groups
# Words in headings of columns that have few values but are not groups.
_OTHER = frozenset(
    "id participant hand handed handedness handness dominance dexterity edinburgh ehi sex gender site center centre "
    "scanner institution hospital manufacturer vendor coil field strength tesla race ethnicity ethnic education edu "
    "educ eduyears school schooling degree language country nationality city marital married employment occupation "
    "income ses ssc species strain apoe apoe4 genotype allele blood session sessions visit wave timepoint run runs "
    "order version acquisition acq protocol sequence software qc quality rating include included exclude excluded "
    "exclusion consent family twin twins zygosity mother father parent weight height bmi age ages agegroup year "
    "years date dob birth day month season time smoker smoking smoke alcohol caffeine medication medicated "
    "contraceptive menstrual vision glasses eyesight n num number count total score sum".split()
)
_LIKE_GROUP = frozenset(
    "group grp groups diagnosis diag diagnostic dx condition condit cond patient patients status disease disorder case "
    "control controls cohort clinical class category type arm population pop subtype phenotype label".split()
)


def group_candidates(tables: Tables, people: Collection[str]) -> list[tuple[Table, str, list[str]]]:
    """Return columns of 2 to 8 repeated values that may be the diagnosis, with their values, most likely first."""
    first = (tables.participants,) if tables.participants else ()
    candidates, seen = [], set()
    for table in (*first, *tables.sessions, *tables.phenotype):
        rows = [i for i, (participant, _) in enumerate(table.keys) if participant in people]
        for name in table.columns:
            values = _values(table, name, rows)
            if name not in seen and values and _may_be_group(table, name, values):
                seen.add(name)
                candidates.append((_rank(table, name, values), table, name, sorted(set(values))))
    return [(table, name, values) for _, table, name, values in sorted(candidates, key=lambda item: item[0])]


def _values(table: Table, name: str, rows: Sequence[int]) -> list[str]:
    """Return the values of a column; an empty list when there are too many different ones for groups."""
    cells = table.cells(name)
    distinct: set[str] = set()
    for row in rows:
        distinct.add(cells[row])
        if len(distinct) > MOST + len(MISSING_TEXT):
            return []
    return [value for row in rows if (value := parse_text(cells[row])) is not None]


def _may_be_group(table: Table, name: str, values: Sequence[str]) -> bool:
    """Return whether a column may hold groups: few repeated values, words or codes, and nothing else that is known."""
    distinct = set(values)
    key = normalise(name)
    if key in (*SEX, *SITE, *FAMILY, *SESSION_COLUMNS, *MEDICATION_STATE) or canonical_score(name):
        return False
    if not FEWEST <= len(distinct) <= MOST or len(values) < 2 * len(distinct):
        return False
    if set(words_of(name)) & _OTHER and not _holds_diagnoses(table, name, distinct):
        return False
    if all(parse_sex(value, of_column(table.about(name), "Levels")) in ("F", "M") for value in distinct):
        return False
    return all(re.fullmatch(r"\d{1,2}(?:\.0*)?", value) or re.search(r"[^\W\d_]", value) for value in distinct)


def _holds_diagnoses(table: Table, name: str, values: Collection[str]) -> bool:
    levels = of_column(table.about(name), "Levels")
    return any(disease_class(value, name, levels) for value in set(values))


def _rank(table: Table, name: str, values: Sequence[str]) -> tuple[int, int]:
    """Rank a candidate: first known diagnoses or controls, then headings about groups, then text, then codes."""
    levels = of_column(table.about(name), "Levels")
    known = _holds_diagnoses(table, name, values)
    words = any(re.search(r"[^\W\d_]", f"{value} {level_meaning(value, levels) or ''}") for value in set(values))
    return (0 if known else 1 if set(words_of(name)) & _LIKE_GROUP else 2 if words else 3, table.columns.index(name))


def group_hint(candidates: Sequence[tuple[Table, str, list[str]]]) -> Fault | None:
    """Return a fault that names the candidates; None when there are none."""
    if not candidates:
        return None
    table, name, _ = candidates[0]
    named = some((f"{n!r} of {t.name} ({some(map(repr, values), 4)})" for t, n, values in candidates), 3)
    message = (
        f"no group column is recognised, so everyone counts as one group; perhaps {named}: "
        f"name it with --group-column {name}"
    )
    return make_fault("GROUP_UNKNOWN", table.name, message)
