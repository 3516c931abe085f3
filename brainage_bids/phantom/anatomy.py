"""The anatomy shared by all phantoms: tissue, skull and scalp, and the fields that describe ageing.

Built from the ICBM 2009a symmetric T1, grey and white matter maps that come with nilearn (no network needed), in
template space (mm, RAS+).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from scipy import ndimage

# The common grid holds the template's field of view with room for the scalp, the face and a piece of neck (mm, RAS+).
GRID_ORIGIN_MM = (-110.0, -150.0, -150.0)
GRID_EXTENT_MM = (222, 282, 272)
TEMPLATE_ORIGIN_MM = (-98.0, -134.0, -72.0)

CSF = 0.12  # intensities are relative to white matter, which is near 0.95
PUSH_REACH_MM = 18.0  # e-folding distance of the tissue pushed outward by growing ventricles
NEVER_MM = 20.0  # onset of tissue that is never lost

# A dark hole in the white matter of one hemisphere, for tests of left and right (world mm in the template, RAS+).
MARKER_CENTRE_MM = (28.0, 28.0, 22.0)
MARKER_RADIUS_MM = 9.0


class Ageing(NamedTuple):
    """State of ageing (mm): outward shift of the ventricle wall, and levels of cortical and hippocampal loss."""

    ventricle_mm: float
    cortex_mm: float
    hippocampus_mm: float


@dataclass(frozen=True)
class Anatomy:
    """Fields on one grid in template space, all float32 of the same shape (X, Y, Z).

    Parameters
    ----------
    spacing
        Voxel size, mm; voxel (0, 0, 0) lies at ``GRID_ORIGIN_MM``.
    tissue
        Intensity inside the brain, white matter near 1.
    brain
        Soft mask of the template's brain, 0 to 1.
    shell
        Intensity outside the brain: CSF gap, skull, scalp, face, neck, air.
    ventricle
        Signed distance from the wall of the lateral ventricles, mm, negative inside.
    cortex, hippocampus
        Onsets, mm: a voxel turns into CSF when the level of loss exceeds its onset.
    marker
        Soft mask of the optional left-right marker.
    push
        Outward shift of tissue around the ventricles per mm of their growth, shape (3, X/2, Y/2, Z/2), every second
        voxel.
    """

    spacing: float
    tissue: np.ndarray
    brain: np.ndarray
    shell: np.ndarray
    ventricle: np.ndarray
    cortex: np.ndarray
    hippocampus: np.ndarray
    marker: np.ndarray
    push: np.ndarray


def ageing(brain_age: float) -> Ageing:
    """Return the planted state at a brain age (years, from -10); all levels increase with age.

    The curves are chosen, not fitted to data: ventricles grow ever faster, the cortex thins steadily, the hippocampus
    shrinks late. They are smooth beyond 90 years, where brains with accelerated ageing may lie.
    """
    t = (brain_age + 10.0) / 100.0
    return Ageing(-2.4 + 8.4 * t**1.3, 0.2 + 3.6 * t, -1.0 + 5.0 * t**1.5)


def build_anatomy(voxel_mm: float) -> Anatomy:
    """Build the shared anatomy for images of ``voxel_mm``.

    The grid has 2 mm voxels (1 mm for images finer than 1.5 mm). The fields are slightly smoothed, so that sampling at
    ``voxel_mm`` does not alias.
    """
    step = 1 if voxel_mm < 1.5 else 2
    sigma = max(0.5, 0.3 * voxel_mm)  # template voxels of 1 mm
    t1, gm, wm = (
        load().get_fdata(dtype=np.float32)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    brain = t1 > 0.01
    outside = _on_common_grid(ndimage.gaussian_filter(brain.astype(np.float32), sigma), step)
    ventricle = _ventricle_distance(gm, wm, brain)
    tissue = np.clip((t1 - 0.25) / 0.65, CSF, None)
    tissue = np.where(brain, tissue, CSF)  # otherwise smoothing would mix air into the rim of the brain
    smooth = [ndimage.gaussian_filter(field, sigma) for field in (tissue, ventricle, _cortex_onset(wm, brain))]
    ventricle = _on_common_grid(smooth[1], step, fill=NEVER_MM * 4)
    grid = _coordinates(step, outside.shape)
    return Anatomy(
        spacing=float(step),
        tissue=_on_common_grid(smooth[0], step, fill=CSF),
        brain=outside,
        shell=_shell(outside, grid, step),
        ventricle=ventricle,
        cortex=_on_common_grid(smooth[2], step, fill=NEVER_MM),
        hippocampus=_hippocampus_onset(grid),
        marker=_ball(grid, MARKER_CENTRE_MM, (MARKER_RADIUS_MM,) * 3, soft=1.0),
        push=_push(ventricle, step),
    )


def template_ventricle_ml(anatomy: Anatomy, width_mm: float = 0.5) -> float:
    """Return the volume of the lateral ventricles of the undeformed template, mL."""
    return float(sigmoid(-anatomy.ventricle / width_mm).sum() * anatomy.spacing**3 / 1000.0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the logistic function; safe for large arguments."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


# --- fields -----------------------------------------------------------------------------------------------------------


def _coordinates(step: int, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    axes = [origin + step * np.arange(n, dtype=np.float32) for origin, n in zip(GRID_ORIGIN_MM, shape, strict=True)]
    return tuple(np.ix_(*axes))


def _template_axes(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(np.ix_(*[o + np.arange(n, dtype=np.float32) for o, n in zip(TEMPLATE_ORIGIN_MM, shape, strict=True)]))


def _on_common_grid(field: np.ndarray, step: int, fill: float = 0.0) -> np.ndarray:
    """Put a field of the 1 mm template on the common grid, every ``step``-th voxel."""
    shape = tuple(math.ceil(extent / step) for extent in GRID_EXTENT_MM)
    placed = np.full(shape, fill, dtype=np.float32)
    part = field[::step, ::step, ::step]
    start = [round((t - g) / step) for t, g in zip(TEMPLATE_ORIGIN_MM, GRID_ORIGIN_MM, strict=True)]
    placed[tuple(slice(s, s + n) for s, n in zip(start, part.shape, strict=True))] = part
    return placed


def _ventricle_distance(gm: np.ndarray, wm: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Signed distance from the lateral ventricles: the largest piece of deep CSF above the third ventricle."""
    x, y, z = _template_axes(gm.shape)
    deep = (np.abs(x) < 42) & (y > -62) & (y < 42) & (z > -8) & (z < 36)
    deep &= _depth(brain, _box(deep, 16)) > 15
    labels, _ = ndimage.label((gm + wm < 0.5) & deep)
    sizes = np.bincount(labels.ravel())
    inside = labels == 1 + int(np.argmax(sizes[1:]))
    return (ndimage.distance_transform_edt(~inside) - _depth(inside, _box(inside, 1))).astype(np.float32)


def _box(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """Return the box around a mask, widened by ``margin`` voxels."""
    return tuple(
        slice(max(0, side.start - margin), side.stop + margin) for side in ndimage.find_objects(mask.astype(np.int8))[0]
    )


def _depth(mask: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """Return how deep each voxel of a box lies in a mask, in voxels, seen from the box alone; 0 outside of it."""
    depth = np.zeros(mask.shape)
    depth[box] = ndimage.distance_transform_edt(mask[box])
    return depth


def _cortex_onset(wm: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Onset of cortical loss: the cortex thins from its surface inward, so voxels far from white matter go first."""
    x, y, z = _template_axes(wm.shape)
    from_wm = ndimage.distance_transform_edt(wm < 0.5).astype(np.float32)
    deep = (x / 38) ** 2 + ((y + 12) / 46) ** 2 + ((z - 5) / 26) ** 2 < 1.0  # basal ganglia, thalamus, ventricles
    cerebellum = (y < -34) & (z < -18)
    stem = (np.abs(x) < 22) & (y < 2) & (z < -4)
    cortical = brain & ~(deep | cerebellum | stem)
    weight = ndimage.gaussian_filter(cortical.astype(np.float32), 2.0)
    return np.minimum(7.0 - np.minimum(from_wm, 7.0) * weight, NEVER_MM)


def _hippocampus_onset(grid: tuple[np.ndarray, ...]) -> np.ndarray:
    """Onset of hippocampal loss: two tilted ellipsoids lose tissue from above and outside, at the temporal horn."""
    x, y, z = grid
    x, y, z = np.abs(x) - 27.0, y + 22.0, z + 14.0
    tilt = math.radians(25.0)  # the tail lies higher than the head
    along, up = math.cos(tilt) * y - math.sin(tilt) * z, math.sin(tilt) * y + math.cos(tilt) * z
    radius = np.sqrt((x / 7.0) ** 2 + (along / 18.0) ** 2 + (up / 7.0) ** 2)
    side = 0.55 + 0.45 * (0.5 * x + 0.85 * up) / np.sqrt(x**2 + up**2 + along**2 / 9.0 + 1.0)
    distance = (radius - 1.0) * 7.0  # about mm near the surface
    onset = np.where(distance > 0, 3.0 * distance, -distance) / np.maximum(side, 0.1)
    return np.minimum(onset, NEVER_MM).astype(np.float32)


def _push(ventricle: np.ndarray, step: int) -> np.ndarray:
    """Outward shift around the ventricles; it fades over ``PUSH_REACH_MM`` and is 0 from three times that on."""
    smooth = ndimage.gaussian_filter(ventricle, 4.0 / step)[::2, ::2, ::2]
    away = np.clip(smooth, 0.0, None)
    fade = np.exp(-away / PUSH_REACH_MM) * np.clip(1.0 - away / (3.0 * PUSH_REACH_MM), 0.0, 1.0)
    return np.stack([slope / (2 * step) * fade for slope in np.gradient(smooth)]).astype(np.float32)


def _ball(grid: tuple[np.ndarray, ...], centre: tuple, radii: tuple, soft: float = 0.0) -> np.ndarray:
    """Ellipsoid: a soft mask, or with ``soft`` 0 a boolean one."""
    radius = np.sqrt(sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)))
    if soft == 0.0:
        return radius < 1.0
    return sigmoid((1.0 - radius) * min(radii) / soft).astype(np.float32)


def _shell(brain: np.ndarray, grid: tuple[np.ndarray, ...], step: int) -> np.ndarray:
    """Intensity around the brain: layers by distance from it, and a simple face and neck below."""
    x, y, z = grid
    gap = (ndimage.distance_transform_edt(brain < 0.5) * step).astype(np.float32)  # mm from the brain
    neck = (np.sqrt((x / 58) ** 2 + ((y + 28) / 62) ** 2) - 1) * 58 + np.zeros_like(z)
    face = (np.sqrt((x / 60) ** 2 + ((y - 42) / 52) ** 2 + ((z + 72) / 66) ** 2) - 1) * 52
    surface = np.minimum(np.minimum(gap - 14.0, face), np.where(z < -40, neck, NEVER_MM))
    surface = ndimage.gaussian_filter(surface, 3.0 / step)  # mm from the skin, negative inside
    shell = np.where(surface < 0, 0.45, 0.0).astype(np.float32)  # muscle
    shell[(surface < -1.5) & (surface > -6.0)] = 1.2  # fat under the skin
    for side in (-1, 1):
        shell[_ball(grid, (side * 32, 62, -38), (19, 22, 18)) & (surface < -2)] = 1.0  # fat of the orbit
        shell[_ball(grid, (side * 32, 66, -38), (12, 12, 12))] = CSF  # eye
    shell[_ball(grid, (0, 64, -62), (15, 22, 24)) & (surface < -3)] = 0.03  # nose and sinuses
    shell[_ball(grid, (0, 40, -100), (26, 34, 18))] = 0.55  # tongue
    spine = np.sqrt(x**2 + (y + 44 + np.zeros_like(z)) ** 2)
    for radius, value in ((18.0, 0.06), (11.0, CSF), (6.0, 0.75)):  # bone, CSF, cord
        shell[(spine < radius) & (z < -62)] = value
    shell[(gap < 8.0) & (gap > 2.5)] = 0.06  # skull
    shell[(gap < 6.0) & (gap > 4.2) & (z > -30)] = 0.4  # marrow of the skull
    shell[gap <= 2.5] = CSF
    cord = (spine < 6.0) & (z < -66)
    shell[cord] = 0.75  # the brain stem continues through the skull base
    return ndimage.gaussian_filter(shell, 1.2 / step)
