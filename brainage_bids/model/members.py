"""Train the members of a model one after the other or side by side; the result is the same.

On the CPU every member of a K-fold model trains on one thread: small networks gain nothing from more, and the weights
then do not depend on how many members run at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.managers import SyncManager
from pathlib import Path

import torch

from brainage_bids.devices import pick_device
from brainage_bids.errors import TryAgainError
from brainage_bids.model.checkpoint import load_checkpoint, save_checkpoint
from brainage_bids.model.loop import train_member
from brainage_bids.model.member import Member, silent
from brainage_bids.model.options import ModelOptions
from brainage_bids.model.settings import set_threads
from brainage_bids.model.world import ALONE, World, joined, world_from_environment
from brainage_bids.processes import begin_worker, worker_pool

LOG = logging.getLogger("brainage_bids")
Result = tuple[dict, list[dict]]  # weights, history


def train_members(
    members: Sequence[Member], work_dir: Path, workers: int, report: Callable[[dict], None], world: World = ALONE
) -> dict[str, Result]:
    """Return weights and history of every member; a finished one is read from its file, the others are trained.

    Parameters
    ----------
    members
        What to train.
    work_dir
        Where finished members lie, ``<name>.pt``.
    workers
        Members trained at the same time; more than one only on the CPU, and by one process only.
    report
        Takes each row of the history.
    world
        The processes that train each member together; this one leads. Afterwards the others are let go.
    """
    todo = []
    for member in members:
        before = load_checkpoint(_file(work_dir, member), member.fingerprint)
        if before is None:
            todo.append(member)
            continue
        LOG.info("member %s is already trained", member.name)
        for row in before["history"]:
            report(row)
    with _said_memory():
        if workers > 1 and len(todo) > 1 and world.size == 1 and todo[0].device(world).type == "cpu":
            _side_by_side(todo, work_dir, min(workers, len(todo)), report)
        else:
            for member in todo:
                world.tell(dataclasses.replace(member, report=silent))
                _train(dataclasses.replace(member, report=report), _file(work_dir, member), world)
    world.tell(None)
    done = {member.name: load_checkpoint(_file(work_dir, member), member.fingerprint) for member in members}
    return {name: (values["model"], values["history"]) for name, values in done.items()}


@contextlib.contextmanager
def _said_memory() -> Iterator[None]:
    """Say what to do where the memory did not suffice, on the card or on the machine."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch on the CPU has no error of its own for it; most other errors of torch are RuntimeErrors too
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError, BrokenProcessPool))
        if not known and "allocate memory" not in str(error):
            raise
        raise TryAgainError(
            f"the training ran out of memory, or a process of it was killed ({error}); run again with a smaller "
            "--chunk-size, with --activation-checkpointing, or on the CPU with fewer --nprocs; finished epochs are kept"
        ) from error


@contextlib.contextmanager
def taken_part(options: ModelOptions) -> Iterator[World]:
    """Join the processes of ``torchrun``: the leading one goes on at once, the others first help it to train."""
    world = world_from_environment()
    with joined(world, pick_device(options.device, world.local_rank)):
        if not world.leads:
            LOG.setLevel(logging.ERROR)
            while (member := world.tell()) is not None:
                set_threads(member.settings.threads)
                train_member(member, world)
        yield world


def _side_by_side(members: Sequence[Member], work_dir: Path, workers: int, report: Callable[[dict], None]) -> None:
    manager = SyncManager(ctx=get_context("forkserver"))
    manager.start(begin_worker)  # it too ends with the run
    with manager, worker_pool(workers) as pool:
        rows = manager.Queue()
        jobs = [
            pool.submit(_train, dataclasses.replace(member, report=rows.put), _file(work_dir, member))
            for member in members
        ]
        while not (all(job.done() for job in jobs) and rows.empty()):
            _pass_on(rows, report)
            for job in jobs:
                if job.done():
                    job.result()  # one failure ends all; their finished epochs are kept
        for job in jobs:
            job.result()


def _pass_on(rows: queue.Queue, report: Callable[[dict], None]) -> None:
    try:
        report(rows.get(timeout=0.2))
    except queue.Empty:
        return


def _train(member: Member, finished: Path, world: World = ALONE) -> None:
    set_threads(member.settings.threads)
    state, history = train_member(member, world)
    save_checkpoint(finished, {"fingerprint": member.fingerprint, "model": state, "history": history})


def _file(work_dir: Path, member: Member) -> Path:
    return work_dir / f"{member.name}.pt"
