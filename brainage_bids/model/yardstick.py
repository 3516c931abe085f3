"""The yardstick of a fold: the linear map of `linear`, fitted in one step, without stages and epochs."""

from __future__ import annotations

import logging
import time

import numpy as np
from torch import Tensor

from brainage_bids.model.dataset import open_volumes
from brainage_bids.model.folds import Fold
from brainage_bids.model.linear import LinearMap

LOG = logging.getLogger("brainage_bids")


def fit_linear(fold: Fold) -> tuple[dict[str, Tensor], list[dict]]:
    """Fit the yardstick to the first scan of each training person; return its weights and its history of one row."""
    begin = time.monotonic()
    volumes, data = open_volumes(fold.data.volumes), fold.data
    model = LinearMap(volumes.shape[1:])  # beside a network it reads the network's box
    train = np.array([rows[0] for rows in data.train])
    ridge, voxel = fold.recipe.ridge, fold.recipe.volume.resolution  # mm
    smoothing = ridge.smoothing / voxel
    strength = model.fit(volumes[train], data.ages[train], ridge.components, smoothing, ridge.ignore_contrast)
    errors = []  # mean absolute, years
    for rows in (train, data.val):
        predicted = [model.predict(volumes[row]) for row in rows]
        errors.append(float(np.abs(np.array(predicted) - data.ages[rows]).mean()))
    row = {"member": fold.name, "stage": "fit", "epoch": 1, "lr": None, "loss": errors[0], "loss_excess": None}
    row |= {"val_mae": errors[1], "val_mae_knn": None, "seconds": round(time.monotonic() - begin, 3)}
    LOG.info("%s: strength of the penalty %.3g times the variance", fold.name, strength)
    fold.report(row)
    return model.state_dict(), [row]
