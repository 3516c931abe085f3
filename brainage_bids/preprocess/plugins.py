"""Choose the nipype plugin: in this process, on several cores, or a batch scheduler given by ``--use-plugin``."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from brainage_bids.bids.text import Unreadable, read_text
from brainage_bids.errors import UsageError, shorten
from brainage_bids.preprocess.preprocess_options import PreprocessOptions

# Imported once in the fork server, so that workers start with the heavy libraries in memory.
PRELOAD = (
    "deepbet",
    "SimpleITK",
    "nilearn.datasets",
    "brainage_bids.preprocess.affine",
    "brainage_bids.preprocess.steps",
)
POLL_HERE_S, POLL_SCHEDULER_S = 0.05, 2.0
LIMITS = {"n_procs": (int, 4096), "memory_gb": (int | float, 1e6)}  # nipype settings: type and largest value
SCHEDULERS = {"SLURM": "sbatch", "SGE": "qsub", "PBS": "qsub", "LSF": "bsub", "OAR": "oarsub"}


def at_once(options: PreprocessOptions) -> int:
    """Return the number of scans processed in parallel on this machine."""
    return 1 if options.low_mem else max(1, options.nprocs // options.omp_nthreads)


def choose_plugin(options: PreprocessOptions, callback: Callable, alone: bool = False) -> tuple[dict, float]:
    """Return the arguments of nipype's ``Workflow.run``, and the interval between checks of running nodes (s).

    Parameters
    ----------
    options
        ``plugin_file``, or ``nprocs``, ``omp_nthreads``, ``mem_gb``, ``low_mem``.
    callback
        Called by nipype with a node and ``start``, ``end`` or ``exception``.
    alone
        One scan at a time, each in its own process.

    Raises
    ------
    UsageError
        When the plugin file is not valid, or names a plugin that cannot be used.
    """
    if options.plugin_file is not None:
        name, settings = read_plugin_file(options.plugin_file)
        settings = {**settings, "status_callback": callback}
        if name == "MultiProc":
            return {"plugin": _pool({"raise_insufficient": False, **settings})}, POLL_HERE_S
        if name == "Linear":
            return {"plugin": name, "plugin_args": settings}, POLL_HERE_S
        return {"plugin": _scheduler(name, settings)}, POLL_SCHEDULER_S
    settings = {"raise_insufficient": False, "status_callback": callback}
    if at_once(options) == 1 and not alone:
        return {"plugin": "Linear", "plugin_args": settings}, POLL_HERE_S
    settings["n_procs"] = options.omp_nthreads if alone else options.nprocs
    if options.mem_gb is not None:
        settings["memory_gb"] = options.mem_gb
    return {"plugin": _pool(settings)}, POLL_HERE_S


def _pool(settings: dict):
    from brainage_bids.preprocess.pool import SteadyPoolPlugin

    return SteadyPoolPlugin(settings, PRELOAD)


def _scheduler(name: str, settings: dict):
    from brainage_bids.preprocess.pool import steady_scheduler

    return steady_scheduler(name, settings)


def read_plugin_file(path: Path) -> tuple[str, dict]:
    """Return the plugin and its settings from a nipype plugin file (YAML or JSON, as in fMRIPrep).

    Raises
    ------
    UsageError
        When the file is unreadable, names no plugin or one that hides failures, or the scheduler is not installed.
    """
    import yaml

    try:
        values = yaml.safe_load(read_text(path))
    except Unreadable as error:
        raise UsageError(f"--use-plugin {path} {error.reason}") from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(
            f"--use-plugin {path} cannot be read ({shorten(error, 200)}); give a nipype plugin file"
        ) from error
    if not isinstance(values, dict) or "plugin" not in values:
        raise UsageError(f"--use-plugin {path} has no 'plugin' entry; write for example: plugin: MultiProc")
    name, settings = str(values["plugin"]), values.get("plugin_args") or {}
    if not isinstance(settings, dict):
        raise UsageError(f"--use-plugin {path}: plugin_args {shorten(settings)!r} is no list of names and values")
    for key, (kind, most) in LIMITS.items():
        value = settings.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind) or not 0 < value <= most):
            raise UsageError(f"--use-plugin {path}: {key} is {shorten(value)!r}; give a number above 0")
    if name.endswith("Graph"):
        raise UsageError(
            f"--use-plugin {path}: {name} submits everything at once and never reports a failure, so that a failed "
            f"participant would count as done; use {name.removesuffix('Graph')}"
        )
    if name == "LegacyMultiProc":
        name = "MultiProc"  # same settings; the old pool hangs when a worker is killed
    if name in ("Linear", "MultiProc"):
        return name, settings
    if name not in SCHEDULERS:
        known = ", ".join(["Linear", "MultiProc", *SCHEDULERS])
        raise UsageError(f"--use-plugin {path}: plugin {shorten(name)!r} is not known; use one of {known}")
    if shutil.which(SCHEDULERS[name]) is None:
        raise UsageError(f"--use-plugin {path}: {name} needs {SCHEDULERS[name]}, which is not on this machine's PATH")
    if name == "SLURM":
        os.environ.setdefault("LOGNAME", _user())  # the plugin fails without it, and containers have none
    return name, settings


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return "brainage"
