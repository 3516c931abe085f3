"""Recipes by name or file: what is packaged, a TOML file, and values set on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from brainage_bids.bids.text import read_text
from brainage_bids.errors import NoInputError, UsageError, shorten
from brainage_bids.model.recipe import Recipe, nearest

PLAIN = "-noaug"  # ending of the recipes that are trained without augmentation (paper table 2)


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes, sorted; every ResNet also comes without augmentation."""
    files = resources.files("brainage_bids.recipes").iterdir()
    names = [file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")]
    return sorted(names + [name + PLAIN for name in names if name.startswith("resnet")])


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a packaged recipe by name, or any TOML file by path.

    Parameters
    ----------
    name_or_path
        ``rnc-highrez``, ``resnet50-lowrez-noaug``, ``my/recipe.toml``, ...
    overrides
        ``section.key=value`` each, with the value in TOML; they win over the file.

    Raises
    ------
    UsageError
        When the name is unknown (the nearest are named), the file is not TOML, or its values do not fit.
    NoInputError
        When the file is not there.
    """
    text = str(name_or_path)
    content, plain = recipe_text(text)
    try:
        values = tomllib.loads(content)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError, too
        raise UsageError(f"recipe {text} is not TOML ({shorten(error)}); repair it") from error
    values = {"name": Path(text).stem if text.endswith(".toml") else text, **values}
    if plain:
        values |= {"augmentation": {"enabled": False}, "description": values["description"] + ", without augmentation"}
    for override in overrides:
        _override(values, override)
    recipe = Recipe.from_dict(values, f"recipe {text}")
    _refuse_idle(recipe, overrides, f"recipe {text}")
    return recipe


def recipe_beside(recipe: Recipe) -> Recipe | None:
    """Return the recipe that is fitted beside a network, for the same volumes; None if there is none.

    Raises
    ------
    UsageError
        When it is a network, too, or does not fit the volumes.
    """
    if not recipe.beside:
        return None
    other = load_recipe(recipe.beside)
    if other.method != "ridge":
        raise UsageError(f"recipe {recipe.name}: beside is {recipe.beside!r}, a network; name one like pca-ridge")
    values = other.to_dict() | {"volume": recipe.to_dict()["volume"]}
    return Recipe.from_dict(values, f"recipe {recipe.name}, beside {recipe.beside}")


def recipe_text(name_or_path: str) -> tuple[str, bool]:
    """Return the TOML of a recipe, and whether it is meant without its augmentation (``-noaug``).

    Raises
    ------
    UsageError
        When the name is unknown; the nearest are named.
    NoInputError
        When the file is not there.
    """
    names = recipe_names()
    if name_or_path in names:
        file = f"{name_or_path.removesuffix(PLAIN)}.toml"
        content = resources.files("brainage_bids.recipes").joinpath(file).read_text(encoding="utf-8")
        return content, name_or_path.endswith(PLAIN)
    if not (name_or_path.endswith(".toml") or "/" in name_or_path):
        raise UsageError(f"recipe '{name_or_path}' is unknown; {nearest(name_or_path, names)}")
    if not Path(name_or_path).is_file():
        raise NoInputError(f"recipe file {name_or_path} is not there; give a TOML file or one of: {', '.join(names)}")
    return read_text(name_or_path), False


def _override(values: dict[str, Any], override: str) -> None:
    """Set one value of a nested table; ``training.lr=0.1``, ``network.stage_strides=[2, 2, 1, 1]``, ``method=l1``."""
    key, equals, value = override.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name or len(sections) > 1:
        raise UsageError(
            f"--set {shorten(override)!r} is not SECTION.KEY=VALUE; write for example --set training.lr=0.1"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()  # a bare word is text
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(
                f"--set {shorten(override)!r}: {section} is {shorten(values)!r} and has no keys; see brainage-tools "
                "recipes"
            )
    values[name] = parsed


def _refuse_idle(recipe: Recipe, overrides: Sequence[str], source: str) -> None:
    """Raise when an augmentation is asked for by hand of a recipe that augments nothing."""
    asked = {override.partition("=")[0].strip() for override in overrides}
    for key, value in recipe.augmentation.disturbs.items():
        if f"augmentation.{key}" in asked and not recipe.augmentation.enabled:
            raise UsageError(
                f"{source}: [augmentation] {key} is {value}, but this recipe augments nothing; take one that does, or "
                "leave it out"
            )
