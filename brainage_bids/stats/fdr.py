"""Benjamini-Hochberg false discovery rate within one family of tests."""

from __future__ import annotations

import numpy as np
from scipy import stats


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return the Benjamini-Hochberg q of each p.

    Parameters
    ----------
    p
        ``(n,)`` p values in [0, 1]; NaN marks a test that could not be made.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` q; the family size is the number of finite p, NaN stays NaN.

    References
    ----------
    Benjamini and Hochberg, J R Stat Soc B 1995.
    """
    p = np.asarray(p, dtype="float64")
    q = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested], method="bh")
    return q
