"""Volumes from disk, once, and only those made for the model that reads them.

Knows NIfTI, sidecars and `VolumeSpec`; knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.schema import VolumeSpec

MEMORY_LIMIT_BYTES = 8 * 2**30  # larger cohorts are kept in a file that the system pages in


def load_volume(path: str | Path, spec: VolumeSpec) -> np.ndarray:
    """Return one volume as float32 ``(X, Y, Z)``, RAS+.

    Raises
    ------
    NoInputError
        When the image or its sidecar is missing.
    BadDataError
        When the volume was made for another `VolumeSpec`, its grid contradicts the spec, or it holds NaN or nothing.
    """
    path = Path(path)
    sidecar = sidecar_path(path)
    for file in (path, sidecar):
        if not file.is_file():
            raise NoInputError(f"{file} is not there; run the preprocessing of this scan again")
    made_for = read_json(sidecar).get("VolumeSpec")
    if made_for is None or VolumeSpec.from_dict(made_for) != spec:
        raise BadDataError(
            f"{path} was made for {made_for}, but the model needs {spec.to_dict()}; preprocess the scan for this model"
        )
    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (nib.filebasedimages.ImageFileError, EOFError, OSError, ValueError) as error:
        raise BadDataError(f"{path} cannot be read ({error}); remove it and preprocess the scan again") from error
    if data.shape != spec.shape or not np.allclose(image.affine, spec.affine, atol=1e-3):
        raise BadDataError(
            f"{path} has shape {data.shape} and affine {image.affine.round(3).tolist()}, not the grid its sidecar "
            "names; remove it and preprocess the scan again"
        )
    if not np.isfinite(data).all() or not data.any():
        raise BadDataError(f"{path} holds NaN, infinity or only zeros; look at the scan and its report")
    return data


def load_volumes(paths: Sequence[str | Path], spec: VolumeSpec, scratch: str | Path) -> np.ndarray:
    """Return all volumes as float32 ``(n, X, Y, Z)``, in memory or, for large cohorts, in a file below ``scratch``."""
    shape = (len(paths), *spec.shape)
    if 4 * np.prod(shape, dtype=np.int64) > MEMORY_LIMIT_BYTES:
        Path(scratch).mkdir(parents=True, exist_ok=True)
        volumes = np.lib.format.open_memmap(Path(scratch) / "volumes.npy", mode="w+", dtype=np.float32, shape=shape)
    else:
        volumes = np.empty(shape, dtype=np.float32)
    for index, path in enumerate(paths):
        volumes[index] = load_volume(path, spec)
    return volumes
