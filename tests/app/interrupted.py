"""What the tests of ended runs share: a run that is sent a signal at some moment, what it left, and its results."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.app.workplace import MARKER
from brainage_bids.bids.files import read_json

BEGUN = []
PROMISED_S, SLACK_S = 10.0, 30.0  # a loaded machine may take longer to end a process


@dataclass
class Begun:
    """A command line at work, in a session of its own."""

    process: subprocess.Popen
    said: Path

    @property
    def text(self):
        return self.said.read_text(encoding="utf-8")

    def wait_for(self, ready, limit=300):
        """Wait until ``ready()``, or until the run has ended by itself."""
        deadline = time.time() + limit
        while self.process.poll() is None and not ready():
            assert time.time() < deadline, self.text
            time.sleep(0.02)

    def send(self, number):
        """Send a signal and wait for the end; return how long it took (s)."""
        begin = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=120)
        return time.monotonic() - begin

    def left(self):
        """Return what still runs of the session some seconds later."""
        deadline = time.time() + PROMISED_S
        while (found := session(self.process.pid)) and time.time() < deadline:
            time.sleep(0.1)
        return found


def begin(folder, *args, program=("-m", "brainage_bids")):
    said = Path(folder) / f"said-{time.monotonic_ns()}.txt"
    with said.open("w") as file:
        command = [sys.executable, *program, *map(str, args)]
        begun = Begun(subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True), said)
    BEGUN.append(begun.process)
    return begun


def end_all():
    """Kill what the runs of a test that failed have left at work."""
    while BEGUN:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(BEGUN.pop().pid, signal.SIGKILL)


def session(number):
    """Return the commands of the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == number and fields[0] != "Z":
                found.append((path.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def results(out):
    """Return a hash of every volume, map, table and weights file; not of pages and records, which tell the time."""
    names = ("sub-*/**/*.nii.gz", "sub-*/**/*.tsv", "models/*/weights.safetensors", "group/**/*.tsv", "qc.tsv")
    paths = [path for name in names for path in Path(out).glob(name) if not path.name.startswith(".")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def last_record(out):
    """Return the record of the run that ended last; runs of one second have no order by name."""
    return read_json(max(Path(out).glob("logs/*/run.json"), key=lambda path: path.stat().st_mtime_ns))


def leavings(out):
    """Return what only a run at work may have in OUTPUT_DIR."""
    found = [path for name in (".tmp-*", ".runs", ".lock*") for path in Path(out).rglob(name)]
    work = [path for path in Path(out).glob("work/**/*") if path.is_file() and "crash" not in path.parts]
    found += [path for path in work if path.name != MARKER]  # it stays beside the crash files of sub-003
    return sorted(str(path.relative_to(out)) for path in found)
