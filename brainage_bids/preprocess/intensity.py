"""The zero and the unit of a scan's intensities: no age may depend on either. Arrays only.

T1w intensities have no unit: one head may come as 0 to 4000, 0 to 4e-6 or 1000 to 5000. What follows takes 0 for
"nothing measured here" and works in float32, so the zero is found and the unit brought into the ordinary range here,
once. A scan that begins at 0 in that range (nearly all do) passes unchanged to the last bit. How far the ages of the
same head then agree: `docs/images.md`.
"""

from __future__ import annotations

import math

import numpy as np

ORDINARY = (2.0**-7, 2.0**20)  # the 99th percentile of ordinary scans; others are multiplied by a power of two
TARGET = 2.0**10
SENSELESS = 1e6  # times the 99th percentile: no signal of a head, and too much for sums in float32
STEP = 2  # along each axis, where only percentiles are asked
PADDED_SHARE = 0.005  # of the border at the least (or greatest) value, to ask whether that value is padding
# Padding lies apart from what was measured by more than this share of its range. In 86 real scans the 2nd percentile
# of what is not background lies at most 0.05 above the background.
PADDED_GAP = 0.25
WHOLE_BORDER = 0.95  # of the border at the least value: the whole range, not a quarter, has to lie between
CONSTANT_SHARE = 0.5  # of the border at one value, to call that value the background
FAINT = 0.02  # of the range: a minimum further than this below the 0.1st percentile is a stray voxel


def settled(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return intensities as float32, nothing at 0, in an ordinary unit; and what a reader should know.

    Padding and voxels that are not finite become background (0).

    Parameters
    ----------
    values
        ``(X, Y, Z)``, any type of number, not constant.
    """
    if values.dtype.itemsize > 8 or values.dtype == bool:
        values = values.astype(np.float64)
    notes = []
    empty = _senseless(values)
    if empty is not None:
        notes.append("holds NaN or infinite voxels, or some beyond any intensity; they are read as background")
    padding, value = _padding(values, empty)
    if padding is not None:
        notes.append(f"is padded with {value:g}, far from what was measured; the padding is read as background")
        empty = padding if empty is None else empty | padding
    floor = _floor(values, empty)
    unit = _unit(values, empty, floor)
    if floor == 0 and unit == 1:
        data = np.array(values, dtype=np.float32) if empty is None else np.where(empty, 0, values).astype(np.float32)
    else:
        data = ((np.where(empty, floor, values) if empty is not None else values) - np.float64(floor)) * unit
        data = data.astype(np.float32)
    return data, tuple(notes)


def _sample(values: np.ndarray, empty: np.ndarray | None) -> np.ndarray:
    every = (slice(None, None, STEP),) * 3
    return values[every].ravel() if empty is None else values[every][~empty[every]]


def _border(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.take(values, (0, -1), axis=axis).ravel() for axis in range(3)])


def ends(values: np.ndarray, empty: np.ndarray | None) -> tuple[float, float]:
    """Return the least and the greatest value outside ``empty`` (bool, or None: everywhere)."""
    if empty is None:
        return float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu"
    least, most = (np.iinfo(values.dtype).min, np.iinfo(values.dtype).max) if whole else (-np.inf, np.inf)
    return float(values.min(where=~empty, initial=most)), float(values.max(where=~empty, initial=least))


def _senseless(values: np.ndarray) -> np.ndarray | None:
    """Return where there is no number, or one that no head can have; None where all is well."""
    if values.dtype.kind != "f":
        return None
    finite = np.isfinite(values)
    size = np.abs(_sample(values, ~finite).astype(np.float64))
    size = size[size > 0]
    limit = SENSELESS * float(np.percentile(size, 99)) if size.size else math.inf
    bad = ~finite
    if limit > 0 and np.isfinite(limit):
        with np.errstate(invalid="ignore"):
            bad |= np.abs(values) > limit
    return bad if bad.any() and not bad.all() else None


def _padding(values: np.ndarray, empty: np.ndarray | None) -> tuple[np.ndarray | None, float]:
    """Return where a value was filled in, and that value: much of the border, and far from what was measured."""
    low, high = ends(values, empty)
    border = _border(values)
    sample = _sample(values, empty)
    rest = sample[(sample > low) & (sample < high)]
    if not rest.size:
        return None, 0.0
    bottom, top = (float(p) for p in np.percentile(rest, (2, 99.9)))
    span = PADDED_GAP * (top - bottom)
    share = float((border == low).mean())
    if low != 0 and share > PADDED_SHARE:
        if low < 0 <= values.min(where=values > low, initial=high):  # nothing else lies below 0
            return values == low, low
        # the background of a stripped brain fills the border, and the brain may begin far above it
        if bottom - low > (span if share < WHOLE_BORDER else top - bottom):
            return values < (low + bottom) / 2, low  # with what interpolation has smeared
    if (border == high).mean() > PADDED_SHARE and high - top > span:
        return values > (high + top) / 2, high
    return None, 0.0


def _floor(values: np.ndarray, empty: np.ndarray | None) -> float:
    """Return the intensity that stands for nothing."""
    low, _ = ends(values, empty)
    sample = _sample(values, empty)
    faint, top = (float(p) for p in np.percentile(sample, (0.1, 99)))
    if low == 0 or low < 0 <= faint:  # the few below 0 are ripples of an interpolation
        return 0.0
    border = _border(values)
    if empty is not None:
        filled = _border(empty)
        # where there was nothing is filled, and what is left begins a little above 0
        if filled.mean() > PADDED_SHARE and low > 0 and (values.min() < 0 or low < FAINT * top):
            return 0.0
        border = border[~filled]
    found, counts = np.unique(border, return_counts=True)
    if counts.size and counts.max() > CONSTANT_SHARE * border.size:
        return float(found[counts.argmax()])
    return low if faint - low <= FAINT * (top - faint) else faint


def _unit(values: np.ndarray, empty: np.ndarray | None, floor: float) -> float:
    """Return the power of two that brings the scan into the ordinary range; 1 for nearly all."""
    sample = _sample(values, empty)
    above = sample[sample > floor]
    size = float(np.percentile(above, 99)) - floor if above.size else 0.0
    return 1.0 if size == 0 or ORDINARY[0] <= size <= ORDINARY[1] else 2.0 ** round(math.log2(TARGET / size))
