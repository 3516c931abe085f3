"""Image files as they come: told truly, read where they can be, and never more of them than their header says."""

import gzip
import resource
import subprocess
import sys
import zlib

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.bids.images import MAX_AXIS, load_image, open_stored
from brainage_bids.errors import BadDataError

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
DATA = np.random.default_rng(0).integers(0, 1000, (30, 32, 34)).astype(np.int16)


def plain(data=DATA, affine=AFFINE, version=nib.Nifti1Image, **fields):
    """The bytes of an image, with header fields written over what nibabel would write."""
    raw = bytearray(version(data, affine).to_bytes())
    kind = version.header_class
    size = kind.template_dtype.itemsize
    header = np.frombuffer(raw[:size], dtype=kind.template_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + bytes(raw[size:])


def written(tmp_path, content, name="sub-01_T1w.nii"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def dim(*sizes):
    return [[len(sizes), *sizes, *[1] * (7 - len(sizes))]]


OF_THE_FILE = ("empty", "annex", "lfs")  # nothing that could be packed
REFUSED = {
    "a web page": (b"<!DOCTYPE html><html><body>404</body></html>" * 30, "web page"),
    "text": (b'{"age": 30}' * 90, "but a text"),
    "zeros": (b"\0" * 3000, "zeros only"),
    "noise": (bytes(range(200, 256)) * 30, "does not begin with a NIfTI header"),
    "FreeSurfer": (b"\0\0\0\1" + b"\0\0\1\0" * 300, "FreeSurfer"),
    "DICOM": (b"\0" * 128 + b"DICM" + b"\1" * 900, "DICOM"),
    "zip": (b"PK\3\4" + b"\0" * 900, "zip"),
    "Analyze": (plain(magic=b""), "Analyze"),
    "a pair": (plain(magic=b"ni1"), "pair"),
    "short": (plain()[:200], "does not begin with a NIfTI header"),
    "empty": (b"", "0 bytes"),
    "annex": (b"/annex/objects/SHA256E-s9--12.nii.gz\n", "annex"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "LFS"),
    "no dimensions": (plain(dim=[[0] * 8]), "0 dimensions"),
    "nine dimensions": (plain(dim=[[9, 30, 32, 34, 1, 1, 1, 1]]), "9 dimensions"),
    "a negative size": (plain(dim=dim(30, -32, 34)), "30 x -32 x 34"),
    "a size of 0": (plain(dim=dim(30, 0, 34)), "30 x 0 x 34"),
    "type": (plain(datatype=999), "type of number 999"),
    "one bit a voxel": (plain(datatype=1), "type of number 1"),
    "offset behind the end": (plain(vox_offset=1e6), "truncated"),
    "2 GB of header": (plain(vox_offset=2e9), "begin at byte 2e"),
    "a negative offset": (plain(vox_offset=-5), "begin at byte -5"),
    "no offset": (plain(vox_offset=np.nan), "begin at byte nan"),
    "scaling": (plain(scl_slope=1, scl_inter=np.nan), "shifted by nan"),
    "truncated": (plain()[:-100], "truncated: 65,532 of 65,632 bytes"),
    "voxels of 0 mm": (plain(sform_code=0, qform_code=0, pixdim=[[1, 0, 4, 4, 1, 1, 1, 1]]), "0 x 4 x 4 mm"),
    "voxels of NaN": (plain(sform_code=0, qform_code=0, pixdim=[[1, 4, np.nan, 4, 1, 1, 1, 1]]), "4 x nan x 4 mm"),
    "voxels below 0": (plain(sform_code=0, qform_code=1, pixdim=[[1, -4, 4, 4, 1, 1, 1, 1]]), "-4 x 4 x 4 mm"),
    "no rotation": (plain(sform_code=0, qform_code=1, quatern_b=0.9, quatern_c=0.9), "no rotation"),
    "NaN rotation": (plain(sform_code=0, qform_code=1, quatern_d=np.nan), "no rotation"),
    "no sform": (plain(sform_code=2, srow_x=np.nan, qform_code=0), "its sform does not map"),
    "flat sform": (plain(sform_code=2, srow_z=[[0, 4, 0, 0]], qform_code=0), "its sform does not map"),
    "1600 voxels": (plain(dim=dim(1600, 1600, 1600)), "1600 x 1600 x 1600 voxels"),
    "one long axis": (plain(dim=dim(MAX_AXIS + 1, 32, 34)), "no more than 1024"),
    "900 volumes": (plain(dim=dim(256, 256, 200, 900)), "512 million"),
}


@pytest.mark.parametrize(
    ("name", "packed"),
    [(name, packed) for name in REFUSED for packed in (False, True) if not packed or name not in OF_THE_FILE],
)
def test_a_bad_file_is_told_by_its_true_fault(tmp_path, name, packed):
    content, words = REFUSED[name]
    path = written(tmp_path, gzip.compress(content) if packed else content, f"a.nii{'.gz' if packed else ''}")
    with pytest.raises(BadDataError) as caught:
        load_image(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 250


def test_what_cannot_be_opened_is_told(tmp_path, monkeypatch):
    folder = tmp_path / "x_T1w.nii.gz"
    folder.mkdir()
    (tmp_path / "link.nii").symlink_to("nowhere.nii")
    for path, words in ((folder, "is a folder"), (tmp_path / "no.nii", "not there"), (tmp_path / "link.nii", "broken")):
        with pytest.raises(BadDataError, match=words):
            open_stored(path)
    path = written(tmp_path, plain())

    def denied(*_, **__):  # the tests may run as one who may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(BadDataError, match=r"cannot be read \(permission denied\)"):
        open_stored(path)


@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(
    ("packed", "name"), [(True, "a.nii.gz"), (False, "a.nii.gz"), (True, "a.nii"), (False, "a.nii")]
)
def test_an_image_is_read_whatever_its_name_says(tmp_path, version, packed, name):
    content = plain(version=version)
    path = written(tmp_path, gzip.compress(content) if packed else content, name)
    stored = open_stored(path)
    np.testing.assert_array_equal(stored.values(), DATA)
    np.testing.assert_allclose(stored.affine, AFFINE)
    assert any("unlike its name" in words for words in stored.warnings) is (packed != name.endswith(".gz"))
    image = load_image(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), DATA)


def test_any_type_of_number_and_byte_order_is_read(tmp_path):
    for dtype in (np.uint8, np.int8, np.uint16, np.int32, np.float32, np.float64, np.int64, np.uint64):
        path = written(tmp_path, nib.Nifti1Image((DATA % 100).astype(dtype), AFFINE, dtype=dtype).to_bytes())
        np.testing.assert_array_equal(open_stored(path).values(), DATA % 100)
        assert np.asarray(load_image(path).dataobj).dtype == dtype
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    path = written(tmp_path, nib.Nifti1Image(DATA, AFFINE, header).to_bytes())
    assert path.read_bytes()[:4] == (348).to_bytes(4, "big")
    np.testing.assert_array_equal(open_stored(path).values(), DATA)


def test_scaling_is_that_of_nibabel(tmp_path):
    for slope, inter in ((0.3, -7), (0, 5), (np.inf, 0), (1, 0), (-2, 1000)):
        path = written(tmp_path, plain(scl_slope=slope, scl_inter=inter))
        np.testing.assert_array_equal(open_stored(path).values(), np.asanyarray(nib.load(path).dataobj))


def test_bytes_behind_the_last_voxel_are_left_alone(tmp_path):
    for packed in (gzip.compress(plain() + b"x" * 1000), gzip.compress(plain()) + b"trailing", plain() + b"x" * 999):
        np.testing.assert_array_equal(load_image(written(tmp_path, packed)).dataobj, DATA)


def test_a_header_extension_and_a_small_offset_are_read(tmp_path):
    image = nib.Nifti1Image(DATA, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    np.testing.assert_array_equal(load_image(written(tmp_path, image.to_bytes())).dataobj, DATA)
    np.testing.assert_array_equal(load_image(written(tmp_path, plain(vox_offset=0))).dataobj, DATA)


def test_a_quaternion_beyond_one_by_rounding_is_a_rotation(tmp_path):
    turn = {"qform_code": 1, "quatern_b": 0.0, "quatern_c": 0.0, "quatern_d": 1.0001}
    half_turn = np.diag([-4.0, -4.0, 4.0, 1.0])
    stored = open_stored(written(tmp_path, plain(sform_code=0, **turn)))
    np.testing.assert_allclose(stored.affine, half_turn, atol=1e-6)
    assert stored.warnings == ()
    # one that is none hurts nobody beside a good sform
    stored = open_stored(written(tmp_path, plain(sform_code=1, **turn | {"quatern_b": 1.0})))
    np.testing.assert_allclose(stored.affine, AFFINE)
    assert any("no rotation" in words and "sform was used" in words for words in stored.warnings)


def test_a_turn_of_nearly_half_a_circle_is_not_rounded(tmp_path):
    angle = np.radians(178.0)
    fields = {"sform_code": 0, "qform_code": 1, "quatern_b": 0, "quatern_c": 0, "quatern_d": np.sin(angle / 2)}
    found = open_stored(written(tmp_path, plain(**fields))).affine
    np.testing.assert_allclose(found[:2, 0], 4 * np.array([np.cos(angle), np.sin(angle)]), atol=1e-4)


def test_a_broken_sform_leaves_the_qform(tmp_path):
    stored = open_stored(written(tmp_path, plain(sform_code=1, srow_x=0, qform_code=1)))
    np.testing.assert_allclose(stored.affine, AFFINE)
    assert any("qform was used" in words for words in stored.warnings)
    # an sform says the voxel size by itself
    stored = open_stored(written(tmp_path, plain(sform_code=1, qform_code=0, pixdim=[[1, 0, -1, np.nan, 0, 0, 0, 0]])))
    np.testing.assert_allclose(stored.affine, AFFINE)


def test_affines_are_those_of_nibabel(tmp_path):
    rng = np.random.default_rng(1)
    for k in range(12):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        affine = nib.affines.from_matvec(turn @ np.diag(rng.uniform(1, 5, 3)), rng.normal(size=3) * 50)
        image = nib.Nifti1Image(DATA, None)
        image.set_sform(affine, code=k % 2)
        image.set_qform(affine, code=k // 2 % 2)
        path = written(tmp_path, image.to_bytes())
        np.testing.assert_allclose(open_stored(path).affine, nib.load(path).affine, atol=1e-5)


def declared(side, dtype, megabytes):
    """A compressed file of zeros whose header declares a cube."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header["dim"][:4], header["magic"], header["vox_offset"] = (3, side, side, side), b"n+1", 352
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [packer.compress(header.binaryblock + b"\0" * 4)]
    parts += [packer.compress(bytes(2**20)) for _ in range(megabytes)]
    return b"".join(parts) + packer.flush()


def unfolding(gigabytes):
    """A small image followed by gigabytes of zeros, in a file of some megabytes."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    head = packer.compress(nib.Nifti1Image(np.ones((64, 64, 64), "u1"), AFFINE).to_bytes())
    head += packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)  # the same whenever it comes
    return head + block * (gigabytes * 64)


BOMBS = {
    "declares a size": (lambda: declared(1600, np.int16, 64), "no more than"),
    "declares a size of nothing": (lambda: declared(800, np.uint8, 64), "cannot hold a scan"),
    "unfolds": (lambda: unfolding(20), "goes on far beyond"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_unfolds_to_a_large_one_is_refused_in_little_memory(tmp_path, name):
    make, words = BOMBS[name]
    path = written(tmp_path, make(), "a.nii.gz")
    code = f"""
import resource
from brainage_bids.errors import BadDataError
from brainage_bids.preprocess.intake import read_scan
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_scan({str(path)!r})
except BadDataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    limit = (2 * 2**30, 2 * 2**30)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))  # fmt: skip
    assert done.returncode == 0, done.stderr
    sentence, megabytes = done.stdout.splitlines()
    assert words in sentence
    assert float(megabytes) < 200
