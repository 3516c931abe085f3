"""Signals 9, 15 and 2 at drawn moments of every stage: the same command run again gives the results of a calm run.

About a quarter of an hour: ``make test-slow``. ``BRAINAGE_KILLS=6`` draws fewer moments.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from commandline import run
from interrupted import PROMISED_S, SLACK_S, begin, last_record, leavings, results
from studyruns import TRAIN

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")]

SEED, KILLS = 20, int(os.environ.get("BRAINAGE_KILLS", "30"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ALL_BUT_THE_BROKEN_ONE = ("--exclude-participant-label", "003")


def lose_volumes(out):
    for label in ("001", "002"):
        shutil.rmtree(out / f"sub-{label}")


def lose_models(out):
    shutil.rmtree(out / "models")


def lose_predictions(out):
    for path in out.glob("sub-*/anat/*_pred.*"):
        path.unlink()


def lose_pages(out):
    for path in out.glob("sub-*.html"):
        path.unlink()


def lose_group(out):
    shutil.rmtree(out / "group")


def records(out):
    return len(list(out.glob("logs/*/run.json")))


def closed(out, before):
    """Say whether a run after those ``before`` has ended by itself."""
    return records(out) > before and last_record(out).get("ExitCode") in (0, 1)


# what a stage has to do again; its command; words on the terminal that say that it begins; how long it lasts (s)
STAGES = {
    "reading": (lose_volumes, ("participant", *ALL_BUT_THE_BROKEN_ONE), "", 2.0),
    "preprocess": (lose_volumes, ("participant", *ALL_BUT_THE_BROKEN_ONE), "preprocessing 2 scans", 6.0),
    "train": (lose_models, ("participant", *TRAIN[:-2]), "training rnc-demo on", 5.0),
    "predict": (lose_predictions, ("participant", *ALL_BUT_THE_BROKEN_ONE), "on cpu, float32", 1.5),
    "pages": (lose_pages, ("participant", *ALL_BUT_THE_BROKEN_ONE), "already there, 0 failed", 3.0),
    "group": (lose_group, ("group",), "quality:", 8.0),
}


def moments():
    """Draw stage, signal, cores and delay of every kill; every stage meets every signal."""
    rng = random.Random(SEED)
    pairs = [(stage, number) for number in SIGNALS for stage in STAGES]
    rng.shuffle(pairs)
    for at in range(KILLS):
        stage, number = pairs[at % len(pairs)]
        yield stage, number, rng.choice(["1", "2"]), rng.uniform(0, STAGES[stage][3])


@pytest.mark.parametrize(
    ("stage", "number", "nprocs", "delay"), list(moments()), ids=lambda value: getattr(value, "name", str(value)[:5])
)
def test_killed_at_a_drawn_moment_and_run_again(own_study, tmp_path, record_property, stage, number, nprocs, delay):
    lose, args, words, _ = STAGES[stage]
    bids, out = own_study.bids, own_study.out
    lose(out)
    command = (bids, out, *args, *(() if stage == "group" else ("--nprocs", nprocs)))
    before = records(out)
    begun = begin(tmp_path, *command)
    begun.wait_for(lambda: words in begun.text and begun.text)
    time.sleep(delay)
    at_work = begun.process.poll() is None
    if at_work:
        took = begun.send(number)
        record_property("seconds to the end", round(took, 2))
        assert took < PROMISED_S + SLACK_S
    if not at_work:
        ended = {0, 1}
    elif number is signal.SIGKILL:
        ended = {-number, 0, 1}
    else:  # a run whose record is closed hears no signal any more: Python ends, and a shell sees the same code
        ended = {128 + number, *({-number} if closed(out, before) else ())}
    assert begun.process.returncode in ended, begun.text
    assert begun.left() == []
    again = run(*command)
    assert again.returncode == (1 if stage == "train" else 0), again.stderr  # one phantom cannot be read
    if stage == "group":
        assert run(bids, out, "group").returncode == 0
    assert results(out) == results(own_study.whole)
    assert leavings(out) == []
    assert "failed at" not in again.stderr.replace("sub-003 failed at brain", "")
