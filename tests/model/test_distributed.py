"""Several processes train what one process trains: shares, gathering, batch norm over all, whole trainings."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from modelstudy import make_table, tiny_recipe
from safetensors.torch import load_file
from torch import nn

from brainage_bids.bids.files import read_tsv
from brainage_bids.model.distributed import (
    SINGLE_PROCESS,
    Distributed,
    JointBatchNorm3d,
    distributed_from_environment,
    process_group,
    synchronise_batch_norm,
)
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.train import train_model

PROGRAM = Path(__file__).with_name("train_together.py")
SINGLE = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
QUIET = {**SINGLE, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def torchrun(*arguments):
    return [sys.executable, "-m", "torch.distributed.run", *arguments]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_shares_cover_everything_once():
    for count in (1, 5, 24):
        parts = [np.arange(count)[Distributed(rank, 5).share(count)] for rank in range(5)]
        assert np.array_equal(np.concatenate(parts), np.arange(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_gets_back_what_it_gives():
    rows = torch.arange(6.0).reshape(3, 2)
    assert SINGLE_PROCESS.gather(rows, 3) is rows
    assert SINGLE_PROCESS.broadcast("x") == "x"
    model = nn.Sequential(nn.BatchNorm3d(2))
    assert type(synchronise_batch_norm(model, SINGLE_PROCESS)[0]) is nn.BatchNorm3d


def test_environment_of_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert distributed_from_environment() == SINGLE_PROCESS
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert distributed_from_environment() == Distributed(3, 8, 1)


ALONE = ModelOptions(device="cpu", threads=1, progress=False)


@pytest.fixture
def group_of_one(monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1"),
                        ("MASTER_PORT", str(free_port()))):  # fmt: skip
        monkeypatch.setenv(name, value)
    dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()


def test_joint_batch_norm_is_batch_norm(group_of_one):
    torch.manual_seed(0)
    plain, joint = nn.BatchNorm3d(3).double(), JointBatchNorm3d(3).double()
    joint.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 2, 5, 3, dtype=torch.float64) * 3 + 50
    weight = torch.randn_like(x)
    results = []
    for norm in (plain, joint):
        own = x.clone().requires_grad_()
        y = norm(own)
        (y * weight).sum().backward()
        results.append([y.detach(), own.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    assert torch.equal(plain.eval()(x), joint.eval()(x)) or torch.allclose(plain(x), joint(x), atol=1e-5)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A PHANTOM study of 20 noisy balls."""
    return make_table(tmp_path_factory.mktemp("together"))


def prepare(folder, study, recipe, **options):
    study.to_pickle(folder / "table.pkl")
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    (folder / "options.json").write_text(json.dumps(options))


def run(command, folder, name):
    done = subprocess.run([*command, PROGRAM, folder, name], env=QUIET, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / name


def curve(folder):
    history = read_tsv(folder / "history.tsv")
    return history[["stage", "epoch"]], history.loss.astype(float).to_numpy()


def same_training(one, other):
    (where, loss), (also_where, also_loss) = curve(one), curve(other)
    assert where.equals(also_where)
    assert np.abs(loss - also_loss).max() < 1e-5 * np.abs(loss).max()
    weights, also = (load_file(folder / "weights.safetensors") for folder in (one, other))
    # sums in another order: rounding grows over the epochs, most in running variances
    assert max((weights[name].float() - also[name].float()).abs().max() for name in weights) < 5e-3


@pytest.mark.parametrize(("method", "chunk"), [
    ("rnc", None), ("l1", 2), pytest.param("l1", None, marks=pytest.mark.slow),
    pytest.param("rnc", 2, marks=pytest.mark.slow),
])  # fmt: skip
def test_two_processes_train_what_one_trains_in_one_pass(study, tmp_path, method, chunk):
    recipe = tiny_recipe(method, batch_size=6, lr=0.01)
    alone = train_model(study, recipe, tmp_path / "alone", tmp_path / "alone-work", ALONE)
    prepare(tmp_path, study, recipe, **({"chunk_size": chunk} if chunk else {}))
    together = run(torchrun("--standalone", "--nproc-per-node=2"), tmp_path, "together")
    used = [json.loads((folder / "model.json").read_text())["effective_settings"] for folder in (alone, together)]
    assert [settings["processes"] for settings in used] == [1, 2]
    assert used[0]["views"] == used[0]["chunk_size"] == 2 * used[1]["views"]
    assert used[1]["chunk_size"] == (chunk or used[1]["views"])
    same_training(alone, together)


@pytest.mark.slow
def test_two_agents_train_what_one_process_trains(study, tmp_path):
    prepare(tmp_path, study, tiny_recipe("rnc", batch_size=4, lr=0.01))
    alone = run([sys.executable], tmp_path, "alone")
    meet = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=together",
            f"--rdzv-endpoint=127.0.0.1:{free_port()}")  # fmt: skip
    agents = [subprocess.Popen([*torchrun(*meet), PROGRAM, tmp_path, "together"], env=QUIET) for _ in range(2)]
    assert [agent.wait(120) for agent in agents] == [0, 0]
    same_training(alone, tmp_path / "together")


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_ends_bitwise_the_same(study, tmp_path):
    prepare(tmp_path, study, tiny_recipe("rnc", batch_size=4, lr=0.01, epochs=40))
    command = torchrun("--standalone", "--nproc-per-node=2", "--max-restarts=2")
    undisturbed = run(command, tmp_path, "undisturbed")
    agent = subprocess.Popen([*command, PROGRAM, tmp_path, "killed"], env=QUIET)
    checkpoint = tmp_path / "killed-work" / "main.encoder.checkpoint.pt"
    while not checkpoint.is_file():
        assert agent.poll() is None
        time.sleep(0.1)
    workers = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    assert agent.wait(120) == 0
    ends = [(folder / "weights.safetensors").read_bytes() for folder in (undisturbed, tmp_path / "killed")]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_takes_the_card_of_its_number(monkeypatch, rank):
    """torch refuses ``set_device("cuda")``: a card needs its number, also the first."""
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda card: taken.append(torch._utils._get_device_index(card)))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with process_group(Distributed(rank, 4, rank), torch.device("cuda") if rank == 0 else torch.device("cuda", rank)):
        assert taken == [rank]


def test_a_single_process_starts_no_group():
    with process_group(SINGLE_PROCESS, torch.device("cpu")):
        assert not dist.is_initialized()
