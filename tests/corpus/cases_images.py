"""Image files that nibabel, or we, stumble over; read as the first step of preprocessing reads them."""

import gzip

import nibabel as nib
import numpy as np
from corpuscase import Case

NAME = "sub-01/anat/sub-01_T1w.nii.gz"


def _read(root):
    from brainage_bids.preprocess.intake import read_scan

    return "; ".join(read_scan(root / NAME).warnings)


def _image(data, affine=None):
    return gzip.compress(nib.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0]) if affine is None else affine).to_bytes())


def _scan(what, content, rc=65, **promised):
    return Case(what, ("participant_id|age", "sub-01|30"), {NAME: content}, call=_read, rc=rc, **promised)


def _raw(**fields):
    """The bytes of a good image with header fields written over."""
    raw = nib.Nifti1Image(HEAD, np.diag([4.0, 4.0, 4.0, 1.0])).to_bytes()
    header = np.frombuffer(raw[:348], dtype=nib.Nifti1Header.template_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + raw[348:]


def _header(what, *says, rc=65, **fields):
    return _scan(what, gzip.compress(_raw(**fields)), rc=rc, says=says)


def _dim(*sizes):
    return [[len(sizes), *sizes, *[1] * (7 - len(sizes))]]


def _turned(root):
    """A scan stored in another order than RAS+, sform and qform apart."""
    image = nib.Nifti1Image(HEAD, None)
    affine = np.array([[0, 0, -4.0, 60], [4, 0, 0, -60], [0, -4, 0, 60], [0, 0, 0, 1]])
    image.set_sform(affine, 1)
    image.set_qform(affine + np.eye(4)[:, [3, 3, 3, 0]] * 9, 1)
    (root / NAME).parent.mkdir(parents=True)
    nib.save(image, root / NAME)


HEAD = np.random.default_rng(0).integers(0, 1000, (32, 32, 32)).astype(np.int16)

CASES = {
    "web_page": _scan("the page of a failed download", b"<html><body>404</body></html>" * 30, says=("NIfTI",)),
    "cut_short": _scan("a download that broke off", _image(HEAD)[:-20000], says=("to its end",)),
    "all_nan": _scan("nothing but NaN", _image(np.full((32, 32, 32), np.nan, np.float32)), says=("NaN",)),
    "all_zero": _scan("nothing but 0", _image(np.zeros((32, 32, 32), np.int16)), says=("one single value",)),
    "four_dimensions": _scan("a series", _image(np.stack([HEAD] * 3, axis=-1)), says=("32x32x32x3",)),
    "complex": _scan("complex numbers", _image(HEAD.astype(np.complex64)), says=("complex",)),
    "text_inside": _scan("a text of that name", b'{"a": 1}' * 200, says=("a text",)),
    "nothing_inside": _scan("zero bytes", b"", says=("0 bytes",)),
    "lfs_inside": _scan(
        "a git LFS pointer", b"version https://git-lfs.github.com/spec/v1\nsize 9\n", rc=66, says=("git lfs pull",)
    ),
    "freesurfer_inside": _scan("an mgz renamed", gzip.compress(b"\0\0\0\1" + b"\0\0\1\0" * 99), says=("FreeSurfer",)),
    "dicom_inside": _scan("a DICOM file renamed", b"\0" * 128 + b"DICM" + b"\2" * 900, says=("DICOM",)),
    "analyze_inside": _header("an Analyze header", "Analyze", "left and right", magic=b""),
    "pair_inside": _header("the .hdr of a pair", "pair of files", magic=b"ni1"),
    "compressed_twice": _scan("gzip in gzip", gzip.compress(_image(HEAD)), says=("compressed twice",)),
    "not_compressed": _scan("a plain file called .gz", _raw(), rc=0, says=("not compressed, unlike its name",)),
    "a_folder": Case(
        "a folder of that name",
        make=lambda root: (root / NAME).mkdir(parents=True),
        call=_read,
        rc=65,
        says=("is a folder",),
    ),
    "sform_apart": Case("an oblique order, sform unlike qform", make=_turned, call=_read, says=("disagree",)),
    "both_unset": _header("no orientation", "left and right are a guess", rc=0, sform_code=0, qform_code=0),
    "quaternion_by_a_hair": _scan(
        "a quaternion of length 1.0001 beside a good sform",
        gzip.compress(_raw(sform_code=1, qform_code=1, quatern_b=1.0001)),
        rc=0,
        says=("disagree",),
    ),
    "quaternion_that_is_none": _header(
        "no rotation, no sform", "no rotation", "repair", sform_code=0, qform_code=1, quatern_b=0.9, quatern_c=0.9
    ),
    "voxels_of_zero": _header(
        "pixdim 0 and no sform", "0 x 4 x 4 mm", sform_code=0, qform_code=0, pixdim=[[1, 0, 4, 4, 1, 1, 1, 1]]
    ),
    "voxels_of_nan": _header(
        "pixdim NaN and no sform", "nan", sform_code=0, qform_code=1, pixdim=[[1, 4, 4, np.nan, 1, 1, 1, 1]]
    ),
    "voxels_in_metres": _scan(
        "voxels of 0.004 mm", _image(HEAD, np.diag([0.004, 0.004, 0.004, 1])), says=("0.13", "voxel size")
    ),
    "sform_of_zeros": _header("an sform that is coded and empty", "does not map", sform_code=1, srow_x=0, qform_code=0),
    "no_dimensions": _header("dim[0] = 0", "0 dimensions", dim=[[0] * 8]),
    "below_zero": _header("a negative size", "-32", dim=_dim(32, -32, 32)),
    "seven_dimensions": _header("7D", "32x32x16x2", dim=_dim(32, 32, 16, 2, 1, 1, 1)),
    "huge": _header("1600 voxels a side", "1600", "512 million", dim=_dim(1600, 1600, 1600)),
    "far_offset": _header("voxels behind the end of the file", "truncated", vox_offset=1e6),
    "header_of_2_gb": _header("an extension of 2 GB", "begin at byte", vox_offset=2e9),
    "unknown_type": _header("a type of number that NIfTI does not have", "type of number 77", datatype=77),
    "colours": _header("three bytes a voxel", "colours", datatype=128, dim=_dim(32, 32, 21)),
    "scaled_by_nan": _header("intercept NaN", "shifted by nan", scl_slope=1, scl_inter=np.nan),
    "tail": _scan(
        "bytes behind the last voxel", gzip.compress(_raw() + b"x" * 999), rc=0, silent=("truncated", "cannot")
    ),
    "beyond_float32": _scan(
        "one value of 1e300",
        _image(np.where(np.arange(32) == 5, 1e300, HEAD.astype(np.float64))),
        rc=0,
        silent=("single",),
    ),
    "all_beyond_float32": _scan("a unit of 1e200", _image(HEAD * 1e200), rc=0, silent=("NaN", "single")),
    "tiny_unit": _scan("a unit of 1e-60", _image(HEAD * 1e-60), rc=0, silent=("NaN", "single")),
    "padded": _scan(
        "padding of -1024",
        _image(np.where(np.arange(32) < 6, np.int16(-1024), HEAD)),
        rc=0,
        says=("padded with -1024",),
    ),
    "too_small": _scan("12 voxels a side", _image(HEAD[:12, :12, :12]), says=("cannot hold a head",)),
}
