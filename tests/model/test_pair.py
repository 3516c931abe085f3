import dataclasses

import numpy as np
import pytest
import torch
from modelstudy import SPEC, make_table, tiny_recipe
from safetensors.torch import load_file

from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.errors import UsageError
from brainage_bids.model.build import build_network
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.explain import gradram
from brainage_bids.model.linear import LinearMap
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.pair import NetworkWithLinearMap
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.train import train_model

QUIET = ModelOptions(device="cpu", progress=False)


def made(network, linear):
    """The pair of two that have weights, in evaluation mode."""
    pair = NetworkWithLinearMap(network, linear)
    pair.load_state_dict(NetworkWithLinearMap.joined(network.state_dict(), linear.state_dict()))
    return pair.eval()


@pytest.mark.parametrize("recipe", [tiny_recipe("l1"), load_recipe("sfcn-reg", ["network.width=2"])])
def test_the_age_is_the_mean_of_both_and_the_map_adds_up_to_it(recipe):
    torch.manual_seed(0)
    shape = (40, 33, 47)
    network, linear = build_network(recipe).eval(), LinearMap(shape).eval()
    with torch.no_grad():
        linear.weight.normal_(0, 1e-3)
        linear.head.bias.fill_(30.0)
        network.head.bias.fill_(50.0)
    volume = torch.rand(shape)
    pair = made(network, linear)
    (age, cells), (one, map_of_network), (other, terms) = (gradram(model, volume) for model in (pair, network, linear))
    assert age == pytest.approx((one + other) / 2, abs=1e-3)
    assert cells.sum() + pair.head.bias.item() == pytest.approx(age, abs=1e-3)
    assert cells.shape == map_of_network.shape
    assert (cells - map_of_network / 2).sum() == pytest.approx(terms.sum() / 2, abs=1e-3)


def test_terms_go_to_the_nearest_cell():
    network, linear = build_network(tiny_recipe("l1")).eval(), LinearMap((40, 40, 40)).eval()
    stride = network.total_stride
    with torch.no_grad():
        linear.weight[stride + 1, 2 * stride - 1, 3] = 7.0  # nearest to cell 1, 2, 0
        network.head.weight.zero_()
    _, cells = gradram(made(network, linear), torch.ones(40, 40, 40))
    assert np.argwhere(cells).tolist() == [[1, 2, 0]]
    assert cells.sum() == pytest.approx(3.5)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A network, the ridge and the pair of both on the same folds."""
    folder = tmp_path_factory.mktemp("pair")
    table, folds = make_table(folder), dataclasses.replace(QUIET, folds=2)
    recipes = {"alone": tiny_recipe(), "ridge": load_recipe("pca-ridge", ["volume.resolution=8"]),
               "pair": dataclasses.replace(tiny_recipe(), beside="pca-ridge")}  # fmt: skip
    for name, recipe in recipes.items():
        train_model(table, recipe, folder / name, folder / f"w-{name}", folds)
    return folder, table


def test_a_pair_predicts_the_mean_of_its_parts_out_of_fold(study):
    folder, table = study
    rows = table.drop_duplicates("participant_id")
    ages = {name: predict_table(folder / name, rows, QUIET, saliency=False) for name in ("alone", "ridge", "pair")}
    assert ages["pair"]["flags"].tolist() == [["out_of_fold"]] * len(rows)
    mean = (ages["alone"].predicted_age + ages["ridge"].predicted_age) / 2
    assert np.abs(ages["pair"].predicted_age - mean).max() < 1e-3
    card = read_json(folder / "pair" / "model.json")
    assert card["architecture"]["backbone"] == "3D ResNet-10 and linear map of the voxels"
    assert [one["name"] for one in card["members"]] == ["fold-1", "fold-2"]
    assert set(read_tsv(folder / "pair" / "history.tsv").stage) == {"encoder", "head", "fit"}


def test_a_pair_reads_the_box_of_its_network(study, tmp_path):
    _, table = study
    boxed = dataclasses.replace(tiny_recipe().volume, crop="brain")
    recipe = dataclasses.replace(tiny_recipe("l1", epochs=1), volume=boxed, beside="pca-ridge")
    assert recipe.spec.cropped.shape != SPEC.shape
    twice = dataclasses.replace(QUIET, ensemble=2)
    made = train_model(table, recipe, tmp_path / "m", tmp_path / "w", twice)
    networks = load_model(made, "cpu").networks
    assert all(network.linear.weight.shape == recipe.spec.cropped.shape for network in networks.values())
    assert torch.equal(networks["main"].linear.weight, networks["main_seed-2"].linear.weight)
    assert predict_table(made, table.head(2), QUIET, saliency=False).predicted_age.between(0, 120).all()


def test_a_pair_is_not_the_training_of_its_network(study):
    folder, _ = study
    prints = {read_json(folder / name / "model.json")["fingerprint"] for name in ("alone", "pair")}
    assert len(prints) == 2
    weights = load_file(folder / "pair" / "weights.safetensors")
    alone = load_file(folder / "alone" / "weights.safetensors")
    assert all(torch.equal(weights[key.replace("fold-1.", "fold-1.network.")], alone[key])
               for key in alone if key.startswith("fold-1."))  # fmt: skip


def test_the_encoder_of_a_pair_can_be_the_start_of_another_training(study, tmp_path):
    folder, table = study
    others = table.assign(participant_id=table.participant_id.str.replace("sub-", "sub-other10"))
    others.attrs["dataset"] = "others"
    network = dataclasses.replace(tiny_recipe().network, init=str(folder / "pair"))
    recipe = dataclasses.replace(tiny_recipe(), network=network)
    model = load_model(train_model(others, recipe, tmp_path / "m", tmp_path / "w", QUIET), "cpu")
    volume = torch.from_numpy(load_volume(table.volume[0], SPEC))[None, None]
    source = load_model(folder / "alone", "cpu").networks["fold-1"]
    with torch.no_grad():
        assert torch.equal(model.networks["main"].embed(volume), source.embed(volume))


@pytest.mark.parametrize(("name", "overrides", "text"), [
    ("pca-ridge", ["beside=pca-ridge"], "the recipe is no network"),
    ("rnc-demo", ["beside=rnc-lowrez"], "a network; name one like pca-ridge"),
    ("rnc-demo", ["beside=pca-rigde"], "did you mean pca-ridge"),
])  # fmt: skip
def test_what_cannot_stand_beside_is_refused(tmp_path, name, overrides, text):
    table = make_table(tmp_path)
    with pytest.raises(UsageError, match=text):
        train_model(table, load_recipe(name, overrides), tmp_path / "m", tmp_path / "w", QUIET)
