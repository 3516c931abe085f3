"""The error within and across sites, against the same numbers made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from brainage_bids.stats.accuracy import mean_interval
from brainage_bids.stats.siteerror import ALONE, site_errors

PAIRS = [("far", "near")]
SHIFT = {"A": -3.0, "B": 6.0, "C": 0.0}  # years


@pytest.fixture
def people():
    """Sixty controls and twenty patients at three sites; model far is moved by the site, model near is not."""
    rng = np.random.default_rng(4)
    site = np.resize(list("ABC"), 80)
    table = pd.DataFrame({"age": rng.uniform(20, 90, 80), "group": ["CN"] * 60 + ["AD"] * 20, "site": site})
    near = table.age + rng.normal(0, 5, 80)
    table["predicted_age_near"] = near
    table["predicted_age_far"] = near + [SHIFT[one] for one in site] + rng.normal(0, 1, 80)
    return table.set_index(pd.Index([f"sub-{i:02d}" for i in range(80)], name="prefix"))


@pytest.fixture
def held_out(people):
    """Everybody is held out by a member of each model, but for one control by near and one by far."""
    far = pd.DataFrame({"prefix": people.index, "model": "far", "place": "site=" + people.site.to_numpy()})
    far["train_mean_age"] = people.site.map({"A": 50.0, "B": 55.0, "C": 60.0}).to_numpy()
    far["n_train"] = people.site.map({"A": 30, "B": 36, "C": 33}).to_numpy()
    near = far.assign(model="near", place=None, train_mean_age=54.0, n_train=np.nan)
    return pd.concat([far.drop(index=1), near.drop(index=0)], ignore_index=True)


def rows_of(people, held_out, pairs=PAIRS, controls=("CN",)):
    return site_errors(people, held_out, pairs, controls).set_index(["subset", "kind"])


@pytest.mark.parametrize("place", ["site=A", "all"])
def test_rows_are_what_one_counts_by_hand(people, held_out, place):
    found = rows_of(people, held_out)
    healthy = people[people.group == "CN"]
    far = healthy.drop(index="sub-01")
    mean = far.site.map({"A": 50.0, "B": 55.0, "C": 60.0})
    far = far[(far.site == "A") | (place == "all")]
    gap = far.predicted_age_far - far.age
    row = found.loc[(place, "across")]
    assert (row["left_out_by"], row["model"], row["n"], row["n_missing"]) == ("far", "far", len(far), 0)
    assert row["mae"] == pytest.approx(gap.abs().mean())
    assert (row["mae_ci_lo"], row["mae_ci_hi"]) == pytest.approx(
        mean_interval(gap.abs().to_numpy(), 20251127)[:2], rel=0.02
    )
    assert row["mae_null"] == pytest.approx((far.age - mean[far.index]).abs().mean())
    ends = stats.t.interval(0.95, len(gap) - 1, gap.mean(), stats.sem(gap))
    assert (row["bag_mean"], row["bag_ci_lo"], row["bag_ci_hi"]) == pytest.approx((gap.mean(), *ends))
    assert row["pearson_r"] == pytest.approx(np.corrcoef(far.age, far.predicted_age_far)[0, 1])
    assert row["trained_on"] == pytest.approx(far.site.map({"A": 30, "B": 36, "C": 33}).mean())
    near = far.drop(index="sub-00")
    row = found.loc[(place, "within")]
    assert np.isnan(row["trained_on"])
    assert (row["model"], row["n"], row["n_missing"], row["n_both"]) == ("near", len(near), 1, len(near))
    assert row["mae"] == pytest.approx((near.predicted_age_near - near.age).abs().mean())
    assert row["mae_null"] == pytest.approx((near.age - 54.0).abs().mean())
    errors = [(near[f"predicted_age_{name}"] - near.age).abs() for name in ("far", "near")]
    paired = stats.ttest_rel(*errors)
    assert row["mae_diff"] == pytest.approx((errors[0] - errors[1]).mean())
    assert row["p"] == pytest.approx(paired.pvalue)
    assert (row["ci_lo"], row["ci_hi"]) == pytest.approx(tuple(paired.confidence_interval()))
    moved = near.predicted_age_far - near.predicted_age_near
    ends = stats.t.interval(0.95, len(moved) - 1, moved.mean(), stats.sem(moved))
    assert (row["shift"], row["shift_ci_lo"], row["shift_ci_hi"]) == pytest.approx((moved.mean(), *ends))


def test_a_planted_shift_of_a_scanner_is_found(people, held_out):
    found = rows_of(people, held_out)
    for site, shift in SHIFT.items():
        row = found.loc[(f"site={site}", "within")]
        assert row["shift"] == pytest.approx(shift, abs=0.8)  # 20 people, SD 1: three standard errors
        assert row["shift_ci_hi"] - row["shift_ci_lo"] < 2  # the people are the same: their own scatter falls out
    assert found.loc[("site=B", "within"), "ci_lo"] > 0
    assert found.loc[("all", "within"), "mae_diff"] > 0
    assert found.index.get_level_values("subset").unique().tolist() == ["all", "site=A", "site=B", "site=C"]


def test_patients_enter_only_where_there_are_no_controls(people, held_out):
    moved = people.assign(predicted_age_far=people.predicted_age_far.where(people.group == "CN", 0.0))
    assert rows_of(moved, held_out)["mae"].equals(rows_of(people, held_out)["mae"])
    assert "controls only (CN)" in rows_of(people, held_out)["note"].iloc[0]
    everyone = rows_of(people, held_out, controls=())
    assert everyone.loc[("all", "across"), "n"] == 79
    assert "everyone, no controls" in everyone["note"].iloc[0]


def test_without_a_model_to_compare_with_the_rows_say_so(people, held_out):
    found = rows_of(people, held_out, pairs=[])
    assert set(found.index.get_level_values("kind")) == {"across"}
    assert ALONE in found.loc[("all", "across"), "note"]
    assert ALONE not in found.loc[("site=A", "across"), "note"]
    assert "another one may be farther off" in found.loc[("all", "across"), "note"]


def test_models_that_leave_nothing_out_give_no_rows(people, held_out):
    assert site_errors(people, held_out[held_out.model == "near"], PAIRS, ["CN"]).empty
    assert site_errors(people, held_out.iloc[:0], [], ["CN"]).empty


def test_a_place_of_two_people_stays_with_a_status(people, held_out):
    few = held_out.assign(place=held_out.place.where(~held_out.prefix.isin(["sub-02", "sub-05"]), "site=D"))
    few.loc[few.model == "near", "place"] = None
    row = rows_of(people, few).loc[("site=D", "within")]
    assert (row["n"], row["status"]) == (2, "insufficient_n")
    assert np.isfinite([row["mae"], row["mae_null"], row["mae_diff"], row["shift"]]).all()
    assert np.isnan([row["p"], row["mae_ci_lo"]]).all()


def test_two_models_within_stand_below_each_other(people, held_out):
    other = held_out[held_out.model == "near"].assign(model="also")
    table = people.assign(predicted_age_also=people.predicted_age_near + 1)
    found = site_errors(table, pd.concat([held_out, other]), [*PAIRS, ("far", "also")], ["CN"])
    rows = found[found.subset == "all"]
    assert rows[["kind", "model"]].values.tolist() == [["across", "far"], ["within", "near"], ["within", "also"]]
    assert rows["shift"].iloc[2] == pytest.approx(rows["shift"].iloc[1] - 1)
