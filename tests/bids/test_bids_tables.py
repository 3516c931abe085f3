"""What is wrong with a table, a sidecar or a single column concerns no more than that."""

import json
import os
import re

import pytest
from toyreading import ages, codes, read

from brainage_bids.bids.faults import CODES
from brainage_bids.bids.read import raise_on_errors

LINK = ".git/annex/objects/xx/yy/MD5E-s10--0123.tsv/MD5E-s10--0123.tsv"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def told(dataset, code, severity=None):
    return [f for f in dataset.faults if f.code == code and severity in (None, f.severity)]


# --- not fetched ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "participants.tsv", "participants.json", "sessions.tsv", "sessions.json", "sub-1/sub-1_sessions.tsv",
        "sub-1/sub-1_sessions.json", "sub-1/ses-1/sub-1_ses-1_scans.tsv", "phenotype/moca.tsv", "phenotype/moca.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["link", "annex", "lfs"])
def test_a_table_that_is_not_fetched_is_an_error_and_never_absent(toy, name, kind):
    toy.image("sub-1", "ses-1")
    toy.image("sub-1", "ses-2")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    for table in ("sub-1/sub-1_sessions", "sessions", "phenotype/moca"):
        toy.table(f"{table}.tsv", "participant_id|session_id|x", "sub-1|ses-1|1")
    (toy.root / name).unlink(missing_ok=True)
    if kind == "link":
        (toy.root / name).parent.mkdir(parents=True, exist_ok=True)
        (toy.root / name).symlink_to(LINK)
    else:
        toy.text(name, LFS if kind == "lfs" else f"/annex/objects/{LINK[-20:]}\n")
    (fault,) = told(read(toy), "TABLE_NOT_FETCHED")
    assert (fault.severity, fault.file) == ("error", name)
    assert "not fetched" in fault.message
    assert "git lfs pull" in fault.message if kind == "lfs" else "datalad get" in fault.message


@pytest.mark.parametrize(
    "name", ["T1w.json", "sub-1/sub-1_T1w.json", "sub-1/anat/sub-1_T1w.json", "sub-1/sub-1_scans.tsv"]
)
def test_what_changes_no_number_is_a_warning(toy, name):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    (toy.root / name).symlink_to(LINK)
    dataset = read(toy)
    assert [fault.file for fault in told(dataset, "TABLE_NOT_FETCHED", "warning")] == [name]
    assert not codes(dataset, "error")


def test_files_that_are_asked_for(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    (toy.root / "clinic.tsv").symlink_to("gone.tsv")
    dataset = read(toy, scores=(("bdi", "clinic.tsv", "BDI"),))
    assert "broken link (to gone.tsv)" in told(dataset, "TABLE_NOT_FETCHED", "error")[0].message
    (toy.root / "dataset_description.json").unlink()
    (toy.root / "dataset_description.json").symlink_to(LINK)
    assert "not fetched" in told(read(toy), "DESCRIPTION_UNREADABLE", "error")[0].message
    assert not codes(read(toy, skip_validation=True), "error")


# --- text that is none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("participant_id\tage\nsub-1\t50\n".encode("utf-16"), "UTF-16"),
        ("participant_id\tage\nsub-1\t50\n".encode("utf-16-le"), "UTF-16.*line 1"),
        (b"<!DOCTYPE html>\n<html>", "web page.*line 1"),
        (b"PK\x03\x04", "xlsx"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"participant_id\tage\nsub-1\t5\x000\n", "line 2 holds a NUL"),
        (b"participant_id age\nsub-1 50\n", "blanks"),
        (b"participant_id;age\nsub-1;50\n", "semicolons"),
        (b"\n\n", "empty"),
    ],
)
@pytest.mark.parametrize("name", ["participants.tsv", "phenotype/moca.tsv", "sub-1/sub-1_sessions.tsv"])
def test_a_table_that_is_no_table(toy, name, content, words):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    toy.text(name, "")
    content = (
        content.replace(b"participant_id", b"session_id").replace(b"sub-1", b"ses-1") if "ses" in name else content
    )
    (toy.root / name).write_bytes(content)
    dataset = read(toy)
    (fault,) = [f for f in dataset.faults if f.file == name and f.code.startswith("TABLE_")]
    assert fault.severity == ("warning" if "phenotype" in name else "error")
    assert re.search(words, str(fault))


def test_a_folder_named_as_a_table_and_one_that_may_not_be_read(toy, monkeypatch):
    toy.image("sub-1")
    (toy.root / "participants.tsv").mkdir()
    (toy.root / "participants.json").mkdir()
    dataset = read(toy)
    assert "is a folder" in told(dataset, "TABLE_UNREADABLE", "error")[0].message
    (toy.root / "participants.tsv").rmdir()
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    assert "is a folder" in told(read(toy), "SIDECAR_UNREADABLE", "error")[0].message


def test_a_participants_table_under_another_name_is_named(toy):
    toy.image("sub-1")
    toy.text("Participants.csv", "participant_id,age\nsub-1,50\n")
    dataset = read(toy)
    assert told(dataset, "TABLE_NAME")[0].file == "Participants.csv"
    assert ages(dataset) == {"sub-1": None}


# --- single columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["age", "sex", "group", "site", "family_id", "mmse", "age_baseline"])
def test_a_repeated_column_stops_only_where_it_is_read(toy, column):
    toy.image("sub-1")
    toy.table("participants.tsv", f"participant_id|years|{column}|{column}|note|note", "sub-1|50|1|2|a|b")
    dataset = read(toy)
    assert [f.message for f in told(dataset, "TABLE_COLUMN_REPEATED", "error")] == [
        f"has several columns named '{column}' that differ; rename or remove all but one"
    ]
    assert "'note'" in told(dataset, "TABLE_COLUMN_REPEATED", "warning")[0].message


def test_repeated_columns_that_agree_are_one(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age|sex|age|sex", "sub-1|50|F|50|F")
    dataset = read(toy)
    assert ages(dataset) == {"sub-1": 50.0}
    assert dataset.scans[0].sex == "F"
    assert told(dataset, "TABLE_COLUMN_REPEATED", "warning")
    raise_on_errors(dataset)


def test_a_repeated_id_and_a_repeated_session_stop(toy):
    toy.image("sub-1", "ses-1")
    toy.table("participants.tsv", "participant_id|age|participant_id", "sub-1|50|sub-2")
    assert told(read(toy), "TABLE_COLUMN_REPEATED", "error")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|session_id|age", "ses-1|ses-2|50")
    assert told(read(toy), "TABLE_COLUMN_REPEATED", "error")


def test_columns_of_a_phenotype_table_stop_nothing(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    toy.table("phenotype/moca.tsv", "participant_id|moca|moca|mmse", "sub-1|20|25|29")
    dataset = read(toy)
    assert not codes(dataset, "error")
    assert dict(dataset.scans[0].scores) == {"mmse": 29.0}


# --- sidecars -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[1]", "5", "null", "{", "", "[" * 100_000, '{"age": ' + "9" * 5000 + "x"])
def test_a_broken_sidecar_of_participants_stops_with_a_reason(toy, text):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    toy.text("participants.json", text)
    (fault,) = told(read(toy), "SIDECAR_UNREADABLE")
    assert (fault.severity, fault.file) == ("error", "participants.json")
    assert any(words in fault.message for words in ("line 1", "nested", "empty"))
    assert len(fault.message) < 200


def test_a_broken_sidecar_of_one_concerns_that_one(toy):
    toy.image("sub-1", "ses-1")
    toy.image("sub-2", "ses-1")
    toy.text("T1w.json", '{"InstitutionName": "A"}')
    toy.text("sub-1/ses-1/anat/sub-1_ses-1_T1w.json", "[" * 100_000)
    for who in ("sub-1", "sub-2"):
        toy.table(f"{who}/{who}_sessions.tsv", "session_id|age", "ses-1|600")
        toy.text(f"{who}/{who}_sessions.json", '{"age": {"Units": "month"}}' if who == "sub-2" else "{")
    dataset = read(toy)
    assert not codes(dataset, "error")
    assert ages(dataset) == {"sub-1_ses-1": None, "sub-2_ses-1": 50.0}
    assert [scan.site for scan in dataset.scans] == [None, "A"]


@pytest.mark.parametrize(
    "text",
    [
        '{"InstitutionName": NaN}',
        '{"Manufacturer": "GE", "StationName": "A", "StationName": "B"}',
        '{"MagneticFieldStrength": 1e999}',
        '{"Manufacturer": [[]]}',
    ],
)
def test_values_of_a_sidecar_that_are_none_are_missing(toy, text):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    toy.text("sub-1/anat/sub-1_T1w.json", text)
    dataset = read(toy)
    assert dataset.scans[0].site is None
    assert not codes(dataset, "error")


def test_a_name_that_stands_twice_is_doubted_where_it_is_read(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age|note", "sub-1|50|x")
    toy.text("participants.json", '{"note": {"Levels": {"1": "a", "1": "b"}}}')
    dataset = read(toy)
    assert not codes(dataset, "error")
    assert told(dataset, "SIDECAR_VALUE")
    toy.text("participants.json", '{"age": {"Units": "year", "Units": "month"}}')
    assert "several meanings" in told(read(toy), "SIDECAR_UNREADABLE", "error")[0].message


def test_the_sidecar_of_a_phenotype_table_decides_what_is_read_of_it(toy):
    toy.image("sub-1")
    toy.table("phenotype/visit.tsv", "participant_id|age|mmse", "sub-1|50|29")
    assert ages(read(toy)) == {"sub-1": 50.0}
    toy.text("phenotype/visit.json", "{")
    dataset = read(toy)
    assert not codes(dataset, "error")
    assert ages(dataset) == {"sub-1": None}  # years or months, who knows
    assert dict(dataset.scans[0].scores) == {"mmse": 29.0}


def test_sessions_of_two_people_in_two_units_are_not_mixed(toy):
    for who in ("sub-1", "sub-2"):
        toy.image(who, "ses-1")
        toy.table(f"{who}/{who}_sessions.tsv", "session_id|age|note", "ses-1|100|x")
    toy.text("sub-2/sub-2_sessions.json", json.dumps({"note": {"Levels": {"x": "y"}}}))
    dataset = read(toy)
    assert (told(dataset, "SIDECAR_CONFLICT")[0].severity, codes(dataset, "error")) == ("warning", [])
    for about in ({"Units": "month"}, {"Description": "age in months"}):
        toy.text("sub-2/sub-2_sessions.json", json.dumps({"age": about}))
        assert told(read(toy), "SIDECAR_CONFLICT", "error")


# --- .bidsignore ----------------------------------------------------------------------------------------------------


def test_what_bidsignore_names_is_left_out_and_told(toy):
    toy.image("sub-1")
    toy.image("sub-1", middle="run-2")
    toy.image("sub-2")
    toy.table("participants.tsv", "BIDS_ID|age", "1|50")
    toy.table("phenotype/moca.tsv", "participant_id|moca", "sub-1|20")
    toy.text(".bidsignore", "# ours\nparticipants.*\nsub-2/\n*_run-2_T1w.nii.gz\nphenotype\n[\n")
    dataset = read(toy)
    assert [scan.prefix for scan in dataset.scans] == ["sub-1"]
    assert dataset.scans[0].scores == ()
    assert [fault.file for fault in told(dataset, "TABLE_IGNORED")] == ["participants.tsv", "phenotype/moca.tsv"]
    assert [fault.file for fault in told(dataset, "IMAGE_IGNORED")] == ["sub-1/anat/sub-1_run-2_T1w.nii.gz", "sub-2"]
    assert "PARTICIPANTS_MISSING" not in codes(dataset)
    assert not codes(dataset, "error")


@pytest.mark.parametrize("content", ["*\n".encode("utf-16"), b"\xff\xfe"])
def test_a_bidsignore_that_cannot_be_read_ignores_nothing(toy, content):
    toy.image("sub-1")
    (toy.root / ".bidsignore").write_bytes(content)
    dataset = read(toy)
    assert len(dataset.scans) == 1
    assert told(dataset, "TABLE_UNREADABLE", "warning")


# --- many rows ------------------------------------------------------------------------------------------------------


def test_many_rows_take_no_more_than_a_row_at_a_time(toy, monkeypatch):
    """A search through all rows for every row would compare 20,000 x 20,000 cells."""
    toy.image("sub-1")
    rows = [f"sub-{n}|{20 + n % 60}" for n in range(1, 20_001)]
    toy.table("participants.tsv", "participant_id|age", *rows, *rows[:2], "sub-5|99")
    toy.table("phenotype/moca.tsv", "participant_id|moca", *rows, "sub-5|12")
    compared = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    from brainage_bids.bids import tablefile

    original = tablefile.label
    monkeypatch.setattr(tablefile, "label", lambda *args: Counted(original(*args)) if original(*args) else None)
    dataset = read(toy)
    assert told(dataset, "PARTICIPANT_DUPLICATED")
    assert len(told(dataset, "ROW_REPEATED")) == 2
    assert compared < 40 * len(rows)


def test_paths_that_are_not_utf8(toy):
    root = toy.root.rename(toy.root.parent / os.fsdecode(b"b\xff"))
    toy.root = root
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    assert ages(read(toy)) == {"sub-1": 50.0}


def test_every_severity_of_the_table_is_right():
    assert {CODES[code][0] for code in ("TABLE_NOT_FETCHED", "TABLE_LETTERS", "TABLE_COLUMN_REPEATED")} == {"error"}
