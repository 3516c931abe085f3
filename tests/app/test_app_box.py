"""Two models of one grid in one run, one of which reads only the box of the brain."""

import nibabel as nib
import numpy as np
import pytest
from commandline import run_here
from studyruns import TRAIN

from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.schema import VolumeSpec

BOXED = ("--set", "volume.crop=brain", "--set", "name=boxed", "--model", "rnc-demo")


@pytest.fixture
def both(own_study, quick_pages):
    """The study, with a model that reads the box trained beside the one that reads all."""
    done = run_here(own_study.bids, own_study.out, "participant", *TRAIN[:-2], "--nprocs", "1", *BOXED)
    return own_study, done


def test_models_with_and_without_a_box_share_the_volumes(both):
    study, done = both
    assert done.returncode == study.participant.returncode, done.stderr  # sub-003 fails in both
    here, before = ({path.relative_to(out) for path in out.glob("sub-*/anat/*_T1w.nii.gz")}
                    for out in (study.out, study.whole))  # fmt: skip
    assert here == before
    assert all((study.out / path).read_bytes() == (study.whole / path).read_bytes() for path in here)
    spec = load_recipe("rnc-demo", ["volume.crop=brain"]).spec
    anat = study.out / "sub-001" / "anat"
    for name, grid, cells in (("RncDemo", spec.whole, (6, 8, 6)), ("Boxed", spec.cropped, (5, 6, 5))):
        stem = anat / f"sub-001_space-MNI152NLin2009aSym_res-4_desc-gradram{name}_saliency"
        image, sidecar = nib.load(f"{stem}.nii.gz"), read_json(f"{stem}.json")
        assert image.shape == cells
        assert np.allclose(image.affine, np.array(grid.affine) @ np.diag([8, 8, 8, 1]))
        assert image.get_fdata().sum() + sidecar["Bias"] == pytest.approx(sidecar["PredictedAge"], abs=1e-4)
    rows = read_tsv(anat / "sub-001_desc-brainage_pred.tsv").set_index("model")
    assert set(rows.index) == {"boxed", "rnc-demo"}
    assert VolumeSpec.from_dict(read_json(study.out / "models" / "boxed" / "model.json")["volume_spec"]) == spec
    assert (
        "It reads the box of 40 x 48 x 40 voxels around the template's brain."
        in (study.out / "logs" / "CITATION.md").read_text()
    )
    again = run_here(study.bids, study.out, "participant", "--model", "boxed", "--model", "rnc-demo", "--dry-run")
    assert "volume: MNI152NLin2009aSym, 4 mm, 48 x 57 x 48" in again.stdout
    assert again.stdout.count("done\tdone") == 13
    group = run_here(study.bids, study.out, "group", "--atlas", "none")
    assert group.returncode == 0, group.stderr
    for name in ("RncDemo", "Boxed"):
        stem = (
            study.out / "group" / "maps" / f"space-MNI152NLin2009aSym_res-4_desc-gradram{name}GroupAllSigned_saliency"
        )
        image = nib.load(f"{stem}.nii.gz")
        assert (image.shape, VolumeSpec.from_dict(read_json(f"{stem}.json")["VolumeSpec"])) == (spec.shape, spec.whole)
        assert np.allclose(image.affine, spec.affine)
