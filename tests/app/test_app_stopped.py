"""A signal ends every stage within seconds, with an honest record and no process left; the next run finishes."""

import shutil
import signal
from pathlib import Path

import pytest
from commandline import run_here
from interrupted import PROMISED_S, SLACK_S, begin, last_record, leavings, results
from studyruns import TRAIN

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
LONG = [word if word != "2" or TRAIN[at - 1] != "--epochs" else "5000" for at, word in enumerate(TRAIN)]


def in_work(out):
    """Return the scans that a preprocessing worker has begun."""
    return list(out.glob("work/preprocess/*/*/status.json"))


def assert_stopped(begun, out, number, level="participant", failed=frozenset()):
    took = begun.send(number)
    assert begun.process.returncode == 128 + number, begun.text
    assert took < PROMISED_S + SLACK_S
    assert begun.left() == []
    assert begun.text.count("stopped by a signal") == 1
    assert f"({number.name}); the same command goes on where it was" in begun.text
    record = last_record(out)
    assert (record["Level"], record["ExitCode"]) == (level, 128 + number)
    assert f"({number.name})" in record["Notes"][-1]
    assert {event["prefix"] for event in record["Events"] if event["status"] == "failed"} == failed
    assert not [name for name in leavings(out) if ".runs" in name or ".lock" in name]
    return record


@pytest.mark.parametrize(
    ("nprocs", "number"), [("1", signal.SIGTERM), pytest.param("2", signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_preprocessing_that_is_stopped_blames_no_scan_and_is_finished_by_the_next_run(
    own_study, tmp_path, nprocs, number
):
    bids, out = own_study.bids, own_study.out
    people = ["001", "002"]
    for label in people:
        shutil.rmtree(out / f"sub-{label}")
    command = (bids, out, "participant", "--nprocs", nprocs, "--participant-label", *people)
    begun = begin(tmp_path, *command)
    begun.wait_for(lambda: in_work(out))
    record = assert_stopped(begun, out, number)
    stopped = [event for event in record["Events"] if event["status"] == "stopped"]
    assert {event["prefix"] for event in stopped} <= {"sub-001", "sub-002"}
    assert stopped
    assert all("stopped by a signal" in event["reason"] for event in stopped)
    if number is signal.SIGTERM:
        again = run_here(*command)
        assert again.returncode == 0, again.stderr
        assert results(out) == results(own_study.whole)
        assert leavings(out) == []


@pytest.mark.parametrize(
    ("nprocs", "number"), [pytest.param("1", signal.SIGINT, marks=pytest.mark.slow), ("2", signal.SIGTERM)]
)
def test_a_training_is_stopped(own_study, tmp_path, nprocs, number):
    bids, out = own_study.bids, own_study.out
    shutil.rmtree(out / "models")
    begun = begin(tmp_path, bids, out, "participant", *LONG[:-1], nprocs)
    begun.wait_for(lambda: list(out.glob("work/train/rnc-demo/volumes-*.npy")))
    record = assert_stopped(begun, out, number, failed={"sub-003"})
    assert "training rnc-demo on" in " ".join(record["Notes"])


def test_a_prediction_is_stopped_and_none_is_lost(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    for path in out.glob("sub-*/anat/*_pred.*"):
        path.unlink()
    command = (bids, out, "participant", "--nprocs", "1", "--exclude-participant-label", "003")
    begun = begin(tmp_path, *command)
    begun.wait_for(lambda: "on cpu, float32" in begun.text)
    record = assert_stopped(begun, out, signal.SIGTERM)
    done = {event["prefix"] for event in record["Events"] if event["step"] == "predict:rnc-demo"}
    assert done <= {path.parent.parent.name for path in out.glob("sub-*/anat/*_pred.tsv")}
    assert run_here(*command).returncode == 0
    assert results(out) == results(own_study.whole)


def test_the_group_level_is_stopped(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    shutil.rmtree(out / "group")
    begun = begin(tmp_path, bids, out, "group")
    begun.wait_for(lambda: (out / "group" / "brainage.tsv").exists())
    assert_stopped(begun, out, signal.SIGINT, level="group")
    assert leavings(out) == []
    tables = {name: value for name, value in results(out).items() if name.startswith("group")}
    assert tables.items() <= results(own_study.whole).items()  # each of them whole
    assert run_here(bids, out, "group").returncode == 0
    assert results(out) == results(own_study.whole)


def test_the_pages_are_stopped(own_study, tmp_path):
    bids, out = own_study.bids, own_study.out
    for page in out.glob("sub-*.html"):
        page.unlink()
    command = (bids, out, "participant", "--nprocs", "2", "--exclude-participant-label", "003")
    begun = begin(tmp_path, *command)
    begun.wait_for(lambda: list(out.glob("sub-*.html")))
    assert_stopped(begun, out, signal.SIGTERM)


@pytest.mark.slow
def test_a_phantom_cohort_and_the_demo_are_stopped(tmp_path):
    for args, ready in (
        (("phantom", tmp_path / "bids", "--n", "60"), tmp_path / "bids" / "sub-001"),
        (("demo", tmp_path / "demo", "--n", "24"), tmp_path / "demo" / "bids" / "sub-002"),
    ):
        begun = begin(tmp_path, *args, program=("-c", "from brainage_bids.tools import main; main()"))
        begun.wait_for(ready.exists)
        took = begun.send(signal.SIGINT)
        assert begun.process.returncode == 130, begun.text
        assert took < PROMISED_S + SLACK_S
        assert begun.left() == []


@pytest.mark.slow
def test_torchrun_is_stopped_with_all_its_processes(own_study, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = own_study.out
    args = (own_study.bids, out, "participant", "--train", "rnc-demo", "--epochs", "5000", "--batch-size", "2",
            "--device", "cpu", "--set", "name=together", "--train-on", "age > 0")  # fmt: skip
    program = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "brainage_bids")
    begun = begin(tmp_path, *args, program=program)
    begun.wait_for(lambda: list(out.glob("work/train/together/volumes-*.npy")))
    took = begun.send(signal.SIGTERM)
    assert begun.process.returncode != 0
    assert took < PROMISED_S + SLACK_S
    assert begun.left() == []
    record = last_record(out)
    assert record["ExitCode"] == 143, record["Notes"]
