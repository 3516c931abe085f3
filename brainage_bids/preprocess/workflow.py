"""The preprocess room's door: scans and grids in, volumes on disk and one outcome per scan out, run by nipype.

Each scan is a chain of four nodes over the plain functions of `steps`. nipype decides what runs when and where; what
became of a scan is read from OUTPUT_DIR and from the reason a failed step left behind, so that a killed worker shows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainage_bids.bids.files import read_json, write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.preprocess.options import ENGINE_VERSION, PreprocessOptions
from brainage_bids.preprocess.steps import input_hash, remove_outputs
from brainage_bids.preprocess.template import check_template
from brainage_bids.schema import Scan, VolumeSpec

LOG = logging.getLogger("brainage_bids")
NODE_MEMORY_GB = {"brain": 1.6, "align": 0.9, "volumes": 1.2, "pictures": 0.5}


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: ``done``, ``skipped`` (already there) or ``failed`` at ``step`` for ``reason``."""

    scan: Scan
    status: str
    step: str | None = None
    reason: str | None = None
    seconds: float = 0.0


def is_done(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs, engine: str = "builtin") -> bool:
    """Say whether every volume of a scan is there, made from this very input to these specs by this engine."""
    for spec in specs:
        volume = outputs.volume(scan, spec)
        if not (volume.is_file() and sidecar_path(volume).is_file() and outputs.mask(scan, spec).is_file()):
            return False
        try:
            values = read_json(sidecar_path(volume))
        except BadDataError:
            return False
        wanted = {"Engine": engine, "EngineVersion": ENGINE_VERSION, "VolumeSpecFingerprint": spec.fingerprint}
        if any(values.get(key) != value for key, value in wanted.items()):
            return False
        if not os.path.exists(scan.path) or values.get("InputHash") != input_hash(scan.path):
            return False
    return True


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
    for spec in specs:
        check_template(spec.template)
    # nodes run in folders of their own: relative paths would lead elsewhere
    outputs = Outputs(Path(outputs.root).absolute())
    options = dataclasses.replace(options, work_dir=Path(options.work_dir).absolute())
    todo = [scan for scan in scans if options.rerun or not is_done(scan, specs, outputs, options.engine)]
    skipped = {scan.prefix for scan in scans} - {scan.prefix for scan in todo}
    if todo:
        LOG.info("preprocessing %d scans, %d at a time", len(todo), _at_once(options))
        for scan in todo:
            remove_outputs(scan, specs, outputs)
        _run(todo, tuple(specs), outputs, options)
        lost = [scan for scan in todo if _lost(scan, options)]
        if lost and not options.stop_on_first_crash and _at_once(options) > 1 and options.plugin_file is None:
            # a dying worker takes its neighbours along: one at a time, only the guilty scan dies again
            LOG.warning("a worker died; %d scans are tried again, one at a time", len(lost))
            _run(lost, tuple(specs), outputs, options, alone=True)
    outcomes = []
    for scan in scans:
        if scan.prefix in skipped:
            outcomes.append(Outcome(scan, "skipped"))
            continue
        outcomes.append(_outcome(scan, specs, outputs, options))
        if options.clean_workdir:
            shutil.rmtree(options.work_dir / scan.prefix, ignore_errors=True)
    for folder in (options.work_dir / "crash", options.work_dir):
        if options.clean_workdir and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return outcomes


def _lost(scan: Scan, options: PreprocessOptions) -> bool:
    """Say whether a scan neither finished nor left a reason."""
    status = options.work_dir / scan.prefix / "status.json"
    values = read_json(status) if status.is_file() else {}
    return "reason" not in values and not values.get("finished")


def _outcome(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs, options: PreprocessOptions) -> Outcome:
    status = options.work_dir / scan.prefix / "status.json"
    values = read_json(status) if status.is_file() else {}
    seconds = float(values.get("seconds", 0.0))
    if "reason" in values:
        return Outcome(scan, "failed", values["step"], values["reason"], seconds)
    fresh = all(sidecar_path(outputs.volume(scan, spec)).is_file() for spec in specs)
    if fresh and values.get("finished") and is_done(scan, specs, outputs, options.engine):
        return Outcome(scan, "done", None, None, seconds)
    step = values.get("step", "brain")
    if options.stop_on_first_crash:
        return Outcome(scan, "failed", step, "not finished: the run stopped at the first failure", seconds)
    reason = "the worker process died (killed, perhaps out of memory); run again with more memory or a smaller --nprocs"
    return Outcome(scan, "failed", step, reason, seconds)


def run_step(step: str, scan: Scan, specs: tuple, outputs: Outputs, folder: str, threads: int, device: str) -> str:
    """Run one step of one scan and keep its state in ``status.json``; what nipype's nodes call.

    Raises
    ------
    RuntimeError
        When the step failed; the reason is in ``status.json``.
    """
    work = Path(folder)
    from brainage_bids.preprocess.affine import set_threads

    status = work / "status.json"
    before = read_json(status) if status.is_file() else {"seconds": 0.0}
    begin = time.monotonic()
    write_json(status, {**before, "step": step})
    former = set_threads(threads)
    try:
        _STEPS[step](scan, specs, outputs, work, threads, device)
    except Exception as error:
        seconds = before["seconds"] + time.monotonic() - begin
        known = isinstance(error, (BadDataError, UsageError, OSError))
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        write_json(status, {"step": step, "reason": " ".join(reason.split()), "seconds": seconds})
        if step in ("volumes", "pictures"):
            remove_outputs(scan, specs, outputs)
        raise
    finally:
        set_threads(former)
    seconds = before["seconds"] + time.monotonic() - begin
    write_json(status, {"step": step, "seconds": seconds, "finished": step == "pictures"})
    return folder


def _brain(scan: Scan, specs: tuple, outputs: Outputs, work: Path, threads: int, device: str) -> None:
    from brainage_bids.preprocess import steps
    from brainage_bids.preprocess.affine import gpu_wanted

    steps.extract_brain(scan, work, gpu_wanted(device))


def _align(scan: Scan, specs: tuple, outputs: Outputs, work: Path, threads: int, device: str) -> None:
    from brainage_bids.preprocess import steps
    from brainage_bids.preprocess.affine import gpu_wanted

    steps.align(scan, work, device if gpu_wanted(device) else "cpu")


def _volumes(scan: Scan, specs: tuple, outputs: Outputs, work: Path, threads: int, device: str) -> None:
    from brainage_bids.preprocess import steps

    steps.write_volumes(scan, work, list(specs), outputs, threads)


def _pictures(scan: Scan, specs: tuple, outputs: Outputs, work: Path, threads: int, device: str) -> None:
    from brainage_bids.preprocess import steps

    steps.draw_pictures(scan, work, specs[0], outputs)


_STEPS: dict[str, Callable] = {"brain": _brain, "align": _align, "volumes": _volumes, "pictures": _pictures}


def _at_once(options: PreprocessOptions) -> int:
    return 1 if options.low_mem else max(1, options.nprocs // options.omp_nthreads)


def _node_name(scan: Scan, step: str) -> str:
    return re.sub(r"\W", "_", f"{scan.prefix}_{step}")  # nipype takes letters, digits and underscores


def build_workflow(scans: Sequence[Scan], specs: tuple[VolumeSpec, ...], outputs: Outputs, options: PreprocessOptions):
    """Return the nipype workflow: per scan the chain brain -> align -> volumes -> pictures.

    Inputs
    ------
    scan, specs, outputs, folder, threads, device
        Set on every node; ``folder`` of a node is the output of the node before it.

    Outputs
    -------
    folder
        The scan's work directory.
    """
    from nipype import Node, Workflow

    from brainage_bids.preprocess.interfaces import ScanStep

    workflow = Workflow(name="nipype", base_dir=str(options.work_dir))
    workflow.config["execution"].update(
        stop_on_first_crash=str(options.stop_on_first_crash).lower(),
        crashdump_dir=str(options.work_dir / "crash"),
        crashfile_format="txt",
        poll_sleep_duration="0.05",
        create_report="false",
        hash_method="content",
        remove_unnecessary_outputs="true",
    )
    for scan in scans:
        folder = options.work_dir / scan.prefix
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        before = None
        for step in _STEPS:
            node = Node(
                ScanStep(step=step),
                name=_node_name(scan, step),
                mem_gb=NODE_MEMORY_GB[step],
                n_procs=options.omp_nthreads,
            )
            node.inputs.trait_set(
                scan=scan, specs=specs, outputs=outputs, threads=options.omp_nthreads, device=options.device
            )
            if before is None:
                node.inputs.folder = str(folder)
                workflow.add_nodes([node])
            else:
                workflow.connect(before, "folder", node, "folder")
            before = node
    return workflow


def _run(
    scans: Sequence[Scan], specs: tuple, outputs: Outputs, options: PreprocessOptions, alone: bool = False
) -> None:
    os.environ.setdefault("NO_ET", "1")
    os.environ.setdefault("NIPYPE_NO_ET", "1")
    from brainage_bids.preprocess import brain

    options.work_dir.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(options.work_dir / "nipype", ignore_errors=True)  # what a killed run left behind
    workflow = build_workflow(scans, specs, outputs, options)
    plugin = _plugin(options, _cleaner(scans, options), alone)
    with _progress(scans, options), _orderly_stop():
        try:
            workflow.run(**plugin)
        except UsageError:
            raise
        except Exception as error:  # nipype's way to say that some node failed; the outcomes say which and why
            LOG.debug("nipype: %s", error)
        finally:
            if hasattr(plugin["plugin"], "close"):
                plugin["plugin"].close()
            brain.release_network()
            shutil.rmtree(options.work_dir / "nipype", ignore_errors=True)


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


def _cleaner(scans: Sequence[Scan], options: PreprocessOptions) -> Callable:
    """Return nipype's status callback: removes the working images of a scan that is finished or failed."""
    folders = {_node_name(scan, step): options.work_dir / scan.prefix for scan in scans for step in _STEPS}

    def clean(node: Any, status: str) -> None:
        last = status == "exception" or (status == "end" and node.name.endswith("_pictures"))
        if options.clean_workdir and last:
            for name in ("brain.nii", "mask.nii"):
                (folders[node.name] / name).unlink(missing_ok=True)

    return clean


def _plugin(options: PreprocessOptions, callback: Callable, alone: bool = False) -> dict:
    if options.plugin_file is not None:
        values = _plugin_from_file(options.plugin_file)
        return {**values, "plugin_args": {**values["plugin_args"], "status_callback": callback}}
    if _at_once(options) == 1 and not alone:
        return {"plugin": "Linear", "plugin_args": {"status_callback": callback}}
    from brainage_bids.preprocess.pool import SteadyPoolPlugin

    settings = {"n_procs": options.omp_nthreads if alone else options.nprocs, "raise_insufficient": False}
    if options.mem_gb is not None:
        settings["memory_gb"] = options.mem_gb
    preload = ("deepbet", "SimpleITK", "nilearn.datasets", "brainage_bids.preprocess.affine")
    return {"plugin": SteadyPoolPlugin({**settings, "status_callback": callback}, preload)}


def _plugin_from_file(path: Path) -> dict:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"--use-plugin {path} cannot be read ({error}); give a nipype plugin file") from error
    if not isinstance(values, dict) or "plugin" not in values:
        raise UsageError(f"--use-plugin {path} has no 'plugin' entry; write for example: plugin: MultiProc")
    return {"plugin": values["plugin"], "plugin_args": values.get("plugin_args") or {}}


class _progress:
    """Show how many scans are finished and how many failed, read from their ``status.json``."""

    def __init__(self, scans: Sequence[Scan], options: PreprocessOptions):
        self.options, self.open, self.total = options, list(scans), len(scans)
        self.failed = 0

    def __enter__(self) -> None:
        self.stop = threading.Event()
        self.thread = None
        if self.options.progress:
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join()

    def _watch(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("preprocessing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[failed]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=self.total, failed="")
            last = False
            while not last:
                last = self.stop.wait(0.5)
                states = {scan: self._state(scan) for scan in self.open}
                self.open = [scan for scan in self.open if states[scan] is None]
                self.failed += list(states.values()).count("failed")
                failed = f"{self.failed} failed" if self.failed else ""
                bar.update(task, completed=self.total - len(self.open), failed=failed)

    def _state(self, scan: Scan) -> str | None:
        path = self.options.work_dir / scan.prefix / "status.json"
        if not path.is_file():
            return None
        values = read_json(path)
        return "failed" if "reason" in values else ("done" if values.get("finished") else None)
