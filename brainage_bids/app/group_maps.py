"""Grad-RAM at the group level: mean maps of people, and the regions of an atlas on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainage_bids.bids.grouptables import write_group_table
from brainage_bids.bids.outputs import Outputs
from brainage_bids.map_tables import MAPS, SALIENCY_CONTRASTS, SALIENCY_REGIONS
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats.atlas import Atlas, find_atlas, hemispheres, labels_on, sideways_offset
from brainage_bids.stats.maps import MIN_RESOLUTION, maps_grid, mean_maps, subsets
from brainage_bids.stats.region_contrasts import saliency_contrasts
from brainage_bids.stats.saliency import RegionReader, Regions, saliency_regions

if TYPE_CHECKING:
    from brainage_bids.app.options import GroupOptions

LOG = logging.getLogger("brainage_bids")
NO_ATLAS = "none"


@dataclass
class Saliency:
    """Results of the maps: the mean maps, the regions, their contrasts, and facts about the atlas."""

    maps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*MAPS.columns, "cell_mm"]))
    regions: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SALIENCY_REGIONS.columns))
    contrasts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SALIENCY_CONTRASTS.columns))
    atlas: dict = field(default_factory=dict)


def group_saliency(
    people: pd.DataFrame,
    maps: pd.DataFrame,
    cards: dict[str, dict],
    outputs: Outputs,
    root_of: Callable[[VolumeSpec], Path],
    controls: Sequence[str],
    options: GroupOptions,
) -> Saliency:
    """Average the maps of the analysed scans, describe the regions of the atlas on them, write maps and tables.

    Parameters
    ----------
    people
        The analysed scans, one per participant: ``age`` (years), ``sex``, ``group``; indexed like ``maps.prefix``.
    maps
        ``prefix model map spec``: the signed map of every scan and model.
    cards
        Content of ``model.json`` by model.
    outputs
        OUTPUT_DIR for maps and tables.
    root_of
        The OUTPUT_DIR that has the template of a spec.
    controls
        Labels of the healthy controls.
    options
        ``atlas``, ``saliency_threshold`` and ``seed`` of the group level.

    Raises
    ------
    UsageError
        When the atlas cannot be found or downloaded.
    """
    result, tables = Saliency(), {"maps": [], "regions": [], "contrasts": []}
    analysed = maps[maps["prefix"].isin(people.index)]
    atlases: dict[VolumeSpec, Regions] = {}
    taken: dict[str, tuple] = {}
    atlas = None
    for (name, spec), part in analysed.groupby(["model", "spec"], sort=False):
        records = part.set_index("prefix").join(people[["age", "sex", "group"]])
        grid = maps_grid(spec)
        mask = _on_template(grid, root_of(spec))
        reader = None
        if options.atlas != NO_ATLAS:
            atlas = atlas or find_atlas(options.atlas, spec.template)
            if grid not in atlases:
                atlases[grid] = _regions(atlas, grid, mask)
                result.atlas = result.atlas or _about(atlas, spec, root_of(spec), options.saliency_threshold)
            reader = RegionReader(atlases[grid], subsets(records, controls))
        means = mean_maps(
            records,
            grid,
            mask,
            partial(_map_path, outputs, taken, grid, name),
            model=name,
            controls=controls,
            visit=reader or (lambda person: None),
        )
        tables["maps"].append(means.assign(cell_mm=_cell_mm(cards.get(name), spec)))
        if reader:
            tables["regions"].append(saliency_regions(reader, name, options.saliency_threshold, options.seed))
            values, names = np.array(reader.normalised), reader.regions.names
            tables["contrasts"].append(saliency_contrasts(records, values, names, name, controls, options.seed))
    for name, parts in tables.items():
        if parts:
            setattr(result, name, pd.concat(parts, ignore_index=True))
    _write(result, outputs)
    return result


def _map_path(outputs: Outputs, taken: dict[str, tuple], grid: VolumeSpec, model: str, subset: str, kind: str) -> Path:
    """Return the file of a mean map. No two maps share a file, even on a file system that ignores case."""
    path, key = outputs.group_map(grid, model, subset, kind), (grid, model, subset, kind)
    if taken.setdefault(str(path).lower(), key) == key:
        return path
    return outputs.group_map(grid, model, subset, kind, apart=True)


def _on_template(grid: VolumeSpec, root: Path) -> np.ndarray:
    from brainage_bids.preprocess.template import template_volume

    return np.asarray(template_volume(grid, root)[1]) > 0


def _regions(atlas: Atlas, grid: VolumeSpec, mask: np.ndarray) -> Regions:
    labels = labels_on(atlas, grid)
    sides = hemispheres(labels, grid, atlas.names)
    return Regions(atlas.names, sides, np.where(mask, labels, 0), mask, grid)


def _about(atlas: Atlas, spec: VolumeSpec, root: Path, threshold: float) -> dict:
    fine = spec.at(MIN_RESOLUTION)
    offset = sideways_offset(atlas, fine, _on_template(fine, root))
    if offset:
        LOG.info("atlas %s lies %+.0f mm to the right of the template %s", atlas.name, offset, spec.template)
    return {
        "name": atlas.name,
        "source": atlas.source,
        "regions": len(atlas.names),
        "right_of_template_mm": offset,
        "template": spec.template,
        "threshold": threshold,
    }


def _cell_mm(card: dict | None, spec: VolumeSpec) -> float | None:
    """Return the width of one Grad-RAM cell (mm)."""
    return None if card is None else card["architecture"]["total_stride"] * spec.resolution


def _write(result: Saliency, outputs: Outputs) -> None:
    if not result.atlas:
        return
    write_group_table(outputs, "saliency_regions", result.regions, {"Atlas": result.atlas})
    write_group_table(outputs, "saliency_contrasts", result.contrasts)
