import copy
import json

import pytest

from brainage_bids.errors import NoInputError, UsageError
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_files import load_recipe, recipe_names
from brainage_bids.model.trainer import cosine_lr

NAMES = {"rnc-demo", "rnc-highrez", "rnc-lowrez", "sfcn-reg", "pca-ridge"} | {
    f"resnet{depth}-{res}{end}" for depth in (18, 50, 101) for res in ("highrez", "lowrez") for end in ("", "-noaug")
}


def test_every_recipe_loads_and_survives_json():
    assert set(recipe_names()) == NAMES
    for name in NAMES:
        recipe = load_recipe(name)
        assert recipe.name == name
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(("name", "depth", "batch", "shape"), [
    ("rnc-highrez", 18, 24, (193, 229, 193)), ("rnc-lowrez", 50, 48, (96, 114, 96)),
])  # fmt: skip
def test_rnc_recipes_are_the_papers(name, depth, batch, shape):
    recipe = load_recipe(name)
    training, head = recipe.training, recipe.head
    assert (recipe.method, recipe.network.depth, recipe.spec.shape) == ("rnc", depth, shape)
    assert (training.optimiser, training.lr, training.lr_decay, training.momentum) == ("sgd", 0.5, 0.1, 0.9)
    assert (training.epochs, training.batch_size, training.temperature) == (1000, batch, 2.0)
    assert (head.epochs, head.lr, head.lr_decay, head.momentum, head.batch_size) == (100, 0.05, 0.2, 0.9, 64)
    assert recipe.augmentation.enabled


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.startswith("resnet")))
def test_end_to_end_recipes_are_the_papers(name):
    recipe = load_recipe(name)
    assert recipe.method == "l1"
    assert recipe.network.depth == int(name.split("-")[0].removeprefix("resnet"))
    assert (recipe.training.optimiser, recipe.training.lr, recipe.training.epochs) == ("adam", 1e-3, 300)
    assert recipe.training.batch_size == (4 if "highrez" in name else 8)
    assert recipe.augmentation.enabled == ("noaug" not in name)


@pytest.mark.parametrize(("lr", "decay", "epochs", "epoch", "value"), [
    (0.5, 0.1, 1000, 1, 0.499999), (0.5, 0.1, 1000, 250, 0.42685), (0.5, 0.1, 1000, 500, 0.25025),
    (0.5, 0.1, 1000, 750, 0.07365), (0.5, 0.1, 1000, 1000, 0.0005), (0.05, 0.2, 100, 1, 0.049988),
    (0.05, 0.2, 100, 50, 0.0252), (0.05, 0.2, 100, 100, 0.0004),
])  # fmt: skip
def test_cosine_schedule(lr, decay, epochs, epoch, value):
    assert cosine_lr(lr, decay, epoch, epochs) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize(("section", "key", "value", "text"), [
    ("training", "momentun", 0.9, r"section \[training\]: key 'momentun' is unknown; did you mean momentum"),
    ("training", "optimiser", "sdg", "'sdg' is unknown; did you mean sgd"),
    ("training", "lr", "fast", "lr is 'fast'; it must be a number"),
    ("training", "epochs", 1.5, "epochs is 1.5; it must be a whole number"),
    ("training", "lr", -1.0, r"\[training\] lr is -1.0; it must lie between"),
    ("network", "depth", 20, "depth 20 is unknown; the nearest is 18"),
    ("network", "stage_strides", [1, 2], "four numbers from 1 to 8"),
    ("augmentation", "rotation_min", 0.9, "rotation_min is 0.9"),
    ("augmentation", "rotation_max", -1.0, "rotation_max is -1.0; it must lie between"),
    ("augmentation", "gamma_max", 0.5, "gamma_max is 0.5; it must lie between 1 and 10"),
    ("augmentation", "blur_mm", -1.0, "blur_mm is -1.0; it must lie between 0 and 30"),
    ("volume", "intensity", "zscores", "did you mean zscore"),
    ("volume", "crop", "brains", "'brains' is unknown; did you mean brain"),
    ("volume", "brain_mm", [-72, 72, -107, 73], "first and last mm along x, y and z"),
    ("volume", "brain_mm", [72, -72, -107, 73, -72, 82], "first and last mm along x, y and z"),
])  # fmt: skip
def test_wrong_values(section, key, value, text):
    values = copy.deepcopy(load_recipe("rnc-highrez").to_dict())
    values[section][key] = value
    with pytest.raises(UsageError, match=text):
        Recipe.from_dict(values, "recipe mine")


STRENGTHS = [("gamma_max", 2.0, 1), ("field_max", 0.3, 0), ("blur_mm", 3.0, 0), ("slice_mm", 6.0, 0)]


@pytest.mark.parametrize(("key", "value", "off"), STRENGTHS)
def test_changes_of_intensity_need_intensities_from_0_to_1(key, value, off):
    load_recipe("rnc-highrez", [f"augmentation.{key}={value}"])
    with pytest.raises(UsageError, match=rf"{key} is made for intensities from 0 .* is 'zscore'; use .*, or {off} for"):
        load_recipe("rnc-highrez", [f"augmentation.{key}={value}", "volume.intensity=zscore"])


def test_the_yardstick_that_ignores_contrast_needs_intensities_from_0_to_1():
    load_recipe("rnc-highrez", ["volume.intensity=zscore"])
    with pytest.raises(UsageError, match=r"\[ridge\] ignore_contrast is made .* or false for"):
        load_recipe("pca-ridge", ["ridge.ignore_contrast=true", "volume.intensity=zscore"])


@pytest.mark.parametrize(("key", "value", "off"), STRENGTHS)
def test_a_recipe_that_augments_nothing_refuses_them(key, value, off):
    for recipe, why in (("pca-ridge", "a ridge augments nothing"), ("resnet50-lowrez-noaug", "augments nothing")):
        with pytest.raises(UsageError, match=rf"{key} is {value}, but .*{why}"):
            load_recipe(recipe, [f"augmentation.{key}={value}"])
        load_recipe(recipe, [f"augmentation.{key}={off}"])


def test_the_paper_s_recipes_leave_contrast_alone_and_the_others_change_it():
    for name in recipe_names():
        recipe = load_recipe(name)
        ours = name in ("rnc-demo", "sfcn-reg")
        assert recipe.augmentation.disturbs == ({"gamma_max": 2.0} if ours else {}), name
    off = load_recipe("rnc-demo", ["augmentation.enabled=false", "volume.intensity=zscore"])  # as `study augmentation`
    assert not off.augmentation.enabled


def test_keys_at_their_default_do_not_settle_anything():
    recipe = load_recipe("rnc-lowrez")
    assert recipe.settled() == load_recipe("rnc-lowrez", ["augmentation.gamma_max=1.0"]).settled()
    assert "gamma_max" not in recipe.settled()["augmentation"]
    assert recipe.settled()["training"]["lr"] == 0.5  # has no default
    changed = load_recipe("rnc-lowrez", ["augmentation.gamma_max=2"])
    assert changed.settled()["augmentation"] == {**recipe.settled()["augmentation"], "gamma_max": 2.0}
    assert changed.settled() != recipe.settled()


def test_files(tmp_path):
    with pytest.raises(UsageError, match="recipe 'rnc-hirez' is unknown; did you mean rnc-highrez"):
        load_recipe("rnc-hirez")
    with pytest.raises(NoInputError, match="is not there"):
        load_recipe(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text("a = [")
    with pytest.raises(UsageError, match="is not TOML"):
        load_recipe(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text('description = "d"\nmethod = "l1"\n[volume]\nresolution = 4\n')
    with pytest.raises(UsageError, match=r"section \[network\] is missing"):
        load_recipe(tmp_path / "mine.toml")
    with (tmp_path / "mine.toml").open("a") as file:
        file.write('[network]\ndepth = 10\n[training]\nepochs = 1\nbatch_size = 4\noptimiser = "adam"\nlr = 0.1\n')
    recipe = load_recipe(tmp_path / "mine.toml")
    assert (recipe.name, recipe.volume.resolution) == ("mine", 4.0)


@pytest.mark.parametrize(("override", "section", "key", "value"), [
    ("training.lr=0.1", "training", "lr", 0.1), ("training.epochs = 7", "training", "epochs", 7),
    ("network.stage_strides=[2, 2, 1, 1]", "network", "stage_strides", (2, 2, 1, 1)),
    ("training.schedule=constant", "training", "schedule", "constant"),
    ('training.optimiser="adam"', "training", "optimiser", "adam"),
    ("volume.resolution=3", "volume", "resolution", 3.0),
    ("augmentation.enabled=false", "augmentation", "enabled", False),
])  # fmt: skip
def test_any_value_can_be_set(override, section, key, value):
    recipe = load_recipe("rnc-highrez", (override,))
    assert getattr(getattr(recipe, section), key) == value
    assert load_recipe("rnc-highrez", (override, "training.batch_size=6")).training.batch_size == 6
    before, after = load_recipe("rnc-highrez").to_dict(), recipe.to_dict()
    del before[section][key], after[section][key]
    assert before == after


@pytest.mark.parametrize(("override", "text"), [
    ("lr", "is not SECTION.KEY=VALUE"), ("a.b.c=1", "is not SECTION.KEY=VALUE"),
    ("training.lr=fast", "lr is 'fast'; it must be a number"), ("training.rate=1", "key 'rate' is unknown"),
    ("method=l2", "method 'l2' is unknown"), ("method.x=1", "method is 'rnc' and has no keys"),
    ("name=/scratch/mine", "cannot name a folder"), ("name=..", "cannot name a folder"),
    ("name=", "cannot name a folder"), ("name=a/b", "cannot name a folder"), ("name=.hidden", "cannot name a folder"),
])  # fmt: skip
def test_wrong_overrides(override, text):
    with pytest.raises(UsageError, match=text):
        load_recipe("rnc-highrez", (override,))


def test_method_can_be_set_too():
    assert load_recipe("rnc-lowrez", ("method=l1",)).method == "l1"


def test_sfcn_is_the_published_network_with_the_papers_training():
    recipe = load_recipe("sfcn-reg")
    assert (recipe.network.architecture, recipe.network.width, recipe.network.dropout) == ("sfcn", 32, 0.5)
    assert recipe.training == load_recipe("resnet18-highrez").training


def test_a_network_needs_its_sections():
    with pytest.raises(UsageError, match=r"section \[training\] is missing"):
        Recipe.from_dict({"name": "x", "description": "", "method": "l1", "volume": {"resolution": 4.0},
                          "network": {"depth": 18}})  # fmt: skip
