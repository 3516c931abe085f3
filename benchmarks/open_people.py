"""What the models can do on open scans of real people: networks, losses and the yardstick, out of fold, same people.

Run ``python benchmarks/open_people.py DATA --work FOLDER VERB``. DATA holds ``ds000011`` (12
adults, whole heads, PDDL) and ``ds002748-2mm`` (60 adults, 18 controls and 42 with depression, skull-stripped, CC0).

*prepare* makes one dataset of the two (links, new labels) and preprocesses it on the grids of 2, 3 and 4 mm.
*search* trains candidates in 5 folds and prints the out-of-fold error of each: the only thing the bundled model is
chosen by. *claim* trains Rank-N-Contrast and L1 with the same backbone, people and folds, L1 for as many epochs and
(two views a person) for as many images as Rank-N-Contrast, and the yardstick, for several seeds, with paired tests;
after *phantoms*, which fills another FOLDER with 72 synthetic heads, it does the same for those. *bundle* trains the
chosen candidate with another split and writes the model folder.
All are resumable. Everybody trains, whatever the diagnosis: 30 controls alone are too few; the model card says so.
One scan of ds002748, stripped with loss of cortex, fails the quality gates and is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
from scipy import stats

from brainage_bids.bids.files import read_json, read_tsv, write_json, write_text, write_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import DatasetQuery, read_dataset, scans_table
from brainage_bids.model.card import card_text, hash_participant
from brainage_bids.model.options import ModelOptions
from brainage_bids.model.predict import predict_table
from brainage_bids.model.recipe import load_recipe
from brainage_bids.model.train import train_model
from brainage_bids.phantom.cohort import GROUPS, make_cohort
from brainage_bids.pipeline.pages import is_phantom
from brainage_bids.pipeline.qc import passing
from brainage_bids.preprocess.options import PreprocessOptions
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats.accuracy import compare_errors, mean_interval

MODEL = "open-adults"
WHO = "adults of two open datasets ({controls} controls, {patients} people with depression)"
NOTICE = (
    "a starting point, not a clinical instrument. It was trained on only {n} adults of {youngest} to {oldest} years "
    "from two open datasets (OpenfMRI ds000011, OpenNeuro ds002748), among them {patients} with depression; out of "
    "fold its mean error is {error}, that of always answering the mean age {null} years; within the larger dataset "
    "alone {within}, so part of what it knows is which scanner a scan comes from. Where a page speaks of healthy "
    "people held out, for this model these are meant. Outside this age range and on other scanners expect worse. Train "
    "on your own controls where you "
    "can."
)
FOLDS, SEARCH_SEED, FINAL_SEED = 5, 1, 2
SMALL = ("network.width=16", "network.stem_pool=false", "network.stage_strides=[2, 2, 1, 1]",
         "network.bias_init=train_mean", "training.schedule=cosine", "training.lr_decay=0.1",
         "augmentation.rotation_min=0.02", "augmentation.rotation_max=0.15", "augmentation.translation_voxels=1.5",
         "augmentation.crop_min=0.9")  # fmt: skip
RNC = (*SMALL, "method=rnc", "training.optimiser=sgd", "training.lr=0.1", "training.momentum=0.9",
       "training.clip_norm=1.0", "training.weight_decay=0.0001", "training.batch_size=24", "head.views=4")  # fmt: skip
ADAM = ("method=l1", "training.optimiser=adam", "training.lr=0.001", "training.batch_size=8", "training.patience=0")
L1 = (*SMALL, *ADAM)
# the same backbone for both losses; phantoms take the network that was made for them. An epoch of Rank-N-Contrast sees
# two views of each person, one of L1 a single view: l1-twice sees as many images as rnc
CLAIM_PEOPLE = {
    "rnc": ("rnc-demo", (*RNC, "training.epochs=60")),
    "l1": ("rnc-demo", (*L1, "training.epochs=60")),
    "l1-twice": ("rnc-demo", (*L1, "training.epochs=120")),
    "ridge": ("pca-ridge", ()),
}
CLAIM_PHANTOMS = {
    "rnc": ("rnc-demo", ()),
    "l1": ("rnc-demo", ADAM),
    "l1-twice": ("rnc-demo", (*ADAM, "training.epochs=48")),
    "ridge": ("pca-ridge", ()),
}
PAIRS = (("rnc", "l1"), ("rnc", "l1-twice"), ("rnc", "ridge"), ("l1", "ridge"), ("l1-twice", "ridge"))


def prepare(data: Path, work: Path) -> None:
    """Make one dataset of the two and preprocess it."""
    bids, people = work / "bids", []
    for name, label, site in (("ds000011", "fcl", "ds000011"), ("ds002748-2mm", "dep", "ds002748")):
        table = pd.read_csv(data / name / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
        for row in table.to_dict("records"):
            old, new = row["participant_id"], row["participant_id"].replace("sub-", f"sub-{label}")
            source = data / name / old / "anat" / f"{old}_T1w.nii.gz"
            if not source.is_file():
                continue
            target = bids / new / "anat" / f"{new}_T1w.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(source.resolve())
            sex = (row.get("sex") or row.get("gender")).upper()
            people.append({"participant_id": new, "age": row["age"], "sex": sex, "group": row.get("group", "control"),
                           "site": site})  # fmt: skip
    write_tsv(bids / "participants.tsv", pd.DataFrame(people))
    described = {"Name": "ds000011 and ds002748", "BIDSVersion": "1.9.0", "DatasetType": "raw"}
    (bids / "dataset_description.json").write_text(json.dumps(described))
    volumes(work, (2, 3, 4))


def phantoms(work: Path, people: int = 72) -> None:
    """Make a cohort of synthetic controls, as many as there are real people, and preprocess it."""
    make_cohort(work / "bids", n=people, voxel_mm=4.0, groups=GROUPS[:1], progress=False)
    volumes(work, (4,))


def volumes(work: Path, grids: tuple[float, ...]) -> None:
    """Preprocess the dataset of a work folder."""
    dataset = read_dataset(DatasetQuery(bids_dir=work / "bids"))
    options = PreprocessOptions(work / "preprocess", nprocs=2, progress=False)
    outcomes = preprocess(dataset.scans, [VolumeSpec.on_grid(mm) for mm in grids], Outputs(work / "out"), options)
    print(pd.Series([outcome.status for outcome in outcomes]).value_counts().to_string())


def scans(work: Path, spec: VolumeSpec) -> pd.DataFrame:
    """Return the table that `train_model` takes; everybody with an age whose scan passed the gates may train."""
    dataset, outputs = read_dataset(DatasetQuery(bids_dir=work / "bids")), Outputs(work / "out")
    table = scans_table(dataset.scans, dataset.score_names)
    table["volume"] = [str(outputs.volume(scan, spec)) for scan in dataset.scans]
    table["trainable"] = table.age.notna() & pd.Series(passing(dataset.scans, outputs), index=table.index)
    table.attrs |= {"dataset": dataset.name, "phantom": is_phantom(dataset)}
    return table


def train(work: Path, name: str, recipe: str, overrides: tuple[str, ...], seed: int, epochs: int | None = None) -> dict:
    """Train one candidate in folds and return its out-of-fold people and errors."""
    known = load_recipe(recipe, (*overrides, f"name={name}"))
    folder = work / "models" / f"{name}_seed-{seed}"
    options = ModelOptions(device="auto", folds=FOLDS, seed=seed, epochs=epochs, workers=2, progress=False)
    train_model(scans(work, known.spec), known, folder, work / "train" / folder.name, options)
    shutil.rmtree(work / "train" / folder.name, ignore_errors=True)
    card = read_json(folder / "model.json")
    people = pd.DataFrame(card["calibration"])  # fold by fold, in the order of the split
    split = read_tsv(folder / "split.tsv").query("trainable == '1'").astype({"fold": int})
    split = split.sort_values("fold", kind="stable")
    if list(split.fold) != list(people.fold):
        raise RuntimeError(f"the out-of-fold people of {folder} are not those of its split")
    people["participant_id"] = list(split.participant_id)
    minutes = pd.read_csv(folder / "history.tsv", sep="\t").seconds.sum() / 60
    return {"name": name, "seed": seed, "people": people, "errors": (people.predicted_age - people.age).abs(),
            "null": card["validation"]["mae_null"], "minutes": minutes}  # fmt: skip


def line(found: dict) -> str:
    """Return one row of the printed table."""
    errors, people = found["errors"].to_numpy(), found["people"]
    low, high, _ = mean_interval(errors, 0)
    r = stats.pearsonr(people.age, people.predicted_age).statistic
    return (f"{found['name']:20s} seed {found['seed']}  n {len(errors)}  MAE {errors.mean():5.2f}"
            f" [{low:.2f}, {high:.2f}]  null {found['null']:.2f}  r {r:+.2f}  {found['minutes']:.1f} min")  # fmt: skip


CANDIDATES = {
    "ridge-4mm": ("pca-ridge", ()),
    "ridge-3mm": ("pca-ridge", ("volume.resolution=3",)),
    "ridge-2mm": ("pca-ridge", ("volume.resolution=2",)),
    "rnc-4mm": ("rnc-demo", (*RNC, "training.epochs=120")),
    "l1-4mm": ("rnc-demo", (*L1, "training.epochs=60")),
    "rnc-3mm": ("rnc-demo", (*RNC, "training.epochs=120", "volume.resolution=3")),
    "l1-3mm": ("rnc-demo", (*L1, "training.epochs=60", "volume.resolution=3")),
    "l1-3mm-wide": ("rnc-demo", (*L1, "training.epochs=60", "volume.resolution=3", "network.width=32")),
    "sfcn-3mm": ("rnc-demo", (*L1, "training.epochs=60", "volume.resolution=3", "network.architecture=sfcn",
                              "network.width=16", "network.dropout=0.3")),
}  # fmt: skip


def claim(work: Path, seeds: list[int], results: Path, only: list[str] | None = None) -> None:
    """Compare Rank-N-Contrast with L1 and both with the yardstick on the same people and folds.

    What a model answered for everybody is kept in ``results``, a table; what stands there is not trained again.
    """
    phantom = is_phantom(read_dataset(DatasetQuery(bids_dir=work / "bids")))
    models = CLAIM_PHANTOMS if phantom else CLAIM_PEOPLE
    models = {name: models[name] for name in only or models}
    kept = pd.read_csv(results, sep="\t") if results.is_file() else pd.DataFrame()
    for seed in seeds:
        for name, (recipe, overrides) in models.items():
            if len(kept) and ((kept.model == name) & (kept.seed == seed)).any():
                continue
            found = train(work, f"claim-{name}", recipe, overrides, seed)
            print(line(found), flush=True)
            people = found["people"][["participant_id", "age", "predicted_age"]].round(4)
            kept = pd.concat([kept, people.assign(model=name, seed=seed)])
            write_tsv(results, kept)
    kept["error"] = (kept.predicted_age - kept.age).abs()
    of_person = kept[kept.seed.isin(seeds)].pivot_table(
        index="participant_id", columns=["model", "seed"], values="error"
    )
    mean = of_person.T.groupby(level="model").mean().T  # over the seeds, so that a person counts once
    for name in models:
        low, high, _ = mean_interval(mean[name].to_numpy(), 0)
        by_seed = ", ".join(f"{value:.2f}" for value in of_person[name].mean())
        print(f"{name:8s} n {len(mean)}  MAE {mean[name].mean():.2f} [{low:.2f}, {high:.2f}]  by seed {by_seed}")
    for one, other in PAIRS:
        if not {one, other} <= set(models):
            continue
        found = compare_errors(mean[one].to_numpy(), mean[other].to_numpy())
        print(f"{one} - {other}: {found['mae_diff']:+.2f} years [{found['ci_lo']:+.2f}, {found['ci_hi']:+.2f}], "
              f"n {found['n']}, paired t p {found['p']:.3f}, Wilcoxon p {found['wilcoxon_p']:.3f}")  # fmt: skip


def bundle(data: Path, work: Path, name: str, into: Path) -> None:
    """Train the chosen candidate on another split and write the folder that comes with the package.

    People are known there as ``<Name of the dataset>/<participant>``, so that they are told apart and found again.
    """
    recipe, overrides = CANDIDATES[name]
    found = train(work, MODEL, recipe, overrides, FINAL_SEED)
    print(line(found))
    made = work / "models" / f"{MODEL}_seed-{FINAL_SEED}"
    titles = {label: read_json(data / folder / "dataset_description.json")["Name"]
              for label, folder in (("fcl", "ds000011"), ("dep", "ds002748-2mm"))}  # fmt: skip

    def known(person: str) -> str:
        label = person[4:7]
        return f"{titles[label]}/sub-{person[7:]}"

    card, split = read_json(made / "model.json"), read_tsv(made / "split.tsv")
    names = {hash_participant(person, card["salt"]): person for person in split.participant_id}
    for member in card["members"]:
        for field in ("training_participants", "validation_participants"):
            member[field] = sorted(hash_participant(known(names[one]), card["salt"]) for one in member[field])
    low, high, _ = mean_interval(found["errors"].to_numpy(), 0)
    error = f"{found['errors'].mean():.1f} years (95 % CI {low:.1f} to {high:.1f})"
    known_recipe = load_recipe(recipe, overrides)
    table = scans(work, known_recipe.spec).query("trainable").reset_index(drop=True)
    table["predicted"] = predict_table(made, table, ModelOptions(device="cpu"), saliency=False).predicted_age.to_numpy()
    patients = int((table.group == "depr").sum())
    larger = table[table.site == "ds002748"]
    r = stats.pearsonr(larger.age, larger.predicted).statistic
    mae, null = ((larger.age - other).abs().mean() for other in (larger.predicted, larger.age.mean()))
    said = {"n": len(found["errors"]), "patients": patients, "youngest": f"{table.age.min():.0f}",
            "oldest": f"{table.age.max():.0f}", "error": error, "null": f"{found['null']:.1f}",
            "within": f"{mae:.1f} against {null:.1f} years (r = {r:.2f}, n = {len(larger)})"}  # fmt: skip
    who = WHO.format(controls=len(table) - patients, patients=patients)
    card |= {"dataset": None, "who": who, "notice": NOTICE.format(**said)}
    into.mkdir(parents=True, exist_ok=True)
    write_tsv(into / "split.tsv", split.assign(participant_id=split.participant_id.map(known)))
    write_text(into / "MODEL_CARD.md", card_text(card))
    for file in ("weights.safetensors", "history.tsv"):
        shutil.copy(made / file, into / file)
    write_json(into / "model.json", card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=["prepare", "search", "claim", "bundle", "phantoms"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="candidates, or models of *claim*")
    parser.add_argument("--into", type=Path, default=Path("brainage_bids/bundled") / MODEL, help="folder of *bundle*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--results", type=Path, help="table of *claim*; one with seeds in it is added to")
    asked = parser.parse_args()
    if asked.what == "prepare":
        prepare(asked.data, asked.work)
    elif asked.what == "phantoms":
        phantoms(asked.work)
    elif asked.what == "search":
        for name in asked.only or CANDIDATES:
            print(line(train(asked.work, name, *CANDIDATES[name], SEARCH_SEED)), flush=True)
    elif asked.what == "claim":
        claim(asked.work, asked.seeds, asked.results or asked.work / "claim.tsv", asked.only)
    else:
        (name,) = asked.only
        bundle(asked.data, asked.work, name, asked.into)


if __name__ == "__main__":
    main()
