import os

import numpy as np
import pytest
import scipy.ndimage as ndi
from scipy.spatial.transform import Rotation

from brainage_bids.preprocess import quality
from brainage_bids.preprocess.affine import Fit
from brainage_bids.preprocess.intake import Brain
from brainage_bids.preprocess.template import load_template
from brainage_bids.schema import QC_METRICS

FWHM = 2.3548200450309493
GOOD = dict.fromkeys(QC_METRICS, 1.0) | {
    "mask_volume_ml": 1400, "template_dice": 0.96, "template_ncc": 0.63, "fov_cut_fraction": 0.0, "scale_volume": 1.3,
    "shear_max": 0.01, "rotation_deg": 10.0, "mask_edge_fraction": 0.0, "snr": 18.0, "cnr": 5.0,
    "tissue_contrast": 0.3, "fwhm_mm": 4.0, "fwhm_max_mm": 4.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def atlas_brain():
    """The template brain itself as a scan of 2 mm in template space, with air around."""
    template = load_template()
    data, affine = quality._shrunk(template.data, template.affine)
    mask = quality._shrunk(template.mask.astype(np.float32), template.affine)[0] > 0.5
    affine[:3, 3] -= 2 * affine[:3, :3].sum(axis=1)
    return Brain(np.pad(1000 * data, 2), np.pad(mask, 2), affine, "template")


@pytest.fixture(scope="module")
def numbers(atlas_brain):
    return quality.measure(atlas_brain, Fit(np.eye(4), 1.0), load_template())


def moved(matrix):
    full = np.eye(4)
    full[:3, :3] = matrix
    return full


def test_the_template_agrees_with_itself(numbers):
    assert list(numbers) == list(QC_METRICS)
    assert numbers["template_dice"] == pytest.approx(1, abs=0.005)
    assert numbers["template_ncc"] == pytest.approx(1, abs=0.005)
    assert numbers["mask_volume_ml"] == pytest.approx(1886, rel=0.02)
    assert numbers["scale_volume"] == pytest.approx(1)
    for name in ("fov_cut_fraction", "mask_edge_fraction", "shear_max", "rotation_deg"):
        assert numbers[name] == pytest.approx(0, abs=1e-6)
    assert (numbers["voxel_size_min_mm"], numbers["voxel_size_max_mm"]) == (2, 2)
    assert all(isinstance(value, float) for value in numbers.values())


def test_a_fit_that_is_10_mm_off_costs_overlap_and_likeness(atlas_brain, numbers):
    shift = np.eye(4)
    shift[1, 3] = 10
    found = quality.measure(atlas_brain, Fit(shift, 1.0), load_template())
    inside = atlas_brain.mask
    overlap = (inside[:, 5:] & inside[:, :-5]).sum() / inside.sum()  # 5 voxels of 2 mm
    assert found["template_dice"] == pytest.approx(overlap, abs=0.01)
    assert found["template_ncc"] < 0.6
    assert found["mask_volume_ml"] == numbers["mask_volume_ml"]


def test_a_missing_half_is_cut_and_on_the_edge_and_does_not_hurt_the_rest(atlas_brain):
    half = atlas_brain.mask.shape[0] // 2
    affine = atlas_brain.affine.copy()
    affine[:3, 3] += half * affine[:3, 0]
    brain = Brain(atlas_brain.data[half:], atlas_brain.mask[half:], affine, "template")
    found = quality.measure(brain, Fit(np.eye(4), 1.0), load_template())
    assert found["fov_cut_fraction"] == pytest.approx(0.5, abs=0.02)
    assert found["template_dice"] == pytest.approx(2 / 3, abs=0.02)
    assert found["template_ncc"] == pytest.approx(1, abs=0.01)
    assert found["mask_edge_fraction"] > 0.1


def test_scales_shear_and_turn_are_those_put_in():
    scales, shear, angle = quality.shape_of_affine(np.diag([1 / 1.1, 1 / 0.9, 1 / 1.2, 1]))
    np.testing.assert_allclose(scales, [0.9, 1.1, 1.2])
    assert (shear, angle) == (pytest.approx(0), pytest.approx(0, abs=1e-5))
    turn = Rotation.from_rotvec([0, 0, 25], degrees=True).as_matrix()
    assert quality.shape_of_affine(moved(turn @ np.diag([0.9, 1, 1.1])))[2] == pytest.approx(25)
    shear = quality.shape_of_affine(moved(np.linalg.inv([[1, 0.1, 0], [0.1, 1, 0], [0, 0, 1]])))[1]
    assert shear == pytest.approx(0.1 / np.cbrt(0.99))  # a symmetric stretch is its own polar factor


def test_a_cube_on_the_edge_of_the_array():
    mask = np.zeros((12, 12, 12), bool)
    mask[2:6, 3:7, 0:4] = True
    assert quality.edge_fraction(mask, quality.box_of(mask), np.ones(3)) == pytest.approx(1 / 6)
    flat = 2 * 1 / (2 * (2 * 1 + 2 * 1 + 1 * 1))  # faces of 2 x 1, 2 x 1 and 1 x 1 mm
    zooms = np.array([1.0, 1.0, 2.0])
    whole = np.ones((4, 4, 4), bool)
    assert quality.edge_fraction(whole, quality.box_of(whole), zooms) == 1
    mask[:] = False
    mask[0:4, 3:7, 3:7] = True
    assert quality.edge_fraction(mask, quality.box_of(mask), zooms) == pytest.approx(flat)


@pytest.mark.parametrize("zoom", [1.0, 1.5])
@pytest.mark.parametrize("width", [2.5, 5.0])
def test_known_blur_gives_its_width(width, zoom):
    rng = np.random.default_rng(0)
    noise = ndi.gaussian_filter(rng.normal(size=(70, 70, 70)), width / FWHM / zoom).astype(np.float32)
    mask = ndi.distance_transform_edt(np.ones(noise.shape)) > 5
    # neighbours differ by the mean over a voxel, which widens the estimate a little where the voxel is coarse
    np.testing.assert_allclose(quality.widths_of_detail(noise, mask, np.full(3, zoom)), width, rtol=0.06)


def test_blur_along_one_axis_shows_there_alone():
    rng = np.random.default_rng(1)
    sigma = np.array([2.0, 2.0, 6.0]) / FWHM
    noise = ndi.gaussian_filter(rng.normal(size=(60, 60, 90)), sigma).astype(np.float32)
    found = quality.widths_of_detail(noise, np.ones(noise.shape, bool), np.ones(3))
    np.testing.assert_allclose(found, [2, 2, 6], rtol=0.12)


def three_tissues(noise, rng):
    tissue = np.full((80, 80, 80), 25.0)
    tissue[20:] = 70.0
    tissue[45:] = 100.0
    return (tissue + rng.normal(0, noise, tissue.shape)).astype(np.float32)


@pytest.mark.parametrize("noise", [2.0, 5.0, 10.0])
def test_known_noise_gives_known_signal_and_contrast(noise):
    data = three_tissues(noise, np.random.default_rng(0))
    found = quality.signal(data, np.ones(data.shape, bool), np.ones(3))
    assert found["snr"] == pytest.approx(100 / noise, rel=0.05)
    assert found["cnr"] == pytest.approx(30 / noise, rel=0.1)
    assert found["tissue_contrast"] == pytest.approx(0.3, abs=0.02)
    scaled = quality.signal(7 * data, np.ones(data.shape, bool), np.ones(3))
    assert scaled["snr"] == pytest.approx(found["snr"], rel=1e-3)


def test_thick_slices_are_no_neighbours():
    data = three_tissues(5.0, np.random.default_rng(0))
    data[..., ::2] -= 15  # slices differ by more than the noise
    found = quality.signal(data, np.ones(data.shape, bool), np.array([1.0, 1.0, 4.0]))
    assert found["snr"] == pytest.approx(np.median([100, 85]) / 5, rel=0.1)


def test_without_tissues_there_is_no_number():
    flat = np.ones((20, 20, 20), np.float32)
    found = quality.signal(flat, np.ones(flat.shape, bool), np.ones(3))
    assert all(np.isnan(value) for value in found.values())


def test_two_thresholds_agree_with_the_literal_search():
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(20, 3, 300), rng.normal(60, 4, 500), rng.normal(100, 5, 700)])
    low, high = quality.two_thresholds(values)
    cuts = np.linspace(values.min(), values.max(), 80)

    def spread(a, b):
        parts = [values[values <= a], values[(values > a) & (values <= b)], values[values > b]]
        return sum(part.size * part.var() for part in parts if part.size)

    best = min(((a, b) for a in cuts for b in cuts if a < b), key=lambda pair: spread(*pair))
    assert spread(low, high) == pytest.approx(spread(*best), rel=0.01)
    assert 28 < low < 50 < 70 < high < 90


def test_correlation_of_what_does_not_vary_is_0():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    assert quality.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert quality.correlation(a, np.ones(50)) == 0
    assert quality.correlation(a[:1], b[:1]) == 0


def test_metrics_do_not_depend_on_the_storage_of_the_rest(atlas_brain, numbers):
    """Padding the scan and scaling its values changes nothing."""
    width = ((4, 3), (0, 5), (6, 2))
    affine = atlas_brain.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [4, 0, 6]
    padded = Brain(np.pad(5 * atlas_brain.data, width), np.pad(atlas_brain.mask, width), affine, "template")
    found = quality.measure(padded, Fit(np.eye(4), 1.0), load_template())
    for name, value in found.items():
        assert value == pytest.approx(numbers[name], rel=1e-3, abs=1e-6), name


def test_good_numbers_pass():
    assert quality.judge(GOOD) == ([], [], [])


@pytest.mark.parametrize(("kind", "gates"), [(0, quality.REFUSE), (1, quality.FAIL), (2, quality.WARN)])
def test_every_gate_closes_on_its_outside_and_on_no_number(kind, gates):
    for name, (low, high) in gates.items():
        outside = [low - 1e-3] if np.isfinite(low) else []
        outside += [high + 1e-3] if np.isfinite(high) else []
        for value in [*outside, float("nan")]:
            reasons = quality.judge({**GOOD, name: value})[kind]
            if value != value and name in quality.MAY_BE_MISSING:
                assert not reasons
                continue
            assert any(name.replace("_", " ") in reason for reason in reasons), (name, value)


def test_reasons_name_value_and_gate():
    low = quality.REFUSE["template_ncc"][0]
    refuse, fail, warn = quality.judge({**GOOD, "template_ncc": 0.123})
    assert refuse == [f"template ncc 0.123 is below {low:g} ({quality.HINTS['template_ncc']})"]
    assert fail
    assert warn


def test_low_contrast_is_flagged():
    _, _, warn = quality.judge({**GOOD, "tissue_contrast": 0.15})
    assert len(warn) == 1
    assert warn[0].startswith("tissue contrast 0.15 is below")


@pytest.mark.real
@pytest.mark.skipif("BRAINAGE_TEST_DATA" not in os.environ, reason="BRAINAGE_TEST_DATA is not set")
def test_the_child_is_flagged():
    """And adults are not (`test_real_heads`)."""
    from pathlib import Path

    from brainage_bids.preprocess import steps
    from brainage_bids.preprocess.intake import read_scan

    native = read_scan(Path(os.environ["BRAINAGE_TEST_DATA"]) / "scans" / "fnndsc_SAG-anon_from-dicom.nii.gz")
    brain, fit = steps.align(native, steps.find_brain(native), load_template())
    refused, failed, warned = quality.judge(quality.measure(brain, fit, load_template()))
    assert (refused, failed) == ([], [])
    assert any("tissue contrast" in reason for reason in warned)
