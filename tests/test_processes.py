"""Workers end with the run that started them, and keep their heap."""

import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from brainage_bids import processes

RUN = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from brainage_bids.processes import begin_worker

def print_and_stay(name):
    print(name, os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    context = get_context("forkserver")
    free, bound = (ProcessPoolExecutor(1, mp_context=context, initializer=begin) for begin in (None, begin_worker))
    free.submit(print_and_stay, "free")
    bound.submit(print_and_stay, "bound").result()
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


def test_a_worker_ends_with_a_killed_run_and_without_it_would_stay(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    run = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    workers = {name: int(pid) for name, pid in (run.stdout.readline().split() for _ in range(2))}
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    try:
        begin = time.monotonic()
        while alive(workers["bound"]) and time.monotonic() < begin + 10:
            time.sleep(0.1)
        assert not alive(workers["bound"])
        time.sleep(time.monotonic() - begin + 0.5)  # as long again
        assert alive(workers["free"])
    finally:
        for pid in filter(alive, workers.values()):
            os.kill(pid, signal.SIGKILL)


HEAP = """
import sys
import numpy as np
from brainage_bids.processes import keep_heap, release_heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

if sys.argv[1] == "keep":
    keep_heap()
before = resident()
array = np.ones(25_000_000)  # 200 MB
del array
print(resident() - before)
release_heap()
print(resident() - before)
"""


def heap(tmp_path, how):
    """Return the MB that a process holds after it freed 200 MB, and after `release_heap`."""
    script = tmp_path / "heap.py"
    script.write_text(HEAP)
    said = subprocess.run([sys.executable, script, how], capture_output=True, text=True, check=True).stdout
    return [float(line) for line in said.split()]


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_freed_memory_stays_until_the_heap_is_released(tmp_path):
    kept, released = heap(tmp_path, "keep")
    assert kept > 150
    assert released < 50


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_by_default_freed_memory_goes_back(tmp_path):
    assert max(heap(tmp_path, "leave")) < 50


def test_without_glibc_nothing_happens(monkeypatch):
    class NoMallopt:
        def __init__(self, name):
            pass

    monkeypatch.setattr(processes.ctypes, "CDLL", NoMallopt)
    processes.keep_heap()
    processes.release_heap()
