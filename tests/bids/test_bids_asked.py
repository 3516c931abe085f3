"""Columns that a user names: how they are written, which tables they mean, and what is told of those not there."""

import re

import pytest
from toyreading import ages, read

from brainage_bids.bids.asked import ColumnRequest, parse_column_option
from brainage_bids.errors import UsageError

AGE, SEX = "--age-column", "--sex-column"


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("participants.tsv:age", ColumnRequest(AGE, "participants.tsv", "age")),
        (" toy = a/b.CSV : Age at scan : Months ", ColumnRequest(AGE, "a/b.CSV", "Age at scan", "toy", "month")),
        ("participants.tsv:age:d", ColumnRequest(AGE, "participants.tsv", "age", None, "day")),
        ("sub-*_sessions.tsv:age", ColumnRequest(AGE, "sub-*_sessions.tsv", "age")),
        ("C:/data/x.tsv:age", ColumnRequest(AGE, "C:/data/x.tsv", "age")),
    ],
)
def test_forms_of_a_column(text, request_):
    assert parse_column_option(text, AGE) == request_


@pytest.mark.parametrize(
    ("text", "option", "told"),
    [
        *(
            (
                text, AGE,
                f"--age-column {text!r} must be [NAME=]FILE:COLUMN[:UNIT], for instance participants.tsv:age_mri (FILE "
                "ends in .tsv or .csv)",
            )
            for text in ("age", "participants.tsv", "participants.tsv:", "participants.xlsx:age")
        ),
        (
            "age", SEX,
            "--sex-column 'age' must be [NAME=]FILE:COLUMN, for instance participants.tsv:gender_code (FILE ends in "
            ".tsv or .csv)",
        ),
        ("a.tsv:sex:years", SEX,
         "--sex-column 'a.tsv:sex:years' must be [NAME=]FILE:COLUMN; a column of that option has no unit"),
        ("a.tsv:age:stone", AGE,
         "--age-column 'a.tsv:age:stone': 'stone' is no unit; use one of year, month, week, day"),
        ("a.tsv:age:", AGE, "--age-column 'a.tsv:age:': '' is no unit; use one of year, month, week, day"),
    ],
)  # fmt: skip
def test_another_form_is_refused(text, option, told):
    with pytest.raises(UsageError, match=f"^{re.escape(told)}$"):
        parse_column_option(text, option)


def asking(toy, *texts):
    return read(toy, age_columns=tuple(parse_column_option(text, AGE) for text in texts))


def told(dataset):
    return [(f.code, f.severity, f.file, f.row, f.message) for f in dataset.faults if f.code.startswith("ASKED")]


@pytest.fixture
def study(toy):
    for session in ("ses-1", "ses-2"):
        toy.image("sub-1", session)
    toy.table("participants.tsv", "participant_id|Age at Scan|age_bl|weeks", "sub-1|60|50|2609")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|lived", "ses-1|61.5|", "ses-2|62.5")
    toy.table("phenotype/moca.tsv", "participant_id|session_id|at_test", "sub-1|ses-2|63")
    toy.text("other.csv", "participant_id,years\n1,64\n")
    return toy


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("participants.tsv:Age at Scan", (60.0, 60.0)),
        ("./participants.tsv:age_at_scan", (60.0, 60.0)),  # as near as headings are compared
        ("toy=participants.tsv:ageatscan", (60.0, 60.0)),
        ("participants.tsv:ageatscan:month", (5.0, 5.0)),
        ("participants.tsv:weeks:weeks", (2609 * 7 / 365.25,) * 2),
        ("sub-*_sessions.tsv:lived", (61.5, 62.5)),
        ("sub-1/sub-1_sessions.tsv:lived", (61.5, 62.5)),
        ("sessions.tsv:lived", (61.5, 62.5)),
        ("phenotype/moca.tsv:at_test", (None, 63.0)),
        ("moca.tsv:at_test", (None, 63.0)),
        ("phenotype\\moca.tsv:at_test", (None, 63.0)),
        ("other.csv:years", (64.0, 64.0)),
    ],
)
def test_the_table_that_a_file_name_means(study, text, found):
    dataset = asking(study, text)
    assert told(dataset) == []
    assert list(ages(dataset).values()) == pytest.approx(list(found))


def test_a_table_elsewhere_is_found_by_its_path(study):
    path = study.root.parent / "beside.tsv"
    path.write_text("participant_id\tyears\nsub-1\t65\n")
    assert set(ages(asking(study, f"{path}:years")).values()) == {65.0}


def test_a_column_asked_for_stands_for_what_its_heading_says(study):
    study.image("sub-1", "ses-M012")
    study.image("sub-1", "ses-M000")
    found = ages(asking(study, "participants.tsv:age_bl"))
    assert (found["sub-1_ses-M000"], found["sub-1_ses-M012"]) == (50.0, 51.0)


def test_a_column_of_one_session_is_asked_for_with_its_unit(toy):
    for session in ("ses-1", "ses-2"):
        toy.image("sub-1", session)
    toy.table("participants.tsv", "participant_id|age_ses-1|age_ses-2", "sub-1|84|96")
    found = ages(asking(toy, "participants.tsv:age_ses-1:months", "participants.tsv:age_ses-2"))
    assert found == {"sub-1_ses-1": 7.0, "sub-1_ses-2": 96.0}


def test_where_a_column_is_asked_for_no_other_is_read(study):
    assert set(ages(asking(study, "phenotype/moca.tsv:nothing")).values()) == {60.0}  # no such column: all are read
    assert list(ages(asking(study, "sessions.tsv:lived")).values()) == [61.5, 62.5]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "participants.tsv:ages",
            ("ASKED_COLUMN_UNKNOWN", "participants.tsv",
             "--age-column 'ages' of participants.tsv: there is no such column (nearest: age_bl, weeks)"),
        ),
        (
            "sessions.tsv:xyz",
            ("ASKED_COLUMN_UNKNOWN", "sessions.tsv",
             "--age-column 'xyz' of sessions.tsv: there is no such column (it has session_id, lived)"),
        ),
        (
            "nowhere.tsv:age",
            ("ASKED_FILE_UNKNOWN", "nowhere.tsv",
             "--age-column 'age' of nowhere.tsv: there is no such file (there: sub-*_sessions.tsv, participants.tsv, "
             "phenotype/moca.tsv); check the path"),
        ),
        (
            "other=participants.tsv:age",
            ("ASKED_COLUMN_UNKNOWN", "participants.tsv",
             "--age-column 'age' of participants.tsv: it is meant for the dataset 'other', but this one is 'toy'"),
        ),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told(study, text, fault):
    code, file, message = fault
    assert told(asking(study, text)) == [(code, "error", file, None, message)]


def test_ten_of_the_tables_that_are_there_are_named(study):
    for number in range(9):
        study.table(f"phenotype/t{number}.tsv", "participant_id|x", "sub-1|1")
    (fault,) = told(asking(study, "nowhere.tsv:x"))
    assert "phenotype/moca.tsv, phenotype/t0.tsv" in fault[-1]
    assert fault[-1].endswith("phenotype/t6.tsv and 2 more); check the path")


def test_a_column_asked_for_in_vain_hides_no_other(study):
    dataset = asking(study, "other=participants.tsv:x", "nowhere.tsv:x", "participants.tsv:xyz", "sessions.tsv:lived")
    assert sorted(file for _, _, file, *_ in told(dataset)) == ["nowhere.tsv", "participants.tsv", "participants.tsv"]
    assert list(ages(dataset).values()) == [61.5, 62.5]


def test_a_file_without_any_table_and_a_broken_file(toy):
    toy.image("sub-1")
    message = "--age-column 'x' of nowhere.tsv: there is no such file (there: no table); check the path"
    assert told(asking(toy, "nowhere.tsv:x"))[0][-1] == message
    toy.text("broken.tsv", "no,ids\n1,2\n")
    dataset = asking(toy, "broken.tsv:x")
    assert told(dataset) == []
    assert [(f.code, f.severity) for f in dataset.faults if f.file == "broken.tsv"] == [("TABLE_ID_MISSING", "error")]


def test_a_unit_that_the_user_names_settles_that_whole_numbers_are_ages(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|30")
    toy.text("participants.json", '{"age": {"Description": "age group"}}')
    assert ages(asking(toy, "participants.tsv:age")) == {"sub-1": None}
    assert ages(asking(toy, "participants.tsv:age:years")) == {"sub-1": 30.0}
