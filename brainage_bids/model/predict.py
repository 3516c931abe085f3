"""Ages and Grad-RAM maps from a model folder.

A person whom a model of several folds held out is predicted by the network of that one fold only, so that nobody is
predicted by a network that saw the person, or, where folds are sites, the person's site.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainage_bids.bids.files import read_rows, write_json
from brainage_bids.bids.jsonchecks import WAY_OUT
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.devices import pick_device
from brainage_bids.errors import BadDataError, NoInputError, shorten
from brainage_bids.model.artifact import (
    ANSWERS,
    BELIEVABLE,
    CARD,
    WEIGHTS,
    hash_participant,
    read_model_json,
    recipe_of,
)
from brainage_bids.model.box import brain_is_cropped
from brainage_bids.model.build import build_network
from brainage_bids.model.card import same_person, seen_by_encoder, software_versions
from brainage_bids.model.checkpoint import load_weights
from brainage_bids.model.contrast import LARGE, median_intensity, unlike_training
from brainage_bids.model.dataset import crop, load_whole
from brainage_bids.model.explain import gradram, map_affine, write_map
from brainage_bids.model.folds import fold_of
from brainage_bids.model.linear import LinearMap
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.pair import NetworkWithLinearMap
from brainage_bids.model.settings import set_threads
from brainage_bids.schema import VolumeSpec


@dataclass(frozen=True)
class BrainAgeModel:
    """A trained model, ready to predict.

    Parameters
    ----------
    name
        Of the recipe.
    spec
        The volume it needs.
    networks
        In evaluation mode, by the name of their fold.
    card
        Content of ``model.json``.
    held_out
        Participant id to the fold that holds the person out, where only ``split.tsv`` tells; ``model.json`` of
        today tells by itself.
    device
        Where the networks lie.
    """

    name: str
    spec: VolumeSpec
    networks: Mapping[str, BrainNetwork]
    card: Mapping[str, Any]
    held_out: Mapping[str, str]
    device: torch.device

    def same_people(self, participant_id: str, dataset: str | None) -> bool:
        """Say whether an id here and the same id at training time mean one person (`card.same_person`)."""
        return same_person(participant_id, dataset, self.card.get("dataset"))


def load_model(path: str | Path, device: str = "auto") -> BrainAgeModel:
    """Load a model folder; ``model.json`` and ``weights.safetensors`` are all that it needs to hold.

    Raises
    ------
    NoInputError
        When the folder or one of its files is not there.
    BadDataError
        When a file is broken, the files do not fit together, or they come from a newer version.
    """
    folder = Path(path)
    if not (folder / CARD).is_file():
        raise NoInputError(f"{folder} holds no {CARD}; give a finished model folder, or train with --train RECIPE")
    card = read_model_json(folder / CARD)
    where, recipe = pick_device(device), recipe_of(card, folder / CARD)
    with torch.device("meta"):  # shapes only: what model.json asks for may be larger than the memory
        skeleton = build_network(recipe)
    if skeleton.total_stride != card["architecture"]["total_stride"]:
        raise BadDataError(
            f"{folder / CARD}: architecture.total_stride is {card['architecture']['total_stride']}, but the network of "
            f"its recipe has {skeleton.total_stride}; {WAY_OUT}"
        )
    wanted = {fold["name"]: skeleton.state_dict() for fold in card["members"]}
    networks = {}
    for name, state in load_weights(folder / WEIGHTS, wanted).items():
        networks[name] = build_network(recipe)
        networks[name].load_state_dict(state)
        networks[name].requires_grad_(False).to(where).eval()
    held_out = _held_out_by_table(card, folder / "split.tsv")
    return BrainAgeModel(card["name"], VolumeSpec.from_dict(card["volume_spec"]), networks, card, held_out, where)


def _held_out_by_table(card: Mapping[str, Any], table: Path) -> dict[str, str]:
    """Return who was held out by which fold, from ``split.tsv``, where an older ``model.json`` tells it in part."""
    names = {str(fold["fold"]): fold["name"] for fold in card["members"] if fold["fold"] is not None}
    if not names or "held_out_participants" in card["members"][0] or not table.is_file():
        return {}
    rows = read_rows(table)
    if rows and not {"participant_id", "fold"} <= set(rows[0]):
        raise BadDataError(f"{table} has no columns participant_id and fold; restore it, or remove it")
    return {row["participant_id"]: names[row["fold"]] for row in rows if row["fold"] in names}


def check_answer(model: BrainAgeModel, brain: np.ndarray) -> None:
    """Raise unless every network gives an age for a brain, be it a wrong one.

    Of a network and a fine grid only every second voxel is computed: the age is then that of another brain, for an
    eighth of the time.

    Raises
    ------
    BadDataError
        When an age is not finite or beyond `ANSWERS`, or cannot be computed.
    """
    for name, network in model.networks.items():
        fine = brain.size > LARGE and not isinstance(network, LinearMap | NetworkWithLinearMap)
        some = np.ascontiguousarray(brain[::2, ::2, ::2] if fine else brain)
        try:
            age, _ = gradram(network, torch.from_numpy(some))
        except (RuntimeError, ValueError) as error:
            raise BadDataError(f"the model {model.name} computes nothing ({shorten(error)}); {WAY_OUT}") from error
        if not ANSWERS[0] <= age <= ANSWERS[1]:
            raise BadDataError(
                f"the model {model.name} (member {name}) gives the template's brain an age of {age:g} years; {WAY_OUT}"
            )


def predict_table(
    model_dir: str | Path | BrainAgeModel,
    table: pd.DataFrame,
    options: ModelOptions,
    saliency: bool = True,
    name: str | None = None,
) -> pd.DataFrame:
    """Predict every scan of a table and write its Grad-RAM map.

    Parameters
    ----------
    model_dir
        Model folder, or a loaded model.
    table
        ``participant_id prefix volume`` and, for maps, ``saliency`` (path of the map to write); ``age`` (years) where
        known. ``table.attrs["dataset"]`` names the dataset, see `BrainAgeModel.same_people`.
    options
        Device and threads.
    saliency
        Write maps.
    name
        Value of the ``model`` column; default the model's own name.

    Returns
    -------
    DataFrame
        ``prefix model predicted_age predicted_age_sd flags fold``, in the order of ``table``: ages in years; the SD
        is that of several trainings (`spread`), NaN for one; ``flags`` a list out of ``out_of_fold``, ``in_training``,
        ``in_validation``, ``age_extrapolated``, ``contrast_extrapolated``, ``brain_cropped``; ``fold`` the number of
        the fold that held the person out, else None.

    Raises
    ------
    NoInputError, BadDataError
        When the model folder or a volume is missing or does not fit, or an age is beyond `BELIEVABLE`.
    """
    model = model_dir if isinstance(model_dir, BrainAgeModel) else load_model(model_dir, options.device)
    dataset = table.attrs.get("dataset")
    # one thread a network: with more the last digits would depend on the machine
    before = torch.get_num_threads()
    set_threads(options.threads or (1 if model.device.type == "cpu" else None))
    try:
        rows = [
            _predict_scan(model, name or model.name, scan, dataset, options.workers, saliency)
            for scan in table.to_dict("records")
        ]
    finally:
        set_threads(before)
    predicted = pd.DataFrame(rows, columns=["prefix", "model", "predicted_age", "predicted_age_sd", "flags", "fold"])
    return predicted.astype({"predicted_age": "float64", "predicted_age_sd": "float64", "fold": object})


def _predict_scan(
    model: BrainAgeModel, name: str, scan: Mapping[str, Any], dataset: str | None, workers: int, saliency: bool
) -> tuple:
    """Return one row of `predict_table`; the map is written when the age is one that a person can have."""
    used, flags = folds_for(model, scan["participant_id"], dataset)
    whole, training = load_whole(scan["volume"], model.spec), model.card["training"]
    volume = crop(whole, model.spec, scan["volume"])
    ages, cells = _by_member(model, volume, used, workers)
    age = float(np.mean(list(ages.values())))
    if not BELIEVABLE[0] <= age <= BELIEVABLE[1]:
        raise BadDataError(
            f"the model {name} gives {age:g} years for {Path(scan['volume']).name}, which no person has; look at that "
            "volume, and at the model if this happens to other scans too"
        )
    known = scan.get("age")
    if known is not None and pd.notna(known) and not training["age_min"] <= known <= training["age_max"]:
        flags.append("age_extrapolated")
    if unlike_training(median_intensity(volume), model.card):
        flags.append("contrast_extrapolated")
    if brain_is_cropped(whole, model.spec):
        flags.append("brain_cropped")
    if saliency:
        write_saliency(model, scan["saliency"], cells, used, scan["volume"])
    numbers = {fold["name"]: fold["fold"] for fold in model.card["members"]}
    fold = numbers[used[0]] if "out_of_fold" in flags else None
    return scan["prefix"], name, age, spread(ages), flags, fold


def predict_volume(model: BrainAgeModel, volume: np.ndarray, members: list[str]) -> tuple[float, np.ndarray]:
    """Return age (years) and signed map (years per cell), each the mean over the networks of ``members``."""
    ages, cells = _by_member(model, volume, members)
    return float(np.mean(list(ages.values()))), cells


def _by_member(
    model: BrainAgeModel, volume: np.ndarray, members: list[str], workers: int = 1
) -> tuple[dict[str, float], np.ndarray]:
    """Return the age (years) of each of ``members``, and their mean map; on the CPU ``workers`` compute at once."""
    image = torch.from_numpy(volume)
    with ThreadPoolExecutor(workers if model.device.type == "cpu" else 1) as pool:
        results = list(pool.map(lambda member: gradram(model.networks[member], image), members))
    ages = dict(zip(members, (age for age, _ in results), strict=True))
    return ages, np.mean([cells for _, cells in results], axis=0)


def spread(ages: Mapping[str, float]) -> float:
    """Return the SD (years) of the ages that the trainings of a fold predict; NaN with one training a fold.

    For the ages of several folds it is the root of the mean variance, so that it means the same for people who were
    held out, whom one fold predicts, and for strangers, whom all predict.
    """
    folds: dict[str, list[float]] = {}
    for member, age in ages.items():
        folds.setdefault(fold_of(member), []).append(age)
    if min(map(len, folds.values())) < 2:
        return float("nan")
    return float(np.sqrt(np.mean([np.var(one, ddof=1) for one in folds.values()])))


def write_saliency(model: BrainAgeModel, path: str | Path, cells: np.ndarray, folds: list[str], source: str) -> Path:
    """Write a signed Grad-RAM map (years) on its own grid, and the sidecar that says how it adds up to the age."""
    path = Path(path)
    networks = [model.networks[fold] for fold in folds]
    bias = float(np.mean([network.head.bias.item() for network in networks]))
    write_map(path, cells, map_affine(networks[0], model.spec.cropped.affine))
    total = float(np.sum(cells, dtype=np.float64))
    sidecar = {
        "Description": "Grad-RAM: years that each cell adds to the predicted age; signed, not rectified, not scaled",
        "Units": "years",
        "Bias": bias,
        "Sum": total,
        "PredictedAge": total + bias,
        "SumRule": "Sum + Bias = PredictedAge",
        "CellSize": networks[0].total_stride * model.spec.resolution,
        "Model": model.name,
        "Members": folds,
        "Phantom": bool(model.card.get("phantom")),
        "Sources": [_uri(source)],
        "SkullStripped": True,
        "Resolution": f"{model.spec.resolution:g} mm",
        "VolumeSpec": model.spec.to_dict(),
        "Software": software_versions(),
    }
    write_json(sidecar_path(path), sidecar)
    return path


def _uri(path: str | Path) -> str:
    """Return the BIDS URI of a file below the folder of a participant, of any other its name."""
    parts = Path(path).parts
    begin = next((at for at, part in enumerate(parts[:-1]) if part.startswith("sub-")), None)
    return parts[-1] if begin is None else f"bids::{'/'.join(parts[begin:])}"


def folds_for(model: BrainAgeModel, participant_id: str, dataset: str | None) -> tuple[list[str], list[str]]:
    """Return the members whose networks may predict a person, and the flags that follow.

    Who trained or validated in a fold is never predicted by it as held out, whatever else a file says. Nor is anybody
    whom the encoder has seen that the training started from.
    """
    if seen_by_encoder(model.card.get("origin"), participant_id, dataset):
        return list(model.networks), ["in_training"]
    names = [f"{dataset}/{participant_id}"]  # how a model of several datasets knows its people
    if model.same_people(participant_id, dataset):
        names.append(participant_id)
    folds, parts = model.card["members"], ("training_participants", "validation_participants")
    hashed = {hash_participant(name, model.card["salt"]) for name in names}
    seen = {part: {fold["name"] for fold in folds if hashed & set(fold[part])} for part in parts}
    numbers = {fold["name"]: fold["fold"] for fold in folds}
    unseen = set(numbers.values()) - {numbers[name] for part in parts for name in seen[part]}
    if folds[0]["fold"] is not None:
        holds_out = {fold["fold"] for fold in folds if hashed & set(fold.get("held_out_participants", ()))}
        holds_out |= {numbers[model.held_out[name]] for name in names if name in model.held_out}
        if len(unseen) == 1 < len(set(numbers.values())):
            holds_out = unseen  # all other folds know the person
        if len(holds_out & unseen) == 1:
            return [name for name, number in numbers.items() if number in holds_out & unseen], ["out_of_fold"]
    flags = [flag for flag, part in zip(("in_training", "in_validation"), parts, strict=True) if seen[part]]
    return list(model.networks), flags
