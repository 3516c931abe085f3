"""The training of one member: its stages one after the other, epoch by epoch, from its last checkpoint on.

What an epoch does is in `stages`. Every epoch draws its randomness from (seed, member, stage, epoch), so that a resumed
run goes on as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainage_bids.errors import UsageError
from brainage_bids.model.build import build_network
from brainage_bids.model.checkpoint import load_checkpoint, save_checkpoint
from brainage_bids.model.dataset import open_volumes
from brainage_bids.model.member import Member
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.stages import STAGES
from brainage_bids.model.world import ALONE, World, synchronised

LOG = logging.getLogger("brainage_bids")


def train_member(member: Member, world: World = ALONE) -> tuple[dict[str, Tensor], list[dict]]:
    """Train one member from its last checkpoint on; return its weights and its history.

    Parameters
    ----------
    member
        What to train; its settings hold for every process.
    world
        The processes that train it together; each calls this with the same member.

    Raises
    ------
    UsageError
        When the loss stops being a number or the features collapse to one point.
    """
    if member.recipe.method == "ridge":
        return fit_linear(member)
    model = _initial_model(member).to(member.device(world), memory_format=torch.channels_last_3d)
    model.recompute = member.settings.recompute
    stored = load_checkpoint(member.checkpoint, member.fingerprint) if world.leads else None
    progress = world.tell(stored) or {"stage": None, "history": []}
    stages = ("encoder", "head") if member.recipe.method == "rnc" else ("network",)
    done = stages.index(progress["stage"]) if progress["stage"] else 0
    model = synchronised(model, world)
    with repeatable():
        for stage in stages[done:]:
            progress = _run_stage(stage, model, member, world, progress)
    return progress["model"], progress["history"]


def repeatable() -> contextlib.AbstractContextManager:
    """Let convolutions on a GPU give the same sums every time, in the shorter float32 of its matrix units."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True)


def fit_linear(member: Member) -> tuple[dict[str, Tensor], list[dict]]:
    """Fit the yardstick to the first scan of each training person, in one step."""
    begin = time.monotonic()
    volumes, data = open_volumes(member.data.volumes), member.data
    model = build_network(member.recipe)
    train = np.array([rows[0] for rows in data.train])
    ridge, voxel = member.recipe.ridge, member.recipe.volume.resolution
    smoothing = ridge.smoothing / voxel
    strength = model.fit(volumes[train], data.ages[train], ridge.components, smoothing, ridge.ignore_contrast)
    errors = []
    for rows in (train, data.val):
        predicted = [model.predict(volumes[row]) for row in rows]
        errors.append(float(np.abs(np.array(predicted) - data.ages[rows]).mean()))
    row = {"member": member.name, "stage": "fit", "epoch": 1, "lr": None, "loss": errors[0], "loss_excess": None}
    row |= {"val_mae": errors[1], "val_mae_knn": None, "seconds": round(time.monotonic() - begin, 3)}
    LOG.info("%s: strength of the penalty %.3g times the variance", member.name, strength)
    member.report(row)
    return model.state_dict(), [row]


def _initial_model(member: Member) -> BrainNetwork:
    """Build the network with weights that depend on the seed and the member only."""
    first = int(member.rng("init", 0).integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(first)
        model = build_network(member.recipe)
    bias = member.data.train_mean_age if member.recipe.network.bias_init == "train_mean" else 0.0
    model.reset_head(bias, torch.Generator().manual_seed(first))
    return model


def _run_stage(
    stage: str, model: BrainNetwork, member: Member, world: World, progress: dict[str, Any]
) -> dict[str, Any]:
    """Run the epochs of one stage that are still to do, and keep the epoch that the recipe wants kept."""
    epochs = member.settings.head_epochs if stage == "head" else member.settings.epochs
    training = member.recipe.training
    if progress["stage"]:
        model.load_state_dict(progress["model"])
    work = STAGES[stage](model, member, world)
    resumed = progress["stage"] == stage
    if resumed:
        work.optimiser.load_state_dict(progress["optimiser"])
        work.scaler.load_state_dict(progress["scaler"])
    first, best, history = (
        (progress["epoch"] + 1, progress["best"], progress["history"]) if resumed else (1, None, progress["history"])
    )
    patience = training.patience if stage == "network" else 0
    choose = stage != "encoder" or training.keep == "best_probe"
    for epoch in range(first, epochs + 1):
        if patience and best and epoch - 1 - best["epoch"] >= patience:
            break
        begin = time.monotonic()
        rate = work.rate(epoch, epochs)
        for group in work.optimiser.param_groups:
            group["lr"] = rate
        row = {"member": member.name, "stage": stage, "epoch": epoch, "lr": rate}
        row |= work.epoch(member.rng(stage, epoch), epoch) | work.validate(epoch, epochs)
        error = row["val_mae"]
        if error is not None and not math.isfinite(error):
            raise UsageError(
                f"training with recipe {member.recipe.name} diverged: the validation error of {member.name} is {error} "
                f"in epoch {epoch}; lower the learning rate (now {rate:g}) with --set {work.section}.lr=NUMBER"
            )
        if choose and error is not None and (best is None or error < best["val_mae"]):
            best = {"epoch": epoch, "val_mae": error, "model": _copy(model)}
        history = [*history, row | {"seconds": round(time.monotonic() - begin, 3)}]
        progress = {"fingerprint": member.fingerprint, "stage": stage, "epoch": epoch, "best": best}
        progress |= {"model": model.state_dict(), "optimiser": work.optimiser.state_dict()}
        progress |= {"scaler": work.scaler.state_dict(), "history": history}
        if world.leads:
            save_checkpoint(member.checkpoint, progress)
            member.report(history[-1])
    if best:
        model.load_state_dict(best["model"])
    return {**progress, "model": _copy(model)}


def _copy(model: BrainNetwork) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
