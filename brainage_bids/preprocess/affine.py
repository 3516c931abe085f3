"""Twelve-parameter affine registration of a brain to the template by normalised cross-correlation (NCC), in torch.

Many starting rotations are tried at 8 mm. The best one is refined at 4 mm and, unless the voxels are coarse, at 2 mm.
At 2 mm both images are standardised by their neighbourhood, so that a remaining bias field or a cut field of view does
not shift the result. Each level maximises the correlation with damped Gauss-Newton steps (Levenberg-Marquardt on the
difference of the two normalised images, whose squared norm is 2 - 2 NCC) and an analytic Jacobian. There are no random
numbers, and the result is the same for any number of workers. A left-right flip cannot be detected.

This module imports torch: import it inside functions, not at the top of a module.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as F
from nibabel.affines import voxel_sizes
from scipy.spatial.transform import Rotation

from brainage_bids.preprocess.template import Template

RADIUS_MM = 80.0  # template coordinates are divided by this, so that all parameters have a similar scale
FWHM = 2.3548200450309493
COARSE_MM, MIDDLE_MM, FINE_MM = 8.0, 4.0, 2.0
COARSE_VOXEL_MM = 3.5  # with voxels of this size or more, the 4 mm level is the last
NEIGHBOURHOOD_MM = 10.0  # standard deviation of the Gaussian neighbourhood at the finest level
FLAT = 0.05  # added to the spread (0 to 1) of a neighbourhood, so that noise in flat regions is not amplified
CUT_FRACTION = 0.05  # share of the brain's projection on a face of the image, above which the brain is cut there


@dataclass(frozen=True)
class Fit:
    """Result of a registration.

    Parameters
    ----------
    matrix
        4 x 4, template world (mm, RAS+) to native world (mm, RAS+).
    ncc
        Correlation with the template inside the template's brain mask at the finest level.
    """

    matrix: np.ndarray
    ncc: float


@dataclass(frozen=True)
class _Level:
    """Template points of one level: ``points`` (N, 4) homogeneous, unit 80 mm; ``values`` and ``inside`` (N,)."""

    points: torch.Tensor
    values: torch.Tensor
    inside: torch.Tensor


@dataclass(frozen=True)
class _Moving:
    """The native brain of one level: ``channels`` (1, 4, D, H, W) value and gradient; world to grid; see `_walls`."""

    channels: torch.Tensor
    to_grid: torch.Tensor
    walls: torch.Tensor


def set_threads(threads: int) -> int:
    """Set the number of torch threads and return the former one."""
    former = torch.get_num_threads()
    torch.set_num_threads(int(threads))
    return former


def standard_starts() -> np.ndarray:
    """Return 13 rotations (13, 3, 3): none, and 20 and 40 degrees in both directions about each axis."""
    turns = [np.zeros(3)] + [sign * angle * axis for axis in np.eye(3) for angle in (20.0, 40.0) for sign in (1, -1)]
    return Rotation.from_rotvec(np.asarray(turns), degrees=True).as_matrix()


def wide_starts() -> np.ndarray:
    """Return the 24 rotations of the cube, and 40 degrees in both directions about each axis (30, 3, 3)."""
    cube = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(3)[list(order)] * np.asarray(signs)[:, None]
            if np.linalg.det(matrix) > 0:
                cube.append(matrix)
    cube.sort(key=lambda m: -np.trace(m))
    turns = [sign * 40.0 * axis for axis in np.eye(3) for sign in (1, -1)]
    return np.concatenate([[cube[0]], Rotation.from_rotvec(turns, degrees=True).as_matrix(), cube[1:]])


def register(
    brain: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    template: Template,
    starts: np.ndarray | None = None,
    device: str = "cpu",
    coarse: bool = False,
) -> Fit:
    """Return the affine that maps template points to the native scan, and its correlation.

    Parameters
    ----------
    brain
        Bias-corrected scan, float32 ``(X, Y, Z)``; only its values inside ``mask`` are used.
    mask
        Brain mask, bool, same shape.
    affine
        4 x 4, native voxel to world (mm, RAS+).
    template
        The target.
    starts
        Starting rotations, ``(S, 3, 3)``; default :func:`standard_starts`.
    device
        torch device.
    coarse
        Stop after the 4 mm level, to compare poses.
    """
    starts = standard_starts() if starts is None else starts
    values = _normalised(brain, mask)
    zooms = voxel_sizes(affine)
    coarse = coarse or float(np.cbrt(zooms.prod())) >= COARSE_VOXEL_MM  # such scans hold no finer detail
    poses = torch.as_tensor(_initial_poses(mask, affine, template, starts), device=device)
    similarity, full = _bases(device)
    for spacing, climbs in ((COARSE_MM, ((similarity, 12, 4), (full, 15, 1))), (MIDDLE_MM, ((full, 12, 1),))):
        level = _template_level(template, spacing, device)
        moving = _moving_level(values, mask, affine, spacing, device)
        for basis, steps, keep in climbs:
            poses, score = _climb(level, moving, poses, basis, steps)
            poses = poses[torch.argsort(score, descending=True, stable=True)[:keep]]
    if not coarse:
        moving = _moving_level(_standardised(values, mask, affine), mask, affine, FINE_MM, device)
        poses, _ = _climb(_template_level(template, FINE_MM, device, True), moving, poses, full, 10)
        level = _template_level(template, FINE_MM, device)
        moving = _moving_level(values, mask, affine, FINE_MM, device)
    correlation = _evaluate(level, moving, poses, level.inside.float())[0]
    return Fit(poses[0].cpu().numpy() @ np.linalg.inv(_from_normalised(template)), float(correlation[0]))


def _normalised(brain: np.ndarray, mask: np.ndarray) -> np.ndarray:
    low, high = np.percentile(brain[mask], (0.5, 99.5))
    scaled = np.clip((brain - min(low, 0.0)) / max(high - min(low, 0.0), 1e-12), 0, 1)
    return np.where(mask, scaled, 0).astype(np.float32)


def _standardised(values: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Subtract the mean of the neighbourhood inside ``mask`` and divide by its standard deviation; 0 outside.

    So edges of tissue guide the registration, not slow differences in coil, contrast or field of view. One is added
    inside the mask, so that the edge of the brain against the background still counts.
    """
    box = ndi.find_objects(mask.astype(np.uint8))[0]
    inside = np.where(mask[box], values[box], 0)
    weight, grid = _pyramid(mask[box].astype(np.float32), affine, COARSE_MM)
    powers = [_pyramid(power, affine, COARSE_MM)[0] for power in (inside, inside**2)]
    width = NEIGHBOURHOOD_MM / voxel_sizes(grid)
    weight, mean, square = (ndi.gaussian_filter(a, width, mode="constant", truncate=3) for a in (weight, *powers))
    mean, square = (a / np.maximum(weight, 1e-3) for a in (mean, square))
    spread = np.sqrt(np.maximum(square - mean**2, 0) + FLAT**2)
    index = np.linalg.inv(grid) @ affine  # both grids have the same axes: a scale and a shift
    mean, spread = (
        ndi.affine_transform(a, np.diag(index)[:3], index[:3, 3], inside.shape, order=1, mode="nearest")
        for a in (mean, spread)
    )
    standardised = np.zeros(mask.shape, dtype=np.float32)
    standardised[box] = np.where(mask[box], np.clip((inside - mean) / spread, -3, 3) + 1, 0)
    return standardised


def _from_normalised(template: Template) -> np.ndarray:
    """Return the matrix from normalised template coordinates (brain centre at 0, unit 80 mm) to world (mm)."""
    matrix = np.diag([RADIUS_MM] * 3 + [1.0])
    matrix[:3, 3] = _centre(template.mask, template.affine)
    return matrix


def _centre(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = [
        np.average(np.arange(n), weights=mask.sum(axis=tuple(a for a in range(3) if a != axis)))
        for axis, n in enumerate(mask.shape)
    ]
    return affine[:3, :3] @ np.asarray(index) + affine[:3, 3]


def _initial_poses(mask: np.ndarray, affine: np.ndarray, template: Template, starts: np.ndarray) -> np.ndarray:
    """Return starting poses (S, 4, 4), normalised template to native: centres and volumes matched, each rotation."""
    voxel = abs(np.linalg.det(affine[:3, :3]))
    template_voxel = abs(np.linalg.det(template.affine[:3, :3]))
    scale = np.clip(np.cbrt(mask.sum() * voxel / (template.mask.sum() * template_voxel)), 0.7, 1.2)
    poses = np.tile(np.eye(4), (len(starts), 1, 1))
    poses[:, :3, :3] = starts * RADIUS_MM * scale
    poses[:, :3, 3] = _centre(mask, affine)
    return poses


def _bases(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two bases of motion as flattened 3 x 4 matrices: (12, 7) rotation, scale, shift; (12, 12) full affine."""
    full = torch.eye(12, dtype=torch.float64, device=device)
    columns = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        turn = torch.zeros(3, 4, dtype=torch.float64, device=device)
        turn[i, j], turn[j, i] = -1.0, 1.0
        columns.append(turn.flatten())
    columns.append(torch.eye(3, 4, dtype=torch.float64, device=device).flatten())
    columns += [full[4 * i + 3] for i in range(3)]
    return torch.stack(columns, dim=1), full


def _pyramid(data: np.ndarray, affine: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return data blurred to a full width of ``spacing`` mm on a grid of about half of it, and that grid's affine."""
    zooms = voxel_sizes(affine)
    factor = np.maximum(1, np.floor(spacing / 2 / zooms + 1e-3)).astype(int)
    padded = np.pad(data, [(0, -n % f) for n, f in zip(data.shape, factor, strict=True)])
    nx, ny, nz = np.asarray(padded.shape) // factor
    fx, fy, fz = factor
    small = padded.reshape(nx, fx, ny, fy, nz, fz).mean(axis=(1, 3, 5))
    variance = (spacing / FWHM) ** 2 - ((factor * zooms) ** 2 - zooms**2) / 12  # less the blur of the block mean
    small = ndi.gaussian_filter(small, np.sqrt(np.maximum(variance, 0)) / (factor * zooms), mode="constant", truncate=3)
    step = affine @ np.block([[np.diag(factor), (factor[:, None] - 1) / 2], [np.zeros((1, 3)), np.ones((1, 1))]])
    return small, step


@lru_cache(maxsize=8)
def _template_level(template: Template, spacing: float, device: str, standardise: bool = False) -> _Level:
    data = _standardised(template.data, template.mask, template.affine) if standardise else template.data
    values, affine = _pyramid(data, template.affine, spacing)
    inside, _ = _pyramid(template.mask.astype(np.float32), template.affine, spacing)
    near = ndi.binary_dilation(inside > 0.5, iterations=3)[::2, ::2, ::2]
    index = np.argwhere(near) * 2
    world = index @ affine[:3, :3].T + affine[:3, 3]
    to_normalised = np.linalg.inv(_from_normalised(template))
    points = np.concatenate([world, np.ones((len(world), 1))], axis=1) @ to_normalised.T
    chosen = tuple(index.T)
    return _Level(
        torch.as_tensor(points, dtype=torch.float32, device=device),
        torch.as_tensor(values[chosen], dtype=torch.float32, device=device),
        torch.as_tensor(inside[chosen] > 0.5, device=device),
    )


def _moving_level(values: np.ndarray, mask: np.ndarray, affine: np.ndarray, spacing: float, device: str) -> _Moving:
    zooms = voxel_sizes(affine)
    box = ndi.find_objects(mask.astype(np.uint8))[0]
    margin = np.ceil(2 * spacing / zooms).astype(int)
    start = np.asarray([s.start for s in box]) - margin
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, :3] @ start
    # beyond a cut face the brain continues: zeros there would darken the voxels at the edge
    cut = _cut_faces(mask)
    beyond, outside = (np.where(faces, margin, 0).T for faces in (cut, ~cut))
    small, grid = _pyramid(np.pad(np.pad(values[box], beyond, mode="edge"), outside), shifted, spacing)
    gradient = np.stack(np.gradient(small), axis=-1) @ np.linalg.inv(grid[:3, :3])  # (..., 3) per mm of world
    channels = np.concatenate([small[None], np.moveaxis(gradient, -1, 0)])[None]
    walls = _walls(cut, mask.shape, np.linalg.inv(grid) @ affine)
    return _Moving(
        torch.as_tensor(channels, dtype=torch.float32, device=device),
        torch.as_tensor(np.linalg.inv(grid), dtype=torch.float64, device=device),
        torch.as_tensor(walls, dtype=torch.float32, device=device),
    )


def _cut_faces(mask: np.ndarray) -> np.ndarray:
    """Return (2, 3) bool: whether the field of view cuts the brain at each end of each axis."""
    cut = np.zeros((2, 3), dtype=bool)
    for axis in range(3):
        shadow = mask.any(axis=axis).sum()
        for side, index in enumerate((0, -1)):
            cut[side, axis] = np.take(mask, index, axis=axis).sum() > CUT_FRACTION * shadow
    return cut


def _walls(cut: np.ndarray, shape: tuple[int, ...], to_grid: np.ndarray) -> np.ndarray:
    """Return (2, 3): edges of the field of view that cut the brain, in grid coordinates; other edges are far away.

    Points beyond such an edge were not scanned and must not count as background.
    """
    walls = np.array([[-1e6] * 3, [1e6] * 3])
    for side, axis in np.argwhere(cut):
        index = (0, shape[axis] - 1)[side]
        walls[side, axis] = to_grid[axis, axis] * index + to_grid[axis, 3]
    return walls


def _climb(
    level: _Level, moving: _Moving, poses: torch.Tensor, basis: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Improve each pose (B, 4, 4) by damped Gauss-Newton steps; return the poses and their correlations (B,)."""
    weight = torch.ones_like(level.values)
    damping = torch.full((len(poses),), 1e-2, dtype=torch.float64, device=poses.device)
    score, hessian, slope = _evaluate(level, moving, poses, weight, basis)
    for _ in range(steps):
        diagonal = torch.diagonal(hessian, dim1=1, dim2=2)
        floor = 1e-6 * diagonal.amax(dim=1, keepdim=True) + 1e-12
        damped = hessian + torch.diag_embed(damping[:, None] * diagonal + floor)
        move = torch.linalg.solve(damped, slope)  # (B, k)
        tried = poses @ _exponential(move @ basis.T)
        new_score, new_hessian, new_slope = _evaluate(level, moving, tried, weight, basis)
        better = new_score > score
        gain = (new_score - score).clamp(min=0).amax()
        poses = torch.where(better[:, None, None], tried, poses)
        hessian = torch.where(better[:, None, None], new_hessian, hessian)
        slope = torch.where(better[:, None], new_slope, slope)
        score = torch.where(better, new_score, score)
        damping = torch.where(better, damping / 5, damping * 8).clamp(1e-6, 1e6)
        if 0 < gain < 1e-7:
            break
    return poses, score


def _exponential(flat: torch.Tensor) -> torch.Tensor:
    generator = torch.zeros(len(flat), 4, 4, dtype=flat.dtype, device=flat.device)
    generator[:, :3] = flat.reshape(-1, 3, 4)
    return torch.linalg.matrix_exp(generator)


def _evaluate(level: _Level, moving: _Moving, poses: torch.Tensor, weight: torch.Tensor, basis=None):
    """Return the weighted correlation (B,) and, with a basis, the Gauss-Newton matrix (B, k, k) and slope (B, k)."""
    pose = poses.float()
    to_grid = (moving.to_grid @ poses).float()
    index = level.points @ to_grid[:, :3].transpose(1, 2)  # (B, N, 3)
    size = torch.tensor(moving.channels.shape[2:], dtype=torch.float32, device=poses.device)
    grid = (2 * index / (size - 1) - 1).flip(-1)[None, :, :, None]  # (1, B, N, 1, 3), torch wants z, y, x
    sampled = F.grid_sample(moving.channels, grid, align_corners=True)[0, ..., 0]  # (4, B, N)
    seen = weight * ((index >= moving.walls[0]) & (index <= moving.walls[1])).all(dim=-1)  # (B, N)
    total = seen.sum(dim=1, keepdim=True).clamp(min=1)
    fixed = _unit(level.values.expand_as(seen), seen, total)[0]
    floating, norm = _unit(sampled[0], seen, total)
    score = (fixed * floating).sum(dim=1).double()
    score = torch.where(total[:, 0] > 0.5 * weight.sum(), score, torch.full_like(score, -1.0))
    if basis is None:
        return score, None, None
    slope = torch.einsum("cbn,bcd->bnd", sampled[1:], pose[:, :3, :3])  # gradient per unit of template coordinates
    jacobian = (slope[..., None] * level.points[:, None, :]).flatten(2) @ basis.float()  # (B, N, k)
    jacobian = seen[..., None] * (jacobian - (seen[..., None] * jacobian).sum(dim=1, keepdim=True) / total[..., None])
    along = (floating[..., None] * jacobian).sum(dim=1, keepdim=True)
    jacobian = (jacobian - floating[..., None] * along) / norm[..., None]
    hessian = (jacobian.transpose(1, 2) @ jacobian).double()
    return score, hessian, ((fixed - floating)[:, None] @ jacobian)[:, 0].double()


def _unit(values: torch.Tensor, seen: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    centred = seen * (values - (seen * values).sum(dim=1, keepdim=True) / total)
    norm = centred.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return centred / norm, norm
