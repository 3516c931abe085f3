"""One bad (or odd) input and what the program promises to do with it.

How to add a case: write a :class:`Case` into the ``CASES`` of the ``cases_TOPIC.py`` that fits (or into a new module of
that name; it is found by itself). The key is its name, unique over all modules. Say in ``what`` the shape of the fault,
give the smallest input that has it, and promise what a person sees::

    "unit_in_description": Case(
        "no Units, but the description says months",
        rows=("participant_id|age", "sub-01|84"),
        files={"participants.json": {"age": {"Description": "age in months"}}},
        scans=("sub-01",),
        ages={"sub-01": 7},
        silent=("error",),
    ),

The command runs in this process. A traceback, exit 70, a line of more than `LONGEST` characters and a participant who
is neither planned nor named always fail, whatever a case says. Only the plan is made (``--dry-run``) unless the case
says otherwise: nothing here may take a second.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from commandline import exit_code

from brainage_bids.errors import BrainageError

IMAGE = b"\x1f\x8b" + b"\0" * 2000  # looks fetched; a plan opens no image
DESCRIPTION = {"Name": "case", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
LONGEST = 800  # characters of a line that a person reads
NARROWS = ("label", "filter", "session-id", "t1w-suffix")  # options after which fewer participants are right
OURS = 70  # the exit code of our own mistakes


@dataclass(frozen=True)
class Case:
    """An input, and the promised outcome.

    Parameters
    ----------
    what
        The shape of the fault, one line.
    rows
        ``participants.tsv``: lines whose cells are separated by ``|`` here and by tabs in the file; empty: no file.
    files
        Path below BIDS_DIR (``../`` beside it) -> text (written as UTF-8), bytes, or what is written as JSON.
    scans
        ``sub-01_ses-1`` for a T1w image of some bytes; with a dot it is the whole file name.
    links
        Path below BIDS_DIR -> target.
    make
        Called last with BIDS_DIR, for what the fields above cannot say.
    args
        Options; ``{ds}``, ``{out}`` and ``{beside}`` are BIDS_DIR, OUTPUT_DIR and the folder that holds both.
    level
        ``participant``, ``group``, or ``tools``: then ``args`` are the whole command line of ``brainage-tools``.
    call
        Called with BIDS_DIR in place of the command line, for a door whose command would take long (an image is read);
        its result is printed, its `BrainageError` ends as on the command line.
    dry_run
        Add ``--dry-run`` (both levels).
    description
        Write ``dataset_description.json`` (when ``files`` does not).
    rc
        Exit code.
    ages
        Scan -> years (to 0.02), or None: planned without an age. A scan that is not planned is a fault.
    says, silent
        Regular expressions over all that is printed, case ignored; what must and must not be there.
    planned
        Number of scans in the plan.
    max_lines
        Lines of stderr at most.
    """

    what: str
    rows: tuple[str, ...] = ()
    files: Mapping[str, object] = field(default_factory=dict)
    scans: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    make: Callable[[Path], object] | None = None
    args: tuple[str, ...] = ()
    level: str = "participant"
    call: Callable[[Path], object] | None = None
    dry_run: bool = True
    description: bool = True
    rc: int = 0
    ages: Mapping[str, float | None] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    planned: int | None = None
    max_lines: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    rc: int
    out: str
    err: str

    @property
    def plan(self) -> dict[str, float | None]:
        """The planned scans and their ages."""
        cells = [line.split("\t") for line in self.out.splitlines()]
        numbers = {row[0]: re.match(r"-?[\d.]+", row[1]) for row in cells if row[0].startswith("sub-") and len(row) > 3}
        return {scan: float(number[0]) if number else None for scan, number in numbers.items()}


def build(case: Case, root: Path) -> None:
    """Write the input into ``root``, which is not there yet."""
    root.mkdir(parents=True)
    files = dict(case.files)
    if case.description:
        files.setdefault("dataset_description.json", DESCRIPTION)
    if case.rows:
        files["participants.tsv"] = "\n".join(row.replace("|", "\t") for row in case.rows) + "\n"
    for stem in case.scans:
        parts = stem.split(".")[0].split("_")
        folder = "/".join([parts[0], *(part for part in parts[1:2] if part.startswith("ses-")), "anat"])
        files.setdefault(f"{folder}/{stem if '.' in stem else stem + '_T1w.nii.gz'}", IMAGE)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for link, target in case.links.items():
        path = root / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    if case.make is not None:
        case.make(root)


def run(case: Case, root: Path, capfd) -> Ended:
    """Run the case's command in this process and leave the process as it was."""
    capfd.readouterr()
    rc = _called(case, root) if case.call else _commanded(case, root)
    out, err = capfd.readouterr()
    return Ended(rc, out, err)


def _called(case: Case, root: Path) -> int:
    try:
        print(case.call(root))
    except BrainageError as error:
        print(f"brainage-bids: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _commanded(case: Case, root: Path) -> int:
    places = {"{ds}": str(root), "{out}": str(root.parent / "out"), "{beside}": str(root.parent)}
    words = [] if case.level == "tools" else ["{ds}", "{out}", case.level, *(["--dry-run"] if case.dry_run else [])]
    words = [re.sub(r"\{(ds|out|beside)\}", lambda found: places[found[0]], word) for word in (*words, *case.args)]
    return exit_code("brainage-tools" if case.level == "tools" else "brainage-bids", *words)


def faults(case: Case, ended: Ended, root: Path) -> list[str]:
    """Return where the outcome falls short of what is promised."""
    text, plan, bad = ended.out + ended.err, ended.plan, []
    if ended.rc != case.rc or ended.rc == OURS:
        bad.append(f"exit {ended.rc}, not {case.rc}")
    if "Traceback" in text:
        bad.append("traceback")
    bad += [f"a line of {len(line)} characters" for line in ended.err.splitlines() if len(line) > LONGEST]
    if case.planned is not None and len(plan) != case.planned:
        bad.append(f"{len(plan)} scans planned, not {case.planned}")
    for scan, age in case.ages.items():
        got = plan.get(scan, "not planned")
        if got != age and (isinstance(got, str) or None in (got, age) or abs(got - age) > 0.02):
            bad.append(f"{scan}: age {got}, not {age}")
    bad += [f"does not say /{words}/" for words in case.says if not re.search(words, text, re.I | re.S)]
    bad += [f"says /{words}/" for words in case.silent if re.search(words, text, re.I | re.S)]
    if case.max_lines is not None and len(ended.err.splitlines()) > case.max_lines:
        bad.append(f"{len(ended.err.splitlines())} lines of stderr")
    return bad + lost(case, ended, root)


def lost(case: Case, ended: Ended, root: Path) -> list[str]:
    """Return the participants with a folder who are neither planned nor named, nor counted in what is printed."""
    if not ended.plan or any(word in arg for arg in case.args if arg.startswith("--") for word in NARROWS):
        return []
    text, planned = ended.out + ended.err, {scan.split("_")[0] for scan in ended.plan}
    people = {path.name for path in root.glob("sub-*") if path.is_dir() or path.is_symlink()}
    missing = sorted(name for name in people - planned if not re.search(rf"{re.escape(name)}(?![0-9A-Za-z])", text))
    counted = re.search(rf"(?<!\d){len(people - planned)}(?!\d)", ended.err)
    return [] if counted and len(missing) > 3 else [f"{name} is lost without a word" for name in missing]
