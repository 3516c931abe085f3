"""The training, to be read from top to bottom.

`train_folds` trains one network for each fold of the cross-validation. `train_fold` runs the stages of one network, one
after the other: with Rank-N-Contrast the encoder, then a linear head on the frozen encoder (paper, arXiv 2511.22102,
section 2.4.2); else the whole network with L1 (section 2.4.1). The linear yardstick has no stages (`yardstick`).
`run_stage` is the loop over epochs, with validation, choice of the best epoch, and checkpoint. The stage classes below
it say what one epoch does.

Every epoch draws its randomness from (seed, fold, stage, epoch), so that a resumed training goes on as if it had never
stopped. With ``torchrun`` every process draws the same numbers and takes its share of the people of each batch; losses
see the features of all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainage_bids.devices import pick_device
from brainage_bids.errors import UsageError
from brainage_bids.model.build import initial_network, optimiser_for
from brainage_bids.model.checkpoint import load_checkpoint, save_checkpoint
from brainage_bids.model.distributed import (
    SINGLE_PROCESS,
    Distributed,
    distributed_from_environment,
    process_group,
    synchronise_batch_norm,
)
from brainage_bids.model.folds import Fold, Report, no_report, side_by_side
from brainage_bids.model.gradient_cache import backward_in_chunks, people_of_all
from brainage_bids.model.linear import most_likely_ridge
from brainage_bids.model.loader import Loader
from brainage_bids.model.losses import l1_years, rank_n_contrast, rank_n_contrast_floor
from brainage_bids.model.memory import shortage_explained
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.pretrained import load_pretrained
from brainage_bids.model.probes import knn_probe, ridge_probe
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.settings import HALF, set_threads
from brainage_bids.model.yardstick import fit_linear

LOG = logging.getLogger("brainage_bids")
Weights = dict[str, Tensor]
History = list[dict]  # rows of ``history.tsv``

# --- all folds


def train_folds(
    folds: Sequence[Fold], workers: int, report: Report, distributed: Distributed = SINGLE_PROCESS
) -> dict[str, tuple[Weights, History]]:
    """Return weights and history of every fold; a finished one is read from its file, the others are trained.

    On the CPU every fold of a cross-validation trains on one thread: small networks gain nothing from more, and the
    weights then do not depend on how many folds train at once.

    Parameters
    ----------
    folds
        What to train.
    workers
        Folds trained at the same time; more than one only on the CPU, and by one process only.
    report
        Takes each row of the history.
    distributed
        The processes that train each fold together; this is the main one. Afterwards the others are let go.

    Raises
    ------
    UsageError
        See `train_fold`.
    TryAgainError
        When the memory does not suffice.
    """
    todo = []
    for fold in folds:
        finished = load_checkpoint(fold.result, fold.fingerprint)
        if finished is None:
            todo.append(fold)
            continue
        LOG.info("member %s is already trained", fold.name)
        for row in finished["history"]:
            report(row)
    with shortage_explained():
        if workers > 1 and len(todo) > 1 and distributed.size == 1 and todo[0].device(distributed).type == "cpu":
            side_by_side(todo, _train_and_keep, min(workers, len(todo)), report)
        else:
            for fold in todo:
                distributed.broadcast(dataclasses.replace(fold, report=no_report))
                _train_and_keep(dataclasses.replace(fold, report=report), distributed)
    distributed.broadcast(None)
    results = {fold.name: load_checkpoint(fold.result, fold.fingerprint) for fold in folds}
    return {name: (values["model"], values["history"]) for name, values in results.items()}


def _train_and_keep(fold: Fold, distributed: Distributed = SINGLE_PROCESS) -> None:
    set_threads(fold.settings.threads)
    weights, history = train_fold(fold, distributed)
    save_checkpoint(fold.result, {"fingerprint": fold.fingerprint, "model": weights, "history": history})


@contextlib.contextmanager
def joined_training(options: ModelOptions) -> Iterator[Distributed]:
    """Join the processes of ``torchrun``: the main one goes on at once, the others first help it to train."""
    distributed = distributed_from_environment()
    with process_group(distributed, pick_device(options.device, distributed.local_rank)):
        if not distributed.is_main:
            LOG.setLevel(logging.ERROR)
            while (fold := distributed.broadcast()) is not None:
                set_threads(fold.settings.threads)
                train_fold(fold, distributed)
        yield distributed


# --- one fold


def train_fold(fold: Fold, distributed: Distributed = SINGLE_PROCESS) -> tuple[Weights, History]:
    """Train one fold from its last checkpoint on; return its weights and its history.

    Parameters
    ----------
    fold
        What to train; its settings hold for every process.
    distributed
        The processes that train it together; each calls this with the same fold.

    Raises
    ------
    UsageError
        When the loss stops being a number or the features collapse to one point.
    """
    if fold.recipe.method == "ridge":
        return fit_linear(fold)
    seed = int(fold.rng("init", 0).integers(2**62))
    bias = fold.data.train_mean_age if fold.recipe.network.bias_init == "train_mean" else 0.0  # years
    model = initial_network(fold.recipe, seed, bias)
    if pretrained := load_pretrained(fold.recipe):
        pretrained.copy_into(model)
    model = model.to(fold.device(distributed), memory_format=torch.channels_last_3d)
    model.recompute = fold.settings.recompute
    model, history = synchronise_batch_norm(model, distributed), []
    with repeatable():
        for name in _stages(fold.recipe):
            if name == "head" and fold.recipe.head.method == "ridge":
                history = fit_head(model, fold, distributed, history)
            else:
                history = run_stage(name, model, fold, distributed, history)
    return _weights(model), history


def _stages(recipe: Recipe) -> tuple[str, ...]:
    if recipe.frozen:
        return ("head",)
    return ("encoder", "head") if recipe.method == "rnc" else ("network",)


def repeatable() -> contextlib.AbstractContextManager:
    """Let convolutions on a GPU give the same sums every time, in the shorter float32 of its matrix units."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True)


# --- one stage


def run_stage(name: str, model: BrainNetwork, fold: Fold, distributed: Distributed, history: History) -> History:
    """Run the epochs of one stage that are still to do, and keep the epoch that the recipe wants kept.

    A checkpoint is written every few minutes and at the end of the stage, of the weights that the stage changes.

    Parameters
    ----------
    name
        ``encoder``, ``head`` or ``network``.
    model
        The network; its weights change.
    fold, distributed
        As for `train_fold`.
    history
        Of the stages before.

    Returns
    -------
    list of dict
        The history with the rows of this stage.
    """
    training, path = fold.recipe.training, fold.checkpoint(name)
    epochs = fold.settings.head_epochs if name == "head" else fold.settings.epochs
    patience = training.patience if name == "network" else 0
    choose_best = name != "encoder" or training.keep == "best_probe"
    part = "head." if name == "head" else ""
    stored = distributed.broadcast(load_checkpoint(path, fold.fingerprint) if distributed.is_main else None)
    done, best = 0, None
    if stored:  # resume
        model.load_state_dict(stored["model"], strict=False)
        done, best, history = stored["epoch"], stored["best"], stored["history"]

    def over() -> bool:
        return done >= epochs or bool(patience and best and done - best["epoch"] >= patience)

    if not over():
        stage, saved = STAGES[name](model, fold, distributed), time.monotonic()
        if stored:
            stage.optimiser.load_state_dict(stored["optimiser"])
            stage.scaler.load_state_dict(stored["scaler"])
    while not over():
        row = _run_epoch(stage, name, done + 1, epochs)
        done, history = done + 1, [*history, row]
        error = row["val_mae"]  # years; None in an epoch that does not look at the validation people
        if choose_best and error is not None and (best is None or error < best["val_mae"]):
            best = {"epoch": done, "val_mae": error, "model": _weights(model, part)}
        if distributed.is_main:
            if over() or time.monotonic() - saved >= fold.save_every:
                progress = {"fingerprint": fold.fingerprint, "epoch": done, "best": best, "history": history}
                progress |= {"model": _weights(model, part), "optimiser": stage.optimiser.state_dict()}
                save_checkpoint(path, {**progress, "scaler": stage.scaler.state_dict()})
                saved = time.monotonic()
            fold.report(row)
    if best:
        model.load_state_dict(best["model"], strict=False)
    return history


def _run_epoch(stage: Stage, name: str, epoch: int, epochs: int) -> dict[str, Any]:
    """Train for one epoch and look at the validation people; return the row of the history."""
    begin, fold, rate = time.monotonic(), stage.fold, stage.rate(epoch, epochs)
    for group in stage.optimiser.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
    row = {"member": fold.name, "stage": name, "epoch": epoch, "lr": rate}
    row |= stage.epoch(fold.rng(name, epoch), epoch) | stage.validate(epoch, epochs)
    error = row["val_mae"]
    if error is not None and not math.isfinite(error):
        raise UsageError(
            f"training with recipe {fold.recipe.name} diverged: the validation error of {fold.name} is {error} "
            f"in epoch {epoch}; lower the learning rate (now {rate:g}) with --set {stage.section}.lr=NUMBER"
        )
    return row | {"seconds": round(time.monotonic() - begin, 3)}


def _weights(model: BrainNetwork, part: str = "") -> Weights:
    """Return a copy of the weights whose names begin with ``part``, on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items() if key.startswith(part)}


def cosine_lr(lr: float, decay: float, epoch: int, epochs: int) -> float:
    """Return the rate of epoch 1..E: a cosine from ``lr`` to ``lr * decay**3`` (published Rank-N-Contrast settings)."""
    least = lr * decay**3
    return least + (lr - least) * (1 + math.cos(math.pi * epoch / epochs)) / 2


# --- one epoch


class Stage:
    """What the three stages share: the epoch, the optimiser step, the learning rate, features, validation.

    A stage sets ``optimiser`` and has a method ``backward(rows, rng, epoch)`` that adds the gradient of one batch, the
    scans ``rows``, and returns its loss.
    """

    optimiser: torch.optim.Optimizer
    section = "training"  # of the recipe, where the learning rate stands
    trains_network = True  # else the encoder is frozen, and the last, smaller batch of an epoch counts too

    def __init__(self, model: BrainNetwork, fold: Fold, distributed: Distributed):
        self.model, self.fold, self.data, self.recipe = model, fold, fold.data, fold.recipe
        self.distributed, self.device = distributed, fold.device(distributed)
        self.loader, self.batch_size = Loader(fold, self.device), fold.settings.batch_size
        self.half = HALF.get(fold.settings.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)
        self.encode = torch.compile(model.embed) if fold.settings.compile else model.embed

    def rate(self, epoch: int, epochs: int) -> float:
        """Learning rate of an epoch."""
        training = self.recipe.training
        lr = self.first_rate
        return lr if training.schedule == "constant" else cosine_lr(lr, training.lr_decay, epoch, epochs)

    @property
    def first_rate(self) -> float:
        """Learning rate of the first epoch."""
        return self.recipe.training.lr

    def epoch(self, rng: np.random.Generator, epoch: int) -> dict[str, float | None]:
        """Run one epoch; return its mean loss and, where the loss has a lower bound, the mean excess over it."""
        self.model.train(self.trains_network)
        losses, excesses = [], []
        for rows in self.loader.batches(rng, self.batch_size, drop_last=self.trains_network):
            loss = self.backward(rows, rng, epoch)
            self.step(epoch, loss)
            losses.append(loss)
            floor = self.floor(rows)
            excesses += [] if floor is None else [loss - floor]
        return {"loss": float(np.mean(losses)), "loss_excess": float(np.mean(excesses)) if excesses else None}

    def floor(self, rows: np.ndarray) -> float | None:
        """Lower bound of the loss of a batch, if it is not 0."""
        return None

    def embed(self, images: Tensor) -> Tensor:
        """Return float32 features ``(b, F)``; the network computes in the chosen precision, losses and heads do not."""
        with self.autocast():
            return self.encode(images).float()

    def autocast(self) -> torch.autocast:
        """Return the context in which the network computes."""
        return torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None)

    def embed_all(self, rows: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """Return features ``(n, F)`` of ``n`` scans in evaluation mode, without gradient; each process does its share.

        With a generator the scans are augmented first.
        """
        self.model.eval()
        drawn = self.loader.draw(len(rows), rng)
        mine = range(len(rows))[self.distributed.share(len(rows))]
        with torch.no_grad():
            parts = [self.embed(images) for images in self.loader.images(rows, drawn, mine)]
        features = torch.cat(parts) if parts else torch.zeros(0, self.model.n_features, device=self.device)
        return self.distributed.gather(features, len(rows))

    def ages(self, rows: np.ndarray) -> Tensor:
        """Return ages in years, float64 ``(b,)`` on the CPU."""
        return torch.as_tensor(self.data.ages[rows], dtype=torch.float64)

    def step(self, epoch: int, loss: float) -> None:
        """Take one optimiser step with the gradients of all; stop with a clear message when the loss is no number."""
        if not math.isfinite(loss):
            raise UsageError(
                f"training with recipe {self.recipe.name} diverged: the loss of {self.fold.name} is {loss} in "
                f"epoch {epoch}; lower the learning rate (now {self.optimiser.param_groups[0]['lr']:g}) with "
                f"--set {self.section}.lr=NUMBER"
            )
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.distributed.sum_gradients(parameters)
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

    def validation_features(self) -> Tensor:
        """Return the features of the validation people, ``(n, F)``."""
        return self.embed_all(self.data.val)

    def validate(self, epoch: int, epochs: int) -> dict[str, float | None]:
        """Return the validation MAE, years."""
        features = self.validation_features()
        self.model.eval()
        with torch.no_grad():
            error = l1_years(self.model.age(features), self.ages(self.data.val).to(self.device))
        return {"val_mae": error.item(), "val_mae_knn": None}


class EncoderStage(Stage):
    """Rank-N-Contrast on two augmented views of each person (paper 2.4.2)."""

    def __init__(self, model: BrainNetwork, fold: Fold, distributed: Distributed):
        super().__init__(model, fold, distributed)
        self.optimiser = optimiser_for(model.encoder_parameters(), self.recipe)

    @property
    def first_rate(self) -> float:
        """Learning rate of the first epoch; an encoder that is trained already has its own."""
        return self.recipe.network.init_lr or self.recipe.training.lr

    def floor(self, rows: np.ndarray) -> float:
        """Lower bound of the loss of a batch."""
        return rank_n_contrast_floor(self.ages(rows)).item()

    def backward(self, rows: np.ndarray, rng: np.random.Generator, epoch: int) -> float:
        """Add the gradient of one batch; return its loss."""
        people = len(rows)
        both, drawn = np.concatenate([rows, rows]), self.loader.draw(2 * people, rng)
        mine = np.arange(people)[self.distributed.share(people)]
        views = np.concatenate([mine, people + mine])  # the first views of my people, then their second ones
        join, own = people_of_all(self.distributed, people)
        ages = self.ages(rows).to(self.device)

        def loss_of(features: Tensor) -> Tensor:  # (2 * people, F)
            pairs = features.reshape(2, people, -1).transpose(0, 1)  # (people, 2, F)
            self._refuse_collapse(pairs.detach(), epoch)
            return rank_n_contrast(pairs, ages, self.recipe.training.temperature)

        loss, _ = backward_in_chunks(
            self.model, self.embed, self.loader.images(both, drawn, views), self.fold.settings.chunks, loss_of,
            join, own, self.gradient_scale, self.autocast, self.distributed,
        )  # fmt: skip
        return loss.item()

    def _refuse_collapse(self, features: Tensor, epoch: int) -> None:
        spread = (features - features.mean(dim=(0, 1))).abs().max()
        if spread <= 1e-7 * features.abs().max():
            raise UsageError(
                f"training with recipe {self.recipe.name} collapsed: in epoch {epoch} {self.fold.name} gives every "
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
    trains_network = False

    def __init__(self, model: BrainNetwork, fold: Fold, distributed: Distributed):
        super().__init__(model, fold, distributed)
        head, self.batch_size = self.recipe.head, fold.settings.head_batch_size
        self.optimiser = torch.optim.SGD(
            model.head.parameters(), head.lr, momentum=head.momentum, weight_decay=head.weight_decay
        )
        self.rows = np.concatenate(self.data.train)
        self.place = {int(row): index for index, row in enumerate(self.rows)}
        self.views: dict[int, Tensor] = {}  # number of a view to the features of all scans, (n, F)
        self.val_features = self.embed_all(self.data.val)

    def rate(self, epoch: int, epochs: int) -> float:
        """Learning rate of an epoch."""
        return cosine_lr(self.recipe.head.lr, self.recipe.head.lr_decay, epoch, epochs)

    def backward(self, rows: np.ndarray, rng: np.random.Generator, epoch: int) -> float:
        """Add the gradient of one batch; return its loss, years. Every process does the same: a head costs nothing."""
        features = self.view(epoch)[[self.place[int(row)] for row in rows]]  # (b, F)
        loss = l1_years(self.model.age(features), self.ages(rows).to(self.device))
        (loss * self.gradient_scale / self.distributed.size).backward()
        return loss.item()

    def view(self, epoch: int) -> Tensor:
        """Return the features ``(n, F)`` of all scans, as an epoch sees them: the epochs take the views in turn."""
        number = epoch % self.fold.settings.head_views
        if number not in self.views:
            if self.fold.settings.head_views == self.fold.settings.head_epochs:
                self.views.clear()  # none is used again
            self.views[number] = self.embed_all(self.rows, self.fold.rng("head", -(number + 1) % 2**31))
        return self.views[number]

    def validation_features(self) -> Tensor:
        """Return the features of the validation people, ``(n, F)``: always the same, the encoder being frozen."""
        return self.val_features


def fit_head(model: BrainNetwork, fold: Fold, distributed: Distributed, history: History) -> History:
    """Fit the head in one step to the frozen features of the first scan of each training person (``head.method``).

    The penalty is chosen on these people alone. The row of the history has the errors (MAE, years).
    """
    begin, stage = time.monotonic(), Stage(model, fold, distributed)
    train = np.array([scans[0] for scans in fold.data.train])
    features = stage.embed_all(train).double().cpu().numpy()
    ages, mean = fold.data.ages[train], features.mean(0)
    weight, _ = most_likely_ridge(features - mean, ages)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight)[None])
        model.head.bias.fill_(float(ages.mean() - weight @ mean))
        error = l1_years(model.age(stage.embed_all(train)), stage.ages(train).to(stage.device)).item()
    row = {"member": fold.name, "stage": "head", "epoch": 1, "lr": None, "loss": error, "loss_excess": None}
    row |= stage.validate(1, 1) | {"seconds": round(time.monotonic() - begin, 3)}
    if distributed.is_main:
        fold.report(row)
    return [*history, row]


class NetworkStage(Stage):
    """The whole network end to end with L1 (paper 2.4.1)."""

    def __init__(self, model: BrainNetwork, fold: Fold, distributed: Distributed):
        super().__init__(model, fold, distributed)
        if self.recipe.network.init_lr:  # an encoder that is trained already has its own rate
            share = self.recipe.network.init_lr / self.recipe.training.lr
            groups = [{"params": model.encoder_parameters(), "share": share}, {"params": [*model.head.parameters()]}]
            self.optimiser = optimiser_for(groups, self.recipe)
        else:
            self.optimiser = optimiser_for(list(model.parameters()), self.recipe)

    def backward(self, rows: np.ndarray, rng: np.random.Generator, epoch: int) -> float:
        """Add the gradient of one batch; return its loss, years."""
        drawn, ages = self.loader.draw(len(rows), rng), self.ages(rows).to(self.device)
        share = self.distributed.share(len(rows))
        torch.manual_seed(int(rng.integers(2**62)))  # for dropout, the only randomness of torch's own
        loss, _ = backward_in_chunks(
            self.model, self.embed, self.loader.images(rows, drawn, range(len(rows))[share]),
            self.fold.settings.chunks, lambda features: l1_years(self.model.age(features), ages),
            lambda features: self.distributed.gather(features, len(rows)), lambda gradient: gradient[share],
            self.gradient_scale, self.autocast, self.distributed,
        )  # fmt: skip
        if not self.distributed.is_main:  # every process has the whole gradient of the head; they are summed
            self.model.head.zero_grad(set_to_none=False)
        return loss.item()


STAGES: dict[str, Any] = {"encoder": EncoderStage, "head": HeadStage, "network": NetworkStage}
