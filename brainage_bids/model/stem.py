"""The first convolution of a ResNet in a form that GPUs are good at; the numbers are those of the plain one.

A GPU multiplies blocks of at least 32 channels, and a brain volume has one channel: most of the plain 7^3 convolution
is wasted. So the volume is rearranged: two neighbours along each of the first two axes and the eight voxels that a
kernel reaches along the third (seven and an empty one) become 32 channels, and the kernel 4 x 4 x 1 steps of one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE, STRIDE, PAD = 7, 2, 3
REACH = SIZE + 1  # of the kernel with a first, empty layer, so that it is a whole number of strides


class StemConvolution(nn.Conv3d):
    """7^3 convolution of one channel with stride 2 and padding 3, without bias; any other stride is the plain one.

    Parameters
    ----------
    width
        Channels that come out.
    stride
        Voxels between two of its outputs.
    """

    def __init__(self, width: int, stride: int = STRIDE):
        super().__init__(1, width, SIZE, stride, PAD, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, width, d, h, w)`` of ``(B, 1, D, H, W)``, half as many voxels along each axis, rounded up."""
        if x.device.type != "cuda" or self.stride[0] != STRIDE or x.requires_grad:
            return super().forward(x)
        kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
        return FoldedConvolution.apply(x.to(kind), self.weight)


class FoldedConvolution(torch.autograd.Function):
    """The convolution of ``(B, 1, D, H, W)``, which gets no gradient, with ``(width, 1, 7, 7, 7)``.

    Only the volume is kept for the backward pass, not what it is rearranged to.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Return ``(B, width, d, h, w)``."""
        ctx.save_for_backward(x, weight)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv3d(folded_volume(x), folded_kernel(weight.to(x.dtype)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        """Return the gradient of the weights."""
        x, weight = ctx.saved_tensors
        size = (len(weight), 2 * 2 * REACH, REACH // 2, REACH // 2, 1)
        with torch.autocast(x.device.type, enabled=False):
            kernel = torch.nn.grad.conv3d_weight(folded_volume(x), size, grad.to(x.dtype))
        return None, unfolded_kernel(kernel).to(weight.dtype)


def folded_volume(x: Tensor) -> Tensor:
    """Rearrange ``(B, 1, D, H, W)`` to ``(B, 32, d + 3, h + 3, w)``, channels last; d is half of D, rounded up."""
    halves = [-(-side // STRIDE) for side in x.shape[2:]]
    ends = [STRIDE * half + REACH - STRIDE - (PAD + 1) - side for half, side in zip(halves, x.shape[2:], strict=True)]
    x = F.pad(x[:, 0], [pad for end in reversed(ends) for pad in (PAD + 1, end)])
    d, h, w = halves[0] + REACH // 2 - 1, halves[1] + REACH // 2 - 1, halves[2]
    x = x.unfold(3, REACH, STRIDE)  # (B, 2 d, 2 h, w, 8)
    x = x.reshape(-1, d, 2, h, 2, w, REACH).permute(0, 1, 3, 5, 2, 4, 6)  # (B, d, h, w, 2, 2, 8)
    return x.reshape(-1, d, h, w, 4 * REACH).permute(0, 4, 1, 2, 3)


def folded_kernel(weight: Tensor) -> Tensor:
    """Rearrange ``(width, 1, 7, 7, 7)`` to ``(width, 32, 4, 4, 1)``, which does the same to a folded volume."""
    steps = REACH // 2
    kernel = F.pad(weight, (1, 0) * 3).reshape(-1, steps, 2, steps, 2, REACH)
    return kernel.permute(0, 2, 4, 5, 1, 3).reshape(-1, 4 * REACH, steps, steps, 1)


def unfolded_kernel(kernel: Tensor) -> Tensor:
    """Undo `folded_kernel`."""
    steps = REACH // 2
    weight = kernel.reshape(-1, 2, 2, REACH, steps, steps).permute(0, 4, 1, 5, 2, 3)  # (width, 4, 2, 4, 2, 8)
    return weight.reshape(-1, 1, REACH, REACH, REACH)[..., 1:, 1:, 1:]
