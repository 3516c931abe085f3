import numpy as np
import pandas as pd
import pytest

from brainage_bids.result_tables import CALIBRATION
from brainage_bids.stats.bias import correct_with_calibration
from brainage_bids.stats.conformal import NOT_COVERED, calibrated, coverage


def people(n, seed=0, noise=4.0):
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 90, n)
    return pd.DataFrame({"age": age, "predicted_age": 0.8 * age + 11 + rng.normal(0, noise, n), "fold": None})


@pytest.mark.parametrize("model", ["a", "b"])
def test_reference(reference_table, expected, model):
    rows = reference_table.assign(predicted_age=reference_table[f"predicted_age_{model}"], fold=None)
    found = calibrated(rows, rows[rows["split"] == "val"])
    test = (rows["split"] == "test").to_numpy()
    table = coverage({model: found[test]}, rows["group"][test] == "NC").set_index("level")
    assert list(table.reset_index()[CALIBRATION.columns].columns) == CALIBRATION.columns
    for level in (95, 90, 80):
        want = expected["conformal"][f"bagc_beheshti_{model}:{level / 100:.2f}"]
        got = table.loc[level]
        assert got["half_width"] == pytest.approx(want["half_width"], rel=1e-9)
        assert got["coverage"] == pytest.approx(want["test_coverage"])
        assert (got["n_calibration"], got["n_controls"], got["status"]) == (60, 60, "ok")


def test_wilson_interval_by_its_formula():
    rows = people(40, seed=1)
    row = coverage({"m": calibrated(rows, people(60))}, np.ones(40, bool)).set_index("level").loc[80]
    n, share, z = 40, row["coverage"], 1.959963984540054
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert [row["wilson_lo"], row["wilson_hi"]] == pytest.approx([middle - half, middle + half])


def test_p_is_the_share_of_calibration_people_that_look_as_old():
    healthy, rows = people(30), people(8, seed=3)
    rows.loc[7, "predicted_age"] = 500.0
    rows.loc[6, "age"] = np.nan
    found = calibrated(rows, healthy)
    own = correct_with_calibration(healthy, healthy)["bag_corrected"].to_numpy()
    gap = correct_with_calibration(rows, healthy)["bag_corrected"].to_numpy()
    want = [np.nan if np.isnan(g) else (1 + sum(own >= g)) / 31 for g in gap]
    np.testing.assert_allclose(found["conformal_p"], want)
    assert found["conformal_p"].iloc[7] == 1 / 31
    assert np.isnan(found["conformal_p"].iloc[6])


def test_nobody_calibrates_the_own_fold():
    data = people(60)
    data["fold"] = np.arange(60) % 3
    before = calibrated(data, data)
    assert (before["n_calibration"] == 40).all()
    moved = data.copy()
    moved.loc[data["fold"] == 1, "predicted_age"] += 100.0  # changes what calibrates the others, not fold 1 itself
    after = calibrated(data, moved)
    own = (data["fold"] == 1).to_numpy()
    pd.testing.assert_frame_equal(before[own], after[own])
    assert (before.loc[~own, "half_width_95"] != after.loc[~own, "half_width_95"]).all()
    assert "each fold" in coverage({"m": before}, np.ones(60, bool))["note"].iloc[0]


def test_p_is_uniform_and_coverage_holds_in_people_like_them():
    """200 studies: mean p 0.5, and on average the promised share lies in the interval."""
    shares, ps = [], []
    for seed in range(200):
        found = calibrated(people(40, seed=1000 + seed), people(60, seed=seed))
        ps.append(found["conformal_p"].mean())
        shares.append((found["residual"].abs() <= found["half_width_90"]).mean())
    assert np.mean(ps) == pytest.approx(0.5, abs=0.02)
    assert np.mean(shares) == pytest.approx(0.9, abs=0.02)


def test_controls_unlike_the_calibration_people_are_warned_of():
    table = coverage({"m": calibrated(people(40, seed=2, noise=15.0), people(60))}, np.ones(40, bool))
    assert (table["note"] == NOT_COVERED).all()
    fine = coverage({"m": calibrated(people(40, seed=2), people(60))}, np.ones(40, bool))
    assert NOT_COVERED not in set(fine["note"])


def test_what_cannot_be_computed_keeps_its_row():
    ten = coverage({"m": calibrated(people(5), people(10))}, np.ones(5, bool)).set_index("level")
    assert ten.loc[95, "status"] == "insufficient_n"
    assert ten.loc[95, "note"] == "10 calibration people, 95 % needs 19"
    assert ten.loc[90, "status"] == "ok"
    assert len(ten.loc[95].dropna()) == 5  # model, both counts, status and note
    nobody = ("no_controls", "no control with a corrected gap is in the tests")
    for found, (status, note) in (
        (coverage({"m": calibrated(people(5), people(30))}, np.zeros(5, bool)), nobody),
        (coverage({"m": None}, np.ones(5, bool)), ("skipped", "no age-bias line")),
    ):
        assert found["level"].tolist() == [95, 90, 80]
        assert (found["status"] == status).all()
        assert (found["note"] == note).all()
        assert (found[["n_calibration", "n_controls"]] == 0).all(axis=None)
        assert found[["half_width", "covered", "coverage", "wilson_lo", "wilson_hi"]].isna().all(axis=None)
    assert set(coverage({"m": calibrated(people(5), people(2))}, np.ones(5, bool))["status"]) == {"no_controls"}
