"""A progress bar that follows the state files of the jobs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

from brainage_bids.preprocess.job import Job


@contextlib.contextmanager
def progress(jobs: Sequence[Job], show: bool) -> Iterator[None]:
    """Show how many scans are finished and how many failed while the block runs."""
    if not show:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(list(jobs), stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(unfinished: list[Job], stop: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total, failed = len(unfinished), 0
    columns = (
        TextColumn("preprocessing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, failed="")
        last = False
        while not last:
            last = stop.wait(1.0)
            states = [(job, job.status) for job in unfinished]
            failed += sum("reason" in status for _, status in states)
            unfinished = [job for job, status in states if "reason" not in status and not status.get("finished")]
            bar.update(task, completed=total - len(unfinished), failed=f"{failed} failed" if failed else "")
