"""The command lines as a user types them: in a process of their own, or in this one, which saves the imports."""

import contextlib
import io
import logging
import os
import subprocess
import sys

from brainage_bids import cli, tools


def run(*args):
    """Run ``brainage-bids`` in a process of its own."""
    command = [sys.executable, "-m", "brainage_bids", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=2000)


def run_here(*args, program="brainage-bids"):
    """The same in this process; also ``brainage-tools``."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.redirect_stderr(io.StringIO()) as told:
        code = exit_code(program, *args)
    return subprocess.CompletedProcess(args, code, shown.getvalue(), told.getvalue())


def exit_code(program, *args):
    """Call a program in this process, leave the process as it was, and return the exit code."""
    log = logging.getLogger("brainage_bids")
    before = sys.argv, log.handlers[:], log.level, log.propagate, dict(os.environ)
    sys.argv = [program, *map(str, args)]
    try:
        (tools if program == "brainage-tools" else cli).main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        sys.argv, log.handlers[:], log.level, log.propagate, environment = before
        os.environ.clear()
        os.environ.update(environment)
    return 0
