"""Image quality of every scan: the table ``qc.tsv``, which a person may edit, and the page ``qc.html``.

Computes no metric: the sidecars of the volumes hold the numbers and the verdict of the gates. ``qc.tsv`` adds the
decisions of a person.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from brainage_bids import __version__
from brainage_bids.app.run_record import RunRecord, last_events
from brainage_bids.bids.files import MISSING, write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.quality_decisions import (
    DECISION,
    Key,
    QcTable,
    effective_pass,
    is_outdated,
    read_qc,
    scan_key,
    update_qc,
)
from brainage_bids.bids.read import Dataset
from brainage_bids.bids.scan_records import ScanRecords, Volume
from brainage_bids.report.html import content_hash, made_from_of
from brainage_bids.report.quality_html import QcPage, QcRow, write_qc_page
from brainage_bids.schema import QC_COLUMNS, QC_METRICS, Scan

ADULT_AGE = 18.0  # years; the embedded template was made from people of 18.5 to 43.5 years
REFUSED = "refused"  # value of ``qc_volume`` for a scan without a volume
SEPARATOR = " | "
PAGE_SHARE = 0.05  # a run over a smaller share of the scans does not write the page; larger runs do
UNITS = {"ml": "mL", "mm": "mm", "deg": "degree"}


def scan_warnings(scan: Scan, values: Mapping) -> list[str]:
    """Return the warnings about a scan: the reasons of the gates in the sidecar of its volume, and a young age."""
    young = scan.age is not None and scan.age < ADULT_AGE
    return [*values.get("qc_warn", ()), *(["age below 18 years: the template is an adult's"] if young else [])]


def gates_passed(volumes: Sequence[Volume]) -> bool | None:
    """Return whether all volumes of a scan passed the gates; None without a volume."""
    return all(bool(volume.sidecar.get("qc_pass")) for volume in volumes) if volumes else None


def may_be_used(scan: Scan, on_disk: ScanRecords, table: QcTable) -> bool | None:
    """Return whether a scan is used in training and statistics; None without a volume.

    The gates decide, unless a person decided otherwise in ``qc.tsv``.
    """
    return effective_pass(gates_passed(on_disk.volumes(scan)), table.decision(scan_key(scan)).verdict)


def write_qc(
    on_disk: ScanRecords, dataset: Dataset, record: RunRecord, phantom: bool = False, page_only: bool = False
) -> None:
    """Update ``qc.tsv`` and ``qc.html`` (``page_only``: only the page). Decisions and comments of a person are kept.

    Raises
    ------
    BadDataError
        When ``qc.tsv`` was edited and cannot be read any more; the file is not changed.
    """
    outputs = on_disk.outputs
    events = [event for event in last_events(outputs).values() if event["status"] == "failed"]
    reasons = {event["prefix"]: str(event["reason"]) for event in [*events, *record.failures]}
    rows = [row for scan in dataset.scans if (row := _row(scan, on_disk.volumes(scan), reasons)) is not None]
    if not rows:
        return
    now = {(row["participant_id"], row["session_id"], row["run"]): row["qc_volume"] for row in rows}
    if page_only:
        table = read_qc(outputs.qc_table)
        now = {key: volume for key, volume in now.items() if key in table.rows}
    else:
        table = update_qc(outputs.qc_table, tuple(QC_COLUMNS), rows)
        write_json(sidecar_path(outputs.qc_table), column_meanings())
    _note_summary(table, now, record)
    if table.rows and (len(now) >= PAGE_SHARE * len(table.rows) or not outputs.qc_page.is_file()):
        there = set(os.listdir(outputs.root))
        shown = [_page_row(key, table, outputs, there, now.get(key)) for key in table.rows]
        page = QcPage(f"Image quality: {dataset.name}", __version__, shown, gates(), phantom)
        made_from = content_hash(page, [row.get("qc_volume") for row in table.rows.values()])
        if made_from_of(outputs.qc_page) != made_from:
            write_qc_page(outputs.qc_page, dataclasses.replace(page, made_from=made_from))


def gates() -> dict[str, dict[str, tuple[float, float]]]:
    """Return metric -> ``refuse``, ``fail``, ``warn`` -> the limits between which a scan must lie."""
    from brainage_bids.preprocess import quality

    kinds = {"refuse": quality.REFUSE, "fail": quality.FAIL, "warn": quality.WARN}
    return {
        name: {kind: limits[name] for kind, limits in kinds.items() if name in limits}
        for name in QC_METRICS
        if any(name in limits for limits in kinds.values())
    }


def column_meanings() -> dict[str, dict]:
    """Return the content of ``qc.json``: meaning, unit and gates of every column."""
    limits, meanings = gates(), {}
    for name, text in QC_COLUMNS.items():
        unit = UNITS.get(name.rpartition("_")[2])
        meanings[name] = {
            "Description": text,
            **({"Units": unit} if unit else {}),
            **({"Gates": {kind: list(ends) for kind, ends in limits[name].items()}} if name in limits else {}),
        }
    meanings[DECISION]["Levels"] = {"pass": "use the scan whatever the gates say", "fail": "leave the scan out"}
    return meanings


def _row(scan: Scan, volumes: Sequence[Volume], reasons: Mapping[str, str]) -> dict | None:
    """Return the row of a scan; None when it was never processed."""
    row = {"participant_id": scan.participant_id, "session_id": scan.session_id, "run": scan.run}
    if not volumes:
        reason = reasons.get(scan.prefix)
        empty = dict.fromkeys(QC_METRICS)
        return None if reason is None else {**row, "qc_pass": 0, "qc_warn": reason, **empty, "qc_volume": REFUSED}
    values, volume = volumes[0].sidecar, volumes[0].identity.decision_key
    numbers = {name: values.get("QC", {}).get(name) for name in QC_METRICS}
    warnings = SEPARATOR.join(scan_warnings(scan, values)) or None
    return {**row, "qc_pass": int(bool(gates_passed(volumes))), "qc_warn": warnings, **numbers, "qc_volume": volume}


def _note_summary(table: QcTable, now: Mapping[Key, str], record: RunRecord) -> None:
    failed = sum(table.rows[key]["qc_pass"] == "0" for key in now)
    verdicts = [table.decision(key).verdict for key in now]
    decided = (
        f"; decided in qc.tsv: {verdicts.count('pass')} pass, {verdicts.count('fail')} fail" if any(verdicts) else ""
    )
    record.note(f"quality: {failed} of {len(now)} scans do not pass the gates{decided}; look at qc.html")
    old = [_name(key) for key, volume in now.items() if is_outdated(table.decision(key), volume)]
    if old:
        more = f" and {len(old) - 10} more" if len(old) > 10 else ""
        record.note(
            f"quality: {', '.join(old[:10])}{more}: decided on an older volume; look again, then empty the cell "
            "qc_volume of qc.tsv to confirm"
        )


def _name(key: Key) -> str:
    return "_".join(part for part in key if part)


def quality_rows(outputs: Outputs) -> list[dict]:
    """Return ``passed refused reasons decision`` of every scan in ``qc.tsv``."""
    table = read_qc(outputs.qc_table)
    return [
        {
            "passed": row.get("qc_pass") == "1",
            "refused": _refused(row),
            "reasons": _reasons(row),
            "decision": table.decision(key).verdict,
        }
        for key, row in table.rows.items()
    ]


def _refused(row: Mapping[str, str]) -> bool:
    return all(row.get(name, MISSING) in ("", MISSING) for name in QC_METRICS)


def _reasons(row: Mapping[str, str]) -> tuple[str, ...]:
    reasons = row.get("qc_warn", MISSING)
    return tuple(reasons.split(SEPARATOR)) if reasons not in ("", MISSING) else ()


def _page_row(key: Key, table: QcTable, outputs: Outputs, there: Collection[str], volume: str | None) -> QcRow:
    """Return the row of a scan on the page; ``there`` are the names in OUTPUT_DIR."""
    row, decision = table.rows[key], table.decision(key)
    entities = tuple(tuple(part.split("-", 1)) for part in key[2].split("_")) if key[2] else ()
    scan = Scan("", key[0], key[1], entities)
    drawn = key[0] in there and outputs.participant_figures(key[0]).is_dir()
    figures = {name: outputs.qc_figure(scan, name) for name in ("mask", "template")} if drawn else {}
    page = outputs.participant_page(key[0]).name
    return QcRow(
        label=_name(key),
        passed=row.get("qc_pass") == "1",
        refused=_refused(row),
        reasons=_reasons(row),
        metrics={name: row.get(name) for name in QC_METRICS},
        decision=decision.verdict,
        comment=decision.comment,
        outdated=is_outdated(decision, volume),
        figures={name: (path, _address(path, outputs)) for name, path in figures.items() if path.is_file()},
        page=page if page in there else None,
    )


def _address(path: Path, outputs: Outputs) -> str:
    """Return the address of a file relative to OUTPUT_DIR."""
    return path.relative_to(outputs.root).as_posix()


def passing(scans: Sequence[Scan], on_disk: ScanRecords) -> list[bool]:
    """Return for each scan whether a model may be trained on it (`may_be_used`)."""
    table = read_qc(on_disk.outputs.qc_table)
    return [bool(may_be_used(scan, on_disk, table)) for scan in scans]
