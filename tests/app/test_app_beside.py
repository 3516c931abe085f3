"""Two runs on one OUTPUT_DIR at once: each ends well, and the results are those of one run alone."""

import shutil
import signal
import time

import pytest
from commandline import run, run_here
from interrupted import begin, leavings, results
from studyruns import TRAIN

from brainage_bids.bids.files import read_json, read_tsv


def end(*runs):
    for one in runs:
        one.process.wait(timeout=500)
    return [one.process.returncode for one in runs]


def without(out, *people):
    for label in people:
        shutil.rmtree(out / f"sub-{label}")


def test_two_runs_over_the_same_participants(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    without(out, "001", "002")
    command = (bids, out, "participant", "--nprocs", "1", "--participant-label", "001", "002")
    first, second = begin(tmp_path, *command), begin(tmp_path, *command)
    assert end(first, second) == [0, 0], first.text + second.text
    assert results(out) == results(own_study.whole)
    assert leavings(out) == []
    said = first.text + second.text
    assert said.count("works on") >= 1  # one waited for the other
    records = [read_json(path) for path in sorted(out.glob("logs/*/run.json"))[-2:]]
    made = [event for record in records for event in record["Events"] if event["step"] == "preprocess"]
    assert sorted(event["status"] for event in made) == ["done", "done", "skipped", "skipped"]


@pytest.mark.slow
def test_two_runs_over_other_participants_and_one_of_both(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    without(out, "001", "002", "004")
    ask = (bids, out, "participant", "--nprocs", "1", "--participant-label")
    first, second = begin(tmp_path, *ask, "001", "002"), begin(tmp_path, *ask, "002", "004")
    assert end(first, second) == [0, 0], first.text + second.text
    assert results(out) == results(own_study.whole)
    assert leavings(out) == []


def test_a_run_takes_over_what_a_killed_one_held(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    without(out, "001")
    command = (bids, out, "participant", "--nprocs", "1", "--participant-label", "001")
    first = begin(tmp_path, *command)
    first.wait_for(lambda: list(out.glob("work/preprocess/*/*/status.json")))
    first.process.send_signal(signal.SIGSTOP)  # it holds the scan, however long the second takes to come
    second = begin(tmp_path, *command)
    second.wait_for(lambda: "waiting for it" in second.text)
    first.send(signal.SIGKILL)
    assert end(second) == [0], second.text
    assert results(out) == results(own_study.whole)
    assert leavings(out) == []


@pytest.mark.slow
def test_the_group_level_beside_a_participant_run(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    without(out, "001", "002")
    ask = (bids, out, "participant", "--nprocs", "1", "--participant-label", "001", "002", "--rerun")
    participant = begin(tmp_path, *ask)
    participant.wait_for(lambda: list(out.glob("work/preprocess/*/*/status.json")))
    group = begin(tmp_path, bids, out, "group")
    codes = end(group, participant)
    assert codes[1] == 0, participant.text
    assert codes[0] in (0, 75), group.text  # 75: a file was replaced while it was read
    if codes[0] == 0:
        reasons = dict(
            zip(*(read_tsv(out / "group" / "failed.tsv")[c] for c in ("participant_id", "reason")), strict=True)
        )
        assert {"sub-001", "sub-002", "sub-003"} <= {*reasons, *read_tsv(out / "group" / "brainage.tsv").participant_id}
        assert not [reason for reason in reasons.values() if "killed" in reason]
    assert run(bids, out, "group").returncode == 0
    assert results(out) == results(own_study.whole)
    assert leavings(out) == []


@pytest.mark.slow
def test_two_trainings_of_one_recipe(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    shutil.rmtree(out / "models")
    command = (bids, out, "participant", *TRAIN, "--train-only")
    first = begin(tmp_path, *command)
    first.wait_for(lambda: "training rnc-demo on" in first.text)
    time.sleep(0.5)
    second = begin(tmp_path, *command)
    assert end(first, second) == [1, 1], first.text + second.text  # one phantom cannot be read
    assert results(out) == results(own_study.whole)
    assert "works on the training rnc-demo; waiting" in second.text or "already trained" in second.text
    assert leavings(out) == []


def test_what_a_killed_run_left_is_swept_by_the_next(own_study):
    bids, out = own_study.bids, own_study.out
    work = out / "work" / "preprocess" / "20260101T120000-4194304-abcdef"
    work.mkdir(parents=True)
    half = [folder / ".tmp-abc-sub-001_desc-brainage_pred.tsv" for folder in (work, out / "sub-001" / "anat")]
    half += [out / name / ".tmp-x" for name in ("group", "logs", "", "models/rnc-demo")]
    for path in half:
        path.write_text("half")
    time.sleep(0.05)
    without(out, "002")  # something is to do
    run_here(bids, out, "participant", "--nprocs", "1", "--participant-label", "001", "002")
    assert leavings(out) == []
