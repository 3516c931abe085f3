"""Training steps: memory against the size of the contrastive batch, and speed against a plain loop.

Run ``python benchmarks/training.py [fit] [checkpoints] [memory] [step]``; by default all. Every line of *memory* and
*step* is a process of its own. ``gpu.py`` measures on a GPU.

*fit*: what the main stage of every recipe needs on a card of 40 GB in bfloat16, counted and not run: GB an image needs
in one pass; in chunks, GB an image of the batch needs, and more of a chunk; GB of weights and optimiser; images of a
batch; how many of them are taken at once, 0 where the batch does not fit; the least free memory that would do.
*checkpoints*: what the checkpoints of a recipe hold, and the seconds that writing one takes here; what one an epoch
would write in an hour on an H200 with the people of the paper (by the volumes a second of ``results/gpu_h200.txt``),
and what one every few minutes does.
*memory*: one Rank-N-Contrast step of a small ResNet-18 for batches of 8 to 64 people, in one pass and in chunks of 8
views; how far the peak lies above that of the process before the step.
*step*: one end-to-end step at 2 mm against the loop that a first script has: float32, default memory layout, one
volume at a time through TorchIO in two worker processes (``pip install torchio``).
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from brainage_bids.model import augment
from brainage_bids.model.gradient_cache import backward_in_chunks
from brainage_bids.model.losses import l1_years, rank_n_contrast
from brainage_bids.model.recipe_sections import AugmentationSettings
from brainage_bids.model.resnet import ResNet3D

GRID, GRID_2MM = (64, 76, 64), (96, 114, 96)


def views(count, drawn, size, volumes):
    """Yield augmented chunks; ``volumes`` is the cache."""
    for start in range(0, count, size):
        chunk = slice(start, min(start + size, count))
        rows = torch.from_numpy(volumes[np.arange(chunk.start, chunk.stop) % len(volumes)])[:, None]
        yield augment.apply(rows, drawn[chunk])


def memory(people, size):
    """Print the peak of one contrastive step of ``2 * people`` views in chunks of ``size``, and its seconds of CPU."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    volumes = np.random.default_rng(0).random((16, *GRID), dtype=np.float32).astype(np.float16)
    model = ResNet3D(18, 32).train()
    settings, ages = AugmentationSettings(), torch.linspace(20, 80, people, dtype=torch.float64)

    def step(number, part):
        drawn = augment.draw(2 * number, settings, np.random.default_rng(0))
        backward_in_chunks(
            model, model.embed, views(2 * number, drawn, part, volumes), -(-2 * number // part),
            lambda features: rank_n_contrast(features.reshape(2, number, -1).transpose(0, 1), ages[:number]),
        )  # fmt: skip

    step(2, 2)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    step(people, size)
    seconds = time.process_time() - begin
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, seconds)


def plain_batches(volumes, ages, batch, workers=2):
    """Yield what a first script has: one volume at a time through TorchIO in worker processes."""
    from augmentation import torchio

    chain, _ = torchio()

    class Volumes(torch.utils.data.Dataset):
        def __len__(self):
            return len(volumes)

        def __getitem__(self, index):
            return chain(torch.from_numpy(volumes[index].astype(np.float32))[None]), ages[index]

    loader = torch.utils.data.DataLoader(Volumes(), batch, shuffle=True, num_workers=workers, persistent_workers=True)
    while True:
        yield from loader


def step(kind, batch=4):
    """Print the mean seconds of one end-to-end step at 2 mm, data and augmentation included."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model, rng = ResNet3D(18, 16).train(), np.random.default_rng(0)
    volumes = rng.random((16, *GRID_2MM), dtype=np.float32) * (np.indices(GRID_2MM).min(0) > 12)
    ages = torch.linspace(20, 80, 16)
    optimiser, seconds = torch.optim.Adam(model.parameters(), 1e-3), []
    if kind == "ours":
        volumes = volumes.astype(np.float16)
        model = model.to(memory_format=torch.channels_last_3d)

        def batches():
            while True:
                rows = rng.permutation(16)[:batch]
                drawn = augment.draw(batch, AugmentationSettings(), rng)
                images = augment.apply(torch.from_numpy(volumes[rows])[:, None], drawn)
                yield images.contiguous(memory_format=torch.channels_last_3d), ages[rows]

        source = batches()
    else:
        source = plain_batches(volumes, ages, batch)
    for turn in range(20):
        begin = time.perf_counter()
        images, wanted = next(source)
        optimiser.zero_grad()
        l1_years(model(images), wanted).backward()
        optimiser.step()
        if turn >= 8:  # what the workers had ready at the start is used up
            seconds.append(time.perf_counter() - begin)
    print(mean(seconds))


def fit(gigabytes=40):
    """Print what `memory` counts for every recipe, and for ResNet-50 at 1 mm with a batch of 96 people."""
    from brainage_bids.model.memory import USABLE
    from brainage_bids.model.recipe_files import load_recipe, recipe_names
    from brainage_bids.model.settings import step_bytes

    names = [(name, ()) for name in recipe_names() if name != "pca-ridge" and not name.endswith("-noaug")]
    names.append(("rnc-highrez", ("network.depth=50", "training.batch_size=96")))
    heads = ("GB an image", "of a batch", "of a chunk", "fixed", "images", "at once", "least GB")
    print(" " * 52, *heads)
    for name, overrides in names:
        known = load_recipe(name, overrides)
        views = known.training.batch_size * (2 if known.method == "rnc" else 1)
        need = step_bytes(known, "bfloat16")
        numbers = (need.one_pass, need.of_batch, need.of_chunk, need.fixed)
        least = min(need.needed(views, size) for size in (1, views)) / USABLE
        cells = [f"{number / 1e9:.2f}" for number in numbers]
        cells += [str(views), str(need.fitting(views, gigabytes * 10**9)), f"{least / 1e9:.1f}"]
        print(f"{' '.join((name, *overrides)):52s}", *map(str.rjust, cells, map(len, heads)))


def checkpoints(people=1294):
    """Print size and time of a checkpoint of the main stage and of the head, and how much is written in an hour."""
    from brainage_bids.model.build import build_network, optimiser_for
    from brainage_bids.model.checkpoint import save_checkpoint
    from brainage_bids.model.model_options import SAVE_EVERY
    from brainage_bids.model.recipe_files import load_recipe

    a_second = {"rnc-highrez": 147, "rnc-lowrez": 688, "resnet50-highrez": 70, "resnet101-highrez": 52}  # volumes
    print("recipe                 MB main   s to write   MB head   GB an hour: one an epoch   one every few minutes")
    for name, rate in a_second.items():
        recipe = load_recipe(name)
        network = build_network(recipe)
        optimiser = optimiser_for(list(network.parameters()), recipe)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
        best = network.state_dict() if recipe.method == "l1" else None  # only then an epoch is chosen
        values = {"model": network.state_dict(), "optimiser": optimiser.state_dict(), "best": best}
        head = {key: value for key, value in network.state_dict().items() if key.startswith("head.")}
        with tempfile.TemporaryDirectory() as folder:
            path, sizes = Path(folder) / "checkpoint.pt", []
            begin = time.perf_counter()
            for content in (values, {"model": head, "best": head, "optimiser": {}}):
                save_checkpoint(path, content)
                sizes.append(path.stat().st_size / 1e6)
                if content is values:
                    seconds = time.perf_counter() - begin
        epoch = people * (2 if recipe.method == "rnc" else 1) / rate  # seconds
        hour = [sizes[0] / 1e3 * 3600 / every for every in (epoch, SAVE_EVERY)]
        print(f"{name:20s} {sizes[0]:9.0f} {seconds:12.2f} {sizes[1]:9.3f} {hour[0]:27.1f} {hour[1]:23.1f}", flush=True)


def measured(*arguments):
    """Run one line in a process of its own; return the numbers it prints."""
    # freed blocks go back to the system at once, so that the peak is that of what was needed
    lean = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    env = {**os.environ, **(lean if arguments[0] == "memory" else {})}
    command = [sys.executable, __file__, "one", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [float(word) for word in done.stdout.split()[-3:]]


def main(asked):
    if "fit" in asked:
        fit()
    if "checkpoints" in asked:
        checkpoints()
    if "memory" in asked:
        print("people in a batch   one pass: MB, CPU s    chunks of 8 views: MB, CPU s")
        for people in (8, 16, 32, 64):
            whole, parts = measured("memory", people, 2 * people), measured("memory", people, 8)
            print(f"{people:17d}   {whole[0]:8.0f} {whole[1]:11.1f}    {parts[0]:15.0f} {parts[1]:10.1f}", flush=True)
    if "step" in asked:
        mine, plain = (measured("step", kind)[0] for kind in ("ours", "plain"))
        print(f"one step at 2 mm, 4 volumes: {mine:.2f} s; plain loop {plain:.2f} s: {plain / mine:.1f} times")


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        kind, *rest = sys.argv[2:]
        {"memory": memory, "step": step}[kind](*(int(a) if a.isdigit() else a for a in rest))
    else:
        main(sys.argv[1:] or ["fit", "checkpoints", "memory", "step"])
