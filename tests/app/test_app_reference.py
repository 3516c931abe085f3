"""The 184 reference people as a BIDS dataset, through the command line: every table against the reference values.

The 60 validation controls fit the age-bias line (``--bias-query``) and leave the tests; the values were computed with
scipy, statsmodels, pingouin and scikit-learn from the same table (science: C.14).
"""

import pandas as pd
import pytest
from groupstudy import group_level, make_dataset, predictions
from references import REFERENCE, reference_results

from brainage_bids.bids.files import read_tsv

MODELS, CASES = ("a", "b"), ("AD", "PD")
CORRELATIONS = ("AD:adas11", "PD:updrs3", "PD:hy")
EXACT = {"rel": 1e-6, "abs": 1e-9}
BINS = {"20-40": "[20,40)", "40-60": "[40,60)", "60-80": "[60,80)", "80+": "[80,inf)"}


def close(got, want, **tolerance):
    assert list(got) == pytest.approx(list(want), **(tolerance or EXACT))


@pytest.fixture(scope="module")
def expected():
    return reference_results()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The dataset and the options of the run."""
    root = tmp_path_factory.mktemp("reference")
    table = read_tsv(REFERENCE / "reference_table.tsv")
    bids = make_dataset(root / "bids", table.drop(columns=["pred_a", "pred_b", "session_id", "split"]))
    given = [predictions(root / f"{m}.csv", table["participant_id"], table[f"pred_{m}"]) for m in MODELS]
    people = set(table.loc[table["split"] == "val", "participant_id"])
    query = f"participant_id in {sorted(people)}"
    return root, bids, ("--predictions", *given, "--bias-query", query)


@pytest.fixture(scope="module")
def result(study):
    root, bids, options = study
    found = group_level(bids, root / "out", *options, "--covariate", "age", "sex", "site")
    assert found.code == 0
    return found


@pytest.fixture(scope="module")
def with_volume(study):
    """The same with the intracranial volume held constant, and Cole's form of the corrected gap."""
    root, bids, options = study
    volume = "eicv_ml=participants.tsv:eicv_ml"
    found = group_level(bids, root / "volume", *options, "--covariate", "age", "sex", volume, "--bias-method", "cole")
    assert found.code == 0
    return found


def accuracy_matches(row, want):
    names = "mae ae_sd medae rmse r2 pearson_r spearman_rho bag_mean bag_sd bag_t bag_df bag_p bag_dz".split()
    names += ["agebias_slope", "agebias_intercept", "agebias_r", "agebias_p"]
    close(row[["n", *names, "agebias_se"]], [want[name] for name in ["n", *names, "agebias_slope_se"]])
    close(row[["bag_ci_lo", "bag_ci_hi"]], want["bag_ci"])
    assert (row["n_missing"], row["status"]) == (0, "ok")


def test_the_people_who_fit_the_line_leave_the_tests(result):
    assert result.table("accuracy", "model", "subset").loc[("a", "all"), "n"] == 124
    assert len(result.table("brainage")) == 184


@pytest.mark.parametrize("model", MODELS)
def test_accuracy(result, expected, model):
    table = result.table("accuracy", "model", "subset")
    for group in ("NC", *CASES):
        accuracy_matches(table.loc[(model, f"group={group}")], expected["accuracy"][f"{group}_test"][model])
    for name, label in BINS.items():
        accuracy_matches(table.loc[(model, f"age={label}")], expected["age_bins_NC_test"][model][name])
    for sex in "FM":
        accuracy_matches(table.loc[(model, f"sex={sex}")], expected["sex_NC_test"][model][sex])
    for site, want in expected["site_effect_NC_bag_a"]["site_means"].items():
        if model == "a":
            got = table.loc[(model, f"site={site}"), ["n", "bag_mean", "bag_sd"]]
            close(got, [want["n"], want["bag_mean"], want["bag_sd"]])


def test_bootstrap_interval_of_the_error(result, expected):
    want = expected["bootstrap_bca"]["NC_MAE_a"]
    row = result.table("accuracy", "model", "subset").loc[("a", "group=NC")]
    close(row[["mae_ci_lo", "mae_ci_hi"]], want["ci"], abs=want["tolerance"])


def test_sex_difference(result, expected):
    want = expected["sex_difference_NC_bag_a"]
    row = result.table("accuracy", "model", "subset").loc[("a", "sex=M-F")]
    close(
        row[["bag_mean", "bag_t", "bag_df", "bag_p"]],
        [want[k] for k in ("mean_M_minus_F", "welch_t", "welch_df", "p")],
    )


def test_model_comparison(result, expected):
    want = expected["paired_abs_error_NC_test"]
    row = result.table("modelcomparison", "subset").loc["group=NC"]
    names = ["n", "mae_diff", "t", "df", "p", "dz", "wilcoxon_w", "wilcoxon_p"]
    keys = ["n", "mean_diff_a_minus_b", "t", "df", "p", "dz", "wilcoxon_W", "wilcoxon_p_approx"]
    close(row[names], [want[key] for key in keys])
    close(row[["ci_lo", "ci_hi"]], want["ci"])
    assert row["bca_ci_lo"] < row["mae_diff"] < row["bca_ci_hi"]


@pytest.mark.parametrize("model", MODELS)
def test_bias_lines_hold_every_field(result, expected, model):
    want, line = expected["bias"][model], result.lines[model]
    names = "slope intercept slope_se r n age_min age_max".split()
    fit = want["pred_on_age"] | {"n": want["fit_n"], "age_min": want["fit_age_min"], "age_max": want["fit_age_max"]}
    close([line[name] for name in names], [fit[name] for name in names])
    assert line["slope"] - 1 == pytest.approx(want["bag_on_age"]["slope"], **EXACT)
    assert line["method"] == "beheshti"
    assert line["warnings"] == []
    assert line["source"].startswith("query: ")
    assert line["residual_sd"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_corrected_gaps_in_both_forms(result, with_volume, expected, model):
    forms = {"beheshti": result, "cole": with_volume}
    for form, found in forms.items():
        people = found.table("brainage", "participant_id")
        tested = people[~people.index.isin([f"sub-NC{i:03d}" for i in range(1, 61)])]
        gap = tested[f"bag_corrected_{model}"]
        for group, want in expected["bias"][model]["groups"].items():
            one = gap[tested["group"] == group]
            close([len(one), one.mean(), one.std()], [want["n"], want[f"{form}_mean"], want[f"{form}_sd"]])
        for want in expected["bias"][model]["first_rows"]:
            assert gap[want["participant_id"]] == pytest.approx(want[f"bagc_{form}_{model}"], **EXACT)
        assert found.lines[model]["method"] == form


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("what", CORRELATIONS)
def test_correlations(result, with_volume, expected, what, model):
    want, (group, score) = expected["correlations"][f"{what}:{model}"], what.split(":")
    key = ["model", "group", "score", "variant", "statistic"]
    table, other = (found.table("correlations", *key).loc[(model, group, score)] for found in (result, with_volume))
    for variant, name in (("raw", "raw"), ("corrected", "corrected_beheshti")):
        simple, row = want[name], table.loc[(variant, "pearson")]
        close(row[["n", "estimate", "p"]], [simple["n"], simple["pearson_r"], simple["pearson_p"]])
        close(row[["ci_lo", "ci_hi"]], simple["pearson_ci_fisher"])
        row = table.loc[(variant, "spearman")]
        close(row[["estimate", "p"]], [simple["spearman_rho"], simple["spearman_p_t"]])
        close(row[["ci_lo", "ci_hi"]], simple["spearman_ci_bonett_wright"])
        row = table.loc[(variant, "kendall")]
        close(row[["estimate", "p"]], [simple["kendall_tau_b"], simple["kendall_p"]])
        assert row["status"] == "ok_no_ci"
    cole = other.loc[("corrected", "pearson"), "estimate"]
    assert cole == pytest.approx(want["corrected_cole_pearson_r"], **EXACT)
    variants = {
        "partial_age": table.loc[("partial:age", "pearson")],
        "partial_age_sex": table.loc[("partial:age+sex", "pearson")],
        "partial_age_sex_site": table.loc[("partial:age+sex+site", "pearson")],
        "partial_age_sex_eicv": other.loc[("partial:age+sex+eicv_ml", "pearson")],
        "partial_spearman_age_sex": table.loc[("partial:age+sex", "spearman")],
    }
    for name, row in variants.items():
        close(row[["n", "estimate", "df", "p"]], [want[name][k] for k in ("n", "r", "df", "p")])
        close(row[["ci_lo", "ci_hi"]], want[name]["ci"])
        assert row["n"] + row["n_missing"] == {"AD": 30, "PD": 34}[group]


def test_a_covariate_is_no_score(with_volume):
    assert set(with_volume.table("correlations")["score"]) == {"adas11", "updrs3", "hy"}
    assert "eicv_ml" in with_volume.table("brainage").columns


def test_bootstrap_interval_of_a_correlation(result, expected):
    want = expected["bootstrap_bca"]["AD_pearson_bag_a_adas11"]
    key = ["model", "group", "score", "variant", "statistic"]
    row = result.table("correlations", *key).loc[("a", "AD", "adas11", "raw", "pearson")]
    close(row[["bca_ci_lo", "bca_ci_hi"]], want["ci"], abs=want["tolerance"])


def test_dependent_correlations(result, expected):
    want = expected["williams_dependent_r_AD"]
    row = result.table("correlationcomparison", "group", "score", "variant").loc[("AD", "adas11", "raw")]
    names = ["n", "r_a", "r_b", "r_between", "t", "df", "p"]
    close(row[names], [want[k] for k in ("n", "r_a", "r_b", "r_ab", "t", "df", "p")])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model", MODELS)
def test_group_differences(result, expected, case, model):
    values = expected["group_difference"]
    table = result.table("groupdiff", "case", "model", "variant").loc[(case, model)]
    for variant, name in (("raw", "bag"), ("corrected", "bagc_beheshti")):
        want, row = values[f"{case}_vs_NC:{name}_{model}"], table.loc[variant]
        names = ["n_case", "n_control", "mean_diff", "t", "df", "p", "hedges_g", "mannwhitney_u", "mannwhitney_p"]
        keys = "n1 n2 mean_diff welch_t welch_df welch_p hedges_g mannwhitney_U mannwhitney_p_asym_cc".split()
        close(row[names], [want[k] for k in keys])
        close(row[["ci_lo", "ci_hi"]], want["welch_ci"])
        close(row[["g_ci_lo", "g_ci_hi"]], want["g_ci_noncentral_t"])
    if model == "a":
        for covariates in ("age_sex", "age_sex_site"):
            want = values[f"{case}_vs_NC:ancova:bag_a:{covariates}"]
            row = table.loc["ancova:" + covariates.replace("_", "+")]
            names = ["mean_diff", "se", "t", "df", "p", "hedges_g", "se_hc3", "p_hc3"]
            close(row[names], [want[k] for k in "beta_case se t df p adj_smd se_hc3 p_hc3_z".split()])
            close(row[["ci_lo", "ci_hi"]], want["ci"])
            assert row["n_case"] + row["n_control"] == want["n"]
    assert f"SMD {values[f'{case}_vs_NC:age_balance']['smd']:.2f}" in table.loc["raw", "note"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model", MODELS)
def test_roc(result, expected, case, model):
    table = result.table("roc", "case", "model", "variant").loc[(case, model)]
    for variant, name in (("raw", "bag"), ("corrected", "bagc_beheshti")):
        want, row = expected["group_difference"][f"{case}_vs_NC:{name}_{model}"], table.loc[variant]
        close(row[["auc", "se"]], [want["auc"], want["se_delong"]])
        close(row[["ci_lo", "ci_hi", "logit_ci_lo", "logit_ci_hi"]], [*want["ci_delong"], *want["ci_delong_logit"]])
        curve = result.table("roc_curves", "case", "model", "variant").loc[(case, model, variant)]
        steps = (curve["fpr"].diff() * (curve["tpr"] + curve["tpr"].shift()) / 2).sum()
        assert steps == pytest.approx(want["auc"], **EXACT)


def test_families_of_the_false_discovery_rate(result):
    """Benjamini-Hochberg by hand: per family, over its primary rows; nothing else carries a q."""
    table = result.table("correlations")
    primary = table[table["family"] == "scores"]
    assert set(zip(primary["score"], primary["statistic"], strict=True)) == {
        ("adas11", "pearson"), ("updrs3", "pearson"), ("hy", "spearman"),
    }  # fmt: skip
    assert set(primary["variant"]) == {"partial:age+sex"}
    assert len(primary) == 6
    groups = result.table("groupdiff")
    chosen = groups[groups["variant"] == "ancova:age+sex"]
    assert len(chosen) == 4
    for rows, everything in ((primary, table), (chosen, groups)):
        p = rows["p"].sort_values(ascending=False)
        by_hand = (p * len(p) / pd.Series(range(len(p), 0, -1), index=p.index)).cummin().clip(upper=1)
        close(rows["q_fdr"], by_hand[rows.index])
        assert everything.drop(rows.index)["q_fdr"].isna().all()


@pytest.mark.parametrize("model", MODELS)
def test_conformal(result, expected, model):
    table = result.table("calibration", "model", "level")
    for level in (95, 90, 80):
        want, row = expected["conformal"][f"bagc_beheshti_{model}:{level / 100:.2f}"], table.loc[(model, level)]
        close(
            row[["n_calibration", "half_width", "coverage"]], [want["n_cal"], want["half_width"], want["test_coverage"]]
        )
        assert row["wilson_lo"] < row["coverage"] < row["wilson_hi"]
    people = result.table("brainage", "participant_id")
    fitted = people.index.isin([f"sub-NC{i:03d}" for i in range(1, 61)])
    own, p = people.loc[fitted, f"bag_corrected_{model}"], people[f"conformal_p_{model}"]
    assert p[fitted].isna().all()
    for name, gap in people.loc[~fitted, f"bag_corrected_{model}"].items():
        assert p[name] == pytest.approx((1 + (own >= gap).sum()) / 61)


def test_site(result, expected):
    want = expected["site_effect_NC_bag_a"]
    row = result.table("site", "model").loc["a"]
    close(
        row[["n", "n_sites", "f", "df_num", "df_den", "p"]], [60, 3, *(want[k] for k in ("F", "df_num", "df_den", "p"))]
    )


def test_every_row_says_how_many_and_how_it_went(result):
    for name in "accuracy modelcomparison correlations correlationcomparison groupdiff roc site calibration".split():
        table = result.table(name)
        assert {"status", "note"} <= set(table.columns), name
        assert any(column.startswith("n") for column in table.columns), name
        assert name == "calibration" or "n_missing" in table.columns, name
        text = (result.out / "group" / f"{name}.tsv").read_text()
        assert not {"nan", "inf", "-inf", "None", ""} & {
            cell for line in text.splitlines() for cell in line.split("\t")
        }


def test_the_page_shows_the_new_parts(result):
    page = result.page
    for shown in ("Williams", "ROC curves, AD against NC", "Do the intervals keep their promise", "bootstrap 95 % CI"):
        assert shown in page, shown
    for name in ("roc-AD", "roc-PD", "interval-A", "interval-B"):
        assert (result.out / "group" / "figures" / f"{name}.svg").is_file()
