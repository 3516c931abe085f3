"""The yardstick against scikit-learn's own pipeline, and through the doors of every other model."""

import dataclasses

import numpy as np
import pytest
import torch
from modelstudy import make_table
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.explain import gradram
from brainage_bids.model.linear import LinearMap, most_likely_ridge
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.model.recipe_files import load_recipe
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
    strength = model.fit(volumes[:24], ages[:24], components, smoothing)
    pca = PCA(components or 23, svd_solver="full")
    sigma = smoothing / (2 * np.sqrt(2 * np.log(2)))
    flat = np.array([gaussian_filter(v, sigma, mode="constant") for v in volumes]).reshape(30, -1)
    total = pca.fit_transform(flat[:24]).var(0).sum()
    slow = make_pipeline(pca, Ridge(strength * total)).fit(flat[:24], ages[:24])
    assert [model.predict(volume) for volume in volumes] == pytest.approx(slow.predict(flat), abs=2e-3)
    errors = np.abs([model.predict(volume) for volume in volumes[24:]] - ages[24:])
    assert errors.mean() < np.abs(ages[24:] - ages[:24].mean()).mean()


@pytest.mark.parametrize("smoothing", [0.0, 2.0])
def test_the_contrast_of_the_mean_person_has_no_weight(smoothing):
    """Older people happen to come from a scanner of another contrast: that must not make others old."""
    rng = np.random.default_rng(0)
    brain, ages = rng.uniform(0.2, 0.9, (6, 7, 5)), rng.uniform(20, 80, 40)
    shrink = rng.normal(size=(6, 7, 5)) / 400 * (ages - 50)[:, None, None, None]
    bodies = np.clip(brain + shrink + rng.normal(size=(40, 6, 7, 5)) / 40, 0.05, 1)
    volumes = (bodies ** (1 + (ages - 50) / 100)[:, None, None, None]).astype(np.float32)
    models = {"blind": LinearMap((6, 7, 5)), "fooled": LinearMap((6, 7, 5))}
    for name, model in models.items():
        model.fit(volumes, ages, 0, smoothing, ignore_contrast=name == "blind")
    change = (volumes ** (2**0.5) - volumes ** (2**-0.5)).mean(0, dtype=np.float64)
    terms = {name: model.weight.detach().numpy() * change for name, model in models.items()}
    assert abs(terms["fooled"].sum()) > 5
    assert abs(terms["blind"].sum()) < np.finfo(np.float32).eps * np.abs(terms["blind"]).sum()  # weights of 32 bits
    error = {}
    for name, model in models.items():
        error[name] = np.mean(
            [abs(model.predict(v) - age) for v, age in zip(bodies.astype(np.float32), ages, strict=True)]
        )
    assert error["blind"] < error["fooled"] / 1.5


@pytest.mark.parametrize(("kept", "noise"), [(23, 6.0), (23, 20.0), (8, 12.0)])
def test_the_strength_is_that_of_the_largest_restricted_likelihood(kept, noise):
    """Against the likelihood of all contrasts, written out with a dense covariance and searched on a grid."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(24, kept)) / np.arange(1, kept + 1)
    scores -= scores.mean(0)
    ages = 50 + 15 * scores @ rng.normal(size=kept) + noise * rng.normal(size=24)
    _, strength = most_likely_ridge(scores, ages)
    centre = np.eye(24) - 1 / 24
    contrasts = np.linalg.svd(centre)[0][:, :23].T  # another basis than the one in use
    alike = scores @ scores.T / scores.var(0).sum()

    def likelihood(penalty):
        covariance = contrasts @ (alike / penalty + np.eye(24)) @ contrasts.T
        y = contrasts @ ages
        return -23 * np.log(y @ np.linalg.solve(covariance, y)) - np.linalg.slogdet(covariance)[1]

    grid = np.geomspace(1e-6, 1e4, 2001)
    best = grid[np.argmax([likelihood(penalty) for penalty in grid])]
    assert 1e-5 < best < 1e3
    assert strength == pytest.approx(best, rel=0.02)


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
    direct = model.networks[f"fold-{fold}"].predict(load_volume(table.volume[0], recipe.spec))
    assert predicted.predicted_age[0] == pytest.approx(direct, abs=1e-4)
    before = (folder / "weights.safetensors").read_bytes()
    again = train_model(table, recipe, tmp_path / "n", tmp_path / "v", dataclasses.replace(options, workers=2))
    assert (again / "weights.safetensors").read_bytes() == before


def test_more_components_than_people_are_as_many_as_there_are(people):
    volumes, ages = people
    model = LinearMap((4, 5, 6))
    model.fit(volumes[:6], ages[:6], 500)
    assert torch.isfinite(model.weight).all()
