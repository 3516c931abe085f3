"""Every row of every table explains itself: what is missing has a status and a note, what is there fits its limits."""

import numpy as np
import pandas as pd
import pytest

from brainage_bids.schema import DEFAULT_SEED
from brainage_bids.stats import groups, longitudinal, region_contrasts, reliability, saliency
from brainage_bids.stats.accuracy import accuracy, compare_errors, mean_interval, model_comparison
from brainage_bids.stats.bias import fit_line
from brainage_bids.stats.columns import frame
from brainage_bids.stats.correlate import correlation, correlations, partial_correlation, pearson
from brainage_bids.stats.longitudinal import mixed_model
from brainage_bids.stats.roc import roc, roc_curve
from brainage_bids.stats.site import site_effect
from brainage_bids.table_declaration import ResultTable

KNOWN = {
    "ok", "ok_no_ci", "skipped", "insufficient_n", "zero_variance", "constant_input", "rank_deficient", "confounded",
    "degenerate", "no_controls", "perfect",
}  # fmt: skip


@pytest.fixture
def awkward(tested):
    """Two patients of one disease, a disease of one sex only, gaps that are all one, a site of one person."""
    few = tested[tested["group"] == "AD"].head(2).assign(group="rare")
    women = tested[(tested["group"] == "PD") & (tested["sex"] == "F")].assign(group="women")
    flat = tested[tested["group"] == "AD"].iloc[5:11].assign(group="flat", bag_a=2.0, bag_corrected_a=2.0)
    flat["predicted_age_a"] = flat["age"] + 2.0
    table = pd.concat([tested[tested["group"] == "NC"], few, women, flat], ignore_index=True)
    table["participant_id"] = [f"sub-{i:03d}" for i in range(len(table))]
    table.loc[0, "site"] = "alone"
    table["stages"] = np.where(table["group"] == "women", 1.0, table["hy"])
    return table


def tables_of(table):
    models, controls = ["a", "b"], ["NC"]
    return {
        "accuracy": accuracy(table, models, controls),
        "models": model_comparison(table, models, controls),
        "correlations": correlations(table, models, ["adas11", "hy", "stages"], controls=controls),
        "groups": groups.group_differences(table, models, controls),
        "roc": roc(table, models, controls),
        "site": site_effect(table, models, controls),
    }


@pytest.mark.parametrize("controls", [["NC"], []])
def test_a_row_without_a_result_says_why(awkward, controls):
    table = awkward if controls else awkward[awkward["group"] != "NC"]
    for name, found in tables_of(table).items():
        assert set(found["status"]) <= KNOWN, name
        mute = found[~found["status"].str.startswith("ok") & (found["note"].fillna("") == "")]
        assert mute.empty, f"{name}: {mute.to_dict('records')[:2]}"
        p_columns = [column for column in found if column == "p" or column.endswith("_p") or column == "bag_p"]
        for column in p_columns:
            without = found.loc[~found["status"].isin(["ok", "ok_no_ci", "zero_variance", "perfect"]), column]
            assert without.isna().all(), f"{name}.{column}"


def test_counts_are_those_of_each_side(tested):
    case, control = tested[tested["group"] == "AD"], tested[tested["group"] == "NC"].iloc[:20]
    holes = case.assign(bag_a=case["bag_a"].mask(np.arange(len(case)) < 3))
    row = groups.ancova(holes, control, "bag_a", ("age", "sex"))
    assert (row["n_case"], row["n_control"]) == (len(case) - 3, 20)
    assert row["note"] == "hedges_g is adjusted difference / residual SD"
    table = pd.concat([holes, control], ignore_index=True)
    rows = groups.group_differences(table, ["a"], ["NC"]).set_index("variant")
    assert rows.loc["raw", ["n_case", "n_control", "n_missing"]].tolist() == [len(case) - 3, 20, 3]


def test_unlike_ages_get_further_rows_and_like_ones_none(tested):
    def variants(years):
        rows = tested[tested["group"] == "NC"].copy()
        half = rows.sample(frac=0.5, random_state=1).index
        rows.loc[half, "group"] = "AD"
        rows["age"] = np.where(rows["group"] == "AD", years, 0.0) + 50 + (np.arange(len(rows)) // 2) % 10
        found = groups.group_differences(rows, ["a"], ["NC"]).set_index("variant")
        return found, "confounded by age" in found.loc["raw", "note"]

    unlike, warned = variants(3.0)
    assert warned
    assert {"raw:age-overlap", "raw:age-matched"} <= set(unlike.index)
    assert "ages 53 to 59 only" in unlike.loc["raw:age-overlap", "note"]
    assert "pairs within 2 years of age" in unlike.loc["raw:age-matched", "note"]
    like, warned = variants(0.0)
    assert not warned
    assert not {"raw:age-overlap", "raw:age-matched"} & set(like.index)


def test_the_balance_of_ages_in_small_units():
    row = groups.age_balance(np.array([60.0, 60.5, 61.0]), np.array([50.0, 50.5, 51.0]))
    assert row == pytest.approx(
        {"mean_case": 60.5, "mean_control": 50.5, "smd": 20.0, "overlap_lo": 60.0, "overlap_hi": 51.0}
    )
    alone = groups.age_balance(np.array([60.0]), np.array([50.0, 51.0]))
    assert set(alone) == set(row)
    assert groups.age_balance(np.full(3, 60.0), np.full(3, 50.0))["smd"] == np.inf
    assert groups.age_balance(np.full(3, 50.0), np.full(3, 50.0))["smd"] == 0.0


def test_the_seed_reaches_every_interval(tested):
    rows = tested[tested["group"] == "AD"]
    error = np.abs(rows["predicted_age_a"] - rows["age"]).to_numpy()
    for seed in (1, 2):
        row = accuracy(rows, ["a"], [], seed=seed).set_index("subset").loc["all"]
        assert (row["mae_ci_lo"], row["mae_ci_hi"]) == mean_interval(error, seed)[:2]
    assert mean_interval(error, 1) != mean_interval(error, 2)
    assert accuracy(rows, ["a"], []).equals(accuracy(rows, ["a"], [], seed=DEFAULT_SEED))
    other = np.abs(rows["predicted_age_b"] - rows["age"]).to_numpy()
    for seed in (1, 2):
        row = compare_errors(error, other, seed)
        assert (row["bca_ci_lo"], row["bca_ci_hi"]) == mean_interval(error - other, seed)[:2]


def test_whole_people_or_controls_only_are_told_apart(tested):
    mixed = accuracy(tested, ["a"], ["NC"]).set_index("subset")
    assert mixed.loc["all", "note"].startswith("everyone, whatever the group")
    healthy = accuracy(tested[tested["group"] == "NC"], ["a"], ["NC"]).set_index("subset")
    assert "everyone" not in healthy.loc["all", "note"]


def test_gaps_that_are_all_one_have_no_slope_on_age(awkward):
    row = accuracy(awkward, ["a"], ["NC"]).set_index("subset").loc["group=flat"]
    assert np.isnan(row[["agebias_p", "agebias_r"]].astype(float)).all()
    assert row["agebias_slope"] == pytest.approx(0, abs=1e-9)
    rest = accuracy(awkward, ["b"], ["NC"]).set_index("subset").loc["group=NC"]
    assert np.isfinite(rest[["agebias_p", "agebias_r"]].astype(float)).all()


def test_a_line_and_an_offset_know_the_mean_age():
    age = np.array([60.0, 61, 62, 63, 70])
    for form in ("offset", None):
        line = fit_line(age, age + np.array([1.0, 2, 3, 4, 5]), form=form)
        assert (line.method, line.age_mean) == ("offset", pytest.approx(63.2))
    ages = np.linspace(20, 80, 40)
    assert fit_line(ages, ages * 0.9).age_mean == pytest.approx(50.0)


@pytest.mark.parametrize("seed", range(20))
def test_a_perfect_line_is_one_to_the_last_digit(seed):
    x = np.random.default_rng(seed).normal(50, 10, 25)
    assert pearson(x, 0.1 * x + 0.3) == 1.0
    assert pearson(x, 7.7 - x / 3) == -1.0
    assert correlation(x, 0.1 * x + 0.3)["status"] == "perfect"


def test_covariates_that_explain_a_variable_fully_are_said():
    rng = np.random.default_rng(1)
    age, other = rng.uniform(20, 80, 30), rng.normal(size=30)
    row = partial_correlation(2 * age + 1, other, pd.DataFrame({"age": age}))
    assert (row["status"], row["note"]) == ("constant_input", "the covariates explain a variable fully")


def test_a_place_is_held_constant_where_people_come_from_two():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"age": rng.uniform(20, 80, 30), "sex": ["F", "M"] * 15, "group": "NC",
                          "site": ["A", "B", "B"] * 10, "bag_m": rng.normal(size=30),
                          "s": rng.normal(size=30)})  # fmt: skip
    assert "partial:age+sex+site" in set(correlations(table, ["m"], ["s"])["variant"])
    one = correlations(table.assign(site="A"), ["m"], ["s"])
    assert "partial:age+sex+site" not in set(one["variant"])
    assert not one.loc[one["status"] == "ok", "note"].str.contains("n <").any()  # thirty are enough
    few = correlations(table.head(29), ["m"], ["s"])
    assert few.loc[few["status"].str.startswith("ok"), "note"].str.contains("n < 30").all()
    kendall = one[(one["statistic"] == "kendall") & one["variant"].str.startswith("partial")]
    assert set(kendall["status"]) == {"skipped"}
    assert kendall["note"].str.contains("see partial Spearman").all()


def test_many_people_get_a_tenth_of_the_permutations(monkeypatch):
    asked = []

    def differences(values, is_case, matrix, permutations, seed):
        asked.append((len(values), permutations))
        return pd.DataFrame({"status": ["ok"], "note": [""]})

    monkeypatch.setattr(region_contrasts, "region_differences", differences)
    for n in (1000, 1001):
        case = np.arange(n) < 500
        found = region_contrasts._contrast(pd.DataFrame({"sex": ["F"] * n}), np.zeros((n, 1)), case, ~case, (), 1)
        assert f"{asked[-1][1]} permutations" in found["note"][0]
    assert asked == [(1000, 10_000), (1001, 1_000)]


def test_no_spread_between_scans_is_said():
    same = np.repeat(np.arange(6.0)[:, None], 2, axis=1)
    assert reliability.agreement(same)["note"] == "no spread between people or between scans: no ICC"


def test_an_axis_of_one_cell_spreads_its_weight_once():
    cells, weights = saliency._two_ends(np.array([[1.0], [0.5]]))
    assert cells.tolist() == [[0, 0], [0, 0]]
    assert weights.tolist() == [[1.0, 0.0], [0.5, 0.0]]


def test_the_curve_of_nobody_is_an_empty_table_of_numbers():
    empty = roc_curve(np.array([]), np.array([1.0, 2.0]))
    assert list(empty.columns) == ["threshold", "fpr", "tpr"]
    assert all(kind == np.float64 for kind in empty.dtypes)


def test_sex_that_only_patients_vary_in_is_dropped_and_said(tested):
    healthy = tested["group"] == "NC"
    table = tested.assign(sex=np.where(healthy, "F", tested["sex"]))
    rows = roc(table, ["a"], ["NC"]).set_index(["case", "variant"])
    assert "dropped sex (constant in controls)" in rows.loc[("AD", "adjusted:age+sex"), "note"]
    assert "the age-bias line" in rows.loc[("AD", "corrected"), "note"]
    assert "dropped sex" not in roc(tested, ["a"], ["NC"])["note"].str.cat(sep=" ")


def sandwich(bag, design, person, intercept, noise):
    """Written out with one dense covariance matrix a person."""
    names = list(dict.fromkeys(person))
    bread, of_person = np.zeros((design.shape[1],) * 2), {}
    for name in names:
        own = design[person == name]
        inverse = np.linalg.inv(noise * np.eye(len(own)) + intercept)
        bread += own.T @ inverse @ own
        of_person[name] = own.T @ inverse

    def errors(beta):
        scores = [of_person[name] @ (bag[person == name] - design[person == name] @ beta) for name in names]
        middle = sum(np.outer(score, score) for score in scores)
        covariance = np.linalg.inv(bread) @ middle @ np.linalg.inv(bread) * len(names) / (len(names) - 1)
        return np.sqrt(np.diag(covariance))

    return errors


def test_sandwich_errors_of_unlike_numbers_of_scans_are_those_written_out():
    rng = np.random.default_rng(4)
    rows = []
    for i in range(12):
        own = rng.normal(0, 3)
        for t in np.sort(rng.uniform(0, 4, 2 + i % 4)):
            rows.append({"participant_id": f"sub-{i:02d}", "group": "AD" if i < 6 else "NC", "time": t,
                         "bag": own + rng.normal(0, 1) + 0.5 * t * (i < 6)})  # fmt: skip
    people = pd.DataFrame(rows)
    found = {row["term"]: row for row in mixed_model(people, ["NC"])}
    is_case, time = (people["group"] == "AD").to_numpy(float), people["time"].to_numpy()
    design = np.column_stack([np.ones(len(people)), time, is_case, is_case * time])
    terms = ["intercept", "time", "group=AD", "time:group=AD"]
    beta = np.array([found[term]["estimate"] for term in terms])
    variances = found["var_intercept"]["estimate"], found["var_residual"]["estimate"]
    errors = sandwich(people["bag"].to_numpy(), design, people["participant_id"].to_numpy(), *variances)(beta)
    told = [float(found[term]["note"].split("sandwich se ")[1].split()[0]) for term in terms]
    assert told == pytest.approx(errors, rel=1e-3)


def test_a_group_without_a_test_does_not_end_the_others():
    """Controls come first in the order of names here, and are compared with nobody."""
    rng = np.random.default_rng(5)
    rows = [
        {"participant_id": f"sub-{group}{i}", "session_id": f"ses-{j}", "age": 50.0 + i + j, "group": group, "sex": "F",
         "predicted_age_m": 50 + i + j * rng.normal(1, 0.2), "bag_m": 0.0, "age_flags": None}
        for group in ("CN", "XX", "ZZ") for i in range(6) for j in (0, 1)
    ]  # fmt: skip
    table = pd.DataFrame(rows).assign(bag_m=lambda d: d["predicted_age_m"] - d["age"], run=None, qc_pass=1.0)
    found = longitudinal.longitudinal(table.assign(in_training=0.0), ["m"], ["CN"])
    assert {"XX-CN", "ZZ-CN"} <= set(found["term"])


def test_a_value_that_no_column_holds_is_not_lost():
    with pytest.raises(KeyError, match="ci_low: no column of x"):
        frame([{"n": 3, "p": 0.5}, {"n": 3, "ci_low": 0.1}], ResultTable("x", "n p"))


def test_people_without_a_gap_or_a_sex_column_do_not_move_the_adjusted_area(tested):
    def adjusted(table):
        return roc(table, ["a"], ["NC"]).set_index(["case", "variant"]).loc[("AD", "adjusted:age+sex")]

    healthy = tested["group"] == "NC"
    plain = adjusted(tested)
    more = tested[healthy].head(5).assign(bag_a=np.nan, age=20.0)
    beside = adjusted(pd.concat([tested, more], ignore_index=True))
    assert beside["n_missing"] == plain["n_missing"] + 5
    assert beside["auc"] == plain["auc"]
    unknown = adjusted(tested.drop(columns="sex"))
    assert unknown["status"] == "ok"
    assert unknown["auc"] == adjusted(tested.assign(sex=None))["auc"]


def test_two_datasets_are_enough_to_be_tested(tested):
    two = tested.assign(dataset=np.where(np.arange(len(tested)) % 2, "A", "B"))
    assert site_effect(two, ["a"], ["NC"])["effect"].tolist() == ["site", "dataset"]


def test_a_refused_comparison_of_regions_has_no_numbers():
    values = pd.DataFrame({"one": np.arange(8.0), "two": np.arange(8.0) ** 2})
    found = region_contrasts.region_differences(values, np.arange(8) < 2, permutations=20)
    assert found[["mean_diff", "t", "p", "p_perm"]].isna().all(axis=None)
    assert found[["n_case", "n_control"]].to_numpy().tolist() == [[2, 6], [2, 6]]
