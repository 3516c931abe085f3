"""Shared nouns: a scan, the grid a model wants, and the columns of every table.

Standard library only, so that ``--help`` stays fast; nothing here reads or writes a file.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass

DEFAULT_SEED = 20251127
DEFAULT_TEMPLATE = "MNI152NLin2009aSym"

# The paper's grid: 193 x 229 x 193 voxels of 1 mm, voxel (0, 0, 0) at this RAS+ world position (mm).
GRID_EXTENT_MM = (193, 229, 193)
GRID_ORIGIN_MM = (-96.0, -132.0, -78.0)

AGE_BINS = ((20.0, 40.0), (40.0, 60.0), (60.0, 80.0), (80.0, math.inf))  # half-open, years; below 20 is "<20"


@dataclass(frozen=True)
class VolumeSpec:
    """The volume a model needs; stored with the weights, and every volume says which one it was made to.

    Parameters
    ----------
    template
        TemplateFlow-style name of the space.
    resolution
        Isotropic voxel size, mm.
    shape
        Voxels along x, y, z of the RAS+ grid.
    origin
        World position (mm, RAS+) of the centre of voxel (0, 0, 0).
    intensity
        ``minmax``: clip to the 0.5-99.5 percentiles inside the mask, scale to [0, 1], zero outside;
        ``zscore``: same clip, zero mean and unit variance inside the mask, zero outside.
    version
        Raised when the meaning of the other fields changes.
    """

    template: str = DEFAULT_TEMPLATE
    resolution: float = 1.0
    shape: tuple[int, int, int] = GRID_EXTENT_MM
    origin: tuple[float, float, float] = GRID_ORIGIN_MM
    intensity: str = "minmax"
    version: int = 1

    @classmethod
    def on_grid(cls, resolution: float, template: str = DEFAULT_TEMPLATE, intensity: str = "minmax") -> VolumeSpec:
        """Return the paper's field of view at ``resolution`` mm (1 -> 193x229x193, 2 -> 96x114x96, as printed)."""
        shape = tuple(math.floor(extent / resolution) for extent in GRID_EXTENT_MM)
        return cls(template, float(resolution), shape, GRID_ORIGIN_MM, intensity)

    @classmethod
    def from_dict(cls, values: dict) -> VolumeSpec:
        """Rebuild a spec from its JSON form."""
        fields = dict(values)
        fields["shape"] = tuple(int(n) for n in fields["shape"])
        fields["origin"] = tuple(float(v) for v in fields["origin"])
        return cls(**fields)

    def to_dict(self) -> dict:
        """Return the JSON form."""
        values = asdict(self)
        return {**values, "shape": list(self.shape), "origin": list(self.origin)}

    @property
    def affine(self) -> tuple[tuple[float, ...], ...]:
        """4 x 4 voxel-to-world matrix (mm, RAS+), as nested tuples."""
        r, (x, y, z) = self.resolution, self.origin
        return ((r, 0.0, 0.0, x), (0.0, r, 0.0, y), (0.0, 0.0, r, z), (0.0, 0.0, 0.0, 1.0))

    @property
    def res_label(self) -> str:
        """Value of the BIDS ``res`` entity: ``1``, ``2``, ``1p5``."""
        return f"{self.resolution:g}".replace(".", "p")

    @property
    def fingerprint(self) -> str:
        """Short stable hash of all fields."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Scan:
    """One T1-weighted image and what the dataset's tables say about the person on that day.

    Parameters
    ----------
    path
        Absolute path of the image.
    participant_id, session_id
        With their prefixes (``sub-01``, ``ses-1``); ``session_id`` is None where the dataset has no sessions.
    entities
        The remaining BIDS entities of the file name in order, e.g. ``(("acq", "mprage"), ("run", "1"))``.
    age
        Years at this session, None when unknown. ``age_source`` says which table and column gave it,
        ``age_flags`` what to know about it (``top_coded``, ``age_not_session_specific``, ...).
    sex
        ``F``, ``M``, ``O`` or None.
    group, site, family
        As written in the data; None when missing.
    scores
        ``(name, value)`` pairs of the clinical scores, missing ones left out.
    """

    path: str
    participant_id: str
    session_id: str | None = None
    entities: tuple[tuple[str, str], ...] = ()
    age: float | None = None
    age_source: str | None = None
    age_flags: tuple[str, ...] = ()
    sex: str | None = None
    group: str | None = None
    site: str | None = None
    family: str | None = None
    scores: tuple[tuple[str, float], ...] = ()

    @property
    def prefix(self) -> str:
        """File-name stem shared by every output of this scan: ``sub-01_ses-1_acq-mprage_run-1``."""
        parts = [self.participant_id, self.session_id, *(f"{key}-{value}" for key, value in self.entities)]
        return "_".join(part for part in parts if part)

    @property
    def run(self) -> str | None:
        """What tells scans of one session apart: the entities joined (``acq-mprage_run-1``), or None."""
        return "_".join(f"{key}-{value}" for key, value in self.entities) or None


PREDICTION_COLUMNS = {
    "model": "name of the model",
    "predicted_age": "brain age predicted from the scan (years)",
    "chronological_age": "age at the scanned session (years)",
    "age_source": "table and column that gave the age",
    "bag": "brain age gap: predicted minus chronological age (years)",
    "bag_corrected": "brain age gap after removal of the age-bias line of the model's held-out healthy people (years)",
    "pred_lo": "lower end of the 95 % split-conformal interval of the bias-corrected predicted age (years)",
    "pred_hi": "upper end of that interval (years)",
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
    "qc_pass": "1 when every quality gate was passed",
    "in_training": "1 when a model was trained or tuned on this person and did not hold the person out",
}

ACCURACY_COLUMNS = (
    "model subset n n_missing mae ae_sd medae rmse r2 pearson_r spearman_rho bag_mean bag_sd bag_t bag_df bag_p "
    "bag_ci_lo bag_ci_hi mae_ci_lo mae_ci_hi mae_null agebias_slope agebias_intercept agebias_p status note"
).split()
MODELCOMPARISON_COLUMNS = (
    "model_a model_b subset n mae_diff t df p ci_lo ci_hi dz wilcoxon_w wilcoxon_p status note"
).split()
CORRELATIONS_COLUMNS = (
    "model group score variant statistic n n_missing estimate ci_lo ci_hi df p q_fdr family status note"
).split()
GROUPDIFF_COLUMNS = (
    "model variant case control n_case n_control mean_diff ci_lo ci_hi t df p q_fdr "
    "hedges_g g_ci_lo g_ci_hi status note"
).split()
COHORT_COLUMNS = "group n n_with_age age_mean age_sd age_min age_max n_female n_male n_sex_unknown status note".split()
FAILED_COLUMNS = "participant_id session_id step reason".split()
SPLIT_COLUMNS = "participant_id trainable fold split".split()
HISTORY_COLUMNS = "member stage epoch lr loss loss_excess val_mae seconds".split()
