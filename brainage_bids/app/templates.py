"""Choose the template of a run's volumes: from ``--template``, the models, and the templates in OUTPUT_DIR.

A model never gets a volume on another template than it was trained on. An OUTPUT_DIR never has two templates of one
name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from brainage_bids.bids.outputs import Outputs
from brainage_bids.errors import UsageError
from brainage_bids.schema import DEFAULT_BRAIN_MM, DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA, VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.model.recipe import Recipe
    from brainage_bids.preprocess.template import Template


def asked_template(wanted: str | None, outputs: Outputs) -> Template | None:
    """Return the template that ``--template`` names; None if it is not given or is the embedded one.

    A copy of that name in OUTPUT_DIR is used if there is one, so that a second run needs no network.
    """
    if wanted in (None, DEFAULT_TEMPLATE):
        return None
    from brainage_bids.preprocess.template import is_kept, load_template
    from brainage_bids.preprocess.template_source import find_template, is_path

    if not is_path(wanted) and is_kept(wanted, outputs):
        return load_template(wanted, outputs.root)
    return find_template(wanted)


def recipe_on(
    recipe: Recipe, wanted: str | None, asked: Template | None, outputs: Outputs
) -> tuple[Recipe, list[Template]]:
    """Return the recipe on ``--template``, else on its own template, and a list with that one unless it is embedded."""
    template = asked if wanted is not None else asked_template(recipe.volume.template, outputs)
    name, sha = (template.name, template.sha) if template else (DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA)
    volume = dataclasses.replace(recipe.volume, template=name, template_sha=sha, brain_mm=_brain_mm(recipe, template))
    return dataclasses.replace(recipe, volume=volume), [template] if template else []


def _brain_mm(recipe: Recipe, template: Template | None) -> tuple[int, ...]:
    """Return where the brain of a recipe's template is, when the recipe needs it."""
    if recipe.volume.crop == "none":
        return recipe.volume.brain_mm
    if template is None:
        return DEFAULT_BRAIN_MM
    from brainage_bids.preprocess.template import brain_mm

    return brain_mm(template)


def model_template(
    name: str, folder: Path, spec: VolumeSpec, wanted: str | None, asked: Template | None, outputs: Outputs
) -> Template | None:
    """Return the template that a trained model needs; None for the embedded one.

    Parameters
    ----------
    name, folder, spec
        The model, its folder and its volume.
    wanted, asked
        Value of ``--template``, and that template (None for the embedded one).
    outputs
        OUTPUT_DIR with copies of templates.

    Raises
    ------
    UsageError
        When ``--template`` is not the template that the model was trained on, or that template cannot be found.
    """
    chosen = (asked.name, asked.sha) if asked else (DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA)
    needed = (spec.template, spec.template_sha)
    if wanted is not None and chosen != needed:
        texts = [f"{label} (content {sha})" for label, sha in (needed, chosen)]
        raise UsageError(
            f"the model {name} was trained on the template {texts[0]}, but --template asks for {texts[1]}; leave "
            "--template out, or train on it with --train RECIPE"
        )
    if needed == (DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA):
        return None
    from brainage_bids.preprocess.template_source import template_for

    return asked or template_for(spec, outputs.root, folder)


def check_templates(templates: Iterable[Template], outputs: Outputs) -> tuple[Template, ...]:
    """Return each template once.

    Raises
    ------
    UsageError
        When two different templates have one name, among these or in OUTPUT_DIR.
    """
    chosen: dict[str, Template] = {}
    for template in templates:
        from brainage_bids.preprocess.template import check_same, is_kept, load_template

        check_same(template, chosen.setdefault(template.name, template), outputs)
        if is_kept(template.name, outputs):
            check_same(template, load_template(template.name, outputs.root), outputs)
    return tuple(chosen.values())


def keep_templates(templates: Iterable[Template], outputs: Outputs) -> None:
    """Keep a copy of each template in OUTPUT_DIR."""
    for template in templates:
        from brainage_bids.preprocess.template import keep_template

        keep_template(template, outputs)
