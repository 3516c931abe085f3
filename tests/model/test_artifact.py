"""A model folder read back: what it must hold, and who was held out when nothing but it tells."""

import json
import shutil

import numpy as np
import pytest
import torch
from modelstudy import SPEC, make_table, tiny_recipe
from safetensors.torch import load_file, save_file

from brainage_bids.bids.files import read_json, read_tsv, write_json, write_tsv
from brainage_bids.bids.volumes import check_spec
from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.model.artifact import read_card, read_model_json, weights_hash
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import check_answer, load_model, predict_table
from brainage_bids.model.train import train_model
from brainage_bids.schema import VolumeSpec

QUIET = ModelOptions(device="cpu", progress=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def folds(table, tmp_path_factory):
    """A network of three folds, trained on the controls among patients."""
    root = tmp_path_factory.mktemp("model")
    options = ModelOptions(device="cpu", folds=3, progress=False)
    return train_model(table, tiny_recipe("l1"), root / "folds", root / "work", options)


def shared(folder, into, old=False, table=False):
    """Copy a model as it is shared; ``old``: as a version wrote it that noted no held-out people."""
    into.mkdir(parents=True)
    shutil.copyfile(folder / "weights.safetensors", into / "weights.safetensors")
    card = read_json(folder / "model.json")
    if old:
        for fold in card["members"]:
            del fold["held_out_participants"]
    write_json(into / "model.json", card)
    if table:
        shutil.copyfile(folder / "split.tsv", into / "split.tsv")
    return into


def answers(folder, table):
    predicted = predict_table(load_model(folder, "cpu"), table, QUIET, saliency=False)
    return predicted.predicted_age.tolist(), predicted["flags"].tolist(), predicted.fold.tolist()


def test_two_files_are_enough_to_predict_everybody_out_of_fold(folds, table, tmp_path):
    whole = answers(folds, table)
    assert whole[1] == [["out_of_fold"]] * len(table)
    assert answers(shared(folds, tmp_path / "two"), table) == whole


def test_an_old_folder_with_its_table_predicts_as_before(folds, table, tmp_path):
    assert answers(shared(folds, tmp_path / "old", old=True, table=True), table) == answers(folds, table)


def test_an_old_folder_without_its_table_holds_out_those_who_trained_the_others(folds, table, tmp_path):
    (ages, flags, fold), whole = answers(shared(folds, tmp_path / "old", old=True), table), answers(folds, table)
    trained = table.trainable.tolist()
    assert [one for one, known in zip(flags, trained, strict=True) if known] == [["out_of_fold"]] * sum(trained)
    assert [a for a, known in zip(ages, trained, strict=True) if known] == [
        a for a, known in zip(whole[0], trained, strict=True) if known
    ]
    patients = [(one, number) for one, number, known in zip(flags, fold, trained, strict=True) if not known]
    assert all(one == [] and np.isnan(number) for one, number in patients)  # no fold saw them: all of them answer


def test_no_table_makes_a_fold_predict_whom_it_was_trained_on(folds, table, tmp_path):
    for old in (False, True):
        folder = shared(folds, tmp_path / f"moved{old}", old=old, table=True)
        split = read_tsv(folder / "split.tsv")
        write_tsv(folder / "split.tsv", split.assign(fold=[str(int(fold) % 3 + 1) for fold in split.fold]))
        card = load_model(folder, "cpu").card
        _, flags, fold = answers(folder, table[table.trainable])
        assert flags == [["out_of_fold"]] * len(flags)
        assert fold == answers(folds, table[table.trainable])[2]
        assert len(card["members"]) == 3


@pytest.mark.parametrize("content", ["participant_id\nsub-01\n", "who\tfold\nsub-01\t1\n"])
def test_a_broken_table_of_an_old_folder_is_told_and_of_a_new_one_not_read(content, folds, table, tmp_path):
    for old in (True, False):
        folder = shared(folds, tmp_path / f"broken{old}", old=old)
        (folder / "split.tsv").write_text(content)
        if old:
            with pytest.raises(BadDataError, match=r"split\.tsv has no columns participant_id and fold"):
                load_model(folder, "cpu")
        else:
            load_model(folder, "cpu")


def test_folds_say_whom_they_held_out_in_hashes(folds, table):
    card = read_json(folds / "model.json")
    held_out = [hashed for fold in card["members"] for hashed in fold["held_out_participants"]]
    assert len(held_out) == len(set(held_out)) == table.participant_id.nunique()
    for fold in card["members"]:
        assert not set(fold["held_out_participants"]) & set(fold["training_participants"])


def test_what_training_writes_can_be_read_back(folds):
    assert read_model_json(folds / "model.json") == read_card(folds / "model.json")
    assert len(weights_hash(folds)) == 64


def test_the_hash_of_the_weights_is_that_of_the_file(folds, tmp_path):
    folder = shared(folds, tmp_path / "two")
    before = weights_hash(folder)
    assert before == weights_hash(folds)
    with open(folder / "weights.safetensors", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    assert weights_hash(folder) != before
    (folder / "weights.safetensors").unlink()
    with pytest.raises(NoInputError, match="is not there"):
        weights_hash(folder)


def brain():
    world = np.indices(SPEC.shape) - (np.array(SPEC.shape)[:, None, None, None] - 1) / 2
    return (np.linalg.norm(world, axis=0) < 10).astype(np.float32)


def test_a_network_answers_a_brain_and_a_broken_one_does_not(folds, tmp_path):
    check_answer(load_model(folds, "cpu"), brain())
    folder = shared(folds, tmp_path / "broken")
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "weights.safetensors").items()}
    name = next(name for name in tensors if name.startswith("fold-2.") and name.endswith("running_var"))
    tensors[name].fill_(-1.0)  # finite, and yet no number comes out
    save_file(tensors, folder / "weights.safetensors")
    with pytest.raises(BadDataError, match=r"\(member fold-2\) gives the template's brain an age of nan years"):
        check_answer(load_model(folder, "cpu"), brain())
    with pytest.raises(BadDataError, match="computes nothing"):
        check_answer(load_model(folds, "cpu"), brain()[None])


def test_of_a_fine_grid_every_second_voxel_is_asked(folds, monkeypatch):
    seen = []
    monkeypatch.setattr("brainage_bids.model.predict.LARGE", 1000)
    monkeypatch.setattr(
        "brainage_bids.model.predict.gradram", lambda net, x: (seen.append(tuple(x.shape)), (30.0, None))[1]
    )
    check_answer(load_model(folds, "cpu"), brain())
    assert set(seen) == {tuple(-(-side // 2) for side in SPEC.shape)}


def test_a_model_that_was_damaged_is_trained_anew_and_a_good_one_is_kept(table, tmp_path, caplog):
    options, recipe = ModelOptions(device="cpu", progress=False, epochs=1), tiny_recipe("l1")

    def train(**more):
        return train_model(table, recipe, tmp_path / "m", tmp_path / "work", options, **more)

    folder = train()
    good, stamp = weights_hash(folder), (folder / "model.json").stat().st_mtime_ns
    train()
    assert (folder / "model.json").stat().st_mtime_ns == stamp
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "weights.safetensors").items()}
    tensors["main.head.bias"].fill_(torch.nan)
    for damage in (
        lambda: save_file(tensors, folder / "weights.safetensors"),
        lambda: (folder / "weights.safetensors").unlink(),
        lambda: (folder / "model.json").write_text("{"),
        lambda: (folder / "model.json").write_text(json.dumps([1])),
    ):
        shutil.rmtree(tmp_path / "work")  # else its finished fold would be taken
        damage()
        train()
        assert weights_hash(folder) == good
        load_model(folder, "cpu")
    stamp = (folder / "model.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "work")
    train(again=True)
    assert (folder / "model.json").stat().st_mtime_ns > stamp
    assert weights_hash(folder) == good


def test_a_training_that_fails_leaves_the_model_that_is_there(table, tmp_path, monkeypatch):
    options, recipe = ModelOptions(device="cpu", progress=False, epochs=1), tiny_recipe("l1")
    folder = train_model(table, recipe, tmp_path / "m", tmp_path / "work", options)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(tmp_path / "work")

    def fails(*_):
        raise BadDataError("no")

    monkeypatch.setattr("brainage_bids.model.train.train_folds", fails)
    with pytest.raises(BadDataError, match="no"):
        train_model(table, recipe, folder, tmp_path / "work", options, again=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("resolution", [0.5, 1, 1.5, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("intensity", ["minmax", "zscore"])
def test_every_volume_that_a_recipe_can_ask_for_passes(resolution, intensity):
    spec = VolumeSpec.on_grid(resolution, intensity=intensity)
    assert check_spec(json.loads(json.dumps(spec.to_dict())), "x") == spec
    old = spec.to_dict()
    del old["template_sha"]  # of a version that did not pin the content
    assert check_spec(old, "x") == spec
