"""What the tests of the two levels share: the command line, in its own process or in this one; a finished study."""

import contextlib
import io
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from brainage_bids import cli

TRAIN = ("--train", "rnc-demo", "--folds", "2", "--epochs", "2", "--batch-size", "2", "--nprocs", "2")


def run(*args):
    command = [sys.executable, "-m", "brainage_bids", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=2000)


def run_here(*args):
    """The same in this process, without the seconds in which a new one imports everything."""
    log = logging.getLogger("brainage_bids")
    typed, before = sys.argv, (log.handlers[:], log.level, log.propagate)
    sys.argv = ["brainage-bids", *map(str, args)]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.redirect_stderr(io.StringIO()) as told:
        try:
            cli.main()
        except SystemExit as end:
            return subprocess.CompletedProcess(sys.argv, end.code, shown.getvalue(), told.getvalue())
        finally:
            sys.argv = typed
            log.handlers[:], log.level, log.propagate = before
    raise AssertionError("the command line did not end")


@dataclass(frozen=True)
class Study:
    bids: Path
    out: Path
    participant: subprocess.CompletedProcess
    group: subprocess.CompletedProcess
    whole: Path | None = None  # of a copy that is written into: the OUTPUT_DIR it was copied from
