import numpy as np
import pytest

from brainage_bids.result_tables import CORRELATIONCOMPARISON
from brainage_bids.stats.dependent import correlation_comparison, williams_t


def test_reference(tested, expected):
    rows, want = tested[tested["group"] == "AD"], expected["williams_dependent_r_AD"]
    got = williams_t(rows["adas11"], rows["bag_a"], rows["bag_b"])
    values = [got[k] for k in ("n", "r_a", "r_b", "r_between", "t", "df", "p")]
    assert values == pytest.approx([want[k] for k in ("n", "r_a", "r_b", "r_ab", "t", "df", "p")], rel=1e-8)
    assert got["n_missing"] == len(rows) - want["n"]


def test_edges():
    x = np.arange(8.0)
    noise = np.array([1.0, -1, 2, 0, 1, -2, 0, 1])
    for row, status, note, known in (
        (
            williams_t(noise, x, 2 * x),
            "degenerate",
            "the two gaps are the same up to scale",
            {"r_a", "r_b", "r_between"},
        ),
        (williams_t(noise[:3], x[:3], x[:3]), "insufficient_n", "fewer than 4 complete rows", set()),
        (williams_t(np.ones(8), x, noise), "constant_input", "a variable is constant", set()),
    ):
        assert (row["status"], row["note"]) == (status, note)
        numbers = ("r_a", "r_b", "r_between", "t", "df", "p")
        assert {name for name in numbers if np.isfinite(row[name])} == known
        assert set(numbers) <= set(row)
    assert williams_t(noise[:4], x[:4], x[:4] ** 2)["status"] == "ok"
    same = williams_t(x, noise + x, noise[::-1] + x)
    swapped = williams_t(x, noise[::-1] + x, noise + x)
    assert same["t"] == pytest.approx(-swapped["t"])


def test_size_of_the_test_is_its_level():
    """Two gaps equally related to the score: about 5 % of 2,000 samples are called different."""
    rng, hits = np.random.default_rng(5), 0
    for _ in range(2000):
        common = rng.normal(size=40)
        first, second = (common + rng.normal(size=40) for _ in range(2))
        hits += williams_t(common + rng.normal(size=40), first, second)["p"] < 0.05
    assert 70 <= hits <= 132  # 100 +/- 3.3 SE


def test_table_has_every_group_score_and_variant_for_each_pair(tested):
    rows = tested.assign(bag_c=tested["bag_a"] * 2 + 1, bag_corrected_c=np.nan)
    table = correlation_comparison(rows, ["a", "b", "c"], ["adas11", "hy"], ["NC"])
    assert list(table.columns) == CORRELATIONCOMPARISON.columns
    index = table.set_index(["group", "score", "variant", "model_a", "model_b"])
    assert index.index.is_unique
    assert len(table) == 2 * 2 * 2 * 3  # AD and all for adas11, PD and all for hy; two variants; three pairs
    assert index.loc[("AD", "adas11", "raw", "a", "c"), "status"] == "degenerate"
    assert index.loc[("AD", "adas11", "corrected", "a", "c"), "status"] == "skipped"
    assert "ranks are used" in index.loc[("PD", "hy", "raw", "a", "b"), "note"]
    ranked = rows[rows["group"] == "PD"].dropna(subset=["hy"])
    want = ranked[["hy", "bag_a"]].corr("spearman").iloc[0, 1]
    assert index.loc[("PD", "hy", "raw", "a", "b"), "r_a"] == pytest.approx(want)


def test_a_person_without_one_prediction_leaves_that_pair_only(tested):
    rows = tested[tested["group"] == "AD"].copy()
    rows.loc[rows.index[:4], "bag_b"] = np.nan
    table = correlation_comparison(rows, ["a", "b"], ["adas11"]).set_index(["group", "variant"])
    complete = rows[["adas11", "bag_a", "bag_b"]].notna().all(axis=1).sum()
    assert table.loc[("AD", "raw"), "n"] == complete
    assert table.loc[("AD", "raw"), "n_missing"] == len(rows) - complete


def test_no_scores_and_one_model_give_an_empty_table(tested):
    assert correlation_comparison(tested, ["a", "b"], []).empty
    assert correlation_comparison(tested, ["a"], ["adas11"]).empty
