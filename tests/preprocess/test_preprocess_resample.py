import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from brainage_bids.preprocess import resample, steps
from brainage_bids.preprocess.template import template_volume
from brainage_bids.schema import VolumeSpec

SPEC = VolumeSpec.on_grid(4)
MATRIX = np.array([[0.95, 0.1, 0.02, 3], [-0.1, 0.9, 0.05, -4], [0.0, -0.03, 1.05, 7], [0, 0, 0, 1.0]])


def literal(data, native_affine, matrix, spec, order, sigma=None):
    if sigma is not None:
        data = gaussian_filter(data.astype(float), sigma, mode="constant")
    index = np.indices(spec.shape).reshape(3, -1)
    voxel = (np.linalg.inv(native_affine) @ matrix @ np.asarray(spec.affine))[:3] @ np.r_[
        index, np.ones((1, index.shape[1]))
    ]
    return map_coordinates(data, voxel, order=order, mode="constant").reshape(spec.shape)


@pytest.mark.parametrize("zoom", [4.0, 2.0])
def test_one_spline_agrees_with_the_formula_written_out(zoom):
    rng = np.random.default_rng(0)
    n = int(160 / zoom)
    data = gaussian_filter(rng.normal(size=(n, n, n)), 6 / zoom)
    ramp = np.clip((1 - np.abs(np.linspace(-1.3, 1.3, n))) * 4, 0, 1)
    data = (data * ramp[:, None, None] * ramp[:, None] * ramp).astype(np.float32)
    world = np.diag([zoom, zoom, zoom, 1.0])
    world[:3, 3] = -80
    sigma = np.sqrt(16 - zoom**2) / 2.3548200450309493 / zoom
    expected = literal(data, world, MATRIX, SPEC, 3, sigma if sigma > 0 else None)
    found = resample.to_grid(data, world, MATRIX, SPEC, 3)
    assert found.shape == SPEC.shape
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()
    wanted = rng.random(SPEC.shape) > 0.7
    some = resample.to_grid(data, world, MATRIX, SPEC, 3, wanted)
    np.testing.assert_allclose(some, np.where(wanted, found, 0), atol=1e-6)


def test_the_grid_itself_comes_back():
    data = np.random.default_rng(1).random(SPEC.shape).astype(np.float32)
    np.testing.assert_allclose(resample.to_grid(data, np.asarray(SPEC.affine), np.eye(4), SPEC, 3), data, atol=1e-4)


def test_nothing_gives_nothing():
    assert not resample.to_grid(np.zeros((20, 20, 20), np.float32), np.eye(4), np.eye(4), SPEC, 3).any()
    far = np.eye(4)
    far[:3, 3] = 5000
    assert not resample.to_grid(np.ones((20, 20, 20), np.float32), np.eye(4), far, SPEC, 3).any()


def test_volume_is_clipped_masked_and_scaled(brain_and_mask):
    data, mask, world = brain_and_mask
    values, inside = resample.volume_on_grid(data, mask, world, np.eye(4), SPEC)
    assert values.dtype == np.float32
    assert values.shape == inside.shape == (48, 57, 48)
    assert not values[~inside].any()
    assert values.min() == 0
    assert values.max() == 1
    top = np.mean(values[inside] == 1)
    assert top == pytest.approx(0.005, abs=0.002)
    assert inside.sum() * 0.064 == pytest.approx(mask.sum() * 0.027, rel=0.03)


def test_intensity_rules_by_hand():
    rng = np.random.default_rng(2)
    values = rng.gamma(4, 30, (20, 20, 20))
    inside = rng.random(values.shape) > 0.4
    low, high = np.percentile(values[inside], [0.5, 99.5])
    expected = (np.clip(values[inside], low, high) - low) / (high - low)
    minmax = resample.intensity_rule(values, inside, "minmax")
    np.testing.assert_allclose(minmax[inside], expected, atol=1e-6)
    zscore = resample.intensity_rule(values, inside, "zscore")
    assert zscore[inside].mean() == pytest.approx(0, abs=1e-5)
    assert zscore[inside].std() == pytest.approx(1, abs=1e-5)
    assert not zscore[~inside].any()
    np.testing.assert_allclose(resample.intensity_rule(7 * values, inside, "minmax"), minmax, atol=1e-6)
    with pytest.raises(ValueError, match="histogram"):
        resample.intensity_rule(values, inside, "histogram")


def test_itk_transform_gives_the_same_volume(tmp_path, brain_and_mask):
    data, mask, world = brain_and_mask
    brain = np.where(mask, data, 0).astype(np.float32)
    steps.write_transform(tmp_path / "x_xfm.txt", MATRIX, ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"], SPEC.template)
    transform = sitk.ReadTransform(str(tmp_path / "x_xfm.txt"))
    point = np.array([12.0, -30.0, 25.0])  # template, RAS
    lps = np.array([-1, -1, 1])
    np.testing.assert_allclose(
        np.array(transform.TransformPoint((point * lps).tolist())) * lps, (MATRIX @ [*point, 1])[:3], atol=1e-9
    )

    def itk(array, affine):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        image.SetSpacing(np.abs(np.diag(affine)[:3]).tolist())
        image.SetOrigin((affine[:3, 3] * lps).tolist())
        image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
        return image

    spec = VolumeSpec.on_grid(3)
    reference = itk(np.zeros(spec.shape, np.float32), np.asarray(spec.affine))
    moved = sitk.Resample(itk(brain, world), reference, transform, sitk.sitkBSpline3, 0.0)
    ours = resample.to_grid(brain, world, MATRIX, spec, 3)
    assert np.abs(sitk.GetArrayFromImage(moved).T - ours).max() < 1e-3 * brain.max()


def test_template_on_the_grid_agrees_with_itself():
    values, inside = template_volume(SPEC)
    assert values.shape == SPEC.shape
    assert inside.sum() * 0.064 == pytest.approx(1886, rel=0.02)
    assert not values[~inside].any()
