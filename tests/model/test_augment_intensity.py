"""Blur, thick slices and the smooth field: their mathematics, the same on both ways, and nothing for older recipes."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from brainage_bids.model import augment
from brainage_bids.model.augment import apply, draw, neutral, pull_back
from brainage_bids.model.augment_intensity import draw_fields, field_bases, log_field
from brainage_bids.model.recipe_sections import AugmentationSettings

SHAPE = (24, 30, 20)
ALL = {"field_max": 0.5, "blur_mm": 6.0, "slice_mm": 8.0}


@pytest.fixture
def brains():
    whole = torch.zeros(6, 1, *SHAPE)
    whole[:, :, 6:18, 4:25, 5:16] = torch.rand(6, 1, 12, 21, 11, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.1
    whole[:, :, 10, 12, 8] = 0.0  # a hole
    return whole


def change(count=1, **values):
    return dataclasses.replace(neutral(count), **{key: np.asarray(value, float) for key, value in values.items()})


def test_recipes_without_them_draw_what_they_always_drew():
    """Numbers of the version before them: the state of the generator and every parameter."""
    rng = np.random.default_rng(7)
    drawn = draw(3, AugmentationSettings(gamma_max=2.0), rng)
    assert drawn.gamma == pytest.approx([0.846095456844797, 1.9419361533100838, 1.0], rel=1e-12)
    assert drawn.noise_seed.tolist() == [2758637099185533452, 273249970573619706, 1787636157480173958]
    assert rng.random() == 0.6050562538298513
    assert not drawn.smooths.any()
    assert not drawn.shades.any()


def test_they_are_drawn_after_everything_else():
    former = draw(500, AugmentationSettings(gamma_max=2.0), np.random.default_rng(0))
    drawn = draw(500, AugmentationSettings(gamma_max=2.0, **ALL), np.random.default_rng(0))
    for name in ("translation", "rotation", "crop", "crop_shift", "noise_sd", "noise_seed", "gamma"):
        assert np.array_equal(getattr(drawn, name), getattr(former, name)), name
    for chosen in (drawn.blur > 0, (drawn.slices > 0).any(1), drawn.shades):
        assert chosen.mean() == pytest.approx(0.5, abs=0.08)
    assert 5.9 < drawn.blur.max() <= 6
    assert 7.8 < drawn.slices.max() <= 8
    assert ((drawn.slices > 0).sum(1) <= 1).all()  # along one axis
    assert ((drawn.slices > 0).sum(0) > 50).all()  # and that is a random one


def test_millimetres_are_the_same_on_any_grid():
    settings = AugmentationSettings(**ALL)
    fine, coarse = (draw(40, settings, np.random.default_rng(0), mm) for mm in (1.0, 4.0))
    assert np.allclose(fine.blur, 4 * coarse.blur)
    assert np.allclose(fine.slices, 4 * coarse.slices)
    assert np.array_equal(fine.field, coarse.field)


def test_blur_is_gaussian_and_leaves_no_dark_rim(brains):
    out = apply(brains[:1], change(blur=[3.0]))[0, 0].numpy()
    volume = brains[0, 0].numpy().astype(float)
    sd = 3.0 / np.sqrt(8 * np.log(2))
    filtered = [gaussian_filter(x, sd, mode="constant", truncate=12) for x in (volume, (volume > 0).astype(float))]
    wanted = np.where(volume > 0, filtered[0] / np.maximum(filtered[1], 1e-9), 0)
    assert np.allclose(out, wanted * volume.max() / wanted.max(), atol=1e-5)
    flat = (brains[:1] > 0) * 0.5
    assert torch.allclose(apply(flat, change(blur=[3.0])), flat, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_whole_voxels_are_means_and_linear_between_their_middles(axis):
    shape = np.full(3, 6)
    shape[axis] = 15  # five slices of three voxels
    volume = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(1)) + 0.1
    slices = np.zeros((1, 3))
    slices[0, axis] = 3.0
    out = apply(volume, change(slices=slices))[0, 0].movedim(axis, 0).numpy().astype(float)
    means = volume[0, 0].movedim(axis, 0).reshape(5, 3, 6, 6).mean(1).numpy().astype(float)
    places = np.arange(1, 14)  # from the middle of the first slice to that of the last
    low = np.minimum((places - 1) // 3, 3)
    share = ((places - 1) / 3 - low)[:, None, None]
    wanted = means[low] * (1 - share) + means[low + 1] * share
    assert np.allclose(out[1:14] / out[1:14].max(), wanted / wanted.max(), atol=1e-5)
    assert out.max() == pytest.approx(volume.max().item(), rel=1e-6)


def test_slices_thinner_than_a_voxel_change_nothing(brains):
    assert torch.equal(apply(brains, change(6, slices=np.full((6, 3), 1.0))), brains)


def test_the_field_has_its_strength_where_the_brain_lies_and_keeps_the_range(brains):
    fields = draw_fields(200, 0.4, np.random.default_rng(0))
    bases = [torch.from_numpy(basis) for basis in field_bases((36, 36, 36))]
    middle = log_field(torch.from_numpy(fields).float(), bases)[:, 4:32, 4:32, 4:32].flatten(1)
    assert torch.allclose(middle.amax(1), -middle.amin(1), atol=0.01)  # as much brighter as darker
    assert 0.38 < middle.max() < 0.41
    assert middle.amax(1).median() == pytest.approx(0.2, abs=0.03)  # uniform from 0
    out = apply(brains, change(6, field=fields[:6]))
    assert torch.equal(out == 0, brains == 0)
    assert torch.allclose(out.amax((1, 2, 3, 4)), brains.amax((1, 2, 3, 4)))
    log = (out / brains).log()[:, 0, 6:9, 4:25, 5:16]
    wanted = log_field(torch.from_numpy(fields[:6]).float(), [torch.from_numpy(b) for b in field_bases(SHAPE)])
    wanted = wanted[:, 6:9, 4:25, 5:16]
    log, wanted = (values - values.mean((1, 2, 3), keepdim=True) for values in (log, wanted))
    assert torch.allclose(log, wanted, atol=1e-4)


def test_whole_grids_at_once_are_what_boxes_one_by_one_give(brains, monkeypatch):
    """The way of a GPU, on the CPU, with everything on but noise, whose numbers are others there."""
    settings = AugmentationSettings(probability=0.6, translation_voxels=3, gamma_max=2, noise_sd=0, **ALL)
    parameters = draw(6, settings, np.random.default_rng(5), 2.0)
    assert 0 < parameters.smooths.sum() < 6
    assert (parameters.shades & ~parameters.smooths).any()
    moved = (parameters.translation != 0).any(1) | (parameters.rotation != 0).any(1) | (parameters.crop != 1).any(1)
    wanted = apply(brains.half(), parameters)
    for points in (2**25, 2 * 24 * 30 * 20):
        monkeypatch.setattr(augment, "GRID_POINTS", points)
        pulls = pull_back(parameters, SHAPE)
        out = augment._whole_grids(brains.half(), parameters, pulls, np.flatnonzero(moved))
        edge = (wanted == 0) != (out == 0)  # of a moved brain; there the sums of the two ways may round to zero or not
        assert edge.float().mean() < 1e-3
        assert torch.allclose(out[~edge], wanted[~edge], atol=1e-4)


def test_a_volume_becomes_the_same_alone_and_in_any_batch(brains):
    settings = AugmentationSettings(probability=0.8, translation_voxels=3, gamma_max=2, **ALL)
    parameters = draw(6, settings, np.random.default_rng(2))
    whole = apply(brains, parameters)
    alone = torch.cat([apply(brains[i : i + 1], parameters[i : i + 1]) for i in range(6)])
    assert torch.equal(whole, alone)


def test_an_empty_volume_and_one_moved_away_stay_empty():
    volumes = torch.zeros(2, 1, 12, 12, 12)
    volumes[0, 0, 1:4, 2:5, 2:5] = 1
    fields = draw_fields(2, 0.4, np.random.default_rng(0))
    out = apply(volumes, change(2, translation=[[-10, 0, 0], [0, 0, 0]], blur=[2, 2], field=fields))
    assert not out.any()
