"""The age-bias line, the corrected brain age gap and the conformal interval.

Every age regression predicts towards the mean age, also in healthy people (regression dilution). The line describes
this. It is never fitted on patients or on predictions of training data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from brainage_bids.errors import BadDataError
from brainage_bids.schema import DEFAULT_SEED
from brainage_bids.stats.cohort_tables import select_rows
from brainage_bids.stats.columns import is_constant, is_member, number, optional_number, text

MIN_LINE_N = 15  # with fewer people a slope is mostly noise (Gaser's rule), and only an offset is used
MIN_AGE_RANGE = 5.0  # years
FEW_N = 30
MIN_OFFSET_N = 3
COLE = "cole"
LINE, OFFSET, NONE = "beheshti", "offset", "none"  # methods of a line
COLE_MIN_SLOPE = 0.2
LEAST_SPREAD = 1.0  # years, added to the SD of several trainings: else who is predicted alike by all has no interval
CORRECTED_COLUMNS = ("bag_corrected", "pred_lo", "pred_hi", "flags")


@dataclass(frozen=True)
class BiasLine:
    """Predicted age as a linear function of age in healthy held-out people: ``P = slope * A + intercept``.

    Parameters
    ----------
    method
        ``beheshti`` (a line), ``offset`` (slope 1, mean gap) or ``none`` (nothing can be corrected).
    slope, intercept
        Regression of predicted age on age: years per year, and years.
    slope_se, r
        Standard error of the slope and correlation of predicted with true age; NaN without a line.
    n
        Number of people the line was fitted on.
    age_min, age_max, age_mean
        Their age range and mean age, years.
    residual_sd
        Residual SD around the line, years (n - 2 degrees of freedom; n - 1 for an offset).
    source
        Source of the people: ``model_card``, ``controls_crossfit``, ``none``.
    warnings
        Limits of the line.
    """

    method: str
    slope: float
    intercept: float
    slope_se: float
    r: float
    n: int
    age_min: float
    age_max: float
    residual_sd: float
    source: str
    warnings: tuple[str, ...] = ()
    age_mean: float = math.nan


def fit_line(age: np.ndarray, predicted: np.ndarray, source: str = "model_card", form: str | None = None) -> BiasLine:
    """Fit the age-bias line on healthy held-out people.

    Parameters
    ----------
    age, predicted
        ``(n,)`` years; pairs with a missing value are left out.
    source
        Stored with the line.
    form
        Method to use (``beheshti``, ``offset``, ``none``); None: chosen by the number of people and their ages.

    Returns
    -------
    BiasLine
        A line when n >= 15 and the age range is >= 5 years, else an offset; ``none`` with fewer than 3 people.
    """
    age, predicted = np.asarray(age, dtype="float64"), np.asarray(predicted, dtype="float64")
    both = np.isfinite(age) & np.isfinite(predicted)
    age, predicted = age[both], predicted[both]
    n, nan = age.size, math.nan
    if n < MIN_OFFSET_N or form == NONE:
        warning = f"only {n} healthy held-out people: no age-bias correction"
        return BiasLine(NONE, nan, nan, nan, nan, n, nan, nan, nan, "none", (warning,))
    low, high, mean = float(age.min()), float(age.max()), float(age.mean())
    few = n < MIN_LINE_N or high - low < MIN_AGE_RANGE
    if high == low or (few if form is None else form == OFFSET):
        gap = predicted - age
        warning = (
            f"offset only: {n} people of {low:g} to {high:g} years "
            f"(a line needs {MIN_LINE_N} people and {MIN_AGE_RANGE:g} years)"
        )
        return BiasLine(
            OFFSET, 1.0, float(gap.mean()), nan, nan, n, low, high, float(gap.std(ddof=1)), source, (warning,), mean
        )
    fit = stats.linregress(age, predicted)
    residual = predicted - (fit.slope * age + fit.intercept)
    sd = math.sqrt(float(residual @ residual) / (n - 2))
    r = nan if is_constant(predicted) else float(fit.rvalue)
    slope, intercept, se = float(fit.slope), float(fit.intercept), float(fit.stderr)
    line = BiasLine(LINE, slope, intercept, se, r, n, low, high, sd, source, age_mean=mean)
    return _with_warnings(line)


def corrected_bag(line: BiasLine, age: np.ndarray, bag: np.ndarray) -> np.ndarray:
    """Return the gap minus its expected value at that age: ``bag - ((slope - 1) * age + intercept)``, ``(n,)`` years.

    Beheshti 2019; identical to de Lange and Cole 2020 and to the linear second stage of Smith 2019. NaN when age or gap
    is missing, and always when the line's method is ``none``.
    """
    age, bag = np.asarray(age, dtype="float64"), np.asarray(bag, dtype="float64")
    return bag - ((line.slope - 1.0) * age + line.intercept)


def corrected_bag_cole(line: BiasLine, age: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the gap corrected as in Cole 2018, ``(P - intercept) / slope - age`` (years): Beheshti's over the slope.

    Raises
    ------
    BadDataError
        When there is no line, the slope is at most 0.2, or its 95 % interval contains 0: division would amplify noise.
    """
    if line.method != LINE:
        raise BadDataError(f"Cole's correction needs a fitted line, this one is '{line.method}'; use Beheshti's form")
    margin = stats.t.ppf(0.975, line.n - 2) * line.slope_se
    if line.slope <= COLE_MIN_SLOPE or abs(line.slope) <= margin:
        raise BadDataError(
            f"Cole's correction divides by the slope, which is {line.slope:.3f} +/- {margin:.3f}; use Beheshti's form"
        )
    return (np.asarray(predicted, dtype="float64") - line.intercept) / line.slope - np.asarray(age, dtype="float64")


def conformal_half_width(residuals: np.ndarray, alpha: float = 0.05) -> float | None:
    """Return the split-conformal half width: the ``ceil((n + 1)(1 - alpha))``-th smallest absolute residual.

    Parameters
    ----------
    residuals
        ``(n,)`` years, of healthy held-out people; missing ones are left out.
    alpha
        One minus the coverage.

    Returns
    -------
    float or None
        Years; None when n is too small for the coverage (95 % needs n >= 19).
    """
    size = np.abs(np.asarray(residuals, dtype="float64"))
    size = np.sort(size[np.isfinite(size)])
    # round first: 20 * 0.95 must be 19, not 19.000000000000004
    k = math.ceil(round((size.size + 1) * (1.0 - alpha), 9))
    return float(size[k - 1]) if 0 < k <= size.size else None


def interval_scales(rows: pd.DataFrame, calibration: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the residuals of rows and of calibration people are divided before they are compared.

    For a model of several trainings it is `LEAST_SPREAD` years plus their SD for this person (``predicted_age_sd``).
    Who is predicted differently by each then has a wide interval, the others a narrow one. Split-conformal intervals
    keep their coverage with any scale that does not depend on the person's age (Lei et al. 2018, section 5.2). Else it
    is 1.
    """
    scales = [LEAST_SPREAD + optional_number(table, "predicted_age_sd") for table in (rows, calibration)]
    if np.isfinite(scales[1]).all() and len(scales[1]):
        return scales[0], scales[1]
    return np.ones(len(rows)), np.ones(len(calibration))


def correct_with_calibration(rows: pd.DataFrame, calibration: pd.DataFrame) -> pd.DataFrame:
    """Correct each row with a line fitted on healthy held-out people outside the row's own fold.

    Parameters
    ----------
    rows
        Columns ``age`` (years, may be missing), ``predicted_age``, ``fold`` (None, or the label of the fold that held
        the person out; the person may then be in ``calibration`` under the same label); where a model was trained
        several times ``predicted_age_sd`` (see `interval_scales`).
    calibration
        The same columns of healthy people, predicted by models not trained on them.

    Returns
    -------
    pandas.DataFrame
        Indexed like ``rows``: ``bag_corrected``, ``pred_lo``, ``pred_hi`` (95 % interval of the bias-corrected
        predicted age, or of the raw predicted age if age is missing; years, an end below 0 is written as 0) and
        ``flags`` (``bias_extrapolated``, ``bias_offset``, separated by semicolons; may be empty).

    Notes
    -----
    Source: Beheshti 2019 (`corrected_bag`); docs/methods.md tells it from other corrections.

    Examples
    --------
    Predictions that lie half way between the true age and 50 years; a line takes that away.

    >>> import numpy as np
    >>> import pandas as pd
    >>> from brainage_bids import correct_with_calibration
    >>> noise = np.random.default_rng(0).normal(0, 0.3, 60)
    >>> healthy = pd.DataFrame({"age": np.linspace(20, 80, 60)})
    >>> healthy["predicted_age"] = 25 + healthy["age"] / 2 + noise
    >>> patients = pd.DataFrame({"age": [30.0, 70.0], "predicted_age": [45.0, 65.0]})  # 5 years above the line
    >>> correct_with_calibration(patients, healthy)["bag_corrected"].round().tolist()
    [5.0, 5.0]
    """
    result = pd.DataFrame(np.nan, index=rows.index, columns=list(CORRECTED_COLUMNS[:3]))
    flags = np.full(len(rows), "", dtype=object)
    for here, others, line in lines_by_fold(rows, calibration):
        values, flags[here] = _correct(rows[here], others, line)
        result.iloc[here] = values
    return result.assign(flags=flags)


def corrected_gap(rows: pd.DataFrame, calibration: pd.DataFrame, method: str = "beheshti") -> np.ndarray:
    """Return the corrected gap ``(n,)`` (years) of each row, with the line of people outside the row's own fold.

    Parameters
    ----------
    rows, calibration
        As in ``correct_with_calibration``.
    method
        ``beheshti`` or ``cole``.

    Raises
    ------
    BadDataError
        When ``cole`` cannot be used with the line of some fold (see ``corrected_bag_cole``).
    """
    age, predicted = number(rows, "age"), number(rows, "predicted_age")
    gap = np.full(len(rows), np.nan)
    for here, _, line in lines_by_fold(rows, calibration):
        if method == COLE:
            gap[here] = corrected_bag_cole(line, age[here], predicted[here])
        else:
            gap[here] = corrected_bag(line, age[here], predicted[here] - age[here])
    return gap


def lines_by_fold(rows: pd.DataFrame, calibration: pd.DataFrame) -> Iterator[tuple[np.ndarray, pd.DataFrame, BiasLine]]:
    """Yield for each fold: its rows (``(n,)`` bool), the calibration people outside it, and their line.

    For rows without a fold, all calibration people are used. Line or offset is chosen once, from all calibration
    people. Otherwise, with few people, the age bias would be removed in some folds and not in others.
    """
    form = fit_line(number(calibration, "age"), number(calibration, "predicted_age")).method
    row_fold, calibration_fold = _fold_labels(rows), _fold_labels(calibration)
    for fold in sorted(set(row_fold)):
        others = calibration[(calibration_fold != fold) | (fold == "")]
        yield row_fold == fold, others, fit_line(number(others, "age"), number(others, "predicted_age"), form=form)


def crossfit_folds(
    table: pd.DataFrame, model: str, controls: Sequence[str], k: int = 5, seed: int = DEFAULT_SEED
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prepare to fit the age-bias line on the study's own controls, without correcting a control by its own data.

    Controls enter the fit with one row each (``select_rows``), in ``k`` random folds of participants. All rows of these
    participants are corrected by the line of the other folds, everyone else by the line of all controls.

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``.
    model
        Suffix of its ``predicted_age_`` column.
    controls
        Labels of the healthy controls.
    k
        Number of folds.
    seed
        Seed of the folds; the same participants and seed give the same folds in any row order.

    Returns
    -------
    tuple
        The arguments ``rows`` (all rows of ``table``) and ``calibration`` (the controls) of
        ``correct_with_calibration``.
    """
    rows = pd.DataFrame(
        {"age": number(table, "age"), "predicted_age": number(table, f"predicted_age_{model}")}, index=table.index
    )
    usable = is_member(text(table, "group"), controls) & rows.notna().all(axis=1).to_numpy()
    person = table["participant_id"].astype(str)
    positions = pd.Series(np.arange(len(table)), index=table.index)
    fitted = select_rows(table.assign(_position=positions)[usable])[0]["_position"].to_numpy(dtype=int)

    people = sorted(person.iloc[fitted])
    order = np.random.default_rng(seed).permutation(len(people))
    fold_of = {people[index]: str(rank % k) for rank, index in enumerate(order)}
    rows["fold"] = [fold_of.get(name) for name in person]
    return rows, rows.iloc[fitted]


def _correct(rows: pd.DataFrame, people: pd.DataFrame, line: BiasLine) -> tuple[np.ndarray, list[str]]:
    """Return ``(n, 3)`` bag_corrected, pred_lo, pred_hi and ``n`` flag texts."""
    age, predicted = number(rows, "age"), number(rows, "predicted_age")
    scale, healthy_scale = interval_scales(rows, people)
    healthy_age, healthy_predicted = number(people, "age"), number(people, "predicted_age")
    gap = healthy_predicted - healthy_age
    known = np.isfinite(age)
    bag = corrected_bag(line, age, predicted - age)
    half = conformal_half_width(corrected_bag(line, healthy_age, gap) / healthy_scale)
    raw_half = conformal_half_width(gap / healthy_scale)
    centre = np.where(known, age + bag, predicted)
    width = scale * np.where(known, math.nan if half is None else half, math.nan if raw_half is None else raw_half)
    outside = known & np.isfinite(bag) & ((age < line.age_min) | (age > line.age_max))
    offset = known & np.isfinite(bag) & (line.method == OFFSET)
    flags = [
        ";".join(name for name, on in (("bias_extrapolated", far), ("bias_offset", flat)) if on)
        for far, flat in zip(outside, offset, strict=True)
    ]
    ends = np.maximum([centre - width, centre + width], 0.0)  # nobody is younger than 0; NaN stays NaN
    return np.column_stack([bag, *ends]), flags


def _fold_labels(rows: pd.DataFrame) -> np.ndarray:
    """Return fold labels as text, '' when missing; 1, 1.0 and '1' are the same fold."""
    if "fold" not in rows.columns:
        return np.full(len(rows), "", dtype=object)
    labels = []
    for value in rows["fold"]:
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            labels.append("")
        elif isinstance(value, (float, np.floating)) and float(value).is_integer():
            labels.append(str(int(value)))
        else:
            labels.append(str(value))
    return np.array(labels, dtype=object)


def _with_warnings(line: BiasLine) -> BiasLine:
    warnings = []
    if line.n < FEW_N:
        warnings.append(f"fitted on {line.n} people, fewer than {FEW_N}: the correction itself is uncertain")
    if abs(line.slope) <= stats.t.ppf(0.975, line.n - 2) * line.slope_se:
        warnings.append(f"the predictions do not follow age (slope {line.slope:.3f}): a corrected gap means little")
    return BiasLine(**{**line.__dict__, "warnings": tuple(warnings)})
