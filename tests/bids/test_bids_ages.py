"""Ages of scans: which table gives them, in which unit, and what is said when they are unsafe."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toyreading import ages, codes, read

from brainage_bids.bids.read import DatasetQuery, read_dataset


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


def test_a_scan_without_a_session_is_not_of_the_visit_of_a_questionnaire(toy):
    toy.image("sub-1")
    toy.image("sub-2")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60", "sub-2|n/a")
    toy.table("phenotype/moca.tsv", "participant_id|session_id|age|MoCA", "sub-1|M36|63|25", "sub-2|M36|64|25")
    assert [scan.age for scan in read(toy).scans] == [60.0, 64.0]


def test_an_age_clash_that_nobody_needs_stops_nothing(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    toy.table("phenotype/moca.tsv", "participant_id|age|MoCA", "sub-1|60|25", "sub-1|63|24")
    dataset = read(toy)
    assert dataset.scans[0].age == 60.0
    assert "AGE_CONFLICT" not in codes(dataset, "error")


def test_a_comma_in_days_may_separate_thousands(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|26,298")
    toy.text("participants.json", json.dumps({"age": {"Units": "days"}}))
    dataset = read(toy)
    assert dataset.scans[0].age is None
    assert "AGE_VALUE" in codes(dataset)


def rate_ages(dataset):
    return {scan.prefix: scan.rate_age for scan in dataset.scans}


def whole_years(toy, ages, days, sessions=("ses-1", "ses-2", "ses-3")):
    """Sessions of one person, their ages as written, and their dates (None: none)."""
    for session in sessions:
        toy.image("sub-1", session)
    toy.table("participants.tsv", "participant_id", "sub-1")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|age", *(f"{s}|{a}" for s, a in zip(sessions, ages, strict=True)))
    for session, day in zip(sessions, days, strict=True):
        if day:
            toy.table(f"sub-1/{session}/sub-1_{session}_scans.tsv", "filename|acq_time", f"anat/x_T1w.nii.gz|{day}")
    return read(toy)


DAYS = ("2000-01-01", "2000-12-31", "2002-07-02")
LATER = (0.0, 365 / 365.25, 913 / 365.25)


def test_rates_take_the_time_between_dates_where_ages_are_whole_years(toy):
    dataset = whole_years(toy, (70, 71, 72), DAYS)
    assert list(ages(dataset).values()) == [70.0, 71.0, 72.0]  # for everything else the age as written
    assert list(rate_ages(dataset).values()) == pytest.approx([70.0 + years for years in LATER])


def test_the_first_session_is_that_of_the_earliest_date_whatever_it_is_called(toy):
    dataset = whole_years(toy, (71, 72, 70), (DAYS[1], DAYS[2], DAYS[0]), ("ses-a", "ses-b", "ses-c"))
    assert list(rate_ages(dataset).values()) == pytest.approx([70.0 + LATER[1], 70.0 + LATER[2], 70.0])


def test_rates_take_the_months_of_labels_where_there_are_no_dates(toy):
    dataset = whole_years(toy, (70, 71, 70), (None,) * 3, ("ses-M006", "ses-M018", "ses-baseline"))
    assert rate_ages(dataset) == {
        "sub-1_ses-M006": 70.5, "sub-1_ses-M018": 71.5, "sub-1_ses-baseline": 70.0
    }  # fmt: skip


def test_a_session_without_an_age_of_its_own_is_no_hindrance(toy):
    dataset = whole_years(toy, ("n/a", 71, 72), (None, *DAYS[1:]))
    found = rate_ages(dataset)
    assert found["sub-1_ses-1"] is None
    assert found["sub-1_ses-3"] - found["sub-1_ses-2"] == pytest.approx(LATER[2] - LATER[1])


@pytest.mark.parametrize(
    ("written", "days"),
    [
        ((70.2, 71, 72), DAYS),  # exact enough
        ((70, 71, 72), (DAYS[0], None, DAYS[2])),  # a session without a date
        ((70, 75, 80), DAYS),  # dates that contradict the ages
        ((70, 71, 72), ("1900-01-01",) * 3),  # dates that are none
        (("89+", "89+", "89+"), DAYS),
        ((70, 71, 72), (None, None, None)),
    ],
)
def test_rates_take_the_ages_as_written_otherwise(toy, written, days):
    assert set(rate_ages(whole_years(toy, written, days)).values()) == {None}


def test_wide_ages_of_whole_years(toy):
    for session in ("ses-W1", "ses-W2"):
        toy.image("sub-1", session)
    toy.table("participants.tsv", "participant_id|AgeMRI_W1|AgeMRI_W2", "sub-1|60|64")
    for session, day in (("ses-W1", "2000-01-01"), ("ses-W2", "2003-08-01")):
        toy.table(f"sub-1/{session}/sub-1_{session}_scans.tsv", "filename|acq_time", f"anat/x_T1w.nii.gz|{day}")
    dataset = read(toy)
    assert list(ages(dataset).values()) == [60.0, 64.0]
    assert list(rate_ages(dataset).values()) == pytest.approx([60.0, 60 + 1308 / 365.25])
