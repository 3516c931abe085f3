"""Write the tables of the group level, and explain their columns in JSON sidecars.

A column name means the same in all tables; `OF_TABLE` holds the exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from brainage_bids.bids.files import write_json, write_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.schema import BRAINAGE_COLUMNS, DATASET, RATE_AGE, SALIENCY_REGION_COLUMNS

BY_MODEL = {  # columns of brainage.tsv that end in the name of the model; longer names must come first
    "predicted_age_": "predicted age (years)",
    "conformal_p_": "one-sided conformal p: share of held-out healthy people who look at least this old for their age",
    "bag_corrected_": "brain age gap after removal of the age-bias line (years)",
    "bag_": "brain age gap: predicted minus chronological age (years)",
}
SCORE = "clinical score as found in the data"

MEANINGS = {
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
    "family": "family of tests that q_fdr looks at; sensitivity: shown beside the primary tests",
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
_PEOPLE_BY_GROUP = {
    "n_with_age": "people with a known age",
    "age_mean": "mean age (years)",
    "age_sd": "SD of age (years)",
    "age_min": "youngest (years)",
    "age_max": "oldest (years)",
    "n_female": "women",
    "n_male": "men",
    "n_sex_unknown": "people of other or unknown sex",
}
OF_TABLE = {
    "brainage": {
        **BRAINAGE_COLUMNS,
        RATE_AGE: "age for rates of change, where the ages of sessions are whole years: that of the first session plus "
        "the time since then by dates or labels (years)",
    },
    "saliency_regions": SALIENCY_REGION_COLUMNS,
    "failed": {"step": "step that failed", "reason": "why the scan has no result"},
    "leftout": {"reason": "why the scan, which has a result, does not enter the statistics"},
    "cohort": _PEOPLE_BY_GROUP,
    "cohortsites": _PEOPLE_BY_GROUP,
    "missing": {
        "variable": "column of brainage.tsv",
        "group": "group as written in the data; n/a: scans without one; all",
        "n": "scans",
        "n_missing": "scans without a value",
    },
    "flags": {
        "flag": "flag of the prediction tables",
        "group": "group as written in the data; n/a: scans without one; all",
        "n": "scans that carry the flag",
        "n_scans": "scans with a prediction of the model",
    },
    "patients": {
        "corr_n": "people with the score",
        "corr": "correlation of the gap with the score",
        "corr_ci_lo": "lower end of its 95 % interval",
        "corr_ci_hi": "upper end",
        "corr_p": "its two-sided p",
    },
    "correlations": {"estimate": "correlation of the gap with the score"},
    "correlationcomparison": {
        "r_a": "correlation of the score with the gap of model A",
        "r_b": "correlation of the score with the gap of model B",
        "r_between": "correlation of the two gaps",
        "t": "Williams' t of the difference of two dependent correlations",
    },
    "groupdiff": {
        "hedges_g": "Hedges' g; adjusted: difference over the root of the residual mean square",
        "g_ci_lo": "lower end of its 95 % interval",
        "g_ci_hi": "upper end",
        "se": "standard error of the difference (years)",
        "se_hc3": "standard error that allows unequal variances (HC3, years)",
        "p_hc3": "two-sided p from it",
        "p_interaction": "p of group x age: does the difference change with age?",
        "mannwhitney_u": "Mann-Whitney U",
        "mannwhitney_p": "its two-sided p",
        "line_g_ci_lo": "lower end of the interval of g that also counts the error of the age-bias line",
        "line_g_ci_hi": "upper end",
    },
    "roc": {
        "auc": "area under the ROC curve: chance that a patient has a larger gap than a control",
        "se": "its standard error (DeLong)",
        "logit_ci_lo": "lower end of the 95 % interval made on the logit scale",
        "logit_ci_hi": "upper end",
    },
    "calibration": {
        "level": "promised coverage (percent)",
        "n_calibration": "healthy held-out people who give the interval",
        "half_width": "half width of the conformal interval (years)",
        "n_controls": "controls of the study who were looked at",
        "covered": "of them inside the interval",
        "coverage": "share inside the interval",
        "wilson_lo": "lower end of Wilson's 95 % interval of the coverage",
        "wilson_hi": "upper end",
    },
    "longitudinal": {
        "analysis": "rate: brain years a year; bag_rate: rate - 1; mixed: gap by time and group, random intercept",
        "term": "mean, a difference of groups, or a term of the mixed model",
        "estimate": "years a year; intercepts in years, variances in years squared",
        "sd": "SD over people",
        "t": "t statistic; of the mixed model Wald's z",
    },
    "reliability": {
        "measure": "predicted_age or bag",
        "n": "people with two scans at most 90 days apart",
        "icc21": "ICC(2,1), absolute agreement",
        "icc21_ci_lo": "lower end of its 95 % interval",
        "icc21_ci_hi": "upper end",
        "icc31": "ICC(3,1), consistency",
        "icc31_ci_lo": "lower end of its 95 % interval",
        "icc31_ci_hi": "upper end",
        "wsd": "SD within people (years)",
        "rc": "repeatability coefficient: 95 % of differences are smaller (years)",
        "mean_abs_diff": "mean absolute difference of the two scans (years)",
        "ba_bias": "Bland-Altman: mean of second minus first scan (years)",
        "ba_loa_lo": "lower limit of agreement (years)",
        "ba_loa_hi": "upper limit (years)",
    },
    "site": {
        "n_sites": "sites (or datasets, see effect) compared",
        "f": "F of all site terms, age and sex held",
        "df_num": "degrees of freedom of the sites",
        "df_den": "degrees of freedom of the residual",
        "p": "p of F",
        "effect": "what was compared: site or dataset",
    },
    "saliency_contrasts": {
        "contrast": "who is compared: first minus second",
        "variant": "raw: Welch; adjusted: with these covariates held",
        "index": "value of the region in the atlas",
        "region": "name of the region in the atlas",
        "n_case": "people of the first group",
        "n_control": "people of the second group",
        "mean_diff": "difference of the mean normalised maps in the region (0 to 1)",
        "p_perm": "p by permutation",
        "p_fwe": "p by permutation against the largest statistic of all regions",
    },
}


def write_group_table(
    outputs: Outputs, name: str, table: pd.DataFrame, about: Mapping[str, object] | None = None
) -> Path:
    """Write ``group/<name>.tsv`` and its JSON file of column meanings and ``about``; return the path of the table."""
    sidecar = {column: {"Description": words} for column, words in meanings_of(name, table.columns).items()}
    path = write_tsv(outputs.group_table(name), table)
    write_json(path.with_suffix(".json"), sidecar | dict(about or {}))
    return path


def meanings_of(table: str, columns: Iterable[str]) -> dict[str, str]:
    """Return the meaning of each column of ``group/<table>.tsv``.

    In ``brainage`` a column of unknown name is a clinical score.

    Raises
    ------
    KeyError
        When a column of another table is not explained here.
    """
    known, meanings = {**MEANINGS, **OF_TABLE.get(table, {})}, {}
    for name in columns:
        if name in known:
            meanings[name] = known[name]
        elif table == "brainage":
            meanings[name] = next((words for start, words in BY_MODEL.items() if name.startswith(start)), SCORE)
        else:
            raise KeyError(f"column {name!r} of {table}.tsv is not explained")
    return meanings
