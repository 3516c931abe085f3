"""Fix weaknesses of nipype's MultiProc and batch scheduler plugins.

MultiProc: when a worker dies (out of memory), its tasks fail instead of blocking the run, and a new pool does the rest.
Later steps of a scan go first, so that one scan is finished before many are begun. Schedulers: a killed job fails alone
instead of ending the whole run, and a scheduler that does not answer is asked again. `close` ends the workers and
cancels the jobs.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np
from nipype.pipeline.plugins.multiproc import MultiProcPlugin

from brainage_bids.processes import end_workers, new_pool

LOG = logging.getLogger("brainage_bids")
DIED = "the worker process died"
CANCEL = {"SLURM": "scancel", "SGE": "qdel", "PBS": "qdel", "LSF": "bkill", "OAR": "oardel"}
CANCEL_S = 3.0  # a scheduler that does not answer must not hold up the end
# Refused jobs in a row before giving up: with none of our jobs queued or running, and with some.
REFUSALS, MANY_REFUSALS, LONGEST_WAIT_S = 8, 2000, 60.0


class SteadyPoolPlugin(MultiProcPlugin):
    """MultiProc that survives the death of a worker."""

    def __init__(self, plugin_args: dict[str, Any], preload: tuple[str, ...] = ()):
        # imported once in the fork server, so that workers start with the heavy libraries in memory
        get_context("forkserver").set_forkserver_preload(["__main__", *preload])
        super().__init__(plugin_args={**plugin_args, "mp_context": "forkserver"})
        self.pool = self._fresh_pool()  # nipype's own has started no worker yet

    def _fresh_pool(self) -> ProcessPoolExecutor:
        return new_pool(self.processors, os.getcwd())

    def _async_callback(self, args: Any) -> None:
        """Do nothing: results are read in `_get_result`, which notices dead workers."""

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        future = self._task_obj[taskid]
        if not future.done():
            return None
        error = future.exception()
        if error is None:
            return future.result()
        return {"result": None, "traceback": [f"{DIED}: {error}\n"], "taskid": taskid}

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        try:
            return super()._submit_job(node, updatehash)
        except BrokenProcessPool:
            self.pool.shutdown(wait=False)
            self.pool = self._fresh_pool()
            return super()._submit_job(node, updatehash)

    def _sort_jobs(self, jobids: Any, scheduler: str = "tsort") -> list[int]:
        """Put later steps of begun scans before the first steps of others."""
        return sorted(jobids, key=lambda job: (not self._waited[job], job))

    def _generate_dependency_list(self, graph: Any) -> None:
        super()._generate_dependency_list(graph)
        self._waited = np.asarray(self.refidx.sum(axis=0)).ravel() > 0

    def close(self) -> None:
        """End the workers, also in the middle of a task."""
        end_workers(self.pool)


def steady_scheduler(name: str, settings: dict[str, Any]) -> Any:
    """Return nipype's plugin for a batch scheduler (``SLURM``, ``SGE``, ``PBS``, ...), made to survive killed jobs."""
    base = getattr(importlib.import_module("nipype.pipeline.plugins"), f"{name}Plugin")

    class Steady(base):
        _refused = 0

        def _submit_batchtask(self, scriptfile: str, node: Any) -> int | None:
            try:
                taskid = super()._submit_batchtask(scriptfile, node)
            except RuntimeError as error:
                self._refused += 1
                if self._refused >= (MANY_REFUSALS if self.pending_tasks else REFUSALS):
                    raise
                lines = str(error).strip().splitlines()
                LOG.warning("%s refused a job (%s); trying again", name, lines[-1] if lines else "no reason given")
                time.sleep(min(2.0**self._refused, LONGEST_WAIT_S))  # there may be a limit on the number of jobs
                return None  # nipype keeps the job and asks again
            self._refused = 0
            return taskid

        def _is_pending(self, taskid: int) -> bool:
            try:
                return super()._is_pending(taskid)
            except RuntimeError as error:
                LOG.warning("%s did not answer for job %s (%s); asking again", name, taskid, str(error).splitlines()[0])
                return True

        def _get_result(self, taskid: int) -> dict[str, Any] | None:
            result = super()._get_result(taskid)
            if result and isinstance(result["traceback"], str):  # from a killed job; nipype itself would fail on it
                result["traceback"] = result["traceback"].splitlines(keepends=True)
            return result

        def close(self) -> None:
            """Cancel the jobs that are queued or running."""
            jobs = [str(taskid) for taskid in self._pending]
            if jobs and shutil.which(CANCEL[name]):
                subprocess.run([CANCEL[name], *jobs], capture_output=True, timeout=CANCEL_S, check=False)
                LOG.warning("%s: %d jobs are cancelled", name, len(jobs))

    return Steady(plugin_args=settings)
