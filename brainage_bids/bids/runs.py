"""Coordinate runs that share an output folder, so that no two work on the same scan at the same time.

While it is active, a run keeps two small files in the sub-folder ``.runs``: one describes the process, the other is its
heartbeat. For each thing that it works on (a scan, a training, the pages) it creates ``<thing>.claim`` exclusively,
which works on network file systems, where file locks do not. A claim is void when its run has ended on this machine, or
after `SILENT_S` seconds without heartbeat from another machine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from brainage_bids.bids.files import TEMPORARY, write_text
from brainage_bids.errors import CannotCreateError, InputOutputError, TryAgainError
from brainage_bids.stops import last_words

LOG = logging.getLogger("brainage_bids")
FOLDER, LOCK = ".runs", ".lock"
BEAT_S, SILENT_S = 20.0, 300.0
LOOK_S = 0.5  # seconds between checks whether another run has finished


@dataclass(frozen=True)
class Who:
    """One process: its machine (with container), process number, and time of its start."""

    machine: str
    pid: int
    born: str | None
    started: str

    @classmethod
    def me(cls) -> Who:
        """Return this process."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(_machine(), os.getpid(), _born(os.getpid()), now)

    @classmethod
    def read(cls, path: Path) -> Who | None:
        """Return the process described in a file; None when the file cannot be read."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def mine(self) -> bool:
        """Whether it is this process."""
        return self.here and self.pid == os.getpid()

    @property
    def here(self) -> bool:
        """Whether it runs on this machine and in this container."""
        return self.machine == _machine()

    @property
    def gone(self) -> bool:
        """Whether it ran here and has ended."""
        if not self.here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # of another user
            return False
        return _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"{self.machine.split('/')[0]}, process {self.pid}, started {self.started}"


def _machine() -> str:
    """Return a name for this machine since its last start, and this container: process numbers are unique in it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _born(pid: int) -> str | None:
    """Return the start time of a process, "" when it has ended, None when unknown (Linux); numbers are used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]


class Run:
    """The present run as other runs see it: a heartbeat in each folder that it uses, and its claims there."""

    def __init__(self) -> None:
        self.who = Who.me()
        self.id = f"{self.who.started.replace('-', '').replace(':', '')[:15]}-{self.who.pid}-{secrets.token_hex(3)}"
        self._folders: set[Path] = set()
        self._claims: set[Path] = set()
        self._over = threading.Event()

    def __enter__(self) -> Run:
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def enter(self, folder: Path) -> Path:
        """Write the files of this run into a folder; return the sub-folder of claims.

        Raises
        ------
        CannotCreateError
            When the files cannot be written.
        """
        place = folder / FOLDER
        if place in self._folders:
            return place
        self._folders.add(place)
        for left in reversed(range(5)):
            try:
                write_text(place / f"{self.id}.beat", "")
                write_text(place / f"{self.id}.json", json.dumps(asdict(self.who)))
                break
            except CannotCreateError:  # another run may just have removed the empty folder
                if not left:
                    raise
        return place

    def take(self, folder: Path, thing: str) -> Who | None:
        """Claim a thing; return None when this run has it now, else the process that has it.

        Raises
        ------
        InputOutputError
            When the claim cannot be written.
        """
        place = self.enter(folder)
        path = place / f"{thing}.claim"
        while True:
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                if path in self._claims:
                    return None
                if (holder := _holder(path)) is not None:
                    return holder
                _discard(folder, path)
                continue
            except FileNotFoundError:  # the folder was removed by hand
                self._folders.discard(place)
                self.enter(folder)
                continue
            except OSError as error:
                raise InputOutputError(
                    f"{path} cannot be written: {error.strerror}; check the permissions and the free space"
                ) from error
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.id)
            self._claims.add(path)
            return None

    def free(self, folder: Path, thing: str) -> None:
        """Release a thing for other runs."""
        path = folder / FOLDER / f"{thing}.claim"
        if path in self._claims:
            path.unlink(missing_ok=True)
            self._claims.discard(path)

    @contextlib.contextmanager
    def having(self, folder: Path, thing: str, what: str) -> Iterator[bool]:
        """Hold a thing during the block, waiting for other runs first; yield whether it had to wait."""
        waited = False
        while (other := self.take(folder, thing)) is not None:
            if not waited:
                LOG.info("another run (%s) works on %s; waiting for it", other, what)
                waited = True
            time.sleep(LOOK_S)
        try:
            yield waited
        finally:
            self.free(folder, thing)

    def leave(self, folder: Path) -> None:
        """Remove the claims and files of this run from a folder."""
        place = folder / FOLDER
        self._folders.discard(place)
        claims = {path for path in self._claims if path.parent == place}
        self._claims -= claims
        with contextlib.suppress(OSError):  # the folder is gone, or other runs still use it
            for path in (*claims, place / f"{self.id}.json", place / f"{self.id}.beat"):
                path.unlink(missing_ok=True)
            _forget_dead(place)
            place.rmdir()

    def end(self) -> None:
        """Leave every folder."""
        self._over.set()
        for place in list(self._folders):
            self.leave(place.parent)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            for place in list(self._folders):
                with contextlib.suppress(OSError):
                    os.utime(place / f"{self.id}.beat")


@contextlib.contextmanager
def running() -> Iterator[Run]:
    """Yield this run; at the end its files are removed from all folders."""
    with Run() as run, last_words(lambda stop: run.end()):
        yield run


def _holder(claim: Path) -> Who | None:
    """Return the process that holds a claim; None when it has ended."""
    try:
        run = claim.read_text(encoding="utf-8")
        age = time.time() - claim.stat().st_mtime
    except OSError:
        return None
    if not run:  # just created, or left empty by a run that was killed
        return Who("another machine", 0, None, "just now") if age < 2 * BEAT_S else None
    return _living(claim.parent, run)


def living_in(folder: Path, run: str) -> bool:
    """Return whether a run is active in a folder."""
    return _living(folder / FOLDER, run) is not None


def _living(place: Path, run: str) -> Who | None:
    """Return the process of a run; None when it has ended."""
    who = Who.read(place / f"{run}.json")
    if who is None or who.gone:
        return None
    if who.here:
        return who
    try:
        silent = time.time() - (place / f"{run}.beat").stat().st_mtime
    except OSError:
        return None
    return who if silent < SILENT_S else None


def is_run(name: str) -> bool:
    """Return whether a name has the form of a run's name."""
    return re.fullmatch(r"\d{8}T\d{6}-\d+-[0-9a-f]{6}", name) is not None


def sweep(folder: Path, places: Iterable[Path]) -> None:
    """Remove the files of killed runs from ``.runs`` of a folder, and their unfinished files from ``places``.

    Unfinished files are removed when they are older than every active run.
    """
    lives = folder / FOLDER
    begun = _forget_dead(lives)
    for path in lives.glob("*.claim"):
        if _holder(path) is None:
            _discard(folder, path)
    for place in places:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(TEMPORARY) and entry.stat().st_mtime < begun:
                    os.unlink(entry.path)


def _forget_dead(lives: Path) -> float:
    """Remove the files of runs that have ended; return the start of the oldest active run, or the present time."""
    begun = time.time()
    for path in lives.glob("*.json"):
        with contextlib.suppress(OSError):
            if _living(lives, path.stem):
                begun = min(begun, path.stat().st_mtime)
            else:
                path.unlink()
                path.with_suffix(".beat").unlink(missing_ok=True)
    return begun


def _discard(folder: Path, claim: Path) -> None:
    """Remove the claim of a run that has ended, unless another run has taken it over."""
    with locked(folder):
        if _holder(claim) is None:
            claim.unlink(missing_ok=True)


def claimed(folder: Path) -> dict[str, Who]:
    """Return the things claimed in a folder, each with the process that holds it."""
    held = {path.name.removesuffix(".claim"): _holder(path) for path in (folder / FOLDER).glob("*.claim")}
    return {thing: who for thing, who in held.items() if who is not None}


@contextlib.contextmanager
def locked(root: Path, patience: float = 60.0) -> Iterator[None]:
    """Lock a folder for some milliseconds, so that parallel runs do not lose each other's rows.

    The lock is a file created exclusively, which works on network file systems too. It is void when its process ended
    on this machine, or when it comes from another machine and is older than ``patience`` seconds.

    Raises
    ------
    TryAgainError
        When another run holds the lock for twice ``patience`` seconds.
    InputOutputError
        When the folder cannot be written to.
    """
    lock = root / LOCK
    deadline = time.monotonic() + 2 * patience
    while True:
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            _void(lock, patience)
            if time.monotonic() > deadline:
                raise TryAgainError(f"{lock} is held by another run; try again, or remove it if none runs") from None
            time.sleep(0.02)
        except OSError as error:
            raise InputOutputError(f"OUTPUT_DIR {root} cannot be written to: {error.strerror}") from error
        else:
            break
    try:
        with contextlib.suppress(OSError), os.fdopen(handle, "w", encoding="utf-8") as file:  # also valid when empty
            file.write(json.dumps(asdict(Who.me())))
        yield
    finally:
        lock.unlink(missing_ok=True)


def _void(lock: Path, patience: float) -> None:
    with contextlib.suppress(OSError):
        seen, who = lock.stat(), Who.read(lock)
        if who.gone if who and who.here else time.time() - seen.st_mtime > patience:
            aside = lock.with_name(f"{LOCK}-{secrets.token_hex(4)}")
            lock.rename(aside)
            if aside.stat().st_ino != seen.st_ino:  # it was a newer lock: put it back
                with contextlib.suppress(OSError):
                    os.link(aside, lock)
            aside.unlink()
