"""The group level: prediction tables -> group tables -> mean maps -> page. Never opens an image of BIDS_DIR."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from brainage_bids import __version__
from brainage_bids.app.bias_correction import bias_corrected
from brainage_bids.app.datasets import StudyDataset, read_study_datasets, share_predictions
from brainage_bids.app.held_out import fold_pairs, held_out_predictions
from brainage_bids.app.imported_predictions import add_external, refuse_no_ages, refuse_strangers
from brainage_bids.app.models import model_cards
from brainage_bids.app.options import GroupOptions
from brainage_bids.app.pooled import join, template_root, with_original_ids, with_unique_ids
from brainage_bids.app.quality_table import write_qc
from brainage_bids.app.results import read_results
from brainage_bids.app.run_record import PAGES, RunRecord
from brainage_bids.app.types import Analysis, Results, wide
from brainage_bids.bids.choice import choice_note
from brainage_bids.bids.derivative import check_output, prepare_output
from brainage_bids.bids.files import read_tsv, write_json
from brainage_bids.bids.grouptables import write_group_table
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.predictions import read_predictions
from brainage_bids.bids.quality_decisions import EXCLUDED, check_decisions
from brainage_bids.bids.read import Dataset, raise_on_errors, say_faults
from brainage_bids.bids.runs import claimed, sweep
from brainage_bids.devices import AUTO
from brainage_bids.errors import BadDataError, NoInputError, TryAgainError, UsageError
from brainage_bids.model.artifact import CARD, hash_participant
from brainage_bids.result_tables import GROUP_TABLES
from brainage_bids.schema import BRAINAGE_COLUMNS, DATASET, QC_WARNINGS, RATE_AGE, SPLIT_COLUMNS

LOG = logging.getLogger("brainage_bids")


def run_group(options: GroupOptions) -> None:
    """Run the group level. A participant run may be working in the same OUTPUT_DIR.

    Raises
    ------
    TryAgainError
        When that run replaced a file while this one read it.
    NoInputError
        When no participant has a prediction.
    BrainageError
        When the dataset or an option could make results wrong.
    """
    try:
        with _rare_collection():
            _run(options)
    except (FileNotFoundError, NoInputError) as error:
        others = {str(who) for who in claimed(options.output_dir).values() if not who.mine}
        if not others or str(options.output_dir) not in str(error):
            raise
        raise TryAgainError(
            f"{error}: another run ({min(others)}) is at work in {options.output_dir}; try again when it has ended"
        ) from error


@contextlib.contextmanager
def _rare_collection() -> Iterator[None]:
    """Let Python search for unused cycles rarely: the records of thousands of scans are searched in vain each time."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _run(options: GroupOptions) -> None:
    outputs = Outputs(options.output_dir)
    datasets, dataset, results = gather(options)
    first = datasets[0].dataset
    check_output(outputs.root, first)
    for name in options.covariates:
        if name not in (*BRAINAGE_COLUMNS, DATASET, *dataset.score_names):
            raise UsageError(
                f"--covariate {name!r} is neither a column of group/brainage.tsv nor a score; take it from a table "
                f"with --covariate {name}=participants.tsv:COLUMN"
            )
    if not results.models:
        raise NoInputError(
            f"no prediction is in {outputs.root}: run the participant level first, or give --predictions NAME=FILE"
        )
    if options.dry_run:
        print(
            f"{len(results.scans)} scans with a result, {len(results.failed)} without; "
            f"models: {', '.join(results.models)}"
        )
        return
    from brainage_bids.app.page_values import is_phantom

    prepare_output(outputs, first, __version__)
    settings = {"options": dataclasses.asdict(options)}
    record = RunRecord(outputs, "group", options.command, settings, options.query.bids_dir)
    record.faults = [str(fault) for entry in datasets for fault in entry.dataset.faults]
    with record.running(), record.run.having(outputs.root, "group", "the group level"):
        sweep(outputs.root, outputs.places([]))
        for entry in datasets:
            for note in entry.dataset.notes:
                record.note(f"{entry.dataset.name}: {note}" if options.also else note)
        with record.run.having(outputs.root, PAGES, "the page of the image quality"):
            write_qc(datasets[0].on_disk, first, record, is_phantom(first))
        _run_steps(options, outputs, dataset, results, record)
    LOG.info("group page: %s", outputs.group_page)


def _external(given: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Read the tables of ``--predictions``, by name."""
    tables: dict[str, pd.DataFrame] = {}
    for text in given:
        name, table = read_predictions(text)
        if name in tables:
            raise UsageError(f"--predictions {name}: two tables have this name; give each model a name of its own")
        tables[name] = table
    return tables


def gather(options: GroupOptions) -> tuple[list[StudyDataset], Dataset, Results]:
    """Read the results of the participant level of every dataset.

    Returns
    -------
    list of StudyDataset, Dataset, Results
        Each dataset; all of them joined as one dataset; all results joined.
    """
    external = _external(options.predictions)
    datasets = read_study_datasets(options.query, Outputs(options.output_dir), options.also, external)
    for entry in datasets:
        say_faults(entry.dataset, groups=True)
        raise_on_errors(entry.dataset)
        check_decisions(entry.outputs.qc_table, entry.dataset.scans, entry.dataset.bids_dir)
    shares = share_predictions(external, datasets)
    only = {Path(model).name for model in options.models if model != AUTO}
    parts = [
        add_external(read_results(m.dataset, m.on_disk, own, only), own)
        for m, own in zip(datasets, shares, strict=True)
    ]
    dataset, results = join(datasets, parts, external)
    refuse_strangers(external, results, (s.participant_id for m in datasets for s in m.dataset.scans))
    refuse_no_ages(external, results)
    if unknown := sorted(only - set(results.models)):
        there = sorted({name for entry in datasets for name in model_cards(entry.outputs)})
        raise UsageError(
            f"--model {unknown[0]}: no prediction of it that can be used is in {options.output_dir}; models known "
            f"there: {', '.join(there) or 'none'}"
        )
    return datasets, dataset, results


def _run_steps(options: GroupOptions, outputs: Outputs, dataset: Dataset, results: Results, record: RunRecord) -> None:
    from brainage_bids.app.group_maps import group_saliency
    from brainage_bids.app.group_page import group_page

    analysis = analyse(options, outputs, dataset, results)
    if analysis.choice:
        record.note(analysis.choice)
    table = analysis.table
    write_group_table(outputs, "brainage", table if table[RATE_AGE].notna().any() else table.drop(columns=RATE_AGE))
    write_json(outputs.bias_correction, analysis.lines)
    columns = ["participant_id", "session_id", "run", *([DATASET] if DATASET in table else []), "reason"]
    tables = make_tables(analysis) | {"failed": results.failed, "leftout": analysis.left_out[columns]}
    for name, result in tables.items():
        write_group_table(outputs, name, result)
    saliency = group_saliency(
        analysis.selected,
        results.maps,
        results.cards,
        outputs,
        lambda spec: template_root(results, outputs, spec),
        dataset.controls,
        options,
    )
    tables |= {"saliency_regions": saliency.regions, "saliency_contrasts": saliency.contrasts}
    group_page(options, outputs, dataset, results, analysis, tables, saliency, record)


def analyse(options: GroupOptions, outputs: Outputs, dataset: Dataset, results: Results) -> Analysis:
    """Correct the gaps, and decide which scans the age-bias line is fitted on, which are tested, which are left out."""
    from brainage_bids.stats.cohort_tables import select_rows, session_choices
    from brainage_bids.stats.longitudinal import rate_sessions

    corrected = bias_corrected(results, dataset, options)
    everything, fitting = wide(results.scans, corrected.gaps, results.models), corrected.fitting
    table, people = everything.drop(columns=QC_WARNINGS), with_unique_ids(everything)
    tested = people[~people.index.isin(fitting)]
    selected, left_out = select_rows(tested, options.session_select)
    choice = choice_note(session_choices(selected, left_out))
    left_out.loc[left_out.index.isin(results.excluded), "reason"] = EXCLUDED
    selected = with_test_people(selected, outputs, results.models, results.cards)
    fitted = table.loc[fitting, [c for c in ("participant_id", "session_id", "run", DATASET) if c in table]]
    fitted = fitted.assign(reason="fits the age-bias line (--bias-query)")
    calibrated = corrected.calibrated.items()
    return Analysis(
        table=table,
        people=people,
        tested=tested,
        selected=selected,
        left_out=pd.concat([with_original_ids(left_out, table), fitted], ignore_index=True),
        sessions=rate_sessions(tested, results.models),
        models=list(results.models),
        controls=list(dataset.controls),
        scores=options.scores(dataset),
        covariates=options.covariates,
        lines=corrected.lines,
        calibrated={name: None if rows is None else rows.loc[selected.index] for name, rows in calibrated},
        training_ages={name: card["training"]["age_mean"] for name, card in results.cards.items()},
        flags=results.flags,
        held_out=held_out_predictions(results),
        fold_pairs=fold_pairs({name: results.cards[name] for name in results.models if name in results.cards}),
        choice=choice,
        seed=options.seed,
    )


def with_test_people(
    selected: pd.DataFrame, outputs: Outputs, models: Sequence[str], cards: Mapping[str, Mapping]
) -> pd.DataFrame:
    """Add the column ``split``: ``test`` for people who are in the test set of every model trained here without folds.

    With folds everybody is held out, so there is no test set. Several datasets have no common test set either.
    """
    if DATASET in selected:
        return selected
    here = [name for name in models if (outputs.model(name) / CARD).is_file()]
    tests = [_test_people(selected["participant_id"], cards[name], outputs.model(name)) for name in here]
    tests = [people for people in tests if people is not None]
    people = set.intersection(*tests) if tests else set()
    if not people:
        return selected
    parts = ["test" if person in people else None for person in selected["participant_id"]]
    return selected.assign(split=pd.Series(parts, index=selected.index, dtype=object))


def _test_people(people: Iterable[str], card: Mapping, folder: Path) -> set[str] | None:
    """Return which of these people are in the test set of a model; None if it has folds, or this is not known."""
    first = card["members"][0]
    if first.get("fold") is not None:
        return None
    if "test_participants" in first:
        known = set(first["test_participants"])
        return {person for person in people if hash_participant(person, card["salt"]) in known}
    path = folder / "split.tsv"  # models of earlier versions name their test people only there
    if not path.is_file():
        return None
    split = read_tsv(path)
    if missing := [column for column in SPLIT_COLUMNS if column not in split]:
        raise BadDataError(f"{path} has no column {missing[0]}; restore it, or remove it: test people are unknown then")
    return set(split.loc[split["split"] == "test", "participant_id"])


def make_tables(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """Make every table of `GROUP_TABLES` that declares ``made_by``, from fields of `analysis` and earlier tables."""
    made: dict[str, pd.DataFrame] = {}
    for table in GROUP_TABLES:
        if table.made_by:
            module, function, names = table.call
            make = getattr(importlib.import_module(f"brainage_bids.stats.{module}"), function)
            made[table.name] = make(*(made[name] if name in made else getattr(analysis, name) for name in names))
    return made
