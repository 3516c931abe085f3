"""Compare Grad-RAM maps of two groups in every brain region: Welch tests, FDR, and max-T permutation tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.map_tables import REGIONDIFF, SALIENCY_CONTRASTS
from brainage_bids.schema import DEFAULT_SEED
from brainage_bids.stats.columns import control_label, frame, is_constant, is_member, joined, levels, text
from brainage_bids.stats.design import complete_rows, covariate_matrix, has_full_rank, with_intercept
from brainage_bids.stats.fdr import benjamini_hochberg

MIN_N = 5  # people per group
PERMUTATIONS = 10_000
MANY = 1_000  # people; with more, a tenth of the permutations is used
_BATCH = 500  # permutations computed together


def saliency_contrasts(
    records: pd.DataFrame,
    values: np.ndarray,
    names: Mapping[int, str],
    model: str,
    controls: Sequence[str],
    seed: int = DEFAULT_SEED,
) -> pd.DataFrame:
    """Compare each patient group with the controls, and men with women among the controls, in every region.

    Parameters
    ----------
    records
        One row per person: ``age`` (years), ``sex``, ``group``.
    values
        ``(n, regions)`` float64: one number per person and region, NaN for a region without voxels.
    names
        Label -> name of the regions, in the order of the columns.
    controls
        Labels of the healthy controls; without any, all men and women are compared.

    Returns
    -------
    pandas.DataFrame
        `SALIENCY_CONTRASTS`: variant ``raw`` (Welch) and the primary variant ``adjusted:age+sex``
        (``adjusted:age`` for men and women). Its q and ``p_fwe`` refer to the family ``regions:<contrast>:<model>``.
    """
    group, sex = text(records, "group"), text(records, "sex")
    healthy = is_member(group, controls)
    base = healthy if healthy.any() else np.ones(len(records), dtype=bool)
    cases = [label for label in levels(group) if label not in set(controls)] if healthy.any() else []
    control = control_label(levels(group[healthy]))
    wanted = [(f"{case}-{control}", is_member(group, [case]), healthy, ("age", "sex")) for case in cases]
    wanted.append(("M-F", base & is_member(sex, ["M"]), base & is_member(sex, ["F"]), ("age",)))
    tables = []
    for contrast, case, other, covariates in wanted:
        for names_of in ((), covariates):
            table = _contrast(records, values, case, other, names_of, seed)
            if not names_of:
                table["q_fdr"] = np.nan  # sensitivity rows have no q
            variant = "adjusted:" + "+".join(covariates) if names_of else "raw"
            family = f"regions:{contrast}:{model}" if names_of else "sensitivity"
            about = {"model": model, "contrast": contrast, "variant": variant, "family": family}
            tables.append(table.assign(**about, index=list(names), region=list(names.values())))
    return pd.concat(tables, ignore_index=True)[SALIENCY_CONTRASTS.columns]


def _contrast(
    records: pd.DataFrame, values: np.ndarray, case: np.ndarray, other: np.ndarray, covariates: Sequence[str], seed: int
) -> pd.DataFrame:
    """Compare two sets of people; people who lack a covariate are left out of adjusted comparisons."""
    source = records.assign(sex=text(records, "sex"))
    chosen, notes, matrix = case | other, [], None
    if covariates:
        complete, known, notes = complete_rows(source[chosen], covariates)
        chosen = chosen.copy()
        chosen[np.flatnonzero(chosen)[~complete]] = False
        matrix, more = covariate_matrix(source[chosen], known)
        notes += more
    permutations = PERMUTATIONS if chosen.sum() <= MANY else PERMUTATIONS // 10
    regions = pd.DataFrame(values[chosen])
    result = region_differences(regions, case[chosen], matrix, permutations, seed)
    notes += [f"{permutations} permutations"]
    return result.assign(
        note=[
            joined([note, *notes]) if ok == "ok" else note for note, ok in zip(result.note, result.status, strict=True)
        ]
    )


def region_differences(
    values: pd.DataFrame,
    is_case: np.ndarray,
    covariates: np.ndarray | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = DEFAULT_SEED,
) -> pd.DataFrame:
    """Compare two groups of people in every region.

    Parameters
    ----------
    values
        One row per person, one column per region; a region without voxels is NaN for everybody.
    is_case
        ``(n,)`` bool: True for patients, False for controls.
    covariates
        ``(n, k)`` float64 without missing values, or None. With covariates, t is that of the group in
        ``region ~ group + covariates`` (OLS), with permutations by Freedman and Lane (1983); without, Welch's t.
    permutations, seed
        Number and seed of the random relabellings.

    Returns
    -------
    pandas.DataFrame
        `REGIONDIFF`, one row per region in the order of the columns: difference (case - control), ``t df p``,
        ``q_fdr`` over the regions (Benjamini and Hochberg 1995), ``p_perm`` = (1 + #{|t*| >= |t|}) / (1 + B) and
        ``p_fwe``, the same against the largest |t*| of all regions (Westfall and Young 1993).

    Examples
    --------
    Years that the Grad-RAM maps hold in two regions; patients have more in the first.

    >>> import numpy as np
    >>> import pandas as pd
    >>> from brainage_bids import region_differences
    >>> values = pd.DataFrame(np.random.default_rng(0).normal(0, 1, (40, 2)), columns=["Hippocampus_L", "Precuneus_L"])
    >>> is_case = np.arange(40) < 20
    >>> values.loc[is_case, "Hippocampus_L"] += 3
    >>> found = region_differences(values, is_case, permutations=200).set_index("region")
    >>> (found["p_fwe"] < 0.05).to_dict()
    {'Hippocampus_L': True, 'Precuneus_L': False}
    """
    is_case = np.asarray(is_case, dtype=bool)
    counts = {"n_case": int(is_case.sum()), "n_control": int((~is_case).sum())}
    data = values.to_numpy(dtype="float64")
    rows = [{"region": name, **counts} for name in values.columns]
    usable = np.isfinite(data).all(axis=0)
    usable[usable] = [not is_constant(data[:, i]) for i in np.flatnonzero(usable)]
    status, note = _refusal(counts, is_case, covariates)
    for row, good in zip(rows, usable, strict=True):
        row |= {"status": status, "note": note} if status != "ok" or good else _not_usable()
    if status == "ok" and usable.any():
        tests = _tests(data[:, usable], is_case, covariates)
        observed = np.abs(tests["t"]) * (1 - 1e-9) - 1e-12  # equal t must count as reached, in spite of rounding
        counted, largest = np.zeros(observed.size), np.zeros(observed.size)
        for t in _relabelled(data[:, usable], is_case, covariates, permutations, seed):
            counted += (t >= observed).sum(axis=0)
            largest += (t.max(axis=1, keepdims=True) >= observed).sum(axis=0)
        tests |= {"q_fdr": benjamini_hochberg(tests["p"])}
        tests |= {"p_perm": (1 + counted) / (1 + permutations), "p_fwe": (1 + largest) / (1 + permutations)}
        for position, i in enumerate(np.flatnonzero(usable)):
            rows[i] |= {name: array[position] for name, array in tests.items()}
    return frame(rows, REGIONDIFF)


def _refusal(counts: dict, is_case: np.ndarray, covariates: np.ndarray | None) -> tuple[str, str]:
    if min(counts.values()) < MIN_N:
        return "insufficient_n", f"fewer than {MIN_N} people on a side"
    if covariates is not None:
        design = with_intercept(np.column_stack([is_case.astype("float64"), covariates]))
        if len(is_case) - design.shape[1] < MIN_N:
            return "insufficient_n", "too few people for so many covariates"
        if not has_full_rank(design):
            return "rank_deficient", "covariates repeat each other or the group"
    return "ok", ""


def _not_usable() -> dict:
    return {"status": "constant_input", "note": "no voxel of this region in the maps, or the same value for everybody"}


def _tests(data: np.ndarray, is_case: np.ndarray, covariates: np.ndarray | None) -> dict[str, np.ndarray]:
    if covariates is None:
        test = stats.ttest_ind(data[is_case], data[~is_case], equal_var=False)
        difference = data[is_case].mean(axis=0) - data[~is_case].mean(axis=0)
        return {"mean_diff": difference, "t": test.statistic, "df": test.df, "p": test.pvalue}
    basis, group = _projections(is_case, covariates)
    df = len(data) - basis.shape[1] - 1
    residual = data - basis @ (basis.T @ data)
    slope = group @ residual / (group @ group)
    t = slope / np.sqrt(((residual**2).sum(axis=0) - slope**2 * (group @ group)) / df / (group @ group))
    return {"mean_diff": slope, "t": t, "df": np.full(t.size, float(df)), "p": 2 * stats.t.sf(np.abs(t), df)}


def _projections(is_case: np.ndarray, covariates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal columns of intercept and covariates ``(n, 1 + k)``, and the group's residual ``(n,)``."""
    basis, _ = np.linalg.qr(with_intercept(covariates))
    group = is_case.astype("float64")
    return basis, group - basis @ (basis.T @ group)


def _relabelled(
    data: np.ndarray, is_case: np.ndarray, covariates: np.ndarray | None, permutations: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield |t| of random relabellings, in batches ``(at most 500, regions)``."""
    rng = np.random.default_rng(seed)
    for start in range(0, permutations, _BATCH):
        orders = rng.permuted(np.tile(np.arange(len(data)), (min(_BATCH, permutations - start), 1)), axis=1)  # (B, n)
        if covariates is None:
            yield np.abs(_welch_t(data, is_case[orders].astype("float64")))
        else:
            yield np.abs(_freedman_lane_t(data, is_case, covariates, orders))


def _welch_t(data: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return Welch's t ``(B, regions)`` for rows of 0/1 labels ``(B, n)``."""
    centred = data - data.mean(axis=0)
    total, squares = centred.sum(axis=0), (centred**2).sum(axis=0)
    n1 = chosen[0].sum()
    n2 = data.shape[0] - n1
    sum1, square1 = chosen @ centred, chosen @ centred**2
    sum2, square2 = total - sum1, squares - square1
    spread1 = (square1 - sum1**2 / n1) / (n1 - 1) / n1
    spread2 = (square2 - sum2**2 / n2) / (n2 - 1) / n2
    return (sum1 / n1 - sum2 / n2) / np.sqrt(np.maximum(spread1 + spread2, 1e-300))


def _freedman_lane_t(data: np.ndarray, is_case: np.ndarray, covariates: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return t of the group ``(B, regions)`` after shuffling the residuals of the regions on the covariates."""
    basis, group = _projections(is_case, covariates)
    residual = data - basis @ (basis.T @ data)
    length, df = group @ group, len(data) - basis.shape[1] - 1
    squares = (residual**2).sum(axis=0)  # the same in any order
    t_values = np.empty((len(orders), data.shape[1]))
    for row, order in zip(t_values, orders, strict=True):
        shuffled = residual[order]
        slope = group @ shuffled / length
        left = squares - ((basis.T @ shuffled) ** 2).sum(axis=0) - slope**2 * length
        row[:] = slope / np.sqrt(np.maximum(left, 1e-300) / df / length)
    return t_values
