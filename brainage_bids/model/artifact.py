"""A model folder read back: every key of ``model.json`` that anything relies on is checked before anything does.

Opens no weights and knows nothing of torch, so that the group level and the plan of a run can ask it, too. What the
weights themselves must be is checked in `predict`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from brainage_bids.bids.files import file_state, read_json
from brainage_bids.bids.jsonchecks import (
    WAY_OUT,
    Check,
    between,
    check_keys,
    kind_in_words,
    kind_of,
    list_of,
    matches,
    or_none,
    refuse,
)
from brainage_bids.bids.text import decode, parse_json, read_bytes
from brainage_bids.bids.volumes import check_spec
from brainage_bids.errors import BadDataError, NoInputError, UsageError
from brainage_bids.model.recipe import Recipe
from brainage_bids.schema import VolumeSpec

FORMAT = 1  # of model.json; raised when the meaning of its fields changes
CARD, WEIGHTS = "model.json", "weights.safetensors"
WEIGHTS_KEY = "weights_sha256"  # added to the copy of model.json
SAME_MODEL = ("fingerprint", "volume_spec", "architecture", "members", "calibration")  # keys of model.json
YEARS = (0.0, 130.0)  # ages of people
ANSWERS = (-1000.0, 1000.0)  # years; beyond, weights are broken
BELIEVABLE = (-50.0, 200.0)  # years; beyond, an answer is an accident of weights or volume, not a poor prediction


def _median_range(value: Any) -> bool:
    ends = [value.get(name) for name in ("median_min", "median_max")] if isinstance(value, dict) else []
    return len(ends) == 2 and all(map(between(-1e6, 1e6), ends)) and ends[0] <= ends[1]


def _held_out_person(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and between(*YEARS)(row.get("age"))
        and between(*ANSWERS)(row.get("predicted_age"))
        and _FOLD_NUMBER(row.get("fold"))
        and or_none(between(0, ANSWERS[1]))(row.get("predicted_age_sd"))
    )


def _origin(value: Any) -> bool:
    seen = value.get("seen") if isinstance(value, dict) else None
    return (
        list_of(kind_of(dict))(seen)
        and all(
            isinstance(one.get("salt"), str)
            and isinstance(one.get("dataset"), (str, type(None)))
            and _HASHES(one.get("participants"))
            for one in seen
        )
        and isinstance(value.get("name"), str)
        and isinstance(value.get("phantom"), bool)
    )


_FOLD_NUMBER = or_none(between(1, 10_000, int))
_COUNT = between(1, 10_000_000, int)
_HASHES = list_of(matches(r"[0-9a-f]{16}"))
_TEXT: Check = (kind_of(str), "text")
_AGE: Check = (between(*YEARS), "an age in years, from 0 to 130")
_WORDS: Check = (kind_of(str, type(None)), "text or null")

SHOWN: dict[str, Check] = {  # what the group level and the pages read, by path; "?" at the end: may be missing
    "format?": (lambda v: v == FORMAT, f"{FORMAT}; update brainage-bids or the model"),
    "name": _TEXT,
    "volume_spec": (kind_of(dict), "a table of keys"),
    "recipe.method": (lambda v: v in ("rnc", "l1", "ridge"), "rnc, l1 or ridge"),
    "training.n": (_COUNT, "a number of people"),
    "training.age_mean": _AGE,
    "training.age_min": _AGE,
    "training.age_max": _AGE,
    "members": (list_of(kind_of(dict), 1), "a list of at least one member"),
    "calibration": (list_of(_held_out_person), "a list of age, predicted_age (years) and fold"),
    "architecture.backbone": _TEXT,
    "architecture.total_stride": (between(1, 100_000), "a number of voxels"),
    "fingerprint?": _WORDS,
    "dataset?": _WORDS,
    "who?": _WORDS,
    "notice?": _WORDS,
    "phantom?": (kind_of(bool, type(None)), "true or false"),
    "warnings?": (list_of(kind_of(str)), "a list of sentences"),
    "weights_sha256?": (or_none(matches(r"[0-9a-f]{64}")), "64 hexadecimal digits"),
}
USED: dict[str, Check] = {  # what a prediction and the page of a training read beside
    "format": SHOWN["format?"],
    "recipe": (kind_of(dict), "a table of keys"),
    "training.intensity?": (or_none(_median_range), "median_min and median_max"),
    "salt": _TEXT,
    "seed": (between(0, 2**64, int), "a whole number"),
    "effective_settings": (kind_of(dict), "a table of keys"),
    "effective_settings.notes": (list_of(kind_of(str)), "a list of sentences"),
    "validation": (kind_of(dict), "a table of keys"),
    "test?": (kind_of(dict, type(None)), "a table of keys, or null"),
    "origin?": (or_none(_origin), "where the encoder comes from, and the hashes of whom it has seen"),
}
FOLD: dict[str, Check] = {  # each of the "members"
    "name": (matches(r"[0-9A-Za-z_-]+"), "letters, digits and dashes"),
    "fold": (_FOLD_NUMBER, "the number of a fold, or null"),
    "training_participants": (_HASHES, "a list of hashes"),
    "validation_participants": (_HASHES, "a list of hashes"),
    "held_out_participants?": (_HASHES, "a list of hashes"),
    "test_participants?": (_HASHES, "a list of hashes"),
}
SHOWN_OF_MEMBER: dict[str, Check] = {  # of each of the "members", what the group level reads
    "left_out?": (or_none(matches(r"[^=]+=.+")), "COLUMN=VALUE, such as site=A"),
    "n_train?": (or_none(_COUNT), "a number of people"),
    "train_mean_age?": (or_none(between(*YEARS)), _AGE[1]),
}


def read_card(path: str | Path) -> dict[str, Any]:
    """Return the content of a ``model.json``, or of a copy of it, with all that the group level and the pages read.

    Raises
    ------
    NoInputError
        When it is not there or cannot be opened.
    BadDataError
        When it is not JSON, or a key is missing or holds what it cannot.
    """
    card = _content(path)[0]
    if not isinstance(card, dict):
        raise BadDataError(f"{path} is {kind_in_words(card)}, not the table of keys that describes a model; {WAY_OUT}")
    check_keys(card, SHOWN, path)
    for index, member in enumerate(card["members"]):
        check_keys(member, SHOWN_OF_MEMBER, path, f"members[{index}].")
    low, mean, high = (card["training"][f"age_{name}"] for name in ("min", "mean", "max"))
    if not low - 1e-6 <= mean <= high + 1e-6:  # a mean of equal ages may be off in the last digit
        refuse(path, "training.age_mean", mean, f"between age_min and age_max ({low:g} and {high:g})")
    check_spec(card["volume_spec"], path)
    return card


def read_model_json(path: str | Path) -> dict[str, Any]:
    """Return the content of the ``model.json`` of a model that is to predict: `read_card`, and all that this needs.

    Raises
    ------
    NoInputError, BadDataError
        As `read_card`; also when recipe, volume and folds contradict each other.
    """
    card = read_card(path)
    check_keys(card, USED, path)
    for index, fold in enumerate(card["members"]):
        check_keys(fold, FOLD, path, f"members[{index}].")
    names, numbers = ([fold[key] for fold in card["members"]] for key in ("name", "fold"))
    if len(set(names)) < len(names):
        refuse(path, "members", names, "members of different names")
    if (set(numbers) != {None} and None in numbers) or len({numbers.count(number) for number in set(numbers)}) > 1:
        refuse(path, "members", numbers, "as many members for each fold, or no fold for all")
    places = [fold["left_out"] for fold in card["members"] if fold.get("left_out") is not None]
    if places and (len(set(places)) < len(names) or None in numbers):
        refuse(path, "members", places, "members with folds that each have a left_out of their own, or none has one")
    if strange := sorted({row["fold"] for row in card["calibration"] if row["fold"] is not None} - set(numbers)):
        refuse(path, "calibration", f"of fold {strange[0]}", "people of the folds that the members have")
    recipe, spec = recipe_of(card, path), VolumeSpec.from_dict(card["volume_spec"])
    if recipe.spec != spec:
        wanted, given = recipe.spec.to_dict(), spec.to_dict()
        differ = next(key for key in {**given, **wanted} if wanted.get(key) != given.get(key))
        right = wanted.get(differ, "left out")
        refuse(path, f"volume_spec.{differ}", given.get(differ), f"{right}, as the recipe in the same file says")
    return card


def recipe_of(card: Mapping[str, Any], source: str | Path) -> Recipe:
    """Return the recipe in the content of a ``model.json``.

    Raises
    ------
    BadDataError
        When it is none.
    """
    try:
        return Recipe.from_dict(card["recipe"], f"{source}, recipe")
    except UsageError as error:
        raise BadDataError(str(error)) from error


# --- what tells one model from another ---


def trained_as(card: Mapping) -> str:
    """Return a hash of the whole ``model.json``, which identifies one training.

    The fingerprint in the card is not enough: it is the same for a training on another device or by another version.
    """
    original = {key: value for key, value in card.items() if key != WEIGHTS_KEY}
    return hashlib.sha256(json.dumps(original, sort_keys=True).encode()).hexdigest()[:32]


def differing_keys(card: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[str]:
    """Return in what two models of one name differ that decides ages; empty for the same model.

    Words about it (description, software, notice) may differ; weights count where both are known.
    """
    differ = [key for key in SAME_MODEL if (card or {}).get(key) != (other or {}).get(key)]
    weights = {known[WEIGHTS_KEY] for known in (card, other) if known and known.get(WEIGHTS_KEY)}
    return [*differ, *([WEIGHTS_KEY] if len(weights) > 1 else [])]


def card_hash(path: str | Path) -> str:
    """Return the SHA-256 of a ``model.json``."""
    return _content(path)[1]


def _content(path: str | Path) -> tuple[Any, str]:
    """Return the content of a JSON file, which nobody may change, and its SHA-256."""
    try:
        return _json_content(str(path), *file_state(path))
    except FileNotFoundError as error:
        raise NoInputError(f"{path} is not there; {WAY_OUT}") from error
    except OSError:
        return read_json(path), ""  # says why it cannot be opened


def hash_participant(participant_id: str, salt: str) -> str:
    """Return the salted hash of a participant id (16 hexadecimal digits): pseudonymous, can be guessed."""
    return hashlib.sha256(f"{salt}:{participant_id}".encode()).hexdigest()[:16]


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of a model's weights.

    Raises
    ------
    NoInputError
        When they are not there or cannot be opened.
    """
    path = folder / WEIGHTS
    try:
        return _file_hash(str(path), *file_state(path))
    except OSError as error:
        raise no_weights(path, error) from error


def no_weights(path: Path, error: OSError | None = None) -> NoInputError:
    """Return the error for weights that are not there or cannot be opened."""
    if error is None or isinstance(error, FileNotFoundError):
        return NoInputError(f"{path} is not there; the model folder is incomplete: {WAY_OUT}")
    return NoInputError(f"{path} cannot be read ({error.strerror}); check its permissions, or {WAY_OUT}")


# What follows reads a file once, as long as it is not replaced: `file_state` tells one content from another.


@lru_cache(maxsize=64)
def _json_content(path: str, *_: int) -> tuple[Any, str]:
    raw = read_bytes(path)
    return parse_json(decode(raw, path), path), hashlib.sha256(raw).hexdigest()


@lru_cache(maxsize=64)
def _file_hash(path: str, *_: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
