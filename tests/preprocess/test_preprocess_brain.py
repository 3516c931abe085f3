import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import affine, brain, rescue
from brainage_bids.preprocess.foreground import own_mask
from brainage_bids.preprocess.intake import Native
from brainage_bids.preprocess.template import load_template


def read_native(image):
    return Native(np.asarray(image.dataobj), image.affine)


def test_the_phantom_brain_is_found(found, brain_and_mask):
    mask, source = found
    assert source == "deepbet"
    assert brain.dice(mask, brain_and_mask[1]) > 0.93
    assert brain.volume_ml(mask, np.full(3, 3.0)) == pytest.approx(brain_and_mask[1].sum() * 27e-3, rel=0.15)


def test_the_mask_moves_with_the_head(head, found):
    at_rest, _ = found
    turn = Rotation.from_rotvec([22, 10, -8], degrees=True).as_matrix()
    moved, to_native = rescue.turned(read_native(head), turn, 2.0)
    there = affine_transform(
        at_rest.astype(np.float32), to_native[:3, :3], to_native[:3, 3], output_shape=moved.data.shape, order=1
    )
    assert brain.dice(brain.upright_mask(moved), there > 0.5) > 0.98


def test_a_head_that_cannot_be_placed_is_masked_in_its_own_pose(head, monkeypatch):
    monkeypatch.setattr(brain, "register", lambda *_, **__: affine.Fit(np.eye(4), 0.3))
    native = read_native(head)
    np.testing.assert_array_equal(brain.upright_mask(native), brain.network_mask(native))


def test_a_head_placed_far_off_has_no_brain(head):
    away = np.eye(4)
    away[:3, 3] = 1000
    with pytest.raises(BadDataError, match="no brain"):
        brain.placed_mask(read_native(head), away)


def test_sampling_is_linear_interpolation_in_voxels():
    data = np.random.default_rng(1).normal(size=(9, 10, 11)).astype(np.float32)
    index = np.diag([0.9, 1.1, 0.8, 1.0])
    index[0, 1], index[:3, 3] = 0.15, (0.4, 0.2, 0.7)
    found = brain._sampled(torch.from_numpy(data), index, (7, 6, 9)).numpy()
    wanted = affine_transform(data, index[:3, :3], index[:3, 3], output_shape=(7, 6, 9), order=1, mode="grid-constant")
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_cube_holds_the_brain_and_a_margin():
    template = load_template()
    grid = brain._cube(template, 64)
    index = np.argwhere(template.mask)
    world = index @ template.affine[:3, :3].T + template.affine[:3, 3]
    voxel = (world - grid[:3, 3]) / np.diag(grid)[:3]
    np.testing.assert_allclose((voxel.min(axis=0) + 0.5) / 64, 0.1 / 1.2, atol=0.01)
    np.testing.assert_allclose((voxel.max(axis=0) + 0.5) / 64, 1.1 / 1.2, atol=0.01)


def test_a_pose_found_by_the_search_gives_a_mask_of_the_upright_head(head, brain_and_mask):
    native = read_native(head)
    pose = rescue.Pose(brain_and_mask[1], affine.Fit(np.eye(4), 0.6), True)
    mask = rescue.finest_mask(native, pose, load_template())
    assert brain.dice(mask, brain_and_mask[1]) > 0.93


def test_stripped_input_keeps_its_own_mask(brain_and_mask):
    data, mask, affine = brain_and_mask
    stripped = Native(np.where(mask, data, 0).astype(np.float32), affine)
    found, source = brain.brain_mask(stripped)
    assert source == "input"
    assert brain.dice(found, mask) > 0.97


def test_a_whole_head_has_no_own_mask(head):
    assert own_mask(Native(np.asarray(head.dataobj), head.affine)) is None


def test_an_empty_box_has_no_brain():
    data = np.zeros((40, 40, 40), np.float32)
    data[0, 0, 0] = 1
    for mask_of in (brain.network_mask, brain.upright_mask):
        with pytest.raises(BadDataError, match="no brain"):
            mask_of(Native(data, np.diag([4.0, 4.0, 4.0, 1.0])))


@pytest.fixture(scope="module")
def plain(brain_and_mask):
    """The phantom after N4, without a field of ours."""
    data, mask, _ = brain_and_mask
    return brain.n4(data, mask, np.full(3, 3.0))


def test_n4_removes_a_known_field(brain_and_mask, plain):
    data, mask, _ = brain_and_mask
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in data.shape], indexing="ij")
    field = 0.3 * x - 0.25 * y * z + 0.2 * z**2
    biased = brain.n4((data * np.exp(field)).astype(np.float32), mask, np.full(3, 3.0))
    found = np.log(data[mask] * np.exp(field[mask]) / biased[mask]) - np.log(data[mask] / plain[mask])
    assert np.corrcoef(found, field[mask])[0, 1] > 0.95
    left = np.std(np.log(biased[mask] / plain[mask]))
    assert left < 0.4 * field[mask].std()


def test_n4_gives_the_same_twice(brain_and_mask, plain):
    data, mask, _ = brain_and_mask
    np.testing.assert_array_equal(brain.n4(data, mask, np.full(3, 3.0)), plain)


def test_negative_brains_are_lifted_and_negative_noise_is_clipped():
    data = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[5:15, 5:15, 5:15] = True
    data[~mask] -= 150
    clipped, shifted = brain.lift_negative(data, mask)
    assert not shifted
    assert clipped.min() == 0
    np.testing.assert_array_equal(clipped[mask], data[mask])
    lifted, shifted = brain.lift_negative(data - 100, mask)
    assert shifted
    assert lifted.min() == 0
    np.testing.assert_allclose(np.diff(lifted[mask]), np.diff(data[mask]), atol=1e-4)


def test_dice():
    a = np.array([1, 1, 0, 0], bool)
    assert brain.dice(a, a) == 1
    assert brain.dice(a, ~a) == 0
    assert brain.dice(a, np.array([1, 0, 0, 0], bool)) == pytest.approx(2 / 3)
    assert brain.dice(a & ~a, a & ~a) == 0


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 5, 7), (40, 30, 20)])
def test_the_range_is_that_of_all_values_sorted(shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(1)) ** 3 * 900
    expected = values.quantile(torch.tensor([0.005, 0.995]))
    assert torch.equal(torch.stack(brain._range(values)), expected)
    assert torch.equal(torch.stack(brain._range(torch.full(shape, 4.0))), torch.full((2,), 4.0))
