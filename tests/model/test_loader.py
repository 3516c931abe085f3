"""Volumes on their way to the device, where there is no GPU: what is read, in which order, and when they stay there."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from modelstudy import tiny_recipe

from brainage_bids.model import loader, memory
from brainage_bids.model.build import build_network
from brainage_bids.model.distributed import SINGLE_PROCESS
from brainage_bids.model.folds import Fold, FoldData
from brainage_bids.model.loader import Loader
from brainage_bids.model.memory import free_bytes
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.settings import effective_settings, step_bytes
from brainage_bids.model.trainer import EncoderStage

CPU = torch.device("cpu")


@pytest.fixture
def fold(tmp_path):
    recipe, people = tiny_recipe(), 12
    volumes = np.random.default_rng(0).random((people, *recipe.spec.shape)).astype(np.float16)
    np.save(tmp_path / "volumes.npy", volumes)
    data = FoldData(
        tmp_path / "volumes.npy", np.linspace(20, 80, people), tuple(np.arange(people)[:, None]), np.arange(2)
    )
    settings = effective_settings(recipe, ModelOptions(device="cpu", chunk_size=5), people)
    return Fold("main", 0, recipe, settings, data, tmp_path / "none", "")


def test_chunks_come_in_order_and_no_thread_is_left(fold):
    known = np.load(fold.data.volumes)
    chunks = [np.array([3, 1]), np.array([0]), np.array([7, 7, 2])]
    before = threading.active_count()
    source = Loader(fold, CPU)
    for rows, volumes in zip(chunks, source.read(chunks), strict=True):
        assert np.array_equal(volumes.numpy(), known[rows])
    next(source.read(chunks))  # whoever stops early leaves nothing behind either
    assert threading.active_count() == before


def test_a_failing_read_reaches_whoever_waits(fold):
    with pytest.raises(IndexError, match="out of bounds"):
        list(Loader(fold, CPU).read([np.array([0]), np.array([99])]))


def test_two_views_of_a_person_are_read_once(fold, monkeypatch):
    asked, load = [], Loader._load
    monkeypatch.setattr(Loader, "_load", lambda self, rows: asked.append(rows.tolist()) or load(self, rows))
    stage = EncoderStage(build_network(fold.recipe), fold, SINGLE_PROCESS)
    rows = np.array([4, 2, 9, 2])
    images = torch.cat(list(stage.loader.images(rows, stage.loader.draw(4, None))))
    assert asked == [[2, 4, 9]]
    assert np.array_equal(images[:, 0].numpy(), np.load(fold.data.volumes)[rows].astype(np.float32))


def test_volumes_stay_on_a_card_that_has_room_for_them_beside_a_step(fold, monkeypatch):
    volumes, card, settings = np.load(fold.data.volumes), torch.device("cuda"), fold.settings
    step = step_bytes(fold.recipe, settings.precision).needed(settings.views, settings.chunk_size)
    for spare, fits in ((volumes.nbytes + 10, True), (volumes.nbytes - 10, False), (-step, False)):
        monkeypatch.setattr(loader, "free_bytes", lambda device, spare=spare: (step + spare) / memory.USABLE)
        assert loader._fit_beside(volumes, fold, card) is fits
    monkeypatch.setattr(loader, "free_bytes", lambda device: 10**15)
    assert loader._fit_beside(volumes, fold, card)
    assert not loader._fit_beside(volumes, fold, CPU)
    larger = dataclasses.replace(fold, settings=dataclasses.replace(settings, views=10**12))
    assert not loader._fit_beside(volumes, larger, card)


def test_what_the_allocator_holds_idle_is_free_and_what_is_in_use_is_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert free_bytes(torch.device("cuda")) == 1400
