"""A recipe: every number that defines how a model is trained, read from a TOML file and checked key by key."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from brainage_bids.bids.text import read_text
from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten
from brainage_bids.model.box import brain_box
from brainage_bids.schema import DEFAULT_BRAIN_MM, DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA, VolumeSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # it becomes the name of a folder
MOST_LETTERS = 100  # of a name; file systems take 255 bytes, and names of files hold more than it
LENGTHS = ("epochs", "steps", "auto")  # see `lengths`
PLAIN = "-noaug"  # ending of the recipes that are trained without augmentation (paper table 2)


@dataclass(frozen=True)
class VolumeSettings:
    """The volume: isotropic voxel size (mm) on the paper's field of view, template and intensity rule.

    ``template_sha`` pins the template's content (see `VolumeSpec`); it is filled in when the template is at hand, as is
    ``brain_mm``, the first and last mm of its brain along x, y and z. ``crop`` is what the network reads of the volume:
    ``none``, all of it; ``brain``, the box of the template's brain (see `box.brain_box`).
    """

    resolution: float
    template: str = DEFAULT_TEMPLATE
    intensity: str = "minmax"
    template_sha: str = DEFAULT_TEMPLATE_SHA
    crop: str = "none"
    brain_mm: tuple[int, ...] = DEFAULT_BRAIN_MM


@dataclass(frozen=True)
class NetworkSettings:
    """The network: ``resnet`` (see `resnet.ResNet3D`) or ``sfcn`` (see `sfcn.SFCN3D`: width and dropout only).

    ``bias_init``: the head's bias starts at the mean age of those who train (``train_mean``), or at ``zero`` as in the
    published Rank-N-Contrast settings: then few people never climb to their age. ``init`` is a finished model whose
    encoder the training starts from; with an ``init_lr`` of 0 the encoder stays as it is and only the head is trained.
    """

    architecture: str = "resnet"
    depth: int = 18
    width: int = 64
    dropout: float = 0.0
    stem_stride: int = 2
    stem_pool: bool = True
    stage_strides: tuple[int, ...] = (1, 2, 2, 2)
    bias_init: str = field(default="train_mean", metadata={"settled": "zero"})
    init: str = ""
    init_lr: float = 0.0


@dataclass(frozen=True)
class TrainingSettings:
    """The main stage: the encoder (``rnc``) or the whole network (``l1``).

    How long it is, says `lengths.epochs_of`. ``lr_decay`` acts through the ``cosine`` schedule, from lr to
    ``lr * lr_decay**3``. ``temperature`` divides the distances of the contrastive loss. ``clip_norm`` limits the
    gradient norm in every stage, 0 leaves it alone. ``patience`` is the number of epochs without a better validation
    error after which ``l1`` training stops, 0 means never. ``keep`` says which epoch of ``rnc`` training is kept: the
    ``last``, or that of the ``best_probe`` on validation people, who are
    looked at every ``probe_every`` epochs.
    """

    batch_size: int
    optimiser: str
    lr: float
    epochs: int = 0
    steps: int = 0
    least_steps: int = 0
    length: str = "epochs"
    schedule: str = "constant"
    lr_decay: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    temperature: float = 2.0
    clip_norm: float = 0.0
    patience: int = 0
    keep: str = "last"
    probe_every: int = 10


@dataclass(frozen=True)
class HeadSettings:
    """The second stage of ``rnc``: one linear layer on the frozen encoder.

    ``method`` is ``sgd`` (L1 loss, cosine schedule, best validation epoch) or ``ridge``: fitted in one step to the
    features of the training scans as they are, with the penalty that makes the ages of these people most likely; all
    other keys then do nothing. How long ``sgd`` is, says `lengths.epochs_of`. ``views`` is the number of
    augmented versions of each scan that the epochs go through in turn; 0 draws a new one in every epoch.
    """

    method: str = "sgd"
    epochs: int = 100
    steps: int = 0
    least_steps: int = 0
    length: str = "epochs"
    batch_size: int = 64
    lr: float = 0.05
    lr_decay: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 0.0
    views: int = 0


@dataclass(frozen=True)
class RidgeSettings:
    """The yardstick ``ridge`` (see `linear.LinearMap`): principal components kept, 0 for all; smoothing, FWHM in mm.

    ``ignore_contrast`` says whether the contrast of a scan must not change its age.
    """

    components: int = 0
    smoothing: float = 8.0
    ignore_contrast: bool = False


@dataclass(frozen=True)
class AugmentationSettings:
    """Strength of the paper's four augmentations and four of intensity; 0 (crop and gamma 1) switches one off.

    Parameters
    ----------
    enabled
        Whether the training augments at all.
    probability
        Chance of each augmentation, independently.
    translation_voxels
        Largest shift along each axis, voxels, both directions.
    translation_mm
        Above 0 it stands for ``translation_voxels``, so that a shift means the same on any grid.
    rotation_min, rotation_max
        Range of the rotation angle, radians.
    rotation_axes
        ``one``: about one random axis; ``each``: about x, then y, then z, each by an angle and a sign of its own.
    noise_sd
        Standard deviation of the Gaussian noise, in units of the intensity.
    crop_min
        Smallest share of each axis that a crop keeps, resized back.
    gamma_max
        Not in the paper: intensities of 0 to 1 are raised to a power between its inverse and it, log-uniform, which
        moves grey matter against white as another scanner or sequence does; 1 is off.
    field_max
        Not in the paper: intensities are multiplied by a smooth field, as a coil leaves one. Its log reaches from -s to
        s inside the head, s uniform from 0 to this.
    blur_mm
        Not in the paper: a Gaussian blurs the brain; FWHM in mm, uniform from 0 to this.
    slice_mm
        Not in the paper: slices along one random axis are made thicker and interpolated back; thickness in mm, uniform
        from 0 to this. What is thinner than a voxel changes nothing.
    """

    enabled: bool = True
    probability: float = 0.5
    translation_voxels: float = 10.0
    translation_mm: float = 0.0
    rotation_min: float = 0.1
    rotation_max: float = 0.5
    rotation_axes: str = "one"
    noise_sd: float = 0.025
    crop_min: float = 0.7
    gamma_max: float = 1.0
    field_max: float = 0.0
    blur_mm: float = 0.0
    slice_mm: float = 0.0

    @property
    def disturbs(self) -> dict[str, float]:
        """What is on of the augmentations of intensity that are not the paper's; they need intensities from 0 to 1."""
        keys = ("gamma_max", "field_max", "blur_mm", "slice_mm")
        return {key: getattr(self, key) for key in keys if getattr(self, key) != (1 if key == "gamma_max" else 0)}


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the trainable people held back; without folds both, with folds only the validation share."""

    val_share: float = 0.1
    test_share: float = 0.1


@dataclass(frozen=True)
class Recipe:
    """One way to train a model, complete.

    Parameters
    ----------
    name
        File stem of the recipe.
    description
        One sentence for the model card.
    method
        ``rnc``: Rank-N-Contrast encoder, then a linear head; ``l1``: end to end; ``ridge``: no network at all.
    volume, network, training, head, ridge, augmentation, split
        The sections of the file; ``ridge`` needs no network, training, head or augmentation.
    """

    name: str
    description: str
    method: str
    volume: VolumeSettings
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(2, "sgd", 1.0, epochs=1))
    head: HeadSettings = field(default_factory=HeadSettings)
    ridge: RidgeSettings = field(default_factory=RidgeSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    split: SplitSettings = field(default_factory=SplitSettings)

    @property
    def frozen(self) -> bool:
        """Whether the encoder is that of another model, and stays as it is."""
        return bool(self.network.init) and not self.network.init_lr

    @property
    def spec(self) -> VolumeSpec:
        """The volume that models of this recipe need, and what they read of it."""
        volume = self.volume
        spec = VolumeSpec.on_grid(volume.resolution, volume.template, volume.intensity, volume.template_sha)
        if volume.crop == "none":
            return spec
        return replace(spec, box=brain_box(spec, volume.brain_mm, self.total_stride))

    @property
    def total_stride(self) -> int:
        """Voxels from one cell of the network's last stage to the next."""
        if self.method == "ridge":
            return 1
        if self.network.architecture == "sfcn":
            return 32  # five poolings by two
        pooled = 2 if self.network.stem_pool else 1
        return self.network.stem_stride * pooled * math.prod(self.network.stage_strides)

    def to_dict(self) -> dict:
        """Return the JSON form."""
        return asdict(self)

    def settled(self) -> dict:
        """Return the JSON form without what is at its default: the same for a key that a later version adds."""
        return _settled(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "recipe") -> Recipe:
        """Build a recipe from nested plain values.

        Raises
        ------
        UsageError
            For an unknown or missing key, a wrong type, or a value out of its range.
        """
        for section in ("network", "training"):
            if section not in values and values.get("method") != "ridge":
                raise UsageError(f"{source}: section [{section}] is missing; add it")
        recipe = _build(cls, values, source, "")
        _check(recipe, source)
        return recipe


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes, sorted; every ResNet also comes without augmentation."""
    files = resources.files("brainage_bids.recipes").iterdir()
    names = [file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")]
    return sorted(names + [name + PLAIN for name in names if name.startswith("resnet")])


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a packaged recipe by name, or any TOML file by path.

    Parameters
    ----------
    name_or_path
        ``rnc-highrez``, ``resnet50-lowrez-noaug``, ``my/recipe.toml``, ...
    overrides
        ``section.key=value`` each, with the value in TOML; they win over the file.

    Raises
    ------
    UsageError
        When the name is unknown (the nearest are named), the file is not TOML, or its values do not fit.
    NoInputError
        When the file is not there.
    """
    text = str(name_or_path)
    content, plain = recipe_text(text)
    try:
        values = tomllib.loads(content)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError, too
        raise UsageError(f"recipe {text} is not TOML ({shorten(error)}); repair it") from error
    values = {"name": Path(text).stem if text.endswith(".toml") else text, **values}
    if plain:
        values |= {"augmentation": {"enabled": False}, "description": values["description"] + ", without augmentation"}
    for override in overrides:
        _override(values, override)
    recipe = Recipe.from_dict(values, f"recipe {text}")
    _refuse_idle(recipe, overrides, f"recipe {text}")
    return recipe


def recipe_text(name_or_path: str) -> tuple[str, bool]:
    """Return the TOML of a recipe, and whether it is meant without its augmentation (``-noaug``).

    Raises
    ------
    UsageError
        When the name is unknown; the nearest are named.
    NoInputError
        When the file is not there.
    """
    names = recipe_names()
    if name_or_path in names:
        file = f"{name_or_path.removesuffix(PLAIN)}.toml"
        content = resources.files("brainage_bids.recipes").joinpath(file).read_text(encoding="utf-8")
        return content, name_or_path.endswith(PLAIN)
    if not (name_or_path.endswith(".toml") or "/" in name_or_path):
        raise UsageError(f"recipe '{name_or_path}' is unknown; {_nearest(name_or_path, names)}")
    if not Path(name_or_path).is_file():
        raise NoInputError(f"recipe file {name_or_path} is not there; give a TOML file or one of: {', '.join(names)}")
    return read_text(name_or_path), False


def people_a_batch(recipe: Recipe, asked: int | None, n_train: int, processes: int = 1) -> int:
    """Return how many people a batch takes, when ``n_train`` people train in the smallest fold.

    Raises
    ------
    BadDataError
        When a batch needs more people than there are: the last, incomplete batch of an epoch is dropped, so there
        would be no step at all and an encoder that silently stays untrained.
    UsageError
        When the batch cannot be shared evenly among the processes.
    """
    batch = asked or recipe.training.batch_size
    if batch > n_train:
        raise BadDataError(
            f"a batch of recipe {recipe.name} takes {batch} people, but only {n_train} people train a member, so no "
            f"epoch would hold a step; use --batch-size {max(2, n_train // 2)} or widen the training query"
        )
    if batch % processes:
        near = max(processes, round(batch / processes) * processes)
        raise UsageError(
            f"a batch of {batch} people cannot be shared evenly by {processes} processes; use --batch-size {near}"
        )
    return batch


def _override(values: dict[str, Any], override: str) -> None:
    """Set one value of a nested table; ``training.lr=0.1``, ``network.stage_strides=[2, 2, 1, 1]``, ``method=l1``."""
    key, equals, value = override.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name or len(sections) > 1:
        raise UsageError(
            f"--set {shorten(override)!r} is not SECTION.KEY=VALUE; write for example --set training.lr=0.1"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()  # a bare word is text
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(
                f"--set {shorten(override)!r}: {section} is {shorten(values)!r} and has no keys; see brainage-tools "
                "recipes"
            )
    values[name] = parsed


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word[:MOST_LETTERS], known, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"choose one of: {', '.join(known)}"


def _settled(values: Any) -> dict:
    """Return what a dataclass, or one within it, holds beside its defaults; of a default that changed, the former."""
    changed = {}
    for item in fields(values):
        value = getattr(values, item.name)
        if is_dataclass(value):
            changed[item.name] = _settled(value)
        elif item.default is MISSING or value != item.metadata.get("settled", item.default):
            changed[item.name] = value
    return changed


def _build(cls: type, values: Mapping[str, Any], source: str, section: str) -> Any:
    """Fill a dataclass from plain values; nested dataclasses are the sections of the file."""
    where = f"{source}, section [{section}]" if section else source
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {shorten(repr(values))}; it must be a table of keys")
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise UsageError(f"{where}: key '{shorten(key)}' is unknown; {_nearest(key, list(hints))}")
    filled = {}
    for item in fields(cls):
        if item.name not in values:
            if item.default is MISSING and item.default_factory is MISSING:
                raise UsageError(f"{where}: '{item.name}' is missing; add it")
            continue
        kind, value = hints[item.name], values[item.name]
        if is_dataclass(kind):
            filled[item.name] = _build(kind, value, source, item.name)
        else:
            filled[item.name] = _convert(kind, value, f"{where}: {item.name}")
    return cls(**filled)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits
            return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (bool, str) and isinstance(value, kind):
        return value
    if kind == tuple[int, ...] and isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
        return tuple(value)
    wanted = (
        "a list of whole numbers"
        if kind == tuple[int, ...]
        else {int: "a whole number", float: "a number"}.get(kind, {bool: "true or false"}.get(kind, "text"))
    )
    raise UsageError(f"{where} is {shorten(repr(value))}; it must be {wanted}")


def _check(recipe: Recipe, source: str) -> None:
    """Raise for the first value out of its range, naming the nearest allowed one."""
    if not NAME.fullmatch(recipe.name) or len(recipe.name) > MOST_LETTERS:
        raise UsageError(
            f"{source}: name {shorten(recipe.name)!r} cannot name a folder; use {MOST_LETTERS} letters, digits, dots, "
            "dashes and underscores at most (--set name=NAME)"
        )
    words = (
        ("method", recipe.method, ["rnc", "l1", "ridge"]),
        ("[volume] intensity", recipe.volume.intensity, ["minmax", "zscore"]),
        ("[volume] crop", recipe.volume.crop, ["none", "brain"]),
        ("[network] architecture", recipe.network.architecture, ["resnet", "sfcn"]),
        ("[training] keep", recipe.training.keep, ["last", "best_probe"]),
        ("[network] bias_init", recipe.network.bias_init, ["zero", "train_mean"]),
        ("[training] optimiser", recipe.training.optimiser, ["sgd", "adam"]),
        ("[augmentation] rotation_axes", recipe.augmentation.rotation_axes, ["one", "each"]),
        ("[training] schedule", recipe.training.schedule, ["constant", "cosine"]),
        ("[training] length", recipe.training.length, list(LENGTHS)),
        ("[head] length", recipe.head.length, list(LENGTHS)),
        ("[head] method", recipe.head.method, ["sgd", "ridge"]),
    )
    for key, value, known in words:
        if value not in known:
            raise UsageError(f"{source}: {key} '{shorten(value)}' is unknown; {_nearest(value, known)}")
    if recipe.network.init_lr and not recipe.network.init:
        raise UsageError(f"{source}: [network] init_lr is {recipe.network.init_lr}, but there is no init; name a model")
    brain = recipe.volume.brain_mm
    if len(brain) != 6 or not all(
        -500 <= low < 0 < high <= 500 for low, high in zip(brain[::2], brain[1::2], strict=True)
    ):
        raise UsageError(
            f"{source}: [volume] brain_mm is {shorten(list(brain))}; it must be the first and last mm along x, y and "
            "z, below and above 0; leave it out for the brain of the template"
        )
    depths = [10, 18, 34, 50, 101]
    if recipe.network.depth not in depths:
        near = min(depths, key=lambda depth: abs(depth - recipe.network.depth))
        raise UsageError(f"{source}: [network] depth {recipe.network.depth} is unknown; the nearest is {near}")
    strides = recipe.network.stage_strides
    if len(strides) != 4 or not all(1 <= stride <= 8 for stride in strides):
        given = shorten(list(strides))
        raise UsageError(f"{source}: [network] stage_strides is {given}; it must be four numbers from 1 to 8")
    training, head, split, augmentation = recipe.training, recipe.head, recipe.split, recipe.augmentation
    ranges = (
        ("[volume] resolution", recipe.volume.resolution, 0.5, 16),
        ("[network] width", recipe.network.width, 1, 1024),
        ("[network] init_lr", recipe.network.init_lr, 0, 100),
        ("[network] dropout", recipe.network.dropout, 0, 0.95),
        ("[training] probe_every", training.probe_every, 1, 100_000),
        ("[network] stem_stride", recipe.network.stem_stride, 1, 8),
        ("[training] epochs", training.epochs, 0 if training.length == "steps" else 1, 100_000),
        ("[training] steps", training.steps, 1 if training.length == "steps" else 0, 100_000_000),
        ("[training] least_steps", training.least_steps, 0, 100_000_000),
        ("[training] batch_size", training.batch_size, 2, 100_000),
        ("[training] lr", training.lr, 1e-12, 100),
        ("[training] lr_decay", training.lr_decay, 0, 1),
        ("[training] momentum", training.momentum, 0, 0.9999),
        ("[training] weight_decay", training.weight_decay, 0, 10),
        ("[training] temperature", training.temperature, 1e-6, 1e6),
        ("[training] clip_norm", training.clip_norm, 0, 1e12),
        ("[training] patience", training.patience, 0, 100_000),
        ("[ridge] components", recipe.ridge.components, 0, 1_000_000),
        ("[ridge] smoothing", recipe.ridge.smoothing, 0, 100),
        ("[head] epochs", head.epochs, 0 if head.length == "steps" else 1, 100_000),
        ("[head] steps", head.steps, 1 if head.length == "steps" else 0, 100_000_000),
        ("[head] least_steps", head.least_steps, 0, 100_000_000),
        ("[head] batch_size", head.batch_size, 1, 100_000),
        ("[head] lr", head.lr, 1e-12, 100),
        ("[head] lr_decay", head.lr_decay, 0, 1),
        ("[head] momentum", head.momentum, 0, 0.9999),
        ("[head] weight_decay", head.weight_decay, 0, 10),
        ("[head] views", head.views, 0, 100_000),
        ("[augmentation] probability", augmentation.probability, 0, 1),
        ("[augmentation] translation_voxels", augmentation.translation_voxels, 0, 1000),
        ("[augmentation] translation_mm", augmentation.translation_mm, 0, 1000),
        ("[augmentation] rotation_max", augmentation.rotation_max, 0, 3.2),
        ("[augmentation] rotation_min", augmentation.rotation_min, 0, augmentation.rotation_max),
        ("[augmentation] noise_sd", augmentation.noise_sd, 0, 1000),
        ("[augmentation] crop_min", augmentation.crop_min, 0.05, 1),
        ("[augmentation] gamma_max", augmentation.gamma_max, 1, 10),
        ("[augmentation] field_max", augmentation.field_max, 0, 3),
        ("[augmentation] blur_mm", augmentation.blur_mm, 0, 30),
        ("[augmentation] slice_mm", augmentation.slice_mm, 0, 30),
        ("[split] val_share", split.val_share, 0.01, 0.5),
        ("[split] test_share", split.test_share, 0, 0.49),
    )
    for key, value, least, most in ranges:
        if not least <= value <= most:
            raise UsageError(f"{source}: {key} is {shorten(repr(value))}; it must lie between {least} and {most}")
    if augmentation.disturbs and recipe.method == "ridge":
        key, value = next(iter(augmentation.disturbs.items()))
        raise UsageError(
            f"{source}: [augmentation] {key} is {value}, but a ridge augments nothing; take a network, or leave it out"
        )
    on = augmentation.disturbs if augmentation.enabled else ()
    scaled = [(f"[augmentation] {key}", 1 if key == "gamma_max" else 0) for key in on]
    if recipe.ridge.ignore_contrast:
        scaled.append(("[ridge] ignore_contrast", "false"))
    if scaled and recipe.volume.intensity != "minmax":
        key, off = scaled[0]
        raise UsageError(
            f"{source}: {key} is made for intensities from 0 to 1, but [volume] intensity is "
            f"'{recipe.volume.intensity}'; use intensity 'minmax', or {off} for {key}"
        )


def _refuse_idle(recipe: Recipe, overrides: Sequence[str], source: str) -> None:
    """Raise when an augmentation is asked for by hand of a recipe that augments nothing."""
    asked = {override.partition("=")[0].strip() for override in overrides}
    for key, value in recipe.augmentation.disturbs.items():
        if f"augmentation.{key}" in asked and not recipe.augmentation.enabled:
            raise UsageError(
                f"{source}: [augmentation] {key} is {value}, but this recipe augments nothing; take one that does, or "
                "leave it out"
            )
