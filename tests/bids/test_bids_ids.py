"""How ids differ is said in one sentence, and a row is never given to somebody else."""

import re

import pytest
from toyreading import ages, codes, read

from brainage_bids.bids.ids import how_ids_differ

PEOPLE = ("sub-01", "sub-02", "sub-A3")


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (
            ["sub-1", "sub-2"],
            "2 ids are spelled differently from the folders, by leading zeros: 'sub-1' in the table, 'sub-01'",
        ),
        (["1", "02"], "1 id is .*leading zeros: '1' in the table, 'sub-01'"),
        (["001"], "leading zeros"),
        (["a3"], "by upper and lower case: 'a3' in the table, 'sub-A3' the folder"),
        (["1.0"], "by the .0 of a spreadsheet and leading zeros"),
        (["01.0"], "by the .0 of a spreadsheet: '01.0'"),
        (["sub-sub-01"], "by the prefix sub-"),
        (["sub01"], "by the prefix sub-"),
        (["sub_01"], "by the prefix sub-"),
        (["sub-0 1"], "by blanks or signs"),
        (["sub-A_3"], "blanks or signs"),
        (["sub-01_ses-1"], "more than a label"),
        (["sub-01_T1w.nii.gz"], "more than a label"),
        (["X1", "X2"], "none of its 2 ids is a folder .ids: X1, X2; folders: sub-01, sub-02, sub-A3"),
        (["y" * 500], r"none of its 1 ids.*\(500 characters\)"),
    ],
)
def test_the_difference_is_named(ids, words):

    assert re.search(words, how_ids_differ(ids, PEOPLE))


@pytest.mark.parametrize("ids", [[], ["sub-01"], ["02", "A3"], ["sub-01", "sub-1"], ["sub-01", "X9"]])
def test_nothing_is_said_where_nothing_differs(ids):
    assert how_ids_differ(ids, PEOPLE) is None


def test_every_table_with_other_ids_is_told(toy):
    toy.image("sub-01")
    toy.image("sub-02", "ses-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50", "sub-2|60")
    toy.table("sessions.tsv", "participant_id|session_id|age", "sub-002|ses-1|60")
    toy.table("phenotype/moca.tsv", "participant_id|moca", "SUB_01|20", "sub-02|25")
    toy.table("clinic.tsv", "participant_id|BDI", "1.0|20")
    dataset = read(toy, scores=(("BDI", "clinic.tsv", "BDI"),))
    told = {fault.file for fault in dataset.faults if fault.code == "IDS_DIFFER"}
    assert told == {"participants.tsv", "sessions.tsv", "phenotype/moca.tsv", "clinic.tsv"}
    assert ages(dataset) == {"sub-01": None, "sub-02_ses-1": None}
    assert not codes(dataset, "error")


def test_sessions_that_are_named_otherwise(toy):
    toy.image("sub-1", "ses-01")
    toy.image("sub-2")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|age", "ses-baseline|50", "ses-followup|51")
    toy.table("sub-2/sub-2_sessions.tsv", "session_id|age", "ses-1|50", "ses-2|51")
    told = [fault.message for fault in read(toy).faults if fault.code == "SESSIONS_DIFFER"]
    assert len(told) == 2
    assert "sub-1: ses-baseline, ses-followup in the table, ses-01 the folder" in told[0]
    assert "sub-2: ses-1, ses-2" in told[1]
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|age", "1|50", "2|51")  # the same session, spelled otherwise
    toy.table("sub-2/sub-2_sessions.tsv", "session_id|age", "ses-1|50")
    assert "SESSIONS_DIFFER" not in codes(read(toy))
    assert ages(read(toy)) == {"sub-1_ses-01": 50.0, "sub-2": 50.0}


def test_a_sessions_table_named_after_another_is_told(toy):
    toy.image("sub-1", "ses-1")
    toy.table("sub-1/sub-01_sessions.tsv", "session_id|age", "ses-1|50")
    (fault,) = [fault for fault in read(toy).faults if fault.code == "TABLE_NAME"]
    assert fault.file == "sub-1/sub-01_sessions.tsv"
    assert "sub-1_sessions.tsv" in fault.message
