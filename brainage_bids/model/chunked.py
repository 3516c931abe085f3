"""Forward and backward pass of a network over chunks of a batch, with the batch norm of the whole batch.

Batch norm ties all images of a batch together: its mean and variance, and the gradient through them, are sums over the
batch. So all chunks go through the network together, block by block, and meet at each norm. There their means and
squared deviations are joined (Chan et al. 1983), also with those of other processes; then each chunk goes on. In the
backward pass each block is computed again and walked from its end to its beginning; at each norm two sums over the
chunks give the gradient through mean and variance. The result is that of one pass, whatever the size of the chunks.

Kept for the whole batch are the images, what goes into each block, and the inside of one block at a time. The inside of
the first block, at the resolution of the image, is by far the largest: it is only ever there for one chunk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from brainage_bids.model.distributed import SHAPE, Distributed, joint_moments
from brainage_bids.model.network import Block, BrainNetwork

Stop = tuple[_BatchNorm | None, Tensor]  # a norm and what one chunk gives to it


class ChunkedPass:
    """One forward and one backward pass.

    Parameters
    ----------
    network
        In training mode.
    autocast
        Returns the context in which the network computes.
    distributed
        The processes whose chunks make the batch.
    """

    def __init__(
        self,
        network: BrainNetwork,
        autocast: Callable[[], contextlib.AbstractContextManager],
        distributed: Distributed,
    ):
        self.network, self.autocast, self.distributed = network, autocast, distributed
        self.walked: list[tuple[Block, list[Tensor], list[_JointNorm]]] = []  # blocks, what went in, their norms
        self.last: list[Tensor] = []  # what comes out of the last block

    @torch.no_grad()
    def forward(self, chunks: Iterable[Tensor]) -> Tensor:
        """Return the features ``(n, F)`` of images ``(b, 1, X, Y, Z)``; running statistics move by one step."""
        first, *others = self.network.blocks_in_order()
        parts = list(chunks)
        with self.autocast():
            norms = [self._meet(next(first.steps(part)) for part in parts)]
            self.walked = [(first, parts, norms)]
            parts = [_through(first, part, norms)[1] for part in parts]
            for block in others:
                outputs, norms = self._together(block, parts)
                self.walked.append((block, parts, norms))
                parts = outputs
            self.last = parts
            return torch.cat([_wide(self.network.pooled(part)) for part in parts])

    def backward(self, gradient: Tensor) -> None:
        """Add to the parameters the gradient that belongs to ``gradient`` of the features, ``(n, F)``."""
        gradients = []
        for part, share in zip(self.last, gradient.split([len(part) for part in self.last]), strict=True):
            leaf = part.requires_grad_()
            with self.autocast():
                features = _wide(self.network.pooled(leaf))
            gradients += torch.autograd.grad(features, leaf, share)
        self.last = []
        while len(self.walked) > 1:
            gradients = self._back(*self.walked.pop(), gradients)
        self._back_first(*self.walked.pop(), gradients)

    def _together(self, block: Block, parts: Sequence[Tensor]) -> tuple[list[Tensor], list[_JointNorm]]:
        """Take all chunks through a block; return what comes out, and its norms in the order of the way."""
        ways, norms = [block.steps(part) for part in parts], []
        stops = [next(way) for way in ways]
        while stops[0][0] is not None:
            norm = self._meet(stops)
            norms.append(norm)
            for index, way in enumerate(ways):
                stops[index] = way.send(norm(stops[index][1]))
        return [output for _, output in stops], norms

    def _meet(self, stops: Iterable[Stop]) -> _JointNorm:
        """Return the norm at which all chunks stand, with the statistics of the whole batch."""
        moments = []
        for norm, values in stops:  # noqa: B007 (it is the same for all)
            moments.append(_moments(values))
        count, mean, spread = (torch.stack(column) for column in zip(*moments, strict=True))  # (chunks,), (chunks, C)
        joint = (count[:, None] * mean).sum(0) / count.sum()
        spread = (spread + count[:, None] * (mean - joint).square()).sum(0)
        total, joint, variance = joint_moments(count.sum(), joint, spread, self.distributed.add_up)
        return _JointNorm.of(norm, total, joint, variance)

    def _back(
        self, block: Block, parts: Sequence[Tensor], norms: Sequence[_JointNorm], gradients: list[Tensor]
    ) -> list[Tensor]:
        """Return the gradients of what went into a block from those of what came out."""
        cuts, outputs = [], []
        with self.autocast():
            for part in parts:
                stops, output = _through(block, part.requires_grad_(), norms)
                cuts.append(stops)
                outputs.append(output)
        while outputs:
            outputs.pop().backward(gradients.pop())
        for norm in reversed(norms):
            norm.add_gradients(self.distributed)
            for stops in cuts:
                before, after = stops.pop()
                before.backward(norm.through_statistics(after))
        return [part.grad for part in parts]

    def _back_first(
        self, block: Block, parts: Sequence[Tensor], norms: Sequence[_JointNorm], gradients: list[Tensor]
    ) -> None:
        """Do the same for the first block, whose inside is made anew for each chunk: for the sums and for the rest."""
        (norm,) = norms
        for part, gradient in zip(parts, gradients, strict=True):
            with self.autocast():
                _, output = _through(block, part, norms)
            output.backward(gradient, inputs=[norm.weight, norm.bias])
        norm.add_gradients(self.distributed)
        for part, gradient in zip(parts, gradients, strict=True):
            with self.autocast():
                ((before, after),), output = _through(block, part, norms)
            output.backward(gradient, inputs=[after])
            before.backward(norm.through_statistics(after))


@dataclass
class _JointNorm:
    """A batch norm whose mean and variance, over all chunks and processes, are constants to autograd.

    ``weight`` and ``bias`` are copies: their gradients, summed over the chunks, are the two sums that
    `through_statistics` needs.
    """

    norm: _BatchNorm
    count: float
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, norm: _BatchNorm, count: float, mean: Tensor, variance: Tensor) -> _JointNorm:
        """Take the statistics of a batch (float64, ``(C,)``), and move the running ones by one step."""
        mean, variance = mean.to(norm.weight.dtype), variance.to(norm.weight.dtype)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked += 1
        weight, bias = (tensor.detach().clone().requires_grad_() for tensor in (norm.weight, norm.bias))
        return cls(norm, count, mean, variance, weight, bias)

    def __call__(self, values: Tensor) -> Tensor:
        return F.batch_norm(values, self.mean, self.variance, self.weight, self.bias, training=False, eps=self.norm.eps)

    def add_gradients(self, distributed: Distributed) -> None:
        """Give the norm the gradients of its weight and bias in this process; sum them over all for what follows."""
        for own, copied in ((self.norm.weight, self.weight), (self.norm.bias, self.bias)):
            own.grad = copied.grad.clone() if own.grad is None else own.grad + copied.grad
        self.sums = torch.stack([self.bias.grad, self.weight.grad]).double()  # of dy and of dy * (x - mean) / sd
        distributed.add_up(self.sums)

    def through_statistics(self, values: Tensor) -> Tensor:
        """Return the whole gradient of one chunk's ``values``, whose ``grad`` is that with constant statistics.

        ``dx = w / sd * (dy - mean(dy) - (x - mean) / sd * mean(dy * (x - mean) / sd))``, Ioffe and Szegedy 2015.
        """
        narrow = (self.variance.double() + self.norm.eps).rsqrt()  # 1 / sd
        scale = self.weight.detach() * narrow / self.count
        shift, slope = (scale * self.sums[0]).to(self.mean), (scale * narrow * self.sums[1]).to(self.mean)
        whole = values.detach() - self.mean.view(SHAPE)  # as wide as the mean; then in place: it is large
        return whole.mul_(-slope.view(SHAPE)).sub_(shift.view(SHAPE)).add_(values.grad).to(values.dtype)


def _through(block: Block, x: Tensor, norms: Sequence[_JointNorm]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Take one chunk through a block whose statistics are known; autograd's way is cut before each norm.

    Returns what stands before and behind each cut, and the output.
    """
    way, cuts = block.steps(x), []
    _, before = next(way)
    for norm in norms:
        after = before.detach().requires_grad_()
        cuts.append((before, after))
        _, before = way.send(norm(after))
    return cuts, before


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return number, mean and sum of squared deviations of each channel of ``(b, C, d, h, w)``, float64."""
    channels, count = values.shape[1], values.numel() // values.shape[1]
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    mean, variance = (torch.zeros(channels, dtype=wide, device=values.device) for _ in range(2))
    if count > 1:
        F.batch_norm(values, mean, variance, training=True, momentum=1.0)  # torch's own sums, which are fast
    else:
        mean = values.to(wide).view(channels)
    spread = variance.double() * (count - 1)
    return spread.new_tensor(count), mean.double(), spread


def _wide(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()
