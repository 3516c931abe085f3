"""What worker processes need: their number, an end with the run that started them, a heap that keeps its pages."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path

from brainage_bids.stops import last_words


def begin_worker(folder: str | None = None) -> None:
    """Bind a worker process to the run that started it, also when the run is killed by signal 9; an initializer.

    An orphan would go on for hours and write beside the run that is started again. The worker leads a process group of
    its own: the programs it starts end with it, and Ctrl-C reaches the run alone, which ends its workers.

    Parameters
    ----------
    folder
        Where it works; default: where the fork server does.
    """
    if folder is not None:
        os.chdir(folder)
    os.setpgid(0, 0)
    parent = parent_process()  # the fork server lives as long as its workers, so it is the run that is watched

    def watch() -> None:
        parent.join()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def new_pool(count: int, folder: str | None = None) -> ProcessPoolExecutor:
    """Return a pool of worker processes that end with this run.

    They come from a fork server: a process forked after torch has started threads can hang.
    """
    context = get_context("forkserver")
    return ProcessPoolExecutor(count, mp_context=context, initializer=begin_worker, initargs=(folder,))


@contextlib.contextmanager
def worker_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of worker processes; an error or a signal ends them in the middle of what they do."""
    pool = new_pool(count)
    with last_words(lambda stop: end_descendants()):
        try:
            yield pool
        except BaseException:
            end_workers(pool)
            raise
        pool.shutdown()


def end_workers(pool: ProcessPoolExecutor) -> None:
    """End the workers of a pool and the programs they run, also in the middle of a task."""
    workers = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        try:
            os.killpg(worker.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # too young to lead its group, or gone
            worker.kill()


def end_descendants() -> None:
    """End every process that this one has started, and theirs, at once; for a run that is about to end (Linux)."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found = [os.getpid()]
    for pid in found:
        found += parents.get(pid, [])
    for pid in found[1:]:
        with contextlib.suppress(OSError):
            # multiprocessing's own tracker ends by itself, and has to tidy up before
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def own_cores() -> int:
    """Return the number of cores that this process may use: fewer than the machine has in a job of a cluster."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# glibc's mallopt: https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MMAP_MAX_DEFAULT = 65536
LARGE = 32 * 2**20  # bytes; glibc moves its threshold up to here by itself, until a setting is touched


def keep_heap() -> None:
    """Let this process keep the memory that it frees, for its next large arrays; nothing where there is no glibc.

    By default every array above some megabytes comes fresh from the kernel and goes back at once: the page faults took
    a quarter of the time of a scan. No number changes; the process holds its peak until `release_heap`.
    """
    _mallopt((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1))


def release_heap() -> None:
    """Give the freed memory back to the system, now and from now on."""
    libc = _mallopt((M_MMAP_MAX, MMAP_MAX_DEFAULT), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, 2 * LARGE))
    if libc is not None:
        libc.malloc_trim(0)


def _mallopt(*settings: tuple[int, int]) -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        for name, value in settings:
            libc.mallopt(name, value)
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return None
    return libc
