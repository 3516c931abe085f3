"""3D residual networks (He et al. 2016; paper section 2.4.1) that turn a brain volume into an age."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from brainage_bids.model.network import Block, BrainNetwork, Chain, Steps, start_convolutions
from brainage_bids.model.stem import StemConvolution

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class _Block(Block):
    """Residual block: two 3^3 convolutions, or 1^3 - 3^3 - 1^3 with four-fold output channels (bottleneck)."""

    def __init__(self, channels_in: int, channels: int, stride: int, bottleneck: bool):
        super().__init__()
        out = channels * (4 if bottleneck else 1)
        plan = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]  # (kernel, stride)
        widths = [channels_in, channels, channels, out] if bottleneck else [channels_in, channels, out]
        self.convs = nn.ModuleList(
            nn.Conv3d(a, b, kernel, step, kernel // 2, bias=False)
            for (kernel, step), a, b in zip(plan, widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(width) for width in widths[1:])
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or channels_in != out:
            self.shortcut = nn.Sequential(nn.Conv3d(channels_in, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def steps(self, x: Tensor) -> Steps:
        y = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = yield norm, conv(y)
            if index + 1 < len(self.convs):
                y = self.relu(y)
        if isinstance(self.shortcut, nn.Sequential):
            conv, norm = self.shortcut
            x = yield norm, conv(x)
        yield None, self.relu(y + x)


class ResNet3D(BrainNetwork):
    """3D ResNet with global average pooling and one fully connected layer; any volume size.

    Parameters
    ----------
    depth
        10, 18, 34 (basic blocks), 50 or 101 (bottlenecks).
    width
        Channels of the stem; stages have 1, 2, 4 and 8 times as many (four-fold more with bottlenecks).
    stem_stride, stem_pool
        Stride of the 7^3 stem convolution, and whether a 3^3 stride-2 max pooling follows.
    stage_strides
        Stride of the first block of each stage.
    dropout
        Share of the pooled features dropped before the head in training.

    Attributes
    ----------
    total_stride
        Input voxels per cell of the last stage; cell k is centred on input voxel ``total_stride * k``, because every
        layer here pads by half its kernel.
    n_features
        Length F of the embedding.

    Raises
    ------
    ValueError
        For a depth that is not listed, or not four stage strides.
    """

    def __init__(
        self,
        depth: int,
        width: int = 64,
        *,
        stem_stride: int = 2,
        stem_pool: bool = True,
        stage_strides: tuple[int, int, int, int] = (1, 2, 2, 2),
        dropout: float = 0.0,
    ):
        if depth not in BLOCKS:
            raise ValueError(f"depth {depth} is not one of {sorted(BLOCKS)}")
        if len(stage_strides) != 4:
            raise ValueError(f"stage_strides needs four numbers, not {stage_strides}")
        bottleneck = depth >= 50
        stride = stem_stride * (2 if stem_pool else 1) * math.prod(stage_strides)
        super().__init__((width << 3) * (4 if bottleneck else 1), stride, dropout)
        self.stem = Chain(StemConvolution(width, stem_stride), nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        if stem_pool:
            self.stem.append(nn.MaxPool3d(3, 2, 1))
        stages, channels_in = [], width
        for stage, (count, stride) in enumerate(zip(BLOCKS[depth], stage_strides, strict=True)):
            blocks = []
            for index in range(count):
                blocks.append(_Block(channels_in, width << stage, stride if index == 0 else 1, bottleneck))
                channels_in = (width << stage) * (4 if bottleneck else 1)
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        start_convolutions(self)

    def blocks_in_order(self) -> Sequence[Block]:
        """Return the stem and the residual blocks."""
        return [self.stem, *(block for stage in self.stages for block in stage)]
