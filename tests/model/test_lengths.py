import dataclasses

import pytest
from modelstudy import tiny_recipe

from brainage_bids.errors import UsageError
from brainage_bids.model.duration import describe_length
from brainage_bids.model.lengths import epochs_of, head_batch_size, stage_lengths, steps_an_epoch
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe_files import load_recipe, recipe_names
from brainage_bids.model.settings import effective_settings
from brainage_bids.model.training_warnings import training_warnings

QUIET = ModelOptions(device="cpu", progress=False)
PAPERS_PEOPLE = 1294  # who trained in the paper
NETWORKS = [name for name in recipe_names() if not name.startswith(("pca", "rnc-demo"))]


@pytest.mark.parametrize("name", NETWORKS)
def test_recipes_of_the_paper_take_its_steps_with_its_people(name):
    recipe = load_recipe(name)
    main, head = recipe.training, recipe.head
    length = stage_lengths(recipe, PAPERS_PEOPLE, main.batch_size)
    assert length.epochs == main.epochs
    assert main.steps == main.epochs * steps_an_epoch(PAPERS_PEOPLE, main.batch_size, drop_last=True)
    if recipe.method == "rnc":
        assert length.head_epochs == length.head_views == head.epochs == 100
        assert head.steps == 100 * steps_an_epoch(PAPERS_PEOPLE, 64, drop_last=False)
    assert not length.notes


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("people", [48, 60, 200, 800, 1294, 3000, 40_000])
def test_few_people_take_a_sane_number_of_steps_and_many_no_more_than_the_papers(name, people):
    recipe = load_recipe(name)
    batch = recipe.training.batch_size
    length = stage_lengths(recipe, people, batch)
    steps = length.epochs * steps_an_epoch(people, batch, drop_last=True)
    assert recipe.training.least_steps <= steps < recipe.training.steps + people // batch
    if recipe.method == "rnc":
        head_steps = length.head_epochs * steps_an_epoch(people, head_batch_size(recipe, people), drop_last=False)
        assert recipe.head.least_steps <= head_steps < recipe.head.steps + -(-people // 64)
        assert length.head_views == min(100, length.head_epochs)  # the other epochs go through the same views again
    written = f"instead of {recipe.training.epochs}"
    assert any(written in note for note in length.notes) == (length.epochs != recipe.training.epochs)


@pytest.mark.parametrize(("length", "per_epoch", "epochs"), [
    (("epochs", 10, 0, 50), 2, 10), (("steps", 0, 25, 0), 2, 13), (("steps", 3, 25, 0), 25, 1),
    (("auto", 10, 0, 0), 2, 10), (("auto", 10, 0, 50), 2, 25), (("auto", 10, 100, 50), 40, 3),
    (("auto", 10, 100, 50), 1000, 1),
])  # fmt: skip
def test_epochs_of_a_length(length, per_epoch, epochs):
    kind, passes, steps, least = length
    head = dataclasses.replace(tiny_recipe().head, length=kind, epochs=passes, steps=steps, least_steps=least)
    assert epochs_of(head, per_epoch) == epochs


def test_fewer_epochs_shorten_the_head_but_not_below_its_least_steps():
    recipe = load_recipe("rnc-lowrez")
    length = stage_lengths(recipe, 1000, 48, asked=10)
    assert (length.epochs, length.head_views) == (10, 1)
    assert length.head_epochs == -(-recipe.head.least_steps // 16)
    assert "10 epochs instead of the recipe's 1000, as asked" in length.notes


@pytest.mark.parametrize(("override", "text"), [
    ("training.length=step", "did you mean steps"), ("training.steps=-1", "must lie between 0"),
    ("training.epochs=0", "must lie between 1"), ("head.length=steps", r"\[head\] steps is 0"),
    ("head.method=rigde", "did you mean ridge"),
])  # fmt: skip
def test_wrong_lengths(override, text):
    with pytest.raises(UsageError, match=text):
        load_recipe("rnc-demo", [override])


def test_a_recipe_in_steps_needs_no_epochs():
    recipe = load_recipe("rnc-demo", ["training.length=steps", "training.epochs=0", "training.steps=7"])
    assert stage_lengths(recipe, 25, 12).epochs == 4  # of two steps


def test_the_plan_says_steps_images_and_time():
    recipe = tiny_recipe()
    settings = effective_settings(recipe, QUIET, 14)
    said = describe_length(recipe, settings, 14, members=3, workers=2)
    assert said.startswith(
        "each of 3 members trains 3 epochs of 2 steps, 6 in all, then 5 epochs of the head; 72 images "
    )
    assert "28 only through it; about 1 minutes on cpu" in said


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_on_the_cpu_needs_a_last_stage_of_some_cells(precision):
    half = dataclasses.replace(QUIET, precision=precision)
    with pytest.raises(UsageError, match=f"3 x . x 3 cells.*wrong gradients in {precision}; use --precision float32"):
        effective_settings(tiny_recipe(), half, 14)
    assert effective_settings(load_recipe("rnc-demo"), half, 30).precision == precision


def rows(stage, errors, member="main"):
    return [{"member": member, "stage": stage, "epoch": i, "val_mae": error} for i, error in enumerate(errors, 1)]


@pytest.mark.parametrize(("encoder", "head", "faults"), [
    ([None, 4.0], [9.0, 4.5, 4.6], []),
    ([None, 4.0], [9.0, 5.1, 5.2], ["worse than the features allow: validation MAE 5.1 years, a ridge probe"]),
    ([None, 4.0], [9.0, 4.5, 4.4], ["its best epoch is its last (3, validation MAE 4.4 years)"]),
    ([None, 4.0], [9.0, 8.5, 8.4], ["its last (3, ", "worse than the features"]),
    ([3.0, 4.0], [4.5], []), ([3.0, 5.0], [5.5, 4.5, 5.0], []),
])  # fmt: skip
def test_a_head_that_is_worse_than_its_features_or_not_done_is_said(encoder, head, faults):
    history = rows("encoder", encoder) + rows("head", head)
    found = training_warnings(history, tiny_recipe())
    assert len(found) == len(faults)
    assert all(fault in text and text.startswith("main: ") for fault, text in zip(faults, found, strict=True))


def test_the_probe_that_counts_is_that_of_the_encoder_that_is_kept():
    history = rows("encoder", [3.0, 5.0]) + rows("head", [5.5, 4.5, 5.0])
    assert len(training_warnings(history, tiny_recipe(keep="best_probe"))) == 1


def test_each_member_is_judged_by_itself():
    history = rows("network", [5.0, 4.0], "fold-1") + rows("network", [4.0, 5.0], "fold-2")
    assert [text.split(":")[0] for text in training_warnings(history, tiny_recipe("l1"))] == ["fold-1"]
