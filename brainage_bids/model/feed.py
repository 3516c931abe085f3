"""The volumes of a training on their way to the device: held on the GPU where they fit, else read ahead from disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from brainage_bids.model.dataset import open_volumes
from brainage_bids.model.member import Member
from brainage_bids.model.memory import USABLE, free_bytes
from brainage_bids.model.settings import step_bytes

AHEAD = 2  # parts read while the network works
READERS = 4  # volumes copied at once into memory that a GPU may read by itself


class Feed:
    """Gives volumes by row, on the device.

    Parameters
    ----------
    member
        Whose volumes; what a step of its training needs goes before them.
    device
        Where the volumes are wanted.
    """

    def __init__(self, member: Member, device: torch.device):
        self.device = device
        self.volumes = open_volumes(member.data.volumes)
        self.resident = _held(self.volumes, device) if _fit_beside(self.volumes, member, device) else None

    def read(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield the volumes of each part (row numbers), float16 ``(b, X, Y, Z)``."""
        if self.resident is None:
            yield from (volumes.to(self.device, non_blocking=True) for volumes in self._read_ahead(parts))
            return
        for rows in parts:
            yield self.resident[torch.from_numpy(rows).to(self.device)]

    def _load(self, rows: np.ndarray) -> Tensor:
        """Return volumes in memory; for a GPU in pages that it may read by itself."""
        if self.device.type != "cuda":
            return torch.from_numpy(self.volumes[rows])
        pinned = torch.empty((len(rows), *self.volumes.shape[1:]), dtype=torch.float16, pin_memory=True)
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda place: np.copyto(pinned[place].numpy(), self.volumes[rows[place]]), range(len(rows))))
        return pinned

    def _read_ahead(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield the volumes of each part, read by a thread of its own."""
        ready: queue.Queue = queue.Queue(AHEAD)
        over = threading.Event()

        def read() -> None:
            for rows in parts:
                try:
                    item = self._load(rows)
                except Exception as error:  # handed over to whoever waits
                    item = error
                while not over.is_set():
                    try:
                        ready.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            for _ in parts:
                item = ready.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            over.set()
            thread.join()


def _fit_beside(volumes: np.ndarray, member: Member, device: torch.device) -> bool:
    """Say whether all volumes fit on the GPU beside what a step of the training needs."""
    if device.type != "cuda":
        return False
    settings = member.settings
    a_view, fixed = step_bytes(member.recipe, settings.precision, settings.recompute)
    return volumes.nbytes <= USABLE * free_bytes(device) - settings.chunk_size * a_view - fixed


def _held(volumes: np.ndarray, device: torch.device) -> Tensor:
    resident = torch.empty(volumes.shape, dtype=torch.float16, device=device)
    for row, volume in enumerate(volumes):
        resident[row] = torch.from_numpy(np.array(volume))
    return resident
