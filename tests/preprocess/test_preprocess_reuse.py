"""Starting from what another pipeline made, and recognising what was done to a scan before it came."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.errors import UsageError
from brainage_bids.preprocess import brain as brain_room
from brainage_bids.preprocess import recognise, steps
from brainage_bids.preprocess.done import is_done
from brainage_bids.preprocess.intake import Brain
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.template import load_template
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import Prepared, Scan, VolumeSpec

SPECS = (VolumeSpec.on_grid(4),)


def options(folder, **changes):
    return PreprocessOptions(folder / "work", progress=False, **changes)


def forbidden(*_args, **_kwargs):
    raise AssertionError("a given mask and a corrected image are used as they are")


@pytest.fixture(scope="module")
def made(brain_and_mask, tmp_path_factory):
    """A run from the images of another pipeline; the raw scan is not even there."""
    data, mask, affine = brain_and_mask
    folder = tmp_path_factory.mktemp("reuse")
    anat = folder / "fmriprep" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    image, mask_file = (anat / f"sub-01_desc-{name}.nii.gz" for name in ("preproc_T1w", "brain_mask"))
    nib.save(nib.Nifti1Image(data, affine), image)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), mask_file)
    prepared = Prepared("fmriprep", str(image), str(mask_file))
    scan = Scan(str(folder / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"), "sub-01", prepared=prepared)
    outputs = Outputs(folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("brain_mask", "network_mask", "n4"):
            patch.setattr(brain_room, name, forbidden)
        outcomes = preprocess([scan], SPECS, outputs, options(folder))
    return folder, scan, outputs, outcomes


def test_mask_and_intensities_are_taken_as_they_are(made, brain_and_mask):
    _, scan, outputs, outcomes = made
    assert [outcome.status for outcome in outcomes] == ["done"], outcomes[0].reason
    told = read_json(sidecar_path(outputs.volume(scan, SPECS[0])))
    assert told["MaskSource"] == "fmriprep"
    assert told["Sources"] == [
        "bids:fmriprep:sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "bids:fmriprep:sub-01/anat/sub-01_desc-brain_mask.nii.gz",
    ]
    assert any("those of fmriprep" in note for note in told["Notes"])
    assert not any("fmriprep" in reason for reason in told["qc_warn"])
    inside = np.asarray(nib.load(outputs.mask(scan, SPECS[0])).dataobj) > 0
    _, mask, _ = brain_and_mask
    matrix = np.asarray(read_json(outputs.transform(scan, SPECS[0].template).with_suffix(".json"))["MatrixRAS"])
    expected = mask.sum() * 27 / np.linalg.det(matrix[:3, :3])
    assert inside.sum() * 64 == pytest.approx(expected, rel=0.03)


def test_a_switch_between_raw_and_prepared_is_noticed(made, head):
    folder, scan, outputs, _ = made
    path = folder / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(head, path)
    assert is_done(scan, SPECS, ScanRecords(outputs))
    assert not is_done(dataclasses.replace(scan, prepared=None), SPECS, ScanRecords(outputs))
    changed = dataclasses.replace(scan.prepared, mask=scan.prepared.image)
    assert not is_done(dataclasses.replace(scan, prepared=changed), SPECS, ScanRecords(outputs))


def test_a_scan_without_prepared_image_fails_and_its_old_volume_goes(made, tmp_path):
    folder, scan, outputs, _ = made
    lost = dataclasses.replace(scan, prepared=Prepared("fmriprep", "", "", "fmriprep has no native image for it"))
    other = Outputs(tmp_path / "out")
    other.volume(lost, SPECS[0]).parent.mkdir(parents=True)
    other.volume(lost, SPECS[0]).write_bytes(b"made from the raw scan")
    (outcome,) = preprocess([lost], SPECS, other, options(tmp_path))
    assert (outcome.status, outcome.step) == ("failed", "reuse")
    assert outcome.reason == "fmriprep has no native image for it"
    assert not other.volume(lost, SPECS[0]).exists()
    assert outputs.volume(scan, SPECS[0]).exists()
    with pytest.raises(UsageError, match="--engine ants"):
        preprocess([scan], SPECS, other, options(folder, engine="ants"))


def test_a_given_brain_that_lies_turned_is_found_without_masking(brain_and_mask, monkeypatch):
    data, mask, affine = brain_and_mask
    for name in ("brain_mask", "network_mask"):
        monkeypatch.setattr(brain_room, name, forbidden)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    found, fit = steps.align(None, Brain(data, mask, turn @ affine, "fmriprep"), load_template())
    assert found.mask is mask
    assert fit.ncc > 0.6
    error = np.linalg.inv(turn) @ fit.matrix  # the phantom is the template: all that is left is the turn
    assert recognise.moved_mm(error, load_template()) < 3


# --- recognised and said --------------------------------------------------------------------------------------------


def test_a_flat_field_and_a_stripped_scan_are_said():
    rng = np.random.default_rng(0)
    before = rng.uniform(50, 100, (20, 20, 20)).astype(np.float32)
    mask = np.ones(before.shape, bool)
    slope = np.exp(np.linspace(-0.3, 0.3, 20))[:, None, None]
    assert recognise.field_spread(before * slope, before, mask) == pytest.approx(0.6 / np.sqrt(12), rel=0.1)
    assert recognise.field_spread(3 * before, before, mask) == pytest.approx(0, abs=1e-6)  # gain is no field
    assert recognise.remarks(before * slope, before, mask, "deepbet") == ()
    both = recognise.remarks(before, before, mask, "input")
    assert len(both) == 2
    assert "skull-stripped" in both[0]
    assert "bias" in both[1]
    assert recognise.field_spread(0 * before, before, mask) == np.inf


def test_mni_space_needs_header_and_a_small_affine():
    template = load_template()
    small, native = np.eye(4), np.diag([0.85, 0.9, 0.88, 1.0])
    small[0, 3] = 2.0
    assert recognise.moved_mm(small, template) == pytest.approx(2)
    assert recognise.moved_mm(native, template) > recognise.MNI_DISTANCE_MM
    scan = Brain(np.ones((2, 2, 2)), np.ones((2, 2, 2), bool), np.eye(4), "deepbet")
    said = dataclasses.replace(scan, says_mni=True)
    assert "MNI space" in recognise.mni_notes(said, small, template)[0]
    assert recognise.mni_notes(scan, small, template) == ()
    assert recognise.mni_notes(said, native, template) == ()
