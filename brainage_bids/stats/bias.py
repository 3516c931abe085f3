"""The age-bias line, the corrected brain age gap and the conformal interval.

Never fits on patients or on training predictions (science: regression dilution makes every age regressor predict
towards the mean age, also in health).
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
from brainage_bids.stats.cohort import select_rows
from brainage_bids.stats.tables import is_constant, is_member, number, text

MIN_LINE_N = 15  # below this a slope is noise (Gaser's rule); an offset is taken
MIN_AGE_RANGE = 5.0  # years
FEW_N = 30
MIN_OFFSET_N = 3
COLE = "cole"
LINE, OFFSET, NONE = "beheshti", "offset", "none"  # methods of a line
COLE_MIN_SLOPE = 0.2
CORRECTED_COLUMNS = ("bag_corrected", "pred_lo", "pred_hi", "flags")


@dataclass(frozen=True)
class BiasLine:
    """Predicted age as a line of age in healthy held-out people: ``P = slope * A + intercept``.

    Parameters
    ----------
    method
        ``beheshti`` (a line), ``offset`` (slope 1, mean gap) or ``none`` (nothing can be corrected).
    slope, intercept
        Years per year, and years; of predicted age on age.
    slope_se, r
        Standard error of the slope and correlation of predicted with true age; NaN without a line.
    n
        People the line was fitted on.
    age_min, age_max, age_mean
        Their age range and mean age, years.
    residual_sd
        Residual SD around the line, years (n - 2 degrees of freedom; n - 1 for an offset).
    source
        Where the people came from: ``model_card``, ``controls_crossfit``, ``none``.
    warnings
        What to know before using the line.
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
        Take this method (``beheshti``, ``offset``, ``none``) whatever the number of people; None chooses.

    Returns
    -------
    BiasLine
        A line with n >= 15 and an age range >= 5 years, else an offset, with fewer than 3 people ``none``.
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
    """Return the gap minus its expectation at that age: ``bag - ((slope - 1) * age + intercept)``, years.

    Beheshti 2019; identical to de Lange and Cole 2020 and to the linear second stage of Smith 2019.
    NaN where age or gap is missing and everywhere when the line's method is ``none``.
    """
    age, bag = np.asarray(age, dtype="float64"), np.asarray(bag, dtype="float64")
    return bag - ((line.slope - 1.0) * age + line.intercept)


def corrected_bag_cole(line: BiasLine, age: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return Cole's 2018 form ``(P - intercept) / slope - age`` (years), equal to Beheshti's divided by the slope.

    Raises
    ------
    BadDataError
        When the slope is at most 0.2, its 95 % interval contains 0, or there is no line: the division blows up noise.
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
        One minus the coverage wanted.

    Returns
    -------
    float or None
        Years; None when n is too small for the coverage (95 % needs n >= 19).
    """
    size = np.abs(np.asarray(residuals, dtype="float64"))
    size = np.sort(size[np.isfinite(size)])
    # the product is rounded first: 20 * 0.95 must be 19, not 19.000000000000004
    k = math.ceil(round((size.size + 1) * (1.0 - alpha), 9))
    return float(size[k - 1]) if 0 < k <= size.size else None


def correct_with_calibration(rows: pd.DataFrame, calibration: pd.DataFrame) -> pd.DataFrame:
    """Correct each row with a line fitted on healthy held-out people other than the row's own fold.

    Parameters
    ----------
    rows
        Columns ``age`` (years, may be missing), ``predicted_age``, ``fold`` (None, or the label of the fold that held
        the person out; the person may then stand in ``calibration`` under the same label).
    calibration
        Columns ``age``, ``predicted_age``, ``fold`` of healthy people, each predicted without having been trained on.

    Returns
    -------
    pandas.DataFrame
        Indexed like ``rows``: ``bag_corrected``, ``pred_lo``, ``pred_hi`` (95 % interval of the bias-corrected
        predicted age; of the raw predicted age where age is missing; years) and ``flags`` (``bias_extrapolated``,
        ``bias_offset``, separated by semicolons; empty when there is none).

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
        values, flags[here] = _correct(number(rows, "age")[here], number(rows, "predicted_age")[here], others, line)
        result.iloc[here] = values
    return result.assign(flags=flags)


def corrected_gap(rows: pd.DataFrame, calibration: pd.DataFrame, method: str = "beheshti") -> np.ndarray:
    """Return the corrected gap ``(n,)`` (years) of each row, by the line of people outside the row's own fold.

    Parameters
    ----------
    rows, calibration
        As in ``correct_with_calibration``.
    method
        ``beheshti`` or ``cole``.

    Raises
    ------
    BadDataError
        When ``cole`` is refused by the line of any fold (see ``corrected_bag_cole``): a model has one form.
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
    """Yield ``(n,)`` bool of the rows of one fold, the calibration people outside it (everyone without a fold), a line.

    All calibration people together choose between line and offset, for every fold: one correction for a model. Else,
    with few people, some folds would lose their age bias and others keep it.
    """
    form = fit_line(number(calibration, "age"), number(calibration, "predicted_age")).method
    row_fold, calibration_fold = _fold_labels(rows), _fold_labels(calibration)
    for fold in sorted(set(row_fold)):
        others = calibration[(calibration_fold != fold) | (fold == "")]
        yield row_fold == fold, others, fit_line(number(others, "age"), number(others, "predicted_age"), form=form)


def crossfit_folds(
    table: pd.DataFrame, model: str, controls: Sequence[str], k: int = 5, seed: int = DEFAULT_SEED
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prepare to refit the age-bias line on the study's own controls, no control being corrected by itself.

    Controls enter the fit with one row each (``select_rows``), in ``k`` folds drawn by participant: every row of a
    participant who entered the fit is corrected by the line of the other folds, everyone else by the full line.

    Parameters
    ----------
    table
        Shaped like ``group/brainage.tsv``.
    model
        Suffix of its ``predicted_age_`` column.
    controls
        Labels of the healthy controls.
    k
        Folds.
    seed
        Draws the folds; the same participants and seed give the same folds in any row order.

    Returns
    -------
    tuple
        ``rows`` (of every row of ``table``) and ``calibration`` (the controls) of ``correct_with_calibration``.
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
    fold_of = {people[index]: str(place % k) for place, index in enumerate(order)}
    rows["fold"] = [fold_of.get(name) for name in person]
    return rows, rows.iloc[fitted]


def _correct(
    age: np.ndarray, predicted: np.ndarray, people: pd.DataFrame, line: BiasLine
) -> tuple[np.ndarray, list[str]]:
    """Return ``(n, 3)`` bag_corrected, pred_lo, pred_hi and ``n`` flag texts."""
    healthy_age, healthy_predicted = number(people, "age"), number(people, "predicted_age")
    gap = healthy_predicted - healthy_age
    known = np.isfinite(age)
    bag = corrected_bag(line, age, predicted - age)
    half = conformal_half_width(corrected_bag(line, healthy_age, gap))
    raw_half = conformal_half_width(gap)
    centre = np.where(known, age + bag, predicted)
    width = np.where(known, math.nan if half is None else half, math.nan if raw_half is None else raw_half)
    outside = known & np.isfinite(bag) & ((age < line.age_min) | (age > line.age_max))
    offset = known & np.isfinite(bag) & (line.method == OFFSET)
    flags = [
        ";".join(name for name, on in (("bias_extrapolated", far), ("bias_offset", flat)) if on)
        for far, flat in zip(outside, offset, strict=True)
    ]
    return np.column_stack([bag, centre - width, centre + width]), flags


def _fold_labels(rows: pd.DataFrame) -> np.ndarray:
    """Fold labels as text, '' when missing; 1, 1.0 and '1' are the same fold (else a person could correct itself)."""
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
