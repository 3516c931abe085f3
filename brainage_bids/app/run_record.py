"""The record of one run: its options, what happened to every scan, and its messages.

It is written to ``logs/<run_id>/run.json``. The group level reads it to tell why a participant is missing.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from brainage_bids import __version__
from brainage_bids.bids.files import not_written, read_json, write_json
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.runs import Run
from brainage_bids.bids.shareable import Places
from brainage_bids.errors import BadDataError, BrainageError, ParticipantsFailed, exit_code
from brainage_bids.schema import Scan
from brainage_bids.stops import Stopped, last_words

LOG = logging.getLogger("brainage_bids")
PACKAGES = "numpy scipy pandas nibabel nilearn nipype SimpleITK deepbet torch statsmodels matplotlib".split()
PAGES = "pages"  # what a run claims while it reads results and writes pages from them
FEW = 5  # failed scans with the same reason that are shown one by one
_NAMES = re.compile(r"\S*sub-\S+|\d+")  # parts that may differ between two equal reasons: paths, labels, numbers


@dataclass
class RunRecord:
    """Collects what happens in a run; ``save`` writes it. Each step of the run gets the same record."""

    outputs: Outputs
    level: str
    command: str
    settings: dict
    bids_dir: Path | None = None
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    events: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # all faults of the dataset
    failure_counts: dict[tuple[str, str], int] = field(default_factory=dict)  # by step, and reason without names
    run: Run = field(default_factory=Run)

    @property
    def folder(self) -> Path:
        """``logs/<run_id>``: sorts by time; unique even if containers start together with the same process id."""
        return self.outputs.run_log(self.run.id)

    def note(self, text: str) -> None:
        """Show a message to the user and record it."""
        LOG.info("%s", text)
        self.notes.append(text)

    def event(self, scan: Scan, step: str, status: str, reason: str | None = None) -> None:
        """Record the result of a step for a scan; ``status`` is ``done``, ``skipped``, ``failed`` or ``stopped``.

        ``stopped`` means that the run was stopped during this scan: nothing is wrong with the scan.
        """
        self.events.append(
            {
                "participant_id": scan.participant_id,
                "session_id": scan.session_id,
                "prefix": scan.prefix,
                "step": step,
                "status": status,
                "reason": None if reason is None else self.places.text(str(reason)),
            }
        )
        if status == "failed":
            self._show_failure(scan.prefix, step, str(reason))

    def _show_failure(self, prefix: str, step: str, reason: str) -> None:
        """Show that a scan failed. Of many with the same reason only the first few are shown; all are in the log."""
        kind = step, _NAMES.sub("", reason)
        count = self.failure_counts[kind] = self.failure_counts.get(kind, 0) + 1
        LOG.log(logging.WARNING if count <= FEW else logging.DEBUG, "%s failed at %s: %s", prefix, step, reason)
        if count == FEW + 1:
            LOG.warning("more scans that fail so are counted at the end and listed in %s", self.folder / "run.json")

    @property
    def places(self) -> Places:
        """Shortens paths in texts that may be shared: OUTPUT_DIR and BIDS_DIR instead of absolute paths."""
        return Places(self.outputs.root, self.bids_dir)

    @property
    def failures(self) -> list[dict]:
        """The events that failed."""
        return [event for event in self.events if event["status"] == "failed"]

    def save(self, exit_code: int) -> Path:
        """Write ``run.json``."""
        return write_json(
            self.folder / "run.json",
            {
                "Version": __version__,
                "Level": self.level,
                "Command": self.command,
                "Started": self.started,
                "Finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "ExitCode": exit_code,
                "Settings": self.settings,
                "Software": software(),
                "Faults": self.faults,
                "Notes": self.notes,
                "Events": self.events,
            },
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Write the log while the block runs, and the record when it ends in any way. Other runs see this one."""
        with self.run, last_words(lambda stop: self.run.end()):
            self.run.enter(self.outputs.root)
            handler = _LogFile(_made(self.folder) / "brainage.log", encoding="utf-8", errors="backslashreplace")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            LOG.addHandler(handler)
            try:
                with last_words(self._stopped):
                    yield
                    self.save(ParticipantsFailed.exit_code if self.failures else 0)
            except (Exception, KeyboardInterrupt) as error:
                self._note_end(f"stopped: {error if isinstance(error, BrainageError) else repr(error)}")
                with contextlib.suppress(BrainageError, OSError):  # a second error would hide the first
                    self.save(exit_code(error))
                raise
            finally:
                LOG.removeHandler(handler)
                handler.close()

    def _stopped(self, stop: Stopped) -> None:
        self._note_end(str(stop))
        self.save(stop.exit_code)

    def _note_end(self, text: str) -> None:
        """Record why the run ends; the command line shows it."""
        LOG.debug("%s", text)
        self.notes.append(text)


class _LogFile(logging.FileHandler):
    """A log file that ignores a full disk: its messages are on the terminal too."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Continue without this line."""


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(folder, error) from error
    return folder


def software() -> dict[str, str]:
    """Return the versions of the software that the results depend on."""
    versions = {"brainage-bids": __version__, "python": platform.python_version(), "platform": sys.platform}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def last_events(outputs: Outputs) -> dict[str, dict]:
    """Return, per scan prefix, the newest event of all participant runs in OUTPUT_DIR."""
    newest: dict[str, dict] = {}
    places = Places(outputs.root)  # earlier versions recorded absolute paths
    for path in sorted((outputs.root / "logs").glob("*/run.json")):
        try:
            record = read_json(path)
        except BadDataError:
            continue  # half written, because the machine crashed
        newest.update(_by_prefix(record.get("Events", [])))
    for event in newest.values():
        if event.get("reason"):
            event["reason"] = places.text(str(event["reason"]))
    return newest


def _by_prefix(events: Iterable[dict]) -> dict[str, dict]:
    worst: dict[str, dict] = {}
    for event in events:
        if worst.get(event["prefix"], {}).get("status") != "failed":
            worst[event["prefix"]] = event
    return worst
