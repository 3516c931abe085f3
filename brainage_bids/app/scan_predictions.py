"""Predict ages and maps of scans with one model. Each scan has one prediction table.

A prediction is kept as long as the model (``model.json`` and weights), the volume and the age are unchanged.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainage_bids.app.models import Model, register_model
from brainage_bids.app.run_record import RunRecord
from brainage_bids.bids.files import write_json, write_tsv
from brainage_bids.bids.outputs import Outputs, model_label, scan_claim, sidecar_path
from brainage_bids.bids.read import Dataset
from brainage_bids.bids.scan_records import NUMBERS, ORIGIN, Predictions, ScanRecords, Volume
from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.model.artifact import BELIEVABLE
from brainage_bids.schema import PREDICTION_COLUMNS, Scan, VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.app.options import ParticipantOptions

LOG = logging.getLogger("brainage_bids")


def is_up_to_date(
    origin: Mapping[str, Any],
    volumes: set[str],
    trainings: set[str | None],
    weights: str | None,
) -> bool:
    """Return whether a prediction was made from a present volume, by the present training and weights of the model.

    Parameters
    ----------
    origin
        What the prediction was made from (`Predictions.origin_of`). Parts that are not recorded, as in predictions of
        other programs and of earlier versions, are not checked.
    volumes
        Keys of the identities of the scan's volumes.
    trainings, weights
        Hashes of the model's training (None among them if not known), and the hash of its weights.
    """
    volume, training, used = (origin.get(name) for name in ("Inputs", "Trainings", "Weights"))
    return (
        (volume is None or volume in volumes)
        and (training is None or None in trainings or training in trainings)
        and (used is None or weights in (None, used))
    )


def prediction_key(scan: Scan, model: Model, volume: Volume) -> str:
    """Return a hash of ``model.json``, volume, age and source of the age: what a prediction is made from.

    The weights have their own key, `Weights`, because earlier versions did not record them.
    """
    parts = [model.content, volume.identity.key, (scan.age, scan.age_source, scan.age_flags)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def prediction_is_current(scan: Scan, model: Model, on_disk: ScanRecords) -> bool:
    """Return whether the table of this scan already has this model's prediction from the same inputs.

    Earlier versions did not record the weights; their predictions count as made with the present weights.
    """
    volume = on_disk.volume(scan, model.spec)
    if volume is None or not on_disk.outputs.saliency(scan, model.spec, model.name).is_file():
        return False
    try:
        predicted = on_disk.predictions(scan)
    except BadDataError:  # half written or edited: predict again
        return False
    origin = predicted.origin_of(model.name)
    return (
        origin.get("Keys") == prediction_key(scan, model, volume)
        and origin.get("Weights", model.weights) == model.weights
        and any(row["model"] == model.name and believable(row) for row in predicted.rows)
    )


def has_predicted(model: Model, scans: Iterable[Scan], on_disk: ScanRecords) -> bool:
    """Return whether a current prediction of one of the scans records exactly these weights."""
    return any(
        prediction_is_current(scan, model, on_disk)
        and on_disk.predictions(scan).origin_of(model.name).get("Weights") == model.weights
        for scan in scans
    )


def predict_scans(
    model: Model,
    scans: Sequence[Scan],
    dataset: Dataset,
    on_disk: ScanRecords,
    options: ParticipantOptions,
    record: RunRecord,
) -> None:
    """Predict the scans that have no current prediction of this model; write ages, intervals and maps.

    A failed scan is recorded and does not stop the others. Finished scans are kept if the run is killed.
    """
    outputs, name = on_disk.outputs, model.name
    current = {scan: prediction_is_current(scan, model, on_disk) for scan in scans}
    todo = [scan for scan in scans if options.rerun or not current[scan]]
    record.note(f"prediction with {name}: {len(todo)} to do, {len(scans) - len(todo)} already there")
    if any(current.values()):
        _note_weights([scan for scan in scans if current[scan]], model, on_disk, record)
        register_model(model, outputs)
    if not todo:
        return
    from brainage_bids.model.predict import load_model, predict_table

    loaded, worked = load_model(model.folder, options.model.device), False
    record.note(f"prediction with {name}: on {loaded.device}, float32")
    # a model trained in this OUTPUT_DIR knows these people under the name of the dataset in its card
    known_as = model.card.get("dataset") if model.folder == outputs.model(name) else dataset.identity
    for scan in todo:
        with record.run.having(outputs.root, scan_claim(scan), scan.prefix) as waited:
            if waited and not options.rerun and prediction_is_current(scan, model, on_disk):
                continue  # the other run has done it
            table = pd.DataFrame(
                {
                    "participant_id": [scan.participant_id],
                    "prefix": [scan.prefix],
                    "age": pd.Series([scan.age], dtype="float64"),
                    "volume": [str(outputs.volume(scan, model.spec))],
                    "saliency": [str(outputs.saliency(scan, model.spec, name))],
                }
            )
            table.attrs["dataset"] = known_as
            try:
                row = predict_table(loaded, table, options.model, name=name).iloc[0].to_dict()
                _write_prediction(scan, model, row, on_disk)
            except (BadDataError, NoInputError) as error:
                record.event(scan, f"predict:{name}", "failed", str(error))
                if not current[scan]:
                    _remove(scan, [name], on_disk)
                continue
            record.event(scan, f"predict:{name}", "done")
        if not worked:
            register_model(model, outputs)
            worked = True


def _write_prediction(scan: Scan, model: Model, row: Mapping, on_disk: ScanRecords) -> None:
    """Write one row of `predict_table` into the table of its scan, and its origin into the sidecar."""
    volume = on_disk.volume(scan, model.spec)
    if volume is None:  # somebody removed it after the prediction
        raise BadDataError(f"{on_disk.outputs.volume(scan, model.spec)} is not there any more; run again")
    origin = {
        "Folds": row["fold"],
        "Keys": prediction_key(scan, model, volume),
        "Inputs": volume.identity.key,
        "Trainings": model.training,
        "Weights": model.weights,
    }
    _remove_other_maps(scan, model.spec, model.name, on_disk.outputs)
    _write_row(scan, _row(scan, model.name, row, model.calibration, volume.sidecar), origin, on_disk)


def _note_weights(scans: Iterable[Scan], model: Model, on_disk: ScanRecords, record: RunRecord) -> None:
    """Record the weights if an earlier version did not, so that a change of weights is noticed from now on."""
    for scan in scans:
        if "Weights" in on_disk.predictions(scan).origin_of(model.name):
            continue
        with record.run.having(on_disk.outputs.root, scan_claim(scan), scan.prefix):
            origin = on_disk.predictions(scan).origin
            weights = {**origin.get("Weights", {}), model.name: model.weights}
            _write_origin(on_disk.outputs.prediction(scan), {**origin, "Weights": weights})
            on_disk.forget(scan)


def _row(scan: Scan, name: str, row: Mapping, calibration: pd.DataFrame, about_volume: Mapping) -> dict:
    """Return the row of a prediction table for one row of `predict_table`."""
    from brainage_bids.stats.bias import correct_with_calibration

    table = pd.DataFrame(
        {
            "age": pd.Series([scan.age], dtype="float64"),
            "predicted_age": [row["predicted_age"]],
            "predicted_age_sd": [row["predicted_age_sd"]],
            "fold": pd.Series([row["fold"]], dtype=object),
        }
    )
    corrected = correct_with_calibration(table, calibration).iloc[0]
    flags = [*row["flags"], *corrected["flags"].split(";"), *scan.age_flags]
    flags += ["qc_warn"] if about_volume.get("qc_warn") else []
    return {
        "model": name,
        "predicted_age": row["predicted_age"],
        "predicted_age_sd": row["predicted_age_sd"],
        "chronological_age": scan.age,
        "age_source": scan.age_source,
        "bag": row["predicted_age"] - table.at[0, "age"],
        **corrected[["bag_corrected", "pred_lo", "pred_hi"]].to_dict(),
        "flags": ";".join(dict.fromkeys(flag for flag in flags if flag)),
    }


def _remove_other_maps(scan: Scan, spec: VolumeSpec, name: str, outputs: Outputs) -> None:
    """Remove the maps of a scan that an earlier training of this model made on another grid."""
    mine = outputs.saliency(scan, spec, name)
    for path in _maps_of(scan, name, outputs):
        if path not in (mine, sidecar_path(mine)):
            path.unlink()


def _maps_of(scan: Scan, name: str, outputs: Outputs) -> list[Path]:
    """Return the files of all maps of a scan by a model, on any grid, and their sidecars."""
    return list(outputs.anat(scan).glob(f"{scan.prefix}_space-*_desc-gradram{model_label(name)}_saliency.*"))


def forget_other_grids(scan: Scan, specs: Sequence[VolumeSpec], on_disk: ScanRecords, engine: str) -> None:
    """Remove volumes on other grids than ``specs`` that were made from another image or by another engine."""
    from brainage_bids.preprocess.done import is_done

    templates, outputs = {spec.template for spec in specs}, on_disk.outputs
    for spec in [volume.spec for volume in on_disk.volumes(scan)]:
        if spec in specs or is_done(scan, [spec], on_disk, engine):
            continue
        transform = outputs.transform(scan, spec.template)
        images = [outputs.volume(scan, spec), outputs.mask(scan, spec)]
        # all grids of a template share one transform
        others = [] if spec.template in templates else [transform, transform.with_suffix(".json")]
        for path in (*map(sidecar_path, images), *images, *others):
            path.unlink(missing_ok=True)


def forget_stale(scan: Scan, on_disk: ScanRecords) -> None:
    """Remove the predictions of a scan that were not made from one of its present volumes."""
    try:
        predicted, now = on_disk.predictions(scan), {volume.identity.key for volume in on_disk.volumes(scan)}
    except BadDataError as error:  # the group level uses none of it, and the next prediction writes it anew
        LOG.warning("%s", error)
        return
    made_from = predicted.origin.get("Inputs", {})
    stale = [row["model"] for row in predicted.rows if made_from.get(row["model"]) not in now]
    _remove(scan, stale, on_disk)


def _remove(scan: Scan, models: Collection[str], on_disk: ScanRecords) -> None:
    """Remove the rows and maps of some models for a scan. Their entries in the sidecar go with the next prediction."""
    table = on_disk.outputs.prediction(scan)
    for name in models:
        for path in _maps_of(scan, name, on_disk.outputs):
            path.unlink()
    try:
        rows = on_disk.predictions(scan).rows
    except BadDataError:
        return
    others = [row for row in rows if row["model"] not in models]
    if not others:
        sidecar_path(table).unlink(missing_ok=True)
        table.unlink(missing_ok=True)
    elif len(others) < len(rows):
        write_tsv(table, _as_table(others))
    on_disk.forget(scan)


def _write_row(scan: Scan, row: dict, origin: Mapping[str, object], on_disk: ScanRecords) -> None:
    """Write one model's row into the table of a scan, and its origin into the sidecar; keep those of other models."""
    try:
        known = on_disk.predictions(scan)
    except BadDataError as error:
        LOG.warning("%s (it is written anew; predictions of other models in it are lost)", error)
        known = Predictions()
    table = on_disk.outputs.prediction(scan)
    rows = [*(other for other in known.rows if other["model"] != row["model"]), row]
    write_tsv(table, _as_table(rows).sort_values("model", kind="stable"))
    # The keys are written last: if the run is killed between the two files, this scan is predicted again.
    _write_origin(table, {name: {**known.origin.get(name, {}), row["model"]: origin[name]} for name in ORIGIN})
    on_disk.forget(scan)


def _write_origin(table: Path, origin: Mapping[str, object]) -> None:
    meanings = {name: {"Description": text} for name, text in PREDICTION_COLUMNS.items()}
    write_json(sidecar_path(table), {**meanings, **origin})


def _as_table(rows: Iterable[Mapping]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS)).astype(dict.fromkeys(NUMBERS, float))


def believable(row: Mapping) -> bool:
    """Return whether the predicted age is one that a person can have; earlier versions did not check this."""
    return BELIEVABLE[0] <= row["predicted_age"] <= BELIEVABLE[1]
