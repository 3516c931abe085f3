"""Weights in 8 bits: how far they move, that they are found again, and that half of them is no model."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from brainage_bids.errors import BadDataError
from brainage_bids.model.build import build_network
from brainage_bids.model.checkpoint import in_8_bits, load_weights, save_weights
from brainage_bids.model.recipe import load_recipe


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(load_recipe("rnc-demo", ("network.depth=10", "network.width=4")))


def test_no_weight_moves_by_more_than_half_a_step(network, tmp_path):
    path, state = tmp_path / "weights.safetensors", network.state_dict()
    save_weights(path, {"fold-1": in_8_bits(state)})
    found = load_weights(path, ["fold-1"])["fold-1"]
    assert found.keys() == state.keys()
    moved = 0
    for key, tensor in state.items():
        assert found[key].dtype == tensor.dtype
        if tensor.dim() < 5:
            assert torch.equal(found[key], tensor)
            continue
        half_a_step = tensor.flatten(1).abs().amax(1) / 127 / 2
        off = (found[key] - tensor).flatten(1).abs().amax(1)
        assert (off <= half_a_step * 1.001).all()
        moved += (off > 0).sum()
    assert moved > 0
    network.load_state_dict(found)  # nothing is lacking, nothing is left over
    network.load_state_dict(state)


def test_it_is_small_and_the_second_time_changes_nothing(network, tmp_path):
    state = {key: tensor for key, tensor in network.state_dict().items() if tensor.dim() == 5}
    plain, once, twice = (tmp_path / name for name in ("plain", "once", "twice"))
    save_weights(plain, {"a": state})
    save_weights(once, {"a": in_8_bits(state)})
    save_weights(twice, {"a": in_8_bits(load_weights(once, ["a"])["a"])})
    assert once.stat().st_size < 0.35 * plain.stat().st_size
    one, two = (load_file(path) for path in (once, twice))
    assert all(torch.allclose(one[key], two[key], rtol=1e-6, atol=0) for key in one)


def test_an_empty_channel_stays_empty():
    kernel = torch.zeros(2, 1, 3, 3, 3)
    kernel[1] = 0.5
    kept = in_8_bits({"k": kernel})
    assert not kept["k"][0].any()
    assert (kept["k"][1] == 127).all()


def test_a_kernel_without_its_steps_is_refused(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"a": in_8_bits(network.state_dict())})
    tensors = load_file(path)
    lost = next(key for key in tensors if key.endswith(".step"))
    save_file({key: tensor for key, tensor in tensors.items() if key != lost}, path)
    with pytest.raises(BadDataError, match=r"in 8 bits without .*\.step"):
        load_weights(path, ["a"])
