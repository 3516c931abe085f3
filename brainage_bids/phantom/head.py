"""Make one phantom head: draw body, pose and scanner from a seed, and render the T1w image with one resampling."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from brainage_bids.errors import UsageError
from brainage_bids.phantom.anatomy import (
    CSF,
    GRID_ORIGIN_MM,
    MARKER_CENTRE_MM,
    Anatomy,
    ageing,
    build_anatomy,
    sigmoid,
)

FIELD_OF_VIEW_MM = (204.0, 246.0, 246.0)
FIELD_CENTRE_MM = (0.0, -16.0, -8.0)  # native world position of the middle of the image, RAS+
VOXEL_RANGE_MM = (0.8, 8.0)
AGE_RANGE = (0.0, 130.0)  # brain age, years; the ageing curves are meaningless beyond

MAX_ROTATION_DEG = 15.0
MAX_SHIFT_MM = 15.0
KNOT_MM = 36.0  # spacing of the random deformation's control points
DEFORMATION_SD_MM = 1.8
AXES = {"R": "x", "L": "x", "A": "y", "P": "y", "S": "z", "I": "z"}
STORAGE = ("RAS", "RAS", "RAS", "LAS", "LPS", "PSR", "ASL", "LIA")


@dataclass(frozen=True)
class Body:
    """Everything drawn at random for a person and a scan, except age.

    Parameters
    ----------
    template_to_native
        4 x 4, mm, RAS+: individual brain size and head pose.
    rotation_deg, shift_mm, scale
        Angle and shift of the pose, and the mean linear scale.
    warp
        Displacements at the control points, mm, shape (3, a, b, c), without affine part inside the brain.
    offsets_mm
        Individual differences of ventricle, cortex and hippocampus, in addition to brain age, mm.
    gamma, gain, noise
        Contrast exponent, intensity of white matter in the image, noise SD relative to white matter.
    bias
        Log bias field at 4 x 4 x 4 control points.
    zooms, storage
        Voxel sizes along R, A, S (mm), and axis codes of the stored array.
    noise_seed
        Seed of the voxel noise.
    """

    template_to_native: np.ndarray
    rotation_deg: float
    shift_mm: float
    scale: float
    warp: np.ndarray
    offsets_mm: tuple[float, float, float]
    gamma: float
    gain: float
    noise: float
    bias: np.ndarray
    zooms: tuple[float, float, float]
    storage: str
    noise_seed: int


def make_head(
    age: float = 50.0, seed: int = 0, voxel_mm: float = 4.0, storage: str | None = None, marker: bool = False
) -> nib.Nifti1Image:
    """Make one phantom head, for tests.

    Parameters
    ----------
    age
        Planted brain age, years (0 to 130).
    seed
        The same seed gives the same person: pose, deformation and noise do not depend on ``age``.
    voxel_mm
        Voxel size, mm (0.8 to 8).
    storage
        Axis codes of the stored array, such as ``"LAS"``; None: drawn at random.
    marker
        Put a dark hole in the white matter of the right hemisphere, to test left and right.

    Returns
    -------
    nibabel.Nifti1Image
        int16. ``image.extra["truth"]`` is the planted truth (see `render`), ``image.extra["mask"]`` the true brain
        mask as an image on the same grid.

    Raises
    ------
    UsageError
        When a value is out of range.
    """
    check_voxel(voxel_mm)
    if not AGE_RANGE[0] <= age <= AGE_RANGE[1]:
        raise UsageError(f"phantom brain age is {age}; use {AGE_RANGE[0]:g} to {AGE_RANGE[1]:g} years")
    if storage is not None and sorted(AXES.get(code, "?") for code in storage) != ["x", "y", "z"]:
        raise UsageError(f"storage is {storage!r}; use three axis codes such as 'RAS' or 'LPS'")
    body = draw_body(np.random.default_rng(seed), voxel_mm, storage=storage)
    return render(build_anatomy(voxel_mm), body, age, marker=marker)


def check_voxel(voxel_mm: float) -> None:
    """Raise UsageError unless ``voxel_mm`` is within the allowed range."""
    if not VOXEL_RANGE_MM[0] <= voxel_mm <= VOXEL_RANGE_MM[1]:
        raise UsageError(f"phantom voxel size is {voxel_mm} mm; use {VOXEL_RANGE_MM[0]:g} to {VOXEL_RANGE_MM[1]:g} mm")


def draw_body(
    rng: np.random.Generator,
    voxel_mm: float,
    storage: str | None = None,
    contrast: float = 0.0,
    warp_mm: float = DEFORMATION_SD_MM,
) -> Body:
    """Draw a person's body, pose and scanner.

    ``contrast`` shifts the contrast exponent (a site effect); ``warp_mm`` is the SD of the random deformation, mm.
    """
    size = np.clip(rng.normal(0.915, 0.03), 0.84, 0.98) * np.exp(np.clip(rng.normal(0.0, 0.02, 3), -0.04, 0.04))
    turn = _direction(rng) * rng.uniform(0.0, MAX_ROTATION_DEG)
    shift = _direction(rng) * rng.uniform(0.0, MAX_SHIFT_MM)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix() @ np.diag(size)
    pose[:3, 3] = shift
    zooms = np.full(3, float(voxel_mm))
    if rng.random() < 0.3:  # some scans have thicker slices
        zooms[rng.integers(3)] *= 1.15
    drawn = str(rng.choice(STORAGE))
    return Body(
        template_to_native=pose,
        rotation_deg=float(np.linalg.norm(turn)),
        shift_mm=float(np.linalg.norm(shift)),
        scale=float(np.prod(size) ** (1 / 3)),
        warp=_without_affine(rng.normal(0.0, warp_mm, (3, *(len(k) for k in _knots())))),
        offsets_mm=tuple(float(v) for v in rng.normal(0.0, (0.2, 0.06, 0.15))),
        gamma=float(1.0 + contrast + rng.normal(0.0, 0.06)),
        gain=float(np.exp(rng.uniform(np.log(300.0), np.log(1500.0)))),
        noise=float(rng.uniform(0.015, 0.035)),
        bias=rng.normal(0.0, 0.12, (4, 4, 4)),
        zooms=tuple(float(z) for z in zooms),
        storage=storage or drawn,
        noise_seed=int(rng.integers(2**32)),
    )


def render(anatomy: Anatomy, body: Body, brain_age: float, marker: bool = False) -> nib.Nifti1Image:
    """Render a body at a brain age.

    Every voxel is mapped to the template once (inverse pose, random deformation, shift by the ventricles), and the
    fields of the anatomy are sampled there. Nothing is resampled twice.

    Returns
    -------
    nibabel.Nifti1Image
        int16, with ``extra["mask"]`` (image) and ``extra["truth"]``: ``brain_age`` (years), ``native_to_template``
        (4 x 4 nested lists, mm, RAS+ to RAS+; without the random deformation), ``rotation_deg``, ``shift_mm``,
        ``scale``, ``ventricle_ml`` and ``brain_ml`` (mL in the native head), ``ventricle_template_ml`` (mL after the
        true affine), the levels ``ventricle_mm cortex_mm hippocampus_mm``, ``warp_rms_mm``, ``storage``, ``zooms``
        (mm), ``noise``, ``marker_native_mm`` (None without marker).
    """
    shape, affine = _native_grid(body.zooms)
    inverse = np.linalg.inv(body.template_to_native)
    levels = tuple(level + offset for level, offset in zip(ageing(brain_age), body.offsets_mm, strict=True))
    at = _template_points(shape, inverse @ affine)  # (3, X, Y, Z), template mm
    at += _displacement(anatomy, body, levels[0], at)
    voxels = (at - np.float32(GRID_ORIGIN_MM).reshape(3, 1, 1, 1)) / np.float32(anatomy.spacing)
    brain = _sample(anatomy.brain, voxels)
    near = brain > 0.1
    tissue, ventricle = _aged_tissue(anatomy, levels, voxels[:, near], 0.25 * max(body.zooms), marker)
    edge = np.clip((brain[near] - 0.2) / 0.6, 0.0, 1.0)
    clean = _sample(anatomy.shell, voxels)
    clean[near] += edge * (tissue ** np.float32(body.gamma) - clean[near])
    image = _image(_scan(clean, body), affine, body.storage)
    image.extra["mask"] = _image((brain > 0.5).astype(np.uint8), affine, body.storage)
    millilitre = float(np.prod(body.zooms)) / 1000.0
    volumes = (float(ventricle.sum(dtype=np.float64)) * millilitre, float((brain > 0.5).sum()) * millilitre)
    image.extra["truth"] = _truth(body, brain_age, levels, volumes, marker)
    return image


def _truth(
    body: Body, brain_age: float, levels: tuple[float, ...], volumes_ml: tuple[float, float], marker: bool
) -> dict:
    inverse = np.linalg.inv(body.template_to_native)
    at = nib.affines.apply_affine(body.template_to_native, MARKER_CENTRE_MM).tolist() if marker else None
    return {
        "brain_age": float(brain_age),
        "native_to_template": inverse.tolist(),
        "rotation_deg": body.rotation_deg,
        "shift_mm": body.shift_mm,
        "scale": body.scale,
        "warp_rms_mm": float(np.sqrt((body.warp**2).sum(axis=0).mean())),
        "ventricle_ml": volumes_ml[0],
        "ventricle_template_ml": volumes_ml[0] * float(np.linalg.det(inverse[:3, :3])),
        "brain_ml": volumes_ml[1],
        **dict(zip(("ventricle_mm", "cortex_mm", "hippocampus_mm"), levels, strict=True)),
        "storage": body.storage,
        "zooms": list(body.zooms),
        "noise": body.noise,
        "marker_native_mm": at,
    }


def _aged_tissue(
    anatomy: Anatomy, levels: tuple[float, ...], voxels: np.ndarray, width_mm: float, marker: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Intensity and ventricle fraction at template ``voxels`` (3, N); tissue whose onset is exceeded becomes CSF."""
    ventricle = sigmoid(-_sample(anatomy.ventricle, voxels) / np.float32(width_mm))
    remaining = 1.0 - ventricle
    for level, onset in zip(levels[1:], (anatomy.cortex, anatomy.hippocampus), strict=True):
        remaining *= 1.0 - sigmoid((np.float32(level) - _sample(onset, voxels)) / np.float32(width_mm))
    if marker:
        remaining = np.minimum(remaining, 1.0 - _sample(anatomy.marker, voxels))
    return np.clip(_sample(anatomy.tissue, voxels), 0.0, None) * remaining + CSF * (1.0 - remaining), ventricle


# --- geometry ---------------------------------------------------------------------------------------------------------


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _knots() -> list[np.ndarray]:
    """Control points of the random deformation along x, y, z (template mm)."""
    return [np.arange(low, high + KNOT_MM, KNOT_MM) for low, high in ((-110, 110), (-150, 130), (-150, 110))]


def _without_affine(warp: np.ndarray) -> np.ndarray:
    """Remove the affine part inside the brain, so that the pose is the best possible affine registration."""
    points = np.stack(np.meshgrid(*_knots(), indexing="ij"), axis=-1).reshape(-1, 3)
    design = np.column_stack([np.ones(len(points)), points])
    near = (((points - (0.0, -17.0, 0.0)) / (90.0, 110.0, 90.0)) ** 2).sum(axis=1) < 1.0
    values = warp.reshape(3, -1).T  # (points, 3)
    fit, *_ = np.linalg.lstsq(design[near], values[near], rcond=None)
    values = values - (design @ fit) * near[:, None]
    return values.T.reshape(warp.shape)


def _native_grid(zooms: tuple[float, float, float]) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and RAS+ affine of the image before it is stored in another orientation."""
    shape = tuple(round(extent / zoom) for extent, zoom in zip(FIELD_OF_VIEW_MM, zooms, strict=True))
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = np.array(FIELD_CENTRE_MM) - 0.5 * (np.array(shape) - 1) * zooms
    return shape, affine


def _template_points(shape: tuple[int, ...], voxel_to_template: np.ndarray) -> np.ndarray:
    matrix = voxel_to_template.astype(np.float32)
    i, j, k = np.ix_(*[np.arange(n, dtype=np.float32) for n in shape])
    return np.stack([row[0] * i + row[1] * j + row[2] * k + row[3] for row in matrix[:3]])


def _displacement(anatomy: Anatomy, body: Body, ventricle_mm: float, at: np.ndarray) -> np.ndarray:
    """Displacement (3, X, Y, Z) in mm of the template points ``at``, sampled from the half-resolution grid."""
    step = 2.0 * anatomy.spacing
    shape = anatomy.push.shape[1:]
    axes = [origin + step * np.arange(n) for origin, n in zip(GRID_ORIGIN_MM, shape, strict=True)]
    bases = [CubicSpline(k, np.eye(len(k)))(axis) for k, axis in zip(_knots(), axes, strict=True)]
    field = np.stack([_spread(component, bases) for component in body.warp])
    field -= np.float32(ventricle_mm) * anatomy.push
    voxels = (at - np.float32(GRID_ORIGIN_MM).reshape(3, 1, 1, 1)) / np.float32(step)
    return np.stack([_sample(component, voxels) for component in field])


def _spread(values: np.ndarray, bases: list[np.ndarray]) -> np.ndarray:
    """Interpolate control values (a, b, c) to a grid with one basis (points, knots) per axis.

    An einsum of two operands never calls BLAS, whose last digits depend on the number of threads.
    """
    for basis in bases:  # each pass replaces the first axis and moves it to the end
        values = np.einsum("abc,xa->bcx", values, basis)
    return values.astype(np.float32)


def _sample(field: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(field, voxels, order=1, mode="nearest", output=np.float32)


# --- scanner ----------------------------------------------------------------------------------------------------------


def _scan(clean: np.ndarray, body: Body) -> np.ndarray:
    """Add bias field, Rician noise and gain; return int16."""
    knots = np.linspace(0.0, 1.0, 4)
    bases = [CubicSpline(knots, np.eye(4))(np.linspace(0.0, 1.0, n)) for n in clean.shape]
    bias = np.exp(_spread(body.bias, bases))
    rng = np.random.default_rng(body.noise_seed)
    real, imaginary = (rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(body.noise) for _ in range(2))
    magnitude = np.hypot(clean * bias + real, imaginary)
    return np.clip(np.rint(magnitude * body.gain), 0, 32767).astype(np.int16)


def _image(data: np.ndarray, affine: np.ndarray, storage: str) -> nib.Nifti1Image:
    """Image of a RAS+ array stored along the axes ``storage``."""
    image = nib.Nifti1Image(data, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(storage))
    )
    image = image.as_reoriented(turn)
    image = nib.Nifti1Image(np.ascontiguousarray(image.dataobj), image.affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header["descrip"] = b"PHANTOM, not a person"
    return image
