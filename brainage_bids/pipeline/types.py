"""What the steps of the group level hand to each other: the results of the participant level, one dataset or more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from brainage_bids.pipeline.datasets import Member


@dataclass(frozen=True)
class Pooled:
    """What is known of a joined study beside its table.

    Parameters
    ----------
    members
        The datasets in the order given; several may have the same Name.
    names
        The distinct Names.
    links
        Page of the participant of each row of the table, as seen from the first OUTPUT_DIR; empty where there is none.
    warnings
        Sentences for the reader.
    """

    members: tuple[Member, ...]
    names: tuple[str, ...]
    links: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Results:
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
    pooled: Pooled | None = None


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
