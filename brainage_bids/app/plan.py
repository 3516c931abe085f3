"""The plan of a run of the participant level: its models, grids and templates, and a description for ``--dry-run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainage_bids.app.models import Model, bundled_model, find_model, model_spec, open_model, refuse_same_names
from brainage_bids.app.options import ParticipantOptions
from brainage_bids.app.scan_predictions import prediction_is_current
from brainage_bids.app.templates import asked_template, check_templates, model_template, recipe_on
from brainage_bids.app.training import check_training
from brainage_bids.bids.choice import choice_of
from brainage_bids.bids.outputs import Outputs, is_study_model
from brainage_bids.bids.read import Dataset
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.devices import AUTO
from brainage_bids.errors import BrainageError, UsageError
from brainage_bids.schema import VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.model.recipe import Recipe
    from brainage_bids.preprocess.template import Template


@dataclass(frozen=True)
class Plan:
    """The recipe to train, the models (name, folder) to predict with, and the grids and templates they need."""

    recipe: Recipe | None
    models: tuple[tuple[str, Path], ...]
    specs: tuple[VolumeSpec, ...]
    templates: tuple[Template, ...] = ()  # without the embedded one


def make_plan(options: ParticipantOptions, outputs: Outputs) -> Plan:
    """Find the recipe, the models and the volumes they need.

    Raises
    ------
    NoInputError
        When there is nothing to predict with.
    UsageError
        When a name is neither a trained model nor a model folder.
    """
    from brainage_bids.model.recipe_files import load_recipe

    asked = asked_template(options.template, outputs)
    recipe = load_recipe(options.train, options.model.overrides) if options.train else None
    if recipe is None and options.train_only:
        raise UsageError("--train-only needs --train RECIPE; add it")
    templates = [asked] if asked else []
    if recipe is not None:
        recipe, templates = recipe_on(recipe, options.template, asked, outputs)
    specs: list[VolumeSpec] = [recipe.spec.whole] if recipe else []
    if options.preprocess_only:
        recipe = None  # only its volumes are needed
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
            wanted = asked_for  # pages show all existing results, even of models that cannot be used any more
        elif not wanted and recipe is None:
            wanted = [bundled_model()]
        for name in wanted:
            folder = find_model(name, outputs, trained)
            if (folder.name, folder) not in models:
                models.append((folder.name, folder))
            spec = model_spec(folder)
            template = model_template(folder.name, folder, spec, options.template, asked, outputs)
            templates = [*templates, *([template] if template else [])]
            specs.append(spec.whole)
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
        on = {"template": asked.name, "template_sha": asked.sha} if asked else {}
        specs = [VolumeSpec.on_grid(options.resolution, **on)]
    return Plan(recipe, tuple(models), tuple(dict.fromkeys(specs)), check_templates(templates, outputs))


def describe_plan(options: ParticipantOptions, on_disk: ScanRecords, dataset: Dataset, plan: Plan) -> str:
    """Return the plan as text: the models, and for each scan its age, where the age comes from, and what is done."""
    from brainage_bids.preprocess.done import is_done

    notes = filter(None, (*dataset.notes, choice_of(dataset.scans)))
    lines = [f"dataset: {dataset.name} ({dataset.bids_dir})", *notes]
    if plan.recipe is not None:
        lines += check_training(options, dataset, plan.recipe, 1).lines(options.model)
    lines += [f"model: {name} ({folder})" for name, folder in plan.models]
    models = [_opened(name, folder) for name, folder in plan.models]
    lines += [
        f"volume: {spec.template}, {spec.resolution:g} mm, {' x '.join(map(str, spec.shape))}" for spec in plan.specs
    ]
    lines += [f"start from: {derivative.name} ({derivative.root})" for derivative in dataset.derivatives]
    lines.append("scan\tage\tage_source\tgroup\tvolume\tprediction")
    for scan in dataset.scans:
        volume = "done" if is_done(scan, plan.specs, on_disk, options.preprocess.engine) else "to do"
        if scan.prepared and scan.prepared.fault:
            volume = f"fails: {scan.prepared.fault}"
        current = bool(models) and all(m is not None and prediction_is_current(scan, m, on_disk) for m in models)
        prediction = "not asked" if options.preprocess_only else ("done" if current else "to do")
        age = "n/a" if scan.age is None else f"{scan.age:g}"
        flags = f" [{', '.join(scan.age_flags)}]" if scan.age_flags else ""
        lines.append(
            f"{scan.prefix}\t{age}{flags}\t{scan.age_source or 'n/a'}\t{scan.group or 'n/a'}\t{volume}\t{prediction}"
        )
    return "\n".join(lines)


def _opened(name: str, folder: Path) -> Model | None:
    """Return a model of a plan; None if it is not trained yet."""
    try:
        return open_model(name, folder)
    except BrainageError:
        return None
