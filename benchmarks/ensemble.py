"""Several trainings as one model, and the yardstick beside it: errors, and who the intervals cover, by age.

Run ``python benchmarks/ensemble.py [--people 160] [--times 3] [--work FOLDER]``. The people are PHANTOMS of 20 to 85
years (`head.phantom`). ``rnc-demo`` is trained in 5 folds, several times each (``--ensemble``), by itself and with
``pca-ridge`` beside it. All models then predict 400 other phantoms. An interval is plain (one half width for all) or
follows the spread of the trainings; what is counted is how many of the 95 % intervals hold the age, with Wilson's
interval, by thirds of the age.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from head import TEST_SEED, phantom
from statsmodels.stats.proportion import proportion_confint

from brainage_bids.app.models import model_calibration
from brainage_bids.bids.files import read_json
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import predict_table
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.train import train_model
from brainage_bids.stats.accuracy import compare_errors
from brainage_bids.stats.bias import correct_with_calibration

TESTED, SEED = 400, 11
FOLDS = 5


def answers(folder: Path, test: pd.DataFrame) -> pd.DataFrame:
    """Return ages and both kinds of intervals of a model for the test phantoms."""
    options = ModelOptions(device="cpu", progress=False, threads=1)
    rows = predict_table(folder, test, options, saliency=False).assign(age=test.age.to_numpy())
    calibration = model_calibration(read_json(folder / "model.json"))
    plain = correct_with_calibration(rows, calibration.assign(predicted_age_sd=np.nan))
    spread = correct_with_calibration(rows, calibration)
    for kind, found in (("plain", plain), ("spread", spread)):
        rows[f"{kind}_width"] = found.pred_hi - found.pred_lo
        rows[f"{kind}_inside"] = (found.pred_lo <= rows.age) & (rows.age <= found.pred_hi)
    return rows


def covered(inside: pd.Series) -> str:
    """Return a share with Wilson's 95 % interval, percent."""
    low, high = proportion_confint(int(inside.sum()), len(inside), method="wilson")
    return f"{100 * inside.mean():.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=160)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    volumes = work / "volumes"
    volumes.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([phantom(volumes, 10_000 * SEED + index) for index in range(asked.people)])
    test = pd.DataFrame([phantom(volumes, TEST_SEED + index) for index in range(TESTED)])
    once = ModelOptions(device="cpu", progress=False, folds=FOLDS, seed=SEED, workers=asked.processes)
    several = dataclasses.replace(once, ensemble=asked.times)
    models = {
        "rnc-demo": (load_recipe("rnc-demo"), once),
        f"rnc-demo, {asked.times} trainings": (load_recipe("rnc-demo"), several),
        "pca-ridge": (load_recipe("pca-ridge"), once),
        f"rnc-demo, {asked.times} trainings, and pca-ridge": (load_recipe("rnc-demo", ["beside=pca-ridge"]), several),
    }
    found = {}
    for index, (name, (recipe, options)) in enumerate(models.items()):
        folder = train_model(table, recipe, work / f"model-{asked.people}-{index}", work / f"train-{index}", options)
        found[name] = answers(folder, test)
    first = np.abs(found["rnc-demo"].predicted_age - test.age)
    print(f"\n{asked.people} people, {FOLDS} folds, {TESTED} other phantoms")
    print("| model | MAE, years | against one training | SD of the trainings, years |\n| --- | --- | --- | --- |")
    for name, rows in found.items():
        error = np.abs(rows.predicted_age - rows.age)
        pair = compare_errors(error.to_numpy(), first.to_numpy())
        versus = "" if name == "rnc-demo" else f"{pair['mae_diff']:+.2f} [{pair['ci_lo']:+.2f}, {pair['ci_hi']:+.2f}]"
        print(f"| {name} | {error.mean():.2f} | {versus} | {rows.predicted_age_sd.mean():.2f} |")
    third = pd.qcut(test.age, 3, labels=["youngest third", "middle third", "oldest third"])
    print("\n| model, interval | mean width, years | all, % | " + " | ".join(third.cat.categories) + " |")
    print("| --- " * (3 + 3) + "|")
    for name, rows in found.items():
        for kind in ("plain", "spread"):
            if kind == "spread" and rows.predicted_age_sd.isna().all():
                continue
            inside = rows[f"{kind}_inside"]
            cells = [covered(inside[(third == label).to_numpy()]) for label in third.cat.categories]
            width = rows[f"{kind}_width"].mean()
            print(f"| {name}, {kind} | {width:.1f} | {covered(inside)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
