"""What labels of sessions say: spellings, columns of their own, time since entry, order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainage_bids.bids.sessions import (
    bare,
    follows,
    label_years,
    session_key,
    session_tails,
    tells_days,
    unpadded,
    wide_names,
)


@pytest.mark.parametrize(
    ("label", "years"),
    [("ses-M024", 2.0), ("ses-m06", 0.5), ("ses-month18", 1.5), ("ses-d3132", 3132 / 365.25),
     ("ses-day100", 100 / 365.25),
     ("ses-d0000", 0.0), ("ses-week26", 26 * 7 / 365.25), ("ses-BL", 0.0), ("ses-baseline", 0.0),
     ("ses-baselineYear1Arm1", 0.0), ("ses-2YearFollowUpYArm1", 2.0), ("ses-fu12m", 1.0), ("ses-24monthFU", 2.0),
     ("ses-w4", None), ("ses-6mo", None), ("ses-year2", None), ("ses-y1", None), ("ses-fu1", None), ("ses-1", None),
     ("ses-d20200101", None), ("ses-M1234", None), ("ses-post", None), (None, None)],
)  # fmt: skip
def test_time_since_entry(label, years):
    assert label_years(label) == (None if years is None else pytest.approx(years))


@given(st.integers(0, 99_999))
def test_days_are_days(days):
    assert label_years(f"ses-d{days:04d}") == days / 365.25
    assert tells_days(f"ses-d{days:04d}")
    assert not tells_days("ses-M012")


@given(
    st.integers(0, 500),
    st.integers(0, 500),
    st.sampled_from(["ses-{}", "ses-wave{}", "ses-d{}", "ses-{:03d}", "ses-mri{}"]),
)
def test_numbers_tell_the_order(first, second, form):
    assert follows(form.format(second), form.format(first)) == (second > first)


def test_other_words_tell_no_order():
    for one, other in (("ses-post", "ses-pre"), ("ses-mri1", "ses-pet2"), ("ses-a", "ses-b"), (None, "ses-1")):
        assert not follows(one, other)
        assert not follows(other, one)
    assert follows("ses-M006", "ses-baseline")


@pytest.mark.parametrize(
    ("label", "own", "others"),
    [("ses-wave1", {"w1", "wave1", "seswave1"}, {"1", "wave2", "w12", "week1"}),
     ("ses-W01", {"w1", "wave1"}, {"1"}),
     ("ses-01", {"ses1", "session1", "visit1", "wave1", "timepoint1", "scan1"}, {"1", "w1", "t1", "m1"}),
     ("ses-T1", {"t1", "tp1", "timepoint1", "sest1"}, {"1", "w1"}),
     ("ses-M024", {"m24", "month24", "24m", "24months"}, {"24", "d24"}),
     ("ses-bl", {"bl", "baseline"}, {"m0"}),
     ("ses-post", {"post", "sespost"}, {"pre"})],
)  # fmt: skip
def test_names_of_a_session_in_headings(label, own, others):
    tails = session_tails(label)
    assert own <= tails
    assert not others & tails


def test_columns_of_one_session_each():
    tails = session_tails("ses-wave1") | session_tails("ses-T1")
    names = ("AgeMRI_W1", "W1_age", "age_wave01_t1w", "age_T1_months", "age_months_W1", "age1", "agegap_w1", "age_w1_x")
    found = wide_names(names, ("age", "agemri"), tails, ("months",))
    assert [(tail, name, rest) for tail, name, rest in found] == [
        ("w1", "W1_age", ""), ("wave1", "age_wave01_t1w", ""), ("t1", "age_T1_months", "months"),
        ("w1", "age_months_W1", "months"), ("w1", "AgeMRI_W1", ""),
    ]  # fmt: skip
    assert wide_names(("brain_age",), ("age",), session_tails("ses-brain")) == []


def test_spellings_of_one_session():
    for spelling in ("ses-01", "1", "Visit 1", "V01", "wave1", "Wave 01", "timepoint1", "session-1"):
        assert session_key(spelling) == "1"
    assert len({session_key(label) for label in ("ses-w1", "ses-1", "ses-M1", "ses-d1")}) == 4


@pytest.mark.parametrize(
    ("label", "years"),
    [
        ("M000", 0.0), ("ses-mo12", 1.0), ("ses-months12", 1.0), ("ses-M999", 83.25), ("ses-days365", 365 / 365.25),
        ("ses-d99999", 99999 / 365.25), ("ses-wk52", 52 * 7 / 365.25), ("ses-weeks52", 52 * 7 / 365.25),
        ("ses-weeks1000", None), ("ses-2yrFU", 2.0), ("ses-fu2y", 2.0), ("ses-followup18months", 1.5),
        ("ses-6weeksFU", 6 * 7 / 365.25), ("ses-30dfu", 30 / 365.25), ("ses-fu30days", 30 / 365.25),
        ("ses-4YearFollowUpYArm1", 4.0), ("ses-12345dfu", None), ("ses-Base-line", 0.0), ("ses-", None), ("", None),
        ("ses-xM012", None), ("ses-M012x", None), ("ses-baselineYear2Arm1", None), ("ses-24", None), ("ses-24m", None),
    ],
)  # fmt: skip
def test_spellings_of_time_since_entry(label, years):
    assert label_years(label) == (None if years is None else pytest.approx(years))


@pytest.mark.parametrize(
    ("label", "tails"),
    [
        (None, set()), ("ses-", set()),
        ("ses-7", {"ses7", "sess7", "session7", "examses7", "visit7", "v7", "wave7", "timepoint7", "tp7", "scan7",
                   "mri7", "mr7"}),
        ("ses-x", {"x", "sesx", "sessx", "sessionx", "examsesx"}),
        ("ses-fu", {p + w for p in ("", "ses", "sess", "session", "examses") for w in ("fu", "followup")}),
        ("ses-fu2", {p + w for p in ("", "ses", "sess", "session", "examses") for w in ("fu2", "followup2")}),
        ("ses-d010", {p + w for p in ("", "ses", "sess", "session", "examses") for w in ("d10", "day10", "days10")}),
        ("ses-yr2", {p + w for p in ("", "ses", "sess", "session", "examses")
                     for w in ("year2", "years2", "yr2", "y2", "2year", "2years", "2yr", "2y")}),
        ("ses-mo6", {p + w for p in ("", "ses", "sess", "session", "examses")
                     for w in ("month6", "months6", "mo6", "m6", "6month", "6months", "6mo", "6m")}),
        ("ses-V2", {p + w for p in ("", "ses", "sess", "session", "examses")
                    for w in ("visit2", "v2", "session2", "sess2", "ses2")}),
    ],
)  # fmt: skip
def test_every_name_of_a_session(label, tails):
    assert session_tails(label) == tails


@pytest.mark.parametrize(
    ("name", "beside", "found"),
    [
        ("age_w1", (), ("w1", "")), ("age_w01", (), ("w1", "")), ("age_w1_mri", (), ("w1", "")),
        ("age_w1_scan", (), ("w1", "")), ("age_w1_anat", (), ("w1", "")), ("age_w1_years", ("years",), ("w1", "years")),
        ("age_years_w1", ("years",), ("w1", "years")), ("age_w1_mri_years", ("years",), ("w1", "years")),
        ("age_w1_years", (), None), ("age_w12", (), None), ("w1_age", (), ("w1", "")), ("bl_age", (), None),
        ("age_bl", (), ("bl", "")), ("bage_w1", (), None), ("age", (), None), ("age_w1_x", ("years",), None),
    ],
)  # fmt: skip
def test_a_heading_that_names_a_session(name, beside, found):
    tails = session_tails("ses-w1") | session_tails("ses-bl")
    assert wide_names((name,), ("age",), tails, beside) == ([] if found is None else [(found[0], name, found[1])])


def test_columns_of_sessions_come_as_the_aliases_go():
    found = wide_names(("age_w1", "scanage_w1"), ("scanage", "age"), session_tails("ses-w1"))
    assert found == [("w1", "scanage_w1", ""), ("w1", "age_w1", "")]


@pytest.mark.parametrize(
    ("first", "second", "after"),
    [("ses-2", "ses-1", True), ("ses-1", "ses-1", False), ("ses-M012", "ses-M006", True),
     ("ses-M006", "ses-M006", False), ("ses-10", "ses-9", True), ("ses-a2", "ses-b1", False),
     ("ses-2", "ses-M006", False), ("ses-2a", "ses-1a", False)],
)  # fmt: skip
def test_order_of_two_labels(first, second, after):
    assert follows(first, second) is after


def test_what_spellings_share():
    assert [session_key(text) for text in (None, "ses-", "TP-02", "sess3", "v", "visit 10", "M012", "ses-sess1")] == [
        "", "", "2", "3", "v", "10", "m12", "1"
    ]  # fmt: skip
    assert [bare(text) for text in (None, "ses-A_1", "B 2")] == ["", "a1", "b2"]
    assert [unpadded(text) for text in ("007", "a0b00", "100", "0", "m01x010")] == ["7", "a0b0", "100", "0", "m1x10"]
