"""For the page of a training: augmented examples of the volumes, and a map of the embedding. Draws nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from brainage_bids.model import augment
from brainage_bids.model.artifact import hash_participant
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.predict import BrainAgeModel, load_model

MOST_PEOPLE = 400  # points of the map
EXAMPLES, VERSIONS = 2, 4  # people, augmented versions of each


def embedding_map(model_dir: str | Path, table: pd.DataFrame, device: str = "auto") -> tuple[pd.DataFrame, list[float]]:
    """Return where one network puts the people: the first two principal components of its features.

    Parameters
    ----------
    model_dir
        A finished model folder; of a K-fold model the network of the first fold is looked at.
    table
        ``participant_id age volume``, ages in years; one scan per person is taken, `MOST_PEOPLE` at most, at even steps
        of age.
    device
        Where the network runs.

    Returns
    -------
    points
        ``part`` (``train``, ``val``, ``held out``) ``age first second``; nobody is named.
    shares
        Share of the variance of the features that each of the two components has.
    """
    model = load_model(model_dir, device)
    network = next(iter(model.networks.values()))
    people = table[table.age.notna()].drop_duplicates("participant_id").sort_values(["age", "participant_id"])
    people = people.iloc[np.unique(np.linspace(0, len(people) - 1, min(len(people), MOST_PEOPLE)).astype(int))]
    features = []
    with torch.inference_mode():
        for path in people.volume:
            volume = torch.from_numpy(load_volume(path, model.spec))[None, None].to(model.device)
            features.append(network.embed(volume)[0].double().cpu().numpy())
    x = np.array(features) - np.mean(features, 0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    two = np.zeros((len(x), 2))
    two[:, : min(2, len(s))] = (u * s)[:, :2]
    two *= np.where(
        (two * (people.age.to_numpy() - people.age.mean())[:, None]).sum(0) < 0, -1, 1
    )  # older to the right
    shares = [float(v) for v in np.pad(s**2 / max((s**2).sum(), 1e-30), (0, 2))[:2]]
    part = [_part(model, person) for person in people.participant_id]
    return pd.DataFrame({"part": part, "age": people.age.to_numpy(), "first": two[:, 0], "second": two[:, 1]}), shares


def augmented_examples(model_dir: str | Path, table: pd.DataFrame) -> list[list[np.ndarray]]:
    """Return axial and sagittal middle slices of a few training people as the network may see them.

    Each row is one person: the volume as it is, then augmented with the recipe's settings and a fixed seed. Empty for
    a recipe without augmentation.
    """
    model = load_model(model_dir, "cpu")
    settings = augment.settings_from(model.card["recipe"])
    if settings is None or model.card["recipe"]["method"] == "ridge":
        return []
    rng, rows = np.random.default_rng(model.card["seed"]), []
    people = table[table.trainable & table.age.notna()].drop_duplicates("participant_id").sort_values("age")
    for path in people.volume.iloc[[0, -1]][:EXAMPLES]:
        volume = torch.from_numpy(load_volume(path, model.spec))[None, None]
        drawn = augment.draw(VERSIONS, settings, rng, model.spec.resolution)
        augmented = augment.apply(volume.expand(VERSIONS, -1, -1, -1, -1), drawn)[:, 0]
        rows.append([_slices(version.numpy()) for version in (volume[0, 0], *augmented)])
    return rows


def _slices(volume: np.ndarray) -> np.ndarray:
    """Return the middle axial and sagittal slice beside each other, anterior up or left, as an image ``(h, w)``."""
    axial = volume[:, :, volume.shape[2] // 2].T[::-1]
    sagittal = volume[volume.shape[0] // 2].T[::-1]
    height = max(len(axial), len(sagittal))
    padded = [np.pad(s, ((0, height - len(s)), (0, 0))) for s in (axial, sagittal)]
    return np.concatenate(padded, axis=1)


def _part(model: BrainAgeModel, participant_id: str) -> str:
    """Say what the first fold used a person for."""
    hashed, fold = hash_participant(participant_id, model.card["salt"]), model.card["members"][0]
    parts = (("train", "training_participants"), ("val", "validation_participants"))
    return next((part for part, field in parts if hashed in fold[field]), "held out")
