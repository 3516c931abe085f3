"""Join several datasets into one study with one table of scans.

The Name of the dataset and the participant label identify a person. So ``sub-01`` of two datasets are two people,
unless both datasets have the same Name.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from brainage_bids.app.datasets import StudyDataset
from brainage_bids.app.types import Pooled, Results
from brainage_bids.bids.faults import some
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import Dataset
from brainage_bids.errors import UsageError
from brainage_bids.model.artifact import differing_keys
from brainage_bids.result_tables import FAILED
from brainage_bids.schema import BRAINAGE_COLUMNS, DATASET, QC_WARNINGS, RATE_AGE, VolumeSpec
from brainage_bids.stats.site import apart

SAME_YEARS = 0.01  # two values of one scan that differ by less are equal: devices differ in the last digits
PERSON = "{}/{}"  # dataset, participant


def join(
    datasets: Sequence[StudyDataset], parts: Sequence[Results], external: Mapping[str, pd.DataFrame]
) -> tuple[Dataset, Results]:
    """Join the results of the participant level of all datasets; a single dataset is returned unchanged.

    Parameters
    ----------
    datasets, parts
        The datasets, and the results of each.
    external
        Predictions made elsewhere, by name.

    Returns
    -------
    Dataset, Results
        The first dataset with the controls and scores of all; the joined results, whose table of scans has the further
        column ``dataset`` and is indexed by dataset and scan. Site names then start with the name of the dataset.

    Raises
    ------
    UsageError
        When two models have one name, a group is a control group in one dataset only, or two datasets of one Name
        contradict each other about a person.
    """
    if len(datasets) == 1:
        return datasets[0].dataset, parts[0]
    names = tuple(dict.fromkeys(entry.dataset.name for entry in datasets))
    models = _own_first([part.models for part in parts], external)
    cards = _one_model_per_name(datasets, parts, external)
    controls, scores = _controls(datasets), _union(entry.dataset.score_names for entry in datasets)
    gaps = _by_scan(datasets, [part.gaps for part in parts])
    scans = _scans(datasets, parts, scores)
    _refuse_contradictions(scans, gaps)
    scans = _one_row_per_scan(scans.drop(columns="output_dir"))
    gaps = gaps.groupby(["prefix", "model"], sort=False, as_index=False).first()
    failed = pd.concat([_failed(*pair) for pair in zip(datasets, parts, strict=True)])
    failed = failed[~failed.index.isin(scans.index) & ~failed.index.duplicated()].reset_index(drop=True)
    maps = _by_scan(datasets, [part.maps for part in parts])
    maps = maps.drop_duplicates(["prefix", "model", "spec"], ignore_index=True)  # a scan may be in two OUTPUT_DIRs
    excluded = [
        PERSON.format(m.dataset.name, p) for m, part in zip(datasets, parts, strict=True) for p in part.excluded
    ]
    warnings = (*(note for m in datasets for note in m.notes), *_warnings(datasets, scans, gaps, models, names))
    pooled = Pooled(tuple(datasets), names, _links(datasets, parts), warnings)
    title = " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} other datasets"
    dataset = dataclasses.replace(datasets[0].dataset, name=title, controls=controls, score_names=scores)
    return dataset, dataclasses.replace(
        parts[0], scans=scans, gaps=gaps, failed=failed, models=models, cards=cards, maps=maps,
        excluded=frozenset(excluded),
        engines=tuple(sorted({engine for part in parts for engine in part.engines})), pooled=pooled,
    )  # fmt: skip


def _by_scan(datasets: Sequence[StudyDataset], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables that have a ``prefix`` per scan, and put the name of the dataset before it."""
    named = [
        table.assign(prefix=[PERSON.format(entry.dataset.name, prefix) for prefix in table["prefix"]])
        for entry, table in zip(datasets, tables, strict=True)
    ]
    return pd.concat([part for part in named if len(part)] or named, ignore_index=True)


def with_unique_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the dataset in ``participant_id``, so that statistics see each person as one."""
    if DATASET not in table:
        return table
    people = [PERSON.format(*pair) for pair in zip(table[DATASET], table["participant_id"], strict=True)]
    return table.assign(participant_id=people)


def with_original_ids(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Undo `with_unique_ids`: return rows with the participant labels of the data."""
    return rows.assign(participant_id=table.loc[rows.index, "participant_id"])


def template_root(results: Results, outputs: Outputs, spec: VolumeSpec) -> Path:
    """Return the OUTPUT_DIR with the template of a model, which may be one of ``--also``."""
    roots = [m.outputs.root for m in results.pooled.datasets] if results.pooled else [outputs.root]
    return next((root for root in roots if Outputs(root).template_image(spec.template).is_file()), outputs.root)


def confounding(selected: pd.DataFrame, controls: Sequence[str]) -> list[str]:
    """Return a warning if no dataset has both patients of some group and controls, else an empty list."""
    if DATASET not in selected or selected[DATASET].nunique() < 2:
        return []
    confounded = apart(selected, controls, DATASET)
    cases = set(selected["group"].dropna()) - set(controls)
    who = "patients" if set(confounded) == cases else some(confounded)
    return [f"No dataset has both {who} and controls: group and dataset cannot be told apart."] if confounded else []


def _scans(datasets: Sequence[StudyDataset], parts: Sequence[Results], scores: Sequence[str]) -> pd.DataFrame:
    """Return the scans of all datasets, indexed by dataset and scan; ``output_dir`` is the number of the OUTPUT_DIR."""
    several = len({entry.dataset.name for entry in datasets}) > 1
    tables = []
    for number, (entry, part) in enumerate(zip(datasets, parts, strict=True)):
        name = entry.dataset.name
        table = part.scans.rename(index=lambda prefix, name=name: PERSON.format(name, prefix))
        table = table.assign(dataset=name, output_dir=number)
        if several:  # site 1 of one dataset is not site 1 of another
            table["site"] = [None if pd.isna(site) else f"{name}: {site}" for site in table["site"]]
        tables.append(table)
    numeric = [*scores, RATE_AGE, QC_WARNINGS]
    columns = [*BRAINAGE_COLUMNS, DATASET, *numeric]
    joined = pd.concat([table.reindex(columns=[*columns, "output_dir"]).astype(object) for table in tables])
    return joined.astype(dict.fromkeys(["age", *numeric], "float64"))


def _one_row_per_scan(scans: pd.DataFrame) -> pd.DataFrame:
    """Merge the rows of a scan that is in two OUTPUT_DIRs."""
    if not scans.index.has_duplicates:
        return scans
    same = scans.groupby(level=0, sort=False)
    return same.first().assign(qc_pass=same["qc_pass"].agg(_least), in_training=same["in_training"].max())


def _least(values: pd.Series) -> object:
    known = values.dropna()
    return known.min() if len(known) else None


def _refuse_contradictions(scans: pd.DataFrame, gaps: pd.DataFrame) -> None:
    """Raise when rows of one person contradict each other."""
    people = with_unique_ids(scans).groupby("participant_id")
    sexes = people["sex"].nunique()
    faults = [(person, "two sexes") for person in sexes.index[(sexes > 1) & (people["output_dir"].nunique() > 1)]]
    ages = scans[scans.index.duplicated(keep=False)].groupby(level=0)["age"]
    faults += [(scan, "two values of age") for scan in _differ(ages)]
    predicted = gaps.groupby(["prefix", "model"], sort=False)["predicted_age"]
    faults += [(scan, f"two values of predicted_age_{model}") for scan, model in _differ(predicted)]
    if faults:
        who, what = faults[0]
        raise UsageError(
            f"{who} has {what}: in two datasets of one Name a label means one person; give the datasets different "
            "Names (dataset_description.json) if they are two people, else run participant again where one is old"
        )


def _differ(values: Any) -> pd.Index:
    """Return the groups whose values (years) differ by more than `SAME_YEARS`."""
    spread = values.max() - values.min()
    return spread.index[spread > SAME_YEARS]


def _failed(entry: StudyDataset, part: Results) -> pd.DataFrame:
    """Return the failures of a dataset, indexed by dataset and scan."""
    scans = [scan.prefix for scan in entry.dataset.scans if scan.prefix not in part.scans.index]
    failed = part.failed.assign(dataset=entry.dataset.name)[[*FAILED.columns, DATASET]]
    return failed.set_axis([PERSON.format(entry.dataset.name, prefix) for prefix in scans])


def _links(datasets: Sequence[StudyDataset], parts: Sequence[Results]) -> dict[str, str]:
    links: dict[str, str] = {}
    here = datasets[0].outputs.root
    for entry, part in zip(datasets, parts, strict=True):
        for prefix, person in part.scans["participant_id"].items():
            page = entry.outputs.participant_page(person)
            if page.is_file():
                links.setdefault(
                    PERSON.format(entry.dataset.name, prefix), Path(os.path.relpath(page, here)).as_posix()
                )
    return links


def _union(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))


def _own_first(models: Sequence[Sequence[str]], external: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    return (*(name for name in _union(models) if name not in external), *external)


def _controls(datasets: Sequence[StudyDataset]) -> tuple[str, ...]:
    """Return the labels of the controls; raise if a label means controls in one dataset and patients in another."""
    controls = _union(entry.dataset.controls for entry in datasets)
    for entry in datasets:
        here = {scan.group for scan in entry.dataset.scans} - set(entry.dataset.controls)
        if mixed := sorted(here & set(controls)):
            other = next(m.dataset.name for m in datasets if mixed[0] in m.dataset.controls)
            raise UsageError(
                f"group {mixed[0]!r} is a control group in {other!r} and not in {entry.dataset.name!r}; name the "
                "controls with --control, or spell the groups differently"
            )
    return controls


def _one_model_per_name(
    datasets: Sequence[StudyDataset], parts: Sequence[Results], external: Mapping[str, pd.DataFrame]
) -> dict[str, dict]:
    """Return the cards of all models; raise if two different models have one name."""
    cards: dict[str, dict] = {}
    holders: dict[str, tuple[Path, dict | None]] = {}
    for entry, part in zip(datasets, parts, strict=True):
        for name in set(part.models) - set(external):
            root, card = entry.outputs.root, part.cards.get(name)
            where, before = holders.setdefault(name, (root, card))
            differ = differing_keys(card, before)
            if (card is None) != (before is None):
                raise UsageError(
                    f"{where if before is None else root} lacks the model card of {name}; predict again there"
                )
            if differ:
                what = "needs other volumes" if "volume_spec" in differ else "has other weights"
                raise UsageError(
                    f"the model {name} of {root} {what} than the one of that name in {where}; predict both with one of "
                    f"them (participant --model), or its ages cannot be compared"
                )
        cards = {**part.cards, **cards}
    predicted = {name: card for name, (_, card) in holders.items() if card is not None}
    return {**cards, **predicted}


def _warnings(
    datasets: Sequence[StudyDataset],
    table: pd.DataFrame,
    gaps: pd.DataFrame,
    models: Sequence[str],
    names: Sequence[str],
) -> list[str]:
    warnings = []
    for model in models:
        have = set(table.loc[gaps["prefix"][gaps["model"] == model], DATASET])
        if have != set(names):
            lacking = ", ".join(name for name in names if name not in have)
            warnings.append(
                f"{model} has no prediction in {lacking}; other models are compared with it elsewhere only."
            )
    engines = {name: set() for name in names}
    for entry in datasets:
        engines[entry.dataset.name] |= _engines(entry)
    known = {name: kinds for name, kinds in engines.items() if kinds}
    if len({frozenset(kinds) for kinds in known.values()}) > 1:
        listed = "; ".join(f"{name}: {', '.join(sorted(kinds))}" for name, kinds in known.items())
        warnings.append(f"The datasets were not preprocessed alike, which alone can shift the gap ({listed}).")
    groups = [set(table.loc[table[DATASET] == name, "group"].dropna()) for name in names]
    shared = Counter(label for labels in groups for label in labels)
    codes = sorted(label for label, count in shared.items() if count > 1 and str(label).isdigit())
    if codes:
        warnings.append(f"Group {some(codes)} is a code in several datasets; it is taken to mean the same.")
    return warnings


def _engines(entry: StudyDataset) -> set[str]:
    """Return the engines, with their versions, that made the finest volumes of a dataset."""
    by_scan = (entry.on_disk.volumes(scan) for scan in entry.dataset.scans)
    finest = [volumes[0].identity for volumes in by_scan if volumes]
    return {f"{origin.engine} {origin.engine_version or ''}".strip() for origin in finest if origin.engine}
