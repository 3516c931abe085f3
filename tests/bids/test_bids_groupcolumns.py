"""Columns that may hold the diagnosis where no heading says so, and who is told."""

import json
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


def hint(dataset):
    return None if dataset.group_hint is None else dataset.group_hint.message.split("perhaps ")[1]


def test_the_whole_hint(toy):
    fault = study(toy, "condit", ("CON", "SCZ")).group_hint
    assert (fault.code, fault.severity, fault.file, fault.row, fault.message) == (
        "GROUP_UNKNOWN", "warning", "participants.tsv", None,
        "no group column is recognised, so everyone counts as one group; perhaps 'condit' of participants.tsv ('CON', "
        "'SCZ'): name it with --group-column condit",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "n", "told"),
    [
        (("a", "b"), 4, "'x' of participants.tsv ('a', 'b'): name it with --group-column x"),
        (("a", "b"), 3, None),  # each value must return
        (tuple("abcdefgh"), 16,
         "'x' of participants.tsv ('a', 'b', 'c', 'd' and 4 more): name it with --group-column x"),
        (tuple("abcdefgh"), 15, None),
        (tuple("abcdefghi"), 18, None),
        (("a", "b", "n/a", "", "NaN"), 20, "'x' of participants.tsv ('a', 'b'): name it with --group-column x"),
        ((*"abcdefgh", "", "n/a", "N/A", "nan", "NaN"), 26,
         "'x' of participants.tsv ('a', 'b', 'c', 'd' and 4 more): name it with --group-column x"),
        (("1", "2.0"), 4, "'x' of participants.tsv ('1', '2.0'): name it with --group-column x"),
        (("1", "200"), 4, None),
        (("1", "2.5"), 4, None),
        (("-", "+"), 4, None),
        (("M", "F"), 4, None),
        (("M", "F", "x"), 6, "'x' of participants.tsv ('F', 'M', 'x'): name it with --group-column x"),
    ],
)  # fmt: skip
def test_how_many_values_of_which_kind_may_be_groups(toy, values, n, told):
    assert hint(study(toy, "x", values, n)) == told


def test_codes_that_levels_call_sexes_are_no_groups_and_codes_of_diagnoses_are(toy):
    toy.text("participants.json", json.dumps({"x": {"Levels": {"1": "male", "2": "female"}}}))
    assert hint(study(toy, "x", ("1", "2"))) is None
    toy.text("participants.json", json.dumps({"hand_x": {"Levels": {"1": "healthy control", "2": "other"}}}))
    assert hint(study(toy, "hand_x", ("1", "2"))) == (
        "'hand_x' of participants.tsv ('1', '2'): name it with --group-column hand_x"
    )


def test_the_order_of_candidates(toy):
    for i in range(12):
        toy.image(f"sub-{i:02}")
    rows = (f"sub-{i:02}|{i % 3}|{i % 2}|{'pq'[i % 2]}|{i % 2}|{('CN', 'AD')[i % 2]}" for i in range(12))
    toy.table("participants.tsv", "participant_id|code|coded|word|arm|x", *rows)
    toy.text("participants.json", json.dumps({"coded": {"Levels": {"0": "left", "1": "right"}}}))
    toy.table("phenotype/a.tsv", "participant_id|code|more", *(f"sub-{i:02}|{i % 2}|{'uv'[i % 2]}" for i in range(12)))
    assert hint(read(toy)) == (
        "'x' of participants.tsv ('AD', 'CN'), 'arm' of participants.tsv ('0', '1'), 'coded' of participants.tsv "
        "('0', '1') and 3 more: name it with --group-column x"
    )


def test_people_without_a_scan_do_not_count(toy):
    for i in range(3):
        toy.image(f"sub-{i}")
    toy.table("participants.tsv", "participant_id|x", *(f"sub-{i}|{'ab'[i % 2]}" for i in range(8)))
    assert hint(read(toy)) is None
