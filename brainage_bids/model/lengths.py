"""How long a training is: epochs and optimiser steps, for as many people as there are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_sections import HeadSettings, TrainingSettings


@dataclass(frozen=True)
class StageLengths:
    """Epochs of the main stage and of the head, and what to say where they are not those of the recipe.

    The epochs of the head go through ``head_views`` augmented versions of each scan in turn. More epochs than the
    recipe has go through the same views again, so that they cost nothing.
    """

    epochs: int
    head_epochs: int
    head_views: int
    notes: tuple[str, ...]


def stage_lengths(recipe: Recipe, n_train: int, batch_size: int, asked: int | None = None) -> StageLengths:
    """Return how long the stages of a training of ``n_train`` people are.

    ``asked`` are the epochs of the main stage that the user wants; the head's epochs then shrink or grow in proportion,
    but its least number of steps stays.
    """
    main, head, notes = recipe.training, recipe.head, []
    if recipe.frozen:
        return StageLengths(0, *_head_length(recipe, n_train, head, notes), tuple(notes))
    steps = steps_an_epoch(n_train, batch_size, drop_last=True)
    epochs = epochs_of(main, steps)
    if asked and asked != epochs:
        head = replace(head, epochs=max(1, round(head.epochs * asked / epochs)))
        notes.append(f"{asked} epochs instead of the recipe's {epochs}, as asked")
        epochs = asked
    elif epochs != main.epochs:
        notes.append(_note("main stage", main, epochs, steps))
    head_length = _head_length(recipe, n_train, head, notes) if recipe.method == "rnc" else (0, 0)
    return StageLengths(epochs, *head_length, tuple(notes))


def _head_length(recipe: Recipe, n_train: int, head: HeadSettings, notes: list[str]) -> tuple[int, int]:
    """Return epochs and views of the head; add what there is to say."""
    if head.method == "ridge":
        return 1, 1
    head_steps = steps_an_epoch(n_train, head_batch_size(recipe, n_train), drop_last=False)
    head_epochs = epochs_of(head, head_steps)
    if head_epochs != head.epochs:
        notes.append(_note("head", head, head_epochs, head_steps))
    return head_epochs, head.views or min(head_epochs, head.epochs or head_epochs)


def epochs_of(stage: TrainingSettings | HeadSettings, steps_an_epoch: int) -> int:
    """Return the epochs of a stage of which each holds so many steps.

    ``length`` of the stage says what counts. ``epochs``: that many passes over the people. ``steps``: that many
    optimiser steps. ``auto``: the epochs, but no more than ``steps``, which in the recipes of the paper is what they
    come to with its people; and no fewer than ``least_steps``, because an epoch of few people is a step or two. 0 sets
    no limit. A stage always ends with a whole epoch.
    """
    if stage.length == "epochs":
        return stage.epochs
    steps = stage.steps
    if stage.length == "auto":
        all_epochs = stage.epochs * steps_an_epoch
        steps = max(min(all_epochs, stage.steps or all_epochs), stage.least_steps)
    return -(-steps // steps_an_epoch)


def steps_an_epoch(n_train: int, batch_size: int, drop_last: bool) -> int:
    """Return the optimiser steps of one pass over ``n_train`` people."""
    return n_train // batch_size if drop_last else -(-n_train // batch_size)


def head_batch_size(recipe: Recipe, n_train: int) -> int:
    """Return how many people a step of the head takes."""
    return min(recipe.head.batch_size, n_train)


def _note(what: str, stage: TrainingSettings | HeadSettings, epochs: int, steps: int) -> str:
    """Say why a stage has other epochs than its recipe names."""
    if stage.length == "steps":
        why = f"so that there are {stage.steps:,} steps"
    elif epochs > stage.epochs:
        why = f"so that few people, too, come to {stage.least_steps:,} steps"
    else:
        why = f"because with so many people these come to the {stage.steps:,} steps of the recipe"
    return f"{what}: {epochs} epochs of {steps} step{'s' if steps > 1 else ''} instead of {stage.epochs}, {why}"
