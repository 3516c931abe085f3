import numpy as np
import pytest

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import brain
from brainage_bids.preprocess.intake import Native, read_scan


def test_the_phantom_brain_is_found(head, brain_and_mask, save_scan):
    native = read_scan(save_scan(head).path)
    mask, source = brain.brain_mask(native)
    assert source == "deepbet"
    assert brain.dice(mask, brain_and_mask[1]) > 0.93
    assert brain.volume_ml(mask, native.zooms) == pytest.approx(brain_and_mask[1].sum() * 27e-3, rel=0.15)


def test_stripped_input_keeps_its_own_mask(brain_and_mask):
    data, mask, affine = brain_and_mask
    stripped = Native(np.where(mask, data, 0).astype(np.float32), affine)
    found, source = brain.brain_mask(stripped)
    assert source == "input"
    assert brain.dice(found, mask) > 0.97


def test_a_whole_head_has_no_own_mask(head):
    assert brain.own_mask(Native(np.asarray(head.dataobj), head.affine)) is None


def test_an_empty_box_has_no_brain():
    data = np.zeros((40, 40, 40), np.float32)
    data[0, 0, 0] = 1
    with pytest.raises(BadDataError, match="no brain"):
        brain.network_mask(Native(data, np.diag([4.0, 4.0, 4.0, 1.0])))


def test_n4_removes_a_known_field(brain_and_mask):
    data, mask, _ = brain_and_mask
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in data.shape], indexing="ij")
    field = 0.3 * x - 0.25 * y * z + 0.2 * z**2
    plain = brain.n4(data, mask, np.full(3, 3.0))
    biased = brain.n4((data * np.exp(field)).astype(np.float32), mask, np.full(3, 3.0))
    found = np.log(data[mask] * np.exp(field[mask]) / biased[mask]) - np.log(data[mask] / plain[mask])
    assert np.corrcoef(found, field[mask])[0, 1] > 0.95
    left = np.std(np.log(biased[mask] / plain[mask]))
    assert left < 0.4 * field[mask].std()


def test_n4_gives_the_same_twice(brain_and_mask):
    data, mask, _ = brain_and_mask
    np.testing.assert_array_equal(brain.n4(data, mask, np.full(3, 3.0)), brain.n4(data, mask, np.full(3, 3.0)))


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
