"""The group level: prediction tables -> group tables -> mean maps -> page. Never opens an image of BIDS_DIR."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from brainage_bids import __version__
from brainage_bids.bids.derivative import prepare_output
from brainage_bids.bids.files import MISSING, read_tsv, write_json
from brainage_bids.bids.grouptables import BY_MODEL, write_group_table
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.predictions import read_predictions
from brainage_bids.bids.qc import EXCLUDED, FAIL, effective_pass, read_qc, scan_key
from brainage_bids.bids.read import Dataset, DatasetQuery, raise_on_errors
from brainage_bids.bids.tables import session_key
from brainage_bids.devices import AUTO
from brainage_bids.errors import NoInputError, UsageError
from brainage_bids.pipeline.bias import UNKNOWN_FOLD, bias_corrected
from brainage_bids.pipeline.datasets import Member, read_members, share_predictions
from brainage_bids.pipeline.participant import say_faults
from brainage_bids.pipeline.predictions import (
    about_predictions,
    engine_of,
    is_of,
    model_cards,
    prediction_rows,
    trained_as,
    volume_identity,
    volume_sidecars,
)
from brainage_bids.pipeline.qc import gates_passed, write_qc
from brainage_bids.pipeline.record import RunRecord, last_events
from brainage_bids.pipeline.together import Together, join, keyed, template_root, unkeyed
from brainage_bids.schema import BRAINAGE_COLUMNS, DATASET, FAILED_COLUMNS, RATE_AGE, SPLIT_COLUMNS, Scan, VolumeSpec

LOG = logging.getLogger("brainage_bids")


@dataclass(frozen=True)
class GroupOptions:
    """What the group level was asked to do; made by the command line."""

    query: DatasetQuery
    output_dir: Path
    models: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ("age", "sex")
    bias_fit: str = "model"
    bias_query: str | None = None
    bias_method: str = "beheshti"
    session_select: str = "first"
    atlas: str = "aal2"
    saliency_threshold: float = 0.8
    seed: int = 0
    dry_run: bool = False
    command: str = "brainage-bids"

    def scores(self, dataset: Dataset) -> list[str]:
        """Return the scores that are correlated with the gap: all but those that are held constant."""
        return [name for name in dataset.score_names if name not in self.covariates]


@dataclass(frozen=True)
class Collected:
    """What the participant level left: table, failures, models, their maps, whom a person excluded, the engines.

    ``folds`` holds, by model and scan, the fold that held the person out, where one did.
    """

    table: pd.DataFrame
    failed: pd.DataFrame
    models: tuple[str, ...]
    cards: dict[str, dict]
    maps: pd.DataFrame
    excluded: frozenset[str] = frozenset()
    folds: dict[str, dict[str, object]] = field(default_factory=dict)
    engines: tuple[str, ...] = ()
    flags: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["prefix", "model", "flags"]))
    together: Together | None = None


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
    members, dataset, collected = gather(options)
    first = members[0].dataset
    for name in options.covariates:
        if name not in (*BRAINAGE_COLUMNS, DATASET, *dataset.score_names):
            raise UsageError(
                f"--covariate {name!r} is neither a column of group/brainage.tsv nor a score; take it from a table "
                f"with --covariate {name}=participants.tsv:COLUMN"
            )
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
    from brainage_bids.pipeline.pages import is_phantom

    prepare_output(outputs, first, __version__)
    record = RunRecord(outputs, "group", options.command, {"options": dataclasses.asdict(options)})
    with record.kept():
        for member in members:
            for note in member.dataset.notes:
                record.note(f"{member.dataset.name}: {note}" if options.also else note)
        write_qc(outputs, first, record, is_phantom(first))
        _run_steps(options, outputs, dataset, collected, record)
    LOG.info("group page: %s", outputs.group_page)


def gather(options: GroupOptions) -> tuple[list[Member], Dataset, Collected]:
    """Read what the participant level left of every dataset; return the datasets, and them and their results as one."""
    external = dict(read_predictions(text) for text in options.predictions)
    members = read_members(options.query, Outputs(options.output_dir), options.also, external)
    for member in members:
        say_faults(member.dataset)
        raise_on_errors(member.dataset)
    shares = share_predictions(external, members)
    only = {Path(model).name for model in options.models if model != AUTO}
    parts = [
        add_external(collect(m.dataset, m.outputs, own, only), own) for m, own in zip(members, shares, strict=True)
    ]
    dataset, collected = join(members, parts, external)
    if unknown := sorted(only - set(collected.models)):
        there = sorted({name for member in members for name in model_cards(member.outputs)})
        raise UsageError(
            f"--model {unknown[0]}: no prediction of it that can be used is in {options.output_dir}; models known "
            f"there: {', '.join(there) or 'none'}"
        )
    return members, dataset, collected


def _run_steps(
    options: GroupOptions, outputs: Outputs, dataset: Dataset, collected: Collected, record: RunRecord
) -> None:
    from brainage_bids.pipeline.pages import group_page
    from brainage_bids.pipeline.regions import group_saliency
    from brainage_bids.stats.cohort import select_rows
    from brainage_bids.stats.longitudinal import rate_sessions

    corrected = bias_corrected(collected, dataset, options)
    table, lines, fitting = corrected.table, corrected.lines, corrected.fitting
    write_group_table(outputs, "brainage", table if table[RATE_AGE].notna().any() else table.drop(columns=RATE_AGE))
    write_json(outputs.bias_correction, lines)
    write_group_table(outputs, "failed", collected.failed)
    people = keyed(table)
    tested = people[~people.index.isin(fitting)]
    selected, left_out = select_rows(tested, options.session_select)
    left_out.loc[left_out.index.isin(collected.excluded), "reason"] = EXCLUDED
    selected = with_test_people(selected, outputs, collected.models)
    fitted = table.loc[fitting, [c for c in ("participant_id", "session_id", "run", DATASET) if c in table]]
    fitted = fitted.assign(reason="fits the age-bias line (--bias-query)")
    left_out = pd.concat([unkeyed(left_out, table), fitted], ignore_index=True)
    tables = statistics(selected, tested, people, collected, dataset, options, lines)
    tables["calibration"] = covered(selected, corrected.calibrated, dataset)
    tables |= described(people, tables, collected, options.scores(dataset), dataset.controls)
    for name, result in tables.items():
        write_group_table(outputs, name, result)
    columns = ["participant_id", "session_id", "run", *([DATASET] if DATASET in table else []), "reason"]
    write_group_table(outputs, "leftout", left_out[columns])
    saliency = group_saliency(
        selected,
        collected.maps,
        collected.cards,
        outputs,
        lambda spec: template_root(collected, outputs, spec),
        dataset.controls,
        options,
    )
    sessions = rate_sessions(tested, collected.models)
    shown = {**tables, "left_out": left_out, "sessions": sessions, "selected": selected}
    group_page(options, outputs, dataset, collected, table, shown, lines, saliency, record)


def with_test_people(selected: pd.DataFrame, outputs: Outputs, models: Sequence[str]) -> pd.DataFrame:
    """Add ``split``, ``test`` for those whom every model trained here without folds kept for its test.

    With folds everybody is held out and there is no test part; nor is there one across several datasets.
    """
    tests = []
    for name in models:
        path = outputs.model(name) / "split.tsv"
        split = read_tsv(path) if path.is_file() else pd.DataFrame(columns=SPLIT_COLUMNS)
        if len(split) and (split["fold"] == MISSING).all():
            tests.append(set(split.loc[split["split"] == "test", "participant_id"]))
    people = set.intersection(*tests) if tests and DATASET not in selected else set()
    if not people:
        return selected
    parts = ["test" if person in people else None for person in selected["participant_id"]]
    return selected.assign(split=pd.Series(parts, index=selected.index, dtype=object))


def collect(
    dataset: Dataset, outputs: Outputs, external: Mapping[str, pd.DataFrame], only: Collection[str] = ()
) -> Collected:
    """Read every prediction table of the dataset's scans into one table (one row per scan).

    Other models than those of ``only`` do as if they had never predicted, unless it is empty. A scan without a
    prediction of ours is a row when the person has one made elsewhere, else it is listed as failed.
    """
    elsewhere = {person for table in external.values() for person in table["participant_id"]}
    rows, failed, maps, flags, seen, engines = [], [], [], [], {}, set()
    foreign: list[tuple[int, Scan]] = []  # rows without a prediction of ours
    outdated: list[tuple[Scan, str]] = []
    cards = {name: card for name, card in model_cards(outputs).items() if not only or name in only}
    folds: dict[str, dict[str, object]] = {}
    trainings = {name: {card.get("fingerprint"), trained_as(card)} for name, card in cards.items()}
    grids = {name: VolumeSpec.from_dict(card["volume_spec"]) for name, card in cards.items() if "volume_spec" in card}
    events, decided = last_events(outputs), read_qc(outputs.qc_table)
    for scan in dataset.scans:
        sidecars, told = volume_sidecars(scan, outputs), about_predictions(outputs.prediction(scan))
        now = {volume_identity(values) for _, values in sidecars}
        everything = prediction_rows(outputs.prediction(scan))
        written = [row for row in everything if not only or row["model"] in only]
        predictions = [row for row in written if is_of(told, row["model"], now, trainings)]
        outdated += [(scan, row["model"]) for row in written if row not in predictions]
        engines.update(engine_of(values) for _, values in sidecars[:1])
        if not predictions and scan.participant_id not in elsewhere:
            by_others = [row["model"] for row in everything]
            failed.append(_outdated(scan) if written else _failure(scan, events.get(scan.prefix), by_others))
            continue
        if not predictions:
            foreign.append((len(rows), scan))
        usable = effective_pass(gates_passed([v for _, v in sidecars]), decided.decision(scan_key(scan)).verdict)
        row = _scan_columns(scan, None if usable is None else int(usable))
        held_out = told.get("Folds", {})
        for values in predictions:
            name = values["model"]
            seen[name] = None
            if "out_of_fold" in values["flags"].split(";"):
                fold = held_out.get(name)
                folds.setdefault(name, {})[scan.prefix] = UNKNOWN_FOLD if fold is None else fold
            flags.append({"prefix": scan.prefix, "model": name, "flags": values["flags"]})
            bag = values["predicted_age"] - (float("nan") if scan.age is None else scan.age)
            row |= {
                f"predicted_age_{name}": values["predicted_age"],
                f"bag_{name}": bag,
                f"bag_corrected_{name}": values["bag_corrected"],
            }
            used = {"in_training", "in_validation"} & set(values["flags"].split(";"))
            row["in_training"] = max(row["in_training"], int(bool(used)))
            for spec, _ in sidecars:
                path = outputs.saliency(scan, spec, name)
                of_this_grid = name not in grids or path == outputs.saliency(scan, grids[name], name)
                if of_this_grid and path.is_file():
                    maps.append({"prefix": scan.prefix, "model": name, "map": str(path), "spec": spec})
        rows.append({**row, "prefix": scan.prefix})
    # who has another scan that we predicted is not represented by one that failed
    ours = {row["participant_id"] for at, row in enumerate(rows) if at not in {place for place, _ in foreign}}
    for at, scan in reversed(foreign):
        if scan.participant_id in ours:
            del rows[at]
            failed.append(_failure(scan, events.get(scan.prefix)))
    if outdated:
        LOG.warning(
            "%d predictions were made from other volumes or by an earlier training of the model and are not used (%s); "
            "run the participant level again",
            len(outdated),
            ", ".join(f"{scan.prefix} {name}" for scan, name in outdated[:5]),
        )
    refuse_same_columns(list(seen))
    columns = [*BRAINAGE_COLUMNS, *dataset.score_names]
    columns += [f"{kind}_{name}" for name in seen for kind in ("predicted_age", "bag", "bag_corrected")]
    columns.append(RATE_AGE)
    table = pd.DataFrame(rows, columns=["prefix", *columns]).set_index("prefix")
    numeric = [
        c for c in columns if c in ("age", RATE_AGE, *dataset.score_names) or c.startswith(("predicted_age_", "bag_"))
    ]
    table[numeric] = table[numeric].astype("float64")
    return Collected(
        table,
        pd.DataFrame(failed, columns=FAILED_COLUMNS),
        tuple(seen),
        cards,
        pd.DataFrame(maps, columns=["prefix", "model", "map", "spec"]),
        frozenset(scan.prefix for scan in dataset.scans if decided.decision(scan_key(scan)).verdict == FAIL),
        folds=folds,
        engines=tuple(sorted(engines)),
        flags=pd.DataFrame(flags, columns=["prefix", "model", "flags"]),
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


def _outdated(scan: Scan) -> dict:
    reason = "predicted from another volume or by an earlier training of the model: run the participant level again"
    return {**_failure(scan, None), "step": "predict", "reason": reason}


def add_external(collected: Collected, predictions: Mapping[str, pd.DataFrame]) -> Collected:
    """Add the columns of predictions made elsewhere, matched by participant and session."""
    table, models = collected.table.copy(), list(collected.models)
    for name, external in predictions.items():
        if name in models:
            raise UsageError(f"--predictions {name}: there is a model of that name already; choose another name")
        refuse_same_columns([*models, name])
        by_session = {(r.participant_id, _spelling(r.session_id)): r.predicted_age for r in external.itertuples()}
        sessions = table.groupby("participant_id")["session_id"].nunique(dropna=False)
        ages, unclear = [], set()
        for row in table.itertuples():
            age = by_session.get((row.participant_id, _spelling(row.session_id)))
            if age is None and (row.participant_id, None) in by_session:
                # one prediction for all sessions would say that nobody ages
                if sessions[row.participant_id] == 1:
                    age = by_session[row.participant_id, None]
                else:
                    unclear.add(row.participant_id)
            ages.append(float("nan") if age is None else age)
        if unclear:
            LOG.warning(
                "--predictions %s: %d participants have several sessions and a prediction without one, which is not "
                "used (%s); add a column session_id",
                name,
                len(unclear),
                sorted(unclear)[:5],
            )
        table[f"predicted_age_{name}"] = pd.Series(ages, index=table.index, dtype="float64")
        table[f"bag_{name}"] = table[f"predicted_age_{name}"] - table["age"]
        table[f"bag_corrected_{name}"] = float("nan")
        models.append(name)
        scans = {(r.participant_id, _spelling(r.session_id)) for r in table.itertuples()}
        here = {person for person, _ in scans}
        unmatched = sorted(
            f"{r.participant_id} {r.session_id or ''}".strip()
            for r in external.itertuples()
            if r.participant_id not in here
            or (isinstance(r.session_id, str) and (r.participant_id, _spelling(r.session_id)) not in scans)
        )
        if unmatched:
            LOG.warning(
                "--predictions %s: %d rows belong to no scan of the study (%s)", name, len(unmatched), unmatched[:5]
            )
    return dataclasses.replace(collected, table=table, models=tuple(models))


def _spelling(session: str | None) -> str | None:
    """Return what the spellings of a session share (``ses-01``, ``1``); None without one."""
    return session_key(session) if isinstance(session, str) else None


def refuse_same_columns(models: Sequence[str]) -> None:
    """Raise when the columns of two models in ``brainage.tsv`` would have one name (``m`` and ``corrected_m``)."""
    owners: dict[str, str] = {}
    for model in models:
        for start in BY_MODEL:
            if owners.setdefault(f"{start}{model}", model) != model:
                raise UsageError(
                    f"the models {owners[start + model]!r} and {model!r} would share the column {start + model!r} of "
                    "brainage.tsv; rename one"
                )


def statistics(
    selected: pd.DataFrame,
    tested: pd.DataFrame,
    table: pd.DataFrame,
    collected: Collected,
    dataset: Dataset,
    options: GroupOptions,
    lines: Mapping[str, dict],
) -> dict[str, pd.DataFrame]:
    """Compute every group table: of the selected scan of each person, of all tested scans, of everybody."""
    from brainage_bids.stats.accuracy import accuracy, model_comparison
    from brainage_bids.stats.cohort import cohort_by_dataset
    from brainage_bids.stats.correlate import correlations
    from brainage_bids.stats.dependent import correlation_comparison
    from brainage_bids.stats.groups import group_differences
    from brainage_bids.stats.longitudinal import longitudinal, rate_sessions
    from brainage_bids.stats.reliability import reliability
    from brainage_bids.stats.roc import roc, roc_curves
    from brainage_bids.stats.site import site_effect

    models, controls = list(collected.models), list(dataset.controls)
    means = {name: card["training"]["age_mean"] for name, card in collected.cards.items()}
    scores = options.scores(dataset)
    return {
        "cohort": cohort_by_dataset(table),
        "accuracy": accuracy(selected, models, controls, means, seed=options.seed),
        "modelcomparison": model_comparison(selected, models, controls, options.seed),
        "correlations": correlations(selected, models, scores, options.covariates, controls, options.seed),
        "correlationcomparison": correlation_comparison(selected, models, scores, controls),
        "groupdiff": group_differences(selected, models, controls, options.covariates, lines),
        "roc": roc(selected, models, controls, lines),
        "roc_curves": roc_curves(selected, models, controls),
        "site": site_effect(selected, models, controls),
        "longitudinal": longitudinal(rate_sessions(tested, models), models, controls),
        "reliability": reliability(tested, models),
    }


def described(
    table: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    collected: Collected,
    scores: Sequence[str],
    controls: Sequence[str],
) -> dict[str, pd.DataFrame]:
    """Return the tables that describe the study beside the tests."""
    from brainage_bids.stats.describe import cohort_sites, flag_counts, missing_data, patients

    return {
        "cohortsites": cohort_sites(table),
        "patients": patients(tables["accuracy"], tables["correlations"], list(controls)),
        "missing": missing_data(table, collected.models, scores),
        "flags": flag_counts(collected.flags, table),
    }


def covered(selected: pd.DataFrame, calibrated: dict[str, pd.DataFrame | None], dataset: Dataset) -> pd.DataFrame:
    """Count the controls in the tests whom the conformal intervals hold."""
    from brainage_bids.stats.conformal import coverage

    people = {name: None if rows is None else rows.loc[selected.index] for name, rows in calibrated.items()}
    return coverage(people, selected["group"].isin(dataset.controls))
