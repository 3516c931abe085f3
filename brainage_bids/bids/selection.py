"""Select the participants and images that the options ask for; explain an empty selection."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.absent import why_nothing
from brainage_bids.bids.choice import entities_of, is_part
from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.find import T1W, UNIT1, Found, Image, without_repeats
from brainage_bids.bids.labels import read_labels
from brainage_bids.errors import InvalidDatasetError, NothingSelectedError, UsageError


@dataclass(frozen=True)
class Wanted:
    """What the options ask for, as in `read.DatasetQuery`; images outside of ``database_dir`` are left out."""

    participant_label: tuple[str, ...] = ()
    exclude_participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    filter_file: Path | None = None
    database_dir: Path | None = None
    t1w_suffix: str = T1W

    @property
    def narrows(self) -> tuple[str, ...]:
        """Names of the given options that leave images out."""
        options = {
            "--participant-label": self.participant_label,
            "--exclude-participant-label": self.exclude_participant_label,
            "--session-label": self.session_label,
            "--bids-filter-file": self.filter_file,
            "--bids-database-dir": self.database_dir,
        }
        return tuple(name for name, value in options.items() if value)


@dataclass(frozen=True)
class Selection:
    """The selected participants and images, in order, and the faults that concern them."""

    participants: tuple[str, ...]
    images: tuple[Image, ...]
    faults: tuple[Fault, ...]


def select(root: Path, wanted: Wanted, found: Found) -> Selection:
    """Select participants and images of a dataset by the options.

    Raises
    ------
    UsageError
        When a label is not in the dataset, or an option cannot be understood.
    NothingSelectedError
        When no image is left.
    InvalidDatasetError
        When the dataset holds normalised images only.
    """
    if wanted.t1w_suffix not in (T1W, UNIT1):
        raise UsageError(f"--t1w-suffix {wanted.t1w_suffix!r} is not known; use {T1W} or {UNIT1}")
    people = _participants(wanted, found)
    faults: list[Fault] = []
    by_label = _by_label(wanted, found, set(people))
    images = _by_query(root, wanted, by_label, found, faults) if wanted.filter_file or wanted.database_dir else by_label
    if not (wanted.filter_file or wanted.database_dir) and wanted.t1w_suffix == T1W:
        images = [image for image in images if image.suffix == T1W]
    images, repeats = without_repeats(_t1w_first(images))
    if not images:
        _refuse(root, wanted, found, people, by_label)
    faults += [*_faults_of(found, set(people), images), *repeats, *_unit1(found, people, images), *_parts(images)]
    return Selection(people, tuple(images), tuple(faults))


def _participants(wanted: Wanted, found: Found) -> tuple[str, ...]:
    known = (*found.sessions, *found.closed)
    include = read_labels(wanted.participant_label, "sub", known, "--participant-label")
    option = "--exclude-participant-label"
    exclude = set(read_labels(wanted.exclude_participant_label, "sub", known, option, may_be_empty=True))
    chosen = set(include or known) - exclude
    return tuple(participant for participant in known if participant in chosen)


def _by_label(wanted: Wanted, found: Found, people: set[str]) -> list[Image]:
    known = dict.fromkeys(session for sessions in found.sessions.values() for session in sessions if session)
    asked = set(read_labels(wanted.session_label, "ses", known, "--session-label"))
    every = sorted([*found.images, *found.unit1], key=lambda image: image.sort_key)
    return [image for image in every if image.participant_id in people and (not asked or image.session_id in asked)]


def _by_query(root: Path, wanted: Wanted, images: Sequence[Image], found: Found, faults: list[Fault]) -> list[Image]:
    """Return the images that pybids selects; add a fault for images that are not in the database."""
    from brainage_bids.bids.query import read_filter, select_paths

    query = read_filter(wanted.filter_file) if wanted.filter_file else {}
    suffixes = [T1W, UNIT1] if wanted.t1w_suffix == UNIT1 else [T1W]
    closed = [fault.file for fault in found.faults if fault.code == "FOLDER_UNREADABLE"]
    answer = select_paths(root, query, wanted.database_dir, suffixes, closed)
    paths = [_below(image.path, root) for image in images]
    unknown = [path for path, image in zip(paths, images, strict=True)
               if path not in answer.indexed and image.suffix in suffixes]  # fmt: skip
    if unknown and wanted.database_dir:
        message = (
            f"{len(unknown)} T1w images are not in the database of --bids-database-dir and are left out: "
            f"{some(unknown)}; create the database again, or leave the option out"
        )
        faults.append(make_fault("DATABASE_OLD", "sub-*", message))
    return [image for path, image in zip(paths, images, strict=True) if path in answer.selected]


def _below(path: str, root: Path) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _t1w_first(images: Iterable[Image]) -> list[Image]:
    """Leave out the UNIT1 images of people who have a T1w image, so that the sessions of a person are comparable."""
    images = list(images)
    with_t1w = {image.participant_id for image in images if image.suffix == T1W}
    return [image for image in images if image.suffix == T1W or image.participant_id not in with_t1w]


def _refuse(root: Path, wanted: Wanted, found: Found, people: Sequence[str], by_label: Sequence[Image]) -> None:
    normalised = [fault for fault in found.faults if fault.code == "IMAGE_NORMALISED"]
    if not found.images and normalised:
        fault = f"{normalised[0].file} {normalised[0].message}"
        raise InvalidDatasetError(f"{root} has no native T1w image: {fault}")
    if not found.images:
        raise NothingSelectedError(why_nothing(root, found))
    count = f"{len(found.images)} T1w images of {len({image.participant_id for image in found.images})} participants"
    if not people:
        why = "no participant is left"
    elif not any(image.suffix == T1W for image in by_label):
        why = f"{some(people, 3)} {'has' if len(people) == 1 else 'have'} none in what the labels select"
    else:
        why = f"pybids selects none of {len(by_label)} images (it takes labels without sub- and ses-)"
    options = " and ".join(wanted.narrows)
    raise NothingSelectedError(
        f"the filters select no T1w image of {root} (it has {count}): {why}; check {options or 'the labels'}"
    )


def _faults_of(found: Found, people: set[str], images: Sequence[Image]) -> list[Fault]:
    """Return the faults of the selected participants; those of UNIT1 images only when such images are used."""
    uses_unit1 = any(image.suffix == UNIT1 for image in images)
    result = []
    for fault in found.faults:
        top = fault.file.split("/")[0]
        concerns = top in people or (top not in found.sessions and top not in found.closed)
        if concerns and (uses_unit1 or f"_{UNIT1}.nii" not in fault.file):
            result.append(fault)
    return result


def _unit1(found: Found, people: Sequence[str], images: Sequence[Image]) -> list[Fault]:
    used = {image.participant_id for image in images}
    with_t1w = {image.participant_id for image in found.images}
    has = dict.fromkeys(image.participant_id for image in found.unit1)
    without = [person for person in people if person in has and person not in used and person not in with_t1w]
    if not without:
        return []
    message = f"{len(without)} participants have no T1w image but UNIT1 (MP2RAGE): {some(without)}"
    return [make_fault("IMAGE_UNIT1", "sub-*", f"{message}; --t1w-suffix UNIT1 takes it")]


def _parts(images: Sequence[Image]) -> list[Fault]:
    """Return faults for images of a part of the brain, and for scans with several echoes."""
    faults = []
    stems = [(image, "_".join(f"{key}-{value}" for key, value in image.entities)) for image in images]
    parts = [image for image, run in stems if is_part(run)]
    if parts:
        names = some(os.path.basename(image.path) for image in parts)
        message = f"{len(parts)} images are named as a part of the brain (chunk-, a localizer or slab): {names}"
        faults.append(make_fault("IMAGE_PART", "sub-*", f"{message}; another image represents the person, if any"))
    echoes: dict[tuple, list[str]] = {}
    for image, run in stems:
        entities = entities_of(run)
        if "echo" in entities:
            rest = tuple(sorted((key, value) for key, value in entities.items() if key != "echo"))
            echoes.setdefault((image.participant_id, image.session_id, rest), []).append(os.path.basename(image.path))
    several = [names for names in echoes.values() if len(names) > 1]
    if several:
        message = (
            f"{len(several)} scans have several echoes, each predicted on its own; in the statistics the first stands "
            f"for the person ({some((names[0] for names in several), 3)}) unless an image without echo- is there"
        )
        faults.append(make_fault("IMAGE_ECHOES", "sub-*", message))
    return faults
