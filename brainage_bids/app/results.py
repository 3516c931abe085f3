"""Read the results of the participant level of one dataset: a table of scans, a table of gaps, failures and maps.

Reads prediction tables, model cards and run records. Opens no image and computes no statistic.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from brainage_bids.app.bias_correction import UNKNOWN_FOLD
from brainage_bids.app.models import read_cards, weights_now
from brainage_bids.app.quality_table import gates_passed
from brainage_bids.app.run_record import last_events
from brainage_bids.app.scan_predictions import believable, is_up_to_date
from brainage_bids.app.types import GAP_COLUMNS, Results
from brainage_bids.bids.grouptables import BY_MODEL
from brainage_bids.bids.outputs import MAP_ENDING, scan_claim
from brainage_bids.bids.quality_decisions import FAIL, effective_pass, read_qc, scan_key
from brainage_bids.bids.read import Dataset
from brainage_bids.bids.runs import claimed
from brainage_bids.bids.scan_records import Predictions, ScanRecords, Volume
from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.model.artifact import WEIGHTS_KEY, trained_as
from brainage_bids.result_tables import FAILED
from brainage_bids.schema import BRAINAGE_COLUMNS, QC_WARNINGS, RATE_AGE, Scan, VolumeSpec

LOG = logging.getLogger("brainage_bids")


def read_results(
    dataset: Dataset, on_disk: ScanRecords, external: Mapping[str, pd.DataFrame], only: Collection[str] = ()
) -> Results:
    """Read the prediction tables of all scans of a dataset.

    Parameters
    ----------
    dataset, on_disk
        The dataset and its results.
    external
        Predictions made elsewhere, by name. A scan without a prediction of ours is listed as failed, unless its
        person has a prediction made elsewhere.
    only
        Names of the models to use; empty uses all.

    Raises
    ------
    BadDataError
        When the card of a model that predicted cannot be read.
    UsageError
        When two models would share a column of ``brainage.tsv``.
    """
    outputs = on_disk.outputs
    elsewhere = {person for table in external.values() for person in table["participant_id"]}
    rows, failed, maps, gaps, seen, engines = [], [], [], [], {}, set()
    foreign: list[tuple[int, Scan]] = []  # rows without a prediction of ours
    outdated: list[tuple[Scan, str]] = []
    cards, broken = read_cards(outputs)
    cards = {name: card for name, card in cards.items() if not only or name in only}
    trainings = {name: {card.get("fingerprint"), trained_as(card)} for name, card in cards.items()}
    weights: dict[str, str | None] = {}
    grids = {name: VolumeSpec.from_dict(card["volume_spec"]) for name, card in cards.items()}
    events, decided, busy = last_events(outputs), read_qc(outputs.qc_table), claimed(outputs.root)
    for scan in dataset.scans:
        volumes, predicted, unreadable = _scan_results(scan, on_disk)
        now = {volume.identity.key for volume in volumes}
        written = [row for row in predicted.rows if not only or row["model"] in only]
        for name in {row["model"] for row in written} - weights.keys():
            if name in broken:
                raise BadDataError(f"{broken[name]}; or leave the model out: name the others with --model")
            weights[name] = weights_now(name, cards.get(name, {}), outputs)
        predictions = [
            row for row in written
            if believable(row)
            and is_up_to_date(
                predicted.origin_of(row["model"]), now, trainings.get(row["model"], {None}), weights[row["model"]]
            )
        ]  # fmt: skip
        outdated += [(scan, row["model"]) for row in written if row not in predictions]
        engines.update(volume.engine for volume in volumes[:1])
        if not predictions and scan.participant_id not in elsewhere:
            by_others = [row["model"] for row in predicted.rows]
            failure = _outdated(scan) if written else _failure(scan, events.get(scan.prefix), by_others)
            failure |= {"step": "predict", "reason": unreadable} if unreadable else {}
            failed.append(_in_work(scan) if scan_claim(scan) in busy else failure)
            continue
        if not predictions:
            foreign.append((len(rows), scan))
        usable = effective_pass(gates_passed(volumes), decided.decision(scan_key(scan)).verdict)
        row = _scan_columns(scan, None if usable is None else int(usable))
        row[QC_WARNINGS] = len(volumes[0].sidecar.get("qc_warn", ())) if volumes else float("nan")
        held_out = predicted.origin.get("Folds", {})
        with_maps = any(name.endswith(MAP_ENDING) for name in on_disk.files(scan))
        for values in predictions:
            name = values["model"]
            seen[name] = None
            fold = None
            if "out_of_fold" in values["flags"].split(";"):
                fold = UNKNOWN_FOLD if held_out.get(name) is None else held_out[name]
            gaps.append(
                {
                    "prefix": scan.prefix,
                    "model": name,
                    "predicted_age": values["predicted_age"],
                    "predicted_age_sd": values["predicted_age_sd"],
                    "bag": values["predicted_age"] - (float("nan") if scan.age is None else scan.age),
                    "bag_corrected": values["bag_corrected"],
                    "fold": fold,
                    "flags": values["flags"],
                }
            )
            used = {"in_training", "in_validation"} & set(values["flags"].split(";"))
            row["in_training"] = max(row["in_training"], int(bool(used)))
            for spec in [volume.spec for volume in volumes] if with_maps else ():
                grid = grids.get(name, spec)
                if (grid.template, grid.res_label) != (spec.template, spec.res_label):
                    continue
                if (path := outputs.saliency(scan, spec, name)).is_file():
                    maps.append({"prefix": scan.prefix, "model": name, "map": str(path), "spec": spec})
        rows.append({**row, "prefix": scan.prefix})
    # a scan without a prediction of ours counts as failed if we predicted another scan of the person
    ours = {row["participant_id"] for at, row in enumerate(rows) if at not in {index for index, _ in foreign}}
    for at, scan in reversed(foreign):
        if scan.participant_id in ours:
            del rows[at]
            failed.append(_failure(scan, events.get(scan.prefix)))
    for name in broken.keys() - seen.keys():
        LOG.warning("%s (no prediction of this model is used)", broken[name])
    cards = {name: card | {WEIGHTS_KEY: weights.get(name)} for name, card in cards.items()}
    if outdated:
        LOG.warning(
            "%d predictions were made from other volumes or by another version of the model, or are impossible ages; "
            "they are not used (%s); run the participant level again",
            len(outdated),
            ", ".join(f"{scan.prefix} {name}" for scan, name in outdated[:5]),
        )
    refuse_same_columns(list(seen))
    numeric = [*dataset.score_names, RATE_AGE, QC_WARNINGS]
    scans = pd.DataFrame(rows, columns=["prefix", *BRAINAGE_COLUMNS, *numeric]).set_index("prefix")
    return Results(
        scans.astype(dict.fromkeys(["age", *numeric], "float64")),
        pd.DataFrame(gaps, columns=list(GAP_COLUMNS)).astype(GAP_COLUMNS),
        pd.DataFrame(failed, columns=FAILED.columns),
        tuple(seen),
        cards,
        pd.DataFrame(maps, columns=["prefix", "model", "map", "spec"]),
        frozenset(scan.prefix for scan in dataset.scans if decided.decision(scan_key(scan)).verdict == FAIL),
        engines=tuple(sorted(engines)),
    )


def _scan_results(scan: Scan, on_disk: ScanRecords) -> tuple[tuple[Volume, ...], Predictions, str | None]:
    """Return the volumes of a scan, its predictions, and why these cannot be read (None if they can)."""
    try:
        return on_disk.volumes(scan), on_disk.predictions(scan), None
    except BadDataError as error:  # only this scan is affected
        return on_disk.volumes(scan), Predictions(), str(error)


def _scan_columns(scan: Scan, qc_pass: int | None) -> dict:
    return {
        "participant_id": scan.participant_id,
        "session_id": scan.session_id,
        "run": scan.run,
        "age": scan.age,
        "age_source": scan.age_source,
        "age_flags": ";".join(scan.age_flags) or None,
        "sex": scan.sex,
        "group": scan.group,
        "site": scan.site,
        "qc_pass": qc_pass,
        "in_training": 0,
        **dict(scan.scores),
        RATE_AGE: scan.rate_age,
    }


def _failure(scan: Scan, event: dict | None, others: Sequence[str] = ()) -> dict:
    if others:
        step, reason = "predict", f"predicted by {', '.join(others)} only, not by a model asked for with --model"
    elif event is None:
        step, reason = "participant", "never processed: run the participant level for this scan"
    elif event["status"] == "failed":
        step, reason = event["step"], event["reason"]
    else:
        step, reason = "predict", "preprocessed, but no model has predicted it yet"
    return {"participant_id": scan.participant_id, "session_id": scan.session_id, "step": step, "reason": reason}


def _in_work(scan: Scan) -> dict:
    reason = "in work by another run when the group level read it: run the group level again afterwards"
    return {**_failure(scan, None), "reason": reason}


def _outdated(scan: Scan) -> dict:
    reason = (
        "predicted from another volume or by an earlier training of the model, or no age that a person can have: run "
        "the participant level again"
    )
    return {**_failure(scan, None), "step": "predict", "reason": reason}


def refuse_same_columns(models: Sequence[str]) -> None:
    """Raise when two models would share a column name in ``brainage.tsv`` (such as ``m`` and ``corrected_m``)."""
    owners: dict[str, str] = {}
    for model in models:
        for start in BY_MODEL:
            if owners.setdefault(f"{start}{model}", model) != model:
                raise UsageError(
                    f"the models {owners[start + model]!r} and {model!r} would share the column {start + model!r} of "
                    "brainage.tsv; rename one"
                )
