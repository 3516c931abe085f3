"""Check whether existing volumes can be kept: same input, grid, engine and version. Reads sidecars, opens no image.

An input with unchanged size and modification time counts as unchanged; otherwise the hash of its content is compared.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.preprocess.preprocess_options import ENGINE_VERSIONS
from brainage_bids.schema import Scan, VolumeSpec


def input_hash(scan: Scan) -> str:
    """Return the SHA-256 of the joined files of a scan."""
    digest = hashlib.sha256()
    for path in scan.inputs:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def input_stat(scan: Scan) -> list[list[int]]:
    """Return size (bytes) and time of last change (ns) of the files of a scan."""
    stats = [os.stat(path) for path in scan.inputs]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def is_done(scan: Scan, specs: Sequence[VolumeSpec], on_disk: ScanRecords, engine: str = "builtin") -> bool:
    """Return whether every volume of a scan exists, made from the same input and specs by the same engine version."""
    known: dict[str, object] = {}
    for spec in specs:
        image, mask = on_disk.outputs.volume(scan, spec), on_disk.outputs.mask(scan, spec)
        if not (os.path.exists(image) and os.path.exists(mask)):
            return False
        volume = on_disk.volume(scan, spec)
        if volume is None or volume.spec != spec or not _same_input(scan, volume.sidecar, known):
            return False
        if volume.identity.made_by[1:] != (engine, ENGINE_VERSIONS[engine]):
            return False
    return True


def _same_input(scan: Scan, values: dict, known: dict) -> bool:
    """Compare the input with a sidecar; ``known`` keeps size and hash of the input for the next grid."""
    try:
        if "stat" not in known:
            known["stat"] = input_stat(scan)
        if values.get("InputStat") == known["stat"]:
            return True
        if "hash" not in known:
            known["hash"] = input_hash(scan)
    except OSError:  # the input was removed
        return False
    return values.get("InputHash") == known["hash"]


def remove_outputs(scan: Scan, specs: Sequence[VolumeSpec], outputs: Outputs) -> None:
    """Remove the results of earlier runs for a scan, so that a failure leaves nothing that looks current."""
    stale = [outputs.qc_figure(scan, name) for name in ("mask", "template")]
    for spec in specs:
        volume, mask = outputs.volume(scan, spec), outputs.mask(scan, spec)
        transform = outputs.transform(scan, spec.template)
        stale += [sidecar_path(volume), volume, sidecar_path(mask), mask, transform, transform.with_suffix(".json")]
    half = re.compile(rf"-{re.escape(scan.prefix)}_(space|from|desc)-")  # for sub-01, not those of sub-01_acq-x
    for folder in {path.parent for path in stale}:  # unfinished files of a killed run
        stale += [path for path in folder.glob(f".tmp-*-{scan.prefix}_*") if half.search(path.name)]
    for path in stale:
        path.unlink(missing_ok=True)
