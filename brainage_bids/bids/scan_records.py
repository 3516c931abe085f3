"""Read what OUTPUT_DIR holds for each scan: its volumes, its predictions and how they were made.

Each file is read once. It is read again only after it was replaced, by this run or by another one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainage_bids.bids.files import file_state, read_json, read_rows
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.volumes import VolumeIdentity, volume_spec
from brainage_bids.errors import BadDataError
from brainage_bids.schema import Scan, VolumeSpec

LOG = logging.getLogger("brainage_bids")
ORIGIN = ("Folds", "Keys", "Inputs", "Trainings", "Weights")  # of the sidecar of a prediction table
NUMBERS = ("predicted_age", "predicted_age_sd", "chronological_age", "bag", "bag_corrected", "pred_lo", "pred_hi")


@dataclass(frozen=True)
class Predictions:
    """The prediction table of a scan and its sidecar.

    Parameters
    ----------
    rows
        One per model; ages as float (years), NaN when missing.
    origin
        What each row was made from, by `ORIGIN` and model; empty without a sidecar.
    """

    rows: tuple[dict[str, Any], ...] = ()
    origin: Mapping[str, Mapping] = field(default_factory=dict)

    def origin_of(self, model: str) -> dict[str, Any]:
        """Return the entries of `ORIGIN` for one model, as far as they are known."""
        return {name: self.origin[name][model] for name in ORIGIN if model in self.origin.get(name, {})}


@dataclass(frozen=True)
class Volume:
    """A volume of a scan, described by its sidecar."""

    spec: VolumeSpec
    sidecar: Mapping[str, Any]

    @property
    def identity(self) -> VolumeIdentity:
        """What the volume was made from, and by."""
        return VolumeIdentity.made_to(self.spec, self.sidecar)

    @property
    def engine(self) -> str:
        """The engine that made it; ``prepared`` when another pipeline made the brain mask."""
        return self.sidecar["Engine"] if self.sidecar["Sources"][0].startswith("bids:raw:") else "prepared"


class ScanRecords:
    """The records of the scans of one OUTPUT_DIR."""

    def __init__(self, outputs: Outputs):
        self.outputs = outputs
        self._absolute = Outputs(Path(outputs.root).absolute())  # a step may run in another folder
        self._read: dict[str, tuple[tuple, Any]] = {}  # by path: file state (changes when replaced) and content
        self._warned: set[str] = set()
        self._specs: dict[str, VolumeSpec] = {}  # by their text: thousands of volumes have a few specs

    def files(self, scan: Scan) -> list[str]:
        """Return the names in the folder of a scan; none without a folder."""
        try:
            return os.listdir(self._absolute.anat(scan))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def volumes(self, scan: Scan) -> tuple[Volume, ...]:
        """Return the volumes of a scan, finest first. A broken one is left out with a warning, and is made again."""
        folder, begin, end = str(self._absolute.anat(scan)), f"{scan.prefix}_space-", "_desc-preproc_T1w.json"
        names = [name for name in self.files(scan) if name.startswith(begin) and name.endswith(end)]
        contents = [self._content(os.path.join(folder, name), self._read_volume) for name in names]
        for error in contents:
            if isinstance(error, BadDataError) and str(error) not in self._warned:
                self._warned.add(str(error))
                LOG.warning("%s", error)
        volumes = [volume for volume in contents if isinstance(volume, Volume)]
        return tuple(sorted(volumes, key=lambda volume: (volume.spec.resolution, volume.spec.template)))

    def volume(self, scan: Scan, spec: VolumeSpec) -> Volume | None:
        """Return the volume in the file of this spec (None: no file); it may have been made with another spec."""
        content = self._content(str(sidecar_path(self._absolute.volume(scan, spec))), self._read_volume)
        return content if isinstance(content, Volume) else None

    def predictions(self, scan: Scan) -> Predictions:
        """Return the predictions of a scan (empty when there is no table).

        Raises
        ------
        BadDataError
            When table or sidecar cannot be read.
        """
        # Runs write the table before its sidecar. So read the sidecar first: it is then never newer than the table.
        table = self._absolute.prediction(scan)
        origin = self._content(str(sidecar_path(table)), _read_origin)
        rows = self._content(str(table), _read_predictions)
        for content in (origin, rows):
            if isinstance(content, BadDataError):
                raise content
        return Predictions(rows or (), origin or {})

    def forget(self, scan: Scan) -> None:
        """Forget what was read of a scan, because this run has written new files."""
        folder = str(self._absolute.anat(scan)) + os.sep
        for path in [path for path in self._read if path.startswith(folder)]:
            del self._read[path]

    def _read_volume(self, path: str) -> Volume | None:
        values = read_sidecar(path)
        told = repr(values.get("VolumeSpec"))
        spec = self._specs.get(told) or volume_spec(values, path)
        if spec is None:
            return None
        return Volume(self._specs.setdefault(told, spec), values)

    def _content(self, path: str, reader: Any) -> Any:
        """Return the content of a file, the error if it cannot be read, None if there is no file."""
        try:
            state = file_state(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        known = self._read.get(path)
        if known is None or known[0] != state:
            try:
                content = reader(path)
            except FileNotFoundError:  # another run is just replacing it
                return None
            except BadDataError as error:
                content = error
            known = self._read[path] = (state, content)
        return known[1]


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """Return the content of a sidecar written by this program.

    Raises
    ------
    BadDataError
        When it is not a JSON object.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise BadDataError(f"{path} is JSON, but no table of keys; remove it and run the participant level again")
    return values


def _read_origin(path: str) -> dict[str, Mapping]:
    values = read_sidecar(path)
    for name in ORIGIN:
        if not isinstance(values.get(name, {}), dict):
            table = Path(path).with_suffix(".tsv").name
            raise BadDataError(f"{path}: {name} is no table of models; remove {table} and predict again")
    return {name: values[name] for name in ORIGIN if name in values}


def _read_predictions(path: str) -> tuple[dict[str, Any], ...]:
    # tables of earlier versions have no predicted_age_sd
    return tuple(row | {name: _number(row.get(name, "")) for name in NUMBERS} for row in read_rows(path))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
