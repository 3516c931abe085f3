import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from brainage_bids.errors import BadDataError
from brainage_bids.stats import bias


def crossfit_controls(*args, **kwargs):
    rows, calibration = bias.crossfit_folds(*args, **kwargs)
    line = bias.fit_line(calibration["age"], calibration["predicted_age"], "controls_crossfit")
    return bias.correct_with_calibration(rows, calibration), line


def people(n=60, seed=0, slope=0.8, low=20, high=90, noise=4.0):
    rng = np.random.default_rng(seed)
    age = rng.uniform(low, high, n)
    return pd.DataFrame({"age": age, "predicted_age": slope * age + 11 + rng.normal(0, noise, n), "fold": None})


@pytest.mark.parametrize("model", ["a", "b"])
def test_reference_line(reference_table, expected, model):
    val = reference_table[reference_table["split"] == "val"]
    line, want = bias.fit_line(val["age"], val[f"predicted_age_{model}"]), expected["bias"][model]
    got = [line.slope, line.intercept, line.r, line.slope_se, line.n, line.age_min, line.age_max]
    names = ("slope", "intercept", "r", "slope_se")
    wanted = [want["pred_on_age"][k] for k in names] + [want["fit_n"], want["fit_age_min"], want["fit_age_max"]]
    assert got == pytest.approx(wanted, rel=1e-9)
    assert (line.method, line.warnings) == ("beheshti", ())


@pytest.mark.parametrize("model", ["a", "b"])
def test_reference_corrected_gaps(tested, reference_table, expected, model):
    val = reference_table[reference_table["split"] == "val"]
    line = bias.fit_line(val["age"], val[f"predicted_age_{model}"])
    for group, want in expected["bias"][model]["groups"].items():
        rows = tested[tested["group"] == group]
        gap = bias.corrected_bag(line, rows["age"], rows[f"bag_{model}"])
        assert [gap.mean(), gap.std(ddof=1)] == pytest.approx([want["beheshti_mean"], want["beheshti_sd"]], rel=1e-8)
        cole = bias.corrected_bag_cole(line, rows["age"], rows[f"predicted_age_{model}"])
        assert [cole.mean(), cole.std(ddof=1)] == pytest.approx([want["cole_mean"], want["cole_sd"]], rel=1e-8)
        np.testing.assert_allclose(cole, gap / line.slope, rtol=1e-10)
    first = tested.set_index("participant_id")[f"bag_corrected_{model}"]
    for want in expected["bias"][model]["first_rows"]:
        assert first[want["participant_id"]] == pytest.approx(want[f"bagc_beheshti_{model}"], rel=1e-9)


def test_line_equals_statsmodels_and_de_lange():
    data = people()
    line, fit = (
        bias.fit_line(data["age"], data["predicted_age"]),
        sm.OLS(data["predicted_age"], sm.add_constant(data["age"])).fit(),
    )
    assert [line.intercept, line.slope] == pytest.approx(fit.params.tolist())
    assert [line.slope_se, line.residual_sd] == pytest.approx([fit.bse["age"], np.sqrt(fit.mse_resid)])
    de_lange = data["predicted_age"] + (data["age"] - (line.slope * data["age"] + line.intercept)) - data["age"]
    gap = bias.corrected_bag(line, data["age"], data["predicted_age"] - data["age"])
    np.testing.assert_allclose(gap, de_lange, atol=1e-12)
    assert np.polyfit(data["age"], gap, 1)[0] == pytest.approx(0, abs=1e-12)


def test_unbiased_line_changes_nothing():
    line = bias.BiasLine("beheshti", 1.0, 0.0, 0.01, 1.0, 50, 20, 90, 1.0, "model_card")
    assert bias.corrected_bag(line, [30, 70], [2.0, -3.0]).tolist() == [2.0, -3.0]


@pytest.mark.parametrize(
    ("n", "low", "high", "method"),
    [
        (14, 20, 90, "offset"),
        (15, 20, 90, "beheshti"),
        (40, 60, 64, "offset"),
        (3, 20, 90, "offset"),
        (2, 20, 90, "none"),
    ],
)
def test_small_samples_fall_back(n, low, high, method):
    data = people(n, low=low, high=high)
    line = bias.fit_line(data["age"], data["predicted_age"])
    assert (line.method, line.n) == (method, n)
    assert line.warnings if n < 30 or method == "offset" else True
    gap = bias.corrected_bag(line, data["age"], data["predicted_age"] - data["age"])
    if method == "none":
        assert np.isnan(gap).all()
        assert line.source == "none"
    else:
        assert gap.mean() == pytest.approx(0, abs=1e-10)
    if method == "offset":
        assert line.slope == 1.0


def test_missing_pairs_are_left_out():
    data = people(40)
    data.loc[:4, "age"] = np.nan
    assert bias.fit_line(data["age"], data["predicted_age"]).n == 35


@pytest.mark.parametrize(("slope", "message"), [(0.15, "divides by the slope"), (0.0, "divides by the slope")])
def test_cole_refused_for_a_flat_line(slope, message):
    data = people(slope=slope, noise=0.5)
    line = bias.fit_line(data["age"], data["predicted_age"])
    with pytest.raises(BadDataError, match=message):
        bias.corrected_bag_cole(line, data["age"], data["predicted_age"])


def test_cole_refused_for_a_noisy_slope_and_an_offset():
    noisy = bias.BiasLine("beheshti", 0.5, 0, 0.3, 0.2, 20, 20, 90, 5, "model_card")
    with pytest.raises(BadDataError, match=r"0\.500"):
        bias.corrected_bag_cole(noisy, [50], [50])
    with pytest.raises(BadDataError, match="'offset'"):
        bias.corrected_bag_cole(bias.fit_line([20, 30, 40], [21, 33, 44]), [50], [50])


def test_conformal_reference(reference_table, expected):
    val = reference_table[reference_table["split"] == "val"]
    for key, want in expected["conformal"].items():
        name, level = key.split(":")
        column = name.replace("bagc_beheshti", "bag_corrected")
        half = bias.conformal_half_width(val[column], 1 - float(level))
        assert half == pytest.approx(want["half_width"], rel=1e-8), key
        tested = reference_table[(reference_table["split"] == "test") & (reference_table["group"] == "NC")]
        assert (tested[column].abs() <= half).mean() == pytest.approx(want["test_coverage"])


@pytest.mark.parametrize(
    ("n", "alpha", "enough"), [(18, 0.05, False), (19, 0.05, True), (8, 0.1, False), (9, 0.1, True), (0, 0.05, False)]
)
def test_conformal_needs_enough_people(n, alpha, enough):
    values = -np.arange(1.0, n + 1)
    assert bias.conformal_half_width(values, alpha) == (float(n) if enough else None)


def test_calibration_interval_and_flags():
    calibration = people(60)
    rows = pd.DataFrame({"age": [50.0, 95.0, np.nan], "predicted_age": [55.0, 80.0, 60.0], "fold": [None, None, None]})
    result = bias.correct_with_calibration(rows, calibration)
    line = bias.fit_line(calibration["age"], calibration["predicted_age"])
    gap = calibration["predicted_age"] - calibration["age"]
    half = bias.conformal_half_width(bias.corrected_bag(line, calibration["age"], gap))
    corrected = bias.corrected_bag(line, rows["age"], rows["predicted_age"] - rows["age"])
    np.testing.assert_allclose(result["bag_corrected"], corrected)
    np.testing.assert_allclose(result["pred_hi"][:2], (rows["age"] + corrected + half)[:2])
    assert result["flags"].tolist() == ["", "bias_extrapolated", ""]
    assert result.loc[2, "pred_hi"] - 60 == pytest.approx(bias.conformal_half_width(gap))
    assert 60 - result.loc[2, "pred_lo"] == pytest.approx(bias.conformal_half_width(gap))


def test_no_end_of_an_interval_lies_below_age_zero():
    healthy = people(60)
    rows = pd.DataFrame({"age": [2.0, 2.0, 2.0, np.nan], "predicted_age": [9.0, -40.0, 60.0, 1.0]})
    result = bias.correct_with_calibration(rows, healthy)
    line = bias.fit_line(healthy["age"], healthy["predicted_age"])
    gap = healthy["predicted_age"] - healthy["age"]
    half = bias.conformal_half_width(bias.corrected_bag(line, healthy["age"], gap))
    middle = rows["age"] + bias.corrected_bag(line, rows["age"], rows["predicted_age"] - rows["age"])
    assert result.loc[1, "bag_corrected"] < -30
    assert result.loc[1, ["pred_lo", "pred_hi"]].tolist() == [0, 0]
    assert result["pred_lo"].tolist()[::3] == [0, 0]
    np.testing.assert_allclose(result["pred_hi"][[0, 2]], (middle + half)[[0, 2]])  # the other end does not move
    assert result.loc[2, "pred_lo"] == pytest.approx(middle[2] - half)
    assert bias.correct_with_calibration(rows, healthy[:5])["pred_lo"].isna().all()  # too few: still none


@pytest.mark.parametrize("spell", [str, int, float])
def test_nobody_is_corrected_by_itself(spell):
    """Moving one person's prediction moves that person's corrected gap by exactly as much."""
    data = people(50)
    data["fold"] = [spell(i % 5) for i in range(50)]
    calibration = data.assign(fold=[str(i % 5) for i in range(50)])
    before = bias.correct_with_calibration(data, calibration)
    for frame in (data, calibration):
        frame.loc[7, "predicted_age"] += 40
    after = bias.correct_with_calibration(data, calibration)
    assert after.loc[7, "bag_corrected"] - before.loc[7, "bag_corrected"] == pytest.approx(40)
    same_fold = after.loc[12, "bag_corrected"], before.loc[12, "bag_corrected"]
    assert same_fold[0] == pytest.approx(same_fold[1], rel=1e-10)  # not used either
    assert abs(after.loc[8, "bag_corrected"] - before.loc[8, "bag_corrected"]) > 0.01


def test_fold_lines_against_a_literal_loop():
    data = people(50)
    data["fold"] = [str(i % 5) for i in range(50)]
    result = bias.correct_with_calibration(data, data)
    for i, row in data.iterrows():
        others = data[data["fold"] != row["fold"]]
        s, c = np.polyfit(others["age"], others["predicted_age"], 1)
        assert result.loc[i, "bag_corrected"] == pytest.approx(row["predicted_age"] - (s * row["age"] + c))


def test_no_calibration_leaves_everything_missing():
    data = people(4)
    result = bias.correct_with_calibration(data, data.iloc[:0])
    assert result[["bag_corrected", "pred_lo", "pred_hi"]].isna().all(axis=None)
    assert set(result["flags"]) == {""}


def test_offset_is_flagged():
    result = bias.correct_with_calibration(people(2, seed=1, low=40, high=60), people(10))
    assert all("bias_offset" in flags for flags in result["flags"])


def study(n=60):
    data = people(n)
    table = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(n)], "session_id": None, "run": None})
    return table.assign(age=data["age"], predicted_age_m=data["predicted_age"], group=["CN", "AD"] * (n // 2))


def test_crossfit_spares_controls_and_uses_the_full_line_for_patients():
    table = study(80)
    result, line = crossfit_controls(table, "m", ["CN"])
    assert (line.n, line.source) == (40, "controls_crossfit")
    patients = table["group"] == "AD"
    gap = bias.corrected_bag(line, table["age"], table["predicted_age_m"] - table["age"])
    np.testing.assert_allclose(result["bag_corrected"][patients], gap[patients])
    moved = table.assign(predicted_age_m=table["predicted_age_m"] + 30.0 * (table.index == 0))
    again, _ = crossfit_controls(moved, "m", ["CN"])
    assert again.loc[0, "bag_corrected"] - result.loc[0, "bag_corrected"] == pytest.approx(30)


def test_crossfit_does_not_depend_on_row_order_but_on_the_seed():
    table = study()
    result, _ = crossfit_controls(table, "m", ["CN"], seed=1)
    shuffled, _ = crossfit_controls(table.sample(frac=1, random_state=2), "m", ["CN"], seed=1)
    np.testing.assert_allclose(shuffled.loc[table.index, "bag_corrected"], result["bag_corrected"])
    other, _ = crossfit_controls(table, "m", ["CN"], seed=2)
    assert (other["bag_corrected"] != result["bag_corrected"])[table["group"] == "CN"].any()


def test_crossfit_keeps_all_sessions_of_a_control_out_of_its_own_line():
    table = study()
    second = table.iloc[[0]].assign(session_id="ses-2", age=table.loc[0, "age"] + 1, group="AD")
    both = pd.concat([table.assign(session_id="ses-1"), second], ignore_index=True)
    before, line = crossfit_controls(both, "m", ["CN"])
    assert line.n == 30
    moved = both.assign(predicted_age_m=both["predicted_age_m"] + 30.0 * (both.index == 0))
    after, _ = crossfit_controls(moved, "m", ["CN"])
    assert after.iloc[-1]["bag_corrected"] == pytest.approx(before.iloc[-1]["bag_corrected"], rel=1e-10)


def test_cole_is_beheshti_over_the_slope_of_the_rows_own_line():
    data = people()
    data["fold"] = np.arange(60) % 3
    ours, coles = bias.corrected_gap(data, data), bias.corrected_gap(data, data, "cole")
    np.testing.assert_allclose(ours, bias.correct_with_calibration(data, data)["bag_corrected"])
    for here, others, line in bias.lines_by_fold(data, data):
        assert line == bias.fit_line(others["age"], others["predicted_age"])
        np.testing.assert_allclose(coles[here], ours[here] / line.slope)


@pytest.mark.parametrize(("n", "form"), [(17, "beheshti"), (14, "offset")])
def test_one_form_of_correction_for_all_folds_of_a_model(n, form):
    """Folds of few people leave 13 others: too few to choose a line, but all must be corrected alike."""
    data = people(n=n)
    data["fold"] = np.arange(n) % 4
    assert {line.method for _, _, line in bias.lines_by_fold(data, data)} == {form}
    corrected = bias.correct_with_calibration(data, data)
    np.testing.assert_allclose(corrected["bag_corrected"], bias.corrected_gap(data, data))
    assert corrected["flags"].str.contains("bias_offset").all() == (form == "offset")
    slope = np.polyfit(data["age"], corrected["bag_corrected"], 1)[0]
    raw = np.polyfit(data["age"], data["predicted_age"] - data["age"], 1)[0]
    assert (abs(slope) < abs(raw) / 2) == (form == "beheshti")


def test_cole_is_refused_when_one_fold_has_no_slope():
    data = people(n=60, slope=0.0)
    with pytest.raises(BadDataError, match="divides by the slope"):
        bias.corrected_gap(data, data, "cole")


def test_controls_are_split_into_five_unless_told_otherwise():
    for told, folds in (({}, 5), ({"k": 3}, 3)):
        calibration = bias.crossfit_folds(study(), "m", ["CN"], **told)[1]
        sizes = calibration["fold"].value_counts()
        assert len(sizes) == folds
        assert sizes.max() - sizes.min() <= 1


def test_an_offset_and_no_line_hold_what_they_know():
    age, gap = np.array([60.0, 61, 62, 63]), np.array([1.0, 2, 4, 5])
    line = bias.fit_line(age, age + gap, "here")
    assert (line.method, line.slope, line.intercept, line.n, line.age_min, line.age_max, line.source) == (
        "offset", 1.0, 3.0, 4, 60.0, 63.0, "here"
    )  # fmt: skip
    assert line.residual_sd == pytest.approx(np.sqrt(10 / 3))
    assert np.isnan([line.slope_se, line.r]).all()
    assert line.warnings == ("offset only: 4 people of 60 to 63 years (a line needs 15 people and 5 years)",)
    none = bias.fit_line(age[:2], age[:2])
    assert (none.method, none.n, none.source) == ("none", 2, "none")
    assert none.warnings == ("only 2 healthy held-out people: no age-bias correction",)
    assert np.isnan([none.slope, none.intercept, none.residual_sd, none.age_min, none.age_max]).all()


def spread_people(n, rng):
    """Healthy people whose error has an SD of 1 to 5 years, which several trainings show in part."""
    age, sd = rng.uniform(20, 80, n), rng.uniform(0, 4, n)
    predicted = 20 + 0.6 * age + (1 + sd) * rng.standard_normal(n)
    return pd.DataFrame({"age": age, "predicted_age": predicted, "predicted_age_sd": sd, "fold": None})


def test_intervals_follow_the_spread_of_several_trainings_and_keep_their_coverage():
    rng = np.random.default_rng(3)
    inside, wide, plain = [], [], []
    for _ in range(40):
        calibration, people = spread_people(100, rng), spread_people(200, rng)
        for kept, table in ((inside, calibration), (plain, calibration.drop(columns="predicted_age_sd"))):
            found = bias.correct_with_calibration(people, table)
            kept.append((found.pred_lo <= people.age) & (people.age <= found.pred_hi))
        wide.append(people.predicted_age_sd > 2)
    inside, plain, wide = np.concatenate(inside), np.concatenate(plain), np.concatenate(wide)
    # 8,000 people, 40 lines and quantiles of 100 people each: the SD of a coverage is below 0.006
    assert abs(inside.mean() - 0.95) < 0.025
    assert abs(plain.mean() - 0.95) < 0.025
    # one width for all covers people of small spread too often and those of large spread too rarely
    assert abs(inside[wide].mean() - inside[~wide].mean()) < 0.025
    assert plain[~wide].mean() - plain[wide].mean() > 0.06


def test_who_is_predicted_differently_by_each_training_has_the_wider_interval():
    rng = np.random.default_rng(4)
    calibration = spread_people(100, rng)
    people = pd.DataFrame({"age": [50.0] * 3, "predicted_age": [50.0] * 3, "predicted_age_sd": [0.0, 1.0, np.nan],
                           "fold": None})  # fmt: skip
    found = bias.correct_with_calibration(people, calibration)
    widths = (found.pred_hi - found.pred_lo).to_numpy()
    assert widths[1] == pytest.approx(2 * widths[0])
    assert np.isnan(widths[2])


def test_without_spread_of_the_calibration_people_the_interval_is_the_plain_one():
    calibration = spread_people(60, np.random.default_rng(5))
    people = spread_people(10, np.random.default_rng(6))
    without = people.drop(columns="predicted_age_sd")
    plain = bias.correct_with_calibration(without, calibration.drop(columns="predicted_age_sd"))
    assert bias.correct_with_calibration(people, calibration.assign(predicted_age_sd=np.nan)).equals(plain)
    assert bias.correct_with_calibration(people, calibration.drop(columns="predicted_age_sd")).equals(plain)
