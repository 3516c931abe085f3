"""The classical yardstick: principal components of smoothed voxels and ridge regression, as one weight a voxel.

A network must beat it to earn its keep. Principal components and Bayesian ridge (MacKay 1992: the strength that makes
the ages of the training people most likely) come from scikit-learn. Smoothing is linear, too, so the fitted model is a
map of weights, its age a sum over voxels, and its Grad-RAM map the terms of that sum.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import helmert
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from brainage_bids.model.network import BrainNetwork

FWHM = 2.3548200450309493
MAX_ITER, TOLERANCE = 10_000, 1e-6
TINY = np.finfo(np.float64).tiny
POWERS = 2**0.5, 2**-0.5  # of the intensities: grey matter much darker and much brighter against white


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
    def fit(
        self,
        volumes: np.ndarray,
        ages: np.ndarray,
        components: int = 0,
        smoothing: float = 0.0,
        ignore_contrast: bool = False,
    ) -> float:
        """Fit to ``(n, D, H, W)`` volumes and their ages (years); return the chosen strength of the penalty.

        The strength is chosen on these people alone, as is the direction that ``ignore_contrast`` takes out.

        Parameters
        ----------
        volumes, ages
            One volume per person.
        components
            Principal components kept; 0 keeps all.
        smoothing
            Full width at half maximum of the Gaussian that smooths the volumes first (voxels); 0 leaves them.
        ignore_contrast
            Give no weight to what the mean person's volume (intensities of 0 to 1) changes by when its contrast does:
            another scanner or sequence would else be read as years.

        Returns
        -------
        float
            Penalty over what all components of a person vary together (mean square).
        """
        sigma = smoothing / FWHM
        smooth = np.empty((len(volumes), *self.weight.shape), dtype=np.float32)
        change = np.zeros(self.weight.shape)  # float64
        for volume, made in zip(volumes, smooth, strict=True):
            volume = np.asarray(volume, dtype=np.float32)
            gaussian_filter(volume, sigma, output=made, mode="constant")
            if ignore_contrast:
                change += volume ** POWERS[0] - volume ** POWERS[1]
        flat = smooth.reshape(len(volumes), -1)
        change = gaussian_filter(change, sigma, mode="constant").ravel()
        if ignore_contrast:
            take_out(flat, change)
        from sklearn.decomposition import PCA  # a second to import, and only a training needs it

        pca = PCA(min(components or len(flat) - 1, len(flat) - 1), svd_solver="full")
        by_component, strength = most_likely_ridge(pca.fit_transform(flat), ages)
        weight = by_component @ pca.components_.astype(np.float64)
        if ignore_contrast:  # what rounding in single precision left of it
            weight -= weight @ change / max(change @ change, TINY) * change
        self.head.bias.fill_(float(np.mean(ages) - weight @ pca.mean_))
        # what weighs smoothed voxels weighs the voxels themselves after the same smoothing, which is symmetric
        weight = gaussian_filter(weight.reshape(self.weight.shape), sigma, mode="constant")
        self.weight.copy_(torch.from_numpy(weight))
        return strength


def take_out(values: np.ndarray, direction: np.ndarray) -> None:
    """Change rows ``(n, voxels)`` in place so that they no longer differ along a direction ``(voxels,)``."""
    length = np.linalg.norm(direction)
    if length == 0:
        return
    unit = (direction / length).astype(values.dtype)
    along = values @ unit
    for row, more in zip(values, along - along.mean(), strict=True):
        row -= more * unit


def most_likely_ridge(scores: np.ndarray, ages: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit ages to the components of people by the ridge whose strength makes the ages most likely.

    The mean age is unknown, too. It is taken out by contrasts between people, so that n people count as n - 1 values:
    as many as components, when all are kept. Counted as n, the last one would be fitted without error whatever the
    strength, and the most likely noise would be none (restricted likelihood, Patterson and Thompson 1971).

    Parameters
    ----------
    scores
        ``(n, components)``, mean 0.
    ages
        ``(n,)`` years.

    Returns
    -------
    tuple
        Years per unit of each component, ``(components,)``; and the penalty over what all components of a person vary
        together (mean square).
    """
    scores = np.asarray(scores, dtype=np.float64)
    unit, contrasts = np.sqrt(scores.var(axis=0).sum()), helmert(len(scores))  # (n - 1, n), orthonormal
    from sklearn.linear_model import BayesianRidge

    ridge = BayesianRidge(max_iter=MAX_ITER, tol=TOLERANCE, fit_intercept=False)
    ridge.fit(contrasts @ (scores / unit), contrasts @ np.asarray(ages, dtype=np.float64))
    return ridge.coef_ / unit, float(ridge.lambda_ / ridge.alpha_)
