"""Worker processes: how many, how they end together with the run that started them, and how they keep their memory."""

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
    """Make a worker process end when the run that started it ends, even if the run is killed (signal 9).

    Otherwise the worker could go on for hours and write beside the run that is started again. The worker leads its own
    process group, so the programs it starts end with it. Ctrl-C reaches only the run, which then ends its workers.

    Parameters
    ----------
    folder
        Working directory of the worker; None: that of the fork server.
    """
    if folder is not None:
        os.chdir(folder)
    os.setpgid(0, 0)
    parent = parent_process()  # the run itself; the fork server would be no use: it lives as long as its workers

    def watch() -> None:
        parent.join()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def new_pool(count: int, folder: str | None = None) -> ProcessPoolExecutor:
    """Return a pool of worker processes that end when this run ends.

    It uses a fork server, because a process that is forked after torch has started threads can hang.
    """
    context = get_context("forkserver")
    return ProcessPoolExecutor(count, mp_context=context, initializer=begin_worker, initargs=(folder,))


@contextlib.contextmanager
def worker_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of worker processes; an error or a signal ends them at once."""
    pool = new_pool(count)
    with last_words(lambda stop: end_descendants()):
        try:
            yield pool
        except BaseException:
            end_workers(pool)
            raise
        pool.shutdown()


def end_workers(pool: ProcessPoolExecutor) -> None:
    """End the workers of a pool, and the programs they run, at once."""
    workers = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        try:
            os.killpg(worker.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it does not lead its group yet, or has ended
            worker.kill()


def end_descendants() -> None:
    """End all child processes of this one, and their children, at once (Linux). For a run that is about to end."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    tree = [os.getpid()]
    for pid in tree:
        tree += parents.get(pid, [])
    for pid in tree[1:]:
        with contextlib.suppress(OSError):
            # the resource tracker of multiprocessing must tidy up first, and then ends by itself
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def own_cores() -> int:
    """Return the number of cores that this process may use; in a cluster job, fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# glibc's mallopt: https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MMAP_MAX_DEFAULT = 65536
LARGE = 32 * 2**20  # bytes; glibc raises its threshold up to this value by itself, unless a setting was changed


def keep_heap() -> None:
    """Let this process keep freed memory for its next large arrays. Without glibc this does nothing.

    By default glibc gets every large array anew from the kernel, and gives it back at once. The page faults took a
    quarter of the time of a scan. Results do not change. The process keeps its peak memory until `release_heap`.
    """
    _mallopt((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1))


def release_heap() -> None:
    """Undo `keep_heap`: give freed memory back to the system, now and later."""
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
