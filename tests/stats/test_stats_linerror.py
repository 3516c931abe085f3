"""Intervals of corrected gaps that count the error of the age-bias line."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from brainage_bids.stats import bias, linerror
from brainage_bids.stats.groups import group_differences, welch
from brainage_bids.stats.roc import area, line_interval, roc

LINE = {"method": "beheshti", "slope": 0.8, "slope_se": 0.05, "n": 52, "age_mean": 50.0, "residual_sd": 5.0}
MARGIN = stats.t.ppf(0.975, 50) * 0.05
ROW = {"mean_diff": 3.0, "ci_lo": 1.0, "ci_hi": 5.5, "hedges_g": 0.6, "g_ci_lo": 0.2, "g_ci_hi": 1.1}


def test_margins_are_joined_as_roots_of_squares():
    assert linerror.joined_margins(10.0, 7.0, 22.0, 4.0) == pytest.approx((5.0, 10.0 + math.hypot(12.0, 4.0)))
    assert linerror.joined_margins(1.0, 0.5, 2.0, 0.0) == (0.5, 2.0)


def test_a_difference_moves_by_the_error_of_the_slope_times_the_difference_in_age():
    found = linerror.of_difference(LINE, -20.0, ROW)
    added = 20 * MARGIN
    assert found["line_ci_lo"] == pytest.approx(3 - math.hypot(2.0, added))
    assert found["line_ci_hi"] == pytest.approx(3 + math.hypot(2.5, added))
    # g is the difference over an SD of 5 years
    assert found["line_g_ci_lo"] == pytest.approx(0.6 - math.hypot(0.4, added / 5))
    assert found["line_g_ci_hi"] == pytest.approx(0.6 + math.hypot(0.5, added / 5))


def test_groups_of_one_age_need_no_line():
    found = linerror.of_difference(LINE, 0.0, ROW)
    assert (found["line_ci_lo"], found["line_ci_hi"]) == pytest.approx((1.0, 5.5))


def test_an_offset_cancels_between_groups_and_without_a_line_there_is_no_interval():
    assert linerror.of_difference({"method": "offset"}, 20.0, ROW)["line_ci_lo"] == pytest.approx(1.0)
    assert all(math.isnan(v) for v in linerror.of_difference(linerror.NONE, 20.0, ROW).values())
    assert all(math.isnan(v) for v in linerror.of_mean(linerror.NONE, np.array([60.0]), 1, 0, 2).values())


def test_coles_form_also_scales_with_the_slope():
    """The margin is what the difference changes when the slope moves to either end of its interval."""
    rng = np.random.default_rng(1)
    ages = rng.uniform(60, 90, 40), rng.uniform(20, 90, 60)
    predicted = [10 + 0.8 * age + rng.normal(size=age.size) for age in ages]

    def difference(slope):
        case, control = ((p - 10) / slope - age for p, age in zip(predicted, ages, strict=True))
        return case.mean() - control.mean()

    step = 1e-6
    wanted = abs(difference(0.8 + step) - difference(0.8 - step)) / (2 * step) * MARGIN
    row = ROW | {"mean_diff": difference(0.8), "ci_lo": difference(0.8), "ci_hi": difference(0.8)}
    found = linerror.of_difference({**LINE, "method": "cole"}, ages[0].mean() - ages[1].mean(), row)
    assert found["line_ci_hi"] - row["mean_diff"] == pytest.approx(wanted, rel=1e-5)


def test_the_mean_of_patients_moves_like_the_line_at_their_mean_age():
    rng = np.random.default_rng(2)
    age = rng.uniform(20, 80, 40)
    predicted = 8 + 0.85 * age + rng.normal(0, 5, 40)
    line = dataclasses.asdict(bias.fit_line(age, predicted))
    found = linerror.of_mean(line, np.array([70.0, 80.0]), 2.0, 2.0, 2.0)
    told = sm.OLS(predicted, sm.add_constant(age)).fit().get_prediction([[1.0, 75.0]]).conf_int()[0]
    assert found["line_ci_hi"] - found["line_ci_lo"] == pytest.approx(told[1] - told[0])


def test_the_mean_corrected_by_an_offset():
    line = {"method": "offset", "n": 10, "residual_sd": 4.0, "age_mean": 60.0, "slope": 1.0}
    found = linerror.of_mean(line, np.array([30.0]), 0.0, 0.0, 0.0)
    assert found["line_ci_hi"] == pytest.approx(stats.t.ppf(0.975, 9) * 4 / math.sqrt(10))


def test_an_area_moves_by_what_the_ends_of_the_slope_make_of_it():
    rng = np.random.default_rng(3)
    gaps, ages = (rng.normal(3, 5, 40), rng.normal(0, 5, 60)), (rng.uniform(60, 90, 40), rng.uniform(20, 90, 60))
    row = area(*gaps)
    found = line_interval(row, gaps, ages, LINE)
    ends = [area(gaps[0] + s * MARGIN * ages[0], gaps[1] + s * MARGIN * ages[1])["auc"] for s in (-1, 1)]
    added = (ends[1] - ends[0]) / 2
    assert added > 0.02
    assert found["line_ci_lo"] == pytest.approx(row["auc"] - math.hypot(row["auc"] - row["ci_lo"], added))
    assert found["line_ci_hi"] == pytest.approx(min(1.0, row["auc"] + math.hypot(row["ci_hi"] - row["auc"], added)))
    assert line_interval(row, gaps, ages, linerror.NONE) == {}


def study(rng, effect=3.0):
    """Return corrected gaps and ages of patients and controls, and the line that people apart from them gave."""

    def people(n, low, gap):
        age = rng.uniform(low, 90, n)
        return pd.DataFrame({"age": age, "predicted_age": 7.5 + gap + 0.85 * age + rng.normal(0, 5, n)})

    case, control, held = people(60, 60, effect), people(150, 20, 0.0), people(80, 20, 0.0)
    line = bias.fit_line(held["age"], held["predicted_age"])
    for part in (case, control):
        part["bag_a"] = part["predicted_age"] - part["age"]
        part["bag_corrected_a"] = bias.corrected_bag(line, part["age"], part["bag_a"])
    return case, control, dataclasses.asdict(line)


def test_the_interval_with_the_line_holds_the_truth_and_the_one_without_too_rarely():
    rng = np.random.default_rng(4)
    exact, counted = [], []
    for _ in range(1500):
        case, control, line = study(rng)
        row = welch(case["bag_corrected_a"], control["bag_corrected_a"])
        exact.append(row["ci_lo"] <= 3 <= row["ci_hi"])
        row |= linerror.of_difference(line, case["age"].mean() - control["age"].mean(), row)
        counted.append(row["line_ci_lo"] <= 3 <= row["line_ci_hi"])
    assert np.mean(exact) < 0.92
    assert 0.94 < np.mean(counted) < 0.965


def test_the_tables_hold_it_for_corrected_gaps_only():
    case, control, line = study(np.random.default_rng(5))
    table = pd.concat([case.assign(group="AD"), control.assign(group="NC")], ignore_index=True).assign(sex="F")
    differences = group_differences(table, ["a"], ["NC"], lines={"a": line}).set_index("variant")
    row = differences.loc["corrected"]
    assert row.line_ci_lo < row.ci_lo < row.mean_diff < row.ci_hi < row.line_ci_hi
    assert row.line_g_ci_lo < row.g_ci_lo < row.g_ci_hi < row.line_g_ci_hi
    assert differences.drop("corrected")[["line_ci_lo", "line_g_ci_hi"]].isna().all(axis=None)
    areas = roc(table, ["a"], ["NC"], {"a": line}).set_index("variant")
    row = areas.loc["corrected"]
    assert row.line_ci_lo < row.ci_lo < row.auc < row.ci_hi < row.line_ci_hi
    assert areas.drop("corrected")[["line_ci_lo", "line_ci_hi"]].isna().all(axis=None)


def test_patients_without_controls_have_it_too():
    case, _, line = study(np.random.default_rng(6))
    row = group_differences(case.assign(group="AD", sex="F"), ["a"], [], lines={"a": line}).set_index("variant")
    row = row.loc["corrected:one-sample"]
    assert row.line_ci_lo < row.ci_lo < row.mean_diff < row.ci_hi < row.line_ci_hi


def test_the_mean_by_coles_form_is_in_units_of_the_slope():
    """At the mean age, where the gap is 0, an error of the slope moves nothing: the level alone is left."""
    line = {"method": "cole", "n": 12, "residual_sd": 3.0, "age_mean": 60.0, "slope": 0.5, "slope_se": 0.1}
    found = linerror.of_mean(line, np.array([60.0]), 0.0, 0.0, 0.0)
    assert found["line_ci_hi"] == pytest.approx(stats.t.ppf(0.975, 10) * 3 / math.sqrt(12) / 0.5)
