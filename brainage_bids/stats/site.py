"""Test whether sites, or datasets, differ in the gap of healthy people: one F test per model, adjusted for age, sex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS

from brainage_bids.result_tables import SITE
from brainage_bids.stats.columns import frame, is_member, joined, levels, number, text
from brainage_bids.stats.design import complete_rows, covariate_matrix, has_full_rank, with_intercept

MIN_SITE = 3
OTHER = "other"


def site_effect(table: pd.DataFrame, models: Sequence[str], controls: Sequence[str]) -> pd.DataFrame:
    """Test whether the gaps of controls differ between sites (or datasets): F of C(site) in BAG ~ C(site) + age + sex.

    Parameters
    ----------
    table, models, controls
        As in `groups.group_differences`.

    Returns
    -------
    pandas.DataFrame
        `SITE`, one row per model and ``effect``: ``site``, and ``dataset`` if there are several (``n_sites``
        then counts datasets). The status is ``skipped`` with one site, and ``confounded`` when patients and controls
        share no site; the test among controls is still given.
    """
    group = text(table, "group")
    healthy = is_member(group, controls)
    patients = ~healthy & group.notna().to_numpy()
    effects = ["site", *(["dataset"] if len(levels(text(table, "dataset"))) > 1 else [])]
    nested = {effect: _apart(text(table, effect), patients, healthy) for effect in effects}
    rows = []
    for model in models:
        for effect in effects:
            row = _test(table[healthy], f"bag_{model}", effect)
            if nested[effect] and row["status"] == "ok":
                row |= {"status": "confounded", "note": joined([f"no {effect} has patients and controls", row["note"]])}
            rows.append({"model": model, "subset": "controls", "effect": effect, **row})
    return frame(rows, SITE)


def apart(table: pd.DataFrame, controls: Sequence[str], effect: str) -> list[str]:
    """Return the patient groups that share no ``effect`` (``site`` or ``dataset``) with the controls, sorted.

    Groups without a known site are not returned; nor is any group if no site of the controls is known.
    """
    group, place = text(table, "group"), text(table, effect)
    healthy = is_member(group, controls)
    return [label for label in levels(group[~healthy]) if _apart(place, is_member(group, [label]), healthy)]


def _apart(place: pd.Series, some: np.ndarray, others: np.ndarray) -> bool:
    here, there = set(levels(place[some])), set(levels(place[others]))
    return bool(here and there) and not here & there


def _test(controls: pd.DataFrame, outcome: str, effect: str) -> dict:
    site = text(controls, effect)
    bag = number(controls, outcome)
    complete, names, notes = complete_rows(controls, ("age", "sex"))
    complete &= np.isfinite(bag) & site.notna().to_numpy()
    controls, bag, site = controls[complete], bag[complete], site[complete]
    small = [label for label, count in site.value_counts().items() if count < MIN_SITE]
    if small:
        site = site.where(~site.isin(small), OTHER)
        notes.append(
            f"{effect}s with fewer than {MIN_SITE} people pooled as '{OTHER}': {', '.join(sorted(map(str, small)))}"
        )
    row = {"n": len(bag), "n_missing": len(complete) - len(bag), "n_sites": len(levels(site))}
    if row["n_sites"] < 2:
        return row | {"status": "skipped", "note": joined([*notes, f"fewer than two {effect}s among the controls"])}
    matrix, more = covariate_matrix(controls, names)
    dummies, _ = covariate_matrix(controls.assign(site=site), ("site",))
    design = with_intercept(np.column_stack([dummies, matrix]))
    if len(bag) - design.shape[1] < 1:
        return row | {"status": "insufficient_n", "note": joined([*notes, *more, "no degrees of freedom left"])}
    if not has_full_rank(design):
        return row | {"status": "rank_deficient", "note": joined([*notes, *more, f"{effect} repeats age or sex"])}
    fit = OLS(bag, design).fit()
    test = fit.f_test(np.eye(design.shape[1])[1 : 1 + dummies.shape[1]])
    means = ", ".join(f"{label} {bag[(site == label).to_numpy()].mean():.2f}" for label in levels(site))
    row |= {"f": float(test.fvalue), "df_num": test.df_num, "df_den": test.df_denom, "p": float(test.pvalue)}
    return row | {"status": "ok", "note": joined([*notes, *more, f"mean gaps: {means} years"])}
