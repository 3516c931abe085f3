"""Checkpoints of a running training, and the weights file of a finished model.

Checkpoints are read with ``weights_only``, so a file from elsewhere cannot run code.
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
from brainage_bids.bids.jsonchecks import WAY_OUT
from brainage_bids.bids.text import NotFetched, not_fetched
from brainage_bids.errors import BadDataError, InputOutputError, shorten
from brainage_bids.model.artifact import no_weights


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


def save_weights(path: Path, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the weights of every fold into one safetensors file, keys prefixed with ``<fold>.``."""
    tensors = {
        f"{fold}.{key}": tensor.detach().cpu().contiguous()
        for fold, state in weights.items()
        for key, tensor in state.items()
    }
    with atomic(path) as temporary:
        save_file(tensors, temporary)


def load_weights(path: Path, wanted: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the weights of each fold: exactly the tensors that are wanted, all finite.

    Parameters
    ----------
    path
        The weights file. Only safetensors is read: a pickled file could run code.
    wanted
        By fold, tensors of the names, shapes and types that there must be; their values are not looked at.

    Raises
    ------
    NoInputError
        When the file is not there or cannot be opened.
    BadDataError
        When it is not fetched, not a safetensors file, holds other tensors, or a number that is not finite.
    """
    if reason := not_fetched(path):
        raise NotFetched(path, reason)
    if not path.is_file():
        raise no_weights(path)
    try:
        tensors = load_file(path)
    except PermissionError as error:
        raise no_weights(path, error) from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadDataError(f"{path} is no whole safetensors file ({shorten(error)}); {WAY_OUT}") from error
    names = {f"{fold}.{name}": tensor for fold, state in wanted.items() for name, tensor in state.items()}
    for name in sorted(names.keys() ^ tensors.keys()):
        fault = "lacks the tensor" if name in names else "holds a tensor that model.json does not ask for,"
        raise BadDataError(f"{path} {fault} {shorten(name)}; {WAY_OUT}")
    for name, tensor in tensors.items():
        (shape, kind), (own_shape, own_kind) = ((tuple(one.shape), one.dtype) for one in (names[name], tensor))
        if (shape, kind) != (own_shape, own_kind):
            raise BadDataError(
                f"{path}: {name} has shape {own_shape} and type {own_kind}, but model.json asks for {shape} and "
                f"{kind}; {WAY_OUT}"
            )
        if not torch.isfinite(tensor).all():
            raise BadDataError(f"{path}: {name} holds numbers that are not finite; {WAY_OUT}")
    return {fold: {name: tensors[f"{fold}.{name}"] for name in state} for fold, state in wanted.items()}
