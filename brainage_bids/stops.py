"""Stop a run cleanly when a signal asks for it: within seconds, with a message, whatever it is doing.

The first SIGTERM, SIGINT (Ctrl-C) or SIGHUP raises `Stopped` in the main thread. A long call of a library may delay or
swallow that exception. Then a thread runs the final actions (`last_words`) and ends the process `GRACE_S` later. A
second Ctrl-C does this at once.

Signals belong to the whole process, so this module keeps state. It is the only one that does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

GRACE_S = 5.0
LAST_S = 2.0  # time limit of the final actions of a forced end: a disk that hangs must not delay it
IMPATIENT_S = 0.5  # a second Ctrl-C within this time is the same one, delivered twice (terminal and container)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Action = Callable[["Stopped"], None]
_signal: list[int] = []  # the signal that asked the run to stop; empty before
_actions: list[Action] = []  # still to be run before the process ends, the newest last


class Stopped(BaseException):
    """A signal asked the run to stop. As with KeyboardInterrupt, only the top level of the program catches it."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
        self.exit_code = 128 + number

    def __str__(self) -> str:
        how = {signal.SIGINT: "from the keyboard (SIGINT)", signal.SIGHUP: "of a lost terminal (SIGHUP)"}
        name = how.get(self.number) or f"({signal.Signals(self.number).name})"
        return f"stopped by a signal {name}; the same command goes on where it was"


def check() -> None:
    """Raise `Stopped` if a signal came, in case a library swallowed the first one."""
    if _signal:
        raise Stopped(_signal[0])


def asked() -> Stopped | None:
    """Return the stop that a signal asked for, if any."""
    return Stopped(_signal[0]) if _signal else None


@contextlib.contextmanager
def last_words(say: Action) -> Iterator[None]:
    """Call ``say`` once if a signal ends the block, even if the exception never reaches the block.

    In that case it runs in another thread. It should take milliseconds.
    """
    _actions.append(say)
    try:
        yield
    except Stopped as stop:
        _act(say, stop)
        raise
    finally:
        with contextlib.suppress(ValueError):
            _actions.remove(say)


def _act(action: Action, stop: Stopped) -> None:
    with contextlib.suppress(ValueError):  # it ran already
        _actions.remove(action)  # only the thread that removes it runs it
        with contextlib.suppress(Exception):
            action(stop)


@contextlib.contextmanager
def heeded(say: Action) -> Iterator[None]:
    """Turn signals into `Stopped` while the block runs; ``say`` is the last action of all. Only for the main thread.

    A signal that is ignored (``nohup``) stays ignored. After a stop the former signal handlers are not restored.
    """
    reading_end, writing_end = os.pipe()
    os.set_blocking(writing_end, False)
    former = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _raise)
    wakeup = signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading_end,), daemon=True).start()
    try:
        with last_words(say):
            try:
                yield
            finally:
                check()
    finally:
        if not _signal:
            for number, handler in former.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(writing_end)


def _raise(number: int, frame: object) -> None:
    if not _signal:
        _signal.append(number)
        raise Stopped(number)


def _watch(reading_end: int) -> None:
    """Wait for signals and end the process when it does not end by itself.

    The C code of Python writes each signal into the pipe, even while the main thread is busy.
    """
    stop, begun = None, 0.0
    while True:
        patience = None if stop is None else max(0.0, begun + GRACE_S - time.monotonic())
        if not select.select([reading_end], [], [], patience)[0]:
            break
        numbers = os.read(reading_end, 64)
        if not numbers:  # the run is over
            os.close(reading_end)
            return
        for number in filter(SIGNALS.__contains__, numbers):
            if stop is None:
                stop, begun = Stopped(number), time.monotonic()
            elif number == signal.SIGINT and time.monotonic() > begun + IMPATIENT_S:
                _end(stop)
    _end(stop)


def _end(stop: Stopped) -> None:
    """Run the final actions and end the process without waiting for anything else."""
    late = threading.Timer(LAST_S, os._exit, [stop.exit_code])
    late.daemon = True
    late.start()
    while _actions:
        _act(_actions[-1], stop)
    os._exit(stop.exit_code)
