"""The Simple Fully Convolutional Network with one regression output (Peng et al. 2021; Leonardsen et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from brainage_bids.model.network import Block, BrainNetwork, Chain, start_convolutions

CHANNELS = (1, 2, 4, 8, 8)  # of the five pooled blocks, times the width
TOP_CHANNELS = 2  # of the last block, times the width


class SFCN3D(BrainNetwork):
    """VGG-like network: five blocks of 3^3 convolution, batch norm, ReLU and pooling, one 1^3 block, pooling, head.

    Parameters
    ----------
    width
        Channels of the first block; 32 gives the published 32-64-128-256-256-64: 2,950,401 parameters and 1,600
        running statistics of the batch norms, together the 2,952,001 that are published.
    dropout
        Share of the pooled features dropped before the head in training.

    Attributes
    ----------
    total_stride, cell_offset
        A cell of the last stage is centred on input voxel ``32 k + 15.5``: five poolings of 2 without padding.
    """

    def __init__(self, width: int = 32, *, dropout: float = 0.5):
        blocks, channels_in = [], 1
        for factor in CHANNELS:
            blocks.append(_block(channels_in, factor * width, 3, nn.MaxPool3d(2)))
            channels_in = factor * width
        blocks.append(_block(channels_in, TOP_CHANNELS * width, 1))
        super().__init__(TOP_CHANNELS * width, total_stride=2 ** len(CHANNELS), dropout=dropout)
        self.cell_offset = (self.total_stride - 1) / 2
        self.blocks = nn.ModuleList(blocks)
        start_convolutions(self)

    def blocks_in_order(self) -> Sequence[Block]:
        """Return the six blocks."""
        return list(self.blocks)


def _block(channels_in: int, channels: int, kernel: int, *pool: nn.Module) -> Block:
    conv = nn.Conv3d(channels_in, channels, kernel, padding=kernel // 2)
    return Chain(conv, nn.BatchNorm3d(channels), nn.ReLU(inplace=True), *pool)
