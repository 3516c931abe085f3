"""Training on a GPU: volumes per second and peak memory of every recipe, and what each measure is worth.

Run ``python benchmarks/gpu.py [recipes] [measures] [large] [memory] [augmentation] [step] [profile] [compile]``; by
default all but the last, which takes minutes to compile. What is timed is the epoch of a real training (`trainer`):
drawing, reading, augmentation, network, loss and optimiser; the volumes are PHANTOMS, a ball of another brightness for
everybody. Settings are those that a user gets on this card.

*recipes*: every recipe's main stage in bfloat16. TFLOP/s count the forward pass three times for each image and step, as
usual, and not what a second pass repeats; the share is that of the card's dense bfloat16 peak in its data sheet.
*measures*: one recipe with one thing changed at a time.
*large*: ResNet-50 at 1 mm, 96 people a batch, in chunks and in one pass.
*memory*: peak of a Rank-N-Contrast step for 8 to 64 people, in one pass and in chunks of 8 images.
*augmentation*: the paper's four on 1 mm volumes.
*step*: one end-to-end step at 2 mm against the plain loop of ``training.py`` (float32, default layout, TorchIO in as
many workers as there are cores; ``pip install torchio``), and against the same loop without any augmentation.
*profile*: where the time of an epoch goes, by operator, for the two recipes of Rank-N-Contrast (`torch.profiler`).
The only part that also runs without a card: there one small step of ``rnc-lowrez``, two people, on the processor.
*compile*: two recipes with ``--compile``.
"""

import gc
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.profiler import ProfilerActivity
from torch.utils.flop_counter import FlopCounterMode

from brainage_bids.errors import BrainageError
from brainage_bids.model import augment, loader
from brainage_bids.model.build import build_network
from brainage_bids.model.distributed import SINGLE_PROCESS
from brainage_bids.model.folds import Fold, FoldData
from brainage_bids.model.losses import l1_years
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe_files import load_recipe, recipe_names
from brainage_bids.model.recipe_sections import AugmentationSettings
from brainage_bids.model.settings import effective_settings, step_bytes
from brainage_bids.model.stem import StemConvolution
from brainage_bids.model.trainer import STAGES, repeatable
from brainage_bids.schema import VolumeSpec

PEAKS = {"A100": 312, "H100": 989, "H200": 989}  # TFLOP/s, dense bfloat16, SXM form
SECONDS, EPOCHS = 1.5, 3  # a recipe is timed for at least so long and so many epochs
HEADS = "recipe", "images", "at once", "counted GB", "peak GB", "held GB", "volumes/s", "TFLOP/s", "of the peak"


def ball(shape):
    """Return a PHANTOM of about the size of a brain, float16 ``shape``."""
    x = np.indices(shape, dtype=np.float32) - (np.array(shape, dtype=np.float32)[:, None, None, None] - 1) / 2
    inside = ((x / (np.array([0.36, 0.38, 0.37])[:, None, None, None] * shape[0])) ** 2).sum(0) < 1
    noise = np.random.default_rng(0).random(shape, dtype=np.float32)
    return np.where(inside, 0.3 + 0.5 * noise, 0).astype(np.float16)


@contextmanager
def study(recipe, options, people, folder, layout=torch.channels_last_3d):
    """Yield the main stage of a recipe on ``people`` phantoms, as a training makes it."""
    settings = effective_settings(recipe, options, people)
    path = Path(folder) / f"volumes-{recipe.volume.resolution:g}-{people}.npy"
    if not path.is_file():
        volumes = np.lib.format.open_memmap(path, "w+", np.float16, (people, *recipe.spec.shape))
        one = ball(recipe.spec.shape)
        for row in range(people):
            volumes[row] = one * (0.7 + 0.3 * row / people)
        del volumes
    ages = np.linspace(20, 80, people)
    data = FoldData(path, ages, tuple(np.array([row]) for row in range(people)), np.arange(2))
    fold = Fold("bench", 0, recipe, settings, data, Path(folder) / "none", "bench")
    torch.manual_seed(0)
    model = build_network(recipe).to(settings.device, memory_format=layout)
    model.recompute = settings.recompute
    try:
        yield STAGES["encoder" if recipe.method == "rnc" else "network"](model, fold, SINGLE_PROCESS), settings
    finally:
        del model
        gc.collect()
        torch.cuda.empty_cache()


def measure(recipe, options, folder, least=24, **more):
    """Return images a second, peak GB, GB of held volumes and the settings of one recipe."""
    people = max(least, recipe.training.batch_size)
    with study(recipe, options, people, folder, **more) as (stage, settings):
        held = 0 if stage.loader.resident is None else stage.loader.resident.nbytes / 1e9
        images = people // settings.batch_size * settings.views
        for group in stage.optimiser.param_groups:
            group["lr"] = 1e-4  # phantoms of one kind have no age to learn: nothing may blow up meanwhile
        stage.epoch(np.random.default_rng(0), 1)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        seconds = []
        while len(seconds) < EPOCHS or sum(seconds) < SECONDS:
            begin = time.perf_counter()
            stage.epoch(np.random.default_rng(len(seconds)), 1)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        peak = torch.cuda.max_memory_allocated() / 1e9
    return images / median(seconds), peak - held, held, settings


def line(name, recipe, options, folder, **more):
    """Print one row of the tables of recipes."""
    try:
        rate, peak, held, settings = measure(recipe, options, folder, **more)
    except (BrainageError, RuntimeError) as error:
        print(f"{name:34s} {type(error).__name__}: {str(error)[:200]}", flush=True)
        gc.collect()
        torch.cuda.empty_cache()
        return
    with torch.device("meta"), FlopCounterMode(display=False) as flops:
        build_network(recipe).embed(torch.empty(2, 1, *recipe.spec.shape))
    speed = 3 * flops.get_total_flops() / 2 * rate / 1e12
    need = step_bytes(recipe, settings.precision, settings.recompute)
    counted = need.needed(settings.views, settings.chunk_size) / 1e9
    most = next((value for part, value in PEAKS.items() if part in torch.cuda.get_device_name()), None)
    share = "n/a" if most is None else f"{speed / most:.0%}"
    print(
        f"{name:34s} {settings.views:6d} {settings.chunk_size:8d} {counted:11.1f} {peak:8.1f} {held:8.1f} {rate:10.1f} "
        f"{speed:8.1f} {share:>12s}", flush=True,
    )  # fmt: skip


def heads():
    """Print the first row."""
    print("{:34s} {:>6s} {:>8s} {:>11s} {:>8s} {:>8s} {:>10s} {:>8s} {:>12s}".format(*HEADS), flush=True)


def recipes(folder):
    heads()
    for name in recipe_names():
        if name != "pca-ridge" and not name.endswith("-noaug"):
            line(name, load_recipe(name), ModelOptions(device="cuda"), folder)


def measures(folder, name="rnc-highrez"):
    """Change one thing at a time."""
    heads()
    plain, known = ModelOptions(device="cuda"), load_recipe(name)
    line(name, known, plain, folder)
    with plain_stem():
        line("plain first convolution", known, plain, folder)
    line("no augmentation", load_recipe(name, ("augmentation.enabled=false",)), plain, folder)
    line("float32", known, replace(plain, precision="float32"), folder)
    line("default layout", known, plain, folder, layout=torch.contiguous_format)
    line("recomputing", known, replace(plain, recompute=True), folder)
    line("chunks of 16", known, replace(plain, chunk_size=16), folder)
    with from_disk():
        line("read from disk", known, plain, folder)


@contextmanager
def plain_stem():
    """Take the first convolution as it stands in the text books."""
    former, StemConvolution.forward = StemConvolution.forward, torch.nn.Conv3d.forward
    try:
        yield
    finally:
        StemConvolution.forward = former


@contextmanager
def from_disk():
    """Leave the volumes on the disk, as where the card has no room for them."""
    former, loader._fit_beside = loader._fit_beside, lambda *_: False
    try:
        yield
    finally:
        loader._fit_beside = former


def compiled(folder):
    heads()
    for name in ("rnc-lowrez", "resnet18-lowrez"):
        line(f"{name}, --compile", load_recipe(name), ModelOptions(device="cuda", compile=True), folder)


def large(folder, people=96):
    """Train with a batch that no card holds in one pass."""
    recipe = load_recipe("rnc-highrez", ("network.depth=50", f"training.batch_size={people}"))
    heads()
    with from_disk():
        line("ResNet-50, 1 mm", recipe, ModelOptions(device="cuda"), folder)
        line("the same in one pass", recipe, ModelOptions(device="cuda", chunk_size=2 * people), folder)


def memory(folder):
    print("people in a batch   one pass: peak GB   chunks of 8 images: peak GB")
    for people in (8, 16, 32, 64):
        peaks = []
        for chunk in (2 * people, 8):
            recipe = load_recipe("rnc-lowrez", (f"training.batch_size={people}",))
            with study(recipe, ModelOptions(device="cuda", chunk_size=chunk), 64, folder) as (stage, _):
                held = 0 if stage.loader.resident is None else stage.loader.resident.nbytes
                try:
                    stage.epoch(np.random.default_rng(0), 1)
                    torch.cuda.reset_peak_memory_stats()
                    stage.epoch(np.random.default_rng(0), 1)
                    peaks.append((torch.cuda.max_memory_allocated() - held) / 1e9)
                except torch.OutOfMemoryError:
                    peaks.append(float("nan"))
        print(f"{people:17d} {peaks[0]:19.2f} {peaks[1]:29.2f}", flush=True)


def augmentation(folder, batch=16):
    volumes = torch.from_numpy(ball(VolumeSpec.on_grid(1).shape)).cuda().expand(batch, 1, -1, -1, -1)
    rng, seconds = np.random.default_rng(0), []
    for _ in range(21):
        drawn = augment.draw(batch, AugmentationSettings(), rng)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        augment.apply(volumes, drawn)
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - begin) / batch)
    print(f"the four augmentations of a 1 mm volume: {1000 * median(seconds[1:]):.2f} ms", flush=True)


def step(folder, batch=8, people=64, turns=40):
    from training import GRID_2MM, plain_batches

    recipe = load_recipe("resnet18-lowrez")
    ours = measure(recipe, ModelOptions(device="cuda"), folder, people)[0]
    print(f"one step at 2 mm, {batch} volumes, ResNet-18: {1000 * batch / ours:.1f} ms", flush=True)
    volumes, ages = np.broadcast_to(ball(GRID_2MM), (people, *GRID_2MM)), torch.linspace(20, 80, people)

    def still():
        images = torch.from_numpy(volumes[:batch].astype(np.float32))[:, None].cuda()
        while True:
            yield images, ages[:batch]

    kinds = {"plain loop without augmentation": still}
    try:
        import torchio  # noqa: F401

        kinds["plain loop with TorchIO"] = lambda: plain_batches(volumes, ages, batch, workers=torch.get_num_threads())
    except ImportError:
        print("TorchIO is not installed")
    for name, make in kinds.items():
        torch.manual_seed(0)
        model, source, seconds = build_network(recipe).cuda().train(), make(), []
        optimiser = torch.optim.Adam(model.parameters(), 1e-4)
        with plain_stem():
            for _ in range(turns):
                begin = time.perf_counter()
                images, wanted = next(source)
                optimiser.zero_grad()
                l1_years(model(images.cuda()), wanted.cuda()).backward()
                optimiser.step()
                torch.cuda.synchronize()
                seconds.append(time.perf_counter() - begin)
        mean = float(np.mean(seconds[turns // 2 :]))
        print(f"{name}: {1000 * mean:.1f} ms, {mean * ours / batch:.1f} times", flush=True)


def profile(folder, rows=25):
    """Print the operators that take most of an epoch's time: of the card's, or of one thread of the processor."""
    card = torch.cuda.is_available()
    kind, activity = ("cuda", ProfilerActivity.CUDA) if card else ("cpu", ProfilerActivity.CPU)
    for name in ("rnc-highrez", "rnc-lowrez") if card else ("rnc-lowrez",):
        recipe = load_recipe(name, () if card else ("training.batch_size=2",))
        people = recipe.training.batch_size
        with study(recipe, ModelOptions(device=kind), people, folder) as (stage, settings):
            for group in stage.optimiser.param_groups:
                group["lr"] = 1e-4
            if card:
                stage.epoch(np.random.default_rng(0), 1)  # a warm-up
            with torch.profiler.profile(activities={ProfilerActivity.CPU, activity}) as found:
                stage.epoch(np.random.default_rng(1), 1)
                if card:
                    torch.cuda.synchronize()
        images = settings.views  # of the one step that an epoch of one batch has
        # kernels of a card are listed once more by themselves; their time is already that of the operator
        events = [event for event in found.key_averages() if event.device_type == torch.autograd.DeviceType.CPU]
        spent = {event.key: (getattr(event, f"self_{'device' if card else 'cpu'}_time_total"), event.count)
                 for event in events}  # fmt: skip
        total = sum(microseconds for microseconds, _ in spent.values())
        spoken = f"{name}, {people} people, {settings.precision} on {settings.device}"
        print(f"{spoken}: {total / 1000 / images:.2f} ms an image")
        print(f"{'operator':70s} {'calls':>7s} {'ms an image':>12s} {'share':>6s}")
        for key, (microseconds, count) in sorted(spent.items(), key=lambda item: -item[1][0])[:rows]:
            print(f"{key[:70]:70s} {count:7d} {microseconds / 1000 / images:12.3f} {microseconds / total:6.1%}")


PARTS = {"recipes": recipes, "measures": measures, "large": large, "memory": memory, "augmentation": augmentation,
         "step": step, "profile": profile, "compile": compiled}  # fmt: skip


def main(asked):
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        print(f"{card.name}, {card.total_memory / 1e9:.0f} GB, torch {torch.__version__}, CUDA {torch.version.cuda}")
    elif asked == ["profile"]:
        print(f"no CUDA card, {torch.get_num_threads()} threads, torch {torch.__version__}")
    else:
        raise SystemExit("there is no CUDA card here; only the part 'profile' runs without one")
    with tempfile.TemporaryDirectory() as folder, repeatable():
        for part in asked or list(PARTS)[:-1]:
            begin = time.perf_counter()
            print(f"\n== {part}", flush=True)
            PARTS[part](folder)
            print(f"({time.perf_counter() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
