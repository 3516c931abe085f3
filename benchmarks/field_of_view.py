"""What the box of the brain saves and costs: ``[volume] crop = "brain"`` against the paper's whole grid.

Run ``python benchmarks/field_of_view.py VERB``.

*speed* times one prediction and one training step (two views, forward and backward) of recipes on the whole grid and in
the box: CPU seconds of one thread, the least of ``--repeats`` or more, and the peak of the memory of a process that
does nothing else, less what it had before. ``counted`` is what a training counts for one view (`memory.bytes_a_view`).
*cover* DATA preprocesses BIDS datasets at 2 mm and says how much of each brain lies outside of the template's brain
with margins, and outside of the boxes of recipes. *accuracy* makes 72 synthetic heads (phantoms) and trains
``rnc-demo`` in 5 folds with and without the box, on the same people and folds, for several seeds; the difference of the
errors is paired by person. Both keep what they made in ``--work FOLDER``.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from brainage_bids.model.box import MARGIN_MM
from brainage_bids.model.build import build_network
from brainage_bids.model.explain import gradram
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.settings import step_bytes
from brainage_bids.schema import DEFAULT_BRAIN_MM, VolumeSpec

CROPS = ("none", "brain")
RECIPES = ("rnc-highrez", "rnc-lowrez", "rnc-demo")
MARGINS = (0, 2, 3, 4, 8)  # mm
SHARES = (0.001, 0.005, 0.01)
VIEWS = 2
LEAST_SECONDS = 1.0  # of what is repeated
MANY = 20  # scans of a dataset


def recipe_with(name: str, crop: str, more: tuple[str, ...] = ()) -> Recipe:
    """Return a recipe that reads the whole grid (``none``) or the box (``brain``)."""
    return load_recipe(name, (*more, f"volume.crop={crop}"))


def brain(spec: VolumeSpec) -> torch.Tensor:
    """Return a PHANTOM of the size of a brain, as a model reads it: float32 ``spec.cropped.shape``."""
    grid = spec.cropped
    places = np.meshgrid(*(at + grid.resolution * np.arange(n) for at, n in zip(grid.origin, grid.shape, strict=True)),
                         indexing="ij", sparse=True)  # fmt: skip
    inside = (places[0] / 68) ** 2 + ((places[1] + 17) / 85) ** 2 + ((places[2] - 5) / 70) ** 2 < 1
    noise = np.random.default_rng(0).random(grid.shape, dtype=np.float32)
    return torch.from_numpy(np.where(inside, 0.3 + 0.5 * noise, 0).astype(np.float32))


def seconds(work: str, name: str, crop: str, more: tuple[str, ...], repeats: int) -> tuple[float, float]:
    """Return CPU seconds (least) and peak memory (MB) of a ``prediction`` or a training ``step`` in this process."""
    torch.set_num_threads(1)
    recipe = recipe_with(name, crop, more)
    volume, network = brain(recipe.spec), build_network(recipe)
    views = volume.expand(VIEWS, 1, -1, -1, -1).clone() if work == "step" else volume
    network.train(work == "step")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before, times = memory("VmRSS"), []
    while len(times) < repeats or sum(times) < LEAST_SECONDS:
        start = time.process_time()
        if work == "step":
            network.embed(views).square().mean().backward()
        else:
            gradram(network, views)
        times.append(time.process_time() - start)
    return min(times), memory("VmHWM") - before


def memory(name: str) -> float:
    """Return a number of this process's memory, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def apart(*job) -> tuple[float, float]:
    """Return `seconds` of a process of its own, whose memory nobody else used."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(seconds, *job).result()


def speed(asked: argparse.Namespace) -> None:
    """Print time and memory on the whole grid and in the box."""
    more = tuple(asked.set)
    print("| recipe | voxels | ratio | prediction, s | ratio | peak, MB | step, s | ratio | peak, MB | counted, MB |\n"
          + "| --- " * 10 + "|")  # fmt: skip
    for name in asked.recipes:
        first = None
        for crop in CROPS:
            recipe = recipe_with(name, crop, more)
            shape = recipe.spec.cropped.shape
            predicted = apart("prediction", name, crop, more, asked.repeats)
            step = (math.nan, math.nan) if asked.no_steps else apart("step", name, crop, more, asked.repeats)
            counted = step_bytes(recipe, "float32")[0] / 1e6
            now = math.prod(shape), predicted[0], step[0]
            first = first or now
            ratios = [f"{whole / here:.2f}" for whole, here in zip(first, now, strict=True)]
            cells = [f"{name}, {crop}", " x ".join(map(str, shape)), ratios[0]]
            for (cpu, peak), ratio in ((predicted, ratios[1]), (step, ratios[2])):
                cells += [f"{cpu:.3g}", ratio, f"{peak:.0f}"]
            cells.append(f"{counted:.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)


def cover(asked: argparse.Namespace) -> None:
    """Print how much of the brains of real people lies outside of boxes."""
    masks = [path for data in asked.data for path in brain_masks(data, asked.work, asked.every)]
    spec = VolumeSpec.on_grid(2)
    low, high = np.array(DEFAULT_BRAIN_MM[::2]), np.array(DEFAULT_BRAIN_MM[1::2])
    boxes = {f"brain and {mm} mm": (low - mm, high + mm) for mm in MARGINS}
    for name in asked.recipes:
        cropped = recipe_with(name, "brain").spec
        boxes[f"box of {name}"] = in_mm(cropped)
    shares = {name: [] for name in boxes}
    for path in masks:
        inside = np.asarray(nib.load(path).dataobj) > 0
        at = np.argwhere(inside) * spec.resolution + np.array(spec.origin)
        for name, (low, high) in boxes.items():
            shares[name].append(1 - ((at >= low) & (at <= high)).all(axis=1).mean())
    above = " | ".join(f"above {share:.1%}" for share in SHARES)
    print(f"{len(masks)} scans\n| box | median, % | largest, % | {above} |\n" + "| --- " * (3 + len(SHARES)) + "|")
    for name, found in shares.items():
        counts = " | ".join(str(int((np.array(found) > share).sum())) for share in SHARES)
        print(f"| {name} | {100 * np.median(found):.3f} | {100 * max(found):.2f} | {counts} |")
    outside = shares[f"brain and {MARGIN_MM} mm"]
    for k in np.argsort(outside)[::-1][:6]:
        print(f"{masks[k].relative_to(asked.work).parts[0]} {masks[k].name.split('_space')[0]}: {outside[k]:.2%}")


def in_mm(spec: VolumeSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends (mm) of the voxels of a box."""
    grid = spec.cropped
    low = np.array(grid.origin) - grid.resolution / 2
    return low, low + np.array(grid.shape) * grid.resolution


def brain_masks(data: Path, work: Path, every: int) -> list[Path]:
    """Preprocess every n-th scan of a BIDS dataset at 2 mm and return the brain masks in template space."""
    from brainage_bids.bids.outputs import Outputs
    from brainage_bids.bids.read import DatasetQuery, read_dataset
    from brainage_bids.preprocess.preprocess_options import PreprocessOptions
    from brainage_bids.preprocess.workflow import preprocess

    outputs, spec = Outputs(work / data.name), VolumeSpec.on_grid(2)
    scans = read_dataset(DatasetQuery(bids_dir=data)).scans
    scans = scans[::every] if len(scans) > MANY else scans
    preprocess(scans, [spec], outputs, PreprocessOptions(work / "preprocess", nprocs=1, progress=False))
    return [path for scan in scans if (path := outputs.mask(scan, spec)).is_file()]


def accuracy(asked: argparse.Namespace) -> None:
    """Print the errors of ``rnc-demo`` out of fold on phantoms, with and without the box."""
    import open_people

    if not (asked.work / "scans.json").is_file():
        open_people.phantoms(asked.work, asked.people)
    asked.what, asked.precision, asked.processes = "accuracy", "float32", 1
    asked.results = asked.work / "accuracy.tsv"
    models = {crop: ("rnc-demo", (f"volume.crop={crop}", *asked.set)) for crop in CROPS}
    kept = open_people.known_or_trained(models, asked).query("people == @open_people.OUT_OF_FOLD")
    errors = open_people.summary(kept)
    print(f"brain - none: {open_people.paired(errors['brain'].to_numpy(), errors['none'].to_numpy())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "cover", "accuracy"])
    parser.add_argument("data", type=Path, nargs="*", help="BIDS datasets for *cover*")
    parser.add_argument("--work", type=Path, default=Path("field_of_view"))
    parser.add_argument("--recipes", nargs="*", default=RECIPES)
    parser.add_argument("--set", nargs="*", default=(), help="SECTION.KEY=VALUE of the recipes")
    parser.add_argument("--no-steps", action="store_true", help="time predictions only: steps at 1 mm take minutes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help=f"of datasets of more than {MANY} scans take every n-th")
    parser.add_argument("--people", type=int, default=72)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    asked = parser.parse_args()
    {"speed": speed, "cover": cover, "accuracy": accuracy}[asked.what](asked)


if __name__ == "__main__":
    main()
