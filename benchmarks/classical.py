"""Classical models on open scans of real people, out of fold: in search of a better yardstick than `pca-ridge`.

Run ``python benchmarks/classical.py WORK`` after ``open_people.py DATA prepare --work WORK``. The folds are those that
the recipes make with these seeds (not that of the final model); within the other folds each model chooses its own
strength. Ridge on principal components of the voxels in several forms (the mask alone says what is known from size and
shape of the brain), its strength chosen by leaving one person out or by the evidence (Bayesian ridge), and a Gaussian
process with a squared exponential kernel.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from open_people import FOLDS, scans
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV

from brainage_bids.model.linear import FWHM, most_likely_ridge
from brainage_bids.model.split import make_split
from brainage_bids.schema import VolumeSpec

STRENGTHS = np.logspace(-4, 3, 29)  # of the penalty, in multiples of the mean variance of a component


def forms(volumes: np.ndarray, mm: float) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return by name what a model may see of ``(n, X, Y, Z)`` volumes.

    Each takes ``(n,)`` bool, who trains, and gives ``(n, values)``: the mask of the brain and what voxels vary come
    from those who train alone.
    """
    own = np.array([[volume[volume > 0].mean(), volume[volume > 0].std()] for volume in volumes])
    own = own[:, :, None, None, None]
    scaled = ((volumes - own[:, 0]) / own[:, 1] * (volumes > 0)).astype(np.float32)

    def brain(train: np.ndarray) -> np.ndarray:
        return (volumes[train] > 0).mean(axis=0) > 0.5

    def over_sd(train: np.ndarray) -> np.ndarray:
        inside = volumes[:, brain(train)]
        return (inside - inside[train].mean(axis=0)) / (inside[train].std(axis=0) + 0.05)

    def smoothed(width: float) -> Callable[[np.ndarray], np.ndarray]:
        smooth = np.stack([ndimage.gaussian_filter(volume, width / FWHM / mm) for volume in volumes])
        return lambda train: smooth[:, brain(train)]

    mask = (volumes > 0).reshape(len(volumes), -1).astype(np.float32)
    return {
        "as it is": lambda train: volumes.reshape(len(volumes), -1),
        "inside the brain of most": lambda train: volumes[:, brain(train)],
        "each voxel over its SD": over_sd,
        "each scan over its SD": lambda train: scaled[:, brain(train)],
        **{f"smoothed {width} mm": smoothed(width) for width in (4, 8, 12)},
        "the mask alone": lambda train: mask,
    }


def components(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all principal components of the training people, and the place of the test people in them."""
    pca = PCA(len(train) - 1, svd_solver="full")
    return pca.fit_transform(train).astype(np.float64), pca.transform(test).astype(np.float64)


def ridge(train: np.ndarray, age: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predict by the ridge that leaves one training person out at a time with the least error."""
    strengths = STRENGTHS * train.var(axis=0).mean() * len(train)
    return RidgeCV(alphas=strengths, scoring="neg_mean_absolute_error").fit(train, age).predict(test)


def bayesian_ridge(train: np.ndarray, age: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predict as `pca-ridge` does."""
    return age.mean() + test @ most_likely_ridge(train, age)[0]


def gaussian_process(train: np.ndarray, age: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predict by a Gaussian process whose length and noise maximise the likelihood of the training people."""
    unit = np.sqrt((train**2).sum(axis=1).mean())
    kernel = ConstantKernel() * RBF() + WhiteKernel()
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
    return model.fit(train / unit, age).predict(test / unit)


MODELS = {"ridge, leave one out": ridge, "Bayesian ridge": bayesian_ridge, "Gaussian process": gaussian_process}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 3, 4, 5], help="of the folds")
    parser.add_argument("--grids", type=float, nargs="*", default=[4], help="mm")
    asked = parser.parse_args()
    seeds = ", ".join(map(str, asked.seeds))
    print(f"| grid | form | model | n | MAE, years | by seed ({seeds}) | within ds002748 |\n" + "| --- " * 7 + "|")
    for mm in asked.grids:
        table = scans(asked.work, VolumeSpec.on_grid(mm))
        age, larger = table.age.to_numpy(float), (table.site == "ds002748").to_numpy()
        volumes = np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in table.volume])
        for form, seen in forms(volumes, mm).items():
            errors = {name: [] for name in MODELS}
            for seed in asked.seeds:
                for name, predicted in out_of_fold(seen, age, folds(table, seed)).items():
                    errors[name].append(np.abs(predicted - age))
            for name, found in errors.items():
                each = np.array(found)  # (seeds, n)
                said = f"{each.mean():.2f} | {', '.join(f'{mae:.2f}' for mae in each.mean(axis=1))}"
                print(
                    f"| {mm:g} mm | {form} | {name} | {len(age)} | {said} | {each[:, larger].mean():.2f} |", flush=True
                )


def out_of_fold(seen: Callable[[np.ndarray], np.ndarray], age: np.ndarray, fold: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each model predicts for the people of a fold from those of the others."""
    predicted = {name: np.zeros(len(age)) for name in MODELS}
    for here in np.unique(fold):
        values = seen(fold != here)
        train, test = components(values[fold != here], values[fold == here])
        for name, model in MODELS.items():
            predicted[name][fold == here] = model(train, age[fold != here], test)
    return predicted


def folds(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Return the fold of each person ``(n,)``, as a training makes it."""
    split = make_split(table, folds=FOLDS, seed=seed)
    return table.participant_id.map(split.set_index("participant_id")["fold"]).to_numpy(int)


if __name__ == "__main__":
    main()
