"""Time and memory of the Rank-N-Contrast loss against its formula written out with masks.

Run ``python benchmarks/rnc_loss.py [people]``; each line is measured in a process of its own.
"""

import resource
import subprocess
import sys
import time

import torch

from brainage_bids.model.losses import rank_n_contrast


def masks(features, ages, temperature=2.0):
    """Return the loss as printed: for every positive a mask over all views; (n, n, D) differences, O(n^3) work."""
    views = torch.cat([features[:, 0], features[:, 1]]).double()
    years = torch.round(ages.double() * 100).repeat(2)
    n = len(views)
    distances = (views[:, None] - views[None]).square().sum(-1).clamp_min(1e-24).sqrt()
    similarity = -distances / temperature
    apart = (years[:, None] - years[None]).abs()
    other = ~torch.eye(n, dtype=torch.bool)
    total = 0.0
    for j in range(n):
        rivals = (apart >= apart[:, j : j + 1]) & other
        terms = similarity.masked_fill(~rivals, -torch.inf).logsumexp(1) - similarity[:, j]
        total = total + terms[other[:, j]].sum()
    return total / (n * (n - 1))


def measure(name, people, size=512):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loss = {"masks": masks, "sorted": rank_n_contrast}[name]
    loss(torch.randn(4, 2, size, requires_grad=True), torch.arange(4.0)).backward()
    features, ages = torch.randn(people, 2, size, requires_grad=True), torch.rand(people) * 60 + 20
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    value = loss(features, ages)
    value.backward()
    seconds = time.perf_counter() - begin
    gradient = features.grad.norm().item()
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    print(f"{name:8s} {people:7d} {value.item():12.8f} {gradient:12.4e} {seconds:9.2f} {megabytes:9.0f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        people = sys.argv[1] if len(sys.argv) == 2 else "256"
        print(f"{'':8s} {'people':>7s} {'loss':>12s} {'gradient':>12s} {'seconds':>9s} {'MB more':>9s}")
        for name in ("masks", "sorted"):
            subprocess.run([sys.executable, __file__, name, people], check=True)
