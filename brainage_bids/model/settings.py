"""What the choices of the user come to on this machine: device, precision, batch size, epochs, threads."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cache

import torch

from brainage_bids.devices import pick_device
from brainage_bids.errors import BadDataError, TryAgainError, UsageError
from brainage_bids.model.build import build_network
from brainage_bids.model.distributed import SINGLE_PROCESS, Distributed
from brainage_bids.model.lengths import head_batch_size, stage_lengths
from brainage_bids.model.memory import USABLE, StepBytes, bytes_a_view, bytes_in_chunks, fixed_bytes, free_bytes
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.recipe import Recipe, people_a_batch

LEAST_CELLS = 4  # along each axis of the last stage; smaller maps were seen to go wrong in half precision on the CPU
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class EffectiveSettings:
    """What a training really uses, with a note for each departure from the recipe.

    ``views`` is the number of images of a batch that each of the ``processes`` takes, ``chunk_size`` how many of them
    are in memory at once. The head's epochs go through ``head_views`` augmented versions of each scan in turn.
    """

    device: str
    precision: str
    batch_size: int
    epochs: int
    head_batch_size: int
    head_epochs: int
    folds: int | str | None
    seed: int
    threads: int
    ensemble: int = 1
    processes: int = 1
    views: int = 0
    head_views: int = 0
    chunk_size: int = 0
    recompute: bool = False
    compile: bool = False
    notes: tuple[str, ...] = ()

    @property
    def chunks(self) -> int:
        """Parts in which a process takes its views of a batch; 1 needs no second pass."""
        return -(-self.views // self.chunk_size)

    def to_dict(self) -> dict:
        """Return the JSON form."""
        return {**asdict(self), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """Return one line per setting and note, to be printed."""
        plain = {name: value for name, value in asdict(self).items() if name != "notes"}
        values = {name: value for name, value in plain.items() if value is not None and value is not False}
        return [f"{name.replace('_', ' ')}: {value}" for name, value in values.items()] + list(self.notes)


def effective_settings(
    recipe: Recipe,
    options: ModelOptions,
    n_train: int,
    distributed: Distributed = SINGLE_PROCESS,
    chunk_size: int | None = None,
) -> EffectiveSettings:
    """Settle device, precision, batch size, epochs and chunks for the smallest training part of ``n_train`` people.

    Parameters
    ----------
    recipe, options
        What to train, and the choices of the user.
    n_train
        People of the smallest training part.
    distributed
        The processes that train together.
    chunk_size
        That of an interrupted training; by default it follows from the memory that is free now.

    Raises
    ------
    BadDataError, UsageError
        See `recipe.people_a_batch`.
    """
    recipe, notes = recipe.alone, [f"{override}, as asked" for override in options.overrides]
    if recipe.method == "ridge":
        if options.ensemble > 1:
            raise UsageError(
                f"recipe {recipe.name} is fitted in one step and comes out the same each time; --ensemble "
                f"{options.ensemble} needs a recipe of a network"
            )
        return _one_step(options, n_train, notes)
    training = recipe.training
    batch = people_a_batch(recipe, options.batch_size, n_train, distributed.size)
    if batch != training.batch_size:
        notes.append(f"batch size {batch} instead of the recipe's {training.batch_size}, as asked")
    length = stage_lengths(recipe, n_train, batch, options.epochs)
    notes += length.notes
    device = pick_device(options.device, distributed.local_rank)
    precision = resolve_precision(options.precision, device)
    _refuse_small_maps(recipe, precision, device)
    views = batch * (2 if recipe.method == "rnc" else 1) // distributed.size
    several = bool(options.folds) or options.ensemble > 1  # networks, on the CPU trained side by side
    alike = 1  # how many compute on this machine
    if device.type == "cpu" and distributed.size > 1:
        alike = int(os.environ.get("LOCAL_WORLD_SIZE", distributed.size))
    elif device.type == "cpu" and several:
        alike = options.workers
    chunk, note = _chunks(recipe, options, views, precision, device, alike, chunk_size)
    return EffectiveSettings(
        device=device.type if distributed.size > 1 else str(device),
        precision=precision,
        batch_size=batch,
        epochs=length.epochs,
        head_batch_size=head_batch_size(recipe, n_train),
        head_epochs=length.head_epochs,
        head_views=length.head_views,
        folds=options.folds,
        seed=options.seed,
        threads=options.threads or (1 if several and device.type == "cpu" else torch.get_num_threads()),
        ensemble=options.ensemble,
        processes=distributed.size,
        views=views,
        chunk_size=chunk,
        recompute=options.recompute,
        compile=options.compile,
        notes=(*notes, note),
    )


def _one_step(options: ModelOptions, n_train: int, notes: list[str]) -> EffectiveSettings:
    """Return the settings of a model that is fitted at once: on the CPU, without epochs or batches."""
    return EffectiveSettings(
        "cpu", "float32", n_train, 1, 0, 0, options.folds, options.seed, options.threads or 1, views=1, chunk_size=1,
        notes=(*notes, "fitted in one step"),
    )  # fmt: skip


def _refuse_small_maps(recipe: Recipe, precision: str, device: torch.device) -> None:
    """Raise for half precision on the CPU with a last stage of few cells, where torch 2.13 gives wrong gradients."""
    cells = [-(-side // recipe.total_stride) for side in recipe.spec.cropped.shape]
    if device.type == "cpu" and precision != "float32" and min(cells) < LEAST_CELLS:
        raise UsageError(
            f"recipe {recipe.name} has a last stage of {' x '.join(map(str, cells))} cells, for which the CPU computes "
            f"wrong gradients in {precision}; use --precision float32, a finer volume.resolution or fewer strides"
        )


def _chunks(
    recipe: Recipe,
    options: ModelOptions,
    views: int,
    precision: str,
    device: torch.device,
    alike: int,
    former: int | None,
) -> tuple[int, str]:
    """Return how many views to hold in memory at once, and why."""
    asked = options.chunk_size or former
    try:
        step = step_bytes(recipe, precision, options.recompute)
    except RuntimeError as error:
        shape = " x ".join(map(str, recipe.spec.cropped.shape))
        raise BadDataError(
            f"recipe {recipe.name}: a volume of {shape} voxels is too small for the network ({error}); use a finer "
            "volume.resolution or fewer strides"
        ) from error
    free = free_bytes(device, options.memory) // alike
    fit = min(views, asked or step.fitting(views, free))
    if fit < 1:
        raise TryAgainError(
            f"a batch of {views} images of recipe {recipe.name} needs {step.needed(views, 1) / 1e9:.1f} GB even one "
            f"image at a time, and of the {free / 1e9:.1f} GB that are free {USABLE:.0%} can be used; choose a smaller "
            f"--batch-size{', fewer --nprocs' if alike > 1 else ''} or a GPU with more memory, or share the batch "
            "between the GPUs of several processes (torchrun); batch norm ties all images of a batch together"
        )
    chunk = -(-views // -(-views // fit))  # parts of nearly equal size
    why = f"{step.needed(views, chunk) / 1e9:.1f} GB of the {free / 1e9:.1f} GB that were free"
    if asked:
        why += ", as asked" if options.chunk_size else ", as in the run before"
    if chunk == views:
        return chunk, f"batches of {views} images in one pass: {why}"
    if options.compile:
        why += "; --compile does not speed up these steps, because chunks meet at every batch norm"
    return chunk, f"batches of {views} images in {-(-views // chunk)} chunks of {chunk}, gradient as in one pass: {why}"


@cache  # a training asks more than once
def step_bytes(recipe: Recipe, precision: str, recompute: bool = False) -> StepBytes:
    """Return the bytes that a step needs, by images of a batch and of a chunk."""

    def build() -> BrainNetwork:
        return build_network(recipe)

    one_pass = bytes_a_view(build, recipe.spec.cropped.shape, precision, recompute)
    of_batch, of_chunk = bytes_in_chunks(build, recipe.spec.cropped.shape, precision)
    with torch.device("meta"):  # only counted: no weights are drawn
        return StepBytes(one_pass, of_batch, of_chunk, fixed_bytes(build(), recipe.training.optimiser))


def resolve_precision(name: str, device: torch.device) -> str:
    """Turn ``auto`` into bfloat16 on CUDA cards that have it, float32 elsewhere."""
    if name != "auto":
        return name
    if device.type != "cuda":
        return "float32"
    # without the argument torch also says yes where it only imitates bfloat16, slowly
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def set_threads(threads: int | None) -> None:
    """Set the CPU threads of torch, when asked to."""
    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
