"""Columns that may hold the diagnosis where no heading says so, and who is told."""

import logging

import pytest
from toyreading import read

from brainage_bids.bids.read import say_faults


def study(toy, heading, values, n=12):
    """People whose last column holds the values in turn."""
    for i in range(n):
        toy.image(f"sub-{i:02}")
    rows = (f"sub-{i:02}|{20 + i}|{'FM'[i % 2]}|{values[i % len(values)]}" for i in range(n))
    toy.table("participants.tsv", f"participant_id|age|sex|{heading}", *rows)
    return read(toy)


@pytest.mark.parametrize(
    ("heading", "values"),
    [("condit", ("CON", "SCZ")), ("patient", ("0", "1")), ("study_arm", ("1.0", "2.0", "3.0")),
     ("x", ("healthy", "ill")), ("smoking_or_not", ("healthy control", "schizophrenia"))],
)  # fmt: skip
def test_candidates_are_named(toy, heading, values):
    dataset = study(toy, heading, values)
    assert f"{heading!r} of participants.tsv" in dataset.group_hint.message
    assert f"--group-column {heading}" in dataset.group_hint.message
    assert any("everyone counts as one group" in note and heading in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("heading", "values"),
    [("handedness", ("R", "L")), ("scanner_id", ("a", "b")), ("educ_level", ("1", "2")), ("motto", tuple("abcdefghi")),
     ("gender_self", ("male", "female")), ("iq", tuple(map(str, range(90, 102)))), ("constant", ("x",)),
     ("mmse", ("29", "30")), ("race", ("a", "b")), ("family_id", ("1", "2")), ("volume", ("1.25", "1.5"))],
)  # fmt: skip
def test_other_columns_of_few_values_are_none(toy, heading, values):
    assert study(toy, heading, values).group_hint is None


def test_a_known_diagnosis_comes_before_words_and_codes(toy):
    for i in range(12):
        toy.image(f"sub-{i:02}")
    rows = (f"sub-{i:02}|{i % 3}|{'pq'[i % 2]}|{('CN', 'AD')[i % 2]}" for i in range(12))
    toy.table("participants.tsv", "participant_id|code|word|x", *rows)
    assert "perhaps 'x' of participants.tsv ('AD', 'CN'), 'word' of" in read(toy).group_hint.message


def test_a_recognised_column_leaves_no_hint(toy):
    assert study(toy, "diagnosis", ("CN", "AD")).group_hint is None


@pytest.mark.parametrize("groups", [True, False])
def test_who_needs_groups_is_warned(toy, groups, caplog):
    dataset = study(toy, "condit", ("CON", "SCZ"))
    log = logging.getLogger("brainage_bids")
    before, log.propagate = log.propagate, True
    with caplog.at_level("WARNING", logger="brainage_bids"):
        say_faults(dataset, groups)
    log.propagate = before
    assert ("WARNING GROUP_UNKNOWN" in caplog.text) == groups
