"""Do sites differ in the gap of healthy people? One F test per model, age and sex held.

Knows the table and which group labels are controls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import statsmodels.api as sm

from brainage_bids.schema import SITE_COLUMNS
from brainage_bids.stats.design import complete_rows, covariate_matrix, has_full_rank, with_intercept
from brainage_bids.stats.tables import frame, is_member, joined, levels, number, text

MIN_SITE = 3
OTHER = "other"


def site_effect(table: pd.DataFrame, models: Sequence[str], controls: Sequence[str]) -> pd.DataFrame:
    """Test the sites' gaps among controls: BAG ~ C(site) + age + sex, F of all site terms.

    Parameters
    ----------
    table
        Rows that ``select_rows`` kept: one per participant.
    models
        Suffixes of the ``bag_`` columns.
    controls
        Labels of the healthy controls.

    Returns
    -------
    pandas.DataFrame
        ``SITE_COLUMNS``, one row per model: ``skipped`` with one site, ``confounded`` where the sites of the patients
        and those of the controls have nobody in common (said, the test among controls is still given).
    """
    group, site = text(table, "group"), text(table, "site")
    healthy = is_member(group, controls)
    nested = bool(levels(site[~healthy & group.notna().to_numpy()])) and not set(
        levels(site[~healthy & group.notna().to_numpy()])
    ) & set(levels(site[healthy]))
    rows = []
    for model in models:
        row = _test(table[healthy], f"bag_{model}")
        if nested and row["status"] == "ok":
            row |= {"status": "confounded", "note": joined(["no site has patients and controls", row["note"]])}
        rows.append({"model": model, "subset": "controls", **row})
    return frame(rows, SITE_COLUMNS)


def _test(controls: pd.DataFrame, outcome: str) -> dict:
    site = text(controls, "site")
    bag = number(controls, outcome)
    complete, names, notes = complete_rows(controls, ("age", "sex"))
    complete &= np.isfinite(bag) & site.notna().to_numpy()
    controls, bag, site = controls[complete], bag[complete], site[complete]
    small = [one for one, count in site.value_counts().items() if count < MIN_SITE]
    if small:
        site = site.where(~site.isin(small), OTHER)
        notes.append(
            f"sites with fewer than {MIN_SITE} people pooled as '{OTHER}': {', '.join(sorted(map(str, small)))}"
        )
    row = {"n": len(bag), "n_missing": len(complete) - len(bag), "n_sites": len(levels(site))}
    if row["n_sites"] < 2:
        return row | {"status": "skipped", "note": joined([*notes, "fewer than two sites among the controls"])}
    matrix, more = covariate_matrix(controls, names)
    dummies, _ = covariate_matrix(controls.assign(site=site), ("site",))
    design = with_intercept(np.column_stack([dummies, matrix]))
    if len(bag) - design.shape[1] < 1:
        return row | {"status": "insufficient_n", "note": joined([*notes, *more, "no degrees of freedom left"])}
    if not has_full_rank(design):
        return row | {"status": "rank_deficient", "note": joined([*notes, *more, "site repeats age or sex"])}
    fit = sm.OLS(bag, design).fit()
    test = fit.f_test(np.eye(design.shape[1])[1 : 1 + dummies.shape[1]])
    means = ", ".join(f"{one} {bag[(site == one).to_numpy()].mean():.2f}" for one in levels(site))
    row |= {"f": float(test.fvalue), "df_num": test.df_num, "df_den": test.df_denom, "p": float(test.pvalue)}
    return row | {"status": "ok", "note": joined([*notes, *more, f"mean gaps: {means} years"])}
