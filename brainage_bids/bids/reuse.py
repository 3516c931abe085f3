"""Find the images that another pipeline (fMRIPrep, sMRIPrep, ...) made from the scans, or say why there are none.

Reads folders, file names and one description per dataset, no image. The matching rule is in ``docs/reuse.md``.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.files import read_json
from brainage_bids.bids.find import Image, label_and_entities
from brainage_bids.bids.text import NotFetched
from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten
from brainage_bids.schema import Prepared, Scan

NORMALISED = (
    "nonlinear normalisation removes brain size and atrophy, on which brain age depends; a native image is needed"
)


@dataclass(frozen=True)
class Derivative:
    """A dataset made by another pipeline: its name on the command line and its folder."""

    name: str
    root: Path


@dataclass(frozen=True)
class _Native:
    """A native ``desc-preproc_T1w``: path, session, entities other than ``desc``, and its brain mask, if any."""

    path: Path
    session_id: str | None
    entities: tuple[tuple[str, str], ...]
    mask: Path | None


def parse_derivatives(texts: Iterable[str]) -> tuple[Derivative, ...]:
    """Read the values of ``--derivatives``, each ``NAME=PATH``.

    Raises
    ------
    UsageError
        When a text has another form, a name is used twice, or the folder is not a derivative dataset.
    NoInputError
        When the folder is not there.
    """
    derivatives: dict[str, Derivative] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not path or not re.fullmatch(r"[0-9A-Za-z]+", name):
            raise UsageError(
                f"--derivatives {shorten(text)!r} is not NAME=PATH with letters and digits as NAME; write for example "
                "fmriprep=/data/fmriprep"
            )
        if name == "raw" or name in derivatives:
            raise UsageError(f"--derivatives {name}: this name is taken; choose another for {path}")
        derivatives[name] = Derivative(name, _checked(name, Path(path).absolute()))
    return tuple(derivatives.values())


def _checked(name: str, root: Path) -> Path:
    if not root.is_dir():
        raise NoInputError(f"--derivatives {name}: {root} is not a folder; check the path")
    try:
        description = read_json(root / "dataset_description.json")
    except NotFetched as error:
        raise NotFetched(f"--derivatives {name}: {error.path}", error.reason) from error
    except (BadDataError, OSError):
        description = None
    if not isinstance(description, Mapping) or description.get("DatasetType") != "derivative":
        raise UsageError(
            f'--derivatives {name}: {root} has no dataset_description.json with "DatasetType": "derivative"; give the '
            "folder that holds the sub- folders of fMRIPrep or sMRIPrep"
        )
    return root


def with_prepared(
    scans: Sequence[Scan], derivatives: Sequence[Derivative], images: Sequence[Image]
) -> tuple[tuple[Scan, ...], list[Fault]]:
    """Return the scans, each with the files of the first derivative that has them, or with a reason for their absence.

    If a derivative merged several scans into one image, only the first of them is kept; a fault names the others.

    Parameters
    ----------
    scans
        The selected scans.
    derivatives
        Datasets to search, in this order.
    images
        Every T1w image of the dataset, to count the sessions of a participant.

    Raises
    ------
    UsageError
        When none of several participants has a native image there: the folder must be wrong.
    """
    sessions: dict[str, set[str | None]] = defaultdict(set)
    for image in images:
        sessions[image.participant_id].add(image.session_id)
    matched = [_matched(scan, derivatives, sessions[scan.participant_id]) for scan in scans]
    if len({scan.participant_id for scan in matched if scan.prepared.fault}) > 1 and all(
        scan.prepared.fault for scan in matched
    ):
        raise UsageError(f"--derivatives: nothing can be used, the first reason: {matched[0].prepared.fault}")
    result, merged, used = [], [], {}
    for scan in matched:
        first = used.setdefault(scan.prepared.image, scan) if scan.prepared.image else scan
        if first is scan:
            result.append(scan)
        else:
            merged.append(f"{scan.prefix} (in {first.prefix})")
    faults = []
    if merged:
        message = f"{len(merged)} scans are merged into another scan's image, which stands for them: {some(merged)}"
        faults.append(make_fault("PREPARED_MERGED", "--derivatives", message))
    return tuple(result), faults


def _matched(scan: Scan, derivatives: Sequence[Derivative], sessions: set[str | None]) -> Scan:
    reasons = []
    for derivative in derivatives:
        found = _look(scan, derivative, sessions)
        if isinstance(found, _Native):
            prepared = Prepared(derivative.name, str(found.path), str(found.mask))
            return dataclasses.replace(scan, prepared=prepared)
        reasons.append(found)
    fault = "; ".join(reasons)
    return dataclasses.replace(scan, prepared=Prepared(derivatives[0].name, "", "", fault))


def _look(scan: Scan, derivative: Derivative, sessions: set[str | None]) -> _Native | str:
    """Return the image of a scan in one derivative, or a text that says why there is none."""
    natives, spaces = _natives(derivative.root, scan)
    fitting = [native for native in natives if _fits(native, scan)]
    if not fitting and spaces and not natives:
        there = ", ".join(f"space-{space}" for space in sorted(spaces))
        return f"{derivative.name} has only images in {there} for {scan.prefix}: {NORMALISED}"
    if not fitting:
        return f"{derivative.name} has no native desc-preproc_T1w for {scan.prefix}"
    best = max(fitting, key=lambda native: (native.session_id is not None, len(native.entities), str(native.path)))
    if best.session_id is None and len(sessions) > 1:
        return (
            f"{derivative.name} merged the {len(sessions)} sessions of {scan.participant_id} into one image, which "
            "has no single age; process each session separately"
        )
    if best.mask is None:
        return f"{derivative.name} has no desc-brain_mask beside {best.path.name}"
    return best


def _fits(native: _Native, scan: Scan) -> bool:
    """Return whether an image can come from this scan: the same session or none, and only entities of the scan."""
    if native.session_id not in (None, scan.session_id):
        return False
    has = dict(scan.entities)
    return all(key in has and _same(value, has[key]) for key, value in native.entities)


def _same(a: str, b: str) -> bool:
    return a == b or (a.isdigit() and b.isdigit() and int(a) == int(b))


def _natives(root: Path, scan: Scan) -> tuple[list[_Native], set[str]]:
    """Return the native images for a scan, from the participant's and the session's folder, and the other spaces."""
    natives, spaces = [], set()
    folders = [(root / scan.participant_id / "anat", None)]
    if scan.session_id:
        folders.append((root / scan.participant_id / scan.session_id / "anat", scan.session_id))
    for folder, session in folders:
        names = set(os.listdir(folder)) if folder.is_dir() else set()
        for name in sorted(names):
            labels = label_and_entities(name)
            if labels is None or labels[0] != scan.participant_id or labels[1] != session:
                continue
            entities = dict(labels[2])
            if entities.pop("desc", None) != "preproc":
                continue
            if "space" in entities:
                spaces.add(entities["space"])
                continue
            masks = (re.sub(r"_desc-preproc_T1w\.nii(\.gz)?$", f"_desc-brain_mask{end}", name) for end in _ENDINGS)
            mask = next((folder / mask for mask in masks if mask in names), None)
            natives.append(_Native(folder / name, session, tuple(entities.items()), mask))
    return natives, spaces


_ENDINGS = (".nii.gz", ".nii")
