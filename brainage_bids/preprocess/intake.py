"""Read one T1w image safely: RAS+ order, float32, refused in one sentence when it cannot be a head.

Knows nothing of how brains are found, of templates or outputs.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import mp2rage
from brainage_bids.schema import Prepared

MIN_VOXELS = 16  # along each axis
MIN_EXTENT_MM = 80.0  # a brain is about 140 x 170 x 130 mm
MAX_EXTENT_MM = 1000.0
SAME_GRID_MM = 1e-3
CHUNK = 2**22  # bytes
UNIT1 = re.compile(r"_UNIT1\.nii(?:\.gz)?$")
MNI_CODE = 4  # NIfTI's code of MNI space for sform and qform; SPM and others write it into normalised images
# Shape and voxel size (mm) of images in MNI space: FSL, ICBM 2009, SPM12 and CAT12, and this program's own.
MNI_GRIDS = (
    ((182, 218, 182), 1.0), ((91, 109, 91), 2.0), ((193, 229, 193), 1.0), ((97, 115, 97), 2.0), ((96, 114, 96), 2.0),
    ((197, 233, 189), 1.0), ((121, 145, 121), 1.5), ((113, 137, 113), 1.5), ((79, 95, 79), 2.0),
)  # fmt: skip


@dataclass(frozen=True)
class Native:
    """A scan in its own space.

    Parameters
    ----------
    data
        float32, axes ordered to the closest RAS+ orientation, finite.
    affine
        4 x 4, voxel to world (mm, RAS+).
    warnings
        What a reader should know about the file.
    says_mni
        The header names MNI space, or the grid is one that images in MNI space are written on.
    """

    data: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()
    says_mni: bool = False

    @property
    def zooms(self) -> np.ndarray:
        """Voxel size along each axis, mm."""
        return voxel_sizes(self.affine)


@dataclass(frozen=True)
class Brain:
    """A scan whose brain is known: what every engine hands to registration and resampling.

    Parameters
    ----------
    data
        Bias-corrected scan, float32 ``(X, Y, Z)``, RAS+ order, not negative.
    mask
        Brain mask, bool, same shape.
    affine
        4 x 4, voxel to world (mm, RAS+).
    source
        Where the mask comes from: ``deepbet``, ``input`` (already skull-stripped), ``fsl bet``, ...
    notes
        What a person should know; shown as warnings.
    remarks
        What was recognised in the input and is no fault.
    says_mni
        As in `Native`.
    """

    data: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    source: str
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    says_mni: bool = False

    @property
    def zooms(self) -> np.ndarray:
        """Voxel size along each axis, mm."""
        return voxel_sizes(self.affine)


def read_scan(path: str | Path, second_inversion: str | Path | None = None) -> Native:
    """Return the image of ``path`` reordered to RAS+ (no interpolation); of a UNIT1 without the noise round the head.

    ``second_inversion`` is the INV2 image that belongs to a UNIT1, where it is there.

    Raises
    ------
    BadDataError
        When the file is missing, empty, no image, not three-dimensional, constant, without finite values, or
        has an unusable header.
    """
    path = Path(path)
    image = _open(path)
    _check_grid(path, image)
    try:
        image = nib.as_closest_canonical(image)  # reads the data when the axes have to be reordered
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadDataError(f"{path} cannot be read to its end ({_first_line(error)}); fetch it again") from error
    data = _values(path, image)
    affine = np.asarray(image.affine, dtype=np.float64)
    warnings = _header_warnings(image, affine)
    if not np.isfinite(data).all():
        warnings.append("holds NaN or infinite voxels, read as 0")
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    if data.max() <= data.min():
        raise BadDataError(
            f"{path} holds one single value ({data.flat[0]:g}) everywhere; replace it or exclude the scan"
        )
    native = Native(np.ascontiguousarray(data), affine, tuple(warnings), _says_mni(image))
    return _of_mp2rage(native, second_inversion) if UNIT1.search(path.name) else native


def _of_mp2rage(native: Native, second_inversion: str | Path | None) -> Native:
    inv2, told = None, []
    if second_inversion is not None:
        try:
            other = read_scan(second_inversion)
            inv2 = other.data if _same_grid(other, native) else None
            told = [] if inv2 is not None else [f"{Path(second_inversion).name} lies on another grid and is not used"]
        except BadDataError as error:
            told = [f"the second inversion is not used: {error}"]
    data, words = mp2rage.without_noise(native.data, inv2, native.zooms)
    return replace(native, data=data, warnings=(words, *told, *native.warnings))


def _same_grid(a: Native, b: Native) -> bool:
    return a.data.shape == b.data.shape and np.allclose(a.affine, b.affine, atol=SAME_GRID_MM)


def read_prepared(prepared: Prepared) -> tuple[Native, np.ndarray]:
    """Return the T1w image that another pipeline bias-corrected, and its brain mask (bool) on the same grid.

    Raises
    ------
    BadDataError
        When one of them is no usable image, or the mask lies on another grid.
    """
    native, mask = read_scan(prepared.image), read_scan(prepared.mask)
    if not _same_grid(mask, native):
        raise BadDataError(
            f"the mask {prepared.mask} does not lie on the grid of {prepared.image}; run {prepared.name} again, or "
            "leave --derivatives out"
        )
    return native, mask.data > 0.5


def _open(path: Path) -> nib.spatialimages.SpatialImage:
    if not path.exists():
        raise BadDataError(f"{path} is not there (a link whose content was not fetched?); fetch it or exclude the scan")
    if path.stat().st_size == 0:
        raise BadDataError(f"{path} is empty (0 bytes); fetch its content or exclude the scan")
    try:
        return nib.load(path)
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        OSError,
        EOFError,
        zlib.error,
    ) as error:
        raise BadDataError(
            f"{path} is not a NIfTI image ({_first_line(error)}); replace it or exclude the scan"
        ) from error


def _check_grid(path: Path, image: nib.spatialimages.SpatialImage) -> None:
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise BadDataError(f"{path} has shape {'x'.join(map(str, shape))}; a T1w image has three dimensions")
    if image.get_data_dtype().fields is not None or image.get_data_dtype().kind == "c":
        raise BadDataError(
            f"{path} holds colours or complex numbers ({image.get_data_dtype()}); a T1w image has one number a voxel"
        )
    affine = np.asarray(image.affine)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise BadDataError(f"{path} has an unusable voxel-to-world matrix; repair its header")
    extent = voxel_sizes(affine) * shape[:3]
    if min(shape[:3]) < MIN_VOXELS or extent.min() < MIN_EXTENT_MM or extent.max() > MAX_EXTENT_MM:
        size = " x ".join(f"{mm:.0f}" for mm in extent)
        raise BadDataError(
            f"{path} covers {size} mm in {'x'.join(map(str, shape[:3]))} voxels, which cannot hold a head;"
            " check the voxel size in its header or exclude the scan"
        )


def _values(path: Path, image: nib.spatialimages.SpatialImage) -> np.ndarray:
    try:
        if path.suffix == ".gz":
            _read_through(path)
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadDataError(f"{path} cannot be read to its end ({_first_line(error)}); fetch it again") from error
    if not np.isfinite(data).any():
        raise BadDataError(f"{path} holds no finite value (all NaN); replace it or exclude the scan")
    return data


def _read_through(path: Path) -> None:
    """Read a gzip file to its end, where its checksum stands: nibabel stops at the last voxel and never sees it."""
    with gzip.open(path) as file:
        while file.read(CHUNK):
            pass


def _header_warnings(image: nib.spatialimages.SpatialImage, affine: np.ndarray) -> list[str]:
    warnings = []
    header = image.header
    if isinstance(header, nib.Nifti1Header):
        sform, scode = header.get_sform(coded=True)
        qform, qcode = header.get_qform(coded=True)
        if scode == 0 and qcode == 0:
            warnings.append(
                "header says nothing of the orientation (sform and qform unset): left and right are a guess"
            )
        elif scode > 0 and qcode > 0 and not np.allclose(sform, qform, atol=0.5):
            warnings.append("sform and qform disagree; the sform was used")
    zooms = voxel_sizes(affine)
    if zooms.max() > 1.5 * zooms.min() and zooms.max() > 1.5:
        warnings.append(f"voxels are far from cubes ({' x '.join(f'{z:.2f}' for z in zooms)} mm)")
    elif zooms.max() > 2.5:
        warnings.append(f"voxels are coarse ({' x '.join(f'{z:.2f}' for z in zooms)} mm)")
    return warnings


def _says_mni(image: nib.spatialimages.SpatialImage) -> bool:
    header = image.header
    if isinstance(header, nib.Nifti1Header):
        codes = header.get_sform(coded=True)[1], header.get_qform(coded=True)[1]
        if max(codes) >= MNI_CODE:
            return True
    size = float(voxel_sizes(np.asarray(image.affine)).mean())
    return any(image.shape[:3] == shape and abs(size - mm) < 0.01 for shape, mm in MNI_GRIDS)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
