"""Batches in chunks and over processes against one pass: the gradient of a step, and the curves of whole trainings.

Run ``python benchmarks/chunks.py [gradient] [steps] [curves]``; by default all. Time and memory are in ``training.py``.

*gradient*: of the contrastive loss of 16 views at the first step of random starts, in 2, 4 and 16 chunks. Relative
difference and cosine against one pass, for what `chunked` does (batch norm of the whole batch) and for what was done
before (batch norm of each chunk, kept here as the other way); *rounding* is that of one pass, float32 from float64.
*steps*: the loss over 40 steps of one random start, in 4 chunks of 3 images against one pass, and one pass in float32
against float64: how rounding grows.
*curves*: a small training on PHANTOMS in one pass and in one process, against chunks, against two processes, and
against both: the largest difference of the loss of an epoch, relative to it, in the first and in all epochs.
"""

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from brainage_bids.bids.files import read_tsv
from brainage_bids.model.gradient_cache import backward_in_chunks
from brainage_bids.model.losses import rank_n_contrast
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.resnet import ResNet3D
from brainage_bids.model.sfcn import SFCN3D
from brainage_bids.model.train import train_model
from brainage_bids.model.trainer import joined_training
from brainage_bids.schema import VolumeSpec

NETWORKS = {
    "ResNet-10, width 8": partial(ResNet3D, 10, 8),
    "ResNet-18, width 8": partial(ResNet3D, 18, 8),
    "ResNet-50, width 4": partial(ResNet3D, 50, 4),
    "SFCN, width 8": partial(SFCN3D, 8),
}
GRID, KINDS = (32, 40, 32), (torch.float32, torch.float64)
SPEC = VolumeSpec.on_grid(8)
WAYS = {"chunks of 3": (1, 3), "two processes": (2, None), "two processes, chunks of 2": (2, 2)}  # processes, images


def contrast(features):
    """Return the loss of two views each of people of 20 to 80 years."""
    people = len(features) // 2
    ages = torch.linspace(20, 80, people, dtype=torch.float64)
    return rank_n_contrast(features.reshape(2, people, -1).transpose(0, 1), ages)


def by_statistics_of_chunks(model, chunks):
    """Add the gradient as it was before: each chunk alone through the network, twice."""
    with torch.no_grad():
        features = torch.cat([model.embed(images) for images in chunks])
    features.requires_grad_()
    contrast(features).backward()
    for images, part in zip(chunks, features.grad.split([len(images) for images in chunks]), strict=True):
        model.embed(images).backward(part)


def gradient_of(build, seed, kind, size, before=False):
    """Return the gradient of one step as a vector."""
    torch.manual_seed(seed)
    model = build().to(kind).train()
    people = torch.rand(8, 1, *GRID) * (0.5 + torch.rand(8, 1, 1, 1, 1))  # of different brightness
    views = (people.repeat(2, 1, 1, 1, 1) + 0.05 * torch.randn(16, 1, *GRID)).to(kind)
    chunks = views.split(size)
    if before:
        by_statistics_of_chunks(model, chunks)
    else:
        backward_in_chunks(model, model.embed, iter(chunks), len(chunks), contrast)
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def apart(one, other):
    """Return the relative difference of two vectors."""
    return ((one - other).norm() / one.norm()).item()


def gradient(seeds=3):
    """Print the worst of the random starts."""
    torch.set_num_threads(1)
    print("                               one pass    batch norm of the batch   batch norm of each chunk")
    print("network              chunks     rounding      float32      float64      difference     cosine")
    for name, build in NETWORKS.items():
        narrow, wide = ([gradient_of(build, seed, kind, 16) for seed in range(seeds)] for kind in KINDS)
        for size in (8, 4, 1):
            now = [
                max(apart(one, gradient_of(build, seed, kind, size)) for seed, one in enumerate(ones))
                for kind, ones in zip(KINDS, (narrow, wide), strict=True)
            ]
            rounding = max(map(apart, wide, narrow))
            line = f"{name:19s} {16 // size:3d} x {size:<3d} {rounding:12.1e} {now[0]:12.1e} {now[1]:12.1e}"
            if size > 1:
                before = [gradient_of(build, seed, torch.float32, size, before=True) for seed in range(seeds)]
                worst = max(map(apart, narrow, before))
                cosine = min(torch.cosine_similarity(*pair, 0).item() for pair in zip(narrow, before, strict=True))
                line += f" {worst:15.2f} {cosine:10.2f}"
            print(line, flush=True)


def walk(kind, lr, size, steps=40):
    """Return the losses of optimiser steps on two noisy views of the same six people."""
    torch.manual_seed(0)
    model, generator = ResNet3D(10, 4).to(kind).train(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.SGD(model.encoder_parameters(), lr, momentum=0.9)
    people, found = torch.rand(6, 1, 24, 28, 24, generator=generator, dtype=torch.float64).repeat(2, 1, 1, 1, 1), []
    for _ in range(steps):
        noise = torch.randn(people.shape, generator=generator, dtype=torch.float64)
        chunks = (people + 0.1 * noise).to(kind).split(size)
        optimiser.zero_grad()
        found.append(backward_in_chunks(model, model.embed, iter(chunks), len(chunks), contrast)[0].item())
        optimiser.step()
    return np.array(found)


def steps():
    """Print relative differences of the loss."""
    torch.set_num_threads(1)
    print("                                          step 1         2         5        10        20        40")
    for lr in (0.01, 0.1):
        wide, narrow = walk(torch.float64, lr, 12), walk(torch.float32, lr, 12)
        lines = {
            "chunks from one pass, float64": (walk(torch.float64, lr, 3), wide),
            "chunks from one pass, float32": (walk(torch.float32, lr, 3), narrow),
            "one pass, float32 from float64": (narrow, wide),
        }
        for name, (one, other) in lines.items():
            off = np.abs(one - other)[[0, 1, 4, 9, 19, 39]] / other[[0, 1, 4, 9, 19, 39]]
            print(f"lr {lr:<5g} {name:32s}", *(f"{value:9.0e}" for value in off), flush=True)


def phantoms(folder, people=24):
    """Write a table of PHANTOMS: noisy balls whose central hole grows with age."""
    rng, rows = np.random.default_rng(0), []
    radius = np.linalg.norm(np.indices(SPEC.shape) - (np.array(SPEC.shape)[:, None, None, None] - 1) / 2, axis=0)
    for index, age in enumerate(np.linspace(20, 80, people)):
        person = f"sub-{index:02d}"
        data = np.where((radius < 10) & (radius > age / 12), 0.7 + 0.05 * rng.standard_normal(SPEC.shape), 0)
        nib.save(nib.Nifti1Image(data.astype(np.float32), SPEC.affine), folder / f"{person}.nii.gz")
        (folder / f"{person}.json").write_text(json.dumps({"VolumeSpec": SPEC.to_dict()}))
        rows.append({"participant_id": person, "session_id": None, "prefix": person, "age": age, "sex": "FM"[index % 2],
                     "volume": str(folder / f"{person}.nii.gz"), "group": None, "site": None, "family": None,
                     "trainable": True})  # fmt: skip
    pd.DataFrame(rows).to_pickle(folder / "table.pkl")


def recipe(method, lr, epochs=30):
    """Return a recipe of a small network on an 8 mm grid."""
    values = load_recipe("rnc-demo").to_dict()
    values["name"], values["method"], values["volume"]["resolution"] = f"small-{method}", method, 8.0
    values["network"] |= {"depth": 10, "width": 4}
    values["training"] |= {"epochs": epochs, "batch_size": 6, "lr": lr, "patience": 0}
    values["head"] |= {"epochs": 5, "views": 2}
    return Recipe.from_dict(values)


def train(folder, name, method, lr, chunk):
    """Train as one of the processes of torchrun, or alone; a chunk of 0 is one pass."""
    folder = Path(folder)
    options = ModelOptions(device="cpu", progress=False, threads=1, chunk_size=chunk or None)
    with joined_training(options) as distributed:
        if distributed.is_main:
            table, work = pd.read_pickle(folder / "table.pkl"), folder / f"{name}-work"
            train_model(table, recipe(method, lr), folder / name, work, options, True, distributed)


def losses(folder, name, processes, *arguments):
    """Train in a process of its own, or in several; return the loss of each epoch of the main stage."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *several, __file__, "one", folder, name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    history = read_tsv(Path(folder) / name / "history.tsv")
    return history.loss[history.stage != "head"].astype(float).to_numpy()


def curves():
    """Print the differences from one pass in one process."""
    print("training            in                             epoch 1    2 to 5    all 30   loss at the end")
    with tempfile.TemporaryDirectory() as name:
        phantoms(Path(name))
        for method in ("rnc", "l1"):
            for lr in (0.01, 0.1):
                plain = losses(name, f"{method}-{lr}", 1, method, lr, 0)
                for way, (processes, chunk) in WAYS.items():
                    other = losses(name, f"{method}-{lr}-{way.replace(' ', '-')}", processes, method, lr, chunk or 0)
                    off = np.abs(other - plain) / np.abs(plain)
                    print(
                        f"{method}, lr {lr:<10g} {way:28s} {off[0]:9.1e} {off[1:5].max():9.1e} {off.max():9.1e}"
                        f"   {plain[-1]:.4f}, {other[-1]:.4f}", flush=True,
                    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        folder, name, method, lr, chunk = sys.argv[2:]
        train(folder, name, method, float(lr), int(chunk))
    else:
        for part in sys.argv[1:] or ["gradient", "steps", "curves"]:
            {"gradient": gradient, "steps": steps, "curves": curves}[part]()
