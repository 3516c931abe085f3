import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from sklearn import metrics

from brainage_bids.result_tables import GROUPDIFF, ROC, ROC_CURVES
from brainage_bids.stats.fdr import benjamini_hochberg
from brainage_bids.stats.groups import age_balance, ancova, group_differences, hedges_g, match_by_age, welch
from brainage_bids.stats.roc import adjusted_area, area, roc, roc_curve, roc_curves


@pytest.fixture(scope="module")
def result(tested):
    return group_differences(tested, ["a", "b"], ["NC"]).set_index(["case", "model", "variant"]).sort_index()


@pytest.mark.parametrize("case", ["AD", "PD"])
@pytest.mark.parametrize("model", ["a", "b"])
@pytest.mark.parametrize(("variant", "name"), [("raw", "bag"), ("corrected", "bagc_beheshti")])
def test_reference_welch_and_effect(result, expected, case, model, variant, name):
    want, row = expected["group_difference"][f"{case}_vs_NC:{name}_{model}"], result.loc[(case, model, variant)]
    names = {
        "n_case": "n1",
        "n_control": "n2",
        "mean_diff": "mean_diff",
        "t": "welch_t",
        "df": "welch_df",
        "p": "welch_p",
    }
    for column, key in (names | {"hedges_g": "hedges_g"}).items():
        assert row[column] == pytest.approx(want[key], rel=1e-8), column
    assert [row["ci_lo"], row["ci_hi"]] == pytest.approx(want["welch_ci"], rel=1e-8)
    assert [row["g_ci_lo"], row["g_ci_hi"]] == pytest.approx(want["g_ci_noncentral_t"], rel=1e-6)
    ranks = [want["mannwhitney_U"], want["mannwhitney_p_asym_cc"]]
    assert [row["mannwhitney_u"], row["mannwhitney_p"]] == pytest.approx(ranks, rel=1e-8)


@pytest.mark.parametrize("case", ["AD", "PD"])
@pytest.mark.parametrize("outcome", ["bag_a", "bagc_beheshti_a"])
@pytest.mark.parametrize("site", [False, True])
def test_reference_ancova(tested, expected, case, outcome, site):
    key = f"{case}_vs_NC:ancova:{outcome}:age_sex" + ("_site" if site else "")
    want = expected["group_difference"][key]
    names = ("age", "sex", "site") if site else ("age", "sex")
    column = outcome.replace("bagc_beheshti", "bag_corrected")
    row = ancova(tested[tested["group"] == case], tested[tested["group"] == "NC"], column, names)
    got = [row[k] for k in ("mean_diff", "t", "df", "p", "ci_lo", "ci_hi", "hedges_g")]
    assert got == pytest.approx(
        [*(want[k] for k in ("beta_case", "t", "df", "p")), *want["ci"], want["adj_smd"]], rel=1e-8
    )
    robust = [row["se"], row["se_hc3"], row["p_hc3"]]
    assert robust == pytest.approx([want["se"], want["se_hc3"], want["p_hc3_z"]], rel=1e-8)


def test_ancova_against_a_formula(tested):
    rows = tested[tested["group"].isin(["AD", "NC"])].assign(case=lambda d: (d["group"] == "AD").astype(int))
    fit = smf.ols("bag_b ~ case * age + sex", rows).fit()
    row = ancova(rows[rows["case"] == 1], rows[rows["case"] == 0], "bag_b", ("age", "sex"))
    assert row["p_interaction"] == pytest.approx(fit.pvalues["case:age"], rel=1e-8)
    plain = smf.ols("bag_b ~ case + age + sex", rows).fit()
    assert row["mean_diff"] == pytest.approx(plain.params["case"])


@pytest.mark.parametrize("case", ["AD", "PD"])
def test_reference_age_balance(tested, expected, result, case):
    want = expected["group_difference"][f"{case}_vs_NC:age_balance"]
    got = age_balance(*(tested["age"][tested["group"] == g] for g in (case, "NC")))
    names = {"mean_case": "mean_age_case", "mean_control": "mean_age_nc"}
    assert got == pytest.approx({k: want[names.get(k, k)] for k in got})
    assert "unadjusted comparison is confounded by age" in result.loc[(case, "a", "raw"), "note"]


def test_columns_and_q_only_in_the_primary_rows(tested):
    table = group_differences(tested, ["a", "b"], ["NC"])
    assert list(table.columns) == GROUPDIFF.columns
    primary = table["variant"] == "ancova:age+sex"
    np.testing.assert_allclose(table["q_fdr"][primary], benjamini_hochberg(table["p"][primary]))
    assert table["q_fdr"][~primary].isna().all()
    assert set(table["status"]) == {"ok"}


def test_age_restricted_rows_are_what_they_say(tested, result):
    inside = tested[tested["age"].between(62.6, 89.9)]
    want = stats.ttest_ind(*(inside["bag_a"][inside["group"] == g] for g in ("AD", "NC")), equal_var=False)
    assert result.loc[("AD", "a", "raw:age-overlap"), "p"] == pytest.approx(want.pvalue)
    row = result.loc[("AD", "a", "raw:age-matched")]
    assert row["n_case"] == row["n_control"]


def test_balanced_groups_get_no_age_restricted_rows(tested):
    controls = tested[tested["group"] == "NC"]
    twins = controls.assign(group="X", participant_id=controls["participant_id"] + "x", bag_a=controls["bag_a"] + 1)
    table = group_differences(pd.concat([controls, twins]), ["a"], ["NC"]).set_index("variant")
    assert not any(":age-" in name for name in table.index)
    assert table.loc["raw", "mean_diff"] == pytest.approx(1)
    assert table.loc["ancova:age+sex", "mean_diff"] == pytest.approx(1)


def test_matching_is_greedy_unique_and_within_the_caliper():
    case, control = np.array([70.0, 60.0, 60.0, 90.0, np.nan]), np.array([61.9, 70.5, 59.5, np.nan, 62.1])
    assert match_by_age(case, control) == [(1, 2), (2, 0), (0, 1)]
    assert match_by_age(case, np.array([])) == []


def test_matching_finds_what_a_search_through_all_controls_finds():
    rng = np.random.default_rng(4)
    for step in (1.0, 0.1, 0.001):  # whole years have many ties
        case, control = (np.round(rng.uniform(60, 80, n) / step) * step for n in (60, 80))
        free, expected = set(range(80)), []
        for i in np.argsort(case, kind="stable"):
            near = [
                (round(abs(control[j] - case[i]), 9), control[j], j) for j in free if abs(control[j] - case[i]) <= 2
            ]
            if near:
                free.remove(min(near)[2])
                expected.append((i, min(near)[2]))
        assert match_by_age(case, control) == expected


def test_pooled_controls_are_joined(tested):
    relabelled = tested.assign(group=tested["group"].where((tested["group"] != "NC") | (tested.index % 2 == 0), "HC"))
    table = group_differences(relabelled, ["a"], ["NC", "HC"]).set_index(["case", "variant"])
    assert table.loc[("AD", "raw"), ["control", "n_control"]].tolist() == ["HC+NC", 60]


def test_site_nested_in_group_is_confounded(tested):
    nested = tested[tested["group"] != "PD"].assign(site=lambda d: np.where(d["group"] == "AD", "X", "Y"))
    table = group_differences(nested, ["a"], ["NC"]).set_index("variant")
    row = table.loc["ancova:age+sex+site"]
    assert row["status"] == "confounded"
    assert np.isnan(row["p"])
    assert table.loc["ancova:age+sex", "status"] == "ok"


def test_dataset_is_adjusted_for_like_site(tested):
    both = group_differences(tested.assign(dataset=tested["site"]), ["a"], ["NC"]).set_index(["case", "variant"])
    for case in ("AD", "PD"):
        site, dataset = (both.loc[(case, f"ancova:age+sex+{place}")] for place in ("site", "dataset"))
        assert dataset["mean_diff"] == pytest.approx(site["mean_diff"], rel=1e-12)
    apart = tested.assign(dataset=np.where(tested["group"] == "AD", "clinic", "D"))
    table = group_differences(apart, ["a"], ["NC"]).set_index(["case", "variant"])
    assert table.loc[("AD", "ancova:age+sex+dataset"), "status"] == "confounded"
    assert "no dataset has both groups" in table.loc[("AD", "raw"), "note"]
    assert "dataset" not in table.loc[("PD", "raw"), "note"]


def test_one_site_gives_no_site_row(tested):
    table = group_differences(tested.assign(site="A"), ["a"], ["NC"])
    assert not table["variant"].str.contains("site").any()


def test_sex_nested_in_group_is_rank_deficient(tested):
    nested = tested[tested["group"] != "PD"].assign(sex=lambda d: np.where(d["group"] == "AD", "F", "M"))
    table = group_differences(nested, ["a"], ["NC"]).set_index("variant")
    assert table.loc["ancova:age+sex", "status"] == "rank_deficient"


def test_no_controls(tested):
    table = group_differences(tested[tested["group"] != "NC"], ["a"], ["NC"]).set_index(["case", "variant"])
    assert set(table["status"][:3]) == {"no_controls"}
    values = tested["bag_corrected_a"][tested["group"] == "AD"]
    row = table.loc[("AD", "corrected:one-sample")]
    want = stats.ttest_1samp(values, 0)
    assert [row["mean_diff"], row["t"], row["p"]] == pytest.approx([values.mean(), want.statistic, want.pvalue])


def test_no_groups_and_no_patients(tested):
    table = group_differences(tested.assign(group=None), ["a"], ["NC"])
    assert set(table["case"]) == {"all"}
    assert len(group_differences(tested[tested["group"] == "NC"], ["a"], ["NC"])) == 0


def test_two_patients_are_too_few(tested):
    few = tested.drop(tested.index[tested["group"] == "AD"][2:])
    table = group_differences(few, ["a"], ["NC"]).set_index(["case", "variant"]).loc["AD"]
    assert set(table["status"]) == {"insufficient_n"}
    assert table["p"].isna().all()


def test_no_spread_is_not_tested():
    row = welch(np.ones(5), np.zeros(5))
    assert (row["status"], row["mean_diff"]) == ("zero_variance", 1.0)
    assert "t" not in row


def test_correction_switched_off_skips(tested):
    table = group_differences(tested.assign(bag_corrected_a=np.nan), ["a"], ["NC"]).set_index(["case", "variant"])
    assert table.loc[("AD", "corrected"), "status"] == "skipped"


@pytest.mark.parametrize(("shift", "n"), [(0.0, 10), (3.0, 10), (-12.0, 30), (0.1, 5000)])
def test_interval_of_g_inverts_the_noncentral_t(shift, n):
    rng = np.random.default_rng(7)
    case, control = rng.normal(shift, 1, n), rng.normal(0, 1, n + 3)
    row, note = hedges_g(case, control)
    assert row["g_ci_lo"] < row["hedges_g"] < row["g_ci_hi"]
    assert note == ""
    m = 2 * n + 1
    factor = row["hedges_g"] / (stats.ttest_ind(case, control).statistic * np.sqrt(1 / n + 1 / (n + 3)))
    assert factor == pytest.approx(1 - 3 / (4 * m - 1), rel=1e-3)
    noncentral = row["g_ci_lo"] / factor / np.sqrt(1 / n + 1 / (n + 3))
    tail = stats.nct.sf(stats.ttest_ind(case, control).statistic, m, noncentral)
    assert tail == pytest.approx(0.025, rel=1e-4)


@pytest.mark.parametrize("case", ["AD", "PD"])
@pytest.mark.parametrize("model", ["a", "b"])
def test_roc_reference(tested, expected, case, model):
    table = roc(tested, ["a", "b"], ["NC"]).set_index(["case", "model", "variant"])
    assert list(roc(tested, ["a"], ["NC"]).columns) == ROC.columns
    for variant, name in (("raw", "bag"), ("corrected", "bagc_beheshti")):
        row, want = table.loc[(case, model, variant)], expected["group_difference"][f"{case}_vs_NC:{name}_{model}"]
        got = [row[k] for k in ("auc", "se", "ci_lo", "ci_hi")]
        assert got == pytest.approx([want["auc"], want["se_delong"], *want["ci_delong"]], rel=1e-8)
        assert [row["logit_ci_lo"], row["logit_ci_hi"]] == pytest.approx(want["ci_delong_logit"], rel=1e-8)


def test_curves_rise_from_corner_to_corner_and_hold_the_area(tested):
    table = roc(tested, ["a", "b"], ["NC"]).set_index(["model", "variant", "case", "control"])
    curves = roc_curves(tested, ["a", "b"], ["NC"])
    assert list(curves.columns) == ROC_CURVES.columns
    groups = curves.groupby(["model", "variant", "case", "control"], sort=False)
    assert set(groups.groups) == set(table.index)
    for key, curve in groups:
        assert curve[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
        assert np.isnan(curve["threshold"].iloc[0])
        assert (np.diff(curve["threshold"].iloc[1:]) < 0).all()
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(table.loc[key, "auc"])


def test_curves_of_too_few_people_and_of_no_controls_are_left_out(tested):
    few = tested[(tested["group"] == "NC") | (tested["participant_id"] == "sub-AD201")]
    assert roc_curves(few, ["a"], ["NC"]).empty
    assert roc_curves(tested[tested["group"] != "NC"], ["a"], ["NC"]).empty


def test_delong_against_the_double_loop_with_ties():
    rng = np.random.default_rng(4)
    case, control = rng.integers(0, 8, 25) + 2.0, rng.integers(0, 8, 40) + 0.0
    wins = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in control] for a in case])
    row = area(case, control)
    assert row["auc"] == pytest.approx(wins.mean())
    assert row["auc"] == pytest.approx(metrics.roc_auc_score([1] * 25 + [0] * 40, [*case, *control]))
    assert row["se"] == pytest.approx(np.sqrt(wins.mean(1).var(ddof=1) / 25 + wins.mean(0).var(ddof=1) / 40))


@pytest.mark.parametrize("name", ["auc_all_ties", "auc_perfect", "auc_no_controls"])
def test_roc_edges(edge_cases, name):
    case = edge_cases[name]
    row = area(case["pos"], case["neg"])
    assert row["status"] == case["expect"]["status"]
    assert row.get("auc") == case["expect"]["auc"]
    assert "ci_lo" not in row


def test_adjusted_roc_is_the_auc_of_control_residuals(tested):
    controls = tested[tested["group"] == "NC"]
    fit = smf.ols("bag_a ~ age + sex", controls).fit()
    rest = tested["bag_a"] - fit.predict(tested)
    want = area(rest[tested["group"] == "AD"], rest[tested["group"] == "NC"])["auc"]
    table = roc(tested, ["a"], ["NC"]).set_index(["case", "variant"])
    assert table.loc[("AD", "adjusted:age+sex"), "auc"] == pytest.approx(want)


def test_adjusted_roc_error_is_that_of_refitted_resamples(tested):
    people = tested[tested["group"].isin(["AD", "NC"])]
    se = roc(people, ["a"], ["NC"]).set_index("variant").loc["adjusted:age+sex", "se"]
    rng, found = np.random.default_rng(3), []
    design = np.column_stack([np.ones(len(people)), people["age"], people["sex"] == "M"])
    bag, is_case = people["bag_a"].to_numpy(), (people["group"] == "AD").to_numpy()
    for _ in range(2000):
        case, control = (rng.choice(np.flatnonzero(member), member.sum()) for member in (is_case, ~is_case))
        beta = np.linalg.lstsq(design[control], bag[control], rcond=None)[0]
        found.append(area(bag[case] - design[case] @ beta, bag[control] - design[control] @ beta)["auc"])
    assert se == pytest.approx(np.std(found), rel=0.1)


def test_adjusted_roc_of_people_alike_is_delongs():
    rng = np.random.default_rng(2)
    n = 4000
    is_case, age, residual = np.arange(n) < n // 2, rng.uniform(20, 90, n), rng.normal(0, 5, n)
    residual -= np.where(is_case, 0, np.polyval(np.polyfit(age[~is_case], residual[~is_case], 1), age))
    residual[~is_case] -= residual[~is_case].mean()
    design = np.column_stack([np.ones(n), age])
    row, want = adjusted_area(residual, design, is_case, ~is_case), area(residual[is_case], residual[~is_case])
    assert row["auc"] == want["auc"]
    assert row["se"] == pytest.approx(want["se"], rel=0.05)


def test_roc_skips_what_it_cannot_make(tested):
    table = roc(tested.assign(bag_corrected_a=np.nan), ["a"], ["NC"]).set_index(["case", "variant"])
    assert table.loc[("AD", "corrected"), "status"] == "skipped"
    alone = roc(tested[tested["group"] == "AD"], ["a"], ["NC"])
    assert set(alone["status"]) == {"no_controls"}


def test_curve_encloses_the_area():
    rng = np.random.default_rng(4)
    case, control = rng.integers(0, 8, 25) + 2.0, rng.integers(0, 8, 40) + 0.0
    curve = roc_curve(case, control)
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(area(case, control)["auc"])
    assert curve.iloc[-1][["fpr", "tpr"]].tolist() == [1.0, 1.0]
    assert len(roc_curve([], control)) == 0
