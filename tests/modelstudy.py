"""A small PHANTOM study for the tests of training: noisy balls on an 8 mm grid and a network of a few channels."""

import json

import nibabel as nib
import numpy as np
import pandas as pd

from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.schema import VolumeSpec

SPEC = VolumeSpec.on_grid(8)


def tiny_recipe(method="rnc", **training):
    """A small network on an 8 mm grid."""
    base = load_recipe("rnc-demo").to_dict()
    base["name"], base["method"] = f"tiny-{method}", method
    base["volume"]["resolution"] = 8.0
    base["network"] |= {"depth": 10, "width": 4}
    base["training"] |= {"epochs": 3, "length": "epochs", "least_steps": 0, "batch_size": 6} | training
    base["head"] |= {"method": "sgd", "epochs": 5, "views": 2}
    base["augmentation"]["gamma_max"] = 1.0
    return Recipe.from_dict(base)


def make_volume(path, age, rng, spec=SPEC):
    """A PHANTOM: a noisy ball whose central hole grows with age."""
    world = np.indices(spec.shape) - (np.array(spec.shape)[:, None, None, None] - 1) / 2
    radius = np.linalg.norm(world, axis=0)
    data = np.where((radius < 10) & (radius > age / 12), 0.7 + 0.05 * rng.standard_normal(spec.shape), 0)
    nib.save(nib.Nifti1Image(data.astype(np.float32), spec.affine), path)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"VolumeSpec": spec.to_dict()}))


def make_table(folder):
    rng, rows = np.random.default_rng(0), []
    for i in range(20):
        person = f"sub-{i:02d}"
        group = "AD" if i >= 14 else "CN"
        for session in ("ses-1", "ses-2") if i < 2 else ("ses-1",):
            age = 20.0 + 4 * (i % 14) + (session == "ses-2")
            path = folder / f"{person}_{session}.nii.gz"
            make_volume(path, age, rng)
            rows.append({"participant_id": person, "session_id": session, "prefix": f"{person}_{session}",
                         "volume": str(path), "age": age, "sex": "FM"[i % 2], "group": group, "site": None,
                         "family": None, "trainable": group == "CN",
                         "saliency": str(folder / "maps" / f"{person}_{session}_saliency.nii.gz")})  # fmt: skip
    return pd.DataFrame(rows)
