"""The paper's four augmentations (section 2.3), composed into one affine resampling, then noise.

Randomness stays outside: `draw` takes a generator and returns numbers, `apply` is pure mathematics on the device where
the volumes lie. There is no flip, because left and right must stay apart. Cropping changes the apparent brain size, as
in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


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
    """What was drawn for B volumes; zeros (``crop`` ones) mean untouched.

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
        Seed of the noise field of this batch.
    """

    translation: np.ndarray
    rotation: np.ndarray
    crop: np.ndarray
    crop_shift: np.ndarray
    noise_sd: np.ndarray
    noise_seed: int = 0


def neutral(count: int) -> AugmentParameters:
    """Return parameters that leave ``count`` volumes as they are."""
    zeros = np.zeros((count, 3))
    return AugmentParameters(zeros, zeros, np.ones((count, 3)), zeros, np.zeros(count))


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
        noise_seed=int(rng.integers(2**62)),
    )


def apply(volumes: Tensor, parameters: AugmentParameters) -> Tensor:
    """Return the augmented volumes: one linear resampling (zero outside), then noise inside the brain.

    Parameters
    ----------
    volumes
        ``(B, 1, X, Y, Z)`` float32, zero outside the brain.
    parameters
        From `draw` or `neutral`.

    Returns
    -------
    Tensor
        ``(B, 1, X, Y, Z)``; volumes without a geometric change are copied bit by bit.
    """
    out = volumes.clone()
    moved = np.flatnonzero(
        (parameters.translation != 0).any(1) | (parameters.rotation != 0).any(1) | (parameters.crop != 1).any(1)
    )
    if len(moved):
        index = torch.from_numpy(moved).to(volumes.device)
        pull = pull_back(parameters, volumes.shape[2:])[moved]  # (M, 4, 4)
        theta = torch.from_numpy(_normalised(pull, volumes.shape[2:])).to(volumes)  # (M, 3, 4)
        picked = volumes[index]
        grid = F.affine_grid(theta, list(picked.shape), align_corners=False)  # (M, X, Y, Z, 3)
        out[index] = F.grid_sample(picked, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    noisy = np.flatnonzero(parameters.noise_sd)
    if len(noisy):
        # Drawn on the CPU, so that every device sees the same noise.
        generator = torch.Generator().manual_seed(parameters.noise_seed)
        noise = torch.randn((len(noisy), *volumes.shape[1:]), generator=generator).to(volumes)
        index = torch.from_numpy(noisy).to(volumes.device)
        sd = torch.from_numpy(parameters.noise_sd[noisy]).to(volumes)[:, None, None, None, None]
        brain = out[index] != 0  # outside stays zero: the network must not see a halo only in training
        out[index] = torch.where(brain, out[index] + sd * noise, out[index])
    return out


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


def _normalised(pull: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Turn voxel matrices ``(B, 4, 4)`` into `affine_grid`'s ``(B, 3, 4)``: last axis first, [-1, 1] at voxel edges."""
    size = np.asarray(shape, dtype=float)
    to_voxel = np.diag([*(size / 2), 1.0])
    to_voxel[:3, 3] = (size - 1) / 2  # voxel = (u + 1) * n / 2 - 1 / 2
    theta = np.linalg.inv(to_voxel) @ pull @ to_voxel
    reverse = [2, 1, 0, 3]
    return theta[:, reverse][:, :, reverse][:, :3]
