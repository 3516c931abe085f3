"""Tables and figures of the regions of an atlas: on which the models relied, by group, and where groups differ.

The page shows the first regions; the TSV files contain all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainage_bids.bids.outputs import model_label
from brainage_bids.report import readable_names
from brainage_bids.report.figures import INK
from brainage_bids.report.groupdata import WITHIN_CONTROLS, GroupPage, is_control
from brainage_bids.report.html import count, decimals, number, p_value, text
from brainage_bids.report.html_tables import Column, Row, estimate, note, plain, t_of

SHOWN = 30  # regions of a table or picture
SHOWN_CONTRAST = 10


def region_tables(page: GroupPage) -> dict[str, Any]:
    """Return the tables ``regions`` (everyone, models side by side), ``relevant`` and ``contrasts``; None if empty."""
    rows = page.rows("saliency_regions")
    everyone = [row for row in rows if row["group_by"] == "all"]
    contrasts = [row for row in page.rows("saliency_contrasts") if text(row["variant"]) != "raw"]
    return {
        "regions": _side_by_side(page, everyone) if everyone else None,
        "relevant": _relevant(rows, page.atlas) if rows else None,
        "contrasts": _contrasts(contrasts) if any(row["status"] == "ok" for row in contrasts) else None,
    }


def atlas_words(page: GroupPage) -> str:
    """Return a text on the atlas and its position on the template; empty without an atlas."""
    atlas = page.atlas
    if not atlas:
        return ""
    words = f"Atlas {atlas['name']} ({atlas['source']}), {atlas['regions']} regions."
    offset = number(atlas.get("right_of_template_mm"))
    if offset is not None:
        where = "to the right" if offset > 0 else "to the left"
        words += f" It lies {abs(offset):.0f} mm {where} of the template." if offset else " It lies on the template."
    return words + " Every region with its numbers is in group/saliency_regions.tsv."


def _side_by_side(page: GroupPage, rows: list[Row]) -> dict[str, Any]:
    """Return the regions in everyone, models side by side, in the order of the best rank."""
    by_model = {model: {row["index"]: row for row in rows if row["model"] == model} for model in page.models}
    by_model = {model: regions for model, regions in by_model.items() if regions}
    first = next(iter(by_model.values()))
    best = {label: min(number(regions[label]["rank"]) or np.inf for regions in by_model.values()) for label in first}
    order = sorted((label for label in first if best[label] < np.inf), key=lambda label: (best[label], label))
    columns: list[Column] = [("Region", "w", lambda r: text(r["any"]["name"]))]
    columns += [("Volume (mL)", "n", lambda r: decimals(r["any"]["volume_ml"], 1))]
    for model in by_model:
        columns += [
            (f"{model}: rank (95 % CI)", "n", _of(model, _rank)),
            ("mean, 0 to 1 [95 % CI]", "n", _of(model, lambda r: estimate(r, "mean", "ci_lo", "ci_hi"))),
            ("years", "n", _of(model, lambda r: decimals(r["contribution_years"], sign=True))),
            ("left − right", "n", _of(model, lambda r: decimals(r["laterality_index"], sign=True))),
            ("cells", "n", _of(model, lambda r: count(r["n_cells"]))),
        ]
    shown = [{"any": first[label], **{m: regions[label] for m, regions in by_model.items()}} for label in order[:SHOWN]]
    n = ", ".join(f"{model} n = {count(next(iter(regions.values()))['n'])}" for model, regions in by_model.items())
    caption = (
        f"Regions by the mean of the normalised map in everyone ({n}), the first {len(shown)} of {len(order)}; "
        "years: what the region adds to the predicted age; left − right: (L − R) / (L + R)"
    )
    return plain(caption, columns, shown)


def _of(model: str, make):
    return lambda row: make(row[model])


def _rank(row: Row) -> str:
    between = text(row["rank_ci"])
    return count(row["rank"]) + (f" ({between.replace('-', ' to ')})" if between != "n/a" else "")


def _relevant(rows: list[Row], atlas: Any) -> dict[str, Any]:
    """Return the regions that reach the threshold, by model and group."""
    threshold = atlas.get("threshold", 0.8)
    by_group: dict[tuple, list[Row]] = {}
    for row in rows:
        by_group.setdefault((row["model"], row["group_by"], row["group"], row["n"]), []).append(row)
    lines = []
    for (model, by, group, n), members in by_group.items():
        above = sorted((r for r in members if number(r["above_threshold"]) == 1), key=lambda r: -r["mean"])
        names = ", ".join(f"{r['name']} {decimals(r['mean'])}" for r in above[:12])
        more = f" and {len(above) - 12} more" if len(above) > 12 else ""
        lines.append({"model": model, "who": _who(by, group), "n": n, "count": len(above), "names": names + more})
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r["model"])),
        ("Who", "w", lambda r: r["who"]),
        ("n", "n", lambda r: count(r["n"])),
        ("Regions", "n", lambda r: count(r["count"])),
        ("Which, with their means", "long", lambda r: r["names"] or "none"),
    ]
    return plain(f"Regions whose mean normalised map reaches {threshold:g}", columns, lines)


def _who(by: str, group: str) -> str:
    return readable_names.subset_name("all" if by == "all" else f"{by}={group}")


def _contrasts(rows: list[Row]) -> dict[str, Any]:
    """Return the regions with the smallest p for each contrast, adjusted for age (and sex)."""
    shown, tested = [], {}
    for row in rows:
        tested.setdefault((row["model"], row["contrast"]), []).append(row)
    for members in tested.values():
        ok = sorted((r for r in members if r["status"] == "ok"), key=lambda r: r["p"])
        shown += ok[:SHOWN_CONTRAST] or members[:1]
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r["model"])),
        ("Contrast", "w", lambda r: " − ".join(text(r["contrast"]).rsplit("-", 1))),
        ("Region", "w", lambda r: text(r["region"])),
        ("n", "n", lambda r: f"{count(r['n_case'])} / {count(r['n_control'])}"),
        ("Difference", "n", lambda r: decimals(r["mean_diff"], 3, sign=True)),
        ("t (df)", "n", t_of),
        ("p", "n", lambda r: p_value(r["p"])),
        ("q (FDR)", "n", lambda r: p_value(r["q_fdr"])),
        ("p, permutation", "n", lambda r: p_value(r["p_perm"])),
        ("p, all regions (max-T)", "n", lambda r: p_value(r["p_fwe"])),
        ("Note", "note", lambda r: note(r) if r["status"] != "ok" else ""),
    ]
    caption = (
        f"Normalised maps by region, adjusted for age (and sex): the {SHOWN_CONTRAST} smallest p of every contrast; "
        "all regions are in group/saliency_contrasts.tsv"
    )
    return plain(caption, columns, shown)


def region_figures(page: GroupPage, people: pd.DataFrame, album) -> list[dict]:
    """Draw one figure per model: the means of its highest regions in every group."""
    if not len(page.frame("saliency_regions")):
        return []
    controls = bool(is_control(people, page.controls).any())
    return [shown for model in page.models for shown in _heat(page, model, controls, album)]


def _heat(page: GroupPage, model: str, controls: bool, album) -> list[dict]:
    rows = page.frame("saliency_regions")
    rows = rows[(rows["model"] == model) & (rows["status"] == "ok")]
    if rows.empty:
        return []
    groups = rows[["group_by", "group", "n"]].drop_duplicates()
    everyone = rows[rows["group_by"] == "all"].sort_values("rank").head(SHOWN)
    if len(groups) == 2 and set(groups["group_by"]) != {"all"}:  # a single group is the same as everyone
        groups = groups[groups["group_by"] == "all"]
    values = np.full((len(everyone), len(groups)), np.nan)
    for j, (by, group, _) in enumerate(groups.itertuples(index=False)):
        part = rows[(rows["group_by"] == by) & (rows["group"] == group)].set_index("index")["mean"]
        values[:, j] = part.reindex(everyone["index"]).to_numpy()
    labels = [f"{_who(by, group)}\nn = {n}" for by, group, n in groups.itertuples(index=False)]
    figure = _heat_map(values, list(everyone["name"]), labels)
    caption = (
        f"Model {model}: mean of the normalised maps (0 to 1) in the {len(everyone)} regions with the highest means in "
        "everyone, by group. Regions that share a cell of the map share its value."
    )
    if controls and set(groups["group_by"]) & set(WITHIN_CONTROLS):
        caption += " Ages and sexes are those of the controls."
    alt = f"Heat map of {len(everyone)} regions by {len(groups)} groups, model {model}"
    return [album.add(f"regions-{model_label(model)}", figure, caption, alt)]


def _heat_map(values: np.ndarray, names: list[str], groups: list[str]) -> Figure:
    figure = Figure(figsize=(3.2 + 0.9 * len(groups), 1.6 + 0.26 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    top = max(float(np.nanmax(values)), 1e-9)
    axes.imshow(values, cmap="viridis", vmin=0.0, vmax=top, aspect="auto")
    for i, j in np.ndindex(values.shape):
        if np.isfinite(values[i, j]):
            colour = "white" if values[i, j] < 0.6 * top else INK
            shown = f"{values[i, j]:.2f}"
            # in_layout=False: the number is inside its cell; otherwise the layout takes half of the time
            axes.text(j, i, shown, ha="center", va="center", fontsize=8, color=colour, in_layout=False)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xticks(range(len(groups)), groups, fontsize=8, rotation=40, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return figure
