"""The counted resamples against scipy's bootstrap, which draws the same people from the same seed."""

import numpy as np
import pytest
from scipy import stats

from brainage_bids.stats import bootstrap
from brainage_bids.stats.bootstrap import bca, correlation_bca, resample_counts
from brainage_bids.stats.columns import number
from brainage_bids.stats.correlate import correlations, partial_correlation


def sample(n=30, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, np.round(x + rng.normal(size=n)), np.column_stack([rng.normal(size=n), rng.integers(0, 2, n)])


def scipy_interval(statistic, *data, seed=7, n_resamples=400):
    found = stats.bootstrap(
        data, statistic, paired=True, vectorized=False, n_resamples=n_resamples, rng=np.random.default_rng(seed)
    )
    return tuple(found.confidence_interval)


def partial(x, y, *covariates, ranks=False):
    if ranks:
        x, y, *covariates = (stats.rankdata(v) for v in (x, y, *covariates))
    design = np.column_stack([np.ones(len(x)), *covariates])
    left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    return np.corrcoef(*left)[0, 1]


@pytest.mark.parametrize("ranks", [False, True])
@pytest.mark.parametrize("adjusted", [0, 1, 2])
def test_equals_scipy(monkeypatch, ranks, adjusted):
    monkeypatch.setattr(bootstrap, "resample_counts", lambda n, seed: resample_counts(n, seed, 400))
    x, y, covariates = sample()
    held = covariates[:, :adjusted]
    want = scipy_interval(lambda *v: partial(*v, ranks=ranks), x, y, *held.T)
    assert correlation_bca(x, y, held, ranks, seed=7) == pytest.approx(want, abs=1e-9)


def test_reference(tested, expected):
    want = expected["bootstrap_bca"]["AD_pearson_bag_a_adas11"]
    rows = tested[tested["group"] == "AD"].dropna(subset=["adas11"])
    got = correlation_bca(rows["bag_a"].to_numpy(), rows["adas11"].to_numpy(), seed=20251127)
    assert got == pytest.approx(want["ci"], abs=want["tolerance"])


def test_counts_are_resamples():
    counts = resample_counts(12, seed=1)
    assert counts.shape == (10_000, 12)
    assert (counts.sum(axis=1) == 12).all()
    assert counts.mean() == 1
    np.testing.assert_array_equal(counts, resample_counts(12, seed=1))
    assert (counts != resample_counts(12, seed=2)).any()


@pytest.mark.parametrize("n", [9, 200])
def test_too_few_and_many_people_have_no_interval(n):
    x, y, _ = sample(n)
    assert np.isnan(correlation_bca(x, y)).all()


def test_resamples_without_variation_give_no_interval():
    x = np.arange(10.0)
    lone = (x == 4).astype(float)  # left out by 35 % of the resamples
    assert np.isnan(correlation_bca(x, lone)).all()


def test_degenerate_bca():
    draws = np.linspace(0, 1, 100)
    assert np.isnan(bca(2.0, draws, np.arange(5.0))).all()  # all resamples on one side
    assert np.isnan(bca(0.5, draws, np.ones(5))).all()  # no one matters


def test_table_carries_the_interval_where_it_is_asked_for(tested):
    table = correlations(tested, ["a"], ["adas11", "hy"], controls=["NC"])
    has = table["bca_ci_lo"].notna()
    kinds = set(zip(table["score"][has], table["variant"][has], table["statistic"][has], strict=True))
    raw = {(score, "raw", kind) for score in ("adas11", "hy") for kind in ("pearson", "spearman")}
    primary = {("adas11", "partial:age+sex", "pearson"), ("hy", "partial:age+sex", "spearman")}
    assert kinds == raw | primary
    assert (table["bca_ci_hi"].notna() == has).all()
    columns = list(table.columns)
    assert columns.index("bca_ci_lo") < columns.index("status")
    row = table.set_index(["group", "score", "variant", "statistic"]).loc[("PD", "hy", "partial:age+sex", "spearman")]
    rows = tested[tested["group"] == "PD"]
    want = partial_correlation(number(rows, "bag_a"), number(rows, "hy"), rows[["age", "sex"]], "spearman")
    assert row["estimate"] == pytest.approx(want["estimate"], rel=1e-12)
    assert row["bca_ci_lo"] < row["estimate"] < row["bca_ci_hi"]


def test_the_seed_decides(tested):
    first, again, other = (
        correlations(tested, ["a"], ["adas11"], seed=seed)["bca_ci_lo"].dropna().tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
