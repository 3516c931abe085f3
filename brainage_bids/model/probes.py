"""How well an encoder's features tell the age, asked in two simple ways; for information while it trains."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 5


def ridge_probe(features: np.ndarray, ages: np.ndarray, wanted: np.ndarray, strength: float = 0.1) -> np.ndarray:
    """Predict ages (years) for ``wanted`` (m, F) by ridge regression from ``features`` (n, F) and ``ages`` (n,).

    The penalty is ``strength`` times the mean squared length of a centred feature vector.
    """
    centre, mean = features.mean(0), ages.mean()
    x = features - centre
    kernel = x @ x.T
    penalty = strength * max(np.trace(kernel) / len(x), 1e-12)
    return (wanted - centre) @ (x.T @ np.linalg.solve(kernel + penalty * np.eye(len(x)), ages - mean)) + mean


def knn_probe(features: np.ndarray, ages: np.ndarray, wanted: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Predict ages (years) for ``wanted`` (m, F) as the mean age of the ``k`` nearest of ``features`` (n, F)."""
    distances = np.linalg.norm(wanted[:, None] - features[None], axis=2)  # (m, n)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return ages[nearest].mean(1)
