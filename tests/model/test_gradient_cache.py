"""The gradient in chunks against that of one pass, through every kind of network."""

import contextlib
import copy
from functools import partial

import numpy as np
import pytest
import torch

from brainage_bids.model.distributed import Distributed
from brainage_bids.model.gradient_cache import backward_in_chunks, people_of_all
from brainage_bids.model.losses import l1_years, rank_n_contrast
from brainage_bids.model.network import BrainNetwork
from brainage_bids.model.resnet import ResNet3D
from brainage_bids.model.sfcn import SFCN3D

AGES = torch.tensor([20.0, 31.5, 31.5, 44.0, 58.0, 71.0], dtype=torch.float64)
SMALL = partial(ResNet3D, 10, 4, stage_strides=(2, 2, 1, 1))
NETWORKS = {
    "resnet10": SMALL,
    "resnet18": partial(ResNet3D, 18, 2),
    "resnet18 without stem pooling": partial(ResNet3D, 18, 2, stem_pool=False),
    "resnet50": partial(ResNet3D, 50, 2),
    "resnet101": partial(ResNet3D, 101, 1),
    "sfcn": partial(SFCN3D, 2, dropout=0.5),
}


def network(build=SMALL, kind=torch.float64, seed=0):
    torch.manual_seed(seed)
    return build().to(kind).train()


def images(n, kind=torch.float64, shape=(16, 20, 12)):
    return torch.rand(n, 1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(kind)


def contrast(features):
    return rank_n_contrast(features.reshape(2, len(AGES), -1).transpose(0, 1), AGES)


def l1(model, ages):
    """The loss of the ages, whose dropout is drawn anew each time from one seed."""

    def loss_of(features):
        torch.manual_seed(5)
        return l1_years(model.age(features), ages)

    return loss_of


def step(model, batch, sizes, loss_of, autocast=contextlib.nullcontext, scale=1.0):
    """Return loss, features, the gradient as one vector, and what the norms remember; ``model`` stays as it was."""
    model = copy.deepcopy(model)
    loss_of = loss_of(model) if isinstance(loss_of, partial) else loss_of

    def embed(x):
        with autocast():
            return model.embed(x)

    chunks = batch.split(sizes)
    loss, features = backward_in_chunks(
        model, embed, iter(chunks), len(chunks), loss_of, scale=scale, autocast=autocast
    )
    gradients = [p.grad.flatten().double() for p in model.parameters() if p.grad is not None]
    remembered = [value.flatten().double() for name, value in model.state_dict().items() if ".running" in name]
    tracked = {int(value) for name, value in model.state_dict().items() if "tracked" in name}
    gradient = torch.cat(gradients) if gradients else None
    return loss.item(), features, gradient, torch.cat(remembered), tracked


def apart(one, other):
    """Relative difference of two vectors."""
    return ((one - other).norm() / one.norm()).item()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("loss", ["contrast", "l1"])
def test_any_chunks_give_the_gradient_of_one_pass(name, loss):
    model, batch = network(NETWORKS[name]), images(12, shape=(32, 36, 32) if name == "sfcn" else (16, 20, 12))
    loss_of = contrast if loss == "contrast" else partial(l1, ages=AGES.repeat(2))
    one = step(model, batch, 12, loss_of)
    for sizes in (1, 4, [5, 1, 6]):
        many = step(model, batch, sizes, loss_of)
        assert many[0] == pytest.approx(one[0], rel=1e-7)  # L1 is computed in float32
        assert apart(one[1], many[1]) < 1e-10
        assert apart(one[2], many[2]) < 1e-10
        assert apart(one[3], many[3]) < 1e-10
        assert one[4] == many[4] == {1}


@pytest.mark.parametrize("seed", range(3))
def test_in_float32_chunks_differ_from_one_pass_by_rounding_alone(seed):
    exact = step(network(seed=seed), images(12), 12, contrast)
    model, batch = network(kind=torch.float32, seed=seed), images(12, torch.float32)
    one, many = (step(model, batch, size, contrast) for size in (12, 5))
    assert apart(one[2], many[2]) < 1e-5
    assert apart(exact[2], many[2]) < 1e-5
    assert apart(one[3], many[3]) < 1e-6


def test_chunks_of_other_brightness_are_no_obstacle():
    """What a chunk is like alone does not matter; statistics of the chunk gave a wholly different gradient here."""
    model, batch = network(), images(12) * torch.arange(1.0, 13.0, dtype=torch.float64)[:, None, None, None, None]
    assert apart(step(model, batch, 12, contrast)[2], step(model, batch, 4, contrast)[2]) < 1e-10


def test_a_walk_of_many_steps_is_that_of_one_pass():
    """In float32 rounding grows from step to step, with chunks or without; in double precision little of it is left."""
    walks = []
    for size in (12, 5):
        model, losses = network(), []
        optimiser = torch.optim.SGD(model.encoder_parameters(), 0.05, momentum=0.9)
        for turn in range(10):
            chunks = (images(12) + 0.1 * turn * images(12).flip(0)).split(size)
            optimiser.zero_grad()
            losses.append(backward_in_chunks(model, model.embed, iter(chunks), len(chunks), contrast)[0].item())
            optimiser.step()
        walks.append(losses)
    assert np.allclose(*walks, rtol=1e-9)
    assert np.ptp(walks[0]) > 0.01


def test_in_bfloat16_chunks_are_as_near_to_float32_as_one_pass_is():
    half = partial(torch.autocast, "cpu", torch.bfloat16)
    model, batch = network(kind=torch.float32), images(12, torch.float32)
    with torch.backends.mkldnn.flags(enabled=False):  # its bfloat16 reads memory that nobody wrote, torch 2.13
        exact, one, many = (
            step(model, batch, *rest) for rest in ((12, contrast), (12, contrast, half), (4, contrast, half))
        )
    assert one[1].dtype == torch.bfloat16
    assert many[1].dtype == torch.float32
    assert apart(one[3], many[3]) < 1e-3
    assert apart(exact[2], many[2]) < 1.5 * apart(exact[2], one[2]) < 0.5


def test_scaled_gradients_are_scaled():
    model, batch = network(), images(12)
    one, many = step(model, batch, 12, contrast), step(model, batch, 4, contrast, scale=1024.0)
    assert apart(one[2], many[2] / 1024) < 1e-10
    assert many[0] == pytest.approx(one[0], rel=1e-12)


def test_gradients_add_up():
    model, batch = network(), images(12)
    once = step(model, batch, 4, contrast)[2]
    for _ in range(2):
        chunks = batch.split(4)
        backward_in_chunks(model, model.embed, iter(chunks), 3, contrast)
    twice = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert apart(2 * once, twice) < 1e-10


def test_one_chunk_is_the_plain_pass_to_the_bit():
    model, batch = network(kind=torch.float32), images(12, torch.float32)
    _, _, gradient, remembered, _ = step(model, batch, 12, contrast)
    contrast(model.embed(batch)).backward()
    assert torch.equal(gradient, torch.cat([p.grad.flatten().double() for p in model.encoder_parameters()]))
    now = [value.flatten().double() for name, value in model.state_dict().items() if ".running" in name]
    assert torch.equal(remembered, torch.cat(now))


def test_recomputing_changes_neither_gradients_nor_statistics():
    plain, lean = network(), network()
    lean.recompute = True
    one, other, chunked = (
        step(model, images(12), size, contrast) for model, size in ((plain, 12), (lean, 12), (lean, 4))
    )
    for many in (other, chunked):
        assert apart(one[2], many[2]) < 1e-10
        assert apart(one[3], many[3]) < 1e-10


def test_a_loss_that_is_no_number_leaves_no_gradient():
    loss, _, gradient, *_ = step(network(), images(4), 2, lambda features: features.sum() * float("nan"))
    assert np.isnan(loss)
    assert gradient is None


@pytest.mark.parametrize("build", [SMALL, partial(SFCN3D, 2)])
def test_a_network_can_be_compiled_as_one_piece(build):
    """The blocks stop at their norms; torch's compiler must be able to read them all the same."""
    model: BrainNetwork = network(build, torch.float32)
    whole, batch = torch.compile(model.embed, backend="eager", fullgraph=True), images(2, torch.float32, (32, 36, 32))
    assert torch.allclose(whole(batch), model.embed(batch), atol=1e-6)


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
