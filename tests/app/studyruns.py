"""What the tests of the two levels share: the options of a training, and a finished study."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

TRAIN = ("--train", "rnc-demo", "--folds", "2", "--epochs", "2", "--batch-size", "2", "--nprocs", "2")


@dataclass(frozen=True)
class Study:
    bids: Path
    out: Path
    participant: subprocess.CompletedProcess
    group: subprocess.CompletedProcess
    whole: Path | None = None  # of a copy that is written into: the OUTPUT_DIR it was copied from
