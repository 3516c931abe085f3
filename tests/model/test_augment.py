import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from brainage_bids.model import augment
from brainage_bids.model.augment import apply, draw, neutral, pull_back, settings_from
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.recipe_sections import AugmentationSettings

SHAPE = (13, 16, 11)


@pytest.fixture
def volumes():
    return torch.from_numpy(np.random.default_rng(0).random((5, 1, *SHAPE), dtype=np.float32)) + 0.1


def change(count=1, **values):
    return dataclasses.replace(neutral(count), **{key: np.asarray(value, float) for key, value in values.items()})


def test_neutral_is_the_identity_bit_by_bit(volumes):
    out = apply(volumes, neutral(5))
    assert torch.equal(out, volumes)
    assert out is not volumes


def test_the_resampling_itself_is_neutral(volumes):
    # A rotation too small to see still goes through the resampling: no half-voxel shift may appear.
    out = apply(volumes, change(5, rotation=np.full((5, 3), 1e-9)))
    assert torch.allclose(out, volumes, atol=5e-6)


def test_translation_moves_by_whole_voxels(volumes):
    out = apply(volumes[:1], change(translation=[[2, -3, 1]]))
    assert torch.allclose(out[0, 0, 2:, :-3, 1:], volumes[0, 0, :-2, 3:, :-1], atol=2e-5)
    assert not out[0, 0, :2].any()
    assert not out[0, 0, :, -3:].any()


def test_quarter_turn_is_rot90():
    cube = torch.from_numpy(np.random.default_rng(1).random((1, 1, 9, 9, 9), dtype=np.float32))
    out = apply(cube, change(rotation=[[0, 0, np.pi / 2]]))
    turned = torch.rot90(cube, 1, (2, 3))  # x towards y, right-handed about z
    assert torch.allclose(out, turned, atol=2e-5)


def test_crop_of_the_middle_half_doubles_the_size():
    cube = torch.zeros(1, 1, 16, 16, 16)
    cube[..., 6:10, 6:10, 6:10] = 1
    out = apply(cube, change(crop=[[0.5, 0.5, 0.5]]))
    assert out.sum().item() == pytest.approx(8 * cube.sum().item(), rel=0.05)
    assert torch.allclose(out, out.flip(2), atol=1e-5)  # stays centred


def test_crop_shift_looks_at_the_shifted_window():
    line = torch.arange(16.0).reshape(1, 1, 16, 1, 1).expand(1, 1, 16, 4, 4).contiguous()
    out = apply(line, change(crop=[[0.5, 1, 1]], crop_shift=[[0.25, 0, 0]]))
    assert out[0, 0, 0, 1, 1].item() == pytest.approx(7.75, abs=1e-4)  # first window voxel is 8, its edge 7.5
    assert out[0, 0, -2, 1, 1].item() == pytest.approx(14.75, abs=1e-4)


def test_equals_scipy_with_everything_on(volumes):
    settings = AugmentationSettings(probability=1.0, translation_voxels=2.0, noise_sd=0.0)
    parameters = draw(5, settings, np.random.default_rng(4))
    out = apply(volumes, parameters)
    for index, matrix in enumerate(pull_back(parameters, SHAPE)):
        volume = volumes[index, 0].numpy()
        padded = np.pad(volume, 1)  # zeros outside, interpolated up to the first voxel beyond the edge
        slow = affine_transform(padded, matrix[:3, :3], matrix[:3, 3] + 1, output_shape=SHAPE, order=1, mode="constant")
        assert np.allclose(out[index, 0].numpy(), slow, atol=1e-4)


def test_pull_back_is_crop_after_rotation_after_translation():
    parameters = change(translation=[[1, 2, -1]], rotation=[[0.2, -0.1, 0.3]], crop=[[0.8, 0.9, 0.7]],
                        crop_shift=[[0.05, 0.0, -0.1]])  # fmt: skip
    size, centre = np.array(SHAPE), (np.array(SHAPE) - 1) / 2
    rotation = Rotation.from_rotvec([0.2, -0.1, 0.3]).as_matrix()
    point = np.array([3.0, 5.0, 2.0])
    window = centre + [0.8, 0.9, 0.7] * (point - centre) + [0.05, 0.0, -0.1] * size
    wanted = rotation.T @ (window - centre) + centre - [1, 2, -1]
    assert np.allclose((pull_back(parameters, SHAPE)[0] @ [*point, 1])[:3], wanted)


def test_noise_stays_inside_the_brain_and_has_its_sd():
    volume = torch.zeros(1, 1, 30, 30, 30)
    volume[..., 5:25, 5:25, 5:25] = 0.5
    parameters = dataclasses.replace(neutral(1), noise_sd=np.array([0.025]), noise_seed=np.array([3]))
    out = apply(volume, parameters)
    assert torch.equal(out == 0, volume == 0)
    difference = (out - volume)[volume != 0]
    assert difference.std().item() == pytest.approx(0.025, rel=0.05)
    assert abs(difference.mean().item()) < 0.002
    assert torch.equal(out, apply(volume, parameters))


def test_draws_follow_the_settings():
    settings = AugmentationSettings()
    p = draw(4000, settings, np.random.default_rng(0))
    for chosen in ((p.translation != 0).any(1), (p.rotation != 0).any(1), p.noise_sd != 0, (p.crop != 1).any(1)):
        assert chosen.mean() == pytest.approx(0.5, abs=0.03)
    angle = np.linalg.norm(p.rotation, axis=1)
    angle = angle[angle > 0]
    assert angle.min() >= 0.1
    assert angle.max() <= 0.5
    assert (p.rotation < 0).any()
    assert (p.rotation > 0).any()
    assert np.abs(p.translation).max() <= 10
    assert p.crop.min() >= 0.7
    assert (np.abs(p.crop_shift) <= (1 - p.crop) / 2 + 1e-12).all()  # the window stays inside
    again = draw(4000, settings, np.random.default_rng(0))
    assert np.array_equal(p.rotation, again.rotation)
    assert np.array_equal(p.noise_seed, again.noise_seed)
    assert not np.array_equal(p.rotation, draw(4000, settings, np.random.default_rng(1)).rotation)


def test_the_power_changes_contrast_inside_the_brain_and_nothing_else():
    volume = torch.zeros(2, 1, 12, 12, 12)
    volume[..., 2:10, 2:10, 2:10] = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.1
    out = apply(volume, change(2, gamma=[2.0, 1.0]))
    assert torch.allclose(out[0], volume[0] ** 2, atol=1e-7)
    assert torch.equal(out[1], volume[1])
    turned = change(2, gamma=[0.5, 1.0], rotation=[[0, 0, np.pi / 2], [0, 0, np.pi / 2]])
    out = apply(volume, turned)
    assert torch.allclose(out[0] ** 2, out[1], atol=1e-6)  # moved first


def test_powers_are_drawn_last_and_log_uniform():
    p = draw(4000, AugmentationSettings(), np.random.default_rng(0))
    assert (p.gamma == 1).all()
    strong = draw(4000, AugmentationSettings(gamma_max=2.0), np.random.default_rng(0))
    for name in ("translation", "rotation", "crop", "crop_shift", "noise_sd", "noise_seed"):
        assert np.array_equal(getattr(strong, name), getattr(p, name)), name
    drawn = np.log2(strong.gamma[strong.gamma != 1])
    assert len(drawn) / 4000 == pytest.approx(0.5, abs=0.03)
    assert drawn.min() >= -1
    assert drawn.max() <= 1
    assert np.abs(np.quantile(drawn, [0.25, 0.5, 0.75]) - [-0.5, 0, 0.5]).max() < 0.1


def test_rotations_about_each_axis_have_signs_and_angles_of_their_own():
    p = draw(2000, AugmentationSettings(rotation_axes="each"), np.random.default_rng(0))
    turned = p.rotation[(p.rotation != 0).any(1)]
    assert len(turned) / 2000 == pytest.approx(0.5, abs=0.04)
    angles = Rotation.from_rotvec(turned).as_euler("xyz")
    assert np.abs(angles).min() >= 0.1 - 1e-9
    assert np.abs(angles).max() <= 0.5 + 1e-9
    assert (angles < 0).mean(0) == pytest.approx(np.full(3, 0.5), abs=0.05)
    assert np.abs(np.corrcoef(angles.T) - np.eye(3)).max() < 0.1


def test_a_shift_in_millimetres_is_the_same_on_any_grid():
    shifts = {}
    for recipe in ("rnc-highrez", "rnc-lowrez"):
        assert settings_from(load_recipe(recipe).to_dict()).translation_voxels == 10  # as the paper writes
        settings = settings_from(load_recipe(recipe, ["augmentation.translation_mm=6"]).to_dict())
        shifts[recipe] = settings.translation_voxels
    assert shifts == {"rnc-highrez": 6.0, "rnc-lowrez": 3.0}
    assert settings_from(load_recipe("resnet50-lowrez-noaug").to_dict()) is None


def test_probability_zero_never_touches(volumes):
    p = draw(5, AugmentationSettings(probability=0.0, gamma_max=2.0), np.random.default_rng(0))
    assert torch.equal(apply(volumes, p), volumes)


def test_a_volume_becomes_the_same_alone_and_in_any_batch_on_any_number_of_threads(volumes):
    brain = torch.zeros(4, 1, 24, 30, 20)
    brain[:, :, 6:18, 4:25, 5:16] = torch.rand(4, 1, 12, 21, 11, generator=torch.Generator().manual_seed(0)) + 0.1
    parameters = draw(
        4, AugmentationSettings(probability=0.8, translation_voxels=3, gamma_max=2), np.random.default_rng(2)
    )
    whole = apply(brain, parameters)
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if former > 1 else 2)
        assert torch.equal(whole, apply(brain, parameters))
    finally:
        torch.set_num_threads(former)
    assert torch.equal(whole, torch.cat([apply(brain[i : i + 1], parameters[i : i + 1]) for i in range(4)]))
    assert not torch.equal(whole[0], whole[1])


def test_whole_grids_at_once_are_what_boxes_one_by_one_give(monkeypatch):
    """The way of a GPU, on the CPU: same values, also when only some volumes fit at once."""
    brain = torch.zeros(6, 1, 24, 30, 20)
    brain[:, :, 6:18, 4:25, 5:16] = torch.rand(6, 1, 12, 21, 11, generator=torch.Generator().manual_seed(0)) + 0.1
    parameters = draw(
        6, AugmentationSettings(probability=0.7, translation_voxels=3, gamma_max=2), np.random.default_rng(2)
    )
    quiet = dataclasses.replace(parameters, noise_sd=np.zeros(6))
    pulls, moved = pull_back(parameters, (24, 30, 20)), np.array([0, 1, 3, 4])
    untouched = dataclasses.replace(neutral(6), noise_sd=parameters.noise_sd, noise_seed=parameters.noise_seed)
    for points in (2**25, 2 * 24 * 30 * 20):
        monkeypatch.setattr(augment, "GRID_POINTS", points)
        out = augment._whole_grids(brain.half(), quiet, pulls, moved)
        wanted = apply(brain.half(), quiet)
        assert torch.allclose(out[moved], wanted[moved], atol=2e-5)
        for still in (2, 5):
            assert torch.equal(out[still], brain[still].half().float().pow(float(quiet.gamma[still])))
    noisy = augment._whole_grids(brain, untouched, pull_back(untouched, (24, 30, 20)), np.zeros(0, int))
    assert parameters.noise_sd.any()
    assert torch.equal(noisy == 0, brain == 0)
    assert ((noisy - brain)[:, 0].abs().amax((1, 2, 3)) > 0).tolist() == (parameters.noise_sd > 0).tolist()


def test_a_brain_moved_off_the_grid_and_an_empty_volume_stay_empty():
    brain = torch.zeros(2, 1, 12, 12, 12)
    brain[0, 0, 1:4, 2:5, 2:5] = 1
    out = apply(brain, change(2, translation=[[-10, 0, 0], [1, 0, 0]]))
    assert not out.any()


def test_half_precision_volumes_come_out_as_float32(volumes):
    out = apply(volumes.half(), neutral(5))
    assert out.dtype == torch.float32
    assert torch.equal(out, volumes.half().float())
