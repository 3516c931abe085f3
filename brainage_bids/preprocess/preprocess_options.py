"""The options of preprocessing, as one frozen record.

This module must not import heavy packages: the command line uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brainage_bids.schema import DEFAULT_SEED

# Raise a version when the engine would give other numbers; older volumes are then made again.
ENGINE_VERSIONS = {"builtin": "4", "ants": "1", "fsl": "1", "minc": "2"}


@dataclass(frozen=True)
class PreprocessOptions:
    """How to run the preprocessing. Only ``engine`` changes the volumes.

    Parameters
    ----------
    work_dir
        Folder for intermediate files and crash reports.
    engine
        ``builtin`` (needs nothing beyond pip), ``ants``, ``fsl`` or ``minc``.
    nprocs
        Total number of processor cores; ``nprocs // omp_nthreads`` scans run in parallel. Never changes a result.
    omp_nthreads
        Threads for one scan.
    mem_gb
        Total memory (GB); None: 90 % of the machine's memory.
    plugin_file
        nipype plugin file as in fMRIPrep (YAML or JSON with ``plugin`` and ``plugin_args``); replaces ``nprocs``.
    seed
        Recorded only: the builtin engine uses no random numbers.
    rerun
        Make existing volumes again.
    stop_on_first_crash
        Stop at the first scan that fails instead of finishing the others.
    clean_workdir
        Remove a scan's intermediate files as soon as the scan is done.
    low_mem
        One scan at a time, whatever ``nprocs`` says (about 2 GB in all).
    device
        ``auto`` uses a GPU, if any, for mask and registration (results differ in the last digits); ``cpu`` never does.
    progress
        Show a progress bar.
    """

    work_dir: Path
    engine: str = "builtin"
    nprocs: int = 1
    omp_nthreads: int = 1
    mem_gb: float | None = None
    plugin_file: Path | None = None
    seed: int = DEFAULT_SEED
    rerun: bool = False
    stop_on_first_crash: bool = False
    clean_workdir: bool = True
    low_mem: bool = False
    device: str = "auto"
    progress: bool = True
