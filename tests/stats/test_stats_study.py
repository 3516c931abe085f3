import pytest

from brainage_bids.result_tables import STUDY
from brainage_bids.stats.study import study_table


def test_paired_differences_on_the_same_people():
    age = [20.0, 30.0, 40.0, 50.0, 60.0]
    runs = [
        {"setting": "s", "value": "a", "seed": 1, "age": age, "predicted_age": [25.0, 33.0, 44.0, 52.0, 66.0]},
        {"setting": "s", "value": "b", "seed": 1, "age": age, "predicted_age": [22.0, 31.0, 41.0, 50.0, 63.0]},
        {"setting": "s", "value": "c", "seed": 1, "age": [*age[:4], 61.0], "predicted_age": age},
        {"setting": "s", "value": "d", "seed": 1, "note": "not run"},
    ]
    table = study_table(runs, 0)
    assert list(table.columns) == STUDY.columns
    assert list(table.mae[:2]) == pytest.approx([4.0, 1.4])
    assert table.mae_diff[1] == pytest.approx(-2.6)
    assert table.diff_ci_hi[1] < 0
    assert table.mae_diff.isna()[[0, 2, 3]].all()  # itself; other people; not run
    assert list(table.status) == ["ok", "ok", "ok", "skipped"]
    assert table.note[3] == "not run"
    assert table[["setting", "value", "seed"]].to_numpy().tolist() == [["s", value, 1] for value in "abcd"]


@pytest.mark.parametrize(("age", "note"), [([20.0, 30.0], "fewer than 3 people"), ([20.0, 30.0, 40.0], "are equal")])
def test_too_few_people_for_an_interval_are_said(age, note):
    later = [value + 2 for value in age]
    runs = [
        {"setting": "s", "value": v, "seed": 1, "age": age, "predicted_age": p} for v, p in (("a", later), ("b", age))
    ]
    table = study_table(runs, 0)
    assert list(table.mae) == [2.0, 0.0]
    assert table.mae_diff[1] == -2.0
    assert table[["mae_ci_lo", "diff_ci_lo", "p"]].isna().all(axis=None)
    assert table.note.str.contains(note).all()


def test_nothing_is_compared_with_another_value_than_the_first():
    runs = [{"setting": "k", "value": value, "seed": 1, "mae_null": 9.0, "epochs": 1, "minutes": 1}
            for value in ("a", "b", "c")]  # fmt: skip
    for run, error in zip(runs[1:], (2.0, 1.0), strict=True):
        run |= {"age": [50.0, 60, 70, 80], "predicted_age": [50.0 + error, 60, 70 + error, 80]}
    table = study_table(runs, 0)
    assert table[["mae_diff", "p"]].isna().all(axis=None)
    assert table.note[1:].str.contains("not compared: a is not finished").all()
