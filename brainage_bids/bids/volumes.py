"""Read a volume's sidecar: the grid and scaling (spec) of the volume, and an identity to compare volumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainage_bids.bids.jsonchecks import WAY_OUT, Check, between, check_keys, list_of, matches, refuse
from brainage_bids.errors import BadDataError
from brainage_bids.schema import VolumeSpec

MOST_VOXELS = 100_000_000  # of a volume; the paper's field of view at 0.5 mm has 68 million
EXTENT_MM = (50.0, 500.0)  # of a volume along each axis


def _ends(value: Any) -> bool:
    return list_of(between(0, 4096, int))(value) and len(value) == 2


SPEC: dict[str, Check] = {
    "template": (matches(r"[0-9A-Za-z]+"), "a name of letters and digits"),
    "resolution": (between(0.5, 16), "a voxel size of 0.5 to 16 mm"),
    "shape": (lambda v: list_of(between(1, 4096, int))(v) and len(v) == 3, "three positive numbers of voxels"),
    "origin": (lambda v: list_of(between(-1000, 1000))(v) and len(v) == 3, "three places in mm"),
    "intensity": (lambda v: v in ("minmax", "zscore"), "minmax or zscore"),
    "version": (lambda v: v == VolumeSpec.version, f"{VolumeSpec.version}; a newer brainage-bids may read it"),
    "template_sha": (matches(r"[0-9a-f]{12}"), "12 hexadecimal digits"),
    "box": (lambda v: list_of(_ends)(v) and len(v) == 3, "first and last voxel along each of the three axes"),
}


@dataclass(frozen=True)
class VolumeIdentity:
    """What a volume was made from, and by. Equal identities mean equal voxels.

    Parameters
    ----------
    input_hash
        SHA-256 of the files of the scan.
    engine, engine_version
        Program that made it.
    spec
        The grid and intensities; None when the sidecar has none.
    """

    input_hash: str | None
    engine: str | None
    engine_version: str | None
    spec: VolumeSpec | None

    @classmethod
    def of(cls, sidecar: Mapping[str, Any]) -> VolumeIdentity:
        """Return the identity in a sidecar."""
        return cls.made_to(volume_spec(sidecar, "a sidecar"), sidecar)

    @classmethod
    def made_to(cls, spec: VolumeSpec | None, sidecar: Mapping[str, Any]) -> VolumeIdentity:
        """Return the identity in a sidecar whose spec is known already."""
        return cls(*(sidecar.get(key) for key in ("InputHash", "Engine", "EngineVersion")), spec)

    @property
    def made_by(self) -> tuple[str | None, str | None, str | None]:
        """Input, engine and version; equal for all grids of a scan."""
        return self.input_hash, self.engine, self.engine_version

    @property
    def key(self) -> str:
        """A short hash of the whole identity."""
        parts = [*self.made_by, None if self.spec is None else self.spec.fingerprint]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def decision_key(self) -> str:
        """A short hash for decisions in ``qc.tsv``; equal for all grids on one template."""
        parts = [*self.made_by, None if self.spec is None else self.spec.template]
        # the letter keeps spreadsheets from reading it as a number
        return "v" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def volume_spec(values: Mapping[str, Any], sidecar: str | Path) -> VolumeSpec | None:
    """Return the spec in a volume's sidecar; None when there is none.

    Raises
    ------
    BadDataError
        When no volume can have such a spec.
    """
    if values.get("VolumeSpec") is None:
        return None
    try:
        return check_spec(values["VolumeSpec"], sidecar, "VolumeSpec")
    except BadDataError as error:
        reason = str(error).removesuffix(f": {WAY_OUT}").removesuffix(f"; {WAY_OUT}")
        raise BadDataError(f"{reason}; remove the volume and its sidecar, and preprocess the scan again") from error


def check_spec(values: Any, source: str | Path, key: str = "volume_spec") -> VolumeSpec:
    """Return a volume's spec from its JSON form, after checks.

    Raises
    ------
    BadDataError
        When a key is unknown or missing, or the grid cannot hold a brain or does not fit into memory.
    """
    if not isinstance(values, dict):
        refuse(source, key, values, "a table of keys")
    if unknown := sorted(set(values) - set(SPEC)):
        refuse(source, f"{key}.{unknown[0]}", values[unknown[0]], "left out: this version does not know it")
    needed = {name + ("?" if name in ("template_sha", "box") else ""): check for name, check in SPEC.items()}
    check_keys(values, needed, source, f"{key}.")
    shape, spec = values["shape"], VolumeSpec.from_dict(values)
    least, most = EXTENT_MM
    if spec.box is not None and not all(f < n <= s - 1 for (f, n), s in zip(spec.box, shape, strict=True)):
        refuse(
            source, f"{key}.box", values["box"], f"first and last voxel, in this order and within the grid of {shape}"
        )
    if not all(least <= side * spec.resolution <= most for side in (*shape, *spec.cropped.shape)):
        refuse(source, f"{key}.shape", shape, f"{least:g} to {most:g} mm along each axis (here: voxels of "
                f"{spec.resolution:g} mm)")  # fmt: skip
    if shape[0] * shape[1] * shape[2] > MOST_VOXELS:
        refuse(source, f"{key}.shape", shape, f"{MOST_VOXELS:,} voxels at most")
    for grid, of, what in ((spec, "origin", "the first corner of a grid"), (spec.cropped, "box", "a box")):
        ends = [(low, low + (side - 1) * spec.resolution) for low, side in zip(grid.origin, grid.shape, strict=True)]
        if not all(low <= 0 <= high for low, high in ends):
            refuse(source, f"{key}.{of}", values[of], f"{what} that holds the point 0, 0, 0")
    return spec
