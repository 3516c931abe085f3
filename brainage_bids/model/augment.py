"""The paper's four augmentations (section 2.3), composed into one affine resampling, then noise; and one of contrast.

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

from brainage_bids.model.recipe import AugmentationSettings

SLAB = 8  # planes resampled at a time
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
    """

    translation: np.ndarray
    rotation: np.ndarray
    crop: np.ndarray
    crop_shift: np.ndarray
    noise_sd: np.ndarray
    noise_seed: np.ndarray
    gamma: np.ndarray

    def __getitem__(self, part: slice) -> AugmentParameters:
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
    none = np.zeros(count)
    return AugmentParameters(zeros, zeros, ones, zeros, none, np.zeros(count, dtype=np.int64), ones[:, 0])


def draw(count: int, settings: AugmentationSettings, rng: np.random.Generator) -> AugmentParameters:
    """Draw parameters for ``count`` volumes; the same generator state gives the same numbers on any device."""
    chosen = rng.random((4, count)) < settings.probability  # translation, rotation, noise, crop
    translation = rng.uniform(-1, 1, (count, 3)) * settings.translation_voxels
    rotation = _draw_rotations(count, settings, rng)
    crop = rng.uniform(settings.crop_min, 1.0, (count, 3))
    shift = rng.uniform(-0.5, 0.5, (count, 3)) * (1 - crop)
    seed, gamma = rng.integers(2**62, size=count), np.ones(count)
    if settings.gamma_max > 1:  # recipes without it draw what they always drew
        changed = rng.random(count) < settings.probability
        gamma = np.where(changed, settings.gamma_max ** rng.uniform(-1, 1, count), 1.0)
    return AugmentParameters(
        translation=np.where(chosen[0, :, None], translation, 0.0),
        rotation=np.where(chosen[1, :, None], rotation, 0.0),
        crop=np.where(chosen[3, :, None], crop, 1.0),
        crop_shift=np.where(chosen[3, :, None], shift, 0.0),
        noise_sd=np.where(chosen[2], settings.noise_sd, 0.0),
        noise_seed=seed,
        gamma=gamma,
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
    """Return the augmented volumes: one linear resampling (zero outside), the power, then noise inside the brain.

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
        ``(B, 1, X, Y, Z)`` float32; what a volume becomes does not depend on the others of the batch. Volumes without
        a geometric change are copied bit by bit. Noise of the same seed is another on a GPU than on the CPU.
    """
    pulls = pull_back(parameters, volumes.shape[2:])  # (B, 4, 4)
    moved = (parameters.translation != 0).any(1) | (parameters.rotation != 0).any(1) | (parameters.crop != 1).any(1)
    if volumes.device.type != "cpu":
        return _whole_grids(volumes, parameters, pulls, np.flatnonzero(moved))
    out = torch.zeros(volumes.shape, dtype=torch.float32)

    def one(index: int) -> None:
        volume = volumes[index, 0]
        box = brain_box(volume)
        if box is None:
            return
        brain = volume[box].float()
        if moved[index]:
            box, brain = _resampled(brain, box, pulls[index], tuple(volume.shape))
        if parameters.gamma[index] != 1:
            brain = brain.pow(float(parameters.gamma[index]))
        if parameters.noise_sd[index]:
            brain = _with_noise(brain, float(parameters.noise_sd[index]), int(parameters.noise_seed[index]))
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
    if len(moved):
        lines = _sampling_lines(pulls[moved], np.zeros(3), np.zeros(3), shape, shape)
        x, y, z = (torch.from_numpy(line).to(volumes.device) for line in lines)
        indices = torch.from_numpy(moved).to(volumes.device)
        step = max(1, GRID_POINTS // math.prod(shape))
        for start in range(0, len(moved), step):
            part = slice(start, start + step)
            grid = x[part, :, None, None] + (y[part, :, None] + z[part, None])[:, None]  # (b, X, Y, Z, 3)
            now = indices[part]
            sampled = F.grid_sample(out[now], grid, padding_mode="zeros", align_corners=False)
            out.index_copy_(0, now, sampled)
    for index in np.flatnonzero(parameters.gamma != 1):
        out[index] = out[index].pow(float(parameters.gamma[index]))
    for index in np.flatnonzero(parameters.noise_sd):
        out[index, 0] = _with_noise(out[index, 0], float(parameters.noise_sd[index]), int(parameters.noise_seed[index]))
    return out


def brain_box(volume: Tensor) -> tuple[slice, slice, slice] | None:
    """Return the smallest box around what is not zero in ``(X, Y, Z)``, or None when all is zero."""
    inside = volume != 0
    planes = inside.any(2)  # (X, Y)
    slices = []
    for line in (planes.any(1), planes.any(0), inside.any(0).any(0)):
        inner = line.nonzero()
        if not len(inner):
            return None
        slices.append(slice(int(inner[0]), int(inner[-1]) + 1))
    return tuple(slices)


def _resampled(
    brain: Tensor, box: tuple[slice, ...], pull: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], Tensor]:
    """Resample the brain of a box; return the box it moves to and its values there."""
    low, high = (np.array([getattr(side, end) for side in box], dtype=float) for end in ("start", "stop"))
    corners = np.array(np.meshgrid(*np.stack([low - 1, high], 1), indexing="ij")).reshape(3, 8)  # a voxel beyond
    reached = np.linalg.solve(pull[:3, :3], corners - pull[:3, 3:])  # (3, 8), output voxels
    first = np.clip(np.ceil(reached.min(1) - 1e-6), 0, shape).astype(int)
    last = np.clip(np.floor(reached.max(1) + 1e-6) + 1, first, shape).astype(int)
    target = tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))
    size = tuple((last - first).tolist())
    if min(size) == 0:
        return target, brain.new_zeros(size)
    lines = _sampling_lines(pull[None], low, first, tuple(brain.shape), size)
    x, y, z = (torch.from_numpy(line[0]) for line in lines)
    plane = y[:, None] + z  # (Y, Z, 3)
    out = brain.new_empty(size)
    for start in range(0, size[0], SLAB):
        grid = x[start : start + SLAB, None, None] + plane  # (S, Y, Z, 3)
        sampled = F.grid_sample(brain[None, None], grid[None], padding_mode="zeros", align_corners=False)
        out[start : start + SLAB] = sampled[0, 0]
    return target, out


def _sampling_lines(
    pulls: np.ndarray, low: np.ndarray, first: np.ndarray, shape: tuple[int, ...], size: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Return the coordinates that ``grid_sample`` wants as a sum of one part an axis, float32 ``(B, n, 3)`` each.

    Parameters
    ----------
    pulls
        Output voxel to input voxel of the whole grid, ``(B, 4, 4)``.
    low, shape
        First voxel and size of the input box.
    first, size
        The same of the output box.
    """
    # Input voxel v of an axis of n voxels is (2 v + 1) / n - 1 for `grid_sample`, which counts the last axis first.
    scale = 2 / np.array(shape)
    linear = (pulls[:, :3, :3] * scale[:, None])[:, ::-1]  # (B, 3, 3)
    offset = ((pulls[:, :3, :3] @ first + pulls[:, :3, 3] - low + 0.5) * scale - 1)[:, ::-1]  # (B, 3)
    x, y, z = (np.arange(n)[:, None] * linear[:, None, :, axis] for axis, n in enumerate(size))
    return tuple(line.astype(np.float32) for line in (x, y + offset[:, None], z))


def _with_noise(brain: Tensor, sd: float, seed: int) -> Tensor:
    """Add noise where there is brain: the network must not see a halo in training only."""
    generator = torch.Generator(device=brain.device if brain.device.type == "cuda" else "cpu").manual_seed(seed)
    noise = torch.randn(brain.shape, generator=generator, device=generator.device).to(brain.device)
    return torch.add(brain, noise.masked_fill_(brain == 0, 0), alpha=sd)


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
