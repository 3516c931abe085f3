"""The preprocess room's door: scans and grids in, volumes on disk and one outcome per scan out, run by nipype.

nipype decides what runs when and where; what became of a scan is read from OUTPUT_DIR and from the state its worker
left behind, so that a killed worker shows and nothing counts as done that is not there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from brainage_bids.bids.outputs import Outputs
from brainage_bids.errors import UsageError
from brainage_bids.preprocess.done import is_done
from brainage_bids.preprocess.engines import choose
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.options import PreprocessOptions
from brainage_bids.preprocess.plugins import at_once, choose_plugin
from brainage_bids.preprocess.progress import progress
from brainage_bids.preprocess.steps import remove_outputs
from brainage_bids.preprocess.template import template_of
from brainage_bids.processes import release_heap
from brainage_bids.schema import DEFAULT_TEMPLATE, Scan, VolumeSpec

if TYPE_CHECKING:
    from nipype import Workflow

    from brainage_bids.preprocess.interfaces import ScanNode

LOG = logging.getLogger("brainage_bids")
NIPYPE = "nipype-"
BUILTIN_MEMORY_GB = 1.9  # of one scan at 1 mm
DIED = "the worker process died (killed, perhaps out of memory); run again with more memory or a smaller --nprocs"


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: ``done``, ``skipped`` (already there) or ``failed`` at ``step`` for ``reason``.

    ``seconds`` is the time its steps took; ``peak_gb`` the memory its worker had needed up to then.
    """

    scan: Scan
    status: str
    step: str | None = None
    reason: str | None = None
    seconds: float = 0.0
    peak_gb: float = 0.0


def preprocess(
    scans: Sequence[Scan], specs: Sequence[VolumeSpec], outputs: Outputs, options: PreprocessOptions
) -> list[Outcome]:
    """Preprocess every scan to every grid.

    Parameters
    ----------
    scans
        What to preprocess.
    specs
        The grids; mask, bias field and affine are shared between them.
    outputs
        Where volumes, sidecars and pictures go.
    options
        How to run.

    Returns
    -------
    list of Outcome
        One per scan, in the order of ``scans``.
    """
    # nodes run in folders of their own: relative paths would lead elsewhere
    outputs = Outputs(Path(outputs.root).absolute())
    options = dataclasses.replace(options, work_dir=Path(options.work_dir).absolute())
    if options.engine != "builtin" and any(scan.prepared for scan in scans):
        raise UsageError(f"--engine {options.engine} cannot start from --derivatives, builtin can; leave one out")
    for spec in specs:
        if spec.template != DEFAULT_TEMPLATE:
            template_of(spec, outputs.root)  # fails here rather than once a scan
    outcomes = {}
    jobs = []
    for scan in scans:
        if scan.prepared and scan.prepared.fault:
            remove_outputs(scan, specs, outputs)
            outcomes[scan] = Outcome(scan, "failed", "reuse", scan.prepared.fault)
        elif not options.rerun and is_done(scan, specs, outputs, options.engine):
            outcomes[scan] = Outcome(scan, "skipped")
        else:
            jobs.append(make_job(scan, specs, outputs, options))
    said = ""
    if jobs:
        choose.check(options.engine, options.work_dir, options.plugin_file is not None)
        said = _run_all(jobs, options)
    outcomes |= {job.scan: _outcome(job, options, said) for job in jobs}
    _clean(jobs, options)
    return [outcomes[scan] for scan in scans]


def make_job(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs, options: PreprocessOptions) -> Job:
    """Return what a worker needs to make one scan's volumes."""
    folder = options.work_dir / scan.prefix
    return Job(scan, tuple(specs), outputs, folder, options.engine, options.omp_nthreads, options.device)


def _run_all(jobs: Sequence[Job], options: PreprocessOptions) -> str:
    """Run the jobs; return what nipype said when it could not finish."""
    LOG.info("preprocessing %d scans%s", len(jobs), "" if options.plugin_file else f", {at_once(options)} at a time")
    for job in jobs:
        remove_outputs(job.scan, job.specs, job.outputs)
    said = _run(jobs, options)
    lost = [job for job in jobs if "reason" not in job.status and not job.status.get("finished")]
    here = options.plugin_file is None and at_once(options) > 1
    if lost and here and not options.stop_on_first_crash:
        # a dying worker takes its neighbours along: one at a time, only the guilty scan dies again
        LOG.warning("a worker died; %d scans are tried again, one at a time", len(lost))
        said = _run(lost, options, alone=True)
    return said


def _outcome(job: Job, options: PreprocessOptions, said: str) -> Outcome:
    status = job.status
    step, cost = status.get("step", "brain"), (float(status.get(name, 0.0)) for name in ("seconds", "peak_gb"))
    if "reason" in status:
        return Outcome(job.scan, "failed", step, status["reason"], *cost)
    if status.get("finished") and is_done(job.scan, job.specs, job.outputs, job.engine):
        return Outcome(job.scan, "done", None, None, *cost)
    reason = "not finished: the run stopped at the first failure" if options.stop_on_first_crash else DIED
    if said and not options.stop_on_first_crash:
        reason += f"; nipype said: {said}"
    return Outcome(job.scan, "failed", step, reason, *cost)


def _clean(jobs: Sequence[Job], options: PreprocessOptions) -> None:
    if not options.clean_workdir:
        return
    for job in jobs:
        shutil.rmtree(job.folder, ignore_errors=True)
    for folder in (options.work_dir / "crash", options.work_dir):
        with contextlib.suppress(OSError):  # not empty, or another run uses it
            folder.rmdir()


def build_workflow(jobs: Sequence[Job], options: PreprocessOptions, poll_s: float) -> Workflow:
    """Return the nipype workflow: the builtin engine is one node a scan, the others are chains of nodes.

    Parameters
    ----------
    jobs
        The scans.
    options
        ``engine``, ``work_dir``, ``omp_nthreads``, ``stop_on_first_crash``.
    poll_s
        How often nipype looks at running nodes, s.
    """
    from nipype import Workflow

    from brainage_bids.preprocess.interfaces import ScanNode, Step
    from brainage_bids.preprocess.steps import run_builtin

    workflow = Workflow(name="nipype", base_dir=str(_own_folder(options)))
    workflow.config["execution"].update(
        stop_on_first_crash=str(options.stop_on_first_crash).lower(),
        crashdump_dir=str(options.work_dir / "crash"),
        crashfile_format="txt",
        poll_sleep_duration=str(poll_s),
        create_report="false",
        hash_method="content",
        remove_unnecessary_outputs="true",
    )
    for job in jobs:
        shutil.rmtree(job.folder, ignore_errors=True)
        job.folder.mkdir(parents=True)
        name = partial(node_name, job.scan)
        if options.engine == "builtin":
            needs = {"mem_gb": BUILTIN_MEMORY_GB, "n_procs": options.omp_nthreads}
            workflow.add_nodes([ScanNode(job, Step(job, None, run_builtin), name(), **needs)])
        else:
            choose.add_scan(workflow, job, name)
    return workflow


def node_name(scan: Scan, step: str = "") -> str:
    """Return a node's name; nipype takes letters, digits and underscores."""
    return re.sub(r"\W", "_", f"{scan.prefix}_{step}" if step else scan.prefix)


def _run(jobs: Sequence[Job], options: PreprocessOptions, alone: bool = False) -> str:
    os.environ.setdefault("NO_ET", "1")
    os.environ.setdefault("NIPYPE_NO_ET", "1")
    from brainage_bids.preprocess import brain

    options.work_dir.mkdir(parents=True, exist_ok=True)
    _remove_left(options.work_dir)
    # of chains, nipype's Linear plugin would take the first step of every scan before the second of any
    alone = alone or (options.engine != "builtin" and at_once(options) == 1)
    plugin, poll_s = choose_plugin(options, _cleaner(options), alone)
    workflow = build_workflow(jobs, options, poll_s)
    with progress(jobs, options.progress), _orderly_stop():
        try:
            workflow.run(**plugin)
        except UsageError:
            raise
        except Exception as error:  # nipype's way to say that some node failed; the outcomes say which and why
            LOG.debug("nipype: %s", error, exc_info=True)
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return lines[-1] if lines else type(error).__name__
        finally:
            if hasattr(plugin["plugin"], "close"):
                plugin["plugin"].close()
            brain.release_network()
            release_heap()
            shutil.rmtree(_own_folder(options), ignore_errors=True)
    return ""


def _own_folder(options: PreprocessOptions) -> Path:
    """Return where nipype keeps what it knows of this run: several runs may share a work directory."""
    return options.work_dir / f"{NIPYPE}{socket.gethostname()}-{os.getpid()}"


def _remove_left(work_dir: Path) -> None:
    """Remove what killed runs on this machine left behind."""
    for folder in work_dir.glob(f"{NIPYPE}{socket.gethostname()}-*"):
        number = folder.name.rpartition("-")[2]
        if number.isdecimal() and (int(number) == os.getpid() or not Path("/proc", number).exists()):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _orderly_stop() -> Iterator[None]:
    """Turn SIGTERM into SystemExit while the workflow runs, so that its workers are ended too."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _cleaner(options: PreprocessOptions) -> Callable[[ScanNode, str], None]:
    """Return nipype's status callback: removes the intermediate files of a scan once it is finished or failed.

    What nipype itself keeps of a failed scan stays until the end of the run: the crash file is written from it.
    """
    ended: dict[Path, list[str]] = {}

    def clean(node: ScanNode, status: str) -> None:
        if not options.clean_workdir or status == "start":
            return
        if status == "end":
            ended.setdefault(node.job.folder, []).append(node.name)
            if not node.job.status.get("finished"):
                return
            for name in ended.pop(node.job.folder):
                shutil.rmtree(_own_folder(options) / "nipype" / name, ignore_errors=True)
        for path in node.job.folder.iterdir():
            if path.name != "status.json":
                path.unlink(missing_ok=True)

    return clean
