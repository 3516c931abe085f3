"""What only a GPU can show; every test here needs a CUDA card (marker ``gpu``) and is left out elsewhere."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from modelstudy import make_table, tiny_recipe
from safetensors.torch import load_file

from brainage_bids.bids.files import read_json
from brainage_bids.model import augment, loader, trainer
from brainage_bids.model.explain import gradram
from brainage_bids.model.gradient_cache import backward_in_chunks
from brainage_bids.model.losses import rank_n_contrast
from brainage_bids.model.memory import bytes_a_view, fixed_bytes
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import predict_table
from brainage_bids.model.recipe_sections import AugmentationSettings
from brainage_bids.model.resnet import ResNet3D
from brainage_bids.model.sfcn import SFCN3D
from brainage_bids.model.stem import StemConvolution
from brainage_bids.model.train import train_model
from brainage_bids.model.trainer import repeatable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]
QUIET = ModelOptions(device="cuda", progress=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("volumes"))


def brains(count, shape=(48, 57, 48)):
    volumes = torch.zeros(count, 1, *shape)
    inner = [side - 16 for side in shape]
    noise = torch.rand(count, 1, *inner, generator=torch.Generator().manual_seed(0))
    volumes[:, :, 8:-8, 8:-8, 8:-8] = noise + 0.1
    return volumes


def test_augmentation_is_that_of_the_cpu():
    volumes = brains(8)
    drawn = augment.draw(8, AugmentationSettings(probability=0.8), np.random.default_rng(0))
    quiet = dataclasses.replace(drawn, noise_sd=np.zeros(8))
    out = augment.apply(volumes.cuda().half(), quiet)
    assert out.dtype == torch.float32
    assert torch.allclose(out.cpu(), augment.apply(volumes.half(), quiet), atol=5e-5)
    powers = dataclasses.replace(augment.neutral(8), gamma=np.geomspace(0.5, 2, 8))
    assert torch.allclose(augment.apply(volumes.cuda(), powers).cpu(), augment.apply(volumes, powers), atol=1e-5)
    again = [augment.apply(volumes.cuda(), drawn) for _ in range(2)]
    assert torch.equal(*again)
    assert torch.equal(augment.apply(volumes[3:5].cuda(), drawn[3:5]), again[0][3:5])
    only = dataclasses.replace(augment.neutral(8), noise_sd=np.full(8, 0.025), noise_seed=np.arange(8))
    noisy = augment.apply(volumes.cuda(), only).cpu()
    difference = (noisy - volumes)[volumes != 0]
    assert torch.equal(noisy == 0, volumes == 0)
    assert difference.std().item() == pytest.approx(0.025, rel=0.02)


@pytest.mark.parametrize("build", [lambda: ResNet3D(18, 16), lambda: ResNet3D(50, 8), lambda: SFCN3D(8)])
def test_ages_and_maps_are_those_of_the_cpu(build):
    torch.manual_seed(0)
    model = build()
    model.train()
    model(brains(4, (64, 76, 64)))  # running statistics
    model.head.bias.data.fill_(50.0)
    model.head.weight.data.mul_(10)
    model.eval()
    volume = brains(1, (64, 76, 64))[0, 0]
    age, cells = gradram(model, volume)
    on_card, cells_on_card = gradram(model.cuda(), volume)
    print(f"{type(model).__name__}: age {age:.6f} on the CPU, {on_card - age:+.2e} on the GPU")
    assert on_card == pytest.approx(age, abs=1e-3)
    assert np.allclose(cells, cells_on_card, atol=1e-3)
    assert cells_on_card.sum() + 50.0 == pytest.approx(on_card, abs=1e-3)


def test_the_loss_is_that_of_the_cpu():
    torch.manual_seed(0)
    features, ages = torch.randn(64, 2, 128) * 5, torch.randint(20, 80, (64,)).double()
    values = []
    for device in ("cpu", "cuda"):
        leaf = features.to(device, copy=True).requires_grad_()
        loss = rank_n_contrast(leaf, ages.to(device))
        loss.backward()
        values.append((loss.item(), leaf.grad.cpu()))
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-5)
    assert torch.allclose(values[0][1], values[1][1], atol=1e-6)


def test_the_gradient_in_chunks_is_that_of_one_pass():
    torch.manual_seed(0)
    model, batch = ResNet3D(18, 8).double().cuda().train(), brains(12, (40, 44, 40)).double().cuda()
    ages = torch.linspace(20, 80, 6, dtype=torch.float64, device="cuda")
    gradients = []
    for size in (12, 5):
        chunks = batch.split(size)
        backward_in_chunks(
            model, model.embed, iter(chunks), len(chunks),
            lambda features: rank_n_contrast(features.reshape(2, 6, -1).transpose(0, 1), ages),
        )  # fmt: skip
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad(set_to_none=True)
    for name, one in gradients[0].items():
        assert (one - gradients[1][name]).abs().max() <= 1e-5 * one.abs().max(), name


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_first_convolution_and_its_gradient_are_the_plain_ones(kind):
    torch.manual_seed(0)
    stem, volumes = StemConvolution(16).cuda(), brains(2, (97, 114, 96)).cuda()
    plain = torch.nn.Conv3d(1, 16, 7, 2, 3, bias=False).cuda().double()
    plain.load_state_dict(stem.state_dict())
    wanted = plain(volumes.double())
    with torch.autocast("cuda", kind, enabled=kind != torch.float32), repeatable():
        folded = stem(volumes)
    grad = torch.randn(wanted.shape, dtype=torch.float64, device="cuda")
    wanted.backward(grad)
    folded.backward(grad.to(folded.dtype))
    assert folded.dtype == kind
    close = 2e-3 if kind == torch.float32 else 2e-2  # the shorter float32 of the matrix units
    for one, other in ((folded, wanted), (stem.weight.grad, plain.weight.grad)):
        assert (one - other).norm() <= close * other.norm()


@pytest.mark.parametrize("precision", ["auto", "float16", "float32"])
@pytest.mark.parametrize("method", ["rnc", "l1"])
def test_training_learns_and_says_how(method, precision, table, tmp_path):
    recipe = tiny_recipe(method, epochs=12, **({} if method == "rnc" else {"optimiser": "adam", "lr": 1e-3}))
    options = dataclasses.replace(QUIET, precision=precision)
    folder = train_model(table, recipe, tmp_path / "m", tmp_path / "w", options, phantom=True)
    card = read_json(folder / "model.json")
    assert card["effective_settings"]["device"] == "cuda"
    assert card["effective_settings"]["precision"] == ("bfloat16" if precision == "auto" else precision)
    assert all(np.isfinite(row["predicted_age"]) for row in card["calibration"])
    history = pd.read_csv(folder / "history.tsv", sep="\t")
    loss = history[history.stage != "head"].loss
    assert loss.iloc[-3:].mean() < loss.iloc[:3].mean()
    predicted = predict_table(folder, table, QUIET)
    same = predict_table(folder, table, ModelOptions(device="cpu", progress=False), saliency=False)
    assert np.allclose(predicted.predicted_age, same.predicted_age, atol=1e-3)


@pytest.mark.parametrize("method", ["rnc", "l1"])
def test_the_same_training_gives_the_same_weights(method, table, tmp_path, monkeypatch):
    """Also when the volumes are read from disk, because the card has no room for them."""
    weights = []
    for name in ("one", "two", "from disk"):
        if name == "from disk":
            monkeypatch.setattr(loader, "_fit_beside", lambda *_: False)
        folder = train_model(table, tiny_recipe(method), tmp_path / name, tmp_path / f"w {name}", QUIET, phantom=True)
        weights.append(load_file(folder / "weights.safetensors"))
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
        assert torch.equal(tensor, weights[2][name]), name


def test_a_killed_training_goes_on_to_the_same_weights(table, tmp_path, monkeypatch):
    whole = train_model(table, tiny_recipe(), tmp_path / "whole", tmp_path / "w1", QUIET, phantom=True)
    epoch, calls = trainer.EncoderStage.epoch, []

    def dying(self, rng, number):
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(self, rng, number)

    monkeypatch.setattr(trainer.EncoderStage, "epoch", dying)
    with pytest.raises(KeyboardInterrupt):
        train_model(table, tiny_recipe(), tmp_path / "again", tmp_path / "w2", QUIET, phantom=True)
    again = train_model(table, tiny_recipe(), tmp_path / "again", tmp_path / "w2", QUIET, phantom=True)
    assert calls == [1, 2, 3, 3]
    one, two = (load_file(folder / "weights.safetensors") for folder in (whole, again))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize(("depth", "width", "count"), [(18, 32, 16), (50, 16, 16)])
def test_the_counted_memory_covers_a_step(depth, width, count):
    shape = (96, 114, 96)
    torch.manual_seed(0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model = ResNet3D(depth, width).cuda().to(memory_format=torch.channels_last_3d).train()
    optimiser = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    volumes = brains(count, shape).cuda()
    drawn = augment.draw(count, AugmentationSettings(), np.random.default_rng(0))
    for _ in range(2):
        images = augment.apply(volumes, drawn).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cuda", torch.bfloat16):
            features = model.embed(images)
        features.float().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    peak = torch.cuda.max_memory_allocated() - before
    counted = count * bytes_a_view(lambda: ResNet3D(depth, width), shape, "bfloat16") + fixed_bytes(model, "sgd")
    print(f"ResNet-{depth}: {peak / 1e9:.2f} GB, counted {counted / 1e9:.2f} GB")
    assert peak <= 1.25 * counted  # 0.8 of what is free is used


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiling_changes_little(precision, table, tmp_path):
    plain, quick = (
        train_model(table, tiny_recipe(epochs=2), tmp_path / str(on), tmp_path / f"w{on}",
                    dataclasses.replace(QUIET, compile=on, precision=precision), phantom=True)
        for on in (False, True)
    )  # fmt: skip
    ages = [predict_table(folder, table, QUIET, saliency=False).predicted_age for folder in (plain, quick)]
    assert np.allclose(*ages, atol=0.5 if precision == "float32" else 3.0)
