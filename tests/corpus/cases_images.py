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


HEAD = np.random.default_rng(0).integers(0, 1000, (32, 32, 32)).astype(np.int16)

CASES = {
    "web_page": _scan("the page of a failed download", b"<html><body>404</body></html>" * 30, says=("NIfTI",)),
    "cut_short": _scan("a download that broke off", _image(HEAD)[:-20000], says=("to its end",)),
    "all_nan": _scan("nothing but NaN", _image(np.full((32, 32, 32), np.nan, np.float32)), says=("NaN",)),
    "all_zero": _scan("nothing but 0", _image(np.zeros((32, 32, 32), np.int16)), says=("one single value",)),
    "four_dimensions": _scan("a series", _image(np.stack([HEAD] * 3, axis=-1)), says=("32x32x32x3",)),
    "complex": _scan("complex numbers", _image(HEAD.astype(np.complex64)), says=("complex",)),
    "too_small": _scan("12 voxels a side", _image(HEAD[:12, :12, :12]), says=("cannot hold a head",)),
}
