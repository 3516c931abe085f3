"""Texts about models and volumes that several pages show: methods, citation and notices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from brainage_bids import __version__
from brainage_bids.app.models import model_calibration
from brainage_bids.bids.files import write_text
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import Dataset
from brainage_bids.report.methods import citation_text, participant_methods
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats.bias import fit_line


def is_phantom(dataset: Dataset) -> bool:
    """Return whether the name of the dataset says that it is a phantom."""
    return "phantom" in dataset.name.lower()


def notices(cards: Iterable[Mapping]) -> list[str]:
    """Return the notices in the cards of the models, which readers of the predicted ages must see."""
    return [f"{card['name']}: {card['notice']}" for card in cards if card.get("notice")]


def write_citation(
    outputs: Outputs, specs: Sequence[VolumeSpec], cards: Sequence[Mapping], engines: Sequence[str]
) -> str:
    """Write ``logs/CITATION.md`` and return the methods text of the participant level."""
    methods = participant_methods(methods_values(specs, cards, engines))
    write_text(outputs.citation, citation_text(methods))
    return methods


def methods_values(specs: Sequence[VolumeSpec], cards: Sequence[Mapping], engines: Sequence[str]) -> dict:
    """Return the values for the methods text, from the volumes and the content of ``model.json`` of each model."""
    values: dict = {"version": __version__, "engines": engines, "saliency": bool(cards), "coverage": 95}
    names = ("template", "resolution", "shape", "intensity")
    values["grids"] = [
        {name: getattr(spec, name) for name in names} for spec in dict.fromkeys(spec.whole for spec in specs)
    ]
    models = []
    for card in cards:
        training, spec = card["training"], VolumeSpec.from_dict(card["volume_spec"])
        models.append(
            {
                "name": card["name"],
                "backbone": card["architecture"]["backbone"],
                "loss": card["recipe"]["method"],
                "n_train": training["n"],
                "age_min": training["age_min"],
                "age_max": training["age_max"],
                "folds": len(card["members"]) if len(card["members"]) > 1 else None,
                "left_out": next((m["left_out"].partition("=")[0] for m in card["members"] if m.get("left_out")), None),
                "phantom": bool(card.get("phantom")),
                "who": card.get("who"),
                "box": spec.cropped.shape if spec.box else None,
            }
        )
    return {**values, "models": models, "lines": [_line(card) for card in cards]}


def _line(card: Mapping) -> dict:
    """Return the age-bias line of a model's held-out people, in the form that `participant_methods` needs."""
    people = model_calibration(card)
    line = fit_line(people["age"], people["predicted_age"])
    return {"name": card["name"], "method": line.method, "source": line.source, "n": line.n, "who": card.get("who")}
