"""Start a training from the encoder of a finished model (``network.init``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten
from brainage_bids.model.artifact import CARD, weights_hash
from brainage_bids.model.card import seen_by_encoder
from brainage_bids.model.folds import Cohort
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.pair import NetworkWithLinearMap
from brainage_bids.model.predict import BrainAgeModel, load_model
from brainage_bids.model.recipe import Recipe

SAME_NETWORK = ("architecture", "depth", "width", "stem_stride", "stem_pool", "stage_strides")


@dataclass(frozen=True)
class Pretrained:
    """The encoder that a training starts from: that of the first member of a model.

    Parameters
    ----------
    folder
        Of the model.
    model
        The loaded model, on the CPU.
    """

    folder: Path
    model: BrainAgeModel

    def copy_into(self, network: BrainNetwork) -> None:
        """Give a network of the same kind the weights of the encoder; its head stays as it is."""
        source = next(iter(self.model.networks.values()))
        weights = (source.network if isinstance(source, NetworkWithLinearMap) else source).state_dict()
        network.load_state_dict(weights | {f"head.{key}": value for key, value in network.head.state_dict().items()})

    def named_in(self, recipe: Recipe) -> Recipe:
        """Return a recipe that names the model by its name."""
        return replace(recipe, network=replace(recipe.network, init=self.model.name))

    def found_in(self, recipe: Recipe) -> Recipe:
        """Return a recipe that names the model by its folder, wherever the training runs."""
        return replace(recipe, network=replace(recipe.network, init=str(self.folder)))

    def origin(self) -> dict[str, Any]:
        """Return what ``model.json`` keeps of it: where the encoder comes from, and whom it has seen."""
        card, first = self.model.card, self.model.card["members"][0]
        people = sorted({*first["training_participants"], *first["validation_participants"]})
        seen = [{"salt": card["salt"], "dataset": card.get("dataset"), "participants": people}]
        return {
            "name": card["name"],
            "member": first["name"],
            "weights_sha256": weights_hash(self.folder),
            "phantom": bool(card.get("phantom")),
            "seen": seen + card.get("origin", {}).get("seen", []),
        }


def load_pretrained(recipe: Recipe, near: Path | None = None) -> Pretrained | None:
    """Return the model that a recipe starts from; None if it starts from random weights.

    Parameters
    ----------
    recipe
        ``network.init`` is a model folder, or the name of a model in ``near``.
    near
        Folder of the models of the study; None: ``network.init`` is a folder.

    Raises
    ------
    NoInputError
        When there is no such model.
    BadDataError, UsageError
        When it is broken, or its network or its volume is another one.
    """
    name = recipe.network.init
    if not name:
        return None
    folders = [Path(name).expanduser(), *([near / name] if near else [])]
    folders = [folder.resolve() for folder in folders if (folder / CARD).is_file()]
    if not folders:
        where = f"no model in {near} and " if near else ""
        raise NoInputError(f"[network] init {shorten(name)!r} is {where}no model folder; train that model first")
    model = load_model(folders[0], "cpu")
    theirs, ours = (values["network"] for values in (model.card["recipe"], recipe.to_dict()))
    if model.card["recipe"]["method"] == "ridge":
        raise UsageError(f"[network] init {shorten(name)!r} is a linear map of the voxels and has no encoder; "
                         "take a model that is a network")  # fmt: skip
    for key in SAME_NETWORK:
        if _plain(theirs[key]) != _plain(ours[key]):
            other = _plain(theirs[key])
            raise UsageError(
                f"[network] {key} is {_plain(ours[key])}, but the encoder of {shorten(name)!r} has {other}; "
                f"set it with --set network.{key}={other}"
            )
    if model.spec != recipe.spec:
        other, own = model.spec.to_dict(), recipe.spec.to_dict()
        key = next(key for key in {**other, **own} if other.get(key) != own.get(key))
        raise UsageError(
            f"the volume of recipe {recipe.name} has {key} {own.get(key)}, but the encoder of {shorten(name)!r} was "
            f"trained on volumes with {other.get(key)}; change [volume] of the recipe"
        )
    return Pretrained(folders[0], model)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def refuse_known_people(pretrained: Pretrained, cohort: Cohort, dataset: str | None) -> None:
    """Raise when the encoder has seen people whom the new training keeps to judge its model.

    Parameters
    ----------
    pretrained
        What the training starts from.
    cohort
        The people of the training.
    dataset
        Its name, so that equal ids elsewhere are not mistaken for the same people.

    Raises
    ------
    BadDataError
        The error of such people would be too small.
    """
    origin = pretrained.origin()
    judged = {person for _, validation in cohort.parts.values() for person in validation}
    split = cohort.split[cohort.split.trainable]
    judged |= set(split.participant_id[split.fold.notna() | (split.split == "test")])
    known = sorted(person for person in judged if seen_by_encoder(origin, person, dataset))
    if known:
        raise BadDataError(
            f"the encoder of {origin['name']} was trained with {len(known)} of the people who are to judge the new "
            f"model ({shorten(', '.join(known))}); leave them out with --train-on, or take another [network] init"
        )
