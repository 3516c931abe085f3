"""One backward pass over a batch of any size, in chunks that fit into memory (Gao et al. 2021, "gradient cache").

A loss over all pairs of a batch cannot be summed from parts of the batch. But its gradient with respect to the features
is small and can be kept: a first walk through the network gives all features without a graph; the loss gives the
gradient of each feature; a second walk, backwards, hands each image its part. Both walks go chunk by chunk (`chunked`),
so memory depends far less on the batch, and the gradient is that of one pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from brainage_bids.model.chunked import ChunkedPass
from brainage_bids.model.distributed import SINGLE_PROCESS, Distributed
from brainage_bids.model.network import BrainNetwork


def backward_in_chunks(
    network: BrainNetwork,
    embed: Callable[[Tensor], Tensor],
    chunks: Iterator[Tensor],
    count: int,
    loss_of: Callable[[Tensor], Tensor],
    join: Callable[[Tensor], Tensor] = lambda features: features,
    own: Callable[[Tensor], Tensor] = lambda gradient: gradient,
    scale: float = 1.0,
    autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    distributed: Distributed = SINGLE_PROCESS,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of a loss over all features to ``network``; return the loss and the features, detached.

    Parameters
    ----------
    network
        In training mode.
    embed
        Images ``(B, 1, X, Y, Z)`` to features ``(B, F)``; used where there is one chunk only.
    chunks
        The chunks of images of this process.
    count
        How many chunks that are; a single one goes through the network as it is.
    loss_of
        All features ``(n, F)`` to the loss; may use parameters of the network's head.
    join, own
        From the features of this process to those of all, and from a gradient of all to that of this process.
    scale
        Multiplies every gradient (for half precision).
    autocast
        Returns the context in which the network computes.
    distributed
        The processes whose images make the batch.
    """
    if count == 1:
        (images,) = chunks
        features = embed(images)
        backward = features.backward
    else:
        walk = ChunkedPass(network, autocast, distributed)
        features, backward = walk.forward(chunks), walk.backward
    leaf = join(features.detach()).requires_grad_()
    loss = loss_of(leaf)
    if torch.isfinite(loss):
        (loss * scale).backward()
        backward(own(leaf.grad))
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
