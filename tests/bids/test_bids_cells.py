"""Single cells and whole columns of ages, numbers, sexes and labels, at the edges of what is accepted."""

import re

import pytest

from brainage_bids.bids import parse
from brainage_bids.errors import UsageError


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("0", "year", (None, "out_of_range")),
        ("0.1", "year", (0.1, None)),
        ("-2", "year", (None, "out_of_range")),
        ("120", "year", (120.0, None)),
        ("120.1", "year", (None, "out_of_range")),
        ("1440", "month", (120.0, None)),
        ("1441", "month", (None, "out_of_range")),
        ("+72", "year", (72.0, None)),
        ("89.5", "year", (89.5, None)),
        ("1068", "month", (89.0, "possibly_top_coded")),
        ("89 years", "year", (89.0, "possibly_top_coded")),
        ("90 +", "year", (90.0, "top_coded")),
        (">= 90 years", "year", (90.0, "top_coded")),
        ("1080+", "month", (90.0, "top_coded")),
        ("72,5", "year", (72.5, "decimal_comma")),
        ("72,500", "year", (72.5, "decimal_comma")),
        ("72,500 years", "month", (72.5, "unit_suffix")),
        ("26,298", "day", (None, "unreadable")),
        ("26,298 days", "year", (None, "unreadable")),
        ("864,5", "month", (864.5 / 12, "decimal_comma")),
        ("72 stone", "year", (None, "unreadable")),
        ("72 years old", "month", (72.0, "unit_suffix")),
        ("seventy", "year", (None, "unreadable")),
        ("over 90", "year", (90.0, "top_coded")),
        ("90 or more", "year", (90.0, "top_coded")),
        ("  N/A ", "year", (None, None)),
        ("None", "year", (None, None)),
        (".", "year", (None, None)),
        ("null", "year", (None, None)),
        (None, "year", (None, None)),
        (72, "year", (72.0, None)),
        *((text, "year", (None, "sentinel")) for text in ("-1", "-4", "-8", "-9", "-99", "-999", "-9999", "9999")),
        *((text, "month", (None, "sentinel")) for text in ("-1", "-999", "999 years")),
        ("9999", "day", (9999 / 365.25, None)),
        ("999 months", "year", (999 / 12, "unit_suffix")),
    ],
)
def test_edges_of_an_age(text, unit, expected):
    assert parse.parse_age(text, unit) == expected


@pytest.mark.parametrize(
    ("cells", "unit", "expected"),
    [
        (["72,5", "71"], "year", [(72.5, "decimal_comma"), (71.0, None)]),
        (["72,5", "71.5"], "year", [(None, "unreadable"), (71.5, None)]),
        (["90+", "95+"], "year", [(90.0, "top_coded"), (95.0, "top_coded")]),  # two caps, and nobody exact
        (["90+", "91"], "year", [(None, "age_range"), (91.0, None)]),
        (["90+", "90"], "year", [(90.0, "top_coded"), (90.0, None)]),
        (["80+", "79"], "year", [(80.0, "top_coded"), (79.0, None)]),
        (["79+", "70"], "year", [(None, "age_range"), (70.0, None)]),
        (["20-30", "25"], "year", [(None, "age_range"), (25.0, None)]),  # one of each: the age is one
        (["20-30", "30-40", "25"], "year", [(None, "age_range")] * 3),
        (["20-30", "89+", "n/a", "x"], "year", [(None, "age_range"), (None, "age_range"), (None, None),
                                                (None, "age_range")]),
        (["960+", "840"], "month", [(80.0, "top_coded"), (70.0, None)]),
        ([], "year", []),
    ],
)  # fmt: skip
def test_a_column_of_ages_as_a_whole(cells, unit, expected):
    assert parse.read_ages(cells, unit) == expected


def test_a_cell_and_a_column_are_in_years_unless_said():
    assert parse.parse_age("864 ") == (None, "out_of_range")
    assert parse.read_ages(["72", "864"]) == [(72.0, None), (None, "out_of_range")]


@pytest.mark.parametrize(
    ("text", "comma", "expected"),
    [
        ("1.5", False, (1.5, None)),
        ("1,5", False, (None, "unreadable")),
        ("1,5", True, (1.5, None)),
        ("1.5", True, (None, "unreadable")),
        ("-,5", True, (-0.5, None)),
        ("1E-2", False, (0.01, None)),
        ("1 2", False, (None, "unreadable")),
        ('"7"', False, (7.0, None)),
        ('"', False, (None, "unreadable")),
        ("NA", False, (None, None)),
    ],
)
def test_numbers(text, comma, expected):
    assert parse.parse_number(text, comma) == expected


def test_a_number_has_no_decimal_comma_unless_said():
    assert parse.parse_number("1,5") == (None, "unreadable")


@pytest.mark.parametrize(
    ("cells", "comma"),
    [
        (["1,5"], True),
        (["1"], False),
        (["1,5", "2.5"], False),
        (["1,5", "e.g."], True),  # the point of a word is none of a number
        (["1,5", "."], True),
        ([], False),
    ],
)
def test_columns_with_a_decimal_comma(cells, comma):
    assert parse.has_decimal_comma(cells) is comma


def test_cells_are_text_without_blanks_and_quotation_marks():
    assert [parse.clean(text) for text in (None, ' "a b" ', '"', '""', '"a', "\xa0a\xa0b", 3)] == [
        "", "a b", '"', "", '"a', "a b", "3"
    ]  # fmt: skip
    assert [parse.parse_text(text) for text in ("", "n/a", "N/A", "nan", "NaN", "NA", "None", " x ")] == [
        None, None, None, None, None, "NA", "None", "x"
    ]  # fmt: skip


LEVELS = {" A ": "first", "2": {"Description": "second"}, "3": {"LongName": "third"}, "4": None, "5": {"Units": "x"}}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("a", "first"), ("2", "second"), ("2.00", "second"), ("2.5", None), ("3", "third"), ("4", None), ("5", None),
     ("6", None), ("b.0", None)],
)  # fmt: skip
def test_what_levels_say_of_a_value(text, meaning):
    assert parse.level_meaning(text, LEVELS) == meaning
    assert parse.level_meaning(text, None) is None
    assert parse.level_meaning(text, ["a"]) is None


@pytest.mark.parametrize(
    ("text", "levels", "sex"),
    [
        ("Women", None, "F"),
        ("boys", None, "M"),
        ("Other", None, "O"),
        ("x", None, None),
        ("1", None, None),
        ("f", {"f": "female"}, "F"),
        ("f", {"f": "not told"}, "F"),
        ("f", {"f": "male"}, None),
        ("o", {"o": "other"}, "O"),
        ("1", {"1": "Other gender"}, "O"),
        ("1", {"1": "human"}, None),
    ],
)
def test_sexes(text, levels, sex):
    assert parse.parse_sex(text, levels) == sex


@pytest.mark.parametrize(
    ("value", "column", "levels", "found"),
    [
        ("H.C.", "", None, "control"),
        ("alzheimer's disease", "", None, "AD"),
        ("1", "cohort", None, "PD"),
        ("1", "Cohort", {"1": "something"}, None),
        ("1", "dx", None, None),
        ("1", "dx", {"1": "MCI"}, "MCI"),
        ("AD", "dx", {"AD": "healthy control"}, "AD"),  # the value itself comes first
        (None, "", None, None),
    ],
)
def test_groups_of_patients(value, column, levels, found):
    assert parse.disease_class(value, column, levels) == found


def test_controls_are_compared_without_case_and_blanks():
    assert parse.is_control(' "smc" ', [" SMC "])
    assert not parse.is_control(None, ["None"])


@pytest.mark.parametrize(
    ("text", "prefix", "label"),
    [
        ("01", "sub", "sub-01"),
        ("SUB-01", "sub", "sub-01"),
        ("sub-a+B9", "sub-", "sub-a+B9"),
        ("ses-01", "ses", "ses-01"),
        ("subject", "sub", "sub-subject"),
        ("", "sub", None),
        ("NaN", "sub", None),
    ],
)
def test_labels_with_and_without_their_prefix(text, prefix, label):
    assert parse.label(text, prefix) == label


@pytest.mark.parametrize("text", ["a b", "sub-", "ses-01", "a_b", "ä"])
def test_what_is_no_label_is_quoted(text):
    told = f"{text!r} is not a BIDS label; use letters and digits only, with or without 'sub-'"
    with pytest.raises(UsageError, match=f"^{re.escape(told)}$"):
        parse.label(text, "sub")


def test_order_of_labels_with_numbers():
    labels = ["b2", "10", "b10", "2", "b", "a10c2", "a2c10", "02"]
    assert sorted(labels, key=parse.natural_key) == ["02", "2", "10", "a2c10", "a10c2", "b", "b2", "b10"]
    assert parse.natural_key("") == parse.natural_key(None) == ()
