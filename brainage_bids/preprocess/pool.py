"""nipype's MultiProc with three gaps closed: a killed worker, the order of work, and what a stop leaves behind.

Knows nothing of scans. A worker that dies (out of memory) makes its tasks fail instead of hanging the run, and a fresh
pool takes the rest; tasks further down their chain go first, so that one scan is finished before many are begun;
`close` ends the workers.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np
from nipype.pipeline.plugins.multiproc import MultiProcPlugin

DIED = "the worker process died"


class SteadyPoolPlugin(MultiProcPlugin):
    """MultiProc that survives the death of a worker."""

    def __init__(self, plugin_args: dict[str, Any], preload: tuple[str, ...] = ()):
        # imported once in the fork server, so that workers start with the heavy libraries in memory
        get_context("forkserver").set_forkserver_preload(["__main__", *preload])
        super().__init__(plugin_args={**plugin_args, "mp_context": "forkserver"})

    def _async_callback(self, args: Any) -> None:
        """Results are read in `_get_result`, where the death of a worker shows."""

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
            self.pool = type(self.pool)(max_workers=self.processors, mp_context=get_context("forkserver"))
            return super()._submit_job(node, updatehash)

    def _sort_jobs(self, jobids: Any, scheduler: str = "tsort") -> list[int]:
        """Tasks that waited for another task go before the first tasks of other chains."""
        waited = np.asarray(self.refidx.sum(axis=0)).ravel() > 0
        return sorted(jobids, key=lambda job: (not waited[job], job))

    def close(self) -> None:
        """End the workers, also in the middle of a task."""
        workers = list((getattr(self.pool, "_processes", None) or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
