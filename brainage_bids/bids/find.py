"""Find the T1-weighted images of a BIDS dataset.

Reads folders and file names only, no image, table or sidecar. pybids is not used: its index takes tens of seconds on
large datasets and stops at one broken sidecar. A fault in one participant's folder affects only that participant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.faults import Fault, make_fault
from brainage_bids.bids.ignore import read_bidsignore
from brainage_bids.bids.parse import natural_key
from brainage_bids.bids.text import mended, not_fetched
from brainage_bids.errors import NoInputError

# Order of the entities in a BIDS file name; with the long names.
ENTITIES = {
    "task": "task", "tracksys": "tracksys", "acq": "acquisition", "ce": "ceagent", "trc": "tracer",
    "stain": "staining", "rec": "reconstruction", "dir": "direction", "run": "run", "mod": "modality", "echo": "echo",
    "flip": "flip", "inv": "inversion", "mt": "mtransfer", "part": "part", "proc": "processing", "space": "space",
    "split": "split", "recording": "recording", "chunk": "chunk", "res": "resolution", "den": "density",
    "label": "label", "desc": "description",
}  # fmt: skip
_ORDER = {key: position for position, key in enumerate(ENTITIES)}
T1W, UNIT1 = "T1w", "UNIT1"  # UNIT1 is the uniform image of MP2RAGE
_LABEL = re.compile(r"(?:sub|ses)-[0-9A-Za-z+]+")
_NAME = re.compile(
    r"(sub-[0-9A-Za-z+]+)(?:_(ses-[0-9A-Za-z+]+))?((?:_[a-z]+-[0-9A-Za-z+]+)*)_(T1w|UNIT1)\.nii(?:\.gz)?"
)
# probably meant to be a T1w image: t1w, T1W, T1w.img, T1w.nii.gz.gz, T1w (1).nii.gz, T1w_defaced.nii.gz
_NEARLY = re.compile(
    r"(?:.*_)?T1w(?:[^0-9A-Za-z-][^-]*)?\.(?:nii|img|mgz|mgh|mnc|nrrd|gz|bz2|xz|zst|zip|7z)", re.IGNORECASE
)
_NEARLY_FOLDER = re.compile(r"sub[-_ ]?[0-9A-Za-z]", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """One image file: absolute path, labels with prefixes, and the other entities in BIDS order.

    ``suffix`` is ``T1w`` or ``UNIT1``; ``second_inversion`` is the path of the INV2 image that belongs to a UNIT1.
    """

    path: str
    participant_id: str
    session_id: str | None
    entities: tuple[tuple[str, str], ...]
    suffix: str = T1W
    second_inversion: str | None = None

    @property
    def sort_key(self) -> tuple:
        """Participant, session, entities; numbers in their numeric order."""
        rest = tuple((key, natural_key(value)) for key, value in self.entities)
        return natural_key(self.participant_id), natural_key(self.session_id), rest


@dataclass(frozen=True)
class Found:
    """The result of searching the folders.

    Parameters
    ----------
    images
        T1w images, sorted.
    sessions
        Participants whose folder can be read, each with its sessions; None means no session.
    faults
        What is wrong.
    unit1
        UNIT1 images (MP2RAGE), sorted.
    closed
        Participants whose folder cannot be read.
    is_ignored
        Returns whether ``.bidsignore`` names a path below BIDS_DIR (a folder ends in ``/``).
    """

    images: tuple[Image, ...]
    sessions: Mapping[str, tuple[str | None, ...]]
    faults: tuple[Fault, ...]
    unit1: tuple[Image, ...] = ()
    closed: tuple[str, ...] = ()
    is_ignored: Callable[[str], bool] = lambda _: False


def find_images(bids_dir: str | Path) -> Found:
    """Find every ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` and ``*_UNIT1.nii[.gz]`` of a dataset.

    Derivatives, ``sourcedata`` and ``code`` are not searched. Empty images and broken links are kept and reported.

    Raises
    ------
    NoInputError
        When ``bids_dir`` is not a folder, or cannot be read.
    """
    root = Path(os.path.abspath(bids_dir))
    if not root.is_dir():
        raise NoInputError(f"BIDS_DIR {bids_dir} is not a folder; check the path")
    search = _Search(root)
    try:
        subjects = search.folders(root, "sub-")
    except OSError as error:
        raise NoInputError(f"BIDS_DIR {bids_dir} cannot be read ({error.strerror}); check its permissions") from error
    for subject in subjects:
        if search.ignored(subject, "/"):
            continue
        try:
            inside = search.folders(subject, "ses-")
        except OSError as error:
            search.unreadable(subject, error.strerror)
            search.closed.append(subject.name)
            continue
        sessions = tuple(sorted((s.name for s in inside), key=natural_key)) or (None,)
        for folder, session in [(subject, None), *((s, s.name) for s in inside)]:
            seen = search.anat(folder, subject.name, session)
            if seen and session is None and inside:
                sessions = (None, *sessions)  # scans outside of session folders
        search.sessions[subject.name] = sessions
    images = sorted(search.images, key=lambda image: image.sort_key)
    t1w, unit1 = ([image for image in images if image.suffix == suffix] for suffix in (T1W, UNIT1))
    return Found(
        tuple(t1w), search.sessions, tuple(search.faults), tuple(unit1), tuple(search.closed), search.is_ignored
    )


class _Search:
    """A search of the folders, with what was found so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[Image] = []
        self.sessions: dict[str, tuple[str | None, ...]] = {}
        self.faults: list[Fault] = []
        self.closed: list[str] = []
        self.is_ignored = read_bidsignore(root, self.faults)

    def below(self, path: str | Path) -> str:
        """Return a path relative to BIDS_DIR; cuts the text, as `os.path.relpath` takes seconds for thousands."""
        return os.fspath(path)[len(os.path.join(self.root, "")) :].replace(os.sep, "/")

    def fault(self, code: str, file: str | Path, message: str) -> None:
        """Add a fault of a file or folder."""
        self.faults.append(make_fault(code, mended(self.below(file)), mended(message)))

    def ignored(self, path: str | Path, ending: str = "") -> bool:
        """Return whether ``.bidsignore`` names a file or folder; add a fault if so."""
        if not self.is_ignored(self.below(path) + ending):
            return False
        self.fault("IMAGE_IGNORED", path, "is named in .bidsignore and is left out")
        return True

    def unreadable(self, folder: Path, reason: str) -> None:
        """Add a fault for a folder that cannot be read."""
        self.fault("FOLDER_UNREADABLE", folder, f"cannot be read ({reason}); check its permissions and links")

    def folders(self, parent: Path, prefix: str) -> list[Path]:
        """Return the sub-folders with a BIDS label, in natural order; add faults for names that are nearly one."""
        names = []
        with os.scandir(parent) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name.startswith(prefix) and _LABEL.fullmatch(entry.name):
                    self._labelled(entry, names)
                elif entry.name.startswith(prefix) or (prefix == "sub-" and _NEARLY_FOLDER.match(entry.name)):
                    if _is_folder(entry):
                        what = "a participant, sub-01" if prefix == "sub-" else "a session, ses-01"
                        self.fault("FOLDER_NAME", entry.path, f"is not named as {what}; rename it if it is to be used")
                elif prefix == "ses-" or parent != self.root:
                    self._beside(entry)
        return [parent / name for name in sorted(names, key=natural_key)]

    def _labelled(self, entry: os.DirEntry, names: list[str]) -> None:
        """Add a folder to the names; add a fault for a broken or circular link, and for a file in its place."""
        try:
            if entry.is_dir():
                names.append(entry.name)
                return
            reason = "a broken link" if entry.is_symlink() else "a file where a folder is expected"
        except OSError as error:
            reason = error.strerror
        self.unreadable(Path(entry.path), reason)
        if entry.name.startswith("sub-") and entry.is_symlink():
            self.closed.append(entry.name)

    def _beside(self, entry: os.DirEntry) -> None:
        if entry.name.endswith(("_T1w.nii", "_T1w.nii.gz")) and not entry.name.startswith("."):
            self.fault("IMAGE_OUTSIDE_ANAT", entry.path, "is not in a folder anat; move it there if it is to be used")

    def anat(self, folder: Path, participant: str, session: str | None) -> bool:
        """Search the folder ``anat`` of a participant or session; return whether it holds a T1w image."""
        anat = folder / "anat"
        try:
            with os.scandir(anat) as entries:
                listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except FileNotFoundError:
            if anat.is_symlink():
                self.unreadable(anat, "a broken link")
            elif session is not None:
                self._instead_of_anat(folder)
            return False
        except OSError as error:
            self.unreadable(anat, error.strerror)
            return False
        names = {entry.name for entry in listed}
        before = len(self.images)
        for entry in listed:
            if entry.name.endswith(("_T1w.nii", "_T1w.nii.gz", "_UNIT1.nii", "_UNIT1.nii.gz")):
                if self.ignored(entry.path):
                    continue
                image = self._image(entry, participant, session, names)
                if image is not None:
                    self.images.append(image)
            elif _NEARLY.fullmatch(entry.name):
                message = "is nearly a T1w image, whose name ends in _T1w.nii or _T1w.nii.gz; rename or convert it"
                self.fault("IMAGE_NAME", entry.path, message)
        return any(image.suffix == T1W for image in self.images[before:])

    def _instead_of_anat(self, folder: Path) -> None:
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda e: e.name):
                    self._beside(entry)
        except OSError as error:
            self.unreadable(folder, error.strerror)

    def _image(self, entry: os.DirEntry, participant: str, session: str | None, names: set[str]) -> Image | None:
        parsed = _parsed(entry.name)
        if parsed is None:
            self.fault("IMAGE_NAME", entry.path, "is not a BIDS file name; rename it if it is to be used")
            return None
        pairs, suffix = parsed[2], parsed[3]
        entities = dict(pairs)
        code, message = _not_used(entry, parsed[:2] == (participant, session), entities)
        if code:
            self.fault(code, entry.path, message)
            return None
        if reason := not_fetched(entry.path):
            self.fault("IMAGE_NOT_FETCHED", entry.path, reason)
        elif _size(entry) is None:
            self.unreadable(Path(entry.path).parent, "its files cannot be read")
            return None
        elif _size(entry) == 0:
            self.fault("IMAGE_EMPTY", entry.path, "has 0 bytes; fetch it again or exclude the participant")
        ordered = tuple(sorted(pairs, key=lambda pair: _ORDER[pair[0]]))
        second = _second_inversion(entry.name, names) if suffix == UNIT1 else None
        second = second and os.path.join(os.path.dirname(entry.path), second)
        return Image(entry.path, participant, session, ordered, suffix, second)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return True


def _size(entry: os.DirEntry) -> int | None:
    """Return the size of a file in bytes; None in a folder that may be listed but not entered."""
    try:
        return entry.stat().st_size
    except OSError:
        return None


def _not_used(entry: os.DirEntry, at_home: bool, entities: Mapping[str, str]) -> tuple[str, str]:
    """Return why an image with a BIDS name is not used: code and message, both empty when it is used."""
    if not at_home:
        return "IMAGE_MISPLACED", "is named after another participant or session than its folder; move or rename it"
    if "space" in entities:
        return "IMAGE_NORMALISED", (
            f"lies in space-{entities['space']}; it is ignored: normalisation removes brain size and atrophy, on "
            "which brain age depends; give the native scan"
        )
    if {"desc", "res", "den", "label"} & set(entities) or entities.get("part", "mag") != "mag":
        return "IMAGE_NOT_RAW", "is not a raw magnitude image; it is ignored"
    try:
        regular = entry.is_file() or (entry.is_symlink() and not entry.is_dir())
    except OSError:
        regular = True  # a circular link: reported as not fetched
    return ("", "") if regular else ("IMAGE_NAME", "is a folder or a device, not a file; it is ignored")


def _second_inversion(name: str, names: set[str]) -> str | None:
    """Return the name of the magnitude INV2 image that belongs to a UNIT1; None when there is none."""
    stem, ending = re.fullmatch(r"(.*)_UNIT1(\.nii(?:\.gz)?)", name).groups()
    endings = (ending, ".nii.gz", ".nii")
    tried = (f"{stem}_inv-2{part}_MP2RAGE{end}" for part in ("_part-mag", "") for end in endings)
    return next((candidate for candidate in tried if candidate in names), None)


def label_and_entities(name: str) -> tuple[str, str | None, tuple[tuple[str, str], ...]] | None:
    """Return participant, session and the other entities of a T1w file name as written; None for other names."""
    parsed = _parsed(name)
    return parsed[:3] if parsed and parsed[3] == T1W else None


def _parsed(name: str) -> tuple[str, str | None, tuple[tuple[str, str], ...], str] | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    pairs = tuple(tuple(part.split("-", 1)) for part in match[3].split("_")[1:])
    keys = {key for key, _ in pairs}
    known = len(keys) == len(pairs) and keys <= set(ENTITIES)
    return (match[1], match[2], pairs, match[4]) if known else None


def without_repeats(images: Iterable[Image]) -> tuple[list[Image], list[Fault]]:
    """Return the images, each scan once (the first of ``.nii`` and ``.nii.gz``), and faults for those left out."""
    unique: dict[tuple, Image] = {}
    faults = []
    for image in images:
        key = (image.participant_id, image.session_id, image.entities, image.suffix)
        if key in unique:
            message = "is the same scan as the .nii beside it, which is used; remove one of the two"
            parts = [image.participant_id, image.session_id, "anat", os.path.basename(image.path)]
            file = "/".join(filter(None, parts))
            faults.append(make_fault("IMAGE_DUPLICATE", file, message))
        else:
            unique[key] = image
    return list(unique.values()), faults
