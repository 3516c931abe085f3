"""The public Python functions: they take paths and tables, and return tables, arrays and paths.

Each calls the same code as the command line; nothing is computed here. Importing this module loads nothing heavy.
`brainage_bids` exports these functions together with the statistics (`brainage_bids.stats`) and the contrastive loss.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainage_bids.errors import BadDataError, NoInputError, ParticipantsFailed, UsageError, shorten
from brainage_bids.schema import DEFAULT_SEED

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from brainage_bids.model.network import BrainNetwork
    from brainage_bids.model.predict import BrainAgeModel

LOG = logging.getLogger("brainage_bids")
RESOLUTION_MM = (0.5, 16.0)
WORK = "work"  # folder of an unfinished training in its model folder
BY_MODEL = ("predicted_age", "predicted_age_sd", "bag", "bag_corrected", "pred_lo", "pred_hi", "flags")


def read_dataset(
    bids_dir: str | Path,
    *,
    participants: Sequence[str] = (),
    exclude_participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    age_column: str | Sequence[str] = (),
    sex_column: str | Sequence[str] = (),
    group_column: str | None = None,
    controls: Sequence[str] = (),
    scores: Sequence[str] = (),
    t1w_suffix: str = "T1w",
    derivatives: Sequence[str] = (),
    skip_validation: bool = False,
) -> pd.DataFrame:
    """Read a BIDS dataset: every T1w image, and what the tables say about the person on that day.

    No image is opened.

    Parameters
    ----------
    bids_dir
        Folder of the dataset.
    participants, exclude_participants, sessions
        Labels with or without ``sub-`` or ``ses-``; empty takes all.
    age_column, sex_column
        ``FILE:COLUMN`` (ages: also ``FILE:COLUMN:UNIT``) if the columns do not have a usual name.
    group_column
        Column of the diagnosis; None looks for a usual name.
    controls
        Labels of the healthy controls; empty looks for the usual ones.
    scores
        ``NAME=FILE:COLUMN`` of further clinical scores; usual ones are recognised.
    t1w_suffix
        ``UNIT1`` takes the MP2RAGE image of people without a T1w image.
    derivatives
        ``NAME=PATH`` of fMRIPrep or a similar pipeline; its images are used instead of the raw ones.
    skip_validation
        Accept a dataset without a usable ``dataset_description.json``.

    Returns
    -------
    pandas.DataFrame
        One row per scan: ``participant_id session_id run prefix path age age_source age_flags sex group site family``
        and a column per score; ages in years. ``attrs`` holds ``name`` and ``dataset`` (None without a Name),
        ``group_column``, ``controls``, ``notes`` (which columns were used) and ``faults`` (warnings of the dataset).

    Raises
    ------
    InvalidDatasetError
        When the dataset has errors that could make results wrong; the message lists all of them.
    NoInputError, UsageError, NothingSelectedError
        When a file, label or column given here does not exist, or no scan is left.

    Examples
    --------
    >>> from brainage_bids import read_dataset
    >>> from brainage_bids.phantom.cohort import make_cohort
    >>> bids = make_cohort("phantom", n=6, voxel_mm=8, progress=False)
    >>> scans = read_dataset(bids, participants=["001", "002"])
    >>> scans[["participant_id", "sex", "group"]]
      participant_id sex group
    0        sub-001   F    CN
    1        sub-002   F    AD
    """
    from brainage_bids.app.api_tables import dataset_query, described_scans
    from brainage_bids.bids.read import raise_on_errors, say_faults
    from brainage_bids.bids.read import read_dataset as read

    query = dataset_query(
        bids_dir, participants=participants, exclude_participants=exclude_participants, sessions=sessions,
        age_column=age_column, sex_column=sex_column, group_column=group_column, controls=controls, scores=scores,
        t1w_suffix=t1w_suffix, derivatives=derivatives, skip_validation=skip_validation,
    )  # fmt: skip
    dataset = read(query)
    say_faults(dataset, groups=False)
    raise_on_errors(dataset)
    return described_scans(dataset)


def preprocess(
    bids_dir: str | Path,
    output_dir: str | Path,
    *,
    resolution: float | None = None,
    model: str | Path | None = None,
    recipe: str | Path | None = None,
    engine: str = "builtin",
    nprocs: int = 1,
    device: str = "auto",
    work_dir: str | Path | None = None,
    rerun: bool = False,
    progress: bool = False,
    **selection: Any,
) -> pd.DataFrame:
    """Make the brain volumes of a dataset: mask, bias field, affine to the template, intensities from 0 to 1.

    Volumes that the same engine made earlier from the same image are kept. This does the same as the command
    ``brainage-bids BIDS_DIR OUTPUT_DIR participant --preprocess-only`` and writes the same files.

    Parameters
    ----------
    bids_dir
        Folder of the dataset.
    output_dir
        Folder for all results.
    resolution
        Voxel size of the volumes, mm (0.5 to 16); 1 without a model or recipe.
    model, recipe
        Instead of ``resolution``: the model (name or folder) or the recipe to make the volumes for.
    engine
        ``builtin``, ``ants``, ``fsl`` or ``minc``.
    nprocs
        Scans processed at the same time. If more than 1, a script needs ``if __name__ == "__main__":`` around the call.
    device
        ``auto`` or ``cpu``.
    work_dir
        Folder for intermediate files; None takes ``output_dir/work``.
    rerun
        Make existing volumes again.
    progress
        Show a progress bar.
    **selection
        Other arguments of `read_dataset`: ``participants``, ``age_column`` and so on.

    Returns
    -------
    pandas.DataFrame
        The table of `read_dataset` with, for every scan: ``status`` (``done``; ``skipped``: existed already;
        ``failed``), ``step`` and ``reason`` of a failure, ``volume`` and ``mask`` (paths; None when it failed), and
        ``qc_pass`` (the gates of image quality, or the decision of a person in ``qc.tsv``; None when it failed).

    Raises
    ------
    BrainageError
        When the dataset, an argument or the disk makes the run impossible. A failed scan raises nothing.

    Notes
    -----
    Source: section 2.2 of arXiv 2511.22102; docs/methods.md explains how we understood it.

    Examples
    --------
    The dataset is the phantom of `read_dataset`.

    >>> from brainage_bids import preprocess
    >>> scans = preprocess("phantom", "derivatives", resolution=4)
    >>> scans[["participant_id", "status", "qc_pass"]].head(2)
      participant_id status qc_pass
    0        sub-001   done    True
    1        sub-002   done    True
    """
    from brainage_bids.app.api_tables import absolute, dataset_query, with_volumes
    from brainage_bids.app.options import ParticipantOptions
    from brainage_bids.app.participant import run_participant
    from brainage_bids.app.plan import make_plan
    from brainage_bids.bids.outputs import Outputs
    from brainage_bids.bids.read import read_dataset as read
    from brainage_bids.model.model_options import ModelOptions
    from brainage_bids.preprocess.preprocess_options import PreprocessOptions

    grid = {"resolution": resolution, "model": model, "recipe": recipe}
    if len(given := [name for name, value in grid.items() if value is not None]) > 1:
        raise UsageError(f"{' and '.join(given)} each set the grid of the volumes; give only one of them")
    low, high = RESOLUTION_MM
    if resolution is not None and not low <= resolution <= high:
        raise UsageError(f"resolution is {resolution}; give a voxel size from {low:g} to {high:g} mm")
    if nprocs < 1:
        raise UsageError(f"nprocs is {nprocs}; give 1 or more")
    output, query = absolute(output_dir), dataset_query(bids_dir, **selection)
    work = output / "work" if work_dir is None else absolute(work_dir)
    options = ParticipantOptions(
        query=query,
        output_dir=output,
        preprocess=PreprocessOptions(work, engine, nprocs, device=device, rerun=rerun, progress=progress),
        model=ModelOptions(progress=progress),
        models=() if model is None else (str(model),),
        train=None if recipe is None else str(recipe),
        resolution=1.0 if resolution is None else float(resolution),
        preprocess_only=True,
        rerun=rerun,
        command="brainage_bids.preprocess",
    )
    try:
        run_participant(options)
    except ParticipantsFailed as error:
        LOG.warning("%s", error)
    return with_volumes(read(query), Outputs(output), make_plan(options, Outputs(output)).specs[0])


def train_model(
    scans: pd.DataFrame,
    recipe: str | Path,
    model_dir: str | Path,
    *,
    train_on: str | None = None,
    controls: Sequence[str] | None = None,
    folds: int | str | None = None,
    ensemble: int = 1,
    settings: Sequence[str] = (),
    epochs: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    seed: int = DEFAULT_SEED,
    progress: bool = False,
) -> Path:
    """Train a recipe on volumes and ages of healthy people, and write a model folder.

    People are divided at random into training, validation and held-out sets, by person and family, never by scan. An
    interrupted training continues. A finished one of the same people, volumes and settings is kept.

    Parameters
    ----------
    scans
        One row per scan: the table of `preprocess`, or your own with ``participant_id``, ``volume`` (path) and ``age``
        (years). The columns ``session_id run age_flags sex group site family qc_pass`` are used if present. Rows
        without volume or age, or with ``qc_pass`` False, are not used for training.
    recipe
        ``rnc-highrez``, ``resnet50-lowrez``, ``pca-ridge``, ... or a TOML file.
    model_dir
        The model folder. Its name should be the name of the model.
    train_on
        Query for the rows to train on, such as ``group == "CN" and age > 40``; None: the controls, or everyone if
        nobody has a ``group``.
    controls
        Labels of the healthy controls in ``group``; None takes those that `read_dataset` found.
    folds
        Train this many members. Each holds out one fold of the people, so that everybody is predicted out of fold. Or
        the name of a column of ``scans``, such as ``site``: one member for each of its values, trained without it.
    ensemble
        Train each member so many times, with other random numbers. Their mean is the predicted age, their SD
        ``predicted_age_sd``.
    settings
        Changed values of the recipe, each ``SECTION.KEY=VALUE``.
    epochs, batch_size
        Of the main stage; None takes those of the recipe.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
    seed
        Random seed of split, weights and augmentation.
    progress
        Show a progress bar.

    Returns
    -------
    pathlib.Path
        ``model_dir``, with ``model.json weights.safetensors history.tsv MODEL_CARD.md split.tsv``.

    Raises
    ------
    UsageError
        When a column or label is missing, the recipe is unknown, or the training diverges.
    BadDataError, NoInputError
        When there are too few people to train on, or a volume is missing or not the kind that the recipe needs.

    Notes
    -----
    Source: sections 2.3 and 2.4 of arXiv 2511.22102 (Rank-N-Contrast, then a linear head; or end to end with L1).

    Examples
    --------
    Six phantoms are enough for an example, not for a real training. ``pca-ridge`` is the quickest recipe.

    >>> from brainage_bids import preprocess, train_model
    >>> scans = preprocess("phantom", "derivatives", resolution=4)
    >>> folder = train_model(scans, "pca-ridge", "models/tiny", train_on="age > 0")
    >>> sorted(path.name for path in folder.iterdir())
    ['MODEL_CARD.md', 'history.tsv', 'model.json', 'split.tsv', 'weights.safetensors']
    """
    from brainage_bids.app.api_tables import absolute, many, training_table
    from brainage_bids.model.model_options import ModelOptions
    from brainage_bids.model.recipe_files import load_recipe
    from brainage_bids.model.train import train_model as train

    wanted = load_recipe(recipe, tuple(many(settings)))
    options = ModelOptions(
        device=device, batch_size=batch_size, epochs=epochs, folds=folds, ensemble=ensemble, seed=seed,
        progress=progress,
    )  # fmt: skip
    table, folder = training_table(scans, train_on, controls, folds), absolute(model_dir)
    known = {"model.json", WORK}
    if folder.exists() and not (folder.is_dir() and (known & set(os.listdir(folder)) or not any(folder.iterdir()))):
        raise UsageError(f"model_dir {shorten(folder)} holds something else than a model; give a new or empty folder")
    train(table, wanted, folder, folder / WORK, options)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return folder


def load_model(model: str | Path, *, device: str = "auto") -> BrainAgeModel:
    """Load a trained model.

    Parameters
    ----------
    model
        A model folder, or the name of a model that comes with the package (``open-adults``).
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Returns
    -------
    brainage_bids.model.predict.BrainAgeModel
        Has ``name``, ``spec`` (the volume it needs), ``networks`` (fold name -> network) and ``card`` (content of
        ``model.json``: how it was trained).

    Raises
    ------
    NoInputError
        When there is no such folder or name, or one of its files is missing.
    BadDataError
        When a file is broken, or the files do not fit together.

    Examples
    --------
    >>> from brainage_bids import load_model
    >>> model = load_model("open-adults", device="cpu")
    >>> model.spec.resolution, model.spec.shape  # mm, voxels
    (4.0, (48, 57, 48))
    >>> model.card["training"]["n"]
    71
    """
    from brainage_bids.app.models import BUNDLED, bundled_models
    from brainage_bids.model.predict import load_model as load

    folder = Path(model).expanduser()
    if not folder.is_dir():
        if str(model) not in bundled_models():
            names = ", ".join(bundled_models()) or "none"
            raise NoInputError(
                f"model {shorten(model)!r} is neither a folder nor a model that comes with the package ({names}); give "
                "the folder that holds its model.json"
            )
        folder = BUNDLED / str(model)
    return load(folder, device)


def predict(
    model: BrainAgeModel,
    volumes: pd.DataFrame | Sequence[str | Path],
    *,
    participant_ids: Sequence[str] | None = None,
    ages: Sequence[float] | None = None,
    dataset: str | None = None,
    by_model: bool = False,
) -> pd.DataFrame:
    """Predict the age of the brain in every volume.

    A person held out by one member of the model is predicted by that member only. People used for training or
    validation are marked, and `select_rows` leaves them out of every test. So the model needs to know whose each
    volume is.

    Parameters
    ----------
    model
        From `load_model`.
    volumes
        The table of `preprocess` (or another with ``participant_id`` and ``volume``, and ``age`` in years if known),
        or the paths of volumes made for this model.
    participant_ids
        Participant of each path; None reads them from file names that start with ``sub-``.
    ages
        Age for each path, years; None: not known, and no gap is computed.
    dataset
        Name of the dataset of these people; None takes that of the table. Without any name, equal labels count as the
        same person.
    by_model
        Add the name of the model to the columns (``predicted_age_<model>`` and so on), as the statistics need it.

    Returns
    -------
    pandas.DataFrame
        The given rows in the same order, with ``model``; in years, ``predicted_age``, ``bag`` (predicted minus true
        age), ``bag_corrected`` (age bias removed with the line of the model's held-out people) and ``pred_lo pred_hi``
        (95 % conformal interval); ``flags`` (separated by semicolons), ``in_training`` (1 or 0), ``status`` and
        ``reason``. A volume that cannot be predicted keeps its row, with status ``failed`` and the reason.

    Raises
    ------
    UsageError
        When a column is missing, lengths differ, or the participant of a volume is not known.

    Notes
    -----
    Source: section 2.5 of arXiv 2511.22102 for the gap; `correct_with_calibration` for the corrected one.

    Examples
    --------
    >>> from brainage_bids import load_model, predict, preprocess
    >>> scans = preprocess("phantom", "derivatives", resolution=4)
    >>> model = load_model("open-adults", device="cpu")
    >>> people = predict(model, scans)
    >>> people[["participant_id", "model", "in_training", "status"]].head(2)
      participant_id        model  in_training   status
    0        sub-001  open-adults            0  skipped
    1        sub-002  open-adults            0  skipped
    >>> people["bag"].equals(people["predicted_age"] - people["age"])  # years
    True
    >>> predict(model, scans["volume"].tolist(), ages=scans["age"])["bag"].equals(people["bag"])
    True
    """
    from brainage_bids.app.api_tables import predicted, volumes_table

    table = volumes_table(volumes, participant_ids, ages)
    result = predicted(model, table, table.attrs.get("dataset") if dataset is None else dataset)
    if by_model:
        result = result.drop(columns="model").rename(columns={name: f"{name}_{model.name}" for name in BY_MODEL})
    return result


def gradram(
    model: BrainAgeModel | BrainNetwork,
    volume: str | Path | np.ndarray,
    *,
    participant_id: str | None = None,
    dataset: str | None = None,
) -> tuple[float, np.ndarray]:
    """Return the predicted age of one volume and its Grad-RAM map: the years that each cell adds to that age.

    The map is signed, not rectified and not scaled. Its sum plus the bias of the last layer is the predicted age.

    Parameters
    ----------
    model
        From `load_model`; or your own network in evaluation mode (see `brainage_bids.model.explain.gradram`).
    volume
        Path of a volume made for this model, or its values ``(X, Y, Z)``, RAS+: all, or those that the model reads.
    participant_id
        Participant of the volume; None reads it from a file name that starts with ``sub-``. A model with several folds
        needs it, because it uses the member that held this person out.
    dataset
        As in `predict`.

    Returns
    -------
    age
        Predicted age, years.
    map
        ``(x, y, z)`` float32, years per cell, on the grid of the last stage. Its affine is
        `brainage_bids.model.explain.map_affine`.

    Raises
    ------
    UsageError
        When the model has several folds and the participant is not known.
    BadDataError, NoInputError
        When the volume does not exist, or is not the kind that this model needs.

    Notes
    -----
    Source: section 2.6 of arXiv 2511.22102; Selvaraju et al. 2017, equations 1 and 2, without the final ReLU.

    Examples
    --------
    >>> from brainage_bids import gradram, load_model, predict, preprocess
    >>> scans = preprocess("phantom", "derivatives", resolution=4)
    >>> model = load_model("open-adults", device="cpu")
    >>> age, cells = gradram(model, scans["volume"][0])
    >>> cells.shape
    (48, 57, 48)
    >>> bool(abs(age - predict(model, scans)["predicted_age"][0]) < 1e-4)
    True
    """
    from brainage_bids.app.api_tables import participant_label, person_of
    from brainage_bids.model.dataset import load_volume
    from brainage_bids.model.explain import gradram as of_network
    from brainage_bids.model.predict import BrainAgeModel, folds_for, predict_volume

    if not isinstance(model, BrainAgeModel):
        return of_network(model, volume)
    is_path = isinstance(volume, str | Path)
    person = person_of(volume) if participant_id is None and is_path else participant_id
    if person is None and len(model.networks) > 1:
        raise UsageError(
            f"the model {model.name} has {len(model.networks)} members, and the one that held the person out explains "
            "the volume; give the participant_id"
        )
    values = load_volume(volume, model.spec) if is_path else volume
    if values.shape == model.spec.shape:
        values = values[model.spec.slices]
    if values.shape != model.spec.cropped.shape:
        raise BadDataError(
            f"the volume has shape {values.shape}, but the model {model.name} needs {model.spec.shape} "
            f"({model.spec.resolution:g} mm); preprocess the scan for this model"
        )
    folds = list(model.networks) if person is None else folds_for(model, participant_label(person), dataset)[0]
    return predict_volume(model, values.astype("float32", copy=False), folds)
