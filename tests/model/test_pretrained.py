import dataclasses

import pandas as pd
import pytest
import torch
from modelstudy import make_table, tiny_recipe
from safetensors.torch import load_file

from brainage_bids.bids.files import read_json, write_json
from brainage_bids.errors import BadDataError, NoInputError, UsageError
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.model.train import train_model

QUIET = ModelOptions(device="cpu", progress=False)
ENCODER = "main.stages.0.0.convs.0.weight"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two datasets of PHANTOMS with different people."""
    both = []
    for name in ("first", "second"):
        table = make_table(tmp_path_factory.mktemp(name))
        if name == "second":
            table = table.assign(participant_id=table.participant_id.str.replace("sub-", "sub-other10"))
        table.attrs["dataset"] = name
        both.append(table)
    return both


@pytest.fixture(scope="module")
def models(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    train_model(tables[0], tiny_recipe(), folder / "base", folder / "w", QUIET, phantom=True)
    return folder


def starting(base, method="rnc", **network):
    recipe = tiny_recipe(method)
    return dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, init=base, **network))


@pytest.mark.parametrize("method", ["rnc", "l1"])
def test_a_frozen_encoder_stays_and_only_the_head_is_trained(tables, models, tmp_path, method):
    recipe = starting(str(models / "base"), method)
    folder = train_model(tables[1], recipe, tmp_path / "m", tmp_path / "w", dataclasses.replace(QUIET, seed=5))
    before, after = (load_file(path / "weights.safetensors") for path in (models / "base", folder))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"main.head.weight", "main.head.bias"}
    assert set(pd.read_csv(folder / "history.tsv", sep="\t").stage) == {"head"}
    text = (folder / "MODEL_CARD.md").read_text()
    assert "Encoder: that of the model tiny-rnc, which was trained on PHANTOMS, as it was" in text


@pytest.mark.parametrize("method", ["rnc", "l1"])
def test_an_encoder_is_trained_on_at_its_own_rate(tables, models, tmp_path, method):
    before = load_file(models / "base" / "weights.safetensors")
    moved = []
    for rate in (1e-6, 1e-3):
        recipe = starting("base", method, init_lr=rate)
        folder = train_model(tables[1], recipe, models / f"{method}-{rate}", tmp_path / f"w{rate}", QUIET)
        after = load_file(folder / "weights.safetensors")
        moved.append((after[ENCODER] - before[ENCODER]).abs().max().item())
    assert 0 < moved[0] < moved[1] / 100
    text = (folder / "MODEL_CARD.md").read_text()
    assert "trained on at a rate of 0.001" in text
    assert str(models) not in (folder / "model.json").read_text()


def test_the_same_encoder_in_another_place_is_the_same_training(tables, models, tmp_path):
    folder = train_model(tables[1], starting(str(models / "base")), tmp_path / "m", tmp_path / "w", QUIET)
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    (tmp_path / "base").symlink_to(models / "base")
    train_model(tables[1], starting("base"), folder, tmp_path / "w2", QUIET)
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before


def test_people_of_the_encoder_judge_no_model(tables, models, tmp_path):
    with pytest.raises(BadDataError, match=r"trained with \d+ of the people who are to judge .*sub-.*--train-on"):
        train_model(tables[0], starting(str(models / "base")), tmp_path / "m", tmp_path / "w", QUIET)


def test_people_of_the_encoder_are_never_held_out(tables, models, tmp_path):
    folds = dataclasses.replace(QUIET, folds=3)
    folder = train_model(tables[1], starting(str(models / "base")), tmp_path / "m", tmp_path / "w", folds)
    base, flags = load_model(models / "base", "cpu"), {}
    for name, table in (("first", tables[0]), ("second", tables[1])):
        rows = table.drop_duplicates("participant_id")
        rows.attrs["dataset"] = name
        found = predict_table(folder, rows, QUIET, saliency=False).set_index(rows.participant_id.to_numpy())
        flags |= found["flags"].to_dict()
    known = {person for person in tables[0].participant_id if "in_" in "".join(predict_flags(base, person))}
    assert len(known) > 10
    assert all(flags[person] == ["in_training"] for person in known)
    assert all(flags[person] == ["out_of_fold"] for person in tables[1].participant_id)


def predict_flags(model, person):
    from brainage_bids.model.predict import folds_for

    return folds_for(model, person, "first")[1]


def test_the_origin_of_an_origin_counts_too(tables, models, tmp_path):
    middle = train_model(tables[1], starting(str(models / "base")), tmp_path / "middle", tmp_path / "w", QUIET)
    third = tables[1].assign(participant_id=tables[1].participant_id.str.replace("other10", "third10"))
    third.attrs["dataset"] = "third"
    folder = train_model(third, starting("middle"), tmp_path / "m", tmp_path / "w2", QUIET)
    assert [one["dataset"] for one in read_json(folder / "model.json")["origin"]["seen"]] == ["second", "first"]
    assert middle.is_dir()
    with pytest.raises(BadDataError, match="judge"):
        train_model(tables[0], starting("middle"), tmp_path / "n", tmp_path / "w3", QUIET)


@pytest.mark.parametrize(("network", "volume", "error", "text"), [
    ({"init": "nowhere"}, {}, NoInputError, "'nowhere' is no model in .* and no model folder"),
    ({"width": 6}, {}, UsageError, "width is 6, but the encoder of .* has 4; set it with --set network.width=4"),
    ({}, {"intensity": "zscore"}, UsageError, "intensity zscore, but the encoder .* with minmax"),
])  # fmt: skip
def test_another_network_or_volume_is_refused(tables, models, tmp_path, network, volume, error, text):
    recipe = starting(**{"base": str(models / "base"), **({"base": "nowhere"} if "init" in network else {})})
    if volume:
        plain = dataclasses.replace(recipe.augmentation, gamma_max=1.0)
        recipe = dataclasses.replace(recipe, volume=dataclasses.replace(recipe.volume, **volume), augmentation=plain)
    elif "width" in network:
        recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, **network))
    with pytest.raises(error, match=text):
        train_model(tables[1], recipe, tmp_path / "m", tmp_path / "w", QUIET)


@pytest.mark.parametrize("broken", [{"seen": 3}, {"seen": [{"salt": 1}]}, [], {"name": "x"}])
def test_a_broken_origin_is_refused(models, tmp_path, broken):
    card = read_json(models / "base" / "model.json") | {"origin": broken}
    write_json(tmp_path / "model.json", card)
    with pytest.raises(BadDataError, match="origin"):
        load_model(tmp_path, "cpu")
