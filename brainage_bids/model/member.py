"""One network to train and the data it sees: plain values, sent as they are to whatever process trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from brainage_bids.model.recipe import Recipe
from brainage_bids.model.settings import EffectiveSettings
from brainage_bids.model.world import World

STAGE_NUMBERS = {"init": 0, "encoder": 1, "head": 2, "network": 3}


@dataclass(frozen=True)
class MemberData:
    """What one member sees.

    Parameters
    ----------
    volumes
        File of all scans of the training, see `dataset.cache_volumes`.
    ages
        Years, ``(n,)``.
    train
        For each training person the rows of the scans; one is drawn per epoch.
    val
        Row of the first scan of each validation person.
    """

    volumes: Path
    ages: np.ndarray
    train: tuple[np.ndarray, ...]
    val: np.ndarray

    @property
    def train_mean_age(self) -> float:
        """Mean age of those who train, years."""
        return mean_age(self.ages, self.train)


def mean_age(ages: np.ndarray, people: Sequence[np.ndarray]) -> float:
    """Return the mean over people of the mean age of their scans, years; ``people`` are rows of ``ages``."""
    return float(np.mean([ages[rows].mean() for rows in people]))


def silent(row: dict) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Member:
    """One network to train: its name, number, recipe, settings, data and where its checkpoint lies."""

    name: str
    number: int
    recipe: Recipe
    settings: EffectiveSettings
    data: MemberData
    checkpoint: Path
    fingerprint: str
    report: Callable[[dict], None] = silent

    def device(self, world: World) -> torch.device:
        """Where the network of this process lies."""
        name = self.settings.device
        return torch.device(f"{name}:{world.local_rank}" if name == "cuda" and world.size > 1 else name)

    def rng(self, stage: str, epoch: int) -> np.random.Generator:
        """Return the generator of one epoch."""
        seeds = [self.settings.seed, self.number, STAGE_NUMBERS[stage], epoch]
        return np.random.default_rng(np.random.SeedSequence(seeds))
