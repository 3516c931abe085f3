import gzip

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess.intake import MNI_GRIDS, read_prepared, read_scan
from brainage_bids.schema import Prepared

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def save(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def test_any_storage_order_gives_the_same_ras_array(tmp_path):
    data = np.random.default_rng(0).integers(0, 1000, (30, 32, 34)).astype(np.int16)
    image = nib.Nifti1Image(data, AFFINE)
    plain = read_scan(save(tmp_path / "ras.nii", data))
    for codes in ("LAS", "PSR", "ASL", "LIP"):
        target = nib.orientations.axcodes2ornt(codes)
        turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(AFFINE), target))
        assert nib.aff2axcodes(turned.affine) == tuple(codes)
        nib.save(turned, tmp_path / "turned.nii.gz")
        native = read_scan(tmp_path / "turned.nii.gz")
        np.testing.assert_array_equal(native.data, data)
        np.testing.assert_allclose(native.affine, plain.affine)
    np.testing.assert_allclose(plain.zooms, 4.0)


def test_single_volume_of_four_dimensions_is_read(tmp_path):
    data = np.arange(30**3, dtype=np.float32).reshape(30, 30, 30, 1)
    assert read_scan(save(tmp_path / "a.nii", data)).data.shape == (30, 30, 30)


def test_a_damaged_gzip_file_is_refused_by_its_checksum(tmp_path):
    """Such a file opens, has its size, and a part of its voxels is wrong: nibabel reads it without a word."""
    data = np.random.default_rng(0).integers(0, 1000, (40, 40, 40)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", data)
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[len(plain) // 2] ^= 1
    with gzip.GzipFile(
        path, "wb", compresslevel=0
    ) as file:  # stored: a byte can be changed without breaking the stream
        file.write(plain)
    spoiled = bytearray(path.read_bytes())
    spoiled[len(spoiled) // 2] ^= 1
    path.write_bytes(spoiled)
    assert nib.load(path).get_fdata().shape == (40, 40, 40)
    with pytest.raises(BadDataError, match=r"cannot be read to its end .*fetch it again"):
        read_scan(path)


def test_some_nan_is_read_as_zero_and_said(tmp_path):
    data = np.random.default_rng(0).integers(0, 1000, (30, 30, 30)).astype(np.float32)
    data[:10], data[0, 0, :2] = np.nan, (np.inf, 1e30)
    native = read_scan(save(tmp_path / "a.nii", data))
    assert native.data[:10].max() == 0
    np.testing.assert_array_equal(native.data[10:], data[10:])
    assert any("NaN" in warning for warning in native.warnings)


@pytest.mark.parametrize(
    "turn", [np.eye(4), np.diag([-1.0, -1, 1, 1]), np.eye(4)[[2, 0, 1, 3]]], ids=["RAS", "LPS", "S"]
)
def test_what_the_header_says_is_read_as_stored(tmp_path, turn):
    """Reordering an image to RAS+ rewrites its codes: both must be asked of the file itself."""
    image = nib.Nifti1Image(np.arange(30**3, dtype=np.float32).reshape(30, 30, 30), None)
    affine = turn @ (AFFINE + np.diag([0, 0, 0.3, 0]))
    shifted = affine + np.array([[0, 0, 0, 9]] * 3 + [[0] * 4])
    for qform, codes, words, mni in (
        (shifted, (1, 1), "disagree", False),
        (affine, (4, 1), "", True),
        (affine, (1, 4), "", True),
        (affine, (1, 1), "", False),
        (affine, (0, 0), "left and right are a guess", False),
    ):
        image.set_sform(affine, code=codes[0])
        image.set_qform(qform, code=codes[1])
        nib.save(image, tmp_path / "a.nii")
        native = read_scan(tmp_path / "a.nii")
        told = [w for w in native.warnings if "coarse" not in w]
        assert bool(told) is bool(words)
        assert words in "".join(told)
        assert native.says_mni is mni
        assert sorted(native.zooms)[2] == pytest.approx(4.3)


def test_thick_slices_are_said(tmp_path):
    native = read_scan(save(tmp_path / "a.nii", np.arange(64**3.0).reshape(64, 64, 64), np.diag([2.0, 2.0, 5.0, 1])))
    assert any("far from cubes" in warning for warning in native.warnings)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((30, 30, 30), np.nan, np.float32), "all NaN"),
        (np.zeros((30, 30, 30), np.int16), "one single value"),
        (np.full((30, 30, 30), 7, np.int16), r"one single value \(7\)"),
        (np.ones((30, 30, 30, 4), np.int16), "30x30x30x4"),
        (np.ones((30, 30), np.int16), "three dimensions"),
        (np.arange(12**3, dtype=np.int16).reshape(12, 12, 12), "cannot hold a head"),
        (np.ones((30, 30, 30), np.complex64), "complex"),
    ],
)
def test_what_is_no_t1w_is_refused(tmp_path, data, message):
    with pytest.raises(BadDataError, match=message):
        read_scan(save(tmp_path / "a.nii", data))


def test_broken_files_are_refused(tmp_path):
    empty, page, cut, gone = (tmp_path / name for name in ("e.nii.gz", "page.nii", "cut.nii.gz", "gone.nii"))
    empty.touch()
    page.write_text("<html><body>404</body></html>" * 30)
    save(tmp_path / "whole.nii", np.random.default_rng(0).normal(size=(40, 40, 40)))
    cut.write_bytes(gzip.compress((tmp_path / "whole.nii").read_bytes())[:-50000])
    for path, message in ((empty, "0 bytes"), (page, "not a NIfTI"), (cut, "to its end"), (gone, "not there")):
        with pytest.raises(BadDataError, match=message):
            read_scan(path)


def test_a_flat_matrix_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", np.arange(30**3, dtype=np.int16).reshape(30, 30, 30))
    image = nib.load(path)
    image.set_sform(np.diag([4.0, 4.0, 0.0, 1.0]), code=1)
    path = tmp_path / "flat.nii"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    with pytest.raises(BadDataError, match=r"unusable|cannot hold"):
        read_scan(path)


def prepared(tmp_path, mask, affine=AFFINE):
    data = np.random.default_rng(0).integers(0, 1000, (30, 32, 34)).astype(np.int16)
    image = save(tmp_path / "image.nii", data)
    return Prepared("fmriprep", str(image), str(save(tmp_path / "mask.nii", mask, affine))), data


def test_image_and_mask_of_another_pipeline(tmp_path):
    mask = np.zeros((30, 32, 34), np.uint8)
    mask[8:20, 8:20, 8:20] = 1
    made, data = prepared(tmp_path, mask)
    native, inside = read_prepared(made)
    np.testing.assert_array_equal(native.data, data)
    np.testing.assert_array_equal(inside, mask == 1)
    assert inside.dtype == bool


@pytest.mark.parametrize(
    ("shape", "affine", "match"),
    [
        ((30, 32, 34), AFFINE + np.array([[0, 0, 0, 1]] * 3 + [[0] * 4]), "grid of"),
        ((32, 32, 34), AFFINE, "grid of"),
        (None, AFFINE, "one single value"),
    ],
)
def test_a_mask_on_another_grid_or_an_empty_one_is_refused(tmp_path, shape, affine, match):
    mask = np.zeros(shape or (30, 32, 34), np.uint8)
    if shape:
        mask[8:20, 8:20, 8:20] = 1
    with pytest.raises(BadDataError, match=match):
        read_prepared(prepared(tmp_path, mask, affine)[0])


def test_mni_space_is_read_from_the_codes_and_from_the_grid(tmp_path):
    data = np.arange(30**3, dtype=np.float32).reshape(30, 30, 30)
    for code, says in (("scanner", False), ("aligned", False), ("mni", True)):
        image = nib.Nifti1Image(data, AFFINE)
        image.set_sform(AFFINE, code=code)
        nib.save(image, tmp_path / "a.nii")
        assert read_scan(tmp_path / "a.nii").says_mni is says
    shape, mm = MNI_GRIDS[1]
    on_grid = np.zeros(shape, np.uint8)
    on_grid[20:40] = 1
    for size, says in ((mm, True), (1.5 * mm, False)):
        assert read_scan(save(tmp_path / "a.nii", on_grid, np.diag([size, size, size, 1.0]))).says_mni is says
