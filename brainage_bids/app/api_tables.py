"""The tables of `brainage_bids.api`: checks and converts what a user gives, and returns results as tables."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainage_bids.app.run_record import last_events
from brainage_bids.app.training import trainable_rows
from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.quality_decisions import effective_pass, read_qc, scan_key
from brainage_bids.bids.read import Dataset, DatasetQuery, parse_column_option, parse_score_option, scans_table
from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten
from brainage_bids.model.places import PLACE
from brainage_bids.schema import VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.model.predict import BrainAgeModel

LOG = logging.getLogger("brainage_bids")
NEEDED = ("participant_id", "volume", "age")  # to train
OPTIONAL = ("session_id", "run", "age_flags", "sex", "group", "site", "family")
SINGLE = ("group_column", "t1w_suffix", "skip_validation")  # the others may have several values
SELECTION = (
    "participants", "exclude_participants", "sessions", "age_column", "sex_column", "group_column", "controls",
    "scores", "t1w_suffix", "derivatives", "skip_validation",
)  # fmt: skip


def dataset_query(bids_dir: str | Path, **selection: Any) -> DatasetQuery:
    """Return the same query as the command line would make; the keywords are those of `read_dataset`."""
    if unknown := sorted(set(selection) - set(SELECTION)):
        raise UsageError(f"{unknown[0]!r} is no argument; the arguments of a dataset are {', '.join(SELECTION)}")
    lists = {name: many(selection.get(name) or ()) for name in SELECTION if name not in SINGLE}
    single = {name: selection[name] for name in SINGLE if selection.get(name) is not None}
    return DatasetQuery(
        bids_dir=absolute(bids_dir),
        participant_label=lists["participants"],
        exclude_participant_label=lists["exclude_participants"],
        session_label=lists["sessions"],
        age_columns=tuple(parse_column_option(text, "--age-column") for text in lists["age_column"]),
        sex_columns=tuple(parse_column_option(text, "--sex-column") for text in lists["sex_column"]),
        controls=lists["controls"],
        scores=tuple(map(parse_score_option, lists["scores"])),
        derivatives=lists["derivatives"],
        **single,
    )


def described_scans(dataset: Dataset) -> pd.DataFrame:
    """Return the scans of a dataset as a table, with facts about the dataset in ``attrs``."""
    table = scans_table(dataset.scans, dataset.score_names)
    table.attrs = {
        "name": dataset.name,
        "dataset": dataset.identity,
        "group_column": dataset.group_column,
        "controls": list(dataset.controls),
        "notes": list(dataset.notes),
        "faults": [str(fault) for fault in dataset.faults],
    }
    return table


def with_volumes(dataset: Dataset, outputs: Outputs, spec: VolumeSpec) -> pd.DataFrame:
    """Return the scans of a dataset with the result of preprocessing: ``status step reason volume mask qc_pass``."""
    events, qc = last_events(outputs), read_qc(outputs.qc_table)
    rows = []
    for scan in dataset.scans:
        event = events[scan.prefix]
        row = {"status": event["status"], "step": None, "reason": event["reason"]}
        if event["status"] == "failed":
            rows.append(row | {"step": event["step"]})
            continue
        passed = qc.rows[scan_key(scan)]["qc_pass"] == "1"
        row["qc_pass"] = effective_pass(passed, qc.decision(scan_key(scan)).verdict)
        rows.append(row | {"volume": str(outputs.volume(scan, spec)), "mask": str(outputs.mask(scan, spec))})
    table = described_scans(dataset)
    for name in ("status", "step", "reason", "volume", "mask", "qc_pass"):
        table[name] = _objects((row.get(name) for row in rows), table)
    return table


def training_table(
    scans: pd.DataFrame, train_on: str | None, controls: Sequence[str] | None, folds: int | str | None = None
) -> pd.DataFrame:
    """Return the rows that have a volume, ready for training; ``trainable`` follows the rules of the command line.

    ``place`` is the column that ``folds`` names, if it names one.
    """
    from brainage_bids.app.page_values import is_phantom
    from brainage_bids.stats.columns import levels, text

    _need(scans, NEEDED if not isinstance(folds, str) else (*NEEDED, folds))
    attributes = scans.attrs
    has_volume = scans["volume"].map(is_known).to_numpy(dtype=bool)
    if not has_volume.all():
        LOG.warning("%d of %d rows have no volume and take no part in the training", (~has_volume).sum(), len(scans))
    table = scans[has_volume].reset_index(drop=True)
    table = table.assign(**{name: _objects([None] * len(table), table) for name in OPTIONAL if name not in table})
    if isinstance(folds, str):
        table[PLACE] = _objects((_place(value) for value in table[folds]), table)
    people = _objects(map(participant_label, table["participant_id"]), table)
    table = table.assign(participant_id=people, age=_years(table["age"]), volume=table["volume"].map(str))
    if "prefix" not in table:
        table["prefix"] = [re.sub(r"(_space-.*)?\.nii(\.gz)?$", "", Path(path).name) for path in table["volume"]]
    if twice := table["volume"][table["volume"].duplicated()].tolist():
        raise UsageError(f"the volume {shorten(twice[0])} is in two rows; keep one row per scan")
    groups = levels(text(table, "group"))
    healthy = tuple(attributes.get("controls", ()) if controls is None else many(controls))
    if groups and train_on is None and not set(healthy) & set(groups):
        raise UsageError(
            f"nobody is known to be healthy: the groups are {', '.join(groups)}, the controls "
            f"{', '.join(healthy) or 'not named'}; give controls, or choose the people to train on with train_on"
        )
    name = attributes.get("name") or ""
    dataset = Dataset(Path(), name, (), group_column="group" if groups else None, controls=healthy)
    chosen, rule = trainable_rows(table, dataset, train_on)
    if "qc_pass" in table:
        chosen &= table["qc_pass"].map(lambda passed: not is_known(passed) or bool(passed)).astype(bool)
    LOG.info("training on %d people: %s", table.loc[chosen, "participant_id"].nunique(), rule)
    table["trainable"] = chosen
    table.attrs = {"dataset": attributes.get("dataset"), "phantom": is_phantom(dataset)}
    return table


def _place(value: Any) -> str | None:
    """Return a value of a column as the name of a place, ``2.0`` as ``2``."""
    if not is_known(value):
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)


def volumes_table(
    volumes: pd.DataFrame | Sequence[str | Path],
    participant_ids: Sequence[str] | None,
    ages: Sequence[float] | None,
) -> pd.DataFrame:
    """Return the arguments of `predict` as a table with ``participant_id volume age`` (years)."""
    if isinstance(volumes, pd.DataFrame):
        if participant_ids is not None or ages is not None:
            raise UsageError("participant_ids and ages go with paths; a table has columns participant_id and age")
        _need(volumes, NEEDED[:2])
        table = volumes.copy()
    else:
        paths = many(volumes)
        people = [person_of(path) for path in paths] if participant_ids is None else list(participant_ids)
        for name, given in (("participant_ids", people), ("ages", ages)):
            if given is not None and len(given) != len(paths):
                raise UsageError(f"{name} has {len(given)} values for {len(paths)} volumes; give one for each")
        if None in people:
            raise UsageError(
                f"{shorten(Path(paths[people.index(None)]).name)} has no participant label in its name, so it is not "
                "known whether the model was trained on this person; give participant_ids"
            )
        table = pd.DataFrame({"participant_id": people, "volume": paths})
        table["age"] = None if ages is None else list(ages)
    table["participant_id"] = _objects(map(participant_label, table["participant_id"]), table)
    table["age"] = _years(table["age"]) if "age" in table else float("nan")
    return table


def predicted(model: BrainAgeModel, table: pd.DataFrame, dataset: str | None) -> pd.DataFrame:
    """Return a table of `volumes_table` with the predictions of a model added; see `brainage_bids.api.predict`."""
    from brainage_bids.app.models import model_calibration
    from brainage_bids.model.model_options import ModelOptions
    from brainage_bids.model.predict import predict_table
    from brainage_bids.stats.bias import correct_with_calibration

    scans, results, years = table.reset_index(drop=True), [], ("predicted_age", "predicted_age_sd")
    for scan in scans.to_dict("records"):
        row = dict.fromkeys(years, float("nan")) | {"flags": [], "fold": None, "reason": None, "more": []}
        one = pd.DataFrame([{"prefix": "", **{name: scan[name] for name in ("participant_id", "volume", "age")}}])
        one.attrs["dataset"] = dataset
        try:
            if not is_known(scan["volume"]):
                reason = scan.get("reason")
                raise NoInputError(reason if is_known(reason) else "there is no volume; preprocess the scan")
            row |= predict_table(model, one, ModelOptions(progress=False), saliency=False).iloc[0].to_dict()
            row["more"] = _flags(scan)
        except (BadDataError, NoInputError) as error:
            row["reason"] = str(error)
            LOG.warning("%s cannot be predicted: %s", scan["participant_id"], error)
        results.append(row)
    rows = pd.DataFrame(results, columns=[*years, "flags", "fold", "reason", "more"]).assign(age=scans["age"])
    rows = rows.astype({**dict.fromkeys(years, "float64"), "fold": object, "reason": object})
    corrected = correct_with_calibration(rows, model_calibration(model.card))
    used = [int(bool({"in_training", "in_validation"} & set(flags))) for flags in rows["flags"]]
    if "in_training" in scans:  # of another model
        used = [max(pair) for pair in zip(used, scans["in_training"].fillna(0).astype(int), strict=True)]
    status = scans["status"] if "status" in scans else _objects(["done"] * len(scans), scans)
    result = scans.assign(
        model=model.name,
        predicted_age=rows["predicted_age"],
        predicted_age_sd=rows["predicted_age_sd"],
        bag=rows["predicted_age"] - rows["age"],
        **{name: corrected[name] for name in ("bag_corrected", "pred_lo", "pred_hi")},
        flags=[
            ";".join(dict.fromkeys(filter(None, [*mine, *text.split(";"), *more])))
            for mine, text, more in zip(rows["flags"], corrected["flags"], rows["more"], strict=True)
        ],
        in_training=used,
        status=status.where(rows["reason"].isna(), "failed"),
        reason=rows["reason"].where(rows["reason"].notna(), None),
    )
    return result.set_index(table.index)


def _flags(scan: Mapping[str, Any]) -> list[str]:
    """Return the flags of age and volume, as in the prediction tables of the command line."""
    flags = scan.get("age_flags")
    about_volume = read_json(sidecar_path(Path(scan["volume"])))
    return [*(flags.split(";") if is_known(flags) else ()), *(["qc_warn"] if about_volume.get("qc_warn") else ())]


def _need(table: pd.DataFrame, columns: Iterable[str]) -> None:
    if missing := [name for name in columns if name not in table]:
        raise UsageError(
            f"the table has no column {missing[0]!r} (it has {shorten(', '.join(map(str, table.columns)), 300)}); take "
            "that of preprocess, or add the column"
        )


def _years(ages: pd.Series) -> pd.Series:
    try:
        return pd.to_numeric(ages).astype("float64")
    except (ValueError, TypeError) as error:
        raise UsageError(f"an age is no number of years ({shorten(error)}); repair the column age") from error


def _objects(values: Iterable[Any], table: pd.DataFrame) -> pd.Series:
    """Return a column of text, paths or flags, None where missing."""
    return pd.Series(list(values), index=table.index, dtype=object)


def participant_label(person: object) -> str:
    """Return the label of a participant with its prefix, ``sub-01``; models know their people by this label."""
    if not is_known(person) or not str(person).strip():
        raise UsageError("a row has no participant_id, which is needed to know the person; give one for every volume")
    text = str(person).strip()
    return text if text.startswith("sub-") else f"sub-{text}"


def person_of(path: str | Path) -> str | None:
    """Return the participant in the file name of a volume; None if it has none."""
    label = re.match(r"sub-[0-9A-Za-z+]+", Path(path).name)
    return label[0] if label else None


def is_known(value: object) -> bool:
    """Return whether a cell has a value: neither None nor NaN."""
    return not pd.isna(value)


def many(values: object) -> tuple[str, ...]:
    """Return one text or path, or a list of them, as a tuple of text."""
    return tuple(map(str, [values] if isinstance(values, str | Path) else values))


def absolute(path: str | Path) -> Path:
    """Return an absolute path; ``~`` is the home folder."""
    return Path(os.path.abspath(Path(path).expanduser()))
