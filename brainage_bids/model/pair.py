"""A network and the yardstick as one model: their mean answer (``beside`` of a recipe), with one exact Grad-RAM map."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from brainage_bids.model.linear import LinearMap
from brainage_bids.model.network import BrainNetwork


class NetworkWithLinearMap(BrainNetwork):
    """The mean of the ages of a network and of a linear map; to predict with, not to train.

    The terms of the linear map, one a voxel, are one more feature of the network: each cell of the last stage has the
    sum of the terms that lie nearest to it. So the age is still a bias and a sum over cells.

    Parameters
    ----------
    network, linear
        The two, for volumes of one shape.
    """

    def __init__(self, network: BrainNetwork, linear: LinearMap):
        super().__init__(network.n_features + 1, network.total_stride)
        self.network, self.linear, self.cell_offset = network, linear, network.cell_offset

    def last_stage(self, x: Tensor) -> Tensor:
        """Return the network's activations and the pooled terms: ``(B, 1, D, H, W)`` -> ``(B, F + 1, d, h, w)``."""
        cells = self.network.last_stage(x)
        terms = x * self.linear.weight
        for axis, count in zip((2, 3, 4), cells.shape[2:], strict=True):
            terms = self._to_cells(terms, axis, count)
        return torch.cat([cells, terms.to(cells.dtype) * cells[0, 0].numel()], dim=1)  # pooling takes the mean

    def _to_cells(self, terms: Tensor, axis: int, count: int) -> Tensor:
        """Sum voxels into the nearest of ``count`` cells along an axis."""
        voxels = torch.arange(terms.shape[axis], device=terms.device)
        nearest = ((voxels - self.cell_offset) / self.total_stride).round().long().clamp(0, count - 1)
        shape = [*terms.shape]
        shape[axis] = count
        return terms.new_zeros(shape).index_add_(axis, nearest, terms)

    @staticmethod
    def joined(network: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of the pair from those of the two, as tensors of their own."""
        parts = {f"network.{key}": value for key, value in network.items()}
        parts |= {f"linear.{key}": value.clone() for key, value in linear.items()}
        weight = torch.cat([network["head.weight"], torch.ones(1, 1)], dim=1) / 2
        return parts | {"head.weight": weight, "head.bias": (network["head.bias"] + linear["head.bias"]) / 2}
