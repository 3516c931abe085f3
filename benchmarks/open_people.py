"""What the models can do on open scans of real people: networks, losses and the yardstick, out of fold, same people.

Run ``python benchmarks/open_people.py VERB --work FOLDER``.

*prepare* DATA makes one dataset of ``ds000011`` (12 adults, whole heads, PDDL) and ``ds002748-2mm`` (60 adults, 18
controls and 42 with depression, skull-stripped, CC0), preprocesses it on the grids of 2, 3 and 4 mm, and writes tables
of scans; the same for ``openms`` (5 adults with multiple sclerosis, another scanner, slices of 3 mm, CC-BY). The other
verbs need only these and the volumes. *phantoms* does the same with 72 synthetic heads at 4 mm. *search* trains
candidates in 5 folds for several seeds, *across* on the larger dataset alone to predict the other: what the bundled
model is chosen by. Nobody of ``openms`` ever trains; every model answers for them. *claim* trains Rank-N-Contrast and
L1 with the same backbone, people and folds, L1 for as many epochs and (two views a person) for as many images as
Rank-N-Contrast, and the yardstick, for several seeds, with paired tests, on people or phantoms. All keep every
prediction in a table (``--results``) and train only what it lacks. ``open_model.py`` makes the model that comes with
the package.

Everybody trains, whatever the diagnosis: 30 controls alone are too few; the model card says so. One scan of ds002748,
stripped with loss of cortex, fails the quality gates and is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.bids.files import read_json, read_tsv, write_json, write_tsv
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.train import train_model
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats.accuracy import compare_errors, mean_interval

FOLDS = 5
LARGER = "ds002748"
YARDSTICK = "ridge-4mm-blind"
OUT_OF_FOLD, STRANGERS = "out of fold", "openms"
COLUMNS = ["participant_id", "session_id", "prefix", "volume", "age", "sex", "group", "site", "family", "trainable"]
POWERS = (0.5, 0.7, 1.0, 1.4, 2.0)
ANSWER = ["people", "participant_id", "age", "predicted_age", "train_mean_age"]
SEARCH_SEEDS = [1, 3, 4, 5]  # 2 is kept for the final model
# what `rnc-demo` was when the numbers of docs/people.md were measured
AS_BEFORE = ("training.length=epochs", "head.method=sgd", "head.views=4", "augmentation.gamma_max=1.0")
SMALL = (*AS_BEFORE, "network.width=16", "network.stem_pool=false", "network.stage_strides=[2, 2, 1, 1]",
         "network.bias_init=train_mean", "training.schedule=cosine", "training.lr_decay=0.1",
         "augmentation.rotation_min=0.02", "augmentation.rotation_max=0.15", "augmentation.translation_voxels=1.5",
         "augmentation.crop_min=0.9")  # fmt: skip
RNC = (*SMALL, "method=rnc", "training.optimiser=sgd", "training.lr=0.1", "training.momentum=0.9",
       "training.clip_norm=1.0", "training.weight_decay=0.0001", "training.batch_size=24", "head.views=4")  # fmt: skip
ADAM = ("method=l1", "training.optimiser=adam", "training.lr=0.001", "training.batch_size=8", "training.patience=0")
L1 = (*SMALL, *ADAM)
SEES_CONTRAST = "ridge.ignore_contrast=false"
# the same backbone for both losses; phantoms take the network that was made for them. An epoch of Rank-N-Contrast sees
# two views of each person, one of L1 a single view: l1-twice sees as many images as rnc
CLAIM_PEOPLE = {
    "rnc": ("rnc-demo", (*RNC, "training.epochs=60")),
    "l1": ("rnc-demo", (*L1, "training.epochs=60")),
    "l1-twice": ("rnc-demo", (*L1, "training.epochs=120")),
    "ridge": ("pca-ridge", (SEES_CONTRAST,)),
}
CLAIM_PHANTOMS = {
    "rnc": ("rnc-demo", AS_BEFORE),
    "l1": ("rnc-demo", (*AS_BEFORE, *ADAM)),
    "l1-twice": ("rnc-demo", (*AS_BEFORE, *ADAM, "training.epochs=48")),
    "ridge": ("pca-ridge", (SEES_CONTRAST,)),
}
PAIRS = (("rnc", "l1"), ("rnc", "l1-twice"), ("rnc", "ridge"), ("l1", "ridge"), ("l1-twice", "ridge"))


def prepare(data: Path, work: Path, grids: tuple[float, ...]) -> None:
    """Make one dataset of the two and preprocess it, and the strangers."""
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
    volumes(work, work / "bids", "out", "scans", grids)
    volumes(work, data / STRANGERS, STRANGERS, STRANGERS, grids)


def phantoms(work: Path, people: int = 72) -> None:
    """Make a cohort of synthetic controls, as many as there are real people, and preprocess it."""
    from brainage_bids.phantom.cohort import GROUPS, make_cohort

    make_cohort(work / "bids", n=people, voxel_mm=4.0, groups=GROUPS[:1], progress=False)
    volumes(work, work / "bids", "out", "scans", (4,))


def volumes(work: Path, bids: Path, out: str, table_name: str, grids: tuple[float, ...]) -> None:
    """Preprocess a dataset into ``work/out`` and write the table of its scans for each grid.

    Everybody with an age whose scan passed the gates may train.
    """
    from brainage_bids.app.page_values import is_phantom
    from brainage_bids.app.quality_table import passing
    from brainage_bids.bids.outputs import Outputs
    from brainage_bids.bids.read import DatasetQuery, read_dataset, scans_table
    from brainage_bids.bids.scan_records import ScanRecords
    from brainage_bids.preprocess.preprocess_options import PreprocessOptions
    from brainage_bids.preprocess.workflow import preprocess

    dataset, outputs = read_dataset(DatasetQuery(bids_dir=bids)), Outputs(work / out)
    options = PreprocessOptions(work / "preprocess", nprocs=2, progress=False)
    outcomes = preprocess(dataset.scans, [VolumeSpec.on_grid(mm) for mm in grids], outputs, options)
    print(pd.Series([outcome.status for outcome in outcomes]).value_counts().to_string())
    table = scans_table(dataset.scans, dataset.score_names)
    table["trainable"] = table.age.notna() & pd.Series(passing(dataset.scans, ScanRecords(outputs)), index=table.index)
    for mm in grids:
        paths = [outputs.volume(scan, VolumeSpec.on_grid(mm)).relative_to(work) for scan in dataset.scans]
        write_tsv(work / f"{table_name}-{mm:g}mm.tsv", table.assign(volume=[str(path) for path in paths])[COLUMNS])
    write_json(work / f"{table_name}.json", {"dataset": dataset.name, "phantom": is_phantom(dataset)})


def scans(work: Path, spec: VolumeSpec, table_name: str = "scans") -> pd.DataFrame:
    """Return the table that `train_model` takes, of those who may train."""
    table = read_tsv(work / f"{table_name}-{spec.resolution:g}mm.tsv").replace("n/a", None).query("trainable == '1'")
    table = table.assign(volume=[str(work / path) for path in table.volume], trainable=True).astype({"age": float})
    table.attrs |= read_json(work / f"{table_name}.json")
    return table.reset_index(drop=True)


@dataclass(frozen=True)
class Training:
    """One training: candidate, seed, whether on the larger dataset alone, precision and how many processes read."""

    work: Path
    name: str
    recipe: str
    overrides: tuple[str, ...]
    seed: int
    larger_alone: bool = False
    precision: str = "auto"
    workers: int = 2

    @property
    def folder(self) -> Path:
        """Of the model."""
        return self.work / "models" / f"{self.name}{'-across' if self.larger_alone else ''}_seed-{self.seed}"


def train(job: Training) -> pd.DataFrame:
    """Train one model in folds; return its answers: of everybody out of fold, and (mean of the folds) of the others.

    Columns are ``people`` (`OUT_OF_FOLD` or a dataset), ``participant_id age predicted_age train_mean_age model seed``,
    and the ``device`` that trained for so many ``minutes``.
    """
    known = load_recipe(job.recipe, (*job.overrides, f"name={job.name}"))
    table = scans(job.work, known.spec)
    here = table[table.site == LARGER] if job.larger_alone else table
    here.attrs |= table.attrs
    options = ModelOptions(precision=job.precision, folds=FOLDS, seed=job.seed, workers=job.workers, progress=False)
    train_model(here, known, job.folder, job.work / "train" / job.folder.name, options)
    shutil.rmtree(job.work / "train" / job.folder.name, ignore_errors=True)
    found = [out_of_fold(job.folder)]
    others = {"ds000011": table[table.site != LARGER]} if job.larger_alone else {}
    if (job.work / f"{STRANGERS}.json").is_file():
        # of two sessions the last: the first of sub-ms01 lacks the top of the brain
        others[STRANGERS] = scans(job.work, known.spec, STRANGERS).drop_duplicates("participant_id", keep="last")
    for people, other in others.items():
        other = other.reset_index(drop=True)
        predicted = predict_table(job.folder, other, ModelOptions(workers=job.workers), saliency=False).predicted_age
        found.append(other[["participant_id", "age"]].assign(
            people=people, predicted_age=predicted.round(4), train_mean_age=round(here.age.mean(), 4)))  # fmt: skip
    minutes = pd.read_csv(job.folder / "history.tsv", sep="\t").seconds.sum() / 60
    device = read_json(job.folder / "model.json")["effective_settings"]["device"]
    return pd.concat(found)[ANSWER].assign(model=job.name, seed=job.seed, device=device, minutes=round(minutes, 2))


def out_of_fold(folder: Path) -> pd.DataFrame:
    """Return what the folds of a model said of the people they never saw."""
    card = read_json(folder / "model.json")
    people = pd.DataFrame(card["calibration"])  # fold by fold, in the order of the split
    people["train_mean_age"] = people.fold.map({fold["fold"]: fold["train_mean_age"] for fold in card["members"]})
    split = read_tsv(folder / "split.tsv").query("trainable == '1'").astype({"fold": int})
    split = split.sort_values("fold", kind="stable")
    if list(split.fold) != list(people.fold):
        raise RuntimeError(f"the out-of-fold people of {folder} are not those of its split")
    people = people[["age", "predicted_age", "train_mean_age"]].round(4)
    people.insert(0, "participant_id", list(split.participant_id))
    return people.assign(people=OUT_OF_FOLD)


def known_or_trained(models: dict[str, tuple[str, tuple[str, ...]]], asked: argparse.Namespace) -> pd.DataFrame:
    """Return what all models say of everybody for all seeds; what the table lacks is trained and added to it."""
    table = asked.results
    kept = pd.read_csv(table, sep="\t") if table.is_file() else pd.DataFrame(columns=["model", "seed"])
    there = set(zip(kept.model, kept.seed, strict=True))
    jobs = [Training(asked.work, name, *models[name], seed, asked.what == "across", asked.precision)
            for seed in asked.seeds for name in models if (name, seed) not in there]  # fmt: skip
    for found in _trained(jobs, asked.processes):
        print(line(found), flush=True)
        kept = pd.concat([kept, found]) if len(kept) else found
        write_tsv(table, kept.sort_values(["seed", "model"], kind="stable"))
    if kept.empty:
        raise SystemExit("nothing was trained")
    return kept[kept.seed.isin(asked.seeds) & kept.model.isin(models)]


def _trained(jobs: list[Training], processes: int) -> Iterator[pd.DataFrame]:
    if processes < 2:
        yield from map(train, jobs if processes else [])
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(train, replace(job, workers=1)): job for job in jobs}
        for done in as_completed(running):
            try:
                yield done.result()
            except Exception as error:  # the others go on
                print(f"{running[done].folder.name}: {type(error).__name__}: {error}", flush=True)


def line(found: pd.DataFrame) -> str:
    """Return one row of the printed table."""
    said = f"{found.model.iloc[0]:20s} seed {found.seed.iloc[0]}  {found.minutes.iloc[0]:.1f} min"
    for name, people in found.groupby("people", sort=False):
        errors = (people.predicted_age - people.age).to_numpy()
        low, high, _ = mean_interval(np.abs(errors), 0)
        null = (people.train_mean_age - people.age).abs().mean()
        r = stats.pearsonr(people.age, people.predicted_age).statistic
        said += (f" | {name}: n {len(errors)}  MAE {np.abs(errors).mean():.2f} [{low:.2f}, {high:.2f}]"
                 f"  mean gap {errors.mean():+.1f}  null {null:.2f}  r {r:+.2f}")  # fmt: skip
    return said


def summary(kept: pd.DataFrame) -> pd.DataFrame:
    """Print the error of each model, a person's error being the mean over the seeds; return ``(person, model)``."""
    kept = kept.assign(error=(kept.predicted_age - kept.age).abs(), null=(kept.train_mean_age - kept.age).abs())
    table = kept.pivot_table(index="participant_id", columns=["model", "seed"], values="error")
    print("| model | n | seeds | MAE, years | by seed | r, by seed |\n" + "| --- " * 6 + "|")
    means = {}
    for name, rows in kept.groupby("model"):
        means[name] = table[name].mean(axis=1)
        low, high, _ = mean_interval(means[name].to_numpy(), 0)
        by_seed = ", ".join(f"{value:.2f}" for value in table[name].mean())
        r = ", ".join(f"{np.corrcoef(part.age, part.predicted_age)[0, 1]:.2f}" for _, part in rows.groupby("seed"))
        said = f"{means[name].mean():.2f} [{low:.2f}, {high:.2f}]"
        print(f"| {name} | {len(means[name])} | {table[name].shape[1]} | {said} | {by_seed} | {r} |")
    print(f"always the mean age of those who train: {kept.null.mean():.2f}")
    return pd.DataFrame(means)


GRID_3MM, GRID_2MM = "volume.resolution=3", "volume.resolution=2"
LONG, TWICE = "training.epochs=120", "training.epochs=240"
TEN = "network.depth=10"
GAMMA, GAMMA_3 = "augmentation.gamma_max=2", "augmentation.gamma_max=3"
STRONG = ("augmentation.rotation_min=0.1", "augmentation.rotation_max=0.5", "augmentation.translation_voxels=3",
          "augmentation.crop_min=0.7")  # fmt: skip
NARROW = ("network.width=8", "volume.crop=brain", "head.method=ridge")
CANDIDATES = {
    "ridge-4mm": ("pca-ridge", (SEES_CONTRAST,)),
    "ridge-3mm": ("pca-ridge", (SEES_CONTRAST, GRID_3MM)),
    "ridge-2mm": ("pca-ridge", (SEES_CONTRAST, GRID_2MM)),
    "ridge-4mm-blind": ("pca-ridge", ()),
    "ridge-3mm-blind": ("pca-ridge", (GRID_3MM,)),
    "rnc-4mm": ("rnc-demo", (*RNC, LONG)),
    "rnc-4mm-15": ("rnc-demo", (*RNC, LONG, "network.width=15")),  # made once to be bundled
    "rnc-4mm-narrow": ("rnc-demo", (*RNC, LONG, "network.width=8")),
    "rnc-4mm-long": ("rnc-demo", (*RNC, TWICE)),
    "rnc-4mm-noaug": ("rnc-demo", (*RNC, LONG, "augmentation.enabled=false")),
    "rnc-4mm-strong": ("rnc-demo", (*RNC, LONG, *STRONG)),
    "rnc-3mm": ("rnc-demo", (*RNC, LONG, GRID_3MM)),
    "rnc10-4mm": ("rnc-demo", (*RNC, LONG, TEN)),
    "rnc-4mm-gamma": ("rnc-demo", (*RNC, LONG, GAMMA)),
    "rnc-4mm-gamma3": ("rnc-demo", (*RNC, LONG, GAMMA_3)),
    "rnc10-4mm-gamma": ("rnc-demo", (*RNC, LONG, TEN, GAMMA)),
    "rnc-3mm-gamma": ("rnc-demo", (*RNC, LONG, GRID_3MM, GAMMA)),
    "rnc10-2mm-gamma": ("rnc-demo", (*RNC, LONG, TEN, GRID_2MM, "network.stem_stride=4", GAMMA)),  # cells of 32 mm, too
    # small enough that several fit into the package, in the box of the brain
    "rnc10-narrow": ("rnc-demo", (*RNC, LONG, TEN, GAMMA, *NARROW)),
    "l1-4mm-long": ("rnc-demo", (*L1, TWICE)),  # as many images as rnc-4mm
}
# means of the predictions of several models
TOGETHER = {
    "ridge and rnc": ("ridge-4mm", "rnc-4mm"),
    "ridge-blind and rnc10-gamma": ("ridge-4mm-blind", "rnc10-4mm-gamma"),
    "ridge-blind and rnc10-narrow": ("ridge-4mm-blind", "rnc10-narrow"),
}


def together(kept: pd.DataFrame) -> Iterable[pd.DataFrame]:
    """Yield the mean predictions of the models of `TOGETHER`, for the seeds that all of them have."""
    for name, models in TOGETHER.items():
        rows = kept[kept.model.isin(models)]
        complete = rows.groupby("seed").model.nunique() == len(models)
        rows = rows[rows.seed.isin(complete.index[complete])]
        if len(rows):
            rows = rows[[*ANSWER, "seed"]]
            yield rows.groupby(["people", "participant_id", "age", "seed"], as_index=False).mean().assign(model=name)


def search(asked: argparse.Namespace) -> None:
    """Train the candidates and print the errors of each, and of means of several."""
    kept = known_or_trained({name: CANDIDATES[name] for name in asked.only or CANDIDATES}, asked)
    for people, rows in pd.concat([kept, *together(kept)]).groupby("people"):
        print(f"\n{people}")
        summary(rows)
        differences(rows)


def differences(kept: pd.DataFrame) -> None:
    """Print what models gain on each other in the seeds of both: each as a single model, and as mean answer."""
    names = [name for name in kept.model.unique() if name != YARDSTICK]
    for first, second in [(name, YARDSTICK) for name in names] + [("rnc-4mm", "l1-4mm-long")]:
        pair = kept[kept.model.isin([first, second])].assign(error=lambda rows: (rows.predicted_age - rows.age).abs())
        pair = pair[pair.groupby("seed").model.transform("nunique") == 2]
        if pair.empty:
            continue
        means = pair.groupby(["model", "participant_id"])[["age", "predicted_age", "error"]].mean()
        means["of the mean answer"] = (means.predicted_age - means.age).abs()
        for kind in ("error", "of the mean answer"):
            one, other = (means.loc[model, kind].sort_index().to_numpy() for model in (first, second))
            print(f"{first} - {second}, {pair.seed.nunique()} seeds, {kind}: {one.mean():.2f} - {other.mean():.2f}: "
                  f"{paired(one, other)}")  # fmt: skip


def paired(one: np.ndarray, other: np.ndarray) -> str:
    """Return the difference of errors of the same people in words."""
    found = compare_errors(one, other)
    return (f"{found['mae_diff']:+.2f} years [{found['ci_lo']:+.2f}, {found['ci_hi']:+.2f}], n {found['n']}, paired t "
            f"p {found['p']:.3f}, Wilcoxon p {found['wilcoxon_p']:.3f}")  # fmt: skip


def contrast(asked: argparse.Namespace) -> None:
    """Ask the models of *search* that are in the work folder about scans of another contrast; keep and print it."""
    jobs = [Training(asked.work, name, *CANDIDATES[name], seed) for name in asked.only or CANDIDATES
            for seed in asked.seeds]  # fmt: skip
    found = pd.concat([answers_by_power(job) for job in jobs if (job.folder / "model.json").is_file()])
    write_tsv(asked.results, found)
    gaps = found.assign(gap=found.predicted_age - found.age, seeds=found.groupby("model").seed.transform("nunique"))
    print("| model | seeds | " + " | ".join(f"power {power:g}" for power in POWERS) + " |\n" + "| --- " * 7 + "|")
    for (name, seeds), rows in gaps.groupby(["model", "seeds"], sort=False):
        cells = [f"{gap.abs().mean():.1f} ({gap.mean():+.1f})" for _, gap in rows.groupby("power").gap]
        print(f"| {name} | {seeds} | {' | '.join(cells)} |")


def answers_by_power(job: Training) -> pd.DataFrame:
    """Return what is said out of fold of everybody, the intensities raised to each power."""
    model = load_model(job.folder, "cpu")
    table = scans(job.work, model.spec).set_index("participant_id")
    split, rows = read_tsv(job.folder / "split.tsv").query("trainable == '1'"), []
    for person, fold in zip(split.participant_id, split.fold, strict=True):
        volume, network = load_volume(table.volume[person], model.spec), model.networks[f"fold-{fold}"]
        rows += [(person, table.age[person], power, round(network.predict(volume**power), 4)) for power in POWERS]
    found = pd.DataFrame(rows, columns=["participant_id", "age", "power", "predicted_age"])
    return found.assign(model=job.name, seed=job.seed)


def claim(asked: argparse.Namespace) -> None:
    """Compare Rank-N-Contrast with L1 and both with the yardstick on the same people and folds."""
    models = CLAIM_PHANTOMS if read_json(asked.work / "scans.json")["phantom"] else CLAIM_PEOPLE
    models = {name: models[name] for name in asked.only or models}
    kept = known_or_trained(models, asked).query("people == @OUT_OF_FOLD")
    if kept.groupby(["seed", "participant_id"]).train_mean_age.nunique().max() > 1:
        raise SystemExit(f"{asked.results}: the models were not trained on the same people; train all of them anew")
    errors = summary(kept)
    for one, other in PAIRS:
        if not {one, other} <= set(models):
            continue
        print(f"{one} - {other}: {paired(errors[one].to_numpy(), errors[other].to_numpy())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "phantoms", "search", "across", "contrast", "claim"])
    parser.add_argument("data", type=Path, nargs="?", help="for *prepare*")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--grids", type=float, nargs="*", default=[2, 3, 4], help="for *prepare*, mm")
    parser.add_argument("--only", nargs="*", help="candidates, or models of *claim*")
    parser.add_argument("--seeds", type=int, nargs="*", help=f"default 1 to 5 for *claim*, else {SEARCH_SEEDS}")
    parser.add_argument("--results", type=Path, help="table of predictions; what stands in it is not trained again")
    parser.add_argument("--processes", type=int, default=1, help="trainings at the same time; 0: print what there is")
    parser.add_argument("--precision", default="auto", help="bfloat16 is faster on processors with AMX only")
    asked = parser.parse_args()
    asked.results = asked.results or asked.work / f"{asked.what}.tsv"
    asked.seeds = asked.seeds or ([1, 2, 3, 4, 5] if asked.what == "claim" else SEARCH_SEEDS)
    if asked.what == "prepare":
        if asked.data is None:
            parser.error("prepare needs DATA")
        prepare(asked.data, asked.work, tuple(asked.grids))
    elif asked.what == "phantoms":
        phantoms(asked.work)
    elif asked.what == "contrast":
        contrast(asked)
    elif asked.what == "claim":
        claim(asked)
    else:
        search(asked)


if __name__ == "__main__":
    main()
