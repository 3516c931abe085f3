"""Find the sex, group, site and family of the person of a scan.

Groups and sites stay as written in the data.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.aliases import FAMILY, GROUP, SEX, SITE, normalise
from brainage_bids.bids.asked import nearest
from brainage_bids.bids.faults import WARNING, Fault, make_fault, some
from brainage_bids.bids.find import Image
from brainage_bids.bids.parse import disease_class, is_control, parse_sex, parse_text
from brainage_bids.bids.tablefile import read_sidecar
from brainage_bids.bids.tables import Table, Tables
from brainage_bids.bids.text import is_ambiguous
from brainage_bids.bids.units import of_column
from brainage_bids.errors import shorten

EVERYONE = "all"  # the label of everyone in the group tables


@dataclass(frozen=True, eq=False)
class TextColumn:
    """The values of one column: for each row a text or None."""

    table: Table
    name: str
    values: tuple[str | None, ...]

    def at(self, rows: Sequence[int]) -> set[str]:
        """Return the distinct values on the given rows."""
        return {self.values[i] for i in rows if self.values[i] is not None}


def look_up(columns: Sequence[TextColumn], participant: str, session: str | None) -> set[str]:
    """Return the values of a participant at a session, or else those from rows without session.

    More than one value means that the table contradicts itself.
    """
    for column in columns:
        if values := column.at(column.table.session_rows(participant, session)):
            return values
    for column in columns:
        if values := column.at(column.table.participant_rows(participant)):
            return values
    return set()


def of_person(columns: Sequence[TextColumn], participant: str, session: str | None) -> set[str]:
    """Return a value that does not change with time: that of the session, else the only one of the person."""
    if values := look_up(columns, participant, session):
        return values
    for column in columns:
        values = column.at(column.table.rows_by_participant.get(participant, ()))
        if len(values) == 1:
            return values
    return set()


def _columns_of(
    tables: Sequence[Table],
    pick: Callable[[Table], list[str]],
    parse: Callable[[Table, str], tuple[str | None, ...]],
    code: str | None,
    faults: list[Fault],
) -> list[TextColumn]:
    """Read one column per table. If several disagree, add a fault ``code`` and use the first."""
    result = []
    for table in tables:
        columns = [TextColumn(table, name, parse(table, name)) for name in pick(table) if table.is_sure(name, faults)]
        if not columns:
            continue
        first, values = columns[0], list(columns[0].values)
        for column in columns[1:]:
            clash = next((i for i, v in enumerate(column.values) if v and values[i] and v != values[i]), None)
            if clash is not None and code:
                names = " and ".join(repr(c.name) for c in columns)
                message = f"columns {names} disagree ({values[clash]!r} and {column.values[clash]!r})"
                way_out = "choose one with --group-column" if code == "GROUP_AMBIGUOUS" else f"{first.name!r} is used"
                file, line = table.places[clash]
                faults.append(make_fault(code, file, f"{message}; {way_out}", line))
                break
            values = [own if own is not None or clash is not None else v
                      for own, v in zip(values, column.values, strict=True)]  # fmt: skip
        result.append(TextColumn(table, first.name, tuple(values)))
    return result


def _texts(table: Table, name: str) -> tuple[str | None, ...]:
    return tuple(parse_text(cell) for cell in table.cells(name))


# --- sex and family -------------------------------------------------------------------------------------------------


def sex_columns(tables: Tables, faults: list[Fault], asked: Sequence[tuple[Table, str]] = ()) -> list[TextColumn]:
    """Return the sex columns (``F``, ``M``, ``O`` or None); only those named by the user, if any."""

    def parse(table: Table, name: str) -> tuple[str | None, ...]:
        levels = of_column(table.about(name), "Levels") or _levels_of_heading(name)
        cells = table.cells(name)
        values = tuple(parse_sex(cell, levels) for cell in cells)
        bad = [
            i for i, v in enumerate(values) if v is None and parse_text(cells[i]) and cells[i].lower() not in _UNKNOWN
        ]
        if bad:
            listed = some(dict.fromkeys(repr(cells[i]) for i in bad))
            message = (
                f"{len(bad)} values of {name!r} are not recognised ({listed}); explain them as Levels in the sidecar"
            )
            file, line = table.places[bad[0]]
            faults.append(make_fault("SEX_VALUE", file, message, line))
        return values

    if asked:
        return [TextColumn(table, name, parse(table, name)) for table, name in asked]
    return _columns_of(tables.ordered, _sex_headings, parse, "SEX_AMBIGUOUS", faults)


def _sex_headings(table: Table) -> list[str]:
    """Return the columns with a known heading, also with codes after it (``Sex(0=F,1=M)``)."""
    coded = [name for name in table.columns if _levels_of_heading(name) and normalise(name.partition("(")[0]) in SEX]
    return list(dict.fromkeys([*table.find(SEX), *coded]))


def _levels_of_heading(name: str) -> dict[str, str]:
    """Return what the codes in a heading mean: ``Sex(0=F,1=M)`` -> 0: F, 1: M."""
    return dict(re.findall(r"(\d)\s*[=:]\s*([A-Za-z]+)", name))


_UNKNOWN = frozenset({"na", "nan", "none", "unknown", "u"})


def family_columns(tables: Tables, faults: list[Fault]) -> list[TextColumn]:
    """Return the columns of families."""
    return _columns_of(tables.ordered, lambda table: table.find(FAMILY), _texts, None, faults)


# --- group ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Groups:
    """The group columns, the name shown for them, and the values that mean controls (as written)."""

    columns: tuple[TextColumn, ...]
    name: str | None
    controls: tuple[str, ...]


def read_groups(tables: Tables, asked: str | None, controls: Sequence[str], faults: list[Fault]) -> Groups:
    """Find the group column (named by the user, else recognised) and the controls in it."""
    if asked is not None:
        columns = _columns_of(tables.ordered, lambda table: table.named(asked)[:1], _texts, None, faults)
        if not columns:
            names = list(dict.fromkeys(name for table in tables.ordered for name in table.columns))
            near = difflib.get_close_matches(asked, names, n=3, cutoff=0.4) or names[:8]
            message = f"--group-column {shorten(asked)}: no table has it (nearest: {', '.join(near) or 'none'})"
            faults.append(make_fault("GROUP_COLUMN_UNKNOWN", "participants.tsv", message))
    else:
        columns = _recognised_groups(tables, faults)
    values = sorted({v for column in columns for v in column.values if v is not None})
    listed = some((repr(shorten(value)) for value in values), 10)
    if EVERYONE in values:
        message = (
            f"{columns[0].name!r} holds the group {EVERYONE!r}, which stands for everyone in the tables; rename it"
        )
        faults.append(make_fault("GROUP_NAME", columns[0].table.name, message))
    for control in controls:
        if columns and not any(is_control(value, [control]) for value in values):
            message = f"--control {shorten(control)}: {columns[0].name!r} holds {listed} only"
            faults.append(make_fault("CONTROL_UNKNOWN", columns[0].table.name, message))
        elif not columns and asked is None:
            message = f"--control {shorten(control)}: no group column is recognised; name it with --group-column"
            faults.append(make_fault("CONTROL_UNKNOWN", "participants.tsv", message))
    chosen = [v for v in values if (is_control(v, controls) if controls else _recognised_control(columns, v))]
    if values and not chosen and not controls:
        message = f"{columns[0].name!r} holds {listed}; name the controls with --control"
        faults.append(make_fault("CONTROL_NONE", columns[0].table.name, message))
    return Groups(tuple(columns), columns[0].name if columns else None, tuple(chosen))


def _recognised_groups(tables: Tables, faults: list[Fault]) -> list[TextColumn]:
    """Return the recognised group columns of sessions and participants tables, else of phenotype tables.

    ``pathology`` (healthy or not, in BIDS sessions tables) is used only when there is nothing better.
    """
    first = (tables.participants,) if tables.participants else ()
    for chosen in ((*tables.sessions, *first), tables.phenotype):
        for aliases in ([name for name in GROUP if name != "pathology"], ["pathology"]):
            columns = _columns_of(chosen, lambda t, a=aliases: t.find(a), _texts, "GROUP_AMBIGUOUS", faults)
            if columns:
                return columns
    return []


def _recognised_control(columns: Sequence[TextColumn], value: str) -> bool:
    return any(
        disease_class(value, column.name, of_column(column.table.about(column.name), "Levels")) == "control"
        for column in columns
        if value in column.values
    )


def group_notes(groups: Groups, hint: Fault | None = None) -> list[str]:
    """Return sentences on the source of the groups, the controls, and the meaning of coded values.

    ``hint`` names columns that may hold the group when none is recognised.
    """
    if not groups.columns:
        text = hint.message if hint else "no group column is recognised: everyone counts as one group"
        return [f"{text[0].upper()}{text[1:]}."]
    where = ", ".join(dict.fromkeys(f"{column.table.name}:{column.name}" for column in groups.columns))
    controls = ", ".join(map(repr, groups.controls)) or "none"
    notes = [f"Group from {where}; controls: {controls}."]
    for column in groups.columns:
        levels = of_column(column.table.about(column.name), "Levels")
        if isinstance(levels, Mapping):
            coded = [v for v in sorted(set(filter(None, column.values))) if v.isdigit() and v in levels]
            notes += [f"Group {value!r} means {levels[value]!r}." for value in coded]
        elif normalise(column.name) == "cohort" and {"1", "2"} & set(column.values):
            notes.append("Group '1' is read as Parkinson's disease and '2' as healthy control (PPMI COHORT).")
    return notes


def named_columns(tables: Tables, asked: str, option: str, faults: list[Fault]) -> list[TextColumn]:
    """Return the columns of this name, of any table; a name that none has becomes a fault that names similar ones."""
    columns = _columns_of(tables.ordered, lambda table: table.named(asked)[:1], _texts, None, faults)
    if not columns:
        where = nearest(asked, tables.ordered) if tables.ordered else "there is no table"
        message = f"{option} {shorten(asked)}: no table has such a column ({where})"
        faults.append(make_fault("ASKED_COLUMN_UNKNOWN", "participants.tsv", message))
    return columns


# --- site -----------------------------------------------------------------------------------------------------------


def site_columns(tables: Tables, faults: list[Fault]) -> list[TextColumn]:
    """Return the columns of sites."""
    return _columns_of(tables.ordered, lambda table: table.find(SITE), _texts, None, faults)


def sidecar_site(image: Image, root: Path, faults: list[Fault], root_sidecar: Mapping | None) -> str | None:
    """Return the scanner of an image from its JSON sidecars: institution, manufacturer, model, field strength.

    Follows the BIDS inheritance principle: the sidecar of the image goes before ``sub-X_ses-Y_T1w.json``, then
    ``sub-X_T1w.json``, then ``T1w.json``. None when one of them cannot be read, since it may name another scanner.
    """
    if root_sidecar is None:
        return None
    sidecars = dict(root_sidecar)
    own = image.path.removesuffix(".gz").removesuffix(".nii") + ".json"
    folder = os.path.join(root, image.participant_id)
    inherited = [os.path.join(folder, f"{image.participant_id}_{image.suffix}.json")]
    if image.session_id:
        name = f"{image.participant_id}_{image.session_id}_{image.suffix}.json"
        inherited.append(os.path.join(folder, image.session_id, name))
    for path in dict.fromkeys([*inherited, own]):
        if os.path.lexists(path):
            sidecar = read_sidecar(Path(path), root, faults, WARNING, unfetched=WARNING)
            if sidecar is None:
                return None
            sidecars |= sidecar
    if any(map(is_ambiguous, sidecars.values())):
        return None
    field = sidecars.get("MagneticFieldStrength", sidecars.get("MagneticFieldStrength (T)"))
    institution = sidecars.get("InstitutionName") or sidecars.get("StationName")
    model = " ".join(_word(sidecars.get(key)) for key in ("Manufacturer", "ManufacturersModelName")).strip()
    parts = [_word(institution), model, _tesla(field)]
    return ", ".join(part for part in parts if part) or None


def _word(value: object) -> str:
    return " ".join(str(value).split()) if isinstance(value, (str, int, float)) and value else ""


def _tesla(field: object) -> str:
    try:
        return f"{float(field):g}T"
    except (TypeError, ValueError):
        return ""
