"""All result tables, each declared once: columns and their meaning, the function that makes it, how a page shows it.

To add a table: write a function in `stats` that makes it, declare the table here, and add it to the page template.
To add a column: add it to the rows that the function makes, and here.
"""

from __future__ import annotations

from brainage_bids.map_tables import SALIENCY_CONTRASTS, SALIENCY_REGIONS
from brainage_bids.table_declaration import (
    CORRELATION,
    MODEL,
    NOTE,
    PEOPLE,
    PEOPLE_BY_GROUP,
    Page,
    ResultTable,
    Shown,
)

# --- the tables, in the order in which they are made ------------------------------------------------------------------

COHORT = ResultTable(
    "cohort",
    "group n n_with_age age_mean age_sd age_min age_max n_female n_male n_sex_unknown status note",
    own=PEOPLE_BY_GROUP,
    made_by="cohort_tables.cohort_by_dataset(people)",
    pages={"cohort": Page("The cohort, by group as written in the data", PEOPLE)},
)
COHORTSITES = ResultTable(
    "cohortsites",
    "site group n n_with_age age_mean age_sd age_min age_max n_female n_male n_sex_unknown status note",
    own=PEOPLE_BY_GROUP,
    made_by="describe.cohort_sites(people)",
    pages={"sites": Page("The cohort, by site and group", (Shown("Site", "text site", "w"), *PEOPLE))},
)
ACCURACY = ResultTable(
    "accuracy",
    "model subset n n_missing mae ae_sd medae rmse r2 pearson_r spearman_rho bag_mean bag_sd bag_t bag_df "
    "bag_p bag_ci_lo bag_ci_hi mae_ci_lo mae_ci_hi mae_null agebias_slope agebias_intercept agebias_p "
    "bag_dz agebias_r agebias_se status note",
    made_by="accuracy.accuracy(selected, models, controls, training_ages, seed)",
    pages={
        "accuracy": Page(
            "Accuracy of the uncorrected predictions; patients are shown for information",
            (
                MODEL,
                Shown("Subset", "subset subset", "long"),
                Shown("n", "count n"),
                Shown("MAE [95 % CI] (years)", "estimate mae mae_ci_lo mae_ci_hi"),
                Shown("MAE of the null model", "decimals mae_null"),
                Shown("RMSE", "decimals rmse"),
                Shown("R²", "decimals r2", grey_in="age"),
                Shown("Pearson r", "decimals pearson_r"),
                Shown("Mean gap [95 % CI] (years)", "estimate bag_mean bag_ci_lo bag_ci_hi", sign=True),
                Shown("SD of the gap", "decimals bag_sd"),
                Shown("p of mean gap = 0", "p bag_p"),
                Shown("Slope of the gap on age", "decimals agebias_slope", sign=True, places=3),
                NOTE,
            ),
        )
    },
)
MODELCOMPARISON = ResultTable(
    "modelcomparison",
    "model_a model_b subset n mae_diff t df p ci_lo ci_hi dz wilcoxon_w wilcoxon_p n_missing bca_ci_lo "
    "bca_ci_hi status note",
    made_by="accuracy.model_comparison(selected, models, controls, seed)",
    pages={
        "comparison": Page(
            "Paired comparison of absolute errors; below zero means that model A errs less",
            (
                Shown("Model A", "text model_a", "w"),
                Shown("Model B", "text model_b", "w"),
                Shown("Subset", "subset subset", "w"),
                Shown("n", "count n"),
                Shown("MAE of A − B [95 % CI] (years)", "estimate mae_diff ci_lo ci_hi", sign=True),
                Shown("dz", "decimals dz", sign=True),
                Shown("t (df)", "t"),
                Shown("p", "p p"),
                Shown("Wilcoxon p", "p wilcoxon_p"),
                Shown("Bootstrap", "bootstrap", "note"),
                NOTE,
            ),
        )
    },
)
SITEERROR = ResultTable(
    "siteerror",
    "left_out_by model kind subset n n_missing trained_on mae mae_ci_lo mae_ci_hi mae_null bag_mean bag_ci_lo "
    "bag_ci_hi pearson_r n_both mae_diff ci_lo ci_hi p shift shift_ci_lo shift_ci_hi status note",
    own={
        "left_out_by": "model whose members each leave a place out; it decides which people are of which place",
        "kind": "across: the member that predicts knew nobody of the place; within: it knew others of the place",
        "subset": "the place that was left out, COLUMN=VALUE; all: all places",
        "n": "people, controls only where there are controls",
        "trained_on": "people who trained the member that predicts, mean over the people of the row",
        "mae_null": "error of always answering the mean age of those who trained the member (years)",
        "n_both": "people whom both models held out; 0 in rows across",
        "mae_diff": "mean absolute error across minus within, same people (years)",
        "ci_lo": "lower end of its 95 % interval",
        "ci_hi": "upper end",
        "p": "its two-sided p (paired t)",
        "shift": "mean of the age predicted across minus that within, same people (years): what an unknown place adds",
        "shift_ci_lo": "lower end of its 95 % interval",
        "shift_ci_hi": "upper end",
    },
    texts="left_out_by kind",
    made_by="siteerror.site_errors(selected, held_out, fold_pairs, controls, seed)",
    pages={
        "siteerror": Page(
            "Error across places (a member that knew nobody of the place) and within (one that knew others of it)",
            (
                Shown("Place", "place subset", "w"),
                Shown("Error", "text kind", "w"),
                MODEL,
                Shown("n (missing)", "missing n n_missing"),
                Shown("Trained on", "decimals trained_on", places=0),
                Shown("MAE [95 % CI] (years)", "estimate mae mae_ci_lo mae_ci_hi"),
                Shown("MAE of the null model", "decimals mae_null"),
                Shown("Mean gap [95 % CI] (years)", "estimate bag_mean bag_ci_lo bag_ci_hi", sign=True),
                Shown("Pearson r", "decimals pearson_r"),
                NOTE,
            ),
        ),
        "siteshift": Page(
            "Across minus within, in the people whom both models held out; above zero: more error, or older brains",
            (
                Shown("Place", "place subset", "w"),
                Shown("Across − within", "minus left_out_by model", "w"),
                Shown("n", "count n_both"),
                Shown("MAE [95 % CI] (years)", "estimate mae_diff ci_lo ci_hi", sign=True),
                Shown("p", "p p"),
                Shown("Shift of predicted age [95 % CI] (years)", "estimate shift shift_ci_lo shift_ci_hi", sign=True),
            ),
        ),
    },
)
CORRELATIONS = ResultTable(
    "correlations",
    "model group score variant statistic n n_missing estimate ci_lo ci_hi df p q_fdr family bca_ci_lo "
    "bca_ci_hi status note",
    own={
        "estimate": "correlation of the gap with the score",
    },
    made_by="correlate.correlations(selected, models, scores, covariates, controls, seed)",
    pages={
        "primary": Page("Primary tests: gap and clinical scores", CORRELATION),
        "others": Page("Sensitivity analyses; they carry no q value", CORRELATION),
    },
)
CORRELATIONCOMPARISON = ResultTable(
    "correlationcomparison",
    "group score variant model_a model_b n n_missing r_a r_b r_between t df p status note",
    own={
        "r_a": "correlation of the score with the gap of model A",
        "r_b": "correlation of the score with the gap of model B",
        "r_between": "correlation of the two gaps",
        "t": "Williams' t of the difference of two dependent correlations",
    },
    made_by="dependent.correlation_comparison(selected, models, scores, controls)",
    pages={
        "correlationcomparison": Page(
            "Does a score go with one model more than with the other? Williams' test",
            (
                Shown("Group", "text group", "w"),
                Shown("Score", "score score", "w"),
                Shown("Gap tested", "variant variant", "long"),
                Shown("Model A", "text model_a", "w"),
                Shown("Model B", "text model_b", "w"),
                Shown("n (missing)", "missing n n_missing"),
                Shown("r of A", "decimals r_a", sign=True),
                Shown("r of B", "decimals r_b", sign=True),
                Shown("r between A and B", "decimals r_between", sign=True),
                Shown("t (df)", "t"),
                Shown("p", "p p"),
                NOTE,
            ),
        )
    },
)
GROUPDIFF = ResultTable(
    "groupdiff",
    "model variant case control n_case n_control mean_diff ci_lo ci_hi t df p q_fdr hedges_g g_ci_lo "
    "g_ci_hi n_missing se se_hc3 p_hc3 p_interaction mannwhitney_u mannwhitney_p line_ci_lo line_ci_hi "
    "line_g_ci_lo line_g_ci_hi status note",
    own={
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
    made_by="groups.group_differences(selected, models, controls, covariates, lines)",
    pages={
        "groupdiff": Page(
            "Brain age gap of patients minus controls",
            (
                MODEL,
                Shown("Comparison", "minus case control", "w"),
                Shown("Gap tested", "variant variant", "long"),
                Shown("n", "pair n_case n_control"),
                Shown("Difference [95 % CI] (years)", "line_estimate mean_diff ci", sign=True),
                Shown("Hedges g [95 % CI]", "line_estimate hedges_g g_ci", sign=True),
                Shown("t (df)", "t"),
                Shown("p", "p p"),
                Shown("q (FDR)", "p q_fdr"),
                Shown("Checks", "checks", "note"),
                NOTE,
            ),
        )
    },
)
ROC = ResultTable(
    "roc",
    "model variant case control n_case n_control auc se ci_lo ci_hi n_missing logit_ci_lo logit_ci_hi "
    "line_ci_lo line_ci_hi status note",
    own={
        "auc": "area under the ROC curve: chance that a patient has a larger gap than a control",
        "se": "its standard error (DeLong)",
        "logit_ci_lo": "lower end of the 95 % interval made on the logit scale",
        "logit_ci_hi": "upper end",
    },
    made_by="roc.roc(selected, models, controls, lines)",
    pages={
        "roc": Page(
            "Area under the ROC curve (0.5: no separation, 1: complete separation)",
            (
                MODEL,
                Shown("Comparison", "against case control", "w"),
                Shown("Gap", "variant variant", "long"),
                Shown("n", "pair n_case n_control"),
                Shown("AUC [95 % CI]", "line_estimate auc ci"),
                NOTE,
            ),
        )
    },
)
ROC_CURVES = ResultTable(
    "roc_curves",
    "model variant case control threshold fpr tpr",
    made_by="roc.roc_curves(selected, models, controls)",
)
SITE = ResultTable(
    "site",
    "model subset n n_missing n_sites f df_num df_den p status note effect",
    own={
        "n_sites": "sites (or datasets, see effect) compared",
        "f": "F of all site terms, age and sex held",
        "df_num": "degrees of freedom of the sites",
        "df_den": "degrees of freedom of the residual",
        "p": "p of F",
        "effect": "what was compared: site or dataset",
    },
    texts="effect",
    made_by="site.site_effect(selected, models, controls)",
    pages={
        "site": Page(
            "Do the sites differ in the gap of healthy people? F test, age and sex held",
            (
                MODEL,
                Shown("Between", "plural effect", "w"),
                Shown("Controls", "count n"),
                Shown("Number", "count n_sites"),
                Shown("F", "decimals f"),
                Shown("df", "counts df_num df_den"),
                Shown("p", "p p"),
                NOTE,
            ),
        )
    },
)
LONGITUDINAL = ResultTable(
    "longitudinal",
    "model analysis group term n n_scans estimate sd se ci_lo ci_hi t df p status note",
    own={
        "analysis": "rate: brain years a year; bag_rate: rate - 1; mixed: gap by time and group, random intercept",
        "term": "mean, a difference of groups, or a term of the mixed model",
        "estimate": "years a year; intercepts in years, variances in years squared",
        "sd": "SD over people",
        "t": "t statistic; of the mixed model Wald's z",
    },
    texts="analysis term",
    made_by="longitudinal.longitudinal(sessions, models, controls)",
    pages={
        "rates": Page(
            "Rate of each person (slope of predicted on true age), averaged; 1 brain year a year is usual",
            (
                MODEL,
                Shown("What", "rate analysis", "w"),
                Shown("Who", "rate_of term group", "w"),
                Shown("People (scans)", "missing n n_scans"),
                Shown("Mean [95 % CI]", "rate_estimate estimate ci_lo ci_hi"),
                Shown("SD", "decimals sd"),
                Shown("t (df)", "t"),
                Shown("p", "p p"),
                NOTE,
            ),
        ),
        "mixed": Page(
            "Mixed model: gap (years) on time (years) and group, random intercept per person (REML)",
            (
                MODEL,
                Shown("Adjusted for", "adjusted analysis", "w"),
                Shown("Term", "term term", "w"),
                Shown("People (scans)", "missing n n_scans"),
                Shown("Estimate [95 % CI]", "estimate estimate ci_lo ci_hi", sign=True),
                Shown("p (Wald)", "p p"),
                NOTE,
            ),
        ),
    },
)
RELIABILITY = ResultTable(
    "reliability",
    "model measure n icc21 icc21_ci_lo icc21_ci_hi icc31 icc31_ci_lo icc31_ci_hi wsd rc mean_abs_diff "
    "ba_bias ba_loa_lo ba_loa_hi status note",
    own={
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
    texts="measure",
    made_by="reliability.reliability(tested, models)",
    pages={
        "reliability": Page(
            "Two scans of the same person, one session or at most 90 days apart",
            (
                MODEL,
                Shown("Measure", "measure measure", "w"),
                Shown("People", "count n"),
                Shown("ICC(2,1) [95 % CI]", "estimate icc21 icc21_ci_lo icc21_ci_hi", places=3),
                Shown("ICC(3,1) [95 % CI]", "estimate icc31 icc31_ci_lo icc31_ci_hi", places=3),
                Shown("Within-person SD (years)", "decimals wsd"),
                Shown("Repeatability (years)", "decimals rc"),
                Shown("Second − first (years)", "decimals ba_bias", sign=True),
                Shown("95 % limits of agreement", "interval ba_loa_lo ba_loa_hi", sign=True),
                NOTE,
            ),
        )
    },
)
CALIBRATION = ResultTable(
    "calibration",
    "model level n_calibration half_width n_controls covered coverage wilson_lo wilson_hi status note",
    own={
        "level": "promised coverage (percent)",
        "n_calibration": "healthy held-out people who give the interval",
        "half_width": "half width of the conformal interval (years)",
        "n_controls": "controls of the study who were looked at",
        "covered": "of them inside the interval",
        "coverage": "share inside the interval",
        "wilson_lo": "lower end of Wilson's 95 % interval of the coverage",
        "wilson_hi": "upper end",
    },
    made_by="conformal.coverage(calibrated, selected_controls)",
    pages={
        "calibration": Page(
            "Do the intervals keep their promise in this study's controls?",
            (
                MODEL,
                Shown("Promised", "percent level"),
                Shown("Half width (years)", "decimals half_width"),
                Shown("Calibration people", "count n_calibration"),
                Shown("Controls held", "of covered n_controls"),
                Shown("Share [95 % CI]", "estimate coverage wilson_lo wilson_hi"),
                NOTE,
            ),
        )
    },
)
PATIENTS = ResultTable(
    "patients",
    "group model n mae ae_sd bag_mean bag_sd bag_ci_lo bag_ci_hi bag_p score statistic variant corr_n "
    "corr corr_ci_lo corr_ci_hi corr_p status note",
    own={
        "corr_n": "people with the score",
        "corr": "correlation of the gap with the score",
        "corr_ci_lo": "lower end of its 95 % interval",
        "corr_ci_hi": "upper end",
        "corr_p": "its two-sided p",
    },
    made_by="describe.patients(accuracy, correlations, controls)",
)
MISSING = ResultTable(
    "missing",
    "variable group n n_missing",
    own={
        "variable": "column of brainage.tsv",
        "group": "group as written in the data; n/a: scans without one; all",
        "n": "scans",
        "n_missing": "scans without a value",
    },
    texts="variable",
    made_by="describe.missing_data(people, models, scores)",
)
FLAGS = ResultTable(
    "flags",
    "flag model group n n_scans",
    own={
        "flag": "flag of the prediction tables",
        "group": "group as written in the data; n/a: scans without one; all",
        "n": "scans that carry the flag",
        "n_scans": "scans with a prediction of the model",
    },
    texts="flag",
    made_by="describe.flag_counts(flags, people)",
)
FAILED = ResultTable(
    "failed",
    "participant_id session_id step reason",
    own={
        "step": "step that failed",
        "reason": "why the scan has no result",
    },
    texts="step reason",
    pages={
        "failed": Page(
            "Scans that failed",
            (
                Shown("Dataset", "text dataset", "long"),
                Shown("Participant", "text participant_id", "w"),
                Shown("Session", "text session_id", "w"),
                Shown("Step", "text step", "w"),
                Shown("Reason", "text reason", "long"),
            ),
        )
    },
)
LEFTOUT = ResultTable(
    "leftout",
    "participant_id session_id run reason",
    own={
        "reason": "why the scan, which has a result, does not enter the statistics",
    },
    texts="reason",
)

STUDY = ResultTable(  # study/<name>.tsv
    "study",
    "setting value seed n mae mae_ci_lo mae_ci_hi mae_null mae_diff diff_ci_lo diff_ci_hi p epochs minutes status note",
    texts="setting value",
)

GROUP_TABLES = (
    COHORT, ACCURACY, MODELCOMPARISON, SITEERROR, CORRELATIONS, CORRELATIONCOMPARISON, GROUPDIFF, ROC, ROC_CURVES, SITE,
    LONGITUDINAL, RELIABILITY, CALIBRATION, COHORTSITES, PATIENTS, MISSING, FLAGS, SALIENCY_REGIONS,
    SALIENCY_CONTRASTS, FAILED, LEFTOUT,
)  # fmt: skip
BY_NAME = {table.name: table for table in GROUP_TABLES}
