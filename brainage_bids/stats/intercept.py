"""A faster version of statsmodels' mixed model for one random intercept.

`MixedLM` loops over the people at every step of the search, which takes seconds for thousands of people. With only a
random intercept, V = I + q 11' for each person, and everything follows from sums per person. The search, tests and
results are those of statsmodels.
"""

from __future__ import annotations

import numpy as np
from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams


class RandomIntercept(MixedLM):
    """`MixedLM` with one random intercept per person, without variance components and penalties, fitted by REML.

    Parameters
    ----------
    endog
        ``(n,)`` outcome.
    exog
        ``(n, k)`` fixed effects.
    groups
        ``(n,)`` person of each row.
    """

    def __init__(self, endog: np.ndarray, exog, groups: np.ndarray) -> None:
        super().__init__(endog, exog, groups=groups)
        _, person = np.unique(np.asarray(groups), return_inverse=True)
        data = np.column_stack([self.exog, self.endog])  # (n, k + 1)
        self._size = np.bincount(person).astype("float64")  # (people,)
        self._sums = np.column_stack([np.bincount(person, column) for column in data.T])  # (people, k + 1)
        self._total = data.T @ data

    def _weighted(self, weight: np.ndarray) -> np.ndarray:
        return self._sums.T @ (weight[:, None] * self._sums)

    def _inner(self, inverse: float) -> np.ndarray:
        """Return Z' V^-1 Z of Z = (exog, endog); V^-1 = I - 11' / (size + 1 / q) in each person (Woodbury)."""
        return self._total - self._weighted(1.0 / (self._size + inverse))

    def get_fe_params(self, cov_re, vcomp, tol=1e-10):
        """Return the fixed effects for a variance of the intercept, and whether this variance is 0."""
        q = float(np.squeeze(cov_re))
        singular = q < tol
        both = self._inner(0.0 if singular else 1.0 / q)
        solve = np.linalg.pinv(both[:-1, :-1]).__matmul__ if singular else lambda y: np.linalg.solve(both[:-1, :-1], y)
        return solve(both[:-1, -1]), singular

    def loglike(self, params, profile_fe=True):
        """Return the profile REML log-likelihood."""
        params, q, inverse = self._unpacked(params, has_fe=False)
        beta = params.fe_params
        if profile_fe:
            beta, singular = self.get_fe_params(params.cov_re, params.vcomp)
            self._cov_sing += int(singular)
        both, contrast, df = self._inner(inverse), np.append(-beta, 1.0), self.n_totobs - self.k_fe
        with np.errstate(divide="ignore"):
            value = -np.sum(np.log(self._size + inverse) + np.log(q)) / 2.0
        value -= df * np.log(contrast @ both @ contrast) / 2.0 + np.linalg.slogdet(both[:-1, :-1])[1] / 2.0
        return value + df * (np.log(df) - np.log(2 * np.pi) - 1.0) / 2.0

    def score_full(self, params, calc_fe):
        """Return the derivatives with respect to the fixed effects and the variance of the intercept."""
        _, _, inverse = self._unpacked(params)
        both, first, _ = self._derivatives(inverse)
        contrast, df = np.append(-params.fe_params, 1.0), self.n_totobs - self.k_fe
        rvir = contrast @ both @ contrast
        fixed = df * (both @ contrast)[:-1] / rvir if calc_fe else np.zeros(self.k_fe)
        change = -0.5 * np.sum(self._size * inverse / (self._size + inverse))
        change += 0.5 * df * (contrast @ first @ contrast) / rvir
        change += 0.5 * np.trace(np.linalg.solve(both[:-1, :-1], first[:-1, :-1]))
        return fixed, np.array([change]), np.zeros(0)

    def hessian(self, params):
        """Return the second derivatives (fixed effects, then the variance), and whether the variance is 0."""
        params, q, inverse = self._unpacked(params, has_fe=True)
        both, first, second = self._derivatives(inverse)
        contrast, df, own = np.append(-params.fe_params, 1.0), self.n_totobs - self.k_fe, both[:-1, :-1]
        rvir, squared = contrast @ both @ contrast, contrast @ first @ contrast
        turned = np.linalg.solve(own, first[:-1, :-1])
        result = np.empty((self.k_fe + 1, self.k_fe + 1))
        result[:-1, :-1] = -df * own / rvir
        result[-1, :-1] = result[:-1, -1] = -df * (first @ contrast)[:-1] / rvir
        result[-1, -1] = np.sum((self._size * inverse / (self._size + inverse)) ** 2) / 2.0
        result[-1, -1] -= df * (contrast @ second @ contrast / rvir - (squared / rvir) ** 2 / 2.0)
        result[-1, -1] += np.trace(turned @ turned) / 2.0 - np.trace(np.linalg.solve(own, second[:-1, :-1]))
        return result, q == 0.0

    def _derivatives(self, inverse: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Z' V^-1 Z, Z' V^-1 11' V^-1 Z and Z' V^-1 11' V^-1 11' V^-1 Z of Z = (exog, endog)."""
        weight = inverse / (self._size + inverse)  # 1' V^-1 = weight 1'
        return self._inner(inverse), self._weighted(weight**2), self._weighted(self._size * weight**3)

    def _unpacked(self, params, has_fe: bool = False) -> tuple[MixedLMParams, float, float]:
        if type(params) is not MixedLMParams:
            params = MixedLMParams.from_packed(params, self.k_fe, self.k_re, self.use_sqrt, has_fe=has_fe)
        q = float(np.squeeze(params.cov_re))
        return params, q, 0.0 if q == 0.0 else 1.0 / q
