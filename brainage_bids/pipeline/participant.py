"""The participant level: dataset -> volumes -> (training) -> ages and maps -> pages, each through its room's door."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainage_bids import __version__
from brainage_bids.bids.choice import choice_of, second_choice
from brainage_bids.bids.derivative import check_output, prepare_output
from brainage_bids.bids.faults import WARNING, format_faults
from brainage_bids.bids.outputs import Outputs, is_study_model
from brainage_bids.bids.qc import check_decisions
from brainage_bids.bids.read import Dataset, DatasetQuery, raise_on_errors, read_dataset, scans_table
from brainage_bids.bids.runs import sweep
from brainage_bids.devices import AUTO, CPU, pick_device
from brainage_bids.errors import BrainageError, NothingSelectedError, ParticipantsFailed, UsageError
from brainage_bids.model.artifact import read_card
from brainage_bids.pipeline.models import (
    Model,
    bundled_model,
    check_models,
    find_model,
    model_spec,
    open_model,
    refuse_same_names,
)
from brainage_bids.pipeline.predictions import forget_other_grids, forget_stale, predict_scans, prediction_is_current
from brainage_bids.pipeline.query import rows_where
from brainage_bids.pipeline.record import PAGES, RunRecord
from brainage_bids.pipeline.templates import (
    asked_template,
    check_templates,
    keep_templates,
    model_template,
    recipe_on,
)
from brainage_bids.pipeline.workplace import check_work_dir, work_in
from brainage_bids.schema import NOT_OF_SESSION, Scan, VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.model.options import ModelOptions
    from brainage_bids.model.recipe import Recipe
    from brainage_bids.model.world import World
    from brainage_bids.preprocess.options import PreprocessOptions
    from brainage_bids.preprocess.template import Template
    from brainage_bids.preprocess.workflow import Outcome

LOG = logging.getLogger("brainage_bids")


@dataclass(frozen=True)
class ParticipantOptions:
    """What the participant level was asked to do; made by the command line."""

    query: DatasetQuery
    output_dir: Path
    preprocess: PreprocessOptions
    model: ModelOptions
    models: tuple[str, ...] = ()
    template: str | None = None
    train: str | None = None
    train_on: str | None = None
    preprocess_only: bool = False
    train_only: bool = False
    dry_run: bool = False
    rerun: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    clean_workdir: bool = False
    command: str = "brainage-bids"


@dataclass(frozen=True)
class Plan:
    """What a run will touch: the recipe to train, the models to predict with, the grids and templates they need."""

    recipe: Recipe | None
    models: tuple[tuple[str, Path], ...]
    specs: tuple[VolumeSpec, ...]
    templates: tuple[Template, ...] = ()  # without the embedded one


def run_participant(options: ParticipantOptions) -> None:
    """Run the participant level.

    Raises
    ------
    ParticipantsFailed
        After everything else is finished, when some scans failed.
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
        from brainage_bids.model.members import taken_part

        with taken_part(options.model) as world:
            if world.leads:  # the others have helped to train by now, and are done
                _run(options, world)


def _run(options: ParticipantOptions, world: World | None) -> None:
    outputs = Outputs(options.output_dir)
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
        check_training(options, dataset, plan.recipe, 1 if world is None else world.size)
    # a decision that cannot be understood stops the run now, not after hours
    check_decisions(outputs.qc_table, dataset.scans, dataset.bids_dir)
    if not (options.preprocess_only or options.reports_only or options.boilerplate_only):
        trained = [model for model in plan.models if plan.recipe is None or model[0] != plan.recipe.name]
        check_models(trained, plan.templates, outputs)
    if options.dry_run:
        print(describe_plan(options, outputs, dataset, plan))
        return
    if options.boilerplate_only:
        from brainage_bids.pipeline.pages import write_citation

        cards = [folder / "model.json" for _, folder in plan.models]
        texts = [read_card(card) for card in cards if card.is_file()]
        write_citation(outputs, plan.specs, texts, [options.preprocess.engine])
        return
    if options.model.device not in (AUTO, CPU):
        pick_device(options.model.device)  # said once, before every scan fails for it
    # what draws pages imports slowly, and a plan needs none of it
    from brainage_bids.pipeline.pages import is_phantom
    from brainage_bids.pipeline.qc import write_qc

    prepare_output(outputs, dataset, __version__)
    keep_templates(plan.templates, outputs)
    record = RunRecord(outputs, "participant", options.command, _settings(options), options.query.bids_dir)
    record.faults = [str(fault) for fault in dataset.faults]
    with record.kept():
        sweep(outputs.root, outputs.places(dataset.scans))
        for note in filter(None, (*dataset.notes, choice_of(dataset.scans))):
            record.note(note)
        _run_steps(options, outputs, dataset, plan, record, world)
        with record.run.having(outputs.root, PAGES, "the page of the image quality"):
            write_qc(outputs, dataset, record, is_phantom(dataset))
    if record.failures:
        names = sorted({event["prefix"] for event in record.failures})
        others = "; the others are finished" if len(names) < len(dataset.scans) else ""
        raise ParticipantsFailed(
            f"{len(names)} of {len(dataset.scans)} scans failed (the first: {', '.join(names[:10])}){others}; "
            f"the reasons are in {record.folder / 'run.json'}"
        )


def _run_steps(
    options: ParticipantOptions,
    outputs: Outputs,
    dataset: Dataset,
    plan: Plan,
    record: RunRecord,
    world: World | None = None,
) -> None:
    from brainage_bids.pipeline.pages import participant_pages

    if options.reports_only:
        scans = [scan for scan in dataset.scans if outputs.prediction(scan).is_file()]
        with record.run.having(outputs.root, PAGES, "the pages"):
            participant_pages(options, outputs, dataset, record, scans)
        return
    with work_in(options.preprocess.work_dir, outputs.root, options.clean_workdir):
        scans = _make(options, outputs, dataset, plan, record, world)
    with record.run.having(outputs.root, PAGES, "the pages"):  # who writes last has read what all have written
        participant_pages(options, outputs, dataset, record, scans)


def _make(
    options: ParticipantOptions,
    outputs: Outputs,
    dataset: Dataset,
    plan: Plan,
    record: RunRecord,
    world: World | None,
) -> list[Scan]:
    """Make volumes, models and predictions; return the scans whose pages may have changed."""
    from brainage_bids.preprocess.workflow import preprocess

    room = dataclasses.replace(options.preprocess, work_dir=options.preprocess.work_dir / "preprocess")

    def keep(outcome: Outcome) -> None:
        record.event(outcome.scan, outcome.step or "preprocess", outcome.status, outcome.reason)
        if outcome.status in ("done", "failed"):
            forget_other_grids(outcome.scan, plan.specs, outputs, room.engine)
            forget_stale(outcome.scan, outputs)

    outcomes = preprocess(dataset.scans, plan.specs, outputs, room, keep, record.run)
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
        if world is not None:
            world.tell(None)  # nothing to train: the others may go
        return [] if stopped else list(dataset.scans)
    if not options.preprocess_only:
        if plan.recipe is not None:
            train_recipe(options, outputs, dataset, plan.recipe, ready, record, world)
        if options.train_only:
            return []
        for name, folder in plan.models:
            predict_scans(name, folder, ready, dataset, outputs, options, record)
    return list(dataset.scans)


def make_plan(options: ParticipantOptions, outputs: Outputs) -> Plan:
    """Find the recipe, the models and the volumes they need.

    Raises
    ------
    NoInputError
        When there is nothing to predict with.
    UsageError
        When a name is neither a trained model nor a model folder.
    """
    from brainage_bids.model.recipe import load_recipe

    asked = asked_template(options.template, outputs)
    recipe = load_recipe(options.train, options.model.overrides) if options.train else None
    if recipe is None and options.train_only:
        raise UsageError("--train-only needs --train RECIPE; add it")
    templates = [asked] if asked else []
    if recipe is not None:
        recipe, templates = recipe_on(recipe, options.template, asked, outputs)
    specs: list[VolumeSpec] = [recipe.spec] if recipe else []
    if options.preprocess_only:
        recipe = None  # only its volumes are wanted
    if recipe is not None and outputs.model(recipe.name).is_symlink():
        raise UsageError(
            f"{outputs.model(recipe.name)} is a link, and the training {recipe.name} would replace the model that it "
            "leads to; remove the link, or train under another name: --set name=NAME"
        )
    models: list[tuple[str, Path]] = [(recipe.name, outputs.model(recipe.name))] if recipe else []
    if not options.preprocess_only or options.models:
        trained = sorted(path.parent.name for path in outputs.models.glob("*/model.json"))
        asked_for = tuple(name for name in options.models if name != AUTO)
        wanted = asked_for or (() if recipe else [name for name in trained if not is_study_model(name)])
        if options.reports_only:
            wanted = asked_for  # pages show what is there, also of models that cannot be used any more
        elif not wanted and recipe is None:
            wanted = [bundled_model()]
        for name in wanted:
            folder = find_model(name, outputs, trained)
            if (folder.name, folder) not in models:
                models.append((folder.name, folder))
            spec = model_spec(folder)
            template = model_template(folder.name, folder, spec, options.template, asked, outputs)
            templates = [*templates, *([template] if template else [])]
            specs.append(spec)
    refuse_same_names(models, outputs)
    files: dict[str, VolumeSpec] = {}
    for spec in dict.fromkeys(specs):
        other = files.setdefault(f"{spec.template} {spec.res_label}", spec)
        if other.intensity != spec.intensity:
            raise UsageError(
                f"two models need volumes of one name, {spec.template} at {spec.resolution:g} mm, with "
                f"{other.intensity} and {spec.intensity} intensities; run each into an OUTPUT_DIR of its own"
            )
    if not specs:
        specs = [VolumeSpec.on_grid(1, asked.name, template_sha=asked.sha) if asked else VolumeSpec.on_grid(1)]
    return Plan(recipe, tuple(models), tuple(dict.fromkeys(specs)), check_templates(templates, outputs))


def trainable_rows(table: pd.DataFrame, dataset: Dataset, train_on: str | None) -> tuple[pd.Series, str]:
    """Say which scans may train: a boolean column and the rule in words.

    Where one age stands for several sessions it is taken for that of the first: at the others the person is older. A
    scan with contrast agent or of a part of the brain does not train where the session has a better one.
    """
    from brainage_bids.stats.tables import has_age_flag

    chosen, rule = _chosen_rows(table, dataset, train_on)
    shared = has_age_flag(table, NOT_OF_SESSION)
    session = table["session_id"].fillna("")
    later = chosen & shared & (session != session.groupby(table["participant_id"]).transform("first"))
    if later.any():
        rule += f"; without {later.sum()} later sessions of people whose one age stands for several"
    chosen &= ~later
    sessions = [*zip(table.loc[chosen, "participant_id"], session[chosen], strict=True)]
    second = pd.Series(second_choice(sessions, table.loc[chosen, "run"].tolist()), table.index[chosen], dtype=bool)
    if second.any():
        rule += f"; without {second.sum()} scans with contrast agent or of a part of the brain beside plain ones"
    return chosen & ~second.reindex(table.index, fill_value=False), rule


def _chosen_rows(table: pd.DataFrame, dataset: Dataset, train_on: str | None) -> tuple[pd.Series, str]:
    if train_on:
        return rows_where(table, train_on, "--train-on") & table["age"].notna(), f"--train-on {train_on}"
    if dataset.group_column is None:
        return table["age"].notna(), "everyone (no group column is recognised)"
    if not dataset.controls:
        raise UsageError(
            f"column {dataset.group_column!r} holds no recognised control value "
            f"({', '.join(sorted(table['group'].dropna().unique()))}); name it with --control VALUE or use --train-on"
        )
    rule = f"{dataset.group_column} = {' or '.join(dataset.controls)}"
    return table["group"].isin(dataset.controls) & table["age"].notna(), rule


def check_training(options: ParticipantOptions, dataset: Dataset, recipe: Recipe, processes: int) -> str:
    """Say who would train if every scan came through; what makes that impossible is said before hours of work.

    Raises
    ------
    UsageError, BadDataError
        When nobody is known to be healthy, or too few people can train.
    """
    from brainage_bids.model.recipe import people_a_batch
    from brainage_bids.model.split import split_members

    table = scans_table(dataset.scans, dataset.score_names)
    table["trainable"], rule = trainable_rows(table, dataset, options.train_on)
    shares = recipe.split.val_share, recipe.split.test_share
    _, _, parts = split_members(table, options.model.folds, options.model.seed, *shares)
    fewest = min(len(train) for train, _ in parts.values())
    if recipe.method != "ridge":
        people_a_batch(recipe, options.model.batch_size, fewest, processes)
    people = table.loc[table["trainable"], "participant_id"].nunique()
    return f"{people} participants may train ({rule}), at least {fewest} of them each of {len(parts)} members"


def train_recipe(
    options: ParticipantOptions,
    outputs: Outputs,
    dataset: Dataset,
    recipe: Recipe,
    scans: Sequence[Scan],
    record: RunRecord,
    world: World | None = None,
) -> None:
    """Train a recipe on the healthy participants among ``scans`` (resumes; a finished model is kept).

    ``world`` are the processes that help; None without them.
    """
    from brainage_bids.model.train import train_model
    from brainage_bids.pipeline.pages import is_phantom, training_page
    from brainage_bids.pipeline.qc import passing

    table = scans_table(scans, dataset.score_names)
    chosen, rule = trainable_rows(table, dataset, options.train_on)
    table["trainable"] = chosen & pd.Series(passing(scans, outputs), index=table.index)
    table["volume"] = [str(outputs.volume(scan, recipe.spec)) for scan in scans]
    table.attrs |= {"dataset": dataset.identity, "phantom": is_phantom(dataset)}
    n_people = table.loc[table["trainable"], "participant_id"].nunique()
    record.note(f"training {recipe.name} on {n_people} participants: {rule}")
    # a study compares settings on validation people: none of its runs looks at the test people
    room = dataclasses.replace(options.model, test=not is_study_model(recipe.name))
    place, what = options.preprocess.work_dir / "train", f"the training {recipe.name}"
    with record.run.having(place, recipe.name, what), record.run.having(outputs.root, f"model-{recipe.name}", what):
        sweep(place, [place / recipe.name])
        work = place / recipe.name
        if options.rerun:
            shutil.rmtree(work, ignore_errors=True)
        train_model(table, recipe, outputs.model(recipe.name), work, room, world=world, again=options.rerun)
        if training_page(outputs, recipe.name, table, options.model.device):
            record.note(f"training of {recipe.name}: see {outputs.training_page(recipe.name).name}")
        shutil.rmtree(work, ignore_errors=True)
    record.run.leave(place)


def describe_plan(options: ParticipantOptions, outputs: Outputs, dataset: Dataset, plan: Plan) -> str:
    """Return the plan as text: which scan, which age and from where, which model, what is already done."""
    from brainage_bids.preprocess.done import is_done

    notes = filter(None, (*dataset.notes, choice_of(dataset.scans)))
    lines = [f"dataset: {dataset.name} ({dataset.bids_dir})", *notes]
    if plan.recipe is not None:
        who = check_training(options, dataset, plan.recipe, 1)
        lines.append(f"train: {plan.recipe.name}: {who}")
    lines += [f"model: {name} ({folder})" for name, folder in plan.models]
    models = [_opened(name, folder) for name, folder in plan.models]
    lines += [
        f"volume: {spec.template}, {spec.resolution:g} mm, {' x '.join(map(str, spec.shape))}" for spec in plan.specs
    ]
    lines += [f"start from: {derivative.name} ({derivative.root})" for derivative in dataset.derivatives]
    lines.append("scan\tage\tage_source\tgroup\tvolume\tprediction")
    for scan in dataset.scans:
        volume = "done" if is_done(scan, plan.specs, outputs, options.preprocess.engine) else "to do"
        if scan.prepared and scan.prepared.fault:
            volume = f"fails: {scan.prepared.fault}"
        current = bool(models) and all(m is not None and prediction_is_current(scan, m, outputs) for m in models)
        prediction = "not asked" if options.preprocess_only else ("done" if current else "to do")
        age = "n/a" if scan.age is None else f"{scan.age:g}"
        flags = f" [{', '.join(scan.age_flags)}]" if scan.age_flags else ""
        lines.append(
            f"{scan.prefix}\t{age}{flags}\t{scan.age_source or 'n/a'}\t{scan.group or 'n/a'}\t{volume}\t{prediction}"
        )
    return "\n".join(lines)


def _opened(name: str, folder: Path) -> Model | None:
    """Return a model of a plan; None where it is still to be trained."""
    try:
        return open_model(name, folder)
    except BrainageError:
        return None


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
