"""A model folder read back: every key of ``model.json`` that anything relies on is checked before anything does.

Opens no weights and knows nothing of torch, so that the group level and the plan of a run can ask it, too. What the
weights themselves must be is checked in `predict`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from brainage_bids.bids.files import read_json
from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten
from brainage_bids.model.recipe import Recipe
from brainage_bids.schema import VolumeSpec

FORMAT = 1  # of model.json; raised when the meaning of its fields changes
CARD, WEIGHTS = "model.json", "weights.safetensors"
WAY_OUT = "copy the model folder again, or train the model again"
YEARS = (0.0, 130.0)  # ages of people
ANSWERS = (-1000.0, 1000.0)  # years; beyond, weights are broken
BELIEVABLE = (-50.0, 200.0)  # years; beyond, an answer is an accident of weights or volume, not a poor prediction
MOST_VOXELS = 100_000_000  # of a volume; the paper's field of view at 0.5 mm has 68 million
EXTENT_MM = (50.0, 500.0)  # of a volume along each axis

Check = tuple[Callable[[Any], bool], str]  # the rule, and what it asks for in words


def _between(least: float, most: float, kind: type | tuple[type, ...] = (int, float)) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most


def _list_of(rule: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(rule, value))


def _or_none(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _median_range(value: Any) -> bool:
    ends = [value.get(name) for name in ("median_min", "median_max")] if isinstance(value, dict) else []
    return len(ends) == 2 and all(map(_between(-1e6, 1e6), ends)) and ends[0] <= ends[1]


def _held_out_person(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and _between(*YEARS)(row.get("age"))
        and _between(*ANSWERS)(row.get("predicted_age"))
        and _FOLD(row.get("fold"))
    )


_FOLD = _or_none(_between(1, 10_000, int))
_COUNT = _between(1, 10_000_000, int)
_HASHES = _list_of(_matches(r"[0-9a-f]{16}"))
_TEXT: Check = (_is(str), "text")
_AGE: Check = (_between(*YEARS), "an age in years, from 0 to 130")
_WORDS: Check = (_is(str, type(None)), "text or null")

SPEC: dict[str, Check] = {
    "template": (_matches(r"[0-9A-Za-z]+"), "a name of letters and digits"),
    "resolution": (_between(0.5, 16), "a voxel size of 0.5 to 16 mm"),
    "shape": (lambda v: _list_of(_between(1, 4096, int))(v) and len(v) == 3, "three positive numbers of voxels"),
    "origin": (lambda v: _list_of(_between(-1000, 1000))(v) and len(v) == 3, "three places in mm"),
    "intensity": (lambda v: v in ("minmax", "zscore"), "minmax or zscore"),
    "version": (lambda v: v == VolumeSpec.version, f"{VolumeSpec.version}; a newer brainage-bids may read it"),
    "template_sha": (_matches(r"[0-9a-f]{12}"), "12 hexadecimal digits"),
}
SHOWN: dict[str, Check] = {  # what the group level and the pages read, by path; "?" at the end: may be missing
    "format?": (lambda v: v == FORMAT, f"{FORMAT}; update brainage-bids or the model"),
    "name": _TEXT,
    "volume_spec": (_is(dict), "a table of keys"),
    "recipe.method": (lambda v: v in ("rnc", "l1", "ridge"), "rnc, l1 or ridge"),
    "training.n": (_COUNT, "a number of people"),
    "training.age_mean": _AGE,
    "training.age_min": _AGE,
    "training.age_max": _AGE,
    "members": (_list_of(_is(dict), 1), "a list of at least one member"),
    "calibration": (_list_of(_held_out_person), "a list of age, predicted_age (years) and fold"),
    "architecture.backbone": _TEXT,
    "architecture.total_stride": (_between(1, 100_000), "a number of voxels"),
    "fingerprint?": _WORDS,
    "dataset?": _WORDS,
    "who?": _WORDS,
    "notice?": _WORDS,
    "phantom?": (_is(bool, type(None)), "true or false"),
    "weights_sha256?": (_or_none(_matches(r"[0-9a-f]{64}")), "64 hexadecimal digits"),
}
USED: dict[str, Check] = {  # what a prediction and the page of a training read beside
    "format": SHOWN["format?"],
    "recipe": (_is(dict), "a table of keys"),
    "training.intensity?": (_or_none(_median_range), "median_min and median_max"),
    "salt": _TEXT,
    "seed": (_between(0, 2**64, int), "a whole number"),
    "effective_settings": (_is(dict), "a table of keys"),
    "effective_settings.notes": (_list_of(_is(str)), "a list of sentences"),
    "validation": (_is(dict), "a table of keys"),
    "test?": (_is(dict, type(None)), "a table of keys, or null"),
}
MEMBER: dict[str, Check] = {
    "name": (_matches(r"[0-9A-Za-z_-]+"), "letters, digits and dashes"),
    "fold": (_FOLD, "the number of a fold, or null"),
    "training_participants": (_HASHES, "a list of hashes"),
    "validation_participants": (_HASHES, "a list of hashes"),
    "held_out_participants?": (_HASHES, "a list of hashes"),
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
    try:
        card = read_json(path)
    except FileNotFoundError as error:
        raise NoInputError(f"{path} is not there; {WAY_OUT}") from error
    if not isinstance(card, dict):
        raise BadDataError(f"{path} is {_kind(card)}, not the table of keys that describes a model; {WAY_OUT}")
    _check(card, SHOWN, path)
    low, mean, high = (card["training"][f"age_{name}"] for name in ("min", "mean", "max"))
    if not low - 1e-6 <= mean <= high + 1e-6:  # a mean of equal ages may be off in the last digit
        _refuse(path, "training.age_mean", mean, f"between age_min and age_max ({low:g} and {high:g})")
    check_spec(card["volume_spec"], path)
    return card


def read_model_json(path: str | Path) -> dict[str, Any]:
    """Return the content of the ``model.json`` of a model that is to predict: `read_card`, and all that this needs.

    Raises
    ------
    NoInputError, BadDataError
        As `read_card`; also when recipe, volume and members contradict each other.
    """
    card = read_card(path)
    _check(card, USED, path)
    members = card["members"]
    for place, member in enumerate(members):
        _check(member, MEMBER, path, f"members[{place}].")
    names, folds = ([member[key] for member in members] for key in ("name", "fold"))
    if len(set(names)) < len(names):
        _refuse(path, "members", names, "members of different names")
    if set(folds) != {None} and (None in folds or len(set(folds)) < len(folds)):
        _refuse(path, "members", folds, "one fold for each member, or none for all")
    if strange := sorted({row["fold"] for row in card["calibration"] if row["fold"] is not None} - set(folds)):
        _refuse(path, "calibration", f"of fold {strange[0]}", "people of the folds that the members have")
    recipe, spec = recipe_of(card, path), VolumeSpec.from_dict(card["volume_spec"])
    if recipe.spec != spec:
        differ = next(key for key, value in spec.to_dict().items() if recipe.spec.to_dict()[key] != value)
        _refuse(path, f"volume_spec.{differ}", card["volume_spec"].get(differ), f"{recipe.spec.to_dict()[differ]}, "
                "as the recipe in the same file says")  # fmt: skip
    return card


def volume_spec(values: Mapping[str, Any], sidecar: str | Path) -> VolumeSpec | None:
    """Return the spec in a volume's sidecar; None where it names none.

    Raises
    ------
    BadDataError
        When it is none that a volume can have.
    """
    if values.get("VolumeSpec") is None:
        return None
    try:
        return check_spec(values["VolumeSpec"], sidecar, "VolumeSpec")
    except BadDataError as error:
        told = str(error).removesuffix(f": {WAY_OUT}").removesuffix(f"; {WAY_OUT}")
        raise BadDataError(f"{told}; remove the volume and its sidecar, and preprocess the scan again") from error


def check_spec(values: Any, source: str | Path, key: str = "volume_spec") -> VolumeSpec:
    """Return a volume's spec from its JSON form, when it is one that a volume can have.

    Raises
    ------
    BadDataError
        When a key is unknown or missing, or the grid is none that holds a brain and fits into memory.
    """
    if not isinstance(values, dict):
        _refuse(source, key, values, "a table of keys")
    if unknown := sorted(set(values) - set(SPEC)):
        _refuse(source, f"{key}.{unknown[0]}", values[unknown[0]], "left out: this version does not know it")
    needed = {name + ("?" if name == "template_sha" else ""): check for name, check in SPEC.items()}
    _check(values, needed, source, f"{key}.")
    shape, spec = values["shape"], VolumeSpec.from_dict(values)
    least, most = EXTENT_MM
    if not all(least <= side * spec.resolution <= most for side in shape):
        _refuse(source, f"{key}.shape", shape, f"{least:g} to {most:g} mm along each axis (here: voxels of "
                f"{spec.resolution:g} mm)")  # fmt: skip
    if shape[0] * shape[1] * shape[2] > MOST_VOXELS:
        _refuse(source, f"{key}.shape", shape, f"{MOST_VOXELS:,} voxels at most")
    ends = [(low, low + (side - 1) * spec.resolution) for low, side in zip(spec.origin, shape, strict=True)]
    if not all(low <= 0 <= high for low, high in ends):
        _refuse(source, f"{key}.origin", values["origin"], "the first corner of a grid that holds the point 0, 0, 0")
    return spec


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


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of a model's weights; a file is read once as long as its size and time of change stay.

    Raises
    ------
    NoInputError
        When they are not there or cannot be opened.
    """
    path = folder / WEIGHTS
    try:
        stat = path.stat()
        return _file_hash(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise no_weights(path, error) from error


def no_weights(path: Path, error: OSError | None = None) -> NoInputError:
    """Return the error for weights that are not there or cannot be opened."""
    if error is None or isinstance(error, FileNotFoundError):
        return NoInputError(f"{path} is not there; the model folder is incomplete: {WAY_OUT}")
    return NoInputError(f"{path} cannot be read ({error.strerror}); check its permissions, or {WAY_OUT}")


@lru_cache(maxsize=64)
def _file_hash(path: str, size: int, changed: int) -> str:
    del size, changed  # they only tell one content from another
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(values: Mapping[str, Any], checks: Mapping[str, Check], source: str | Path, inside: str = "") -> None:
    for key, (rule, wanted) in checks.items():
        names, found = key.removesuffix("?").split("."), values
        for at, name in enumerate(names):
            if not isinstance(found, dict):
                _refuse(source, inside + ".".join(names[:at]), found, "a table of keys")
            if name not in found and not key.endswith("?"):
                raise BadDataError(f"{source}: {inside}{'.'.join(names[: at + 1])} is missing; {WAY_OUT}")
            found = found.get(name)
        if not (rule(found) or (found is None and key.endswith("?"))):
            _refuse(source, inside + ".".join(names), found, wanted)


def _refuse(source: str | Path, key: str, value: Any, wanted: str) -> NoReturn:
    told = shorten(value if isinstance(value, str) else repr(value), 60)
    raise BadDataError(f"{source}: {key} is {told or 'empty'}; it must be {wanted}: {WAY_OUT}")


def _kind(value: Any) -> str:
    kinds: Sequence[tuple[type, str]] = ((list, "a list"), (str, "text"), (bool, "true or false"), (type(None), "null"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "a number")
