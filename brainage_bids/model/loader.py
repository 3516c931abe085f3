"""From people to augmented images on the device, batch by batch.

The volumes of a training are held on the GPU where they fit, else read ahead from disk while the network works.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from brainage_bids.model import augment
from brainage_bids.model.dataset import open_volumes
from brainage_bids.model.folds import Fold
from brainage_bids.model.memory import USABLE, free_bytes
from brainage_bids.model.settings import step_bytes

AHEAD = 2  # chunks read while the network works
READERS = 4  # volumes copied at once into memory that a GPU may read by itself


class Loader:
    """Gives the images of a fold.

    Parameters
    ----------
    fold
        Whose volumes; what a step of its training needs goes before them.
    device
        Where the images are wanted.
    """

    def __init__(self, fold: Fold, device: torch.device):
        self.device = device
        self.people = fold.data.train
        self.chunk_size = fold.settings.chunk_size
        self.augmentation = augment.settings_from(fold.recipe.to_dict())
        self.voxel_mm = fold.recipe.volume.resolution
        self.volumes = open_volumes(fold.data.volumes)
        self.resident = _on_device(self.volumes, device) if _fit_beside(self.volumes, fold, device) else None

    def batches(self, rng: np.random.Generator, size: int, drop_last: bool) -> Iterator[np.ndarray]:
        """Draw one scan per training person, shuffle, and cut into batches of row numbers ``(size,)``."""
        rows = np.array([rng.choice(scans) for scans in self.people])[rng.permutation(len(self.people))]
        stop = len(rows) - len(rows) % size if drop_last else len(rows)
        for start in range(0, stop, size):
            yield rows[start : start + size]

    def draw(self, count: int, rng: np.random.Generator | None) -> augment.AugmentParameters:
        """Draw how ``count`` images are augmented; not at all without a generator."""
        if rng is None or self.augmentation is None:
            return augment.neutral(count)
        return augment.draw(count, self.augmentation, rng, self.voxel_mm)

    def images(
        self, rows: np.ndarray, drawn: augment.AugmentParameters, part: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """Yield augmented volumes ``(b, 1, X, Y, Z)`` on the device, chunk by chunk, reading ahead.

        Parameters
        ----------
        rows
            Row numbers of the whole batch, ``(n,)``.
        drawn
            How each of them is augmented.
        part
            Indices into ``rows`` that this process works on, by default all.
        """
        indices = np.arange(len(rows)) if part is None else np.asarray(part)
        count = -(-len(indices) // self.chunk_size)
        chunks = np.array_split(indices, count) if count else []  # of nearly equal size
        # two views of one person are one volume, read once
        once = [np.unique(rows[chunk], return_inverse=True) for chunk in chunks]
        for chunk, (_, back), volumes in zip(chunks, once, self.read([scans for scans, _ in once]), strict=True):
            wanted = volumes[torch.from_numpy(back).to(volumes.device)][:, None]  # (b, 1, X, Y, Z)
            yield augment.apply(wanted, drawn[chunk]).contiguous(memory_format=torch.channels_last_3d)

    def read(self, chunks: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield the volumes of each chunk (row numbers), float16 ``(b, X, Y, Z)``."""
        if self.resident is None:
            yield from (volumes.to(self.device, non_blocking=True) for volumes in self._read_ahead(chunks))
            return
        for rows in chunks:
            yield self.resident[torch.from_numpy(rows).to(self.device)]

    def _load(self, rows: np.ndarray) -> Tensor:
        """Return volumes in memory; for a GPU in pages that it may read by itself."""
        if self.device.type != "cuda":
            return torch.from_numpy(self.volumes[rows])
        pinned = torch.empty((len(rows), *self.volumes.shape[1:]), dtype=torch.float16, pin_memory=True)
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda index: np.copyto(pinned[index].numpy(), self.volumes[rows[index]]), range(len(rows))))
        return pinned

    def _read_ahead(self, chunks: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield the volumes of each chunk, read by a thread of its own."""
        ready: queue.Queue = queue.Queue(AHEAD)
        over = threading.Event()

        def read() -> None:
            for rows in chunks:
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
            for _ in chunks:
                item = ready.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            over.set()
            thread.join()


def _fit_beside(volumes: np.ndarray, fold: Fold, device: torch.device) -> bool:
    """Say whether all volumes fit on the GPU beside what a step of the training needs."""
    if device.type != "cuda":
        return False
    settings = fold.settings
    step = step_bytes(fold.recipe, settings.precision, settings.recompute)
    return volumes.nbytes <= USABLE * free_bytes(device) - step.needed(settings.views, settings.chunk_size)


def _on_device(volumes: np.ndarray, device: torch.device) -> Tensor:
    resident = torch.empty(volumes.shape, dtype=torch.float16, device=device)
    for row, volume in enumerate(volumes):
        resident[row] = torch.from_numpy(np.array(volume))
    return resident
