"""One backward pass over a batch of any size, in chunks that fit into memory (Gao et al. 2021, "gradient cache").

A loss over all pairs of a batch cannot be summed from parts of the batch. But its gradient with respect to the features
is small and can be kept: the first pass computes all features without a graph, chunk by chunk; the loss gives the
gradient of each feature; the second pass makes each chunk again, with a graph, and hands it its part. Memory depends on
the chunk, not on the batch, and the gradient is that of one pass, except that batch norm sees the statistics of a
chunk instead of those of the batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from brainage_bids.model.distributed import Distributed
from brainage_bids.model.network import BrainNetwork, running_statistics

USUAL_MOMENTUM = 0.1  # of batch norm, the share of the running statistics that one batch replaces


def backward_in_chunks(
    network: BrainNetwork,
    embed: Callable[[Tensor], Tensor],
    chunks: Callable[[], Iterator[Tensor]],
    count: int,
    loss_of: Callable[[Tensor], Tensor],
    join: Callable[[Tensor], Tensor] = lambda features: features,
    own: Callable[[Tensor], Tensor] = lambda gradient: gradient,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of a loss over all features to ``network``; return the loss and the features, detached.

    Parameters
    ----------
    network
        In training mode.
    embed
        Images ``(B, 1, X, Y, Z)`` to features ``(B, F)``.
    chunks
        Returns the chunks of images of this process, the same ones every time it is called.
    count
        How many chunks that are; one needs no second pass.
    loss_of
        All features ``(n, F)`` to the loss; may use parameters of the network's head.
    join, own
        From the features of this process to those of all, and from a gradient of all to that of this process.
    scale
        Multiplies every gradient (for half precision).
    """
    cached = count > 1
    step = 1 - (1 - USUAL_MOMENTUM) ** (1 / count)
    with running_statistics(network, step / USUAL_MOMENTUM), torch.no_grad() if cached else contextlib.nullcontext():
        features = torch.cat([embed(images) for images in chunks()])
    leaf = join(features.detach()).requires_grad_()
    loss = loss_of(leaf)
    if torch.isfinite(loss):
        (loss * scale).backward()
        parts = own(leaf.grad)
        if cached:
            with running_statistics(network, 0.0):
                start = 0
                for images in chunks():
                    embed(images).backward(parts[start : start + len(images)])
                    start += len(images)
        else:
            features.backward(parts)
    return loss.detach(), leaf.detach()


def people_of_all(distributed: Distributed, people: int) -> tuple[Callable, Callable]:
    """Return ``join`` and ``own`` for two views of each of ``people``, shared between processes person by person.

    Features of one process are ``(2 b, F)``: the first views of its people, then their second views; of all
    ``(2 people, F)`` in the same order.
    """
    share = distributed.share(people)

    def join(features: Tensor) -> Tensor:
        by_person = features.reshape(2, -1, features.shape[1]).transpose(0, 1)  # (b, 2, F)
        return distributed.gather(by_person.contiguous(), people).transpose(0, 1).reshape(2 * people, -1)

    def own(gradient: Tensor) -> Tensor:
        return gradient.reshape(2, people, -1)[:, share].reshape(-1, gradient.shape[1])

    return join, own
