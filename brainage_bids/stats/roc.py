"""Measure how well the brain age gap separates patients from controls: area under the ROC curve, DeLong's interval.

No threshold is recommended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.result_tables import ROC, ROC_CURVES
from brainage_bids.stats import linerror
from brainage_bids.stats.columns import (
    LINE_EXACT,
    control_label,
    frame,
    is_member,
    joined,
    levels,
    number,
    optional_number,
    text,
)
from brainage_bids.stats.design import complete_rows, covariate_matrix, has_full_rank

ADJUSTED = "adjusted:age+sex"
MIN_N = 3
Z = float(stats.norm.ppf(0.975))


def roc(
    table: pd.DataFrame,
    models: Sequence[str],
    controls: Sequence[str],
    lines: Mapping[str, Mapping] | None = None,
) -> pd.DataFrame:
    """Measure how well each gap separates every patient group from the pooled controls.

    Parameters
    ----------
    table, models, controls, lines
        As in `groups.group_differences`.

    Returns
    -------
    pandas.DataFrame
        `ROC`; variants ``raw``, ``corrected`` and ``adjusted:age+sex`` (residual of the raw gap on age and
        sex, fitted in the controls). The interval of ``adjusted:age+sex`` includes the uncertainty of this fit, see
        `adjusted_area`. That of ``corrected`` treats the line as exact; ``line_ci_lo line_ci_hi`` include its error.
        ``logit_ci_lo logit_ci_hi`` is the interval on the logit scale.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from brainage_bids import roc
    >>> rng = np.random.default_rng(0)
    >>> people = pd.DataFrame({"group": ["CN"] * 30 + ["AD"] * 30, "sex": ["F", "M"] * 30})
    >>> people["age"] = rng.uniform(55, 85, 60)
    >>> people["bag_m"] = rng.normal(0, 3, 60) + 6 * (people["group"] == "AD")  # years
    >>> found = roc(people, ["m"], controls=["CN"]).set_index("variant")
    >>> bool(found.loc["raw", "auc"] > 0.8)
    True
    """
    rows = []
    for pair in _pairs(table, models, controls):
        case, healthy = pair.sides
        row = area(case, healthy)
        if row["status"] == "ok" and pair.design is not None:
            row = adjusted_area(pair.values, pair.design, pair.is_case, pair.is_control)
        if healthy.size and not np.isfinite(np.concatenate([case, healthy])).any():
            row |= {"status": "skipped", "note": pair.remark or "no gap"}
        elif pair.design is not None:
            row["note"] = joined([row["note"], pair.remark])
        elif row["status"] == "ok" and pair.keys["variant"] == "corrected":
            line = (lines or {}).get(pair.keys["model"], linerror.NONE)
            age = number(table, "age")
            row |= line_interval(row, pair.sides, (age[pair.is_case], age[pair.is_control]), line)
            row["note"] = LINE_EXACT
        row["n_missing"] = case.size + healthy.size - row["n_case"] - row["n_control"]
        rows.append({**pair.keys, **row})
    return frame(rows, ROC)


def roc_curves(table: pd.DataFrame, models: Sequence[str], controls: Sequence[str]) -> pd.DataFrame:
    """Return the curve of every row of `roc` that has an area: `ROC_CURVES`, thresholds in years."""
    curves = [
        roc_curve(*pair.sides).assign(**pair.keys)
        for pair in _pairs(table, models, controls)
        if np.isfinite(area(*pair.sides).get("auc", math.nan))
    ]
    return frame(pd.concat(curves, ignore_index=True) if curves else [], ROC_CURVES)


@dataclass(frozen=True)
class _Pair:
    """One gap of a patient group and the controls: ``values``, ``is_case``, ``is_control`` are ``(n,)``."""

    keys: dict
    values: np.ndarray
    is_case: np.ndarray
    is_control: np.ndarray
    design: np.ndarray | None  # (n, k) if the values are residuals of a fit in the controls
    remark: str

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        return self.values[self.is_case], self.values[self.is_control]


def _pairs(table: pd.DataFrame, models: Sequence[str], controls: Sequence[str]) -> Iterator[_Pair]:
    group = text(table, "group")
    healthy = is_member(group, controls)
    control = control_label(levels(group[healthy])) if healthy.any() else None
    for model in models:
        adjusted, design, note = _adjusted(table, number(table, f"bag_{model}"), healthy)
        scores = {
            "raw": (number(table, f"bag_{model}"), None, ""),
            "corrected": (optional_number(table, f"bag_corrected_{model}"), None, "no bias-corrected gap"),
            ADJUSTED: (adjusted, design, note),
        }
        for case in (label for label in levels(group) if label not in set(controls)):
            member = is_member(group, [case])
            for variant, (values, fitted, remark) in scores.items():
                keys = {"model": model, "variant": variant, "case": case, "control": control}
                yield _Pair(keys, values, member, healthy, fitted, remark)


def area(case: np.ndarray, control: np.ndarray) -> dict:
    """Return ``n_case`` to ``note`` of `ROC` for one variable; larger values mean case.

    AUC = P(case > control) + P(tie) / 2. DeLong's variance is computed from mid-ranks (Sun and Xu 2014). The interval
    is AUC -/+ 1.96 se, cut to [0, 1]. The status is ``degenerate`` (no interval) when the variance is 0: perfect
    separation, or only ties.
    """
    case, control = (np.asarray(v, dtype="float64") for v in (case, control))
    case, control = case[np.isfinite(case)], control[np.isfinite(control)]
    n1, n0 = case.size, control.size
    row = {"n_case": n1, "n_control": n0}
    if n0 == 0:
        return row | {"status": "no_controls", "note": "no control has a gap"}
    if min(n1, n0) < MIN_N:
        return row | {"status": "insufficient_n", "note": f"fewer than {MIN_N} people on a side"}
    above, below = _components(case, control)
    row["auc"] = auc = float(above.mean())
    se = math.sqrt(above.var(ddof=1) / n1 + below.var(ddof=1) / n0)
    if se < 1e-12:
        return row | {"status": "degenerate", "note": "DeLong variance is 0: AUC without an interval"}
    return row | _interval(auc, se)


def adjusted_area(residual: np.ndarray, design: np.ndarray, is_case: np.ndarray, is_control: np.ndarray) -> dict:
    """Return ``area`` of residuals of a fit in the controls; the interval includes the uncertainty of the fit.

    Patients are older than most controls, so an error of the fit shifts all of them together. DeLong's interval alone
    contains the true value too rarely (``benchmarks/simulation.py``). So the variance of each control is that of its
    structural component plus its effect on the AUC through the coefficients (delta method; the derivative of the AUC is
    taken by central differences of one standard error).

    Parameters
    ----------
    residual
        ``(n,)`` years, NaN for people left out.
    design
        ``(n, k)`` float64: intercept and covariates; full rank in the controls.
    is_case, is_control
        ``(n,)`` bool.
    """
    known = np.isfinite(residual)
    is_case, is_control = is_case & known, is_control & known
    row = area(residual[is_case], residual[is_control])
    above, below = _components(residual[is_case], residual[is_control])
    fitted, left, (n0, k) = design[is_control], residual[is_control], design[is_control].shape
    inverse = np.linalg.inv(fitted.T @ fitted)
    left = left * math.sqrt(n0 / (n0 - k))  # residuals of a fit are smaller than the true errors
    steps = np.sqrt(np.diag(inverse) * (left @ left) / n0)
    slope = np.zeros(k)
    for i, step in enumerate(steps):
        moved = [residual + sign * step * design[:, i] for sign in (-1, 1)]
        slope[i] = np.subtract(*(_components(m[is_case], m[is_control])[0].mean() for m in moved)) / (2 * step)
    share = (below - row["auc"]) / n0 + (fitted @ inverse @ slope) * left  # (n0,)
    se = math.sqrt(above.var(ddof=1) / above.size + share @ share * n0 / (n0 - 1))
    return row | _interval(row["auc"], se)


def line_interval(
    row: Mapping, gaps: tuple[np.ndarray, np.ndarray], ages: tuple[np.ndarray, np.ndarray], line: Mapping
) -> dict:
    """Return ``line_ci_lo line_ci_hi`` of the AUC of corrected gaps: the interval with the error of the line.

    The added margin is half the change of the AUC from one end of the slope's 95 % interval to the other. An error of
    the intercept has no effect, as it shifts everybody equally.

    Parameters
    ----------
    row
        ``auc ci_lo ci_hi`` with the line treated as exact.
    gaps, ages
        Values of the patients and of the controls, years.
    line
        As in `linerror.of_difference`.
    """
    step = linerror.slope_margin(line)
    if not math.isfinite(step):
        return {}
    ends = [area(*(gap + sign * step * age for gap, age in zip(gaps, ages, strict=True)))["auc"] for sign in (-1, 1)]
    low, high = linerror.joined_margins(row["auc"], row["ci_lo"], row["ci_hi"], abs(ends[1] - ends[0]) / 2)
    return {"line_ci_lo": max(0.0, low), "line_ci_hi": min(1.0, high)}


def _components(case: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of controls below each case ``(n1,)``, and of cases above each control ``(n0,)``."""
    n1, n0 = case.size, control.size
    ranks = stats.rankdata(np.concatenate([case, control]))
    return (ranks[:n1] - stats.rankdata(case)) / n0, 1.0 - (ranks[n1:] - stats.rankdata(control)) / n1


def _interval(auc: float, se: float) -> dict:
    row = {"se": se, "ci_lo": max(0.0, auc - Z * se), "ci_hi": min(1.0, auc + Z * se), "status": "ok"}
    low, high = (_logistic(math.log(auc / (1 - auc)) + sign * Z * se / (auc * (1 - auc))) for sign in (-1, 1))
    return row | {"logit_ci_lo": low, "logit_ci_hi": high, "note": ""}


def roc_curve(case: np.ndarray, control: np.ndarray) -> pd.DataFrame:
    """Return the empirical curve from (0, 0) to (1, 1) with the columns ``threshold``, ``fpr`` and ``tpr``.

    People with a value of at least the threshold are called cases. The first threshold, which nobody reaches, is NaN.
    The table is empty when there are no cases or no controls.
    """
    case, control = (np.sort(np.asarray(v, dtype="float64")) for v in (case, control))
    case, control = case[np.isfinite(case)], control[np.isfinite(control)]
    if not case.size or not control.size:
        return pd.DataFrame({"threshold": [], "fpr": [], "tpr": []}, dtype="float64")
    cuts = np.unique(np.concatenate([case, control]))[::-1]
    tpr = 1.0 - np.searchsorted(case, cuts) / case.size
    fpr = 1.0 - np.searchsorted(control, cuts) / control.size
    return pd.DataFrame({"threshold": np.r_[np.nan, cuts], "fpr": np.r_[0.0, fpr], "tpr": np.r_[0.0, tpr]})


def _adjusted(table: pd.DataFrame, bag: np.ndarray, healthy: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Return residuals ``(n,)`` of the gap on age and sex, fitted in controls, the design ``(n, k)``, and a note."""
    result, designs = np.full(len(table), np.nan), np.full((len(table), 1), np.nan)
    source = table if "sex" in table.columns else table.assign(sex=None)
    complete, names, notes = complete_rows(source, ("age", "sex"))
    complete &= np.isfinite(bag)
    if not (complete & healthy).any():
        return result, designs, joined([*notes, "no complete control to fit age and sex in"])
    fitted = source[complete & healthy]
    # sex cannot be adjusted for if all controls have the same
    seen = set(levels(text(fitted, "sex")))
    use = [name for name in names if name != "sex" or len(seen) > 1]
    notes += ["dropped sex (constant in controls)"] if "sex" in names and "sex" not in use else []
    if "sex" in use:
        complete &= is_member(text(source, "sex"), seen)
    part, in_controls = source[complete], healthy[complete]
    matrix, more = covariate_matrix(part, use)
    design = np.column_stack([np.ones(len(part)), matrix])
    if in_controls.sum() <= design.shape[1] or not has_full_rank(design[in_controls]):
        return result, designs, joined([*notes, *more, "too few or too similar controls to fit age and sex in"])
    beta = np.linalg.lstsq(design[in_controls], bag[complete][in_controls], rcond=None)[0]
    result[complete] = bag[complete] - design @ beta
    designs = np.full((len(table), design.shape[1]), np.nan)
    designs[complete] = design
    return result, designs, joined([*notes, *more])


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else math.exp(value) / (1.0 + math.exp(value))
