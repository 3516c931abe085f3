"""What every network here is: an encoder, global average pooling and one linear layer, so that Grad-RAM is exact."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class BrainNetwork(nn.Module):
    """Base of the networks; they differ in `last_stage` only.

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

    def last_stage(self, x: Tensor) -> Tensor:
        """Return the last stage's activations: ``(B, 1, D, H, W)`` -> ``(B, F, d, h, w)``."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """Return the pooled features, on which the contrastive loss acts: ``(B, 1, D, H, W)`` -> ``(B, F)``."""
        return self.last_stage(x).mean(dim=(2, 3, 4))

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
def running_statistics(network: nn.Module, share: float) -> Iterator[None]:
    """Let the running statistics of batch norm move by ``share`` of their usual step; 0 leaves them as they are.

    One optimiser step over C chunks takes C looks at parts of one batch: with ``share`` chosen so that the C small
    steps together weigh what one usual step does, chunking changes the running statistics no more than it must.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    former = [norm.momentum for norm in norms]
    for norm, momentum in zip(norms, former, strict=True):
        norm.momentum = momentum * share
    try:
        yield
    finally:
        for norm, momentum in zip(norms, former, strict=True):
            norm.momentum = momentum


def _recompute_contexts(block: nn.Module) -> tuple[contextlib.AbstractContextManager, ...]:
    # The second run must not move the running statistics again.
    return contextlib.nullcontext(), running_statistics(block, 0.0)
