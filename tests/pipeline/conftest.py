"""One small phantom study, taken through both levels by the command line, shared by the tests of this folder."""

import pytest
from pipelinestudy import TRAIN, Study, run

from brainage_bids.phantom.cohort import make_cohort


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Fourteen phantoms at 4 mm (sub-003's image is cut short), trained in two folds, and the group level."""
    root = tmp_path_factory.mktemp("study")
    bids, out = root / "bids", root / "out"
    make_cohort(bids, n=14, seed=7, voxel_mm=4.0, progress=False)
    image = bids / "sub-003" / "anat" / "sub-003_T1w.nii.gz"
    image.write_bytes(image.read_bytes()[:1000])
    participant = run(bids, out, "participant", *TRAIN)
    return Study(bids, out, participant, run(bids, out, "group"))
