"""Populations of ``simulation.py``: people with brain ages, scores, sessions, second scans and regional values.

Predicted age = 50 + 0.85 (age - 50) + residual (SD 5 years): regression dilution as published models show it, so the
raw gap of older people is negative in health. Draws only; nothing is tested here.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

SLOPE, CENTRE, SD = 0.85, 50.0, 5.0  # years
BETWEEN_MODELS = 0.7  # correlation of two models' residuals
CONTROLS = 149  # the paper's test set
REGIONS, AFFECTED = 116, 5


@dataclass(frozen=True)
class Population:
    """People of a study; effects in years.

    Patients are 60-90 years old, or normal with ``mean_age`` and SD 9, cut to 40-90. ``widening`` of the residual SD
    from 20 to 90 years (0.4: from 80 to 120 %). ``link``: correlation of both scores with the residual at equal age.
    """

    patients: int = 61
    mean_age: float | None = None
    heldout: int = 150
    widening: float = 0.0
    sex: float = 0.0
    site: float = 0.0
    effect: float = 0.0
    link: float = 0.0
    sd_b: float = SD  # residual SD of the second model, years

    def people(self, rng, n, patient):
        """Return ``n`` people as a table of numbers; ``male`` and ``place`` are 0/1, ``bag_true`` is free of age."""
        if not patient:
            age = rng.uniform(20, 90, n)
        elif self.mean_age is None:
            age = rng.uniform(60, 90, n)
        else:
            age = np.clip(rng.normal(self.mean_age, 9, n), 40, 90)
        male, place = rng.integers(0, 2, n), rng.integers(0, 2, n)
        z = rng.standard_normal(n)
        other = BETWEEN_MODELS * z + np.sqrt(1 - BETWEEN_MODELS**2) * rng.standard_normal(n)
        width = 1 + self.widening * ((age - 20) / 70 - 0.5)
        moved = self.sex * (male - 0.5) + self.site * (place - 0.5) + (self.effect if patient else 0)
        expected = CENTRE + SLOPE * (age - CENTRE)
        table = {"age": age, "male": male, "place": place}
        for name, sd, residual in (("a", SD, z), ("b", self.sd_b, other)):
            table[f"predicted_age_{name}"] = expected + moved + sd * width * residual
            table[f"bag_{name}"] = table[f"predicted_age_{name}"] - age
        table["bag_true"] = table["bag_a"] - (expected - age)
        rest = np.sqrt(1 - self.link**2)
        skewed = (rng.gamma(2, 1, n) - 2) / np.sqrt(2)  # mean 0, SD 1, skewness 1.4
        adas = 14 + 0.3 * (age - 75) + 6 * (self.link * z + rest * skewed)
        stage = 0.03 * (age - 70) + self.link * z + rest * rng.standard_normal(n)
        table["adas11"] = np.round(np.clip(adas, 0, 70) * 3) / 3
        table["hy"] = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 4.0])[np.searchsorted([-1.2, -0.7, 0.3, 0.9, 1.6], stage)]
        return pd.DataFrame(table)

    def study(self, rng):
        """Return the patients, the controls and the held-out controls of one study."""
        sizes = ((self.patients, True), (CONTROLS, False), (self.heldout, False))
        return [self.people(rng, n, patient) for n, patient in sizes]


def sessions(rng, n, rate, rate_sd):
    """Return the scans of ``n`` patients of 60-90 years and ``n`` controls of 50-90, two or three about a year apart.

    Everybody's predicted age moves by 0.85 (+ ``rate`` in patients) years a year, give or take ``rate_sd``; people
    differ by 4.5 years, the scans of one by 1.2.
    """
    rows = []
    for i in range(2 * n):
        patient = i < n
        first = rng.uniform(60 if patient else 50, 90)
        own = SLOPE + rng.normal(0, rate_sd) + rate * patient
        level = CENTRE + SLOPE * (first - CENTRE) + rng.normal(0, 4.5)
        time = np.arange(3.0 if rng.random() < 0.7 else 2.0)
        time[1:] += rng.uniform(-0.1, 0.1, len(time) - 1)
        person = {"participant_id": f"sub-{i:03d}", "group": "AD" if patient else "NC", "sex": "FM"[rng.integers(2)]}
        predicted = level + own * time + rng.normal(0, 1.2, len(time))
        rows += [{**person, "age": first + t, "predicted_age_a": p} for t, p in zip(time, predicted, strict=True)]
    return pd.DataFrame(rows)


def retest(rng, n, between, within):
    """Return two gaps ``(n, 2)`` of people who differ by SD ``between``, the scans of one by ``within``."""
    return rng.normal(0, between, (n, 1)) + rng.normal(0, within, (n, 2))


def regional(rng, effect, patients=61):
    """Return skewed values of 116 regions: free of age, following age; then who is a patient, and age and sex.

    Five factors make the regions correlate (those of one factor by up to 0.67); patients are 60-90, controls 20-90
    years old. ``effect`` (in SD) is added to the first five regions of patients.
    """
    n = patients + CONTROLS
    is_case = np.arange(n) < patients
    age = np.where(is_case, rng.uniform(60, 90, n), rng.uniform(20, 90, n))
    load = np.random.default_rng(0).uniform(0, 1, (5, REGIONS)) * (np.arange(REGIONS) % 5 == np.arange(5)[:, None])
    values = np.exp(0.5 * (rng.standard_normal((n, 5)) @ load + 0.7 * rng.standard_normal((n, REGIONS))))
    values[np.ix_(is_case, np.arange(AFFECTED))] += effect * np.sqrt(np.exp(0.25) * (np.exp(0.25) - 1))
    ageing = values + 0.01 * (age[:, None] - CENTRE) * load.sum(axis=0)
    names = [f"region {i}" for i in range(REGIONS)]
    covariates = np.column_stack([age, rng.integers(0, 2, n)])
    return pd.DataFrame(values, columns=names), pd.DataFrame(ageing, columns=names), is_case, covariates
