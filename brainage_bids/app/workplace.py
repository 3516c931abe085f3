"""The work directory of a run: where it may be, which folders in it are ours, and emptying only these.

A work directory is often a scratch folder that also contains other things. A run writes into two folders of it,
``preprocess`` and ``train``, and puts a marker file into each. A folder of that name without the marker is not ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from brainage_bids.bids.derivative import RESULTS
from brainage_bids.bids.files import write_text
from brainage_bids.bids.runs import FOLDER, claimed, is_run, living_in
from brainage_bids.errors import UsageError

FOLDERS = ("preprocess", "train")
MARKER = ".brainage-bids"
_MARKER_TEXT = "brainage-bids made this folder and may empty it (--clean-workdir).\n"
_OF_TRAINING = re.compile(r".*\.pt|chunks\.json|volumes-.*\.npy|\.tmp-.*")  # files of versions without a marker
_OF_SCANS = re.compile(r"crash|nipype.*|\..*")


def check_work_dir(work: Path, output_dir: Path, bids_dir: Path) -> None:
    """Raise when a folder must not be used as work directory. Creates nothing.

    Raises
    ------
    UsageError
        When it is in the dataset or among the results, would contain them, or has a folder that is not ours.
    """
    work, output, bids = (Path(os.path.realpath(path)) for path in (work, output_dir, bids_dir))
    way_out = "give another folder with --work-dir"
    if work.exists() and not work.is_dir():
        raise UsageError(f"the work directory {work} is a file; {way_out}")
    if work.is_relative_to(bids) and not work.is_relative_to(output):
        inside = work.relative_to(bids).parts
        if not inside or inside[0] != "derivatives" or any(part.startswith("sub-") for part in inside):
            what = "is BIDS_DIR" if not inside else f"lies in BIDS_DIR {bids}"
            raise UsageError(f"the work directory {work} {what}, where only data belong; {way_out}")
    if work.is_relative_to(output) and work != output:
        first = work.relative_to(output).parts[0]
        if first != "work" and RESULTS.fullmatch(first):
            raise UsageError(f"the work directory {work} lies among the results in {output / first}; {way_out}")
    for folder in map(work.joinpath, FOLDERS):
        for held in (bids, output):
            if held.is_relative_to(folder):
                raise UsageError(f"the work directory {work} has {held} in its folder {folder.name}; {way_out}")
        if os.path.lexists(folder) and not is_ours(folder):
            raise UsageError(
                f"the work directory {work} has a {folder.name} that brainage-bids did not make; {way_out}, for "
                "instance a new one"
            )


def is_ours(folder: Path) -> bool:
    """Return whether a run made this folder of a work directory; False for a link."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    inside = list(folder.iterdir())
    return not inside or (folder / MARKER).is_file() or all(map(_left_by_a_run, inside))


def _left_by_a_run(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    if _OF_SCANS.fullmatch(path.name):
        return True
    names = os.listdir(path)
    return is_run(path.name) or "status.json" in names or all(map(_OF_TRAINING.fullmatch, names))


@contextlib.contextmanager
def work_in(work: Path, output_dir: Path, clean: bool) -> Iterator[None]:
    """Mark the folders of a run as ours while the block runs, then remove those that are empty.

    Parameters
    ----------
    work
        The work directory, checked by `check_work_dir`.
    output_dir
        An empty work directory inside OUTPUT_DIR is removed; an existing one elsewhere is kept.
    clean
        Empty the folders first.
    """
    made = not work.exists()
    for folder in map(work.joinpath, FOLDERS):
        if clean and folder.is_dir() and is_ours(folder):
            _empty(folder)
        write_text(folder / MARKER, _MARKER_TEXT)
    try:
        yield
    finally:
        for folder in map(work.joinpath, FOLDERS):
            _remove_if_empty(folder)
        if made or work.is_relative_to(output_dir):
            with contextlib.suppress(OSError):  # not empty
                work.rmdir()


def _empty(folder: Path) -> None:
    """Remove the content of a folder of ours, except what other runs are using."""
    busy = claimed(folder)
    for path in folder.iterdir():
        if path.name == FOLDER or path.name in busy or living_in(folder, path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that contains nothing but the marker."""
    with contextlib.suppress(OSError):
        if os.listdir(folder) != [MARKER]:
            return
        (folder / MARKER).unlink()
        try:
            folder.rmdir()
        except OSError:  # another run has begun to use it
            write_text(folder / MARKER, _MARKER_TEXT)
