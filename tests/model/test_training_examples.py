"""What is shown of a training: nobody named, parts told apart, augmentation only where there is one."""

import numpy as np
import pytest
from modelstudy import make_table, tiny_recipe

from brainage_bids.bids.files import read_tsv
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.train import train_model
from brainage_bids.model.training_examples import augmented_examples, embedding_map

QUIET = ModelOptions(device="cpu", progress=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    table = make_table(folder)
    return table, train_model(table, tiny_recipe(epochs=2), folder / "m", folder / "w", QUIET)


def test_every_person_once_with_the_part_it_played(study):
    table, model = study
    points, shares = embedding_map(model, table, "cpu")
    split = read_tsv(model / "split.tsv").split
    assert len(points) == table.participant_id.nunique() == 20
    counts = points.part.value_counts()
    assert counts["train"] == (split == "train").sum()
    assert counts["val"] == (split == "val").sum()
    assert counts["held out"] == 20 - counts["train"] - counts["val"]
    assert list(points.columns) == ["part", "age", "first", "second"]
    assert 0 <= shares[1] <= shares[0] <= 1
    assert np.corrcoef(points["first"], points.age)[0, 1] >= 0
    assert np.abs(points[["first", "second"]].mean()).max() < 1e-6


def test_many_people_are_thinned_evenly(study, monkeypatch):
    table, model = study
    monkeypatch.setattr("brainage_bids.model.training_examples.MOST_PEOPLE", 5)
    points, _ = embedding_map(model, table, "cpu")
    ages = table.drop_duplicates("participant_id").age
    assert len(points) == 5
    assert (points.age.min(), points.age.max()) == (ages.min(), ages.max())


def test_examples_start_with_the_volume_as_it_is_and_repeat(study, tmp_path):
    table, model = study
    rows = augmented_examples(model, table)
    assert [len(row) for row in rows] == [5, 5]
    again = augmented_examples(model, table)
    assert all(np.array_equal(one, two) for one, two in zip(rows, again, strict=True))
    values = tiny_recipe("l1", epochs=1).to_dict()
    values["augmentation"]["enabled"] = False
    plain = train_model(table, Recipe.from_dict(values), tmp_path / "m", tmp_path / "w", QUIET)
    assert augmented_examples(plain, table) == []
