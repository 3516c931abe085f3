import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from brainage_bids.model.explain import gradram, map_affine, write_map
from brainage_bids.model.resnet import ResNet3D


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ResNet3D(18, 4, stem_pool=False, stage_strides=(2, 2, 1, 1))
    model(torch.randn(4, 1, 24, 32, 24))  # moves the batch statistics away from their neutral start
    model.head.bias.data.fill_(47.0)
    return model.eval()


def test_map_sum_plus_bias_is_the_age(model):
    volume = torch.randn(24, 32, 24)
    age, cells = gradram(model, volume)
    assert cells.shape == (3, 4, 3)
    assert cells.dtype == np.float32
    assert cells.sum() + model.head.bias.item() == pytest.approx(age, abs=1e-4)
    assert age == pytest.approx(model(volume[None, None]).item(), abs=1e-4)
    assert gradram(model, volume.numpy())[0] == pytest.approx(age, abs=1e-4)


def test_map_equals_gradient_times_activation(model):
    volume = torch.randn(24, 32, 24)
    activations = model.last_stage(volume[None, None]).detach().requires_grad_()
    age = model.head(activations.mean(dim=(2, 3, 4)))[0, 0]
    (gradient,) = torch.autograd.grad(age, activations)
    importance = gradient.mean(dim=(2, 3, 4), keepdim=True)  # alpha_k of Selvaraju et al., equation 1
    cells = (importance * activations).sum(1)[0].detach().numpy()
    assert np.allclose(gradram(model, volume)[1], cells, atol=1e-5)


def test_map_is_signed_and_follows_the_weights(model):
    volume = torch.randn(24, 32, 24)
    _, cells = gradram(model, volume)
    model.head.weight.data.neg_()
    _, turned = gradram(model, volume)
    assert np.allclose(turned, -cells, atol=1e-6)
    assert (cells < 0).any() or (turned < 0).any()


def test_randomised_parameters_change_the_map(model):
    # Adebayo et al. 2018: a map that survives random weights explains nothing.
    volume = torch.randn(24, 32, 24)
    _, trained = gradram(model, volume)
    torch.manual_seed(99)
    other = ResNet3D(18, 4, stem_pool=False, stage_strides=(2, 2, 1, 1)).eval()
    _, random = gradram(other, volume)
    assert abs(np.corrcoef(trained.ravel(), random.ravel())[0, 1]) < 0.9
    with torch.no_grad():
        model.stages[3][1].convs[1].weight.normal_()  # the last layer alone
    assert not np.allclose(gradram(model, volume)[1], trained, atol=1e-3)


def asymmetric_model():
    """A network whose every layer passes positive intensities on."""
    model = ResNet3D(10, 2, stem_pool=False, stage_strides=(2, 2, 1, 1)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("bias"):
                parameter.fill_(0.01)
    return model


@pytest.mark.parametrize("flip_x", [False, True])
def test_the_right_side_is_shown_right(tmp_path, flip_x):
    # A bright ball at world x = +48 mm (right in RAS+): in world space the map written to disk has its peak there.
    affine = np.array([[4.0, 0, 0, -96], [0, 4, 0, -132], [0, 0, 4, -78], [0, 0, 0, 1]])
    where = np.array([-48.0 if flip_x else 48.0, -36.0, 18.0])
    world = np.einsum("ij,j...->i...", affine[:3, :3], np.indices((48, 57, 48))) + affine[:3, 3, None, None, None]
    volume = (np.linalg.norm(world - where[:, None, None, None], axis=0) < 16).astype(np.float32)
    model = asymmetric_model()
    _, cells = gradram(model, volume)
    path = write_map(tmp_path / "map.nii.gz", cells, map_affine(model, affine))
    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 4
    data = image.get_fdata()
    peak = image.affine @ [*np.unravel_index(data.argmax(), data.shape), 1]
    assert np.abs(peak[:3] - where).max() <= 16  # half a cell of 32 mm
    mass = (np.indices(data.shape) * data).sum((1, 2, 3)) / data.sum()
    assert np.sign((image.affine @ [*mass, 1])[0]) == np.sign(where[0])


def test_map_affine_places_cell_k_on_voxel_stride_times_k():
    model = ResNet3D(10, 2)
    image = np.array([[2.0, 0, 0, -96], [0, 2, 0, -132], [0, 0, 2, -78], [0, 0, 0, 1]])
    affine = map_affine(model, image)
    for cell in ([0, 0, 0], [2, 3, 1]):
        assert np.allclose(affine @ [*cell, 1], image @ [*(32 * np.array(cell)), 1])
    # Resampling the map back in world space puts the value of cell k exactly on its voxel.
    cells = np.random.default_rng(0).random((3, 4, 3))
    back = np.linalg.inv(affine) @ image
    grid = affine_transform(cells, back[:3, :3], back[:3, 3], output_shape=(96, 114, 96), order=1, mode="nearest")
    assert np.allclose(grid[::32, ::32, ::32], cells)


def test_wrong_input(model):
    with pytest.raises(ValueError, match=r"one volume \(D, H, W\)"):
        gradram(model, torch.zeros(1, 24, 32, 24))
    with pytest.raises(ValueError, match="evaluation mode"):
        gradram(model.train(), torch.zeros(24, 32, 24))
