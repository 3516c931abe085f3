"""What a person reads of ages that are missing, in doubt or not used: code, severity, place and the whole sentence."""

import json

import pytest
from toyreading import ages, read

from brainage_bids.bids.asked import parse_column_option

ADD = "add a column age, or name one with --age-column FILE:COLUMN[:UNIT]"
BIRTH = "write the years between birth and scan into a column age, or name one with --age-column FILE:COLUMN[:UNIT]"
UNIT = "write Units into the JSON sidecar, or name the column with its unit: --age-column FILE:COLUMN:UNIT"
CODES = "its ages are missing: give exact ages, or name another column with --age-column FILE:COLUMN"


def people(toy, heading, *cells, about=None):
    """One person for each row of cells of participants.tsv, and what its sidecar says."""
    for number in range(1, len(cells) + 1):
        toy.image(f"sub-{number}")
    rows = (f"sub-{number}|{cell}" for number, cell in enumerate(cells, start=1))
    toy.table("participants.tsv", f"participant_id|{heading}", *rows)
    if about is not None:
        toy.text("participants.json", json.dumps(about))
    return read(toy)


def told(dataset, *codes):
    """The faults of the codes: all that a person reads of them."""
    return [(f.code, f.severity, f.file, f.row, f.message) for f in dataset.faults if f.code in codes]


# --- a column of ages -----------------------------------------------------------------------------------------------


def test_columns_that_disagree_are_named_with_the_person_and_the_line(toy):
    dataset = people(toy, "age|age_at_scan", "72|75.5", "50|50")
    message = (
        "columns 'age_at_scan' and 'age' disagree on the age (75.5 and 72 years for sub-1); rename all but the age at "
        "the scan, or name it: --age-column participants.tsv:COLUMN"
    )
    assert told(dataset, "AGE_AMBIGUOUS") == [("AGE_AMBIGUOUS", "error", "participants.tsv", 2, message)]


@pytest.mark.parametrize(
    ("first", "second", "age"),
    [
        ("72", "72.9", 72.9),  # whole years beside exact ones
        ("72", "73", None),
        ("72.5", "73.5", None),
        ("72.50", "72.53", 72.5),  # one measurement rounded twice
        ("72.50", "72.57", None),
        ("n/a", "72.5", 72.5),
        ("72.5", "n/a", 72.5),
    ],
)
def test_how_far_two_columns_may_differ(toy, first, second, age):
    dataset = people(toy, "age|age_at_scan", f"{first}|{second}", "50|50")
    assert ages(dataset) == {"sub-1": age, "sub-2": None if age is None else 50.0}


def test_an_age_that_only_one_of_two_columns_has_keeps_its_flag(toy):
    dataset = people(toy, "age|age_at_scan", "n/a|89+", "50.5|50", "60.5|n/a")
    assert [(scan.age, scan.age_flags) for scan in dataset.scans] == [(89.0, ("top_coded",)), (50.5, ()), (60.5, ())]


def test_two_ages_of_one_session_are_told_with_the_later_line(toy):
    toy.image("sub-1", "ses-1")
    toy.table("sessions.tsv", "participant_id|session_id|age", "sub-1|ses-1|50", "sub-1|ses-1|51.5")
    message = "sub-1 ses-1 is 50 and 51.5 years old in 'age'; keep the right row"
    assert told(read(toy), "AGE_CONFLICT") == [("AGE_CONFLICT", "error", "sessions.tsv", 3, message)]


def test_two_ages_at_a_questionnaire_are_a_warning(toy):
    toy.image("sub-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    toy.table("phenotype/moca.tsv", "participant_id|age", "sub-1|60", "sub-1|63.25")
    message = "sub-1 is 60 and 63.25 years old in 'age'; keep the right row"
    assert told(read(toy), "AGE_CONFLICT") == [("AGE_CONFLICT", "warning", "phenotype/moca.tsv", 3, message)]


def test_cells_that_are_no_ages_are_told_by_their_kind(toy):
    about = {"age": {"Units": "years"}}
    dataset = people(toy, "age", "20", "-4", "35-40", "x", "121", "-9", "30", about=about)
    assert told(dataset, "AGE_VALUE") == [
        ("AGE_VALUE", "warning", "participants.tsv", line, f"{kind} in 'age': {cells}; read as missing")
        for line, kind, cells in (
            (3, "sentinel", "sub-2 '-4', sub-6 '-9'"),
            (6, "out of range", "sub-5 '121'"),
            (4, "age range", "sub-3 '35-40'"),
            (5, "unreadable", "sub-4 'x'"),
        )
    ]
    assert list(ages(dataset).values()) == [20.0, None, None, None, None, None, 30.0]


# --- codes ----------------------------------------------------------------------------------------------------------


def test_levels_that_are_groups_of_ages_are_quoted(toy):
    levels = {"1": "18-25", "2": {"Description": "26-35 years, which is all that was asked of these people"}}
    dataset = people(toy, "age", "1", "2", about={"age": {"Levels": levels}})
    message = (
        "'age' holds codes or ranges, not years: Levels say that '1' means '18-25', '2' means '26-35 years, which is "
        f"all that was asked'; {CODES}"
    )
    assert told(dataset, "AGE_BINS") == [("AGE_BINS", "warning", "participants.tsv", None, message)]


def test_levels_that_repeat_the_age_or_say_missing_leave_ages(toy):
    levels = {"25": "25 years", "89": "89 or older", "99": "not known", "98": {"LongName": "refused"}}
    dataset = people(toy, "age", "25", "089", "99", "98.0", "31", about={"age": {"Levels": levels}})
    assert list(ages(dataset).values()) == [25.0, 89.0, None, None, 31.0]
    assert dataset.scans[1].age_flags == ("top_coded",)
    assert told(dataset, "AGE_BINS", "AGE_VALUE") == []


@pytest.mark.parametrize(
    "about",
    [{"Description": "age group"}, {"LongName": "Age band"}, {"Levels": ["18-25", "26-40"]}, {"Levels": "1=18-25"}],
)
def test_words_on_groups_of_ages_make_codes_of_few_whole_numbers(toy, about):
    dataset = people(toy, "age", "2", "1", "n/a", "4.0", "3", about={"age": about})
    message = (
        "'age' holds codes or ranges, not years: its description or Levels mention age groups (1, 2, 3 and 2 "
        f"more); {CODES}"
    )
    assert told(dataset, "AGE_BINS") == [("AGE_BINS", "warning", "participants.tsv", None, message)]


@pytest.mark.parametrize(("n", "read_as_ages"), [(20, False), (21, True)])
def test_more_than_twenty_different_ages_are_no_codes(toy, n, read_as_ages):
    dataset = people(toy, "age", *map(str, range(30, 30 + n)), about={"age": {"Description": "age group"}})
    assert (None not in ages(dataset).values()) == read_as_ages


def test_ages_with_decimals_are_no_codes(toy):
    dataset = people(toy, "age", "30", "31.5", about={"age": {"Description": "age group"}})
    assert list(ages(dataset).values()) == [30.0, 31.5]


# --- units ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "about", "cells", "fault"),
    [
        (
            "age", {"Units": "percentile"}, ("20",),
            ("AGE_UNIT_UNKNOWN", "error", None,
             "column 'age' is in 'percentile', which is not a unit of age; use year, month, week or day"),
        ),
        (
            "age", {"Description": "postmenstrual age"}, ("40",),
            ("AGE_UNIT_UNKNOWN", "warning", None,
             "'age' is counted from conception (weeks of gestation), not from birth; its ages are missing: give the "
             "age since birth"),
        ),
        (
            "age_months", {"Units": "years", "Description": "age in weeks or in days"}, ("84",),
            ("AGE_UNIT_CONFLICT", "warning", None,
             "the unit of 'age_months' is not clear (Units: year, the description: day and week, the heading: month); "
             f"its ages are missing: make them agree, or {UNIT}"),
        ),
        (
            "age", {}, ("30", "864"),
            ("AGE_UNIT_UNKNOWN", "error", 3,
             "age column 'age' holds '864' (sub-2) and its unit is not stated; correct it or write the unit into the "
             'JSON sidecar: {"age": {"Units": "month"}}'),
        ),
        (
            "age", {"Unit": "years"}, ("30", "300", "864"),
            ("AGE_UNIT_UNKNOWN", "error", 3,
             "age column 'age' holds '300' (sub-2) and its unit is stated as years; correct it or write the unit into "
             'the JSON sidecar: {"age": {"Units": "month"}}'),
        ),
    ],
)  # fmt: skip
def test_a_unit_in_doubt(toy, heading, about, cells, fault):
    dataset = people(toy, heading, *cells, about={heading: about})
    code, severity, line, message = fault
    assert told(dataset, "AGE_UNIT_UNKNOWN", "AGE_UNIT_CONFLICT") == [
        (code, severity, "participants.tsv", line, message)
    ]
    assert set(ages(dataset).values()) == {None}


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        (("30", "300"), [30.0, None]),  # half of them: a mistake in one cell
        (("120", "30"), [120.0, 30.0]),
        (("999", "30"), [None, 30.0]),  # 999 stands for missing
        (("9999", "999", "30"), [None, None, 30.0]),
        (("300", "400", "30"), [None] * 3),
    ],
)
def test_years_above_120(toy, cells, kept):
    assert list(ages(people(toy, "age", *cells, about={"age": {"Units": "years"}})).values()) == kept


def test_words_that_agree_on_a_unit_and_units_that_say_nothing(toy):
    about = {"age_months": {"Units": "months", "Description": "age in months"}, "age": {"Units": "integer"}}
    assert ages(people(toy, "age_months", "84", about=about)) == {"sub-1": 7.0}
    about["age_months"] = {"Units": "months", "Description": "age in months (adults: in years)"}
    assert ages(people(toy, "age_months", "84", about=about)) == {"sub-1": 7.0}  # the one that all of them state
    assert ages(people(toy, "age", "84", about=about)) == {"sub-1": 84.0}


# --- gestation ------------------------------------------------------------------------------------------------------


def may_be_weeks(column, born):
    return (
        f"age column {column!r} may be in weeks since conception: {born!r} (participants.tsv) holds weeks of gestation "
        f"and no unit is stated; {UNIT}"
    )


@pytest.mark.parametrize(
    ("born", "column", "severity"),
    [("birth_age", "scan_age", "error"), ("ga_weeks", "scan_age", "warning"), ("birth_age", "age", "warning")],
)
def test_an_age_beside_weeks_of_gestation(toy, born, column, severity):
    dataset = people(toy, f"{born}|{column}", "38|41")
    assert told(dataset, "AGE_UNIT_UNKNOWN") == [
        ("AGE_UNIT_UNKNOWN", severity, "participants.tsv", None, may_be_weeks(column, born))
    ]
    assert told(dataset, "AGE_MISSING")[0][-1] == (
        f"1 of 1 scans have no age: sub-1; {born!r} (participants.tsv) counts weeks from conception and is not used; "
        f"{ADD}"
    )


@pytest.mark.parametrize(
    ("born", "age", "weeks"),
    [
        ("38", "38", True),  # scanned on the day of birth
        ("38", "37.9", False),
        ("38+2", "60", True),
        ("38.7", "38.6", False),
        ("38", "60.1", False),
        ("266 days", "38", True),
        ("266", "37.9", False),
        ("n/a", "20", True),  # of this person nothing is known: from twenty weeks on
        ("n/a", "19.9", False),
        ("19", "30", True),
        ("46", "30", True),  # 46 is no week of gestation
    ],
)
def test_ages_that_can_be_weeks_since_conception(toy, born, age, weeks):
    dataset = people(toy, "ga_weeks|age", f"{born}|{age}", "40|n/a")
    assert ages(dataset)["sub-1"] == (None if weeks else float(age))
    assert bool(told(dataset, "AGE_UNIT_UNKNOWN")) == weeks


def test_weeks_must_fit_more_than_half_of_the_ages(toy):
    half = people(toy, "ga_weeks|age", "38|41", "38|7", "39|42", "39|8")
    assert list(ages(half).values()) == [41.0, 7.0, 42.0, 8.0]
    more = people(toy, "ga_weeks|age", "38|41", "38|43", "39|42", "39|8")
    assert set(ages(more).values()) == {None}


# --- ages that are missing ------------------------------------------------------------------------------------------


def missing(dataset):
    ((_, severity, file, line, message),) = told(dataset, "AGE_MISSING")
    assert (severity, file, line) == ("warning", "participants.tsv", None)
    return message.split("; ", 1)


def test_scans_without_an_age_are_counted_and_the_first_are_named(toy):
    dataset = people(toy, "age", "20", *["n/a"] * 7)
    assert missing(dataset) == ["7 of 8 scans have no age: sub-2, sub-3, sub-4, sub-5, sub-6 and 2 more", ADD]


@pytest.mark.parametrize(
    ("heading", "cells", "way"),
    [
        ("sex", "F", ADD),
        ("age_of_volunteer", "n/a", ADD),
        ("age_of_volunteer", "old", ADD),
        (
            "age_of_volunteer", "30",
            "perhaps 'age_of_volunteer' (participants.tsv) holds it: name it with --age-column "
            "participants.tsv:age_of_volunteer[:UNIT]",
        ),
        (
            "years|age_of_volunteer", "n/a|20000",  # an age in days
            "perhaps 'age_of_volunteer' (participants.tsv) holds it: name it with --age-column "
            "participants.tsv:age_of_volunteer[:UNIT]",
        ),
        ("dob", "1980", f"'dob' (participants.tsv) can tell it: {BIRTH}"),
        ("dob", "n/a", ADD),
        ("pma", "40", f"'pma' (participants.tsv) counts weeks from conception and is not used; {ADD}"),
        (
            "pma|dob|Alter", "40|1980|30",
            "perhaps 'Alter' (participants.tsv) holds it: name it with --age-column participants.tsv:Alter[:UNIT]; "
            f"'dob' (participants.tsv) can tell it: {BIRTH}; 'pma' (participants.tsv) "
            "counts weeks from conception and is not used",
        ),
    ],
)  # fmt: skip
def test_what_may_hold_the_missing_ages(toy, heading, cells, way):
    assert missing(people(toy, heading, cells)) == ["1 of 1 scans have no age: sub-1", way]


def test_dates_of_birth_and_of_scans_tell_ages_together(toy):
    toy.table("sub-1/sub-1_scans.tsv", "filename|acq_time", "anat/sub-1_T1w.nii.gz|2000-01-01")
    way = f"'dob' (participants.tsv) and acq_time can tell it: {BIRTH}"
    assert missing(people(toy, "dob", "1980"))[1] == way


def test_where_the_user_named_a_column_another_one_is_proposed(toy):
    people(toy, "x|age", "n/a|30")
    asked = parse_column_option("participants.tsv:x", "--age-column")
    assert missing(read(toy, age_columns=(asked,)))[1] == (
        "perhaps 'age' (participants.tsv) holds it: name another column with --age-column participants.tsv:age[:UNIT]"
    )


def test_tables_that_are_read_for_nothing_else_may_hold_ages_too(toy):
    toy.text("demographics.csv", "participant_id,volunteer age\n1,33\n")
    toy.text("other.tsv", "participant_id\tyears\n9\t33\n")  # of nobody who has no age
    assert missing(people(toy, "sex", "F"))[1] == (
        "perhaps 'volunteer age' (demographics.csv) holds it: name it with --age-column "
        "demographics.csv:volunteer age[:UNIT]"
    )


@pytest.mark.parametrize("name", ["participants.tsv", "sessions.tsv"])
def test_a_table_that_is_ignored_is_no_hint(toy, name):
    toy.image("sub-1")
    toy.table(name, "participant_id|session_id|Alter", "sub-1|ses-1|30")
    toy.text(".bidsignore", f"{name}\n")
    assert missing(read(toy))[1] == ADD


def test_columns_of_people_with_an_age_are_no_hint(toy):
    assert missing(people(toy, "age|Alter", "30|30", "n/a|n/a")) == ["1 of 2 scans have no age: sub-2", ADD]


def test_scans_that_share_an_age_are_named(toy):
    for session in ("ses-1", "ses-2"):
        toy.image("sub-1", session)
    toy.image("sub-2", "ses-1")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60", "sub-2|61")
    message = "2 scans take an age that is not of their session: sub-1_ses-1, sub-1_ses-2; add a sessions table"
    assert told(read(toy), "AGE_NOT_SESSION_SPECIFIC") == [
        ("AGE_NOT_SESSION_SPECIFIC", "warning", "participants.tsv", None, message)
    ]


def test_an_age_at_recruitment_is_told_only_where_there_is_no_other(toy):
    message = (
        "'age_at_recruitment' is the age at recruitment; add the age at the scan as column age of a sessions table"
    )
    fault = ("AGE_AT_RECRUITMENT", "warning", "participants.tsv", None, message)
    assert told(people(toy, "age_at_recruitment", "50"), "AGE_AT_RECRUITMENT") == [fault]
    for heading in ("age", "age_bl"):
        dataset = people(toy, f"age_at_recruitment|{heading}", "50|60")
        assert told(dataset, "AGE_AT_RECRUITMENT") == []
        assert ages(dataset) == {"sub-1": 60.0}


def test_dates_that_cannot_be_true_are_told_by_person(toy):
    for session, day in (("ses-1", "2001-01-01"), ("ses-2", "2000-01-02")):
        toy.image("sub-1", session)
        toy.table(f"sub-1/{session}/sub-1_{session}_scans.tsv", "filename|acq_time", f"a|{day}")
    toy.table("participants.tsv", "participant_id|age", "sub-1|60")
    message = (
        "the dates of acquisition of 1 participants cannot be true and are not used: sub-1 (ses-2 is dated 1.0 years "
        "before ses-1); the ages in the tables are used: correct acq_time, or add an age for each session"
    )
    assert told(read(toy), "AGE_DATES") == [("AGE_DATES", "warning", "acq_time", None, message)]


# --- notes ----------------------------------------------------------------------------------------------------------


def test_notes_count_the_scans_of_every_source(toy):
    for session in ("ses-M000", "ses-M012"):
        toy.image("sub-1", session)
        toy.image("sub-2", session)
    toy.table("participants.tsv", "participant_id|age_bl", "sub-1|60", "sub-2|89+", "sub-3|89")
    toy.image("sub-3", "ses-M000")
    toy.table("sub-1/sub-1_sessions.tsv", "session_id|age", "ses-M012|61.5")
    toy.table("sub-3/sub-3_sessions.tsv", "session_id|age", "ses-M000|70")
    notes = [note for note in read(toy).notes if "ge" in note.split()[0] or "top-coded" in note]
    assert notes == [
        "Age in years from participants.tsv:age_bl (2 scans), sub-*_sessions.tsv:age (2 scans), "
        "participants.tsv:age_bl + time since baseline (1 scans).",
        "2 ages are top-coded or may be.",
    ]


def test_notes_where_no_age_is_found(toy):
    assert "No age was found." in people(toy, "sex", "F").notes
