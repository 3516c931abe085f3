"""What the choices of the user come to on this machine: device, precision, batch size, epochs, threads."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

import torch

from brainage_bids.devices import pick_device
from brainage_bids.errors import BadDataError
from brainage_bids.model.build import build_network
from brainage_bids.model.distributed import SINGLE_PROCESS, Distributed
from brainage_bids.model.memory import bytes_a_view, fitting_views, fixed_bytes, free_bytes
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe import Recipe, people_a_batch


@dataclass(frozen=True)
class EffectiveSettings:
    """What a training really uses, with a note for each departure from the recipe.

    ``views`` is the number of images of a batch that each of the ``processes`` takes, ``chunk_size`` how many of them
    are in memory at once.
    """

    device: str
    precision: str
    batch_size: int
    epochs: int
    head_batch_size: int
    head_epochs: int
    folds: int | None
    seed: int
    threads: int
    processes: int = 1
    views: int = 0
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
    notes = [f"{override}, as asked" for override in options.overrides]
    if recipe.method == "ridge":
        return _one_step(options, n_train, notes)
    training = recipe.training
    batch = people_a_batch(recipe, options.batch_size, n_train, distributed.size)
    if batch != training.batch_size:
        notes.append(f"batch size {batch} instead of the recipe's {training.batch_size}, as asked")
    epochs, head_epochs = options.epochs or training.epochs, recipe.head.epochs
    if epochs != training.epochs:
        head_epochs = max(1, round(head_epochs * epochs / training.epochs))
        notes.append(f"{epochs} epochs instead of the recipe's {training.epochs}, as asked")
    device = pick_device(options.device, distributed.local_rank)
    precision = resolve_precision(options.precision, device)
    views = batch * (2 if recipe.method == "rnc" else 1) // distributed.size
    alike = 1  # how many compute on this machine
    if device.type == "cpu" and distributed.size > 1:
        alike = int(os.environ.get("LOCAL_WORLD_SIZE", distributed.size))
    elif device.type == "cpu" and options.folds:
        alike = options.workers
    chunk, note = _chunks(recipe, options, views, precision, device, alike, chunk_size)
    return EffectiveSettings(
        device=device.type if distributed.size > 1 else str(device),
        precision=precision,
        batch_size=batch,
        epochs=epochs,
        head_batch_size=min(recipe.head.batch_size, n_train),
        head_epochs=head_epochs if recipe.method == "rnc" else 0,
        folds=options.folds,
        seed=options.seed,
        threads=options.threads or (1 if options.folds and device.type == "cpu" else torch.get_num_threads()),
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
        need, fixed = step_bytes(recipe, precision, options.recompute)
    except RuntimeError as error:
        shape = " x ".join(map(str, recipe.spec.cropped.shape))
        raise BadDataError(
            f"recipe {recipe.name}: a volume of {shape} voxels is too small for the network ({error}); use a finer "
            "volume.resolution or fewer strides"
        ) from error
    free = free_bytes(device, options.memory) // alike
    fit = asked or fitting_views(views, need, fixed, free)
    # parts of nearly equal size, none of a single image: batch norm needs a spread
    chunk = -(-views // max(1, min(-(-views // fit), views // 2)))
    why = f"{(fixed + chunk * need) / 1e9:.1f} GB of the {free / 1e9:.1f} GB that were free"
    if asked:
        why += ", as asked" if options.chunk_size else ", as in the run before"
    if chunk == views:
        return chunk, f"batches of {views} images in one pass: {why}"
    return chunk, (
        f"batches of {views} images in {-(-views // chunk)} chunks of {chunk}, in two passes: {why}; batch norm sees "
        "the mean and variance of a chunk, not of the batch"
    )


def step_bytes(recipe: Recipe, precision: str, recompute: bool = False) -> tuple[int, int]:
    """Return the bytes that each image of a step needs, and those of weights and optimiser, whatever their number."""
    a_view = bytes_a_view(lambda: build_network(recipe), recipe.spec.cropped.shape, precision, recompute)
    with torch.device("meta"):  # only counted: no weights are drawn
        return a_view, fixed_bytes(build_network(recipe), recipe.training.optimiser)


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
