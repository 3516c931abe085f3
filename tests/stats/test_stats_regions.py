import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from references import REFERENCE

from brainage_bids.bids.files import numbers, read_tsv
from brainage_bids.stats import region_contrasts
from brainage_bids.stats.region_contrasts import saliency_contrasts


@pytest.fixture
def wide():
    table = read_tsv(REFERENCE / "reference_regions.tsv")
    table["mean"] = numbers(table["mean"])
    values = table.pivot_table(index="participant_id", columns="region", values="mean", sort=False)
    group = table.drop_duplicates("participant_id").set_index("participant_id")["group"][values.index]
    return values, (group == "AD").to_numpy()


def test_the_tests_match_the_reference(wide, expected):
    values, is_case = wide
    want = expected["regions"]
    found = region_contrasts.region_differences(values[want["regions"]], is_case)
    for column, key in (("mean_diff", "diff"), ("t", "welch_t"), ("df", "welch_df"), ("p", "p"), ("q_fdr", "q_bh")):
        np.testing.assert_allclose(found[column], want[key], rtol=1e-8, err_msg=column)
    np.testing.assert_allclose(found["p_perm"], want["p_perm"], atol=0.012)
    np.testing.assert_allclose(found["p_fwe"], want["p_perm_fwe_maxT"], atol=0.015)
    assert set(found["n_case"]) == {want["n_ad"]}
    assert set(found["status"]) == {"ok"}


def test_relabelled_welch_is_welch(wide):
    from scipy import stats

    values, is_case = wide
    data = values.to_numpy()
    order = np.random.default_rng(0).permutation(len(data))
    fast = region_contrasts._welch_t(data, is_case[order][None].astype(float))[0]
    slow = stats.ttest_ind(data[is_case[order]], data[~is_case[order]], equal_var=False).statistic
    np.testing.assert_allclose(fast, slow, rtol=1e-10)


def test_with_covariates_it_is_ols_and_freedman_lane(wide):
    values, is_case = wide
    rng = np.random.default_rng(1)
    age = rng.uniform(50, 80, len(values))
    data = values.to_numpy() + 0.01 * age[:, None]
    found = region_contrasts.region_differences(pd.DataFrame(data, columns=values.columns), is_case, age[:, None], 200)
    design = np.column_stack([np.ones(len(age)), is_case, age])
    for i in (0, 5):
        fit = sm.OLS(data[:, i], design).fit()
        assert found.loc[i, "t"] == pytest.approx(fit.tvalues[1], rel=1e-9)
        assert found.loc[i, "p"] == pytest.approx(fit.pvalues[1], rel=1e-8)
        assert found.loc[i, "mean_diff"] == pytest.approx(fit.params[1], rel=1e-9)
    order = rng.permutation(len(age))  # the literal recipe: fit without the group, shuffle the residuals, fit again
    reduced = sm.OLS(data[:, 0], design[:, [0, 2]]).fit()
    slow = sm.OLS(reduced.fittedvalues + reduced.resid[order], design).fit().tvalues[1]
    fast = region_contrasts._freedman_lane_t(data, is_case, age[:, None], order[None])[0, 0]
    assert fast == pytest.approx(slow, rel=1e-9)


def test_a_planted_region_is_found_and_the_others_are_not():
    rng = np.random.default_rng(2)
    is_case = np.arange(60) < 30
    values = pd.DataFrame(rng.normal(size=(60, 40)), columns=[f"r{i}" for i in range(40)])
    values.loc[is_case, "r7"] += 2.0
    found = region_contrasts.region_differences(values, is_case, permutations=500).set_index("region")
    assert found.loc["r7", "p_fwe"] == pytest.approx(1 / 501)
    assert found.drop("r7")["p_fwe"].min() > 0.05


def test_the_family_wise_error_is_what_it_says():
    """200 studies without any difference: the smallest corrected p is below 0.05 in about 5 % of them."""
    rng = np.random.default_rng(3)
    is_case = np.arange(30) < 12
    smallest = [
        region_contrasts.region_differences(
            pd.DataFrame(rng.normal(size=(30, 8))), is_case, permutations=200, seed=i
        ).p_fwe.min()
        for i in range(200)
    ]
    assert 0.01 <= np.mean(np.array(smallest) <= 0.05) <= 0.10


def test_empty_regions_and_small_groups_keep_their_rows(wide):
    values, is_case = wide
    gone = values.assign(Nowhere=np.nan)
    found = region_contrasts.region_differences(gone, is_case, permutations=50).set_index("region")
    assert found.loc["Nowhere", "status"] == "constant_input"
    assert np.isnan(found.loc["Nowhere", "p"])
    assert (found.drop("Nowhere")["status"] == "ok").all()
    few = region_contrasts.region_differences(values, np.arange(len(values)) < 4, permutations=50)
    assert set(few["status"]) == {"insufficient_n"}
    same = region_contrasts.region_differences(values, is_case, is_case[:, None].astype(float), 50)
    assert set(same["status"]) == {"rank_deficient"}


def test_the_same_seed_gives_the_same_numbers(wide):
    values, is_case = wide
    one, two = (region_contrasts.region_differences(values, is_case, permutations=300) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_contrasts_hold_age_and_sex_as_a_regression_does():
    rng = np.random.default_rng(9)
    n = 40
    records = pd.DataFrame({"age": rng.uniform(60, 80, n), "sex": rng.choice(["F", "M"], n),
                            "group": ["CN"] * 20 + ["AD"] * 20})  # fmt: skip
    values = rng.normal(0.5, 0.1, (n, 1)) + 0.1 * (records["sex"] == "M").to_numpy()[:, None]
    found = saliency_contrasts(records, values, {7: "a"}, "m", ["CN"]).set_index(["contrast", "variant"])
    male, case = (records["sex"] == "M").to_numpy(float), (records["group"] == "AD").to_numpy(float)
    ones, healthy = np.ones(n), case == 0
    both = sm.OLS(values[:, 0], np.column_stack([ones, case, records["age"], male])).fit()
    sexes = sm.OLS(values[healthy, 0], np.column_stack([ones, male, records["age"]])[healthy]).fit()
    for key, fit in ((("AD-CN", "adjusted:age+sex"), both), (("M-F", "adjusted:age"), sexes)):
        row = found.loc[key]
        assert row[["mean_diff", "t", "df", "p"]].tolist() == pytest.approx(
            [fit.params[1], fit.tvalues[1], fit.df_resid, fit.pvalues[1]]
        )
        assert row[["index", "region", "status", "note"]].tolist() == [7, "a", "ok", "10000 permutations"]
        assert row["family"] == f"regions:{key[0]}:m"
    assert found["family"].tolist().count("sensitivity") == 2
    assert found.loc[[("AD-CN", "raw"), ("M-F", "raw")], "q_fdr"].isna().all()
    assert found["n_case"].tolist() == [20, 20, int(male[healthy].sum()), int(male[healthy].sum())]


def test_a_relabelling_as_extreme_as_the_data_counts_whatever_rounding_says():
    """Five against five fully apart: 2 of the 252 relabellings are as extreme."""
    values = pd.DataFrame({"one": np.r_[np.arange(5.0) / 3, 10 + np.arange(5.0) / 7]})
    found = region_contrasts.region_differences(values, np.arange(10) < 5, permutations=4000).iloc[0]
    assert found["p_perm"] == pytest.approx(2 / 252, rel=0.5)
