"""A full disk ends a run with the file and the way out; what was good stays, and the next run finishes."""

import errno
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from interrupted import leavings, results
from pipelinestudy import run

from brainage_bids.bids import files
from brainage_bids.bids.files import read_json
from brainage_bids.cli import run_inside
from brainage_bids.errors import CannotCreateError, NoRoomError
from brainage_bids.phantom.cohort import make_cohort


@pytest.fixture
def full(monkeypatch):
    """Let the disk be full (or fail otherwise) for files whose name matches."""

    def fill(name, number=errno.ENOSPC):
        make = tempfile.mkstemp

        def mkstemp(prefix, suffix, dir):
            if re.search(name, suffix):
                raise OSError(number, os.strerror(number), suffix)
            return make(prefix=prefix, suffix=suffix, dir=dir)

        monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)

    return fill


def preprocess_again(out):
    shutil.rmtree(out / "sub-001")


def predict_again(out):
    for path in out.glob("sub-*/anat/*_pred.*"):
        path.unlink()


def write_pages(out):
    for path in out.glob("sub-*.html"):
        path.unlink()


def group_again(out):
    shutil.rmtree(out / "group")


PARTICIPANT = ("participant", "--nprocs", "1", "--exclude-participant-label", "003")
CASES = {
    "mask": (preprocess_again, PARTICIPANT, r"sub-001.*brain_mask\.nii\.gz"),
    "sidecar of the volume": (preprocess_again, PARTICIPANT, r"sub-001.*preproc_T1w\.json"),
    "map": (predict_again, PARTICIPANT, r"sub-002.*saliency\.nii\.gz"),
    "prediction": (predict_again, PARTICIPANT, r"sub-002.*_pred\.tsv"),
    "page": (write_pages, PARTICIPANT, r"sub-002\.html"),
    "quality": (write_pages, PARTICIPANT, r"qc\.html"),
    "group table": (group_again, ("group",), r"roc\.tsv"),
    "mean map": (group_again, ("group",), r"Mean_saliency\.nii\.gz"),
    "figure": (group_again, ("group",), r"\.svg"),
    "group page": (group_again, ("group",), r"group\.html"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_ends_the_run_with_the_file_and_the_way_out(own_study, full, monkeypatch, case):
    lose, args, name = CASES[case]
    bids, out = own_study.bids, own_study.out
    lose(out)
    with monkeypatch.context():
        full(name)
        with pytest.raises(NoRoomError) as caught:
            run_inside([str(bids), str(out), *args])
    monkeypatch.undo()
    assert re.search(name, str(caught.value))
    assert str(caught.value).endswith("No space left on device; make room there, then start the same command again")
    record = read_json(sorted(out.glob("logs/*/run.json"))[-1])
    assert record["ExitCode"] == NoRoomError.exit_code == 74
    assert str(caught.value) in record["Notes"][-1]
    assert not [event for event in record["Events"] if event["status"] == "failed"]
    assert leavings(out) == []
    run_inside([str(bids), str(out), *args])
    assert results(out) == results(own_study.whole)


def test_a_record_that_finds_no_room_does_not_hide_the_first_error(own_study, full):
    predict_again(own_study.out)
    full(r"_pred\.tsv|run\.json")
    with pytest.raises(NoRoomError, match=r"_pred\.tsv cannot be written"):
        run_inside([str(own_study.bids), str(own_study.out), *PARTICIPANT])


def test_a_folder_that_may_not_be_written_is_73(own_study, full):
    predict_again(own_study.out)
    full(r"_pred\.tsv", errno.EACCES)
    with pytest.raises(
        CannotCreateError, match=r"cannot create .*_pred\.tsv: Permission denied; check the permissions"
    ):
        run_inside([str(own_study.bids), str(own_study.out), *PARTICIPANT])


def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        make_cohort(tmp_path / "bids", n=6, seed=7, voxel_mm=4.0, progress=False)
        filler = disk / "filler"
        filler.write_bytes(b"0" * (32 * 2**20 - 300_000))  # a volume of 1 mm takes more
        command = (tmp_path / "bids", disk / "out", "participant", "--preprocess-only", "--participant-label", "001")
        done = run(*command, "--nprocs", "2")
        assert done.returncode == 74, done.stderr
        assert re.search(r"\.nii\.gz cannot be written: No space left on device; make room there", done.stderr)
        (path,) = (disk / "out").glob("logs/*/run.json")
        assert read_json(path)["ExitCode"] == 74
        assert leavings(disk / "out") == []
        filler.unlink()
        assert run(*command).returncode == 0
    finally:
        subprocess.run(["umount", disk], check=True)
