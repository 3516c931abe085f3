"""The models of a run: found by name or folder, checked before anything is done, registered once one has worked.

A model that was trained elsewhere is registered by a copy of its ``model.json`` with the hash of its weights; what it
predicted is then known to be its own without its folder.
"""

from __future__ import annotations

import hashlib
import json
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
from brainage_bids.model.artifact import CARD, card_hash, read_card, read_model_json, weights_hash
from brainage_bids.schema import VolumeSpec

if TYPE_CHECKING:
    import numpy as np

    from brainage_bids.preprocess.template import Template

LOG = logging.getLogger("brainage_bids")
BUNDLED = Path(__file__).parents[1] / "bundled"
TESTED = {  # SHA-256 of model.json and weights of models in the package, which its tests have asked already
    (
        "4a956173b5fb27f92b7698b5fbdda4787be4127431bc532777258bdb007c9706",
        "b3de021c6b06a0b6fa44f9d474be8e55bd2aa9f78db6d261039c9ba10b03843f",
    ),
}
WEIGHTS_KEY = "weights_sha256"  # in the copy of a card; no part of the model.json it is a copy of


@dataclass(frozen=True, eq=False)
class Model:
    """A model folder as it is now.

    Parameters
    ----------
    name
        What its predictions are called: the name of the folder.
    folder
        Where it lies.
    card
        Content of its ``model.json``.
    spec
        The volume it needs.
    content, weights
        SHA-256 of ``model.json`` and of the weights: together they are the model, wherever it lies.
    """

    name: str
    folder: Path
    card: Mapping
    spec: VolumeSpec
    content: str
    weights: str

    @cached_property
    def training(self) -> str:
        """What tells its training from another (`trained_as`)."""
        return trained_as(self.card)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """The healthy people whom it held out (`model_calibration`)."""
        return model_calibration(self.card)


def open_model(name: str, folder: Path) -> Model:
    """Return a model folder as it is now; its weights are read for their hash only.

    Raises
    ------
    NoInputError, BadDataError
        When a file of it is missing or broken.
    """
    card, content = read_model_json(folder / CARD), card_hash(folder / CARD)
    return Model(name, folder, card, VolumeSpec.from_dict(card["volume_spec"]), content, weights_hash(folder))


def model_spec(folder: Path) -> VolumeSpec:
    """Return the volume a model needs."""
    return VolumeSpec.from_dict(read_model_json(folder / CARD)["volume_spec"])


# --- found ----------------------------------------------------------------------------------------------------------


def find_model(name: str, outputs: Outputs, trained: Sequence[str]) -> Path:
    """Return the folder of a model given by name or path.

    Raises
    ------
    NoInputError, UsageError
        When the folder holds no ``model.json``; when there is no such model, or its name cannot name results.
    """
    for folder in (outputs.model(name), Path(name), BUNDLED / name):
        if (folder / CARD).is_file():
            return _named(folder.resolve())
    if Path(name).is_dir():
        raise NoInputError(f"--model {shorten(name)} is a folder without {CARD}; give a finished model folder")
    have, comes = ", ".join(trained) or "none", ", ".join(bundled_models()) or "none"
    raise UsageError(
        f"--model {shorten(name)!r} is neither trained in {outputs.root} (there: {shorten(have, 200)}) nor a model "
        f"folder nor one that comes with brainage-bids ({comes})"
    )


def _named(folder: Path) -> Path:
    if not model_label(folder.name) or re.search(r"[^\w.+ -]| {2}|^ | $", folder.name):
        raise UsageError(
            f"the folder {folder} gives its model the name {shorten(folder.name)!r}, which cannot name files and "
            "columns; rename it with letters, digits, dots, dashes and underscores"
        )
    return folder


def refuse_same_names(models: Iterable[tuple[str, Path]], outputs: Outputs) -> None:
    """Raise when the results of two models of a run, or of one here before and one of the run, would get one name.

    Raises
    ------
    UsageError
        When two models are called alike, or so nearly alike that their maps would be.
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
    told = f"the models {name!r} and {other_name!r} would share the files of their maps"
    if name == other_name:
        told = f"two models are called {name!r}: {folder} and {other}"
    raise UsageError(f"{told}; their results would overwrite each other: rename the folder of one")


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{CARD}"))


def bundled_model() -> str:
    """Return the name of the model that is used when nothing else is there.

    Raises
    ------
    NoInputError
        When the package holds none.
    """
    if not bundled_models():
        raise NoInputError("no model is trained here and none is bundled: add --train RECIPE or --model FOLDER")
    return bundled_models()[0]


# --- checked --------------------------------------------------------------------------------------------------------


def check_models(
    models: Iterable[tuple[str, Path]],
    templates: Sequence[Template],
    outputs: Outputs,
    has_worked: Callable[[Model], bool] = lambda _: False,
) -> None:
    """Raise unless every model can be loaded whole and gives an age for the brain of its template.

    Called before any scan is touched, so that a broken model costs nothing. One that is registered here with these very
    weights, or has predicted here with them, is not asked again, nor is one of the package: to read a network takes
    seconds. The processor computes, because a graphics card may be kept for the workers.

    Parameters
    ----------
    models
        Names and folders.
    templates
        Those that the models need, without the embedded one.
    outputs
        Where models are registered.
    has_worked
        Whether a model as it is now has predicted here before.

    Raises
    ------
    NoInputError, BadDataError
        When a file is missing or broken, or the age is none.
    """
    from brainage_bids.processes import release_heap

    brains: dict[VolumeSpec, np.ndarray] = {}
    for name, folder in models:
        model = open_model(name, folder)
        if (model.content, model.weights) in TESTED or _registered(model, outputs) or has_worked(model):
            continue
        from brainage_bids.model.predict import check_answer, load_model

        loaded = load_model(folder, "cpu")
        if model.spec not in brains:
            brains[model.spec] = _template_brain(model.spec, templates)
        check_answer(loaded, brains[model.spec])
        del loaded
    release_heap()


def _template_brain(spec: VolumeSpec, templates: Sequence[Template]) -> np.ndarray:
    """Return the brain of a template as preprocessing would give it to a model."""
    import numpy as np

    from brainage_bids.preprocess.resample import volume_on_grid
    from brainage_bids.preprocess.template import load_template

    template = next((one for one in templates if one.name == spec.template), None) or load_template()
    return volume_on_grid(template.data, template.mask, template.affine, np.eye(4), spec)[0]


# --- registered -----------------------------------------------------------------------------------------------------


def register_model(model: Model, outputs: Outputs) -> None:
    """Keep what the group level needs of a model that has predicted: its card, and the label of its maps."""
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
    """Return, by name, the card of every model trained or used in OUTPUT_DIR, and why the others cannot be read."""
    cards: dict[str, dict] = {}
    broken: dict[str, BadDataError] = {}
    for path in sorted(outputs.models.glob("*/card.json")) + sorted(outputs.models.glob(f"*/{CARD}")):
        name = path.parent.name
        for one in (cards, broken):
            one.pop(name, None)
        try:
            cards[name] = read_card(path)
        except BadDataError as error:
            broken[name] = error
    return cards, broken


def model_cards(outputs: Outputs) -> dict[str, dict]:
    """Return the card of every model trained or used in OUTPUT_DIR, by name; one that cannot be read is named."""
    cards, broken = read_cards(outputs)
    for error in broken.values():
        LOG.warning("%s (this model is left out)", error)
    return cards


def model_calibration(card: Mapping) -> pd.DataFrame:
    """Return ``age predicted_age fold`` of the healthy people a model held out (years)."""
    return pd.DataFrame(card["calibration"], columns=["age", "predicted_age", "fold"])


def trained_as(card: Mapping) -> str:
    """Return what tells one training from another: a hash of the whole ``model.json``.

    Its fingerprint would not do: it is that of what was asked for, the same on another device or by another version.
    """
    told = {key: value for key, value in card.items() if key != WEIGHTS_KEY}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def weights_now(name: str, card: Mapping, outputs: Outputs) -> str | None:
    """Return the hash of the weights that a model of OUTPUT_DIR has now; None where nothing tells."""
    if (outputs.model(name) / CARD).is_file():
        try:
            return weights_hash(outputs.model(name))
        except NoInputError:  # removed to save room: what it predicted stays its own
            return None
    return card.get(WEIGHTS_KEY)
