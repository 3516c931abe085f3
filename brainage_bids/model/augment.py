"""The paper's four augmentations (section 2.3), composed into one affine resampling, then noise; and four of intensity.

The order is: shift, rotation and crop in one resampling; blur and thick slices; a smooth field; a power; noise. The
paper names noise before crop, so its noise is resampled with the image; here it stays as drawn (docs/methods.md).

Randomness stays outside: `draw` takes a generator and returns numbers, `apply` is pure mathematics on the device where
the volumes lie. There is no flip, because left and right must stay apart. Cropping changes the apparent brain size, as
in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from brainage_bids.model.augment_geometry import brain_box, resampled, sampling_lines
from brainage_bids.model.augment_intensity import (
    FIELD_ORDER,
    as_bright,
    draw_fields,
    field_bases,
    log_field,
    smoothed,
    smoothing_matrices,
    with_noise,
)
from brainage_bids.model.recipe_sections import AugmentationSettings

GRID_POINTS = 2**25  # resampled at a time on a GPU, 0.4 GB of coordinates


@dataclass(frozen=True)
class AugmentParameters:
    """What was drawn for B volumes; zeros (``crop`` ones) mean untouched. A slice of it is that of some of them.

    Parameters
    ----------
    translation
        Voxels, ``(B, 3)``.
    rotation
        Axis times angle, radians, ``(B, 3)``.
    crop
        Share of each axis kept, ``(B, 3)``.
    crop_shift
        Centre of the crop relative to the centre of the volume, in shares of the axis, ``(B, 3)``.
    noise_sd
        ``(B,)``.
    noise_seed
        Seed of the noise field of each volume, ``(B,)``.
    gamma
        Power of the intensities, ``(B,)``.
    blur
        FWHM of a Gaussian, voxels, ``(B,)``.
    slices
        Thickness of slices along each axis, voxels, ``(B, 3)``; up to 1 is untouched.
    field
        Coefficients of the log of a smooth field, ``(B, 4, 4, 4)``, see `augment_intensity.draw_fields`.
    """

    translation: np.ndarray
    rotation: np.ndarray
    crop: np.ndarray
    crop_shift: np.ndarray
    noise_sd: np.ndarray
    noise_seed: np.ndarray
    gamma: np.ndarray
    blur: np.ndarray
    slices: np.ndarray
    field: np.ndarray

    @property
    def smooths(self) -> np.ndarray:
        """Whether each volume is blurred or gets thicker slices, ``(B,)``."""
        return (self.blur > 0) | (self.slices > 1).any(1)

    @property
    def shades(self) -> np.ndarray:
        """Whether each volume gets a field, ``(B,)``."""
        return self.field.any((1, 2, 3))

    def __getitem__(self, part: slice | np.ndarray) -> AugmentParameters:
        """Return the parameters of some of the volumes."""
        return AugmentParameters(**{item.name: getattr(self, item.name)[part] for item in fields(self)})


def settings_from(recipe: Mapping[str, Any]) -> AugmentationSettings | None:
    """Return the augmentation of a recipe (as plain values), shifts in voxels; None when it is not enabled."""
    settings = AugmentationSettings(**recipe["augmentation"])
    if not settings.enabled:
        return None
    if settings.translation_mm:
        settings = replace(settings, translation_voxels=settings.translation_mm / recipe["volume"]["resolution"])
    return settings


def neutral(count: int) -> AugmentParameters:
    """Return parameters that leave ``count`` volumes as they are."""
    zeros, ones = np.zeros((count, 3)), np.ones((count, 3))
    none, field = np.zeros(count), np.zeros((count, *[FIELD_ORDER + 1] * 3))
    seed = np.zeros(count, dtype=np.int64)
    return AugmentParameters(zeros, zeros, ones, zeros, none, seed, ones[:, 0], none, zeros, field)


def draw(
    count: int, settings: AugmentationSettings, rng: np.random.Generator, voxel_mm: float = 1.0
) -> AugmentParameters:
    """Draw parameters for ``count`` volumes; the same generator state gives the same numbers on any device.

    ``voxel_mm`` is the size of a voxel of the volumes, for what the settings have in mm.
    """
    chosen = rng.random((4, count)) < settings.probability  # translation, rotation, noise, crop
    translation = rng.uniform(-1, 1, (count, 3)) * settings.translation_voxels
    rotation = _draw_rotations(count, settings, rng)
    crop = rng.uniform(settings.crop_min, 1.0, (count, 3))
    shift = rng.uniform(-0.5, 0.5, (count, 3)) * (1 - crop)
    seed, gamma = rng.integers(2**62, size=count), np.ones(count)
    if settings.gamma_max > 1:  # recipes without it draw what they always drew
        changed = rng.random(count) < settings.probability
        gamma = np.where(changed, settings.gamma_max ** rng.uniform(-1, 1, count), 1.0)
    blur, slices, field = (getattr(neutral(count), name) for name in ("blur", "slices", "field"))
    if settings.blur_mm > 0:
        changed = rng.random(count) < settings.probability
        blur = np.where(changed, rng.uniform(0, settings.blur_mm, count) / voxel_mm, 0.0)
    if settings.slice_mm > 0:
        changed = rng.random(count) < settings.probability
        thickness = np.where(changed, rng.uniform(0, settings.slice_mm, count) / voxel_mm, 0.0)
        slices = np.eye(3)[rng.integers(3, size=count)] * thickness[:, None]
    if settings.field_max > 0:
        changed = rng.random(count) < settings.probability
        field = draw_fields(count, settings.field_max, rng) * changed[:, None, None, None]
    return AugmentParameters(
        translation=np.where(chosen[0, :, None], translation, 0.0),
        rotation=np.where(chosen[1, :, None], rotation, 0.0),
        crop=np.where(chosen[3, :, None], crop, 1.0),
        crop_shift=np.where(chosen[3, :, None], shift, 0.0),
        noise_sd=np.where(chosen[2], settings.noise_sd, 0.0),
        noise_seed=seed,
        gamma=gamma,
        blur=blur,
        slices=slices,
        field=field,
    )


def _draw_rotations(count: int, settings: AugmentationSettings, rng: np.random.Generator) -> np.ndarray:
    """Return rotation vectors (axis times radians), ``(count, 3)``."""
    if settings.rotation_axes == "each":
        angles = rng.uniform(settings.rotation_min, settings.rotation_max, (count, 3)) * rng.choice([-1, 1], (count, 3))
        return Rotation.from_euler("xyz", angles).as_rotvec()
    axis = rng.standard_normal((count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return axis * rng.uniform(settings.rotation_min, settings.rotation_max, (count, 1))


def apply(volumes: Tensor, parameters: AugmentParameters) -> Tensor:
    """Return the augmented volumes, zero outside the brain.

    One linear resampling, then, inside the brain, blur and thick slices, the field, the power and noise. After blur,
    slices and field the largest value of a volume is made what it was. It stays in the range of the intensity rule.

    On the CPU only the box that the moved brain can reach is computed; the rest of the grid is air before and after. A
    GPU takes the whole grid of many volumes at once: to look for the boxes it would have to stop and answer.

    Parameters
    ----------
    volumes
        ``(B, 1, X, Y, Z)``, zero outside the brain; any floating type.
    parameters
        From `draw` or `neutral`.

    Returns
    -------
    Tensor
        ``(B, 1, X, Y, Z)`` float32; what a volume becomes does not depend on the others of the batch (on a GPU blur and
        slices up to rounding). Volumes without any change are copied bit by bit. Noise of the same seed is another on
        a GPU than on the CPU.
    """
    pulls = pull_back(parameters, volumes.shape[2:])  # (B, 4, 4)
    moved = (parameters.translation != 0).any(1) | (parameters.rotation != 0).any(1) | (parameters.crop != 1).any(1)
    if volumes.device.type != "cpu":
        return _whole_grids(volumes, parameters, pulls, np.flatnonzero(moved))
    disturbed = parameters.smooths | parameters.shades
    out = torch.zeros(volumes.shape, dtype=torch.float32)

    def one(index: int) -> None:
        volume = volumes[index, 0]
        box = brain_box(volume)
        if box is None:
            return
        brain = volume[box].float()
        if moved[index]:
            box, brain = resampled(brain, box, pulls[index], tuple(volume.shape))
            if not brain.numel():
                return
        if disturbed[index]:
            brain = _disturbed(brain[None], parameters[index : index + 1], box, tuple(volume.shape))[0]
        if parameters.gamma[index] != 1:
            brain = brain.pow(float(parameters.gamma[index]))
        if parameters.noise_sd[index]:
            brain = with_noise(brain, float(parameters.noise_sd[index]), int(parameters.noise_seed[index]))
        out[index, 0][box] = brain

    threads = min(len(volumes), torch.get_num_threads())
    if threads > 1:  # torch resamples one 3D volume on one thread
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(len(volumes))))
    else:
        for index in range(len(volumes)):
            one(index)
    return out


def _whole_grids(volumes: Tensor, parameters: AugmentParameters, pulls: np.ndarray, moved: np.ndarray) -> Tensor:
    """Do what `apply` says for all volumes at once, without waiting for the device.

    ``moved`` are the indices of the volumes with a geometric change.
    """
    out, shape = volumes.to(torch.float32, copy=True), tuple(volumes.shape[2:])
    step = max(1, GRID_POINTS // math.prod(shape))
    if len(moved):
        lines = sampling_lines(pulls[moved], np.zeros(3), np.zeros(3), shape, shape)
        x, y, z = (torch.from_numpy(line).to(volumes.device) for line in lines)
        indices = torch.from_numpy(moved).to(volumes.device)
        for start in range(0, len(moved), step):
            part = slice(start, start + step)
            grid = x[part, :, None, None] + (y[part, :, None] + z[part, None])[:, None]  # (b, X, Y, Z, 3)
            now = indices[part]
            sampled = F.grid_sample(out[now], grid, padding_mode="zeros", align_corners=False)
            out.index_copy_(0, now, sampled)
    # those with smoothing and those with a field alone in groups of their own: a group does what any of it needs
    for chosen in (parameters.smooths, parameters.shades & ~parameters.smooths):
        disturbed = np.flatnonzero(chosen)
        for start in range(0, len(disturbed), step):
            now = disturbed[start : start + step]
            indices = torch.from_numpy(now).to(volumes.device)
            whole = tuple(slice(0, n) for n in shape)
            out[:, 0].index_copy_(0, indices, _disturbed(out[indices, 0], parameters[now], whole, shape))
    for index in np.flatnonzero(parameters.gamma != 1):
        out[index] = out[index].pow(float(parameters.gamma[index]))
    for index in np.flatnonzero(parameters.noise_sd):
        out[index, 0] = with_noise(out[index, 0], float(parameters.noise_sd[index]), int(parameters.noise_seed[index]))
    return out


def _disturbed(brains: Tensor, parameters: AugmentParameters, box: tuple[slice, ...], shape: tuple[int, ...]) -> Tensor:
    """Return ``(b, x, y, z)`` of a box of a grid of ``shape``, blurred, in thicker slices and under their fields."""
    largest = brains.amax((1, 2, 3))

    def there(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(brains.device)

    if parameters.smooths.any():
        matrices = smoothing_matrices(parameters.blur, parameters.slices, shape)
        brains = smoothed(
            brains, [None if m is None else there(m[:, side, side]) for m, side in zip(matrices, box, strict=True)]
        )
    if parameters.shades.any():
        bases = [there(basis[side]) for basis, side in zip(field_bases(shape), box, strict=True)]
        brains = brains * log_field(there(parameters.field), bases).exp_()
    return as_bright(brains, largest)


def pull_back(parameters: AugmentParameters, shape: tuple[int, ...]) -> np.ndarray:
    """Return the matrices that map an output voxel to the input voxel it is read from.

    The image is translated, then rotated about its centre, then cropped and resized; the pull-back undoes the three in
    reverse order. Voxel i covers [i - 0.5, i + 0.5], so an axis of n voxels has its centre at (n - 1) / 2.

    Parameters
    ----------
    parameters
        Of B volumes.
    shape
        Voxels ``(X, Y, Z)``.

    Returns
    -------
    ndarray
        ``(B, 4, 4)`` float64.
    """
    count, size = len(parameters.noise_sd), np.asarray(shape, dtype=float)
    centre = (size - 1) / 2
    rotation = Rotation.from_rotvec(parameters.rotation).as_matrix()  # (B, 3, 3)
    linear = rotation.transpose(0, 2, 1) * parameters.crop[:, None, :]  # R^T diag(crop)
    crop_offset = parameters.crop_shift * size  # (B, 3), voxels
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = linear
    turned = np.einsum("bij,bj->bi", rotation.transpose(0, 2, 1), crop_offset)
    matrices[:, :3, 3] = centre - linear @ centre + turned - parameters.translation
    return matrices
