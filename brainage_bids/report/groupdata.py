"""The content of the group page, and which rows of the study its figures use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from brainage_bids.report.html import NOT_AVAILABLE, number, text
from brainage_bids.result_tables import BY_NAME

UNSTATED = "group not stated"
WITHIN_CONTROLS = ("age", "sex")  # mean maps and regions of ages and sexes are those of the controls
PERSON = ("participant_id", "dataset")  # columns that identify a person; ``dataset`` exists only with several datasets


@dataclass(frozen=True)
class GroupPage:
    """The content of the group page; tables have the columns of `brainage_bids.schema` and may be None.

    Parameters
    ----------
    title, version
        Heading, version of this software.
    table
        ``group/brainage.tsv``: one row per scan; cells as numbers or as the text of the file.
    models, controls, scores
        Model names, labels of the controls, score columns of ``table``.
    tables
        Name -> table of the group level (`brainage_bids.result_tables`), if it was made. ``leftout`` lists the rows of
        ``table`` that are used neither in statistics nor in figures.
    sessions
        Rows of ``table`` of every usable session, for the figures of change over time.
    bias
        ``biascorrection.json``: model -> ``slope intercept n age_min age_max source ...``.
    maps
        ``model subset n n_empty kind path`` and, where known, ``cell_mm``, the width of a cell of the network;
        ``kind`` is ``mean`` (normalised, 0 to 1) or ``signed`` (years).
    atlas
        ``name source regions right_of_template_mm threshold`` of the atlas.
    underlay
        Template T1w: path, or ``(array, affine)``.
    quality
        Per scan ``passed refused reasons decision``; None without quality control. ``qc_page`` is its page.
    trained_on
        Model -> number of people it was trained on, if known.
    files
        Name of a table -> address of its file relative to the page.
    without_scan
        Participants of the dataset without a T1w image.
    methods, software, references, warnings
        Text, name -> version, list of references, sentences for the top of the page.
    phantom, participant_pages
        Whether the data are synthetic; whether ``sub-*.html`` lie beside the page.
    links
        For each row of ``table``, the address of the participant's page relative to this page (empty: no page). None
        if all pages are in the same folder.
    """

    title: str
    version: str
    table: pd.DataFrame
    models: list[str] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    sessions: pd.DataFrame | None = None
    bias: Mapping[str, Any] | None = None
    maps: pd.DataFrame | None = None
    atlas: Mapping[str, Any] = field(default_factory=dict)
    underlay: Any = None
    scores: list[str] = field(default_factory=list)
    quality: Sequence[Mapping[str, Any]] | None = None
    qc_page: str | None = None
    trained_on: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    without_scan: int = 0
    methods: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    phantom: bool = False
    participant_pages: bool = False
    links: Sequence[str] | None = None
    _dicts: dict[str, list[dict[str, Any]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def frame(self, name: str) -> pd.DataFrame:
        """Return a table of the group level; it has no rows if it was not made."""
        return self.tables.get(name, pd.DataFrame(columns=BY_NAME[name].columns))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table of the group level as dicts."""
        if name not in self._dicts:
            self._dicts[name] = self.frame(name).to_dict("records")
        return self._dicts[name]


def column(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as float64 (n,). Missing columns, missing cells and text become NaN."""
    if name not in table.columns:
        return np.full(len(table), np.nan)
    if table[name].dtype == np.float64:
        values = table[name].to_numpy()
        return np.where(np.isfinite(values), values, np.nan)
    return np.array(
        [value if (value := number(cell)) is not None else np.nan for cell in table[name]], dtype=np.float64
    )


def left_out_mask(page: GroupPage) -> np.ndarray:
    """Return which rows of the table are listed in ``leftout``, bool (n,).

    Rows match by participant and session, and by run and dataset where that table has those columns.
    """
    left_out = page.frame("leftout")
    if not len(left_out) or not len(page.table):
        return np.zeros(len(page.table), bool)
    keys = [name for name in (*PERSON, "session_id", "run") if name in left_out and name in page.table]
    listed = set(_keys(left_out, keys))
    return np.array([key in listed for key in _keys(page.table, keys)], bool)


def analysed_rows(page: GroupPage) -> pd.DataFrame:
    """Return the rows that enter the statistics, with ``group`` as text and numbers as float64."""
    rows = page.table.loc[~left_out_mask(page)].reset_index(drop=True).copy()
    named = rows["group"] if "group" in rows else [None] * len(rows)
    rows["group"] = [label if (label := text(cell)) != NOT_AVAILABLE else UNSTATED for cell in named]
    numeric = ["age", *page.scores]
    for model in page.models:
        numeric += [f"predicted_age_{model}", f"bag_{model}", f"bag_corrected_{model}"]
    for name in numeric:
        rows[name] = column(rows, name)
    return rows


def group_order(rows: pd.DataFrame, controls: Sequence[str]) -> list[str]:
    """Return the groups present: controls first, then by name, the unstated last."""
    labels = set(rows["group"])
    known = set(controls)
    return sorted(labels, key=lambda label: (label not in known, label == UNSTATED, label))


def is_control(rows: pd.DataFrame, controls: Sequence[str]) -> np.ndarray:
    """Return who is a control, bool (n,)."""
    return rows["group"].isin(list(controls)).to_numpy(bool)


def gap_to_draw(rows: pd.DataFrame, model: str) -> tuple[str, np.ndarray]:
    """Return the variant and the values of the gap to draw: ``corrected`` if anybody has it, else ``raw`` (years)."""
    corrected = rows[f"bag_corrected_{model}"].to_numpy()
    if np.isfinite(corrected).any():
        return "corrected", corrected
    return "raw", rows[f"bag_{model}"].to_numpy()


def _keys(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(text(cell) for cell in cells) for cells in zip(*(table[name] for name in names), strict=True)]
