"""Read one T1w image in RAS+ order as float32, and refuse images that cannot be a head."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from brainage_bids.bids.images import Stored, open_stored
from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import mp2rage
from brainage_bids.preprocess.intensity import ends, settled
from brainage_bids.schema import Prepared

MIN_VOXELS = 16  # along each axis
MIN_EXTENT_MM = 80.0  # a brain is about 140 x 170 x 130 mm
MAX_EXTENT_MM = 1000.0
SAME_GRID_MM = 1e-3
UNIT1 = re.compile(r"_UNIT1\.nii(?:\.gz)?$")
MNI_CODE = 4  # NIfTI code of MNI space in sform and qform; SPM and others write it into normalised images
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
        float32, axes ordered to the closest RAS+ orientation, finite, 0 where nothing was measured.
    affine
        4 x 4, voxel to world (mm, RAS+).
    warnings
        Remarks on the file.
    says_mni
        Whether the header names MNI space, or the grid is a common one of MNI space.
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
    """A scan with its brain mask: the input of registration and resampling for every engine.

    Parameters
    ----------
    data
        Bias-corrected scan, float32 ``(X, Y, Z)``, RAS+ order, not negative.
    mask
        Brain mask, bool, same shape.
    affine
        4 x 4, voxel to world (mm, RAS+).
    source
        Source of the mask: ``deepbet``, ``input`` (already skull-stripped), ``fsl bet``, ...
    notes
        Remarks shown as warnings.
    remarks
        Earlier processing recognised in the input; not a fault.
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


def read_scan(path: str | Path, second_inversion: str | Path | None = None, as_stored: bool = False) -> Native:
    """Return an image reordered to RAS+ (no interpolation), with intensities adjusted by `settled`.

    From a UNIT1 the noise around the head is removed.

    Parameters
    ----------
    path
        NIfTI image.
    second_inversion
        The INV2 image that belongs to a UNIT1, if any.
    as_stored
        Keep the intensities unchanged; for templates, which are identified by a hash.

    Raises
    ------
    BadDataError
        When the file is missing, empty, not an image, not three-dimensional, constant, without finite values, or has
        an unusable header.
    """
    stored, values, affine = _read(path)
    of_mp2rage = UNIT1.search(stored.path.name) is not None  # its values are ratios with a known range
    if as_stored or of_mp2rage:
        values, notes = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0), ()
    else:
        values, notes = settled(values)
    warnings = (*stored.warnings, *_voxel_warnings(affine), *notes)
    native = Native(np.ascontiguousarray(values), affine, warnings, _says_mni(stored, affine, values.shape))
    return _clean_mp2rage(native, second_inversion) if of_mp2rage else native


def _clean_mp2rage(native: Native, second_inversion: str | Path | None) -> Native:
    inv2, notes = None, []
    if second_inversion is not None:
        try:
            other = read_scan(second_inversion, as_stored=True)  # the noise in its air is needed unchanged
            inv2 = other.data if _same_grid(other.data, other.affine, native) else None
            notes = [] if inv2 is not None else [f"{Path(second_inversion).name} lies on another grid and is not used"]
        except BadDataError as error:
            notes = [f"the second inversion is not used: {error}"]
    data, words = mp2rage.without_noise(native.data, inv2, native.zooms)
    return replace(native, data=data, warnings=(words, *notes, *native.warnings))


def _same_grid(data: np.ndarray, affine: np.ndarray, native: Native) -> bool:
    return data.shape == native.data.shape and np.allclose(affine, native.affine, atol=SAME_GRID_MM)


def read_mask(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask (bool: above one half) in RAS+ order and its affine (4 x 4).

    Raises
    ------
    BadDataError
        As in `read_scan`.
    """
    _, values, affine = _read(path)
    return values > 0.5, affine


def read_prepared(prepared: Prepared) -> tuple[Native, np.ndarray]:
    """Return the T1w image that another pipeline bias-corrected, and its brain mask (bool) on the same grid.

    Raises
    ------
    BadDataError
        When one of them is not a usable image, or the mask lies on another grid.
    """
    native, (mask, affine) = read_scan(prepared.image), read_mask(prepared.mask)
    if not _same_grid(mask, affine, native):
        raise BadDataError(
            f"the mask {prepared.mask} does not lie on the grid of {prepared.image}; run {prepared.name} again, or "
            "leave --derivatives out"
        )
    return native, mask


def _read(path: str | Path) -> tuple[Stored, np.ndarray, np.ndarray]:
    """Return the stored image, its voxels in RAS+ order, and their affine."""
    stored = open_stored(path)
    _check_grid(stored)
    values = stored.values().reshape(stored.shape[:3])
    bad = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(1, dtype=bool)
    if bad.all():
        raise BadDataError(f"{stored.path} holds no finite value (all NaN); replace it or exclude the scan")
    low, high = ends(values, bad if bad.any() else None)
    if low == high:
        raise BadDataError(f"{stored.path} holds one single value ({low:g}) everywhere; replace it or exclude the scan")
    turn = nib.io_orientation(stored.affine)
    affine = stored.affine @ nib.orientations.inv_ornt_aff(turn, values.shape)
    return stored, nib.apply_orientation(values, turn), affine


def _check_grid(stored: Stored) -> None:
    path, shape, dtype = stored.path, stored.shape, stored.header.get_data_dtype()
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise BadDataError(f"{path} has shape {'x'.join(map(str, shape))}; a T1w image has three dimensions")
    if dtype.fields is not None or dtype.kind == "c":
        raise BadDataError(f"{path} holds colours or complex numbers ({dtype}); a T1w image has one number a voxel")
    extent = voxel_sizes(stored.affine) * shape[:3]
    if min(shape[:3]) < MIN_VOXELS or extent.min() < MIN_EXTENT_MM or extent.max() > MAX_EXTENT_MM:
        size = " x ".join(f"{mm:.0f}" if mm > 10 else f"{mm:.2g}" for mm in extent)
        raise BadDataError(
            f"{path} covers {size} mm in {'x'.join(map(str, shape[:3]))} voxels, which cannot hold a head;"
            " check the voxel size in its header or exclude the scan"
        )


def _voxel_warnings(affine: np.ndarray) -> list[str]:
    zooms = voxel_sizes(affine)
    sizes = f"({' x '.join(f'{z:.2f}' for z in zooms)} mm)"
    if zooms.max() > 1.5 * zooms.min() and zooms.max() > 1.5:
        return [f"voxels are far from cubes {sizes}"]
    return [f"voxels are coarse {sizes}"] if zooms.max() > 2.5 else []


def _says_mni(stored: Stored, affine: np.ndarray, shape: tuple[int, ...]) -> bool:
    if max(int(stored.header[f"{form}_code"]) for form in ("sform", "qform")) >= MNI_CODE:
        return True
    size = float(voxel_sizes(affine).mean())
    return any(shape == grid and abs(size - mm) < 0.01 for grid, mm in MNI_GRIDS)
