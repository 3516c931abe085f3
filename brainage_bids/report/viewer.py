"""Data for the slice viewer in the page (``viewer.js``): mean Grad-RAM maps and the template as compact bytes.

Both are sampled in world space (mm, RAS+) on axis-aligned grids that cover an adult brain. Maps of deep networks are
smooth (cells of 16 to 64 mm, interpolated), so a coarse grid is enough; the page tells its step.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from scipy.ndimage import binary_erosion, distance_transform_edt

from brainage_bids.errors import BrainageError
from brainage_bids.report import brain_slices, readable_names
from brainage_bids.report.brain_slices import Brain
from brainage_bids.report.html import number, text
from brainage_bids.report.html_tables import rows_of

# Box around an adult brain in MNI space (x, y, z). Its corner is a voxel centre of the paper's grid at 2 and 4 mm.
FIELD_MM = ((-80.0, 80.0), (-116.0, 84.0), (-78.0, 90.0))
BUDGET = 5_000_000  # characters of base64 in the page, template included
STEPS_MM = (4.0, 6.0, 8.0, 12.0)  # grid steps for the maps; the finest that fits the budget is used
UNDERLAY_MM = 2.0
EVERYONE = ("all", "group=all")
_FAMILIES = {"all": "Everyone", "age": "Age", "sex": "Sex", "group": "Diagnosis"}
_KINDS = {"mean": ("normalised mean (0 to 1)", "inferno"), "signed": ("signed mean (years per cell)", "RdBu_r")}
_COLOURS = 33  # stops of a colour scale; the viewer interpolates


def viewer_data(maps: pd.DataFrame | None, underlay: Any, budget: int = BUDGET) -> dict[str, Any] | None:
    """Return the data for the slice viewer, or None if no map can be read.

    Parameters
    ----------
    maps
        ``model subset n n_empty kind path cell_mm``, as in `GroupPage`.
    underlay
        Template T1w (path or ``(array, affine)``), 0 outside the brain; None shows the maps alone.
    budget
        Characters of base64 that may be added to the page; ``left`` counts the maps that do not fit.

    Returns
    -------
    dict or None
        ``underlay`` and ``grid`` (``origin`` mm, ``step`` mm, ``shape``; the underlay with ``data``), ``maps`` (names,
        ``n``, ``scale`` of a byte, ``limit`` of the colours, ``data``), ``kinds`` (label, colours), ``left``.
    """
    rows = [(row, image) for row in rows_of(maps) if (image := _readable(row.get("path"))) is not None]
    if not rows:
        return None
    anatomy = None if underlay is None else _readable(underlay)
    template = None if anatomy is None else _underlay(anatomy)
    room = budget - (0 if template is None else len(template["data"]))
    step = next((s for s in STEPS_MM if _characters(s) * len(rows) <= room), STEPS_MM[-1])
    fitting = rows[: max(0, room // _characters(step))]
    shown = []
    for model in dict.fromkeys(text(row.get("model")) for row, _ in fitting):
        shown += _maps_of([(row, image) for row, image in fitting if text(row.get("model")) == model], anatomy, step)
    return {
        "underlay": template,
        "grid": _grid(step),
        "maps": shown,
        "kinds": {kind: {"label": label, "colours": _colours(name)} for kind, (label, name) in _KINDS.items()},
        "left": len(rows) - len(fitting),
    }


def sample_grid(image: Brain, step: float) -> np.ndarray:
    """Return an image on the viewer's grid of ``step`` mm, float64 (x, y, z), 0 outside the image."""
    axes = [origin + step * np.arange(n) for origin, n in zip(_grid(step)["origin"], _grid(step)["shape"], strict=True)]
    world = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)  # (x, y, z, 3)
    return np.nan_to_num(brain_slices.sample(image, world))


def _grid(step: float) -> dict[str, Any]:
    shape = [int(np.ceil((high - low) / step)) + 1 for low, high in FIELD_MM]
    return {"origin": [low for low, _ in FIELD_MM], "step": step, "shape": shape}


def _characters(step: float) -> int:
    """Return the length of one volume in base64."""
    return 4 * -(-int(np.prod(_grid(step)["shape"])) // 3)


def _readable(source: Any) -> Brain | None:
    try:
        return brain_slices.load(source)
    except BrainageError:  # the figures show this error already
        return None


def _underlay(anatomy: Brain) -> dict[str, Any]:
    values = sample_grid(anatomy, UNDERLAY_MM)
    grey = np.clip(np.rint(values / (1.1 * anatomy.bright) * 255), 1, 255)  # brain is never 0, so that 0 means outside
    return _grid(UNDERLAY_MM) | {"data": _packed(np.where(values > 0, grey, 0))}


def _maps_of(members: Sequence[tuple[dict, Brain]], anatomy: Brain | None, step: float) -> list[dict[str, Any]]:
    """Return the maps of one model; all maps of one kind have the same colour scale."""
    sampled = [sample_grid(image, step) for image in _extended([image for _, image in members], anatomy)]
    limits = {"mean": 0.0, "signed": 0.0}
    for (row, _), values in zip(members, sampled, strict=True):
        kind = _kind(row)
        limits[kind] = max(limits[kind], float(np.abs(values).max()))
    return [_entry(row, values, limits) for (row, _), values in zip(members, sampled, strict=True)]


def _entry(row: dict, values: np.ndarray, limits: dict[str, float]) -> dict[str, Any]:
    kind = _kind(row)
    subset = text(row.get("subset"))
    everyone = subset in EVERYONE
    scale = float(np.abs(values).max()) or 1.0
    levels = 127 + np.rint(values / scale * 127) if kind == "signed" else np.rint(np.maximum(values, 0) / scale * 255)
    return {
        "model": text(row.get("model")),
        "subset": "all" if everyone else subset,
        "name": "everyone" if everyone else readable_names.subset_name(subset),
        "family": _FAMILIES.get("all" if everyone else readable_names.family_of(subset), "Other"),
        "kind": kind,
        "n": text(row.get("n")),
        "empty": int(number(row.get("n_empty")) or 0),
        "cell": number(row.get("cell_mm")),
        "scale": scale,
        "limit": limits[kind] or 1.0,
        "data": _packed(levels),
    }


def _kind(row: dict) -> str:
    return "signed" if row.get("kind") == "signed" else "mean"


def _extended(images: list[Brain], anatomy: Brain | None) -> list[Brain]:
    """Extend the maps of one model beyond the brain with the nearest value inside it.

    Files are 0 outside the brain mask. Without the extension, coarse sampling would make the edge of the brain fade to
    0. The viewer cuts the extended maps with the much finer template. A voxel is inside if any map of the model has a
    value there, or if it is at least one voxel inside the edge of the template (a mean map may be 0 inside, too).
    """
    if anatomy is None:
        return images
    filled: dict[tuple, tuple] = {}
    for shape, affine in {(image.data.shape, image.affine.tobytes()) for image in images}:
        alike = [image for image in images if (image.data.shape, image.affine.tobytes()) == (shape, affine)]
        world = np.moveaxis(np.indices(shape), 0, -1) @ alike[0].affine[:3, :3].T + alike[0].affine[:3, 3]
        inside = binary_erosion(np.nan_to_num(brain_slices.sample(anatomy, world)) > 0)
        for image in alike:
            inside |= image.data != 0
        if not inside.any():
            return images
        filled[shape, affine] = tuple(distance_transform_edt(~inside, return_distances=False, return_indices=True))
    return [Brain(image.data[filled[image.data.shape, image.affine.tobytes()]], image.affine) for image in images]


def _packed(levels: np.ndarray) -> str:
    return base64.b64encode(levels.astype(np.uint8).tobytes()).decode("ascii")  # z runs fastest


def _colours(name: str) -> list[str]:
    return [to_hex(colour) for colour in matplotlib.colormaps[name](np.linspace(0, 1, _COLOURS))]
