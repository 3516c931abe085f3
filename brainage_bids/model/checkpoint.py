"""Checkpoints of a running training, and the weights file of a finished model.

Knows plain dicts of tensors and numbers; knows nothing of recipes or cohorts. Checkpoints are read with
``weights_only``, so a file from elsewhere cannot run code.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from brainage_bids.bids.files import atomic
from brainage_bids.errors import BadDataError, InputOutputError, NoInputError


def save_checkpoint(path: Path, values: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain values whole or not at all."""
    try:
        with atomic(path) as temporary:
            torch.save(dict(values), temporary)
    except (OSError, RuntimeError) as error:
        raise InputOutputError(f"checkpoint {path} cannot be written ({error}); free space there") from error


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return a checkpoint, or None when there is none, it is broken, or it belongs to another training."""
    if not path.is_file():
        return None
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError):
        return None
    return values if isinstance(values, dict) and values.get("fingerprint") == fingerprint else None


def save_weights(path: Path, members: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the state of every member into one safetensors file, keys prefixed with ``<member>.``."""
    tensors = {
        f"{member}.{key}": tensor.detach().cpu().contiguous()
        for member, state in members.items()
        for key, tensor in state.items()
    }
    with atomic(path) as temporary:
        save_file(tensors, temporary)


def load_weights(path: Path, members: list[str]) -> dict[str, dict[str, Tensor]]:
    """Return the state of each member.

    Raises
    ------
    NoInputError
        When the file is not there.
    BadDataError
        When it is not a safetensors file or lacks a member.
    """
    if not path.is_file():
        raise NoInputError(f"{path} is not there; the model folder is incomplete: copy it again or train it again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadDataError(f"{path} cannot be read ({error}); copy the model folder again") from error
    states: dict[str, dict[str, Tensor]] = {member: {} for member in members}
    for key, tensor in tensors.items():
        member, _, name = key.partition(".")
        if member in states:
            states[member][name] = tensor
    empty = [member for member, state in states.items() if not state]
    if empty:
        raise BadDataError(f"{path} holds no weights of {', '.join(empty)}; copy the model folder again")
    return states
