"""The paper's four augmentations (section 2.3), composed into one affine resampling, then noise.

Randomness stays outside: `draw` takes a generator and returns numbers, `apply` is pure mathematics on the device where
the volumes lie. There is no flip, because left and right must stay apart. Cropping changes the apparent brain size, as
in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SLAB = 8  # planes resampled at a time


@dataclass(frozen=True)
class AugmentSettings:
    """Strength of the augmentations; a strength of 0 (crop 1) switches one off.

    Parameters
    ----------
    probability
        Chance of each augmentation, independently.
    translation_voxels
        Largest shift along each axis, voxels, both directions.
    rotation_min, rotation_max
        Range of the rotation angle, radians, about one random axis.
    noise_sd
        Standard deviation of the Gaussian noise, in units of the intensity.
    crop_min
        Smallest share of each axis that a crop keeps, resized back.
    """

    probability: float = 0.5
    translation_voxels: float = 10.0
    rotation_min: float = 0.1
    rotation_max: float = 0.5
    noise_sd: float = 0.025
    crop_min: float = 0.7


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
    """

    translation: np.ndarray
    rotation: np.ndarray
    crop: np.ndarray
    crop_shift: np.ndarray
    noise_sd: np.ndarray
    noise_seed: np.ndarray

    def __getitem__(self, part: slice) -> AugmentParameters:
        """Return the parameters of some of the volumes."""
        return AugmentParameters(**{item.name: getattr(self, item.name)[part] for item in fields(self)})


def settings_from(section: Mapping[str, Any]) -> AugmentSettings | None:
    """Return the settings that a recipe's ``augmentation`` section (as plain values) describes; None: not enabled."""
    strengths = {key: value for key, value in section.items() if key != "enabled"}
    return AugmentSettings(**strengths) if section["enabled"] else None


def neutral(count: int) -> AugmentParameters:
    """Return parameters that leave ``count`` volumes as they are."""
    zeros = np.zeros((count, 3))
    return AugmentParameters(zeros, zeros, np.ones((count, 3)), zeros, np.zeros(count), np.zeros(count, dtype=np.int64))


def draw(count: int, settings: AugmentSettings, rng: np.random.Generator) -> AugmentParameters:
    """Draw parameters for ``count`` volumes; the same generator state gives the same numbers on any device."""
    chosen = rng.random((4, count)) < settings.probability  # translation, rotation, noise, crop
    translation = rng.uniform(-1, 1, (count, 3)) * settings.translation_voxels
    axis = rng.standard_normal((count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = rng.uniform(settings.rotation_min, settings.rotation_max, (count, 1))
    crop = rng.uniform(settings.crop_min, 1.0, (count, 3))
    shift = rng.uniform(-0.5, 0.5, (count, 3)) * (1 - crop)
    return AugmentParameters(
        translation=np.where(chosen[0, :, None], translation, 0.0),
        rotation=np.where(chosen[1, :, None], axis * angle, 0.0),
        crop=np.where(chosen[3, :, None], crop, 1.0),
        crop_shift=np.where(chosen[3, :, None], shift, 0.0),
        noise_sd=np.where(chosen[2], settings.noise_sd, 0.0),
        noise_seed=rng.integers(2**62, size=count),
    )


def apply(volumes: Tensor, parameters: AugmentParameters) -> Tensor:
    """Return the augmented volumes: one linear resampling (zero outside), then noise inside the brain.

    Only the box that the moved brain can reach is computed; the rest of the grid is air before and after.

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
        a geometric change are copied bit by bit.
    """
    pulls = pull_back(parameters, volumes.shape[2:])  # (B, 4, 4)
    moved = (parameters.translation != 0).any(1) | (parameters.rotation != 0).any(1) | (parameters.crop != 1).any(1)
    out = torch.zeros(volumes.shape, dtype=torch.float32, device=volumes.device)

    def one(index: int) -> None:
        volume = volumes[index, 0]
        box = brain_box(volume)
        if box is None:
            return
        brain = volume[box].float()
        if moved[index]:
            box, brain = _resampled(brain, box, pulls[index], tuple(volume.shape))
        if parameters.noise_sd[index]:
            brain = _with_noise(brain, float(parameters.noise_sd[index]), int(parameters.noise_seed[index]))
        out[index, 0][box] = brain

    threads = min(len(volumes), torch.get_num_threads()) if volumes.device.type == "cpu" else 1
    if threads > 1:  # torch resamples one 3D volume on one thread
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(len(volumes))))
    else:
        for index in range(len(volumes)):
            one(index)
    return out


def brain_box(volume: Tensor) -> tuple[slice, slice, slice] | None:
    """Return the smallest box around what is not zero in ``(X, Y, Z)``, or None when all is zero."""
    inside = volume != 0
    planes = inside.any(2)  # (X, Y)
    slices = []
    for line in (planes.any(1), planes.any(0), inside.any(0).any(0)):
        places = line.nonzero()
        if not len(places):
            return None
        slices.append(slice(int(places[0]), int(places[-1]) + 1))
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
    # Input voxel v of an axis of n voxels is (2 v + 1) / n - 1 for `grid_sample`, which counts the last axis first.
    scale = 2 / np.array(brain.shape)
    linear = pull[:3, :3] * scale[:, None]
    offset = (pull[:3, :3] @ first + pull[:3, 3] - low + 0.5) * scale - 1
    steps = [torch.arange(n, dtype=torch.float32, device=brain.device) for n in size]
    parts = [
        torch.as_tensor(linear[::-1, axis].copy(), dtype=torch.float32, device=brain.device) * step[:, None]
        for axis, step in enumerate(steps)
    ]  # 3 x (n, 3)
    plane = parts[1][:, None] + parts[2][None] + torch.as_tensor(offset[::-1].copy(), dtype=torch.float32).to(brain)
    out = brain.new_empty(size)
    for start in range(0, size[0], SLAB):
        grid = parts[0][start : start + SLAB, None, None] + plane  # (S, Y, Z, 3)
        sampled = F.grid_sample(brain[None, None], grid[None], padding_mode="zeros", align_corners=False)
        out[start : start + SLAB] = sampled[0, 0]
    return target, out


def _with_noise(brain: Tensor, sd: float, seed: int) -> Tensor:
    """Add noise where there is brain: the network must not see a halo in training only."""
    generator = torch.Generator(device=brain.device if brain.device.type == "cuda" else "cpu").manual_seed(seed)
    noise = torch.randn(brain.shape, generator=generator, device=generator.device).to(brain.device)
    return torch.addcmul(brain, noise, (brain != 0).float(), value=sd)


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
    rotation = _rotation_matrices(parameters.rotation)  # (B, 3, 3)
    linear = rotation.transpose(0, 2, 1) * parameters.crop[:, None, :]  # R^T diag(crop)
    crop_offset = parameters.crop_shift * size  # (B, 3), voxels
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = linear
    turned = np.einsum("bij,bj->bi", rotation.transpose(0, 2, 1), crop_offset)
    matrices[:, :3, 3] = centre - linear @ centre + turned - parameters.translation
    return matrices


def _rotation_matrices(vectors: np.ndarray) -> np.ndarray:
    """Rodrigues' formula: rotation vectors ``(B, 3)`` (axis times radians) to matrices ``(B, 3, 3)``."""
    angle = np.linalg.norm(vectors, axis=1)
    axis = vectors / np.where(angle > 0, angle, 1.0)[:, None]
    cross = np.zeros((len(vectors), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross -= cross.transpose(0, 2, 1)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
