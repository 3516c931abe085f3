import json
import os
from pathlib import Path

import numpy as np
import pytest
from toyreading import ages, codes, read

from brainage_bids.bids.faults import CODES, Fault, format_faults
from brainage_bids.bids.read import DatasetQuery, parse_score_option, raise_on_errors, read_dataset, scans_table
from brainage_bids.errors import InvalidDatasetError, NothingSelectedError, UsageError

# --- people ---------------------------------------------------------------------------------------------------------


def test_plain_dataset(toy):
    toy.image("sub-007")
    toy.image("sub-2")
    toy.table(
        "participants.tsv", "\ufeffparticipant_id| age |gender|group|site", "sub-007|30|m|None|NA", "2|40,5|w|CN|n/a"
    )
    dataset = read(toy)
    table = scans_table(dataset.scans, dataset.score_names)
    assert table["participant_id"].tolist() == ["sub-2", "sub-007"]
    assert table["age"].tolist() == [40.5, 30.0]
    assert table["group"].tolist() == ["CN", "None"]
    assert table["site"].tolist() == [None, "NA"]
    assert table["age_source"].tolist() == ["participants.tsv:age"] * 2
    assert dataset.controls == ("CN",)
    assert dataset.group_column == "group"
    assert codes(dataset) == ["SEX_VALUE"]
    raise_on_errors(dataset)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_repeated_participants(toy):
    toy.image("sub-1", "ses-2")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50", "sub-1|51")
    assert codes(read(toy), "error") == ["PARTICIPANT_DUPLICATED"]
    toy.table("participants.tsv", "participant_id|Visit|Age|HnY", "sub-1|1|50|2", "sub-1|2|51|2.5")
    dataset = read(toy)
    assert ages(dataset) == {"sub-1_ses-2": 51.0}
    assert dataset.scans[0].scores == (("hy", 2.5),)
    toy.table("participants.tsv", "participant_id|age", "sub-1|50", "sub-1|50")
    assert codes(read(toy)) == ["ROW_REPEATED"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("participant_id\tage\nsub-1\t\t50\n", "TABLE_ROW_LENGTH"),
        ("participant_id,age\nsub-1,50\n", "TABLE_ID_MISSING"),
        ("participant_id\tage\tage\nsub-1\t50\t60\n", "TABLE_COLUMN_REPEATED"),
        ("", "TABLE_UNREADABLE"),
    ],
)
def test_broken_participants_table(toy, text, code):
    toy.image("sub-1")
    toy.text("participants.tsv", text)
    dataset = read(toy)
    assert code in codes(dataset, "error")
    assert ages(dataset) == {"sub-1": None}
    with pytest.raises(InvalidDatasetError, match=code):
        raise_on_errors(dataset)


def test_other_letters_stop_only_where_they_are_read(toy):
    toy.image("sub-1")
    for column, severity in (("remark", "warning"), ("site", "error"), ("group", "error")):
        table = f"participant_id\tage\t{column}\nsub-1\t50\tKöln\n"
        (toy.root / "participants.tsv").write_bytes(table.encode("latin-1"))
        dataset = read(toy)
        (fault,) = [fault for fault in dataset.faults if fault.code == "TABLE_LETTERS"]
        assert (fault.severity, fault.row) == (severity, 2)
        assert f"column '{column}' holds 'K\ufffdln'" in fault.message
        assert ages(dataset) == {"sub-1": 50.0}


def test_broken_sidecar_of_participants_is_an_error(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    toy.text("participants.json", "{")
    assert codes(read(toy), "error") == ["SIDECAR_UNREADABLE"]


def test_description(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|50")
    (toy.root / "dataset_description.json").unlink()
    assert codes(read(toy), "error") == ["DESCRIPTION_MISSING"]
    assert not codes(read(toy, skip_validation=True), "error")
    assert read(toy, skip_validation=True).identity is None  # the name of the folder says nothing about people
    toy.text("dataset_description.json", '{"BIDSVersion": "1.9.0"}')
    assert read(toy).identity is None
    assert read(toy).name == toy.root.name
    toy.text("dataset_description.json", '{"Name": "Clinic", "BIDSVersion": "1.9.0"}')
    assert read(toy).identity == read(toy).name == "Clinic"
    toy.text("dataset_description.json", "{")
    assert codes(read(toy), "error") == ["DESCRIPTION_UNREADABLE"]


def test_rows_and_folders_that_miss_each_other(toy):
    toy.image("sub-1")
    (toy.root / "sub-3").mkdir()
    toy.table("participants.tsv", "participant_id|age", "sub-2|50")
    dataset = read(toy)
    assert dataset.participants_without_scan == ("sub-3", "sub-2")
    assert {"PARTICIPANT_WITHOUT_ROW", "PARTICIPANT_WITHOUT_FOLDER", "PARTICIPANT_WITHOUT_SCAN"} <= set(codes(dataset))
    assert not codes(dataset, "error")


# --- groups, sites --------------------------------------------------------------------------------------------------


def test_group_of_the_session_and_chosen_controls(toy):
    toy.image("sub-1", "ses-1")
    toy.image("sub-1", "ses-2")
    toy.table("participants.tsv", "participant_id|diagnosis_sc|arm", "sub-1|CN|x")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|diagnosis", "ses-1|n/a", "ses-2|MCI")
    dataset = read(toy)
    assert [s.group for s in dataset.scans] == ["CN", "MCI"]
    assert read(toy, group_column="arm", controls=("X",)).controls == ("x",)
    assert codes(read(toy, group_column="arm", controls=("y",)), "error") == ["CONTROL_UNKNOWN"]
    assert codes(read(toy, group_column="amr"), "error") == ["GROUP_COLUMN_UNKNOWN"]


def test_two_group_columns(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|group|diagnosis", "sub-1|patient|AD")
    assert codes(read(toy), "error") == ["GROUP_AMBIGUOUS"]
    assert read(toy, group_column="diagnosis").scans[0].group == "AD"


def test_coded_groups(toy):
    toy.image("sub-1")
    toy.image("sub-2")
    toy.table("participants.tsv", "participant_id|group", "sub-1|0", "sub-2|1")
    assert read(toy).controls == ()
    toy.text("participants.json", '{"group": {"Levels": {"0": "healthy controls", "1": "patients"}}}')
    dataset = read(toy)
    assert dataset.controls == ("0",)
    assert "Group '1' means 'patients'." in dataset.notes
    toy.table("participants.tsv", "participant_id|COHORT", "sub-1|1", "sub-2|2")
    assert read(toy).controls == ("2",)


def test_site_from_sidecars(toy):
    toy.image("sub-1", "ses-1")
    toy.text("T1w.json", '{"MagneticFieldStrength": 3, "InstitutionName": "A"}')
    toy.text("sub-1/ses-1/anat/sub-1_ses-1_T1w.json", '{"InstitutionName": "B", "Manufacturer": "GE"}')
    assert read(toy).scans[0].site == "B, GE, 3T"
    toy.text("sub-1/ses-1/anat/sub-1_ses-1_T1w.json", "{")
    dataset = read(toy)
    assert dataset.scans[0].site is None  # it may have told another scanner
    assert ("SIDECAR_UNREADABLE", "warning") in [(f.code, f.severity) for f in dataset.faults]


# --- scores ---------------------------------------------------------------------------------------------------------


def scores(dataset, name):
    return {scan.prefix: dict(scan.scores).get(name) for scan in dataset.scans}


def test_score_of_the_session_or_the_nearest(toy):
    for session in ("ses-M000", "ses-M012", "ses-M048"):
        toy.image("sub-1", session)
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|MMSE", "ses-M000|30", "ses-M006|28", "ses-M018|27", "ses-M036|20")
    dataset = read(toy)
    assert scores(dataset, "mmse") == {"sub-1_ses-M000": 30.0, "sub-1_ses-M012": 28.0, "sub-1_ses-M048": None}
    assert "SCORE_OTHER_SESSION" in codes(dataset)
    assert scores(read(toy, max_score_gap=12.0), "mmse")["sub-1_ses-M048"] == 20.0
    assert scores(read(toy, max_score_gap=5.0), "mmse")["sub-1_ses-M012"] is None


def test_baseline_scores_stay_at_baseline(toy):
    toy.image("sub-1", "ses-M000")
    toy.image("sub-1", "ses-M024")
    toy.table("participants.tsv", "participant_id|adas11_bl|adas13_bl", "sub-1|10.67|20")
    dataset = read(toy)
    assert scores(dataset, "adas11") == {"sub-1_ses-M000": 10.67, "sub-1_ses-M024": None}
    assert dataset.score_names == ("adas11",)
    assert "SCORE_BASELINE_ONLY" in codes(dataset)


def test_scores_that_reach_no_scan_are_told(toy):
    for person in ("sub-1", "sub-2", "sub-3"):
        toy.image(person, "ses-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60", "sub-2|70", "sub-3|80")
    toy.table(
        "phenotype/mmse.tsv", "participant_id|session_id|MMSE", "sub-1|ses-screening|28", "sub-2|ses-1|27",
        "sub-2|ses-screening|26", "sub-3|ses-1|n/a", "sub-9|ses-screening|25",
    )  # fmt: skip
    dataset = read(toy)
    assert scores(dataset, "mmse") == {"sub-1_ses-1": None, "sub-2_ses-1": 27.0, "sub-3_ses-1": None}
    (fault,) = [fault for fault in dataset.faults if fault.code == "SCORE_UNUSED"]
    assert "mmse: values of 1 people" in fault.message
    assert "sub-1 (ses-screening)" in fault.message
    toy.table("phenotype/mmse.tsv", "participant_id|session_id|MMSE", "sub-1|ses-screening|28")
    alone = read(toy)  # then nobody has the score, and it is told all the same
    assert alone.score_names == ()
    assert "SCORE_UNUSED" in codes(alone)


def test_medication_states_are_never_mixed(toy):
    for i in (1, 2):
        toy.image(f"sub-{i}")
    toy.table("participants.tsv", "participant_id|NP3TOT_ON|NP3TOT_OFF", "sub-1|10|20", "sub-2|12|n/a")
    dataset = read(toy)
    assert scores(dataset, "updrs3") == {"sub-1": 20.0, "sub-2": None}
    assert any("Medication state: OFF" in note for note in dataset.notes)
    toy.table("participants.tsv", "participant_id|age", "sub-1|50", "sub-2|50")
    rows = ["sub-1|BL|ON|10", "sub-1|BL|OFF|101", "sub-2|BL|ON|12"]
    toy.table("phenotype/updrs.tsv", "participant_id|EVENT_ID|PDSTATE|NP3TOT", *rows)
    assert scores(read(toy), "updrs3") == {"sub-1": 101.0, "sub-2": None}


def test_asked_scores(toy):
    toy.image("sub-1")
    toy.image("sub-2")
    toy.table("participants.tsv", "participant_id|BDI II|z", "sub-1|12|-1", "sub-2|-4|-2.5")
    asked = tuple(map(parse_score_option, ("bdi=participants.tsv:BDI II", "z=participants.tsv:z")))
    dataset = read(toy, scores=asked)
    assert dataset.score_names == ("bdi", "z")
    assert scores(dataset, "bdi") == {"sub-1": 12.0, "sub-2": None}
    assert scores(dataset, "z") == {"sub-1": -1.0, "sub-2": -2.5}  # negative values are real where others are too
    table = scans_table(dataset.scans, dataset.score_names)
    assert table["bdi"].dtype == np.float64
    assert np.isnan(table["bdi"][1])
    wrong = (("a", "participants.tsv", "BDI"), ("b", "absent.tsv", "x"))
    assert codes(read(toy, scores=wrong), "error") == ["SCORE_COLUMN_UNKNOWN", "SCORE_FILE_UNKNOWN"]


@pytest.mark.parametrize(
    "text",
    ["BDI", "BDI=participants.tsv", "=participants.tsv:x", "a b=participants.tsv:x", "z=participants.tsv:z:sd"]
    + [f"{name}=p.tsv:x" for name in ("age", "group", "split", "dataset", "bag_m", "predicted_age_m")],
)
def test_wrong_score_options(text):
    with pytest.raises(UsageError, match="--score"):
        parse_score_option(text)


def test_ambiguous_and_lookalike_scores(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age|MMS|MMSE|cdr", "sub-1|50|28|29|12")
    assert sorted(codes(read(toy))) == ["SCORE_AMBIGUOUS", "SCORE_LOOKALIKE"]
    asked = (parse_score_option("mmse=participants.tsv:MMS"),)
    assert scores(read(toy, scores=asked), "mmse") == {"sub-1": 28.0}


# --- selection, faults ----------------------------------------------------------------------------------------------


def test_selection(toy, tmp_path):
    for i in (1, 2, 3):
        toy.image(f"sub-{i}", "ses-1")
        toy.image(f"sub-{i}", "ses-2")
    toy.table("sub-3/sub-3_sessions.tsv", "session_id|age|age", "ses-1|1|2")
    chosen = read(toy, participant_label=("1", "sub-2"), exclude_participant_label=("2",), session_label=("ses-2",))
    assert [s.prefix for s in chosen.scans] == ["sub-1_ses-2"]
    assert not codes(chosen, "error")  # a fault of somebody else does not stop this run
    assert codes(read(toy), "error") == ["TABLE_COLUMN_REPEATED"]
    with pytest.raises(UsageError, match="ses-3"):
        read(toy, session_label=("3",))
    with pytest.raises(NothingSelectedError, match="select no T1w"):
        read(toy, participant_label=("1",), exclude_participant_label=("1",))


def test_one_line_tells_all_faults_of_a_kind():
    images = [Fault("IMAGE_NOT_FETCHED", "warning", f"sub-{n}_T1w.nii.gz", None, "is not fetched") for n in range(300)]
    rows = [Fault("TABLE_BAD_ID", "error", "participants.tsv", n, f"row {n} is bad") for n in range(25)]
    ages = [Fault("AGE_VALUE", "warning", "participants.tsv", n, f"bad age {n}") for n in (2, 3)]
    text = format_faults([*ages, *images, *rows, Fault("TABLE_BAD_ID", "warning", "x" * 900, None, "m")])
    lines = text.splitlines()
    assert lines[0] == (
        "ERROR TABLE_BAD_ID (participants.tsv, 25 lines: 0, 1, 2, 3, 4 and 20 more): row 0 is bad; "
        "24 more of this kind, -v lists them"
    )
    assert lines[1] == (
        "WARNING IMAGE_NOT_FETCHED (300 files: sub-0_T1w.nii.gz, sub-1_T1w.nii.gz, sub-2_T1w.nii.gz, "
        "sub-3_T1w.nii.gz, sub-4_T1w.nii.gz and 295 more): is not fetched"
    )
    assert lines[-1] == "WARNING AGE_VALUE (participants.tsv, line 3): bad age 3"
    assert len(lines) == 5
    assert max(map(len, lines)) < 800
    assert all(code == code.upper() and severity in ("error", "warning") for code, (severity, _) in CODES.items())


# --- real data ------------------------------------------------------------------------------------------------------


@pytest.fixture
def real():
    folder = os.environ.get("BRAINAGE_TEST_DATA")
    if not folder:
        pytest.skip("BRAINAGE_TEST_DATA is not set")
    return Path(folder)


@pytest.mark.real
def test_real_depression_dataset(real):
    asked = tuple(map(parse_score_option, ("BDI=participants.tsv:BDI", "Zung=participants.tsv:Zung_SDS")))
    dataset = read_dataset(DatasetQuery(real / "ds002748-2mm", scores=asked))
    table = scans_table(dataset.scans, dataset.score_names)
    assert (len(table), dataset.controls, dataset.group_column) == (60, ("control",), "group")
    assert table["group"].value_counts().to_dict() == {"depr": 42, "control": 18}
    assert table["age"].between(19, 55).all()
    assert table["sex"].isin(["F", "M"]).all()
    assert table["BDI"].count() > 30


@pytest.mark.real
def test_real_sessions_and_phenotype(real):
    openms = read_dataset(DatasetQuery(real / "openms"))
    assert {s.prefix: s.age for s in openms.scans}["sub-ms01_ses-2"] == 20.56
    pheno = read_dataset(DatasetQuery(real / "pheno004"))
    assert pheno.participants_without_scan == ("sub-03",)
    assert codes(pheno).count("IMAGE_EMPTY") == 2
    assert [s.age for s in read_dataset(DatasetQuery(real / "ds000011")).scans][:2] == [35.0, 34.0]


# --- joins that went wrong once -------------------------------------------------------------------------------------


def test_sessions_that_a_spreadsheet_made_decimal(toy):
    for session in ("ses-01", "ses-02", "ses-10"):
        toy.image("sub-1", session)
    toy.table("phenotype/moca.tsv", "participant_id|session_id|MoCA", "sub-1|1.0|20", "sub-1|2.0|22", "sub-1|10.0|29",
              "sub-1|1.5|5")  # fmt: skip
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    dataset = read(toy)
    assert [dict(scan.scores).get("moca") for scan in dataset.scans] == [20.0, 22.0, 29.0]
    assert "TABLE_BAD_ID" in codes(dataset)


def test_two_scores_of_one_file_and_a_file_that_ends_like_a_sessions_table(toy):
    toy.image("sub-1", "ses-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|bdi", "ses-1|3")
    toy.text("clinic.csv", "participant_id,A,B\nsub-1,-1,7\n")
    toy.text("sourcedata/clinic_sessions.tsv", "participant_id\tbdi\nsub-1\t30\n")
    asked = ("a=clinic.csv:A", "b=clinic.csv:B", "x=sourcedata/clinic_sessions.tsv:bdi", "y=sessions.tsv:bdi")
    dataset = read(toy, scores=tuple(map(parse_score_option, asked)))
    assert {name: dict(dataset.scans[0].scores).get(name) for name in "bxy"} == {"b": 7.0, "x": 30.0, "y": 3.0}


def test_a_group_called_all_and_one_that_pandas_left_empty(toy):
    for number in (1, 2, 3):
        toy.image(f"sub-{number}")
    toy.table("participants.tsv", "participant_id|age|group", "sub-1|60|nan", "sub-2|60|NC", "sub-3|61|AD")
    assert [scan.group for scan in read(toy).scans] == [None, "NC", "AD"]
    toy.table("participants.tsv", "participant_id|age|group", "sub-1|60|all", "sub-2|60|NC", "sub-3|61|AD")
    assert codes(read(toy), "error") == ["GROUP_NAME"]


def test_sex_does_not_change_with_the_session(toy):
    toy.image("sub-1", "ses-1")
    toy.image("sub-1", "ses-2")
    toy.table("participants.tsv", "participant_id|session_id|age|sex", "sub-1|ses-1|60|F", "sub-1|ses-2|62|n/a")
    assert [scan.sex for scan in read(toy).scans] == ["F", "F"]


def test_a_scan_beside_those_of_sessions_is_a_session_of_its_own(toy):
    toy.image("sub-1")
    toy.image("sub-1", "ses-2")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    assert all("age_not_session_specific" in scan.age_flags for scan in read(toy).scans)


def test_sidecars_of_sessions_tables_that_disagree_are_told(toy):
    for person, unit, age in (("sub-1", "month", 84), ("sub-2", "year", 8)):
        toy.image(person, "ses-1")
        toy.table(f"{person}/{person}_sessions.tsv", "session_id|age", f"ses-1|{age}")
        toy.text(f"{person}/{person}_sessions.json", json.dumps({"age": {"Units": unit}}))
    toy.table("participants.tsv", "participant_id|sex", "sub-1|F", "sub-2|M")
    assert "SIDECAR_CONFLICT" in codes(read(toy), "error")


def test_a_long_list_of_labels_is_no_file_name(toy):
    toy.image("sub-001")
    toy.table("participants.tsv", "participant_id|age", "sub-001|60")
    with pytest.raises(UsageError, match="not in the dataset"):
        read(toy, participant_label=(",".join(f"{i:03d}" for i in range(1, 200)),))


def test_dates_are_joined_in_any_spelling_of_the_session(toy):
    for session in ("ses-01", "ses-02"):
        toy.image("sub-1", session)
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|acq_time", "1|2010-01-01T10:00:00", "2|2012-01-01T10:00:00")
    first, second = read(toy).scans
    assert first.age == 60.0
    assert second.age == pytest.approx(62.0, abs=0.01)
    assert "age_not_session_specific" not in second.age_flags


def test_a_row_that_stands_twice_makes_no_sessions(toy):
    toy.image("sub-1")
    toy.image("sub-2")
    row = "sub-1|60|F|1"
    toy.table("participants.tsv", "participant_id|age|sex|wave", row, row, "sub-2|61|M|2")
    assert [(scan.age, scan.sex) for scan in read(toy).scans] == [(60.0, "F"), (61.0, "M")]
