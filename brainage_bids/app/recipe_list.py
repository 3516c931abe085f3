"""List the recipes that can be trained, or show one."""

from __future__ import annotations


def describe_recipes() -> str:
    """Return one line per packaged recipe: name, network, voxel size, how it is trained."""
    from brainage_bids.model.recipe_files import load_recipe, recipe_names

    lines = []
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.method == "ridge":
            lines.append(f"{name:24s} principal components and ridge, {recipe.volume.resolution:g} mm, no network")
            continue
        how = {"rnc": "Rank-N-Contrast", "l1": "end to end, L1"}[recipe.method]
        plain = "" if recipe.augmentation.enabled else ", no augmentation"
        network = recipe.network
        training = recipe.training
        length = f"{training.steps} steps" if training.length == "steps" else f"{training.epochs} epochs"
        kind = "SFCN" if network.architecture == "sfcn" else f"ResNet-{network.depth}"
        lines.append(
            f"{name:24s} {kind} width {network.width}, {recipe.volume.resolution:g} mm, {how}, "
            f"batch {recipe.training.batch_size}, {length}{plain}"
        )
    return "\n".join(lines)


def show_recipe(name: str) -> str:
    """Return the TOML of a recipe, every number with its source.

    Raises
    ------
    BrainageError
        When there is no recipe of that name.
    """
    from brainage_bids.model.recipe_files import load_recipe, recipe_text

    load_recipe(name)  # raises if the file is not a recipe
    content, plain = recipe_text(name)
    return content + ("\n# and without its augmentation: augmentation.enabled=false\n" if plain else "")
