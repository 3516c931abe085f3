"""Try again when the first registration is suspect: turn the head, mask and register it again, keep the best.

This can take minutes, so it is done only for suspect registrations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.ndimage as ndi

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import brain
from brainage_bids.preprocess.affine import Fit, register, standard_starts, wide_starts
from brainage_bids.preprocess.intake import Native
from brainage_bids.preprocess.template import Template, load_template

# A correlation below this, or a brain volume outside this range, is suspect. Upright real heads have 0.60-0.71.
SUSPECT_NCC = 0.54
SUSPECT_ML = (800.0, 2200.0)
GOOD_NCC = 0.64  # correlation at the 4 mm level above which no further pose is tried
REFINED = 3  # number of poses that are refined
CLEARLY_BETTER = 0.02
SEARCH_MM = 2.0
SEARCH_SIDE = 128  # a small cube is enough to compare poses, and four times faster
PLAUSIBLE_ML = (500.0, 2600.0)


@dataclass(frozen=True)
class Pose:
    """The mask of a turned head (bool, native grid), its coarse registration, and whether this is good enough."""

    mask: np.ndarray
    fit: Fit
    good: bool


def suspect(ncc: float, volume_ml: float) -> bool:
    """Return whether a registration is suspect, by its correlation and the brain volume (mL)."""
    return ncc < SUSPECT_NCC or not SUSPECT_ML[0] <= volume_ml <= SUSPECT_ML[1]


def turned(native: Native, turn: np.ndarray, spacing: float) -> tuple[Native, np.ndarray]:
    """Return the head turned by ``turn`` (3 x 3) about its centre on an isotropic upright grid.

    Returns
    -------
    Native
        The turned head; its affine belongs to the turned world.
    ndarray
        4 x 4, voxel of the turned grid to voxel of ``native``.
    """
    shape = np.asarray(native.data.shape)
    centre = native.affine[:3, :3] @ ((shape - 1) / 2) + native.affine[:3, 3]
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * shape @ native.affine[:3, :3].T
    extent = 2 * np.abs(corners @ turn.T).max(axis=0)
    grid = np.diag([spacing] * 3 + [1.0])
    new_shape = np.ceil(extent / spacing).astype(int)
    grid[:3, 3] = -spacing * (new_shape - 1) / 2
    back = np.eye(4)
    back[:3, :3], back[:3, 3] = turn.T, centre
    to_native = np.linalg.inv(native.affine) @ back @ grid
    smooth = ndi.gaussian_filter(native.data, np.maximum(spacing / native.zooms - 1, 0) / 2)
    floor = float(native.data.min())
    data = ndi.affine_transform(
        smooth, to_native[:3, :3], to_native[:3, 3], output_shape=tuple(new_shape), order=1, cval=floor
    )
    return Native(data, grid), to_native


def mask_in_pose(
    native: Native, turn: np.ndarray, spacing: float, gpu: bool = False, side: int | None = None
) -> np.ndarray:
    """Return the network's brain mask of the turned head (bool), on the native grid.

    Raises
    ------
    BadDataError
        When the network finds nothing that looks like a brain.
    """
    head, to_native = turned(native, turn, spacing)
    mask = brain.network_mask(head, gpu, side).astype(np.float32)
    to_turned = np.linalg.inv(to_native)
    back = ndi.affine_transform(mask, to_turned[:3, :3], to_turned[:3, 3], output_shape=native.data.shape, order=1)
    return back > 0.5


def search(native: Native, template: Template, device: str = "cpu", gpu: bool = False) -> Pose | None:
    """Try the poses of :func:`wide_starts`, refine the best ones by turning the head upright, and return the best.

    Returns None when no brain is found in any pose.
    """
    poses = []
    for turn in wide_starts():
        pose = _try(native, turn, SEARCH_SIDE, template, device, gpu)
        if pose is not None:
            poses.append(pose)
            if pose.good:
                return pose
    poses.sort(key=lambda pose: -pose.fit.ncc)
    for pose in list(poses[:REFINED]):
        for _ in range(2):
            pose = _try(native, upright(pose.fit), None, template, device, gpu)
            if pose is None:
                break
            poses.append(pose)
            if pose.good:
                return pose
    return max(poses, key=lambda pose: pose.fit.ncc, default=None)


def finest_mask(native: Native, pose: Pose, template: Template, device: str = "cpu", gpu: bool = False) -> np.ndarray:
    """Return the mask at full resolution of the head turned upright by ``pose``; the pose's mask if that fails."""
    starts = starts_in(upright(pose.fit))
    placement = register(native.data, pose.mask, native.affine, load_template(), starts, device, coarse=True)
    try:
        mask = brain.placed_mask(native, placement.matrix, gpu)
    except BadDataError:
        return pose.mask
    fit = register(native.data, mask, native.affine, template, starts, device, coarse=True)
    return mask if fit.ncc > pose.fit.ncc - CLEARLY_BETTER else pose.mask


def _try(
    native: Native,
    turn: np.ndarray,
    side: int | None,
    template: Template,
    device: str,
    gpu: bool,
) -> Pose | None:
    try:
        mask = mask_in_pose(native, turn, SEARCH_MM, gpu, side)
    except BadDataError:
        return None
    volume = brain.volume_ml(mask, native.zooms)
    if not PLAUSIBLE_ML[0] <= volume <= PLAUSIBLE_ML[1]:
        return None
    fit = register(native.data, mask, native.affine, template, starts_in(turn), device, coarse=True)
    return Pose(mask, fit, fit.ncc > GOOD_NCC and not suspect(fit.ncc, volume))


def upright(fit: Fit) -> np.ndarray:
    """Return the rotation (3 x 3) that turns a head upright, from its registration to the template."""
    return scipy.linalg.polar(np.linalg.inv(fit.matrix[:3, :3]))[0]


def starts_in(turn: np.ndarray) -> np.ndarray:
    """Return the standard starting rotations for a head that is turned upright by ``turn``."""
    return turn.T @ standard_starts()
