"""Make the model that comes with the package: the chosen candidate of ``open_people.py``, with a split of its own.

Run ``python benchmarks/open_model.py DATA --work FOLDER --candidate NAME`` after ``open_people.py prepare``. Nothing
was chosen by its split (seed 2). People are known in the model folder as ``<Name of the dataset>/<participant>``, so
that they are told apart and found again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from open_people import CANDIDATES, OUT_OF_FOLD, Training, line, scans, train
from scipy import stats

from brainage_bids.bids.files import read_json, read_tsv, write_json, write_text, write_tsv
from brainage_bids.model.artifact import hash_participant
from brainage_bids.model.card import card_text
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import predict_table
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.stats.accuracy import mean_interval

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
FINAL_SEED = 2


def bundle(data: Path, work: Path, candidate: str, into: Path) -> None:
    """Train the chosen candidate and write the folder that comes with the package."""
    recipe, overrides = CANDIDATES[candidate]
    job = Training(work, MODEL, recipe, overrides, FINAL_SEED)
    found = train(job)
    print(line(found))
    found, made = found[found.people == OUT_OF_FOLD], job.folder
    titles = {label: read_json(data / folder / "dataset_description.json")["Name"]
              for label, folder in (("fcl", "ds000011"), ("dep", "ds002748-2mm"))}  # fmt: skip

    def known(person: str) -> str:
        return f"{titles[person[4:7]]}/sub-{person[7:]}"

    card, split = read_json(made / "model.json"), read_tsv(made / "split.tsv")
    names = {hash_participant(person, card["salt"]): person for person in split.participant_id}
    for fold in card["members"]:
        for field in ("training_participants", "validation_participants"):
            fold[field] = sorted(hash_participant(known(names[one]), card["salt"]) for one in fold[field])
    errors = (found.predicted_age - found.age).abs().to_numpy()
    low, high, _ = mean_interval(errors, 0)
    error = f"{errors.mean():.1f} years (95 % CI {low:.1f} to {high:.1f})"
    table = scans(work, load_recipe(recipe, overrides).spec)
    table["predicted"] = predict_table(made, table, ModelOptions(device="cpu"), saliency=False).predicted_age.to_numpy()
    patients = int((table.group == "depr").sum())
    larger = table[table.site == "ds002748"]
    r = stats.pearsonr(larger.age, larger.predicted).statistic
    mae, null = ((larger.age - other).abs().mean() for other in (larger.predicted, larger.age.mean()))
    said = {"n": len(errors), "patients": patients, "youngest": f"{table.age.min():.0f}",
            "oldest": f"{table.age.max():.0f}", "error": error, "null": f"{card['validation']['mae_null']:.1f}",
            "within": f"{mae:.1f} against {null:.1f} years of always its mean age (r = {r:.2f}, n = {len(larger)})",
            }  # fmt: skip
    who = WHO.format(controls=len(table) - patients, patients=patients)
    card |= {"dataset": None, "who": who, "notice": NOTICE.format(**said)}
    into.mkdir(parents=True, exist_ok=True)
    write_tsv(into / "split.tsv", split.assign(participant_id=split.participant_id.map(known)))
    write_text(into / "MODEL_CARD.md", card_text(card))
    for file in ("weights.safetensors", "history.tsv"):
        shutil.copy(made / file, into / file)
    write_json(into / "model.json", card)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--candidate", choices=list(CANDIDATES), default="ridge-4mm-blind")
    parser.add_argument("--into", type=Path, default=Path("brainage_bids/bundled") / MODEL)
    asked = parser.parse_args()
    bundle(asked.data, asked.work, asked.candidate, asked.into)
