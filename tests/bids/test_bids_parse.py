import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import edge_cases

from brainage_bids.bids import parse
from brainage_bids.bids.aliases import SCORE_RULES, canonical_score, normalise
from brainage_bids.errors import UsageError

CASES = edge_cases()


def test_age_reference_cases():
    case = CASES["age_parse"]
    assert [parse.parse_age(text) for text in case["values"]] == list(zip(case["expect"], case["flags"], strict=True))


def test_sex_reference_cases():
    case = CASES["sex_parse"]
    assert [parse.parse_sex(text) for text in case["values"]] == case["expect"]


def test_score_reference_cases():
    case = CASES["score_sentinel"]
    numbers, _ = parse.parse_numbers(case["values"])
    checked = [None if number is None else parse.check_score(case["name"], number)[0] for number in numbers]
    assert checked == case["expect"]


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("864", "month", (72.0, None)),
        ("999", "month", (83.25, None)),
        ("999", "year", (None, "sentinel")),
        ("864M", "year", (72.0, "unit_suffix")),
        ("072Y", "month", (72.0, "unit_suffix")),
        ("35-40", "year", (None, "age_range")),
        ("89", "year", (89.0, "possibly_top_coded")),
        ("90+", "year", (90.0, "top_coded")),
        ("≥89", "year", (89.0, "top_coded")),
        ("121", "year", (None, "out_of_range")),
        ("old", "year", (None, "unreadable")),
        ("72.5.1", "year", (None, "unreadable")),
        ("\xa072\xa0", "year", (72.0, None)),
        ('"72"', "year", (72.0, None)),
        ("NaN", "year", (None, None)),
    ],
)
def test_age_forms(text, unit, expected):
    assert parse.parse_age(text, unit) == expected


@pytest.mark.parametrize("text", ["22-25", "25 to 30", "[20, 30)", "(19.5, 30]", "18–25", "20s", "mid 30's", "<25",
                                  "under 25", "25 or younger", "30-39 years", "≤ 30", "20_29"])  # fmt: skip
def test_ranges_are_no_ages(text):
    assert parse.parse_age(text) == (None, "age_range")


@pytest.mark.parametrize("text", ["89+", ">89", "≥89", "over 89", "89 or older", "89 years and above"])
def test_open_ends_of_one_cell(text):
    assert parse.parse_age(text) == (89.0, "top_coded")


BIN = st.builds("{}-{}".format, st.integers(18, 50), st.integers(51, 89))
AGE = st.integers(18, 88).map(str)


@given(st.lists(BIN, min_size=1), st.lists(st.sampled_from(["36+", ">60", "<25", "n/a", "x"])), st.randoms())
def test_a_column_of_bins_holds_no_age(bins, others, order):
    cells = [*bins, *others]
    order.shuffle(cells)
    assert all(value is None for value, _ in parse.read_ages(cells))


@given(st.lists(AGE, min_size=1), st.integers(80, 95), st.randoms())
def test_a_cap_of_exact_ages_is_kept_where_nobody_is_older(ages, cap, order):
    cells = [*ages, f"{cap}+"]
    order.shuffle(cells)
    read = dict(zip(cells, parse.read_ages(cells), strict=True))
    older = any(int(age) > cap for age in ages)
    assert read[f"{cap}+"] == ((None, "age_range") if older else (float(cap), "top_coded"))
    assert all(read[age] == (float(age), None) for age in ages)


@given(st.lists(AGE, min_size=2), BIN)
def test_a_stray_range_costs_nobody_else_an_age(ages, stray):
    assert [value for value, _ in parse.read_ages([*ages, stray])] == [*map(float, ages), None]


@given(st.floats(0.5, 119), st.sampled_from(["year", "month", "week", "day"]))
def test_units_of_a_column_and_of_a_cell_agree(years, unit):
    number = f"{years * parse.UNITS_PER_YEAR[unit]:.6f}"
    assert parse.parse_age(number, unit)[0] == pytest.approx(years, abs=1e-5)
    assert parse.parse_age(f"{number} {unit}s", "day")[0] == pytest.approx(years, abs=1e-5)


def test_weeks_and_days():
    assert parse.parse_age("365.25", "day")[0] == pytest.approx(1.0)
    assert parse.parse_age("52.178571", "week")[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "levels", "expected"),
    [
        ("1", {"1": "Male", "2": "Female"}, "M"),
        ("2.0", {"1": "Male", "2": "Female"}, "F"),
        ("1", {"1": "female participants", "2": "male participants"}, "F"),
        ("0", {"0": {"Description": "Woman"}}, "F"),
        ("3", {"1": "Male"}, None),
        ("M", {"M": "Female"}, None),
        ("m", {"M": "male"}, "M"),
        ("1", {"1": "male or female"}, None),
        ("M", "not a mapping", "M"),
    ],
)
def test_sex_through_levels(text, levels, expected):
    assert parse.parse_sex(text, levels) == expected


def test_decimal_comma_only_when_the_whole_column_has_it():
    assert parse.parse_numbers(["1,5", "2", "n/a", ""]) == ([1.5, 2.0, None, None], [])
    assert parse.parse_numbers(["1,500", "2.5"]) == ([None, 2.5], [0])
    assert parse.parse_numbers(["1e2", "-3.5", "many"]) == ([100.0, -3.5, None], [2])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("updrs3", 101.0, (101.0, None)),  # a possible total, not "unable to rate"
        ("NHY", 101.0, (None, "sentinel")),
        ("hy", 1.25, (None, "out_of_range")),
        ("adas11", 10.67, (10.67, None)),
        ("mmse", 31.0, (None, "out_of_range")),
        ("mmse", 30.0, (30.0, None)),
        ("mmse", 0.0, (0.0, None)),
        ("BDI", 999.0, (999.0, None)),
        ("BDI", -4.0, (None, "sentinel")),
        ("moca", -1.0, (None, "sentinel")),
    ],
)
def test_scores_know_their_sentinels_and_ranges(name, value, expected):
    assert parse.check_score(name, value) == expected


def test_lookalikes_are_not_recognised():
    for name in [
        "adas13",
        "adas",
        "ADASQ4",
        "TOTSCORE",
        "UPDRS",
        "updrs_totscore",
        "hypertension",
        "moca_1",
        "NP3SPCH",
    ]:
        assert canonical_score(name) is None, name
    for name, canon in [
        ("H&Y", "hy"),
        ("HnY", "hy"),
        ("UPDRSpartIII", "updrs3"),
        ("MMSE\xa0", "mmse"),
        ("sumbox", "cdr_sb"),
    ]:
        assert canonical_score(name) == canon


def test_aliases_are_normalised_and_belong_to_one_score():
    names = [alias for rule in SCORE_RULES.values() for alias in rule.aliases]
    assert names == [normalise(name) for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("value", ["NC", "cn", "HC", "CON", "control", "Controls", "Healthy Control", "healthy"])
def test_recognised_controls(value):
    assert parse.is_control(value)


@pytest.mark.parametrize("value", [None, "AD", "SMC", "1", "2", "unknown", "non-control group", "n/a", "None"])
def test_everything_else_is_no_control(value):
    assert not parse.is_control(value)


def test_chosen_controls_replace_the_recognised():
    assert parse.is_control("smc", ["SMC"])
    assert not parse.is_control("NC", ["SMC"])


def test_disease_classes():
    told = [parse.disease_class(v) for v in ("Dementia", "EMCI", "Parkinson's Disease", "SWEDD", "CN", "1")]
    assert told == ["AD", "MCI", "PD", None, "control", None]
    assert [parse.disease_class(v, "COHORT") for v in ("1", "2", "4")] == ["PD", "control", None]
    assert parse.disease_class("0", "dx", {"0": "Healthy controls"}) == "control"


def test_labels():
    assert parse.label("007", "sub") == parse.label("sub-007", "sub-") == "sub-007"
    assert parse.label("n/a", "ses") is None
    with pytest.raises(UsageError, match="not a BIDS label"):
        parse.label("a b", "sub")


def test_natural_order():
    assert sorted(["ses-10", "ses-2", None, "ses-M012"], key=parse.natural_key) == [None, "ses-2", "ses-10", "ses-M012"]
