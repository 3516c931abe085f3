"""How long a training will take, before it starts: its steps and images, and the time that one image takes here."""

from __future__ import annotations

import time

import torch

from brainage_bids.devices import pick_device
from brainage_bids.model.build import build_network
from brainage_bids.model.lengths import steps_an_epoch
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.settings import HALF, EffectiveSettings, set_threads

TRIED = 2  # images; batch norm needs a spread
ENOUGH_S = 0.1  # seconds of trying


def describe_length(recipe: Recipe, settings: EffectiveSettings, n_train: int, members: int, workers: int) -> str:
    """Return in one line the steps, images and hours that a training of ``members`` folds comes to.

    Parameters
    ----------
    recipe, settings
        What is trained, and how on this machine.
    n_train
        People of the smallest training part.
    members
        Folds.
    workers
        Folds that train at the same time on the CPU.

    Returns
    -------
    str
        The hours follow from the time of `TRIED` random images. Reading, augmentation and validation are left out.
    """
    batch, epochs = settings.batch_size, settings.epochs
    steps = steps_an_epoch(n_train, batch, drop_last=True)
    trained = epochs * steps * batch * (2 if recipe.method == "rnc" else 1)
    forward = n_train * min(settings.head_views, settings.head_epochs)
    there, back = seconds_an_image(recipe, settings)
    members *= settings.ensemble
    at_once = min(workers, members) if settings.device == "cpu" else 1
    hours = members / at_once * (trained * back + forward * there) / settings.processes / 3600
    head = f", then {settings.head_epochs} epochs of the head" if settings.head_epochs > 1 else ""
    return (
        f"each of {members} member{'s' if members > 1 else ''} trains {epochs} epochs of {steps} "
        f"step{'s' if steps > 1 else ''}, {epochs * steps:,} in all{head}; {trained:,} images through the network and "
        f"back, {forward:,} only through it; about {_in_words(hours)} on {settings.device}"
    )


def seconds_an_image(recipe: Recipe, settings: EffectiveSettings) -> tuple[float, float]:
    """Return the seconds of one image through the network, and of one through it and back."""
    device = pick_device(settings.device)
    threads, half = torch.get_num_threads(), HALF.get(settings.precision)
    set_threads(settings.threads)
    network = build_network(recipe.alone).to(device, memory_format=torch.channels_last_3d).train()
    network.recompute = settings.recompute
    images = torch.rand(TRIED, 1, *recipe.spec.cropped.shape, device=device)

    def run(back: bool) -> float:
        begin = time.perf_counter()
        with (
            torch.set_grad_enabled(back),
            torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None),
        ):
            features = network.embed(images).float()
        if back:
            features.sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - begin) / TRIED

    def shortest(back: bool) -> float:  # the first pass chooses convolutions; of a large network it tells enough
        taken = [run(back)]
        while (device.type == "cuda" and len(taken) < 2) or sum(taken) * TRIED < ENOUGH_S:
            taken.append(run(back))
        return min(taken)

    seconds = shortest(back=False), shortest(back=True)
    set_threads(threads)
    return seconds


def _in_words(hours: float) -> str:
    if hours < 0.1:
        return f"{max(1, round(hours * 60))} minutes"
    return f"{hours:.1f} hours" if hours < 100 else f"{hours:,.0f} hours"
