import itertools

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from brainage_bids.errors import UsageError
from brainage_bids.result_tables import CORRELATIONS
from brainage_bids.stats.correlate import correlation, correlations, partial_correlation
from brainage_bids.stats.fdr import benjamini_hochberg

CASES = ["AD:adas11:a", "AD:adas11:b", "PD:updrs3:a", "PD:updrs3:b", "PD:hy:a", "PD:hy:b"]


@pytest.fixture(scope="module")
def result(tested):
    covariates = ("age", "sex", "site")
    table = correlations(tested, ["a", "b"], ["adas11", "updrs3", "hy"], covariates, ["NC"])
    return table.set_index(["group", "score", "model", "variant", "statistic"]).sort_index()


@pytest.mark.parametrize("case", CASES)
def test_reference_simple(result, expected, case):
    for variant, name in (("raw", "raw"), ("corrected", "corrected_beheshti")):
        want, rows = expected["correlations"][case][name], result.loc[(*case.split(":"), variant)]
        got = rows.loc["pearson", ["n", "estimate", "p", "ci_lo", "ci_hi"]].tolist()
        assert got == pytest.approx(
            [want["n"], want["pearson_r"], want["pearson_p"], *want["pearson_ci_fisher"]], rel=1e-8
        )
        got = rows.loc["spearman", ["estimate", "p", "ci_lo", "ci_hi"]].tolist()
        wanted = [want["spearman_rho"], want["spearman_p_t"], *want["spearman_ci_bonett_wright"]]
        assert got == pytest.approx(wanted, rel=1e-8)
        got = rows.loc["kendall", ["estimate", "p"]].tolist()
        assert got == pytest.approx([want["kendall_tau_b"], want["kendall_p"]], rel=1e-8)
        assert rows.loc["kendall", "status"] == "ok_no_ci"


@pytest.mark.parametrize("case", CASES)
def test_reference_partial(result, expected, case):
    names = {
        "partial:age": "partial_age",
        "partial:age+sex": "partial_age_sex",
        "partial:age+sex+site": "partial_age_sex_site",
    }
    pairs = [(variant, "pearson", name) for variant, name in names.items()]
    for variant, statistic, name in [*pairs, ("partial:age+sex", "spearman", "partial_spearman_age_sex")]:
        want, row = expected["correlations"][case][name], result.loc[(*case.split(":"), variant, statistic)]
        got = row[["n", "estimate", "df", "p", "ci_lo", "ci_hi"]].tolist()
        assert got == pytest.approx([want["n"], want["r"], want["df"], want["p"], *want["ci"]], rel=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_partial_with_head_size_and_of_corrected(tested, expected, case):
    group, score, model = case.split(":")
    rows = tested[tested["group"] == group]
    want = expected["correlations"][case]["partial_age_sex_eicv"]
    got = partial_correlation(rows[f"bag_{model}"], rows[score], rows[["age", "sex", "eicv_ml"]])
    assert [got["n"], got["estimate"], got["p"]] == pytest.approx([want["n"], want["r"], want["p"]], rel=1e-8)
    corrected = partial_correlation(rows[f"bag_corrected_{model}"], rows[score], rows[["age"]])
    raw = partial_correlation(rows[f"bag_{model}"], rows[score], rows[["age"]])
    assert corrected["estimate"] == pytest.approx(raw["estimate"], rel=1e-10)


def test_columns_families_and_q(tested):
    table = correlations(tested, ["a", "b"], ["adas11", "updrs3", "hy"], controls=["NC"])
    assert list(table.columns) == CORRELATIONS.columns
    primary = table[table["family"] == "scores"]
    assert len(primary) == 6
    assert set(primary["variant"]) == {"partial:age+sex"}
    assert set(primary["statistic"][primary["score"] == "hy"]) == {"spearman"}
    assert set(primary["statistic"][primary["score"] != "hy"]) == {"pearson"}
    np.testing.assert_allclose(primary["q_fdr"], benjamini_hochberg(primary["p"]))
    assert table["q_fdr"][table["family"] != "scores"].isna().all()


def test_groups_without_the_score_give_no_row_and_all_is_always_there(result):
    groups = set(result.reset_index().loc[lambda d: d["score"] == "adas11", "group"])
    assert groups == {"AD", "all"}


def test_all_carries_q_only_without_groups(tested):
    table = correlations(tested.assign(group=None), ["a"], ["adas11"])
    assert table["q_fdr"].notna().sum() == 1


def test_pooled_row_warns_when_it_mixes_controls_and_patients(tested):
    scored = tested.assign(mmse=25.0 + tested["bag_a"] / 10)
    table = correlations(scored, ["a"], ["mmse"], controls=["NC"]).set_index(["group", "variant", "statistic"])
    assert "pools controls and patients" in table.loc[("all", "raw", "pearson"), "note"]
    assert "pools" not in table.loc[("AD", "raw", "pearson"), "note"]


def test_partial_against_pingouin(tested):
    rows = tested[tested["group"] == "PD"].assign(male=lambda d: (d["sex"] == "M").astype(float))
    for method in ("pearson", "spearman"):
        want = pingouin.partial_corr(rows.dropna(subset=["updrs3"]), "bag_a", "updrs3", ["age", "male"], method=method)
        got = partial_correlation(rows["bag_a"], rows["updrs3"], rows[["age", "sex"]], method)
        assert got["estimate"] == pytest.approx(want["r"].iloc[0], rel=1e-8)


EDGES = [
    "corr_n0",
    "corr_n2",
    "corr_n3",
    "corr_constant_score",
    "corr_constant_bag",
    "corr_nan_pairwise",
    "corr_perfect",
]


@pytest.mark.parametrize("name", EDGES)
def test_edges(edge_cases, name):
    case = edge_cases[name]
    x, y = (np.array([np.nan if v is None else v for v in case[key]], dtype=float) for key in "xy")
    got = correlation(x, y)
    names = {"r": ("estimate",), "p": ("p",), "ci": ("ci_lo", "ci_hi"), "n": ("n",), "n_missing": ("n_missing",)}
    wanted = dict(case["expect"])
    assert got["status"] == wanted.pop("status")
    for key, want in wanted.items():
        values = [got[column] for column in names[key]]
        if want is None:
            assert np.isnan(values).all()
        else:
            assert values == pytest.approx(want if isinstance(want, list) else [want])


@pytest.mark.parametrize("name", ["spearman_ties", "kendall_b_ties"])
def test_ties(edge_cases, name):
    case = edge_cases[name]
    got = correlation(case["x"], case["y"], case["fn"])
    assert [got["estimate"], got["p"]] == pytest.approx(list(case["expect"].values()), rel=1e-9)


@pytest.mark.parametrize("name", ["hy", "HY", "NHY", "Hoehn_Yahr"])
def test_stages_are_ranked_under_any_of_their_names(tested, name):
    table = correlations(tested.rename(columns={"hy": name}), ["a"], [name], controls=["NC"])
    primary = table[table["family"] == "scores"]
    assert set(primary["statistic"]) == {"spearman"}
    wide = tested.rename(columns={"hy": name}).assign(**{name: tested["hy"] + 4})
    assert correlations(wide, ["a"], [name], controls=["NC"])["note"].str.contains("outside 0 to 5").any()


@pytest.mark.parametrize(("n", "p"), [(3, 2 / 6), (4, 2 / 24), (5, 2 / 120)])
def test_a_perfect_order_of_few_people_is_no_certainty(n, p):
    x = np.arange(n) ** 2.0
    got = correlation(x, -x, "spearman", exact=True)
    assert (got["estimate"], got["status"]) == (-1.0, "perfect")
    assert got["p"] == pytest.approx(p)
    assert correlation(x, -x, "pearson")["p"] == 0.0


def test_exact_spearman_p_counts_every_order():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=6), np.array([1.0, 2, 2, 3, 5, 4])
    rank_x, rank_y = stats.rankdata(x), stats.rankdata(y)
    seen = abs(np.corrcoef(rank_x, rank_y)[0, 1])
    hits = [abs(np.corrcoef(rank_x, order)[0, 1]) >= seen - 1e-9 for order in itertools.permutations(rank_y)]
    got = correlation(x, y, "spearman", exact=True)
    assert got["p"] == pytest.approx(np.mean(hits))
    assert got["note"] == "exact permutation p"
    assert correlation(x, y, "spearman")["p"] != got["p"]


def test_a_person_with_a_missing_covariate_leaves_only_that_variant(tested):
    rows = tested[tested["group"] == "AD"].reset_index(drop=True)
    rows.loc[rows.index[rows["adas11"].notna()][0], "sex"] = None
    table = correlations(rows, ["a"], ["adas11"]).set_index(["group", "variant", "statistic"])
    assert table.loc[("AD", "partial:age", "pearson"), "n"] == 28
    assert table.loc[("AD", "partial:age+sex", "pearson"), ["n", "n_missing"]].tolist() == [27, 3]


def test_constant_and_unrecorded_covariates_drop_and_are_named(tested):
    rows = tested[tested["group"] == "PD"]
    age_only = partial_correlation(rows["bag_a"], rows["updrs3"], rows[["age"]])
    for sex, note in (("F", "dropped sex (constant)"), (None, "dropped sex (not recorded)")):
        got = partial_correlation(rows["bag_a"], rows["updrs3"], rows[["age"]].assign(sex=sex))
        assert note in got["note"]
        assert [got["estimate"], got["df"]] == [age_only["estimate"], age_only["df"]]


def test_repeated_covariates_are_rank_deficient(tested):
    rows = tested[tested["group"] == "PD"]
    got = partial_correlation(rows["bag_a"], rows["updrs3"], rows[["age"]].assign(months=12 * rows["age"] + 3))
    assert got["status"] == "rank_deficient"
    assert np.isnan(got["estimate"])


def test_too_many_covariates_for_the_people():
    rng = np.random.default_rng(0)
    covariates = pd.DataFrame(rng.normal(size=(6, 3)), columns=list("abc"))
    got = partial_correlation(rng.normal(size=6), rng.normal(size=6), covariates)
    assert (got["status"], got["n"]) == ("insufficient_n", 6)
    ok = partial_correlation(rng.normal(size=6), rng.normal(size=6), covariates[["a", "b"]])
    assert ok["status"] == "ok"


def test_score_explained_by_age_is_constant_after_partialling(tested):
    rows = tested[tested["group"] == "PD"]
    got = partial_correlation(rows["bag_a"], 3 * rows["age"] + 1, rows[["age"]])
    assert got["status"] == "constant_input"


def test_dataset_is_partialled_out_where_people_come_from_two(tested):
    two = tested.assign(dataset=tested["site"])
    asked = correlations(two, ["a"], ["adas11"], covariates=("age", "sex", "site")).set_index(["group", "variant"])
    names = [("AD", f"partial:age+sex+{place}") for place in ("dataset", "site")]
    dataset, site = (asked.loc[name, "estimate"].to_numpy() for name in names)
    np.testing.assert_array_equal(dataset, site)
    one = correlations(tested.assign(dataset="D"), ["a"], ["adas11"])
    assert not one["variant"].str.contains("dataset").any()


def test_site_is_partialled_out_unasked_where_there_are_two(tested):
    asked = correlations(tested, ["a"], ["adas11"], covariates=("age", "sex", "site"))
    unasked = correlations(tested, ["a"], ["adas11"])
    pd.testing.assert_frame_equal(asked, unasked)
    rows = unasked[unasked.variant == "partial:age+sex+site"]
    assert (rows.family == "sensitivity").all()
    one = correlations(tested.assign(site="1"), ["a"], ["adas11"])
    assert not one["variant"].str.contains("site").any()


def test_range_and_floor_notes(tested):
    rows = tested[tested["group"] == "AD"].copy()
    rows["adas11"] = np.where(np.arange(30) < 10, 0.0, rows["adas11"].fillna(5))
    rows.iloc[-1, rows.columns.get_loc("adas11")] = 71.0
    note = correlations(rows, ["a"], ["adas11"])["note"][0]
    assert "1 values outside 0 to 70" in note
    assert "33% of the scores at the floor" in note


def test_no_bias_correction_skips_that_variant(tested):
    rows = tested.assign(bag_corrected_a=np.nan)
    table = correlations(rows, ["a"], ["adas11"]).set_index(["group", "variant", "statistic"])
    assert table.loc[("AD", "corrected", "pearson"), "status"] == "skipped"
    assert table.loc[("AD", "raw", "pearson"), "status"] == "ok"


def test_unknown_covariate_raises(tested):
    with pytest.raises(UsageError, match="covariate 'weight'"):
        correlations(tested, ["a"], ["adas11"], ("age", "weight"))
