import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainage_bids.bids.faults import CODES, Fault, format_faults
from brainage_bids.bids.read import DatasetQuery, parse_score_option, raise_on_errors, read_dataset, scans_table
from brainage_bids.errors import InvalidDatasetError, NothingSelectedError, UsageError


def read(toy, **query):
    return read_dataset(DatasetQuery(toy.root, **query))


def codes(dataset, severity=None):
    return [f.code for f in dataset.faults if severity in (None, f.severity)]


def ages(dataset):
    return {scan.prefix: scan.age for scan in dataset.scans}


# --- ages -----------------------------------------------------------------------------------------------------------


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


def test_session_age_wins(toy):
    for session in ("ses-1", "ses-2"):
        toy.image("sub-1", session)
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|Age", "ses-1|60.2", "ses-2|n/a")
    dataset = read(toy)
    assert ages(dataset) == {"sub-1_ses-1": 60.2, "sub-1_ses-2": 60.0}
    assert dataset.scans[0].age_source == "sub-1_sessions.tsv:Age"
    assert dataset.scans[1].age_flags == ("age_not_session_specific",)
    assert "AGE_NOT_SESSION_SPECIFIC" in codes(dataset)


def test_root_sessions_and_phenotype(toy):
    toy.image("sub-1", "ses-a")
    toy.image("sub-2", "ses-a")
    toy.table("sessions.tsv", "participant_id|session_id|age", "sub-1|ses-a|50", "sub-1|ses-b|51")
    toy.table("phenotype/demographics.tsv", "participant_id|session_id|age", "sub-1|a|70", "sub-2|a|71")
    dataset = read(toy)
    assert [s.age_source for s in dataset.scans] == ["sessions.tsv:age", "phenotype/demographics.tsv:age"]
    assert ages(dataset) == {"sub-1_ses-a": 50.0, "sub-2_ses-a": 71.0}
    assert codes(dataset) == ["PARTICIPANTS_MISSING"]


def test_age_from_dates_and_labels(toy):
    for participant in ("sub-1", "sub-2", "sub-3"):
        toy.image(participant, "ses-M000")
        toy.image(participant, "ses-M024")
    toy.table("participants.tsv", "participant_id|age_bl", "sub-1|60", "sub-2|70", "sub-3|89+")
    for session, day in (("ses-M000", "1900-01-01T10:00:00"), ("ses-M024", "1902-01-31T22:00:00.5")):
        toy.table(f"sub-1/{session}/sub-1_{session}_scans.tsv", "filename|acq_time", f"anat/x_T1w.nii.gz|{day}")
    dataset = read(toy)
    assert ages(dataset)["sub-1_ses-M000"] == 60.0
    assert ages(dataset)["sub-1_ses-M024"] == pytest.approx(60 + 760.5 / 365.25, abs=1e-5)
    assert ages(dataset)["sub-2_ses-M024"] == 72.0
    flags = {scan.prefix: scan.age_flags for scan in dataset.scans}
    assert flags["sub-1_ses-M024"] == ("age_from_dates",)
    assert flags["sub-3_ses-M024"] == ("top_coded", "age_from_session_label")


def test_baseline_age_is_not_taken_for_a_later_first_session(toy):
    for session, day in (("ses-M012", "2000-01-01"), ("ses-M024", "2001-01-01")):
        toy.image("sub-1", session)
        toy.table(f"sub-1/{session}/sub-1_{session}_scans.tsv", "filename|acq_time", f"a|{day}")
    toy.table("participants.tsv", "participant_id|age_bl", "sub-1|60")
    assert ages(read(toy))["sub-1_ses-M024"] == pytest.approx(61 + 366 / 365.25)


def test_ppmi_visit_codes_only_beside_enroll_age(toy):
    toy.image("sub-1", "ses-V10")
    toy.table("participants.tsv", "participant_id|ENROLL_AGE", "sub-1|60")
    assert ages(read(toy)) == {"sub-1_ses-V10": 64.0}
    toy.table("participants.tsv", "participant_id|age_bl", "sub-1|60")
    dataset = read(toy)
    assert (dataset.scans[0].age, dataset.scans[0].age_flags) == (60.0, ("age_at_baseline",))


def test_plain_age_beside_a_lone_later_session_is_flagged(toy):
    toy.image("sub-1", "ses-M024")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    assert read(toy).scans[0].age_flags == ("age_may_be_baseline",)


def test_wide_ages(toy):
    for session in ("ses-W1", "ses-W2", "ses-01"):
        toy.image("sub-1", session)
    toy.table("participants.tsv", "participant_id|AgeMRI_W1|AgeMRI_W2|age_ses-01|age1", "sub-1|50|55|40|1")
    assert ages(read(toy)) == {"sub-1_ses-01": 40.0, "sub-1_ses-W1": 50.0, "sub-1_ses-W2": 55.0}


def test_units(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|interview_age", "sub-1|864")
    assert ages(read(toy)) == {"sub-1": 72.0}
    toy.table("participants.tsv", "participant_id|age", "sub-1|864")
    assert codes(read(toy), "error") == ["AGE_UNIT_UNKNOWN"]
    toy.text("participants.json", '{"age": {"Units": "months"}}')
    assert ages(read(toy)) == {"sub-1": 72.0}
    toy.text("participants.json", '{"age": {"Units": "years"}}')
    assert codes(read(toy), "error") == ["AGE_UNIT_UNKNOWN"]


def test_infant_scan_age_in_weeks_is_refused(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|birth_age|scan_age", "sub-1|38|40")
    assert codes(read(toy), "error") == ["AGE_UNIT_UNKNOWN"]
    toy.text("participants.json", '{"scan_age": {"Units": "weeks"}}')
    assert ages(read(toy))["sub-1"] == pytest.approx(40 * 7 / 365.25)


def test_two_age_columns(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age|age_at_scan", "sub-1|72|75")
    assert codes(read(toy), "error") == ["AGE_AMBIGUOUS"]
    toy.table("participants.tsv", "participant_id|age|age_at_scan", "sub-1|72|72.4")
    assert ages(read(toy)) == {"sub-1": 72.4}  # the same age, once in whole years


def test_bad_ages_are_missing_and_told(toy):
    for i in range(1, 5):
        toy.image(f"sub-{i}")
    toy.table("participants.tsv", "participant_id|age", "sub-1|-4", "sub-2|35-40", "sub-3|x", "sub-4|20")
    dataset = read(toy)
    assert [s.age for s in dataset.scans] == [None, None, None, 20.0]
    assert codes(dataset).count("AGE_VALUE") == 3
    assert "3 of 4 scans have no age" in next(f.message for f in dataset.faults if f.code == "AGE_MISSING")


def test_recruitment_age_is_never_used(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age_at_recruitment", "sub-1|50")
    dataset = read(toy)
    assert ages(dataset) == {"sub-1": None}
    assert "AGE_AT_RECRUITMENT" in codes(dataset)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_ages_never_change_hands(tmp_path_factory, data):
    """Every age names its owner and session, so a value at the wrong place shows; rows and tables are shuffled."""
    root = tmp_path_factory.mktemp("people")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    people = data.draw(
        st.lists(st.sampled_from(["1", "01", "001", "2", "10", "a", "A1", "007"]), min_size=1, unique=True)
    )
    truth, rows, wide = {}, [], []
    for number, person in enumerate(people):
        for session in data.draw(st.lists(st.sampled_from(["1", "2", "10", "M12"]), min_size=1, unique=True)):
            folder = root / f"sub-{person}" / f"ses-{session}" / "anat"
            folder.mkdir(parents=True)
            (folder / f"sub-{person}_ses-{session}_T1w.nii.gz").write_bytes(b"x")
            age = 20 + number + ["1", "2", "10", "M12"].index(session) / 10
            where = data.draw(st.sampled_from(["own", "root", "phenotype"]))
            truth[f"sub-{person}_ses-{session}"] = age
            if where == "own":
                path = root / f"sub-{person}" / f"sub-{person}_sessions.tsv"
                old = path.read_text() if path.exists() else data.draw(st.sampled_from(["session_id\tage\n"]))
                path.write_text(old + f"ses-{session}\t{age}\n")
            else:
                (rows if where == "root" else wide).append((person, session, age))
    for path, kept in ((root / "sessions.tsv", rows), (root / "phenotype" / "d.tsv", wide)):
        path.parent.mkdir(exist_ok=True)
        if kept:
            lines = [f"{a}\tsub-{p}\tses-{s}" for p, s, a in data.draw(st.permutations(kept))]
            path.write_text("age\tparticipant_id\tsession_id\n" + "\n".join(lines))
    shuffled = [f"{90 - n}\tsub-{p}" for n, p in data.draw(st.permutations(list(enumerate(people))))]
    (root / "participants.tsv").write_text("age\tparticipant_id\n" + "\n".join(shuffled))
    dataset = read_dataset(DatasetQuery(root))
    assert {s.prefix: s.age for s in dataset.scans} == truth


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


def test_other_encodings_are_refused(toy):
    toy.image("sub-1")
    (toy.root / "participants.tsv").write_bytes("participant_id\tage\tplace\nsub-1\t50\tKöln\n".encode("latin-1"))
    assert codes(read(toy), "error") == ["TABLE_UNREADABLE"]


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
    assert dataset.scans[0].site == "A, 3T"
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


def test_faults_are_listed_together():
    many = [Fault("AGE_UNIT_UNKNOWN", "error", "participants.tsv", n, "m") for n in range(25)]
    text = format_faults([Fault("IMAGE_EMPTY", "warning", "a", None, "m"), *many])
    assert text.count("\n") == 20
    assert text.splitlines()[0] == "ERROR AGE_UNIT_UNKNOWN (participants.tsv, line 0): m"
    assert text.endswith("and 6 more: AGE_UNIT_UNKNOWN x 5, IMAGE_EMPTY x 1")
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


@pytest.mark.parametrize(
    ("units", "age"),
    [("years (decimal)", 40.0), ("in months", 40 / 12), ("months since birth", 40 / 12), ("n/a", 40.0), ("Year", 40.0)],
)
def test_units_of_ages_in_words(toy, units, age):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|40")
    toy.text("participants.json", json.dumps({"Age": {"Units": units}}))  # the key is not written as the column is
    dataset = read(toy)
    assert dataset.scans[0].age == pytest.approx(age)
    assert not codes(dataset, "error")


@pytest.mark.parametrize("units", ["postmenstrual weeks", "weeks PMA", "gestational weeks", "percentile"])
def test_units_that_are_not_time_since_birth_are_refused(toy, units):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|40")
    toy.text("participants.json", json.dumps({"age": {"Units": units}}))
    assert "AGE_UNIT_UNKNOWN" in codes(read(toy), "error")


def test_a_wide_column_keeps_the_unit_of_its_name(toy):
    toy.image("sub-1", "ses-1")
    toy.image("sub-1", "ses-2")
    toy.table("participants.tsv", "participant_id|age_months_ses-1|age_months_ses-2", "sub-1|84|96")
    assert [scan.age for scan in read(toy).scans] == [7.0, 8.0]


def test_sessions_that_a_spreadsheet_made_decimal(toy):
    for session in ("ses-01", "ses-02", "ses-10"):
        toy.image("sub-1", session)
    toy.table("phenotype/moca.tsv", "participant_id|session_id|MoCA", "sub-1|1.0|20", "sub-1|2.0|22", "sub-1|10.0|29",
              "sub-1|1.5|5")  # fmt: skip
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    dataset = read(toy)
    assert [dict(scan.scores).get("moca") for scan in dataset.scans] == [20.0, 22.0, 29.0]
    assert "TABLE_BAD_ID" in codes(dataset)


def test_a_scan_without_a_session_is_not_of_the_visit_of_a_questionnaire(toy):
    toy.image("sub-1")
    toy.image("sub-2")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60", "sub-2|n/a")
    toy.table("phenotype/moca.tsv", "participant_id|session_id|age|MoCA", "sub-1|M36|63|25", "sub-2|M36|64|25")
    assert [scan.age for scan in read(toy).scans] == [60.0, 64.0]


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


def test_an_age_clash_that_nobody_needs_stops_nothing(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    toy.table("phenotype/moca.tsv", "participant_id|age|MoCA", "sub-1|60|25", "sub-1|63|24")
    dataset = read(toy)
    assert dataset.scans[0].age == 60.0
    assert "AGE_CONFLICT" not in codes(dataset, "error")


def test_a_row_that_stands_twice_makes_no_sessions(toy):
    toy.image("sub-1")
    toy.image("sub-2")
    row = "sub-1|60|F|1"
    toy.table("participants.tsv", "participant_id|age|sex|wave", row, row, "sub-2|61|M|2")
    assert [(scan.age, scan.sex) for scan in read(toy).scans] == [(60.0, "F"), (61.0, "M")]


def test_a_comma_in_days_may_separate_thousands(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|26,298")
    toy.text("participants.json", json.dumps({"age": {"Units": "days"}}))
    dataset = read(toy)
    assert dataset.scans[0].age is None
    assert "AGE_VALUE" in codes(dataset)
