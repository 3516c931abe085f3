"""What every network here is: an encoder, global average pooling and one linear layer, so that Grad-RAM is exact."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Steps = Generator[tuple[_BatchNorm | None, Tensor], Tensor, None]


class Block(nn.Module):
    """Part of a network that stops at each of its batch norms, so that several chunks of a batch can meet there."""

    def steps(self, x: Tensor) -> Steps:
        """Yield each norm and what it is given, and go on with what is sent back; at the end None and the output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Run without stopping."""
        steps = self.steps(x)
        norm, x = next(steps)
        while norm is not None:
            norm, x = steps.send(norm(x))
        return x


class Chain(Block, nn.Sequential):
    """Layers one after the other."""

    def steps(self, x: Tensor) -> Steps:
        """See `Block.steps`."""
        for layer in self:
            x = (yield layer, x) if isinstance(layer, _BatchNorm) else layer(x)
        yield None, x


class BrainNetwork(nn.Module):
    """Base of the networks; they differ in their `blocks_in_order` only.

    Parameters
    ----------
    n_features
        Length F of the embedding.
    total_stride
        Input voxels per cell of the last stage.
    dropout
        Share of the pooled features dropped before the head in training.

    Attributes
    ----------
    cell_offset
        Cell k of the last stage is centred on input voxel ``total_stride * k + cell_offset``.
    recompute
        Keep no activations inside a block for the backward pass but compute them again (less memory, more time).
    """

    def __init__(self, n_features: int, total_stride: int, dropout: float = 0.0):
        super().__init__()
        self.head = nn.Linear(n_features, 1)
        self.dropout = nn.Dropout(dropout)
        self.n_features = n_features
        self.total_stride = total_stride
        self.cell_offset = 0.0
        self.recompute = False

    def blocks_in_order(self) -> Sequence[Block]:
        """Return the blocks that an image goes through. The first, which keeps most, has a single norm."""
        raise NotImplementedError

    def last_stage(self, x: Tensor) -> Tensor:
        """Return the last stage's activations: ``(B, 1, D, H, W)`` -> ``(B, F, d, h, w)``."""
        for block in self.blocks_in_order():
            x = self.run_block(block, x)
        return x

    def pooled(self, x: Tensor) -> Tensor:
        """Return the mean over the last stage's voxels: ``(B, F, d, h, w)`` -> ``(B, F)``."""
        return x.mean(dim=(2, 3, 4))

    def embed(self, x: Tensor) -> Tensor:
        """Return the pooled features, on which the contrastive loss acts: ``(B, 1, D, H, W)`` -> ``(B, F)``."""
        return self.pooled(self.last_stage(x))

    def age(self, features: Tensor) -> Tensor:
        """Return ages in years: ``(B, F)`` -> ``(B,)``."""
        return self.head(self.dropout(features)).squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ages in years: ``(B, 1, D, H, W)`` -> ``(B,)``."""
        return self.age(self.embed(x))

    @torch.no_grad()
    def predict(self, volume: np.ndarray) -> float:
        """Return the age (years) of one volume ``(D, H, W)``; in evaluation mode."""
        self.eval()
        return self(torch.from_numpy(np.array(volume, dtype=np.float32))[None, None]).item()

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run one block, without keeping what is inside when ``recompute`` is on."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return block(x)
        contexts = partial(_recompute_contexts, block)
        return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return every parameter except the head's."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("head.")]

    def reset_head(self, bias: float, generator: torch.Generator) -> None:
        """Draw the head's weights anew (uniform, 1/sqrt(F)) and set its bias (years)."""
        bound = 1 / math.sqrt(self.n_features)
        with torch.no_grad():
            weight = torch.rand(self.head.weight.shape, generator=generator) * 2 * bound - bound
            self.head.weight.copy_(weight)
            self.head.bias.fill_(bias)


def start_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions (He et al. 2015, fan out); their biases start at zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and not module.weight.is_meta:  # drawing shapes imports torch's compiler
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@contextlib.contextmanager
def _still_statistics(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norm as they are."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    former = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, former, strict=True):
            norm.momentum = momentum


def _recompute_contexts(block: nn.Module) -> tuple[contextlib.AbstractContextManager, ...]:
    # The second run must not move the running statistics again.
    return contextlib.nullcontext(), _still_statistics(block)
