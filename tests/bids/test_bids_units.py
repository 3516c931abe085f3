"""Units of ages in the words of sidecars and headings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainage_bids.bids.headings import (
    AGE_BASELINE,
    AGE_SESSION,
    AGE_VISIT,
    age_headings,
    counts_from_conception,
    may_be_age,
    names_birth,
    unit_of_heading,
)
from brainage_bids.bids.units import UNITS_PER_YEAR, about_age, says_nothing, unit_name

WORDS = {
    "year": ("years", "yrs", "Jahren", "années"),
    "month": ("months", "mths", "Monaten", "meses"),
    "week": ("weeks", "wks", "Wochen", "semaines"),
    "day": ("days", "Tagen", "jours"),
}
FORMS = (
    "age in {}",
    "Age ({})",
    "Age of the participant at the scan, in {}",
    "Participant's age [{}]",
    "{}",
    "{} since birth",
    "Age at MRI: {}",
    "chronological age in completed {} at the day of the scan",
    "age in {}.",
    "Age at 2nd visit, {}",
)
NO_UNIT = (
    "age of the participant",
    "age on the day of the scan",
    "age at the 6-month visit",
    "age; older than 18 years of age",
    "age at first session, six months after surgery",
    "age (range 18-65)",
    "age rounded to the nearest month",
    "age at the year of the scan",
    "month of birth",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("unit", "word"), [(unit, word) for unit, words in WORDS.items() for word in words])
def test_a_unit_in_a_sentence(form, unit, word):
    assert about_age(form.format(word)).units == {unit}


@pytest.mark.parametrize("text", NO_UNIT)
def test_words_that_state_no_unit(text):
    told = about_age(text)
    assert not told.units
    assert not told.conception


@given(st.sampled_from(sorted(WORDS)), st.sampled_from(FORMS), st.sampled_from(NO_UNIT), st.booleans())
def test_what_stands_beside_a_stated_unit_changes_it_not(unit, form, other, first):
    texts = (form.format(WORDS[unit][0]), other)
    assert about_age(". ".join(texts if first else texts[::-1])).units == {unit}


def test_two_units_are_both_told():
    assert about_age("Age in years (adults) or in months (children)").units == {"year", "month"}
    assert about_age("age in days / 365.25").units == set()


@pytest.mark.parametrize(
    "text",
    [
        "Postmenstrual age in weeks",
        "post-menstrual age",
        "gestational age (GA)",
        "PMA at scan",
        "corrected age in months",
        "weeks since conception",
        "adjusted age",
    ],
)
def test_ages_that_do_not_start_at_birth(text):
    assert about_age(text).conception


@pytest.mark.parametrize(
    "text", ["postnatal age in weeks", "age in weeks, not corrected for prematurity", "uncorrected age"]
)
def test_ages_that_start_at_birth(text):
    assert not about_age(text).conception


@pytest.mark.parametrize(
    ("text", "bins"),
    [
        ("age group", True),
        ("Age range of the participant", True),
        ("1=18-25, 2=26-35", True),
        ("5-year age bins", True),
        ("age rounded to 5 years", True),
        ("age range: 18-65", False),
        ("age, range of 18 to 65", False),
        ("age", False),
    ],
)
def test_descriptions_of_groups_of_ages(text, bins):
    assert about_age(text).bins == bins


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("Year", "year"),
        ("y", "year"),
        ("Años", "year"),
        ("岁", "year"),
        ("m", "month"),
        ("Monate", "month"),
        ("月", "month"),
        ("wk", "week"),
        ("days (postnatal)", "day"),
        ("PND", "day"),
        ("months/years", None),
        ("percentile", None),
        ("gestational weeks", None),
        ("weeks GA", None),
        ("kg", None),
    ],
)
def test_units(text, unit):
    assert unit_name(text) == unit


def test_units_that_say_nothing():
    assert all(says_nothing(text) for text in ("", "n/a", "integer", "Numeric"))
    assert not any(says_nothing(text) for text in ("months", "percentile", "月"))


@given(st.text(max_size=40))
def test_no_text_is_a_unit_by_accident(text):
    assert unit_name(text) in {None, *UNITS_PER_YEAR}
    assert about_age(text).units <= set(UNITS_PER_YEAR)


# --- headings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("age", None),
        ("Age_at_MRI", None),
        ("AgeAtMRI", None),
        ("mri_age", None),
        ("subject_age", None),
        ("PTAGE", None),
        ("age_yrs", "year"),
        ("Age (years)", "year"),
        ("Age_in_Yrs", "year"),
        ("age_mri_years", "year"),
        ("agey", "year"),
        ("age_at_scan_months", "month"),
        ("months_of_age", "month"),
        ("ageInWeeks", "week"),
        ("agedays", "day"),
    ],
)
def test_headings_of_ages_and_their_units(name, unit):
    assert age_headings([name], AGE_SESSION) == [name]
    assert unit_of_heading(name) == unit


def test_kinds_of_headings():
    assert age_headings(["age_at_exam", "x"], AGE_VISIT) == ["age_at_exam"]
    assert age_headings(["Age at Baseline (months)"], AGE_BASELINE) == ["Age at Baseline (months)"]
    assert unit_of_heading("age_of_volunteer_months") == "month"
    assert unit_of_heading("age_at_12_months") is None  # the visit, not the unit
    assert unit_of_heading("AgeAtStudy") is None


LOOKALIKES = (
    "brain_age",
    "BrainAge",
    "brainage",
    "predicted_age",
    "brain_age_gap",
    "age_of_onset",
    "ageonset",
    "age_at_diagnosis",
    "paternal_age",
    "maternalAge",
    "bone_age",
    "mental_age",
    "years_of_education",
    "educ_yrs",
    "age_group",
    "AgeGroup",
    "agerange",
    "language",
    "image",
    "stage",
    "dosage",
    "agent",
    "average",
    "disease_duration_years",
    "gestational_age",
    "birth_age",
    "corrected_age",
    "pma",
    "age_at_death",
    "age_squared",
)


@pytest.mark.parametrize("name", LOOKALIKES)
def test_lookalikes_are_no_ages_and_no_candidates(name):
    assert not age_headings([name], (*AGE_SESSION, *AGE_VISIT, *AGE_BASELINE))
    assert not may_be_age(name)


@pytest.mark.parametrize(
    "name", ["age_of_volunteer", "VolunteerAge", "age_1", "Alter", "years", "ageatstudycentre", "idade"]
)
def test_candidates(name):
    assert may_be_age(name)


def test_birth_and_gestation():
    assert all(map(names_birth, ("dob", "Date of birth", "birth_date", "YOB", "PTDOB", "yearOfBirth")))
    assert not any(map(names_birth, ("birth_age", "gestation_at_birth", "birthplace_x")))
    assert all(map(counts_from_conception, ("birth_age", "GA", "pma_at_scan", "GestationalAge", "ga_weeks")))
    assert not any(map(counts_from_conception, ("gad7", "age", "bag", "manager")))
