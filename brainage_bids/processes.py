"""What worker processes need: their number, an end with the run that started them, a heap that keeps its pages."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import parent_process


def end_with_parent(end: Callable[[], None] | None = None) -> None:
    """Bind a worker process to the run that started it, also when the run is killed by signal 9; an initializer.

    An orphan would go on for hours and write beside the run that is started again.

    Parameters
    ----------
    end
        What ends the worker; default: signal 9 to itself.
    """
    parent = parent_process()  # the fork server lives as long as its workers, so it is the run that is watched

    def watch() -> None:
        parent.join()
        (end or _kill_self)()

    threading.Thread(target=watch, daemon=True).start()


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


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
