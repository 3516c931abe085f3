"""One small phantom study, taken through both levels by the command line, shared by the tests of this folder."""

import dataclasses
import pickle
import shutil

import pytest
from commandline import run, run_here
from filelock import FileLock
from interrupted import end_all
from studyruns import TRAIN, Study

from brainage_bids.phantom.cohort import make_cohort


@pytest.fixture(scope="session")
def study(tmp_path_factory, worker_id):
    """Fourteen phantoms at 4 mm (sub-003's image is cut short), trained in two folds, and the group level.

    It is made once for all workers of a parallel run; tests that write take ``own_study``.
    """
    if worker_id == "master":
        return _made(tmp_path_factory.mktemp("study"))
    root = tmp_path_factory.getbasetemp().parent / "study"
    kept = root / "study.pickle"
    with FileLock(f"{root}.lock"):
        if not kept.is_file():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            kept.write_bytes(pickle.dumps(_made(root)))
    return pickle.loads(kept.read_bytes())


@pytest.fixture
def own_study(study, tmp_path):
    """The same with a copy of OUTPUT_DIR that the test may write into."""
    return dataclasses.replace(study, out=shutil.copytree(study.out, tmp_path / "copy"), whole=study.out)


@pytest.fixture(scope="session")
def done(tmp_path_factory):
    """Two people whose volumes were made already, predicted by a model from elsewhere, with their pages."""
    from prepared import make_prepared, participant, shared_model

    root = tmp_path_factory.mktemp("done")
    place = make_prepared(root)
    participant(place, "--model", shared_model(root / "shared"))
    return place


@pytest.fixture
def quick_pages(monkeypatch):
    """From now on pages of participants tell what they were made from and what they would show; none is drawn."""

    def quick(path, page):
        models = [row["model"] for section in page.sessions for row in section.predictions]
        labels = [section.label for section in page.sessions]
        path.write_text(f'<meta name="made-from" content="{page.made_from}">{labels} {models}')

    monkeypatch.setattr("brainage_bids.app.participant_pages.write_participant_page", quick)


@pytest.fixture(autouse=True)
def nothing_stays_at_work():
    yield
    end_all()


def _made(root):
    bids, out = root / "bids", root / "out"
    make_cohort(bids, n=14, seed=7, voxel_mm=4.0, progress=False)
    image = bids / "sub-003" / "anat" / "sub-003_T1w.nii.gz"
    image.write_bytes(image.read_bytes()[:1000])
    participant = run(bids, out, "participant", *TRAIN)
    return Study(bids, out, participant, run_here(bids, out, "group"))
