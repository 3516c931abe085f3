"""What is already made and may be kept: the same input, grid, engine and version. Reads sidecars, opens no image.

An input whose size and time of change are as recorded is taken as unchanged; otherwise the hash of its content decides.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence

from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.preprocess.options import ENGINE_VERSIONS
from brainage_bids.schema import Scan, VolumeSpec


def input_hash(scan: Scan) -> str:
    """Return the SHA-256 of the files a scan is made from, one after the other."""
    digest = hashlib.sha256()
    for path in scan.inputs:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def input_stat(scan: Scan) -> list[list[int]]:
    """Return size (bytes) and time of last change (ns) of the files a scan is made from."""
    found = [os.stat(path) for path in scan.inputs]
    return [[stat.st_size, stat.st_mtime_ns] for stat in found]


def is_done(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs, engine: str = "builtin") -> bool:
    """Say whether every volume of a scan is there, made from this very input to these specs by this engine."""
    known: dict[str, object] = {}
    for spec in specs:
        volume = outputs.volume(scan, spec)
        if not (os.path.exists(volume) and os.path.exists(outputs.mask(scan, spec))):
            return False
        try:
            with open(sidecar_path(volume), "rb") as stream:
                values = json.load(stream)
        except (OSError, ValueError):
            return False
        wanted = {
            "Engine": engine,
            "EngineVersion": ENGINE_VERSIONS[engine],
            "VolumeSpecFingerprint": spec.fingerprint,
        }
        if any(values.get(key) != value for key, value in wanted.items()) or not _same_input(scan, values, known):
            return False
    return True


def _same_input(scan: Scan, values: dict, known: dict) -> bool:
    """Compare with what a sidecar says; ``known`` keeps what was looked up for the next grid."""
    try:
        if "stat" not in known:
            known["stat"] = input_stat(scan)
        if values.get("InputStat") == known["stat"]:
            return True
        if "hash" not in known:
            known["hash"] = input_hash(scan)
    except OSError:  # an input that is not there any more is not the same
        return False
    return values.get("InputHash") == known["hash"]
