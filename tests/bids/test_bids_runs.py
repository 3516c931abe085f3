"""Runs that share a folder see each other, hold each other off, and forget those that were killed."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from brainage_bids.bids import runs
from brainage_bids.bids.runs import Run, claimed, locked, running, sweep
from brainage_bids.errors import TryAgainError

CHILD = """
import sys, time
from pathlib import Path
from brainage_bids.bids.runs import running
with running() as run:
    assert run.take(Path(sys.argv[1]), "scan-sub-01") is None
    print(run.id, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds scan-sub-01."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE, text=True)
    process.run = process.stdout.readline().strip()
    yield process
    process.kill()
    process.wait()


def elsewhere(run, folder):
    """Make a run one of another machine."""
    path = folder / runs.FOLDER / f"{run.id}.json"
    path.write_text(json.dumps({**dataclasses.asdict(run.who), "machine": "node7/other"}))
    return path.with_suffix(".beat")


def test_what_one_run_holds_another_cannot_take(tmp_path, other):
    with running() as run:
        holder = run.take(tmp_path, "scan-sub-01")
        assert holder.pid == other.pid
        assert f"process {other.pid}, started 2" in str(holder)
        assert run.take(tmp_path, "scan-sub-02") is None
        assert run.take(tmp_path, "scan-sub-02") is None  # ours already
        assert {thing: who.pid for thing, who in claimed(tmp_path).items()} == {
            "scan-sub-01": other.pid,
            "scan-sub-02": os.getpid(),
        }
    assert set(claimed(tmp_path)) == {"scan-sub-01"}


def test_what_a_killed_run_held_is_free_at_once_and_its_files_are_swept(tmp_path, other):
    (tmp_path / ".tmp-abc-sub-01.tsv").write_text("half")
    other.kill()  # not waited for: it is a zombie, and dead all the same
    time.sleep(0.2)
    with running() as run:
        assert run.take(tmp_path, "scan-sub-01") is None
        time.sleep(0.05)
        sweep(tmp_path, [tmp_path])
        assert sorted(path.suffix for path in (tmp_path / runs.FOLDER).iterdir()) == [".beat", ".claim", ".json"]
        assert not list(tmp_path.glob(".tmp-*"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_takes_with_it_what_a_run_killed_meanwhile_has_left(tmp_path, other):
    with running() as run:
        sweep(tmp_path, [tmp_path])
        assert run.take(tmp_path, "scan-sub-01").pid == other.pid
        other.kill()
        other.wait()
        assert run.take(tmp_path, "scan-sub-01") is None
    assert list(tmp_path.iterdir()) == []


def test_half_written_files_of_living_runs_stay(tmp_path, other):
    (tmp_path / ".tmp-abc-sub-01.tsv").write_text("being written")
    with running() as run:
        run.enter(tmp_path)
        sweep(tmp_path, [tmp_path, tmp_path / "not there"])
    assert (tmp_path / ".tmp-abc-sub-01.tsv").exists()


def test_a_run_of_another_machine_holds_as_long_as_it_gives_signs_of_life(tmp_path):
    run, far = Run(), Run()
    assert far.take(tmp_path, "pages") is None
    beat = elsewhere(far, tmp_path)
    assert run.take(tmp_path, "pages").machine == "node7/other"
    os.utime(beat, (time.time() - 2 * runs.SILENT_S,) * 2)
    assert run.take(tmp_path, "pages") is None


def test_a_run_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "BEAT_S", 0.01)
    with running() as run:
        beat = run.enter(tmp_path) / f"{run.id}.beat"
        os.utime(beat, (0, 0))
        deadline = time.time() + 10
        while beat.stat().st_mtime < 1 and time.time() < deadline:
            time.sleep(0.01)
        assert beat.stat().st_mtime > 1


def test_the_number_of_a_dead_process_given_to_another_does_not_hold(tmp_path):
    dead, run = Run(), Run()
    dead.who = dataclasses.replace(dead.who, born="1")  # this very number, but another process
    assert dead.take(tmp_path, "group") is None
    assert run.take(tmp_path, "group") is None


def test_a_claim_without_a_name_holds_for_a_moment(tmp_path):
    run = Run()
    claim = run.enter(tmp_path) / "group.claim"
    claim.touch()
    assert run.take(tmp_path, "group") is not None
    os.utime(claim, (0, 0))
    assert run.take(tmp_path, "group") is None


def test_a_run_waits_and_says_for_whom(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(runs, "LOOK_S", 0.02)
    first, second, order = Run(), Run(), []
    assert first.take(tmp_path, "pages") is None

    def wait():
        with second.having(tmp_path, "pages", "the pages") as waited:
            order.append(("second", waited))

    thread = threading.Thread(target=wait)
    with caplog.at_level("INFO", "brainage_bids"):
        thread.start()
        time.sleep(0.2)
        order.append("first")
        first.free(tmp_path, "pages")
        thread.join()
    assert order == ["first", ("second", True)]
    assert caplog.text.count("works on the pages; waiting for it") == 1
    with first.having(tmp_path, "pages", "the pages") as waited:
        assert not waited


def test_many_runs_at_once_never_hold_the_same_thing(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LOOK_S", 0.001)
    inside, most = [], []

    def work():
        run = Run()
        for _ in range(10):
            with run.having(tmp_path, "thing", "it"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
            run.leave(tmp_path)  # removes the folder under the feet of the others

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 60
    assert set(most) == {1}


def test_the_lock_of_a_killed_process_is_void_at_once(tmp_path):
    who = dataclasses.replace(runs.Who.me(), born="1")
    (tmp_path / ".lock").write_text(json.dumps(dataclasses.asdict(who)))
    begin = time.monotonic()
    with locked(tmp_path):
        assert runs.Who.read(tmp_path / ".lock").pid == os.getpid()
    assert time.monotonic() - begin < 5
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_living_process_holds(tmp_path):
    with locked(tmp_path), pytest.raises(TryAgainError, match="held by another run"), locked(tmp_path, 0.05):
        pass


def test_a_lock_of_another_machine_is_void_when_it_is_old(tmp_path):
    who = dataclasses.replace(runs.Who.me(), machine="node7")
    (tmp_path / ".lock").write_text(json.dumps(dataclasses.asdict(who)))
    os.utime(tmp_path / ".lock", (0, 0))
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
