"""The options of preprocessing: one frozen record, made by the command line.

Must not import anything heavy: it is built before any scan is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brainage_bids.schema import DEFAULT_SEED

# Raised whenever a volume made by the engine would get other numbers; older volumes are then made again.
ENGINE_VERSIONS = {"builtin": "4", "ants": "1", "fsl": "1", "minc": "2"}


@dataclass(frozen=True)
class PreprocessOptions:
    """How to run the preprocessing; nothing here but ``engine`` changes a volume.

    Parameters
    ----------
    work_dir
        Folder for intermediate files and crash reports.
    engine
        ``builtin`` (needs nothing beyond pip), ``ants``, ``fsl`` or ``minc``.
    nprocs
        Processor cores in all; ``nprocs // omp_nthreads`` scans run side by side. Never changes a result.
    omp_nthreads
        Threads inside one scan.
    mem_gb
        Memory in all (GB); None: 90 % of what the machine has.
    plugin_file
        nipype plugin file as in fMRIPrep (YAML or JSON with ``plugin`` and ``plugin_args``); replaces ``nprocs``.
    seed
        Recorded only: the builtin engine draws no random number.
    rerun
        Make volumes again that are already there.
    stop_on_first_crash
        Stop at the first scan that fails instead of finishing the others.
    clean_workdir
        Remove a scan's intermediate files as soon as the scan is done.
    low_mem
        One scan at a time, whatever ``nprocs`` says (about 2 GB in all).
    device
        ``auto`` runs mask and registration on the GPU where there is one (last-digit differences), ``cpu`` never.
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
