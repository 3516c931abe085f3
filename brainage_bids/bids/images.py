"""Read NIfTI images safely: check the header first, then read the voxels, and report what is wrong.

A damaged header can declare any size, and a gzip file of a megabyte can unpack to a gigabyte. So the header is read
first, its numbers are compared with the size of the file, and only then are voxels read.
"""

from __future__ import annotations

import gzip
import math
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from brainage_bids.bids.text import NotFetched, not_fetched
from brainage_bids.errors import BadDataError

# The finest scans of living people have voxels of 0.25 mm, 640 x 880 x 880 of them: 496 million.
MAX_AXIS = 1024
MAX_VOXELS = 512_000_000
MAX_OFFSET = 64 * 2**20  # bytes of header extensions before the first voxel
# Compression: images of one value shrink a thousandfold, brains in much empty space thirtyfold.
MAX_SHRINKAGE = 100
LARGE = 256 * 2**20  # bytes; smaller images are read however well they are compressed
CHUNK = 2**22  # bytes
START = 1024  # bytes at the start of a file that show its format
QUATERNION_SLACK = 1e-3  # allowed excess over a length of 1; nibabel allows 2e-7, but other programs round
FLAT = 1e-3  # smallest volume of a voxel, relative to a box with the same edges; below, the axes nearly coincide
GZIP = b"\x1f\x8b"
OTHERS = {
    GZIP: "is compressed twice; unpack it once",
    b"\0\0\0\1": "is a FreeSurfer image (MGH); convert it to NIfTI",
    b"CDF\1": "is a MINC image; convert it to NIfTI", b"\x89HDF": "is a MINC image (HDF5); convert it to NIfTI",
    b"NRRD": "is an NRRD image; convert it to NIfTI", b"PK\3\4": "is a zip archive; unpack it",
    b"BZh": "is compressed by bzip2; use gzip", b"\xfd7zXZ": "is compressed by xz; use gzip",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; use gzip", b"\x89PNG": "is a picture (PNG)",
    b"\xff\xd8\xff": "is a picture (JPEG)", b"%PDF": "is a PDF",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A NIfTI image on disk; no voxel is read yet.

    Parameters
    ----------
    path
        The file.
    header
        As stored.
    affine
        4 x 4, stored voxel to world (mm, RAS+).
    gzipped
        Whether it is compressed, whatever its name says.
    warnings
        Remarks on the file and its orientation.
    way_out
        What the user should do about a bad file; part of error messages.
    """

    path: Path
    header: nib.Nifti1Header
    affine: np.ndarray
    gzipped: bool
    warnings: tuple[str, ...]
    way_out: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""
        return self.header.get_data_shape()

    def values(self) -> np.ndarray:
        """Return the voxels in stored order, scaled as the header says (float64 when it scales).

        Raises
        ------
        BadDataError
            When the file ends too early, is damaged, or goes on far beyond its last voxel.
        """
        header = self.header
        raw = np.ndarray(self.shape, header.get_data_dtype(), _content(self), header.get_data_offset(), order="F")
        slope, inter = header.get_slope_inter()
        return apply_read_scaling(raw, *map(np.float64, (slope or 1, inter or 0)))


def open_stored(path: str | Path, way_out: str = "replace it or exclude the scan") -> Stored:
    """Return a NIfTI image (compressed or not, whatever its name) after checking its header; reads no voxels.

    Raises
    ------
    BadDataError
        When the file cannot be read, is not a NIfTI image, is larger than any scan, or its header contradicts itself.
    """
    path = Path(path)
    start, gzipped = _start(path, way_out)
    fault, header = _header(start)
    if header is not None:
        fault = _size_fault(header) or _shrinkage_fault(header, path, gzipped)
    if not fault:
        affine, warnings, fault = _orientation(header)
    if fault:
        raise BadDataError(f"{path} {fault}; {way_out}")
    if gzipped != (path.suffix == ".gz"):
        warnings.append(f"the file is {'' if gzipped else 'not '}compressed, unlike its name; it was read anyway")
    return Stored(path, header, affine, gzipped, tuple(warnings), way_out)


def load_image(path: str | Path, way_out: str = "replace it") -> nib.Nifti1Image:
    """Return a NIfTI image with its voxels in memory; see `open_stored` and `Stored.values`.

    Raises
    ------
    BadDataError
        When it is not a complete NIfTI image, or holds colours or complex numbers.
    """
    stored = open_stored(path, way_out)
    values = stored.values()
    if values.dtype.kind in "cV":
        raise BadDataError(f"{path} holds colours or complex numbers ({values.dtype}); {way_out}")
    dtype = values.dtype if values.dtype.kind in "iu" else None  # nibabel needs this for 64-bit integers
    return nib.Nifti1Image(values, stored.affine, dtype=dtype)


# --- the file -------------------------------------------------------------------------------------------------------


def _start(path: Path, way_out: str) -> tuple[bytes, bool]:
    """Return the first bytes, decompressed, and whether the file is compressed."""
    try:
        if reason := not_fetched(path):
            raise NotFetched(path, reason)
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BadDataError(f"{path} is a folder, not an image; {way_out}")
        if not stat.S_ISREG(mode):
            raise BadDataError(f"{path} is not a regular file; {way_out}")
        with open(path, "rb") as file:
            start = file.read(START)
        if not start:
            raise BadDataError(f"{path} is empty (0 bytes); fetch its content or exclude the scan")
        if not start.startswith(GZIP):
            return start, False
        with gzip.open(path) as file:
            return file.read(START), True
    except FileNotFoundError as error:
        raise BadDataError(f"{path} is not there; restore it or exclude the scan") from error
    except PermissionError as error:
        raise BadDataError(f"{path} cannot be read (permission denied); ask for permission") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadDataError(
            f"{path} cannot be read to its end: it is damaged or truncated ({_first_line(error)}); fetch it again"
        ) from error
    except OSError as error:
        raise BadDataError(f"{path} cannot be read ({error.strerror or _first_line(error)}); {way_out}") from error


def _content(stored: Stored) -> np.ndarray:
    """Return all bytes up to the last voxel; raise if some are missing, too many follow or the checksum is wrong.

    nibabel stops at the last voxel and does not check the checksum.
    """
    needed = stored.header.get_data_offset() + _byte_size(stored.header)
    most = 2 * needed + CHUNK
    content, there, fault = np.empty(needed, dtype=np.uint8), 0, ""
    try:
        with gzip.open(stored.path) if stored.gzipped else open(stored.path, "rb") as file:
            while there <= most and (chunk := file.read1(CHUNK)):  # read() would lose the bytes before an error
                part = chunk[: max(0, needed - there)]
                content[there : there + len(part)] = np.frombuffer(part, dtype=np.uint8)
                there += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        # other bytes after complete gzip data do no harm; the gzip program ignores them too
        fault = "" if there >= needed and "Not a gzipped file" in str(error) else _first_line(error)
    if there < needed:
        fault = f"it is truncated: {there:,} of {needed:,} bytes are there"
    elif there > most:
        raise BadDataError(f"{stored.path} goes on far beyond the {needed:,} bytes of its header; {stored.way_out}")
    if fault:
        raise BadDataError(f"{stored.path} cannot be read to its end ({fault}); fetch it again")
    return content


def _byte_size(header: nib.Nifti1Header) -> int:
    return math.prod(map(int, header.get_data_shape())) * header.get_data_dtype().itemsize


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


# --- the header -----------------------------------------------------------------------------------------------------


def _header(start: bytes) -> tuple[str, nib.Nifti1Header | None]:
    """Return a fault, or else the header in its version and byte order; a too small offset is set to the least."""
    kinds = {(348).to_bytes(4, order): (nib.Nifti1Header, order) for order in ("little", "big")}
    kinds |= {(540).to_bytes(4, order): (nib.Nifti2Header, order) for order in ("little", "big")}
    kind, order = kinds.get(start[:4], (None, ""))
    if kind is None or len(start) < kind.template_dtype.itemsize:
        return _other(start), None
    header = kind(start[: kind.template_dtype.itemsize], "<" if order == "little" else ">", check=False)
    magic = bytes(header["magic"].item()).rstrip(b"\0")[:3]
    if magic in (b"ni1", b"ni2"):
        return "is the header of a pair of files (.hdr and .img); convert it to one NIfTI file", None
    if magic not in (b"n+1", b"n+2"):
        return "is an Analyze image, not NIfTI: its left and right are not known; convert it from the original", None
    offset = float(header["vox_offset"])
    least = kind.template_dtype.itemsize + 4
    if not 0 <= offset <= MAX_OFFSET:
        return f"has an unusable header (its voxels would begin at byte {offset:g})", None
    if offset < least:
        header["vox_offset"] = least
    return "", header


def _other(start: bytes) -> str:
    """Return what a file is that is not a NIfTI image."""
    for begin, words in OTHERS.items():
        if start.startswith(begin):
            return words
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start[128:132] == b"DICM":
        return "is a DICOM file; convert the series to NIfTI"
    if text.startswith(b"<") and b"html" in text:
        return "is not a NIfTI image but a web page (a download that failed?)"
    if not start.strip(b"\0"):
        return "is not a NIfTI image: it begins with zeros only"
    if all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in start):
        return "is not a NIfTI image but a text"
    return "is not a NIfTI image (it does not begin with a NIfTI header)"


def _size_fault(header: nib.Nifti1Header) -> str:
    """Return why an image cannot have this size or data type; empty when it can."""
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7:
        return f"has an unusable header ({dim[0]} dimensions)"
    shape = dim[1 : dim[0] + 1]
    size = " x ".join(f"{n}" for n in shape)
    if min(shape) < 1:
        return f"has an unusable header (its size is {size})"
    try:
        known = header.get_data_dtype().kind != "V" or header.get_data_dtype().fields
    except (nib.spatialimages.HeaderDataError, KeyError):
        known = False
    if not known:
        return f"has an unusable header (type of number {int(header['datatype'])} is unknown)"
    try:
        header.get_slope_inter()
    except nib.spatialimages.HeaderDataError:
        slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
        return f"has an unusable header (values are to be scaled by {slope:g} and shifted by {inter:g})"
    if (max(shape) > MAX_AXIS and max(shape[:3]) > MAX_AXIS) or math.prod(shape) > MAX_VOXELS:
        return (
            f"declares {size} voxels; no more than {MAX_AXIS} along an axis and {MAX_VOXELS // 10**6} million in all "
            "are read"
        )
    return ""


def _shrinkage_fault(header: nib.Nifti1Header, path: Path, gzipped: bool) -> str:
    needed, there = _byte_size(header), path.stat().st_size
    if gzipped and needed > LARGE and needed > MAX_SHRINKAGE * there:
        size = " x ".join(map(str, header.get_data_shape()))
        return f"declares {size} voxels in a file of {there / 1e6:.1f} MB, which cannot hold a scan of that size"
    return ""


def _orientation(header: nib.Nifti1Header) -> tuple[np.ndarray, list[str], str]:
    """Return the voxel-to-world matrix, remarks, and a fault; the sform is preferred to the qform."""
    sform, qform = (header.get_sform(), int(header["sform_code"])), (None, int(header["qform_code"]))
    broken = []
    if qform[1] > 0:
        matrix, why = _qform(header)
        qform = matrix, qform[1]
        broken += [why] if why else []
    good = {}
    for name, (matrix, code) in (("sform", sform), ("qform", qform)):
        if code > 0 and matrix is not None and _is_map(matrix):
            good[name] = np.asarray(matrix, dtype=np.float64)
        elif code > 0 and not (name == "qform" and broken):
            broken.append(f"its {name} does not map voxels to mm")
    if len(good) == 2 and not np.allclose(good["sform"], good["qform"], atol=0.5):
        return good["sform"], ["sform and qform disagree; the sform was used"], ""
    if good:
        name = next(iter(good))
        return good[name], [f"{why}; the {name} was used" for why in broken], ""
    if broken:
        return np.eye(4), [], f"has an unusable orientation ({' and '.join(broken)}); repair its header"
    zooms = [float(z) for z in header["pixdim"][1:4]]
    if not all(0 < z < math.inf for z in zooms):
        return np.eye(4), [], f"has voxels of {_mm(zooms)} mm in its header; repair it"
    unset = "header does not give the orientation (sform and qform unset): left and right are a guess"
    return np.asarray(header.get_base_affine(), dtype=np.float64), [unset], ""


def _qform(header: nib.Nifti1Header) -> tuple[np.ndarray | None, str]:
    """Return the qform matrix (None when unusable) and why it is unusable."""
    zooms = [float(z) for z in header["pixdim"][1:4]]
    if not all(0 < z < math.inf for z in zooms):
        return None, f"its qform has voxels of {_mm(zooms)} mm"
    parts = np.asarray([header[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)
    length = float(np.linalg.norm(parts)) if np.isfinite(parts).all() else math.inf
    if length > 1 + QUATERNION_SLACK:
        return None, f"its qform is no rotation (quaternion {', '.join(f'{p:.4g}' for p in parts)})"
    header = header.copy()
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1  # as the NIfTI standard prescribes
    for name, part in zip("bcd", parts / max(length, 1.0), strict=True):
        header[f"quatern_{name}"] = part
    return header.get_qform(), ""


def _is_map(matrix: np.ndarray) -> bool:
    edges = np.linalg.norm(matrix[:3, :3], axis=0) if np.isfinite(matrix).all() else np.zeros(3)
    return bool(edges.min() > 0) and abs(np.linalg.det(matrix[:3, :3] / edges)) > FLAT


def _mm(zooms: list[float]) -> str:
    return " x ".join(f"{z:g}" for z in zooms)
