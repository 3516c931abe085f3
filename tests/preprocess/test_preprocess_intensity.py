"""The zero and the unit of a scan: whatever they are, what follows sees the same head."""

from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainage_bids.preprocess import brain
from brainage_bids.preprocess.intake import read_scan
from brainage_bids.preprocess.intensity import settled


@lru_cache
def _ball(noise):
    rng = np.random.default_rng(0)
    place = np.indices((40, 44, 42)) - np.array([20, 22, 21])[:, None, None, None]
    depth = 15 - np.sqrt((place**2).sum(axis=0))
    inside = depth > 0  # with a soft edge, as the partial volumes of a brain make it
    values = np.where(inside, (300 + 60 * rng.standard_normal(inside.shape)) * np.clip(depth / 4, 0, 1), 0)
    if noise:
        values += np.abs(8 * rng.standard_normal(inside.shape))
    return np.maximum(np.round(values), 0), inside


def ball(noise=True):
    """A bright ball in air, noisy or blank: whole numbers from 0 on, as scanners write them."""
    values, inside = _ball(noise)
    return values.copy(), inside


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("noise", [False, True])
def test_an_ordinary_scan_passes_unchanged(dtype, noise):
    values = np.minimum(ball(noise)[0], 255).astype(dtype)
    data, notes = settled(values)
    assert data.dtype == np.float32
    np.testing.assert_array_equal(data, values.astype(np.float32))
    assert notes == ()


@given(
    exponent=st.floats(-200, 200),
    offset=st.integers(-1200, 1200).filter(lambda offset: not -5 < offset < 0),  # 0 and -1 may be air and padding
    noise=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_neither_unit_nor_offset_plays_a_part(exponent, offset, noise):
    plain = ball(noise)[0]
    data, _ = settled((plain + offset) * 10.0**exponent)
    unit = np.median(data[plain > 200]) / np.median(plain[plain > 200])
    np.testing.assert_allclose(data, plain * unit, rtol=1e-5, atol=1e-4 * unit)
    assert 1e-5 < np.median(data[plain > 200]) < 1e7


@pytest.mark.parametrize("value", [-1, -7, -1000, -1024, -32768, -3.4e38, 65535, 32767, 1e30, np.nan, -np.inf])
@pytest.mark.parametrize("noise", [False, True])
def test_padding_is_background(value, noise):
    plain = ball(noise)[0]
    plain[:, :8] = 0
    padded = plain.copy()
    padded[:, :8] = value
    data, notes = settled(padded)
    np.testing.assert_array_equal(data, plain.astype(np.float32))
    assert any(words in note for note in notes for words in ("padded", "NaN"))


def test_padding_below_an_offset_is_background():
    """-1024 and the head, both lifted by 3000: the next value up is the air."""
    plain = ball()[0]
    padded = plain.copy()
    padded[:, :8] = -1024
    plain[:, :8] = 0
    np.testing.assert_array_equal(settled(padded + 3000)[0], plain.astype(np.float32))


def test_a_stripped_brain_below_zero_keeps_its_background_at_zero():
    """Standardised inside the brain, 0 outside: 0 is no least value, but it is the background."""
    plain, inside = ball(noise=False)
    values = np.where(inside, (plain - plain[inside].mean()) / plain[inside].std(), 0).astype(np.float32)
    np.testing.assert_array_equal(settled(values)[0], values)
    np.testing.assert_allclose(settled(values + np.float32(10))[0], values, atol=1e-5)


def test_ripples_below_zero_are_no_zero():
    plain = ball()[0]
    plain[21, 3:30, 21] = -90  # the ripple of an interpolation
    assert (settled(plain)[0] == plain).all()
    lifted = settled(plain + 500)[0]
    assert np.abs(lifted - plain).max() < 3  # what the fainter voxels of air have


def test_stray_values_are_no_unit():
    plain = ball()[0]
    for stray in (1e30, -1e30, 1e300, np.inf):
        spoiled = plain.copy()
        spoiled[20, 20, 20] = stray
        data, notes = settled(spoiled)
        assert data[20, 20, 20] == 0
        np.testing.assert_array_equal(np.delete(data.ravel(), 20 * 44 * 42 + 20 * 42 + 20),
                                      np.delete(plain.ravel(), 20 * 44 * 42 + 20 * 42 + 20))  # fmt: skip
        assert "extremely large values" in notes[0]


def test_a_saturated_border_is_no_padding():
    plain = ball()[0]
    plain[:, :, :3] = 255
    clipped = np.minimum(plain, 255)
    np.testing.assert_array_equal(settled(clipped)[0], clipped)


def test_a_mask_is_read_as_it_is(tmp_path):
    from brainage_bids.preprocess.intake import read_mask

    mask = ball()[1].astype(np.float32)
    nib.save(nib.Nifti1Image(mask, np.diag([4.0, 4, 4, 1])), tmp_path / "mask.nii.gz")
    found, affine = read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(found, mask > 0)
    assert affine[0, 0] == 4


def stored_variants(head):
    """The phantom in other units, types and paddings; the paddings stand where it has nothing."""
    values = np.round(np.asarray(head.dataobj, dtype=np.float64))
    nothing = values < 5
    values[nothing] = 0
    yield "plain", values.astype(np.int16), {}
    yield "1e-9", (values * 1e-9).astype(np.float32), {}
    yield "1e9", values * 1e9, {}
    yield "0.37 and 1000 more", values * 0.37 + 1000, {}
    yield "500 less", (values - 500).astype(np.int16), {}
    yield "scaled by its header", values.astype(np.int16), {"scl_slope": 0.01, "scl_inter": -3}
    for value, dtype in ((-1024, np.int16), (-32768, np.int16), (65535, np.uint16), (np.nan, np.float64)):
        yield f"padded with {value}", np.where(nothing, value, values).astype(dtype), {}


def test_unit_zero_and_padding_of_a_file_play_no_part(head, tmp_path):
    first = None
    for name, values, fields in stored_variants(head):
        image = nib.Nifti1Image(values, head.affine)
        raw, header = image.to_bytes(), image.header.copy()
        header["scl_slope"], header["scl_inter"] = fields.get("scl_slope", 1), fields.get("scl_inter", 0)
        (tmp_path / "a.nii").write_bytes(header.binaryblock + raw[348:])
        data = read_scan(tmp_path / "a.nii").data
        first = data if first is None else first
        np.testing.assert_allclose(data / data.max(), first / first.max(), atol=2e-6, err_msg=name)


def test_the_bias_field_does_not_depend_on_the_unit(brain_and_mask):
    """N4 takes voxels of 0 in its mask for ones of intensity 1: a corner of the brain without signal shows it."""
    data, mask, affine = brain_and_mask
    data = np.where(mask, np.round(np.asarray(data, dtype=np.float64)), 0)
    data[:, :, : data.shape[2] // 2][mask[:, :, : data.shape[2] // 2] & (data[:, :, : data.shape[2] // 2] < 250)] = 0
    zooms = np.full(3, abs(affine[0, 0]))
    plain = brain.n4(data.astype(np.float32), mask, zooms)
    for unit in (0.37, 1e3):
        other = brain.n4((data * unit).astype(np.float32), mask, zooms) / unit
        np.testing.assert_allclose(other, plain, rtol=1e-4, err_msg=str(unit))
