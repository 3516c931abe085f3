"""The participant level: dataset -> volumes -> (training) -> ages and maps -> pages."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import TYPE_CHECKING

from brainage_bids import __version__
from brainage_bids.app.models import check_models, open_model
from brainage_bids.app.options import ParticipantOptions
from brainage_bids.app.plan import Plan, describe_plan, make_plan
from brainage_bids.app.run_record import PAGES, RunRecord
from brainage_bids.app.scan_predictions import forget_other_grids, forget_stale, has_predicted, predict_scans
from brainage_bids.app.templates import keep_templates
from brainage_bids.app.training import check_training, train_recipe
from brainage_bids.app.workplace import check_work_dir, work_in
from brainage_bids.bids.choice import choice_of
from brainage_bids.bids.derivative import check_output, prepare_output
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.quality_decisions import check_decisions
from brainage_bids.bids.read import Dataset, raise_on_errors, read_dataset, say_faults
from brainage_bids.bids.runs import sweep
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.devices import AUTO, CPU, pick_device
from brainage_bids.errors import NothingSelectedError, ParticipantsFailed, UsageError
from brainage_bids.model.artifact import read_card
from brainage_bids.schema import Scan

if TYPE_CHECKING:
    from brainage_bids.model.distributed import Distributed
    from brainage_bids.preprocess.workflow import Outcome

LOG = logging.getLogger("brainage_bids")


def run_participant(options: ParticipantOptions) -> None:
    """Run the participant level.

    Raises
    ------
    ParticipantsFailed
        At the end, when some scans failed; the others are finished.
    BrainageError
        When the dataset, the options or the model make the run impossible.
    """
    others = (options.dry_run, options.reports_only, options.boilerplate_only, options.preprocess_only)
    training = options.train and not any(others)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        _run(options, None)
    elif not training:
        raise UsageError("only a training (--train RECIPE) is shared between processes; start this without torchrun")
    else:
        from brainage_bids.model.trainer import joined_training

        with joined_training(options.model) as distributed:
            if distributed.is_main:  # the other processes only help to train, and have done so by now
                _run(options, distributed)


def _run(options: ParticipantOptions, distributed: Distributed | None) -> None:
    outputs = Outputs(options.output_dir)
    on_disk = ScanRecords(outputs)
    dataset = read_dataset(options.query)
    say_faults(dataset, groups=bool(options.train) and not options.train_on)
    raise_on_errors(dataset)
    if not dataset.scans:
        raise NothingSelectedError(f"no T1w image is left in {dataset.bids_dir} after the filters; check the labels")
    plan = make_plan(options, outputs)
    check_output(outputs.root, dataset)
    check_work_dir(options.preprocess.work_dir, outputs.root, dataset.bids_dir)
    if options.preprocess.plugin_file is not None and not (options.reports_only or options.boilerplate_only):
        from brainage_bids.preprocess.plugins import read_plugin_file

        read_plugin_file(options.preprocess.plugin_file)
    if plan.recipe is not None and not (options.dry_run or options.reports_only or options.boilerplate_only):
        check_training(options, dataset, plan.recipe, 1 if distributed is None else distributed.size)
    # check qc.tsv now: an unreadable decision should not stop the run after hours
    check_decisions(outputs.qc_table, dataset.scans, dataset.bids_dir)
    if not (options.preprocess_only or options.reports_only or options.boilerplate_only):
        trained = [model for model in plan.models if plan.recipe is None or model[0] != plan.recipe.name]
        check_models(trained, plan.templates, outputs, lambda model: has_predicted(model, dataset.scans, on_disk))
    if options.dry_run:
        print(describe_plan(options, on_disk, dataset, plan))
        return
    if options.boilerplate_only:
        from brainage_bids.app.page_values import write_citation

        cards = [folder / "model.json" for _, folder in plan.models]
        texts = [read_card(card) for card in cards if card.is_file()]
        write_citation(outputs, plan.specs, texts, [options.preprocess.engine])
        return
    if options.model.device not in (AUTO, CPU):
        pick_device(options.model.device)  # raises once here, instead of once for every scan
    # imported here because it loads slowly, and the plan above does not need it
    from brainage_bids.app.page_values import is_phantom
    from brainage_bids.app.quality_table import write_qc

    if not options.reports_only:
        prepare_output(outputs, dataset, __version__)
        keep_templates(plan.templates, outputs)
    record = RunRecord(outputs, "participant", options.command, _settings(options), options.query.bids_dir)
    record.faults = [str(fault) for fault in dataset.faults]
    with record.running():
        sweep(outputs.root, outputs.places(dataset.scans))
        for note in filter(None, (*dataset.notes, choice_of(dataset.scans))):
            record.note(note)
        _run_steps(options, on_disk, dataset, plan, record, distributed)
        with record.run.having(outputs.root, PAGES, "the page of the image quality"):
            write_qc(on_disk, dataset, record, is_phantom(dataset), page_only=options.reports_only)
    if record.failures:
        names = sorted({event["prefix"] for event in record.failures})
        others = "; the others are finished" if len(names) < len(dataset.scans) else ""
        raise ParticipantsFailed(
            f"{len(names)} of {len(dataset.scans)} scans failed (the first: {', '.join(names[:10])}){others}; "
            f"the reasons are in {record.folder / 'run.json'}"
        )


def _run_steps(
    options: ParticipantOptions,
    on_disk: ScanRecords,
    dataset: Dataset,
    plan: Plan,
    record: RunRecord,
    distributed: Distributed | None = None,
) -> None:
    from brainage_bids.app.participant_pages import participant_pages

    outputs = on_disk.outputs
    if options.reports_only:
        scans = [scan for scan in dataset.scans if outputs.prediction(scan).is_file()]
        with record.run.having(outputs.root, PAGES, "the pages"):
            participant_pages(options, on_disk, dataset, record, scans)
        return
    with work_in(options.preprocess.work_dir, outputs.root, options.clean_workdir):
        scans = _compute(options, on_disk, dataset, plan, record, distributed)
    with record.run.having(outputs.root, PAGES, "the pages"):  # so that the last run to write has read all results
        participant_pages(options, on_disk, dataset, record, scans)


def _compute(
    options: ParticipantOptions,
    on_disk: ScanRecords,
    dataset: Dataset,
    plan: Plan,
    record: RunRecord,
    distributed: Distributed | None,
) -> list[Scan]:
    """Make volumes, models and predictions; return the scans whose pages may have changed."""
    from brainage_bids.preprocess.workflow import preprocess

    outputs = on_disk.outputs
    settings = dataclasses.replace(options.preprocess, work_dir=options.preprocess.work_dir / "preprocess")

    def record_outcome(outcome: Outcome) -> None:
        record.event(outcome.scan, outcome.step or "preprocess", outcome.status, outcome.reason)
        if outcome.status in ("done", "failed"):
            forget_other_grids(outcome.scan, plan.specs, on_disk, settings.engine)
            forget_stale(outcome.scan, on_disk)

    outcomes = preprocess(dataset.scans, plan.specs, outputs, settings, record_outcome, record.run, on_disk)
    ready = [outcome.scan for outcome in outcomes if outcome.status != "failed"]
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")}
    record.note(
        f"preprocessing: {counts['done']} done, {counts['skipped']} already there, {counts['failed']} failed "
        f"of {len(outcomes)} scans"
    )
    stopped = options.preprocess.stop_on_first_crash and counts["failed"]
    if stopped:
        record.note("stopped at the first failure, as asked: nothing is trained or predicted")
    if stopped or not ready:
        if distributed is not None:
            distributed.broadcast(None)  # nothing to train: this lets the other processes end
        return [] if stopped else list(dataset.scans)
    if not options.preprocess_only:
        if plan.recipe is not None:
            train_recipe(options, on_disk, dataset, plan.recipe, ready, record, distributed)
        if options.train_only:
            return []
        for name, folder in plan.models:
            predict_scans(open_model(name, folder), ready, dataset, on_disk, options, record)
    return list(dataset.scans)


def _settings(options: ParticipantOptions) -> dict:
    return {
        "query": dataclasses.asdict(options.query),
        "preprocess": dataclasses.asdict(options.preprocess),
        "model": dataclasses.asdict(options.model),
        "models": options.models,
        "template": options.template,
        "train": options.train,
        "train_on": options.train_on,
    }
