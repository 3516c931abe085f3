"""Studies without any disease, patients older than controls: the primary tests stay quiet, the raw ones do not."""

import numpy as np
import pandas as pd
import pytest

from brainage_bids.stats.correlate import correlation, partial_correlation
from brainage_bids.stats.groups import ancova, welch

STUDIES = 150


def people(rng, n, youngest):
    age = rng.uniform(youngest, 90, n)
    gap = -0.15 * (age - 50) + rng.normal(0, 5, n)  # regression dilution, nothing else
    score = 14 + 0.6 * (age - 75) + 6 * rng.gamma(2, 1, n)
    return pd.DataFrame({"age": age, "sex": rng.choice(["F", "M"], n), "bag_m": gap, "adas11": np.clip(score, 0, 70)})


@pytest.fixture(scope="module")
def found():
    """Share of studies with p < 0.05, by test."""
    rows = []
    for study in range(STUDIES):
        rng = np.random.default_rng([20261121, study])
        case, control = people(rng, 61, 60), people(rng, 149, 20)
        rows.append(
            {
                "raw": welch(case["bag_m"], control["bag_m"])["p"],
                "ancova": ancova(case, control, "bag_m", ("age", "sex"))["p"],
                "raw r": correlation(case["bag_m"], case["adas11"])["p"],
                "partial r": partial_correlation(case["bag_m"], case["adas11"], case[["age", "sex"]])["p"],
            }
        )
    return (pd.DataFrame(rows) < 0.05).mean()


def test_age_alone_is_a_finding_of_the_raw_tests_only(found):
    # of 150 studies at 5 %, 1 to 18 lie in the 99.9 % range
    assert found["raw"] > 0.8
    assert 1 / STUDIES <= found["ancova"] <= 18 / STUDIES
    assert found["raw r"] > 2 * found["partial r"]
    assert 1 / STUDIES <= found["partial r"] <= 18 / STUDIES
