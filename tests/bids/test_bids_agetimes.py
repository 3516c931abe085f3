"""Dates of acquisition that can be true, and those that cannot."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainage_bids.bids.agetimes import believable_times, years_between

START = datetime(2000, 1, 1, 12)


def believed(days, sessions=None, ages=None, age=None):
    """The doubts about one person whose sessions lie some days after a start."""
    names = sessions or [f"ses-{i}" for i in range(1, len(days) + 1)]
    times = {("sub-1", name): START + timedelta(days=day) for name, day in zip(names, days, strict=True)}
    written = dict(zip(names, ages or (), strict=False))
    kept, doubts = believable_times(
        times, {"sub-1": tuple(names)}, lambda _, session: written.get(session), lambda _: age
    )
    assert kept == ({} if doubts else kept)
    return kept, doubts


@given(st.lists(st.floats(1, 3000), min_size=1, max_size=4), st.integers(-50_000, 50_000))
def test_dates_in_order_are_believed_whatever_they_are_shifted_by(gaps, shift):
    days = [shift + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    kept, doubts = believed(days)
    if sum(gaps) < 30 * 365:
        assert not doubts
        assert len(kept) == len(days)
    elif sum(gaps) > 30 * 366:
        assert doubts


@given(st.floats(1, 5000), st.floats(1, 5000))
def test_dates_out_of_order_are_not(gap, more):
    _, doubts = believed((gap + more, gap))
    assert "before ses-1" in doubts[0]


@pytest.mark.parametrize(
    ("days", "more", "told"),
    [
        ((0, 365 * 31), {}, "31.0 years after"),
        ((0, 4383), {"sessions": ["ses-M000", "ses-M024"]}, "their names say 2.0"),
        ((0, 900), {"sessions": ["ses-M000", "ses-M024"]}, None),
        ((0, 3652), {"ages": (60.0, 62.0)}, "the ages say 2.0"),
        ((0, 900), {"ages": (60, 62)}, None),
        ((0, 3652), {"age": 115}, "of a person of 115 years"),
        ((900, 0), {"sessions": ["ses-post", "ses-pre"]}, None),
        ((0, 365 * 40), {"sessions": ["ses-post", "ses-pre"]}, "40.0 years"),
        ((365 * 40, 0), {"sessions": ["ses-post", "ses-pre"]}, "years before"),
    ],
)
def test_what_dates_may_contradict(days, more, told):
    kept, doubts = believed(days, **more)
    assert (doubts == [] and len(kept) == 2) if told is None else told in doubts[0]


def test_one_date_for_all_tells_nothing_and_one_session_is_kept():
    assert believed((0, 0)) == ({}, [])
    assert len(believed((0,))[0]) == 1


def test_years():
    assert years_between(START, START + timedelta(days=365.25)) == pytest.approx(1.0)
    assert years_between(START + timedelta(days=365.25), START) == pytest.approx(-1.0)


YEAR = 365.25


@pytest.mark.parametrize(
    ("days", "more", "doubt"),
    [
        ((YEAR, 0), {}, "ses-2 is dated 1.0 years before ses-1"),
        ((0, YEAR * 29.9), {}, None),
        ((0, YEAR * 30), {}, "ses-2 is dated 30.0 years after ses-1"),
        ((0, 1, YEAR * 31), {}, "ses-3 is dated 31.0 years after ses-1"),
        ((YEAR * 29.9, 0), {"sessions": ["ses-post", "ses-pre"]}, None),
        ((YEAR * 30, 0), {"sessions": ["ses-post", "ses-pre"]}, "ses-pre is dated 30.0 years before ses-post"),
        # the later session stands first
        ((YEAR, 0), {"sessions": ["ses-2", "ses-1"]}, None),
        ((0, YEAR), {"sessions": ["ses-2", "ses-1"]}, "ses-2 is dated 1.0 years before ses-1"),
        # a visit may be a year and a quarter of the time late or early
        ((0, YEAR * 6.1), {"sessions": ["ses-M000", "ses-M048"]},
         "ses-M048 is dated 6.1 years after ses-M000, their names say 4.0"),
        ((0, YEAR * 6), {"sessions": ["ses-M000", "ses-M048"]}, None),
        ((0, YEAR * 2), {"sessions": ["ses-M000", "ses-M048"]}, None),
        ((0, YEAR * 1.9), {"sessions": ["ses-M000", "ses-M048"]},
         "ses-M048 is dated 1.9 years after ses-M000, their names say 4.0"),
        ((0, YEAR * 2), {"sessions": ["ses-M012", "ses-M060"]}, None),
        ((0, YEAR * 1.9), {"sessions": ["ses-M012", "ses-M060"]},
         "ses-M060 is dated 1.9 years after ses-M012, their names say 4.0"),
        # both ages may be rounded
        ((0, YEAR * 3.9), {"ages": (60.0, 62.0)}, None),
        ((0, YEAR * 4), {"ages": (60.0, 62.0)}, "ses-2 is dated 4.0 years after ses-1, the ages say 2.0"),
        ((0, YEAR * 4), {"ages": (60.0, None)}, None),
        ((0, YEAR), {"ages": (60.0, 58.0)}, "ses-2 is dated 1.0 years after ses-1, the ages say -2.0"),
        # nobody is older than 120
        ((0, YEAR * 5), {"age": 115.0}, None),
        ((0, YEAR * 6), {"age": 115.0}, "ses-2 is dated 6.0 years after ses-1 of a person of 115 years"),
        ((0, YEAR * 6), {"age": 115.0, "ages": (60.0, None)},
         "ses-2 is dated 6.0 years after ses-1 of a person of 115 years"),
        ((0, YEAR * 6), {"age": 115.0, "ages": (60.0, 66.0)}, None),
    ],
)  # fmt: skip
def test_the_whole_sentence_on_dates_that_cannot_be_true(days, more, doubt):
    kept, doubts = believed(days, **more)
    assert doubts == ([] if doubt is None else [f"sub-1 ({doubt})"])
    assert len(kept) == (len(days) if doubt is None else 0)


def test_the_doubt_of_one_person_costs_nobody_else_the_dates():
    times = {
        (person, session): START + timedelta(days=day)
        for person, days in {"sub-1": (9, 0), "sub-2": (0, 9), "sub-3": (0, 0), "sub-4": (5,)}.items()
        for session, day in zip(("ses-1", "ses-2"), days, strict=False)
    }
    kept, doubts = believable_times(times, {}, lambda *_: None, lambda _: None)
    assert doubts == ["sub-1 (ses-2 is dated 0.0 years before ses-1)"]
    assert kept == {key: time for key, time in times.items() if key[0] in ("sub-2", "sub-4")}


def test_dates_of_sessions_that_nobody_knows_are_not_compared():
    times = {("sub-1", "ses-1"): START, ("sub-1", "ses-0"): START + timedelta(days=1)}
    assert believable_times(times, {"sub-1": ("ses-1",)}, lambda *_: None, lambda _: None) == (times, [])
