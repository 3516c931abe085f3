"""A recipe: one way to train a model, built from plain values and checked key by key."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from brainage_bids.errors import BadDataError, UsageError, shorten
from brainage_bids.model.box import brain_box
from brainage_bids.model.recipe_sections import (
    LENGTHS,
    AugmentationSettings,
    HeadSettings,
    NetworkSettings,
    RidgeSettings,
    SplitSettings,
    TrainingSettings,
    VolumeSettings,
)
from brainage_bids.schema import VolumeSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # it becomes the name of a folder
MOST_LETTERS = 100  # of a name; file systems take 255 bytes, and names of files hold more than it


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
    beside
        Name of a recipe of the method ``ridge`` that is fitted to the same people; the age is then the mean of both.
        Empty: none.
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
    beside: str = ""

    @property
    def alone(self) -> Recipe:
        """The recipe of the network by itself."""
        return replace(self, beside="")

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


def nearest(word: str, known: list[str]) -> str:
    """Return what to choose instead of an unknown word: the nearest of the known ones, else all of them."""
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
            raise UsageError(f"{where}: key '{shorten(key)}' is unknown; {nearest(key, list(hints))}")
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
            raise UsageError(f"{source}: {key} '{shorten(value)}' is unknown; {nearest(value, known)}")
    if recipe.beside and recipe.method == "ridge":
        raise UsageError(f"{source}: beside is {shorten(recipe.beside)!r}, but the recipe is no network; leave it out")
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
