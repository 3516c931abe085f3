"""Bootstrap (BCa) intervals of correlations.

Resamples are stored as counts ``(b, n)``: how often each person was drawn. So moments are matrix products, and
mid-ranks follow from cumulated counts without sorting again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

N_RESAMPLES = 10_000
BELOW_N = 200  # people; with this many or more, intervals from formulas are as good
FROM_N = 10  # people; with fewer, most resamples contain too few different people
MIN_SPREAD = 1e-10  # share of the variance of all people, below which a resample counts as constant
_TAILS = (0.025, 0.975)


def resample_counts(n: int, seed: int, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Draw ``n`` of ``n`` people with replacement; return how often each was drawn, ``(n_resamples, n)``."""
    drawn = np.random.default_rng(seed).integers(0, n, (n_resamples, n))
    drawn += n * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_resamples * n).reshape(n_resamples, n).astype("float64")


def correlation_bca(
    x: np.ndarray, y: np.ndarray, covariates: np.ndarray | None = None, ranks: bool = False, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % BCa interval of a correlation, a rank correlation, or a partial one.

    Parameters
    ----------
    x, y
        ``(n,)`` complete values.
    covariates
        ``(n, k)`` design without intercept; fitted again in each resample.
    ranks
        Rank every variable within each resample first (mid-ranks).
    seed
        Seed of the 10,000 resamples.

    Returns
    -------
    tuple
        Ends of the interval; NaN when n is below 10 or at least 200, or too few resamples vary.

    References
    ----------
    Efron, J Am Stat Assoc 1987.
    """
    n = len(x)
    if not FROM_N <= n < BELOW_N:
        return math.nan, math.nan
    values = np.column_stack([x, y] if covariates is None else [x, y, covariates]).astype("float64")
    values -= values.mean(axis=0)
    spread = values.std(axis=0)
    values = values[:, spread > 0] / spread[spread > 0]
    statistic = _ranked(values) if ranks else _plain(values)
    every, without_one = np.ones((1, n)), np.ones((n, n)) - np.eye(n)
    return bca(float(statistic(every)[0]), statistic(resample_counts(n, seed)), statistic(without_one))


def bca(observed: float, resampled: np.ndarray, jackknife: np.ndarray) -> tuple[float, float]:
    """Return the bias-corrected and accelerated 95 % interval (Efron 1987) from a statistic's resamples.

    Parameters
    ----------
    observed
        The statistic of all people.
    resampled
        ``(b,)`` statistics of the resamples; NaN where undefined.
    jackknife
        ``(n,)`` statistics without each person.

    Returns
    -------
    tuple
        Ends of the interval; NaN when more than 1 % of the resamples or any jackknife value are undefined, or the
        interval is degenerate.
    """
    nan = (math.nan, math.nan)
    known = resampled[np.isfinite(resampled)]
    if known.size < 0.99 * resampled.size or not np.isfinite(jackknife).all():
        return nan
    share = (np.sum(known < observed) + 0.5 * np.sum(known == observed)) / known.size
    influence = jackknife.mean() - jackknife
    scale = np.sum(influence**2) ** 1.5
    if not 0 < share < 1 or scale == 0:
        return nan
    bias, acceleration = stats.norm.ppf(share), np.sum(influence**3) / (6 * scale)
    z = bias + stats.norm.ppf(_TAILS)
    low, high = np.quantile(known, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def _plain(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Correlation of the first two columns of ``(n, 2 + k)``, the others partialled out, as a function of counts."""
    m = values.shape[1]
    first, second = np.triu_indices(m)
    products = values[:, first] * values[:, second]  # (n, m (m + 1) / 2)

    def statistic(counts: np.ndarray) -> np.ndarray:
        total = counts.sum(axis=1, keepdims=True)
        mean = counts @ values / total  # (b, m)
        covariance = np.empty((len(counts), m, m))
        covariance[:, first, second] = counts @ products / total
        covariance[:, second, first] = covariance[:, first, second]
        return _partial(covariance - mean[:, :, None] * mean[:, None, :])

    return statistic


def _ranked(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """As ``_plain``, for the mid-ranks of each column within each resample."""

    def statistic(counts: np.ndarray) -> np.ndarray:
        total = counts.sum(axis=1)
        ranks = [_weighted_ranks(column, counts) - (total[:, None] + 1) / 2 for column in values.T]
        m = len(ranks)
        covariance = np.empty((len(counts), m, m))
        for i in range(m):
            weighted = counts * ranks[i]
            for j in range(i, m):
                covariance[:, i, j] = covariance[:, j, i] = np.einsum("bn,bn->b", weighted, ranks[j])
        return _partial(covariance / total[:, None, None] ** 3)

    return statistic


def _weighted_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mid-rank ``(b, n)`` of each value when it occurs as often as in ``counts`` ``(b, n)``."""
    levels, place = np.unique(values, return_inverse=True)
    if levels.size == values.size:
        of_level = counts[:, np.argsort(place)]  # (b, levels)
    else:
        of_level = counts @ (place[:, None] == np.arange(levels.size)).astype("float64")
    upto = np.cumsum(of_level, axis=1)
    return (upto - (of_level - 1) / 2)[:, place]


def _partial(covariance: np.ndarray) -> np.ndarray:
    """Correlation ``(b,)`` of the first two variables given the others, from ``(b, m, m)``; NaN without variation."""
    left = covariance[:, :2, :2]
    if covariance.shape[1] > 2:
        across = covariance[:, :2, 2:]
        left = left - across @ np.linalg.pinv(
            covariance[:, 2:, 2:], rcond=MIN_SPREAD, hermitian=True
        ) @ across.transpose(0, 2, 1)
    with np.errstate(all="ignore"):
        r = left[:, 0, 1] / np.sqrt(left[:, 0, 0] * left[:, 1, 1])
    varies = (left[:, [0, 1], [0, 1]] > MIN_SPREAD).all(axis=1)
    return np.where(varies, np.clip(r, -1.0, 1.0), np.nan)
