"""Ages and maps of a set of scans with one model, kept in one prediction table per scan.

A prediction is kept when the weights, the volume and the age it was made from are unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainage_bids.bids.files import read_json, read_rows, write_json, write_tsv
from brainage_bids.bids.outputs import Outputs, model_label, sidecar_path
from brainage_bids.bids.read import Dataset
from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.pipeline.record import RunRecord
from brainage_bids.schema import PREDICTION_COLUMNS, Scan, VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.pipeline.participant import ParticipantOptions

NUMBERS = ("predicted_age", "chronological_age", "bag", "bag_corrected", "pred_lo", "pred_hi")


def model_spec(folder: Path) -> VolumeSpec:
    """Return the volume a model needs."""
    return VolumeSpec.from_dict(read_json(folder / "model.json")["volume_spec"])


def model_cards(outputs: Outputs) -> dict[str, dict]:
    """Return the content of ``model.json`` of every model trained or used in OUTPUT_DIR, by name."""
    paths = sorted(outputs.models.glob("*/card.json")) + sorted(outputs.models.glob("*/model.json"))
    return {path.parent.name: read_json(path) for path in paths}


def model_calibration(card: Mapping) -> pd.DataFrame:
    """Return ``age predicted_age fold`` of the healthy people a model held out (years)."""
    return pd.DataFrame(card["calibration"], columns=["age", "predicted_age", "fold"])


def volume_sidecars(scan: Scan, outputs: Outputs) -> list[tuple[VolumeSpec, dict]]:
    """Return spec and sidecar of every volume that exists for a scan, finest first."""
    folder, begin, end = str(outputs.anat(scan)), f"{scan.prefix}_space-", "_desc-preproc_T1w.json"
    try:
        names = [name for name in os.listdir(folder) if name.startswith(begin) and name.endswith(end)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    sidecars = [read_json(os.path.join(folder, name)) for name in names]
    found = [(VolumeSpec.from_dict(values["VolumeSpec"]), values) for values in sidecars if values.get("VolumeSpec")]
    return sorted(found, key=lambda pair: (pair[0].resolution, pair[0].template))


def engine_of(values: Mapping) -> str:
    """Return the engine that a volume was made with, from its sidecar; ``prepared`` where another pipeline masked."""
    return values["Engine"] if values["Sources"][0].startswith("bids:raw:") else "prepared"


def volume_identity(values: Mapping) -> str:
    """Return what tells one content of a volume from another, from its sidecar: scan, engine and grid."""
    spec = VolumeSpec.from_dict(values["VolumeSpec"]).fingerprint if values.get("VolumeSpec") else None
    parts = [values.get("InputHash"), values.get("Engine"), values.get("EngineVersion"), spec]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def about_predictions(table: Path) -> dict:
    """Return the sidecar of a scan's prediction table: by model ``Folds``, ``Keys``, ``Inputs`` and ``Trainings``."""
    return read_json(sidecar_path(table)) if sidecar_path(table).is_file() else {}


def trained_as(card: Mapping) -> str:
    """Return what tells one training from another: a hash of the whole ``model.json``.

    Its fingerprint would not do: it is that of what was asked for, the same on another device or by another version.
    """
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()[:32]


def is_of(told: Mapping, model: str, volumes: set[str], trainings: Mapping[str, set[str | None]]) -> bool:
    """Say whether a prediction was made from a volume that is there and by the training that is there.

    ``trainings`` are the names of that training by model. What the sidecar ``told`` does not say (predictions of other
    programs) is taken as it is.
    """
    volume, training = told.get("Inputs", {}).get(model), told.get("Trainings", {}).get(model)
    now = trainings.get(model, {None})
    return (volume is None or volume in volumes) and (training is None or None in now or training in now)


def volume_specs(scan: Scan, outputs: Outputs) -> list[VolumeSpec]:
    """Return the specs of the volumes that exist for a scan, finest first."""
    return [spec for spec, _ in volume_sidecars(scan, outputs)]


def prediction_key(scan: Scan, folder: Path, outputs: Outputs) -> str:
    """Return a hash of everything a prediction was made from: weights, volume, age and where it is from."""
    image = outputs.volume(scan, model_spec(folder))
    parts = [
        hashlib.sha256((folder / "model.json").read_bytes()).hexdigest(),
        volume_identity(read_json(sidecar_path(image))),
        (scan.age, scan.age_source, scan.age_flags),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def prediction_is_current(scan: Scan, name: str, folder: Path, outputs: Outputs) -> bool:
    """Say whether the table of this scan already holds this model's prediction from the same inputs."""
    table = outputs.prediction(scan)
    if not (table.is_file() and sidecar_path(table).is_file() and (folder / "model.json").is_file()):
        return False
    if not outputs.saliency(scan, model_spec(folder), name).is_file():
        return False
    if not sidecar_path(outputs.volume(scan, model_spec(folder))).is_file():
        return False
    return read_json(sidecar_path(table)).get("Keys", {}).get(name) == prediction_key(scan, folder, outputs)


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
    from brainage_bids.model.predict import load_model, predict_table

    todo = [s for s in scans if options.rerun or not prediction_is_current(s, name, folder, outputs)]
    record.note(f"prediction with {name}: {len(todo)} to do, {len(scans) - len(todo)} already there")
    if not todo:
        return
    model = load_model(folder, options.model.device)
    record.note(f"prediction with {name}: on {model.device}, float32")
    card, calibration = model.card, model_calibration(model.card)
    if folder != outputs.model(name):
        write_json(outputs.foreign_card(name), card)  # the group level must not depend on a folder elsewhere
    # a model that was trained in this OUTPUT_DIR knows these very people
    known_as = card.get("dataset") if folder == outputs.model(name) else dataset.identity
    training = trained_as(card)
    for scan in todo:
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
            row = predict_table(model, one, options.model, name=name).iloc[0].to_dict()
        except (BadDataError, NoInputError) as error:
            record.event(scan, f"predict:{name}", "failed", str(error))
            continue
        about_volume = read_json(sidecar_path(outputs.volume(scan, model.spec)))
        told = {
            "Folds": row["fold"],
            "Keys": prediction_key(scan, folder, outputs),
            "Inputs": volume_identity(about_volume),
            "Trainings": training,
        }
        _forget_other_maps(scan, model.spec, name, outputs)
        _write_row(outputs.prediction(scan), _row(scan, name, row, calibration, about_volume), told)
        record.event(scan, f"predict:{name}", "done")


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


def forget_stale(scan: Scan, outputs: Outputs, everything: bool) -> None:
    """Remove the predictions of a scan that were made from another image than the one its volumes come from now.

    Parameters
    ----------
    scan, outputs
        Which one, where.
    everything
        The scan failed: no prediction of it may stay.
    """
    table = outputs.prediction(scan)
    if not table.is_file():
        return
    now = {volume_identity(values) for _, values in volume_sidecars(scan, outputs)}
    before = about_predictions(table).get("Inputs", {})
    rows = read_predictions_of_scan(table)
    stale = [name for name in rows["model"] if everything or before.get(name) not in now]
    for name in stale:
        for path in _maps_of(scan, name, outputs):
            path.unlink()
    if len(stale) == len(rows):
        sidecar_path(table).unlink(missing_ok=True)
        table.unlink()
    elif stale:
        write_tsv(table, rows[~rows["model"].isin(stale)])


def _write_row(path: Path, row: dict, told: Mapping[str, object]) -> None:
    """Put one model's row into the table of a scan, and what is told of it into the sidecar; other models stay."""
    known = about_predictions(path)
    kept = read_predictions_of_scan(path)
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


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
