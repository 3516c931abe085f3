"""Describe how the brain age gap changes within people: rates per person, rates by group, and a mixed model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from brainage_bids.result_tables import LONGITUDINAL
from brainage_bids.schema import NOT_OF_SESSION, RATE_AGE
from brainage_bids.stats.accuracy import one_sample_t
from brainage_bids.stats.cohort_tables import every_session
from brainage_bids.stats.columns import (
    ALL,
    control_label,
    frame,
    has_age_flag,
    is_constant,
    is_member,
    joined,
    levels,
    number,
    text,
)
from brainage_bids.stats.design import complete_rows, covariate_matrix, has_full_rank
from brainage_bids.stats.groups import welch
from brainage_bids.stats.intercept import RandomIntercept

MIN_SPAN = 0.5  # years between the first and the last scan of a person
MIN_PEOPLE = 6  # for the mixed model
RATE, BAG_RATE, MIXED = "rate", "bag_rate", "mixed"


def longitudinal(table: pd.DataFrame, models: Sequence[str], controls: Sequence[str]) -> pd.DataFrame:
    """Describe and compare the change of the gap over the sessions of each person.

    Parameters
    ----------
    table
        One row per usable session: ``participant_id age group sex`` and ``predicted_age_<model>`` (years).
    models
        Suffixes of the prediction columns.
    controls
        Labels of the healthy controls, pooled as the reference level.

    Returns
    -------
    pandas.DataFrame
        `LONGITUDINAL`. ``analysis`` is ``rate`` (brain years per year), ``bag_rate`` (rate - 1, tested
        against 0; with ``term`` ``AD-NC`` the Welch difference of a group from the controls), ``mixed`` (BAG ~ time x
        group with a random intercept, REML; Wald z) or ``mixed:age_bl+sex``. Empty when nobody has two sessions.

    Examples
    --------
    Four people, two years apart, whose brains age by one and a half years a year.

    >>> import pandas as pd
    >>> from brainage_bids import longitudinal
    >>> people = pd.DataFrame({"participant_id": ["sub-1", "sub-2", "sub-3", "sub-4"] * 2, "group": "CN", "sex": "F"})
    >>> people["age"] = [60.0, 65.0, 70.0, 75.0, 62.0, 67.0, 72.0, 77.0]
    >>> people["predicted_age_m"] = [60.0, 66.0, 69.0, 75.0, 63.0, 69.0, 72.0, 78.0]
    >>> longitudinal(people, ["m"], controls=["CN"])[["analysis", "group", "n", "estimate"]].head(2)
       analysis group  n  estimate
    0      rate    CN  4       1.5
    1  bag_rate    CN  4       0.5
    """
    rows = []
    for model in models:
        people = usable_people(table, model)
        if people.empty:
            continue
        results = _rate_rows(person_rates(people), controls)
        for name, covariates in ((MIXED, ()), (f"{MIXED}:age_bl+sex", ("age_bl", "sex"))):
            results += [{"analysis": name, **row} for row in mixed_model(people, controls, covariates)]
        rows += [{"model": model, **row} for row in results]
    return frame(rows, LONGITUDINAL)


def usable_people(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the sessions of people with two ages at least half a year apart, in order of age.

    Sessions whose age was given once for several sessions are left out: the time between them is unknown.

    Returns
    -------
    pandas.DataFrame
        ``participant_id age predicted_age bag time group sex age_bl``: ages and ``time`` since the first session in
        years; ``group`` and ``sex`` are those of the first session.
    """
    rows = pd.DataFrame(
        {
            "participant_id": table["participant_id"].astype(str).to_numpy(),
            "age": number(table, "age"),
            "predicted_age": number(table, f"predicted_age_{model}"),
            "group": text(table, "group").to_numpy(),
            "sex": text(table, "sex").to_numpy(),
        }
    )
    rows = rows[_of_session(table)]
    rows = rows.dropna(subset=["age", "predicted_age"])
    rows = rows.sort_values(["participant_id", "age"], kind="stable")
    person = rows.groupby("participant_id", sort=False)
    rows = rows.assign(
        bag=rows["predicted_age"] - rows["age"],
        age_bl=person["age"].transform("first"),
        **{name: rows["participant_id"].map(rows.drop_duplicates("participant_id").set_index("participant_id")[name])
           for name in ("group", "sex")},
    )  # fmt: skip
    rows["time"] = rows["age"] - rows["age_bl"]
    return rows[person["age"].transform("max") - rows["age_bl"] >= MIN_SPAN].reset_index(drop=True)


def _of_session(table: pd.DataFrame) -> np.ndarray:
    """Return ``(n,)`` bool: the age was given for this session."""
    return ~has_age_flag(table, NOT_OF_SESSION)


def rate_sessions(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Return every usable session with the ages for rates of change, and gaps computed from these ages.

    If all sessions of a person have an ``age_for_rates``, these are used; otherwise the ages stay.

    Parameters
    ----------
    table
        As for `longitudinal`, with ``age_for_rates`` (years) if known.
    models
        Suffixes of the prediction columns.
    """
    table = every_session(table)
    if RATE_AGE not in table:
        return table
    dated = number(table, RATE_AGE)
    known = pd.Series(~np.isnan(dated) | ~_of_session(table), index=table.index)
    chosen = known.groupby(table["participant_id"]).transform("all").to_numpy() & ~np.isnan(dated)
    age = np.where(chosen, dated, number(table, "age"))
    return table.assign(age=age, **{f"bag_{model}": number(table, f"predicted_age_{model}") - age for model in models})


def person_rates(people: pd.DataFrame) -> pd.DataFrame:
    """Return one row per person: ``n_scans span rate bag_rate`` (slope of predicted on true age), ``group``."""
    person = people.groupby("participant_id")
    time, predicted = (people[name] - person[name].transform("mean") for name in ("time", "predicted_age"))
    sums = pd.DataFrame({"product": time * predicted, "square": time**2}).groupby(people["participant_id"]).sum()
    rates = person.agg(group=("group", _first), n_scans=("time", "size"), span=("time", "max"))
    rates["rate"] = sums["product"] / sums["square"]  # least-squares slopes of all people
    return rates.assign(bag_rate=rates["rate"] - 1).reset_index()


def _first(values: pd.Series) -> str | None:
    return values.iloc[0]


def _rate_rows(rates: pd.DataFrame, controls: Sequence[str]) -> list[dict]:
    group, rows = text(rates, "group"), []
    subsets = [(label, is_member(group, [label])) for label in levels(group)]
    for label, chosen in [*subsets, (ALL, np.ones(len(rates), dtype=bool))]:
        part = rates[chosen]
        for analysis in (RATE, BAG_RATE):
            test = one_sample_t(part[analysis].to_numpy())
            row = {"analysis": analysis, "group": label, "term": "mean", "n": len(part)}
            row |= {"n_scans": int(part["n_scans"].sum()), "estimate": test["mean"], "sd": test["sd"]}
            asked = "ci_lo ci_hi status note" if analysis == RATE else "ci_lo ci_hi t df p status note"
            rows.append(row | {name: test[name] for name in asked.split()})
    healthy = is_member(group, controls)
    for label, chosen in subsets:
        if label in set(controls) or not healthy.any():
            continue
        test = welch(rates.loc[chosen, "bag_rate"].to_numpy(), rates.loc[healthy, "bag_rate"].to_numpy())
        row = {"analysis": BAG_RATE, "group": label, "term": f"{label}-{control_label(levels(group[healthy]))}"}
        row |= {"n": test["n_case"] + test["n_control"], "n_scans": int(rates.loc[chosen | healthy, "n_scans"].sum())}
        row |= {"estimate": test.get("mean_diff")}
        rows.append(row | {k: test.get(k) for k in ("ci_lo", "ci_hi", "t", "df", "p", "status", "note")})
    return rows


def mixed_model(people: pd.DataFrame, controls: Sequence[str], covariates: Sequence[str] = ()) -> list[dict]:
    """Fit BAG ~ time x group (+ covariates) with a random intercept per person by REML (Laird and Ware 1982).

    Controls are the reference level, or else the first label. There is one row per fixed effect (Wald z; years, or
    years per year) and per variance (``var_intercept``, ``var_residual``; years squared). If people change at different
    rates, a model with only a random intercept understates the errors of ``time`` terms. So the note gives the p of a
    sandwich variance with people as clusters (Liang and Zeger 1986). The rates of ``longitudinal`` are not affected.
    """
    complete, names, notes = complete_rows(people, covariates)
    group = text(people, "group")
    complete &= group.notna().to_numpy()
    if not complete.all():
        notes.append(f"{people.loc[~complete, 'participant_id'].nunique()} people without group or covariate left out")
    people, group = people[complete], group[complete]
    n, n_scans = people["participant_id"].nunique(), len(people)
    head = {"group": ALL, "n": n, "n_scans": n_scans}
    if n < MIN_PEOPLE:
        note = joined([*notes, f"fewer than {MIN_PEOPLE} people with two sessions"])
        return [head | {"term": "model", "status": "insufficient_n", "note": note}]
    healthy = is_member(group, controls)
    label = group.where(~healthy, control_label(levels(group[healthy])) if healthy.any() else None)
    reference = label[healthy].iloc[0] if healthy.any() else levels(label)[0]
    notes.append(f"reference group {reference}")
    time = number(people, "time")
    columns = {"intercept": np.ones(n_scans), "time": time}
    for other in (level for level in levels(label) if level != reference):
        is_other = (label == other).to_numpy(dtype="float64")
        columns |= {f"group={other}": is_other, f"time:group={other}": is_other * time}
    for name in names:
        matrix, more = covariate_matrix(people, [name])
        notes += more
        columns |= {name if i == 0 else f"{name} {i + 1}": column for i, column in enumerate(matrix.T)}
    design = pd.DataFrame(columns)
    if not has_full_rank(design.to_numpy()):
        return [
            head | {"term": "model", "status": "rank_deficient", "note": joined([*notes, "terms repeat each other"])}
        ]
    bag = number(people, "bag")
    if is_constant(bag):
        return [head | {"term": "model", "status": "constant_input", "note": joined([*notes, "all gaps are equal"])}]
    return [head | row for row in _fitted(bag, design, people["participant_id"].to_numpy(), notes)]


def _fitted(bag: np.ndarray, design: pd.DataFrame, person: np.ndarray, notes: list[str]) -> list[dict]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = RandomIntercept(bag, design, person).fit(reml=True)
        except np.linalg.LinAlgError as error:
            return [{"term": "model", "status": "degenerate", "note": joined([*notes, str(error)])}]
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        notes = [*notes, "the fit did not converge cleanly (a variance near 0): read with care"]
    status, note = ("ok" if fit.converged else "degenerate"), joined(notes)
    robust, df = _sandwich_se(bag, design.to_numpy(), person, fit), len(np.unique(person)) - design.shape[1]
    rows = []
    for name in design.columns:
        estimate, se = float(fit.fe_params[name]), float(fit.bse_fe[name])
        if not np.isfinite(se) or se <= 0:
            rows.append({"term": name, "estimate": estimate, "status": "degenerate", "note": note})
            continue
        margin = stats.norm.ppf(0.975) * se
        p = 2 * stats.norm.sf(abs(estimate / se))
        row = {"term": name, "estimate": estimate, "se": se, "t": estimate / se, "p": p, "status": status, "note": note}
        if df > 0 and robust[len(rows)] > 0:
            robust_p = 2 * stats.t.sf(abs(estimate / robust[len(rows)]), df)
            row["note"] = joined([note, f"sandwich se {robust[len(rows)]:.4g} p {robust_p:.3g}"])
        rows.append(row | {"ci_lo": estimate - margin, "ci_hi": estimate + margin})
    variances = {"var_intercept": float(np.asarray(fit.cov_re)[0, 0]), "var_residual": float(fit.scale)}
    return rows + [{"term": k, "estimate": v, "status": status, "note": note} for k, v in variances.items()]


def _sandwich_se(bag: np.ndarray, design: np.ndarray, person: np.ndarray, fit) -> np.ndarray:
    """Return standard errors ``(k,)`` of the fixed effects with people as clusters, scaled by n / (n - 1); 0: none."""
    intercept, noise = float(np.asarray(fit.cov_re)[0, 0]), float(fit.scale)
    if not noise > 0:
        return np.zeros(design.shape[1])
    names, of_person = np.unique(person, return_inverse=True)
    share = intercept / (noise + intercept * np.bincount(of_person))  # V^-1 subtracts this share of a person's sum
    sums = np.column_stack([np.bincount(of_person, column) for column in design.T])  # (people, k)
    weighted = (design - (share[:, None] * sums)[of_person]) / noise  # V^-1 X
    residual = bag - design @ np.asarray(fit.fe_params)
    scores = np.column_stack([np.bincount(of_person, column * residual) for column in weighted.T])  # (people, k)
    inverse = np.linalg.inv(weighted.T @ design)
    return np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse) * len(names) / (len(names) - 1))
