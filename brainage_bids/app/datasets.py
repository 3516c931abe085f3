"""The datasets of one group run, each with the OUTPUT_DIR of its results.

Reads datasets and OUTPUT_DIRs. Writes nothing into those of ``--also``, and does not join tables (see `pooled`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from brainage_bids.app.run_record import last_events
from brainage_bids.bids.derivative import source_of
from brainage_bids.bids.faults import Fault, some
from brainage_bids.bids.find import UNIT1
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import Dataset, DatasetQuery, read_dataset
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten
from brainage_bids.schema import DATASET, Scan

LOG = logging.getLogger("brainage_bids")

# Faults of an option that names something that only some of the datasets need to have.
NOT_FOUND = ("CONTROL_UNKNOWN", "GROUP_COLUMN_UNKNOWN", "SCORE_FILE_UNKNOWN", "SCORE_COLUMN_UNKNOWN",
         "ASKED_FILE_UNKNOWN", "ASKED_COLUMN_UNKNOWN")  # fmt: skip


@dataclass(frozen=True)
class StudyDataset:
    """One dataset and the OUTPUT_DIR with its results; ``notes`` are remarks about the pair."""

    dataset: Dataset
    outputs: Outputs
    notes: tuple[str, ...] = ()

    @cached_property
    def on_disk(self) -> ScanRecords:
        """The results of the scans in OUTPUT_DIR."""
        return ScanRecords(self.outputs)


def parse_also(text: str) -> tuple[Path | None, Path]:
    """Split a value of ``--also``, ``OUT2`` or ``BIDS2=OUT2``, into BIDS_DIR (or None) and OUTPUT_DIR.

    A path may itself contain ``=``. So every ``=`` is tried, and the one that gives two existing folders is used.

    Raises
    ------
    NoInputError, UsageError
        When no split gives existing folders; when two do.
    """
    if Path(text).is_dir():
        return None, Path(text)
    positions = [at for at, sign in enumerate(text) if sign == "="]
    pairs = [(Path(text[:at]), Path(text[at + 1 :])) for at in positions if text[:at] and text[at + 1 :]]
    existing = [pair for pair in pairs if all(path.is_dir() for path in pair)]
    if len(existing) > 1:
        raise UsageError(
            f"--also {shorten(text)!r} can be read in {len(existing)} ways; rename a folder that has = in its name"
        )
    if not existing:
        raise NoInputError(f"--also {shorten(text)!r} names no folder; give OUT2, or BIDS2=OUT2 (both must exist)")
    return existing[0]


def read_study_datasets(
    query: DatasetQuery, outputs: Outputs, also: Sequence[str], external: Mapping[str, pd.DataFrame]
) -> list[StudyDataset]:
    """Read the dataset of the command line and those of ``--also``.

    Raises
    ------
    NoInputError
        When an OUTPUT_DIR has no results, or its dataset was moved.
    UsageError
        When an OUTPUT_DIR is given twice.
    """
    datasets = [StudyDataset(read_dataset(query), outputs)]
    for text in also:
        entry = _further_dataset(query, text, external)
        if entry.outputs.root in [known.outputs.root.resolve() for known in datasets]:
            raise UsageError(f"--also {text}: that OUTPUT_DIR is given twice; name each once")
        _refuse_same_name(datasets, entry.dataset)
        datasets.append(entry)
    return _without_partial_faults(datasets, query) if also else datasets


def _refuse_same_name(datasets: Sequence[StudyDataset], dataset: Dataset) -> None:
    """Raise when two datasets have one name by chance: a dataset without a Name has the name of its folder."""
    for known in (entry.dataset for entry in datasets):
        if known.name != dataset.name or known.bids_dir == dataset.bids_dir or (known.named and dataset.named):
            continue
        raise UsageError(
            f"{known.bids_dir} and {dataset.bids_dir} are both called {known.name!r}, not both by a Name in "
            "dataset_description.json, and their people cannot be told apart; give one of them a Name and run its "
            "participant level into a new OUTPUT_DIR"
        )


def _further_dataset(query: DatasetQuery, text: str, external: Mapping[str, pd.DataFrame]) -> StudyDataset:
    """Return a dataset of ``--also`` with the scans that its OUTPUT_DIR or ``--predictions`` knows."""
    bids, root = parse_also(text)
    outputs = Outputs(root.resolve())
    name, recorded = source_of(outputs.root)
    bids_dir = bids or recorded
    way_out = f"say where it is: --also BIDS2={root}"
    if bids_dir is None or not bids_dir.is_dir():
        where = bids_dir or "any recorded place"
        raise NoInputError(f"--also {root}: its dataset {name!r} is not at {where}; {way_out}")
    events = last_events(outputs)
    known = {event["participant_id"] for event in events.values()}
    known |= {path.name for path in outputs.root.glob("sub-*") if path.is_dir()}
    elsewhere = _people_of(external, name)
    gone = sorted(person for person in known if not (bids_dir / person).is_dir())
    wanted = sorted(person for person in known | elsewhere if (bids_dir / person).is_dir())
    if not wanted:
        raise NoInputError(f"--also {root}: none of its participants is in {bids_dir}; {way_out}")
    dataset = read_dataset(_query_for(query, bids_dir.resolve(), wanted))
    if dataset.name != name:
        raise NoInputError(f"--also {root} holds results of {name!r}, but {bids_dir} is {dataset.name!r}; {way_out}")

    def is_known(scan: Scan) -> bool:
        return scan.prefix in events or scan.participant_id in elsewhere or outputs.prediction(scan).is_file()

    note = f"{len(gone)} participants of {root.name} are no longer in {bids_dir.name} and are left out: {some(gone)}."
    scans = tuple(filter(is_known, dataset.scans))
    return StudyDataset(dataclasses.replace(dataset, scans=scans), outputs, (note,) if gone else ())


def _people_of(external: Mapping[str, pd.DataFrame], name: str) -> set[str]:
    """Return the participants of a dataset in the tables of ``--predictions``."""
    own = [table[_dataset_of_row(table).isna() | (_dataset_of_row(table) == name)] for table in external.values()]
    return {person for rows in own for person in rows["participant_id"]}


def _without_partial_faults(datasets: Sequence[StudyDataset], query: DatasetQuery) -> list[StudyDataset]:
    """Drop the fault that a dataset lacks a value, column or score of an option if another dataset has it."""
    nowhere = set.intersection(*(_lacking(entry.dataset) for entry in datasets))
    result = []
    for entry in datasets:
        dataset = entry.dataset
        if f"--group-column {query.group_column}" in _lacking(dataset) - nowhere:
            people = {scan.participant_id for scan in dataset.scans}
            again = _query_for(dataclasses.replace(query, group_column=None), dataset.bids_dir, people)
            dataset = _with_scans(again, {scan.prefix for scan in dataset.scans})
        faults = tuple(f for f in dataset.faults if f.code not in NOT_FOUND or _option(f) in nowhere)
        result.append(dataclasses.replace(entry, dataset=dataclasses.replace(dataset, faults=faults)))
    return result


def _lacking(dataset: Dataset) -> set[str]:
    return {_option(fault) for fault in dataset.faults if fault.code in NOT_FOUND}


def _option(fault: Fault) -> str:
    return fault.message.partition(":")[0]


def _query_for(query: DatasetQuery, bids_dir: Path, people: Iterable[str]) -> DatasetQuery:
    """Return a query for some people of a further dataset. Labels and filters of the command apply to BIDS_DIR only.

    It finds all images, with every suffix; later only those known to the OUTPUT_DIR are used.
    """
    return dataclasses.replace(
        query, bids_dir=bids_dir, participant_label=tuple(sorted(people)), exclude_participant_label=(),
        session_label=(), filter_file=None, database_dir=None, t1w_suffix=UNIT1, derivatives=(),
    )  # fmt: skip


def _with_scans(query: DatasetQuery, prefixes: Container[str]) -> Dataset:
    dataset = read_dataset(query)
    return dataclasses.replace(dataset, scans=tuple(scan for scan in dataset.scans if scan.prefix in prefixes))


def share_predictions(
    external: Mapping[str, pd.DataFrame], datasets: Sequence[StudyDataset]
) -> list[dict[str, pd.DataFrame]]:
    """Return, for each dataset, its rows of the predictions made elsewhere.

    With several datasets, the column ``dataset`` of the file holds the Name of the row's dataset; if it is empty, the
    participant label decides. A single dataset takes every row.

    Raises
    ------
    BadDataError
        When a label without dataset is a participant of two datasets, or a scan has two rows.
    """
    several = len(datasets) > 1
    people = [{scan.participant_id for scan in entry.dataset.scans} for entry in datasets]
    owners: dict[str, set[str]] = {}
    for entry, ids in zip(datasets, people, strict=True):
        for person in ids:
            owners.setdefault(person, set()).add(entry.dataset.name)
    shares: list[dict[str, pd.DataFrame]] = [{} for _ in datasets]
    for source, table in external.items():
        unnamed = _dataset_of_row(table).isna() | (not several)
        doubtful = sorted({person for person in table["participant_id"][unnamed] if len(owners.get(person, ())) > 1})
        if doubtful and several:
            raise BadDataError(
                f"--predictions {source}: {some(doubtful)} is in more than one dataset; add a column dataset to the "
                "file, with the Name of each one's dataset"
            )
        for entry, ids, share in zip(datasets, people, shares, strict=True):
            rows = table[unnamed | (_dataset_of_row(table) == entry.dataset.name)]
            rows = rows[rows["participant_id"].isin(ids)] if several else rows
            _one_row_per_scan(rows, source)
            share[source] = rows.drop(columns=DATASET, errors="ignore")
        used = {index for share in shares for index in share[source].index}
        if several and len(used) < len(table):
            LOG.warning("--predictions %s: %d rows belong to no dataset", source, len(table) - len(used))
    return shares


def _dataset_of_row(table: pd.DataFrame) -> pd.Series:
    """Return the Name of the dataset in each row; None if the row has none."""
    return table[DATASET] if DATASET in table else pd.Series(None, index=table.index, dtype=object)


def _one_row_per_scan(rows: pd.DataFrame, source: str) -> None:
    key = [column for column in ("participant_id", "session_id", "run") if column in rows]
    twice = rows["participant_id"][rows.duplicated(key)]
    if len(twice):
        raise BadDataError(f"--predictions {source} lists {twice.iloc[0]} more than once; keep one row per scan")
