"""Which scan of a session stands for the person: one rule, for names, tables, training and pairs."""

import pandas as pd
import pytest

from brainage_bids.bids.choice import acquisition, choice_note, preference, second_choice
from brainage_bids.stats.cohort_tables import every_session, select_rows, session_choices
from brainage_bids.stats.reliability import scan_pairs


@pytest.mark.parametrize(
    ("best", "others"),
    [
        (None, ["ce-gad", "acq-localizer", "acq-mprage", "run-1", "chunk-1", "echo-1", "rec-norm"]),
        ("acq-mprage", ["acq-localizer", "acq-scout", "acq-AAHeadScout", "acq-hippo", "acq-3dslab", "chunk-1"]),
        ("acq-mprage", ["acq-localiser", "acq-loc", "acq-partial", "acq-inplane", "acq-brainstem", "acq-spine"]),
        ("acq-z", ["ce-gad", "acq-a_ce-gad", "acq-gad", "acq-post", "acq-postGd", "acq-gd", "rec-postcontrast"]),
        ("acq-localizer", ["ce-gad", "acq-localizer_ce-gad"]),
        ("run-2", ["run-10", "ce-gad_run-1"]),
        ("run-02", ["run-10"]),
        ("acq-a_run-2", ["acq-b_run-1"]),
        ("ce-none", ["ce-gad", "acq-localizer"]),
        ("acq-partialFourier", ["ce-gad", "acq-slab"]),
        ("echo-1", ["echo-2", "echo-10"]),
    ],
)
def test_the_order_of_names(best, others):
    assert min([*others, best], key=preference) == best
    assert min([best, *others], key=preference) == best


def test_quality_goes_before_the_name_but_not_before_the_kind():
    assert preference("run-2", 0) < preference("run-1", 1)
    assert preference("run-2", 3) < preference("ce-gad", 0)
    assert preference("run-2", float("nan")) < preference("run-3", float("nan"))


def table(*rows):
    """Rows of ``run[@session] [n warnings]``."""
    runs = [row.split() for row in rows]
    return pd.DataFrame(
        {
            "participant_id": "sub-1",
            "session_id": [row[0].partition("@")[2] or None for row in runs],
            "run": [None if (name := row[0].partition("@")[0]) == "-" else name for row in runs],
            "age": [50.0 + int(row[0].partition("@")[2][4:] or 0) for row in runs],
            "age_source": "sessions.tsv:age",
            "qc_pass": [0.0 if "bad" in row else 1.0 for row in runs],
            "in_training": 0.0,
            "qc_warnings": [float(row[1]) if len(row) > 1 and row[1] != "bad" else 0.0 for row in runs],
        }
    )


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (["acq-localizer", "acq-mprage"], "acq-mprage"),
        (["ce-gad", "-"], None),
        (["run-1 2", "run-2 0"], "run-2"),
        (["run-1 bad", "run-2 5"], "run-2"),
        (["acq-mprage bad", "acq-localizer"], "acq-localizer"),
        (["run-1", "run-2"], "run-1"),
    ],
)
def test_one_rule_for_tests_and_rates(rows, chosen):
    for found in (select_rows(table(*rows))[0], every_session(table(*rows))):
        assert [None if run is None or pd.isna(run) else run for run in found["run"]] == [chosen]


def test_without_the_number_of_warnings_the_name_decides():
    rows = table("run-2 0", "run-1 5").drop(columns="qc_warnings")
    assert select_rows(rows)[0]["run"].tolist() == ["run-1"]


def test_the_choice_is_told():
    rows = table("acq-localizer@ses-1", "acq-mprage@ses-1", "acq-b@ses-2", "acq-a@ses-2", "-@ses-3")
    rows.index = ["1-loc", "1-mprage", "2-b", "2-a", "3"]
    told = session_choices(*select_rows(rows))
    assert sorted(told) == [["1-mprage", "1-loc"], ["2-a", "2-b"]]
    note = choice_note(told)
    assert "2 sessions have several T1w images" in note
    assert "1-mprage before 1-loc" in note
    assert choice_note([["3"]]) is None
    assert "; and 7 more." in choice_note([["a", "b"]] * 10)


@pytest.mark.parametrize(
    ("rows", "pairs"),
    [
        (["acq-a", "acq-b"], []),
        (["-", "ce-gad"], []),
        (["-", "rec-norm"], []),
        (["echo-1", "echo-2"], []),
        (["chunk-1", "chunk-2"], []),
        (["run-1", "run-2"], [(0, 1)]),
        (["acq-a_run-1", "acq-b_run-1", "acq-b_run-2"], [(1, 2)]),
        (["ce-gad_run-1", "ce-gad_run-2", "run-1", "run-2"], [(2, 3)]),
        (["run-2", "run-1"], [(1, 0)]),
        (["run-1 4", "run-2 0"], [(0, 1)]),
    ],
)
def test_unlike_acquisitions_are_no_repeats(rows, pairs):
    assert scan_pairs(table(*rows)) == pairs


def test_sessions_days_apart_pair_by_acquisition():
    rows = table("acq-a@ses-1", "acq-b@ses-1", "acq-b@ses-2").assign(age=[50.0, 50.0, 50.1])
    assert scan_pairs(rows) == [(1, 2)]


def test_what_does_not_train_beside_a_better_scan():
    runs = ["ce-gad", None, "acq-localizer", "ce-gad", "run-1", "run-2"]
    assert second_choice(["a", "a", "a", "b", "c", "c"], runs) == [True, False, True, False, False, False]


def test_acquisition_is_the_name_without_run():
    assert [acquisition(run) for run in (None, "run-1", "acq-a_run-2_echo-1")] == ["", "", "acq-a_echo-1"]
