"""The SFCN: published size, exact Grad-RAM, where its cells lie."""

import numpy as np
import pytest
import torch

from brainage_bids.model.explain import gradram, map_affine
from brainage_bids.model.sfcn import SFCN3D


def test_published_number_of_parameters_and_stages():
    model = SFCN3D()
    running = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    parameters = sum(p.numel() for p in model.parameters())
    assert (parameters, running) == (2_950_401, 1_600)
    assert parameters + running == 2_952_001  # Leonardsen et al. 2022: Keras counts both
    for number in (parameters, running, parameters + running):
        assert f"{number:,}" in SFCN3D.__doc__
    with torch.device("meta"):
        features = SFCN3D().last_stage(torch.empty(1, 1, 167, 212, 160))
    assert features.shape == (1, 64, 5, 6, 5)


def test_map_and_bias_add_up_to_the_age():
    model = SFCN3D(4).eval()
    volume = torch.rand(64, 70, 66)
    age, cells = gradram(model, volume)
    assert cells.shape == (2, 2, 2)
    assert age == pytest.approx(model(volume[None, None]).item(), abs=1e-4)
    assert cells.sum() + model.head.bias.item() == pytest.approx(age, abs=1e-4)


def test_a_cell_looks_at_the_voxels_its_affine_names():
    torch.manual_seed(0)
    model = SFCN3D(2).eval()
    for block in model.blocks[:5]:
        block[3] = torch.nn.AvgPool3d(2)  # the maximum looks at one voxel, the mean at all it could
    for weight in (p for p in model.parameters() if p.ndim == 5):
        weight.data.abs_()  # so that no cell is silent
    volume = torch.rand(1, 1, 96, 96, 96).requires_grad_()
    model.last_stage(volume)[0, :, 1, 1, 1].sum().backward()
    weight = volume.grad[0, 0].abs().numpy()
    seen = [np.flatnonzero(weight.sum(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    for cells in seen:
        assert (cells[0] + cells[-1]) / 2 == pytest.approx(47.5, abs=1)
    centre = map_affine(model, np.eye(4)) @ [1, 1, 1, 1]
    assert np.allclose(centre[:3], 47.5)


def test_dropout_only_in_training():
    model = SFCN3D(2, dropout=0.5)
    features = torch.ones(4, 4)
    assert not torch.allclose(model.train().age(features), model.eval().age(features))
    assert torch.equal(model.age(features), model.head(features).squeeze(1))
