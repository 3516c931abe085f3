"""The rearranged first convolution against the plain one."""

import pytest
import torch
from torch import nn

from brainage_bids.model.stem import FoldedConvolution, StemConvolution, folded_kernel, folded_volume, unfolded_kernel


@pytest.mark.parametrize("shape", [(16, 20, 12), (17, 21, 13), (7, 9, 30), (1, 2, 3)])
def test_it_is_the_plain_convolution_and_so_is_its_gradient(shape):
    generator = torch.Generator().manual_seed(0)
    plain = nn.Conv3d(1, 5, 7, 2, 3, bias=False).double()
    x = torch.randn(3, 1, *shape, dtype=torch.float64, generator=generator)
    wanted = plain(x)
    weight = plain.weight.detach().clone().requires_grad_()
    folded = FoldedConvolution.apply(x, weight)
    assert folded.shape == wanted.shape
    assert torch.allclose(folded, wanted, atol=1e-12)
    assert folded_volume(x).is_contiguous(memory_format=torch.channels_last_3d)
    grad = torch.randn(wanted.shape, dtype=torch.float64, generator=generator)
    wanted.backward(grad)
    folded.backward(grad)
    assert torch.allclose(weight.grad, plain.weight.grad, atol=1e-10)


def test_unfolding_a_kernel_undoes_folding_it():
    weight = torch.randn(4, 1, 7, 7, 7)
    assert torch.equal(unfolded_kernel(folded_kernel(weight)), weight)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_on_the_cpu_it_is_the_plain_convolution_bit_by_bit(stride):
    stem, plain = StemConvolution(4, stride), nn.Conv3d(1, 4, 7, stride, 3, bias=False)
    plain.load_state_dict(stem.state_dict())
    x = torch.randn(2, 1, 18, 20, 15)
    assert torch.equal(stem(x), plain(x))
