"""The edge cases of the specification (science: C.15, edge_cases.json) as datasets, through the command line."""

import gc

import numpy as np
import pandas as pd
import pytest
from groupstudy import group_level, make_dataset, predictions
from references import edge_cases

BY_ID = edge_cases()
SCORED = [case["id"] for case in BY_ID.values() if case["fn"] in ("corr", "spearman", "kendall") and case["x"]]
GAPS = {name: BY_ID[name]["x"] for name in ("ttest_n1", "ttest_constant")}
ROW = ["group", "score", "variant", "statistic"]


def label(case_id):
    return case_id.replace("_", "-")


def people_of(group, gaps, ages=None, scores=None, **columns):
    """Return people of one group with the gaps asked for: rows with the ages and the predictions (years)."""
    ages = [60 + 2 * i for i in range(len(gaps))] if ages is None else ages
    table = pd.DataFrame({"participant_id": [f"sub-{group.replace('-', '')}{i:02d}" for i in range(len(gaps))]})
    table = table.assign(age=ages, sex=["FM"[i % 2] for i in range(len(gaps))], group=group, **columns)
    gap = np.array(gaps, dtype="float64")
    return table.assign(S=np.nan if scores is None else np.array(scores, dtype="float64"), own=table["age"] + gap)


def run(root, people, *options, scans=("",), models=("own",)):
    bids = make_dataset(root / "bids", people.drop(columns=list(models)), scans)
    given = [predictions(root / f"{name}.csv", people["participant_id"], people[name]) for name in models]
    return group_level(bids, root / "out", "--predictions", *given, *options)


def controls():
    return people_of("NC", np.random.default_rng(1).normal(0, 4, 30).round(2), np.linspace(20, 79, 30).round(1))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Thirty controls and one small group per edge case."""
    parts = [controls()]
    parts += [people_of(label(i), BY_ID[i]["x"], scores=BY_ID[i]["y"]) for i in SCORED]
    parts += [people_of(label(name), gaps) for name, gaps in GAPS.items()]
    for name in ("r2_constant_age", "r2_negative"):
        case = BY_ID[name]
        parts.append(people_of(label(name), np.array(case["pred"]) - case["y"], case["y"]))
    people = pd.concat(parts, ignore_index=True)
    found = run(tmp_path_factory.mktemp("many"), people, "--score", "S=participants.tsv:S")
    assert found.code == 0
    return found


@pytest.mark.parametrize("name", SCORED)
def test_correlations(many, name):
    case = BY_ID[name]
    statistic = {"corr": "pearson"}.get(case["fn"], case["fn"])
    table = many.table("correlations")
    row = table[table["model"] == "own"].set_index(ROW).loc[(label(name), "S", "raw", statistic)]
    want = dict(case["expect"])
    ends = want.pop("ci", None)
    if "ci" in case["expect"]:
        got = [row["ci_lo"], row["ci_hi"]]
        assert got == pytest.approx(ends) if ends else np.isnan(got).all()
    names = {"r": "estimate", "rho": "estimate", "tau": "estimate"}
    if case["fn"] == "spearman":
        want.pop("p")  # that of Student's t; with fewer than 10 people it is exact here
        assert row["p"] < 0.02
        assert "exact" in row["note"]
    for key, value in want.items():
        got = row[names.get(key, key)]
        assert np.isnan(got) if value is None else got == (value if isinstance(value, str) else pytest.approx(value))


def test_one_person_and_equal_gaps(many):
    table = many.table("accuracy", "model", "subset").loc["own"]
    one, equal = table.loc["group=ttest-n1"], table.loc["group=ttest-constant"]
    assert (one["n"], one["mae"], one["status"]) == (1, 1.0, "insufficient_n")
    assert np.isnan(one["bag_t"])
    assert (equal["bag_mean"], equal["bag_sd"], equal["status"]) == (1.0, 0.0, "zero_variance")
    assert equal[["bag_t", "bag_p"]].isna().all()


def test_explained_variance(many):
    table = many.table("accuracy", "model", "subset").loc["own"]
    constant, negative = table.loc["group=r2-constant-age"], table.loc["group=r2-negative"]
    assert np.isnan(constant["r2"])
    assert constant["status"] == "zero_variance"
    assert constant["mae"] == pytest.approx(4 / 3)
    assert negative["r2"] == pytest.approx(BY_ID["r2_negative"]["expect"]["r2"])


def test_cole_is_refused_for_the_model_that_does_not_follow_age(tmp_path):
    people = controls()
    people["flat"] = 50 + np.random.default_rng(2).normal(0, 5, len(people)).round(2)
    found = run(tmp_path, people, "--bias-method", "cole", models=("own", "flat"))
    assert found.code == 0
    people = found.table("brainage")
    assert people["bag_corrected_flat"].isna().all()
    assert people["bag_corrected_own"].notna().sum() == people["bag_own"].notna().sum()
    assert (found.lines["own"]["method"], found.lines["flat"]["method"]) == ("cole", "none")
    warning = found.lines["flat"]["warnings"][-1]
    assert "no corrected gap" in warning
    assert "divides by the slope" in warning
    assert "no corrected gap" in found.page
    assert found.table("calibration", "model", "level").loc[("flat", 95), "status"] == "ok"


def test_small_groups_keep_their_rows(many):
    table = many.table("groupdiff")
    row = table[table["model"] == "own"].set_index(["case", "variant"]).loc[("corr-n2", "raw")]
    assert (row["n_case"], row["n_control"], row["n_missing"], row["status"]) == (2, 30, 0, "insufficient_n")
    row = table[table["model"] == "own"].set_index(["case", "variant"]).loc[("corr-nan-pairwise", "raw")]
    assert (row["n_case"], row["n_missing"]) == (4, 1)


@pytest.fixture(scope="module")
def ties(tmp_path_factory):
    """Women of 70 only; all controls have the same gap; two runs each."""
    case = BY_ID["auc_all_ties"]
    same, perfect = BY_ID["auc_perfect"]["pos"], case["neg"]
    parts = [people_of("healthy Control", perfect, [70] * 4), people_of("tied", case["pos"], [70] * 3)]
    people = pd.concat([*parts, people_of("above", same, [70] * 3)], ignore_index=True).assign(sex="F")
    people["participant_id"] = [f"sub-{i:02d}" for i in range(len(people))]
    found = run(tmp_path_factory.mktemp("ties"), people, scans=("_run-1", "_run-2"))
    assert found.code == 0
    return found


def test_areas_without_an_interval(ties):
    table = ties.table("roc", "case", "variant")
    for group, area in (("tied", 0.5), ("above", 1.0)):
        row = table.loc[(group, "raw")]
        assert (row["auc"], row["status"]) == (area, "degenerate")
        assert row[["se", "ci_lo", "ci_hi", "logit_ci_lo"]].isna().all()


def test_two_runs_are_one_person(ties):
    assert len(ties.table("brainage")) == 20
    assert ties.table("accuracy", "subset").loc["all", "n"] == 10
    assert set(ties.table("leftout").reason) == {"other_run"}


def test_one_sex_and_equal_ages(ties):
    table = ties.table("accuracy", "subset")
    assert table.loc["sex=M-F", "status"] == "skipped"
    assert table.loc["all", "status"] == "zero_variance"
    assert table.loc["all", ["r2", "pearson_r", "agebias_slope"]].isna().all()
    assert table.loc["all", "mae"] > 0
    row = ties.table("groupdiff", "case", "variant").loc[("above", "ancova:age+sex")]
    assert "dropped age (constant); dropped sex (constant)" in row["note"]
    assert ties.table("site", "model").loc["own", "status"] == "skipped"
    assert ties.lines["own"]["method"] == "offset"


@pytest.fixture(scope="module")
def without_controls(tmp_path_factory):
    people = pd.concat([people_of("AD", BY_ID["auc_no_controls"]["pos"]), people_of("odd", [1, 2, 3, 5])])
    people["S"] = [1, 4, 2, 5, 5, 1, 3]
    root = tmp_path_factory.mktemp("alone")
    found = run(root, people.reset_index(drop=True), "--score", "S=participants.tsv:S")
    assert found.code == 0
    return found


def test_without_controls(without_controls):
    found = without_controls
    assert set(found.table("roc")["status"]) == {"no_controls"}
    assert set(found.table("roc")["auc"].isna()) == {True}
    assert found.table("roc_curves").empty
    table = found.table("groupdiff", "case", "variant")
    assert table.loc[("AD", "raw"), "status"] == "no_controls"
    assert set(found.table("calibration")["status"]) == {"skipped"}
    line = found.lines["own"]
    assert (line["method"], line["source"], line["n"]) == ("none", "none", 0)
    fields = "method slope intercept slope_se r n age_min age_max residual_sd source warnings"
    assert set(fields.split()) <= set(line)
    assert "No control group" in found.page
    assert found.table("site", "model").loc["own", "status"] == "skipped"


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    """Healthy people only, whose ages, sexes and stages are written as they come in the wild."""
    age, sex, stage = (BY_ID[name]["values"] for name in ("age_parse", "sex_parse", "score_sentinel"))
    age = [value.replace(".", ",") for value in age]  # one column has one decimal mark
    n = len(age)
    people = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(n)], "age": age, "group": "CN"})
    people["sex"] = [*sex, "F"][:n]
    people["hy"] = [*stage, *["n/a"] * n][:n]
    people["own"] = 75.0
    found = run(tmp_path_factory.mktemp("parsed"), people)
    assert found.code == 0
    return found.table("brainage", "participant_id"), found


def values_of(column, want):
    return [None if pd.isna(value) else value for value in column.iloc[: len(want)]]


def test_parsed_cells(parsed):
    table, _ = parsed
    assert values_of(table["age"], BY_ID["age_parse"]["expect"]) == BY_ID["age_parse"]["expect"]
    assert values_of(table["sex"], BY_ID["sex_parse"]["expect"]) == BY_ID["sex_parse"]["expect"]
    assert values_of(table["hy"], BY_ID["score_sentinel"]["expect"]) == BY_ID["score_sentinel"]["expect"]


def test_people_without_an_age_keep_their_prediction(parsed):
    table, found = parsed
    ageless = table["age"].isna()
    assert ageless.sum() == BY_ID["age_parse"]["expect"].count(None)
    assert (table.loc[ageless, "predicted_age_own"] == 75).all()
    assert table.loc[ageless, ["bag_own", "bag_corrected_own", "conformal_p_own"]].isna().all(axis=None)
    assert found.table("accuracy", "subset").loc["all", "n"] == (~ageless).sum()
    assert "no age" in found.page.replace("_", " ")


def test_without_patients(parsed):
    _, found = parsed
    for name in ("groupdiff", "roc", "roc_curves", "correlationcomparison"):
        assert found.table(name).empty, name
    assert found.table("accuracy", "subset").loc["group=CN", "status"] == "ok"


def test_ages_at_the_edges_of_the_bins(tmp_path):
    case = BY_ID["bins_edges"]
    people = people_of("CN", [1.0, 2, 0, 3, 1, 2, 0, 3, 1, 2], case["age"])
    people["own"] = people["own"].fillna(50.0)
    found = run(tmp_path, people)
    assert found.code == 0
    names = {"20-40": "[20,40)", "40-60": "[40,60)", "60-80": "[60,80)", "80+": "[80,inf)", "<20": "<20"}
    want = pd.Series([names[one] for one in case["expect"] if one != "n/a"]).value_counts()
    table = found.table("accuracy", "subset")
    got = {name: table.loc[f"age={name}", "n"] for name in want.index}
    assert got == want.to_dict()


def test_a_participant_listed_twice_is_refused(tmp_path):
    people = people_of("CN", [1, 2, 3, 4])
    twice = pd.concat([people, people.iloc[:1].assign(age=99)], ignore_index=True)
    bids = make_dataset(tmp_path / "bids", twice)
    given = predictions(tmp_path / "own.csv", people["participant_id"], people["own"])
    found = group_level(bids, tmp_path / "out", "--predictions", given)
    assert found.code == 16
    assert "sub-CN00" in found.told


def test_wrong_options_end_with_a_sentence(tmp_path):
    people = people_of("CN", [1, 2, 3, 4])
    bids = make_dataset(tmp_path / "bids", people.drop(columns="own"))
    given = ("--predictions", predictions(tmp_path / "own.csv", people["participant_id"], people["own"]))
    wrong = {
        ("--bias-method", "smith"): "use beheshti or cole",
        ("--covariate", "weight"): "--covariate weight=participants.tsv:COLUMN",
        ("--covariate", "weight=kg"): "--covariate 'weight=kg' must be NAME=FILE:COLUMN",
        ("--bias-query", "age > 200"): "selects no row",
        ("--bias-query", "age >"): "cannot be evaluated",
    }
    usual = gc.get_threshold()
    for options, words in wrong.items():
        found = group_level(bids, tmp_path / "out", *given, *options)
        assert found.code == 64, options
        assert words in found.told
    assert gc.get_threshold() == usual  # set higher for the group level only


def test_other_sessions_of_people_who_fit_the_line_leave_too(tmp_path):
    """Two scans each; the line is fitted on the first scan of the controls, whose second scans are not tested."""
    people = pd.concat([people_of("CN", np.tile([1.0, -2, 3, 0], 5), np.arange(30, 70, 2)), people_of("AD", [4, 2, 5])])
    people = people.reset_index(drop=True)
    bids = make_dataset(tmp_path / "bids", people.drop(columns=["own", "age"]))
    for row in people.itertuples():
        for session in ("1", "2"):
            path = bids / row.participant_id / f"ses-{session}" / "anat"
            path.mkdir(parents=True)
            (path / f"{row.participant_id}_ses-{session}_T1w.nii.gz").write_bytes(b"placeholder")
        (bids / row.participant_id / "anat" / f"{row.participant_id}_T1w.nii.gz").unlink()
        lines = f"session_id\tage\nses-1\t{row.age}\nses-2\t{row.age + 1}\n"
        (bids / row.participant_id / f"{row.participant_id}_sessions.tsv").write_text(lines)
    both = people[["participant_id", "own"]].rename(columns={"own": "predicted_age"})
    both = pd.concat([both.assign(session_id=f"ses-{session}") for session in "12"])
    both.to_csv(tmp_path / "own.csv", index=False)
    given = f"own={tmp_path / 'own.csv'}"
    query = "group == 'CN' and session_id == 'ses-1'"
    found = group_level(bids, tmp_path / "out", "--predictions", given, "--bias-query", query)
    assert found.code == 0
    assert found.lines["own"]["n"] == 20
    assert found.table("accuracy", "subset").loc["all", "n"] == 3
    assert set(found.table("roc")["status"]) == {"no_controls"}
