"""Two kinds of nipype nodes: one calls a function on one scan, the other runs a program.

Both write their progress and the reason of a failure into the scan's ``status.json``, like the builtin engine.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from nipype import Node
from nipype.interfaces.base import BaseInterface, CommandLine, DynamicTraitedSpec
from nipype.interfaces.io import add_traits
from nipype.pipeline.engine.nodes import NodeExecutionError

from brainage_bids import stops
from brainage_bids.errors import BadDataError
from brainage_bids.preprocess.job import LEAST_GB, Job
from brainage_bids.stops import Stopped

# nipype would report every node on the terminal, also from the workers
for _name in ("nipype.workflow", "nipype.utils", "nipype.interface", "nipype.filemanip"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

LONGEST_REASON = 300


class Step(BaseInterface):
    """Call ``run(job, **inputs)``, a module-level function, and pass on the values it returns by name.

    Parameters
    ----------
    job
        The scan.
    name
        The step's name in ``status.json``; None when the function writes it itself.
    run
        Returns a mapping with the names of ``outputs``, or None.
    inputs, outputs
        Names; all inputs must be connected.
    """

    input_spec = DynamicTraitedSpec
    output_spec = DynamicTraitedSpec

    def __init__(
        self, job: Job, name: str | None, run: Callable, inputs: Sequence[str] = (), outputs: Sequence[str] = ()
    ):
        super().__init__()
        self._job, self._name, self._run = job, name, run
        self._input_names, self._output_names = list(inputs), list(outputs)
        self._made: dict[str, Any] = {}
        self.stopped: BaseException | None = None
        add_traits(self.inputs, self._input_names)

    def _run_interface(self, runtime: Any) -> Any:
        values = {name: getattr(self.inputs, name) for name in self._input_names}
        try:
            with contextlib.nullcontext() if self._name is None else self._job.step(self._name):
                self._made = self._run(self._job, **values) or {}
        except (KeyboardInterrupt, SystemExit, Stopped) as error:
            self.stopped = error
            raise
        return runtime

    def _outputs(self) -> Any:
        return add_traits(super()._outputs(), self._output_names)

    def _list_outputs(self) -> dict[str, Any]:
        return self._made


class ScanNode(Node):
    """A node that knows its scan, so that its files can be removed when the scan is finished or has failed.

    ``mem_gb`` is the memory for a scan of 1 mm; for finer scans it is raised in proportion.
    """

    def __init__(self, job: Job, interface: Any, name: str, mem_gb: float = LEAST_GB, **settings: Any):
        super().__init__(interface, name=name, mem_gb=mem_gb * job.memory_gb / LEAST_GB, **settings)
        self.job = job

    def run(self, updatehash: bool = False) -> Any:
        """Run the node; raise the end of the whole run as such, which nipype would report as a failed scan."""
        try:
            return super().run(updatehash)
        except Exception:
            stops.check()
            if getattr(self.interface, "stopped", None) is not None:
                raise self.interface.stopped from None
            raise


class ToolNode(ScanNode):
    """A node that runs one program; its state, and one sentence on a failure, go to ``status.json``.

    The crash file of nipype has the command line, its output and the traceback.
    """

    def __init__(self, job: Job, interface: CommandLine, name: str, step: str, **settings: Any):
        interface.terminal_output = "allatonce"  # collected for the crash file, not shown
        super().__init__(job, interface, name, **settings)
        self.step = step

    def run(self, updatehash: bool = False) -> Any:
        """Run the program.

        Raises
        ------
        BadDataError
            When it is missing, ends with an error or does not write its output.
        """
        with self.job.step(self.step):
            try:
                return super().run(updatehash)
            except NodeExecutionError as error:
                raise BadDataError(_reason(self.interface.cmd, self.result.runtime)) from error


def _reason(program: str, runtime: Any) -> str:
    """Return in one sentence why a program failed: its exit code and its last line of output."""
    code = getattr(runtime, "returncode", None)
    if not code:  # it did not start, or ended without error but without result; nipype's last line says which
        return f"{program}: {_last_line(runtime.traceback)}; the crash file has its full output"
    last_line = _last_line(runtime.stderr) or _last_line(runtime.stdout) or "no output"
    return f"{program} ended with exit code {code}: {last_line}; the crash file has its full output"


def _last_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:LONGEST_REASON] if lines else ""
