"""A signal ends a program within seconds, whatever it is doing, with the code of the signal and its last words."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import hashlib, sys, time
from brainage_bids import stops

def loop():
    print("begun", flush=True)
    while True:
        time.sleep(0.01)

def swallow():
    try:
        loop()
    except BaseException:
        while True:
            time.sleep(0.01)

def deaf():  # a call into a library that does not come back for minutes
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def late():
    try:
        loop()
    except stops.Stopped:
        pass
    print("went on", flush=True)

stops.GRACE_S = 0.5
try:
    with stops.heeded(lambda stop: print(f"last: {stop}", flush=True)):
        with stops.last_words(lambda stop: print(f"first: {stop.exit_code}", flush=True)):
            {"loop": loop, "swallow": swallow, "deaf": deaf, "late": late}[sys.argv[1]]()
except stops.Stopped as stop:
    sys.exit(stop.exit_code)
"""


def start(what, **settings):
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, what], stdout=subprocess.PIPE, text=True, **settings)
    assert program.stdout.readline() == "begun\n"
    return program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("what", ["loop", "swallow", "deaf"])
def test_a_signal_ends_the_program_and_every_word_is_said_once(what, number):
    program = start(what)
    program.send_signal(number)
    said, _ = program.communicate(timeout=10)
    assert program.returncode == 128 + number
    lines = said.splitlines()
    assert lines[0] == f"first: {128 + number}"
    assert lines[1].startswith("last: stopped by a signal")
    assert number.name in lines[1]
    assert len(lines) == 2


def test_a_program_that_swallowed_the_signal_and_came_to_its_end_has_the_code_of_the_signal():
    program = start("late")
    program.terminate()
    said, _ = program.communicate(timeout=10)
    assert program.returncode == 143
    assert said.splitlines()[0] == "went on"
    assert "(SIGTERM); the same command goes on where it was" in said


def test_a_second_interrupt_does_not_wait():
    program = start("swallow")
    for _ in range(2):
        program.send_signal(signal.SIGINT)
        time.sleep(0.6)
    assert program.wait(timeout=10) == 130


def test_a_signal_that_was_ignored_stays_so():
    program = start("loop", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    program.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(timeout=1.5)
    program.kill()
