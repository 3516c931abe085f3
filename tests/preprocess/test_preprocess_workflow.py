import dataclasses
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.runs import Run
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.errors import UsageError
from brainage_bids.preprocess import rescue, workflow
from brainage_bids.preprocess.affine import wide_starts
from brainage_bids.preprocess.done import is_done, remove_outputs
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import Scan, VolumeSpec

SPECS = (VolumeSpec.on_grid(4), VolumeSpec.on_grid(6, intensity="zscore"))


def options(tmp_path, **changes):
    return PreprocessOptions(tmp_path / "work", **{"progress": False, **changes})


def ball():
    x, y, z = np.meshgrid(*[np.arange(-30, 30.0)] * 3, indexing="ij")
    data = 500 * (x**2 + y**2 + z**2 < 24**2) + np.random.default_rng(0).normal(20, 4, x.shape)
    return nib.Nifti1Image(data.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))


@pytest.fixture(scope="module")
def finished(head, tmp_path_factory):
    """One run over a good head, the same head stored as PSR, and three that cannot work; Linear plugin."""
    folder = tmp_path_factory.mktemp("run")
    target = nib.orientations.axcodes2ornt("PSR")
    turned = head.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(head.affine), target))
    images = {
        "01": head,
        "02": nib.Nifti1Image(np.zeros((40, 40, 40), np.int16), 4 * np.eye(4)),
        "03": turned,
        "04": ball(),
    }
    scans = []
    for label, image in images.items():
        path = folder / "bids" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(image, path)
        scans.append(Scan(str(path), f"sub-{label}"))
    scans.append(Scan(str(folder / "bids" / "sub-05" / "anat" / "sub-05_T1w.nii.gz"), "sub-05"))
    before = torch.get_num_threads()
    outputs = Outputs(folder / "out")
    with pytest.MonkeyPatch.context() as patch:  # the ball is searched for a brain in 2 poses instead of 30
        patch.setattr(rescue, "wide_starts", lambda: wide_starts()[:2])
        outcomes = preprocess(scans, SPECS, outputs, options(folder))
    assert torch.get_num_threads() == before
    return folder, scans, outputs, outcomes


def test_every_scan_has_an_outcome(finished):
    _, scans, _, outcomes = finished
    assert [outcome.scan for outcome in outcomes] == scans
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done", "failed", "failed"]
    assert "one single value" in outcomes[1].reason
    assert outcomes[1].step == "brain"
    assert "no brain" in outcomes[3].reason
    assert "not there" in outcomes[4].reason
    assert all("\n" not in outcome.reason for outcome in outcomes if outcome.reason)
    assert all(outcome.seconds > 0 for outcome in outcomes if outcome.status == "done")


def test_a_failed_scan_leaves_no_output_but_a_readable_crash_file(finished):
    folder, scans, outputs, _ = finished
    for scan in (scans[1], scans[3], scans[4]):
        assert not [path for path in outputs.root.rglob(f"*{scan.prefix}*") if path.is_file()]
    crashes = list((folder / "work" / "crash").glob("crash-*.txt"))
    assert len(crashes) == 3
    assert any("one single value" in path.read_text() for path in crashes)


def test_work_directory_is_cleaned(finished):
    folder, *_ = finished
    assert [path.name for path in (folder / "work").iterdir()] == ["crash"]


def test_volume_mask_and_sidecar(finished):
    _, scans, outputs, _ = finished
    for spec in SPECS:
        image, mask = nib.load(outputs.volume(scans[0], spec)), nib.load(outputs.mask(scans[0], spec))
        assert image.shape == mask.shape == spec.shape
        np.testing.assert_array_equal(image.affine, np.asarray(spec.affine))
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.get_data_dtype() == np.float32
        inside = np.asarray(mask.dataobj) > 0
        data = image.get_fdata()
        assert not data[~inside].any()
        if spec.intensity == "minmax":
            assert (data.min(), data.max()) == (0, 1)
        else:
            assert data[inside].mean() == pytest.approx(0, abs=1e-4)
        sidecar = read_json(sidecar_path(outputs.volume(scans[0], spec)))
        assert sidecar["VolumeSpec"] == spec.to_dict()
        assert sidecar["SkullStripped"] is True
        assert sidecar["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
        assert sidecar["qc_pass"] is True
        assert sidecar["QC"]["template_dice"] > 0.93
        assert len(sidecar["InputHash"]) == 64
    xfm = outputs.transform(scans[0], SPECS[0].template)
    assert "template to T1w" in json.loads(xfm.with_suffix(".json").read_text())["Description"]


def test_the_template_head_lands_on_the_template(finished):
    from brainage_bids.preprocess.template import template_volume

    _, scans, outputs, _ = finished
    values, inside = template_volume(SPECS[0])
    found = nib.load(outputs.volume(scans[0], SPECS[0])).get_fdata()
    both = inside & (found > 0)
    assert np.corrcoef(found[both], values[both])[0, 1] > 0.85


def test_storage_order_does_not_change_the_volume(finished):
    _, scans, outputs, _ = finished
    for spec in SPECS:
        first, second = (nib.load(outputs.volume(scan, spec)).get_fdata() for scan in (scans[0], scans[2]))
        np.testing.assert_array_equal(first, second)


def test_pictures_are_small_and_not_blank(finished):
    _, scans, outputs, _ = finished
    for name in ("mask", "template"):
        path = outputs.qc_figure(scans[0], name)
        assert 10_000 < path.stat().st_size < 200_000
        picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
        coloured = (picture.max(axis=2) - picture.min(axis=2)) > 60  # the outline
        assert 500 < coloured.sum() < 0.2 * coloured.size


def test_a_second_run_skips_and_a_changed_input_is_redone(finished, tmp_path):
    folder, scans, outputs, _ = finished
    good = [scans[0], scans[2]]
    assert all(is_done(scan, SPECS, ScanRecords(outputs), "builtin") for scan in good)
    assert not is_done(scans[1], SPECS, ScanRecords(outputs), "builtin")
    assert not is_done(good[0], SPECS, ScanRecords(outputs), "ants")
    assert not is_done(good[0], (VolumeSpec.on_grid(4, intensity="zscore"),), ScanRecords(outputs), "builtin")
    stamps = [outputs.volume(scan, SPECS[0]).stat().st_mtime_ns for scan in good]
    again = preprocess(good, SPECS, outputs, options(folder))
    assert [outcome.status for outcome in again] == ["skipped", "skipped"]
    assert [outputs.volume(scan, SPECS[0]).stat().st_mtime_ns for scan in good] == stamps

    image = nib.load(good[1].path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), good[1].path)
    assert not is_done(good[1], SPECS, ScanRecords(outputs), "builtin")
    changed = preprocess(good, SPECS, outputs, options(folder))
    assert [outcome.status for outcome in changed] == ["skipped", "failed"]
    assert not outputs.volume(good[1], SPECS[0]).exists()  # the volume of the former input is gone


def test_unknown_template_is_refused_at_the_door(tmp_path):
    with pytest.raises(UsageError, match="MNI305"):
        preprocess([], [VolumeSpec.on_grid(4, template="MNI305")], Outputs(tmp_path), options(tmp_path))


def test_folders_of_killed_runs_are_removed_and_those_of_living_ones_stay(tmp_path):
    work, other = tmp_path / "work", Run()
    work.mkdir()
    other.enter(work)
    dead = Run()
    dead.who = dataclasses.replace(dead.who, born="1", pid=2**22)  # no such process
    dead.enter(work)
    for name in (other.id, dead.id, "my own", "20260101T120000-7-abcdef"):
        (work / name).mkdir()
    workflow._remove_left(options(tmp_path))
    assert {path.name for path in work.iterdir()} == {".runs", other.id, "my own"}
    assert {path.name for path in (work / ".runs").iterdir()} == {f"{other.id}.json", f"{other.id}.beat"}


def test_half_written_files_of_a_sibling_are_left_alone(tmp_path):
    outputs, scan = Outputs(tmp_path), Scan("/x.nii", "sub-01")
    folder = outputs.anat(scan)
    folder.mkdir(parents=True)
    mine = folder / ".tmp-abc12345-sub-01_space-X_res-4_desc-preproc_T1w.nii.gz"
    other = folder / ".tmp-abc12345-sub-01_acq-mprage_space-X_res-4_desc-preproc_T1w.nii.gz"
    for path in (mine, other):
        path.write_bytes(b"")
    remove_outputs(scan, [SPECS[0]], outputs)
    assert not mine.exists()
    assert other.exists()


DATA = os.environ.get("BRAINAGE_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="BRAINAGE_TEST_DATA is not set")


@pytest.mark.real
@needs_data
def test_real_heads(tmp_path):
    paths = sorted(Path(DATA).glob("ds000011/sub-*/anat/*_T1w.nii.gz"))[:2]
    scans = [Scan(str(path), path.parent.parent.name) for path in paths]
    outputs = Outputs(tmp_path / "out")
    outcomes = preprocess(scans, [VolumeSpec.on_grid(2)], outputs, options(tmp_path))
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    for scan in scans:
        sidecar = read_json(sidecar_path(outputs.volume(scan, VolumeSpec.on_grid(2))))
        assert sidecar["QC"]["template_dice"] > 0.95
        assert sidecar["QC"]["template_ncc"] > 0.60
        assert (sidecar["qc_pass"], sidecar["qc_warn"]) == (True, [])


@pytest.mark.real
@pytest.mark.slow  # it is searched for a brain in 30 poses; with two the ball of `finished` has none either
@needs_data
def test_a_real_test_object_has_no_brain_in_any_pose(tmp_path):
    scan = Scan(str(Path(DATA) / "scans" / "bisweb_phantom_unknown.nii.gz"), "sub-ball")
    (outcome,) = preprocess([scan], [VolumeSpec.on_grid(2)], Outputs(tmp_path / "out"), options(tmp_path))
    assert outcome.status == "failed"
    assert "no brain" in outcome.reason
