import numpy as np
import pandas as pd
import pytest

from brainage_bids.errors import BadDataError
from brainage_bids.model.split import fold_parts, make_split
from brainage_bids.schema import SPLIT_COLUMNS


def cohort(n=200, seed=0, patients=0.3):
    rng = np.random.default_rng(seed)
    ids = [f"sub-{i:03d}" for i in range(n)]
    group = np.where(rng.random(n) < patients, "AD", "CN")
    table = pd.DataFrame({
        "participant_id": ids, "session_id": None, "prefix": ids, "age": rng.uniform(18, 90, n),
        "sex": rng.choice(["F", "M"], n), "group": group, "site": rng.choice(["A", "B"], n), "family": None,
        "trainable": group == "CN",
    })  # fmt: skip
    return table


def test_shares_without_folds():
    table = cohort()
    split = make_split(table, folds=None, seed=1)
    assert list(split.columns) == SPLIT_COLUMNS
    n = int(table.trainable.sum())
    counts = split.split.value_counts()
    assert counts["test"] == counts["val"] == round(0.1 * n)
    assert counts["train"] == n - 2 * round(0.1 * n)
    assert split.split[~split.trainable].isna().all()
    assert split.fold.isna().all()
    assert fold_parts(table, split, None, 1)[1] == sorted(split.participant_id[split.split == "val"])


def test_folds_hold_everybody_out_once_and_never_train_on_the_held_out():
    table = cohort()
    split = make_split(table, folds=5, seed=1)
    assert sorted(split.participant_id) == sorted(table.participant_id)
    assert set(split.fold) == {1, 2, 3, 4, 5}
    trainable = set(table.participant_id[table.trainable])
    for fold in range(1, 6):
        train, val = fold_parts(table, split, fold, 1)
        out = set(split.participant_id[split.fold == fold])
        assert not out & (set(train) | set(val))
        assert not set(train) & set(val)
        assert set(train) | set(val) | (out & trainable) == trainable
        assert len(val) == round(0.1 * (len(train) + len(val)))


def test_folds_are_balanced():
    table = cohort(300)
    split = make_split(table, folds=5, seed=3).merge(table.drop(columns="trainable"), on="participant_id")
    for key in ("group", "sex", "site"):
        counts = pd.crosstab(split.fold, split[key])
        assert (counts.max() - counts.min()).max() <= 8
    trained = split[split.trainable]
    assert trained.groupby("fold").size().agg(np.ptp) <= 1
    assert trained.groupby("fold").age.mean().agg(np.ptp) < 4  # of 18 to 90 years


@pytest.mark.parametrize("n", [36, 40, 72])
def test_test_and_validation_people_are_not_all_young_or_all_old(n):
    """Four strata as long as a step along the order: evenly spaced places took the youngest of each."""
    ids = [f"sub-{i:03d}" for i in range(n)]
    table = pd.DataFrame({
        "participant_id": ids, "session_id": None, "prefix": ids, "age": np.linspace(20, 90, n),
        "sex": np.where(np.arange(n) % 2, "F", "M"), "group": "CN", "site": np.where(np.arange(n) // 2 % 2, "A", "B"),
        "family": None, "trainable": True,
    })  # fmt: skip
    for seed in range(8):
        split = make_split(table, folds=None, seed=seed).merge(table.drop(columns="trainable"), on="participant_id")
        folds = make_split(table, folds=5, seed=seed)
        parts = [split[split.split == part] for part in ("test", "val")]
        parts += [table[table.participant_id.isin(fold_parts(table, folds, k, seed)[1])] for k in range(1, 6)]
        for part in parts:
            assert abs(part.age.mean() - 55) < 12
            assert part.age.max() - part.age.min() > 20
            assert abs((part.sex == "F").sum() - len(part) / 2) <= 1
            assert abs((part.site == "A").sum() - len(part) / 2) <= 1


def test_rare_and_extreme_people_are_tested_as_often_as_others():
    """A choice that likes typical people only would make the error of the test too small."""
    table = cohort(100, patients=0).sort_values("age").reset_index(drop=True)
    table["site"] = ["B", "C", "D"] + ["A"] * 97
    table = table.sample(frac=1, random_state=0)
    ends = set(table.nlargest(5, "age").participant_id) | set(table.nsmallest(5, "age").participant_id)
    rare = set(table.participant_id[table.site != "A"])
    counts = {"ends": 0, "rare": 0, "all": 0}
    for seed in range(100):
        split = make_split(table, folds=None, seed=seed)
        tested = set(split.participant_id[split.split == "test"])
        counts = {"ends": counts["ends"] + len(tested & ends), "rare": counts["rare"] + len(tested & rare),
                  "all": counts["all"] + len(tested)}  # fmt: skip
    assert counts["all"] == 1000
    assert 70 <= counts["ends"] <= 130  # a tenth of 10 people, 100 times: 100 with an SD of 9.5
    assert 15 <= counts["rare"] <= 47  # 30 with an SD of 5.2


def test_parts_of_a_large_cohort_are_like_the_whole():
    table = cohort(1600, patients=0)
    split = make_split(table, folds=None, seed=5).merge(table.drop(columns="trainable"), on="participant_id")
    for part in ("test", "val"):
        rows = split[split.split == part]
        assert abs(rows.age.mean() - table.age.mean()) < 1
        assert abs(rows.age.std() - table.age.std()) < 1.5
        for key, level in (("sex", "F"), ("site", "A")):
            assert abs((rows[key] == level).mean() - (table[key] == level).mean()) < 0.03


def test_people_without_ages_or_of_one_age_are_split_too():
    for age in (np.nan, 50.0):
        table = cohort(30, patients=0).assign(age=age, sex=None, site=None)
        assert make_split(table, folds=None, seed=0).split.value_counts().to_dict() == {
            "train": 24,
            "test": 3,
            "val": 3,
        }


def test_order_of_rows_does_not_matter_and_the_seed_does():
    table = cohort()
    first = make_split(table, folds=5, seed=1)
    assert first.equals(make_split(table.sample(frac=1, random_state=3), folds=5, seed=1))
    assert not first.equals(make_split(table, folds=5, seed=2))


@pytest.mark.parametrize("folds", [None, 4])
def test_sessions_and_families_stay_together(folds):
    table = cohort(80, patients=0)
    table["family"] = [f"F{i // 2}" if i < 40 else None for i in range(80)]
    again = table.assign(prefix=table.prefix + "_ses-2", age=table.age + 15)
    both = pd.concat([table, again], ignore_index=True)
    split = make_split(both, folds=folds, seed=0)
    assert len(split) == 80
    named = split.merge(table[["participant_id", "family"]], on="participant_id")
    part = "fold" if folds else "split"
    assert (named.dropna(subset="family").groupby("family")[part].nunique() == 1).all()
    for fold in range(1, folds + 1) if folds else [None]:
        train, val = fold_parts(both, split, fold, 0)
        families = table.set_index("participant_id").family
        assert not set(families[train].dropna()) & set(families[val].dropna())


def test_too_few_people():
    with pytest.raises(BadDataError, match="3 people in 3 families can train, but at least 4"):
        make_split(cohort(3, patients=0), folds=None, seed=0)
    with pytest.raises(BadDataError, match="at least 8 are needed"):
        make_split(cohort(7, patients=0), folds=8, seed=0)
