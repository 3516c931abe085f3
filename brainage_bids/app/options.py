"""What the two levels were asked to do; made by the command line, kept with the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.read import Dataset, DatasetQuery
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.preprocess.preprocess_options import PreprocessOptions


@dataclass(frozen=True)
class ParticipantOptions:
    """What the participant level was asked to do."""

    query: DatasetQuery
    output_dir: Path
    preprocess: PreprocessOptions
    model: ModelOptions
    models: tuple[str, ...] = ()
    template: str | None = None
    resolution: float = 1.0  # mm, of volumes that neither a recipe nor a model asks for
    train: str | None = None
    train_on: str | None = None
    preprocess_only: bool = False
    train_only: bool = False
    dry_run: bool = False
    rerun: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    clean_workdir: bool = False
    command: str = "brainage-bids"


@dataclass(frozen=True)
class GroupOptions:
    """What the group level was asked to do."""

    query: DatasetQuery
    output_dir: Path
    models: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ("age", "sex")
    bias_fit: str = "model"
    bias_query: str | None = None
    bias_method: str = "beheshti"
    session_select: str = "first"
    atlas: str = "aal2"
    saliency_threshold: float = 0.8
    seed: int = 0
    dry_run: bool = False
    command: str = "brainage-bids"

    def scores(self, dataset: Dataset) -> list[str]:
        """Return the scores that are correlated with the gap: all but those that are held constant."""
        return [name for name in dataset.score_names if name not in self.covariates]
