"""What a view needs, counted without computing anything, against what a real step keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from brainage_bids.model import memory
from brainage_bids.model.memory import bytes_a_view, fitting_views, fixed_bytes, free_bytes
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe import load_recipe
from brainage_bids.model.resnet import ResNet3D
from brainage_bids.model.settings import effective_settings
from brainage_bids.model.sfcn import SFCN3D

SHAPE = (40, 44, 40)


def really_kept(model, views):
    """Bytes of the storages that the backward pass of one real step needs, parameters left out."""
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            held.append(tensor)
        return tensor

    held = []
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model.embed(torch.rand(views, 1, *SHAPE))
    return sum(kept.values())


@pytest.mark.parametrize("build", [lambda: ResNet3D(18, 8), lambda: ResNet3D(50, 4), lambda: SFCN3D(8)])
def test_the_count_covers_what_a_real_step_keeps_and_is_no_wild_guess(build):
    counted = bytes_a_view(build, SHAPE, "float32")
    real = (really_kept(build().train(), 6) - really_kept(build().train(), 2)) / 4
    assert real <= counted <= 3 * real


def test_half_precision_needs_less():
    whole = bytes_a_view(lambda: ResNet3D(18, 8), SHAPE, "float32")
    assert bytes_a_view(lambda: ResNet3D(18, 8), SHAPE, "bfloat16") < 0.6 * whole


def test_recomputing_needs_less_but_never_less_than_its_largest_block():
    """The stem of a ResNet-18 is most of what it keeps: on a card 30.6 GB were needed instead of 31.7 GB."""
    lean, whole = (
        [bytes_a_view(lambda depth=depth: ResNet3D(depth, 32), SHAPE, "float32", on) for depth in (18, 50)]
        for on in (True, False)
    )
    assert lean[1] < 0.7 * whole[1]
    stem = 32 * SHAPE[0] * SHAPE[1] * SHAPE[2] // 8 * 4  # what comes out of the first convolution
    assert 4 * stem < lean[0] < whole[0]


def test_a_narrow_network_needs_what_its_first_convolution_takes_on_a_gpu():
    voxels = SHAPE[0] * SHAPE[1] * SHAPE[2]
    assert bytes_a_view(lambda: ResNet3D(10, 1), SHAPE, "bfloat16") == 22 * voxels
    assert bytes_a_view(lambda: ResNet3D(10, 1), SHAPE, "float32") == 40 * voxels


def test_weights_gradients_and_optimiser_are_counted():
    model = ResNet3D(10, 4)
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert fixed_bytes(model, "sgd") == 3 * weights
    assert fixed_bytes(model, "adam") == 4 * weights


@pytest.mark.parametrize("fit", [2, 3, 5, 7, 20, 96])
@pytest.mark.parametrize("recipe", ["rnc-lowrez", "resnet18-lowrez"])
def test_no_part_of_a_batch_is_a_single_image(recipe, fit):
    for batch in (2, 3, 7, 10, 48):
        options = ModelOptions(device="cpu", batch_size=batch, chunk_size=fit)
        settings = effective_settings(load_recipe(recipe), options, 1000)
        parts = [len(part) for part in np.array_split(np.arange(settings.views), settings.chunks)]
        assert min(parts) >= 2
        assert max(parts) == settings.chunk_size
        assert settings.chunk_size <= max(fit, 3)


def test_memory_that_was_asked_for_is_a_limit():
    assert free_bytes(torch.device("cpu"), 12_345.0) == 12_345


def test_limits_of_the_own_control_group_and_of_those_above_count(tmp_path, monkeypatch):
    group = tmp_path / "cg" / "slurm" / "job_7" / "step_0"
    group.mkdir(parents=True)
    for folder, most in ((group, "max"), (group.parent, "500000000"), (group.parents[1], "900000000")):
        (folder / "memory.max").write_text(most)
        (folder / "memory.current").write_text("100000000")
    (tmp_path / "own").write_text("0::/slurm/job_7/step_0\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cg")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
    assert free_bytes(torch.device("cpu")) == 400_000_000
    old = tmp_path / "cg" / "memory" / "job_8"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("300000000")
    (old / "memory.usage_in_bytes").write_text("100000000")
    (tmp_path / "own").write_text("11:cpu,memory:/job_8\n1:name=systemd:/user\n")
    assert free_bytes(torch.device("cpu")) == 200_000_000


@pytest.mark.parametrize(("free", "fit"), [(1000, 48), (101, 8), (1, 2)])
def test_as_many_views_as_fit_and_never_fewer_than_two(free, fit):
    assert fitting_views(48, 10, 0, free) == fit


def test_the_limit_of_the_container_counts(tmp_path, monkeypatch):
    assert 2**27 < free_bytes(torch.device("cpu")) < 2**45
    for name, value in (("memory.max", "3000000000"), ("memory.current", "2900000000")):
        (tmp_path / name).write_text(value + "\n")
    monkeypatch.setattr(memory, "CGROUPS", Path(tmp_path))
    assert free_bytes(torch.device("cpu")) == 100_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(torch.device("cpu")) > 100_000_000
