"""Heads on one and the same encoder, and how well they read the age of 48, 160 and 800 people.

Run ``python benchmarks/head.py [--work FOLDER]``. The people are PHANTOMS of 20 to 85 years, put on the grid of 4 mm by
their true affine. For each number of people and seed one Rank-N-Contrast encoder of ``rnc-demo`` is trained; then each
head is trained on it, and asked about 200 other phantoms, whom nothing was trained or chosen on. The validation people
of the split choose the epoch of SGD. *small features*: the same features divided by ten.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import tempfile
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from brainage_bids.bids.files import write_json
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.model.build import initial_network
from brainage_bids.model.dataset import cache_volumes, load_volume
from brainage_bids.model.distributed import SINGLE_PROCESS
from brainage_bids.model.folds import Cohort
from brainage_bids.model.lengths import stage_lengths
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.settings import effective_settings
from brainage_bids.model.trainer import fit_head, run_stage
from brainage_bids.phantom.anatomy import build_anatomy
from brainage_bids.phantom.head import draw_body, render
from brainage_bids.preprocess.resample import intensity_rule, to_grid
from brainage_bids.schema import VolumeSpec

SPEC = VolumeSpec.on_grid(4)
AGES, GAP_SD, TEST = (20.0, 85.0), 3.0, 200  # years, years, people
TEST_SEED = 10**6
SGD = {"method": "sgd", "views": 4, "epochs": 100, "length": "epochs"}
HEADS = {  # values of [network] bias_init and of [head]
    "SGD from zero, 100 epochs": ("zero", SGD),
    "SGD from the mean age, 100 epochs": ("train_mean", SGD),
    "SGD from the mean age, 1,000 steps at least": ("train_mean", {**SGD, "length": "auto", "least_steps": 1000}),
    "ridge": ("train_mean", {"method": "ridge"}),
}


@cache
def anatomy():
    """Return the anatomy that all phantoms share."""
    return build_anatomy(SPEC.resolution)


def phantom(folder: Path, seed: int) -> dict:
    """Make a phantom's volume once; return its row in the table of scans."""
    rng, path = np.random.default_rng((seed, 7)), folder / f"sub-{seed:07d}.nii.gz"
    age, gap = rng.uniform(*AGES), rng.normal(0, GAP_SD)
    if not path.is_file():
        head = render(anatomy(), draw_body(np.random.default_rng(seed), SPEC.resolution), age + gap)
        native = np.linalg.inv(head.extra["truth"]["native_to_template"])
        data, mask = (np.asarray(image.dataobj, dtype=np.float32) for image in (head, head.extra["mask"]))
        inside = to_grid(mask, head.affine, native, SPEC, 1) > 0.5
        volume = intensity_rule(to_grid(data * mask, head.affine, native, SPEC, 1), inside, "minmax")
        nib.save(nib.Nifti1Image(volume, SPEC.affine), path)
        write_json(sidecar_path(path), {"VolumeSpec": SPEC.to_dict()})
    return {"participant_id": f"sub-{seed:07d}", "prefix": path.stem, "volume": str(path), "age": age, "sex": None,
            "group": None, "site": None, "family": None, "session_id": None, "trainable": True}  # fmt: skip


def encoder(table: pd.DataFrame, work: Path, seed: int):
    """Return the fold and its network after the encoder's stage."""
    recipe = load_recipe("rnc-demo")
    options = ModelOptions(device="cpu", seed=seed, progress=False, threads=1, save_every=1e9)
    cohort = Cohort.of(table, recipe, options)
    settings = effective_settings(recipe, options, cohort.fewest_train)
    volumes = cache_volumes(list(cohort.scans.volume), recipe.spec, work)
    [fold] = cohort.folds(recipe, settings, volumes, work, f"{len(table)}-{seed}", options.save_every)
    network = initial_network(recipe, seed, fold.data.train_mean_age)
    run_stage("encoder", network, fold, SINGLE_PROCESS, [])
    return fold, network


def error_of(head: str, fold, trained, test: pd.DataFrame, small: bool) -> float:
    """Train a head on a frozen encoder; return its mean absolute error on the test phantoms, years."""
    bias, values = HEADS[head]
    recipe = dataclasses.replace(fold.recipe, head=dataclasses.replace(fold.recipe.head, **values))
    length = stage_lengths(recipe, len(fold.data.train), fold.settings.batch_size)
    settings = dataclasses.replace(fold.settings, head_epochs=length.head_epochs, head_views=length.head_views)
    fold = dataclasses.replace(fold, recipe=recipe, settings=settings, fingerprint=f"{head}-{small}-{fold.fingerprint}")
    network = copy.deepcopy(trained)
    network.reset_head(fold.data.train_mean_age if bias == "train_mean" else 0.0, torch.Generator().manual_seed(0))
    if small:
        network.embed = lambda images: trained.embed(images) / 10
    with torch.random.fork_rng():
        if recipe.head.method == "ridge":
            fit_head(network, fold, SINGLE_PROCESS, [])
        else:
            run_stage("head", network, fold, SINGLE_PROCESS, [])
    network.eval()
    trained.eval()
    with torch.no_grad():
        ages = [float(network(torch.from_numpy(load_volume(path, SPEC))[None, None])) for path in test.volume]
    return float(np.abs(np.array(ages) - test.age).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="*", default=[48, 160, 800])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    volumes = work / "volumes"
    volumes.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    test = pd.DataFrame([phantom(volumes, TEST_SEED + index) for index in range(TEST)])
    rows = []
    for people in asked.people:
        for seed in asked.seeds:
            table = pd.DataFrame([phantom(volumes, 10_000 * seed + index) for index in range(people)])
            fold, network = encoder(table, work / f"{people}-{seed}", seed)
            for small in (False, True):
                for head in HEADS:
                    name = f"{head}, small features" if small else head
                    mae = error_of(head, fold, network, test, small)
                    rows.append({"head": name, "people": people, "seed": seed, "mae": mae})
                    print(f"{people} people, seed {seed}, {name}: {mae:.2f} years", flush=True)
            null = np.abs(test.age - fold.data.train_mean_age).mean()
            rows.append({"head": "always the mean age", "people": people, "seed": seed, "mae": null})
    found = pd.DataFrame(rows).groupby(["head", "people"], sort=False).mae.agg(["mean", "min", "max"])
    print("\n| head | " + " | ".join(f"{people} people" for people in asked.people) + " |")
    print("| --- " * (len(asked.people) + 1) + "|")
    for head in dict.fromkeys(row["head"] for row in rows):
        cells = [found.loc[(head, people)] for people in asked.people]
        print(f"| {head} | " + " | ".join(f"{c['mean']:.2f} ({c['min']:.2f} to {c['max']:.2f})" for c in cells) + " |")


if __name__ == "__main__":
    main()
