"""What a scan already went through before it came here: skull stripping, bias correction, MNI space. Arrays only.

The thresholds come from real scans; `docs/reuse.md` holds the numbers.
"""

from __future__ import annotations

import numpy as np
from nibabel.affines import voxel_sizes

from brainage_bids.preprocess.intake import Brain
from brainage_bids.preprocess.template import Template

FLAT_FIELD = 0.05  # SD of the log bias field inside the brain, below which there was hardly anything left to correct
MNI_DISTANCE_MM = 6.0  # mean distance of template points from where the affine puts them, when the header says MNI
POINT_STEP_MM = 6


def remarks(before: np.ndarray, after: np.ndarray, mask: np.ndarray, source: str) -> tuple[str, ...]:
    """Return what was recognised in a scan that this program masked and bias-corrected itself.

    Parameters
    ----------
    before, after
        The scan before and after bias correction, not negative, same shape.
    mask
        Brain mask, bool.
    source
        Where the mask comes from, see `Brain`.
    """
    found = []
    if source == "input":
        found.append("the scan came skull-stripped: its own foreground is the mask")
    if field_spread(before, after, mask) < FLAT_FIELD:
        found.append("the scan came with hardly any bias field (already corrected, or a very even coil)")
    return tuple(found)


def field_spread(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    """Return the SD inside the mask of the log field that a correction has removed."""
    first, second = before[mask], after[mask]
    seen = (first > 0) & (second > 0)
    if not seen.any():
        return float("inf")
    return float(np.std(np.log(first[seen].astype(np.float64) / second[seen])))


def mni_notes(brain: Brain, matrix: np.ndarray, template: Template) -> tuple[str, ...]:
    """Return a warning when a scan lies in MNI space already: its header or grid says so and the affine is a small one.

    Parameters
    ----------
    brain
        The scan.
    matrix
        4 x 4, template world to native world (mm).
    template
        What it was registered to.
    """
    distance = moved_mm(matrix, template)
    if not brain.says_mni or distance > MNI_DISTANCE_MM:
        return ()
    return (
        f"the scan lies in MNI space already (the affine moves the brain by {distance:.1f} mm): had it been brought "
        "there nonlinearly, brain size and atrophy would be gone; use the native scan",
    )


def moved_mm(matrix: np.ndarray, template: Template) -> float:
    """Return how far the affine moves the template's brain in the mean, mm."""
    step = np.maximum(1, np.round(POINT_STEP_MM / voxel_sizes(template.affine))).astype(int)
    index = np.argwhere(template.mask[:: step[0], :: step[1], :: step[2]]) * step
    points = index @ template.affine[:3, :3].T + template.affine[:3, 3]
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(moved - points, axis=1).mean())
