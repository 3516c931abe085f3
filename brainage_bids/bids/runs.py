"""The runs that share a folder: which of them live, and which of them works on what.

Every run leaves two small files in ``.runs`` of a folder while it lasts: who it is, and one that it touches again and
again. What it works on (a scan, a training, the pages) is a third kind, ``<thing>.claim``, created exclusively, which
works on network file systems where locks of files do not. A claim of a run that died here is void at once, one of
another machine after `SILENT_S` without a sign of life.
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
LOOK_S = 0.5  # how often a run looks whether another has finished


@dataclass(frozen=True)
class Who:
    """One process: its machine (also which of its containers), its number there, and when it began."""

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
        """Return who is described in a file; None where nobody is."""
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
        """Whether it ran where its number means something to us."""
        return self.machine == _machine()

    @property
    def gone(self) -> bool:
        """Whether it ran here and does not any more."""
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
    """Return what tells the process numbers of this machine, since it was started, and of this container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _born(pid: int) -> str | None:
    """Return what tells a process from a later one of the same number; "" for one that has ended (Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]


class Run:
    """A run as the others see it: a sign of life in each folder that it enters, and what it claims there."""

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
        """Show in a folder that this run is at work there; return where its claims lie."""
        place = folder / FOLDER
        if place in self._folders:
            return place
        self._folders.add(place)
        for left in reversed(range(5)):
            try:
                write_text(place / f"{self.id}.beat", "")
                write_text(place / f"{self.id}.json", json.dumps(asdict(self.who)))
                break
            except CannotCreateError:  # another run that ended has removed the empty folder that very moment
                if not left:
                    raise
        return place

    def take(self, folder: Path, thing: str) -> Who | None:
        """Claim a thing; return None when it is ours now, else who has it."""
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
        """Give a thing free for other runs."""
        path = folder / FOLDER / f"{thing}.claim"
        if path in self._claims:
            path.unlink(missing_ok=True)
            self._claims.discard(path)

    @contextlib.contextmanager
    def having(self, folder: Path, thing: str, what: str) -> Iterator[bool]:
        """Hold a thing while the block runs; yield whether another run had it before."""
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
        """Take back every claim and sign of life in a folder."""
        place = folder / FOLDER
        self._folders.discard(place)
        claims = {path for path in self._claims if path.parent == place}
        self._claims -= claims
        with contextlib.suppress(OSError):  # gone with the folder; or another run is at work
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
    """Yield this run; nothing of it is left in any folder at the end."""
    with Run() as run, last_words(lambda stop: run.end()):
        yield run


def _holder(claim: Path) -> Who | None:
    """Return the living run that holds a claim; None where there is none."""
    try:
        run = claim.read_text(encoding="utf-8")
        age = time.time() - claim.stat().st_mtime
    except OSError:
        return None
    if not run:  # just made, or left empty by a run that was killed that very moment
        return Who("another machine", 0, None, "just now") if age < 2 * BEAT_S else None
    return _living(claim.parent, run)


def living_in(folder: Path, run: str) -> bool:
    """Say whether a run lives and shows itself in a folder."""
    return _living(folder / FOLDER, run) is not None


def _living(place: Path, run: str) -> Who | None:
    """Return who a run is if it lives."""
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
    """Say whether a name is that of a run."""
    return re.fullmatch(r"\d{8}T\d{6}-\d+-[0-9a-f]{6}", name) is not None


def sweep(folder: Path, places: Iterable[Path]) -> None:
    """Remove what runs that were killed left in ``.runs`` of a folder, and their half-written files in ``places``.

    A half-written file older than every living run is nobody's.
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
    """Remove the signs of life of runs that are dead; return when the first of the others began, now without any."""
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
    """Remove the claim of a dead run, unless another has taken it over by now."""
    with locked(folder):
        if _holder(claim) is None:
            claim.unlink(missing_ok=True)


def claimed(folder: Path) -> dict[str, Who]:
    """Return what living runs hold in a folder, and who."""
    held = {path.name.removesuffix(".claim"): _holder(path) for path in (folder / FOLDER).glob("*.claim")}
    return {thing: who for thing, who in held.items() if who is not None}


@contextlib.contextmanager
def locked(root: Path, patience: float = 60.0) -> Iterator[None]:
    """Hold the lock of a folder for some milliseconds, so that parallel runs lose none of each other's rows.

    A file created exclusively works on network file systems too. One of a process that died here is void; one of
    another machine that is older than ``patience`` seconds was left by a killed run.
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
        with contextlib.suppress(OSError), os.fdopen(handle, "w", encoding="utf-8") as file:  # it holds without a word
            file.write(json.dumps(asdict(Who.me())))
        yield
    finally:
        lock.unlink(missing_ok=True)


def _void(lock: Path, patience: float) -> None:
    """Remove a lock whose holder is gone."""
    with contextlib.suppress(OSError):
        seen, who = lock.stat(), Who.read(lock)
        if who.gone if who and who.here else time.time() - seen.st_mtime > patience:
            aside = lock.with_name(f"{LOCK}-{secrets.token_hex(4)}")
            lock.rename(aside)
            if aside.stat().st_ino != seen.st_ino:  # a fresh one came between: put it back
                with contextlib.suppress(OSError):
                    os.link(aside, lock)
            aside.unlink()
