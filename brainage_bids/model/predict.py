"""Ages and Grad-RAM maps from a model folder.

Knows model folders and volumes; knows nothing of how a model was trained, nor of BIDS. A person whom a model of several
members held out is predicted by that one member only, so that nobody is predicted by a network that saw the person.
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

from brainage_bids.bids.files import read_json, read_tsv, write_json
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.devices import pick_device
from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.model.build import build_network
from brainage_bids.model.card import FORMAT, hash_participant, software_versions, tells_people_apart
from brainage_bids.model.checkpoint import load_weights
from brainage_bids.model.contrast import median_intensity, unlike_training
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.explain import gradram, map_affine, write_map
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.options import ModelOptions
from brainage_bids.model.recipe import Recipe
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
    members
        Networks in evaluation mode by member name.
    card
        Content of ``model.json``.
    held_out
        Participant id to the member that holds the person out; empty without folds.
    device
        Where the networks lie.
    """

    name: str
    spec: VolumeSpec
    members: Mapping[str, BrainNetwork]
    card: Mapping[str, Any]
    held_out: Mapping[str, str]
    device: torch.device

    def same_people(self, participant_id: str, dataset: str | None) -> bool:
        """Say whether an id here and the same id at training time mean one person.

        They do within one dataset, and where a dataset is not named; across two named datasets only ids long enough
        to be unique count.
        """
        trained_on = self.card.get("dataset")
        return dataset is None or trained_on is None or dataset == trained_on or tells_people_apart(participant_id)


def load_model(path: str | Path, device: str = "auto") -> BrainAgeModel:
    """Load a model folder.

    Raises
    ------
    NoInputError
        When the folder or one of its files is not there.
    BadDataError
        When the files do not fit together or come from a newer version.
    """
    folder = Path(path)
    if not (folder / "model.json").is_file():
        raise NoInputError(f"{folder} holds no model.json; give a finished model folder, or train with --train RECIPE")
    card = read_json(folder / "model.json")
    if card.get("format") != FORMAT:
        raise BadDataError(
            f"{folder / 'model.json'} has format {card.get('format')}, this version reads {FORMAT}; update one of them"
        )
    recipe = Recipe.from_dict(card["recipe"], str(folder / "model.json"))
    names = [member["name"] for member in card["members"]]
    where, members = pick_device(device), {}
    for name, state in load_weights(folder / "weights.safetensors", names).items():
        members[name] = build_network(recipe)
        try:
            members[name].load_state_dict(state)
        except RuntimeError as error:
            raise BadDataError(f"the weights in {folder} do not fit its model.json; copy the folder again") from error
        members[name].requires_grad_(False).to(where).eval()
    by_fold = {str(member["fold"]): member["name"] for member in card["members"] if member["fold"] is not None}
    held_out = {}
    if by_fold:
        split = read_tsv(folder / "split.tsv")
        held_out = {
            person: by_fold[fold]
            for person, fold in zip(split.participant_id, split.fold, strict=True)
            if fold in by_fold
        }
    return BrainAgeModel(card["name"], VolumeSpec.from_dict(card["volume_spec"]), members, card, held_out, where)


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
        ``prefix model predicted_age flags fold``, in the order of ``table``: ages in years; ``flags`` a list out of
        ``out_of_fold``, ``in_training``, ``in_validation``, ``age_extrapolated``, ``contrast_extrapolated``; ``fold``
        the number of the member that held the person out, else None.

    Raises
    ------
    NoInputError, BadDataError
        When the model folder or a volume is missing or does not fit.
    """
    model = model_dir if isinstance(model_dir, BrainAgeModel) else load_model(model_dir, options.device)
    dataset = table.attrs.get("dataset")
    # one thread a member: with more the last digits would depend on the machine
    before = torch.get_num_threads()
    set_threads(options.threads or (1 if model.device.type == "cpu" else None))
    rows = []
    for scan in table.to_dict("records"):
        used, flags = _members_for(model, scan["participant_id"], dataset)
        volume, training = load_volume(scan["volume"], model.spec), model.card["training"]
        age, cells = predict_volume(model, volume, used, options.workers)
        known = scan.get("age")
        if known is not None and pd.notna(known) and not training["age_min"] <= known <= training["age_max"]:
            flags.append("age_extrapolated")
        if unlike_training(median_intensity(volume), model.card):
            flags.append("contrast_extrapolated")
        if saliency:
            write_saliency(model, scan["saliency"], cells, used, scan["volume"])
        fold = (
            next(m["fold"] for m in model.card["members"] if m["name"] == used[0]) if "out_of_fold" in flags else None
        )
        rows.append((scan["prefix"], name or model.name, age, flags, fold))
    set_threads(before)
    predicted = pd.DataFrame(rows, columns=["prefix", "model", "predicted_age", "flags", "fold"])
    return predicted.astype({"predicted_age": "float64", "fold": object})


def predict_volume(
    model: BrainAgeModel, volume: np.ndarray, members: list[str], workers: int = 1
) -> tuple[float, np.ndarray]:
    """Return age (years) and signed map (years per cell), each the mean over ``members``.

    On the CPU ``workers`` members compute at the same time.
    """
    image = torch.from_numpy(volume)
    with ThreadPoolExecutor(workers if model.device.type == "cpu" else 1) as pool:
        results = list(pool.map(lambda member: gradram(model.members[member], image), members))
    return float(np.mean([age for age, _ in results])), np.mean([cells for _, cells in results], axis=0)


def write_saliency(model: BrainAgeModel, path: str | Path, cells: np.ndarray, members: list[str], source: str) -> Path:
    """Write a signed Grad-RAM map (years) on its own grid, and the sidecar that says how it adds up to the age."""
    path = Path(path)
    networks = [model.members[member] for member in members]
    bias = float(np.mean([network.head.bias.item() for network in networks]))
    write_map(path, cells, map_affine(networks[0], model.spec.affine))
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
        "Members": members,
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


def _members_for(model: BrainAgeModel, participant_id: str, dataset: str | None) -> tuple[list[str], list[str]]:
    """Return the members that may predict a person, and the flags that follow."""
    names = [f"{dataset}/{participant_id}"]  # how a model of several datasets knows its people
    if model.same_people(participant_id, dataset):
        names.append(participant_id)
    for name in names:
        if name in model.held_out:
            return [model.held_out[name]], ["out_of_fold"]
    hashed = {hash_participant(name, model.card["salt"]) for name in names}
    parts = (("in_training", "training_participants"), ("in_validation", "validation_participants"))
    flags = [flag for flag, field in parts if any(hashed & set(member[field]) for member in model.card["members"])]
    return list(model.members), flags
