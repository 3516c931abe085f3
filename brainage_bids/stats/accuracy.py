"""Measure how well predicted ages match true ages in subsets of people, and compare models.

Corrected gaps are never used here: the correction uses the true age, so accuracy would look better than it is (Butler
2021, de Lange 2022).
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.result_tables import ACCURACY, MODELCOMPARISON
from brainage_bids.schema import AGE_BINS, DEFAULT_SEED
from brainage_bids.stats.columns import (
    ALL,
    age_label,
    bin_label,
    control_label,
    frame,
    is_constant,
    is_member,
    joined,
    levels,
    number,
    text,
)

N_RESAMPLES = 10_000
BCA_MAX_N = 2_000  # with more people the normal interval is as good, and 10,000 resamples would take minutes
BATCH_CELLS = 500_000  # resampled values in memory at once (4 MB fit the processor cache: twice as fast)
MIN_N = 3
SEX_DIFFERENCE = "sex=M-F"


def accuracy(
    table: pd.DataFrame,
    models: Sequence[str],
    controls: Sequence[str],
    train_mean_age: Mapping[str, float] | None = None,
    seed: int = DEFAULT_SEED,
) -> pd.DataFrame:
    """Measure each model in everyone, each group, and by age, sex, site, dataset and split within the controls.

    Parameters
    ----------
    table
        Rows selected by ``select_rows``: one per participant.
    models
        Suffixes of the ``predicted_age_`` columns.
    controls
        Labels of the healthy controls; without any in the table the subsets include everyone (see ``note``).
    train_mean_age
        Mean training age (years) by model, for ``mae_null``: the error of always predicting this age.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        `ACCURACY`. ``sex=M-F`` holds the difference of the mean gaps with Welch's test.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainage_bids import accuracy
    >>> people = pd.DataFrame({"group": ["CN"] * 4, "age": [50.0, 60.0, 70.0, 80.0]})
    >>> people["predicted_age_m"] = [52.0, 59.0, 73.0, 78.0]
    >>> accuracy(people, ["m"], controls=["CN"])[["subset", "n", "mae", "bag_mean"]].head(2)
         subset  n  mae  bag_mean
    0       all  4  2.0       0.5
    1  group=CN  4  2.0       0.5
    """
    means = [(train_mean_age or {}).get(model, math.nan) for model in models]
    age, predicted = number(table, "age"), [number(table, f"predicted_age_{model}") for model in models]
    rows: list[list[dict]] = [[] for _ in models]
    for subset, member, note in _subsets(table, controls):
        measured = _accuracies(age[member], [ages[member] for ages in predicted], means, seed)
        for model, of_model, row in zip(models, rows, measured, strict=True):
            of_model.append({"model": model, "subset": subset, **row, "note": joined([note, row["note"]])})
    for model, of_model, ages in zip(models, rows, predicted, strict=True):
        of_model.append({"model": model, **_sex_difference(table, ages - age, controls)})
    return frame([row for of_model in rows for row in of_model], ACCURACY)


def accuracy_of(
    age: np.ndarray, predicted: np.ndarray, train_mean_age: float = math.nan, seed: int = DEFAULT_SEED
) -> dict:
    """Measure one set of people.

    Parameters
    ----------
    age, predicted
        ``(n,)`` years; pairs with a missing value are counted in ``n_missing``.
    train_mean_age
        Years; with NaN, ``mae_null`` is missing.

    Returns
    -------
    dict
        The measures of `ACCURACY`. R2 = 1 - SSres / SStot with the chronological age as the truth. The
        status is ``zero_variance`` when ages or gaps do not vary. With fewer than 3 people: n and MAE only.
    """
    return _accuracies(np.asarray(age, dtype="float64"), [predicted], [train_mean_age], seed)[0]


def _accuracies(
    age: np.ndarray, predictions: Sequence[np.ndarray], train_mean_ages: Sequence[float], seed: int
) -> list[dict]:
    """Return the row of `accuracy_of` for several predictions of the same people; equally many errors share draws."""
    predictions = [np.asarray(predicted, dtype="float64") for predicted in predictions]
    known = [np.isfinite(age) & np.isfinite(predicted) for predicted in predictions]
    pairs = [(age[both], predicted[both]) for both, predicted in zip(known, predictions, strict=True)]
    ends = mean_intervals([np.abs(predicted - age) for age, predicted in pairs], seed)
    return [
        {**_measures(*pair, mean, interval), "n_missing": int((~both).sum())}
        for both, pair, mean, interval in zip(known, pairs, train_mean_ages, ends, strict=True)
    ]


def _measures(age: np.ndarray, predicted: np.ndarray, train_mean_age: float, ends: tuple[float, float, str]) -> dict:
    bag = predicted - age
    error = np.abs(bag)
    row: dict = {"n": age.size}
    if age.size:
        row["mae"] = error.mean()
    if age.size < MIN_N:
        return row | {"status": "insufficient_n", "note": f"fewer than {MIN_N} people"}
    row |= {"ae_sd": _sd(error), "medae": np.median(error), "rmse": math.sqrt(np.mean(bag**2))}
    row["mae_null"] = np.mean(np.abs(age - train_mean_age))
    row["mae_ci_lo"], row["mae_ci_hi"], note = ends
    test = one_sample_t(bag)
    row |= {f"bag_{name}": test[name] for name in ("mean", "sd", "t", "df", "p", "ci_lo", "ci_hi")}
    row["bag_dz"] = test["mean"] / test["sd"] if test["status"] == "ok" else math.nan
    fit, fit_status, fit_note = _against_age(age, predicted)
    status = "zero_variance" if "zero_variance" in (test["status"], fit_status) else "ok"
    return row | fit | {"status": status, "note": joined([fit_note, test["note"], note])}


def one_sample_t(values: np.ndarray) -> dict:
    """Test a mean against zero: mean, sd (n - 1), t, df, p (two-sided), 95 % CI, status, note.

    The status is ``zero_variance`` when all values are equal (the test would give t = inf, p = 0).
    """
    values = np.asarray(values, dtype="float64")
    values = values[np.isfinite(values)]
    nan = math.nan
    row = {"n": values.size, "mean": nan, "sd": nan, "t": nan, "df": nan, "p": nan, "ci_lo": nan, "ci_hi": nan}
    if values.size:
        row["mean"] = float(values.mean())
    if values.size < 2:
        return row | {"status": "insufficient_n", "note": "fewer than 2 values"}
    row["sd"] = _sd(values)
    if row["sd"] == 0.0:
        return row | {"status": "zero_variance", "note": "all gaps are equal: no test of their mean"}
    result = stats.ttest_1samp(values, 0.0)
    low, high = result.confidence_interval(0.95)
    row |= {"t": result.statistic, "df": values.size - 1, "p": result.pvalue, "ci_lo": low, "ci_hi": high}
    return row | {"status": "ok", "note": ""}


def mean_interval(values: np.ndarray, seed: int) -> tuple[float, float, str]:
    """Return the ends of the 95 % CI of a mean, and a note: BCa with 10,000 resamples, normal above 2,000 values.

    Resamples of few values vary too little, so the BCa level is raised above 95 %: its normal quantile is
    sqrt(n / (n - 1)) t(0.975, n - 1) (Hesterberg 2015, expanded percentiles). Without this, the interval of 10 absolute
    errors contained the true mean in 90 % of samples.
    """
    return mean_intervals([values], seed)[0]


def mean_intervals(samples: Sequence[np.ndarray], seed: int) -> list[tuple[float, float, str]]:
    """Return `mean_interval` of each sample. Samples of one size are resampled with the same draws, made once."""
    found = [_without_resamples(values) for values in samples]
    waiting: dict[int, list[int]] = {}
    for place, values in enumerate(samples):
        if found[place] is None:
            waiting.setdefault(values.size, []).append(place)
    for n, places in waiting.items():
        drawn = _resampled_means([samples[place] for place in places], n, seed)
        for place, means in zip(places, drawn, strict=True):
            found[place] = _bca(samples[place], means)
    return found


def _without_resamples(values: np.ndarray) -> tuple[float, float, str] | None:
    n = values.size
    if n < MIN_N:
        return math.nan, math.nan, f"no CI of the mean error: fewer than {MIN_N} people"
    if is_constant(values):
        return math.nan, math.nan, "no CI of the mean error: all errors are equal"
    if n > BCA_MAX_N:
        margin = stats.norm.ppf(0.975) * values.std(ddof=1) / math.sqrt(n)
        return values.mean() - margin, values.mean() + margin, f"normal CI of the mean error (n > {BCA_MAX_N})"
    return None


def _resampled_means(samples: Sequence[np.ndarray], n: int, seed: int) -> np.ndarray:
    """Return the means of `N_RESAMPLES` resamples of each sample of ``n`` values, float64 (samples, resamples)."""
    rng, batch = np.random.default_rng(seed), max(1, BATCH_CELLS // n)
    means = []
    for first in range(0, N_RESAMPLES, batch):
        drawn = rng.integers(0, n, (min(batch, N_RESAMPLES - first), n))
        means.append([np.take(values, drawn, mode="clip").mean(axis=-1) for values in samples])
    return np.concatenate(means, axis=-1)


def _bca(values: np.ndarray, resampled: np.ndarray) -> tuple[float, float, str]:
    n = values.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # reported in the note instead
        result = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=0,  # they are made already
            bootstrap_result=SimpleNamespace(bootstrap_distribution=resampled),
            batch=max(1, BATCH_CELLS // n),
            vectorized=True,
            method="BCa",
            confidence_level=1.0 - 2.0 * float(stats.norm.sf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))),
        )
    low, high = map(float, result.confidence_interval)
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan, math.nan, "no CI of the mean error: the bootstrap is degenerate"
    return low, high, ""


def model_comparison(
    table: pd.DataFrame, models: Sequence[str], controls: Sequence[str] = (), seed: int = DEFAULT_SEED
) -> pd.DataFrame:
    """Compare the absolute errors of every pair of models, in the people with both predictions.

    Parameters
    ----------
    table, models, controls, seed
        As in ``accuracy``.

    Returns
    -------
    pandas.DataFrame
        `MODELCOMPARISON` for everyone, each group and each split; ``mae_diff`` is model_a minus model_b
        (negative: model_a is closer). Paired t test, Wilcoxon signed-rank test (zeros dropped, normal approximation
        without continuity correction); ``bca_ci_lo bca_ci_hi`` is the bootstrap CI of the difference.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainage_bids import model_comparison
    >>> people = pd.DataFrame({"group": ["CN"] * 4, "age": [50.0, 60.0, 70.0, 80.0]})
    >>> people["predicted_age_a"] = [52.0, 59.0, 73.0, 78.0]
    >>> people["predicted_age_b"] = [55.0, 57.0, 75.0, 75.0]
    >>> model_comparison(people, ["a", "b"])[["model_a", "model_b", "subset", "n", "mae_diff"]].head(1)
      model_a model_b subset  n  mae_diff
    0       a       b    all  4      -2.5
    """
    wanted = [s for s in _subsets(table, controls) if s[0].partition("=")[0] in (ALL, "group", "split")]
    rows = []
    for model_a, model_b in itertools.combinations(models, 2):
        age = number(table, "age")
        error_a = np.abs(number(table, f"predicted_age_{model_a}") - age)
        error_b = np.abs(number(table, f"predicted_age_{model_b}") - age)
        for subset, member, note in wanted:
            row = compare_errors(error_a[member], error_b[member], seed)
            row["note"] = joined([note, row["note"]])
            rows.append({"model_a": model_a, "model_b": model_b, "subset": subset, **row})
    return frame(rows, MODELCOMPARISON)


def compare_errors(error_a: np.ndarray, error_b: np.ndarray, seed: int = DEFAULT_SEED) -> dict:
    """Compare paired absolute errors ``(n,)`` (years) in complete pairs; return one row of ``model_comparison``."""
    difference = np.asarray(error_a, dtype="float64") - np.asarray(error_b, dtype="float64")
    difference = difference[np.isfinite(difference)]
    row = {"n": difference.size, "n_missing": len(error_a) - difference.size}
    row["mae_diff"] = difference.mean() if difference.size else math.nan
    if difference.size < MIN_N:
        return row | {"status": "insufficient_n", "note": f"fewer than {MIN_N} people with both predictions"}
    test = one_sample_t(difference)
    if test["status"] != "ok":
        return row | {"status": test["status"], "note": "all differences of error are equal: no test"}
    row |= {name: test[name] for name in ("t", "df", "p", "ci_lo", "ci_hi")}
    row["dz"] = test["mean"] / test["sd"]
    signed_rank = stats.wilcoxon(difference, zero_method="wilcox", correction=False, method="asymptotic")
    row |= {"wilcoxon_w": float(signed_rank.statistic), "wilcoxon_p": float(signed_rank.pvalue)}
    row["bca_ci_lo"], row["bca_ci_hi"], note = mean_interval(difference, seed)
    return row | {"status": "ok", "note": joined([note, "Wilcoxon: zeros dropped, normal approximation"])}


def _against_age(age: np.ndarray, predicted: np.ndarray) -> tuple[dict, str, str]:
    """Return R2, correlations and the slope of the gap on age (none when all ages are equal), status and note."""
    if is_constant(age):
        return {}, "zero_variance", "all ages are equal: no R2, correlation or age slope"
    bag = predicted - age
    fit = stats.linregress(age, bag)
    row = {
        "r2": 1.0 - np.sum(bag**2) / np.sum((age - age.mean()) ** 2),
        "agebias_slope": fit.slope,
        "agebias_intercept": fit.intercept,
        "agebias_p": math.nan if is_constant(bag) else fit.pvalue,
        "agebias_r": math.nan if is_constant(bag) else fit.rvalue,
        "agebias_se": fit.stderr,
    }
    if is_constant(predicted):
        return row, "ok", "all predictions are equal: no correlation"
    row |= {"pearson_r": stats.pearsonr(age, predicted)[0], "spearman_rho": stats.spearmanr(age, predicted)[0]}
    return row, "ok", ""


def _subsets(table: pd.DataFrame, controls: Sequence[str]) -> list[tuple[str, np.ndarray, str]]:
    """Return ``(label, (n,) bool, note)`` of every subset."""
    group = text(table, "group")
    everyone = np.ones(len(table), dtype=bool)
    healthy = is_member(group, controls)
    mixed = healthy.any() and not healthy.all()
    subsets = [(ALL, everyone, "everyone, whatever the group" if mixed else "")]
    subsets += [(f"group={label}", is_member(group, [label]), "") for label in levels(group)]
    pooled = levels(group[healthy])
    if len(pooled) > 1:
        subsets.append((f"group={control_label(pooled)}", healthy, "all controls"))
    base, note = (healthy, f"within {control_label(controls)}") if healthy.any() else (everyone, "within everyone")
    ages = pd.Series([age_label(age) for age in number(table, "age")], dtype=object)
    bins = [bin_label(low, high) for low, high in AGE_BINS]
    young = f"<{AGE_BINS[0][0]:g}"
    if (base & is_member(ages, [young])).any():
        bins.insert(0, young)
    subsets += [(f"age={label}", base & is_member(ages, [label]), note) for label in bins]
    for column in ("sex", "site", "dataset", "split"):
        values = text(table, column)
        labels = levels(values[base])
        subsets += [(f"{column}={label}", base & is_member(values, [label]), note) for label in labels]
    return subsets


def _sex_difference(table: pd.DataFrame, bag: np.ndarray, controls: Sequence[str]) -> dict:
    healthy = is_member(text(table, "group"), controls)
    base = healthy if healthy.any() else np.ones(len(table), dtype=bool)
    sex, finite = text(table, "sex"), np.isfinite(bag)
    male = bag[base & finite & is_member(sex, ["M"])]
    female = bag[base & finite & is_member(sex, ["F"])]
    both = base & is_member(sex, ["M", "F"])
    row = {"subset": SEX_DIFFERENCE, "n": male.size + female.size, "n_missing": int((both & ~finite).sum())}
    where = f"within {control_label(controls)}" if healthy.any() else "within everyone"
    note = f"{where}; bag_ columns: mean gap of M minus F, Welch's t test"
    if not male.size or not female.size:
        return row | {"status": "skipped", "note": joined([note, "one sex only"])}
    row["bag_mean"] = male.mean() - female.mean()
    if min(male.size, female.size) < MIN_N:
        return row | {"status": "insufficient_n", "note": joined([note, f"fewer than {MIN_N} of one sex"])}
    if is_constant(male) and is_constant(female):
        return row | {"status": "zero_variance", "note": note}
    test = stats.ttest_ind(male, female, equal_var=False)
    low, high = test.confidence_interval(0.95)
    row |= {"bag_t": test.statistic, "bag_df": test.df, "bag_p": test.pvalue, "bag_ci_lo": low, "bag_ci_hi": high}
    return row | {"status": "ok", "note": note}


def _sd(values: np.ndarray) -> float:
    return 0.0 if is_constant(values) else float(values.std(ddof=1))
