"""One scan to be preprocessed: what a worker needs to know, and the state it leaves behind in ``status.json``.

The state is read by the run that waits, so that a worker killed in the middle of a step shows.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.files import read_json, write_json
from brainage_bids.bids.outputs import Outputs
from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.schema import Scan, VolumeSpec


@dataclass(frozen=True)
class Job:
    """What a node is given: one scan, the grids it is wanted on, and how to work.

    Parameters
    ----------
    scan, specs, outputs
        The scan, its grids, and where the results go.
    folder
        Work folder of this scan.
    engine, threads, device
        As in `PreprocessOptions`; threads of this scan alone.
    """

    scan: Scan
    specs: tuple[VolumeSpec, ...]
    outputs: Outputs
    folder: Path
    engine: str = "builtin"
    threads: int = 1
    device: str = "auto"

    @property
    def status(self) -> dict:
        """What the worker wrote last: ``step``, ``seconds``, ``peak_gb``, and ``reason`` (failed) or ``finished``."""
        path = self.folder / "status.json"
        return read_json(path) if path.is_file() else {}

    @contextlib.contextmanager
    def step(self, name: str, last: bool = False) -> Iterator[None]:
        """Keep the state of one step: begun, failed and why, or (the ``last`` one) finished."""
        before = self.status.get("seconds", 0.0)
        begin = time.monotonic()
        self._write(step=name, seconds=before)
        try:
            yield
        except Exception as error:
            known = isinstance(error, (BadDataError, UsageError, OSError))
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            self._write(step=name, seconds=before + time.monotonic() - begin, reason=" ".join(reason.split()))
            raise
        self._write(step=name, seconds=before + time.monotonic() - begin, finished=last)

    def _write(self, **values: object) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        write_json(self.folder / "status.json", {**values, "peak_gb": round(peak / 1e9, 3)})
