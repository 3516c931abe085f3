"""Correlate the brain age gap with clinical scores: raw, bias-corrected and partial correlations.

The primary row of each group and score is the raw gap with age and sex partialled out. The other rows are sensitivity
analyses without q.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.bids.aliases import canonical_score
from brainage_bids.errors import UsageError
from brainage_bids.result_tables import CORRELATIONS
from brainage_bids.schema import DEFAULT_SEED
from brainage_bids.stats.bootstrap import correlation_bca
from brainage_bids.stats.columns import (
    ALL,
    PLACES,
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

STATISTICS = ("pearson", "spearman", "kendall")
PRIMARY_VARIANT = "partial:age+sex"
_STAGES = frozenset({"hy", "cdr_global"})  # ordinal scores: only the order of the stages has a meaning
FAMILY, SENSITIVITY = "scores", "sensitivity"
_SCORE_RANGES = {
    "adas11": (0.0, 70.0),
    "updrs3": (0.0, 132.0),
    "hy": (0.0, 5.0),
    "mmse": (0.0, 30.0),
    "moca": (0.0, 30.0),
    "cdr_global": (0.0, 3.0),
    "cdr_sb": (0.0, 18.0),
}
EXACT_BELOW = 10  # people; at most 9! orders are listed
FEW_N = 30
EDGE_SHARE = 0.2
Z = float(stats.norm.ppf(0.975))
_Complete = tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]
NAN_RESULT = dict.fromkeys(("estimate", "ci_lo", "ci_hi", "df", "p"), math.nan)


def correlation(x: np.ndarray, y: np.ndarray, statistic: str = "pearson", exact: bool = False) -> dict:
    """Correlate two variables on their complete pairs.

    Parameters
    ----------
    x, y
        ``(n,)`` values, NaN for missing.
    statistic
        ``pearson`` (Fisher CI), ``spearman`` (mid-ranks; Bonett-Wright 2000 CI) or ``kendall`` (tau-b; no CI).
    exact
        For Spearman with fewer than 10 pairs: p from all n! orders instead of Student's t.

    Returns
    -------
    dict
        ``n n_missing estimate ci_lo ci_hi df p status note``. Fewer than 3 pairs: ``insufficient_n`` (scipy would
        give r = 1, p = 1 for two); 3 pairs: no CI; a constant variable: ``constant_input``; abs(r) = 1: ``perfect``.
    """
    x, y = np.asarray(x, dtype="float64"), np.asarray(y, dtype="float64")
    both = np.isfinite(x) & np.isfinite(y)
    row = {"n": int(both.sum()), "n_missing": int((~both).sum()), **NAN_RESULT}
    x, y = x[both], y[both]
    if x.size < 3:
        return row | {"status": "insufficient_n", "note": "fewer than 3 complete pairs"}
    if is_constant(x) or is_constant(y):
        return row | {"status": "constant_input", "note": "a variable is constant"}
    if statistic == "kendall":
        tau, p = stats.kendalltau(x, y)
        return row | {"estimate": tau, "p": p, "status": "ok_no_ci", "note": ""}
    if statistic == "spearman":
        x, y = stats.rankdata(x), stats.rankdata(y)
    r = pearson(x, y)
    row |= _student(r, x.size - 2)
    if statistic == "spearman" and exact and x.size < EXACT_BELOW:
        row |= {"p": _exact_p(x, y), "df": math.nan, "note": joined([row["note"], "exact permutation p"])}
    if row["status"] == "perfect":
        return row
    if x.size < 4:
        return row | {"status": "ok_no_ci", "note": joined([row["note"], "no CI with 3 pairs"])}
    spread = 1.0 + r * r / 2.0 if statistic == "spearman" else 1.0
    return row | _fisher(r, math.sqrt(spread / (x.size - 3)))


def partial_correlation(x: np.ndarray, y: np.ndarray, covariates: pd.DataFrame, statistic: str = "pearson") -> dict:
    """Correlate two variables with covariates partialled out.

    Parameters
    ----------
    x, y
        ``(n,)`` values, NaN for missing.
    covariates
        ``n`` rows, one column per covariate; text columns become dummies. Rows with any missing value are left out.
    statistic
        ``pearson``, or ``spearman`` (all variables are ranked first).

    Returns
    -------
    dict
        As ``correlation``, with k design columns: df = n - k - 2, and the CI has SE 1 / sqrt(n - k - 3). The status is
        ``rank_deficient`` when covariates repeat each other, ``insufficient_n`` when k > n - 4.
    """
    return _partial(len(covariates), _complete(x, y, covariates), statistic)


def _partial(people: int, complete: _Complete, statistic: str) -> dict:
    x, y, matrix, notes = complete
    row = {"n": x.size, "n_missing": people - x.size, **NAN_RESULT}
    k = matrix.shape[1]
    if x.size < 3 or k > x.size - 4:
        return row | {"status": "insufficient_n", "note": joined([*notes, f"{k} covariate columns, {x.size} people"])}
    if is_constant(x) or is_constant(y):
        return row | {"status": "constant_input", "note": joined([*notes, "a variable is constant"])}
    if statistic == "spearman":
        x, y = stats.rankdata(x), stats.rankdata(y)
        matrix = stats.rankdata(matrix, axis=0) if k else matrix
    design = with_intercept(matrix)
    if not has_full_rank(design):
        return row | {"status": "rank_deficient", "note": joined([*notes, "covariates repeat each other"])}
    left_x, left_y = _residuals(design, x, y)
    if _explained(left_x, x) or _explained(left_y, y):
        return row | {"status": "constant_input", "note": joined([*notes, "the covariates explain a variable fully"])}
    r = pearson(left_x, left_y)
    row |= _student(r, x.size - k - 2)
    if row["status"] != "perfect":
        row |= _fisher(r, 1.0 / math.sqrt(x.size - k - 3))
    return row | {"note": joined([*notes, row["note"]])}


def _complete(x: np.ndarray, y: np.ndarray, covariates: pd.DataFrame) -> _Complete:
    """Return both variables and the covariates ``(n, k)`` of the complete rows, and notes."""
    x, y = np.asarray(x, dtype="float64"), np.asarray(y, dtype="float64")
    pairs = np.isfinite(x) & np.isfinite(y)
    here = covariates.reset_index(drop=True)[pairs]
    complete, names, notes = complete_rows(here, list(covariates.columns))
    matrix, more = covariate_matrix(here[complete], names)
    return x[pairs][complete], y[pairs][complete], matrix, [*notes, *more]


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's r of two varying variables ``(n,)``; exactly 1 or -1 when it is so up to rounding."""
    x, y = x - x.mean(), y - y.mean()
    r = float(np.clip((x @ y) / math.sqrt(float(x @ x) * float(y @ y)), -1.0, 1.0))
    return math.copysign(1.0, r) if abs(r) >= 1.0 - 1e-12 else r


def correlations(
    table: pd.DataFrame,
    models: Sequence[str],
    scores: Sequence[str],
    covariates: Sequence[str] = ("age", "sex"),
    controls: Sequence[str] = (),
    seed: int = DEFAULT_SEED,
) -> pd.DataFrame:
    """Correlate every score with every model's gap, within each group and in everyone.

    Parameters
    ----------
    table
        Rows selected by ``select_rows``: one per participant.
    models
        Suffixes of the ``bag_`` and ``bag_corrected_`` columns.
    scores
        Score columns; groups without a value of a score get no row for it.
    covariates
        Covariates of a further partial variant, beside age and age+sex. If the people of a row come from several sites
        or datasets, variants with these are added.
    controls
        Labels of the healthy controls; the note of the pooled row says when it mixes them with patients.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        `CORRELATIONS`. ``bca_ci_lo bca_ci_hi`` (bootstrap, below 200 people) in the raw Pearson and Spearman
        rows and in the primary row. ``q_fdr`` (Benjamini-Hochberg, family ``scores``) only in the primary rows: variant
        ``partial:age+sex``, `primary_statistic`, per group; for ``all`` only if there are no groups.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from brainage_bids import correlations
    >>> rng = np.random.default_rng(0)
    >>> people = pd.DataFrame({"group": ["AD"] * 40, "sex": ["F", "M"] * 20, "age": rng.uniform(55, 85, 40)})
    >>> people["bag_m"] = rng.normal(5, 4, 40)  # years
    >>> people["adas11"] = 15 + people["bag_m"] + rng.normal(0, 2, 40)
    >>> found = correlations(people, ["m"], ["adas11"])
    >>> primary = found[found["q_fdr"].notna()]
    >>> primary[["group", "score", "variant", "statistic", "n", "status"]].to_dict("records")
    [{'group': 'AD', 'score': 'adas11', 'variant': 'partial:age+sex', 'statistic': 'pearson', 'n': 40, 'status': 'ok'}]
    >>> bool(primary["ci_lo"].item() > 0.5)
    True
    """
    labels = levels(text(table, "group"))
    rows = []
    for score in scores:
        for label, member, pooled in scored_subsets(table, score, controls):
            part = table[member]
            places = [name for name in PLACES if len(levels(text(part, name))) > 1]
            variants = _variants(covariates, places)
            for model in models:
                for row in _score_rows(part, model, score, variants, seed):
                    primary = row.pop("primary") and (label != ALL or not labels)
                    family = FAMILY if primary else SENSITIVITY
                    note = joined([row["note"], pooled])
                    rows.append({"model": model, "group": label, "score": score, **row, "family": family, "note": note})
    result = frame(rows, CORRELATIONS)
    primary = (result["family"] == FAMILY).to_numpy(dtype=bool)
    result.loc[primary, "q_fdr"] = benjamini_hochberg(result.loc[primary, "p"].to_numpy())
    return result


def scored_subsets(
    table: pd.DataFrame, score: str, controls: Sequence[str] = ()
) -> Iterator[tuple[str, np.ndarray, str]]:
    """Yield ``(label, (n,) bool, note)`` of each group in which somebody has the score, then of everyone."""
    group = text(table, "group")
    scored = np.isfinite(number(table, score))
    for label in levels(group):
        member = is_member(group, [label])
        if (scored & member).any():
            yield label, member, ""
    if scored.any():
        yield ALL, np.ones(len(table), dtype=bool), _pooled_note(group[scored], controls)


def _variants(covariates: Sequence[str], places: Sequence[str]) -> dict[str, tuple[str, ...]]:
    wanted = dict.fromkeys([("age",), ("age", "sex"), tuple(covariates), *(("age", "sex", place) for place in places)])
    return {"partial:" + "+".join(names): names for names in wanted if names}


def _score_rows(
    part: pd.DataFrame, model: str, score: str, variants: dict[str, tuple[str, ...]], seed: int
) -> list[dict]:
    values, bag = number(part, score), number(part, f"bag_{model}")
    corrected = optional_number(part, f"bag_corrected_{model}")
    warning = _score_warning(score, values[np.isfinite(values) & np.isfinite(bag)])
    complete = {names: _complete(bag, values, _columns(part, names)) for names in ((), *variants.values())}
    rows = []
    for statistic in STATISTICS:
        rows.append({"variant": "raw", "statistic": statistic, **correlation(bag, values, statistic, exact=True)})
        result = correlation(corrected, values, statistic, exact=True)
        if result["n"] == 0 and np.isfinite(bag).any():
            result |= {"status": "skipped", "note": "no bias-corrected gap"}
        rows.append({"variant": "corrected", "statistic": statistic, **result})
        for variant, names in variants.items():
            if statistic == "kendall":
                result = {"n": 0, "n_missing": len(part), **NAN_RESULT, "status": "skipped"}
                result["note"] = "no partial Kendall; see partial Spearman"
            else:
                result = _partial(len(part), complete[names], statistic)
            rows.append({"variant": variant, "statistic": statistic, **result})
    for row in rows:
        row["primary"] = row["variant"] == PRIMARY_VARIANT and row["statistic"] == primary_statistic(score)
        if row["status"] == "ok" and (row["primary"] or (row["variant"] == "raw" and row["statistic"] != "kendall")):
            names = variants[PRIMARY_VARIANT] if row["primary"] else ()
            x, y, matrix, _ = complete[names]
            ends = correlation_bca(x, y, matrix, row["statistic"] == "spearman", seed)
            row["bca_ci_lo"], row["bca_ci_hi"] = ends
        few = f"n < {FEW_N}" if row["status"].startswith("ok") and row["n"] < FEW_N else ""
        row["note"] = joined([row["note"], few, warning if row["status"] != "skipped" else ""])
    return rows


def _columns(part: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the covariates; a missing sex column counts as not recorded, other columns must exist.

    Raises
    ------
    UsageError
        When another covariate is not a column of the table.
    """
    unknown = [name for name in names if name not in part.columns and name != "sex"]
    if unknown:
        raise UsageError(f"covariate '{unknown[0]}' is no column of the table ({', '.join(map(str, part.columns))})")
    return pd.DataFrame({name: part[name] if name in part.columns else None for name in names}, index=part.index)


def primary_statistic(score: str) -> str:
    """Return the statistic of the primary test of a score, by any of its names.

    ``spearman`` for stages (Hoehn & Yahr, global CDR), ``pearson`` for all others. HTML pages show the same statistic.
    """
    return "spearman" if canonical_score(score) in _STAGES else "pearson"


def _score_warning(score: str, values: np.ndarray) -> str:
    known = canonical_score(score)
    if known not in _SCORE_RANGES or not values.size:
        return ""
    low, high = _SCORE_RANGES[known]
    outside = int(((values < low) | (values > high)).sum())
    notes = [f"{outside} values outside {low:g} to {high:g}" if outside else ""]
    for edge, name in ((low, "floor"), (high, "ceiling")):
        share = float((values == edge).mean())
        notes.append(f"{share:.0%} of the scores at the {name}" if share > EDGE_SHARE else "")
    return joined(notes)


def _pooled_note(groups: pd.Series, controls: Sequence[str]) -> str:
    labels = levels(groups)
    if len(labels) < 2:
        return ""
    mixed = is_member(pd.Series(labels, dtype=object), controls)
    what = "controls and patients" if mixed.any() and not mixed.all() else "groups"
    return f"pools {what}: a difference between them can cause or hide the correlation"


def _student(r: float, df: int) -> dict:
    """Return estimate, df and p of a correlation by Student's t."""
    if abs(r) == 1.0:
        note = "the variables are a perfect line"
        return {"estimate": r, "df": df, "p": 0.0, "ci_lo": r, "ci_hi": r, "status": "perfect", "note": note}
    t = r * math.sqrt(df / (1.0 - r * r))
    return {"estimate": r, "df": df, "p": float(2 * stats.t.sf(abs(t), df)), "status": "ok", "note": ""}


def _fisher(r: float, se: float) -> dict:
    return {"ci_lo": math.tanh(math.atanh(r) - Z * se), "ci_hi": math.tanh(math.atanh(r) + Z * se)}


def _exact_p(x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of all n! pairings whose abs(rho) is at least the observed one; ``x``, ``y`` are ranks."""
    orders = np.zeros((1, 1), dtype=np.int8)
    for size in range(1, x.size):  # insert element `size` at each place of every shorter order
        orders = np.concatenate([np.insert(orders, place, size, axis=1) for place in range(size + 1)])
    x, y = x - x.mean(), y - y.mean()
    reached = np.abs(y[orders] @ x) >= abs(float(x @ y)) - 1e-9
    return float(reached.mean())


def _residuals(design: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the residuals of two ``(n,)`` variables on a full-rank ``(n, k)`` design."""
    basis = np.linalg.qr(design)[0]
    return x - basis @ (basis.T @ x), y - basis @ (basis.T @ y)


def _explained(residual: np.ndarray, values: np.ndarray) -> bool:
    return bool(np.linalg.norm(residual) <= 1e-10 * max(1.0, float(np.linalg.norm(values))))
