"""What blur, thick slices and a smooth field do to networks, and whether training with them helps; 4 mm.

Run ``python benchmarks/disturbances.py --work FOLDER`` after ``open_people.py phantoms --work FOLDER`` or after
``open_people.py prepare DATA --work FOLDER --grids 4``. Small Rank-N-Contrast networks learn from two thirds of the
phantoms, or of the people of the larger dataset, with powers of the intensities (`gamma_max` 2, as the recipes that are
not the paper's) and with one more augmentation. They answer for the other third, who are the validation people (they
choose the epoch of the head, and nothing else), and for the other dataset where it is there, from the scans as they are
and from scans that are disturbed: a field, blur, slices, each made by the same functions as in training, with draws of
their own. Nobody is a test person. What stands in the table of results is not trained again.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from open_people import LARGER, RNC, TEN, paired, scans

from brainage_bids.bids.files import read_json, read_tsv, write_tsv
from brainage_bids.model import augment
from brainage_bids.model.augment_intensity import draw_fields
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.train import train_model

OTHER, THIRD = "ds000011", "other third"
SHARES = ("augmentation.gamma_max=2", "split.val_share=0.34", "split.test_share=0")
PEOPLE = (*RNC, TEN, "network.width=8", "training.epochs=40", "training.batch_size=12", *SHARES)
PHANTOMS = ("training.epochs=24", "training.batch_size=12", "head.epochs=100", *SHARES)
FIELD, BLUR, SLICES = "augmentation.field_max=0.5", "augmentation.blur_mm=8", "augmentation.slice_mm=10"
MODELS = {"powers": (), "and field": (FIELD,), "and blur": (BLUR,), "and slices": (SLICES,)}
FIELD_LOG, BLUR_MM, SLICE_MM = 0.4, 6.0, 8.0
DISTURBANCES = ("none", f"field {FIELD_LOG:g}", f"blur {BLUR_MM:g} mm", f"slices {SLICE_MM:g} mm")
KEYS = ["model", "seed", "people", "participant_id"]


def disturbed(volumes: torch.Tensor, voxel_mm: float) -> dict[str, torch.Tensor]:
    """Return ``(n, 1, X, Y, Z)`` under each of `DISTURBANCES`; the fields are the same for every model."""
    none = augment.neutral(len(volumes))
    fields = draw_fields(len(volumes), 1.0, np.random.default_rng(2026))
    largest = np.abs(fields).max((1, 2, 3), keepdims=True)  # all as strong as each other, about
    axial = np.tile([0, 0, SLICE_MM / voxel_mm], (len(volumes), 1))
    changes = ({}, {"field": fields / largest * FIELD_LOG}, {"blur": none.blur + BLUR_MM / voxel_mm}, {"slices": axial})
    return {name: augment.apply(volumes, replace(none, **change))
            for name, change in zip(DISTURBANCES, changes, strict=True)}  # fmt: skip


def trained(work: Path, name: str, seed: int) -> Path:
    """Train one model on the larger dataset, unless it is there; return its folder."""
    slug = name.replace(" ", "-")
    folder = work / "models" / f"disturbances-{slug}_seed-{seed}"
    if not (folder / "model.json").is_file():
        phantom = read_json(work / "scans.json")["phantom"]
        recipe = load_recipe("rnc-demo", (*(PHANTOMS if phantom else PEOPLE), *MODELS[name], f"name={slug}"))
        table = scans(work, recipe.spec)
        here = table if phantom else table[table.site == LARGER]
        here.attrs |= table.attrs
        options = ModelOptions(device="cpu", seed=seed, workers=1, progress=False)
        train_model(here, recipe, folder, work / "train" / folder.name, options)
        shutil.rmtree(work / "train" / folder.name, ignore_errors=True)
    return folder


def answers(work: Path, name: str, seed: int) -> pd.DataFrame:
    """Return what one model says of people it never saw, from every kind of scan."""
    folder = trained(work, name, seed)
    model = load_model(folder, "cpu")
    table, split = scans(work, model.spec), read_tsv(folder / "split.tsv").set_index("participant_id")
    seen = split.index[split.split == "train"]
    table = table[~table.participant_id.isin(seen)].sort_values(["site", "participant_id"])
    volumes = torch.from_numpy(np.stack([load_volume(path, model.spec) for path in table.volume]))[:, None]
    network, rows = next(iter(model.networks.values())), []
    for disturbance, changed in disturbed(volumes, model.spec.resolution).items():
        for person, volume in zip(table.itertuples(), changed[:, 0].numpy(), strict=True):
            people = OTHER if person.site == OTHER else THIRD
            age = round(float(network.predict(volume)), 4)
            rows.append((name, seed, people, person.participant_id, person.age, disturbance, age))
    return pd.DataFrame(rows, columns=[*KEYS, "age", "disturbance", "predicted_age"])


def show(found: pd.DataFrame) -> None:
    """Print the errors, and what each augmentation gains on powers alone for the same people."""
    found = found.assign(error=(found.predicted_age - found.age).abs(), gap=found.predicted_age - found.age)
    for people, rows in found.groupby("people", sort=False):
        seeds = ", ".join(map(str, sorted(rows.seed.unique())))
        print(f"\n{people}, n {rows.participant_id.nunique()}, seeds {seeds}: MAE in years (mean gap)")
        print("| trained with | " + " | ".join(DISTURBANCES) + " |\n" + "| --- " * (len(DISTURBANCES) + 1) + "|")
        for name, part in rows.groupby("model", sort=False):
            means = part.groupby("disturbance")[["error", "gap"]].mean().loc[list(DISTURBANCES)]
            cells = [f"{row.error:.1f} ({row.gap:+.1f})" for row in means.itertuples()]
            print(f"| {name} | {' | '.join(cells)} |")
        errors = rows.groupby(["disturbance", "model", "participant_id"]).error.mean()
        for name in [name for name in MODELS if name != "powers" and name in set(rows.model)]:
            for disturbance in DISTURBANCES:
                one, other = (errors[disturbance][model].to_numpy() for model in (name, "powers"))
                print(f"{name} - powers, {disturbance}: {paired(one, other)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--results", type=Path, help="table of predictions; what stands in it is not trained again")
    asked = parser.parse_args()
    results = asked.results or asked.work / "disturbances.tsv"
    kept = pd.read_csv(results, sep="\t") if results.is_file() else pd.DataFrame(columns=["model", "seed"])
    there = set(zip(kept.model, kept.seed, strict=True))
    for seed in asked.seeds:
        for name in MODELS:
            if (name, seed) not in there:
                found = answers(asked.work, name, seed)
                kept = pd.concat([kept, found]) if len(kept) else found
                write_tsv(results, kept)
    show(kept[kept.seed.isin(asked.seeds)])


if __name__ == "__main__":
    main()
