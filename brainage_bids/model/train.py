"""Train a recipe on a table of volumes and write the model folder.

The training itself is in `trainer`. A finished fold is never trained again, a killed run goes on from its last
checkpoint, and ``model.json`` is written last, so its presence means complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from brainage_bids.bids.files import read_json, write_json, write_text, write_tsv
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.bids.volumes import VolumeIdentity
from brainage_bids.errors import BadDataError, BrainageError
from brainage_bids.model.artifact import CARD, WEIGHTS, hash_participant
from brainage_bids.model.build import build_network
from brainage_bids.model.card import backbone, card_text, model_values
from brainage_bids.model.checkpoint import save_weights
from brainage_bids.model.contrast import median_intensity
from brainage_bids.model.dataset import cache_volumes, load_volume, open_volumes
from brainage_bids.model.distributed import SINGLE_PROCESS, Distributed
from brainage_bids.model.duration import describe_length
from brainage_bids.model.explain import gradram
from brainage_bids.model.folds import BESIDE, Cohort, fold_of
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.pair import NetworkWithLinearMap
from brainage_bids.model.predict import load_model
from brainage_bids.model.pretrained import load_pretrained, refuse_known_people
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_files import recipe_beside
from brainage_bids.model.settings import EffectiveSettings, effective_settings, set_threads
from brainage_bids.model.trainer import train_folds
from brainage_bids.model.training_warnings import training_warnings
from brainage_bids.schema import HISTORY_COLUMNS

LOG = logging.getLogger("brainage_bids")


def train_model(
    table: pd.DataFrame,
    recipe: Recipe,
    out_dir: str | Path,
    work_dir: str | Path,
    options: ModelOptions,
    phantom: bool | None = None,
    distributed: Distributed | None = None,
    again: bool = False,
) -> Path:
    """Train a recipe and return the model folder ``out_dir``.

    Parameters
    ----------
    table
        One row per scan: ``participant_id session_id prefix volume age sex group site family trainable``; ages in
        years. Only rows with ``trainable`` and an age train; with folds everybody gets a fold. With folds by a column,
        ``place`` is its value.
        ``table.attrs`` may hold ``dataset`` (a name, so that equal ids elsewhere are not mistaken for the same people)
        and ``phantom``.
    recipe
        What to train.
    out_dir
        The model folder: ``model.json weights.safetensors history.tsv MODEL_CARD.md split.tsv``.
    work_dir
        Checkpoints and finished folds; keep it to resume, remove it to train afresh.
    options
        Device, folds, seed and the like.
    phantom
        The images are synthetic; the model card says so. None reads ``table.attrs["phantom"]``.
    distributed
        The processes that train together; this is the main one and alone writes. None: there is no other.
    again
        Train although the same model is there; it stays until the new one is ready.

    Raises
    ------
    BadDataError
        When too few people can train, or a volume does not fit the recipe.
    UsageError
        When the training diverges or collapses.
    """
    out_dir, work_dir, distributed = Path(out_dir), Path(work_dir), distributed or SINGLE_PROCESS
    phantom = bool(table.attrs.get("phantom", False)) if phantom is None else phantom
    cohort = Cohort.of(table, recipe, options)
    pretrained, beside = load_pretrained(recipe, out_dir.parent), recipe_beside(recipe)
    if pretrained:
        refuse_known_people(pretrained, cohort, table.attrs.get("dataset"))
        cohort = dataclasses.replace(cohort, origin=pretrained.origin())
        recipe = pretrained.named_in(recipe)  # no path in model.json
    # a finished model is kept on any machine, however little memory it has: chunks do not enter the fingerprint
    anywhere = effective_settings(recipe, options, cohort.fewest_train, distributed, chunk_size=1)
    fingerprint = _fingerprint(cohort, recipe, anywhere, options)
    if (out_dir / CARD).exists():
        why = _why_again(out_dir, fingerprint, again)
        if why is None:
            LOG.info("model %s is already trained on these volumes: %s", recipe.name, out_dir)
            distributed.broadcast(None)
            return out_dir
        LOG.warning(
            "model %s %s; it is trained anew and replaced when the new one is ready: %s", recipe.name, why, out_dir
        )
    settings = _settle(cohort, recipe, options, distributed, work_dir, fingerprint)
    for line in settings.lines():
        LOG.info("training %s: %s", recipe.name, line)
    if cohort.left_out_text:
        LOG.info("training %s: %s", recipe.name, cohort.left_out_text)
    if recipe.method != "ridge":
        length = describe_length(recipe, settings, cohort.fewest_train, len(cohort.parts), options.workers)
        LOG.info("training %s: %s", recipe.name, length)
    set_threads(settings.threads)
    with _progress(options.progress, len(cohort.scans), f"{recipe.name}: reading volumes") as report:
        volumes = cache_volumes(list(cohort.scans.volume), recipe.spec, work_dir, report, options.workers)
    total = len(cohort.parts) * settings.ensemble * (settings.epochs + settings.head_epochs)
    total += len(cohort.parts) if beside else 0
    network = (pretrained.found_in(recipe) if pretrained else recipe).alone
    folds = cohort.folds(network, settings, volumes, work_dir, fingerprint, options.save_every)
    if beside:
        once = effective_settings(beside, dataclasses.replace(options, ensemble=1), cohort.fewest_train)
        others = cohort.folds(beside, once, volumes, work_dir, fingerprint, options.save_every)
        folds += [dataclasses.replace(fold, name=f"{fold.name}{BESIDE}") for fold in others]
    with _progress(options.progress, total, recipe.name) as report:
        trained = train_folds(folds, options.workers, report, distributed)
    weights = {name: state for name, (state, _) in trained.items() if not name.endswith(BESIDE)}
    if beside:
        weights = {
            name: NetworkWithLinearMap.joined(state, trained[f"{fold_of(name)}{BESIDE}"][0])
            for name, state in weights.items()
        }
    history = [row for _, rows in trained.values() for row in rows]
    held_out = _predict_held_out(weights, cohort, recipe, settings, options.test)
    more = {"fingerprint": fingerprint, "phantom": phantom, "dataset": table.attrs.get("dataset")}
    more |= {"origin": cohort.origin} if cohort.origin else {}
    warnings = training_warnings(history, recipe)
    for warning in warnings:
        LOG.warning("training %s: %s", recipe.name, warning)
    more |= {"warnings": warnings}
    values = _describe(cohort, weights, recipe, settings, held_out, open_volumes(volumes), more)
    (out_dir / CARD).unlink(missing_ok=True)
    _write_folder(out_dir, weights, history, cohort.split, values)
    for file in work_dir.glob("*.checkpoint.pt"):
        file.unlink()
    volumes.unlink(missing_ok=True)
    return out_dir


def _why_again(out_dir: Path, fingerprint: str, again: bool) -> str | None:
    """Say why a model that is there must be trained anew; None when it need not."""
    if again:
        return "is to be done again"
    try:
        model = load_model(out_dir, "cpu")
    except BrainageError as error:
        return f"cannot be used ({error})"
    same = model.card.get("fingerprint") == fingerprint
    return None if same else "was trained with other people, volumes or settings"


def _settle(
    cohort: Cohort, recipe: Recipe, options: ModelOptions, distributed: Distributed, work_dir: Path, fingerprint: str
) -> EffectiveSettings:
    """Return the settings; an interrupted training keeps its chunks, whatever memory is free today."""
    path, before = work_dir / "chunks.json", {}
    with contextlib.suppress(BadDataError, OSError):  # none, or one that a full disk cut short
        before = read_json(path)
    of_this = {"fingerprint": fingerprint, "processes": distributed.size}
    same = isinstance(before, dict) and of_this.items() <= before.items()
    former = before.get("chunk_size") if same else None
    settings = effective_settings(recipe, options, cohort.fewest_train, distributed, former)
    now = {**of_this, "chunk_size": settings.chunk_size}
    if now != before:
        write_json(path, now)
    return settings


def _predict_held_out(
    weights: dict[str, dict], cohort: Cohort, recipe: Recipe, settings: EffectiveSettings, test: bool
) -> dict[str, list[dict]]:
    """Predict the trainable people whom a fold did not train on, of the test people only if asked; one scan each."""
    split = cohort.split
    held_out: dict[str, list[dict]] = {"calibration": [], "test": []}
    for fold in cohort.parts:
        number, mean = cohort.held_out[fold], cohort.train_mean_age(fold)
        networks = [_network(recipe, state, settings) for name, state in weights.items() if fold_of(name) == fold]
        if number is None:
            asked = {"calibration": cohort.parts[fold][1]}
            if test:
                asked["test"] = list(split.participant_id[split.split == "test"])
        else:
            asked = {"calibration": list(split.participant_id[split.trainable & (split.fold == number)])}
        for part, people in asked.items():
            for rows in cohort.rows(people):
                volume = load_volume(cohort.scans.volume[rows[0]], recipe.spec)
                ages = [gradram(network, volume)[0] for network in networks]
                row = {"age": float(cohort.scans.age[rows[0]]), "predicted_age": float(np.mean(ages)), "fold": number}
                row |= {"predicted_age_sd": float(np.std(ages, ddof=1))} if len(ages) > 1 else {}
                held_out[part].append({**row, "train_mean_age": mean})
    return held_out


def _network(recipe: Recipe, state: dict, settings: EffectiveSettings) -> BrainNetwork:
    network = build_network(recipe)
    network.load_state_dict(state)
    return network.to(settings.device).eval()


def _describe(
    cohort: Cohort,
    members: Iterable[str],
    recipe: Recipe,
    settings: EffectiveSettings,
    held_out: dict,
    volumes: np.ndarray,
    more: dict[str, Any],
) -> dict[str, Any]:
    """Return the content of ``model.json``."""
    salt = hashlib.sha256(f"salt:{more['fingerprint']}".encode()).hexdigest()[:16]
    folds, trained = [], set()
    for name in members:
        fold = fold_of(name)
        number, (train, val) = cohort.held_out[fold], cohort.parts[fold]
        hashed = {
            "training_participants": sorted(hash_participant(person, salt) for person in train),
            "validation_participants": sorted(hash_participant(person, salt) for person in val),
        }
        if number is not None:  # with patients: a copy without split.tsv must not lose them
            people = cohort.split.participant_id[cohort.split.fold == number]
            hashed["held_out_participants"] = sorted(hash_participant(person, salt) for person in people)
        else:
            people = cohort.split.participant_id[cohort.split.split == "test"]
            hashed["test_participants"] = sorted(hash_participant(person, salt) for person in people)
        place = {"left_out": cohort.left_out[fold]} if cohort.left_out else {}
        mean = cohort.train_mean_age(fold)
        folds.append({"name": name, "fold": number, **place, "n_train": len(train), "train_mean_age": mean, **hashed})
        trained.update(train)
    network = build_network(recipe)
    architecture = {
        "class": type(network).__name__,
        "backbone": backbone(recipe),
        **({} if recipe.method == "ridge" else recipe.to_dict()["network"]),
        "total_stride": network.total_stride,
        "cell_offset": network.cell_offset,
        "n_features": network.n_features,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    scans = cohort.scans[cohort.scans.participant_id.isin(trained)]
    scans = scans.assign(median_intensity=[median_intensity(volumes[row]) for row in scans.index])
    return model_values(recipe, settings, scans, folds, held_out, salt=salt, architecture=architecture, **more)


def _write_folder(
    out_dir: Path, weights: dict[str, dict], history: list[dict], split: pd.DataFrame, values: dict[str, Any]
) -> None:
    save_weights(out_dir / WEIGHTS, weights)
    write_tsv(out_dir / "history.tsv", pd.DataFrame(history, columns=HISTORY_COLUMNS))
    write_tsv(out_dir / "split.tsv", split)
    write_text(out_dir / "MODEL_CARD.md", card_text(values))
    write_json(out_dir / CARD, values)


def _fingerprint(cohort: Cohort, recipe: Recipe, settings: EffectiveSettings, options: ModelOptions) -> str:
    """Hash everything that shapes the weights by intent; volumes enter by name and by what they were made from.

    Their folder does not: OUTPUT_DIR has other paths in a container, and may be moved or copied. What the machine
    decides, device, precision, chunks and number of processes, does not enter: a training must go on after an
    interruption on whatever machine is left, and a finished model holds on all; ``head_views`` follows from what does.
    Nor do people who cannot train, unless
    folds hold them out, and keys of the recipe at their default: a later version with more keys keeps its models.
    """
    files = [_made_from(Path(path)) for path in cohort.scans.volume]
    scans = cohort.scans[["prefix", "age"]].astype(str).values.tolist()
    free = "device precision threads notes processes views chunk_size recompute compile head_views ensemble".split()
    used = {key: value for key, value in settings.to_dict().items() if key not in free}
    settled = recipe.settled()
    if cohort.origin:  # not where the model lies, but what it holds
        settled["network"]["init"] = cohort.origin["weights_sha256"], cohort.origin["member"]
    if beside := recipe_beside(recipe):
        settled["beside"] = beside.settled()
    parts = [
        settled,
        used,
        options.precision,
        files,
        scans,
        (cohort.split if options.folds else cohort.split[cohort.split.trainable]).astype(str).values.tolist(),
        cohort.parts,
        *([cohort.left_out] if cohort.left_out else []),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _made_from(path: Path) -> tuple:
    """Return what tells one content of a volume from another: the hash of its scan and the engine, else its time."""
    sidecar = sidecar_path(path)
    known = VolumeIdentity.of(read_json(sidecar) if sidecar.is_file() else {})
    if known.input_hash:
        return path.name, *known.made_by
    return (path.name, path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (path.name,)


@contextlib.contextmanager
def _progress(shown: bool, total: int, name: str) -> Iterator[Callable[[dict | int], None]]:
    """Yield a function that takes each history row, or a count, and, when shown, moves a progress bar."""
    if not shown:
        yield lambda row: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(name, total=total)

        def report(row: dict | int) -> None:
            if isinstance(row, int):
                bar.update(task, completed=row)
                return
            value = row["val_mae"]
            error = "" if value is None else f", validation MAE {value:.1f} y"
            text = f"{name} {row['member']} {row['stage']} {row['epoch']}: loss {row['loss']:.3f}{error}"
            bar.update(task, advance=1, description=text)

        yield report
