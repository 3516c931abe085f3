"""The options of the two levels. The command line makes them; they are stored with the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brainage_bids.bids.read import Dataset, DatasetQuery
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.preprocess.preprocess_options import PreprocessOptions


@dataclass(frozen=True)
class ParticipantOptions:
    """Options of the participant level."""

    query: DatasetQuery
    output_dir: Path
    preprocess: PreprocessOptions
    model: ModelOptions
    models: tuple[str, ...] = ()
    template: str | None = None
    resolution: float = 1.0  # mm, of the volumes if neither a recipe nor a model sets it
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
    """Options of the group level."""

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
        """Return the scores to correlate with the gap: all except those used as covariates."""
        return [name for name in dataset.score_names if name not in self.covariates]
