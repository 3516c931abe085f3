"""From a recipe to its untrained network and its optimiser. The only place that knows both."""

from __future__ import annotations

import torch
from torch import nn

from brainage_bids.model.linear import LinearMap
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.pair import NetworkWithLinearMap
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.resnet import ResNet3D
from brainage_bids.model.sfcn import SFCN3D


def build_network(recipe: Recipe) -> BrainNetwork:
    """Return the untrained network of a recipe."""
    if recipe.method == "ridge":
        return LinearMap(recipe.spec.cropped.shape)
    if recipe.beside:
        return NetworkWithLinearMap(build_network(recipe.alone), LinearMap(recipe.spec.cropped.shape))
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


def initial_network(recipe: Recipe, seed: int, bias: float) -> BrainNetwork:
    """Return a network whose weights depend on the seed only, its head's bias set to ``bias`` (years)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(recipe)
    network.reset_head(bias, torch.Generator().manual_seed(seed))
    return network


def optimiser_for(parameters: list[nn.Parameter] | list[dict], recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimiser of the main stage of a recipe."""
    training = recipe.training
    if training.optimiser == "adam":
        return torch.optim.Adam(parameters, training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(parameters, training.lr, momentum=training.momentum, weight_decay=training.weight_decay)
