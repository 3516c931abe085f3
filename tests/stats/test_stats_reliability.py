import numpy as np
import pandas as pd
import pytest
from references import REFERENCE

from brainage_bids.bids.files import numbers, read_tsv
from brainage_bids.stats import reliability as rel


@pytest.fixture
def retest():
    table = read_tsv(REFERENCE / "reference_retest.tsv")
    table = table.assign(age=numbers(table["age"]), predicted_age_a=numbers(table["pred_a"]), session_id=None)
    return table.assign(run="run-" + table["run"], age_source="participants.tsv:age", qc_pass=1.0, in_training=0.0)


def test_agreement_matches_the_reference(retest, expected):
    found = rel.reliability(retest, ["a"]).set_index("measure")
    for measure, name in (("predicted_age", "pred_a"), ("bag", "bag")):
        want, row = expected["retest"][name], found.loc[measure]
        for column, key in (("icc21", "icc_2_1_mcgraw_wong"), ("icc31", "icc_3_1_mcgraw_wong")):
            assert row[column] == pytest.approx(want[key]["icc"], rel=1e-8)
            assert [row[f"{column}_ci_lo"], row[f"{column}_ci_hi"]] == pytest.approx(want[key]["ci"], rel=1e-8)
        assert row["wsd"] == pytest.approx(want["wsd"], rel=1e-8)
        assert row["rc"] == pytest.approx(want["repeatability_coefficient"], rel=1e-8)
        assert row["ba_bias"] == pytest.approx(want["ba_bias"], rel=1e-8)
        assert [row["ba_loa_lo"], row["ba_loa_hi"]] == pytest.approx(want["ba_loa"], rel=1e-6)
        assert row["mean_abs_diff"] == pytest.approx(want["mean_abs_diff"], rel=1e-8)
        assert (row["n"], row["status"]) == (15, "ok")


def test_the_order_of_rows_does_not_matter(retest):
    shuffled = retest.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(rel.reliability(shuffled, ["a"]), rel.reliability(retest, ["a"]), rtol=1e-12)


def test_bad_and_trained_scans_make_no_pair(retest):
    first = retest["participant_id"].unique()
    out = retest.assign(
        qc_pass=np.where(retest["participant_id"] == first[0], 0.0, 1.0),
        in_training=np.where(retest["participant_id"] == first[1], 1.0, 0.0),
    )
    assert set(rel.reliability(out, ["a"])["n"]) == {13}
    few = retest[retest["participant_id"].isin(first[:4])]
    found = rel.reliability(few, ["a"])
    assert set(found["status"]) == {"insufficient_n"}
    assert found["icc21"].isna().all()
    assert rel.reliability(retest.drop_duplicates("participant_id"), ["a"]).empty


@pytest.mark.parametrize(
    ("ages", "source", "paired"),
    [
        ((50.0, 50.2), "sessions.tsv:age", True),
        ((50.0, 50.3), "sessions.tsv:age", False),
        ((50.0, 50.0), "sessions.tsv:age", False),  # rounded to years, who knows
        ((50.0, 50.2), "participants.tsv:age", False),
    ],
)
def test_sessions_pair_only_when_their_own_ages_say_so(ages, source, paired):
    table = pd.DataFrame({"participant_id": ["sub-1"] * 2, "session_id": ["ses-1", "ses-2"], "run": None, "age": ages,
                          "age_source": source})  # fmt: skip
    assert rel.scan_pairs(table) == ([(0, 1)] if paired else [])


def test_one_pair_a_person_and_natural_order_of_runs():
    table = pd.DataFrame({"participant_id": "sub-1", "session_id": "ses-1", "run": ["run-10", "run-2", "run-1"],
                          "age": 50.0, "age_source": "x"})  # fmt: skip
    assert rel.scan_pairs(table) == [(2, 1)]


@pytest.mark.parametrize(
    ("runs", "pairs"),
    [
        (["acq-a_run-1", "acq-a_run-2"], [(0, 1)]),
        (["acq-a_run-1", "acq-b_run-1"], []),
        (["acq-a", None], []),
        (["acq-a", "acq-b_run-1", "acq-b_run-2"], [(1, 2)]),
    ],
)
def test_only_scans_of_one_acquisition_are_compared(runs, pairs):
    table = pd.DataFrame({"participant_id": "sub-1", "session_id": "ses-1", "run": runs, "age": 50.0,
                          "age_source": "x"})  # fmt: skip
    assert rel.scan_pairs(table) == pairs


def test_the_fifth_pair_is_enough():
    rng = np.random.default_rng(6)
    pairs = rng.normal(60, 10, (5, 1)) + rng.normal(0, 1, (5, 2))
    assert rel.agreement(pairs)["status"] == "ok"
    assert rel.agreement(pairs[:4]) == {
        "n": 4, "status": "insufficient_n", "note": "fewer than 5 people with two such scans"
    }  # fmt: skip


def test_no_spread_gives_no_icc():
    same = np.repeat(np.arange(6.0)[:, None], 2, axis=1)
    assert rel.agreement(same)["status"] == "zero_variance"
    assert rel.agreement(same)["wsd"] == 0
