"""The classical yardstick: principal components of the voxels and ridge regression, collapsed into one weight a voxel.

A network must beat it to earn its keep. Knows volumes and ages; knows nothing of training loops. Principal components
and ridge are scikit-learn's; both are linear, so the fitted model is a map of weights, its age a sum over voxels, and
its Grad-RAM map the terms of that sum.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from brainage_bids.model.network import BrainNetwork

STRENGTHS = np.logspace(-4, 3, 29)  # of the penalty, in multiples of the mean variance of a component


class LinearMap(BrainNetwork):
    """``age = bias + sum over voxels of weight x intensity``, in the form that every network here has.

    Parameters
    ----------
    shape
        Voxels of a volume.

    Attributes
    ----------
    weight
        Years per unit of intensity, ``(D, H, W)``.
    """

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__(1, total_stride=1)
        self.weight = nn.Parameter(torch.zeros(shape))
        nn.init.ones_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def last_stage(self, x: Tensor) -> Tensor:
        """Return each voxel's term, times their number, which the pooling divides by: ``(B, 1, D, H, W)``."""
        return x * self.weight * self.weight.numel()

    @torch.no_grad()
    def fit(self, volumes: np.ndarray, ages: np.ndarray, components: int = 0) -> float:
        """Fit to ``(n, D, H, W)`` volumes and their ages (years); return the chosen strength of the penalty.

        The strength is chosen by leaving one of these people out at a time; nobody else is looked at.

        Parameters
        ----------
        volumes, ages
            One volume per person.
        components
            Principal components kept; 0 keeps all.
        """
        flat = np.asarray(volumes, dtype=np.float32).reshape(len(volumes), -1)
        pca = PCA(min(components or len(flat) - 1, len(flat) - 1), svd_solver="full")
        scores = pca.fit_transform(flat).astype(np.float64)
        unit = scores.var(0).mean() * len(scores)
        ridge = RidgeCV(alphas=STRENGTHS * unit, scoring="neg_mean_absolute_error").fit(scores, ages)
        weight = ridge.coef_ @ pca.components_.astype(np.float64)
        self.weight.copy_(torch.from_numpy(weight.reshape(self.weight.shape)))
        self.head.bias.fill_(float(ridge.intercept_ - weight @ pca.mean_))
        return float(ridge.alpha_ / unit)
