"""The group page: who is in the study, how accurate the models are, and how the gap relates to groups and scores.

The numbers come from the tables of the group level; here they are only rounded, sorted and drawn. Instead of a part
without data (no groups, scores, controls or maps) the page has a sentence.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from brainage_bids.report import (
    gapfigures,
    groupfigures,
    html_tables,
    readable_names,
    region_tables,
    sitefigure,
    trajectories,
)
from brainage_bids.report.flowchart import Step, flow_figure, in_words, layout
from brainage_bids.report.groupdata import PERSON, GroupPage, analysed_rows, group_order, is_control, left_out_mask
from brainage_bids.report.html import address, count, decimals, text, write_page
from brainage_bids.report.paper_tables import paper_tables
from brainage_bids.report.viewer import viewer_data
from brainage_bids.result_tables import GROUP_TABLES

_DIAGRAM_GROUPS = 8
TABLE_UP_TO = 2000  # rows; a longer table of scans is stored as data, and a script makes the rows that are shown


def write_group_page(path: str | Path, page: GroupPage, figures_dir: str | Path) -> list[Path]:
    """Write the group page and its figures.

    Parameters
    ----------
    path
        The HTML file; it is self-contained.
    page
        The content.
    figures_dir
        Folder for every figure as PNG and SVG.

    Returns
    -------
    list of Path
        The figures written.

    Raises
    ------
    CannotCreateError
        When a folder cannot be written.
    """
    rows = analysed_rows(page)
    album = groupfigures.Album(Path(figures_dir), Path(path).parent)
    steps = flow_steps(page)
    values = {
        "page": page,
        "title": page.title,
        "groups": group_order(rows, page.controls),
        "with_controls": bool(is_control(rows, page.controls).any()),
        "corrected": any(line.get("method", "none") != "none" for line in (page.bias or {}).values()),
        "flow": flow(page),
        "diagram": _diagram(steps, album),
        "viewer": viewer_data(page.maps, page.underlay),
        "map_files": _map_files(page, Path(path).parent),
        "tables": _tables(page) | paper_tables(page) | region_tables.region_tables(page),
        "figures": groupfigures.draw_all(page, rows, album)
        | gapfigures.draw(page, rows, album)
        | {
            "trajectories": trajectories.trajectories(page, album),
            "regions": region_tables.region_figures(page, rows, album),
            "sites": sitefigure.draw(page, album),
        },
        "atlas": region_tables.atlas_words(page),
        "people": people(page),
    }
    write_page(path, "group.html", values)
    return album.paths


def flow(page: GroupPage) -> list[tuple[str, str]]:
    """Return ``(label, number)``: scans found, scans left out for each reason, scans that remain."""
    failed = page.rows("failed")
    left_out = left_out_mask(page)
    reasons = Counter(text(row.get("reason")) for row in page.rows("leftout"))
    person = [name for name in PERSON if name in page.table]
    people = len(page.table.loc[~left_out, person].drop_duplicates()) if len(page.table) else 0
    steps = [("Scans found", count(len(page.table) + len(failed)))] if failed else []
    steps += [("Scans that failed (listed below)", count(len(failed)))] if failed else []
    steps += [("Scans with a result", count(len(page.table)))]
    steps += [
        (f"Left out of the statistics: {readable_names.REASONS.get(reason, reason)}", count(n))
        for reason, n in reasons.most_common()
    ]
    remaining = f"{count(int((~left_out).sum()))} ({count(people)} participants)"
    return [*steps, ("Scans in the statistics", remaining)]


def flow_steps(page: GroupPage) -> list[Step]:
    """Return the boxes of the flow diagram: people without a scan, failed scans, scans left out, scans analysed."""
    rows = analysed_rows(page)
    failures = Counter(text(row.get("step")) for row in page.rows("failed"))
    reasons = Counter(text(row.get("reason")) for row in page.rows("leftout"))
    left = [(readable_names.REASONS.get(reason, reason), count(n)) for reason, n in reasons.most_common()]
    groups = group_order(rows, page.controls)
    sizes = [(group, count(int((rows["group"] == group).sum()))) for group in groups[:_DIAGRAM_GROUPS]]
    more = [("other groups", count(int((~rows["group"].isin(groups[:_DIAGRAM_GROUPS])).sum())))]
    everybody = {
        tuple(text(row.get(name)) for name in PERSON)
        for row in [*html_tables.rows_of(page.table.filter(PERSON)), *page.rows("failed")]
    }
    missing = [("no T1w image", count(page.without_scan))] if page.without_scan else []
    found, failed = (
        len(page.table) + sum(failures.values()),
        [(f"failed at {s}", count(n)) for s, n in failures.items()],
    )
    steps = [
        Step("Participants", count(len(everybody) + page.without_scan), missing),
        Step("T1w scans found", count(found), failed),
    ]
    steps.append(Step("Scans with a result", count(len(page.table)), left))
    people_left = len(rows[[name for name in PERSON if name in rows]].drop_duplicates())
    parts = [("participants", count(people_left)), *(sizes if len(sizes) > 1 else [])]
    parts += more if len(groups) > _DIAGRAM_GROUPS else []
    return [*steps, Step("Scans analysed", count(len(rows)), (), parts)]


def _diagram(steps: list[Step], album: groupfigures.Album) -> dict[str, Any]:
    """Write the files of the flow diagram; return its figure and its drawing for the page."""
    drawing = layout(steps)
    return {**album.add("flow", flow_figure(drawing), "", in_words(steps)), "drawing": drawing}


def _map_files(page: GroupPage, folder: Path) -> list[dict[str, str]]:
    kinds = {"mean": "normalised mean, 0 to 1", "signed": "signed mean, years per cell"}
    parts = [
        ("model", text),
        ("subset", readable_names.subset_name),
        ("kind", lambda kind: kinds.get(kind, text(kind))),
    ]
    return [
        {
            "name": ", ".join(to_words(row.get(name)) for name, to_words in parts),
            "n": text(row.get("n")),
            "link": address(str(row["path"]), folder),
        }
        for row in html_tables.rows_of(page.maps)
    ]


def people(page: GroupPage) -> dict[str, Any]:
    """Return the table of all scans: ``columns``, and ``rows`` (above 2,000 scans ``data`` for the script).

    The rows link to the participants' pages, if there are any.
    """
    columns = _people_columns(page)
    head = [{"title": title, "kind": kind} for title, kind, _, _ in columns]
    rows, left = html_tables.rows_of(page.table), left_out_mask(page)
    beside = [f"{text(name)}.html" if page.participant_pages else "" for name in page.table["participant_id"]]
    links = [quote(link) for link in (beside if page.links is None else page.links)]
    if len(rows) > TABLE_UP_TO:
        cells = [[make(row) for _, _, _, make in columns] for row in rows]
        # the names of the participants' pages follow from the first column
        data = {"rows": cells, "left": [int(i) for i in left.nonzero()[0]]}
        data["links"] = page.participant_pages if page.links is None else links
        return {"columns": head, "rows": [], "data": data}
    shown = []
    for row, out, link in zip(rows, left, links, strict=True):
        cells = [{"text": make(row), "key": row.get(name), "kind": kind} for _, kind, name, make in columns]
        shown.append({"cells": cells, "link": link, "left": bool(out)})
    return {"columns": head, "rows": shown, "data": None}


def _people_columns(page: GroupPage) -> list[tuple]:
    present = set(page.table.columns)
    plain = [("Participant", "participant_id"), ("Session", "session_id"), ("Scan", "run"), ("Sex", "sex")]
    plain += [("Group", "group"), ("Site", "site"), ("Dataset", "dataset")]
    columns = [
        (title, "w", name, _cell(name))
        for title, name in plain
        if name in present and (name == "participant_id" or any(text(v) != "n/a" for v in page.table[name]))
    ]
    numeric = [("Age", "age", 1, False)]
    for model in page.models:
        numeric += [
            (f"Predicted age, {model}", f"predicted_age_{model}", 2, False),
            (f"Gap, {model}", f"bag_{model}", 2, True),
            (f"Corrected gap, {model}", f"bag_corrected_{model}", 2, True),
        ]
    numeric += [(readable_names.score_name(score), score, 1, False) for score in page.scores]
    columns += [
        (title, "n", name, _rounded(name, places, sign)) for title, name, places, sign in numeric if name in present
    ]
    return columns


def _cell(name: str):
    return lambda row: text(row.get(name))


def _rounded(name: str, places: int, sign: bool):
    return lambda row: decimals(row.get(name), places, sign)


def _tables(page: GroupPage) -> dict[str, Any]:
    """Return name in the template -> declared table; None for a table without rows."""
    result = {"bias": html_tables.bias(page.bias) if page.bias else None}
    for table in GROUP_TABLES:
        for name, shown in table.pages.items():
            result[name] = html_tables.declared(shown, ROWS.get(name, list)(page.rows(table.name)))
    return result


# Name of a table in the template -> function that chooses its rows; the others show all rows.
ROWS = {
    "primary": lambda rows: [row for row in rows if html_tables.is_primary(row)],
    "others": lambda rows: [row for row in rows if not html_tables.is_primary(row)],
    "siteshift": lambda rows: [row for row in rows if row["kind"] == "within"],
    "rates": lambda rows: [row for row in rows if row["analysis"] in html_tables.RATES],
    "mixed": lambda rows: _notes_once([row for row in rows if row["analysis"] not in html_tables.RATES]),
}


def _notes_once(rows: list[dict]) -> list[dict]:
    """Return the rows of mixed models; a note on the whole fit is kept only in the first row of that fit."""
    seen: set[tuple] = set()
    shown = []
    for row in rows:
        parts = [(row["model"], row["analysis"], part) for part in str(row["note"] or "").split("; ")]
        shown.append({**row, "note": "; ".join(part for *fit, part in parts if (*fit, part) not in seen)})
        seen.update(parts)
    return shown
