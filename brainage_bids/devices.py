"""Choose the device (CPU or GPU) a run computes on. Imports torch only when called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainage_bids.errors import UsageError

if TYPE_CHECKING:
    import torch

AUTO, CPU, CUDA = "auto", "cpu", "cuda"


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device for ``auto`` (the GPU if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:1``.

    Parameters
    ----------
    name
        Value of ``--device``.
    local_rank
        Number of the process on its machine. Unless a GPU is named, each process uses its own.

    Raises
    ------
    UsageError
        When the name is unknown or the machine has no such GPU.
    """
    import torch

    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = name
    if wanted == AUTO:
        wanted = CUDA if cards else CPU
    if wanted == CUDA and local_rank:
        wanted = f"{CUDA}:{local_rank}"
    kind, _, number = wanted.partition(":")
    if wanted not in (CPU, CUDA) and not (kind == CUDA and number.isdecimal()):
        raise UsageError(f"--device {name} is unknown; use auto, cpu, cuda or cuda:NUMBER")
    if kind == CUDA and int(number or 0) >= cards:
        raise UsageError(f"--device {wanted} is not there ({cards} CUDA devices); use auto or cpu")
    return torch.device(wanted)
