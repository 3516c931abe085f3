from collections import Counter

import numpy as np
import pytest

from brainage_bids.errors import UsageError
from brainage_bids.phantom.drawn_people import GROUPS, Group, design_people, population, realised


def test_sixty_people_have_the_planned_groups_balanced():
    people = design_people(60, 1)
    assert Counter(p.group for p in people) == {"CN": 36, "AD": 12, "PD": 12}
    for group, each in (("CN", 9), ("AD", 3), ("PD", 3)):
        cells = Counter((p.sex, p.site) for p in people if p.group == group)
        assert set(cells.values()) == {each}
        assert len(cells) == 4


def test_ages_fill_their_ranges():
    people = design_people(60, 2)
    controls = [p.age for p in people if p.group == "CN"]
    patients = [p.age for p in people if p.group != "CN"]
    assert 20 <= min(controls) < 32 < 78 < max(controls) <= 90
    assert min(patients) >= 55
    assert max(patients) <= 90
    assert np.histogram(controls, np.linspace(20, 90, 7))[0].tolist() == [6] * 6


def test_a_smaller_cohort_is_the_start_of_a_larger_one():
    assert design_people(17, 3) == design_people(60, 3)[:17]
    assert design_people(17, 3) != design_people(17, 4)
    assert {p.group for p in design_people(6, 3)} == {"CN", "AD", "PD"}


def test_large_sample_shows_the_planted_population():
    people = design_people(5000, 5)
    found, asked = realised(people), population()
    for group in GROUPS:
        row = found[group.label]
        assert row["gap_mean"] == pytest.approx(group.gap_mean, abs=0.3)
        assert row["gap_sd"] == pytest.approx(group.gap_sd, rel=0.05)
        if group.score:
            assert row["score_correlation"] == pytest.approx(asked[group.label]["score_correlation"], abs=0.06)
            members = [p for p in people if p.group == group.label]
            assert abs(np.corrcoef([p.age for p in members], [p.gap for p in members])[0, 1]) < 0.1
            assert all(p.score is None or 0 <= p.score <= group.score.top for p in members)


def test_scores_are_missing_now_and_then_and_only_where_planned():
    people = design_people(60, 6)
    assert Counter(p.group for p in people if p.score_name and p.score is None) == {"AD": 1, "PD": 1}
    assert all(p.score is None and p.score_name is None for p in people if p.group == "CN")


def test_realised_matches_a_literal_count():
    people = design_people(12, 7)
    gaps = [p.brain_age - p.age for p in people if p.group == "CN"]
    row = realised(people)["CN"]
    assert row["n"] == len(gaps)
    assert row["gap_mean"] == pytest.approx(sum(gaps) / len(gaps))
    assert row["score_correlation"] is None


def test_other_groups_can_be_planted():
    people = design_people(10, 0, (Group("HC", 1, 0, 1, (30, 40)), Group("X", 1, 5, 1, (30, 40))))
    assert Counter(p.group for p in people) == {"HC": 5, "X": 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 0), "5 people is too small"),
        ((6, -1), "seed is -1"),
        ((6, 0, ()), "at least one"),
        ((6, 0, GROUPS[:1] * 2), "CN"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(UsageError, match=message):
        design_people(*arguments)
