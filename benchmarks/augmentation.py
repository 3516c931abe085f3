"""The paper's four augmentations on a 1 mm volume: ours against TorchIO and MONAI doing the same, on the same cores.

Run ``python benchmarks/augmentation.py [volumes]`` (``pip install torchio monai`` first; one that is missing is left
out). Each volume gets each augmentation with a probability of one half: translation, rotation, noise, crop resized
back. The two libraries apply them one after the other, as their users do. Seconds are means over the volumes of one
run, every tool in turn for each volume, so that all of them see the same load. On a GPU ours is measured too.
"""

import sys
import time
from statistics import mean

import numpy as np
import torch

from brainage_bids.model import augment
from brainage_bids.model.recipe import AugmentationSettings
from brainage_bids.schema import VolumeSpec

HALF = 0.5
DEGREES = (np.rad2deg(0.1), np.rad2deg(0.5))


def head():
    """Return a PHANTOM of the size of a brain on the 1 mm grid, ``(1, X, Y, Z)`` float32."""
    shape = VolumeSpec.on_grid(1).shape
    x = np.indices(shape, dtype=np.float32) - (np.array(shape, dtype=np.float32)[:, None, None, None] - 1) / 2
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


def torchio():
    """Return the same with TorchIO."""
    import torchio as tio

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


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    volume, tools = head(), {"brainage-bids": ours()}
    for name, make in (("TorchIO", torchio), ("MONAI", monai)):
        try:
            tools[name] = make()
        except ImportError:
            print(f"{name} is not installed")
    if torch.cuda.is_available():
        tools[f"brainage-bids, {torch.cuda.get_device_name()}"] = ours("cuda", 16)
    torch.manual_seed(0)
    seconds = {name: [] for name in tools}
    for turn in range(count + 1):
        for name, (run, volumes) in tools.items():
            begin = time.perf_counter()
            run(volume)
            if turn:  # the first is a warm-up
                seconds[name].append((time.perf_counter() - begin) / volumes)
    print(f"{count} turns, {torch.get_num_threads()} threads, {' x '.join(map(str, volume.shape[1:]))} voxels")
    base = mean(seconds["brainage-bids"])
    for name, values in seconds.items():
        print(f"{name:40s} {mean(values):6.3f} s a volume  {mean(values) / base:5.1f} times")


if __name__ == "__main__":
    main()
