"""Workers end with the run that started them."""

import os
import signal
import subprocess
import sys
import time

RUN = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from brainage_bids.processes import end_with_parent

def work():
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    initializer = end_with_parent if sys.argv[1] == "bound" else None
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver"), initializer=initializer) as pool:
        pool.submit(work).result()
"""


def killed_run(tmp_path, how):
    """Start a run with one worker, kill the run, and say whether the worker is gone 10 seconds later."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    run = subprocess.Popen([sys.executable, script, how], stdout=subprocess.PIPE, text=True)
    worker = int(run.stdout.readline())
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    for _ in range(100):
        if not alive(worker):
            return True
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    return False


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_ends_with_a_killed_run(tmp_path):
    assert killed_run(tmp_path, "bound")


def test_without_it_the_worker_would_stay(tmp_path):
    assert not killed_run(tmp_path, "free")
