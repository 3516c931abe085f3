"""Check and build the engines other than builtin.

An engine is imported only when it is used. Each one makes a `Brain` and one `Fit` per template with its own programs,
and then calls `steps.finish`. So all engines write the same files on the same grids.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from brainage_bids.errors import UsageError
from brainage_bids.preprocess.job import Job

if TYPE_CHECKING:
    from nipype import Workflow

PROGRAMS = {
    "ants": ("N4BiasFieldCorrection", "antsRegistration"),
    "fsl": ("bet", "flirt"),
    "minc": ("nii2mnc", "mnc2nii", "beast_normalize", "mincbeast", "bestlinreg", "mincresample"),
}
WAY_OUT = {
    "ants": "pip install antspyx, or put the ANTs programs on PATH",
    "fsl": "install FSL and put $FSLDIR/bin on PATH",
    "minc": "install the minc-toolkit and source minc-toolkit-config.sh",
}
INSTEAD = "or leave out --engine: builtin needs nothing beyond pip"


def check(engine: str, work_dir: Path, scheduler: bool = False) -> None:
    """Raise when an engine cannot run here.

    Parameters
    ----------
    engine
        As in `PreprocessOptions`.
    work_dir
        Folder for its intermediate files.
    scheduler
        Whether a batch scheduler starts the jobs.

    Raises
    ------
    UsageError
        When its programs or their data are missing, or they cannot handle the name of the work directory.
    """
    blank = any(letter in " '\"\\$&;()<>|*?`" for letter in str(work_dir))
    if blank and scheduler:
        raise UsageError(
            f"--work-dir {str(work_dir)!r} holds a blank or another character that nipype's batch scripts cannot "
            "handle; choose another folder"
        )
    if engine == "builtin":
        return
    missing = [program for program in PROGRAMS[engine] if shutil.which(program) is None]
    if missing and not (engine == "ants" and importlib.util.find_spec("ants")):  # antspyx runs the same programs
        raise UsageError(
            f"--engine {engine} needs {', '.join(missing)}, not found on PATH; {WAY_OUT[engine]}, {INSTEAD}"
        )
    if blank:
        raise UsageError(
            f"--work-dir {str(work_dir)!r} holds a blank or another character that the programs of --engine {engine}"
            " cannot handle; choose another folder"
        )
    if engine == "minc":
        importlib.import_module("brainage_bids.preprocess.engines.minc").check_data()


def add_scan(workflow: Workflow, job: Job, name: Callable[[str], str]) -> None:
    """Add the nodes of one scan with the engine of the job.

    Parameters
    ----------
    workflow
        The workflow.
    job
        The scan.
    name
        Returns the node name of a step.
    """
    os.environ.setdefault("FSLOUTPUTTYPE", "NIFTI_GZ")  # otherwise nipype warns when it builds FSL nodes
    importlib.import_module(f"brainage_bids.preprocess.engines.{job.engine}").add_scan(workflow, job, name)
