"""Find the T1-weighted images of a BIDS dataset and keep those the user asked for.

Reads folders and file names only, no image, table or sidecar. A plain directory scan: indexing layouts take tens of
seconds on large datasets and stop at one broken sidecar.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainage_bids.bids.faults import Fault, make_fault
from brainage_bids.bids.files import read_json
from brainage_bids.bids.ignore import read_bidsignore
from brainage_bids.bids.parse import label, natural_key
from brainage_bids.bids.text import not_fetched
from brainage_bids.errors import BadDataError, NoInputError, UsageError

# Order of the entities in a BIDS file name, with the long names used by filter files.
ENTITIES = {
    "task": "task", "tracksys": "tracksys", "acq": "acquisition", "ce": "ceagent", "trc": "tracer",
    "stain": "staining", "rec": "reconstruction", "dir": "direction", "run": "run", "mod": "modality", "echo": "echo",
    "flip": "flip", "inv": "inversion", "mt": "mtransfer", "part": "part", "proc": "processing", "space": "space",
    "split": "split", "recording": "recording", "chunk": "chunk", "res": "resolution", "den": "density",
    "label": "label", "desc": "description",
}  # fmt: skip
_ORDER = {key: position for position, key in enumerate(ENTITIES)}
_NAME = re.compile(r"(sub-[0-9A-Za-z+]+)(?:_(ses-[0-9A-Za-z+]+))?((?:_[a-z]+-[0-9A-Za-z+]+)*)_T1w\.nii(?:\.gz)?")


@dataclass(frozen=True)
class Image:
    """One T1w file: absolute path, labels with prefixes, and the other entities in BIDS order."""

    path: str
    participant_id: str
    session_id: str | None
    entities: tuple[tuple[str, str], ...]

    @property
    def sort_key(self) -> tuple:
        """Participant, session, entities; numbers in their numeric order."""
        rest = tuple((key, natural_key(value)) for key, value in self.entities)
        return natural_key(self.participant_id), natural_key(self.session_id), rest


@dataclass(frozen=True)
class Found:
    """What a scan of the folders gives: images, the sessions of every participant folder, and faults.

    ``is_ignored`` tells what ``.bidsignore`` names.
    """

    images: tuple[Image, ...]
    sessions: Mapping[str, tuple[str | None, ...]]
    faults: tuple[Fault, ...]
    is_ignored: Callable[[str], bool] = lambda _: False


def find_images(bids_dir: str | Path) -> Found:
    """Find every ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` of a dataset.

    Derivatives, ``sourcedata`` and ``code`` are not looked into. Empty images and broken links are kept and reported.

    Raises
    ------
    NoInputError
        When ``bids_dir`` is not a folder.
    """
    root = Path(os.path.abspath(bids_dir))
    if not root.is_dir():
        raise NoInputError(f"BIDS_DIR {bids_dir} is not a folder; check the path")
    images: dict[tuple, Image] = {}
    sessions: dict[str, tuple[str | None, ...]] = {}
    faults: list[Fault] = []
    is_ignored, ignored = read_bidsignore(root, faults), []
    for subject in _folders(root, "sub-", root, faults):
        if is_ignored(f"{subject.name}/"):
            ignored.append(subject.name)
            continue
        inside = _folders(subject, "ses-", root, faults)
        sessions[subject.name] = tuple(sorted((s.name for s in inside), key=natural_key)) or (None,)
        for folder, session in [(subject, None), *((s, s.name) for s in inside)]:
            for entry in _anat_entries(folder / "anat", root, faults):
                if is_ignored(file := entry.path[len(str(root)) + 1 :]):
                    ignored.append(file)
                    continue
                image = _read_name(entry, subject.name, session, root, faults)
                if image is not None:
                    _keep(image, images, root, faults)
                    if session is None and inside and sessions[subject.name][0] is not None:
                        sessions[subject.name] = (None, *sessions[subject.name])  # scans beside those of sessions
    faults += [make_fault("IMAGE_IGNORED", name, "is named in .bidsignore and is left out") for name in ignored]
    return Found(tuple(sorted(images.values(), key=lambda i: i.sort_key)), sessions, tuple(faults), is_ignored)


def _folders(parent: Path, prefix: str, root: Path, faults: list[Fault]) -> list[Path]:
    """Return the sub-folders whose name begins with ``prefix``, in natural order."""
    try:
        with os.scandir(parent) as entries:
            names = [e.name for e in entries if e.name.startswith(prefix) and e.is_dir()]
    except OSError as error:
        faults.append(_unreadable(parent, root, error))
        return []
    return [parent / name for name in sorted(names, key=natural_key)]


def _anat_entries(anat: Path, root: Path, faults: list[Fault]) -> list[os.DirEntry]:
    try:
        with os.scandir(anat) as entries:
            return sorted((e for e in entries if e.name.endswith(("_T1w.nii", "_T1w.nii.gz"))), key=lambda e: e.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(_unreadable(anat, root, error))
        return []


def _unreadable(folder: Path, root: Path, error: OSError) -> Fault:
    where = folder.relative_to(root).as_posix()
    return make_fault("FOLDER_UNREADABLE", where, f"cannot be read ({error.strerror}); check its permissions")


def label_and_entities(name: str) -> tuple[str, str | None, tuple[tuple[str, str], ...]] | None:
    """Return participant, session and the other entities of a T1w file name as written; None when it is not BIDS."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    pairs = tuple(tuple(part.split("-", 1)) for part in match[3].split("_")[1:])
    keys = {key for key, _ in pairs}
    return (match[1], match[2], pairs) if len(keys) == len(pairs) and keys <= set(ENTITIES) else None


def _read_name(
    entry: os.DirEntry, participant: str, session: str | None, root: Path, faults: list[Fault]
) -> Image | None:
    file = entry.path[len(str(root)) + 1 :]  # a string: paths of thousands of scans would take seconds
    labels = label_and_entities(entry.name)
    if labels is None:
        faults.append(make_fault("IMAGE_NAME", file, "is not a BIDS file name; rename it if it is to be used"))
        return None
    pairs = labels[2]
    if labels[:2] != (participant, session):
        message = (
            f"lies in {participant}{'/' + session if session else ''} but is named after another; move or rename it"
        )
        faults.append(make_fault("IMAGE_MISPLACED", file, message))
        return None
    entities = dict(pairs)
    if "space" in entities:
        message = (
            f"lies in space-{entities['space']}; it is ignored: a normalised image has lost brain size and atrophy, "
            "which brain age reads; give the native scan"
        )
        faults.append(make_fault("IMAGE_NORMALISED", file, message))
        return None
    if {"desc", "res", "den", "label"} & set(entities) or entities.get("part", "mag") != "mag":
        faults.append(make_fault("IMAGE_NOT_RAW", file, "is not a raw magnitude image; it is ignored"))
        return None
    faults.extend(_content_faults(entry, file))
    ordered = tuple(sorted(pairs, key=lambda pair: _ORDER[pair[0]]))
    return Image(entry.path, participant, session, ordered)


def _content_faults(entry: os.DirEntry, file: str) -> list[Fault]:
    if reason := not_fetched(entry.path):
        return [make_fault("IMAGE_NOT_FETCHED", file, reason)]
    if entry.stat().st_size == 0:
        return [make_fault("IMAGE_EMPTY", file, "has 0 bytes; fetch it again or exclude the participant")]
    return []


def _keep(image: Image, images: dict[tuple, Image], root: Path, faults: list[Fault]) -> None:
    key = (image.participant_id, image.session_id, image.entities)
    if key in images:
        file = Path(image.path).relative_to(root).as_posix()
        message = f"is the same scan as {Path(images[key].path).name}, which is used; remove one of the two"
        faults.append(make_fault("IMAGE_DUPLICATE", file, message))
    else:
        images[key] = image


# --- labels ---------------------------------------------------------------------------------------------------------


def read_labels(entries: Iterable[str], prefix: str, known: Iterable[str], option: str) -> tuple[str, ...]:
    """Return the labels an option asks for, with their prefix, each of them known.

    Parameters
    ----------
    entries
        Labels with or without prefix, several in one entry when separated by commas or blanks, or text files of labels.
    prefix
        ``sub`` or ``ses``.
    known
        Labels of the dataset.
    option
        Name of the option, for the message.

    Raises
    ------
    UsageError
        When a label is not in the dataset; the message names the nearest ones.
    NoInputError
        When an entry looks like a file that is not there.
    """
    known = tuple(dict.fromkeys(known))
    asked = [label(word, prefix) for entry in entries for word in _words(str(entry), prefix, option)]
    asked = list(dict.fromkeys(text for text in asked if text))
    unknown = [text for text in asked if text not in known]
    if unknown:
        told = "; ".join(_nearest(text, known) for text in unknown[:5])
        more = f"; and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise UsageError(f"{option}: not in the dataset: {told}{more}")
    return tuple(asked)


def _is_file(entry: str) -> bool:
    try:
        return Path(entry).is_file()
    except (OSError, ValueError):  # a list of labels longer than a file name may be
        return False


def _words(entry: str, prefix: str, option: str) -> list[str]:
    bare = re.fullmatch(r"[0-9A-Za-z+\-, ]*", entry)
    if _is_file(entry):
        lines = Path(entry).read_text(encoding="utf-8-sig").splitlines()
        words = [re.split(r"[\t,; ]", line.strip())[0] for line in lines if not line.lstrip().startswith("#")]
        header = {"participant_id": "sub", "session_id": "ses"}
        return [word for word in words if word and header.get(word) != prefix]
    if not bare and ("/" in entry or "\\" in entry or "." in entry):
        raise NoInputError(f"{option}: {entry!r} is neither a label nor a file that is there; check the path")
    return [word for word in re.split(r"[,\s]+", entry) if word]


def _nearest(text: str, known: Sequence[str]) -> str:
    if not known:
        return f"{text} (the dataset has none)"
    numbers = [k for k in known if natural_key(k.lower()) == natural_key(text.lower())]
    padded = [k for k in known if re.sub(r"0+(?=\d)", "", k.lower()) == re.sub(r"0+(?=\d)", "", text.lower())]
    near = list(dict.fromkeys([*numbers, *padded, *difflib.get_close_matches(text, known, n=3, cutoff=0.5)]))
    return f"{text} (nearest: {', '.join(near[:3] or sorted(known, key=natural_key)[:3])})"


# --- filter file ----------------------------------------------------------------------------------------------------

_LONG = {long: short for short, long in ENTITIES.items()} | {"subject": "sub", "session": "ses"}
_INDICES = frozenset({"run", "echo", "flip", "inv", "split", "chunk"})  # numbers: run-01 is run 1
_FIXED = {"datatype": "anat", "suffix": "T1w"}


def read_filter(path: str | Path) -> dict[str, Any]:
    """Read the ``t1w`` query of a ``--bids-filter-file`` (JSON, as in fMRIPrep).

    A value is one value, a list of which one must match, null (``Query.NONE``: the entity is absent) or ``"*"``
    (``Query.ANY``: it is present).

    Raises
    ------
    NoInputError
        When the file is not there.
    UsageError
        When it is not a JSON object of queries, or names an unknown entity.
    """
    if not Path(path).is_file():
        raise NoInputError(f"--bids-filter-file {path} is not there; check the path")
    try:
        queries = read_json(path)
    except BadDataError as error:
        raise UsageError(f"--bids-filter-file: {error}") from error
    query = queries.get("t1w", {}) if isinstance(queries, dict) else None
    if not isinstance(query, dict):
        raise UsageError(f'--bids-filter-file {path} must look like {{"t1w": {{"acquisition": "mprage"}}}}')
    allowed = {*_LONG, *ENTITIES, *_FIXED, "sub", "ses", "extension", "regex_search"}
    unknown = sorted(set(query) - allowed)
    if unknown:
        raise UsageError(
            f"--bids-filter-file {path}: unknown entity {unknown[0]!r} in t1w; use {', '.join(sorted(_LONG))}"
        )
    return query


def matches_filter(image: Image, query: Mapping[str, Any]) -> bool:
    """Say whether an image answers the ``t1w`` query of a filter file."""
    has = dict(image.entities) | {"sub": image.participant_id[4:]}
    if image.session_id:
        has["ses"] = image.session_id[4:]
    has |= {**_FIXED, "extension": ".nii.gz" if image.path.endswith(".gz") else ".nii"}
    regex = bool(query.get("regex_search"))
    for key, wanted in query.items():
        if key == "regex_search":
            continue
        choices = wanted if isinstance(wanted, list) else [wanted]
        short = _LONG.get(key, key)
        if choices and not any(_matches_value(short, has.get(short), choice, regex) for choice in choices):
            return False
    return True


def _matches_value(key: str, value: str | None, wanted: Any, regex: bool) -> bool:
    if wanted is None or str(wanted) == "Query.NONE":
        return value is None
    if str(wanted) == "Query.OPTIONAL":
        return True
    if wanted == "*" or str(wanted) == "Query.ANY":
        return value is not None
    if value is None:
        return False
    text = str(wanted)
    if regex:
        return re.search(text, value) is not None
    text = re.sub(r"^(sub|ses)-", "", text)
    return value == text or (key in _INDICES and value.isdigit() and text.isdigit() and int(value) == int(text))
