"""List the recipes that can be trained."""

from __future__ import annotations


def describe_recipes() -> str:
    """Return one line per packaged recipe: name, network, voxel size, how it is trained."""
    from brainage_bids.model.recipe import load_recipe, recipe_names

    lines = []
    for name in recipe_names():
        recipe = load_recipe(name)
        how = "Rank-N-Contrast" if recipe.method == "rnc" else "end to end, L1"
        lines.append(
            f"{name:24s} ResNet-{recipe.network.depth} width {recipe.network.width}, "
            f"{recipe.volume.resolution:g} mm, {how}, batch {recipe.training.batch_size}, "
            f"{recipe.training.epochs} epochs"
        )
    return "\n".join(lines)
