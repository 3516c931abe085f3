"""A full disk ends a run with the file and the way out; what was good stays, and the next run finishes."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from commandline import run
from interrupted import last_record, leavings, results

from brainage_bids.bids import files
from brainage_bids.bids.files import read_json
from brainage_bids.cli import run_inside
from brainage_bids.errors import CannotCreateError, NoRoomError


@pytest.fixture
def full(monkeypatch):
    """Let the disk be full (or fail otherwise) for files whose name matches."""

    @contextlib.contextmanager
    def fill(name, number=errno.ENOSPC):
        make = tempfile.mkstemp

        def mkstemp(prefix, suffix, dir):
            if re.search(name, suffix):
                raise OSError(number, os.strerror(number), suffix)
            return make(prefix=prefix, suffix=suffix, dir=dir)

        with monkeypatch.context() as patch:
            patch.setattr(files.tempfile, "mkstemp", mkstemp)
            yield

    return fill


def predict_again(out):
    for path in out.glob("sub-002/anat/*_pred.*"):
        path.unlink()


PARTICIPANT = ("participant", "--nprocs", "1", "--exclude-participant-label", "003")
# what finds no room, in the order in which a run comes to it
OF_PARTICIPANT = {
    "mask": r"sub-001.*brain_mask\.nii\.gz",
    "sidecar of the volume": r"sub-001.*preproc_T1w\.json",
    "map": r"sub-002.*saliency\.nii\.gz",
    "prediction": r"sub-002.*_pred\.tsv",
    "page": r"sub-002\.html",
    "quality": r"qc\.html",
}
OF_GROUP = {
    "table": r"roc\.tsv",
    "mean map": r"Mean_saliency\.nii\.gz",
    "figure": r"\.svg",
    "page": r"group\.html",
}


def test_a_full_disk_ends_the_participant_level_and_the_next_run_goes_on(own_study, full):
    shutil.rmtree(own_study.out / "sub-001")
    predict_again(own_study.out)
    for page in ("sub-001", "sub-002", "qc"):
        (own_study.out / f"{page}.html").unlink()
    assert_ended_and_finished(own_study, full, PARTICIPANT, OF_PARTICIPANT.values())


def test_a_full_disk_ends_the_group_level_and_the_next_run_goes_on(own_study, full):
    shutil.rmtree(own_study.out / "group")
    assert_ended_and_finished(own_study, full, ("group",), OF_GROUP.values())


def assert_ended_and_finished(study, full, args, names):
    """Run where each of the files finds no room in turn, and then once with room for all."""
    out = study.out
    command = [str(study.bids), str(out), *args]
    for name in names:
        with full(name), pytest.raises(NoRoomError) as caught:
            run_inside(command)
        assert re.search(name, str(caught.value))
        assert str(caught.value).endswith("No space left on device; make room there, then start the same command again")
        record = last_record(out)
        assert record["ExitCode"] == NoRoomError.exit_code == 74
        assert str(caught.value) in record["Notes"][-1]
        assert not [event for event in record["Events"] if event["status"] == "failed"]
        assert leavings(out) == []
    run_inside(command)
    assert results(out) == results(study.whole)


def test_a_record_that_finds_no_room_does_not_hide_the_first_error(own_study, full):
    predict_again(own_study.out)
    with full(r"_pred\.tsv|run\.json"), pytest.raises(NoRoomError, match=r"_pred\.tsv cannot be written"):
        run_inside([str(own_study.bids), str(own_study.out), *PARTICIPANT])


def test_a_folder_that_may_not_be_written_is_73(own_study, full):
    predict_again(own_study.out)
    refused = r"cannot create .*_pred\.tsv: Permission denied; check the permissions"
    with full(r"_pred\.tsv", errno.EACCES), pytest.raises(CannotCreateError, match=refused):
        run_inside([str(own_study.bids), str(own_study.out), *PARTICIPANT])


@pytest.mark.slow
def test_a_disk_that_is_really_full(study, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        filler = disk / "filler"
        filler.write_bytes(b"0" * (32 * 2**20 - 300_000))  # a volume of 1 mm takes more
        command = (study.bids, disk / "out", "participant", "--preprocess-only", "--participant-label", "001")
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
