"""Preprocess scans with nipype: write volumes for every grid, and return one outcome per scan.

nipype decides when and where the steps run. The outcome of a scan is read from OUTPUT_DIR and from ``status.json`` of
its worker. So a killed worker is noticed, and no scan counts as done without its files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from brainage_bids.bids.files import no_room
from brainage_bids.bids.outputs import Outputs, scan_claim
from brainage_bids.bids.runs import LOOK_S, Run, Who, is_run, living_in, running, sweep
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.errors import NoRoomError, UsageError
from brainage_bids.preprocess.done import is_done, remove_outputs
from brainage_bids.preprocess.engines import choose
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.plugins import at_once, choose_plugin
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.progress import progress
from brainage_bids.processes import end_descendants, release_heap
from brainage_bids.schema import DEFAULT_TEMPLATE, Scan, VolumeSpec
from brainage_bids.stops import last_words

if TYPE_CHECKING:
    from nipype import Workflow

    from brainage_bids.preprocess.interfaces import ScanNode

LOG = logging.getLogger("brainage_bids")
NIPYPE = "nipype"  # folder of nipype's own files
STOPPED_EARLY = "not finished: the run stopped at the first failure"
DIED = "the worker process died (killed, perhaps out of memory); run again with more memory or a smaller --nprocs"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one scan: ``done``, ``skipped`` (already there), or ``failed`` at ``step`` for ``reason``.

    A scan in progress when the run was stopped, or when the disk was full, is ``stopped``; nothing is wrong with it.
    ``seconds`` is the time of its steps, ``peak_gb`` the largest memory of its worker so far.
    """

    scan: Scan
    status: str
    step: str | None = None
    reason: str | None = None
    seconds: float = 0.0
    peak_gb: float = 0.0


class _Results:
    """The outcomes so far. Each is reported as soon as it is known; the scan is then released for other runs."""

    def __init__(self, told: Callable[[Outcome], None], free: Callable[[Scan], None]):
        self._told, self._free = told, free
        self.of: dict[Scan, Outcome] = {}

    def keep(self, outcome: Outcome) -> None:
        if outcome.scan not in self.of:
            self.of[outcome.scan] = outcome
            self._told(outcome)
            self._free(outcome.scan)

    @property
    def failed(self) -> bool:
        return any(outcome.status == "failed" for outcome in self.of.values())


def preprocess(
    scans: Sequence[Scan],
    specs: Sequence[VolumeSpec],
    outputs: Outputs,
    options: PreprocessOptions,
    told: Callable[[Outcome], None] = lambda outcome: None,
    run: Run | None = None,
    on_disk: ScanRecords | None = None,
) -> list[Outcome]:
    """Preprocess every scan to every grid.

    If another run works on a scan, this run waits for it after the other scans, and keeps its result.

    Parameters
    ----------
    scans
        Scans to preprocess.
    specs
        The grids; mask, bias field and affine are shared between them.
    outputs
        Paths of volumes, sidecars and pictures.
    options
        How to run.
    told
        Called with each outcome as soon as it is known, while the scan is still claimed by this run.
    run
        The present run; by default one that ends with this call.
    on_disk
        Records of existing results, if already read.

    Returns
    -------
    list of Outcome
        One per scan, in the order of ``scans``.

    Raises
    ------
    NoRoomError, UsageError
        When the disk is full; when the engine cannot be used, or a template is missing.
    """
    if run is None:
        with running() as run:
            return preprocess(scans, specs, outputs, options, told, run, on_disk)
    # nodes run in their own folders, so paths must be absolute
    outputs = Outputs(Path(outputs.root).absolute())
    options = dataclasses.replace(options, work_dir=Path(options.work_dir).absolute())
    if options.engine != "builtin" and any(scan.prepared for scan in scans):
        raise UsageError(f"--engine {options.engine} cannot start from --derivatives, builtin can; leave one out")
    for spec in specs:
        if spec.template != DEFAULT_TEMPLATE:
            from brainage_bids.preprocess.template import template_of

            template_of(spec, outputs.root)  # fail here once rather than for every scan
    on_disk = on_disk or ScanRecords(outputs)
    results = _Results(told, lambda scan: run.free(outputs.root, scan_claim(scan)))
    todo, waits = list(scans), False
    while todo:
        jobs, others = _claimed(todo, specs, outputs, options, run, results, on_disk)
        todo = list(others)
        if jobs:
            _run_all(jobs, options, run, results)
        if todo and options.stop_on_first_crash and results.failed:
            for scan in todo:
                results.keep(Outcome(scan, "failed", "brain", STOPPED_EARLY))
            break
        if todo and not waits:
            who = others[todo[0]]
            LOG.info("another run (%s) works on %s of the scans; waiting for it", who, len(todo))
            waits = True
        if todo and not jobs:
            time.sleep(LOOK_S * (1 + len(todo) / 50))
    return [results.of[scan] for scan in scans]


def _claimed(
    scans: Sequence[Scan],
    specs: Sequence[VolumeSpec],
    outputs: Outputs,
    options: PreprocessOptions,
    run: Run,
    results: _Results,
    on_disk: ScanRecords,
) -> tuple[list[Job], dict[Scan, Who]]:
    """Return the jobs of scans that this run has claimed, and the scans that other runs work on with their process."""
    jobs, others = [], {}
    for scan in scans:
        done = partial(is_done, scan, specs, on_disk, options.engine)
        fault = scan.prepared.fault if scan.prepared else None
        if not (options.rerun or fault) and done():
            results.keep(Outcome(scan, "skipped"))
            continue
        if not (jobs or others):  # before anything is written
            choose.check(options.engine, options.work_dir, options.plugin_file is not None)
        if (other := run.take(outputs.root, scan_claim(scan))) is not None:
            others[scan] = other
        elif fault:
            remove_outputs(scan, specs, outputs)
            results.keep(Outcome(scan, "failed", "reuse", fault))
        elif not options.rerun and done():  # another run has just finished it
            results.keep(Outcome(scan, "skipped"))
        else:
            jobs.append(make_job(scan, specs, outputs, options, run))
    return jobs, others


def make_job(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs, options: PreprocessOptions, run: Run) -> Job:
    """Return the job of one scan; its work folder belongs to this run only."""
    folder = options.work_dir / run.id / scan.prefix
    return Job(scan, tuple(specs), outputs, folder, options.engine, options.omp_nthreads, options.device)


def _run_all(jobs: Sequence[Job], options: PreprocessOptions, run: Run, results: _Results) -> None:
    """Run the jobs and record their outcomes, also when the run is stopped or the disk is full."""
    LOG.info("preprocessing %d scans%s", len(jobs), "" if options.plugin_file else f", {at_once(options)} at a time")
    run.enter(options.work_dir)
    _remove_left(options)
    try:
        with last_words(lambda stop: _keep_stopped(jobs, options, results, str(stop))):
            nipype_error = _run(jobs, options, run, results)
            lost = [job for job in jobs if "reason" not in job.status and not job.status.get("finished")]
            here = options.plugin_file is None and at_once(options) > 1
            if lost and here and not options.stop_on_first_crash:
                # a dead worker ends its whole pool: run one at a time, only the scan that killed it fails again
                LOG.warning("a worker died; %d scans are tried again, one at a time", len(lost))
                nipype_error = _run(lost, options, run, results, alone=True)
            for job in jobs:
                results.keep(_outcome(job, options, nipype_error))
    except NoRoomError as error:
        _keep_stopped(jobs, options, results, str(error))
        raise
    finally:
        _clean(jobs, options, run)


def _keep_stopped(jobs: Sequence[Job], options: PreprocessOptions, results: _Results, reason: str) -> None:
    """Record the outcomes of the jobs that were begun, when the run ends early."""
    for job in jobs:
        status = job.status
        if status.get("finished") or ("reason" in status and not status.get("no_room")):
            results.keep(_outcome(job, options, ""))
        elif status:
            results.keep(Outcome(job.scan, "stopped", status.get("step"), reason))


def _outcome(job: Job, options: PreprocessOptions, nipype_error: str) -> Outcome:
    status = job.status
    step, cost = status.get("step", "brain"), (float(status.get(name, 0.0)) for name in ("seconds", "peak_gb"))
    if "reason" in status:
        return Outcome(job.scan, "failed", step, status["reason"], *cost)
    if status.get("finished") and is_done(job.scan, job.specs, ScanRecords(job.outputs), job.engine):
        return Outcome(job.scan, "done", None, None, *cost)
    reason = STOPPED_EARLY if options.stop_on_first_crash else DIED
    if nipype_error and not options.stop_on_first_crash:
        reason += f"; nipype said: {nipype_error}"
    return Outcome(job.scan, "failed", step, reason, *cost)


def _clean(jobs: Sequence[Job], options: PreprocessOptions, run: Run) -> None:
    if options.clean_workdir:
        shutil.rmtree(options.work_dir / run.id, ignore_errors=True)
    run.leave(options.work_dir)
    for folder in (options.work_dir / "crash", options.work_dir):
        with contextlib.suppress(OSError):  # not empty, or another run uses it
            folder.rmdir()


def build_workflow(jobs: Sequence[Job], options: PreprocessOptions, folder: Path, poll_s: float) -> Workflow:
    """Return the nipype workflow: one node per scan for the builtin engine, a chain of nodes for the others.

    Parameters
    ----------
    jobs
        The scans.
    options
        ``engine``, ``work_dir``, ``omp_nthreads``, ``stop_on_first_crash``.
    folder
        Folder of nipype's own files.
    poll_s
        Interval between checks of running nodes, s.
    """
    from nipype import Workflow

    from brainage_bids.preprocess.interfaces import ScanNode, Step
    from brainage_bids.preprocess.steps import run_builtin

    workflow = Workflow(name=NIPYPE, base_dir=str(folder))
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
            workflow.add_nodes([ScanNode(job, Step(job, None, run_builtin), name(), n_procs=options.omp_nthreads)])
        else:
            choose.add_scan(workflow, job, name)
    return workflow


def node_name(scan: Scan, step: str = "") -> str:
    """Return a node's name; nipype takes letters, digits and underscores."""
    return re.sub(r"\W", "_", f"{scan.prefix}_{step}" if step else scan.prefix)


def _run(jobs: Sequence[Job], options: PreprocessOptions, run: Run, results: _Results, alone: bool = False) -> str:
    """Run the jobs once; return the last line of nipype's error, empty without one."""
    os.environ.setdefault("NO_ET", "1")
    os.environ.setdefault("NIPYPE_NO_ET", "1")
    from brainage_bids.preprocess import brain

    # nipype's Linear plugin would run the first step of all scans before the second step of any
    alone = alone or (options.engine != "builtin" and at_once(options) == 1)
    folder = options.work_dir / run.id
    watch = _Watch(options, folder / NIPYPE, results)
    plugin, poll_s = choose_plugin(options, watch, alone)
    _say_large(jobs, options.mem_gb)
    workflow = build_workflow(jobs, options, folder, poll_s)
    close = getattr(plugin["plugin"], "close", lambda: None)
    with progress(jobs, options.progress), last_words(lambda stop: end_descendants()), last_words(lambda stop: close()):
        try:
            workflow.run(**plugin)
        except (NoRoomError, UsageError):
            raise
        except Exception as error:  # nipype raises this when a node failed; the outcomes say which and why
            LOG.debug("nipype: %s", error, exc_info=True)
            if watch.broken is not None:
                raise watch.broken from error
            if full := no_room(error):
                raise NoRoomError(full) from error
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return lines[-1] if lines else type(error).__name__
        finally:
            close()
            brain.release_network()
            release_heap()
            shutil.rmtree(folder / NIPYPE, ignore_errors=True)
    return ""


def _say_large(jobs: Sequence[Job], allowed: float | None) -> None:
    large = [job for job in jobs if allowed is not None and job.memory_gb > allowed]
    if large:
        most = max(large, key=lambda job: job.memory_gb)
        LOG.warning(
            "%d scans take more memory than --mem %g allows, %s about %.1f GB; each of them runs alone",
            len(large), allowed, most.scan.prefix, most.memory_gb,
        )  # fmt: skip


def _remove_left(options: PreprocessOptions) -> None:
    sweep(options.work_dir, [])
    if not options.clean_workdir:
        return
    for path in options.work_dir.iterdir():
        if is_run(path.name) and not living_in(options.work_dir, path.name):
            shutil.rmtree(path, ignore_errors=True)


class _Watch:
    """Status callback of nipype: removes old results of a scan, records its outcome, and removes its work files.

    nipype's own files of a failed scan stay until the end of the run: it needs them to write the crash file.
    """

    def __init__(self, options: PreprocessOptions, nodes: Path, results: _Results):
        self.options, self.nodes, self.results = options, nodes, results
        self.ended: dict[Path, list[str]] = {}  # job folder -> its nodes that have ended
        self.broken: Exception | None = None  # an error of this callback, not of a scan

    def __call__(self, node: ScanNode, status: str) -> None:
        try:
            self._follow(node, status)
        except Exception as error:
            self.broken = error
            raise

    def _follow(self, node: ScanNode, status: str) -> None:
        job = node.job
        if status == "start":
            if job.folder not in self.ended:
                self.ended[job.folder] = []
                remove_outputs(job.scan, job.specs, job.outputs)
            return
        state = job.status
        if state.get("no_room"):
            raise NoRoomError(state["reason"])
        if status == "end":
            self.ended[job.folder].append(node.name)
            if not state.get("finished"):
                return
        if "reason" in state or state.get("finished"):  # otherwise the worker died, and the scan is tried again
            self.results.keep(_outcome(job, self.options, ""))
        if self.options.clean_workdir:
            if status == "end":
                for name in self.ended[job.folder]:
                    shutil.rmtree(self.nodes / name, ignore_errors=True)
            for path in job.folder.iterdir():
                if path.name != "status.json":
                    path.unlink(missing_ok=True)
