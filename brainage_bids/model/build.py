"""From a recipe to its untrained network. The only place that knows both."""

from __future__ import annotations

from brainage_bids.model.linear import LinearMap
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.resnet import ResNet3D
from brainage_bids.model.sfcn import SFCN3D


def build_network(recipe: Recipe) -> BrainNetwork:
    """Return the untrained network of a recipe."""
    if recipe.method == "ridge":
        return LinearMap(recipe.spec.shape)
    network = recipe.network
    if network.architecture == "sfcn":
        return SFCN3D(network.width, dropout=network.dropout)
    return ResNet3D(
        network.depth,
        network.width,
        stem_stride=network.stem_stride,
        stem_pool=network.stem_pool,
        stage_strides=network.stage_strides,
        dropout=network.dropout,
    )
