"""The processes that train one network together (``torchrun``): who this one is, and what they exchange.

With one process every exchange gives back what it was given. Every process holds the same weights; each works on its
share of the people of a batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

AXES, SHAPE = (0, 2, 3, 4), (1, -1, 1, 1, 1)  # of batch norm: what it sums over, and how a channel's number meets them
PATIENCE = timedelta(days=1)  # the others wait while one preprocesses; a process that dies is noticed at once


@dataclass(frozen=True)
class Distributed:
    """Which of how many processes this is, and what it exchanges with the others.

    Parameters
    ----------
    rank, size
        Number of this process, from 0, and how many there are.
    local_rank
        Number on its machine: the GPU it uses.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints; the others only compute."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's part of ``count`` things; the parts are contiguous and nearly equal."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Return the rows of all processes in order, ``(count, ...)``; this one gives its `share` of them."""
        if self.size == 1:
            return rows
        longest = -(-count // self.size)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        sizes = [Distributed(rank, self.size).share(count) for rank in range(self.size)]
        return torch.cat([part[: size.stop - size.start] for part, size in zip(parts, sizes, strict=True)])

    def add_up(self, values: Tensor) -> None:
        """Replace the values by their sums over the processes."""
        if self.size > 1:
            dist.all_reduce(values)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def broadcast(self, value: Any = None) -> Any:
        """Return the value of the main process (anything that can be pickled) in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


SINGLE_PROCESS = Distributed()


def distributed_from_environment() -> Distributed:
    """Read what ``torchrun`` set; one process without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return SINGLE_PROCESS
    return Distributed(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def process_group(distributed: Distributed, device: torch.device) -> Iterator[None]:
    """Join the other processes for as long as the block lasts; ``device`` is what this one computes on."""
    if distributed.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(distributed.local_rank)  # a device without a number is refused
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def synchronise_batch_norm(network: nn.Module, distributed: Distributed) -> nn.Module:
    """Return the network with batch norm over the batches of all processes; same parameter names."""
    if distributed.size == 1:
        return network
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                setattr(parent, name, _joint_norm(child))
    return network


class JointBatchNorm3d(nn.BatchNorm3d):
    """Batch norm over all processes that also works on the CPU, where torch's own does not."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, D, H, W)`` by the mean and variance over B, D, H, W and the processes."""
        if not self.training:
            return super().forward(x)
        wide = x if x.dtype == torch.float64 else x.float()
        normal, mean, variance, count = _JointNormalise.apply(wide, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        return (normal * self.weight.view(SHAPE) + self.bias.view(SHAPE)).to(x.dtype)


def joint_moments(
    count: Tensor, mean: Tensor, spread: Tensor, add_up: Callable[[Tensor], None]
) -> tuple[float, Tensor, Tensor]:
    """Return number, mean and variance over all processes from those of each, joined as in Chan et al. 1983.

    Parameters
    ----------
    count
        Values of a channel in this process.
    mean, spread
        Their mean and the sum of their squared deviations from it, float64 ``(C,)``: no difference of large squares.
    add_up
        Replaces a tensor by its sum over the processes.
    """
    parts = torch.cat([count.reshape(1).to(mean), mean * count])
    add_up(parts)
    total, joint = float(parts[0]), parts[1:] / parts[0]
    spread = spread + count * (mean - joint).square()
    add_up(spread)
    return total, joint, spread / total


class _JointNormalise(torch.autograd.Function):
    """``(x - mean) / sqrt(variance + eps)`` over all processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, eps: float) -> tuple[Tensor, ...]:
        mean = x.mean(AXES, dtype=torch.float64)  # (C,)
        spread = (x - mean.to(x).view(SHAPE)).square().sum(AXES, dtype=torch.float64)  # (C,)
        count = mean.new_tensor(x.numel() // x.shape[1])
        total, joint, variance = joint_moments(count, mean, spread, dist.all_reduce)
        scale = (variance + eps).rsqrt().to(x)  # (C,)
        normal = (x - joint.to(x).view(SHAPE)) * scale.view(SHAPE)
        ctx.save_for_backward(normal, scale)
        ctx.total = total
        joint, variance = joint.to(x), variance.to(x)
        ctx.mark_non_differentiable(joint, variance)
        return normal, joint, variance, total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, *_: Any) -> tuple[Tensor, None]:
        normal, scale = ctx.saved_tensors
        sums = torch.stack([grad.sum(AXES, dtype=torch.float64), (grad * normal).sum(AXES, dtype=torch.float64)])
        dist.all_reduce(sums)
        first, second = (sums / ctx.total).to(grad)
        return (grad - first.view(SHAPE) - normal * second.view(SHAPE)) * scale.view(SHAPE), None


def _joint_norm(norm: nn.BatchNorm3d) -> nn.Module:
    """Return the same norm over all processes: torch's own on a GPU, ours on the CPU."""
    kind = nn.SyncBatchNorm if norm.weight.device.type == "cuda" else JointBatchNorm3d
    joint = kind(norm.num_features, norm.eps, norm.momentum)
    joint.load_state_dict(norm.state_dict())
    return joint.to(norm.weight.device).train(norm.training)
