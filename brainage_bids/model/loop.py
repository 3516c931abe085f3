"""The training loops: encoder with Rank-N-Contrast, linear head, or the whole network with L1.

Knows arrays, a recipe and a network; knows nothing of tables, folders or members other than its own. Every epoch draws
its randomness from (seed, member, stage, epoch), so that a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainage_bids.errors import UsageError
from brainage_bids.model import augment
from brainage_bids.model.checkpoint import load_checkpoint, save_checkpoint
from brainage_bids.model.losses import l1_years, rank_n_contrast, rank_n_contrast_floor
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.resnet import ResNet3D
from brainage_bids.model.settings import EffectiveSettings

PROBE_EVERY = 10  # epochs between two looks of a linear probe at the encoder, for information only


@dataclass(frozen=True)
class MemberData:
    """What one member sees.

    Parameters
    ----------
    volumes
        ``(n, X, Y, Z)`` float32, all scans of the training.
    ages
        Years, ``(n,)``.
    train
        For each training person the rows of the scans; one is drawn per epoch.
    val
        Row of the first scan of each validation person.
    """

    volumes: np.ndarray
    ages: np.ndarray
    train: tuple[np.ndarray, ...]
    val: np.ndarray

    @property
    def train_mean_age(self) -> float:
        """Mean over people of the mean age of their scans, years."""
        return float(np.mean([self.ages[rows].mean() for rows in self.train]))


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
    report: Callable[[dict], None] = field(default=lambda row: None)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return torch.device(self.settings.device)

    def rng(self, stage: str, epoch: int) -> np.random.Generator:
        """Return the generator of one epoch."""
        stages = {"init": 0, "encoder": 1, "head": 2, "network": 3}
        return np.random.default_rng(np.random.SeedSequence([self.settings.seed, self.number, stages[stage], epoch]))


def cosine_lr(lr: float, decay: float, epoch: int, epochs: int) -> float:
    """Return the rate of epoch 1..E: a cosine from ``lr`` to ``lr * decay**3`` (published Rank-N-Contrast settings)."""
    least = lr * decay**3
    return least + (lr - least) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def train_member(member: Member) -> tuple[dict[str, Tensor], list[dict]]:
    """Train one member from its last checkpoint on; return its weights and its history.

    Raises
    ------
    UsageError
        When the loss stops being a number or the features collapse to one point.
    """
    model = _initial_model(member).to(member.device)
    progress = load_checkpoint(member.checkpoint, member.fingerprint) or {"stage": None, "history": []}
    stages = ("encoder", "head") if member.recipe.method == "rnc" else ("network",)
    done = stages.index(progress["stage"]) if progress["stage"] else 0
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
        for stage in stages[done:]:
            progress = _run_stage(stage, model, member, progress)
    state = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    return state, progress["history"]


def _initial_model(member: Member) -> ResNet3D:
    """Build the network with weights that depend on the seed and the member only."""
    network = member.recipe.network
    first = int(member.rng("init", 0).integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(first)
        model = build_network(member.recipe)
    bias = member.data.train_mean_age if network.bias_init == "train_mean" else 0.0
    model.reset_head(bias, torch.Generator().manual_seed(first))
    return model


def build_network(recipe: Recipe) -> ResNet3D:
    """Return the untrained network of a recipe."""
    network = recipe.network
    return ResNet3D(
        network.depth,
        network.width,
        stem_stride=network.stem_stride,
        stem_pool=network.stem_pool,
        stage_strides=network.stage_strides,
    )


def _run_stage(stage: str, model: ResNet3D, member: Member, progress: dict[str, Any]) -> dict[str, Any]:
    """Run the epochs of one stage that are still to do; the best validation epoch is kept, except for the encoder."""
    epochs = member.settings.head_epochs if stage == "head" else member.settings.epochs
    if progress["stage"]:
        model.load_state_dict(progress["model"])
    work = _STAGES[stage](model, member)
    resumed = progress["stage"] == stage
    if resumed:
        work.optimiser.load_state_dict(progress["optimiser"])
    first, best, history = (
        (progress["epoch"] + 1, progress["best"], progress["history"]) if resumed else (1, None, progress["history"])
    )
    patience = member.recipe.training.patience if stage == "network" else 0
    for epoch in range(first, epochs + 1):
        if patience and best and epoch - 1 - best["epoch"] >= patience:
            break
        begin = time.monotonic()
        rate = work.rate(epoch, epochs)
        for group in work.optimiser.param_groups:
            group["lr"] = rate
        loss, excess = work.epoch(member.rng(stage, epoch), epoch)
        val_mae = work.validate(epoch, epochs)
        if stage != "encoder" and (best is None or val_mae < best["val_mae"]):
            best = {"epoch": epoch, "val_mae": val_mae, "model": _copy(model)}
        row = {"member": member.name, "stage": stage, "epoch": epoch, "lr": rate, "loss": loss}
        row |= {"loss_excess": excess, "val_mae": val_mae, "seconds": round(time.monotonic() - begin, 3)}
        history = [*history, row]
        progress = {"fingerprint": member.fingerprint, "stage": stage, "epoch": epoch, "best": best}
        progress |= {"model": model.state_dict(), "optimiser": work.optimiser.state_dict(), "history": history}
        save_checkpoint(member.checkpoint, progress)
        member.report(row)
    if best:
        model.load_state_dict(best["model"])
    return {**progress, "model": _copy(model)}


class _Stage:
    """What the three stages share: batches of volumes, the network on its device, the learning rate."""

    optimiser: torch.optim.Optimizer

    def __init__(self, model: ResNet3D, member: Member):
        self.model, self.member, self.data, self.recipe = model, member, member.data, member.recipe
        self.device = member.device
        settings = {key: value for key, value in asdict(self.recipe.augmentation).items() if key != "enabled"}
        self.augmentation = augment.AugmentSettings(**settings)

    def rate(self, epoch: int, epochs: int) -> float:
        """Learning rate of an epoch."""
        training = self.recipe.training
        constant = training.schedule == "constant"
        return training.lr if constant else cosine_lr(training.lr, training.lr_decay, epoch, epochs)

    def batches(self, rng: np.random.Generator, size: int, drop_last: bool) -> Iterator[np.ndarray]:
        """Draw one scan per person, shuffle, and cut into batches of row numbers."""
        rows = np.array([rng.choice(scans) for scans in self.data.train])[rng.permutation(len(self.data.train))]
        stop = len(rows) - len(rows) % size if drop_last else len(rows)
        for start in range(0, stop, size):
            yield rows[start : start + size]

    def images(self, rows: np.ndarray, rng: np.random.Generator | None) -> Tensor:
        """Return volumes ``(B, 1, X, Y, Z)`` on the device, augmented when a generator is given."""
        volumes = torch.from_numpy(self.data.volumes[rows]).to(self.device)[:, None]
        if rng is None or not self.recipe.augmentation.enabled:
            return volumes
        return augment.apply(volumes, augment.draw(len(rows), self.augmentation, rng))

    def embed(self, images: Tensor) -> Tensor:
        """Return float32 features ``(B, F)``; only the convolutions run in the chosen precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.member.settings.precision == "bfloat16"):
            return self.model.embed(images).float()

    def embed_all(self, rows: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """Return features of many scans in evaluation mode, a few at a time, without gradient."""
        self.model.eval()
        size = self.member.settings.batch_size
        with torch.no_grad():
            parts = [self.embed(self.images(rows[i : i + size], rng)) for i in range(0, len(rows), size)]
        return torch.cat(parts)

    def ages(self, rows: np.ndarray) -> Tensor:
        """Return ages in years, float32 ``(B,)``."""
        return torch.as_tensor(self.data.ages[rows], dtype=torch.float32, device=self.device)

    def step(self, loss: Tensor, epoch: int) -> None:
        """Take one optimiser step, or stop with a clear message when the loss is no number."""
        if not torch.isfinite(loss):
            raise UsageError(
                f"training with recipe {self.recipe.name} diverged: the loss of {self.member.name} is {loss.item()} in "
                f"epoch {epoch}; lower the learning rate (now {self.optimiser.param_groups[0]['lr']:g}) in a copy of "
                "the recipe"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.training.clip_norm:
            parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.training.clip_norm)
        self.optimiser.step()


class _EncoderStage(_Stage):
    """Rank-N-Contrast on two augmented views of each person (paper 2.4.2)."""

    def __init__(self, model: ResNet3D, member: Member):
        super().__init__(model, member)
        self.optimiser = _optimiser(model.encoder_parameters(), self.recipe)

    def epoch(self, rng: np.random.Generator, epoch: int) -> tuple[float, float]:
        """Return the mean loss of the epoch and its mean excess over the lower bound."""
        self.model.train()
        losses, excesses = [], []
        for rows in self.batches(rng, self.member.settings.batch_size, drop_last=True):
            images = torch.cat([self.images(rows, rng), self.images(rows, rng)])  # (2B, 1, X, Y, Z)
            features = self.embed(images).reshape(2, len(rows), -1).transpose(0, 1)  # (B, 2, F)
            self._refuse_collapse(features.detach(), epoch)
            ages = torch.as_tensor(self.data.ages[rows])
            loss = rank_n_contrast(features, ages.to(features.device), self.recipe.training.temperature)
            self.step(loss, epoch)
            losses.append(loss.item())
            excesses.append(losses[-1] - rank_n_contrast_floor(ages).item())
        return float(np.mean(losses)), float(np.mean(excesses))

    def _refuse_collapse(self, features: Tensor, epoch: int) -> None:
        spread = (features - features.mean(dim=(0, 1))).abs().max()
        if spread <= 1e-7 * features.abs().max():
            raise UsageError(
                f"training with recipe {self.recipe.name} collapsed: in epoch {epoch} {self.member.name} gives every "
                "scan the same features, and the gradient there is zero; lower the learning rate "
                f"(now {self.optimiser.param_groups[0]['lr']:g}) in a copy of the recipe"
            )

    def validate(self, epoch: int, epochs: int) -> float | None:
        """Return the validation MAE of a ridge probe on the features (years), every tenth epoch, else None."""
        if epoch % PROBE_EVERY and epoch != epochs:
            return None
        train = np.array([scans[0] for scans in self.data.train])
        features, wanted = (self.embed_all(rows).double().cpu().numpy() for rows in (train, self.data.val))
        predicted = ridge_probe(features, self.data.ages[train], wanted)
        return float(np.abs(predicted - self.data.ages[self.data.val]).mean())


class _HeadStage(_Stage):
    """One linear layer on the frozen encoder in evaluation mode, L1 on augmented training scans (paper 2.4.2)."""

    def __init__(self, model: ResNet3D, member: Member):
        super().__init__(model, member)
        head = self.recipe.head
        self.optimiser = torch.optim.SGD(
            model.head.parameters(), head.lr, momentum=head.momentum, weight_decay=head.weight_decay
        )
        rows = np.concatenate(self.data.train)
        views = [self.embed_all(rows, member.rng("head", -view % 2**31)) for view in range(1, head.views + 1)]
        self.bank = torch.stack(views) if views else None  # (views, scans, F)
        self.place = {int(row): place for place, row in enumerate(rows)}
        self.val_features = self.embed_all(self.data.val)

    def rate(self, epoch: int, epochs: int) -> float:
        """Learning rate of an epoch."""
        return cosine_lr(self.recipe.head.lr, self.recipe.head.lr_decay, epoch, epochs)

    def epoch(self, rng: np.random.Generator, epoch: int) -> tuple[float, None]:
        """Return the mean loss of the epoch, years."""
        self.model.eval()
        losses = []
        for rows in self.batches(rng, self.member.settings.head_batch_size, drop_last=False):
            if self.bank is None:
                features = self.embed_all(rows, rng)
            else:
                features = self.bank[epoch % len(self.bank), [self.place[int(row)] for row in rows]]
            loss = l1_years(self.model.head(features).squeeze(1), self.ages(rows))
            self.step(loss, epoch)
            losses.append(loss.item())
        return float(np.mean(losses)), None

    def validate(self, epoch: int, epochs: int) -> float:
        """Return the validation MAE, years."""
        with torch.no_grad():
            return l1_years(self.model.head(self.val_features).squeeze(1), self.ages(self.data.val)).item()


class _NetworkStage(_Stage):
    """The whole network end to end with L1 (paper 2.4.1)."""

    def __init__(self, model: ResNet3D, member: Member):
        super().__init__(model, member)
        self.optimiser = _optimiser(list(model.parameters()), self.recipe)

    def epoch(self, rng: np.random.Generator, epoch: int) -> tuple[float, None]:
        """Return the mean loss of the epoch, years."""
        self.model.train()
        losses = []
        for rows in self.batches(rng, self.member.settings.batch_size, drop_last=True):
            features = self.embed(self.images(rows, rng))
            loss = l1_years(self.model.head(features).squeeze(1), self.ages(rows))
            self.step(loss, epoch)
            losses.append(loss.item())
        return float(np.mean(losses)), None

    def validate(self, epoch: int, epochs: int) -> float:
        """Return the validation MAE, years."""
        features = self.embed_all(self.data.val)
        with torch.no_grad():
            return l1_years(self.model.head(features).squeeze(1), self.ages(self.data.val)).item()


_STAGES = {"encoder": _EncoderStage, "head": _HeadStage, "network": _NetworkStage}


def _optimiser(parameters: list[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    training = recipe.training
    if training.optimiser == "adam":
        return torch.optim.Adam(parameters, training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(parameters, training.lr, momentum=training.momentum, weight_decay=training.weight_decay)


def ridge_probe(features: np.ndarray, ages: np.ndarray, wanted: np.ndarray, strength: float = 0.1) -> np.ndarray:
    """Predict ages (years) for ``wanted`` (m, F) by ridge regression from ``features`` (n, F) and ``ages`` (n,).

    The penalty is ``strength`` times the mean squared length of a centred feature vector.
    """
    centre, mean = features.mean(0), ages.mean()
    x = features - centre
    kernel = x @ x.T
    penalty = strength * max(np.trace(kernel) / len(x), 1e-12)
    return (wanted - centre) @ (x.T @ np.linalg.solve(kernel + penalty * np.eye(len(x)), ages - mean)) + mean


def _copy(model: ResNet3D) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}
