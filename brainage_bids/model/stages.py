"""What one epoch does: encoder with Rank-N-Contrast, linear head, or the whole network with L1.

Every process draws the same random numbers and takes its share of the people of each batch; losses see the features of
all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainage_bids.errors import UsageError
from brainage_bids.model import augment
from brainage_bids.model.chunked import backward_in_chunks, people_of_all
from brainage_bids.model.feed import Feed
from brainage_bids.model.losses import l1_years, rank_n_contrast, rank_n_contrast_floor
from brainage_bids.model.member import Member
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.probes import knn_probe, ridge_probe
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.world import World

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def cosine_lr(lr: float, decay: float, epoch: int, epochs: int) -> float:
    """Return the rate of epoch 1..E: a cosine from ``lr`` to ``lr * decay**3`` (published Rank-N-Contrast settings)."""
    least = lr * decay**3
    return least + (lr - least) * (1 + math.cos(math.pi * epoch / epochs)) / 2


class Stage:
    """What the three stages share: volumes, augmentation, features, the step, the learning rate."""

    optimiser: torch.optim.Optimizer
    section = "training"  # of the recipe, where the learning rate stands

    def __init__(self, model: BrainNetwork, member: Member, world: World):
        self.model, self.member, self.data, self.recipe = model, member, member.data, member.recipe
        self.world, self.device = world, member.device(world)
        self.feed = Feed(member, self.device)
        self.augmentation = augment.settings_from(self.recipe.to_dict())
        self.half = HALF.get(member.settings.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)
        self.encode = torch.compile(model.embed) if member.settings.compile else model.embed

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

    def draw(self, count: int, rng: np.random.Generator | None) -> augment.AugmentParameters:
        """Draw how ``count`` images are augmented; not at all without a generator."""
        if rng is None or self.augmentation is None:
            return augment.neutral(count)
        return augment.draw(count, self.augmentation, rng)

    def images(
        self, rows: np.ndarray, drawn: augment.AugmentParameters, part: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """Yield augmented volumes ``(b, 1, X, Y, Z)`` on the device, chunk by chunk, reading ahead.

        ``drawn`` belongs to ``rows``; ``part`` are the places this process works on, by default all.
        """
        places = np.arange(len(rows)) if part is None else np.asarray(part)
        count = -(-len(places) // self.member.settings.chunk_size)
        chunks = np.array_split(places, count) if count else []  # no image is left alone: batch norm needs a spread
        # two views of one person are one volume, read once
        once = [np.unique(rows[chunk], return_inverse=True) for chunk in chunks]
        for chunk, (_, back), volumes in zip(chunks, once, self.feed.read([scans for scans, _ in once]), strict=True):
            wanted = volumes[torch.from_numpy(back).to(volumes.device)][:, None]
            yield augment.apply(wanted, drawn[chunk]).contiguous(memory_format=torch.channels_last_3d)

    def embed(self, images: Tensor) -> Tensor:
        """Return float32 features ``(b, F)``; the network computes in the chosen precision, losses and heads do not."""
        with torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None):
            return self.encode(images).float()

    def embed_all(self, rows: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """Return features of many scans in evaluation mode, without gradient; each process does its share."""
        self.model.eval()
        drawn = self.draw(len(rows), rng)
        mine = range(len(rows))[self.world.share(len(rows))]
        with torch.no_grad():
            parts = [self.embed(images) for images in self.images(rows, drawn, mine)]
        features = torch.cat(parts) if parts else torch.zeros(0, self.model.n_features, device=self.device)
        return self.world.gather(features, len(rows))

    def ages(self, rows: np.ndarray) -> Tensor:
        """Return ages in years, float64 ``(b,)`` on the CPU."""
        return torch.as_tensor(self.data.ages[rows], dtype=torch.float64)

    def step(self, epoch: int, loss: float) -> None:
        """Take one optimiser step with the gradients of all; stop with a clear message when the loss is no number."""
        if not math.isfinite(loss):
            raise UsageError(
                f"training with recipe {self.recipe.name} diverged: the loss of {self.member.name} is {loss} in "
                f"epoch {epoch}; lower the learning rate (now {self.optimiser.param_groups[0]['lr']:g}) with "
                f"--set {self.section}.lr=NUMBER"
            )
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.world.sum_gradients(parameters)
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimiser)
        if self.recipe.training.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.training.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)

    @property
    def gradient_scale(self) -> Tensor:
        """What every gradient is multiplied by, 1 except in float16."""
        return self.scaler.scale(torch.ones((), device=self.device))


class EncoderStage(Stage):
    """Rank-N-Contrast on two augmented views of each person (paper 2.4.2)."""

    def __init__(self, model: BrainNetwork, member: Member, world: World):
        super().__init__(model, member, world)
        self.optimiser = _optimiser(model.encoder_parameters(), self.recipe)

    def epoch(self, rng: np.random.Generator, epoch: int) -> dict[str, float]:
        """Run one epoch; return its mean loss and the mean excess over the lower bound."""
        self.model.train()
        losses, excesses = [], []
        for rows in self.batches(rng, self.member.settings.batch_size, drop_last=True):
            loss = self.contrast(rows, rng, epoch)
            self.step(epoch, loss)
            losses.append(loss)
            excesses.append(loss - rank_n_contrast_floor(self.ages(rows)).item())
        return {"loss": float(np.mean(losses)), "loss_excess": float(np.mean(excesses))}

    def contrast(self, rows: np.ndarray, rng: np.random.Generator, epoch: int) -> float:
        """Add the gradient of one batch; return its loss."""
        people = len(rows)
        both, drawn = np.concatenate([rows, rows]), self.draw(2 * people, rng)
        mine = np.arange(people)[self.world.share(people)]
        views = np.concatenate([mine, people + mine])  # the first views of my people, then their second ones
        join, own = people_of_all(self.world, people)
        ages = self.ages(rows).to(self.device)

        def loss_of(features: Tensor) -> Tensor:  # (2 * people, F)
            pairs = features.reshape(2, people, -1).transpose(0, 1)  # (people, 2, F)
            self._refuse_collapse(pairs.detach(), epoch)
            return rank_n_contrast(pairs, ages, self.recipe.training.temperature)

        loss, _ = backward_in_chunks(
            self.model, self.embed, lambda: self.images(both, drawn, views), self.member.settings.chunks, loss_of,
            join, own, self.gradient_scale,
        )  # fmt: skip
        return loss.item()

    def _refuse_collapse(self, features: Tensor, epoch: int) -> None:
        spread = (features - features.mean(dim=(0, 1))).abs().max()
        if spread <= 1e-7 * features.abs().max():
            raise UsageError(
                f"training with recipe {self.recipe.name} collapsed: in epoch {epoch} {self.member.name} gives every "
                "scan the same features, and the gradient there is zero; lower the learning rate "
                f"(now {self.optimiser.param_groups[0]['lr']:g}) with --set training.lr=NUMBER"
            )

    def validate(self, epoch: int, epochs: int) -> dict[str, float | None]:
        """Return the validation MAE (years) of two probes on the features, every few epochs."""
        if epoch % self.recipe.training.probe_every and epoch != epochs:
            return {"val_mae": None, "val_mae_knn": None}
        train = np.array([scans[0] for scans in self.data.train])
        features, wanted = (self.embed_all(rows).double().cpu().numpy() for rows in (train, self.data.val))
        truth = self.data.ages[self.data.val]
        ridge, knn = (probe(features, self.data.ages[train], wanted) for probe in (ridge_probe, knn_probe))
        return {"val_mae": float(np.abs(ridge - truth).mean()), "val_mae_knn": float(np.abs(knn - truth).mean())}


class HeadStage(Stage):
    """One linear layer on the frozen encoder in evaluation mode, L1 on augmented training scans (paper 2.4.2)."""

    section = "head"

    def __init__(self, model: BrainNetwork, member: Member, world: World):
        super().__init__(model, member, world)
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

    def epoch(self, rng: np.random.Generator, epoch: int) -> dict[str, float | None]:
        """Run one epoch; return its mean loss, years. Every process does the same: a head costs nothing."""
        self.model.eval()
        losses = []
        for rows in self.batches(rng, self.member.settings.head_batch_size, drop_last=False):
            if self.bank is None:
                features = self.embed_all(rows, rng)
            else:
                features = self.bank[epoch % len(self.bank), [self.place[int(row)] for row in rows]]
            loss = l1_years(self.model.age(features), self.ages(rows).to(self.device))
            (loss * self.gradient_scale / self.world.size).backward()
            self.step(epoch, loss.item())
            losses.append(loss.item())
        return {"loss": float(np.mean(losses)), "loss_excess": None}

    def validate(self, epoch: int, epochs: int) -> dict[str, float | None]:
        """Return the validation MAE, years."""
        return _head_error(self, self.val_features)


class NetworkStage(Stage):
    """The whole network end to end with L1 (paper 2.4.1)."""

    def __init__(self, model: BrainNetwork, member: Member, world: World):
        super().__init__(model, member, world)
        self.optimiser = _optimiser(list(model.parameters()), self.recipe)

    def epoch(self, rng: np.random.Generator, epoch: int) -> dict[str, float | None]:
        """Run one epoch; return its mean loss, years."""
        self.model.train()
        losses = []
        for rows in self.batches(rng, self.member.settings.batch_size, drop_last=True):
            loss = self.regress(rows, rng)
            self.step(epoch, loss)
            losses.append(loss)
        return {"loss": float(np.mean(losses)), "loss_excess": None}

    def regress(self, rows: np.ndarray, rng: np.random.Generator) -> float:
        """Add the gradient of one batch; return its loss, years."""
        drawn, ages, share = self.draw(len(rows), rng), self.ages(rows).to(self.device), self.world.share(len(rows))
        torch.manual_seed(int(rng.integers(2**62)))  # for dropout, the only randomness of torch's own
        loss, _ = backward_in_chunks(
            self.model, self.embed, lambda: self.images(rows, drawn, range(len(rows))[share]),
            self.member.settings.chunks, lambda features: l1_years(self.model.age(features), ages),
            lambda features: self.world.gather(features, len(rows)), lambda gradient: gradient[share],
            self.gradient_scale,
        )  # fmt: skip
        if not self.world.leads:  # every process has the whole gradient of the head; they are summed
            self.model.head.zero_grad(set_to_none=False)
        return loss.item()

    def validate(self, epoch: int, epochs: int) -> dict[str, float | None]:
        """Return the validation MAE, years."""
        return _head_error(self, self.embed_all(self.data.val))


STAGES: dict[str, Any] = {"encoder": EncoderStage, "head": HeadStage, "network": NetworkStage}


def _head_error(stage: Stage, features: Tensor) -> dict[str, float | None]:
    stage.model.eval()
    with torch.no_grad():
        error = l1_years(stage.model.age(features), stage.ages(stage.data.val).to(stage.device))
    return {"val_mae": error.item(), "val_mae_knn": None}


def _optimiser(parameters: list[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    training = recipe.training
    if training.optimiser == "adam":
        return torch.optim.Adam(parameters, training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(parameters, training.lr, momentum=training.momentum, weight_decay=training.weight_decay)
