"""Train a recipe once for every value of one setting, and compare the errors on people who were held out.

A study is a list of ordinary runs of ``brainage-bids ... --train-only``. Each can be a job of its own, and an
interrupted study continues where it stopped. Test people are never used.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.files import numbers, read_tsv, write_tsv
from brainage_bids.bids.outputs import Outputs, study_model
from brainage_bids.errors import BrainageError, ParticipantsFailed, UsageError, shorten
from brainage_bids.model.artifact import read_model_json

LOG = logging.getLogger("brainage_bids")

KINDS = {  # the studies of the paper: figure 3, tables 2 and 3
    "batch-size": ("training.batch_size", ("6", "12", "24", "48")),  # see also `PAPER_BATCHES`
    "depth": ("network.depth", ("18", "50", "101")),
    "resolution": ("volume.resolution", ("1", "2")),
    "augmentation": ("augmentation.enabled", ("true", "false")),
}

PAPER_BATCHES = {"rnc-highrez": ("8", "16", "24"), "rnc-lowrez": ("16", "24", "32", "48")}  # paper 2.4.2, figure 3


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study.

    Parameters
    ----------
    kind
        What to vary: one of `KINDS`, or a key of a recipe (``training.lr``).
    bids_dir, output_dir
        As in any run.
    recipe
        The recipe to vary.
    values
        Values to try; empty: those in `KINDS`.
    seeds
        Every value is trained once with each seed.
    more
        Further arguments of every run.
    """

    kind: str
    bids_dir: Path
    output_dir: Path
    recipe: str
    values: tuple[str, ...]
    seeds: tuple[int, ...]
    more: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The recipe key that is varied."""
        return KINDS[self.kind][0] if self.kind in KINDS else self.kind

    @property
    def name(self) -> str:
        """Stem of the files of this study."""
        return f"{Path(self.recipe).stem}_{self.kind}"

    def runs(self) -> Iterator[tuple[str, int, str]]:
        """Yield the value, the seed and the model name of every run.

        Raises
        ------
        UsageError
            When the kind is unknown, or there is nothing to try.
        """
        if self.kind not in KINDS and "." not in self.kind:
            raise UsageError(f"study {self.kind!r} is unknown; use {', '.join(KINDS)}, or a key such as training.lr")
        values = self.values or KINDS.get(self.kind, ("", ()))[1]
        if self.kind == "batch-size" and not self.values:
            values = PAPER_BATCHES.get(Path(self.recipe).stem, values)
        if not values:
            raise UsageError(f"a study of {self.kind} needs --values; give at least two")
        if any(word.partition("=")[0] == "--random-seed" for word in self.more):
            raise UsageError("a study takes its seeds from --seeds, one or several; use it instead of --random-seed")
        for value in values:
            for seed in self.seeds:
                yield value, seed, study_model(Path(self.recipe).stem, f"{self.kind}-{value}", seed)


def run_arguments(options: StudyOptions) -> list[list[str]]:
    """Return the arguments of ``brainage-bids`` of every run."""
    return [
        [
            str(options.bids_dir), str(options.output_dir), "participant", "--train", options.recipe, "--train-only",
            "--set", f"{options.key}={value}", "--set", f"name={name}", "--random-seed", str(seed), *options.more,
        ]
        for value, seed, name in options.runs()
    ]  # fmt: skip


def list_runs(options: StudyOptions) -> list[str]:
    """Return the command of every run, for a job queue. Run the study afterwards to compare the results."""
    return [shlex.join(["brainage-bids", *arguments]) for arguments in run_arguments(options)]


def run_study(options: StudyOptions, run: Callable[[list[str]], object]) -> Path:
    """Run what is not finished, then write the table and the figure; return the path of the table.

    Parameters
    ----------
    options
        Options of the study.
    run
        Runs ``brainage-bids`` with the given arguments.

    Raises
    ------
    ParticipantsFailed
        At the end, when a run failed; the table says which and why.
    """
    failed = {}
    for (value, seed, name), arguments in zip(options.runs(), run_arguments(options), strict=True):
        LOG.info("study %s: %s = %s, seed %d", options.name, options.key, value, seed)
        try:
            run(arguments)
        except ParticipantsFailed as error:  # some scans failed, but the training is done
            LOG.warning("%s", error)
        except BrainageError as error:
            LOG.warning("%s = %s, seed %d: %s", options.key, value, seed, error)
            failed[name] = str(error)
    path = compare(options, failed)
    LOG.info("study %s: %s", options.name, path)
    if failed:
        raise ParticipantsFailed(f"{len(failed)} runs of the study failed; {path} says which and why")
    return path


def compare(options: StudyOptions, failed: dict[str, str]) -> Path:
    """Write ``study/<name>.tsv`` and its figures from the finished models; return the path of the table."""
    from brainage_bids.report.figure_files import save_both
    from brainage_bids.report.figures import study_figure
    from brainage_bids.schema import DEFAULT_SEED
    from brainage_bids.stats.study import study_table

    outputs = Outputs(options.output_dir)
    runs = [
        {"setting": options.key, "value": value, "seed": seed, **_finished(outputs.model(name), failed.get(name))}
        for value, seed, name in options.runs()
    ]
    table = study_table(runs, DEFAULT_SEED)
    path = outputs.study(options.name)
    write_tsv(path, table)
    done = table[table.status == "ok"]
    if len(done):
        save_both(study_figure(done, options.key), path.with_suffix(""))
    return path


def _finished(folder: Path, reason: str | None) -> dict:
    """Return the results of a finished run on its held-out people, or a note why there are none."""
    if reason or not (folder / "model.json").is_file():
        return {"note": reason or "not run"}
    try:
        card, history = read_model_json(folder / "model.json"), read_tsv(folder / "history.tsv")
        minutes = numbers(history["seconds"]).sum() / 60
    except (BrainageError, FileNotFoundError, KeyError) as error:
        return {"note": f"{folder.name} cannot be used: {shorten(error, 200)}"}
    people = card["calibration"]
    return {
        "age": _column(people, "age"), "predicted_age": _column(people, "predicted_age"),
        "mae_null": card["validation"].get("mae_null"), "epochs": len(history) / len(card["members"]),
        "minutes": minutes,
    }  # fmt: skip


def _column(rows: Sequence[dict], name: str) -> list[float]:
    return [row[name] for row in rows]
