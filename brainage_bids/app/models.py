"""The models of a run: find them by name or folder, check them before the run starts, and register those that work.

To register a model that was trained elsewhere, its ``model.json`` is copied together with the hash of its weights. So
its predictions can be recognised later without its folder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainage_bids.bids.derivative import describe_model
from brainage_bids.bids.files import write_json
from brainage_bids.bids.outputs import Outputs, model_label
from brainage_bids.errors import BadDataError, BrainageError, NoInputError, UsageError, shorten
from brainage_bids.model.artifact import (
    CARD,
    WEIGHTS_KEY,
    card_hash,
    read_card,
    read_model_json,
    trained_as,
    weights_hash,
)
from brainage_bids.schema import VolumeSpec

if TYPE_CHECKING:
    import numpy as np

    from brainage_bids.preprocess.template import Template

LOG = logging.getLogger("brainage_bids")
BUNDLED = Path(__file__).parents[1] / "bundled"
TESTED = {  # SHA-256 of model.json and of the weights, for models in the package: our tests check that they work
    (
        "4a956173b5fb27f92b7698b5fbdda4787be4127431bc532777258bdb007c9706",
        "b3de021c6b06a0b6fa44f9d474be8e55bd2aa9f78db6d261039c9ba10b03843f",
    ),
}


@dataclass(frozen=True, eq=False)
class Model:
    """A model folder with its present content.

    Parameters
    ----------
    name
        Name of the folder; its predictions have this name.
    folder
        Path of the folder.
    card
        Content of its ``model.json``.
    spec
        The volume it needs.
    content, weights
        SHA-256 of ``model.json`` and of the weights. Together they identify the model, in whatever folder it is.
    """

    name: str
    folder: Path
    card: Mapping
    spec: VolumeSpec
    content: str
    weights: str

    @cached_property
    def training(self) -> str:
        """Hash that identifies its training (`trained_as`)."""
        return trained_as(self.card)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """The healthy people that it held out (`model_calibration`)."""
        return model_calibration(self.card)


def open_model(name: str, folder: Path) -> Model:
    """Return the model in a folder. Its weights are only hashed, not loaded.

    Raises
    ------
    NoInputError, BadDataError
        When one of its files is missing or broken.
    """
    card, content = read_model_json(folder / CARD), card_hash(folder / CARD)
    return Model(name, folder, card, VolumeSpec.from_dict(card["volume_spec"]), content, weights_hash(folder))


def model_spec(folder: Path) -> VolumeSpec:
    """Return the volume a model needs."""
    return VolumeSpec.from_dict(read_model_json(folder / CARD)["volume_spec"])


# --- find -----------------------------------------------------------------------------------------------------------


def find_model(name: str, outputs: Outputs, trained: Sequence[str]) -> Path:
    """Return the folder of a model given by name or path.

    Raises
    ------
    NoInputError, UsageError
        When the folder has no ``model.json``; when there is no such model, or its name cannot be used in file names.
    """
    for folder in (outputs.model(name), Path(name), BUNDLED / name):
        if (folder / CARD).is_file():
            return _with_valid_name(folder.resolve())
    if Path(name).is_dir():
        raise NoInputError(f"--model {shorten(name)} is a folder without {CARD}; give a finished model folder")
    have, comes = ", ".join(trained) or "none", ", ".join(bundled_models()) or "none"
    raise UsageError(
        f"--model {shorten(name)!r} is neither trained in {outputs.root} (there: {shorten(have, 200)}) nor a model "
        f"folder nor one that comes with brainage-bids ({comes})"
    )


def _with_valid_name(folder: Path) -> Path:
    if not model_label(folder.name) or re.search(r"[^\w.+ -]| {2}|^ | $", folder.name):
        raise UsageError(
            f"the folder {folder} gives its model the name {shorten(folder.name)!r}, which cannot name files and "
            "columns; rename it with letters, digits, dots, dashes and underscores"
        )
    return folder


def refuse_same_names(models: Iterable[tuple[str, Path]], outputs: Outputs) -> None:
    """Raise when two models would write the same files: two of this run, or one of this run and an earlier one.

    Raises
    ------
    UsageError
        When two models have the same name, or names so similar that the files of their maps have the same name.
    """
    labels: dict[str, tuple[str, Path]] = {}
    for name, folder in models:
        _refuse_same_name(*labels.setdefault(model_label(name), (name, folder)), name, folder)
    for path in [*sorted(outputs.models.glob(f"*/{CARD}")), *sorted(outputs.models.glob("*/card.json"))]:
        name, known = path.parent.name, labels.get(model_label(path.parent.name))
        if known is not None:
            _refuse_same_name(*known, name, path.parent if path.name == CARD else known[1])


def _refuse_same_name(name: str, folder: Path, other_name: str, other: Path) -> None:
    if (name, folder) == (other_name, other):
        return
    fault = f"the models {name!r} and {other_name!r} would share the files of their maps"
    if name == other_name:
        fault = f"two models are called {name!r}: {folder} and {other}"
    raise UsageError(f"{fault}; their results would overwrite each other: rename the folder of one")


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{CARD}"))


def bundled_model() -> str:
    """Return the name of the model in the package that is used when there is no other.

    Raises
    ------
    NoInputError
        When the package has no model.
    """
    if not bundled_models():
        raise NoInputError("no model is trained here and none is bundled: add --train RECIPE or --model FOLDER")
    return bundled_models()[0]


# --- check ----------------------------------------------------------------------------------------------------------


def check_models(
    models: Iterable[tuple[str, Path]],
    templates: Sequence[Template],
    outputs: Outputs,
    has_worked: Callable[[Model], bool] = lambda _: False,
) -> None:
    """Raise unless every model can be loaded completely and predicts an age for the brain of its template.

    This runs before any scan is processed, so that a broken model wastes no time. Loading a network takes seconds. So
    models of the package are not checked, nor are models that were registered or have predicted here with the same
    weights. It computes on the CPU, because a GPU may be reserved for the workers.

    Parameters
    ----------
    models
        Names and folders.
    templates
        Templates that the models need, without the embedded one.
    outputs
        OUTPUT_DIR where models are registered.
    has_worked
        Returns whether a model, with its present content, has predicted here before.

    Raises
    ------
    NoInputError, BadDataError
        When a file is missing or broken, or the prediction is not a possible age.
    """
    from brainage_bids.processes import release_heap

    brains: dict[VolumeSpec, np.ndarray] = {}
    for name, folder in models:
        model = open_model(name, folder)
        if (model.content, model.weights) in TESTED or _registered(model, outputs) or has_worked(model):
            continue
        from brainage_bids.model.predict import check_answer, load_model

        loaded = load_model(folder, "cpu")
        whole = model.spec.whole
        if whole not in brains:
            brains[whole] = _template_brain(whole, templates)
        check_answer(loaded, brains[whole][model.spec.slices])
        del loaded
    release_heap()


def _template_brain(spec: VolumeSpec, templates: Sequence[Template]) -> np.ndarray:
    """Return the brain of a template as a model gets it after preprocessing, ``spec.shape``."""
    import numpy as np

    from brainage_bids.preprocess.resample import volume_on_grid
    from brainage_bids.preprocess.template import load_template

    template = next((known for known in templates if known.name == spec.template), None) or load_template()
    return volume_on_grid(template.data, template.mask, template.affine, np.eye(4), spec)[0]


# --- register -------------------------------------------------------------------------------------------------------


def register_model(model: Model, outputs: Outputs) -> None:
    """Store what the group level needs of a model that has predicted: its card, and the label of its maps."""
    if model.folder != outputs.model(model.name) and not _registered(model, outputs):
        write_json(outputs.foreign_card(model.name), {**model.card, WEIGHTS_KEY: model.weights})
    describe_model(outputs, model.name)


def _registered(model: Model, outputs: Outputs) -> bool:
    try:
        card = read_card(outputs.foreign_card(model.name))
    except BrainageError:
        return False
    return trained_as(card) == model.training and card.get(WEIGHTS_KEY) == model.weights


def read_cards(outputs: Outputs) -> tuple[dict[str, dict], dict[str, BadDataError]]:
    """Read the card of every model trained or used in OUTPUT_DIR.

    Returns
    -------
    dict, dict
        Name -> card; name -> error, for cards that cannot be read.
    """
    cards: dict[str, dict] = {}
    broken: dict[str, BadDataError] = {}
    for path in sorted(outputs.models.glob("*/card.json")) + sorted(outputs.models.glob(f"*/{CARD}")):
        name = path.parent.name
        cards.pop(name, None)
        broken.pop(name, None)
        try:
            cards[name] = read_card(path)
        except BadDataError as error:
            broken[name] = error
    return cards, broken


def model_cards(outputs: Outputs) -> dict[str, dict]:
    """Return the card of every model trained or used in OUTPUT_DIR, by name; warn about those that cannot be read."""
    cards, broken = read_cards(outputs)
    for error in broken.values():
        LOG.warning("%s (this model is left out)", error)
    return cards


def model_calibration(card: Mapping) -> pd.DataFrame:
    """Return ``age predicted_age predicted_age_sd`` (years) and ``fold`` of the healthy people a model held out."""
    people = pd.DataFrame(card["calibration"], columns=["age", "predicted_age", "predicted_age_sd", "fold"])
    return people.astype({"predicted_age_sd": "float64"})  # NaN for a model of one training


def weights_now(name: str, card: Mapping, outputs: Outputs) -> str | None:
    """Return the hash of the present weights of a model of OUTPUT_DIR; None if it is not known."""
    if (outputs.model(name) / CARD).is_file():
        try:
            return weights_hash(outputs.model(name))
        except NoInputError:  # the weights were removed to save space: the predictions remain valid
            return None
    return card.get(WEIGHTS_KEY)
