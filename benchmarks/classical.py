"""Classical models on open scans of real people, out of fold: in search of a better yardstick than `pca-ridge`.

Run ``python benchmarks/classical.py WORK [--seed 1]`` after ``open_people.py DATA prepare --work WORK``. The folds are
those that the recipes make with this seed; within the other folds each model chooses its own strength. Ridge on
principal components of the voxels in several forms (the mask alone says what is known from size and shape of the
brain), and a Gaussian process with a squared exponential kernel.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from open_people import FOLDS, scans
from scipy import ndimage, stats
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV

from brainage_bids.model.linear import STRENGTHS
from brainage_bids.model.split import make_split
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats.accuracy import mean_interval

FWHM = 2.3548200450309493


def forms(volumes: np.ndarray, mm: float) -> dict[str, np.ndarray]:
    """Return ``(n, values)`` by name: what a model may see of ``(n, X, Y, Z)`` volumes."""
    brain = (volumes > 0).mean(axis=0) > 0.5
    inside = volumes[:, brain]
    own = np.array([[volume[volume > 0].mean(), volume[volume > 0].std()] for volume in volumes])
    smooth = {width: [ndimage.gaussian_filter(volume, width / FWHM / mm) for volume in volumes] for width in (4, 8)}
    return {
        "as it is": volumes.reshape(len(volumes), -1),
        "inside the brain of most": inside,
        "each voxel over its SD": (inside - inside.mean(axis=0)) / (inside.std(axis=0) + 0.05),
        "each scan over its SD": ((inside - own[:, :1]) / own[:, 1:]) * (inside > 0),
        **{f"smoothed {width} mm": np.stack(rows)[:, brain] for width, rows in smooth.items()},
        "the mask alone": (volumes > 0).reshape(len(volumes), -1).astype(np.float32),
    }


def components(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all principal components of the training people, and the place of the test people in them."""
    pca = PCA(len(train) - 1, svd_solver="full")
    return pca.fit_transform(train).astype(np.float64), pca.transform(test).astype(np.float64)


def ridge(train: np.ndarray, age: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predict as `pca-ridge` does."""
    strengths = STRENGTHS * train.var(axis=0).mean() * len(train)
    return RidgeCV(alphas=strengths, scoring="neg_mean_absolute_error").fit(train, age).predict(test)


def gaussian_process(train: np.ndarray, age: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predict by a Gaussian process whose length and noise maximise the likelihood of the training people."""
    unit = np.sqrt((train**2).sum(axis=1).mean())
    kernel = ConstantKernel() * RBF() + WhiteKernel()
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
    return model.fit(train / unit, age).predict(test / unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="of the folds (1: those of the search)")
    asked = parser.parse_args()
    print("| grid | form | model | n | MAE, years [95 % CI] | within ds002748 | r |\n" + "| --- " * 7 + "|")
    for mm in (4, 3, 2):
        table = scans(asked.work, VolumeSpec.on_grid(mm))
        table = table[table.trainable].reset_index(drop=True)
        fold, age = folds(table, asked.seed), table.age.to_numpy(float)
        volumes = np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in table.volume])
        for form, values in forms(volumes, mm).items():
            predicted = {"ridge": np.zeros(len(age)), "Gaussian process": np.zeros(len(age))}
            for here in np.unique(fold):
                train, test = components(values[fold != here], values[fold == here])
                for name, model in (("ridge", ridge), ("Gaussian process", gaussian_process)):
                    predicted[name][fold == here] = model(train, age[fold != here], test)
            for name, ages in predicted.items():
                errors, larger = np.abs(ages - age), (table.site == "ds002748").to_numpy()
                low, high, _ = mean_interval(errors, 0)
                said = f"{errors.mean():.2f} [{low:.2f}, {high:.2f}] | {errors[larger].mean():.2f}"
                r = stats.pearsonr(age, ages).statistic
                print(f"| {mm} mm | {form} | {name} | {len(age)} | {said} | {r:.2f} |", flush=True)


def folds(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Return the fold of each person ``(n,)``, as a training makes it."""
    split = make_split(table, folds=FOLDS, seed=seed)
    return table.participant_id.map(split.set_index("participant_id")["fold"]).to_numpy(int)


if __name__ == "__main__":
    main()
