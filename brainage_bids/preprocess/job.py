"""Describe one scan to be preprocessed, and record its progress in ``status.json``.

The main process reads the progress, so that it notices a worker killed in the middle of a step.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.files import no_room, read_json, write_json
from brainage_bids.bids.images import open_stored
from brainage_bids.bids.outputs import Outputs
from brainage_bids.errors import BadDataError, BrainageError
from brainage_bids.schema import Scan, VolumeSpec

LEAST_GB, BASE_GB, GB_PER_VOXEL = 1.9, 1.3, 0.05e-6


@dataclass(frozen=True)
class Job:
    """One scan to be preprocessed, its grids, and how to work.

    Parameters
    ----------
    scan, specs, outputs
        The scan, its grids, and the paths of the results.
    folder
        Work folder of this scan.
    engine, threads, device
        As in `PreprocessOptions`; the threads are those of this scan.
    """

    scan: Scan
    specs: tuple[VolumeSpec, ...]
    outputs: Outputs
    folder: Path
    engine: str = "builtin"
    threads: int = 1
    device: str = "auto"

    @functools.cached_property
    def memory_gb(self) -> float:
        """Largest memory of the builtin engine for this scan (GB), from the number of voxels in its header.

        Measured for a 1 mm volume from 10.5, 30.7 and 83.9 million voxels (the same head at 1.0, 0.7 and 0.5 mm): 1.43,
        2.70 and 4.38 GB.
        """
        path = self.scan.prepared.image if self.scan.prepared else self.scan.path
        try:
            voxels = math.prod(open_stored(path).shape[:3])
        except BadDataError:  # reported when the scan is read
            voxels = 0
        return max(LEAST_GB, BASE_GB + GB_PER_VOXEL * voxels)

    @property
    def status(self) -> dict:
        """Last entry of the worker: ``step``, ``seconds``, ``peak_gb``, and ``reason`` (failed) or ``finished``.

        ``no_room`` means that the disk was full.
        """
        try:
            return read_json(self.folder / "status.json")
        except (FileNotFoundError, BadDataError):  # not begun, or just being overwritten on a full disk
            return {}

    @contextlib.contextmanager
    def step(self, name: str, last: bool = False) -> Iterator[None]:
        """Record the state of one step: begun, failed (with the reason), or finished (the ``last`` step)."""
        before = self.status.get("seconds", 0.0)
        begin = time.monotonic()
        self._write(step=name, seconds=before)
        try:
            yield
        except Exception as error:
            known = isinstance(error, (BrainageError, OSError))
            reason = no_room(error) or (str(error) if known else f"{type(error).__name__}: {error}")
            more = {"no_room": True} if no_room(error) else {}
            values = {"step": name, "seconds": before + time.monotonic() - begin, "reason": " ".join(reason.split())}
            try:
                self._write(**values, **more)
            except BrainageError:  # on a full disk overwrite the old file; raising here would hide the first error
                with contextlib.suppress(OSError):
                    (self.folder / "status.json").write_text(json.dumps(values | more), encoding="utf-8")
            raise
        self._write(step=name, seconds=before + time.monotonic() - begin, finished=last)

    def _write(self, **values: object) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        write_json(self.folder / "status.json", {**values, "peak_gb": round(peak / 1e9, 3)})
