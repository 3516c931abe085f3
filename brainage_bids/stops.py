"""A run that a signal tells to end does so within seconds and says why, whatever it is doing.

The first SIGTERM, SIGINT (Ctrl-C) or SIGHUP raises `Stopped` in the main thread. Where Python cannot get through,
because a long call of a library does not return or swallows it, a thread says the last words and ends the process
`GRACE_S` later. A second Ctrl-C does so at once.

Signals belong to the process, so what is kept here does too: the only such state in the program.
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
LAST_S = 2.0  # for the last words of a hard end: a disk that hangs must not hold it up
IMPATIENT_S = 0.5  # a second Ctrl-C sooner is the same one, delivered twice (terminal and container)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Word = Callable[["Stopped"], None]
_asked: list[int] = []  # the signal that told the run to end
_words: list[Word] = []  # what is still to be said or done before it ends, the newest last


class Stopped(BaseException):
    """A signal told the run to end. Like KeyboardInterrupt, nothing but the very top of the program catches it."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
        self.exit_code = 128 + number

    def __str__(self) -> str:
        how = {signal.SIGINT: "from the keyboard (SIGINT)", signal.SIGHUP: "of a lost terminal (SIGHUP)"}
        name = how.get(self.number) or f"({signal.Signals(self.number).name})"
        return f"stopped by a signal {name}; the same command goes on where it was"


def check() -> None:
    """Raise `Stopped` when a signal came that somebody swallowed."""
    if _asked:
        raise Stopped(_asked[0])


def asked() -> Stopped | None:
    """Return the stop that a signal asked for, if any."""
    return Stopped(_asked[0]) if _asked else None


@contextlib.contextmanager
def last_words(say: Word) -> Iterator[None]:
    """Call ``say`` once if a signal ends the block; also where the block itself never hears of it.

    It may then run in another thread, and should take milliseconds.
    """
    _words.append(say)
    try:
        yield
    except Stopped as stop:
        _say(say, stop)
        raise
    finally:
        with contextlib.suppress(ValueError):
            _words.remove(say)


def _say(word: Word, stop: Stopped) -> None:
    with contextlib.suppress(ValueError):  # said already
        _words.remove(word)  # whoever removes it says it
        with contextlib.suppress(Exception):
            word(stop)


@contextlib.contextmanager
def heeded(say: Word) -> Iterator[None]:
    """Turn signals into `Stopped` while the block runs; ``say`` is the very last word. Only for the main thread.

    A signal that is ignored (``nohup``) stays so. Once a run was told to end, the signals stay in these hands.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    former = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _raise)
    wakeup = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(told,), daemon=True).start()
    try:
        with last_words(say):
            try:
                yield
            finally:
                check()
    finally:
        if not _asked:
            for number, handler in former.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(tell)


def _raise(number: int, frame: object) -> None:
    if not _asked:
        _asked.append(number)
        raise Stopped(number)


def _watch(told: int) -> None:
    """Wait for signals, told by C code whatever Python does, and end the process when it does not end by itself."""
    stop, begun = None, 0.0
    while True:
        patience = None if stop is None else max(0.0, begun + GRACE_S - time.monotonic())
        if not select.select([told], [], [], patience)[0]:
            break
        numbers = os.read(told, 64)
        if not numbers:  # the run is over
            os.close(told)
            return
        for number in filter(SIGNALS.__contains__, numbers):
            if stop is None:
                stop, begun = Stopped(number), time.monotonic()
            elif number == signal.SIGINT and time.monotonic() > begun + IMPATIENT_S:
                _end(stop)
    _end(stop)


def _end(stop: Stopped) -> None:
    """Say the last words and end the process; nothing is waited for."""
    late = threading.Timer(LAST_S, os._exit, [stop.exit_code])
    late.daemon = True
    late.start()
    while _words:
        _say(_words[-1], stop)
    os._exit(stop.exit_code)
