"""Who is in which fold of the cross-validation, and how folds are shared between processes.

A `Fold` is one network to train and the people it sees: plain values, sent as they are to whatever process trains it. A
model without cross-validation has a single one, called ``main``, which holds nobody out. How a fold is trained is in
`trainer`.
"""

from __future__ import annotations

import dataclasses
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainage_bids.model.distributed import Distributed
from brainage_bids.model.model_options import SAVE_EVERY, ModelOptions
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.settings import EffectiveSettings
from brainage_bids.model.split import split_folds
from brainage_bids.processes import begin_worker, worker_pool

SEED = "_seed-"  # between the name of a fold and the number of one of its trainings
BESIDE = "_beside"  # ends the name of what is fitted beside the network of a fold
SEEDS_APART = 100_000  # numbers between two trainings of a fold
STAGE_NUMBERS = {"init": 0, "encoder": 1, "head": 2, "network": 3}
Report = Callable[[dict], None]  # takes a row of the history


@dataclass(frozen=True)
class FoldData:
    """What the network of one fold sees.

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


def fold_of(member: str) -> str:
    """Return the name of the fold of a network; of several trainings of a fold, all but the first are numbered."""
    return member.split(SEED)[0]


def mean_age(ages: np.ndarray, people: Sequence[np.ndarray]) -> float:
    """Return the mean over people of the mean age of their scans, years; ``people`` are rows of ``ages``."""
    return float(np.mean([ages[rows].mean() for rows in people]))


def no_report(row: dict) -> None:
    """Take a row of the history and do nothing with it."""


@dataclass(frozen=True)
class Fold:
    """One network to train.

    Parameters
    ----------
    name
        ``fold-1`` to ``fold-K``, or ``main``.
    number
        From 0; it enters every random number of the fold.
    recipe, settings
        What to train, and how on this machine.
    data
        The people it sees.
    folder
        Of its checkpoints and its result.
    fingerprint
        Of the whole training; a checkpoint of another one is not used.
    save_every
        Seconds between two checkpoints; there is one at the end of each stage, too.
    report
        Takes each row of the history.
    """

    name: str
    number: int
    recipe: Recipe
    settings: EffectiveSettings
    data: FoldData
    folder: Path
    fingerprint: str
    save_every: float = SAVE_EVERY
    report: Report = no_report

    @property
    def result(self) -> Path:
        """File of weights and history once the fold is trained."""
        return self.folder / f"{self.name}.pt"

    def checkpoint(self, stage: str) -> Path:
        """File of the last epoch of a stage that was saved."""
        return self.folder / f"{self.name}.{stage}.checkpoint.pt"

    def device(self, distributed: Distributed) -> torch.device:
        """Where the network of this process lies."""
        name = self.settings.device
        return torch.device(f"{name}:{distributed.local_rank}" if name == "cuda" and distributed.size > 1 else name)

    def rng(self, stage: str, epoch: int) -> np.random.Generator:
        """Return the generator of one epoch."""
        seeds = [self.settings.seed, self.number, STAGE_NUMBERS[stage], epoch]
        return np.random.default_rng(np.random.SeedSequence(seeds))


@dataclass(frozen=True)
class Cohort:
    """The trainable scans, and who trains, validates and is held out in each fold.

    Parameters
    ----------
    scans
        Trainable scans only, sorted by prefix; row i is volume i.
    split
        See `split.make_split`.
    parts
        By fold its training and its validation participants.
    held_out
        By fold the number of the part that it holds out, 1 to K; None without cross-validation.
    left_out
        By fold the place that it leaves out, ``site=A``; empty unless folds are places.
    left_out_text
        Which places are left out, with numbers of people; empty without places.
    origin
        Where the encoder comes from that all folds start from (`pretrained.Pretrained.origin`); None without.
    """

    scans: pd.DataFrame
    split: pd.DataFrame
    parts: dict[str, tuple[list[str], list[str]]]
    held_out: dict[str, int | None]
    left_out: dict[str, str] = field(default_factory=dict)
    left_out_text: str = ""
    origin: dict[str, Any] | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, recipe: Recipe, options: ModelOptions) -> Cohort:
        """Settle who trains, validates and is held out; ``table`` is that of `train.train_model`.

        Raises
        ------
        BadDataError
            When too few people can train.
        """
        table = table.assign(trainable=table.trainable.fillna(False).astype(bool) & table.age.notna())
        shares = recipe.split.val_share, recipe.split.test_share
        divided = split_folds(table, options.folds, options.seed, *shares)
        scans = table[table.trainable].sort_values("prefix").reset_index(drop=True)
        return cls(scans, divided.split, divided.parts, divided.held_out, divided.left_out, divided.left_out_text)

    @property
    def fewest_train(self) -> int:
        """People of the smallest training part."""
        return min(len(train) for train, _ in self.parts.values())

    def rows(self, participants: list[str]) -> list[np.ndarray]:
        """Return the rows of the scans of each participant."""
        groups = self.scans.groupby("participant_id").indices
        return [groups[participant] for participant in participants]

    def train_mean_age(self, name: str) -> float:
        """Return the mean age of the people who train in a fold, years."""
        return mean_age(self.scans.age.to_numpy(dtype=float), self.rows(self.parts[name][0]))

    def folds(
        self,
        recipe: Recipe,
        settings: EffectiveSettings,
        volumes: Path,
        work_dir: Path,
        fingerprint: str,
        save_every: float,
    ) -> list[Fold]:
        """Return the networks to train: each sees every scan of those who train, the first of those who validate."""
        ages, folds = self.scans.age.to_numpy(dtype=float), []
        for turn in range(settings.ensemble):
            for number, (name, people) in enumerate(self.parts.items()):
                train, val = map(self.rows, people)
                data = FoldData(volumes, ages, tuple(train), np.array([scans[0] for scans in val]))
                member = name if turn == 0 else f"{name}{SEED}{turn + 1}"
                number += turn * SEEDS_APART
                folds.append(Fold(member, number, recipe, settings, data, work_dir, fingerprint, save_every))
        return folds


def side_by_side(folds: Sequence[Fold], train: Callable[[Fold], None], workers: int, report: Report) -> None:
    """Train several folds at the same time, each in a process of its own.

    Parameters
    ----------
    folds
        What to train; the first that fails ends all.
    train
        Trains a fold and keeps the result on disk; a function that can be pickled.
    workers
        How many at the same time.
    report
        Takes each row of the history of any fold, in this process.
    """
    manager = SyncManager(ctx=get_context("forkserver"))
    manager.start(begin_worker)  # it too ends with the run
    with manager, worker_pool(workers) as pool:
        rows = manager.Queue()
        jobs = [pool.submit(train, dataclasses.replace(fold, report=rows.put)) for fold in folds]
        while not (all(job.done() for job in jobs) and rows.empty()):
            _pass_on(rows, report)
            for job in jobs:
                if job.done():
                    job.result()  # one failure ends all; what they saved is kept
        for job in jobs:
            job.result()


def _pass_on(rows: queue.Queue, report: Report) -> None:
    try:
        report(rows.get(timeout=0.2))
    except queue.Empty:
        return
