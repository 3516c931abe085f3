"""The device of a run: the one asked for, the one that is there, or a clear no before any scan."""

import pytest
import torch

from brainage_bids.devices import pick_device
from brainage_bids.errors import UsageError


@pytest.fixture
def cards(monkeypatch):
    def are(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return are


@pytest.mark.parametrize(
    ("asked", "there", "rank", "device"),
    [
        ("auto", 1, 0, "cuda"),
        ("auto", 0, 0, "cpu"),
        ("cpu", 1, 0, "cpu"),
        ("cpu", 2, 1, "cpu"),
        ("cuda", 1, 0, "cuda"),
        ("cuda:1", 2, 0, "cuda:1"),
        ("auto", 2, 1, "cuda:1"),
        ("auto", 0, 1, "cpu"),
    ],
)
def test_the_gpu_is_used_where_there_is_one(cards, asked, there, rank, device):
    cards(there)
    assert str(pick_device(asked, rank)) == device


@pytest.mark.parametrize(("asked", "there", "rank"), [("cuda", 0, 0), ("cuda:1", 1, 0), ("cuda", 1, 1)])
def test_a_gpu_that_is_not_there_is_said(cards, asked, there, rank):
    cards(there)
    with pytest.raises(UsageError, match=f"cuda.* is not there .{there} CUDA devices"):
        pick_device(asked, rank)


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "mps", "cpu:1"])
def test_an_unknown_device_is_said(cards, asked):
    cards(1)
    with pytest.raises(UsageError, match=f"--device {asked} is unknown; use auto"):
        pick_device(asked)
