"""Read a BIDS dataset: every T1w scan with the age, sex, group, site and scores of the person on that day.

Other modules read a dataset only through this one. No image is opened. Faults are collected, not raised; call
:func:`raise_on_errors` before computing anything.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from brainage_bids.bids import people
from brainage_bids.bids.agebook import AgeBook, read_age_book
from brainage_bids.bids.agecolumns import Age
from brainage_bids.bids.agefaults import age_faults, age_notes
from brainage_bids.bids.ages import age_for_rates, resolve_age
from brainage_bids.bids.asked import ColumnRequest, asked_columns, parse_column_option
from brainage_bids.bids.faults import WARNING, Fault, errors_of, format_faults, make_fault, some, told_once
from brainage_bids.bids.files import read_json
from brainage_bids.bids.find import T1W, Found, Image, find_images
from brainage_bids.bids.groupcolumns import group_candidates, group_hint
from brainage_bids.bids.reuse import Derivative, parse_derivatives, with_prepared
from brainage_bids.bids.scores import (
    ScoreBook,
    ScoreRequest,
    event_faults,
    parse_score_option,
    read_score_book,
    resolve_score,
    score_notes,
    unused_faults,
)
from brainage_bids.bids.selection import Selection, Wanted, select
from brainage_bids.bids.tablefile import read_sidecar
from brainage_bids.bids.tables import Tables
from brainage_bids.bids.tableset import read_tables
from brainage_bids.bids.text import Unreadable
from brainage_bids.errors import InvalidDatasetError, NoInputError, UsageError
from brainage_bids.schema import Scan

LOG = logging.getLogger("brainage_bids")

__all__ = [
    "Dataset",
    "DatasetQuery",
    "parse_column_option",
    "parse_score_option",
    "raise_on_errors",
    "read_dataset",
    "say_faults",
    "scans_table",
]

SCAN_COLUMNS = (
    "participant_id", "session_id", "run", "prefix", "path", "age", "age_source", "age_flags", "sex", "group", "site",
    "family",
)  # fmt: skip


@dataclass(frozen=True)
class DatasetQuery:
    """What to read from a dataset.

    Parameters
    ----------
    bids_dir
        BIDS_DIR.
    participant_label, exclude_participant_label, session_label
        Labels with or without prefix, or text files of labels; empty selects everything.
    filter_file
        A ``--bids-filter-file``; its ``t1w`` query is answered by pybids.
    database_dir
        A ``--bids-database-dir``: an existing pybids index.
    t1w_suffix
        ``UNIT1`` takes the UNIT1 image (MP2RAGE) of participants without a T1w image.
    group_column
        Column of the diagnosis; None: recognised names.
    controls
        Group values that are healthy controls; empty: recognised values.
    scores
        ``(name, file, column)`` of the requested scores, in addition to recognised ones.
    max_score_gap
        Largest time between a scan and a score taken at another session, months.
    skip_validation
        Accept a dataset without a usable dataset_description.json.
    derivatives
        Datasets of other pipelines to start from, ``NAME=PATH``.
    age_columns, sex_columns
        Columns of ages and sexes named by the user. If there are any, recognised ones are not read.
    fold_column
        Column whose values a training leaves out, one after the other (``--folds``); ``site`` is the recognised site.
    """

    bids_dir: Path
    participant_label: tuple[str, ...] = ()
    exclude_participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    filter_file: Path | None = None
    database_dir: Path | None = None
    t1w_suffix: str = T1W
    group_column: str | None = None
    controls: tuple[str, ...] = ()
    scores: tuple[ScoreRequest, ...] = ()
    max_score_gap: float = 6.0
    skip_validation: bool = False
    derivatives: tuple[str, ...] = ()
    age_columns: tuple[ColumnRequest, ...] = ()
    sex_columns: tuple[ColumnRequest, ...] = ()
    fold_column: str | None = None


@dataclass(frozen=True)
class Dataset:
    """The content of a dataset.

    Parameters
    ----------
    bids_dir
        BIDS_DIR, absolute.
    name
        Name in dataset_description.json, else the name of the folder.
    scans
        The selected scans, sorted by participant, session and entities.
    faults
        Everything that is wrong, errors first.
    group_column
        Column of the diagnosis, None when none is known.
    controls
        Group values that are healthy controls, as written in the data.
    score_names
        Scores with a value for at least one scan, and requested scores.
    notes
        Sentences on the columns that were used.
    participants_without_scan
        Selected participants with a folder or a row but without a T1w image.
    derivatives
        Datasets of other pipelines whose images are used instead of the scans.
    named
        Whether ``name`` comes from dataset_description.json; names of folders may be the same by chance.
    group_hint
        A fault that names possible group columns when none is recognised.
    places
        By prefix of a scan the value of ``fold_column``; scans without one are missing.
    """

    bids_dir: Path
    name: str
    scans: tuple[Scan, ...]
    faults: tuple[Fault, ...] = ()
    group_column: str | None = None
    controls: tuple[str, ...] = ()
    score_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    participants_without_scan: tuple[str, ...] = ()
    derivatives: tuple[Derivative, ...] = ()
    named: bool = True
    group_hint: Fault | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str | None:
        """Name that distinguishes people of this dataset from those of others; None without a Name."""
        return self.name if self.named else None


def read_dataset(query: DatasetQuery) -> Dataset:
    """Read a dataset; problems of its content are in ``faults``, not raised.

    Raises
    ------
    NoInputError
        When BIDS_DIR or a file named by an option is not there.
    UsageError
        When a label is not in the dataset or a filter file is wrong.
    NothingSelectedError
        When the filters leave no scan.
    """
    derivatives = parse_derivatives(query.derivatives)
    found = find_images(query.bids_dir)
    root = Path(os.path.abspath(query.bids_dir))
    selected = select(root, _wanted(query), found)
    faults = list(selected.faults)
    title = _read_description(root, query.skip_validation, faults)
    folders = {person: found.sessions[person] for person in selected.participants if person in found.sessions}
    tables = read_tables(root, folders, faults, found.sessions, found.is_ignored)
    name = title or root.name
    asked_ages = asked_columns(tables, query.age_columns, root, name, faults)
    asked_sexes = asked_columns(tables, query.sex_columns, root, name, faults)
    ages = read_age_book(tables, folders, _scanned((*found.images, *selected.images)), faults, asked_ages)
    scores = read_score_book(tables, query.scores, query.max_score_gap, ages, root, faults)
    groups = people.read_groups(tables, query.group_column, query.controls, faults)
    sex = people.sex_columns(tables, faults, [(table, column) for table, column, _ in asked_sexes])
    reader = _Reader(root, tables, ages, scores, groups, sex, faults)
    scans = tuple(reader.scan(image) for image in selected.images)
    places = _places(query.fold_column, scans, tables, faults)
    if derivatives:
        scans, merged = with_prepared(scans, derivatives, found.images)
        faults += merged
    without = _without_scan(query, tables, found, selected, faults)
    faults += [*reader.group_faults(), *event_faults(scores), *unused_faults(scores, scans),
               *age_faults(scans, tables, root, bool(asked_ages))]  # fmt: skip
    asked = [request[0] for request in query.scores]
    seen = {score for scan in scans for score, _ in scan.scores}
    names = tuple(dict.fromkeys([*asked, *(score for score in scores.columns if score in seen)]))
    hint = None if groups.columns else group_hint(group_candidates(tables, {scan.participant_id for scan in scans}))
    notes = (*age_notes(scans), *reader.notes(), *people.group_notes(groups, hint),
             *score_notes(scores, [n for n in names if scores.columns.get(n)]))  # fmt: skip
    ordered = tuple(sorted(told_once(faults), key=lambda fault: (fault.severity != "error", fault.code, fault.file)))
    return Dataset(
        root, name, scans, ordered, groups.name, groups.controls, names, notes, without, derivatives,
        named=title is not None, group_hint=hint, places=places,
    )  # fmt: skip


_WRONG_USE = {"ASKED_COLUMN_UNKNOWN": UsageError, "ASKED_FILE_UNKNOWN": NoInputError}


def raise_on_errors(dataset: Dataset) -> None:
    """Raise when the dataset has faults that make its numbers unsafe.

    Raises
    ------
    InvalidDatasetError
        Lists every kind of error.
    UsageError, NoInputError
        When an option names a column or file that does not exist.
    """
    errors = errors_of(dataset.faults)
    for fault in errors:
        if fault.code in _WRONG_USE:
            raise _WRONG_USE[fault.code](f"{fault.message} ({dataset.bids_dir})")
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise InvalidDatasetError(f"{dataset.bids_dir} has {count}:\n{format_faults(errors)}")


def say_faults(dataset: Dataset, groups: bool) -> None:
    """Print the warnings of the dataset, a line for each kind (the errors are raised together); with -v every fault.

    ``groups`` says whether what follows needs to know who is healthy.
    """
    warnings = [fault for fault in dataset.faults if fault.severity == WARNING]
    if groups and dataset.group_hint:
        warnings.append(dataset.group_hint)
    for line in format_faults(warnings).splitlines():
        LOG.warning("%s", line)
    for fault in dataset.faults:
        LOG.debug("%s", fault)


def scans_table(scans: Iterable[Scan], score_names: Sequence[str]) -> pd.DataFrame:
    """Return one row per scan.

    Columns ``participant_id session_id run prefix path age age_source age_flags sex group site family`` and one float
    column per score. Missing text is None, missing numbers are NaN; ``age_flags`` is joined by semicolons.
    """
    scans = list(scans)
    table = pd.DataFrame(index=range(len(scans)))
    for column in SCAN_COLUMNS:
        if column == "age":
            table[column] = pd.Series([scan.age for scan in scans], dtype="float64")
        elif column == "age_flags":
            table[column] = pd.Series([";".join(scan.age_flags) or None for scan in scans], dtype="object")
        else:
            table[column] = pd.Series([getattr(scan, column) for scan in scans], dtype="object")
    for name in score_names:
        table[name] = pd.Series([dict(scan.scores).get(name) for scan in scans], dtype="float64")
    return table


# --- the dataset as a whole -----------------------------------------------------------------------------------------


def _read_description(root: Path, skip: bool, faults: list[Fault]) -> str | None:
    file, severity = "dataset_description.json", "warning" if skip else None
    if not os.path.lexists(root / file):
        message = f"is not in {root}; is this the root of a BIDS dataset? (--skip-bids-validation continues without it)"
        faults.append(make_fault("DESCRIPTION_MISSING", file, message, severity=severity))
        return None
    try:
        description = read_json(root / file)
        reason = "is not a JSON object; repair it"
    except (Unreadable, OSError) as error:
        description = None
        reason = error.reason if isinstance(error, Unreadable) else f"cannot be read ({error.strerror})"
    if not isinstance(description, Mapping):
        message = f"{reason} (--skip-bids-validation continues without it)"
        faults.append(make_fault("DESCRIPTION_UNREADABLE", file, message, severity=severity))
        return None
    lacking = [key for key in ("Name", "BIDSVersion") if not description.get(key)]
    if lacking:
        faults.append(make_fault("DESCRIPTION_INCOMPLETE", file, f"lacks {' and '.join(lacking)}; add it"))
    if description.get("DatasetType") == "derivative":
        message = "says DatasetType derivative; give the raw dataset here and this one with --derivatives NAME=PATH"
        faults.append(make_fault("DERIVATIVE_AS_INPUT", file, message))
    return str(description["Name"]) if description.get("Name") else None


def _without_scan(
    query: DatasetQuery, tables: Tables, found: Found, selected: Selection, faults: list[Fault]
) -> tuple[str, ...]:
    """Compare folders, rows and images; return the participants without an image."""
    with_image = {image.participant_id for image in (*found.images, *selected.images)}
    empty = [participant for participant in selected.participants if participant not in with_image]
    if empty:
        message = f"{len(empty)} participants have a folder but no T1w image: {some(empty)}"
        faults.append(make_fault("PARTICIPANT_WITHOUT_SCAN", "sub-*", message))
    if tables.participants is None:
        return tuple(empty)
    rows = tables.participants.rows_by_participant
    lacking = [participant for participant in selected.participants if participant not in rows]
    if lacking:
        message = f"{len(lacking)} participants have a folder but no row: {some(lacking)}; add them"
        faults.append(make_fault("PARTICIPANT_WITHOUT_ROW", tables.participants.name, message))
    extra = [
        participant for participant in rows if participant not in found.sessions and participant not in found.closed
    ]
    if extra and not query.participant_label:
        message = f"{len(extra)} participants have a row but no folder: {some(extra)}"
        faults.append(make_fault("PARTICIPANT_WITHOUT_FOLDER", tables.participants.name, message))
        empty += extra
    return tuple(empty)


def _places(column: str | None, scans: Sequence[Scan], tables: Tables, faults: list[Fault]) -> dict[str, str]:
    """Return the value of the column of ``--folds`` for each scan that has one; ``site`` is the recognised site."""
    if column is None:
        return {}
    if column == "site" and any(scan.site for scan in scans):
        values = [scan.site for scan in scans]
    else:
        columns = people.named_columns(tables, column, "--folds", faults)
        values = [_only(people.look_up(columns, scan.participant_id, scan.session_id)) for scan in scans]
    return {scan.prefix: value for scan, value in zip(scans, values, strict=True) if value is not None}


def _wanted(query: DatasetQuery) -> Wanted:
    return Wanted(
        query.participant_label, query.exclude_participant_label, query.session_label, query.filter_file,
        query.database_dir, query.t1w_suffix,
    )  # fmt: skip


def _scanned(images: Iterable[Image]) -> dict[str, tuple[str | None, ...]]:
    sessions: dict[str, dict[str | None, None]] = {}
    for image in images:
        sessions.setdefault(image.participant_id, {})[image.session_id] = None
    return {participant: tuple(mine) for participant, mine in sessions.items()}


class _Reader:
    """Looks up everything about one image; what is common to all images is read once."""

    def __init__(
        self,
        root: Path,
        tables: Tables,
        ages: AgeBook,
        scores: ScoreBook,
        groups: people.Groups,
        sex: list[people.TextColumn],
        faults: list[Fault],
    ) -> None:
        self.root, self.ages, self.scores, self.groups, self.faults = root, ages, scores, groups, faults
        self.sex = sex
        self.site = people.site_columns(tables, faults)
        self.family = people.family_columns(tables, faults)
        self.root_sidecar = read_sidecar(root / "T1w.json", root, faults, WARNING, unfetched=WARNING)
        self.conflicts: list[str] = []
        self.n_sidecar_sites = 0

    def scan(self, image: Image) -> Scan:
        """Return the scan of an image."""
        key = (image.participant_id, image.session_id)
        age: Age = resolve_age(self.ages, *key)
        group = people.look_up(self.groups.columns, *key)
        if len(group) > 1:
            self.conflicts.append(f"{image.participant_id} ({' and '.join(sorted(group))})")
        found = ((name, resolve_score(self.scores, name, *key)) for name in self.scores.columns)
        return Scan(
            path=image.path,
            participant_id=image.participant_id,
            session_id=image.session_id,
            entities=image.entities,
            second_inversion=image.second_inversion,
            age=age.value,
            age_source=age.source,
            age_flags=age.flags,
            rate_age=age_for_rates(self.ages, *key),
            sex=_only(people.of_person(self.sex, *key)),
            group=_only(group),
            site=self._site(image),
            family=_only(people.of_person(self.family, *key)),
            scores=tuple((name, value) for name, value in found if value is not None),
        )

    def _site(self, image: Image) -> str | None:
        if self.site:
            return _only(people.look_up(self.site, image.participant_id, image.session_id))
        site = people.sidecar_site(image, self.root, self.faults, self.root_sidecar if image.suffix == T1W else {})
        self.n_sidecar_sites += site is not None
        return site

    def group_faults(self) -> list[Fault]:
        """Return a fault for people with several groups in one table."""
        if not self.conflicts:
            return []
        message = f"several groups for {some(dict.fromkeys(self.conflicts))}; none is used"
        return [make_fault("GROUP_CONFLICT", self.groups.columns[0].table.name, message)]

    def notes(self) -> list[str]:
        """Return sentences on the source of sex and site."""
        places = [", ".join(f"{c.table.name}:{c.name}" for c in columns) for columns in (self.sex, self.site)]
        from_sidecars = "the JSON sidecars of the images" if self.n_sidecar_sites else "nowhere"
        return [f"Sex from {places[0] or 'nowhere'}.", f"Site from {places[1] or from_sidecars}."]


def _only(values: set[str]) -> str | None:
    return next(iter(values)) if len(values) == 1 else None
