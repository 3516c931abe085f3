"""Explain why no T1w image was found in BIDS_DIR, and what to do. Used only when none was found."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from brainage_bids.bids.faults import some
from brainage_bids.bids.find import Found
from brainage_bids.bids.text import mended

LOOKED = 300  # largest number of folders to open
_OTHER_FORMATS = (".mgz", ".mgh", ".img", ".hdr", ".mnc", ".nrrd", ".dcm", ".ima", ".par", ".v")
_LEVEL = {"sub": "a participant", "ses": "a session"}


def why_nothing(root: Path, found: Found) -> str:
    """Return one sentence: no T1w image is there, what is there instead, what to do."""
    for reason in (_unit1, _unreadable, _nearly_right, _of_a_level, _no_participants, _other_images):
        explanation = reason(root, found)
        if explanation:
            return f"{root} has no T1w image (sub-*/[ses-*/]anat/*_T1w.nii[.gz]): {mended(explanation)}"
    return f"{root} has no T1w image (sub-*/[ses-*/]anat/*_T1w.nii[.gz]); check BIDS_DIR"


def _unit1(root: Path, found: Found) -> str | None:
    if not found.unit1:
        return None
    people = len({image.participant_id for image in found.unit1})
    example = os.path.basename(found.unit1[0].path)
    count = f"{len(found.unit1)} UNIT1 images (MP2RAGE) of {people} participants ({example})"
    return f"it has {count}; add --t1w-suffix UNIT1"


def _unreadable(root: Path, found: Found) -> str | None:
    faults = [fault for fault in found.faults if fault.code == "FOLDER_UNREADABLE"]
    return f"{faults[0].file} {faults[0].message}{_more(len(faults))}" if faults else None


def _nearly_right(root: Path, found: Found) -> str | None:
    codes = ("IMAGE_NAME", "IMAGE_OUTSIDE_ANAT", "IMAGE_MISPLACED", "IMAGE_NOT_RAW")
    faults = [fault for fault in found.faults if fault.code in codes]
    return f"{faults[0].file} {faults[0].message}{_more(len(faults))}" if faults else None


def _more(count: int) -> str:
    return f" (and {count - 1} more such)" if count > 1 else ""


def _of_a_level(root: Path, found: Found) -> str | None:
    """BIDS_DIR is the folder of a participant, a session or images, not of the dataset."""
    if found.sessions or found.closed:
        return None
    names = [root.name, *(parent.name for parent in root.parents)]
    depth = next((k for k, name in enumerate(names[:3]) if re.fullmatch(r"sub-[0-9A-Za-z+]+", name)), None)
    if depth is None:
        if (root.parent / "dataset_description.json").is_file() and _entries(root.parent, folders=True, start="sub-"):
            return f"it lies in a dataset; give the folder above, {root.parent}, as BIDS_DIR"
        return None
    what = _LEVEL.get(root.name[:3], "images") if root.name[3:4] == "-" else "images"
    return f"it is the folder of {what}; give the folder of the whole dataset, {root.parents[depth]}, as BIDS_DIR"


def _no_participants(root: Path, found: Found) -> str | None:
    if found.sessions or found.closed:
        return None
    inside = _entries(root, folders=True)
    datasets = [name for name in inside[:LOOKED] if _is_dataset(root / name)]
    raw = [name for name in datasets if name.lower() not in ("derivatives", "sourcedata", "code")]
    if raw:
        folders = " or ".join(str(root / name) for name in raw[:3])  # full paths, ready to be used as BIDS_DIR
        return f"the dataset lies in a folder below: give {folders} as BIDS_DIR"
    unnamed = [name for name in inside if name.lower() not in _NOT_PEOPLE and _holds_a_person(root / name)]
    if unnamed:
        return f"its folders {some(unnamed, 3)} are not named like sub-01; rename them and their files"
    if datasets:
        return f"it holds only {some(datasets, 3)}; this program needs the raw dataset as BIDS_DIR"
    special = [name for name in inside if name.lower() in _NOT_PEOPLE]
    if special and len(special) == len(inside):
        return f"it holds only {some(special, 3)}; this program needs the raw dataset as BIDS_DIR"
    files = _entries(root, folders=False)
    if not inside and not files:
        return "it is empty; check the path (in a container: the bind mount)"
    formats = [name for name in files if name.lower().endswith((*_OTHER_FORMATS, ".nii", ".nii.gz"))]
    if formats:
        return f"{some(formats, 3)} lie in it without folders; sort them into sub-01/anat/sub-01_T1w.nii.gz"
    return f"it has no folder of a participant (sub-01), only {some([*inside, *files], 5)}; check BIDS_DIR"


_NOT_PEOPLE = ("derivatives", "sourcedata", "code", "stimuli", "phenotype", "models", "logs", "figures")


def _is_dataset(folder: Path) -> bool:
    return (folder / "dataset_description.json").is_file() or bool(_entries(folder, folders=True, start="sub-"))


def _holds_a_person(folder: Path) -> bool:
    """Return whether a folder without ``sub-`` holds anat or an image, itself or one level below."""
    below = _entries(folder, folders=True)
    if {"anat", "func", "dwi"} & {name.lower() for name in below} or any(name.startswith("ses-") for name in below):
        return True
    return any(name.lower().endswith((".nii", ".nii.gz", *_OTHER_FORMATS)) for name in _entries(folder, folders=False))


def _other_images(root: Path, found: Found) -> str | None:
    suffixes: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    for person in list(found.sessions)[:LOOKED]:
        for session in found.sessions[person]:
            folder = root.joinpath(*filter(None, [person, session]))
            for kind in _entries(folder, folders=True):
                for name in _entries(folder / kind, folders=False):
                    stem, _dot, ending = name.partition(".")
                    if ending in ("nii", "nii.gz"):
                        suffixes[f"{kind}/*_{stem.rpartition('_')[2]}"] += 1
                    elif f".{ending}".lower().endswith(_OTHER_FORMATS):
                        formats[f".{ending.rpartition('.')[2]}"] += 1
    elsewhere = [name.partition("/")[0] for name in suffixes if name.endswith("_T1w")]
    if elsewhere:
        return f"T1w images lie in folders called {some(elsewhere, 3)}; rename them to anat"
    if suffixes:
        listed = some((f"{name} ({count})" for name, count in suffixes.most_common()), 6)
        return f"its {len(found.sessions)} participants have {listed}; a T1w image is needed"
    if formats:
        return (
            f"its participants have {some(formats, 3)} files; convert the T1w images to NIfTI (dcm2niix, mri_convert)"
        )
    return f"the folders of its {len(found.sessions)} participants ({some(found.sessions, 3)}) hold no image"


def _entries(folder: Path, folders: bool, start: str = "") -> list[str]:
    """Return the sorted names of the folders (or files) in a folder, without hidden and unreadable ones."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.startswith(start):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a circular link
                    continue
                if is_folder == folders:
                    names.append(entry.name)
    except OSError:
        return []
    return sorted(names)
