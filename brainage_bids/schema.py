"""Definitions that all parts share: a scan, the volume a model needs, and the columns of the tables.

Uses only the standard library, so that ``--help`` stays fast. Reads and writes no file.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property

DEFAULT_SEED = 20251127
DEFAULT_TEMPLATE = "MNI152NLin2009aSym"
DEFAULT_TEMPLATE_SHA = "02bbc9b59082"  # hash of its arrays, see preprocess.template.content_sha
DEFAULT_BRAIN_MM = (-72, 72, -107, 73, -72, 82)  # first and last mm of its brain along x, y, z (RAS+)

# The paper's grid: 193 x 229 x 193 voxels of 1 mm, voxel (0, 0, 0) at this RAS+ world position (mm).
GRID_EXTENT_MM = (193, 229, 193)
GRID_ORIGIN_MM = (-96.0, -132.0, -78.0)

AGE_BINS = ((20.0, 40.0), (40.0, 60.0), (60.0, 80.0), (80.0, math.inf))  # half-open, years; below 20 is "<20"


@dataclass(frozen=True)
class VolumeSpec:
    """The kind of volume a model needs. It is stored with the weights, and in the sidecar of every volume.

    A volume on disk always has the whole grid, so that all models of one template and voxel size share it. A model may
    read a box of it only: `cropped` is the grid of what it reads, `whole` that of the file.

    Parameters
    ----------
    template
        TemplateFlow-style name of the space.
    resolution
        Isotropic voxel size, mm.
    shape
        Voxels along x, y, z of the whole RAS+ grid.
    origin
        World position (mm, RAS+) of the centre of voxel (0, 0, 0).
    intensity
        ``minmax``: clip to the 0.5-99.5 percentiles inside the mask, scale to [0, 1], zero outside;
        ``zscore``: same clip, zero mean and unit variance inside the mask, zero outside.
    version
        Increased when the meaning of the other fields changes.
    template_sha
        First 12 hex digits of the SHA-256 of the template's arrays, so that two templates of one name are never mixed.
    box
        First and last voxel of the grid that a model reads, along x, y, z; None when it reads all. It is left out of
        the JSON form when None, so that hashes of before hold.
    """

    template: str = DEFAULT_TEMPLATE
    resolution: float = 1.0
    shape: tuple[int, int, int] = GRID_EXTENT_MM
    origin: tuple[float, float, float] = GRID_ORIGIN_MM
    intensity: str = "minmax"
    version: int = 1
    template_sha: str = DEFAULT_TEMPLATE_SHA
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None

    @classmethod
    def on_grid(
        cls,
        resolution: float,
        template: str = DEFAULT_TEMPLATE,
        intensity: str = "minmax",
        template_sha: str = DEFAULT_TEMPLATE_SHA,
    ) -> VolumeSpec:
        """Return the paper's field of view at ``resolution`` mm (1 -> 193x229x193, 2 -> 96x114x96, as printed)."""
        shape = tuple(math.floor(extent / resolution) for extent in GRID_EXTENT_MM)
        return cls(template, float(resolution), shape, GRID_ORIGIN_MM, intensity, template_sha=template_sha)

    def at(self, resolution: float) -> VolumeSpec:
        """Return the paper's field of view on the same template, with the same intensity rule, at ``resolution`` mm."""
        return VolumeSpec.on_grid(resolution, self.template, self.intensity, self.template_sha)

    @classmethod
    def from_dict(cls, values: dict) -> VolumeSpec:
        """Rebuild a spec from its JSON form."""
        fields = dict(values)
        fields["shape"] = tuple(int(n) for n in fields["shape"])
        fields["origin"] = tuple(float(v) for v in fields["origin"])
        if fields.get("box") is not None:
            fields["box"] = tuple((int(first), int(last)) for first, last in fields["box"])
        return cls(**fields)

    def to_dict(self) -> dict:
        """Return the JSON form."""
        values = asdict(self) | {"shape": list(self.shape), "origin": list(self.origin)}
        box = values.pop("box")
        return values if box is None else {**values, "box": [list(ends) for ends in box]}

    @property
    def whole(self) -> VolumeSpec:
        """The volume on disk, whatever part of it a model reads."""
        return replace(self, box=None)

    @property
    def cropped(self) -> VolumeSpec:
        """The grid of what a model reads, which is no volume on disk."""
        if self.box is None:
            return self
        shape = tuple(last - first + 1 for first, last in self.box)
        origin = tuple(at + first * self.resolution for at, (first, _) in zip(self.origin, self.box, strict=True))
        return replace(self, shape=shape, origin=origin, box=None)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What a model reads, as indices into a volume ``(X, Y, Z)`` of the whole grid."""
        return tuple(slice(first, last + 1) for first, last in self.box or ((0, side - 1) for side in self.shape))

    @property
    def affine(self) -> tuple[tuple[float, ...], ...]:
        """4 x 4 voxel-to-world matrix of the whole grid (mm, RAS+), as nested tuples."""
        r, (x, y, z) = self.resolution, self.origin
        return ((r, 0.0, 0.0, x), (0.0, r, 0.0, y), (0.0, 0.0, r, z), (0.0, 0.0, 0.0, 1.0))

    @property
    def res_label(self) -> str:
        """Value of the BIDS ``res`` entity: ``1``, ``2``, ``1p5``."""
        return f"{self.resolution:g}".replace(".", "p")

    @cached_property
    def fingerprint(self) -> str:
        """Short stable hash of all fields."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Prepared:
    """Files that another pipeline (fMRIPrep, sMRIPrep, ...) made from a scan, in the scan's own space.

    Parameters
    ----------
    name
        Name of the other pipeline (``--derivatives NAME=PATH``).
    image
        Absolute path of the bias-corrected T1w image (``desc-preproc_T1w``).
    mask
        Absolute path of the brain mask on its grid (``desc-brain_mask``).
    fault
        Why these files cannot be used; the scan then fails for this reason. None when they can.
    """

    name: str
    image: str
    mask: str
    fault: str | None = None


@dataclass(frozen=True)
class Scan:
    """One T1-weighted image and what the dataset's tables say about the person on that day.

    Parameters
    ----------
    path
        Absolute path of the image.
    participant_id, session_id
        With their prefixes (``sub-01``, ``ses-1``); ``session_id`` is None if the dataset has no sessions.
    entities
        The remaining BIDS entities of the file name in order, e.g. ``(("acq", "mprage"), ("run", "1"))``.
    age
        Age at this session in years, None when unknown. ``age_source`` is the table and column it comes from,
        ``age_flags`` are warnings about it (``top_coded``, ``age_not_session_specific``, ...).
    rate_age
        Age in years for rates of change, when ages are whole years but the time between sessions is known more
        precisely; else None.
    sex
        ``F``, ``M``, ``O`` or None.
    group, site, family
        As written in the data; None when missing.
    scores
        ``(name, value)`` of each known clinical score.
    prepared
        Files of another pipeline to use instead of ``path``.
    second_inversion
        For an MP2RAGE image (UNIT1): path of the second inversion image, if it exists.
    """

    path: str
    participant_id: str
    session_id: str | None = None
    entities: tuple[tuple[str, str], ...] = ()
    age: float | None = None
    age_source: str | None = None
    age_flags: tuple[str, ...] = ()
    rate_age: float | None = None
    sex: str | None = None
    group: str | None = None
    site: str | None = None
    family: str | None = None
    scores: tuple[tuple[str, float], ...] = ()
    prepared: Prepared | None = None
    second_inversion: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The image files that are read."""
        if self.prepared:
            return self.prepared.image, self.prepared.mask
        return (self.path, self.second_inversion) if self.second_inversion else (self.path,)

    @property
    def prefix(self) -> str:
        """File-name stem shared by every output of this scan: ``sub-01_ses-1_acq-mprage_run-1``."""
        parts = [self.participant_id, self.session_id, *(f"{key}-{value}" for key, value in self.entities)]
        return "_".join(part for part in parts if part)

    @property
    def run(self) -> str | None:
        """The entities that distinguish scans of one session, joined (``acq-mprage_run-1``), or None."""
        return "_".join(f"{key}-{value}" for key, value in self.entities) or None


NOT_OF_SESSION = "age_not_session_specific"  # age flag: one age was given for a person with several sessions
QC_WARNINGS = "qc_warnings"  # number of warnings, to choose among scans of a session; not written into any table
RATE_AGE = "age_for_rates"  # column of ``group/brainage.tsv``, only if some scan has such an age

PREDICTION_COLUMNS = {
    "model": "name of the model",
    "predicted_age": "brain age predicted from the scan (years)",
    "predicted_age_sd": "SD of the ages that the trainings of the model (--ensemble) predict; n/a for one (years)",
    "chronological_age": "age at the scanned session (years)",
    "age_source": "table and column that gave the age",
    "bag": "brain age gap: predicted minus chronological age (years)",
    "bag_corrected": "brain age gap after removal of the age-bias line of the model's held-out healthy people (years)",
    "pred_lo": "lower end of the 95 % split-conformal interval of the bias-corrected predicted age (years, at least 0)",
    "pred_hi": "upper end of that interval (years, at least 0)",
    "flags": "what to know before using the row, separated by semicolons",
}

BRAINAGE_COLUMNS = {
    "participant_id": "participant",
    "session_id": "session",
    "run": "entities that tell scans of one session apart",
    "age": "age at the scanned session (years)",
    "age_source": "table and column that gave the age",
    "age_flags": "what to know about the age, separated by semicolons",
    "sex": "F, M or O",
    "group": "group as written in the data",
    "site": "site or scanner",
    "qc_pass": "1 when the scan may be used: every quality gate was passed, or a person decided so in qc.tsv",
    "in_training": "1 when a model was trained or tuned on this person and did not hold the person out",
}

QC_METRICS = {
    "mask_volume_ml": "volume of the brain mask, native scan (mL)",
    "template_dice": "Dice overlap of the brain mask with the template's brain after the affine",
    "template_ncc": "Pearson correlation with the template over its brain at about 2 mm, as far as it was scanned",
    "fov_cut_fraction": "share of the template's brain that lies outside the scan's field of view",
    "scale_min": "smallest of the three scales of the affine, native mm to template mm",
    "scale_max": "largest of the three scales",
    "scale_volume": "factor by which the affine enlarges the brain",
    "shear_max": "largest shear of the affine",
    "rotation_deg": "angle by which the affine turns the head (degrees)",
    "mask_edge_fraction": "share of the brain mask's surface that lies on the edge of the field of view",
    "voxel_size_min_mm": "shortest edge of a voxel (mm)",
    "voxel_size_max_mm": "longest edge of a voxel (mm)",
    "anisotropy": "longest over shortest edge of a voxel",
    "snr": "median of white matter over the noise of single voxels in it",
    "cnr": "white minus grey matter over the noise of single voxels in white matter",
    "tissue_contrast": "white minus grey matter over white matter (medians)",
    "fwhm_mm": "effective resolution inside the brain: full width at half maximum, mean of the three axes (mm)",
    "fwhm_max_mm": "effective resolution along the worst axis (mm)",
}

QC_COLUMNS = {
    "participant_id": "participant",
    "session_id": "session",
    "run": "entities that tell scans of one session apart",
    "qc_pass": "1 when every quality gate was passed; 0 also for a scan that was refused (then without numbers)",
    "qc_warn": "reasons of the gates and warnings, separated by |",
    **QC_METRICS,
    "qc_decision": "yours to fill in: pass or fail overrules qc_pass; empty or n/a leaves it",
    "qc_comment": "yours to fill in: anything",
    "qc_volume": "the volume that the decision was made on; empty the cell to confirm a decision on a newer volume",
}

DATASET = "dataset"  # further column of brainage.tsv, cohort.tsv and failed.tsv when there are several datasets
SPLIT_COLUMNS = "participant_id trainable fold split".split()
HISTORY_COLUMNS = "member stage epoch lr loss loss_excess val_mae val_mae_knn seconds".split()
