"""An MP2RAGE image, whose air is noise, gives the brain of the T1w image it was made of."""

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.preprocess import mp2rage
from brainage_bids.preprocess.brain import brain_mask, dice
from brainage_bids.preprocess.intake import read_scan
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import VolumeSpec


def ratio_and_inv2(data, noise=0.03, seed=0):
    """UNIT1 (-0.5 to 0.5) and the magnitude of INV2 of a T1w image: two complex inversions with noise."""
    rng = np.random.default_rng(seed)
    signal = np.clip(data / np.percentile(data[data > np.percentile(data, 60)], 98), 0, 1.2)
    signal = np.where(signal < 0.1, 0, signal)  # the noise of the T1w image is none of the signal
    ratio = np.clip(-0.47 + 0.85 * signal, -0.48, 0.45)
    quotient = (1 - np.sqrt(1 - 4 * ratio**2)) / (2 * ratio)
    density = np.clip(signal / 0.15, 0, 1) * (0.7 + 0.3 * signal)
    one, two = (x + rng.normal(0, noise, data.shape) + 1j * rng.normal(0, noise, data.shape)
                for x in (quotient * density, density))  # fmt: skip
    unit1 = np.real(np.conj(one) * two) / (np.abs(one) ** 2 + np.abs(two) ** 2)
    return unit1.astype(np.float32), np.abs(two).astype(np.float32)


@pytest.fixture(scope="module")
def phantom(head):
    data = np.asarray(head.dataobj, dtype=np.float32)
    return data, head.affine, *ratio_and_inv2(data)


@pytest.mark.parametrize("stored", [(1.0, 0.0), (1.0, 0.5), (4095.0, 2047.5), (4095.0, 0.0)])
def test_every_scale_is_the_ratio(phantom, stored):
    _, _, unit1, _ = phantom
    assert np.allclose(mp2rage.ratio_of(unit1 * stored[0] + stored[1]), unit1, atol=0.02)


@pytest.mark.parametrize("with_inv2", [True, False])
def test_air_is_zero_and_tissue_keeps_its_ratio(phantom, brain_and_mask, with_inv2):
    data, affine, unit1, inv2 = phantom
    zooms = nib.affines.voxel_sizes(affine)
    clean, words = mp2rage.without_noise((unit1 + 0.5) * 4095, inv2 * 300 if with_inv2 else None, zooms)
    air = data < np.percentile(data, 20)
    white = brain_and_mask[1] & (data > np.percentile(data[brain_and_mask[1]], 75))
    assert words == (mp2rage.WITH_INV2 if with_inv2 else mp2rage.BY_NOISE)
    assert (unit1[air] + 0.5).mean() > 0.4
    assert clean[air].mean() < 0.04
    assert np.median(np.abs(clean - unit1 - 0.5)[white]) < 0.03
    assert np.isfinite(clean).all()
    assert clean.min() >= 0


def test_an_image_without_noise_is_left_alone(phantom):
    data, affine, _, _ = phantom
    clean, words = mp2rage.without_noise(data / data.max() * 4095, None, nib.affines.voxel_sizes(affine))
    assert words == mp2rage.CLEAN
    assert np.corrcoef(clean.ravel(), data.ravel())[0, 1] > 0.999


def saved(folder, data, affine, name):
    nib.save(nib.Nifti1Image(data, affine), folder / name)
    return folder / name


@pytest.mark.parametrize(("with_inv2", "least"), [(True, 0.97), (False, 0.95)])
def test_the_brain_is_that_of_the_t1w_image(phantom, found, tmp_path, with_inv2, least):
    _, affine, unit1, inv2 = phantom
    stored = np.round((unit1 + 0.5) * 4095).astype(np.int16)
    path = saved(tmp_path, stored, affine, "sub-01_UNIT1.nii.gz")
    second = saved(tmp_path, np.round(inv2 * 400).astype(np.int16), affine, "sub-01_inv-2_MP2RAGE.nii.gz")
    native = read_scan(path, second if with_inv2 else None)
    assert native.warnings[0] == (mp2rage.WITH_INV2 if with_inv2 else mp2rage.BY_NOISE)
    assert dice(brain_mask(native)[0], found[0]) > least


def test_an_inv2_that_cannot_be_used_is_told(phantom, tmp_path):
    _, affine, unit1, inv2 = phantom
    path = saved(tmp_path, unit1, affine, "sub-01_UNIT1.nii.gz")
    for second in (saved(tmp_path, inv2[:-1], affine, "sub-01_inv-2_MP2RAGE.nii.gz"), tmp_path / "gone.nii.gz"):
        words = read_scan(path, second).warnings
        assert words[0] == mp2rage.BY_NOISE
        assert "not used" in words[1]


def test_the_volume_keeps_its_name_and_tells_its_sources(phantom, tmp_path):
    _, affine, unit1, inv2 = phantom
    folder = tmp_path / "bids/sub-01/anat"
    folder.mkdir(parents=True)
    (tmp_path / "bids/dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    saved(folder, unit1, affine, "sub-01_UNIT1.nii.gz")
    saved(folder, inv2, affine, "sub-01_inv-2_part-mag_MP2RAGE.nii.gz")
    (scan,) = read_dataset(DatasetQuery(tmp_path / "bids", t1w_suffix="UNIT1")).scans
    outputs, spec = Outputs(tmp_path / "out"), VolumeSpec.on_grid(6)
    (outcome,) = preprocess([scan], [spec], outputs, PreprocessOptions(tmp_path / "work", progress=False))
    assert outcome.status == "done", outcome.reason
    values = read_json(sidecar_path(outputs.volume(scan, spec)))
    assert outputs.volume(scan, spec).name.endswith("_desc-preproc_T1w.nii.gz")
    assert values["Sources"] == ["bids:raw:sub-01/anat/sub-01_UNIT1.nii.gz",
                                 "bids:raw:sub-01/anat/sub-01_inv-2_part-mag_MP2RAGE.nii.gz"]  # fmt: skip
    assert any(mp2rage.WITH_INV2 in words for words in values["qc_warn"])
