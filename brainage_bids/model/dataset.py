"""Volumes from disk, once, and only those made for the model that reads them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from brainage_bids.bids.files import atomic, read_json
from brainage_bids.bids.images import load_image
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.bids.volumes import volume_spec
from brainage_bids.errors import BadDataError, InputOutputError, NoInputError
from brainage_bids.schema import VolumeSpec


def load_volume(path: str | Path, spec: VolumeSpec) -> np.ndarray:
    """Return what a model reads of one volume: float32 ``spec.cropped.shape``, RAS+.

    Raises
    ------
    NoInputError, BadDataError
        As `load_whole`; also when what the model reads is empty.
    """
    return crop(load_whole(path, spec), spec, path)


def crop(volume: np.ndarray, spec: VolumeSpec, path: str | Path) -> np.ndarray:
    """Return what a model reads of a volume ``(X, Y, Z)`` of the whole grid.

    Raises
    ------
    BadDataError
        When nothing of the brain is in it.
    """
    if spec.box is None:
        return volume
    read = np.ascontiguousarray(volume[spec.slices])
    if not read.any():
        raise BadDataError(f"{path} holds only zeros in the box that the model reads; look at the scan and its report")
    return read


def load_whole(path: str | Path, spec: VolumeSpec) -> np.ndarray:
    """Return one volume as float32 ``spec.shape``, RAS+, whatever part of it a model reads.

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
    values = read_json(sidecar)
    made_for = volume_spec(values, sidecar) if isinstance(values, dict) else None
    if made_for != spec.whole:
        made_spec = made_for.to_dict() if made_for else "no model"
        raise BadDataError(
            f"{path} was made for {made_spec}, but the model needs {spec.whole.to_dict()}; preprocess the scan for "
            "this model"
        )
    image = load_image(path, "remove it and preprocess the scan again")
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.shape != spec.shape or not np.allclose(image.affine, spec.affine, atol=1e-3):
        raise BadDataError(
            f"{path} has shape {data.shape} and affine {image.affine.round(3).tolist()}, not the grid its sidecar "
            "names; remove it and preprocess the scan again"
        )
    if not np.isfinite(data).all() or not data.any():
        raise BadDataError(f"{path} holds NaN, infinity or only zeros; look at the scan and its report")
    return data


def cache_volumes(
    paths: Sequence[str | Path],
    spec: VolumeSpec,
    folder: str | Path,
    report: Callable[[int], None] = lambda done: None,
    threads: int = 1,
) -> Path:
    """Write what a model reads of all volumes into one file that a training maps into memory.

    A file of the same volumes is used again.

    Intensities are kept as float16, half the size: their error, below 0.0005 of the range, is a fiftieth of the noise
    that training adds. Predictions never read this file.

    Parameters
    ----------
    paths
        Volumes; volume i becomes row i.
    spec
        What they must have been made for.
    folder
        Where the file goes, ``volumes-<hash>.npy``; the hash is of paths, sizes, times of change and spec.
    report
        Told how many are written.
    threads
        Volumes read at the same time.

    Raises
    ------
    NoInputError, BadDataError
        As `load_volume`.
    InputOutputError
        When the disk has no room for the file.
    """
    folder = Path(folder)
    known = [(str(path), (stat := Path(path).stat()).st_size, stat.st_mtime_ns) for path in paths if _there(path)]
    key = hashlib.sha256(json.dumps([known, spec.to_dict()], default=str).encode()).hexdigest()[:16]
    path = folder / f"volumes-{key}.npy"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".tmp-*-{path.name}"):  # of a run that was killed
        left.unlink()
    with atomic(path) as temporary, ThreadPoolExecutor(threads) as pool:
        volumes = _reserved(temporary, (len(paths), *spec.cropped.shape))
        for start in range(0, len(paths), 2 * threads):  # no more is read ahead than fits into memory
            part = paths[start : start + 2 * threads]
            for index, volume in enumerate(pool.map(lambda one: load_volume(one, spec), part), start):
                volumes[index] = volume
                report(index + 1)
        volumes.flush()
        del volumes
    return path


def _reserved(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a float16 array in a file whose room on the disk is taken: writing into a full one kills a process."""
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        size = file.tell() + 2 * math.prod(shape)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise InputOutputError(
                f"the volumes of the training take {size / 1e9:.1f} GB in {path.parent}: {error.strerror}; make room "
                "or give another folder with --work-dir"
            ) from error
    return np.lib.format.open_memmap(path, mode="r+")


def open_volumes(path: str | Path) -> np.ndarray:
    """Return what `cache_volumes` wrote: float16 ``(n, X, Y, Z)``, read as needed."""
    return np.load(path, mmap_mode="r")


def _there(path: str | Path) -> bool:
    if not Path(path).is_file():
        raise NoInputError(f"{path} is not there; run the preprocessing of this scan again")
    return True
