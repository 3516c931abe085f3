import dataclasses

import numpy as np
import pytest
from modelstudy import SPEC, make_table, tiny_recipe
from safetensors.torch import load_file

from brainage_bids.bids.files import read_json, read_tsv, write_json
from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.model.artifact import read_model_json
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table, predict_volume, spread
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.settings import effective_settings
from brainage_bids.model.train import train_model

QUIET = ModelOptions(device="cpu", progress=False)
SEEDS = {"fold-1": ["fold-1", "fold-1_seed-2"], "fold-2": ["fold-2", "fold-2_seed-2"]}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def models(table, tmp_path_factory):
    """The same folds once trained and twice trained."""
    folder = tmp_path_factory.mktemp("ensemble")
    for times in (1, 2):
        options = dataclasses.replace(QUIET, folds=2, ensemble=times)
        train_model(table, tiny_recipe(), folder / f"m{times}", folder / f"w{times}", options, phantom=True)
    return folder


def test_the_first_training_of_an_ensemble_is_that_without_one(models):
    one, two = (load_file(models / name / "weights.safetensors") for name in ("m1", "m2"))
    assert set(one) < set(two)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert {key.split(".")[0] for key in two} == {"fold-1", "fold-2", "fold-1_seed-2", "fold-2_seed-2"}
    key = "fold-1{}.stages.0.0.convs.0.weight"
    assert not np.array_equal(two[key.format("")], two[key.format("_seed-2")])


def test_an_age_is_the_mean_of_the_trainings_that_never_saw_the_person(models, table):
    model, card = load_model(models / "m2", "cpu"), read_json(models / "m2" / "model.json")
    rows = table.drop_duplicates("participant_id")
    found = predict_table(model, rows, QUIET, saliency=False)
    assert all(flags == ["out_of_fold"] for flags in found["flags"])
    assert (found.predicted_age_sd > 0).all()
    for (_, row), path in zip(found.iterrows(), rows.volume, strict=True):
        volume = load_volume(path, SPEC)
        ages = [predict_volume(model, volume, [member])[0] for member in SEEDS[f"fold-{row.fold}"]]
        assert row.predicted_age == pytest.approx(np.mean(ages), abs=1e-4)
        assert row.predicted_age_sd == pytest.approx(np.std(ages, ddof=1), abs=1e-4)
    by_age = {(round(row["age"], 6), row["fold"]): row for row in card["calibration"]}
    for (_, row), age, trainable in zip(found.iterrows(), rows.age, rows.trainable, strict=True):
        if trainable:
            kept = by_age[(round(age, 6), row.fold)]
            assert kept["predicted_age"] == pytest.approx(row.predicted_age, abs=1e-3)
            assert kept["predicted_age_sd"] == pytest.approx(row.predicted_age_sd, abs=1e-3)


def test_members_of_a_fold_know_the_same_people(models):
    members = read_model_json(models / "m2" / "model.json")["members"]
    assert [(one["name"], one["fold"]) for one in members] == [
        ("fold-1", 1), ("fold-2", 2), ("fold-1_seed-2", 1), ("fold-2_seed-2", 2),
    ]  # fmt: skip
    for one, other in ((0, 2), (1, 3)):
        for part in ("training_participants", "validation_participants", "held_out_participants"):
            assert members[one][part] == members[other][part]


def test_strangers_are_predicted_by_all_with_the_spread_within_folds(models, table):
    rows = table.head(2).assign(participant_id=["sub-4711", "sub-4712"])
    model = load_model(models / "m2", "cpu")
    found = predict_table(model, rows, QUIET, saliency=False)
    for row, path in zip(found.itertuples(), rows.volume, strict=True):
        volume = load_volume(path, SPEC)
        ages = {name: predict_volume(model, volume, [name])[0] for name in model.networks}
        assert len(ages) == 4
        assert row.predicted_age == pytest.approx(np.mean(list(ages.values())), abs=1e-4)
        by_fold = [np.var([ages[name] for name in names], ddof=1) for names in SEEDS.values()]
        assert row.predicted_age_sd == pytest.approx(np.sqrt(np.mean(by_fold)), abs=1e-4)


def test_one_training_has_no_spread(models, table):
    found = predict_table(models / "m1", table.head(1), QUIET, saliency=False)
    assert found.predicted_age_sd.isna().all()
    assert np.isnan(spread({"fold-1": 50.0, "fold-2": 60.0}))
    assert "predicted_age_sd" not in read_json(models / "m1" / "model.json")["calibration"][0]


def test_without_folds_the_members_are_numbered_too(table, tmp_path):
    options = dataclasses.replace(QUIET, ensemble=2)
    folder = train_model(table, tiny_recipe("l1", epochs=1), tmp_path / "m", tmp_path / "w", options)
    assert set(load_model(folder, "cpu").networks) == {"main", "main_seed-2"}
    assert set(read_tsv(folder / "history.tsv").member) == {"main", "main_seed-2"}
    assert "trained 2 times" in (folder / "MODEL_CARD.md").read_text()


def test_trainings_side_by_side_take_one_thread_each_and_share_the_memory():
    """Their weights must not depend on how many train at once, with folds or without."""
    recipe = load_recipe("rnc-demo")
    alone = dataclasses.replace(QUIET, workers=2, memory=4e9)
    free = []
    for options in (alone, dataclasses.replace(alone, ensemble=2), dataclasses.replace(alone, folds=2)):
        settings = effective_settings(recipe, options, 30)
        free.append(settings.notes[-1].split("of the ")[1])
        assert options is alone or settings.threads == 1
    assert free == [f"{most} GB that were free" for most in ("4.0", "2.0", "2.0")]


def test_a_model_with_unequal_members_of_its_folds_is_refused(models, tmp_path):
    card = read_json(models / "m2" / "model.json")
    write_json(tmp_path / "model.json", card | {"members": card["members"][:3]})
    with pytest.raises(BadDataError, match="as many members for each fold"):
        read_model_json(tmp_path / "model.json")


def test_a_ridge_comes_out_the_same_each_time(table, tmp_path):
    recipe = dataclasses.replace(load_recipe("pca-ridge", ["volume.resolution=8"]))
    with pytest.raises(UsageError, match="--ensemble 3 needs a recipe of a network"):
        train_model(table, recipe, tmp_path / "m", tmp_path / "w", dataclasses.replace(QUIET, ensemble=3))
