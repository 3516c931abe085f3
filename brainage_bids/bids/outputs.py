"""Build the file names of OUTPUT_DIR; no other module spells them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from brainage_bids.bids.runs import FOLDER
from brainage_bids.schema import Scan, VolumeSpec


def model_label(name: str) -> str:
    """Return a model name as a BIDS label of letters and digits: ``rnc-demo`` -> ``RncDemo``."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^0-9A-Za-z]+", name) if part)


def sidecar_path(path: Path) -> Path:
    """Return the JSON file beside an image or table: ``x.nii.gz``, ``x.nii`` and ``x.tsv`` -> ``x.json``."""
    return path.with_name(path.name.removesuffix(".gz").rsplit(".", 1)[0] + ".json")


def scan_claim(scan: Scan) -> str:
    """Return the name under which a run claims a scan (see `runs`)."""
    return f"scan-{scan.prefix}"


MAP_ENDING = "_saliency.nii.gz"  # of a Grad-RAM map
STUDY_RUN = re.compile(r"_seed-\d+$")


def study_model(recipe: str, setting: str, seed: int) -> str:
    """Return the name of the model of one run of a study."""
    label = re.sub(r"[^A-Za-z0-9.]+", "-", setting).strip("-")
    return f"{recipe}_{label}_seed-{seed}"


def is_study_model(name: str) -> bool:
    """Return whether a model belongs to a study; such a model predicts only when the user names it."""
    return STUDY_RUN.search(name) is not None


@lru_cache(maxsize=64)  # a scan has many files
def _anat(root: Path, participant_id: str, session_id: str | None) -> Path:
    return root.joinpath(*filter(None, [participant_id, session_id]), "anat")


@dataclass(frozen=True)
class Outputs:
    """Paths below OUTPUT_DIR.

    Parameters
    ----------
    root
        OUTPUT_DIR.
    """

    root: Path

    # --- one scan -----------------------------------------------------------------------------------------------

    def anat(self, scan: Scan) -> Path:
        """Folder of a scan's images: ``sub-01[/ses-1]/anat``."""
        return _anat(self.root, scan.participant_id, scan.session_id)

    def _volume_stem(self, scan: Scan, spec: VolumeSpec) -> str:
        return f"{scan.prefix}_space-{spec.template}_res-{spec.res_label}"

    def volume(self, scan: Scan, spec: VolumeSpec) -> Path:
        """Preprocessed T1w on the model's grid."""
        return self.anat(scan) / f"{self._volume_stem(scan, spec)}_desc-preproc_T1w.nii.gz"

    def mask(self, scan: Scan, spec: VolumeSpec) -> Path:
        """Brain mask on the same grid."""
        return self.anat(scan) / f"{self._volume_stem(scan, spec)}_desc-brain_mask.nii.gz"

    def transform(self, scan: Scan, template: str) -> Path:
        """Affine from the native scan to the template (ITK text format)."""
        return self.anat(scan) / f"{scan.prefix}_from-T1w_to-{template}_mode-image_xfm.txt"

    def saliency(self, scan: Scan, spec: VolumeSpec, model: str) -> Path:
        """Signed Grad-RAM map, years."""
        return self.anat(scan) / f"{self._volume_stem(scan, spec)}_desc-gradram{model_label(model)}{MAP_ENDING}"

    def prediction(self, scan: Scan) -> Path:
        """Prediction table, one row per model."""
        return self.anat(scan) / f"{scan.prefix}_desc-brainage_pred.tsv"

    # --- one participant ----------------------------------------------------------------------------------------

    def participant_page(self, participant_id: str) -> Path:
        """HTML page of one participant."""
        return self.root / f"{participant_id}.html"

    def participant_figures(self, participant_id: str) -> Path:
        """Folder of one participant's pictures."""
        return self.root / participant_id / "figures"

    def qc_figure(self, scan: Scan, name: str) -> Path:
        """QC picture of one scan; ``name`` is ``mask`` (native) or ``template``."""
        return self.participant_figures(scan.participant_id) / f"{scan.prefix}_desc-{name}_qc.png"

    # --- models -------------------------------------------------------------------------------------------------

    @property
    def models(self) -> Path:
        """Folder of the models trained here."""
        return self.root / "models"

    def model(self, name: str) -> Path:
        """Folder of one model."""
        return self.models / name

    def foreign_card(self, name: str) -> Path:
        """Copy of ``model.json`` of a model that was trained elsewhere and used here."""
        return self.model(name) / "card.json"

    def study(self, name: str) -> Path:
        """Table of a study of hyperparameters; figures lie beside it."""
        return self.root / "study" / f"{name}.tsv"

    def training_page(self, name: str) -> Path:
        """HTML page of a model's training; it shows volumes, so it stays with the data."""
        return self.root / f"training_{name}.html"

    # --- templates ----------------------------------------------------------------------------------------------

    def template_image(self, name: str) -> Path:
        """Copy of a template brain that is not part of the program."""
        return self.root / f"tpl-{name}" / f"tpl-{name}_desc-brain_T1w.nii.gz"

    def template_mask(self, name: str) -> Path:
        """Brain mask of that template."""
        return self.root / f"tpl-{name}" / f"tpl-{name}_desc-brain_mask.nii.gz"

    def places(self, scans: Iterable[Scan]) -> list[Path]:
        """Folders that a run with these scans writes into."""
        group = self.group_figures.parent
        places = [self.root, self.root / FOLDER, self.root / "logs", group, *map(group.joinpath, ("figures", "maps"))]
        places += [self.study("x").parent, *self.models.glob("*"), *self.root.glob("tpl-*")]
        people = {scan.participant_id for scan in scans}
        places += [self.participant_figures(person) for person in people]
        return [*places, *{self.anat(scan) for scan in scans}]

    # --- the whole dataset --------------------------------------------------------------------------------------

    def run_log(self, run_id: str) -> Path:
        """Folder of one run's record."""
        return self.root / "logs" / run_id

    @property
    def citation(self) -> Path:
        """Methods text and references, for a paper."""
        return self.root / "logs" / "CITATION.md"

    @property
    def qc_table(self) -> Path:
        """Quality numbers of every scan, and the decisions of the reviewer."""
        return self.root / "qc.tsv"

    @property
    def qc_page(self) -> Path:
        """HTML page of the quality of all scans."""
        return self.root / "qc.html"

    @property
    def group_page(self) -> Path:
        """HTML page of the group level."""
        return self.root / "group.html"

    def group_table(self, name: str) -> Path:
        """Table of the group level: ``brainage``, ``accuracy``, ``correlations``, ..."""
        return self.root / "group" / f"{name}.tsv"

    @property
    def bias_correction(self) -> Path:
        """Age-bias lines of the group level."""
        return self.root / "group" / "biascorrection.json"

    @property
    def group_figures(self) -> Path:
        """Folder of the group level's figures."""
        return self.root / "group" / "figures"

    def group_map(self, spec: VolumeSpec, model: str, subset: str, kind: str, apart: bool = False) -> Path:
        """Mean Grad-RAM map of a subset (``age=[20,40)``, ``group=AD``, ``sex=F``); ``kind`` ``mean`` or ``signed``.

        Labels hold letters and digits only; ``apart`` adds a hash that distinguishes ``MCI+`` from ``MCI-``.
        """
        label = model_label(subset.replace("inf", "up"))
        label += hashlib.sha256(f"{model} {subset}".encode()).hexdigest()[:6] if apart else ""
        return (
            self.root
            / "group"
            / "maps"
            / f"space-{spec.template}_res-{spec.res_label}_desc-gradram{model_label(model)}{label}{kind.capitalize()}"
            "_saliency.nii.gz"
        )
