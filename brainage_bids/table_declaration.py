"""The classes that declare a result table (see `result_tables`), and the meaning of columns that many tables share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from brainage_bids.schema import DATASET


@dataclass(frozen=True)
class Shown:
    """A column of a table on a page.

    Parameters
    ----------
    title
        Heading, with the unit.
    form
        Format of a cell (`brainage_bids.report.html_tables.FORMS`), then the columns of the table that it uses.
    kind
        ``n`` number, ``w`` text without line breaks, ``long`` text, ``note`` a line below the row.
    sign, places
        Whether a plus sign is shown; number of decimals.
    grey_in
        Kind of subset in which the number is shown grey, because it is always low there.
    """

    title: str
    form: str
    kind: str = "n"
    sign: bool = False
    places: int = 2
    grey_in: str | None = None


@dataclass(frozen=True)
class Page:
    """A table on a page: its caption and columns."""

    caption: str
    columns: tuple[Shown, ...]


@dataclass(frozen=True)
class ResultTable:
    """A table ``group/<name>.tsv``.

    Parameters
    ----------
    name
        Name of the file.
    names
        Names of the columns in order, separated by blanks. ``n`` and ``n_...`` are counts.
    own
        Meaning and unit of the columns that `TEXT` and `NUMBERS` do not explain.
    texts
        Which of these columns are text; the others are numbers.
    made_by
        The function of `brainage_bids.stats` that makes the table, with its arguments (`brainage_bids.app.group`).
    pages
        Name in the page template -> how the page shows the table. Tables that need more have code in `report`.
    """

    name: str
    names: str
    own: Mapping[str, str] = field(default_factory=dict)
    texts: str = ""
    made_by: str = ""
    pages: Mapping[str, Page] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.names.split()

    @property
    def text_columns(self) -> frozenset[str]:
        """Names of the columns that hold text."""
        return frozenset([*TEXT, *self.texts.split()])

    @property
    def call(self) -> tuple[str, str, list[str]]:
        """Module, function and names of the arguments in ``made_by``."""
        module, function, arguments = re.fullmatch(r"(\w+)\.(\w+)\((.*)\)", self.made_by).groups()
        return module, function, arguments.split(", ")

    def meaning(self, column: str) -> str:
        """Return what a column means.

        Raises
        ------
        KeyError
            When the meaning of the column is not declared.
        """
        for meanings in (self.own, TEXT, NUMBERS):
            if column in meanings:
                return meanings[column]
        raise KeyError(f"column {column!r} of {self.name}.tsv is explained nowhere")


PEOPLE_BY_GROUP = {
    "n_with_age": "people with a known age",
    "age_mean": "mean age (years)",
    "age_sd": "SD of age (years)",
    "age_min": "youngest (years)",
    "age_max": "oldest (years)",
    "n_female": "women",
    "n_male": "men",
    "n_sex_unknown": "people of other or unknown sex",
}

# --- columns that several tables show ---------------------------------------------------------------------------------

MODEL, NOTE = Shown("Model", "text model", "w"), Shown("Note", "note", "note")
PEOPLE = (
    Shown("Dataset", "text dataset", "long"),
    Shown("Group", "text group", "w"),
    Shown("n", "count n"),
    Shown("with age", "count n_with_age"),
    Shown("Age, mean ± SD (years)", "plus_minus age_mean age_sd"),
    Shown("Age range (years)", "interval age_min age_max", places=1),
    Shown("Women", "count n_female"),
    Shown("Men", "count n_male"),
    Shown("Sex not stated", "count n_sex_unknown"),
    NOTE,
)
CORRELATION = (
    MODEL,
    Shown("Group", "text group", "w"),
    Shown("Score", "score score", "w"),
    Shown("Gap tested", "variant variant", "long"),
    Shown("Statistic", "statistic statistic", "w"),
    Shown("n (missing)", "missing n n_missing"),
    Shown("Estimate [95 % CI]", "estimate estimate ci_lo ci_hi", sign=True),
    Shown("p", "p p"),
    Shown("q (FDR)", "p q_fdr"),
    Shown("Bootstrap", "bootstrap", "note"),
    NOTE,
)

# --- meaning of the columns that many tables share --------------------------------------------------------------------

TEXT = {
    "participant_id": "participant",
    "session_id": "session",
    "run": "entities that tell scans of one session apart",
    DATASET: "Name of the dataset; with participant_id it tells people apart",
    "model": "name of the model",
    "model_a": "first model",
    "model_b": "second model",
    "subset": "of whom: all, or a group, split, age, sex, site or dataset; all but the first two within controls",
    "group": "group as written in the data; all: everyone",
    "case": "patient group",
    "control": "control groups",
    "site": "site or scanner",
    "score": "clinical score",
    "variant": "raw: as it is; corrected: the age-bias line removed; partial, ancova, adjusted: these covariates held",
    "statistic": "pearson, spearman or kendall (tau-b)",
    "status": "ok, or why there are no numbers",
    "note": "what to know before using the row",
    "family": "family of tests that q_fdr looks at; sensitivity: shown beside the primary tests",
}
NUMBERS = {
    "n": "people",
    "n_missing": "people of the group or subset who lack a value that the row needs",
    "n_case": "patients",
    "n_control": "controls",
    "n_scans": "scans",
    "mae": "mean absolute error (years)",
    "mae_ci_lo": "lower end of the 95 % interval of the mean absolute error (years)",
    "mae_ci_hi": "upper end (years)",
    "mae_null": "error of always answering the mean training age (years)",
    "ae_sd": "SD of the absolute errors (years)",
    "medae": "median absolute error (years)",
    "rmse": "root of the mean squared error (years)",
    "r2": "1 - SSres / SStot, the chronological age as the truth",
    "pearson_r": "Pearson correlation of predicted and chronological age",
    "spearman_rho": "Spearman correlation of predicted and chronological age",
    "bag_mean": "mean raw gap (years)",
    "bag_sd": "SD of the raw gap (years)",
    "bag_t": "t of the one-sample test of a mean raw gap of 0",
    "bag_df": "its degrees of freedom",
    "bag_p": "its two-sided p",
    "bag_ci_lo": "lower end of the 95 % interval of the mean raw gap (years)",
    "bag_ci_hi": "upper end (years)",
    "bag_dz": "mean over SD of the raw gap",
    "agebias_slope": "slope of the raw gap on age (years a year)",
    "agebias_intercept": "intercept of that line (years)",
    "agebias_p": "p of the slope",
    "agebias_r": "correlation of the raw gap with age",
    "agebias_se": "standard error of the slope",
    "mae_diff": "mean absolute error of model A minus that of model B, same people (years)",
    "mean_diff": "mean of the patients minus mean of the controls (years); adjusted where the variant names covariates",
    "t": "t statistic",
    "df": "degrees of freedom",
    "p": "two-sided p",
    "q_fdr": "p after Benjamini-Hochberg over the family of the row",
    "ci_lo": "lower end of the 95 % interval",
    "ci_hi": "upper end of the 95 % interval",
    "se": "standard error",
    "dz": "mean over SD of the paired differences",
    "wilcoxon_w": "signed-rank statistic of Wilcoxon's test",
    "wilcoxon_p": "its two-sided p",
    "bca_ci_lo": "lower end of the 95 % bootstrap interval (bias-corrected and accelerated)",
    "bca_ci_hi": "upper end",
    "line_ci_lo": "lower end of the 95 % interval that also counts the error of the age-bias line",
    "line_ci_hi": "upper end",
    "estimate": "estimate",
    "threshold": "a gap of at least this is called a case (years)",
    "fpr": "share of the controls called cases",
    "tpr": "share of the patients called cases",
}
