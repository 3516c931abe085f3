"""What labels of sessions say: spellings, columns of their own, time since entry, order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainage_bids.bids.sessions import follows, label_years, session_key, session_tails, tells_days, wide_names


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
