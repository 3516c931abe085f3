"""Ages and maps of a set of scans with one model, kept in one prediction table per scan.

A prediction is kept when the model (``model.json`` and weights), the volume and the age it was made from are unchanged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainage_bids.bids.files import read_json, read_rows, write_json, write_tsv
from brainage_bids.bids.outputs import Outputs, model_label, scan_claim, sidecar_path
from brainage_bids.bids.read import Dataset
from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.model.artifact import BELIEVABLE, volume_spec
from brainage_bids.pipeline.models import Model, open_model, register_model
from brainage_bids.pipeline.record import RunRecord
from brainage_bids.schema import PREDICTION_COLUMNS, Scan, VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.pipeline.options import ParticipantOptions

LOG = logging.getLogger("brainage_bids")
TOLD = ("Folds", "Keys", "Inputs", "Trainings", "Weights")
NUMBERS = ("predicted_age", "chronological_age", "bag", "bag_corrected", "pred_lo", "pred_hi")


def volume_sidecars(scan: Scan, outputs: Outputs) -> list[tuple[VolumeSpec, dict]]:
    """Return spec and sidecar of every volume that exists for a scan, finest first."""
    folder, begin, end = str(outputs.anat(scan)), f"{scan.prefix}_space-", "_desc-preproc_T1w.json"
    try:
        names = [name for name in os.listdir(folder) if name.startswith(begin) and name.endswith(end)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for path in (os.path.join(folder, name) for name in names):
        try:
            values = _table_of_keys(path)
            spec = volume_spec(values, path)
        except BadDataError as error:  # as good as no volume: it is made again, or its scan fails alone
            _warn(str(error))
            continue
        found += [(spec, values)] if spec else []
    return sorted(found, key=lambda pair: (pair[0].resolution, pair[0].template))


@lru_cache(maxsize=1000)
def _warn(text: str) -> None:
    """Say something once."""
    LOG.warning("%s", text)


def engine_of(values: Mapping) -> str:
    """Return the engine that a volume was made with, from its sidecar; ``prepared`` where another pipeline masked."""
    return values["Engine"] if values["Sources"][0].startswith("bids:raw:") else "prepared"


def volume_identity(values: Mapping) -> str:
    """Return what tells one content of a volume from another, from its sidecar: scan, engine and grid."""
    spec = volume_spec(values, "a sidecar")
    known = None if spec is None else spec.fingerprint
    parts = [values.get("InputHash"), values.get("Engine"), values.get("EngineVersion"), known]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def about_predictions(table: Path) -> dict:
    """Return the sidecar of a scan's prediction table: by model what `TOLD` names.

    Raises
    ------
    BadDataError
        When it cannot be read.
    """
    path = sidecar_path(table)
    if not path.is_file():
        return {}
    values = _table_of_keys(path)
    for name in TOLD:
        if not isinstance(values.get(name, {}), dict):
            raise BadDataError(f"{path}: {name} is no table of models; remove {table.name} and predict again")
    return values


def _table_of_keys(path: str | Path) -> dict:
    values = read_json(path)
    if not isinstance(values, dict):
        raise BadDataError(f"{path} is JSON, but no table of keys; remove it and run the participant level again")
    return values


def is_of(
    told: Mapping,
    model: str,
    volumes: set[str],
    trainings: Mapping[str, set[str | None]],
    weights: Mapping[str, str | None],
) -> bool:
    """Say whether a prediction was made from a volume that is there, by the training and the weights that are there.

    ``trainings`` are the names of that training by model, ``weights`` the hash of its weights. What the sidecar
    ``told`` does not say (predictions of other programs and of earlier versions) is taken as it is.
    """
    volume, training, used = (told.get(name, {}).get(model) for name in ("Inputs", "Trainings", "Weights"))
    now = trainings.get(model, {None})
    return (
        (volume is None or volume in volumes)
        and (training is None or None in now or training in now)
        and (used is None or weights.get(model) in (None, used))
    )


def volume_specs(scan: Scan, outputs: Outputs) -> list[VolumeSpec]:
    """Return the specs of the volumes that exist for a scan, finest first."""
    return [spec for spec, _ in volume_sidecars(scan, outputs)]


def prediction_key(scan: Scan, model: Model, outputs: Outputs) -> str:
    """Return a hash of what a prediction was made from beside the weights: ``model.json``, volume, age and its source.

    The weights have a key of their own, `Weights`, because predictions of earlier versions did not note them.
    """
    image = outputs.volume(scan, model.spec)
    parts = [
        model.content,
        volume_identity(_table_of_keys(sidecar_path(image))),
        (scan.age, scan.age_source, scan.age_flags),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def prediction_is_current(scan: Scan, model: Model, outputs: Outputs) -> bool:
    """Say whether the table of this scan already holds this model's prediction from the same inputs.

    One of an earlier version, which noted no weights, is taken to be of those that are there.
    """
    table = outputs.prediction(scan)
    needed = (outputs.saliency(scan, model.spec, model.name), sidecar_path(outputs.volume(scan, model.spec)))
    if not all(path.is_file() for path in (table, sidecar_path(table), *needed)):
        return False
    try:
        told = about_predictions(table)
        return (
            told.get("Keys", {}).get(model.name) == prediction_key(scan, model, outputs)
            and told.get("Weights", {}).get(model.name, model.weights) == model.weights
            and any(row["model"] == model.name and believable(row) for row in prediction_rows(table))
        )
    except BadDataError:  # half written, or edited: predicted again
        return False


def has_predicted(model: Model, scans: Iterable[Scan], outputs: Outputs) -> bool:
    """Say whether a current prediction of one of the scans notes these very weights."""
    return any(
        prediction_is_current(scan, model, outputs)
        and about_predictions(outputs.prediction(scan)).get("Weights", {}).get(model.name) == model.weights
        for scan in scans
    )


def predict_scans(
    name: str,
    folder: Path,
    scans: Sequence[Scan],
    dataset: Dataset,
    outputs: Outputs,
    options: ParticipantOptions,
    record: RunRecord,
) -> None:
    """Predict the scans that have no current prediction of this model; write ages, intervals and maps.

    A scan that fails is recorded and does not stop the others; what is finished is kept when the run is killed.
    """
    model = open_model(name, folder)
    current = {scan: prediction_is_current(scan, model, outputs) for scan in scans}
    todo = [scan for scan in scans if options.rerun or not current[scan]]
    record.note(f"prediction with {name}: {len(todo)} to do, {len(scans) - len(todo)} already there")
    if any(current.values()):
        _note_weights([scan for scan in scans if current[scan]], model, outputs, record)
        register_model(model, outputs)
    if not todo:
        return
    from brainage_bids.model.predict import load_model, predict_table

    loaded, worked = load_model(folder, options.model.device), False
    record.note(f"prediction with {name}: on {loaded.device}, float32")
    # a model that was trained in this OUTPUT_DIR knows these very people
    known_as = model.card.get("dataset") if folder == outputs.model(name) else dataset.identity
    for scan in todo:
        with record.run.having(outputs.root, scan_claim(scan), scan.prefix) as waited:
            if waited and not options.rerun and prediction_is_current(scan, model, outputs):
                continue  # the other run has done it
            one = pd.DataFrame(
                {
                    "participant_id": [scan.participant_id],
                    "prefix": [scan.prefix],
                    "age": pd.Series([scan.age], dtype="float64"),
                    "volume": [str(outputs.volume(scan, model.spec))],
                    "saliency": [str(outputs.saliency(scan, model.spec, name))],
                }
            )
            one.attrs["dataset"] = known_as
            try:
                row = predict_table(loaded, one, options.model, name=name).iloc[0].to_dict()
            except (BadDataError, NoInputError) as error:
                record.event(scan, f"predict:{name}", "failed", str(error))
                if not current[scan]:
                    _forget(scan, [name], outputs)
                continue
            _keep(scan, model, row, outputs)
            record.event(scan, f"predict:{name}", "done")
        if not worked:
            register_model(model, outputs)
            worked = True


def _keep(scan: Scan, model: Model, row: Mapping, outputs: Outputs) -> None:
    """Write one row of `predict_table` into the table of its scan, and what it was made from into the sidecar."""
    about_volume = read_json(sidecar_path(outputs.volume(scan, model.spec)))
    told = {
        "Folds": row["fold"],
        "Keys": prediction_key(scan, model, outputs),
        "Inputs": volume_identity(about_volume),
        "Trainings": model.training,
        "Weights": model.weights,
    }
    _forget_other_maps(scan, model.spec, model.name, outputs)
    values = _row(scan, model.name, row, model.calibration, about_volume)
    _write_row(outputs.prediction(scan), values, told)


def _note_weights(scans: Iterable[Scan], model: Model, outputs: Outputs, record: RunRecord) -> None:
    """Note the weights where an earlier version did not, so that other weights are seen from now on."""
    for scan in scans:
        table = outputs.prediction(scan)
        if model.name in about_predictions(table).get("Weights", {}):
            continue
        with record.run.having(outputs.root, scan_claim(scan), scan.prefix):
            told = about_predictions(table)
            known = {**told.get("Weights", {}), model.name: model.weights}
            write_json(sidecar_path(table), {**told, "Weights": known})


def _row(scan: Scan, name: str, row: Mapping, calibration: pd.DataFrame, about_volume: Mapping) -> dict:
    """Return the values of a prediction table for one row of `predict_table`."""
    from brainage_bids.stats.bias import correct_with_calibration

    one = pd.DataFrame(
        {
            "age": pd.Series([scan.age], dtype="float64"),
            "predicted_age": [row["predicted_age"]],
            "fold": pd.Series([row["fold"]], dtype=object),
        }
    )
    corrected = correct_with_calibration(one, calibration).iloc[0]
    flags = [*row["flags"], *corrected["flags"].split(";"), *scan.age_flags]
    flags += ["qc_warn"] if about_volume.get("qc_warn") else []
    return {
        "model": name,
        "predicted_age": row["predicted_age"],
        "chronological_age": scan.age,
        "age_source": scan.age_source,
        "bag": row["predicted_age"] - one.at[0, "age"],
        **corrected[["bag_corrected", "pred_lo", "pred_hi"]].to_dict(),
        "flags": ";".join(dict.fromkeys(flag for flag in flags if flag)),
    }


def _forget_other_maps(scan: Scan, spec: VolumeSpec, name: str, outputs: Outputs) -> None:
    """Remove maps that a former training of this model, on another grid, left of a scan."""
    mine = outputs.saliency(scan, spec, name)
    for path in _maps_of(scan, name, outputs):
        if path not in (mine, sidecar_path(mine)):
            path.unlink()


def _maps_of(scan: Scan, name: str, outputs: Outputs) -> list[Path]:
    """Return the maps of a scan by a model, on whatever grid, and their sidecars."""
    return list(outputs.anat(scan).glob(f"{scan.prefix}_space-*_desc-gradram{model_label(name)}_saliency.*"))


def forget_other_grids(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs, engine: str) -> None:
    """Remove volumes on other grids than ``specs`` that the image of today, or this engine, did not give."""
    from brainage_bids.preprocess.done import is_done

    kept = {spec.template for spec in specs}
    for spec in volume_specs(scan, outputs):
        if spec in specs or is_done(scan, [spec], outputs, engine):
            continue
        transform = outputs.transform(scan, spec.template)
        images = [outputs.volume(scan, spec), outputs.mask(scan, spec)]
        # a transform belongs to all grids of its template
        others = [] if spec.template in kept else [transform, transform.with_suffix(".json")]
        for path in (*map(sidecar_path, images), *images, *others):
            path.unlink(missing_ok=True)


def forget_stale(scan: Scan, outputs: Outputs) -> None:
    """Remove the predictions of a scan that were made from another volume than those that are there."""
    table = outputs.prediction(scan)
    if not table.is_file():
        return
    now = {volume_identity(values) for _, values in volume_sidecars(scan, outputs)}
    before = about_predictions(table).get("Inputs", {})
    _forget(scan, [row["model"] for row in prediction_rows(table) if before.get(row["model"]) not in now], outputs)


def _forget(scan: Scan, models: Collection[str], outputs: Outputs) -> None:
    """Remove what models predicted for a scan: rows and maps; what is told of it goes with the next prediction."""
    table = outputs.prediction(scan)
    for name in models:
        for path in _maps_of(scan, name, outputs):
            path.unlink()
    rows = read_predictions_of_scan(table)
    left = rows[~rows["model"].isin(models)]
    if len(left) == 0:
        sidecar_path(table).unlink(missing_ok=True)
        table.unlink(missing_ok=True)
    elif len(left) < len(rows):
        write_tsv(table, left)


def _write_row(path: Path, row: dict, told: Mapping[str, object]) -> None:
    """Put one model's row into the table of a scan, and what is told of it into the sidecar; other models stay."""
    try:
        known, kept = about_predictions(path), read_predictions_of_scan(path)
    except BadDataError as error:
        LOG.warning("%s (it is written anew; predictions of other models in it are lost)", error)
        known, kept = {}, pd.DataFrame(columns=list(PREDICTION_COLUMNS))
    kept = kept[kept["model"] != row["model"]]
    rows = [*kept.to_dict("records"), row]
    table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS)).sort_values("model", kind="stable")
    write_tsv(path, table)
    meanings = {name: {"Description": text} for name, text in PREDICTION_COLUMNS.items()}
    # The keys go last: a run killed between the two files predicts this scan again.
    by_model = {name: {**known.get(name, {}), row["model"]: value} for name, value in told.items()}
    write_json(sidecar_path(path), {**meanings, **by_model})


def read_predictions_of_scan(path: Path) -> pd.DataFrame:
    """Return a scan's prediction table (empty when there is none), numbers as float64."""
    return pd.DataFrame(prediction_rows(path), columns=list(PREDICTION_COLUMNS)).astype(dict.fromkeys(NUMBERS, float))


def prediction_rows(path: Path) -> list[dict]:
    """Return the rows of a scan's prediction table (none when there is no file), numbers as float (NaN: missing)."""
    rows = read_rows(path) if path.is_file() else []
    return [row | {name: _number(row[name]) for name in NUMBERS} for row in rows]


def believable(row: Mapping) -> bool:
    """Say whether a row holds an age that a person can have; a version before this check kept any."""
    return BELIEVABLE[0] <= row["predicted_age"] <= BELIEVABLE[1]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
