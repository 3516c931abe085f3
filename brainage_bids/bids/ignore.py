"""Read ``.bidsignore``: the files and folders to leave out, by the rules of ``.gitignore``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pathspec import GitIgnoreSpec

from brainage_bids.bids.faults import WARNING, Fault, make_fault
from brainage_bids.bids.text import Unreadable, read_text, split_lines
from brainage_bids.errors import shorten

FILE = ".bidsignore"


def read_bidsignore(root: Path, faults: list[Fault]) -> Callable[[str], bool]:
    """Return a function that says whether a path below BIDS_DIR is ignored (a folder ends in ``/``)."""
    try:
        lines = split_lines(read_text(root / FILE))
    except FileNotFoundError:
        return _nothing
    except (Unreadable, OSError) as error:
        reason = error.reason if isinstance(error, Unreadable) else f"cannot be read ({error.strerror})"
        faults.append(make_fault("TABLE_UNREADABLE", FILE, f"{reason}; nothing is ignored", severity=WARNING))
        return _nothing
    patterns = []
    for number, line in enumerate(lines, start=1):
        try:
            GitIgnoreSpec.from_lines([line])
            patterns.append(line)
        except ValueError:
            message = f"{shorten(line)!r} is not a valid pattern; this line is not used"
            faults.append(make_fault("TABLE_UNREADABLE", FILE, message, number, WARNING))
    return GitIgnoreSpec.from_lines(patterns).match_file


def _nothing(_: str) -> bool:
    return False
