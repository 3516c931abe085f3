"""Gradient caching against one pass, and what it does to batch norm."""

import copy

import numpy as np
import pytest
import torch

from brainage_bids.model.distributed import Distributed
from brainage_bids.model.gradient_cache import backward_in_chunks, people_of_all
from brainage_bids.model.losses import rank_n_contrast
from brainage_bids.model.network import running_statistics
from brainage_bids.model.resnet import ResNet3D

AGES = torch.tensor([20.0, 31.5, 31.5, 44.0, 58.0, 71.0], dtype=torch.float64)


def network(seed=0):
    torch.manual_seed(seed)
    return ResNet3D(10, 4, stage_strides=(2, 2, 1, 1)).double()


def images(n, seed=1):
    return torch.rand(n, 1, 16, 20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def contrast(ages):
    return lambda features: rank_n_contrast(features.reshape(2, len(ages), -1).transpose(0, 1), ages)


def gradients(model, batch, size, loss_of):
    chunks = batch.split(size)
    loss, features = backward_in_chunks(model, model.embed, lambda: iter(chunks), len(chunks), loss_of)
    values = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return loss, features, values


def apart(one, other):
    return max((one[name] - other[name]).abs().max() / one[name].abs().max().clamp_min(1e-9) for name in one)


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_gradient_is_that_of_one_pass_where_batch_norm_uses_fixed_statistics(size):
    model, batch = network().eval(), images(12)
    loss, features, one = gradients(model, batch, 12, contrast(AGES))
    plain = contrast(AGES)(model.embed(batch))
    plain.backward()
    assert loss == pytest.approx(plain.item(), abs=1e-12)
    assert apart({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, one) < 1e-9
    model.zero_grad()
    loss_in_chunks, features_in_chunks, many = gradients(model, batch, size, contrast(AGES))
    assert loss_in_chunks == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(features, features_in_chunks)
    assert apart(one, many) < 1e-9


def test_gradient_is_that_of_one_pass_where_a_chunk_has_the_statistics_of_the_batch():
    # Both views of everybody are the same image: the first views and the second views have the batch's statistics.
    batch, model = torch.cat([images(6), images(6)]), network().train()
    before = copy.deepcopy(model.state_dict())
    loss, _, one = gradients(model, batch, 12, contrast(AGES))
    moved = copy.deepcopy(model.state_dict())
    model.load_state_dict(before)
    loss_in_chunks, _, two = gradients(model, batch, 6, contrast(AGES))
    assert loss_in_chunks == pytest.approx(loss.item(), rel=1e-9)
    assert apart(one, two) < 1e-5
    for name, value in model.state_dict().items():  # two small steps of the running mean make one usual step
        if name.endswith("running_mean"):
            assert torch.allclose(value, moved[name], atol=1e-9)


def test_batch_norm_sees_the_chunk_and_not_the_batch():
    batch, model = images(12), network().train()
    loss, _, one = gradients(model, batch, 12, contrast(AGES))
    loss_in_chunks, _, many = gradients(model, batch, 4, contrast(AGES))
    assert loss_in_chunks != pytest.approx(loss.item(), rel=1e-6)  # what the settings say to the user
    assert apart(one, many) > 1e-3


def test_running_statistics_can_stand_still():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    with running_statistics(model, 0.0):
        model.embed(images(3))
    for name, value in model.state_dict().items():
        if "running" in name:
            assert torch.equal(value, before[name])
    model.embed(images(3))
    assert not torch.equal(model.state_dict()["stem.1.running_mean"], before["stem.1.running_mean"])


def test_recomputing_changes_neither_gradients_nor_statistics():
    plain, lean = network().train(), network().train()
    lean.recompute = True
    batch = images(6)
    results = [gradients(model, batch, 6, contrast(AGES[:3])) for model in (plain, lean)]
    assert apart(results[0][2], results[1][2]) < 1e-9
    for (name, one), other in zip(plain.state_dict().items(), lean.state_dict().values(), strict=True):
        if "running" in name:
            assert torch.allclose(one, other), name


def test_a_loss_that_is_no_number_leaves_no_gradient():
    model = network().eval()
    loss, _, values = gradients(model, images(4), 2, lambda features: features.sum() * float("nan"))
    assert torch.isnan(loss)
    assert not values


def test_scaled_gradients_are_scaled():
    model, batch = network().eval(), images(4)
    _, _, one = gradients(model, batch, 2, contrast(AGES[:2]))
    chunks = batch.split(2)
    backward_in_chunks(model, model.embed, lambda: iter(chunks), 2, contrast(AGES[:2]), scale=8.0)
    eight = {name: p.grad / 8 for name, p in model.named_parameters() if p.grad is not None}
    assert apart(one, eight) < 1e-9


@pytest.mark.parametrize("people", [4, 6])
def test_views_of_all_processes_keep_the_order_of_one_process(people):
    features = torch.arange(2 * people * 3, dtype=torch.float64).reshape(2 * people, 3)
    pieces, sizes = [], 2
    for rank in range(sizes):
        mine = np.arange(people)[Distributed(rank, sizes).share(people)]
        pieces.append(features[np.concatenate([mine, people + mine])])

    class Both(Distributed):
        def gather(self, rows, count):
            shares = [piece.reshape(2, -1, 3).transpose(0, 1) for piece in pieces]
            assert torch.equal(rows, shares[self.rank])
            return torch.cat(shares)

    for rank in range(sizes):
        join, own = people_of_all(Both(rank, sizes), people)
        assert torch.equal(join(pieces[rank]), features)
        assert torch.equal(own(features), pieces[rank])
