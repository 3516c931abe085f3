import numpy as np
import pandas as pd
import pytest

from brainage_bids.result_tables import COHORTSITES, FLAGS, PATIENTS
from brainage_bids.stats.accuracy import accuracy
from brainage_bids.stats.correlate import correlations
from brainage_bids.stats.describe import cohort_sites, flag_counts, missing_data, patients


@pytest.fixture
def small():
    return pd.DataFrame(
        {
            "participant_id": ["sub-1", "sub-2", "sub-3", "sub-4", "sub-5"],
            "age": [60.0, 70.0, np.nan, 50.0, 40.0],
            "sex": ["F", "M", "F", None, "F"],
            "group": ["NC", "AD", "AD", None, "NC"],
            "site": ["A", "A", "B", "B", None],
            "mmse": [np.nan, 20.0, 21.0, np.nan, np.nan],
            "predicted_age_m": [61.0, 75.0, 70.0, np.nan, 42.0],
        },
        index=["sub-1", "sub-2", "sub-3", "sub-4", "sub-5"],
    )


def test_cohort_by_site(small):
    found = cohort_sites(small)
    assert list(found.columns) == COHORTSITES.columns
    assert [(row.site, row.group, row.n) for row in found.itertuples()] == [
        ("A", "AD", 1), ("A", "NC", 1), ("A", "all", 2), ("B", "AD", 1), ("B", None, 1), ("B", "all", 2),
    ]  # fmt: skip
    assert found.age_mean[2] == 65.0
    one_group = cohort_sites(small[small.group == "NC"])
    assert one_group.group.tolist() == ["NC"]  # not once more as everyone
    nowhere = cohort_sites(small.assign(site=None))
    assert nowhere.empty
    assert list(nowhere.columns) == COHORTSITES.columns


def test_missing_values_are_counted_by_group(small):
    found = missing_data(small, ["m"], ["mmse"]).set_index(["variable", "group"])
    assert tuple(found.loc[("mmse", "all")]) == (5, 3)
    assert tuple(found.loc[("mmse", "AD")]) == (2, 0)
    assert tuple(found.loc[("age", "AD")]) == (2, 1)
    assert tuple(found.loc[("predicted_age_m", "all")]) == (5, 1)
    assert tuple(found.loc[("group", "all")]) == (5, 1)
    unstated = missing_data(small, ["m"], ["mmse"]).query("variable == 'sex' and group.isna()")
    assert unstated[["n", "n_missing"]].to_numpy().tolist() == [[1, 1]]


def test_without_groups_there_is_only_everyone(small):
    assert set(missing_data(small.assign(group=None), ["m"], []).group) == {"all"}


def test_flags_are_counted_per_model_and_group(small):
    flags = pd.DataFrame(
        [("sub-1", "m", ""), ("sub-2", "m", "qc_warn;top_coded"), ("sub-3", "m", "qc_warn"), ("sub-4", "m", "qc_warn"),
         ("sub-1", "k", "n/a"), ("sub-2", "k", "top_coded")],
        columns=["prefix", "model", "flags"],
    )  # fmt: skip
    found = flag_counts(flags, small)
    assert list(found.columns) == FLAGS.columns
    counted = {(r.flag, r.model, r.group): (r.n, r.n_scans) for r in found.itertuples()}
    assert counted == {
        ("qc_warn", "m", "AD"): (2, 2),
        ("qc_warn", "m", None): (1, 1),
        ("qc_warn", "m", "all"): (3, 4),
        ("top_coded", "m", "AD"): (1, 2),
        ("top_coded", "m", "all"): (1, 4),
        ("top_coded", "k", "AD"): (1, 1),
        ("top_coded", "k", "all"): (1, 2),
    }
    nothing = flag_counts(flags.iloc[:0], small)
    assert nothing.empty
    assert list(nothing.columns) == FLAGS.columns


def test_patients_hold_the_numbers_of_the_tests(tested, expected):
    errors = accuracy(tested, ["a", "b"], ["NC"], {"a": 50.0, "b": 50.0})
    related = correlations(tested, ["a", "b"], ["adas11", "updrs3", "hy"], covariates=("age", "sex"), controls=["NC"])
    found = patients(errors, related, ["NC"])
    assert list(found.columns) == PATIENTS.columns
    assert set(found.group) == {"AD", "PD"}
    row = found.query("group == 'AD' and model == 'a' and score == 'adas11' and variant == 'raw'").iloc[0]
    assert row["corr"] == pytest.approx(0.633433, abs=1e-6)  # science.md C.5
    assert row["corr_n"] == 28
    people = tested[tested.group == "AD"]
    assert row["mae"] == pytest.approx(people["bag_a"].abs().mean())
    assert row["bag_sd"] == pytest.approx(people["bag_a"].std(ddof=1))
    primary = found.query("group == 'AD' and model == 'a' and score == 'adas11' and variant != 'raw'").iloc[0]
    assert primary["variant"] == "partial:age+sex"
    asked = (related["group"] == "AD") & (related["model"] == "a") & (related["score"] == "adas11")
    of_test = related[asked & (related["variant"] == "partial:age+sex") & (related["statistic"] == "pearson")].iloc[0]
    named = ["corr_n", "corr", "corr_ci_lo", "corr_ci_hi", "corr_p"]
    assert primary[named].tolist() == of_test[["n", "estimate", "ci_lo", "ci_hi", "p"]].tolist()
    of_error = errors[(errors["subset"] == "group=AD") & (errors["model"] == "a")].iloc[0]
    shared = ["n", "mae", "ae_sd", "bag_mean", "bag_sd", "bag_ci_lo", "bag_ci_hi", "bag_p", "status", "note"]
    assert primary[shared].tolist() == of_error[shared].tolist()
    assert primary["corr"] == pytest.approx(0.659044, abs=1e-6)
    assert set(found.query("score == 'hy'").statistic) == {"spearman"}


def test_patients_without_scores_keep_a_row(tested):
    errors = accuracy(tested, ["a"], ["NC"], {"a": 50.0})
    found = patients(errors, correlations(tested, ["a"], [], controls=["NC"]), ["NC"])
    assert found.group.tolist() == ["AD", "PD"]
    assert found.score.isna().all()


def test_pooled_controls_are_no_patients(tested):
    two = tested.assign(group=np.where((tested["group"] == "NC") & (tested["sex"] == "F"), "CN", tested["group"]))
    errors = accuracy(two, ["a"], ["CN", "NC"])
    assert "group=CN+NC" in set(errors["subset"])
    found = patients(errors, correlations(two, ["a"], [], controls=["CN", "NC"]), ["CN", "NC"])
    assert found.group.tolist() == ["AD", "PD"]
