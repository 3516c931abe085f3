"""Words of units and headings, at the edges of what is recognised."""

import pytest

from brainage_bids.bids.headings import (
    AGE_SESSION,
    age_headings,
    counts_from_conception,
    is_no_age,
    may_be_age,
    names_birth,
    stems_of,
    unit_by_habit,
    unit_of_heading,
    words_of,
)
from brainage_bids.bids.units import Told, about_age, of_column, plain, says_nothing, unit_name


@pytest.mark.parametrize(
    ("text", "words"),
    [(" Âge\t EN  années ", "age en annees"), (None, ""), (12, "12"), ("Ｙｅａｒ", "year"), ("", "")],
)
def test_plain_words(text, words):
    assert plain(text) == words


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ans", "year"),
        ("Years Old", "year"),
        ("in years", "year"),
        ("age in yr", None),  # words of two letters mean too much
        ("age in yrs", "year"),
        ("y/o", "year"),
        ("年", "year"),
        ("周", "week"),
        ("天", "day"),
        ("月年", None),
        ("in years 月", None),
        ("weeks of gestation", None),
        ("PCA weeks", None),
        ("days, days", "day"),
        (None, None),
        ("", None),
    ],
)
def test_units_of_one_kind(text, unit):
    assert unit_name(text) == unit


@pytest.mark.parametrize(
    ("text", "nothing"),
    [("NA", True), (None, True), ("decimal number", True), ("12.5", True), ("stone", False), ("value in stone", False)],
)
def test_units_that_name_none(text, nothing):
    assert says_nothing(text) is nothing


def test_what_a_description_tells():
    assert about_age("Age at session months") == Told(frozenset({"month"}))
    assert about_age("age_in_months") == Told(frozenset({"month"}), False, False)
    assert about_age("postmenstrual age in weeks, age group") == Told(frozenset({"week"}), True, True)
    assert about_age(None) == Told(frozenset(), False, False)


def test_keys_of_a_sidecar_however_they_are_spelled():
    about = {"units ": "", "UNIT": None, "Unit_s": "month", 5: "x", "Long Name": "a", "Description": 0}
    assert of_column(about, "Units", "Unit") == "month"
    assert of_column(about, "LongName") == "a"
    assert of_column(about, "Description") == 0
    assert of_column(about, "Levels") is None
    assert of_column({"Unit": "year", "Units": "month"}, "Units", "Unit") == "year"  # the first that is written


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("AgeAtScan_1", "age at scan 1"),
        ("MRIAge", "mri age"),
        ("age2y", "age 2 y"),
        ("AGE (Yrs)", "age yrs"),
        ("_", ""),
    ],
)
def test_words_of_a_heading(name, words):
    assert words_of(name) == words.split()


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("age", (("age", None),)),
        ("Years", (("years", None),)),
        ("age_in_months", (("ageinmonths", None), ("age", "month"), ("agein", "month"))),
        ("months_of_age", (("monthsofage", "month"),)),
        ("agey", (("agey", None), ("age", "year"))),
    ],
)
def test_a_heading_with_and_without_its_unit(name, stems):
    assert stems_of(name) == stems


def test_headings_come_as_the_stems_go():
    names = ["scan_age_years", "x", "mri_age", "Age", "age_at_scan", "age (yrs)"]
    assert age_headings(names, AGE_SESSION) == ["Age", "age (yrs)", "age_at_scan", "scan_age_years", "mri_age"]
    assert age_headings(names, ()) == []


@pytest.mark.parametrize(
    ("name", "unit"),
    [("lived_days", "day"), ("lived_yr", None), ("lived_mos", "month"), ("at_6_months", None), ("months", "month"),
     ("6_months", None), ("", None), ("age_at_bl_months", "month"), ("age_wk", "week"), ("age_d", None)],
)  # fmt: skip
def test_the_last_word_of_a_heading_is_its_unit(name, unit):
    assert unit_of_heading(name) == unit


def test_a_unit_by_habit():
    assert [unit_by_habit(name) for name in ("interview_age", "Interview Age", "age")] == ["month", "month", None]


@pytest.mark.parametrize(
    ("name", "no_age", "conception", "birth", "age"),
    [
        ("age_x", False, False, False, True),
        ("age_of_onset", True, False, False, False),
        ("GA_at_birth", True, True, False, False),
        ("corrected_age", True, True, False, False),
        ("birth_age", True, True, False, False),
        ("year_of_birth", False, False, True, False),
        ("DOB", False, False, True, False),
        ("date_of_birth_years", False, False, True, False),
        ("x", False, False, False, False),
        ("years", False, False, False, True),
        ("agescan", False, False, False, True),
        ("mriage", False, False, False, True),
        ("agescanner", False, False, False, True),
        ("atage", False, False, False, True),
        ("scannerage", False, False, False, False),
        ("ageonset", False, False, False, False),
        ("agex", False, False, False, False),
        ("dosage", False, False, False, False),
        ("donorage", False, False, False, True),
        ("demo_edad", False, False, False, True),
    ],
)
def test_what_a_heading_may_be(name, no_age, conception, birth, age):
    assert (is_no_age(name), counts_from_conception(name), names_birth(name), may_be_age(name)) == (
        no_age, conception, birth, age
    )  # fmt: skip
