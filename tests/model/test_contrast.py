import numpy as np
import pytest

from brainage_bids.model.contrast import known_medians, median_intensity, unlike_training
from brainage_bids.model.recipe_files import load_recipe


def card(recipe, *overrides, low=0.60, high=0.64):
    training = {"intensity": known_medians([high, low, (low + high) / 2])}
    return {"training": training, "recipe": load_recipe(recipe, overrides).to_dict()}


def test_the_median_is_that_inside_the_brain_on_any_grid():
    volume = np.zeros((20, 20, 20), dtype=np.float32)
    volume[5:15, 5:15, 5:15] = np.random.default_rng(0).uniform(0.2, 0.8, (10, 10, 10))
    assert median_intensity(volume) == np.median(volume[volume > 0])
    large = np.random.default_rng(0).uniform(0, 1, (140, 130, 150)).astype(np.float16)
    assert median_intensity(large) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(("recipe", "overrides", "alike", "unlike"), [
    ("rnc-lowrez", [], [0.581, 0.62, 0.659], [0.57, 0.67, 0.8]),
    ("rnc-lowrez", ["augmentation.gamma_max=2"], [0.35, 0.62, 0.81], [0.32, 0.83]),
    ("rnc-demo", [], [0.35, 0.62, 0.81], [0.32, 0.83]),
    ("rnc-demo", ["augmentation.enabled=false"], [0.581, 0.62, 0.659], [0.57, 0.67]),
    ("resnet50-lowrez-noaug", [], [0.62], [0.57, 0.67]),
    ("pca-ridge", [], [0.35, 0.81], [0.32, 0.83]),
    ("pca-ridge", ["ridge.ignore_contrast=false"], [0.62], [0.57, 0.67]),
])  # fmt: skip
def test_who_is_unlike_the_training_scans(recipe, overrides, alike, unlike):
    values = card(recipe, *overrides)
    assert [unlike_training(median, values) for median in alike] == [False] * len(alike)
    assert [unlike_training(median, values) for median in unlike] == [True] * len(unlike)


def test_a_wide_range_has_a_wide_margin_and_an_older_card_says_nothing():
    wide = card("rnc-lowrez", low=0.5, high=0.7)
    assert not unlike_training(0.79, wide)
    assert unlike_training(0.81, wide)
    del wide["training"]["intensity"]
    assert not unlike_training(0.99, wide)
