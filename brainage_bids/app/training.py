"""Train a recipe on the healthy participants: choose them, check that there are enough, train, and write the page."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from brainage_bids import __version__
from brainage_bids.app.options import ParticipantOptions
from brainage_bids.app.run_record import RunRecord
from brainage_bids.app.scan_queries import rows_where
from brainage_bids.bids.choice import second_choice
from brainage_bids.bids.files import read_tsv
from brainage_bids.bids.outputs import Outputs, is_study_model
from brainage_bids.bids.read import Dataset, scans_table
from brainage_bids.bids.runs import sweep
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.errors import UsageError
from brainage_bids.model.artifact import CARD, read_model_json, trained_as
from brainage_bids.model.places import PLACE
from brainage_bids.schema import NOT_OF_SESSION, Scan

if TYPE_CHECKING:
    from brainage_bids.model.distributed import Distributed
    from brainage_bids.model.model_options import ModelOptions
    from brainage_bids.model.recipe import Recipe


def trainable_rows(table: pd.DataFrame, dataset: Dataset, train_on: str | None) -> tuple[pd.Series, str]:
    """Return which scans a model may be trained on, bool ``(n,)``, and the rule in words.

    If a person has one age for several sessions, only the first session is used: the person is older at the others. A
    scan with contrast agent or of a part of the brain is not used if the session has a better one.
    """
    from brainage_bids.stats.columns import has_age_flag

    chosen, rule = _chosen_rows(table, dataset, train_on)
    shared = has_age_flag(table, NOT_OF_SESSION)
    session = table["session_id"].fillna("")
    later = chosen & shared & (session != session.groupby(table["participant_id"]).transform("first"))
    if later.any():
        rule += f"; without {later.sum()} later sessions of people whose one age stands for several"
    chosen &= ~later
    sessions = [*zip(table.loc[chosen, "participant_id"], session[chosen], strict=True)]
    second = pd.Series(second_choice(sessions, table.loc[chosen, "run"].tolist()), table.index[chosen], dtype=bool)
    if second.any():
        rule += f"; without {second.sum()} scans with contrast agent or of a part of the brain beside plain ones"
    return chosen & ~second.reindex(table.index, fill_value=False), rule


def _chosen_rows(table: pd.DataFrame, dataset: Dataset, train_on: str | None) -> tuple[pd.Series, str]:
    if train_on:
        return rows_where(table, train_on, "--train-on") & table["age"].notna(), f"--train-on {train_on}"
    if dataset.group_column is None:
        return table["age"].notna(), "everyone (no group column is recognised)"
    if not dataset.controls:
        raise UsageError(
            f"column {dataset.group_column!r} holds no recognised control value "
            f"({', '.join(sorted(table['group'].dropna().unique()))}); name it with --control VALUE or use --train-on"
        )
    rule = f"{dataset.group_column} = {' or '.join(dataset.controls)}"
    return table["group"].isin(dataset.controls) & table["age"].notna(), rule


@dataclass(frozen=True)
class TrainingPlan:
    """Who would be used for a training: so many people, chosen by a rule, ``fewest`` of them in the smallest member.

    ``places`` says which places are left out, with numbers of people; empty without.
    """

    recipe: Recipe
    people: int
    rule: str
    fewest: int
    members: int
    places: str = ""

    def lines(self, options: ModelOptions) -> list[str]:
        """Return the plan in words, with the time that it takes on this machine."""
        who = f"{self.people} participants may train ({self.rule}), at least {self.fewest} of them each of"
        where = f"; {self.places}" if self.places else ""
        lines = [f"train: {self.recipe.name}: {who} {self.members} members{where}"]
        if self.recipe.method != "ridge":
            from brainage_bids.model.duration import describe_length
            from brainage_bids.model.settings import effective_settings

            settings = effective_settings(self.recipe, options, self.fewest)
            length = describe_length(self.recipe, settings, self.fewest, self.members, options.workers)
            lines.append(f"train: {length}")
        return lines


def check_training(options: ParticipantOptions, dataset: Dataset, recipe: Recipe, processes: int) -> TrainingPlan:
    """Return who would be used for training if no scan failed. This check runs before hours of work.

    Raises
    ------
    UsageError, BadDataError
        When nobody is known to be healthy, or there are too few people to train on.
    """
    from brainage_bids.model.recipe import people_a_batch
    from brainage_bids.model.recipe_files import recipe_beside
    from brainage_bids.model.split import split_folds

    table = scans_table(dataset.scans, dataset.score_names)
    table["trainable"], rule = trainable_rows(table, dataset, options.train_on)
    shares = recipe.split.val_share, recipe.split.test_share
    table[PLACE] = [dataset.places.get(prefix) for prefix in table["prefix"]]
    divided = split_folds(table, options.model.folds, options.model.seed, *shares)
    fewest = min(len(train) for train, _ in divided.parts.values())
    if recipe.network.init:
        from brainage_bids.model.folds import Cohort
        from brainage_bids.model.pretrained import load_pretrained, refuse_known_people

        cohort = Cohort.of(table, recipe, options.model)
        refuse_known_people(load_pretrained(recipe, Outputs(options.output_dir).models), cohort, dataset.identity)
    recipe_beside(recipe)  # raises now, and not after hours
    if recipe.method != "ridge":
        people_a_batch(recipe, options.model.batch_size, fewest, processes)
    people = table.loc[table["trainable"], "participant_id"].nunique()
    return TrainingPlan(recipe, people, rule, fewest, len(divided.parts), divided.left_out_text)


def train_recipe(
    options: ParticipantOptions,
    on_disk: ScanRecords,
    dataset: Dataset,
    recipe: Recipe,
    scans: Sequence[Scan],
    record: RunRecord,
    distributed: Distributed | None = None,
) -> None:
    """Train a recipe on the healthy participants among ``scans``.

    An interrupted training continues; a finished model is kept. ``distributed`` are the helping processes, None
    without them.
    """
    from brainage_bids.app.page_values import is_phantom
    from brainage_bids.app.quality_table import passing
    from brainage_bids.model.train import train_model

    outputs = on_disk.outputs
    table = scans_table(scans, dataset.score_names)
    chosen, rule = trainable_rows(table, dataset, options.train_on)
    table["trainable"] = chosen & pd.Series(passing(scans, on_disk), index=table.index)
    table["volume"] = [str(outputs.volume(scan, recipe.spec)) for scan in scans]
    table[PLACE] = [dataset.places.get(scan.prefix) for scan in scans]
    table.attrs |= {"dataset": dataset.identity, "phantom": is_phantom(dataset)}
    n_people = table.loc[table["trainable"], "participant_id"].nunique()
    record.note(f"training {recipe.name} on {n_people} participants: {rule}")
    # a study compares settings on validation people: none of its runs looks at the test people
    settings = dataclasses.replace(options.model, test=not is_study_model(recipe.name))
    folder, what = options.preprocess.work_dir / "train", f"the training {recipe.name}"
    with record.run.having(folder, recipe.name, what), record.run.having(outputs.root, f"model-{recipe.name}", what):
        work = folder / recipe.name
        sweep(folder, [work])
        if options.rerun:
            shutil.rmtree(work, ignore_errors=True)
        train_model(
            table, recipe, outputs.model(recipe.name), work, settings, distributed=distributed, again=options.rerun
        )
        if training_page(outputs, recipe.name, table, options.model.device):
            record.note(f"training of {recipe.name}: see {outputs.training_page(recipe.name).name}")
        shutil.rmtree(work, ignore_errors=True)
    record.run.leave(folder)


def training_page(outputs: Outputs, name: str, table: pd.DataFrame, device: str) -> bool:
    """Write the page of a training; return whether it was written.

    It is not written if the page of this model exists or ``history.tsv`` was removed. ``table`` is that of
    `train_model`.
    """
    from brainage_bids.model.training_examples import augmented_examples, embedding_map
    from brainage_bids.report.html import made_from_of
    from brainage_bids.report.training_html import TrainingPage, write_training_page

    folder, path = outputs.model(name), outputs.training_page(name)
    values = read_model_json(folder / CARD)
    made_from = trained_as(values)
    if made_from_of(path) == made_from or not (folder / "history.tsv").is_file():
        return False
    points, shares = (None, ()) if values["recipe"]["method"] == "ridge" else embedding_map(folder, table, device)
    history = read_tsv(folder / "history.tsv")
    examples = augmented_examples(folder, table)
    page = TrainingPage(name, __version__, values, history, points, shares, examples, made_from)
    write_training_page(path, page)
    return True
