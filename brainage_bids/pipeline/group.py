"""The group level: prediction tables -> group tables -> mean maps -> page. Never opens an image of BIDS_DIR."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from brainage_bids import __version__
from brainage_bids.bids.derivative import prepare_output
from brainage_bids.bids.files import write_json, write_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.predictions import read_predictions
from brainage_bids.bids.qc import EXCLUDED, FAIL, read_qc, scan_key
from brainage_bids.bids.read import Dataset, DatasetQuery, raise_on_errors, read_dataset
from brainage_bids.errors import NoInputError, UsageError
from brainage_bids.pipeline.participant import say_faults
from brainage_bids.pipeline.predictions import (
    model_calibration,
    model_cards,
    read_predictions_of_scan,
    volume_specs,
)
from brainage_bids.pipeline.qc import may_be_used, write_qc
from brainage_bids.pipeline.record import RunRecord, last_events
from brainage_bids.schema import BRAINAGE_COLUMNS, FAILED_COLUMNS, Scan, VolumeSpec

LOG = logging.getLogger("brainage_bids")


@dataclass(frozen=True)
class GroupOptions:
    """What the group level was asked to do; made by the command line."""

    query: DatasetQuery
    output_dir: Path
    predictions: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ("age", "sex")
    bias_fit: str = "model"
    bias_query: str | None = None
    session_select: str = "first"
    seed: int = 0
    dry_run: bool = False
    command: str = "brainage-bids"


@dataclass(frozen=True)
class Collected:
    """What the participant level left: the table, who failed, the models, their maps, whom a person excluded."""

    table: pd.DataFrame
    failed: pd.DataFrame
    models: tuple[str, ...]
    cards: dict[str, dict]
    maps: pd.DataFrame
    excluded: frozenset[str] = frozenset()
    flags: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["prefix", "model", "flags"]))


def run_group(options: GroupOptions) -> None:
    """Run the group level.

    Raises
    ------
    NoInputError
        When no participant has a prediction.
    BrainageError
        When the dataset or an option makes the numbers unsafe.
    """
    outputs = Outputs(options.output_dir)
    dataset = read_dataset(options.query)
    say_faults(dataset)
    raise_on_errors(dataset)
    external = dict(read_predictions(text) for text in options.predictions)
    collected = add_external(collect(dataset, outputs, external), external)
    if not collected.models:
        raise NoInputError(
            f"no prediction is in {outputs.root}: run the participant level first, or give --predictions NAME=FILE"
        )
    if options.dry_run:
        print(
            f"{len(collected.table)} scans with a result, {len(collected.failed)} without; "
            f"models: {', '.join(collected.models)}"
        )
        return
    prepare_output(outputs, dataset, __version__)
    record = RunRecord(outputs, "group", options.command, {"options": dataclasses.asdict(options)})
    with record.kept():
        for note in dataset.notes:
            record.note(note)
        _run_steps(options, outputs, dataset, collected, record)
    LOG.info("group page: %s", outputs.group_page)


def _run_steps(
    options: GroupOptions, outputs: Outputs, dataset: Dataset, collected: Collected, record: RunRecord
) -> None:
    from brainage_bids.pipeline.pages import group_page, is_phantom
    from brainage_bids.stats.cohort import every_session, select_rows

    table, lines, fitting = bias_corrected(collected, dataset, options)
    write_tsv(outputs.group_table("brainage"), table, _brainage_meanings(table))
    write_json(outputs.bias_correction, lines)
    write_tsv(outputs.group_table("failed"), collected.failed, {"reason": "why the scan has no result"})
    tested = table[~table.index.isin(fitting)]
    selected, left_out = select_rows(tested, options.session_select)
    left_out.loc[left_out.index.isin(collected.excluded), "reason"] = EXCLUDED
    fitted = table.loc[fitting, ["participant_id", "session_id", "run"]]
    fitted = fitted.assign(reason="fits the age-bias line (--bias-query)")
    left_out = pd.concat([left_out, fitted], ignore_index=True)
    tables = statistics(selected, tested, table, collected, dataset, options)
    tables |= described(table, tables, collected, dataset)
    for name, result in tables.items():
        write_tsv(outputs.group_table(name), result)
    write_tsv(outputs.group_table("leftout"), left_out[["participant_id", "session_id", "run", "reason"]])
    maps = mean_maps(selected, collected, outputs)
    write_qc(outputs, dataset, record, is_phantom(dataset))
    shown = {**tables, "left_out": left_out, "sessions": every_session(tested)}
    group_page(options, outputs, dataset, collected, table, shown, lines, maps, record)


def collect(dataset: Dataset, outputs: Outputs, external: Mapping[str, pd.DataFrame]) -> Collected:
    """Read every prediction table of the dataset's scans into one table (one row per scan).

    A scan without a prediction of ours is a row when the person has one made elsewhere, else it is listed as failed.
    """
    elsewhere = {person for table in external.values() for person in table["participant_id"]}
    rows, failed, maps, flags, seen = [], [], [], [], {}
    events, decided = last_events(outputs), read_qc(outputs.qc_table)
    for scan in dataset.scans:
        predictions = read_predictions_of_scan(outputs.prediction(scan))
        if predictions.empty and scan.participant_id not in elsewhere:
            failed.append(_failure(scan, events.get(scan.prefix)))
            continue
        specs = volume_specs(scan, outputs)
        usable = may_be_used(scan, outputs, decided)
        row = _scan_columns(scan, None if usable is None else int(usable))
        for values in predictions.to_dict("records"):
            name = values["model"]
            seen[name] = None
            flags.append({"prefix": scan.prefix, "model": name, "flags": values["flags"]})
            bag = values["predicted_age"] - (float("nan") if scan.age is None else scan.age)
            row |= {
                f"predicted_age_{name}": values["predicted_age"],
                f"bag_{name}": bag,
                f"bag_corrected_{name}": values["bag_corrected"],
            }
            used = {"in_training", "in_validation"} & set(values["flags"].split(";"))
            row["in_training"] = max(row["in_training"], int(bool(used)))
            for spec in specs:
                path = outputs.saliency(scan, spec, name)
                if path.is_file():
                    maps.append({"prefix": scan.prefix, "model": name, "map": str(path), "spec": spec})
        rows.append({**row, "prefix": scan.prefix})
    columns = [*BRAINAGE_COLUMNS, *dataset.score_names]
    columns += [f"{kind}_{name}" for name in seen for kind in ("predicted_age", "bag", "bag_corrected")]
    table = pd.DataFrame(rows, columns=["prefix", *columns]).set_index("prefix")
    numeric = [c for c in columns if c == "age" or c in dataset.score_names or c.startswith(("predicted_age_", "bag_"))]
    table[numeric] = table[numeric].astype("float64")
    return Collected(
        table,
        pd.DataFrame(failed, columns=FAILED_COLUMNS),
        tuple(seen),
        model_cards(outputs),
        pd.DataFrame(maps, columns=["prefix", "model", "map", "spec"]),
        frozenset(scan.prefix for scan in dataset.scans if decided.decision(scan_key(scan)).verdict == FAIL),
        pd.DataFrame(flags, columns=["prefix", "model", "flags"]),
    )


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
    }


def _failure(scan: Scan, event: dict | None) -> dict:
    if event is None:
        step, reason = "participant", "never processed: run the participant level for this scan"
    elif event["status"] == "failed":
        step, reason = event["step"], event["reason"]
    else:
        step, reason = "predict", "preprocessed, but no model has predicted it yet"
    return {"participant_id": scan.participant_id, "session_id": scan.session_id, "step": step, "reason": reason}


def add_external(collected: Collected, predictions: Mapping[str, pd.DataFrame]) -> Collected:
    """Add the columns of predictions made elsewhere, matched by participant and session."""
    table, models = collected.table.copy(), list(collected.models)
    for name, external in predictions.items():
        if name in models:
            raise UsageError(f"--predictions {name}: there is a model of that name already; choose another name")
        by_session = {(r.participant_id, r.session_id): r.predicted_age for r in external.itertuples()}
        ages = [
            by_session.get(
                (row.participant_id, row.session_id), by_session.get((row.participant_id, None), float("nan"))
            )
            for row in table.itertuples()
        ]
        table[f"predicted_age_{name}"] = pd.Series(ages, index=table.index, dtype="float64")
        table[f"bag_{name}"] = table[f"predicted_age_{name}"] - table["age"]
        table[f"bag_corrected_{name}"] = float("nan")
        models.append(name)
        unmatched = sorted(set(external["participant_id"]) - set(table["participant_id"]))
        if unmatched:
            LOG.warning(
                "--predictions %s: %d participants are not in the dataset (%s)", name, len(unmatched), unmatched[:5]
            )
    return dataclasses.replace(collected, table=table, models=tuple(models))


def bias_corrected(
    collected: Collected, dataset: Dataset, options: GroupOptions
) -> tuple[pd.DataFrame, dict[str, dict], pd.Index]:
    """Fill ``bag_corrected_<model>``; return the table, the line of every model, and the rows that fitted it."""
    from brainage_bids.stats.bias import corrected_bag, crossfit_controls, fit_line

    table, lines = collected.table.copy(), {}
    fitting = pd.Index([])
    if options.bias_query:
        try:
            fitting = table.query(options.bias_query).index
        except Exception as error:
            raise UsageError(f"--bias-query {options.bias_query!r} cannot be evaluated: {error}") from error
        if fitting.empty:
            raise UsageError(f"--bias-query {options.bias_query!r} selects no row; no age-bias line can be fitted")
    for name in collected.models:
        column, note = f"bag_corrected_{name}", ""
        age, predicted = table["age"], table[f"predicted_age_{name}"]
        if len(fitting):
            line = fit_line(age[fitting], predicted[fitting], source=f"query: {options.bias_query}")
            table[column] = corrected_bag(line, age, table[f"bag_{name}"])
        elif options.bias_fit == "none":
            table[column] = float("nan")
            lines[name] = {"method": "none", "source": "none", "warnings": []}
            continue
        elif options.bias_fit == "controls" or name not in collected.cards:
            if not dataset.controls:
                table[column] = float("nan")
                lines[name] = {"method": "none", "source": "none", "warnings": ["no control group to fit the line on"]}
                continue
            note = "the line of all controls; each control was corrected by the line of the others (5 folds)"
            corrected, line = crossfit_controls(table, name, dataset.controls, seed=options.seed)
            table[column] = corrected["bag_corrected"]
        else:
            calibration = model_calibration(collected.cards[name])
            line = fit_line(calibration["age"], calibration["predicted_age"], source="model_card")
            if calibration["fold"].notna().any():
                note = "the line of all folds; the gap of each person was corrected without the person's own fold"
        lines[name] = dataclasses.asdict(line) | {"note": note}
    return table, lines, fitting


def statistics(
    selected: pd.DataFrame,
    tested: pd.DataFrame,
    table: pd.DataFrame,
    collected: Collected,
    dataset: Dataset,
    options: GroupOptions,
) -> dict[str, pd.DataFrame]:
    """Compute every group table: of the selected scan of each person, of all tested scans, of everybody."""
    from brainage_bids.stats.accuracy import accuracy, model_comparison
    from brainage_bids.stats.cohort import cohort_table, every_session
    from brainage_bids.stats.correlate import correlations
    from brainage_bids.stats.groups import group_differences
    from brainage_bids.stats.longitudinal import longitudinal
    from brainage_bids.stats.reliability import reliability
    from brainage_bids.stats.roc import roc
    from brainage_bids.stats.site import site_effect

    models, controls = list(collected.models), list(dataset.controls)
    means = {name: card["training"]["age_mean"] for name, card in collected.cards.items()}
    scores = list(dataset.score_names)
    return {
        "cohort": cohort_table(table),
        "accuracy": accuracy(selected, models, controls, means, seed=options.seed),
        "modelcomparison": model_comparison(selected, models, controls),
        "correlations": correlations(selected, models, scores, covariates=options.covariates, controls=controls),
        "groupdiff": group_differences(selected, models, controls, covariates=options.covariates),
        "roc": roc(selected, models, controls),
        "site": site_effect(selected, models, controls),
        "longitudinal": longitudinal(every_session(tested), models, controls),
        "reliability": reliability(tested, models),
    }


def described(
    table: pd.DataFrame, tables: Mapping[str, pd.DataFrame], collected: Collected, dataset: Dataset
) -> dict[str, pd.DataFrame]:
    """Return the tables that describe the study beside the tests."""
    from brainage_bids.stats.describe import cohort_sites, flag_counts, missing_data, patients

    return {
        "cohortsites": cohort_sites(table),
        "patients": patients(tables["accuracy"], tables["correlations"], list(dataset.controls)),
        "missing": missing_data(table, collected.models, dataset.score_names),
        "flags": flag_counts(collected.flags, table),
    }


def mean_maps(selected: pd.DataFrame, collected: Collected, outputs: Outputs) -> pd.DataFrame:
    """Average the Grad-RAM maps of the analysed scans by age group, sex and group."""
    from brainage_bids.preprocess.template import template_volume
    from brainage_bids.stats.maps import maps_grid
    from brainage_bids.stats.maps import mean_maps as average

    found = []
    for (name, spec), part in collected.maps[collected.maps["prefix"].isin(selected.index)].groupby(["model", "spec"]):
        grid = maps_grid(spec)
        records = part.set_index("prefix").join(selected[["age", "sex", "group"]])
        _, mask = template_volume(grid, outputs.root)
        found.append(
            average(
                records,
                grid,
                mask,
                lambda subset, kind, name=name, grid=grid: outputs.group_map(grid, name, subset, kind),
                model=name,
            ).assign(cell_mm=_cell_mm(collected.cards.get(name), spec))
        )
    columns = ["model", "subset", "n", "n_empty", "kind", "path", "cell_mm"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def _cell_mm(card: dict | None, spec: VolumeSpec) -> float | None:
    """Return the width of one Grad-RAM cell (mm)."""
    return None if card is None else card["architecture"]["total_stride"] * spec.resolution


def _brainage_meanings(table: pd.DataFrame) -> dict[str, str]:
    meanings = dict(BRAINAGE_COLUMNS)
    for name in table.columns:
        if name.startswith("predicted_age_"):
            meanings[name] = "predicted age (years)"
        elif name.startswith("bag_corrected_"):
            meanings[name] = "brain age gap after correction for age bias (years)"
        elif name.startswith("bag_"):
            meanings[name] = "brain age gap: predicted minus chronological age (years)"
        else:
            meanings.setdefault(name, "clinical score as found in the data")
    return meanings
