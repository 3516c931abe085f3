"""What a model folder says about its model: ``model.json`` for programs, ``MODEL_CARD.md`` for readers.

People appear as salted hashes of their labels, which are pseudonymous and can be guessed: the salt stands beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from brainage_bids import __version__
from brainage_bids.model.artifact import FORMAT, hash_participant
from brainage_bids.model.contrast import known_medians, known_range
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.settings import EffectiveSettings
from brainage_bids.schema import VolumeSpec

_VALIDATION = {True: "validation people, who also chose the best epoch", False: "validation people"}
CALIBRATION_KEYS = ("age", "predicted_age", "fold", "predicted_age_sd")  # the last for models of several trainings
UNIQUE_DIGITS, UNIQUE_LENGTH = 4, 6
EVERYDAY = re.compile(  # words that number people: control07 is in many datasets
    r"(sub|subj|subject|con|ctrl|ctl|control|hc|nc|healthy|norm|normal|pat|patient|case|part|participant|person|pilot|"
    r"test|vol|volunteer|young|old|adult|child)s?$"
)


def tells_people_apart(participant_id: str) -> bool:
    """Say whether an id can be unique: most datasets have a ``sub-01`` or ``sub-control07``.

    It can with a number of four digits (``sub-3102`` of PPMI), or as a longer code (``sub-ADNI011S0003``) that is no
    everyday word with a small number.
    """
    label = re.sub(r"^sub-0*", "", participant_id)
    digits = re.sub(r"\D", "", re.sub(r"(?<!\d)0+", "", label))
    word = re.sub(r"[\d_-]", "", label).lower()
    return len(digits) >= UNIQUE_DIGITS or (len(label) >= UNIQUE_LENGTH and not EVERYDAY.match(word))


def same_person(participant_id: str, here: str | None, there: str | None) -> bool:
    """Say whether an id in two datasets means one person.

    It does within one dataset, and where a dataset is not named; across two named datasets only an id long enough to be
    unique does.
    """
    return here is None or there is None or here == there or tells_people_apart(participant_id)


def seen_by_encoder(origin: Mapping[str, Any] | None, participant_id: str, dataset: str | None) -> bool:
    """Say whether the encoder that a training started from has seen a person (``origin`` of ``model.json``)."""
    for seen in (origin or {}).get("seen", ()):
        names = [f"{dataset}/{participant_id}"]
        if same_person(participant_id, dataset, seen["dataset"]):
            names.append(participant_id)
        if any(hash_participant(name, seen["salt"]) in seen["participants"] for name in names):
            return True
    return False


def describe_people(scans: pd.DataFrame) -> dict[str, Any]:
    """Summarise scans in their order: ``n`` people, ages in years, sex and group counts, contrast of the volumes.

    Mean and sample SD are those of the first scans; ranges are those of all, because every scan trains.
    """
    people = scans.groupby("participant_id", as_index=False).first()
    ages = people.age.astype(float)
    return {
        "n": len(people),
        "age_mean": ages.mean(),
        "age_sd": ages.std(ddof=1) if len(people) > 1 else None,
        "age_min": float(scans.age.min()),
        "age_max": float(scans.age.max()),
        "intensity": known_medians(scans.median_intensity),
        "sex": {str(key): int(n) for key, n in people.sex.fillna("unknown").value_counts().sort_index().items()},
        "groups": {str(key): int(n) for key, n in people.group.fillna("unknown").value_counts().sort_index().items()},
    }


def accuracy_line(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return n, MAE and the MAE of always predicting the mean training age (years), or None without rows."""
    table = pd.DataFrame(list(rows))
    if table.empty:
        return None
    return {
        "n": len(table),
        "mae": float(np.abs(table.predicted_age - table.age).mean()),
        "mae_null": float(np.abs(table.train_mean_age - table.age).mean()),
    }


def software_versions() -> dict[str, str]:
    """Return the versions that shape the numbers."""
    others = {name: version(name) for name in ("torch", "numpy", "nibabel", "safetensors")}
    return {"brainage-bids": __version__, **others}


def model_values(
    recipe: Recipe, settings: EffectiveSettings, scans: pd.DataFrame, folds: list[dict], held_out: dict, **more: Any
) -> dict[str, Any]:
    """Return the content of ``model.json``.

    Parameters
    ----------
    recipe, settings
        As asked for, and as used.
    scans
        Of the people who trained in any fold, the first scan of a person first: ``participant_id age sex group
        median_intensity``.
    folds
        Name, number, mean training age and hashed people of each; ``left_out`` where folds are places.
    held_out
        Rows ``age predicted_age fold train_mean_age`` of the healthy people that no training saw, by part:
        ``calibration`` and, without folds, ``test``.
    more
        Further fields (``salt phantom dataset fingerprint architecture warnings origin``).
    """
    calibration = held_out["calibration"]
    return {
        "format": FORMAT,
        "name": recipe.name,
        "description": recipe.description,
        "volume_spec": recipe.spec.to_dict(),
        "recipe": recipe.to_dict(),
        "effective_settings": settings.to_dict(),
        "training": describe_people(scans),
        "seed": settings.seed,
        "software": software_versions(),
        "members": folds,
        "validation": {
            "kind": _kind_of_validation(recipe, settings),
            **(accuracy_line(calibration) or {}),
        },
        "test": accuracy_line(held_out.get("test", [])),
        "calibration": [{key: row[key] for key in CALIBRATION_KEYS if key in row} for row in calibration],
        **more,
    }


def chooses_by_validation(recipe: Mapping[str, Any]) -> bool:
    """Say whether validation people choose anything in a training by this recipe (as plain values)."""
    if recipe["method"] == "rnc" and recipe["head"].get("method") == "ridge":
        return recipe["training"]["keep"] == "best_probe"
    return recipe["method"] != "ridge"


def _kind_of_validation(recipe: Recipe, settings: EffectiveSettings) -> str:
    """Return who the held-out people are, in words."""
    if isinstance(settings.folds, str):
        return f"{settings.folds} left out"
    return "out of fold" if settings.folds else _VALIDATION[chooses_by_validation(recipe.to_dict())]


def backbone(recipe: Recipe) -> str:
    """Return in words what kind of model a recipe trains."""
    if recipe.method == "ridge":
        return "linear map of the voxels"
    network = "SFCN" if recipe.network.architecture == "sfcn" else f"3D ResNet-{recipe.network.depth}"
    return f"{network} and linear map of the voxels" if recipe.beside else network


def card_text(values: Mapping[str, Any]) -> str:
    """Return ``MODEL_CARD.md`` for a clinical reader."""
    people, spec, recipe = values["training"], values["volume_spec"], values["recipe"]
    effective = values["effective_settings"]
    phantom = (
        "> **PHANTOM MODEL.** It was trained on synthetic images, not on people. Its brain ages mean nothing for a "
        "patient; it only shows that the software works.\n\n"
        if values.get("phantom")
        else ""
    )
    counts = "; ".join(
        f"{title} {', '.join(f'{key} {n}' for key, n in people[field].items())}"
        for title, field in (("sex:", "sex"), ("groups:", "groups"))
    )
    sd = "n/a" if people["age_sd"] is None else f"{people['age_sd']:.1f}"
    notes = "".join(f"- {note}\n" for note in effective["notes"])
    notes += _origin_text(values)
    notes += "".join(f"- **Warning.** {warning}\n" for warning in values.get("warnings", []))
    architecture = values["architecture"]
    cell = architecture["total_stride"] * spec["resolution"]
    shape = " x ".join(map(str, spec["shape"]))
    volume = f"{shape} voxels of {spec['resolution']:g} mm, intensity rule `{spec['intensity']}`"
    if spec.get("box"):
        box = " x ".join(map(str, VolumeSpec.from_dict(spec).cropped.shape))
        volume += f"; the network reads the box of {box} voxels around the template's brain"
    width = "" if recipe["method"] == "ridge" else f", width {recipe['network']['width']}"
    network = f"{architecture['backbone']}{width}"
    used = f"{effective['epochs']} epochs, head {effective['head_epochs']} epochs, seed {values['seed']}"
    span = f"{people['age_min']:.0f}-{people['age_max']:.0f} years"
    ages = f"{people['age_min']:.1f} to {people['age_max']:.1f} years (mean {people['age_mean']:.1f}, SD {sd})"
    notice = f"> **{values['name']}** is {values['notice']}\n\n" if values.get("notice") else ""
    contrast = _contrast_text(values)
    return f"""# {values["name"]}

{phantom}{notice}{values["description"]}. It estimates a person's age from a T1-weighted brain scan.

## Trained on

{people["n"]} {values.get("who") or "people"}, aged {ages};
{counts}.

## Accuracy on people it did not train on

{_accuracy_text(values)}

The second number is the error of a "model" that ignores the scan and always answers the mean training age; a useful
model must be clearly below it. Errors depend on the age range and cannot be compared between studies.

## How it was made

- {_split_text(values)}
- Volume: {spec["template"]}, {volume}
- Network: {network}, {architecture["parameters"]:,} parameters; method `{recipe["method"]}`
- Used: batch size {effective["batch_size"]}, {used}, {effective["precision"]} on {effective["device"]}
{notes}- Grad-RAM maps have cells of {cell:g} mm; nothing smaller can be told apart on them
- Recipe, software versions and held-out predictions: `model.json`; course of training: `history.tsv`

## What it is not

- Not a medical device and not a diagnosis: a large brain age gap in one person has many harmless explanations.
- Not valid outside {span}, for children, or for scans prepared in another way.
{_scanner_text(values)}
- Not anonymous: `model.json` holds people as salted hashes of their labels, which are pseudonymous and can be guessed.
{contrast}- Its predictions lean towards the mean training age (age bias); compare ages by the corrected gap.
"""


def _origin_text(values: Mapping[str, Any]) -> str:
    origin = values.get("origin")
    if origin is None:
        return ""
    rate = values["recipe"]["network"]["init_lr"]
    what = f"trained on at a rate of {rate:g}" if rate else "as it was"
    phantom = ", which was trained on PHANTOMS" if origin["phantom"] else ""
    return f"- Encoder: that of the model {origin['name']}{phantom}, {what}; whom it has seen is never held out here\n"


def _contrast_text(values: Mapping[str, Any]) -> str:
    known = known_range(values)
    if known is None:
        return ""
    scale = "on the scale from 0 to 1" if values["volume_spec"]["intensity"] == "minmax" else "in SDs"
    return (
        f"- Contrast: median intensities inside the brain from {known[0]:.2f} to {known[1]:.2f} ({scale}); other scans "
        "are flagged `contrast_extrapolated`.\n"
    )


def _scanner_text(values: Mapping[str, Any]) -> str:
    if _left_out(values):
        return (
            "- The error above is that at places which a member did not know; at another one it can be larger. Compare "
            "groups within one scanner."
        )
    return (
        "- Not tested on scanners other than those it was trained on: expect a shift, compare groups within one "
        "scanner."
    )


def _left_out(values: Mapping[str, Any]) -> dict[int, str]:
    """Return by fold the place that its member left out; empty unless folds are places."""
    return {member["fold"]: member["left_out"] for member in values["members"] if member.get("left_out")}


def _split_text(values: Mapping[str, Any]) -> str:
    times = values["effective_settings"].get("ensemble", 1)
    several = f"; each member is trained {times} times, and their mean is the answer" if times > 1 else ""
    return _members_text(values) + several


def _members_text(values: Mapping[str, Any]) -> str:
    folds = values["effective_settings"]["folds"]
    if places := _left_out(values):
        return (
            f"{len(places)} members, each trained without the people of one place ({', '.join(places.values())}), and "
            "without those who have a scan or family there; the people of a place are predicted by the member that "
            "left it out, everybody else by the mean of all members"
        )
    if folds:
        return (
            f"{folds} members, each trained without one fold of the people (split by person and family, balanced for "
            "group, site, sex and age); each listed person is predicted by the one member that never saw the person, "
            "everybody else by the mean of all members"
        )
    share = values["recipe"]["split"]
    chose = "chose the best epoch" if chooses_by_validation(values["recipe"]) else "were kept for validation"
    return (
        f"One member; {share['val_share']:.0%} of the people {chose} and {share['test_share']:.0%} were "
        "kept for the test (split by person and family, balanced for group, site, sex and age)"
    )


def _accuracy_text(values: Mapping[str, Any]) -> str:
    rows = [("Test people", values.get("test")), (f"Held out ({values['validation']['kind']})", values["validation"])]
    lines = [
        f"| {name} | {line['n']} | {line['mae']:.2f} | {line['mae_null']:.2f} |"
        for name, line in rows
        if line and line.get("n")
    ]
    means = {member["fold"]: member.get("train_mean_age") for member in values["members"]}
    for fold, place in _left_out(values).items():
        people = [{**row, "train_mean_age": means[fold]} for row in values["calibration"] if row["fold"] == fold]
        if line := accuracy_line(people):
            lines.append(f"| Left out: {place} | {line['n']} | {line['mae']:.2f} | {line['mae_null']:.2f} |")
    header = "| people | n | mean absolute error (years) | always answering the mean age (years) |"
    return "\n".join([header, "| --- | --- | --- | --- |", *lines])
