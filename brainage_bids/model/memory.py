"""How many views fit into memory at once: counted from the network, not tried out.

What a training step keeps for its backward pass is counted on torch's ``meta`` device, where tensors have shapes and no
content: exact for the activations, at once, on any machine. Where the count was too low all the same,
`shortage_explained` says what to do.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from brainage_bids.errors import TryAgainError
from brainage_bids.model.network import BrainNetwork

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
USABLE = 0.8  # of what is free: allocators keep some back, and other programs want some
STATES = {"sgd": 3, "adam": 4}  # weights, gradient, and what the optimiser keeps, in copies of the weights
FOLDED = 9  # numbers a voxel while a GPU rearranges a volume for the first convolution (`stem`): more than a narrow
# network keeps
PASSING = 2.0  # gradients and workspace that live beside the kept activations, in multiples of the largest of them
PASSING_OF_CHUNK = 4.0  # the same in chunks, where float32 sums come on top


@dataclass(frozen=True)
class StepBytes:
    """Bytes that a training step needs.

    Parameters
    ----------
    one_pass
        For each image of a batch that goes through the network in one pass.
    of_batch, of_chunk
        In chunks: for each image of the batch, and for each of a chunk on top.
    fixed
        Weights, gradients and optimiser, whatever the batch.
    """

    one_pass: int
    of_batch: int
    of_chunk: int
    fixed: int

    def needed(self, views: int, chunk: int) -> int:
        """Return the bytes of a step with ``views`` images, ``chunk`` of them at once."""
        images = views * self.one_pass if chunk >= views else views * self.of_batch + chunk * self.of_chunk
        return self.fixed + images

    def fitting(self, views: int, free: int) -> int:
        """Return how many of ``views`` images can be at once within ``free`` bytes; 0 where the batch is too large."""
        usable = int(USABLE * free)
        if self.needed(views, views) <= usable:
            return views
        return max(0, min(views - 1, (usable - self.fixed - views * self.of_batch) // self.of_chunk))


def bytes_a_view(
    build: Callable[[], BrainNetwork], shape: tuple[int, int, int], precision: str, recompute: bool = False
) -> int:
    """Return what one view of ``shape`` voxels keeps until the backward pass, plus what passes through beside it.

    Parameters
    ----------
    build
        Makes the network; called on the ``meta`` device.
    shape
        Voxels of a volume.
    precision
        ``float32``, ``bfloat16`` or ``float16``; the half-wide ones keep half as much.
    recompute
        Activations inside the blocks are computed twice instead of kept.
    """
    with torch.device("meta"):
        network = build().train()
        images = torch.empty(2, 1, *shape)  # batch norm refuses a single value
    if recompute:  # what goes into the blocks, and what the largest of them makes once more
        inside, between = [], 0

        def run_block(block: nn.Module, x: Tensor) -> Tensor:
            nonlocal between
            between += x.numel() * x.element_size()
            inside.append(_needed(lambda: block(x)))
            return block(x)

        network.run_block = run_block
        network.embed(images)
        total = between + max(inside)
    else:
        total = _needed(lambda: network.embed(images))
    size = _size(precision)
    return max(int(total / 2 * size / 4), FOLDED * size * math.prod(shape)) + 4 * math.prod(shape)


def bytes_in_chunks(build: Callable[[], BrainNetwork], shape: tuple[int, int, int], precision: str) -> tuple[int, int]:
    """Return what each view of a batch needs in chunks (`chunked`), and each view of a chunk on top; see above.

    Of the batch there are: the images, what went into each block up to the one at work, the inside of that block
    (of the first: for a chunk only), and the gradients of what comes out of it and of what goes in.
    """
    with torch.device("meta"):
        network = build().train()
        images = torch.empty(2, 1, *shape)
    first, *others = network.blocks_in_order()
    kept, x = _kept(lambda: first(images))
    of_chunk, largest = sum(kept), max(kept)
    between = of_batch = x.nbytes
    for block in others:
        kept, after = _kept(lambda block=block, x=x: block(x), but=x)
        gradients = after.nbytes + (x.nbytes if x.shape != after.shape else 0)  # a block without shortcut shares them
        of_batch, largest = max(of_batch, between + sum(kept) + gradients), max(largest, *kept)
        between, x = between + after.nbytes, after
    share = _size(precision) / 4 / 2  # of what two images need in float32
    of_chunk = max(int((of_chunk + PASSING_OF_CHUNK * largest) * share), FOLDED * _size(precision) * math.prod(shape))
    return 4 * math.prod(shape) + int(max(of_batch, between) * share), of_chunk


def _size(precision: str) -> int:
    return 4 if precision == "float32" else 2


def _needed(compute: Callable[[], Tensor]) -> float:
    """Return the bytes that a computation keeps for its backward pass and those that pass through beside them."""
    kept, _ = _kept(compute)
    return sum(kept) + PASSING * max(kept)


def _kept(compute: Callable[[], Tensor], but: Tensor | None = None) -> tuple[list[int], Tensor]:
    """Return the bytes of each tensor, ``but`` one, that a computation keeps for its backward pass, and its result."""
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # so that no id is used twice

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and id(tensor) not in kept and tensor is not but:
            kept[id(tensor)] = tensor.numel() * tensor.element_size()
            held.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()
    return list(kept.values()), result


def fixed_bytes(network: BrainNetwork, optimiser: str) -> int:
    """Return what weights, gradients and optimiser take, whatever the batch."""
    return STATES[optimiser] * sum(4 * parameter.numel() for parameter in network.parameters())


def free_bytes(device: torch.device, most: float | None = None) -> int:
    """Return how much memory is free: on the card, or on the machine within the limits set for this process.

    ``most`` bytes of the machine's memory are used at most (``--mem``).
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([free, *_cgroup_limits(), *([] if most is None else [int(most)])])


@contextlib.contextmanager
def shortage_explained() -> Iterator[None]:
    """Say what to do where the memory did not suffice, on the card or on the machine.

    Raises
    ------
    TryAgainError
        Instead of the error of the block, when that is one of too little memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch on the CPU has no error of its own for it; most other errors of torch are RuntimeErrors too
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError, BrokenProcessPool))
        if not known and "allocate memory" not in str(error):
            raise
        raise TryAgainError(
            f"the training ran out of memory, or a process of it was killed ({error}); run again with a smaller "
            "--chunk-size or --batch-size, with --activation-checkpointing, or on the CPU with fewer --nprocs; "
            "what was saved is kept"
        ) from error


def _cgroup_limits() -> list[int]:
    """Return what is left under each memory limit of this process: of its control group and of all that hold it."""
    limits = []
    for root, limit, used in _cgroup_folders():
        for folder in (root, *root.parents):
            if not folder.is_relative_to(CGROUPS):
                break
            try:
                most, now = ((folder / name).read_text().strip() for name in (limit, used))
            except OSError:
                continue
            if most.isdigit():
                limits.append(max(0, int(most) - int(now)))
    return limits


def _cgroup_folders() -> list[tuple[Path, str, str]]:
    """Return the folders of this process's control groups (versions 2 and 1) and the files of limit and use."""
    try:
        lines = [line.split(":", 2) for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:
        lines = []
    paths = {kinds: path.lstrip("/") for _, kinds, path in lines}
    two = CGROUPS / paths.get("", "")
    one = CGROUPS / "memory" / next((path for kinds, path in paths.items() if "memory" in kinds.split(",")), "")
    return [(two, "memory.max", "memory.current"), (one, "memory.limit_in_bytes", "memory.usage_in_bytes")]
