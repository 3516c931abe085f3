"""Widen the intervals of corrected gaps by the error of the age-bias line.

The intervals of the ``corrected`` rows treat the line as exact, as in the literature. In simulations they contain the
true value in 90 % of studies (``docs/simulation.md``). The intervals made here include the error of the line. Margins
are combined as the square root of summed squares (Zou and Donner 2008, Stat Med 27:1693, "MOVER"), so asymmetric
intervals stay asymmetric. The line is that of ``biascorrection.json``; with folds, that of all folds together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from brainage_bids.stats.bias import COLE

NONE: Mapping = {"method": "none"}


def slope_margin(line: Mapping) -> float:
    """Return the half width of the slope's 95 % interval (corrected years per year): 0 for an offset, NaN without."""
    if line["method"] == "none":
        return math.nan
    if line["method"] == "offset":
        return 0.0
    return float(stats.t.ppf(0.975, line["n"] - 2) * line["slope_se"]) / _unit(line)


def of_difference(line: Mapping, years: float, row: Mapping) -> dict:
    """Return ``line_ci_lo line_ci_hi line_g_ci_lo line_g_ci_hi`` of a difference of mean corrected gaps.

    Parameters
    ----------
    line
        ``method`` (``beheshti``, ``cole``, ``offset``, ``none``), ``slope``, ``slope_se``, ``n``.
    years
        Mean age of the patients minus that of the controls; an error of the slope is multiplied by it.
    row
        ``mean_diff ci_lo ci_hi hedges_g g_ci_lo g_ci_hi`` with the line treated as exact.
    """
    difference, g = row["mean_diff"], row["hedges_g"]
    margin = slope_margin(line) * abs(_lever(line, years, difference))
    low, high = joined_margins(difference, row["ci_lo"], row["ci_hi"], margin)
    sd = difference / g if g else math.nan
    g_low, g_high = joined_margins(g, row["g_ci_lo"], row["g_ci_hi"], margin / abs(sd))
    return {"line_ci_lo": low, "line_ci_hi": high, "line_g_ci_lo": g_low, "line_g_ci_hi": g_high}


def of_mean(line: Mapping, age: np.ndarray, mean: float, low: float, high: float) -> dict:
    """Return ``line_ci_lo line_ci_hi`` (years) of the mean corrected gap of people of these ages."""
    if line["method"] == "none":
        return {"line_ci_lo": math.nan, "line_ci_hi": math.nan}
    years = float(np.mean(age)) - line["age_mean"]
    level = line["residual_sd"] / math.sqrt(line["n"])  # error of the line at the mean age of its people
    level *= float(stats.t.ppf(0.975, line["n"] - (1 if line["method"] == "offset" else 2)))
    margin = math.hypot(level / _unit(line), slope_margin(line) * _lever(line, years, mean))
    low, high = joined_margins(mean, low, high, margin)
    return {"line_ci_lo": low, "line_ci_hi": high}


def joined_margins(estimate: float, low: float, high: float, margin: float) -> tuple[float, float]:
    """Return the interval ``(low, high)`` of an estimate, widened by an independent margin."""
    return estimate - math.hypot(estimate - low, margin), estimate + math.hypot(high - estimate, margin)


def _unit(line: Mapping) -> float:
    """Return the divisor of corrected gaps: the slope in Cole's form, otherwise 1."""
    return line["slope"] if line["method"] == COLE else 1.0


def _lever(line: Mapping, years: float, estimate: float) -> float:
    """Return the change of an estimate (years) per unit error of the slope; Cole's form also divides by the slope."""
    return years + estimate if line["method"] == COLE else years
