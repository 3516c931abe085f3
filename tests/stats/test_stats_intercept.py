"""The mixed model summed over all people at once is statsmodels' own, that walks through them one by one."""

import warnings

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams

from brainage_bids.stats.intercept import RandomIntercept


def study(people, seed, intercept_sd):
    """Return outcome, design and person of two to four scans a person, in random order."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), rng.integers(2, 5, people))
    time, case = rng.uniform(0, 4, person.size), (rng.random(people) < 0.4)[person] * 1.0
    design = pd.DataFrame({"intercept": 1.0, "time": time, "case": case, "both": time * case})
    own = intercept_sd * rng.normal(0, 1, people)[person]
    outcome = 1 + 0.3 * time + 2 * case + 0.5 * time * case + own + rng.normal(0, 2, person.size)
    order = rng.permutation(person.size)
    return outcome[order], design.iloc[order].reset_index(drop=True), np.array([f"sub-{i}" for i in person])[order]


@pytest.mark.parametrize(
    ("people", "seed", "intercept_sd"),
    [(12, 0, 3.0), (60, 1, 4.0), (60, 2, 0.0), (30, 5, 0.0), (200, 3, 0.5)],  # 30, 5: the variance ends at 0
)
def test_fit_is_that_of_statsmodels(people, seed, intercept_sd):
    outcome, design, person = study(people, seed, intercept_sd)
    fits, said = [], []
    for model in (MixedLM(outcome, design, groups=person), RandomIntercept(outcome, design, person)):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            fits.append(model.fit(reml=True))
        said.append({warning.category for warning in heard})
    slow, fast = fits
    for name in ("fe_params", "bse_fe", "scale", "llf"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-10, err_msg=name)
    np.testing.assert_allclose(fast.cov_re, slow.cov_re, rtol=1e-8, atol=1e-10)
    assert fast.converged == slow.converged
    assert said[0] == said[1]


@pytest.mark.parametrize("variance", [1e-12, 1e-6, 0.3, 9.0])
def test_likelihood_and_its_derivatives_are_those_of_statsmodels(variance):
    outcome, design, person = study(25, 4, 2.0)
    slow, fast = MixedLM(outcome, design, groups=person), RandomIntercept(outcome, design, person)
    for model in (slow, fast):
        model.fit(reml=True)  # says that it is REML
    point = MixedLMParams.from_components(fe_params=np.array([0.5, 0.2, 1.0, 0.4]), cov_re=np.array([[variance]]))
    for profiled in (True, False):
        assert fast.loglike(point, profiled) == pytest.approx(slow.loglike(point, profiled), rel=1e-10)
    for got, expected in zip(fast.score_full(point, True), slow.score_full(point, True), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)
    if variance != 1e-12:  # there the slow one takes 1 from 1
        np.testing.assert_allclose(fast.hessian(point)[0], slow.hessian(point)[0], rtol=1e-8, atol=1e-8)
    fixed, singular = fast.get_fe_params(point.cov_re, point.vcomp)
    assert singular == (variance < 1e-10) == slow.get_fe_params(point.cov_re, point.vcomp)[1]
    np.testing.assert_allclose(fixed, slow.get_fe_params(point.cov_re, point.vcomp)[0], rtol=1e-7, atol=1e-9)
