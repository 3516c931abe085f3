import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import REFERENCE

from brainage_bids.model.losses import l1_years, rank_n_contrast, rank_n_contrast_floor

EXPECTED = json.loads((REFERENCE / "rnc_reference.json").read_text())
VIEWS = np.stack([EXPECTED["view1"], EXPECTED["view2"]], axis=1)  # (4, 2, 3)


def literal(features, ages, temperature):
    """The formula, three loops, integers for the ages."""
    views = np.concatenate([features[:, 0], features[:, 1]])
    years = [round(float(age) * 100) for age in ages] * 2
    n = len(views)
    s = [[-np.sqrt(np.sum((views[i] - views[k]) ** 2)) / temperature for k in range(n)] for i in range(n)]
    total = 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            rivals = [s[i][k] for k in range(n) if k != i and abs(years[i] - years[k]) >= abs(years[i] - years[j])]
            top = max(rivals)
            total += top + np.log(sum(np.exp(v - top) for v in rivals)) - s[i][j]
    return total / (n * (n - 1))


def literal_floor(ages):
    years = [round(float(age) * 100) for age in ages] * 2
    n, total = len(years), 0.0
    for i in range(n):
        distances = [abs(years[i] - years[k]) for k in range(n) if k != i]
        for distance in set(distances):
            total += distances.count(distance) * np.log(distances.count(distance))
    return total / (n * (n - 1))


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda c: f"{c['ages']}-{c['temperature']}")
def test_reference_loss_gradient_and_floor(case):
    features = torch.tensor(VIEWS * case.get("feature_scale", 1), dtype=torch.float64, requires_grad=True)
    ages = torch.tensor(case["ages"], dtype=torch.float64)
    loss = rank_n_contrast(features, ages, case["temperature"])
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)
    assert features.grad.norm().item() == pytest.approx(case["grad_norm"], abs=1e-6)
    assert rank_n_contrast_floor(ages).item() == pytest.approx(case["lower_bound"], abs=1e-6)


@pytest.mark.parametrize("case", EXPECTED["cases"][-1:])
def test_float32_gives_the_right_value_where_exp_underflows(case):
    features = torch.tensor(VIEWS * case["feature_scale"], dtype=torch.float32)
    loss = rank_n_contrast(features, torch.tensor(case["ages"], dtype=torch.float32))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(case["loss"], rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    ages=st.lists(st.sampled_from([20.0, 20.1, 30.1, 40.1, 45.4, 45.6, 55.0, 89.0]), min_size=1, max_size=6),
    size=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    temperature=st.sampled_from([0.1, 0.5, 2.0, 7.0]),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e4]),
)
def test_equals_the_triple_loop(ages, size, seed, temperature, scale):
    features = np.random.default_rng(seed).standard_normal((len(ages), 2, size)) * scale
    loss = rank_n_contrast(torch.from_numpy(features), torch.tensor(ages), temperature)
    assert loss.item() == pytest.approx(literal(features, ages, temperature), rel=1e-9, abs=1e-9)
    floor = rank_n_contrast_floor(torch.tensor(ages)).item()
    assert floor == pytest.approx(literal_floor(ages), abs=1e-12)
    assert loss.item() >= floor - 1e-9


def test_gradient_against_finite_differences():
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 2, 3))).requires_grad_()
    ages = torch.tensor([20.0, 33.0, 33.0, 60.5, 71.0])
    assert torch.autograd.gradcheck(lambda f: rank_n_contrast(f, ages, 1.5), features)


def test_embedding_by_age_reaches_the_floor():
    ages = torch.tensor([20.0, 31.0, 47.0, 80.0], dtype=torch.float64)
    features = (ages * 1000)[:, None, None].expand(4, 2, 1)
    assert rank_n_contrast(features, ages).item() == pytest.approx(rank_n_contrast_floor(ages).item(), abs=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradient_are_finite(scale, dtype):
    features = (torch.from_numpy(np.random.default_rng(1).standard_normal((6, 2, 8))) * scale).to(dtype)
    features[1] = features[0]  # two exact zero distances
    features[2, 1] = features[2, 0]
    features.requires_grad_()
    loss = rank_n_contrast(features, torch.tensor([20, 20.1, 30.1, 40.1, 60, 89.0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()


def test_identical_views_have_zero_gradient():
    features = torch.ones(3, 2, 4, requires_grad=True)
    rank_n_contrast(features, torch.tensor([20.0, 40.0, 60.0])).backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_float32_ages_tie_exactly():
    features = torch.from_numpy(np.random.default_rng(2).standard_normal((3, 2, 4)))
    narrow = rank_n_contrast(features, torch.tensor([20.1, 30.1, 40.1], dtype=torch.float32))
    wide = rank_n_contrast(features, torch.tensor([2010.0, 3010.0, 4010.0]) / 100)
    assert narrow.item() == wide.item() == pytest.approx(literal(features.numpy(), [20.1, 30.1, 40.1], 2.0))


def test_many_views_close_together_and_far_from_zero_keep_their_distances():
    rng = np.random.default_rng(6)
    features, ages = 1e6 + rng.standard_normal((20, 2, 3)), rng.uniform(20, 90, 20)
    loss = rank_n_contrast(torch.from_numpy(features), torch.from_numpy(ages)).item()
    assert loss == pytest.approx(literal(features, ages, 2.0), rel=1e-9)


def test_ages_tie_when_they_are_one_in_hundredths_of_a_year():
    one, within, apart = (rank_n_contrast_floor(torch.tensor([79.11, age, 40.0])) for age in (79.11, 79.1149, 79.12))
    assert within == one
    assert apart < one - 0.01


def test_half_precision_gives_the_loss_of_the_same_numbers_in_full():
    rng = np.random.default_rng(4)
    features = torch.from_numpy(rng.standard_normal((40, 2, 4))).half()
    ages = torch.from_numpy(rng.uniform(20, 90, 40)).half()
    loss = rank_n_contrast(features, ages)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(rank_n_contrast(features.double(), ages.double()).item(), rel=1e-6)


def test_order_of_people_does_not_matter():
    features = torch.from_numpy(np.random.default_rng(3).standard_normal((7, 2, 4)))
    ages = torch.tensor([20.0, 25, 25, 40, 61, 70, 88])
    turn = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert rank_n_contrast(features[turn], ages[turn]).item() == pytest.approx(rank_n_contrast(features, ages).item())


@pytest.mark.parametrize(
    ("features", "ages", "temperature", "text"),
    [
        (torch.zeros(4, 3, 2), torch.zeros(4), 2.0, r"\(N, 2, D\)"),
        (torch.zeros(4, 2, 2), torch.zeros(3), 2.0, r"ages \(N,\)"),
        (torch.zeros(4, 2, 2), torch.zeros(4, 1), 2.0, r"ages \(N,\)"),
        (torch.zeros(0, 2, 2), torch.zeros(0), 2.0, "N > 0"),
        (torch.zeros(4, 2, 2), torch.zeros(4), 0.0, "temperature"),
    ],
)
def test_wrong_input(features, ages, temperature, text):
    with pytest.raises(ValueError, match=text):
        rank_n_contrast(features, ages, temperature)
    if ages.shape == (0,):
        with pytest.raises(ValueError, match=text):
            rank_n_contrast_floor(ages)


def test_l1_is_the_mean_absolute_error():
    assert l1_years(torch.tensor([30.0, 41.0]), torch.tensor([32.0, 40.0])).item() == 1.5


def test_memory_of_2048_views_of_512_features():
    code = """
import resource, torch
from brainage_bids.model.losses import rank_n_contrast
torch.set_num_threads(1)
small = torch.randn(8, 2, 512, requires_grad=True)
rank_n_contrast(small, torch.arange(8.0)).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
features = torch.randn(1024, 2, 512, requires_grad=True)
rank_n_contrast(features, torch.rand(1024) * 60 + 20).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.5  # GB; an (n, n, D) float32 tensor alone would be 8.6
