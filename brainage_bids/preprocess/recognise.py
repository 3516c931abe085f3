"""Recognise earlier processing of a scan: skull stripping, bias correction, transformation to MNI space.

The thresholds come from real scans; see `docs/reuse.md`.
"""

from __future__ import annotations

import numpy as np
from nibabel.affines import voxel_sizes

from brainage_bids.preprocess.intake import Brain
from brainage_bids.preprocess.template import Template

FLAT_FIELD = 0.05  # SD of the log bias field inside the brain, below which there was hardly any field
MNI_DISTANCE_MM = 6.0  # largest mean shift of template points by the affine, for a scan in MNI space
POINT_STEP_MM = 6


def remarks(before: np.ndarray, after: np.ndarray, mask: np.ndarray, source: str) -> tuple[str, ...]:
    """Return remarks on a scan that was masked and bias-corrected by this program.

    Parameters
    ----------
    before, after
        The scan before and after bias correction, not negative, same shape.
    mask
        Brain mask, bool.
    source
        Source of the mask, see `Brain`.
    """
    texts = []
    if source == "input":
        texts.append("the scan came skull-stripped: its own foreground is the mask")
    if field_spread(before, after, mask) < FLAT_FIELD:
        texts.append("the scan came with hardly any bias field (already corrected, or a very even coil)")
    return tuple(texts)


def field_spread(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    """Return the SD, inside the mask, of the logarithm of the bias field that was removed."""
    first, second = before[mask], after[mask]
    seen = (first > 0) & (second > 0)
    if not seen.any():
        return float("inf")
    return float(np.std(np.log(first[seen].astype(np.float64) / second[seen])))


def mni_notes(brain: Brain, matrix: np.ndarray, template: Template) -> tuple[str, ...]:
    """Return a warning when a scan is already in MNI space: its header or grid says so, and the affine is small.

    Parameters
    ----------
    brain
        The scan.
    matrix
        4 x 4, template world to native world (mm).
    template
        The template that it was registered to.
    """
    distance = moved_mm(matrix, template)
    if not brain.says_mni or distance > MNI_DISTANCE_MM:
        return ()
    return (
        f"the scan lies in MNI space already (the affine moves the brain by {distance:.1f} mm): if this was "
        "done nonlinearly, brain size and atrophy are lost; use the native scan",
    )


def moved_mm(matrix: np.ndarray, template: Template) -> float:
    """Return the mean distance by which the affine moves the template's brain, mm."""
    step = np.maximum(1, np.round(POINT_STEP_MM / voxel_sizes(template.affine))).astype(int)
    index = np.argwhere(template.mask[:: step[0], :: step[1], :: step[2]]) * step
    points = index @ template.affine[:3, :3].T + template.affine[:3, 3]
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(moved - points, axis=1).mean())
