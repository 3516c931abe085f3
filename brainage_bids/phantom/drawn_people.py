"""Draw the people of a phantom cohort: groups, ages, planted brain age gaps and clinical scores.

Person ``i`` of a seed is the same in a cohort of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from brainage_bids.errors import UsageError

CONTROL_AGES = (20.0, 90.0)
PATIENT_AGES = (55.0, 80.0)
SITES = ("A", "B")
MIN_PEOPLE = 6
MISSING_EVERY = 12  # in each group the fifth score of every twelve is missing


@dataclass(frozen=True)
class Score:
    """A clinical score tied to the planted gap.

    Parameters
    ----------
    name
        Column name.
    correlation
        Pearson correlation with the planted gap in the population, before rounding and clipping.
    mean, sd
        Population moments, points.
    top
        Largest value; the smallest is 0.
    """

    name: str
    correlation: float
    mean: float
    sd: float
    top: float


@dataclass(frozen=True)
class Group:
    """A group of the cohort.

    Parameters
    ----------
    label
        As written in ``participants.tsv``.
    weight
        Share of the people, relative to the other groups.
    gap_mean, gap_sd
        Planted brain age gap, years: Gaussian, independent of age, sex and site.
    ages
        Uniform range of chronological ages, years.
    score
        The clinical score of the group; None for controls.
    """

    label: str
    weight: float
    gap_mean: float
    gap_sd: float
    ages: tuple[float, float]
    score: Score | None = None


GROUPS = (
    Group("CN", 3.0, 0.0, 2.0, CONTROL_AGES),
    Group("AD", 1.0, 10.0, 7.0, PATIENT_AGES, Score("adas11", 0.8, 24.0, 7.0, 70.0)),
    Group("PD", 1.0, 3.0, 3.0, PATIENT_AGES, Score("updrs3", 0.5, 30.0, 10.0, 132.0)),
)


@dataclass(frozen=True)
class Person:
    """One participant; ``gap`` is planted brain age minus chronological age (years), ``score`` the rounded value."""

    index: int
    participant_id: str
    group: str
    age: float
    sex: str
    site: str
    gap: float
    score_name: str | None
    score: float | None

    @property
    def brain_age(self) -> float:
        """Planted brain age, years."""
        return self.age + self.gap


def design_people(n: int, seed: int, groups: tuple[Group, ...] = GROUPS) -> list[Person]:
    """Draw ``n`` people.

    Groups follow a fixed sequence, so that every part of the cohort has the same shares. Within a group, every four
    people in a row cover both sexes at both sites. Ages are stratified: every six people in a row fall into the six
    sixths of the range, in random order, so that the age of each person is still uniform. Gaps and scores are drawn
    independently.

    Raises
    ------
    UsageError
        When ``n`` is below 6, ``seed`` is negative, no group is given or two share a label.
    """
    if n < MIN_PEOPLE:
        raise UsageError(f"phantom cohort of {n} people is too small; ask for at least {MIN_PEOPLE}")
    if seed < 0:
        raise UsageError(f"seed is {seed}; use a number from 0 up")
    labels = [group.label for group in groups]
    if not labels or len(set(labels)) < len(labels):
        raise UsageError(f"phantom groups are {labels}; give at least one, each with its own label")
    people, counts = [], [0] * len(groups)
    total = sum(group.weight for group in groups)
    for index in range(n):
        behind = [group.weight / total * (index + 1) - count for group, count in zip(groups, counts, strict=True)]
        which = int(np.argmax(np.round(behind, 9)))
        people.append(_person(index, counts[which], which, groups[which], seed))
        counts[which] += 1
    return people


def population(groups: tuple[Group, ...] = GROUPS) -> dict[str, dict]:
    """Return the planted population values by group label, for the truth file."""
    return {
        group.label: {
            "gap_mean": group.gap_mean,
            "gap_sd": group.gap_sd,
            "ages": list(group.ages),
            "score": group.score.name if group.score else None,
            "score_correlation": group.score.correlation if group.score else None,
        }
        for group in groups
    }


def realised(people: list[Person]) -> dict[str, dict]:
    """Return for each group of this sample the counts, gaps (years), and correlation of score and gap."""
    table = {}
    for label in dict.fromkeys(person.group for person in people):
        members = [person for person in people if person.group == label]
        gaps = np.array([person.gap for person in members])
        scored = np.array([(p.gap, p.score) for p in members if p.score is not None]).reshape(-1, 2)
        table[label] = {
            "n": len(members),
            "gap_mean": float(gaps.mean()),
            "gap_sd": float(gaps.std(ddof=1)) if len(members) > 1 else None,
            "age_mean": float(np.mean([person.age for person in members])),
            "n_scored": len(scored),
            "score_correlation": _pearson(scored) if len(scored) > 2 else None,
        }
    return table


def _pearson(pairs: np.ndarray) -> float | None:
    if (pairs.std(axis=0) == 0).any():
        return None
    return float(np.corrcoef(pairs.T)[0, 1])


def _person(index: int, member: int, group_number: int, group: Group, seed: int) -> Person:
    """Draw the ``member``-th person of group number ``which``, who is the ``index``-th of the cohort."""
    combination = _shuffled(4, (seed, 1, group_number, member // 4))[member % 4]
    stratum = _shuffled(6, (seed, 2, group_number, member // 6))[member % 6]
    rng = np.random.default_rng((seed, 3, index))
    low, high = group.ages
    age = low + (high - low) * (stratum + rng.random()) / 6.0
    standard = rng.standard_normal(2)
    gap = group.gap_mean + group.gap_sd * standard[0]
    score = None
    if group.score is not None and member % MISSING_EVERY != 4:
        r = group.score.correlation
        value = group.score.mean + group.score.sd * (r * standard[0] + math.sqrt(1.0 - r * r) * standard[1])
        score = float(np.clip(round(value), 0.0, group.score.top))
    return Person(
        index=index,
        participant_id=f"sub-{index + 1:03d}",
        group=group.label,
        age=round(float(age), 2),
        sex="FM"[combination % 2],
        site=SITES[combination // 2],
        gap=float(gap),
        score_name=group.score.name if group.score else None,
        score=score,
    )


def _shuffled(n: int, seed: tuple[int, ...]) -> list[int]:
    return np.random.default_rng(seed).permutation(n).tolist()
