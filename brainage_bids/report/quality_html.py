"""The page of image quality, to look at before using any result: all scans, the worst first.

Computes only roundings, the order of the scans, and how far each scan is from the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from brainage_bids.errors import BrainageError
from brainage_bids.report import readable_names
from brainage_bids.report.html import NOT_AVAILABLE, count, embed_image, number, write_page

Gates = Mapping[str, Mapping[str, tuple[float, float]]]

SHOWN = (
    "mask_volume_ml", "template_dice", "template_ncc", "fov_cut_fraction", "mask_edge_fraction", "scale_volume",
    "shear_max", "rotation_deg", "snr", "cnr", "tissue_contrast", "fwhm_mm",
)  # fmt: skip
THUMBNAILS = 200  # scans whose pictures are embedded in the page
THUMBNAIL_PIXELS = 300
PICTURE_BYTES = 8_000_000  # of all thumbnails together, as text
ROWS = 5000
MIN_SCANS = 8  # with fewer scans, the distance of a scan from the others tells nothing
_PICTURES = {"mask": "brain mask on the native scan", "template": "scan on the template"}


@dataclass(frozen=True)
class QcRow:
    """The content of the page for one scan.

    Parameters
    ----------
    label
        Stem of the scan's file names.
    passed
        Whether every gate was passed.
    refused
        Whether the scan was refused; then it has no volume and no numbers.
    reasons
        Reasons of the gates, and warnings, in words.
    metrics
        Name -> number (or text, or None).
    decision, comment
        Decision of a person, ``pass``, ``fail`` or None; free text.
    outdated
        Whether the decision was made on another volume than the present one.
    figures
        ``mask``, ``template`` -> path of the picture, and its address relative to the page.
    page
        Address of the participant's page; None without one.
    """

    label: str
    passed: bool
    refused: bool = False
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    decision: str | None = None
    comment: str = ""
    outdated: bool = False
    figures: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    page: str | None = None

    @property
    def verdict(self) -> str:
        """The verdict of the gates in one word."""
        if self.refused:
            return "refused"
        return ("warned" if self.reasons else "passed") if self.passed else "failed"


@dataclass(frozen=True)
class QcPage:
    """The content of the page. ``gates`` is metric -> refuse, fail, warn -> limits; ``made_from`` is a hash."""

    title: str
    version: str
    rows: Sequence[QcRow]
    gates: Gates
    phantom: bool = False
    made_from: str = ""


def write_qc_page(path: str | Path, page: QcPage) -> Path:
    """Write the page.

    Parameters
    ----------
    path
        The HTML file. Pictures of the worst scans are embedded, those of the others are linked.
    page
        The content. A picture that cannot be read is left out.

    Raises
    ------
    CannotCreateError
        When the folder of ``path`` cannot be written.
    """
    metrics = column_values(page.rows, SHOWN)
    ranked = worst_first(page.rows, metrics)
    shown = ranked[:ROWS]
    thumbnails = _thumbnails([row for row, _ in shown])
    values = {
        "page": page,
        "title": page.title,
        "summary": _summary(page.rows),
        "figure": _figure(page.rows, metrics, page.gates),
        "limits": [_limits(*column, page.gates) for column in zip(SHOWN, metrics.T, strict=True)],
        "metrics": [readable_names.metric_name(name) for name in SHOWN],
        "rows": [
            _cells(place, row, distance, next(thumbnails)) for place, (row, distance) in enumerate(shown, start=1)
        ],
        "left": len(ranked) - len(shown),
        "outdated": [row.label for row, _ in ranked if row.outdated],
        "thumbnails": THUMBNAILS,
    }
    return write_page(path, "qc.html", values, page.made_from)


def worst_first(rows: Sequence[QcRow], metrics: np.ndarray | None = None) -> list[tuple[QcRow, float | None]]:
    """Return the rows in the order of the page, each with its distance from the others.

    First come refused scans, then those that failed a gate. These are ordered by the number of reasons, then by the
    largest robust z of any metric: the distance from the median in units of 1.4826 MAD (None with fewer than 8 scans).
    ``metrics`` are the `column_values` of `SHOWN`, if they are known already.
    """
    distance = _distances(column_values(rows, SHOWN) if metrics is None else metrics)
    order = {"refused": 0, "failed": 1, "warned": 2, "passed": 2}

    def key(pair: tuple[QcRow, float | None]) -> tuple:
        row, z = pair
        return order[row.verdict], -len(row.reasons), -(z or 0.0), row.label

    return sorted(zip(rows, distance, strict=True), key=key)


def _distances(values: np.ndarray) -> list[float | None]:
    known = np.isfinite(values)
    if len(values) < MIN_SCANS:
        return [None] * len(values)
    largest = np.full(len(values), np.nan)
    for column in range(values.shape[1]):
        present = known[:, column]
        if present.sum() < MIN_SCANS:
            continue
        distance = np.abs(values[:, column] - np.median(values[present, column]))
        spread = 1.4826 * np.median(distance[present])
        if spread > 0:
            largest = np.fmax(largest, distance / spread)
    return [float(z) if np.isfinite(z) else None for z in largest]


def _summary(rows: Sequence[QcRow]) -> list[tuple[str, str]]:
    verdicts = [row.verdict for row in rows]
    used = sum(row.decision == "pass" or (row.passed and row.decision != "fail") for row in rows if not row.refused)
    return [
        ("Scans", count(len(rows))),
        ("Refused: no volume was made", count(verdicts.count("refused"))),
        ("Failed a gate", count(verdicts.count("failed"))),
        ("Passed with a warning", count(verdicts.count("warned"))),
        ("Passed", count(verdicts.count("passed"))),
        ("Decided by a person: pass", count(sum(row.decision == "pass" for row in rows))),
        ("Decided by a person: fail", count(sum(row.decision == "fail" for row in rows))),
        ("May enter training and statistics", count(used)),
    ]


def _thumbnails(rows: Sequence[QcRow]) -> Iterator[list[dict[str, str]]]:
    """Yield the pictures of each row: embedded for the first scans while space is left, linked for the others."""
    room = PICTURE_BYTES
    for place, row in enumerate(rows):
        shown = []
        for name, (path, address) in row.figures.items():
            title = _PICTURES.get(name, name)
            entry = {"href": quote(address), "title": title, "alt": f"{row.label}: {title}", "src": ""}
            if place < THUMBNAILS and room > 0:
                try:
                    entry["src"] = embed_image(path, max_width=THUMBNAIL_PIXELS)
                except BrainageError:
                    continue
                room -= len(entry["src"])
            shown.append(entry)
        yield shown


def _cells(place: int, row: QcRow, distance: float | None, thumbnails: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "place": place,
        "row": row,
        "page": quote(row.page) if row.page else "",
        "thumbnails": thumbnails,
        "distance": rounded(distance),
        "metrics": [rounded(row.metrics.get(name)) for name in SHOWN],
    }


def rounded(value: Any) -> str:
    """Return a number with three significant digits (whole from 100 on), ``n/a`` when missing."""
    given = number(value)
    if given is None:
        return NOT_AVAILABLE
    return f"{given:.0f}" if abs(given) >= 100 else f"{given:.3g}" if abs(given) >= 0.0005 else "0"


def _limits(name: str, values: np.ndarray, gates: Gates) -> dict[str, str]:
    """Return the line of a metric in the table of gates: its values in this study, and the limits."""
    values = values[np.isfinite(values)]
    middle = NOT_AVAILABLE
    if values.size:
        low, median, high = (rounded(v) for v in (values.min(), np.median(values), values.max()))
        middle = f"{median} ({low} to {high})"
    ends = dict.fromkeys(("warn", "fail", "refuse"), "–")
    ends |= {kind: _span(pair) for kind, pair in gates.get(name, {}).items()}
    return {"name": readable_names.metric_name(name), "values": middle, **ends}


def _span(limits: tuple[float, float]) -> str:
    low, high = limits
    if np.isinf(high):
        return f"below {rounded(low)}"
    return f"above {rounded(high)}" if np.isinf(low) else f"outside {rounded(low)} to {rounded(high)}"


def column_values(rows: Sequence[QcRow], names: Sequence[str]) -> np.ndarray:
    """Return the metrics, float64 (rows, names), NaN where missing."""
    numbers = [[number(row.metrics.get(name)) for name in names] for row in rows]
    return np.asarray(numbers, dtype=np.float64).reshape(-1, len(names))  # None becomes NaN


def _figure(rows: Sequence[QcRow], metrics: np.ndarray, gates: Gates) -> dict[str, str] | None:
    known = np.isfinite(metrics).any(axis=0)
    drawn = [name for name, has_values in zip(SHOWN, known, strict=True) if has_values]
    if not drawn:
        return None
    from brainage_bids.report.figure_files import draw_picture
    from brainage_bids.report.quality_figure import strips

    passed = np.asarray([row.passed for row in rows])
    picture = draw_picture(strips(metrics[:, known], passed, drawn, gates), dpi=110)
    names = ", ".join(readable_names.metric_name(name).lower() for name in drawn)
    return {"src": embed_image(picture, lossless=True), "alt": f"One strip of points per metric: {names}"}
