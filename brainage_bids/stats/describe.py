"""Make tables that describe a study: people by site, a summary of patients, missing values, flags. No tests."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from brainage_bids.result_tables import COHORTSITES, FLAGS, MISSING, PATIENTS
from brainage_bids.stats.cohort_tables import cohort_table
from brainage_bids.stats.columns import ALL, is_member, levels, text
from brainage_bids.stats.correlate import PRIMARY_VARIANT, primary_statistic

RAW = "raw"
_SHARED = "mae ae_sd bag_mean bag_sd bag_ci_lo bag_ci_hi bag_p status note".split()


def cohort_sites(table: pd.DataFrame) -> pd.DataFrame:
    """Describe the people of every site: a row per site and group, and ``all`` if a site has several groups.

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``.

    Returns
    -------
    pandas.DataFrame
        `COHORTSITES`, ages in years; no row when no site is stated.
    """
    site = text(table, "site")
    parts = []
    for label in levels(site):
        described = cohort_table(table[is_member(site, [label])])
        if len(described) == 2:  # one group: the row of everyone repeats it
            described = described.iloc[:1]
        parts.append(described.assign(site=label))
    if not parts:
        return pd.DataFrame(columns=COHORTSITES.columns)
    return pd.concat(parts, ignore_index=True)[COHORTSITES.columns]


def patients(accuracy: pd.DataFrame, correlations: pd.DataFrame, controls: Sequence[str]) -> pd.DataFrame:
    """Summarise the results of patients in one table, like table 4 of the paper.

    Parameters
    ----------
    accuracy, correlations
        `ACCURACY` and `result_tables.CORRELATIONS`.
    controls
        Labels of the controls, who are left out.

    Returns
    -------
    pandas.DataFrame
        `PATIENTS`: for each group and model one row per score and variant (the raw gap as in the paper, and
        the primary test), or one row without score. ``bag_p`` is the two-sided one-sample test of a mean gap of 0; ages
        and gaps in years.
    """
    rows = []
    for _, error in accuracy.iterrows():
        family, _, group = str(error["subset"]).partition("=")
        if family != "group" or set(group.split("+")) <= set(controls) or group in set(controls):
            continue
        shared = {"group": group, "model": error["model"], "n": error["n"], **{name: error[name] for name in _SHARED}}
        chosen = correlations[(correlations["group"] == group) & (correlations["model"] == error["model"])]
        tested = [row for _, row in chosen.iterrows() if _is_shown(row)]
        rows += [shared | _correlation(row) for row in tested] or [shared]
    return pd.DataFrame(rows, columns=PATIENTS.columns)


def missing_data(table: pd.DataFrame, models: Sequence[str], scores: Sequence[str]) -> pd.DataFrame:
    """Count the scans in which a variable has no value, by group.

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``, one row per scan.
    models, scores
        Models whose predicted ages, and scores whose values are counted.

    Returns
    -------
    pandas.DataFrame
        ``variable group n n_missing``: variables age, sex, group, site, ``predicted_age_<model>`` and the scores;
        groups as written, missing for scans without one, and ``all``.
    """
    group = text(table, "group")
    members = [(label, is_member(group, [label])) for label in levels(group) if label != ALL]
    if group.isna().any() and members:
        members.append((None, group.isna().to_numpy()))
    members.append((ALL, pd.Series(True, index=table.index).to_numpy()))
    variables = ["age", "sex", "group", "site", *(f"predicted_age_{model}" for model in models), *scores]
    rows = []
    for name in variables:
        missing = text(table, name).isna().to_numpy()
        rows += [(name, label, int(chosen.sum()), int((missing & chosen).sum())) for label, chosen in members]
    return pd.DataFrame(rows, columns=MISSING.columns)


def flag_counts(flags: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Count every flag of the prediction tables, by model and group.

    Parameters
    ----------
    flags
        ``prefix model flags``: for each scan and model a list separated by ``;``.
    table
        Shaped like ``group/brainage.tsv``, indexed by the prefix of the scans.

    Returns
    -------
    pandas.DataFrame
        ``flag model group n n_scans``: ``n`` of the ``n_scans`` scans with a prediction carry the flag; groups as
        written (missing for scans without one) and ``all``; only flags that occur.
    """
    if flags.empty:
        return pd.DataFrame(columns=FLAGS.columns)
    group = text(table, "group").fillna("").reindex(flags["prefix"], fill_value="").to_numpy()
    grouped = flags.assign(group=group)  # "" means no group; no group has this label
    both = pd.concat([grouped, grouped.assign(group=ALL)], ignore_index=True)
    scans = both.groupby(["model", "group"]).size()
    long = both.assign(flag=both["flags"].str.split(";")).explode("flag")
    long = long[long["flag"].notna() & ~long["flag"].isin(["", "n/a"])]
    counts = long.groupby(["flag", "model", "group"]).size().rename("n").reset_index()
    counts["n_scans"] = [int(scans[key]) for key in zip(counts["model"], counts["group"], strict=True)]
    counts["group"] = counts["group"].astype(object).where(counts["group"] != "", None)
    return counts[FLAGS.columns]


def _is_shown(row: pd.Series) -> bool:
    return row["statistic"] == primary_statistic(row["score"]) and row["variant"] in (RAW, PRIMARY_VARIANT)


def _correlation(row: pd.Series) -> dict:
    named = {"corr_n": "n", "corr": "estimate", "corr_ci_lo": "ci_lo", "corr_ci_hi": "ci_hi", "corr_p": "p"}
    return {name: row[source] for name, source in named.items()} | {
        name: row[name] for name in ("score", "statistic", "variant")
    }
