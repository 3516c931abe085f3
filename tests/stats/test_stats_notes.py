"""What a row says where it has no result, whole: the status, the note, and which numbers are left out."""

import math

import numpy as np
import pandas as pd
import pytest

from brainage_bids.stats.accuracy import accuracy_of, compare_errors, mean_interval, one_sample_t
from brainage_bids.stats.correlate import correlation, correlations, partial_correlation
from brainage_bids.stats.groups import ancova, group_differences, welch
from brainage_bids.stats.longitudinal import mixed_model
from brainage_bids.stats.region_contrasts import region_differences
from brainage_bids.stats.roc import adjusted_area, area, roc

RNG = np.random.default_rng(8)
NOISE = RNG.normal(0, 4, 12).round(3)
AGES = np.linspace(30, 70, 12).round(2)
COUNTED = {"n", "n_missing", "n_case", "n_control"}


def said(row):
    return row["status"], row["note"]


def numbers_of(row):
    return {name for name, value in row.items()
            if name not in COUNTED and isinstance(value, (int, float)) and math.isfinite(value)}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "status", "note", "numbers"),
    [
        (one_sample_t(np.array([2.0])), "insufficient_n", "fewer than 2 values", {"mean"}),
        (one_sample_t(np.full(4, 2.0)), "zero_variance", "all gaps are equal: no test of their mean", {"mean", "sd"}),
        (accuracy_of([50.0, 60], [51.0, 62]), "insufficient_n", "fewer than 3 people", {"mae"}),
        (
            compare_errors(np.ones(2), np.zeros(2)),
            "insufficient_n", "fewer than 3 people with both predictions", {"mae_diff"},
        ),
        (
            compare_errors(np.full(9, 3.0), np.full(9, 1.0)),
            "zero_variance", "all differences of error are equal: no test", {"mae_diff"},
        ),
        (welch(NOISE[:2], NOISE), "insufficient_n", "fewer than 3 people on a side", set()),
        (
            welch(np.full(3, 4.0), np.full(5, 1.0)),
            "zero_variance", "no spread within the groups: no test", {"mean_diff"},
        ),
        (correlation(NOISE[:2], AGES[:2]), "insufficient_n", "fewer than 3 complete pairs", set()),
        (correlation(np.ones(12), AGES), "constant_input", "a variable is constant", set()),
        (correlation(NOISE, np.ones(12)), "constant_input", "a variable is constant", set()),
        (
            correlation(AGES, AGES * 2),
            "perfect", "the variables are a perfect line", {"estimate", "ci_lo", "ci_hi", "df", "p"},
        ),
        (
            correlation(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])),
            "ok_no_ci", "no CI with 3 pairs", {"estimate", "df", "p"},
        ),
        (
            correlation(NOISE[:7], AGES[:7], "spearman", exact=True),
            "ok", "exact permutation p", {"estimate", "ci_lo", "ci_hi", "p"},
        ),
        (correlation(NOISE, AGES, "kendall"), "ok_no_ci", "", {"estimate", "p"}),
        (
            partial_correlation(NOISE[:4], AGES[:4], pd.DataFrame({"c": [1.0, 4, 2, 7]})),
            "insufficient_n", "1 covariate columns, 4 people", set(),
        ),
        (
            partial_correlation(NOISE, AGES, pd.DataFrame({"c": AGES**2, "d": AGES**2})),
            "rank_deficient", "covariates repeat each other", set(),
        ),
        (
            partial_correlation(np.ones(12), NOISE, pd.DataFrame({"c": AGES, "d": 1.0})),
            "constant_input", "dropped d (constant); a variable is constant", set(),
        ),
        (
            partial_correlation(NOISE, AGES + 1, pd.DataFrame({"c": AGES})),
            "constant_input", "the covariates explain a variable fully", set(),
        ),
        (area(NOISE, np.array([np.nan])[:0]), "no_controls", "no control has a gap", set()),
        (area(NOISE, NOISE[:2]), "insufficient_n", "fewer than 3 people on a side", set()),
        (
            area(NOISE + 100, NOISE),
            "degenerate", "DeLong variance is 0: AUC without an interval", {"auc"},
        ),
    ],
)  # fmt: skip
def test_a_row_says_why_it_ends_where_it_does(row, status, note, numbers):
    assert said(row) == (status, note)
    assert numbers_of(row) == numbers


def test_one_covariate_is_borne_by_five_people_and_not_by_four():
    row = partial_correlation(NOISE[:5], AGES[:5] ** 2, pd.DataFrame({"c": [1.0, 4, 2, 7, 5]}))
    assert (row["status"], row["df"], row["n"], row["n_missing"]) == ("ok", 2, 5, 0)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (np.array([1.0, 2.0]), "no CI of the mean error: fewer than 3 people"),
        (np.full(5, 2.0), "no CI of the mean error: all errors are equal"),
        (np.arange(2001.0), "normal CI of the mean error (n > 2000)"),
        (np.array([1.0, 2.0, 4.0, 3.0]), ""),
    ],
)
def test_why_an_interval_of_the_mean_error_is_another_or_none(values, note):
    assert mean_interval(values, 1)[2] == note


def test_errors_and_gaps_without_spread_are_said_in_one_note():
    row = accuracy_of(AGES, AGES + 2.0)
    equal = "all gaps are equal: no test of their mean; no CI of the mean error: all errors are equal"
    assert said(row) == ("zero_variance", equal)
    assert math.isnan(row["bag_dz"])
    assert np.ptp(AGES + 0.1 - AGES) > 0  # alike but for rounding
    assert np.isnan([accuracy_of(AGES, AGES + 0.1)[name] for name in ("agebias_r", "agebias_p")]).all()
    one_age = accuracy_of(np.full(6, 50.0), 50 + NOISE[:6])
    assert said(one_age) == ("zero_variance", "all ages are equal: no R2, correlation or age slope")
    assert "r2" not in one_age
    one_answer = accuracy_of(AGES, np.full(12, 50.0))
    assert said(one_answer) == ("ok", "all predictions are equal: no correlation")
    assert {"r2", "agebias_slope"} <= set(one_answer)
    assert "pearson_r" not in one_answer


def sides(n=12, **columns):
    table = pd.DataFrame({"age": AGES[:n], "sex": [*"FMFFMM"] * 2, "bag_m": NOISE[:n], "group": "NC"})
    table = table.assign(**columns)
    return table[n // 2 :], table[: n // 2]


HEDGES = "hedges_g is adjusted difference / residual SD"


@pytest.mark.parametrize(
    ("columns", "covariates", "status", "note"),
    [
        ({}, ("age", "sex"), "ok", HEDGES),
        ({"sex": "F"}, ("age", "sex"), "ok", f"dropped sex (constant); {HEDGES}"),
        ({"sex": None}, ("age", "sex"), "ok", f"dropped sex (not recorded); {HEDGES}"),
        ({"twice": AGES * 2 + 1}, ("age", "twice"), "rank_deficient", "covariates repeat each other or the group"),
        (
            {"bag_m": [np.nan] * 4 + [1.0, 2.0, *NOISE[:6]]}, ("age",),
            "insufficient_n", "fewer than 3 people on a side",
        ),
        ({"bag_m": (np.arange(12) > 5) * 2.0 + AGES}, ("age",), "zero_variance", "no residual spread: no test"),
        (
            {"site": ["A"] * 6 + ["B"] * 6}, ("age", "site"),
            "confounded", "no site has both groups: site and group cannot be told apart",
        ),
        (
            {"site": [*"ABCDEFABCDEF"], "family": [*"ABCDEFGHABCD"]}, ("age", "site", "family"),
            "insufficient_n", "no degrees of freedom left",
        ),
    ],
)  # fmt: skip
def test_the_adjusted_comparison_says_what_it_did(columns, covariates, status, note):
    case, control = sides(**columns)
    row = ancova(case, control, "bag_m", covariates)
    assert said(row) == (status, note)
    assert row["n_control"] == np.isfinite(control["bag_m"].astype(float)).sum()


def test_a_difference_that_grows_with_age_is_said():
    slope = np.where(np.arange(12) > 5, 1.0, -1.0) * (AGES - 50) + NOISE / 20
    case, control = sides(age=np.tile(AGES[:6], 2), bag_m=slope)
    case = case.assign(bag_m=case["age"] + NOISE[:6] / 20)
    control = control.assign(bag_m=-control["age"] + NOISE[6:] / 20)
    row = ancova(case, control, "bag_m", ("age",))
    assert row["p_interaction"] < 0.001
    assert row["note"] == f"{HEDGES}; the difference changes with age: one for all ages misleads"


def test_rows_of_unlike_ages_name_both_means_the_shared_ages_and_the_pairs():
    case, control = sides(age=[50.0, 51, 52, 53, 54, 62, 53, 54, 60, 61, 62, 63], group=["NC"] * 6 + ["AD"] * 6)
    table = pd.concat([control, case], ignore_index=True).assign(bag_corrected_m=np.nan)
    rows = group_differences(table, ["m"], ["NC"]).set_index("variant")
    a, b = np.array([53.0, 54, 60, 61, 62, 63]), np.array([50.0, 51, 52, 53, 54, 62])
    smd = (a.mean() - b.mean()) / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    ages = f"mean age 58.8 vs 53.7, SMD {smd:.2f}; unadjusted comparison is confounded by age"
    assert said(rows.loc["raw"]) == ("ok", ages)
    assert said(rows.loc["corrected"]) == ("skipped", "no bias-corrected gap")
    assert said(rows.loc["raw:age-overlap"]) == ("ok", "ages 53 to 62 only")
    assert rows.loc["raw:age-overlap", ["n_case", "n_control", "n_missing"]].tolist() == [5, 3, 0]
    assert said(rows.loc["raw:age-matched"]) == ("ok", "3 pairs within 2 years of age")
    assert rows.loc["raw:age-matched", ["n_case", "n_control", "n_missing"]].tolist() == [3, 3, 0]
    assert rows.loc["ancova:age+sex", "q_fdr"] == rows.loc["ancova:age+sex", "p"]


def test_without_controls_every_row_says_so():
    case, _ = sides(group="AD")
    rows = group_differences(case.assign(bag_corrected_m=case["bag_m"]), ["m"], []).set_index("variant")
    assert list(rows.index) == ["raw", "corrected", "ancova:age+sex", "corrected:one-sample"]
    none = ("no_controls", "no healthy controls in the table")
    assert [said(row) for _, row in rows.iloc[:3].iterrows()] == [none] * 3
    assert said(rows.iloc[3]) == ("ok", "mean corrected gap against 0, not against controls")
    assert rows["n_case"].tolist() == [6] * 4
    assert rows["n_control"].tolist() == [0] * 4


def test_the_area_rows_say_what_they_miss():
    case, control = sides(group=["NC"] * 6 + ["AD"] * 6)
    table = pd.concat([control, case], ignore_index=True)
    rows = roc(table, ["m"], ["NC"]).set_index("variant")
    assert said(rows.loc["corrected"]) == ("skipped", "no bias-corrected gap")
    assert said(rows.loc["raw"]) == said(rows.loc["adjusted:age+sex"]) == ("ok", "")
    nobody = roc(table.assign(age=np.where(table["group"] == "NC", np.nan, 60.0)), ["m"], ["NC"]).set_index("variant")
    assert said(nobody.loc["adjusted:age+sex"]) == ("skipped", "no complete control to fit age and sex in")
    like = roc(table.assign(age=np.where(table["group"] == "NC", 50.0, table["age"])), ["m"], ["NC"])
    note = "too few or too similar controls to fit age and sex in"
    assert said(like.set_index("variant").loc["adjusted:age+sex"]) == ("skipped", note)
    women = roc(table.assign(sex=["F"] * 6 + ["F", "M"] * 3), ["m"], ["NC"]).set_index("variant")
    assert said(women.loc["adjusted:age+sex"]) == ("ok", "dropped sex (constant in controls)")


def test_the_mixed_model_names_its_reference_and_what_it_refuses():
    people = pd.DataFrame({"participant_id": np.repeat([f"sub-{i}" for i in range(6)], 2), "time": [0.0, 2.0] * 6,
                           "group": ["NC"] * 6 + ["AD"] * 6, "bag": NOISE})  # fmt: skip
    (few,) = mixed_model(people[:10], ["NC"])
    assert few == {"group": "all", "n": 5, "n_scans": 10, "term": "model", "status": "insufficient_n",
                   "note": "fewer than 6 people with two sessions"}  # fmt: skip
    (flat,) = mixed_model(people.assign(bag=2.0), ["NC"])
    assert flat == {"group": "all", "n": 6, "n_scans": 12, "term": "model", "status": "constant_input",
                    "note": "reference group NC; all gaps are equal"}  # fmt: skip
    (twice,) = mixed_model(people.assign(again=people["time"]), [], ["again"])
    assert twice == {"group": "all", "n": 6, "n_scans": 12, "term": "model", "status": "rank_deficient",
                     "note": "reference group AD; terms repeat each other"}  # fmt: skip


def test_regions_that_cannot_be_compared_say_why():
    values = pd.DataFrame({"a": NOISE, "b": 1.0})
    is_case = np.arange(12) < 6
    found = region_differences(values, is_case, permutations=20)
    nowhere = ("constant_input", "no voxel of this region in the maps, or the same value for everybody")
    assert [said(row) for _, row in found.iterrows()] == [("ok", ""), nowhere]
    repeated = region_differences(values, is_case, is_case[:, None].astype(float), permutations=20)
    assert said(repeated.iloc[0]) == ("rank_deficient", "covariates repeat each other or the group")
    many = region_differences(values, is_case, RNG.normal(size=(12, 9)), permutations=20)
    assert said(many.iloc[0]) == ("insufficient_n", "too few people for so many covariates")
    few = region_differences(values, np.arange(12) < 1, permutations=20)
    assert said(few.iloc[0])[0] == "insufficient_n"


def test_scores_say_where_they_are_few_mixed_outside_or_at_an_edge():
    table = pd.DataFrame({"age": AGES, "sex": [*"FMFFMM"] * 2, "group": ["NC"] * 6 + ["AD"] * 6, "bag_m": NOISE,
                          "mmse": [30.0, 30, 30, 30, 31, 28, 20, 22, 18, 25, 24, 29]})  # fmt: skip
    rows = correlations(table, ["m"], ["mmse"], controls=["NC"]).set_index(["group", "variant", "statistic"])
    mixed = "pools controls and patients: a difference between them can cause or hide the correlation"
    edges = "1 values outside 0 to 30; 33% of the scores at the ceiling"
    assert said(rows.loc[("all", "raw", "pearson")]) == ("ok", f"n < 30; {edges}; {mixed}")
    assert said(rows.loc[("all", "corrected", "pearson")]) == ("skipped", f"no bias-corrected gap; {mixed}")
    assert said(rows.loc[("AD", "partial:age", "pearson")]) == ("ok", "n < 30")
    kendall = rows.loc[("AD", "partial:age", "kendall")]
    assert said(kendall) == ("skipped", "no partial Kendall; see partial Spearman")
    assert kendall[["n", "n_missing"]].tolist() == [0, 6]


def test_an_intercept_alone_changes_nothing_of_an_area():
    values, is_case = np.append(NOISE, np.nan), np.arange(13) < 5
    found = adjusted_area(values, np.ones((13, 1)), is_case, ~is_case)
    plain = area(NOISE[:5], NOISE[5:])
    assert plain["status"] == "ok"
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        assert found[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9)), name


def test_rows_of_some_ages_count_only_gaps_that_are_missing():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"age": [*range(50, 60), *range(55, 65)], "sex": ["F", "M"] * 10,
                          "group": ["NC"] * 10 + ["AD"] * 10, "bag_m": rng.normal(size=20)})  # fmt: skip
    table.loc[[1, 12, 13], "bag_m"] = np.nan
    rows = group_differences(table, ["m"], ["NC"]).set_index("variant")
    assert rows.loc["raw", ["n_case", "n_control", "n_missing"]].tolist() == [8, 9, 3]
    for variant, counts in (("raw:age-overlap", [3, 5, 3]), ("raw:age-matched", [4, 4, 3])):
        assert rows.loc[variant, ["n_case", "n_control", "n_missing"]].tolist() == counts
    apart = group_differences(table.assign(age=[*range(20, 30), *range(80, 90)]), ["m"], ["NC"]).set_index("variant")
    few = "fewer than 3 people on a side"
    assert said(apart.loc["raw:age-overlap"]) == ("insufficient_n", f"{few}; no age is shared")
    assert said(apart.loc["raw:age-matched"]) == ("insufficient_n", f"{few}; 0 pairs within 2 years of age")
