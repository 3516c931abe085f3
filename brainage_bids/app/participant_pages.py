"""The participants' pages: decide which must be written again, and collect their content. Computes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainage_bids import __version__
from brainage_bids.app.models import model_cards
from brainage_bids.app.page_values import is_phantom, methods_values, notices
from brainage_bids.app.quality_table import scan_warnings
from brainage_bids.app.run_record import RunRecord, last_events, software
from brainage_bids.bids.files import write_text
from brainage_bids.bids.outputs import Outputs, is_study_model
from brainage_bids.bids.quality_decisions import Decision, is_outdated, read_qc, scan_key
from brainage_bids.bids.read import Dataset, DatasetQuery, read_dataset
from brainage_bids.bids.scan_records import ScanRecords, Volume
from brainage_bids.errors import BadDataError
from brainage_bids.processes import worker_pool
from brainage_bids.report.html import content_hash, made_from_of
from brainage_bids.report.methods import citation_text, participant_methods
from brainage_bids.report.participant_html import ParticipantPage, ScanSection, write_participant_page
from brainage_bids.schema import Scan

if TYPE_CHECKING:
    from brainage_bids.app.options import ParticipantOptions


def participant_pages(
    options: ParticipantOptions, on_disk: ScanRecords, dataset: Dataset, record: RunRecord, scans: Sequence[Scan]
) -> None:
    """Write the page of every participant whose page is missing or whose results have changed.

    Each page contains a hash of what it was made from. With ``--rerun`` and ``--reports-only`` all pages are written.
    """
    outputs = on_disk.outputs
    scans = _with_other_scans(options.query, scans, outputs)
    if not scans:
        return
    volumes = {scan: on_disk.volumes(scan) for scan in scans}
    cards = [card for name, card in model_cards(outputs).items() if not is_study_model(name)]
    specs = list(dict.fromkeys(volume.spec for of_scan in volumes.values() for volume in of_scan))
    engines = sorted({volume.engine for of_scan in volumes.values() for volume in of_scan[:1]})
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
        sections.setdefault(scan.participant_id, []).append(_section(scan, volumes[scan], on_disk, failures, decision))
        origins.setdefault(scan.participant_id, []).append(_origin(scan, volumes[scan], on_disk))
    jobs = []
    for person, scan_sections in sections.items():
        page = ParticipantPage(person, sessions=tuple(scan_sections), **shared)
        made_from = content_hash(page, origins[person])
        path = outputs.participant_page(person)
        if options.reports_only or options.rerun or made_from_of(path) != made_from:
            jobs.append((path, dataclasses.replace(page, made_from=made_from)))
    if not options.reports_only and (jobs or not outputs.citation.is_file()):
        write_text(outputs.citation, citation_text(methods))
    if not jobs:
        return
    _write_pages(jobs, options.preprocess.nprocs)
    record.note(f"pages: {len(jobs)} written")


def _with_other_scans(query: DatasetQuery, scans: Sequence[Scan], outputs: Outputs) -> list[Scan]:
    """Return the scans of a run, and scans of the same people that earlier runs predicted.

    A run may process only some sessions; the pages must still show the others.
    """
    if not scans or not (query.session_label or query.filter_file):
        return list(scans)
    mine = {scan.prefix: scan for scan in scans}
    people = tuple(sorted({scan.participant_id for scan in scans}))
    whole = dataclasses.replace(
        query, participant_label=people, exclude_participant_label=(), session_label=(), filter_file=None
    )
    every = {scan.prefix: scan for scan in read_dataset(whole).scans}
    return [s for s in (every | mine).values() if s.prefix in mine or outputs.prediction(s).is_file()]


def _origin(scan: Scan, volumes: Sequence[Volume], on_disk: ScanRecords) -> list:
    """Return the hashes of a scan's volumes and predictions; they change when its pictures change."""
    origin: Mapping = {}
    with contextlib.suppress(BadDataError):
        origin = on_disk.predictions(scan).origin
    return [[volume.identity.key for volume in volumes], [origin.get(name) for name in ("Keys", "Weights")]]


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
    volumes: Sequence[Volume],
    on_disk: ScanRecords,
    failures: Mapping[str, str],
    decision: Decision,
) -> ScanSection:
    outputs, specs = on_disk.outputs, [volume.spec for volume in volumes]
    try:
        predictions, unreadable = on_disk.predictions(scan).rows, None
    except BadDataError as error:
        predictions, unreadable = (), str(error)
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
    values = volumes[0].sidecar if volumes else {}
    facts |= {"recognised": "; ".join(values["Notes"])} if values.get("Notes") else {}
    figures = {name: outputs.qc_figure(scan, name) for name in ("mask", "template")}
    return ScanSection(
        label=scan.prefix,
        facts=facts,
        predictions=predictions,
        qc=values.get("QC", {}),
        qc_pass=values.get("qc_pass"),
        qc_warn=tuple(scan_warnings(scan, values)) if values else (),
        qc_decision=decision.verdict,
        qc_comment=decision.comment,
        qc_outdated=bool(volumes) and is_outdated(decision, volumes[0].identity.decision_key),
        figures={name: path for name, path in figures.items() if path.is_file()},
        volume=outputs.volume(scan, specs[0]) if specs else None,
        saliency=saliency,
        failed=failures.get(scan.prefix, unreadable),
    )
