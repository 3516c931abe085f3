"""Every door through which an image comes in tells a bad one by its true fault, in one sentence."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.bids.files import write_json
from brainage_bids.errors import BadDataError
from brainage_bids.model.dataset import load_volume
from brainage_bids.preprocess.intake import read_mask, read_scan
from brainage_bids.preprocess.template_source import find_template
from brainage_bids.report import brain_slices
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats import maps
from brainage_bids.stats.atlas import find_atlas

SPEC = VolumeSpec.on_grid(4)
DOORS = {
    "scan": read_scan,
    "mask": read_mask,
    "template": lambda path: find_template(str(path)),
    "volume": lambda path: load_volume(path, SPEC),
    "map": lambda path: maps._load(path),
    "picture": brain_slices.load,
    "atlas": lambda path: find_atlas(str(path)),
}


def image(dtype=np.int16, **fields):
    data = np.ones((32, 32, 32), dtype)
    raw = nib.Nifti1Image(data, np.diag([4.0, 4, 4, 1])).to_bytes()
    header = np.frombuffer(raw[:348], dtype=nib.Nifti1Header.template_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    return gzip.compress(header.tobytes() + raw[348:])


BAD = {
    "web page": (b"<html><body>404</body></html>" * 30, "web page"),
    "truncated": (image()[:-40], "truncated"),
    "huge": (image(dim=[[3, 1600, 1600, 1600, 1, 1, 1, 1]]), "512 million"),
    "negative": (image(dim=[[3, -2, 32, 32, 1, 1, 1, 1]]), "-2 x 32 x 32"),
    "complex": (image(np.complex64), "complex"),
    "turned by nothing": (image(sform_code=0, qform_code=1, quatern_b=3), "no rotation"),
    "empty": (b"", "0 bytes"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("door", DOORS)
def test_a_bad_image_is_told_at_every_door(tmp_path, door, fault):
    content, words = BAD[fault]
    path = tmp_path / "x_T1w.nii.gz"
    path.write_bytes(content)
    (tmp_path / "x_T1w.tsv").write_text("index\tname\n1\tOne\n")
    write_json(tmp_path / "x_T1w.json", {"VolumeSpec": SPEC.to_dict()})
    with pytest.raises(BadDataError) as caught:
        DOORS[door](path)
    assert words in str(caught.value)
    assert "x_T1w.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)
