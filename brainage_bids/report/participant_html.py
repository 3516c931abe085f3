"""The page of one participant: for each scan its numbers, their uncertainty, and pictures.

All numbers come from the tables; here they are only rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainage_bids.errors import BrainageError
from brainage_bids.report import readable_names
from brainage_bids.report.html import NOT_AVAILABLE, decimals, embed_image, interval, number, text, write_page

UNKNOWN_TO_MODEL = {"age_extrapolated": "an age", "contrast_extrapolated": "a contrast"}
_PICTURES = {
    "mask": (
        "Brain mask on the native scan",
        "The outline should follow the surface of the brain, without skull or eyes.",
    ),
    "template": (
        "Scan on the template",
        "Ventricles and the surface of the brain should match the template's outline.",
    ),
}


@dataclass(frozen=True)
class ScanSection:
    """The content of the page for one scan.

    Parameters
    ----------
    label
        Heading of the section, e.g. ``ses-1`` or the stem of the file name.
    facts
        ``age`` (years), ``age_source``, ``sex``, ``group``, ``site``, ``scores`` (name -> value) and more.
    predictions
        Rows with the columns of `brainage_bids.schema.PREDICTION_COLUMNS`, one per model.
    qc
        QC metrics, name -> number.
    qc_pass
        Whether every quality gate was passed; None when unknown.
    qc_warn
        Warnings of the quality gates, in words.
    figures
        QC pictures: ``mask``, ``template`` -> path of a PNG.
    volume
        Preprocessed T1w in template space.
    saliency
        Model -> signed Grad-RAM map (years, on its own coarse grid).
    failed
        Step and reason when the scan failed; None otherwise.
    qc_decision, qc_comment, qc_outdated
        Decision (``pass``, ``fail`` or None) and comment of a person in ``qc.tsv``, and whether the volume was made
        again since.
    """

    label: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    predictions: tuple[Mapping[str, Any], ...] | list[Mapping[str, Any]] = ()
    qc: Mapping[str, Any] = field(default_factory=dict)
    qc_pass: bool | None = None
    qc_warn: tuple[str, ...] | list[str] = ()
    figures: Mapping[str, str | Path] = field(default_factory=dict)
    volume: str | Path | None = None
    saliency: Mapping[str, str | Path] = field(default_factory=dict)
    failed: str | None = None
    qc_decision: str | None = None
    qc_comment: str = ""
    qc_outdated: bool = False


@dataclass(frozen=True)
class ParticipantPage:
    """The content of the page of one participant.

    Parameters
    ----------
    participant_id
        Label with its prefix.
    version
        Version of this software.
    sessions
        One section per scan.
    methods
        Plain paragraphs (`brainage_bids.report.methods.participant_methods`).
    software
        Name -> version of what was run.
    phantom
        True when the scans or the model are synthetic.
    notices
        Notices about the models, to read before their predictions.
    command
        The command line.
    made_from
        Hash of the content, stored in the page (`html.made_from_of`).
    """

    participant_id: str
    version: str
    sessions: tuple[ScanSection, ...]
    methods: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    phantom: bool = False
    notices: Sequence[str] = ()
    command: str = ""
    made_from: str = ""


def write_participant_page(path: str | Path, page: ParticipantPage) -> Path:
    """Write the page of one participant.

    Parameters
    ----------
    path
        The HTML file; it is self-contained.
    page
        The content. A picture that cannot be read is replaced by a sentence with its name.

    Raises
    ------
    CannotCreateError
        When the folder of ``path`` cannot be written.
    """
    sections = [_section(scan) for scan in page.sessions]
    values = {"page": page, "title": page.participant_id, "sections": sections}
    return write_page(path, "participant.html", values, page.made_from)


def interval_row(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``model``, ``gap`` (corrected, years) and ``half`` (half width of the interval, years, or None) of a row.

    The half width is half the distance from ``pred_lo`` to ``pred_hi``. Where ``pred_lo`` is 0, the interval was cut
    there, and the half width is the distance from its middle, age plus gap, to ``pred_hi``. Returns None without a
    corrected gap.
    """
    gap = number(row.get("bag_corrected"))
    if gap is None:
        return None
    low, high = number(row.get("pred_lo")), number(row.get("pred_hi"))
    age = number(row.get("chronological_age"))
    half = (high - low) / 2 if low is not None and high is not None else None
    if half is not None and low == 0 and age is not None:
        half = high - (age + gap)
    return {"model": text(row.get("model")), "gap": gap, "half": half if half and half > 0 else None}


def verdict(row: Mapping[str, Any]) -> str:
    """Return a sentence that compares the corrected gap with that of healthy held-out people."""
    result = interval_row(row)
    if result is None:
        return "There is no corrected gap, so this prediction cannot be set against healthy people of the same age."
    if result["half"] is None:
        return "Too few healthy held-out people were there for a 95 % interval; the gap cannot be judged."
    band = f"\u00b1{decimals(result['half'], 1)} years around zero"
    flags = dict(readable_names.flags_in_words(row.get("flags")))
    if strange := [what for flag, what in UNKNOWN_TO_MODEL.items() if flag in flags]:
        return (
            f"The model did not learn from scans of such {' and '.join(strange)}: the band of healthy held-out people "
            f"({band}) says nothing about this gap."
        )
    if abs(result["gap"]) <= result["half"]:
        return f"Within the band that holds 95 % of healthy held-out people ({band})."
    side = "Above" if result["gap"] > 0 else "Below"
    where = f"{side} the band that holds 95 % of healthy held-out people ({band})"
    return f"{where}; 1 in 20 healthy people also lie outside it."


def _section(scan: ScanSection) -> dict[str, Any]:
    rows = [_prediction(row) for row in scan.predictions]
    return {
        "scan": scan,
        "facts": _facts(scan.facts),
        "rows": rows,
        "flags": _flags(scan.predictions),
        "graphic": _graphic(scan),
        "qc": [(readable_names.metric_name(name), _metric(value)) for name, value in scan.qc.items()],
        "pictures": _pictures(scan),
        "maps": _maps(scan),
    }


def _prediction(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "model": text(row.get("model")),
        "predicted": decimals(row.get("predicted_age")),
        "age": decimals(row.get("chronological_age")),
        "gap": decimals(row.get("bag"), sign=True),
        "corrected": decimals(row.get("bag_corrected"), sign=True),
        "interval": _ages(row.get("pred_lo"), row.get("pred_hi")),
        "verdict": verdict(row),
    }


def _ages(low: Any, high: Any) -> str:
    """Return an interval of ages; earlier versions wrote ends below 0."""
    ends = [None if (end := number(value)) is None else max(end, 0.0) for value in (low, high)]
    return interval(*ends)


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = []
    for name, value in facts.items():
        if name == "scores":
            pairs = value.items() if isinstance(value, Mapping) else (value or ())
            shown += [(readable_names.score_name(score), _metric(given)) for score, given in pairs]
        elif name == "age":
            shown.append(
                (
                    readable_names.fact_name(name),
                    f"{decimals(value)} years" if number(value) is not None else text(value),
                )
            )
        else:
            shown.append((readable_names.fact_name(name), text(value)))
    return shown


def _flags(predictions) -> list[dict[str, str]]:
    """Return one entry per flag, with the models it concerns if these are not all."""
    models: dict[tuple[str, str], list[str]] = {}
    for row in predictions:
        for flag in readable_names.flags_in_words(row.get("flags")):
            models.setdefault(flag, []).append(text(row.get("model")))
    everyone = len(predictions)
    return [
        {"name": name, "sentence": sentence, "models": "" if len(who) == everyone else ", ".join(who)}
        for (name, sentence), who in models.items()
    ]


def _graphic(scan: ScanSection) -> dict[str, str] | None:
    rows = [result for row in scan.predictions if (result := interval_row(row)) is not None]
    if not rows:
        return None
    gaps = [f"{row['model']}: corrected gap {decimals(row['gap'], 2, True)} years" for row in rows]
    bands = any(row["half"] is not None for row in rows)
    alt = "Corrected brain age gap against the band of healthy people. " + "; ".join(gaps)
    from brainage_bids.report import figures
    from brainage_bids.report.figure_files import draw_picture

    return {"src": embed_image(draw_picture(figures.interval_graphic(rows)), lossless=True), "alt": alt, "bands": bands}


def _metric(value: Any) -> str:
    given = number(value)
    if given is None:
        return text(value)
    return f"{given:.0f}" if given == round(given) else decimals(given, 3 if abs(given) < 10 else 1)


def _pictures(scan: ScanSection) -> list[dict[str, str]]:
    shown = []
    for name, path in scan.figures.items():
        title, hint = _PICTURES.get(name, (name, ""))
        entry = {"title": title, "hint": hint, "alt": f"{title}, {scan.label}", "src": "", "problem": ""}
        try:
            entry["src"] = embed_image(path)
        except BrainageError as error:
            entry["problem"] = str(error)
        shown.append(entry)
    return shown


def _maps(scan: ScanSection) -> list[dict[str, str]]:
    if not scan.saliency:
        return []
    shown = []
    for model, path in scan.saliency.items():
        entry = {
            "model": text(model),
            "src": "",
            "alt": "",
            "cells": NOT_AVAILABLE,
            "total": NOT_AVAILABLE,
            "problem": "",
        }
        try:
            from brainage_bids.report import brain_slices

            overlay = brain_slices.load(path)
            underlay = brain_slices.load(scan.volume) if scan.volume is not None else None
            entry["src"] = embed_image(brain_slices.overlay_picture(underlay, overlay))
            entry["cells"] = " x ".join(f"{edge:.3g}" for edge in overlay.cell_mm)
            entry["total"] = decimals(float(overlay.data.sum(dtype="float64")), sign=True)
            entry["alt"] = (
                f"Grad-RAM map of model {entry['model']} on the brain, six axial, six coronal and six sagittal slices, "
                "signed colours in years per cell, left of the person on the left"
            )
        except BrainageError as error:
            entry["problem"] = str(error)
        shown.append(entry)
    return shown
