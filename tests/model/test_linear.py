"""The yardstick against scikit-learn's own pipeline, and through the doors of every other model."""

import dataclasses

import numpy as np
import pytest
import torch
from modelstudy import make_table
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.explain import gradram
from brainage_bids.model.linear import LinearMap
from brainage_bids.model.options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.model.recipe import load_recipe
from brainage_bids.model.train import train_model


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 80, 30)
    volumes = rng.normal(size=(30, 4, 5, 6)) + ages[:, None, None, None] * rng.normal(size=(4, 5, 6)) / 40
    return volumes.astype(np.float32), ages


@pytest.mark.parametrize(("components", "smoothing"), [(0, 0.0), (8, 0.0), (0, 2.0)])
def test_one_weight_a_voxel_is_the_pipeline_of_scikit_learn(people, components, smoothing):
    volumes, ages = people
    model = LinearMap((4, 5, 6))
    model.fit(volumes[:24], ages[:24], components, smoothing)
    pca = PCA(components or 23, svd_solver="full")
    sigma = smoothing / (2 * np.sqrt(2 * np.log(2)))
    flat = np.array([gaussian_filter(v, sigma, mode="constant") for v in volumes]).reshape(30, -1)
    unit = np.sqrt(pca.fit_transform(flat[:24]).var(0).sum())
    slow = make_pipeline(pca, FunctionTransformer(lambda scores: scores / unit), BayesianRidge()).fit(
        flat[:24], ages[:24]
    )
    assert [model.predict(volume) for volume in volumes] == pytest.approx(slow.predict(flat), abs=2e-3)
    errors = np.abs([model.predict(volume) for volume in volumes[24:]] - ages[24:])
    assert errors.mean() < np.abs(ages[24:] - ages[:24].mean()).mean()


def test_the_strength_is_the_penalty_of_a_plain_ridge(people):
    volumes, ages = people
    model = LinearMap((4, 5, 6))
    strength = model.fit(volumes[:24], ages[:24])
    pca = PCA(23, svd_solver="full")
    scores = pca.fit_transform(volumes[:24].reshape(24, -1)).astype(float)
    plain = Ridge(strength * scores.var(0).sum()).fit(scores, ages[:24])
    told = plain.predict(pca.transform(volumes[24:].reshape(6, -1)))
    assert [model.predict(volume) for volume in volumes[24:]] == pytest.approx(told, abs=2e-3)


def test_terms_of_the_sum_are_the_map(people):
    volumes, ages = people
    model = LinearMap((4, 5, 6))
    model.fit(volumes, ages)
    age, cells = gradram(model.eval(), volumes[3])
    assert cells.shape == (4, 5, 6)
    assert np.allclose(cells, volumes[3] * model.weight.detach().numpy(), atol=1e-5)
    assert age == pytest.approx(cells.sum(dtype=float) + model.head.bias.item(), abs=1e-4)


def test_trained_and_predicted_like_any_other_model(tmp_path):
    table = make_table(tmp_path)
    options = ModelOptions(device="cpu", progress=False, folds=3)
    recipe = load_recipe("pca-ridge", ("volume.resolution=8",))
    folder = train_model(table, recipe, tmp_path / "m", tmp_path / "w", options, phantom=True)
    values = read_json(folder / "model.json")
    assert values["architecture"]["class"] == "LinearMap"
    assert values["validation"]["n"] == 14
    assert list(read_tsv(folder / "history.tsv").stage) == ["fit"] * 3
    assert "linear map of the voxels" in (folder / "MODEL_CARD.md").read_text()
    predicted = predict_table(folder, table, options)
    assert list(predicted["flags"]) == [["out_of_fold"]] * len(table)
    model = load_model(folder)
    fold = predicted.fold[0]
    direct = model.members[f"fold-{fold}"].predict(load_volume(table.volume[0], recipe.spec))
    assert predicted.predicted_age[0] == pytest.approx(direct, abs=1e-4)
    before = (folder / "weights.safetensors").read_bytes()
    again = train_model(table, recipe, tmp_path / "n", tmp_path / "v", dataclasses.replace(options, workers=2))
    assert (again / "weights.safetensors").read_bytes() == before


def test_more_components_than_people_are_as_many_as_there_are(people):
    volumes, ages = people
    model = LinearMap((4, 5, 6))
    model.fit(volumes[:6], ages[:6], 500)
    assert torch.isfinite(model.weight).all()
