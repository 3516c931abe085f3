"""Which ages a dataset keeps for whom, and how an age is moved from one session to another."""

from datetime import datetime, timedelta

import pytest
from toyreading import ages, read

from brainage_bids.bids.agebook import AgeBook, known_sessions
from brainage_bids.bids.agecolumns import AgeColumn
from brainage_bids.bids.ages import age_for_rates, is_baseline, months_between, resolve_age, years_since_first
from brainage_bids.bids.tables import Table, Tables

START = datetime(2000, 1, 1, 12)


def column(values, name="age", table="participants.tsv", flags=None):
    """A column of ages: ``(participant, session) -> years``."""
    keys = tuple(values)
    table = Table(table, (name,), tuple((str(v),) for v in values.values()), keys, ((table, 2),) * len(keys))
    return AgeColumn(table, name, tuple(values.values()), tuple((flags or {}).get(key) for key in keys))


def book(session=(), participant=(), baseline=(), scanned=("ses-1",), days=None, **more):
    """What is known of one person, ``sub-1``."""
    times = {("sub-1", name): START + timedelta(days=day) for name, day in (days or {}).items()}
    return AgeBook(
        tuple(session), tuple(participant), tuple(baseline), (), {"sub-1": tuple(scanned)}, {"sub-1": tuple(scanned)},
        times, **more,
    )  # fmt: skip


def resolved(one, session):
    age = resolve_age(one, "sub-1", session)
    return age.value, age.source, age.flags


PERSON = column({("sub-1", None): 60.0})
AT_ENTRY = column({("sub-1", None): 50.0}, "age_bl")


# --- one age of a person --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scanned", "session", "flags"),
    [
        (("ses-1",), "ses-1", ()),
        ((None,), None, ()),
        (("ses-M000",), "ses-M000", ()),
        (("ses-M024",), "ses-M024", ("age_may_be_baseline",)),
        (("ses-1", "ses-2"), "ses-2", ("age_not_session_specific",)),
    ],
)
def test_flags_of_the_age_of_a_person(scanned, session, flags):
    assert resolved(book(participant=[PERSON], scanned=scanned), session) == (60.0, "participants.tsv:age", flags)


@pytest.mark.parametrize(
    ("scanned", "session", "found"),
    [
        (("ses-1",), "ses-1", (50.0, "", ("age_at_baseline",))),
        ((None,), None, (50.0, "", ())),
        (("ses-bl",), "ses-bl", (50.0, "", ())),
        (("ses-1", "ses-2"), "ses-2", (50.0, "", ("age_not_session_specific",))),
        (("ses-M006",), "ses-M006", (50.5, " + ses-M006", ("age_from_session_label",))),
        (("ses-M000", "ses-d1461"), "ses-d1461", (54.0, " + ses-d1461", ("age_from_session_label",))),
    ],
)
def test_an_age_at_baseline_and_the_time_that_a_label_tells(scanned, session, found):
    value, more, flags = found
    assert resolved(book(baseline=[AT_ENTRY], scanned=scanned), session) == (
        value, f"participants.tsv:age_bl{more}", flags
    )  # fmt: skip


@pytest.mark.parametrize(
    ("days", "session", "found"),
    [
        ({"ses-1": 0, "ses-2": 1461}, "ses-1", (50.0, "", ())),
        ({"ses-1": 0, "ses-2": 1461}, "ses-2", (54.0, " + acq_time", ("age_from_dates",))),
        ({"ses-2": 0, "ses-1": 1461}, "ses-1", (54.0, " + acq_time", ("age_from_dates",))),
        ({"ses-1": 0}, "ses-2", (50.0, "", ("age_not_session_specific",))),
        ({"ses-2": 0}, "ses-2", (50.0, "", ("age_not_session_specific",))),
    ],
)
def test_an_age_at_baseline_and_the_time_that_dates_tell(days, session, found):
    value, more, flags = found
    one = book(baseline=[AT_ENTRY], scanned=("ses-1", "ses-2"), days=days)
    assert resolved(one, session) == (value, f"participants.tsv:age_bl{more}", flags)


def test_dates_count_from_the_first_session_and_its_label_from_entry():
    days = {"ses-M012": 0, "ses-M024": 1461}
    one = book(baseline=[AT_ENTRY], scanned=tuple(days), days=days)
    assert resolved(one, "ses-M012") == (51.0, "participants.tsv:age_bl + acq_time", ("age_from_dates",))
    assert resolved(one, "ses-M024") == (55.0, "participants.tsv:age_bl + acq_time", ("age_from_dates",))


def test_the_age_of_a_person_is_that_of_the_first_date_unless_its_label_tells_time():
    days = {"ses-1": 0, "ses-2": 1461}
    one = book(participant=[PERSON], scanned=tuple(days), days=days)
    assert resolved(one, "ses-2") == (64.0, "participants.tsv:age + acq_time", ("age_from_dates",))
    days = {"ses-M012": 0, "ses-M024": 365}
    one = book(participant=[PERSON], scanned=tuple(days), days=days)
    assert resolved(one, "ses-M024") == (60.0, "participants.tsv:age", ("age_not_session_specific",))


def test_of_several_scans_with_one_at_entry_the_one_age_is_that_at_entry():
    one = book(participant=[PERSON], scanned=("ses-M000", "ses-M012"))
    assert resolved(one, "ses-M012") == (61.0, "participants.tsv:age + ses-M012", ("age_from_session_label",))
    assert resolved(one, "ses-M000") == (60.0, "participants.tsv:age", ())
    one = book(participant=[PERSON], scanned=("ses-M012", "ses-M024"))
    assert resolved(one, "ses-M024") == (60.0, "participants.tsv:age", ("age_not_session_specific",))


def test_sessions_named_by_days_count_from_entry_where_people_have_several():
    one = book(participant=[PERSON], scanned=("ses-d1461",), since_entry=True)
    assert resolved(one, "ses-d1461") == (64.0, "participants.tsv:age + ses-d1461", ("age_from_session_label",))
    one = book(participant=[PERSON], scanned=("ses-d1461",))
    assert resolved(one, "ses-d1461") == (60.0, "participants.tsv:age", ("age_may_be_baseline",))
    one = book(participant=[PERSON], scanned=("ses-M012",), since_entry=True)
    assert resolved(one, "ses-M012") == (60.0, "participants.tsv:age", ("age_may_be_baseline",))


@pytest.mark.parametrize(("entry", "found"), [(119.0, 120.0), (119.5, 119.5)])
def test_nobody_becomes_older_than_120(entry, found):
    one = book(baseline=[column({("sub-1", None): entry}, "age_bl")], scanned=("ses-M012",))
    assert resolved(one, "ses-M012")[0] == found


def test_flags_of_a_cap_stay_when_time_is_added():
    capped = column({("sub-1", None): 89.0}, "age_bl", flags={("sub-1", None): "top_coded"})
    assert resolved(book(baseline=[capped], scanned=("ses-M012",)), "ses-M012") == (
        90.0, "participants.tsv:age_bl + ses-M012", ("top_coded", "age_from_session_label")
    )  # fmt: skip
    comma = column({("sub-1", None): 60.5}, flags={("sub-1", None): "decimal_comma"})
    assert resolved(book(participant=[comma]), "ses-1") == (60.5, "participants.tsv:age", ())


@pytest.mark.parametrize(
    ("label", "years", "flags"),
    [
        ("ses-SC", 0.0, ()),
        ("ses-BL", 0.0, ()),
        ("ses-V01", 0.25, ("age_from_session_label",)),
        ("ses-v05", 1.5, ("age_from_session_label",)),
        ("ses-V12", 5.0, ("age_from_session_label",)),
        ("ses-V13", 0.0, ("age_at_baseline",)),
        (None, 0.0, ()),
    ],
)
def test_visits_of_ppmi(label, years, flags):
    one = book(baseline=[column({("sub-1", None): 50.0}, "ENROLL_AGE")], scanned=(label,))
    value, _, found = resolved(one, label)
    assert (value, found) == (50.0 + years, flags)


def test_no_age_at_all():
    assert resolved(book(), "ses-1") == (None, None, ())
    assert resolved(AgeBook((), (), (), (), {}, {}, {}), None) == (None, None, ())
    of_another = column({("sub-2", None): 50.0})
    assert resolved(book(participant=[of_another], baseline=[of_another]), "ses-1") == (None, None, ())


# --- ages of sessions -----------------------------------------------------------------------------------------------


def test_the_first_column_with_an_age_of_the_session_counts():
    first = column({("sub-1", "ses-1"): 61.0, ("sub-1", "ses-2"): None}, table="sessions.tsv")
    second = column({("sub-1", "ses-1"): 71.0, ("sub-1", "ses-2"): 72.0}, table="phenotype/a.tsv")
    one = book(session=[first, second], participant=[PERSON], scanned=("ses-1", "ses-2"))
    assert resolved(one, "ses-1") == (61.0, "sessions.tsv:age", ())
    assert resolved(one, "ses-2") == (72.0, "phenotype/a.tsv:age", ())


def test_rows_that_disagree_are_no_age_and_a_row_without_one_is_no_hindrance():
    one = column({("sub-1", "ses-1"): 61.0, ("sub-1", "ses-2"): 62.0, ("sub-1", "ses-3"): None})
    assert one.at([0, 1]) is None
    assert one.at([2]) is one.at([]) is None
    assert one.at([2, 1]).value == 62.0


def test_a_questionnaire_tells_the_age_of_a_scan_without_session_last():
    visit = column({("sub-1", "ses-1"): 63.0}, table="phenotype/a.tsv")
    assert resolved(book(session=[visit], participant=[PERSON], scanned=(None,)), None)[0] == 60.0
    assert resolved(book(session=[visit], scanned=(None,)), None) == (63.0, "phenotype/a.tsv:age", ())
    own = column({("sub-1", "ses-1"): 63.0}, table="sessions.tsv")
    assert resolved(book(session=[own], participant=[PERSON], scanned=(None,)), None)[0] == 63.0


# --- time between sessions ------------------------------------------------------------------------------------------


def test_months_between_two_sessions():
    days = {"ses-M000": 0, "ses-M012": 1461}
    exact = column({("sub-1", "ses-a"): 60.5, ("sub-1", "ses-b"): 62.0, ("sub-1", "ses-c"): None})
    whole = column({("sub-1", "ses-a"): 60.0, ("sub-1", "ses-b"): 62.0})
    dated = book(scanned=tuple(days), days=days)
    assert months_between(dated, "sub-1", "ses-M000", "ses-M012") == 48.0  # by dates
    assert months_between(dated, "sub-1", "ses-M012", "ses-M000") == 48.0
    assert months_between(dated, "sub-1", "ses-M012", "ses-M006") == 6.0  # by labels
    assert months_between(book(session=[whole, exact]), "sub-1", "ses-b", "ses-a") == 18.0  # by exact ages
    assert months_between(book(session=[exact]), "sub-1", "ses-a", "ses-c") is None
    assert months_between(book(session=[whole]), "sub-1", "ses-a", "ses-b") is None


def test_years_since_the_first_session_need_the_time_of_each():
    one = book(scanned=("ses-1", "ses-2"), days={"ses-1": 1461, "ses-2": 0})
    assert years_since_first(one, "sub-1", "ses-1") == 4.0
    assert years_since_first(one, "sub-1", "ses-2") == 0.0
    assert years_since_first(one, "sub-1", "ses-3") is None
    one = book(scanned=("ses-1", "ses-2", "ses-3"), days={"ses-1": 1461, "ses-2": 0})
    assert years_since_first(one, "sub-1", "ses-1") is None


@pytest.mark.parametrize(
    ("session", "first"),
    [("ses-bl", True), ("ses-M000", True), ("ses-M012", False), ("ses-1", True), ("ses-2", False)],
)
def test_the_session_of_baseline(session, first):
    assert is_baseline(book(scanned=("ses-1", "ses-2", "ses-M012")), "sub-1", session) == first


def test_a_person_without_sessions_is_at_baseline():
    assert is_baseline(book(), "sub-2", "ses-x")
    assert is_baseline(book(scanned=(None,)), "sub-1", None)


def rates(values, days=None, flags=None):
    one = book(session=[column(values, table="sessions.tsv", flags=flags)], days=days, scanned=[s for _, s in values])
    return [age_for_rates(one, "sub-1", session) for _, session in values]


def test_rates_of_whole_years():
    at = {("sub-1", "ses-1"): 70.0, ("sub-1", "ses-2"): 71.0}
    assert rates(at, {"ses-1": 0, "ses-2": 487}) == [70.0, pytest.approx(70 + 487 / 365.25)]
    assert rates(at, {"ses-1": 0, "ses-2": 731}) == [None, None]  # a year and more off
    assert rates(at, {"ses-1": 0, "ses-2": 730}) == [70.0, pytest.approx(70 + 730 / 365.25)]
    assert rates(at, {"ses-1": 0}) == [None, None]
    assert rates(at, {"ses-1": 0, "ses-2": 487}, {("sub-1", "ses-2"): "possibly_top_coded"}) == [None, None]
    assert rates({("sub-1", "ses-1"): 70.0}, {"ses-1": 0}) == [None]
    at = {("sub-1", "ses-M000"): 70.0, ("sub-1", "ses-M018"): 71.0}
    assert rates(at) == [70.0, 71.5]
    assert rates(at, {"ses-M000": 0, "ses-M018": 487}) == [70.0, pytest.approx(70 + 487 / 365.25)]  # dates come first


def test_rates_start_at_the_first_age_of_the_earliest_session():
    assert rates({("sub-1", "ses-M012"): 71.0, ("sub-1", "ses-M000"): 70.0}) == [71.0, 70.0]
    same = {("sub-1", "ses-M012"): 71.0, ("sub-1", "ses-month12"): 70.5, ("sub-1", "ses-M000"): 70.0}
    assert rates(same) == [None, None, None]  # 70.5 is no whole year


# --- what is read ---------------------------------------------------------------------------------------------------


def sessions_table(*keys):
    return Table("sub-1/sub-1_sessions.tsv", ("session_id",), ((),) * len(keys), keys, (("x", 2),) * len(keys))


def test_sessions_of_folders_and_tables_in_natural_order():
    tables = Tables(
        None, (sessions_table(("sub-1", "ses-3"), ("sub-1", None), ("sub-2", "ses-1"), ("sub-9", "ses-1")),), (), {}
    )
    folders = {"sub-1": ("ses-10", "ses-2"), "sub-2": (None,)}
    assert known_sessions(tables, folders) == {"sub-1": ("ses-2", "ses-3", "ses-10"), "sub-2": (None,)}


@pytest.mark.parametrize(
    ("heading", "value", "beside_an_age"),
    [
        ("age_at_first_scan", 60.2, 60.2),
        ("age_at_exam", 70.0, 60.0),
    ],  # an age at a visit counts where there is no other
)
def test_an_age_of_the_first_scan_or_of_a_visit_with_and_without_an_age(toy, heading, value, beside_an_age):
    toy.image("sub-1")
    toy.table("participants.tsv", f"participant_id|{heading}|age", f"sub-1|{value:g}|60")
    assert ages(read(toy)) == {"sub-1": beside_an_age}
    toy.table("participants.tsv", f"participant_id|{heading}", f"sub-1|{value:g}")
    assert ages(read(toy)) == {"sub-1": value}


def test_columns_of_one_session_stand_before_those_of_a_person(toy):
    for session in ("ses-1", "ses-2"):
        toy.image("sub-1", session)
        toy.image("sub-2", session)
    toy.table(
        "participants.tsv", "participant_id|age|age_ses-1|brain_age_ses-2|age_bl|age_months_ses-2",
        "sub-1|60|61|1|50|750", "sub-2|70|n/a|1|n/a|n/a",
    )  # fmt: skip
    dataset = read(toy)
    assert [(scan.age, scan.age_source) for scan in dataset.scans] == [
        (61.0, "participants.tsv:age_ses-1"), (62.5, "participants.tsv:age_months_ses-2"),
        (70.0, "participants.tsv:age"), (70.0, "participants.tsv:age"),
    ]  # fmt: skip
