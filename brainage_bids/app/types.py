"""What the steps of the group level hand to each other: the results of the participant level, one dataset or more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from brainage_bids.app.datasets import StudyDataset
from brainage_bids.schema import QC_WARNINGS, RATE_AGE


@dataclass(frozen=True)
class Pooled:
    """What is known of a joined study beside its table.

    Parameters
    ----------
    datasets
        The datasets in the order given; several may have the same Name.
    names
        The distinct Names.
    links
        Page of the participant of each row of the table, as seen from the first OUTPUT_DIR; empty where there is none.
    warnings
        Sentences for the reader.
    """

    datasets: tuple[StudyDataset, ...]
    names: tuple[str, ...]
    links: Mapping[str, str]
    warnings: tuple[str, ...]


GAP_COLUMNS = ("prefix", "model", "predicted_age", "bag", "bag_corrected", "fold", "flags")
BY_MODEL = ("predicted_age", "bag", "bag_corrected")  # years; columns of brainage.tsv for every model


@dataclass(frozen=True)
class Results:
    """What the participant level left.

    Parameters
    ----------
    scans
        One row per scan with a result, indexed by its prefix: the columns of ``brainage.tsv`` that are of no model.
    gaps
        One row per scan and model, `GAP_COLUMNS`: years; the fold that held the person out, where one did; flags.
    failed
        Scans without a result, as ``failed.tsv``.
    models
        Names, in the order in which they were found.
    cards
        ``model.json`` by model, of those trained or used here.
    maps
        ``prefix model map spec`` of every Grad-RAM map.
    excluded
        Prefixes of the scans that a person excluded.
    engines
        What made the volumes.
    pooled
        What is known of a study of several datasets.
    """

    scans: pd.DataFrame
    gaps: pd.DataFrame
    failed: pd.DataFrame
    models: tuple[str, ...]
    cards: dict[str, dict]
    maps: pd.DataFrame
    excluded: frozenset[str] = frozenset()
    engines: tuple[str, ...] = ()
    pooled: Pooled | None = None

    @property
    def table(self) -> pd.DataFrame:
        """Scans and gaps as ``brainage.tsv`` has them (`wide`)."""
        return wide(self.scans, self.gaps, self.models)

    @property
    def flags(self) -> pd.DataFrame:
        """``prefix model flags`` of every prediction."""
        return self.gaps[["prefix", "model", "flags"]]


def wide(scans: pd.DataFrame, gaps: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Return one row per scan with columns for every model: the shape of ``brainage.tsv``, which statistics take.

    Parameters
    ----------
    scans, gaps, models
        As in `Results`; ``gaps`` may have a column ``conformal_p``.
    """
    last = [name for name in (RATE_AGE, QC_WARNINGS) if name in scans]
    table = scans.drop(columns=last)
    by_model = {name: rows.set_index("prefix") for name, rows in gaps.groupby("model", sort=False)}
    none = gaps.iloc[:0].set_index("prefix")
    for kinds, columns in ((BY_MODEL, last), (("conformal_p",), [])):
        for name in models:
            for kind in kinds:
                if kind in gaps:
                    table[f"{kind}_{name}"] = by_model.get(name, none)[kind].reindex(scans.index).astype("float64")
        table[columns] = scans[columns]
    return table


def empty_gaps() -> pd.DataFrame:
    """Return gaps of nobody."""
    years = dict.fromkeys(BY_MODEL, "float64")
    return pd.DataFrame(columns=list(GAP_COLUMNS)).astype({name: years.get(name, object) for name in GAP_COLUMNS})


@dataclass(frozen=True)
class Analysis:
    """What the tables of the group level are made from; their declarations name these fields.

    Parameters
    ----------
    table
        Every scan with a result as it is written, one row each.
    people
        The same with names that tell people of several datasets apart, and how many quality warnings a scan has.
    tested
        ``people`` without those who fit the age-bias line.
    selected
        One scan of each person: these enter the tests.
    left_out
        The others, with the reason.
    sessions
        The scans of rates of change.
    models, controls, scores, covariates
        Names of the models, labels of the controls, clinical scores, what is held constant.
    lines
        Age-bias line by model (``biascorrection.json``).
    calibrated
        By model the conformal intervals of the selected scans; None without a line.
    training_ages
        Mean age of the people of each model's training (years).
    flags
        ``prefix model flags`` of the predictions.
    choice
        Which scan stands for a person who has several, in words; empty where nobody has.
    seed
        Of all that is drawn.
    """

    table: pd.DataFrame
    people: pd.DataFrame
    tested: pd.DataFrame
    selected: pd.DataFrame
    left_out: pd.DataFrame
    sessions: pd.DataFrame
    models: list[str]
    controls: list[str]
    scores: list[str]
    covariates: tuple[str, ...]
    lines: dict[str, dict]
    calibrated: dict[str, pd.DataFrame | None]
    training_ages: dict[str, float]
    flags: pd.DataFrame
    choice: str | None
    seed: int

    @property
    def selected_controls(self) -> pd.Series:
        """Which of the selected scans are of controls, bool."""
        return self.selected["group"].isin(self.controls)
