import numpy as np
import pandas as pd
import pytest

from brainage_bids.errors import NothingSelectedError, UsageError
from brainage_bids.result_tables import COHORT
from brainage_bids.stats.cohort_tables import cohort_by_dataset, cohort_table, natural_key, select_rows, session_choices
from brainage_bids.stats.columns import age_label
from brainage_bids.stats.fdr import benjamini_hochberg


def scans(*rows):
    names = "participant_id session_id run age qc_pass in_training group sex".split()
    return pd.DataFrame(rows, columns=names).astype({"age": "float64"})


@pytest.fixture
def table():
    return scans(
        ("sub-1", "ses-M012", "run-1", 71.0, 1.0, 0.0, "AD", "F"),
        ("sub-1", "ses-M000", "run-10", 70.0, 1.0, 0.0, "MCI", "F"),
        ("sub-1", "ses-M000", "run-2", 70.0, 1.0, 0.0, "MCI", "F"),
        ("sub-1", "ses-M000", "run-1", 70.0, 0.0, 0.0, "MCI", "F"),
        ("sub-2", None, None, np.nan, 1.0, 0.0, "CN", "M"),
        ("sub-3", None, None, 50.0, 1.0, 1.0, "CN", "M"),
        ("sub-4", "ses-M000", None, 60.0, np.nan, np.nan, "CN", "M"),
    )


def picked(selected):
    return sorted(selected.index)


def test_defaults_leave_one_row_per_person_and_say_why(table):
    selected, left = select_rows(table)
    assert picked(selected) == [2, 6]
    reasons = dict(left["reason"])
    assert reasons == {0: "other_session", 1: "other_run", 3: "qc_failed", 4: "no_age", 5: "in_training"}
    assert len(selected) + len(left) == len(table)


@pytest.mark.parametrize(
    ("select", "rows"),
    [("last", [0, 6]), ("ses-M012", [0]), ("M000", [2, 6]), ("closest:11", [0, 6]), ("closest:2", [2, 6])],
)
def test_sessions(table, select, rows):
    assert picked(select_rows(table, select)[0]) == rows


def test_scans_of_one_session_stand_together_the_one_taken_first(table):
    more = table.assign(qc_pass=1.0)
    assert session_choices(*select_rows(more)) == [[3, 1, 2]]
    assert session_choices(*select_rows(more, "last")) == [[3, 1, 2]]
    assert session_choices(*select_rows(more.drop(index=[1, 2]))) == []


def test_group_is_the_one_of_the_chosen_session(table):
    assert select_rows(table, "last")[0].loc[0, "group"] == "AD"


def test_equal_ages_fall_back_to_the_natural_order_of_labels():
    table = scans(*(("sub-1", f"ses-{k}", None, 70.0, 1.0, 0.0, "CN", "F") for k in (10, 9)))
    assert picked(select_rows(table, "first")[0]) == [1]
    assert picked(select_rows(table, "last")[0]) == [0]


def test_row_order_and_index_do_not_matter(table):
    shuffled = table.sample(frac=1, random_state=3)
    assert picked(select_rows(shuffled)[0]) == [2, 6]
    repeated = table.set_axis([0] * len(table))
    assert len(select_rows(repeated)[0]) == 2


def test_unknown_session_raises(table):
    with pytest.raises(NothingSelectedError, match="'ses-X'; sessions with usable scans: M000, M012"):
        select_rows(table, "ses-X")
    with pytest.raises(UsageError, match="closest:12"):
        select_rows(table, "closest:soon")


def test_empty_table(table):
    selected, left = select_rows(table.iloc[:0])
    assert len(selected) == len(left) == 0
    assert list(left.columns)[-1] == "reason"


def test_natural_key_orders_numbers():
    assert sorted(["run-10", None, "run-2"], key=natural_key) == [None, "run-2", "run-10"]


def test_cohort_counts_people(table):
    result = cohort_table(table).set_index("group")
    assert ["group", *result.columns] == COHORT.columns
    assert result.loc["all", ["n", "n_with_age", "n_female", "n_male"]].tolist() == [4, 3, 1, 3]
    assert result.loc["CN", "age_sd"] == pytest.approx(np.std([50, 60], ddof=1))
    assert result.loc["AD", ["status", "note"]].tolist() == ["insufficient_n", "fewer than 2 ages: no SD"]
    assert result.loc["CN", ["status", "note", "n", "n_with_age"]].tolist() == ["ok", "", 3, 2]
    assert result.loc["CN", ["age_mean", "age_min", "age_max"]].tolist() == [55.0, 50.0, 60.0]
    assert result.loc["all", ["status", "note"]].tolist() == ["ok", "7 rows, the first of each participant described"]


def test_cohort_counts_other_sex_and_people_without_group():
    table = scans(("a", None, None, 30, 1, 0, "CN", "O"), ("b", None, None, 40, 1, 0, None, None))
    result = cohort_table(table)
    assert result["group"].tolist() == ["CN", None, "all"]
    assert result["n_sex_unknown"].tolist() == [1, 1, 2]
    few = "fewer than 2 ages: no SD"
    other = "1 of another sex counted in n_sex_unknown"
    assert result["note"].tolist() == [f"{other}; {few}", few, other]
    assert result["status"].tolist() == ["insufficient_n", "insufficient_n", "ok"]


def test_age_bins(edge_cases):
    case = edge_cases["bins_edges"]
    spelled = {"20-40": "[20,40)", "40-60": "[40,60)", "60-80": "[60,80)", "80+": "[80,inf)", "<20": "<20", "n/a": None}
    assert [age_label(age) for age in case["age"]] == [spelled[label] for label in case["expect"]]


@pytest.mark.parametrize("name", ["fdr_nan", "fdr_empty", "fdr_ones"])
def test_fdr_edges(edge_cases, name):
    p = np.array([np.nan if v is None else v for v in edge_cases[name]["p"]], dtype=float)
    want = [np.nan if v is None else v for v in edge_cases[name]["expect"]["q"]]
    np.testing.assert_allclose(benjamini_hochberg(p), want, rtol=1e-12)


def test_fdr_reference_and_literal(expected):
    assert benjamini_hochberg(expected["fdr"]["p"]) == pytest.approx(expected["fdr"]["q_bh"], rel=1e-10)
    p = np.random.default_rng(0).uniform(size=30)
    literal = [min(1.0, *(p[j] * 30 / (p <= p[j]).sum() for j in range(30) if p[j] >= p[i])) for i in range(30)]
    assert benjamini_hochberg(p) == pytest.approx(literal)


def test_cohort_of_each_dataset_and_of_all(table):
    assert cohort_by_dataset(table).equals(cohort_table(table))
    people = table.assign(dataset=np.where(table["participant_id"] == table["participant_id"].iloc[0], "B", "A"))
    result = cohort_by_dataset(people)
    assert list(result.columns) == [*COHORT.columns, "dataset"]
    n = result[result["group"] == "all"].set_index("dataset")["n"]
    assert n.to_dict() == {"A": 3, "B": 1, "all": 4}
