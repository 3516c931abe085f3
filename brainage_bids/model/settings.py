"""What the choices of the user come to on this machine: device, precision, batch size, epochs, threads.

Knows devices and recipes; knows nothing of data or files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from brainage_bids.errors import UsageError
from brainage_bids.model.options import ModelOptions
from brainage_bids.model.recipe import Recipe


@dataclass(frozen=True)
class EffectiveSettings:
    """What a training really uses, with a note for each departure from the recipe."""

    device: str
    precision: str
    batch_size: int
    epochs: int
    head_batch_size: int
    head_epochs: int
    folds: int | None
    seed: int
    threads: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return the JSON form."""
        return {**asdict(self), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """Return one line per setting and note, to be printed."""
        values = {name: value for name, value in asdict(self).items() if name != "notes" and value is not None}
        return [f"{name.replace('_', ' ')}: {value}" for name, value in values.items()] + list(self.notes)


def effective_settings(recipe: Recipe, options: ModelOptions, n_train: int) -> EffectiveSettings:
    """Settle device, precision, batch size and epochs for the smallest training part of ``n_train`` people.

    The last, incomplete batch of an epoch is dropped, so a batch larger than the cohort would mean no step at all and
    an encoder that silently stays untrained: a smaller batch is chosen instead, and said so.
    """
    notes = []
    training = recipe.training
    batch = options.batch_size or training.batch_size
    if batch != training.batch_size:
        notes.append(f"batch size {batch} instead of the recipe's {training.batch_size}, as asked")
    if batch > n_train:
        notes.append(f"batch size lowered from {batch} to {n_train}, because {n_train} people train each member")
        batch = n_train
    epochs, head_epochs = options.epochs or training.epochs, recipe.head.epochs
    if epochs != training.epochs:
        head_epochs = max(1, round(head_epochs * epochs / training.epochs))
        notes.append(f"{epochs} epochs instead of the recipe's {training.epochs}, as asked")
    device = resolve_device(options.device)
    return EffectiveSettings(
        device=str(device),
        precision=resolve_precision(options.precision, device),
        batch_size=batch,
        epochs=epochs,
        head_batch_size=min(recipe.head.batch_size, n_train),
        head_epochs=head_epochs if recipe.method == "rnc" else 0,
        folds=options.folds,
        seed=options.seed,
        threads=options.threads or (1 if options.folds and device.type == "cpu" else torch.get_num_threads()),
        notes=tuple(notes),
    )


def resolve_device(name: str) -> torch.device:
    """Turn ``auto`` or a torch device name into a device that is there.

    Raises
    ------
    UsageError
        When the name is unknown or the device is absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device '{name}' is unknown; use auto, cpu, cuda or cuda:<number>") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device '{name}' is not there ({torch.cuda.device_count()} CUDA devices); use --device cpu")
    if device.type not in ("cuda", "cpu", "mps"):
        raise UsageError(f"device '{name}' is not supported; use auto, cpu, cuda or cuda:<number>")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """Turn ``auto`` into bfloat16 on CUDA cards that have it, float32 elsewhere."""
    if name != "auto":
        return name
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def set_threads(threads: int | None) -> None:
    """Set the CPU threads of torch, when asked to."""
    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
