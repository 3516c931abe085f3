"""The Rank-N-Contrast loss, its lower bound, and the L1 loss in years.

Written from the formula in the paper (arXiv 2511.22102, section 2.4.2, the loss of an anchor and its mean over all
anchors; Zha et al. 2023, equations 1-2).
"""

from __future__ import annotations

import torch
from torch import Tensor


def rank_n_contrast(features: Tensor, ages: Tensor, temperature: float = 2.0) -> Tensor:
    """Return the mean Rank-N-Contrast loss over all ordered pairs of the 2N views.

    For anchor i and positive j the term is ``-log(exp(s_ij) / sum_k exp(s_ik))`` over every k != i whose age is at
    least as far from the anchor's as j's is; ``s`` is the negative Euclidean distance over the temperature. All
    denominators of an anchor are read off one cumulative logsumexp over its views sorted by age distance, farthest
    first: O(n log n) per anchor, O(n^2) memory. The arithmetic is float64, so that it is finite for any finite
    float32 feature; the gradient at distance zero is zero.

    Parameters
    ----------
    features
        Two views per person, ``(N, 2, D)``, not normalised.
    ages
        Years, ``(N,)``; compared as whole hundredths of a year, so that equal distances tie exactly.
    temperature
        Divides the distances.

    Returns
    -------
    Tensor
        Scalar, float64 for float64 features, else float32.

    Raises
    ------
    ValueError
        When the shapes do not fit or the temperature is not positive.

    Notes
    -----
    Source: both equations of section 2.4.2 of arXiv 2511.22102; Zha et al. 2023, equations 1 and 2.

    Examples
    --------
    Features that lie in the order of the ages cost less than the same features in another order.

    >>> import torch
    >>> from brainage_bids import rank_n_contrast
    >>> ages = torch.tensor([20.0, 40.0, 60.0])  # years
    >>> features = ages.reshape(3, 1, 1).expand(3, 2, 1) / 10  # two views of each, one feature
    >>> bool(rank_n_contrast(features, ages) < rank_n_contrast(features[[1, 0, 2]], ages))
    True
    """
    if features.ndim != 3 or features.shape[1] != 2 or ages.shape != features.shape[:1] or features.shape[0] == 0:
        raise ValueError(
            f"features must be (N, 2, D) and ages (N,) with N > 0, not {tuple(features.shape)} and {tuple(ages.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, not {temperature}")
    views = torch.cat([features[:, 0], features[:, 1]]).to(torch.float64)  # (n, D), n = 2N
    order, last, _ = _rank_by_age_distance(ages.detach())
    similarity = (-_EuclideanDistance.apply(views) / temperature).gather(1, order)  # (n, n), farthest first, self last
    denominator = torch.logcumsumexp(similarity, dim=1).gather(1, last)  # (n, n)
    terms = (denominator - similarity)[:, :-1]  # (n, n - 1): without the anchor itself
    return terms.mean().to(features.dtype if features.dtype == torch.float64 else torch.float32)


def rank_n_contrast_floor(ages: Tensor) -> Tensor:
    """Return the lower bound that no features can pass: the mean log size of the tie groups.

    Two views of one person always tie, so the bound is positive; training logs the excess over it. Zha et al. 2023,
    theorem 1: ``1 / (2N (2N - 1)) * sum_i sum_m n_im log n_im``.

    Parameters
    ----------
    ages
        Years, ``(N,)``, N > 0.

    Returns
    -------
    Tensor
        Scalar, float64.
    """
    if ages.ndim != 1 or ages.shape[0] == 0:
        raise ValueError(f"ages must be (N,) with N > 0, not {tuple(ages.shape)}")
    _, last, first = _rank_by_age_distance(ages.detach())
    sizes = (last - first + 1)[:, :-1]  # (n, n - 1)
    return sizes.to(torch.float64).log().mean()


def l1_years(predicted: Tensor, ages: Tensor) -> Tensor:
    """Return the mean absolute error in years; both ``(N,)``."""
    return (predicted.float() - ages.float()).abs().mean()


def _rank_by_age_distance(ages: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank the 2N views around each anchor by age distance, farthest first and the anchor itself last.

    Returns ``order``, and for every rank the ``last`` and ``first`` rank of its tie group; all ``(2N, 2N)`` int64.
    """
    hundredths = torch.round(ages.to(torch.float64) * 100).to(torch.int64).repeat(2)  # (n,)
    nearness = -(hundredths[:, None] - hundredths[None, :]).abs()  # (n, n), <= 0
    nearness.fill_diagonal_(1)  # the anchor sorts behind every other view and ties with none
    nearness, order = nearness.sort(dim=1, stable=True)
    last = torch.searchsorted(nearness, nearness, right=True) - 1
    first = torch.searchsorted(nearness, nearness)
    return order, last, first


class _EuclideanDistance(torch.autograd.Function):
    """All pairwise distances ``(n, n)`` of ``(n, D)`` rows, without an ``(n, n, D)`` tensor in either direction.

    ``torch.cdist`` alone would do on the CPU, but its CUDA backward pass allocates ``(n, n, D)``.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        # The matmul form cancels for close points, so it is switched off.
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        ctx.save_for_backward(rows, distances)
        return distances

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        rows, distances = ctx.saved_tensors
        pull = torch.where(distances > 0, (grad + grad.T) / distances, 0.0)  # (n, n), zero at distance zero
        return rows * pull.sum(1, keepdim=True) - pull @ rows  # sum_j pull_ij (row_i - row_j), (n, D)
