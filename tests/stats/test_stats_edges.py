"""What cannot be computed is named in its row: too few people, columns that repeat each other, no spread."""

import math

import numpy as np
import pandas as pd
import pytest

from brainage_bids.errors import UsageError
from brainage_bids.stats import groups
from brainage_bids.stats.accuracy import SEX_DIFFERENCE, accuracy, mean_interval
from brainage_bids.stats.correlate import partial_correlation
from brainage_bids.stats.design import complete_rows, has_full_rank
from brainage_bids.stats.longitudinal import mixed_model
from brainage_bids.stats.region_contrasts import region_differences
from brainage_bids.stats.roc import roc
from brainage_bids.stats.site import site_effect


def people(n, **columns):
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(n)], "age": np.linspace(30, 70, n).round(2)})
    gap = rng.normal(0, 4, n).round(3)
    table = table.assign(sex=[*"FMFFMM"] * (n // 6) + [*"FMFFMM"][: n % 6], group="NC", bag_m=gap, bag_corrected_m=gap)
    return table.assign(**columns)


def test_errors_too_few_or_all_alike_have_no_interval():
    assert np.isnan(mean_interval(np.array([1.0, 2.0]), 1)[:2]).all()
    assert "fewer than 3" in mean_interval(np.array([1.0, 2.0]), 1)[2]
    assert "all errors are equal" in mean_interval(np.full(20, 2.5), 1)[2]
    many = np.random.default_rng(1).normal(5, 2, 2001)
    low, high, note = mean_interval(many, 1)
    margin = 1.959963984540054 * many.std(ddof=1) / math.sqrt(2001)
    assert (low, high) == pytest.approx((many.mean() - margin, many.mean() + margin))
    assert "normal CI" in note
    assert mean_interval(many[:2000], 1)[2] == ""


@pytest.mark.parametrize(
    ("sex", "gap", "status"),
    [
        (["F"] * 10 + ["M"] * 2, None, "insufficient_n"),
        (["F"] * 6 + ["M"] * 6, [1.0] * 6 + [3.0] * 6, "zero_variance"),
        (["F"] * 12, None, "skipped"),
    ],
)
def test_a_difference_between_the_sexes_that_cannot_be_tested(sex, gap, status):
    table = people(12, sex=sex)
    table = table.assign(bag_m=table["bag_m"] if gap is None else gap)
    table = table.assign(predicted_age_m=table["age"] + table["bag_m"])
    row = accuracy(table, ["m"], ["NC"]).set_index("subset").loc[SEX_DIFFERENCE]
    assert row["status"] == status
    assert np.isnan(row["bag_p"])
    if gap is not None:
        assert row["bag_mean"] == pytest.approx(2.0)


def test_a_covariate_that_is_no_column_is_named():
    with pytest.raises(UsageError, match=r"'eicv_ml' is no column of the table .*participant_id"):
        complete_rows(people(6), ["age", "eicv_ml"])


def test_rank_of_columns():
    assert has_full_rank(np.empty((5, 0)))
    assert not has_full_rank(np.ones((2, 3)))
    assert has_full_rank(np.array([[1.0, 1e-9], [1.0, 2e-9]]))  # scaled first
    assert not has_full_rank(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.5, 3.5]]))


def test_ancova_with_more_columns_than_people_and_with_no_spread_left():
    table = people(12, group=["NC"] * 6 + ["AD"] * 6)
    few = table.assign(site=list("ABCABCABCABC")).iloc[[0, 1, 2, 6, 7, 8]]
    row = groups.ancova(few[3:], few[:3], "bag_m", ["age", "sex", "site"])
    assert (row["status"], "degrees of freedom" in row["note"]) == ("insufficient_n", True)
    line = table.assign(bag_m=(table["age"] - 50) / 10 + 2.0 * (table["group"] == "AD"))
    row = groups.ancova(line[6:], line[:6], "bag_m", ["age"])
    assert (row["status"], "no residual spread" in row["note"]) == ("zero_variance", True)


def test_an_interaction_is_left_out_where_it_repeats_the_design():
    table = people(12, group=["NC"] * 6 + ["AD"] * 6)
    table.loc[table.index[6:], "age"] = 60.0  # the cases are of one age, so case x age is a mix of the other columns
    row = groups.ancova(table[6:], table[:6], "bag_m", ["age"])
    assert row["status"] == "ok"
    assert "p_interaction" not in row


def test_ages_of_one_person_are_not_compared():
    row = groups.age_balance(np.array([60.0]), np.array([50.0, 55.0, np.nan]))
    assert all(np.isnan(value) for value in row.values())


def test_an_effect_beyond_the_reach_of_the_noncentral_t_has_the_normal_interval():
    rng = np.random.default_rng(0)
    case, control = 1e6 + rng.normal(size=5), rng.normal(size=5)
    row, note = groups.hedges_g(case, control)
    assert note == "normal CI of g"
    m, d = 8, (case.mean() - control.mean()) / math.sqrt((case.var(ddof=1) + control.var(ddof=1)) / 2)
    factor = math.gamma(m / 2) / (math.sqrt(m / 2) * math.gamma((m - 1) / 2))
    margin = 1.959963984540054 * factor * math.sqrt(10 / 25 + d**2 / 20)
    assert row["hedges_g"] == pytest.approx(factor * d)
    assert row["g_ci_lo"] == pytest.approx(factor * d - margin)
    assert row["g_ci_hi"] == pytest.approx(factor * d + margin)


def test_a_partial_correlation_of_a_constant():
    table = people(20)
    row = partial_correlation(np.full(20, 3.0), table["bag_m"].to_numpy(), table[["age"]])
    assert (row["status"], row["n"]) == ("constant_input", 20)
    assert np.isnan(row["p"])


def sessions(**columns):
    table = pd.DataFrame({"participant_id": np.repeat([f"sub-{i}" for i in range(8)], 3), "time": [0.0, 1, 2] * 8})
    table = table.assign(group=np.repeat(["NC", "AD"], 12), bag=np.random.default_rng(2).normal(0, 3, 24))
    return table.assign(**columns)


def test_a_mixed_model_says_whom_it_leaves_out_and_which_terms_repeat():
    group = np.repeat(["NC", "AD"], 12).astype(object)
    group[:3] = None
    rows = mixed_model(sessions(group=group), ["NC"])
    assert {row["n"] for row in rows} == {7}
    assert all("1 people without group or covariate left out" in row["note"] for row in rows if row["term"] == "time")
    (row,) = mixed_model(sessions(twice=[0.0, 1, 2] * 8), ["NC"], ["twice"])
    assert (row["term"], row["status"]) == ("model", "rank_deficient")
    (row,) = mixed_model(sessions(bag=1.5), ["NC"])
    assert (row["term"], row["status"]) == ("model", "constant_input")


def test_regions_refuse_more_covariates_than_people_bear():
    values = pd.DataFrame(np.random.default_rng(3).normal(size=(14, 2)), columns=["a", "b"])
    is_case = np.arange(14) < 7
    some = np.random.default_rng(4).normal(size=(14, 10))
    assert set(region_differences(values, is_case, some)["status"]) == {"insufficient_n"}
    assert set(region_differences(values, is_case, some[:, :2])["status"]) == {"ok"}
    repeated = np.column_stack([is_case, some[:, 0]]).astype(float)
    assert set(region_differences(values, is_case, repeated)["status"]) == {"rank_deficient"}


def test_the_adjusted_roc_needs_controls_to_fit_the_line_in():
    table = people(12, group=["NC"] * 3 + ["AD"] * 9, sex=[*"FMF", *"MF" * 4, "M"])
    rows = roc(table, ["m"], ["NC"])
    note = rows[rows["status"] != "ok"]["note"].str.cat(sep=" ")
    assert "too few or too similar controls" in note


@pytest.mark.parametrize(
    ("site", "sex", "status", "words"),
    [
        ([*"AAABBBCCC"], [*"FMFFMMFMM"], "ok", "mean gaps"),
        ([*"AAAAABBBBB"], [*"FFFFFMMMMM"], "rank_deficient", "site repeats age or sex"),
    ],
)
def test_a_site_that_is_the_sex_cannot_be_told_from_it(site, sex, status, words):
    row = site_effect(people(len(site), site=site, sex=sex), ["m"], ["NC"]).iloc[0]
    assert row["status"] == status
    assert words in row["note"]
