import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from brainage_bids.errors import UsageError
from brainage_bids.result_tables import ACCURACY, MODELCOMPARISON
from brainage_bids.stats.accuracy import (
    accuracy,
    accuracy_of,
    compare_errors,
    mean_interval,
    model_comparison,
    one_sample_t,
)

PLAIN = "n mae ae_sd medae rmse r2 pearson_r spearman_rho bag_mean bag_sd bag_t bag_df bag_p".split()
SLOPE = "agebias_slope agebias_intercept agebias_p".split()


def check(row, want):
    for name in PLAIN + SLOPE:
        assert row[name] == pytest.approx(want[name], rel=1e-8), name
    assert [row["bag_ci_lo"], row["bag_ci_hi"]] == pytest.approx(want["bag_ci"], rel=1e-8)


@pytest.fixture(scope="module")
def result(tested):
    return accuracy(tested, ["a", "b"], ["NC"], {"a": 50.0}).set_index(["model", "subset"])


@pytest.mark.parametrize("model", ["a", "b"])
def test_every_reference_subset(result, expected, model):
    wanted = {f"group={g}": expected["accuracy"][f"{g}_test"][model] for g in ("NC", "AD", "PD")}
    names = {"20-40": "age=[20,40)", "40-60": "age=[40,60)", "60-80": "age=[60,80)", "80+": "age=[80,inf)"}
    wanted |= {names[b]: v for b, v in expected["age_bins_NC_test"][model].items()}
    wanted |= {f"sex={s}": v for s, v in expected["sex_NC_test"][model].items()}
    assert len(wanted) == 9
    for subset, want in wanted.items():
        check(result.loc[(model, subset)], want)
        assert result.loc[(model, subset), "status"] == "ok"


def test_validation_controls(reference_table, expected):
    part = reference_table[reference_table["split"] == "val"]
    for model in "ab":
        row = accuracy_of(part["age"], part[f"predicted_age_{model}"])
        check(row, expected["accuracy"]["NC_val"][model])


def test_sex_difference_is_male_minus_female(result, expected):
    want, row = expected["sex_difference_NC_bag_a"], result.loc[("a", "sex=M-F")]
    got = row[["bag_mean", "bag_t", "bag_df", "bag_p"]].to_list()
    assert got == pytest.approx([want["mean_M_minus_F"], want["welch_t"], want["welch_df"], want["p"]], rel=1e-8)


def test_site_means_are_within_controls(result, expected):
    for site, want in expected["site_effect_NC_bag_a"]["site_means"].items():
        row = result.loc[("a", f"site={site}")]
        assert [row["n"], row["bag_mean"], row["bag_sd"]] == pytest.approx(
            [want["n"], want["bag_mean"], want["bag_sd"]]
        )
        assert row["note"] == "within NC"


def test_mae_bootstrap_is_near_the_reference_and_repeatable(result, tested, expected):
    row, want = result.loc[("a", "group=NC")], expected["bootstrap_bca"]["NC_MAE_a"]
    assert [row["mae_ci_lo"], row["mae_ci_hi"]] == pytest.approx(want["ci"], abs=want["tolerance"])
    errors = np.abs(tested["bag_a"][tested["group"] == "NC"].to_numpy())
    assert mean_interval(errors, 3) == mean_interval(errors, 3) != mean_interval(errors, 4)


def test_a_model_has_the_same_row_alone_and_beside_others(tested):
    few = tested.assign(predicted_age_b=tested["predicted_age_b"].where(tested.index % 7 > 0))  # other people
    both = accuracy(few, ["a", "b"], ["NC"], {"a": 50.0}, seed=5)
    alone = [accuracy(few, [model], ["NC"], {"a": 50.0}, seed=5) for model in ("a", "b")]
    pd.testing.assert_frame_equal(both, pd.concat(alone, ignore_index=True), check_exact=True)


def test_the_interval_is_that_of_scipy():
    errors = np.abs(np.random.default_rng(1).normal(5, 3, 40))
    level = 1 - 2 * stats.norm.sf(np.sqrt(40 / 39) * stats.t.ppf(0.975, 39))
    draws = {"n_resamples": 10_000, "batch": 12_500, "confidence_level": level, "rng": np.random.default_rng(9)}
    expected = stats.bootstrap((errors,), np.mean, method="BCa", vectorized=True, **draws).confidence_interval
    assert mean_interval(errors, 9)[:2] == (expected.low, expected.high)


def test_mae_null_and_columns(tested):
    table = accuracy(tested, ["a"], ["NC"], {"a": 50.0})
    assert list(table.columns) == ACCURACY.columns
    assert table["n"].dtype == "int64"
    ages = tested["age"][tested["group"] == "NC"]
    assert table.set_index("subset").loc["group=NC", "mae_null"] == pytest.approx(sum(abs(ages - 50)) / len(ages))


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 90, 40)
    predicted = age + rng.normal(0, 5, 40)
    row = accuracy_of(age, predicted)
    assert row["r2"] == pytest.approx(metrics.r2_score(age, predicted))
    assert row["rmse"] == pytest.approx(metrics.root_mean_squared_error(age, predicted))


def test_perfect_predictions_have_no_error_and_no_test():
    row = accuracy_of([30.1, 40.2, 50.3], [30.1, 40.2, 50.3])
    assert (row["mae"], row["r2"], row["status"]) == (0.0, 1.0, "zero_variance")
    assert np.isnan([row["bag_t"], row["bag_p"], row["mae_ci_lo"]]).all()


def test_constant_shift_of_uneven_ages_is_constant_despite_rounding():
    age = np.array([30.1, 40.2, 55.7, 81.9])
    assert accuracy_of(age, age + 1.1)["status"] == "zero_variance"


def test_equal_ages_have_no_r2(edge_cases):
    case = edge_cases["r2_constant_age"]
    row = accuracy_of(case["y"], case["pred"])
    assert row["status"] == case["expect"]["status"]
    assert "r2" not in row
    assert row["mae"] == pytest.approx(4 / 3)
    assert "all ages are equal" in row["note"]


def test_negative_r2_stays(edge_cases):
    case = edge_cases["r2_negative"]
    row = accuracy_of(case["y"], case["pred"])
    assert row["r2"] == pytest.approx(case["expect"]["r2"])
    assert "all predictions are equal" in row["note"]


@pytest.mark.parametrize("name", ["ttest_n1", "ttest_constant"])
def test_one_sample_edges(edge_cases, name):
    got, want = one_sample_t(edge_cases[name]["x"]), edge_cases[name]["expect"]
    assert got["status"] == want["status"]
    assert np.isnan([got["t"], got["p"]]).all()
    if "sd" in want:
        assert (got["mean"], got["sd"]) == (want["mean"], want["sd"])


def test_two_people_give_only_n_and_mae():
    row = accuracy_of([30.0, 40.0, 50.0], [33.0, 41.0, np.nan])
    assert row == {"n": 2, "n_missing": 1, "mae": 2.0, "status": "insufficient_n", "note": "fewer than 3 people"}


def test_without_controls_everyone_is_used_and_said(tested):
    table = accuracy(tested[tested["group"] == "AD"], ["a"], ["NC"]).set_index("subset")
    assert table.loc["sex=F", "note"].startswith("within everyone")
    assert table.loc["age=[20,40)", ["n", "status"]].tolist() == [0, "insufficient_n"]
    assert table.loc["all", "mae"] == pytest.approx(table.loc["group=AD", "mae"], rel=1e-12)


def test_several_control_labels_have_a_row_of_their_own(tested):
    table = tested.copy()
    healthy = table["group"] == "NC"
    table.loc[healthy & (np.arange(len(table)) % 7 == 0), "group"] = "HC"
    rows = accuracy(table, ["a"], ["NC", "HC"]).set_index("subset")
    pooled, whole = rows.loc["group=HC+NC"], accuracy(tested, ["a"], ["NC"]).set_index("subset").loc["group=NC"]
    assert pooled[["n", "mae", "bag_mean"]].tolist() == whole[["n", "mae", "bag_mean"]].tolist()
    assert "group=HC+NC" not in accuracy(tested, ["a"], ["NC", "HC"]).set_index("subset").index
    assert "group=HC+NC" in set(model_comparison(table, ["a", "b"], ["NC", "HC"])["subset"])


def test_under_twenty_only_when_present(tested):
    assert "age=<20" not in set(accuracy(tested, ["a"], ["NC"])["subset"])
    younger = tested.assign(age=tested["age"].where(tested.index != tested.index[0], 19.99))
    table = accuracy(younger, ["a"], ["NC"]).set_index("subset")
    assert table.loc["age=<20", "n"] == 1


def test_one_sex_skips_the_difference(tested):
    table = accuracy(tested[tested["sex"] == "F"], ["a"], ["NC"]).set_index("subset")
    assert table.loc["sex=M-F", "status"] == "skipped"
    assert "sex=M" not in table.index


def test_unknown_model_raises(tested):
    with pytest.raises(UsageError, match="no column 'predicted_age_c'"):
        accuracy(tested, ["c"], ["NC"])


def test_large_samples_take_the_normal_interval():
    values = np.random.default_rng(1).exponential(4, 2500)
    low, high, note = mean_interval(values, 0)
    boot = stats.bootstrap((values,), np.mean, n_resamples=2000, batch=100, rng=np.random.default_rng(0))
    assert "n > 2000" in note
    assert (low, high) == pytest.approx(tuple(boot.confidence_interval), abs=0.03)


@pytest.mark.parametrize("subset", ["group=NC", "split=test"])
def test_paired_comparison(tested, expected, subset):
    table = model_comparison(tested, ["a", "b"], ["NC"])
    assert list(table.columns) == MODELCOMPARISON.columns
    row, want = table.set_index("subset").loc[subset], expected["paired_abs_error_NC_test"]
    names = {"mae_diff": "mean_diff_a_minus_b", "wilcoxon_w": "wilcoxon_W", "wilcoxon_p": "wilcoxon_p_approx"}
    for name in "n mae_diff t df p dz wilcoxon_w wilcoxon_p".split():
        assert row[name] == pytest.approx(want[names.get(name, name)], rel=1e-8), name
    assert [row["ci_lo"], row["ci_hi"]] == pytest.approx(want["ci"], rel=1e-8)


def test_comparison_uses_the_intersection_and_refuses_equal_errors():
    a, b = np.array([1.0, 2.0, np.nan, 4.0]), np.array([2.0, np.nan, 3.0, 1.0])
    assert compare_errors(a, b)["n"] == 2
    assert compare_errors(a, b)["status"] == "insufficient_n"
    assert compare_errors(np.arange(5.0), np.arange(5.0) + 1)["status"] == "zero_variance"


def test_ten_thousand_people_three_models_stay_fast():
    rng = np.random.default_rng(2)
    age = rng.uniform(18, 95, 10_000)
    table = pd.DataFrame({"age": age, "sex": rng.choice(["F", "M"], 10_000), "group": rng.choice(["CN", "AD"], 10_000)})
    table["site"] = rng.choice(list("ABCDEF"), 10_000)
    for model in "abc":
        table[f"predicted_age_{model}"] = age + rng.normal(0, 5, 10_000)
    start = time.process_time()
    accuracy(table, list("abc"), ["CN"])
    assert time.process_time() - start < 60  # of the processor: others may use the machine, too


def test_interval_of_a_mean_of_few_values_covers_as_it_says(monkeypatch):
    monkeypatch.setattr("brainage_bids.stats.accuracy.N_RESAMPLES", 1500)
    truth, covered = 5 * np.sqrt(2 / np.pi), 0
    for study in range(400):
        low, high, _ = mean_interval(np.abs(np.random.default_rng([8, study]).normal(0, 5, 10)), study)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.975  # 0.90 with resamples taken as they are


def test_without_controls_the_sexes_of_everyone_are_compared(tested):
    row = accuracy(tested, ["a"], []).set_index("subset").loc["sex=M-F"]
    want = stats.ttest_ind(*(tested["bag_a"][tested["sex"] == sex] for sex in "MF"), equal_var=False)
    assert (row["n"], row["bag_p"]) == (len(tested), pytest.approx(want.pvalue))
