"""A small phantom head, made of the bundled template brain in a shell of skull and scalp; no real scan."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage as ndi

from brainage_bids.preprocess.brain import brain_mask
from brainage_bids.preprocess.intake import read_scan
from brainage_bids.preprocess.template import load_template

STEP = 3  # mm


@pytest.fixture(scope="session")
def head():
    """RAS+ image (3 mm, float32, template world): brain, dark skull, bright scalp, a little noise."""
    template = load_template()
    box = (slice(0, 195), slice(0, 231), slice(0, 189))
    brain, mask = np.array(template.data[box]), template.mask[box]
    distance = ndi.distance_transform_edt(~np.pad(mask, ((0, 0), (0, 0), (15, 18))), return_distances=True)
    brain, mask = (np.pad(array, ((0, 0), (0, 0), (15, 18))) for array in (brain, mask))
    full = np.where(mask, np.maximum(brain, 0.15), 0)
    full += np.where((distance > 8) & (distance < 14), 0.85, 0) + np.where((distance > 0) & (distance <= 3), 0.15, 0)
    small = full.reshape(65, STEP, 77, STEP, 74, STEP).mean(axis=(1, 3, 5))
    small += np.abs(np.random.default_rng(3).normal(0, 0.02, small.shape))
    affine = np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] = template.affine[:3, 3] + np.array([1, 1, 1 - 15.0])
    return nib.Nifti1Image((1000 * small).astype(np.float32), affine)


@pytest.fixture(scope="session")
def brain_and_mask(head):
    """The phantom's brain (array), its true mask and the affine."""
    template = load_template()
    from scipy.ndimage import map_coordinates

    index = np.indices(head.shape).reshape(3, -1).T
    world = index @ head.affine[:3, :3].T + head.affine[:3, 3]
    voxel = (world - template.affine[:3, 3]).T
    mask = map_coordinates(template.mask.astype(np.float32), voxel, order=1).reshape(head.shape) > 0.5
    return np.asarray(head.dataobj), mask, head.affine


@pytest.fixture(scope="session")
def found(head, tmp_path_factory):
    """The mask that is found for the head, and how."""
    path = tmp_path_factory.mktemp("head") / "sub-01_T1w.nii.gz"
    nib.save(head, path)
    return brain_mask(read_scan(path))


@pytest.fixture
def save_scan(tmp_path):
    """Write an image as sub-XX/anat/sub-XX_T1w.nii.gz and return its Scan."""
    from brainage_bids.schema import Scan

    def save(image, label="01"):
        path = Path(tmp_path) / "bids" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
        return Scan(str(path), f"sub-{label}")

    return save


@pytest.fixture
def write_xfm():
    """Write a linear MNI transform file, as bestlinreg does."""

    def write(path, matrix):
        rows = "\n".join(" " + " ".join(repr(float(v)) for v in row) for row in matrix[:3])
        path.write_text(f"MNI Transform File\n%made today\n\nTransform_Type = Linear;\nLinear_Transform =\n{rows};\n")

    return write
