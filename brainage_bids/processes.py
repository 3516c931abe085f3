"""What every pool of worker processes needs: workers that end with the run that started them."""

from __future__ import annotations

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


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
