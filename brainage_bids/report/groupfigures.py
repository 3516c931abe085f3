"""The figures of the group page: chooses the rows, draws the figures, and writes captions.

Each figure is written as PNG and SVG; the page embeds the returned pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainage_bids.bids.outputs import model_label
from brainage_bids.errors import BrainageError
from brainage_bids.report import brain_slices, figures, html_tables, paperfigures, readable_names
from brainage_bids.report.figure_files import save_both
from brainage_bids.report.groupdata import (
    UNSTATED,
    WITHIN_CONTROLS,
    GroupPage,
    gap_to_draw,
    group_order,
    is_control,
)
from brainage_bids.report.html import address, decimals, embed_image, embed_png, interval, number, p_value, text
from brainage_bids.report.paper_tables import fair_rows

_VARIANT = {"corrected": "brain age gap, age-bias corrected (years)", "raw": "brain age gap, uncorrected (years)"}
_FAMILIES = {
    "all": "everyone",
    "age": "age groups",
    "sex": "sex",
    "group": "diagnosis",
    "site": "site",
    "other": "subsets",
}
_MAX_FOREST = 40
_MAX_SITES = 7
_FEW_VIOLINS = 6  # they fit into half the width of the page


class Album:
    """Writes the files of figures and collects their paths."""

    def __init__(self, folder: Path, page_folder: Path | None = None):
        self._folder = folder
        self._page_folder = folder.parent if page_folder is None else page_folder
        self.paths: list[Path] = []

    def add(
        self,
        name: str,
        figure: Figure,
        caption: str,
        alt: str,
        lossless: bool = True,
        narrow: bool = False,
        dpi: float = 200,
    ) -> dict:
        """Write a figure under a name made of letters and digits only; return what the template needs."""
        stem, taken = name, {path.stem for path in self.paths}
        for i in range(2, len(taken) + 3):
            if stem not in taken:
                break
            stem = f"{name}-{i}"
        picture, paths = save_both(figure, self._folder / stem, dpi)
        self.paths += paths
        # a plot is embedded as it was written: to encode it once more would take longer than to draw it
        src = embed_png(paths[0]) if lossless else embed_image(picture, max_width=1500)
        files = [(path.suffix[1:].upper(), address(path, self._page_folder)) for path in paths]
        return {"src": src, "alt": alt, "caption": caption, "narrow": narrow, "files": files}


def draw_all(page: GroupPage, rows: pd.DataFrame, album: Album) -> dict[str, list[dict[str, Any]]]:
    """Draw all figures that the data allow. Return section of the page -> figures; without data the list is empty."""
    return {
        "ages": [*_ages(page, rows, album), *_site_ages(page, rows, album)],
        "accuracy": [shown for model in page.models for shown in _scatter(page, rows, model, album)],
        "gaps": [
            *_models_violins(page, rows, album),
            *(shown for model in page.models for shown in _violins(page, rows, model, album)),
        ],
        "scores": [
            shown for model in page.models for score in page.scores for shown in _score(page, rows, model, score, album)
        ],
        "forest": _forest(page, album),
        "bias": [shown for model in page.models for shown in _bias(page, rows, model, album)],
        "maps": _maps(page, rows, album),
    }


def _ages(page: GroupPage, rows: pd.DataFrame, album: Album) -> list[dict]:
    ages = _by_group(page, rows, rows["age"].to_numpy())
    if not ages:
        return []
    summary = "; ".join(
        f"{group}: {len(values)} people, mean {values.mean():.1f} years" for group, values in ages.items()
    )
    return [
        album.add(
            "ages", figures.age_histogram(ages), f"Ages by group. {summary}.", f"Age histograms. {summary}", narrow=True
        )
    ]


def _site_ages(page: GroupPage, rows: pd.DataFrame, album: Album) -> list[dict]:
    """Draw the ages of the controls (of everyone if there are none) by site; the smallest sites are merged."""
    healthy = is_control(rows, page.controls)
    who = "controls" if healthy.any() else "everyone"
    part = rows[healthy & np.isfinite(rows["age"])] if healthy.any() else rows[np.isfinite(rows["age"])]
    sites = pd.Series([text(site) for site in part["site"]] if "site" in part else [], dtype=object)
    if sites.nunique() < 2:
        return []
    largest = [
        site for site, _ in sites.value_counts().sort_index().sort_values(ascending=False, kind="stable").items()
    ]
    named = sites.where(sites.isin(largest[:_MAX_SITES]), "other sites")
    order = [*sorted(set(named) - {"other sites"}), *(["other sites"] if "other sites" in set(named) else [])]
    ages = {site: part["age"].to_numpy()[(named == site).to_numpy()] for site in order}
    caption = f"Ages of {'the controls' if healthy.any() else 'everyone'} by site, stacked; {len(set(sites))} sites."
    alt = f"Stacked age histogram of {who} by site. " + "; ".join(f"{site}: {ages[site].size}" for site in order)
    return [album.add("ages-sites", paperfigures.ages_by_site(ages, f"people ({who})"), caption, alt, narrow=True)]


def _models_violins(page: GroupPage, rows: pd.DataFrame, album: Album) -> list[dict]:
    """Draw the uncorrected gaps of all models side by side, as the paper does."""
    by_model = {model: _by_group(page, rows, rows[f"bag_{model}"].to_numpy()) for model in page.models}
    by_model = {model: gaps for model, gaps in by_model.items() if gaps}
    if len(by_model) < 2:
        return []
    summary = "; ".join(
        f"{model}, {group}: {decimals(values.mean(), sign=True)}"
        for model, gaps in by_model.items()
        for group, values in gaps.items()
    )
    caption = (
        f"Uncorrected gap by group and model. Dot: mean with its 95 % confidence interval. Means in years: {summary}."
    )
    figure = paperfigures.gap_violins_by_model(by_model, _VARIANT["raw"])
    few = sum(map(len, by_model.values())) <= _FEW_VIOLINS
    return [album.add("gap-models", figure, caption, f"Violins of the gap by group and model. {summary}", narrow=few)]


def _scatter(page: GroupPage, rows: pd.DataFrame, model: str, album: Album) -> list[dict]:
    age, predicted = rows["age"].to_numpy(), rows[f"predicted_age_{model}"].to_numpy()
    known = np.isfinite(age) & np.isfinite(predicted)
    if not known.any():
        return []
    groups = rows["group"].to_numpy(object)[known]
    order = group_order(rows[known], page.controls)
    figure = figures.age_scatter(age[known], predicted[known], groups, order)
    caption = (
        f"Model {model}: predicted against chronological age of {known.sum()} scans, uncorrected. On the dashed line "
        f"the prediction equals the age. {_accuracy_words(page, model)}"
    )
    alt = f"Scatter of predicted against chronological age, model {model}, {known.sum()} scans"
    return [album.add(f"scatter-{model_label(model)}", figure, caption, alt, narrow=True)]


def _accuracy_words(page: GroupPage, model: str) -> str:
    """Return a sentence with the MAE of the model (test set, else controls, else everyone) and of the null model."""
    row = next((row for row in fair_rows(page) if text(row.get("model")) == model), None)
    if row is None:
        return ""
    ends = interval(row.get("mae_ci_lo"), row.get("mae_ci_hi"))
    within = f" [95 % CI {ends}]" if ends != "n/a" else ""
    null = decimals(row.get("mae_null"))
    beside = f", against {null} years for always predicting the mean age" if null != "n/a" else ""
    who = f"{readable_names.subset_name(row.get('subset'))} (n = {text(row.get('n'))})"
    return f"{who}: MAE {decimals(row['mae'])} years{within}{beside}."


def _violins(page: GroupPage, rows: pd.DataFrame, model: str, album: Album) -> list[dict]:
    variant, gap = gap_to_draw(rows, model)
    gaps = _by_group(page, rows, gap)
    if not gaps:
        return []
    summary = "; ".join(_mean_words(group, values) for group, values in gaps.items())
    drawn = _VARIANT[variant].replace(" (years)", "")
    caption = f"Model {model}: {drawn}. Bar: mean with its 95 % confidence interval. {summary}."
    figure = figures.gap_violins(gaps, _VARIANT[variant])
    return [
        album.add(
            f"gap-{model_label(model)}",
            figure,
            caption,
            f"Violins of the gap by group, model {model}. {summary}",
            narrow=True,
        )
    ]


def _mean_words(group: str, values: np.ndarray) -> str:
    mean, half = figures.mean_interval(values)
    ends = f" [{interval(mean - half, mean + half, sign=True)}]" if half else ""
    return f"{group} (n = {values.size}): {decimals(mean, sign=True)} years{ends}"


def _score(page: GroupPage, rows: pd.DataFrame, model: str, score: str, album: Album) -> list[dict]:
    variant, gap = gap_to_draw(rows, model)
    values, groups = rows[score].to_numpy(), rows["group"].to_numpy(object)
    known = np.isfinite(values) & np.isfinite(gap)
    colours = figures.style(group_order(rows, page.controls))
    panels, summaries = [], []
    for group, (colour, marker) in colours.items():
        chosen = known & (groups == group)
        if chosen.sum() < 2:
            continue
        statement = html_tables.in_words(_correlation(page, model, group, score, variant), int(chosen.sum()))
        summaries.append(f"{group}: {statement}{_adjusted(page, model, group, score)}")
        panels.append(
            {
                "group": group,
                "score": values[chosen],
                "gap": gap[chosen],
                "colour": colour,
                "marker": marker,
                "name": readable_names.score_name(score),
                "title": f"{group}\n{statement}",
            }
        )
    if not panels:
        return []
    name = readable_names.score_name(score)
    caption = f"Model {model} and {name}. Line: least squares with its 95 % confidence band. {'; '.join(summaries)}."
    figure = figures.score_scatter(panels, _VARIANT[variant])
    alt = f"Gap of model {model} against {name}. {'; '.join(summaries)}"
    stem = f"score-{model_label(score)}-{model_label(model)}"
    return [album.add(stem, figure, caption, alt, narrow=len(panels) == 1)]


def _correlation(page: GroupPage, model: str, group: str, score: str, variant: str) -> dict | None:
    statistic = html_tables.primary_statistic(page.rows("correlations"), score)
    wanted = {"model": model, "group": group, "score": score, "variant": variant, "statistic": statistic}
    for row in page.rows("correlations"):
        if all(text(row.get(key)) == value for key, value in wanted.items()):
            return row
    return None


def _adjusted(page: GroupPage, model: str, group: str, score: str) -> str:
    """Return the primary (adjusted) test of the same group and score, in words; empty without one."""
    for row in page.rows("correlations"):
        same = (text(row.get("model")), text(row.get("group")), text(row.get("score"))) == (model, group, score)
        if (
            same
            and html_tables.is_primary(row)
            and number(row.get("estimate")) is not None
            and row.get("variant") != "corrected"
        ):
            return f" (primary test, {readable_names.variant_name(row.get('variant'))}: {html_tables.in_words(row, 0)})"
    return ""


def _forest(page: GroupPage, album: Album) -> list[dict]:
    rows = []
    for row in page.rows("groupdiff"):
        estimate, low, high = (number(row.get(name)) for name in ("mean_diff", *html_tables.interval_names(row)))
        if estimate is None or low is None or high is None:
            continue
        case, control, model = text(row.get("case")), text(row.get("control")), text(row.get("model"))
        rows.append(
            {
                "label": f"{case} − {control}, {readable_names.variant_name(row.get('variant'))}"
                + (f", {model}" if len(page.models) > 1 else ""),
                "estimate": estimate,
                "low": low,
                "high": high,
                "series": readable_names.variant_name(row.get("variant")),
                "note": f"{decimals(estimate, sign=True)} [{interval(low, high, sign=True)}], p {_p(row)}",
            }
        )
    if not rows:
        return []
    caption = "Difference of the mean gap, patients minus controls, with its 95 % confidence interval."
    if any("adjusted" in row["series"] for row in rows):
        caption += " The rows adjusted for age and sex alone are the primary tests."
    if len(rows) > _MAX_FOREST:
        caption += f" The first {_MAX_FOREST} of {len(rows)} rows; all are in the table."
    alt = "Forest plot. " + "; ".join(f"{row['label']}: {row['note']}" for row in rows[:_MAX_FOREST])
    return [album.add("groupdiff", figures.forest(rows[:_MAX_FOREST], "difference of the gap (years)"), caption, alt)]


def _p(row: dict) -> str:
    p = p_value(row.get("p"))
    return p if p.startswith("<") or p == "n/a" else f"= {p}"


def _bias(page: GroupPage, rows: pd.DataFrame, model: str, album: Album) -> list[dict]:
    age, raw, corrected = (rows[name].to_numpy() for name in ("age", f"bag_{model}", f"bag_corrected_{model}"))
    known = np.isfinite(age) & np.isfinite(raw) & np.isfinite(corrected)
    if not known.any():
        return []
    line = _line((page.bias or {}).get(model) or {})
    figure = figures.bias_lines(age[known], raw[known], corrected[known], is_control(rows, page.controls)[known], line)
    summary = (
        ""
        if line is None
        else (
            f" Line removed: slope {decimals(line['slope'], 3, True)} years of gap per year of age, drawn over the "
            f"ages it was fitted on ({line['age_min']:.0f} to {line['age_max']:.0f} years)."
        )
    )
    caption = f"Model {model}: gap against age before and after removal of the age bias.{summary}"
    return [album.add(f"bias-{model_label(model)}", figure, caption, f"{caption} Two scatter plots side by side")]


def _line(values: dict) -> dict[str, float] | None:
    """Return the line of the gap on age. The tables have the line of predicted age on age: its slope is larger by 1."""
    line = {name: number(values.get(name)) for name in ("slope", "intercept", "age_min", "age_max")}
    return None if None in line.values() else {**line, "slope": line["slope"] - 1.0}


def _maps(page: GroupPage, rows: pd.DataFrame, album: Album) -> list[dict]:
    """Draw the mean maps: one figure per model, kind and family of subsets; one colour scale per model and kind."""
    shown: list[dict] = []
    entries, problems = _loaded_maps(page)
    controls = is_control(rows, page.controls).any()
    try:
        underlay = brain_slices.load(page.underlay) if page.underlay is not None else None
    except BrainageError as error:
        underlay, problems = None, [*problems, str(error)]
    for model, kind in dict.fromkeys((entry["model"], entry["kind"]) for entry in entries):
        chosen = [entry for entry in entries if (entry["model"], entry["kind"]) == (model, kind)]
        limit = brain_slices.scale_limit(underlay, [entry["map"] for entry in chosen], kind == "signed")
        for family, title in _FAMILIES.items():
            members = [entry for entry in chosen if entry["family"] == family]
            if members:
                within = " within the controls" if family in WITHIN_CONTROLS and controls else ""
                shown.append(_map_figure(underlay, members, (model, kind, title + within), limit, album))
    broken = {"src": "", "alt": "", "narrow": False, "files": []}
    return shown + [broken | {"caption": problem} for problem in problems]


def _loaded_maps(page: GroupPage) -> tuple[list[dict], list[str]]:
    entries, problems = [], []
    for row in html_tables.rows_of(page.maps):
        try:
            overlay = brain_slices.load(row["path"])
        except BrainageError as error:
            problems.append(str(error))
            continue
        family = readable_names.family_of(row.get("subset"))
        entries.append(
            {
                "model": text(row.get("model")),
                "kind": text(row.get("kind")),
                "map": overlay,
                "n": text(row.get("n")),
                "name": readable_names.subset_name(row.get("subset")),
                "family": family if family in _FAMILIES else "other",
                "n_empty": number(row.get("n_empty")) or 0,
                "cell_mm": number(row.get("cell_mm")),
                "everybody": text(row.get("subset")) == "group=all",
            }
        )
    return entries, problems


def _map_figure(underlay, members: list[dict], names: tuple[str, str, str], limit: float, album: Album) -> dict:
    model, kind, title = names
    signed = kind == "signed"
    label = "years per cell (red: older, blue: younger)" if signed else "mean of maps normalised to 0..1 per person"
    rows = [(_wrapped(f"{entry['name']}\nn = {entry['n']}"), entry["map"]) for entry in members]
    figure = brain_slices.map_rows_figure(underlay, rows, signed, label, limit)
    edge = members[0]["cell_mm"] or members[0]["map"].cell_mm[0]
    by = "" if title == _FAMILIES["all"] else f", by {title}"
    summary = "; ".join(f"{entry['name']}, n = {entry['n']}" for entry in members)
    empty = sum(int(entry["n_empty"]) for entry in members if len(members) == 1 or not entry["everybody"])
    caption = (
        f"Model {model}, {'signed mean maps in years' if signed else 'normalised mean maps'}{by}. "
        f"{summary}. One cell of the maps is {edge:.3g} mm wide; the colours between cells are interpolated. "
        "Same slices and same colour "
        "scale in all figures of this kind. Neurological convention: the left of the picture is the left of the person."
    )
    caption += f" {empty} maps without any positive value count as zero." if empty and not signed else ""
    alt = f"Mean Grad-RAM maps of model {model} by {title}, {'signed' if signed else 'normalised'}, nine slices each"
    stem = f"map-{model_label(model)}-{kind}-{model_label(title.removesuffix(' within the controls'))}"
    return album.add(stem, figure, caption, alt, lossless=False, dpi=brain_slices.ROWS_DPI)


def _wrapped(label: str, width: int = 18) -> str:
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in label.split("\n"))


def _by_group(page: GroupPage, rows: pd.DataFrame, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return group -> finite values, in the order of the legend. Without groups all are one group, ``everyone``."""
    groups = rows["group"].to_numpy(object)
    order = group_order(rows, page.controls)
    if order == [UNSTATED]:
        known = values[np.isfinite(values)]
        return {"everyone": known} if known.size else {}
    by_group = {group: values[(groups == group) & np.isfinite(values)] for group in order}
    return {group: known for group, known in by_group.items() if known.size}
