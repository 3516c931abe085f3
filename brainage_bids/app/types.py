"""Data that the steps of the group level pass to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from brainage_bids.app.datasets import StudyDataset
from brainage_bids.schema import QC_WARNINGS, RATE_AGE


@dataclass(frozen=True)
class Pooled:
    """Further facts about a study of several datasets.

    Parameters
    ----------
    datasets
        The datasets in the order given; several may have the same Name.
    names
        The distinct Names.
    links
        Dataset and scan -> participant's page, relative to the first OUTPUT_DIR; scans without a page are left out.
    warnings
        Sentences for the top of the page.
    """

    datasets: tuple[StudyDataset, ...]
    names: tuple[str, ...]
    links: Mapping[str, str]
    warnings: tuple[str, ...]


GAP_YEARS = ("predicted_age", "bag", "bag_corrected")  # columns of brainage.tsv for every model
GAP_COLUMNS = {
    "prefix": object,
    "model": object,
    **dict.fromkeys((*GAP_YEARS, "predicted_age_sd"), float),
    "fold": object,
    "flags": object,
}


@dataclass(frozen=True)
class Results:
    """Results of the participant level, of one dataset or of several joined.

    Parameters
    ----------
    scans
        One row per scan with a result, indexed by its prefix: the columns of ``brainage.tsv`` that do not depend on a
        model.
    gaps
        One row per scan and model with `GAP_COLUMNS`: ages and gaps in years, the fold that held the person out (if
        any), flags.
    failed
        Scans without a result, as in ``failed.tsv``.
    models
        Names of the models, in the order of their first prediction.
    cards
        Model -> content of its ``model.json``, for models trained or used here.
    maps
        ``prefix model map spec`` of every Grad-RAM map.
    excluded
        Prefixes of the scans that a person excluded.
    engines
        Engines that made the volumes.
    pooled
        Facts about a study of several datasets; None for one dataset.
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
    """Return one row per scan with columns for every model, as in ``brainage.tsv``; the statistics use this form.

    Parameters
    ----------
    scans, gaps, models
        As in `Results`; ``gaps`` may have a column ``conformal_p``. Models of one training have no SD of trainings.
    """
    last = [name for name in (RATE_AGE, QC_WARNINGS) if name in scans]
    table = scans.drop(columns=last)
    by_model = {name: rows.set_index("prefix") for name, rows in gaps.groupby("model", sort=False)}
    none = gaps.iloc[:0].set_index("prefix")
    for kinds, columns in ((GAP_YEARS, last), (("conformal_p",), []), (("predicted_age_sd",), [])):
        for name in models:
            for kind in kinds:
                several = kind != "predicted_age_sd" or by_model.get(name, none)[kind].notna().any()
                if kind in gaps and several:
                    table[f"{kind}_{name}"] = by_model.get(name, none)[kind].reindex(scans.index).astype("float64")
        table[columns] = scans[columns]
    return table


@dataclass(frozen=True)
class Analysis:
    """The data for the tables of the group level. The declarations of the tables name these fields (``made_by``).

    Parameters
    ----------
    table
        One row per scan with a result, as in ``brainage.tsv``.
    people
        The same, with participant labels that are unique across datasets, and the number of quality warnings.
    tested
        ``people`` without those the age-bias line was fitted on (``--bias-query``).
    selected
        One scan of each person, for the tests.
    left_out
        The other scans, with the reason.
    sessions
        The scans used for rates of change.
    models, controls, scores, covariates
        Names of the models, labels of the controls, clinical scores, variables held constant.
    lines
        Model -> age-bias line (``biascorrection.json``).
    calibrated
        Model -> conformal intervals of the selected scans; None without a line.
    training_ages
        Model -> mean age of its training people (years).
    flags
        ``prefix model flags`` of the predictions.
    held_out
        ``prefix model place n_train train_mean_age`` of the predictions by a member that held the person out.
    fold_pairs
        Models that differ in their folds only: across and within sites.
    choice
        Which scan of a person with several scans is used, in words; None if nobody has several.
    seed
        Random seed.
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
    held_out: pd.DataFrame
    fold_pairs: list[tuple[str, str]]
    choice: str | None
    seed: int

    @property
    def selected_controls(self) -> pd.Series:
        """Which of the selected scans are of controls, bool."""
        return self.selected["group"].isin(self.controls)
