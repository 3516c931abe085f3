"""Find the brain (with deepbet, unless the scan is already skull-stripped) and correct the bias field (N4).

Functions on native arrays in RAS+ order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage as ndi
import SimpleITK as sitk

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess.affine import register
from brainage_bids.preprocess.foreground import largest_piece, own_mask
from brainage_bids.preprocess.intake import Native
from brainage_bids.preprocess.template import Template, load_template

if TYPE_CHECKING:
    import torch

N4_SHRINK_MM = 6.0
N4_MARGIN_MM = 10.0
N4_ITERATIONS = (50, 50, 50, 50)
N4_TOLERANCE = 1e-3
N4_FAINT = 0.01  # share of the brain's median, below which a voxel is not used
STRIPPED_REACH_MM = 4.0
STRIPPED_DICE = 0.90  # overlap of the foreground with the network's mask, from which the scan counts as skull-stripped
COARSE_VOXEL_MM = 2.5  # with voxels of this size or more, the network works on a smaller cube
PLACED_NCC = 0.50  # correlation of the first mask's registration, from which it is used to turn the head upright
LOOK_SIDE = 128  # voxels per side of the first cube; that network was trained with this size
PLACED_SIDE = 224  # voxels per side of the second cube; as stable as 256 in moved heads, and a quarter faster
CUBE_MARGIN = 0.1  # margin of the cube on each side, as a share of the brain's extent; as in deepbet


NO_BRAIN = "no brain was found in the image; look at it and exclude the scan"


@lru_cache(maxsize=2)
def _network(gpu: bool):
    import deepbet

    return deepbet.BrainExtraction(no_gpu=not gpu)


def release_network() -> None:
    """Free the memory of the brain-extraction network (about 1 GB with its buffers)."""
    _network.cache_clear()


def network_mask(native: Native, gpu: bool = False, side: int | None = None) -> np.ndarray:
    """Return deepbet's brain mask, bool, on the grid of ``native``.

    The network sees the brain stretched to a cube of ``side`` voxels: 256, or 192 when the voxels are coarse.

    Raises
    ------
    BadDataError
        When the network finds nothing that looks like a brain.
    """
    side = side or (192 if native.zooms.min() >= COARSE_VOXEL_MM else 256)
    network = _network(gpu)
    try:
        probability = network.run_model(native.data.copy(), shape=(side, side, side))
        mask = network.postprocess(probability > 0.5)
    except (AssertionError, ValueError) as error:  # deepbet's way to say "empty"
        raise BadDataError(NO_BRAIN) from error
    return np.asarray(mask, dtype=bool)


def upright_mask(native: Native, gpu: bool = False) -> np.ndarray:
    """Return deepbet's brain mask of the head in upright pose, bool, on the grid of ``native``.

    The network's mask depends on pose and field of view. So a first, coarse mask is used to register the head roughly
    to the embedded template. The network is then applied to the head resampled to the template's pose, and its
    probabilities are mapped back by linear interpolation. If the first mask cannot be registered, the head keeps its
    own pose (`network_mask`).

    Raises
    ------
    BadDataError
        When the network finds nothing that looks like a brain.
    """
    small, coarse, to_world = _first_look(native, gpu)
    device = "cuda" if gpu else "cpu"
    fit = register(small, coarse, to_world, load_template(), device=device, coarse=True)
    return placed_mask(native, fit.matrix, gpu) if fit.ncc >= PLACED_NCC else network_mask(native, gpu)


def placed_mask(native: Native, matrix: np.ndarray, gpu: bool = False) -> np.ndarray:
    """Return the network's mask (bool, native grid) of the head resampled by ``matrix`` (template to native, 4 x 4).

    Raises
    ------
    BadDataError
        When the network finds nothing that looks like a brain.
    """
    import torch
    from deepbet.utils import normalize

    network = _network(gpu)
    side = 192 if native.zooms.min() >= COARSE_VOXEL_MM else PLACED_SIDE
    to_native = np.linalg.inv(native.affine) @ matrix @ _cube(load_template(), side)  # cube voxel to native voxel
    data = torch.from_numpy(native.data).to(next(network.model.parameters()).device)
    low, high = _range(_shrunk(data))
    seen = normalize(_sampled(data, to_native, (side,) * 3), low, high)
    with torch.no_grad():
        probability = network.model(seen[None, None])[0, 1]  # (side, side, side)
    mask = (_sampled(probability, np.linalg.inv(to_native), native.data.shape) > 0.5).cpu().numpy()
    if not mask.any():
        raise BadDataError(NO_BRAIN)
    network.bbox = (slice(None),) * 3  # region in which postprocessing keeps the largest piece and fills holes
    return np.asarray(network.postprocess(mask), dtype=bool)


def _first_look(native: Native, gpu: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the head resampled to a small cube, its coarse mask from deepbet's first network, and its affine."""
    import torch
    from deepbet.utils import normalize

    network = _network(gpu)
    small = _shrunk(torch.from_numpy(native.data).to(next(network.bbox_model.parameters()).device))
    with torch.no_grad():
        mask = (network.bbox_model(normalize(small, *_range(small))[None, None])[0, 1] > 0.5).cpu().numpy()
    largest = largest_piece(mask)
    if largest is None:
        raise BadDataError(NO_BRAIN)
    factor = np.asarray(native.data.shape) / LOOK_SIDE
    grid = np.diag([*factor, 1.0])
    grid[:3, 3] = (factor - 1) / 2
    return small.cpu().numpy(), largest, native.affine @ grid


def _shrunk(data: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import interpolate

    return interpolate(data[None, None], (LOOK_SIDE,) * 3, mode="nearest-exact")[0, 0]


def _range(small: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the quantiles 0.005 and 0.995, to the bit those of ``torch.quantile``, which sorts all values."""
    import torch

    at = torch.tensor([0.005, 0.995]) * (small.numel() - 1)
    below, above = at.long(), at.ceil().long()
    values = small.cpu().flatten().numpy()
    values = torch.from_numpy(np.partition(values, np.unique([*below, *above])))
    low, high = torch.lerp(values[below], values[above], at - below).to(small.device)
    return low, high


def _cube(template: Template, side: int) -> np.ndarray:
    """Return the affine of a grid of ``side`` voxels per axis over the template's brain with margin."""
    box = ndi.find_objects(template.mask.astype(np.uint8))[0]
    low, high = np.array([(s.start - 0.5, s.stop - 0.5) for s in box]).T
    step = (high - low) * (1 + 2 * CUBE_MARGIN) / side
    grid = np.diag([*step, 1.0])
    grid[:3, 3] = (low + high) / 2 - step * (side - 1) / 2
    return template.affine @ grid


def _sampled(data: torch.Tensor, index: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Return ``data`` linearly interpolated on a grid of ``shape``; ``index`` (4 x 4) maps its voxels to data's."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    def to_voxel(sizes: tuple[int, ...]) -> np.ndarray:
        half = (np.asarray(sizes) - 1) / 2  # torch counts from -1 at the first voxel to 1 at the last
        matrix = np.diag([*half, 1.0])
        matrix[:3, 3] = half
        return matrix

    theta = np.linalg.inv(to_voxel(tuple(data.shape))) @ index @ to_voxel(shape)
    order = [2, 1, 0]  # torch wants z, y, x
    theta = np.concatenate([theta[:3, :3][order][:, order], theta[:3, 3][order][:, None]], axis=1)
    theta = torch.as_tensor(theta[None], dtype=torch.float32, device=data.device)
    grid = affine_grid(theta, [1, 1, *shape], align_corners=True)
    return grid_sample(data[None, None], grid, align_corners=True)[0, 0]


def brain_mask(native: Native, gpu: bool = False) -> tuple[np.ndarray, str]:
    """Return the brain mask (bool) and its source: ``deepbet``, or ``input`` for a skull-stripped scan."""
    mask = upright_mask(native, gpu)
    own = own_mask(native)
    if own is not None and dice(own, mask) >= STRIPPED_DICE:
        # careless skull-stripping leaves bits of neck and eyes: remove everything far from the network's mask
        near = ndi.distance_transform_edt(~mask, sampling=native.zooms) <= STRIPPED_REACH_MM
        return own & near, "input"
    return mask, "deepbet"


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice overlap of two masks; 0 when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 0.0


def volume_ml(mask: np.ndarray, zooms: np.ndarray) -> float:
    """Return the volume of a mask in millilitres."""
    return float(mask.sum() * np.prod(zooms) / 1000.0)


def lift_negative(data: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return non-negative data, and whether they were shifted (z-scored input); otherwise they are clipped at 0."""
    if (data[mask] < 0).mean() > 0.01:
        return np.maximum(data - data[mask].min(), 0), True
    return np.maximum(data, 0), False


def n4(data: np.ndarray, mask: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    """Return ``data`` divided by its smooth intensity field, estimated inside ``mask``.

    N4 (Tustison et al., 2010) of SimpleITK on the box of the brain, shrunk to about 6 mm, four levels of 50
    iterations, tolerance 1e-3; the field is then evaluated on the full grid. With four known fields (SD 0.2) on two
    heads, 6 mm left an SD of 0.016-0.044 and 5 mm 0.014-0.039, in up to three times the time. The direction of the grid
    has no effect. Voxels with almost no signal are left out: N4 treats a 0 as intensity 1, so the field would depend on
    the unit of the scan (by 0.1 to 2 %).

    Parameters
    ----------
    data
        float32 ``(X, Y, Z)``, not negative.
    mask
        bool, same shape.
    zooms
        Voxel size, mm.
    """
    margin = np.ceil(N4_MARGIN_MM / zooms).astype(int)
    spans = zip(ndi.find_objects(mask.astype(np.uint8))[0], margin, data.shape, strict=True)
    box = tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in spans)
    seen = mask & (data > N4_FAINT * np.median(data[mask]))
    image, region = (_to_itk(array[box], zooms) for array in (data, seen.astype(np.uint8)))
    shrink = _shrink_factors(zooms, data[box].shape)
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(list(N4_ITERATIONS))
    corrector.SetConvergenceThreshold(N4_TOLERANCE)
    with _one_itk_thread():
        corrector.Execute(sitk.Shrink(image, shrink), sitk.Shrink(region, shrink))
        log_field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).T
    # outside the brain the B-splines are not constrained: limit the field to the range inside the brain
    low, high = np.percentile(log_field[mask[box]], (0.1, 99.9))
    rest = [(s.start, n - s.stop) for s, n in zip(box, data.shape, strict=True)]
    field = np.pad(np.exp(np.clip(log_field, low, high)), rest, mode="edge")
    return (data / field).astype(np.float32)


def _shrink_factors(zooms: np.ndarray, shape: tuple[int, ...]) -> list[int]:
    """Return whole factors that bring each axis near 6 mm; at least 2 for coarse voxels, at least 8 samples left."""
    wanted = [max(round(N4_SHRINK_MM / z), 2 if z >= COARSE_VOXEL_MM else 1) for z in zooms]
    return [max(1, min(factor, n // 8)) for factor, n in zip(wanted, shape, strict=True)]


@contextlib.contextmanager
def _one_itk_thread() -> Iterator[None]:
    """Set ITK to one thread: its inner filters use the global number, and the field depends on it."""
    former = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(former)


def _to_itk(array: np.ndarray, zooms: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing([float(z) for z in zooms])
    return image
