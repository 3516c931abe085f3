"""Augmentation: ours against TorchIO and MONAI doing the same on a 1 mm volume, and what each of ours costs.

Run ``python benchmarks/augmentation.py [peers] [costs] [noise] [TURNS]``, by default all (``pip install torchio monai``
for *peers*; one that is missing is left out).

*peers*: each volume gets each of the paper's four augmentations with a probability of one half: translation, rotation,
noise, crop resized back. TorchIO is asked in two ways: one ``RandomAffine`` a change, one after the other, and one
``RandomAffine`` for all three, which is the fair comparison: then it resamples once, as ours does. It draws all three
or none with the probability that any of them is drawn. MONAI applies them one after the other. Seconds are means over
the volumes of one run, every tool in turn for each volume, so that all of them see the same load. On a GPU ours is
measured too.
*costs*: milliseconds a volume of every augmentation alone, for sure, on the grids of 4, 2 and 1 mm; PHANTOMS.
*noise*: SD of noise inside the brain when it is drawn after the resampling, as here, or before it, as the paper lists.
"""

import sys
import time
from dataclasses import replace
from statistics import mean, median

import numpy as np
import torch

from brainage_bids.model import augment
from brainage_bids.model.recipe_sections import AugmentationSettings
from brainage_bids.schema import VolumeSpec

HALF = 0.5
DEGREES = (np.rad2deg(0.1), np.rad2deg(0.5))


OFF = AugmentationSettings(
    probability=1.0, translation_voxels=0.0, rotation_min=0.0, rotation_max=0.0, noise_sd=0.0, crop_min=1.0
)
KINDS = {
    "none": {},
    "geometry": {"translation_mm": 10.0, "rotation_min": 0.1, "rotation_max": 0.5, "crop_min": 0.7},
    "blur_mm 6": {"blur_mm": 6.0},
    "slice_mm 8": {"slice_mm": 8.0},
    "field_max 0.4": {"field_max": 0.4},
    "gamma_max 2": {"gamma_max": 2.0},
    "noise_sd 0.025": {"noise_sd": 0.025},
}


def head(voxel_mm=1):
    """Return a PHANTOM of the size of a brain on a grid, ``(1, X, Y, Z)`` float32."""
    shape = VolumeSpec.on_grid(voxel_mm).shape
    x = np.indices(shape, dtype=np.float32) - (np.array(shape, dtype=np.float32)[:, None, None, None] - 1) / 2
    x *= voxel_mm
    inside = (x[0] / 68) ** 2 + (x[1] / 85) ** 2 + (x[2] / 70) ** 2 < 1
    noise = np.random.default_rng(0).random(shape, dtype=np.float32)
    return torch.from_numpy(np.where(inside, 0.3 + 0.5 * noise, 0).astype(np.float32))[None]


def ours(device="cpu", batch=4):
    """Return a function that augments ``batch`` volumes as a training step does, and how many that are."""
    rng = np.random.default_rng(0)

    def run(volume):
        volumes = volume.to(device).half().expand(batch, -1, -1, -1, -1)
        out = augment.apply(volumes, augment.draw(batch, AugmentationSettings(), rng))
        return out[0].cpu() if device != "cpu" else out[0]

    return run, batch


def torchio(once=False):
    """Return the same with TorchIO, with one affine for shift, turn and zoom or with three in a row."""
    import torchio as tio

    if once:
        affine = {"translation": 10, "degrees": (*DEGREES, 0, 0, 0, 0), "scales": (1, 1 / 0.7)}
        any_of_three = 1 - HALF**3
        return tio.Compose([
            tio.RandomAffine(**affine, p=any_of_three), tio.RandomNoise(mean=0, std=(0.025, 0.025), p=HALF)
        ]), 1  # fmt: skip

    still = {"scales": 0, "degrees": 0, "translation": 0}
    chain = tio.Compose([
        tio.RandomAffine(**{**still, "translation": 10}, p=HALF),
        tio.RandomAffine(**{**still, "degrees": (*DEGREES, 0, 0, 0, 0)}, p=HALF),
        tio.RandomAffine(**{**still, "scales": (1, 1 / 0.7)}, p=HALF),
        tio.RandomNoise(mean=0, std=(0.025, 0.025), p=HALF),
    ])  # fmt: skip
    return chain, 1


def monai():
    """Return the same with MONAI."""
    from monai.transforms import Compose, RandAffine, RandGaussianNoise, RandZoom

    zeros = {"padding_mode": "zeros"}
    return Compose([
        RandAffine(prob=HALF, translate_range=(10, 10, 10), **zeros),
        RandAffine(prob=HALF, rotate_range=((0.1, 0.5), 0, 0), **zeros),
        RandZoom(prob=HALF, min_zoom=1, max_zoom=1 / 0.7, mode="trilinear", padding_mode="constant"),
        RandGaussianNoise(prob=HALF, std=0.025, sample_std=False),
    ]), 1  # fmt: skip


def peers(turns):
    """Print seconds a volume of every tool."""
    volume, tools = head(), {"brainage-bids": ours()}
    makers = (
        ("TorchIO, three affines in a row", torchio),
        ("TorchIO, one affine", lambda: torchio(True)),
        ("MONAI", monai),
    )
    for name, make in makers:
        try:
            tools[name] = make()
        except ImportError:
            print(f"{name} is not installed")
    if torch.cuda.is_available():
        tools[f"brainage-bids, {torch.cuda.get_device_name()}"] = ours("cuda", 16)
    torch.manual_seed(0)
    seconds, cpu = ({name: [] for name in tools} for _ in range(2))
    for turn in range(turns + 1):
        for name, (run, volumes) in tools.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            run(volume)
            if turn:  # the first is a warm-up
                seconds[name].append((time.perf_counter() - begin) / volumes)
                cpu[name].append((time.process_time() - begin_cpu) / volumes)
    print(f"{turns} turns, {torch.get_num_threads()} threads, {' x '.join(map(str, volume.shape[1:]))} voxels")
    base, base_cpu = mean(seconds["brainage-bids"]), mean(cpu["brainage-bids"])
    for name, values in seconds.items():
        wall = f"{mean(values):6.3f} s a volume  {mean(values) / base:5.1f} times"
        print(f"{name:40s} {wall}   CPU {mean(cpu[name]):6.3f} s  {mean(cpu[name]) / base_cpu:5.1f} times", flush=True)


def costs(turns):
    """Print CPU milliseconds a volume of each augmentation, on a GPU milliseconds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"ms a volume ({device}), each for sure; median of {turns} turns, every kind in turn, volumes of a batch:")
    print("| augmentation | 4 mm | 2 mm | 1 mm |\n| --- | --- | --- | --- |")
    rng, spent = np.random.default_rng(0), {}
    for voxel_mm, batch in ((4, 8), (2, 4), (1, 2)):
        volumes = head(voxel_mm).to(device).half().expand(batch, -1, -1, -1, -1)
        for _ in range(turns):
            for kind, strengths in KINDS.items():
                settings = replace(OFF, **strengths)
                settings = replace(settings, translation_voxels=settings.translation_mm / voxel_mm)
                drawn = augment.draw(batch, settings, rng, voxel_mm)
                begin = _now(device)
                augment.apply(volumes, drawn)
                spent.setdefault((kind, voxel_mm), []).append(1000 * (_now(device) - begin) / batch)
    for kind in KINDS:
        print(f"| {kind} | {' | '.join(f'{median(spent[kind, voxel_mm]):.1f}' for voxel_mm in (4, 2, 1))} |")


def _now(device):
    """Return seconds: of the processor, whatever else it does, or on a GPU those that have passed."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def noise(turns):
    """Print the SD of noise of 0.025 that was drawn before the resampling of the paper's strength."""
    shape = VolumeSpec.on_grid(2).shape
    inside, ratios = head(2)[None] > 0, {"all three": [], "a crop alone": []}
    rng = np.random.default_rng(0)
    for turn in range(4 * turns):
        field = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(turn))
        drawn = augment.draw(1, AugmentationSettings(probability=1.0, noise_sd=0.0), rng)
        alone = replace(augment.neutral(1), crop=drawn.crop, crop_shift=drawn.crop_shift)
        for name, geometry in (("all three", drawn), ("a crop alone", alone)):
            brain = augment.apply(inside.float(), geometry) > 0.999
            ratios[name].append(augment.apply(field, geometry)[brain].std().item())
    print(f"noise drawn before the resampling, SD as a share of what was drawn; {4 * turns} volumes of 2 mm")
    for name, values in ratios.items():
        print(f"{name:14s} mean {mean(values):.2f}, from {min(values):.2f} to {max(values):.2f}")


PARTS = {"peers": peers, "costs": costs, "noise": noise}


def main():
    asked = sys.argv[1:]
    turns = next((int(word) for word in asked if word.isdigit()), 24)
    for part in [word for word in asked if word in PARTS] or PARTS:
        print(f"\n== {part}", flush=True)
        PARTS[part](turns)


if __name__ == "__main__":
    main()
