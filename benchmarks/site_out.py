"""Error within and across sites on phantoms: what `--folds site` shows of models that read contrast as age.

Run ``python benchmarks/site_out.py WORK [--recipes pca-ridge rnc-demo]``. Sixty healthy phantoms at 4 mm are dealt to
three scanners: the intensities of their volumes are raised to the power 1, 0.7 and 1.4. Each recipe is trained twice on
the same people, in 5 folds that mix the scanners and with one scanner left out at a time; then the table of the group
level is made. Prints a row for each recipe and scanner; what is finished in WORK is kept.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import pandas as pd

from brainage_bids.api import preprocess, train_model
from brainage_bids.app.api_tables import training_table
from brainage_bids.app.held_out import fold_pairs, held_out_predictions
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.phantom.cohort import make_cohort
from brainage_bids.phantom.drawn_people import GROUPS
from brainage_bids.stats.siteerror import site_errors

PEOPLE, GRID = 60, 4.0  # mm
POWERS = {"plain": 1.0, "bright": 0.7, "dark": 1.4}  # scanner -> power of the intensities, from 0 to 1
RECIPES = {
    "pca-ridge": ("pca-ridge", ()),
    "pca-ridge, sees contrast": ("pca-ridge", ("ridge.ignore_contrast=false",)),
    "rnc-demo": ("rnc-demo", ()),
    "rnc-demo, gamma_max 2": ("rnc-demo", ("augmentation.gamma_max=2",)),
}
QUIET = ModelOptions(device="cpu", progress=False)


def scans(work: Path) -> pd.DataFrame:
    """Return the phantoms with a scanner (``site``) each and their volumes as that scanner shows them."""
    bids = make_cohort(work / "bids", n=PEOPLE, voxel_mm=GRID, progress=False, groups=GROUPS[:1])
    table = preprocess(bids, work / "out", resolution=GRID)
    table["site"] = [list(POWERS)[at % len(POWERS)] for at in range(len(table))]
    folder = work / "volumes"
    folder.mkdir(exist_ok=True)
    for at, row in table.iterrows():
        path = folder / Path(row["volume"]).name
        if not path.is_file():
            image = nib.load(row["volume"])
            data = image.get_fdata(dtype="float32") ** POWERS[row["site"]]
            shutil.copyfile(sidecar_path(Path(row["volume"])), sidecar_path(path))
            nib.save(nib.Nifti1Image(data, image.affine), path)
        table.loc[at, "volume"] = str(path)
    return table


def compared(table: pd.DataFrame, name: str, work: Path) -> pd.DataFrame:
    """Train a recipe in both kinds of folds; return ``siteerror.tsv`` of the two models."""
    recipe, settings = RECIPES[name]
    people = training_table(table, "age > 0", None).set_index("prefix", drop=False)
    gaps, cards = [], {}
    for kind, folds in (("across", "site"), ("within", 5)):
        label = f"{name} {kind}".replace(",", "").replace(" ", "-")
        model = load_model(
            train_model(table, recipe, work / "models" / label, train_on="age > 0", folds=folds, settings=settings)
        )
        found = predict_table(model, people.reset_index(drop=True), QUIET, saliency=False, name=kind)
        people[f"predicted_age_{kind}"] = found["predicted_age"].to_numpy()
        gaps.append(found)
        cards[kind] = model.card
    held_out = held_out_predictions(SimpleNamespace(gaps=pd.concat(gaps, ignore_index=True), cards=cards))
    return site_errors(people, held_out, fold_pairs(cards), [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    asked = parser.parse_args()
    table = scans(asked.work)
    heads = "recipe", "scanner", "n", "always the mean age", "MAE within", "MAE across", "across - within", "shift"
    print(f"| {' | '.join(heads)} |\n" + "| --- " * len(heads) + "|")
    for name in asked.recipes:
        rows = compared(table, name, asked.work).set_index(["subset", "kind"])
        for subset in rows.index.unique("subset"):
            across, within = rows.loc[(subset, "across")], rows.loc[(subset, "within")]
            cells = [f"{across['mae_null']:.1f}", estimate(within, "mae", "mae_ci"), estimate(across, "mae", "mae_ci")]
            cells += [estimate(within, "mae_diff", "ci", "+"), estimate(within, "shift", "shift_ci", "+")]
            print(f"| {name} | {subset.removeprefix('site=')} | {across['n']} | {' | '.join(cells)} |", flush=True)


def estimate(row: pd.Series, name: str, ends: str, sign: str = "") -> str:
    """Return a number with its 95 % interval."""
    low, high = row[f"{ends}_lo"], row[f"{ends}_hi"]
    return f"{row[name]:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


if __name__ == "__main__":
    main()
