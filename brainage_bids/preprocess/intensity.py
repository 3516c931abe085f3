"""Set the zero and the scale of a scan's intensities, so that no predicted age depends on them.

T1w intensities have no unit: the same head may have values of 0 to 4000, 0 to 4e-6 or 1000 to 5000. Later steps take 0
as "nothing measured" and use float32. So the zero is found here, and the values are scaled into an ordinary range. A
scan that begins at 0 in that range (nearly all do) stays exactly as it is. How well the ages of the same head then
agree: `docs/images.md`.
"""

from __future__ import annotations

import math

import numpy as np

ORDINARY = (2.0**-7, 2.0**20)  # the 99th percentile of ordinary scans; others are multiplied by a power of two
TARGET = 2.0**10
SENSELESS = 1e6  # values above this multiple of the 99th percentile are no signal, and too large for sums in float32
STEP = 2  # only every second voxel along each axis is used for percentiles
PADDED_SHARE = 0.005  # share of border voxels at the smallest (or largest) value, from which it may be padding
# Padding differs from measured values by more than this share of their range. In 86 real scans the 2nd percentile of
# all voxels but background lies at most 0.05 above the background.
PADDED_GAP = 0.25
WHOLE_BORDER = 0.95  # with this share of the border at the smallest value, the gap must be the whole range instead
CONSTANT_SHARE = 0.5  # share of the border at one value, from which that value is the background
FAINT = 0.02  # share of the range: a minimum further than this below the 0.1st percentile is a stray voxel


def settled(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return intensities as float32 with background at 0 in an ordinary range, and remarks.

    Padding and voxels that are not finite become background (0).

    Parameters
    ----------
    values
        ``(X, Y, Z)``, any numeric type, not constant.
    """
    if values.dtype.itemsize > 8 or values.dtype == bool:
        values = values.astype(np.float64)
    notes = []
    empty = _senseless(values)
    if empty is not None:
        notes.append("holds NaN or infinite voxels, or extremely large values; they are read as background")
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
    """Return the smallest and the largest value outside ``empty`` (bool; None: of all voxels)."""
    if empty is None:
        return float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu"
    least, most = (np.iinfo(values.dtype).min, np.iinfo(values.dtype).max) if whole else (-np.inf, np.inf)
    return float(values.min(where=~empty, initial=most)), float(values.max(where=~empty, initial=least))


def _senseless(values: np.ndarray) -> np.ndarray | None:
    """Return voxels that are not finite or far too large (bool); None when there are none."""
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
    """Return padded voxels (bool, None: none) and their value: frequent on the border, far from measured values."""
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
        # the background of a skull-stripped brain fills the border, and the brain may begin far above it
        if bottom - low > (span if share < WHOLE_BORDER else top - bottom):
            return values < (low + bottom) / 2, low  # includes padding blurred by interpolation
    if (border == high).mean() > PADDED_SHARE and high - top > span:
        return values > (high + top) / 2, high
    return None, 0.0


def _floor(values: np.ndarray, empty: np.ndarray | None) -> float:
    """Return the intensity of the background."""
    low, _ = ends(values, empty)
    sample = _sample(values, empty)
    faint, top = (float(p) for p in np.percentile(sample, (0.1, 99)))
    if low == 0 or low < 0 <= faint:  # a few voxels below 0 come from interpolation
        return 0.0
    border = _border(values)
    if empty is not None:
        filled = _border(empty)
        # the background was padding, and the remaining values begin slightly above 0
        if filled.mean() > PADDED_SHARE and low > 0 and (values.min() < 0 or low < FAINT * top):
            return 0.0
        border = border[~filled]
    border_values, counts = np.unique(border, return_counts=True)
    if counts.size and counts.max() > CONSTANT_SHARE * border.size:
        return float(border_values[counts.argmax()])
    return low if faint - low <= FAINT * (top - faint) else faint


def _unit(values: np.ndarray, empty: np.ndarray | None, floor: float) -> float:
    """Return the power of two that scales the scan into the ordinary range; 1 for nearly all scans."""
    sample = _sample(values, empty)
    above = sample[sample > floor]
    size = float(np.percentile(above, 99)) - floor if above.size else 0.0
    return 1.0 if size == 0 or ORDINARY[0] <= size <= ORDINARY[1] else 2.0 ** round(math.log2(TARGET / size))
