"""Compare patients with healthy controls: Welch tests, effect sizes and the age-adjusted difference.

The primary row is ``ancova:age+sex``. Groups of different ages have different raw gaps even without disease (regression
dilution), so unadjusted rows are for comparison only.
"""

from __future__ import annotations

import bisect
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import optimize, special, stats
from statsmodels.regression.linear_model import OLS

from brainage_bids.result_tables import GROUPDIFF
from brainage_bids.stats import linerror
from brainage_bids.stats.accuracy import one_sample_t
from brainage_bids.stats.columns import (
    LINE_EXACT,
    PLACES,
    control_label,
    frame,
    is_constant,
    is_member,
    joined,
    levels,
    number,
    optional_number,
    text,
)
from brainage_bids.stats.design import complete_rows, covariate_matrix, has_full_rank, with_intercept
from brainage_bids.stats.fdr import benjamini_hochberg

MIN_N = 3
AGE_SMD_WARNING = 0.25
CALIPER = 2.0  # years
SAME_DISTANCE = 1e-9  # years; smaller differences are rounding
PRIMARY_VARIANT = "ancova:age+sex"


def group_differences(
    table: pd.DataFrame,
    models: Sequence[str],
    controls: Sequence[str],
    covariates: Sequence[str] = ("age", "sex"),
    lines: Mapping[str, Mapping] | None = None,
) -> pd.DataFrame:
    """Compare the gap of every patient group with that of the pooled controls.

    Parameters
    ----------
    table
        Rows selected by ``select_rows``: one per participant.
    models
        Suffixes of the ``bag_`` and ``bag_corrected_`` columns.
    controls
        Labels of the healthy controls.
    covariates
        Covariates of a further ANCOVA variant, beside age+sex. With several sites or datasets, variants with these are
        added.
    lines
        By model: the age-bias line as in ``biascorrection.json``.

    Returns
    -------
    pandas.DataFrame
        `GROUPDIFF`, with these variants: ``raw`` and ``corrected`` (Welch t; Hedges g with a non-central t
        CI); ``ancova:...`` (adjusted difference with OLS Wald t; ``hedges_g`` is beta / sqrt(MSE)); if ages differ
        (SMD > 0.25), ``raw:age-overlap`` and ``raw:age-matched``. ``q_fdr`` (family ``groups``) is given for
        ``ancova:age+sex`` only. ``line_ci_lo line_ci_hi`` and ``line_g_ci_lo line_g_ci_hi`` of the corrected rows
        include the error of the line (`linerror`). Without controls the rows are ``no_controls``, and
        ``corrected:one-sample`` tests the corrected gap against 0.

    Examples
    --------
    Thirty patients whose brains look six years older, by design.

    >>> import numpy as np
    >>> import pandas as pd
    >>> from brainage_bids import group_differences
    >>> rng = np.random.default_rng(0)
    >>> people = pd.DataFrame({"group": ["CN"] * 30 + ["AD"] * 30, "sex": ["F", "M"] * 30})
    >>> people["age"] = rng.uniform(55, 85, 60)
    >>> people["bag_m"] = rng.normal(0, 3, 60) + 6 * (people["group"] == "AD")  # years
    >>> found = group_differences(people, ["m"], controls=["CN"]).set_index("variant")
    >>> found.loc["ancova:age+sex", ["case", "control", "status"]].tolist()
    ['AD', 'CN', 'ok']
    >>> bool(found.loc["ancova:age+sex", "ci_lo"] < 6 < found.loc["ancova:age+sex", "ci_hi"])
    True
    """
    group = text(table, "group")
    healthy = is_member(group, controls)
    cases = [label for label in levels(group) if label not in set(controls)]
    rows = []
    for model in models:
        line = (lines or {}).get(model, linerror.NONE)
        for case in cases:
            members = table[is_member(group, [case])]
            if healthy.any():
                variants = _compare(members, table[healthy], model, covariates, line)
            else:
                variants = _without_controls(members, model, covariates, line)
            control = control_label(levels(group[healthy])) if healthy.any() else None
            for row in variants:
                people = len(members) + int(healthy.sum())
                row.setdefault("n_missing", people - row["n_case"] - row["n_control"])
            rows += [{"model": model, "case": case, "control": control, **row} for row in variants]
        if not cases and not healthy.any():
            variants = _without_controls(table, model, covariates, line)
            rows += [
                {"model": model, "case": "all", "n_missing": len(table) - row["n_case"], **row} for row in variants
            ]
    result = frame(rows, GROUPDIFF)
    primary = (result["variant"] == PRIMARY_VARIANT).to_numpy(dtype=bool)
    result.loc[primary, "q_fdr"] = benjamini_hochberg(result.loc[primary, "p"].to_numpy())
    return result


def welch(case: np.ndarray, control: np.ndarray) -> dict:
    """Compare two independent sets: mean difference (case - control), Welch's t, df, p, 95 % CI, Hedges g and its CI.

    Missing values are left out. Fewer than 3 in a group: ``insufficient_n``; both constant: ``zero_variance``. Also
    returns the Mann-Whitney U of the cases with its p (mid-ranks, normal approximation, continuity correction).
    """
    case, control = _finite(case), _finite(control)
    row = {"n_case": case.size, "n_control": control.size}
    if min(case.size, control.size) < MIN_N:
        return row | {"status": "insufficient_n", "note": f"fewer than {MIN_N} people on a side"}
    row["mean_diff"] = case.mean() - control.mean()
    if is_constant(case) and is_constant(control):
        return row | {"status": "zero_variance", "note": "no spread within the groups: no test"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one side may be constant
        test = stats.ttest_ind(case, control, equal_var=False)
    low, high = test.confidence_interval(0.95)
    row |= {"t": test.statistic, "df": test.df, "p": test.pvalue, "ci_lo": low, "ci_hi": high}
    effect, note = hedges_g(case, control)
    ranks = stats.mannwhitneyu(case, control, method="asymptotic")
    row |= {
        "mannwhitney_u": ranks.statistic,
        "mannwhitney_p": ranks.pvalue,
        "se": math.sqrt(case.var(ddof=1) / case.size + control.var(ddof=1) / control.size),
    }
    return row | effect | {"status": "ok", "note": note}


def hedges_g(case: np.ndarray, control: np.ndarray) -> tuple[dict, str]:
    """Return ``hedges_g g_ci_lo g_ci_hi`` and a note.

    g = J d with the pooled SD and the exact J = gamma(m/2) / (sqrt(m/2) gamma((m-1)/2)), m = n1 + n2 - 2 (Hedges
    1981). The 95 % CI inverts the non-central t and is scaled by J; if that fails, it is the normal interval.
    """
    n1, n2 = case.size, control.size
    m = n1 + n2 - 2
    pooled = math.sqrt(((n1 - 1) * case.var(ddof=1) + (n2 - 1) * control.var(ddof=1)) / m)
    d = (case.mean() - control.mean()) / pooled
    scale = math.exp(special.gammaln(m / 2) - math.log(math.sqrt(m / 2)) - special.gammaln((m - 1) / 2))
    unit = math.sqrt(1 / n1 + 1 / n2)
    limits = [_noncentrality(d / unit, m, share) for share in (0.975, 0.025)]
    if all(math.isfinite(limit) for limit in limits):
        low, high = (scale * limit * unit for limit in limits)
        return {"hedges_g": scale * d, "g_ci_lo": low, "g_ci_hi": high}, ""
    se = scale * math.sqrt((n1 + n2) / (n1 * n2) + d**2 / (2 * (n1 + n2)))
    margin = stats.norm.ppf(0.975) * se
    return {"hedges_g": scale * d, "g_ci_lo": scale * d - margin, "g_ci_hi": scale * d + margin}, "normal CI of g"


def ancova(case: pd.DataFrame, control: pd.DataFrame, outcome: str, covariates: Sequence[str]) -> dict:
    """Compare two groups with covariates in the model: ``outcome ~ case + covariates`` by OLS.

    Parameters
    ----------
    case, control
        Rows with the outcome and the covariates; rows with any missing value are left out.
    outcome
        Column of the gap, years.
    covariates
        Columns; those that are constant or not recorded are dropped and named in the note.

    Returns
    -------
    dict
        ``mean_diff`` (adjusted), Wald ``t df p ci_lo ci_hi``, ``hedges_g`` = beta / sqrt(MSE), ``se`` by OLS, ``se_hc3
        p_hc3``, ``p_interaction`` of case x age. The status is ``confounded`` when no site (dataset) has both groups,
        ``rank_deficient`` when covariates repeat each other or the group.
    """
    rows = pd.concat([case, control], ignore_index=True)
    is_case = np.arange(len(rows)) < len(case)
    y = number(rows, outcome)
    complete, names, notes = complete_rows(rows, covariates)
    complete &= np.isfinite(y)
    rows, is_case, y = rows[complete], is_case[complete], y[complete]
    row = {"n_case": int(is_case.sum()), "n_control": int((~is_case).sum())}
    if min(row["n_case"], row["n_control"]) < MIN_N:
        return row | {"status": "insufficient_n", "note": joined([*notes, f"fewer than {MIN_N} people on a side"])}
    for place in PLACES:
        if place in names and _nested(text(rows, place), is_case):
            return row | {"status": "confounded", "note": _confounded_note(place)}
    matrix, more = covariate_matrix(rows, names)
    notes += more
    design = with_intercept(np.column_stack([is_case.astype("float64"), matrix]))  # (n, 2 + k)
    if len(y) - design.shape[1] < 1:
        return row | {"status": "insufficient_n", "note": joined([*notes, "no degrees of freedom left"])}
    if not has_full_rank(design):
        return row | {"status": "rank_deficient", "note": joined([*notes, "covariates repeat each other or the group"])}
    fit = OLS(y, design).fit()
    if is_constant(fit.resid):
        return row | {"status": "zero_variance", "note": joined([*notes, "no residual spread: no test"])}
    low, high = fit.conf_int(0.05)[1]
    row |= {"mean_diff": fit.params[1], "t": fit.tvalues[1], "df": fit.df_resid, "p": fit.pvalues[1]}
    row |= {"ci_lo": low, "ci_hi": high, "hedges_g": fit.params[1] / math.sqrt(fit.mse_resid), "status": "ok"}
    row |= {"se": fit.bse[1], **_robust(y, design)}
    notes.append("hedges_g is adjusted difference / residual SD")
    if "age" in names and "dropped age (constant)" not in notes:
        interaction, warning = _interaction(y, design, is_case, number(rows, "age"))
        row |= interaction
        notes.append(warning)
    return row | {"note": joined(notes)}


def age_balance(case: np.ndarray, control: np.ndarray) -> dict:
    """Describe the ages of two groups: means, SMD (pooled SD), and the range covered by both (years)."""
    case, control = _finite(case), _finite(control)
    nan = math.nan
    if min(case.size, control.size) < 2:
        return dict.fromkeys(("mean_case", "mean_control", "smd", "overlap_lo", "overlap_hi"), nan)
    m = case.size + control.size - 2
    pooled = math.sqrt(((case.size - 1) * case.var(ddof=1) + (control.size - 1) * control.var(ddof=1)) / m)
    difference = case.mean() - control.mean()
    return {
        "mean_case": case.mean(),
        "mean_control": control.mean(),
        "smd": difference / pooled if pooled > 0 else (0.0 if difference == 0 else math.copysign(math.inf, difference)),
        "overlap_lo": max(case.min(), control.min()),
        "overlap_hi": min(case.max(), control.max()),
    }


def match_by_age(case_age: np.ndarray, control_age: np.ndarray, caliper: float = CALIPER) -> list[tuple[int, int]]:
    """Pair each case with the nearest unused control within ``caliper`` years.

    Cases are taken in order of age, then position. Of equally near controls the younger is used, then the first.

    Returns
    -------
    list of tuple
        ``(position of case, position of control)``.
    """
    case_age, control_age = (np.asarray(ages, dtype="float64") for ages in (case_age, control_age))
    free = [int(place) for place in np.argsort(control_age, kind="stable") if np.isfinite(control_age[place])]
    ages = control_age[free].tolist()  # of the controls that are free, from the youngest on
    pairs = []
    for index in np.argsort(case_age, kind="stable").tolist():
        age = float(case_age[index])
        if not math.isfinite(age):
            continue
        older = bisect.bisect_left(ages, age)
        younger = bisect.bisect_left(ages, ages[older - 1] - SAME_DISTANCE) if older else 0
        # the nearest on both sides, with those as near up to rounding, of which the first is used
        near = [
            (round(abs(ages[place] - age) / SAME_DISTANCE), place)
            for place in range(younger, min(older + 1, len(ages)))
            if abs(ages[place] - age) <= caliper
        ]
        if near:
            best = min(near)[1]
            pairs.append((index, free.pop(best)))
            del ages[best]
    return pairs


def _compare(
    case: pd.DataFrame, control: pd.DataFrame, model: str, covariates: Sequence[str], line: Mapping
) -> list[dict]:
    bag, everyone = f"bag_{model}", len(case) + len(control)
    case, control = (rows[np.isfinite(number(rows, bag))] for rows in (case, control))
    case_age, control_age = number(case, "age"), number(control, "age")
    balance = age_balance(case_age, control_age)
    unbalanced = abs(balance["smd"]) > AGE_SMD_WARNING
    ages = f"mean age {balance['mean_case']:.1f} vs {balance['mean_control']:.1f}, SMD {balance['smd']:.2f}"
    ages = ages if math.isfinite(balance["mean_case"]) else ""
    warning = joined([ages, "unadjusted comparison is confounded by age" if unbalanced else ""])
    raw_case, raw_control = number(case, bag), number(control, bag)
    rows = [{"variant": "raw", **welch(raw_case, raw_control)}]
    rows[0]["note"] = joined([rows[0]["note"], warning])
    corrected = [optional_number(part, f"bag_corrected_{model}") for part in (case, control)]
    row = welch(*corrected)
    if not any(np.isfinite(values).any() for values in corrected) and len(case) and len(control):
        row |= {"status": "skipped", "note": "no bias-corrected gap"}
    if row["status"] == "ok":
        case_mean, control_mean = (
            age[np.isfinite(gap)].mean() for age, gap in zip((case_age, control_age), corrected, strict=True)
        )
        row |= linerror.of_difference(line, case_mean - control_mean, row)
        row["note"] = joined([row["note"], LINE_EXACT])
    rows.append({"variant": "corrected", **row})
    for variant, names in _variants(case, control, covariates).items():
        rows.append({"variant": variant, **ancova(*_with_columns(case, control, names), bag, names)})
    if unbalanced:
        low, high = balance["overlap_lo"], balance["overlap_hi"]
        inside = [
            values[(age >= low) & (age <= high)] for values, age in ((raw_case, case_age), (raw_control, control_age))
        ]
        row = welch(*inside)
        remark = f"ages {low:g} to {high:g} only" if low <= high else "no age is shared"
        missing = {"n_missing": everyone - len(case) - len(control)}  # people outside the overlap are not missing
        rows.append({"variant": "raw:age-overlap", **row, **missing, "note": joined([row["note"], remark])})
        pairs = np.array(match_by_age(case_age, control_age), dtype=int).reshape(-1, 2)
        row = welch(raw_case[pairs[:, 0]], raw_control[pairs[:, 1]])
        remark = f"{len(pairs)} pairs within {CALIPER:g} years of age"
        rows.append({"variant": "raw:age-matched", **row, **missing, "note": joined([row["note"], remark])})
    datasets = pd.concat([text(case, "dataset"), text(control, "dataset")])
    if _nested(datasets, np.arange(len(datasets)) < len(case)):  # concerns all rows, also those without adjustment
        rows = [{**row, "note": joined([row["note"], _confounded_note("dataset")])} for row in rows]
    return rows


def _without_controls(case: pd.DataFrame, model: str, covariates: Sequence[str], line: Mapping) -> list[dict]:
    n = int(np.isfinite(number(case, f"bag_{model}")).sum())
    none = {"n_case": n, "n_control": 0, "status": "no_controls", "note": "no healthy controls in the table"}
    rows = [{"variant": variant, **none} for variant in ("raw", "corrected", *_named(covariates))]
    gap = optional_number(case, f"bag_corrected_{model}")
    test = one_sample_t(gap)
    row = {"variant": "corrected:one-sample", "n_case": test["n"], "n_control": 0, "mean_diff": test["mean"]}
    row |= {name: test[name] for name in ("t", "df", "p", "ci_lo", "ci_hi", "status")}
    if test["status"] == "ok":
        row |= linerror.of_mean(
            line, number(case, "age")[np.isfinite(gap)], *(test[k] for k in ("mean", "ci_lo", "ci_hi"))
        )
    row["note"] = joined([test["note"], "mean corrected gap against 0, not against controls"])
    return [*rows, row]


def _named(covariates: Sequence[str]) -> dict[str, tuple[str, ...]]:
    wanted = dict.fromkeys([("age", "sex"), tuple(covariates)])
    return {"ancova:" + "+".join(names): names for names in wanted if names}


def _variants(case: pd.DataFrame, control: pd.DataFrame, covariates: Sequence[str]) -> dict[str, tuple[str, ...]]:
    variants = _named(covariates)
    for place in PLACES:
        if len(levels([*text(case, place), *text(control, place)])) > 1:
            variants.setdefault(f"{PRIMARY_VARIANT}+{place}", ("age", "sex", place))
    return variants


def _with_columns(case: pd.DataFrame, control: pd.DataFrame, names: Sequence[str]) -> list[pd.DataFrame]:
    """Add an empty sex column when the table has none; sex then counts as not recorded."""
    return [part if "sex" in part or "sex" not in names else part.assign(sex=None) for part in (case, control)]


def _nested(site: pd.Series, is_case: np.ndarray) -> bool:
    in_cases, in_controls = set(levels(site[is_case])), set(levels(site[~is_case]))
    return len(in_cases | in_controls) > 1 and not in_cases & in_controls


def _confounded_note(place: str) -> str:
    return f"no {place} has both groups: {place} and group cannot be told apart"


def _noncentrality(t: float, df: int, share: float) -> float:
    """Return the non-centrality at which the observed t is the ``share`` quantile; NaN when the search fails."""
    # widen the bracket from t outwards: far in the tails scipy's distribution function is NaN
    step = math.sqrt(1.0 + t * t / (2.0 * df)) * (-1.0 if share > 0.5 else 1.0)
    with np.errstate(all="ignore"):
        for far in (t + k * step for k in range(1, 20)):
            value = special.nctdtr(df, far, t) - share
            if not math.isfinite(value):
                return math.nan
            if value * step <= 0:
                return optimize.brentq(lambda nc: special.nctdtr(df, nc, t) - share, t, far, xtol=1e-12)
    return math.nan


def _robust(y: np.ndarray, design: np.ndarray) -> dict:
    """Return the HC3 standard error of the difference and its p (normal); empty when HC3 is undefined."""
    with np.errstate(all="ignore"):  # the only person of a site has leverage 1
        fit = OLS(y, design).fit(cov_type="HC3")
        se, p = float(fit.bse[1]), float(fit.pvalues[1])
    return {"se_hc3": se, "p_hc3": p} if math.isfinite(se) and math.isfinite(p) and se > 0 else {}


def _interaction(y: np.ndarray, design: np.ndarray, is_case: np.ndarray, age: np.ndarray) -> tuple[dict, str]:
    """Return the p of case x age, and a warning when one difference for all ages would mislead."""
    full = np.column_stack([design, (is_case - is_case.mean()) * (age - age.mean())])
    if not has_full_rank(full) or len(y) - full.shape[1] < 1:
        return {}, ""
    p = float(OLS(y, full).fit().pvalues[-1])
    if not math.isfinite(p):
        return {}, ""
    return {"p_interaction": p}, "the difference changes with age: one for all ages misleads" if p < 0.05 else ""


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype="float64")
    return values[np.isfinite(values)]
