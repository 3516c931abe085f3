"""What the tests of the two levels share: the command line in a process of its own, and one finished study."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TRAIN = ("--train", "rnc-demo", "--folds", "2", "--epochs", "2", "--batch-size", "2", "--nprocs", "2")


def run(*args):
    command = [sys.executable, "-m", "brainage_bids", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=2000)


@dataclass(frozen=True)
class Study:
    bids: Path
    out: Path
    participant: subprocess.CompletedProcess
    group: subprocess.CompletedProcess
    whole: Path | None = None  # of a copy that is written into: the OUTPUT_DIR it was copied from
