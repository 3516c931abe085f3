import dataclasses

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from brainage_bids.preprocess import affine, rescue
from brainage_bids.preprocess.intake import Native
from brainage_bids.preprocess.template import load_template


@pytest.fixture(scope="module")
def points():
    template = load_template()
    index = np.argwhere(template.mask)[::501]
    return np.c_[index @ template.affine[:3, :3].T + template.affine[:3, 3], np.ones(len(index))]


@pytest.fixture(scope="module")
def at_rest(brain_and_mask):
    return affine.register(*brain_and_mask, load_template())


def moved(brain_and_mask, angles, scales, shift):
    """Return the phantom in a world moved by a known affine, resampled by its inverse, and that affine."""
    data, mask, world = brain_and_mask
    move = np.eye(4)
    move[:3, :3] = Rotation.from_rotvec(angles, degrees=True).as_matrix() @ np.diag(scales)
    move[:3, 3] = shift
    grid = np.diag([3.0, 3.0, 3.0, 1.0])
    grid[:3, 3] = -135 + np.asarray(shift)
    to_voxel = np.linalg.inv(world) @ np.linalg.inv(move) @ grid
    args = {"matrix": to_voxel[:3, :3], "offset": to_voxel[:3, 3], "output_shape": (90, 90, 90)}
    return (
        affine_transform(data, **args, order=3),
        affine_transform(mask.astype(float), **args, order=1) > 0.5,
        grid,
        move,
    )


@pytest.mark.parametrize(
    ("angles", "scales", "shift"),
    [
        ((0, 0, 0), (1, 1, 1), (0, 0, 0)),
        ((10, -8, 5), (0.92, 1.0, 0.95), (12, -9, 20)),
        ((-30, 0, 0), (0.95, 0.9, 0.92), (0, 0, 60)),
        ((0, 15, -35), (1.05, 1.0, 0.95), (-300, 10, 0)),
    ],
)
def test_known_moves_are_recovered(brain_and_mask, at_rest, points, angles, scales, shift):
    data, mask, grid, move = moved(brain_and_mask, angles, scales, shift)
    fit = affine.register(data, mask, grid, load_template())
    jitter = np.linalg.norm((points @ fit.matrix.T - points @ (move @ at_rest.matrix).T)[:, :3], axis=1)
    error = np.linalg.norm((points @ fit.matrix.T - points @ move.T)[:, :3], axis=1)
    assert np.median(jitter) < 0.3
    assert np.median(error) < 0.4  # voxels of 3 mm, blurred once more by the move
    assert fit.ncc > 0.9


def test_the_same_input_gives_the_same_bits(brain_and_mask, at_rest):
    np.testing.assert_array_equal(affine.register(*brain_and_mask, load_template()).matrix, at_rest.matrix)


def test_a_cut_field_of_view_does_not_pull(brain_and_mask, points):
    data, mask, world = brain_and_mask
    low = np.argwhere(mask.any(axis=(0, 1)))[0, 0] + 8  # 24 mm of the brain's foot missing
    cut = world.copy()
    cut[:3, 3] += world[:3, 2] * low
    fit = affine.register(data[:, :, low:], mask[:, :, low:], cut, load_template())
    assert np.median(np.linalg.norm((points @ fit.matrix.T - points)[:, :3], axis=1)) < 1.0


def test_a_ball_correlates_badly():
    x, y, z = np.meshgrid(*[np.arange(-30, 31.0)] * 3, indexing="ij")
    mask = x**2 + y**2 + z**2 < 24**2
    data = (mask * (1 + 0.02 * np.random.default_rng(0).normal(size=mask.shape))).astype(np.float32)
    grid = np.diag([3.0, 3.0, 3.0, 1.0])
    assert affine.register(data, mask, grid, load_template()).ncc < 0.44


def test_what_is_left_of_a_bias_field_does_not_move_the_brain(brain_and_mask, at_rest, points):
    data, mask, world = brain_and_mask
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in data.shape], indexing="ij")
    biased = (data * np.exp(0.25 * x + 0.2 * z - 0.2 * y * y)).astype(np.float32)
    matrix = affine.register(biased, mask, world, load_template()).matrix
    assert np.linalg.norm((points @ at_rest.matrix.T - points @ matrix.T)[:, :3], axis=1).mean() < 0.15


def test_standardising_removes_a_smooth_field_and_keeps_the_edge_against_air(brain_and_mask):
    data, mask, world = brain_and_mask
    values = affine._normalised(data, mask)
    plain = affine._standardised(values, mask, world)
    field = np.exp(0.004 * np.indices(mask.shape)[2] * 3).astype(np.float32)
    assert not plain[~mask].any()
    assert plain[mask].mean() == pytest.approx(1, abs=0.1)
    assert plain[mask].std() == pytest.approx(1, abs=0.25)
    changed = affine._standardised(values * field, mask, world) - plain
    assert np.sqrt((changed[mask] ** 2).mean()) < 0.1
    np.testing.assert_allclose(affine._standardised(0.3 * mask, mask, world)[mask], 1, atol=1e-2)


def test_a_field_of_view_that_ends_within_the_brain_moves_it_little(brain_and_mask, points):
    data, mask, world = brain_and_mask
    hazy = 0.3 * np.percentile(data[mask], 99.5) * np.linspace(0, 2, data.shape[2])  # contrast falls towards the top
    data = (data + hazy).astype(np.float32)
    seen = np.flatnonzero(mask.any(axis=(0, 1)))[4:-3]  # 12 mm less at the bottom, 9 mm at the top
    part = world.copy()
    part[:3, 3] += world[:3, 2] * seen[0]
    whole = affine.register(data, mask, world, load_template()).matrix
    cut = affine.register(data[:, :, seen], mask[:, :, seen], part, load_template()).matrix
    assert np.linalg.norm((points @ whole.T - points @ cut.T)[:, :3], axis=1).mean() < 0.04


def test_the_correlation_is_the_plain_one(brain_and_mask, at_rest):
    data, mask, world = brain_and_mask
    level = affine._template_level(load_template(), affine.FINE_MM, "cpu")
    moving = affine._moving_level(affine._normalised(data, mask), mask, world, affine.FINE_MM, "cpu")
    pose = torch.as_tensor(at_rest.matrix @ affine._from_normalised(load_template()))[None]
    found = affine._evaluate(level, moving, pose, level.inside.float())[0]
    assert float(found[0]) == pytest.approx(at_rest.ncc, abs=1e-5)


def test_two_templates_of_one_name_are_two_templates():
    one = load_template()
    dimmed = dataclasses.replace(one, data=one.data**2)
    first, second = (affine._template_level(template, 8.0, "cpu") for template in (one, dimmed))
    assert not torch.equal(first.values, second.values)
    assert affine._template_level(one, 8.0, "cpu") is first


def test_gauss_newton_slope_is_the_gradient_of_the_correlation(brain_and_mask):
    data, mask, world = brain_and_mask
    template = load_template()
    level = affine._template_level(template, 8.0, "cpu")
    moving = affine._moving_level(affine._normalised(data, mask), mask, world, 8.0, "cpu")
    basis = affine._bases("cpu")[1]
    pose = torch.as_tensor(
        affine._initial_poses(mask, world, template, Rotation.from_rotvec([[0.1, 0.05, 0]]).as_matrix())
    )
    weight = torch.ones_like(level.values)
    _, _, slope = affine._evaluate(level, moving, pose, weight, basis)
    step, numeric = 2e-2, []
    for k in range(12):
        both = []
        for sign in (1, -1):
            delta = torch.zeros(1, 12, dtype=torch.float64)
            delta[0, k] = sign * step
            both.append(float(affine._evaluate(level, moving, pose @ affine._exponential(delta), weight)[0]))
        numeric.append((both[0] - both[1]) / (2 * step))
    np.testing.assert_allclose(slope[0].numpy(), numeric, atol=0.12 * np.abs(numeric).max())


def test_starts_are_rotations():
    for starts, n in ((affine.standard_starts(), 13), (affine.wide_starts(), 30)):
        assert starts.shape == (n, 3, 3)
        np.testing.assert_allclose(np.linalg.det(starts), 1)
        np.testing.assert_allclose(starts[0], np.eye(3))
        assert len({tuple(m.round(6).ravel() + 0.0) for m in starts}) == n


def test_threads_are_given_back():
    former = torch.get_num_threads()
    assert affine.set_threads(1) == former
    affine.set_threads(former)


def test_turning_a_head_there_and_back(head, brain_and_mask):
    native = Native(np.asarray(head.dataobj), head.affine)
    turn = Rotation.from_rotvec([90, 0, 0], degrees=True).as_matrix()
    same, to_native = rescue.turned(native, np.eye(3), 3.0)
    shift = np.round(np.linalg.inv(to_native) @ [10, 20, 30, 1])[:3].astype(int)
    assert same.data[tuple(shift)] == pytest.approx(native.data[10, 20, 30], rel=1e-3)
    turned, to_native = rescue.turned(native, turn, 3.0)
    world = turned.affine @ np.linalg.inv(to_native) @ np.linalg.inv(native.affine)
    np.testing.assert_allclose(world[:3, :3], turn, atol=1e-9)


def test_upright_is_the_inverse_of_the_pose():
    turn = Rotation.from_rotvec([20, -50, 5], degrees=True).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = turn.T @ np.diag([0.9, 0.9, 0.9])
    np.testing.assert_allclose(rescue.upright(affine.Fit(matrix, 0.7)), turn, atol=1e-9)


def test_what_is_suspect():
    assert not rescue.suspect(0.65, 1400)
    assert rescue.suspect(0.40, 1400)
    assert rescue.suspect(0.65, 2500)


def test_template_is_not_on_the_target_grid():
    template = load_template()
    assert template.data.shape == (197, 233, 189)
    assert nib.aff2axcodes(template.affine) == ("R", "A", "S")
