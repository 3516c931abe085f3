import re

import numpy as np
import pandas as pd
import pytest
from references import REFERENCE
from scipy import stats

from brainage_bids.bids.files import numbers, read_tsv
from brainage_bids.stats import longitudinal as lg
from brainage_bids.stats.cohort_tables import every_session

NAMES = {"intercept": "Intercept", "time": "time_yr", "group=AD": 'C(group, Treatment("NC"))[T.AD]',
         "time:group=AD": 'time_yr:C(group, Treatment("NC"))[T.AD]'}  # fmt: skip


@pytest.fixture
def sessions():
    table = read_tsv(REFERENCE / "reference_longitudinal.tsv")
    age, predicted = numbers(table["age"]), numbers(table["pred_a"])
    return table.assign(age=age, predicted_age_a=predicted, sex="F", run=None, qc_pass=1.0, in_training=0.0)


def rows_of(table, analysis):
    return table[table["analysis"] == analysis].set_index("term")


def test_rates_match_the_reference(sessions, expected):
    found = lg.longitudinal(sessions, ["a"], ["NC"])
    for label, want in expected["longitudinal"]["rate_by_group"].items():
        part = found[found["group"] == label].set_index(["analysis", "term"])
        assert part.loc[("rate", "mean"), "n"] == want["n"]
        assert part.loc[("rate", "mean"), "estimate"] == pytest.approx(want["brainage_rate_mean"], rel=1e-6)
        assert part.loc[("rate", "mean"), "sd"] == pytest.approx(want["brainage_rate_sd"], rel=1e-6)
        assert part.loc[("bag_rate", "mean"), "estimate"] == pytest.approx(want["bag_rate_mean"], rel=1e-5)
    test = rows_of(found, "bag_rate").loc["AD-NC"]
    for column, want in expected["longitudinal"]["welch_bag_rate"].items():
        assert test[column] == pytest.approx(want, rel=1e-6)
    assert (test["n"], test["n_scans"]) == (24, 71)


def test_the_mixed_model_matches_the_reference(sessions, expected):
    want = expected["longitudinal"]["mixedlm"]
    found = rows_of(lg.longitudinal(sessions, ["a"], ["NC"]), "mixed")
    for term, name in NAMES.items():
        assert found.loc[term, "estimate"] == pytest.approx(want["params"][name], abs=1e-4)
        assert found.loc[term, "se"] == pytest.approx(want["bse"][name], abs=1e-4)
        assert found.loc[term, "p"] == pytest.approx(want["p"][name], abs=1e-4)
    assert found.loc["var_residual", "estimate"] == pytest.approx(want["scale"], rel=1e-3)
    assert found.loc["var_intercept", "estimate"] == pytest.approx(want["var_intercept"], rel=1e-3)
    assert set(found["n_scans"]) == {want["n"]}
    assert (found["status"] == "ok").all()


def test_a_planted_rate_is_found():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        case, start = i % 2, rng.uniform(50, 70)
        own = rng.normal(0, 4)
        for year in (0.0, 1.0, 2.5):
            gap = own + (0.8 * year if case else 0) + rng.normal(0, 0.3)
            rows.append({"participant_id": f"sub-{i}", "session_id": f"ses-{year}", "age": start + year,
                         "group": "AD" if case else "NC", "sex": "FM"[i // 2 % 2],
                         "predicted_age_m": start + year + gap})  # fmt: skip
    found = lg.longitudinal(pd.DataFrame(rows), ["m"], ["NC"])
    for analysis in ("mixed", "mixed:age_bl+sex"):
        row = rows_of(found, analysis).loc["time:group=AD"]
        assert row["ci_lo"] < 0.8 < row["ci_hi"]
        assert row["se"] < 0.1
    assert rows_of(found, "bag_rate").loc["AD-NC", "estimate"] == pytest.approx(0.8, abs=0.15)


def test_only_people_scanned_half_a_year_apart_count(sessions):
    short = sessions.assign(age=sessions.groupby("participant_id")["age"].transform("first"))
    assert lg.longitudinal(short, ["a"], ["NC"]).empty
    single = sessions.drop_duplicates("participant_id")
    assert lg.longitudinal(single, ["a"], ["NC"]).empty
    few = sessions[sessions["participant_id"].isin(sessions["participant_id"].unique()[:4])]
    found = lg.longitudinal(few, ["a"], ["NC"])
    assert rows_of(found, "mixed").loc["model", "status"] == "insufficient_n"
    assert rows_of(found, "rate").loc["mean"].iloc[0]["n"] == 4


def test_without_controls_the_first_group_is_the_reference(sessions):
    found = rows_of(lg.longitudinal(sessions, ["a"], []), "mixed")
    assert found.loc["group=NC", "note"].startswith("reference group AD; sandwich se ")
    assert "AD-NC" not in set(lg.longitudinal(sessions, ["a"], [])["term"])


def test_a_person_keeps_the_group_of_the_first_session(sessions):
    last = sessions["session_id"] == "ses-03"
    moved = sessions.assign(group=sessions["group"].where(~last, "other"))
    same = lg.longitudinal(moved, ["a"], ["NC"])
    pd.testing.assert_frame_equal(same, lg.longitudinal(sessions, ["a"], ["NC"]))


def test_equal_gaps_give_no_test(sessions):
    flat = sessions.assign(predicted_age_a=sessions["age"] + 1)
    found = lg.longitudinal(flat, ["a"], ["NC"])
    assert rows_of(found, "mixed").loc["model", "status"] == "constant_input"


def test_every_session_takes_the_lowest_run_of_usable_scans(sessions):
    again = sessions.assign(run="run-2")
    bad = sessions.iloc[[0]].assign(session_id="ses-09", qc_pass=0.0)
    trained = sessions.iloc[[1]].assign(session_id="ses-08", in_training=1.0)
    ageless = sessions.iloc[[2]].assign(session_id="ses-07", age=np.nan)
    everything = pd.concat([again, sessions.assign(run="run-1"), bad, trained, ageless], ignore_index=True)
    kept = every_session(everything)
    assert len(kept) == len(sessions)
    assert set(kept["run"]) == {"run-1"}


def test_sandwich_errors_of_balanced_scans_are_those_of_the_rates():
    rng = np.random.default_rng(1)
    n, rows = 25, []
    for i in range(2 * n):
        start, own, rate = rng.uniform(50, 70), rng.normal(0, 4), rng.normal(0, 2 if i < n else 0.5)
        person = {"participant_id": f"sub-{i:02d}", "group": "AD" if i < n else "NC", "sex": "F"}
        for t in (0.0, 1.0, 2.0):
            predicted = start + t + own + rate * t + rng.normal(0, 0.3)
            rows.append({**person, "age": start + t, "predicted_age_m": predicted})
    found = lg.longitudinal(pd.DataFrame(rows), ["m"], ["NC"])
    mixed, welch = rows_of(found, "mixed").loc["time:group=AD"], rows_of(found, "bag_rate").loc["AD-NC"]
    assert mixed["estimate"] == pytest.approx(welch["estimate"])
    rates = np.sqrt((n - 1) / n * 2 * n / (2 * n - 1)) * welch["estimate"] / welch["t"]  # n in place of n - 1
    assert float(mixed["note"].split("sandwich se ")[1].split()[0]) == pytest.approx(rates, rel=1e-3)
    assert mixed["se"] < 0.9 * rates  # a random intercept alone takes the spread of the rates for noise of scans


def test_ages_for_rates_replace_whole_years_where_a_person_has_them_for_every_session():
    dated = np.array([70.0, 71.6, 73.1])
    rows = [
        {"participant_id": f"sub-{i}", "session_id": f"ses-{j}", "age": float(np.floor(age)), "age_for_rates": age,
         "predicted_age_m": 5 + 1.3 * age, "bag_m": 5 + 1.3 * age - np.floor(age), "group": "NC", "sex": "F",
         "age_flags": None}
        for i in range(8) for j, age in enumerate(dated + i / 10)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    found = lg.longitudinal(lg.rate_sessions(table, ["m"]), ["m"], ["NC"])
    rate = found[(found.analysis == "rate") & (found.group == "NC")].iloc[0]
    assert rate.estimate == pytest.approx(1.3, abs=1e-9)
    assert rate.sd == pytest.approx(0, abs=1e-9)
    table.loc[0, "age_for_rates"] = np.nan  # then the ages as written, for this person alone
    table.loc[3, ["age_for_rates", "age_flags"]] = [np.nan, "age_not_session_specific"]  # such a session has no say
    people = lg.rate_sessions(table, ["m"]).set_index("participant_id")
    assert people.loc["sub-0", "age"].tolist() == [70.0, 71.0, 73.0]
    assert people.loc["sub-1", "age"].tolist() == pytest.approx([70.0, 71.7, 73.2])
    assert people.loc["sub-2", "bag_m"].tolist() == pytest.approx(5 + 0.3 * (dated + 0.2))
    assert lg.rate_sessions(table.drop(columns="age_for_rates"), ["m"]).age.tolist() == table.age.tolist()


def test_a_model_that_nobody_has_twice_does_not_end_the_next(sessions):
    two = sessions.assign(predicted_age_none=np.nan)
    found = lg.longitudinal(two, ["none", "a"], ["NC"])
    pd.testing.assert_frame_equal(found, lg.longitudinal(sessions, ["a"], ["NC"]))


def test_the_sandwich_p_is_that_of_its_error(sessions):
    row = rows_of(lg.longitudinal(sessions, ["a"], ["NC"]), "mixed").loc["time"]
    se, p = re.search(r"sandwich se (\S+) p (\S+)", row["note"]).groups()
    people = lg.usable_people(sessions, "a")["participant_id"].nunique()
    df = people - len(rows_of(lg.longitudinal(sessions, ["a"], ["NC"]), "mixed").filter(regex="^(?!var_)", axis=0))
    assert float(p) == pytest.approx(2 * stats.t.sf(abs(row["estimate"] / float(se)), df), rel=0.02)
