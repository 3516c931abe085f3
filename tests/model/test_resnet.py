import numpy as np
import pytest
import torch

from brainage_bids.model.resnet import ResNet3D


def expected_parameters(depth, width, axes=3, channels_in=1, outputs=1):
    """Count weights layer by layer from the published table of ResNets, without building anything."""
    blocks = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    cube = 3**axes
    total, channels = 7**axes * channels_in * width + 2 * width, width
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        for block in range(count):
            if depth < 50:
                out = planes
                total += cube * channels * planes + 2 * planes + cube * planes * planes + 2 * planes
            else:
                out = 4 * planes
                total += channels * planes + 2 * planes + cube * planes * planes + 2 * planes + planes * out + 2 * out
            if block == 0 and (stage > 0 or channels != out):
                total += channels * out + 2 * out
            channels = out
    return total + channels * outputs + outputs


@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (50, 25_557_032), (101, 44_549_160)])
def test_the_count_gives_the_published_sizes_of_2d_resnets(depth, published):
    assert expected_parameters(depth, 64, axes=2, channels_in=3, outputs=1000) == published


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101])
def test_parameter_count(depth):
    with torch.device("meta"):
        model = ResNet3D(depth)
    assert sum(p.numel() for p in model.parameters()) == expected_parameters(depth, 64)


@pytest.mark.parametrize(
    ("shape", "options", "grid", "stride"),
    [
        ((193, 229, 193), {}, (7, 8, 7), 32),
        ((193, 229, 193), {"stem_stride": 1}, (13, 15, 13), 16),
        ((96, 114, 96), {}, (3, 4, 3), 32),
        ((96, 114, 96), {"stem_stride": 1}, (6, 8, 6), 16),
        ((48, 57, 48), {"stem_pool": False, "stage_strides": (2, 2, 1, 1)}, (6, 8, 6), 8),
    ],
)
@pytest.mark.parametrize("depth", [18, 50])
def test_last_grid(depth, shape, options, grid, stride):
    with torch.device("meta"):
        model = ResNet3D(depth, **options)
        activations = model.last_stage(torch.empty(1, 1, *shape))
    assert tuple(activations.shape) == (1, model.n_features, *grid)
    assert model.n_features == (512 if depth == 18 else 2048)
    assert model.total_stride == stride


@pytest.mark.parametrize("options", [{}, {"stem_pool": False, "stage_strides": (2, 2, 1, 1)}, {"stem_stride": 1}])
def test_cell_k_is_centred_on_voxel_stride_times_k(options):
    # Only positive weights: the gradient of one cell is then its receptive field, whose centre must be stride * k.
    model = ResNet3D(10, 2, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_().add_(1e-3)
    size = 12 * model.total_stride + 1
    line = torch.ones(1, 1, size, 1, 1, dtype=torch.float64, requires_grad=True)
    activations = model.last_stage(line)
    k = activations.shape[2] // 2
    activations[0, :, k].sum().backward()
    reached = np.flatnonzero(line.grad[0, 0, :, 0, 0].numpy())
    if reached[0] > 0 and reached[-1] < size - 1:  # max pooling picks one of equal voxels, so half a stride is allowed
        assert abs((reached[0] + reached[-1]) / 2 - model.total_stride * k) <= 2


@pytest.mark.parametrize("shape", [(17, 20, 19), (32, 32, 32), (8, 8, 8)])
def test_any_size_gives_ages_and_features(shape):
    model = ResNet3D(18, 4).eval()
    x = torch.randn(3, 1, *shape)
    assert model.embed(x).shape == (3, 32)
    ages = model(x)
    assert ages.shape == (3,)
    assert torch.allclose(ages, model.head(model.embed(x))[:, 0])


def test_initial_weights():
    model = ResNet3D(18, 16)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d):
            assert module.bias is None
            fan_out = module.out_channels * np.prod(module.kernel_size)
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(np.sqrt(2 / fan_out), rel=0.1)
    model.reset_head(50.0, torch.Generator().manual_seed(1))
    first = model.head.weight.clone()
    model.reset_head(50.0, torch.Generator().manual_seed(1))
    assert torch.equal(first, model.head.weight)
    assert model.head.bias.item() == 50.0
    assert first.abs().max() <= 1 / np.sqrt(model.n_features)


def test_encoder_parameters_leave_the_head_out():
    model = ResNet3D(10, 4)
    rest = {id(p) for p in model.parameters()} - {id(p) for p in model.encoder_parameters()}
    assert rest == {id(model.head.weight), id(model.head.bias)}


def test_wrong_shape_of_network():
    with pytest.raises(ValueError, match=r"depth 19 is not one of \[10, 18, 34, 50, 101\]"):
        ResNet3D(19)
    with pytest.raises(ValueError, match="four numbers"):
        ResNet3D(18, stage_strides=(1, 2))
