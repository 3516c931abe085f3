"""Gather what the pages say and hand it to the report room; computes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainage_bids import __version__
from brainage_bids.bids.files import read_tsv, write_text
from brainage_bids.bids.outputs import Outputs, is_study_model
from brainage_bids.bids.qc import Decision, is_outdated, read_qc, scan_key
from brainage_bids.bids.read import Dataset, DatasetQuery, read_dataset
from brainage_bids.errors import BadDataError
from brainage_bids.model.artifact import CARD, read_model_json
from brainage_bids.pipeline.models import model_calibration, model_cards, trained_as
from brainage_bids.pipeline.pooled import confounding, template_root
from brainage_bids.pipeline.predictions import (
    about_predictions,
    engine_of,
    prediction_rows,
    volume_identity,
    volume_sidecars,
)
from brainage_bids.pipeline.qc import quality_rows, scan_warnings, volume_id
from brainage_bids.pipeline.record import RunRecord, last_events, software
from brainage_bids.processes import worker_pool
from brainage_bids.report.group import GroupPage, write_group_page
from brainage_bids.report.html import content_hash, made_from_of
from brainage_bids.report.methods import citation_text, group_methods, participant_methods
from brainage_bids.report.participant import ParticipantPage, ScanSection, write_participant_page
from brainage_bids.report.references import references_for
from brainage_bids.schema import Scan, VolumeSpec
from brainage_bids.stats.bias import fit_line
from brainage_bids.stats.correlate import primary_statistic

if TYPE_CHECKING:
    import pandas as pd

    from brainage_bids.pipeline.options import GroupOptions, ParticipantOptions
    from brainage_bids.pipeline.regions import Saliency
    from brainage_bids.pipeline.types import Results

LOG = logging.getLogger("brainage_bids")

GROUP_TABLES = (
    "cohort accuracy modelcomparison correlations correlationcomparison groupdiff roc site longitudinal reliability "
    "roc_curves calibration sessions"
).split()


def is_phantom(dataset: Dataset) -> bool:
    """Say whether the dataset calls itself a phantom."""
    return "phantom" in dataset.name.lower()


def notices(cards: Iterable[Mapping]) -> list[str]:
    """Return what the cards of the models want every reader of their ages to know."""
    return [f"{card['name']}: {card['notice']}" for card in cards if card.get("notice")]


def participant_pages(
    options: ParticipantOptions, outputs: Outputs, dataset: Dataset, record: RunRecord, scans: Sequence[Scan]
) -> None:
    """Write the page of every participant that is not there, or was made from something else than what is there now.

    A page tells what it was made from. All are written where the run is to do everything again, or pages only.
    """
    scans = _with_other_scans(options.query, scans, outputs)
    if not scans:
        return
    volumes = {scan: volume_sidecars(scan, outputs) for scan in scans}
    cards = [card for name, card in model_cards(outputs).items() if not is_study_model(name)]
    specs = list(dict.fromkeys(spec for found in volumes.values() for spec, _ in found))
    engines = sorted({engine_of(values) for found in volumes.values() for _, values in found[:1]})
    methods = participant_methods(methods_values(specs, cards, engines))
    failures = {event["prefix"]: f"{event['step']}: {event['reason']}" for event in record.failures}
    if options.reports_only:
        events = last_events(outputs).values()
        failures = {e["prefix"]: f"{e['step']}: {e['reason']}" for e in events if e["status"] == "failed"}
    shared = {
        "version": __version__,
        "methods": methods,
        "software": software(),
        "phantom": is_phantom(dataset) or any(card.get("phantom") for card in cards),
        "notices": notices(cards),
        "command": record.places.command(options.command),
    }
    decided = read_qc(outputs.qc_table)
    sections: dict[str, list[ScanSection]] = {}
    origins: dict[str, list] = {}
    for scan in scans:
        decision = decided.decision(scan_key(scan))
        sections.setdefault(scan.participant_id, []).append(_section(scan, volumes[scan], outputs, failures, decision))
        origins.setdefault(scan.participant_id, []).append(_origin(scan, volumes[scan], outputs))
    jobs = []
    for person, found in sections.items():
        page = ParticipantPage(person, sessions=tuple(found), **shared)
        made_from = content_hash(page, origins[person])
        path = outputs.participant_page(person)
        if options.reports_only or options.rerun or made_from_of(path) != made_from:
            jobs.append((path, dataclasses.replace(page, made_from=made_from)))
    if jobs or not outputs.citation.is_file():
        write_text(outputs.citation, citation_text(methods))
    if not jobs:
        return
    _write_pages(jobs, options.preprocess.nprocs)
    record.note(f"pages: {len(jobs)} written")


def _with_other_scans(query: DatasetQuery, scans: Sequence[Scan], outputs: Outputs) -> list[Scan]:
    """Return the scans of a run and those that earlier runs predicted of the same people.

    A run may be asked for some sessions only; the pages of its people must not lose the others.
    """
    if not scans or not (query.session_label or query.filter_file):
        return list(scans)
    mine = {scan.prefix: scan for scan in scans}
    people = tuple(sorted({scan.participant_id for scan in scans}))
    whole = dataclasses.replace(
        query, participant_label=people, exclude_participant_label=(), session_label=(), filter_file=None
    )
    found = {scan.prefix: scan for scan in read_dataset(whole).scans}
    return [s for s in (found | mine).values() if s.prefix in mine or outputs.prediction(s).is_file()]


def _origin(scan: Scan, volumes: Sequence[tuple[VolumeSpec, Mapping]], outputs: Outputs) -> list:
    """Return what tells whether the pictures of a scan are those that the page shows."""
    told: Mapping = {}
    with contextlib.suppress(BadDataError):
        told = about_predictions(outputs.prediction(scan))
    return [[volume_identity(values) for _, values in volumes], [told.get(name) for name in ("Keys", "Weights")]]


def _write_pages(jobs: Sequence[tuple[Path, ParticipantPage]], nprocs: int) -> None:
    if nprocs == 1 or len(jobs) < 4:
        for path, page in jobs:
            write_participant_page(path, page)
        return
    with worker_pool(min(nprocs, len(jobs))) as pool:
        for future in [pool.submit(write_participant_page, path, page) for path, page in jobs]:
            future.result()


def _section(
    scan: Scan,
    volumes: Sequence[tuple[VolumeSpec, Mapping]],
    outputs: Outputs,
    failures: Mapping[str, str],
    decision: Decision,
) -> ScanSection:
    specs = [spec for spec, _ in volumes]
    predictions = prediction_rows(outputs.prediction(scan))
    saliency = {}
    for row in predictions:
        for spec in specs:
            path = outputs.saliency(scan, spec, row["model"])
            if path.is_file():
                saliency[row["model"]] = path
    facts = {
        "age": scan.age,
        "age_source": scan.age_source,
        "sex": scan.sex,
        "group": scan.group,
        "site": scan.site,
        "scores": dict(scan.scores),
        **({"age_flags": ", ".join(scan.age_flags)} if scan.age_flags else {}),
    }
    values = volumes[0][1] if volumes else {}
    facts |= {"recognised": "; ".join(values["Notes"])} if values.get("Notes") else {}
    figures = {name: outputs.qc_figure(scan, name) for name in ("mask", "template")}
    return ScanSection(
        label=scan.prefix,
        facts=facts,
        predictions=tuple(predictions),
        qc=values.get("QC", {}),
        qc_pass=values.get("qc_pass"),
        qc_warn=tuple(scan_warnings(scan, values)) if values else (),
        qc_decision=decision.verdict,
        qc_comment=decision.comment,
        qc_outdated=bool(values) and is_outdated(decision, volume_id(values)),
        figures={name: path for name, path in figures.items() if path.is_file()},
        volume=outputs.volume(scan, specs[0]) if specs else None,
        saliency=saliency,
        failed=failures.get(scan.prefix),
    )


def write_citation(
    outputs: Outputs, specs: Sequence[VolumeSpec], cards: Sequence[Mapping], engines: Sequence[str]
) -> str:
    """Write ``logs/CITATION.md`` and return the methods text of the participant level."""
    methods = participant_methods(methods_values(specs, cards, engines))
    write_text(outputs.citation, citation_text(methods))
    return methods


def methods_values(specs: Sequence[VolumeSpec], cards: Sequence[Mapping], engines: Sequence[str]) -> dict:
    """Return what the methods text needs, from the volumes and the content of ``model.json`` of each model."""
    values: dict = {"version": __version__, "engines": engines, "saliency": bool(cards), "coverage": 95}
    names = ("template", "resolution", "shape", "intensity")
    values["grids"] = [{name: getattr(spec, name) for name in names} for spec in dict.fromkeys(specs)]
    models = []
    for card in cards:
        training = card["training"]
        models.append(
            {
                "name": card["name"],
                "backbone": card["architecture"]["backbone"],
                "loss": card["recipe"]["method"],
                "n_train": training["n"],
                "age_min": training["age_min"],
                "age_max": training["age_max"],
                "folds": len(card["members"]) if len(card["members"]) > 1 else None,
                "phantom": bool(card.get("phantom")),
                "who": card.get("who"),
            }
        )
    return {**values, "models": models, "lines": [_line(card) for card in cards]}


def _line(card: Mapping) -> dict:
    """Return the age-bias line of a model's own held-out people, as `participant_methods` wants it."""
    people = model_calibration(card)
    line = fit_line(people["age"], people["predicted_age"])
    return {"name": card["name"], "method": line.method, "source": line.source, "n": line.n, "who": card.get("who")}


def training_page(outputs: Outputs, name: str, table: pd.DataFrame, device: str) -> bool:
    """Write the page of a training, unless there is one of this very model or its history was removed; say whether.

    ``table`` is the one that `train_model` had.
    """
    from brainage_bids.model.views import augmented_examples, embedding_map
    from brainage_bids.report.training import TrainingPage, write_training_page

    folder, path = outputs.model(name), outputs.training_page(name)
    values = read_model_json(folder / CARD)
    made_from = trained_as(values)
    if made_from_of(path) == made_from or not (folder / "history.tsv").is_file():
        return False
    points, shares = (None, ()) if values["recipe"]["method"] == "ridge" else embedding_map(folder, table, device)
    history = read_tsv(folder / "history.tsv")
    examples = augmented_examples(folder, table)
    page = TrainingPage(name, __version__, values, history, points, shares, examples, made_from)
    write_training_page(path, page)
    return True


def group_page(
    options: GroupOptions,
    outputs: Outputs,
    dataset: Dataset,
    results: Results,
    table: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    lines: dict[str, dict],
    saliency: Saliency,
    record: RunRecord,
) -> None:
    """Write ``group.html`` and its figures."""
    maps = saliency.maps
    pooled = results.pooled
    places = [(m.outputs, m.dataset) for m in pooled.members] if pooled else [(outputs, dataset)]
    cards = [results.cards[name] for name in results.models if name in results.cards]
    specs = [VolumeSpec.from_dict(card["volume_spec"]) for card in cards]
    values = methods_values(specs, cards, results.engines)
    scores = options.scores(dataset)
    methods = group_methods(
        {
            **values,
            "models": [*values["models"], *_external(results)],
            "controls": sorted(set(dataset.controls) & set(tables["selected"]["group"].dropna())),
            "groups": sorted(table["group"].dropna().unique()),
            "scores": scores,
            "ranked": [score for score in scores if primary_statistic(score) == "spearman"],
            "covariates": list(options.covariates),
            "session_select": options.session_select,
            "seed": options.seed,
            "lines": [
                {"name": name, **line, "who": results.cards.get(name, {}).get("who")} for name, line in lines.items()
            ],
            "maps": not maps.empty,
            "atlas": saliency.atlas,
            **{name: not tables[name].empty for name in ("longitudinal", "reliability", "correlationcomparison")},
            "calibration": bool((tables["calibration"].status == "ok").any()),
            **{
                f"{what}s": bool(((tables["site"].effect == what) & (tables["site"].status == "ok")).any())
                for what in ("site", "dataset")
            },
            "together": list(pooled.names) if pooled and len(pooled.names) > 1 else None,
        }
    )
    page = GroupPage(
        title=f"Brain age in {dataset.name}",
        version=__version__,
        table=table.reset_index(),
        models=list(results.models),
        controls=list(dataset.controls),
        **{name: tables[name] for name in GROUP_TABLES},
        bias=lines,
        maps=maps,
        regions=saliency.regions,
        contrasts=saliency.contrasts,
        atlas=saliency.atlas,
        underlay=_underlay(maps, specs, outputs, results),
        failed=results.failed,
        left_out=tables["left_out"],
        scores=scores,
        methods=methods,
        software=software(),
        references=references_for(methods),
        warnings=[
            *(confounding(tables["selected"], dataset.controls) if pooled else ()),
            *(pooled.warnings if pooled else ()),
            *([tables["choice"]] if tables["choice"] else ()),
            *_warnings(dataset, results, lines, all(is_phantom(one) for _, one in places)),
            *not_covered(tables["calibration"]),
        ],
        phantom=any(is_phantom(one) for _, one in places) or any(card.get("phantom") for card in cards),
        participant_pages=any(outputs.root.glob("sub-*.html")),
        links=[pooled.links.get(key, "") for key in table.index] if pooled else None,
        cohort_sites=tables["cohortsites"],
        **{name: tables[name] for name in ("patients", "missing", "flags")},
        quality=[row for where, _ in places for row in quality_rows(where)],
        qc_page=outputs.qc_page.name if outputs.qc_page.is_file() else None,
        trained_on={card["name"]: card["training"]["n"] for card in cards},
        files=_files(outputs),
        without_scan=sum(len(one.participants_without_scan) for _, one in places),
    )
    write_group_page(outputs.group_page, page, outputs.group_figures)
    record.note(f"group: {len(table)} scans, {len(results.failed)} without result, page written")


def _files(outputs: Outputs) -> dict[str, str]:
    """Return the address of every table of the group level, as seen from the page."""
    found = [*outputs.group_table("brainage").parent.glob("*.tsv"), outputs.bias_correction, outputs.qc_table]
    return {path.stem: path.relative_to(outputs.root).as_posix() for path in sorted(found) if path.is_file()}


def _external(results: Results) -> list[dict]:
    return [{"name": name, "external": True} for name in results.models if name not in results.cards]


def _warnings(dataset: Dataset, results: Results, lines: Mapping[str, Mapping], phantoms: bool) -> list[str]:
    warnings = []
    if not dataset.controls:
        warnings.append("No control group was found: there are no group comparisons. Name it with --control VALUE.")
    if len(results.failed):
        warnings.append(f"{len(results.failed)} scans have no result; they are listed below with the reason.")
    for name, line in lines.items():
        warnings += [f"{name}: {text}" for text in line.get("warnings", ())]
    warnings += notices([card for name, card in results.cards.items() if name in results.models])
    for name, card in results.cards.items():
        if name in results.models and card.get("phantom") and not phantoms:
            warnings.append(f"{name} was trained on phantoms: its ages say nothing about people.")
    return warnings


def not_covered(calibration: pd.DataFrame) -> list[str]:
    """Say where fewer controls lie in the intervals than promised, beyond chance."""
    found = calibration[calibration["wilson_hi"] < calibration["level"] / 100]
    return [
        f"{row.model}: controls differ from the calibration people; the {row.level:g} % interval holds {row.covered:g} "
        f"of {row.n_controls} controls ({100 * row.coverage:.0f} %, 95 % CI {100 * row.wilson_lo:.0f} to "
        f"{100 * row.wilson_hi:.0f} %), so single people's intervals are too narrow here."
        for row in found.itertuples()
    ]


def _underlay(maps: pd.DataFrame, specs: Sequence[VolumeSpec], outputs: Outputs, results: Results) -> object | None:
    if maps.empty or not specs:
        return None
    from brainage_bids.preprocess.template import template_volume

    grid = specs[0].at(2)
    data, _ = template_volume(grid, template_root(results, outputs, grid))
    return data, grid.affine
