"""Where a run may write and work, and that it removes nothing but its own."""

import pytest
from handmade import contents, make
from prepared import make_prepared, participant, shared_model

from brainage_bids.app.workplace import MARKER, is_ours
from brainage_bids.cli import run_inside
from brainage_bids.errors import UsageError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make(tmp_path_factory.mktemp("good"), "people")


def plan(place, *more, out=None):
    run_inside(
        [str(place.bids), str(out or place.out), "participant", "--preprocess-only", "--dry-run", *map(str, more)]
    )


@pytest.mark.parametrize(
    "inside", ["", "sub-01", "sub-01/anat/out", "sub-99/new", "derivatives/fmriprep/sub-01", ".git/x"]
)
@pytest.mark.parametrize("linked", [False, True])
def test_results_do_not_lie_among_the_images(inside, linked, place, tmp_path):
    before, out = contents(place.bids), place.bids / inside
    if linked:
        (tmp_path / "link").symlink_to(place.bids)
        out = tmp_path / "link" / inside
    with pytest.raises(UsageError, match=r"OUTPUT_DIR .* (is|lies in .* of) BIDS_DIR.*derivatives/brainage-bids"):
        plan(place, out=out)
    with pytest.raises(UsageError, match="BIDS_DIR"):
        run_inside([str(place.bids), str(out), "group", "--dry-run"])
    assert contents(place.bids) == before


@pytest.mark.parametrize("inside", ["derivatives/brainage-bids", "derivatives", "results"])
def test_results_may_lie_in_derivatives(inside, place):
    plan(place, out=place.bids / inside)


@pytest.mark.parametrize("name", ["sub-01", "models/x", "work/train", "group"])
def test_the_dataset_does_not_lie_where_results_are_written(name, tmp_path):
    place = make(tmp_path / "out" / name, "people")
    with pytest.raises(UsageError, match="where results are written"):
        plan(place, out=tmp_path / "out")


def test_the_dataset_may_lie_beside_results_as_source_data(tmp_path):
    place = make(tmp_path / "out" / "sourcedata", "people")
    plan(place, out=tmp_path / "out")


def test_results_are_not_written_through_a_link_into_the_dataset(tmp_path):
    place = make(tmp_path, "people")
    (place.out / "sub-77").symlink_to(place.bids / "sub-01")
    with pytest.raises(UsageError, match=r"sub-77 in OUTPUT_DIR .* is a link into BIDS_DIR"):
        plan(place)


@pytest.mark.parametrize("inside", [".", "work", "sub-01", "sub-01/anat", "code/tmp", "derivatives/x/sub-01"])
def test_no_work_in_the_dataset(inside, place):
    with pytest.raises(
        UsageError, match=r"work directory .* (is BIDS_DIR|lies in BIDS_DIR .*), where only data belong"
    ):
        plan(place, "-w", place.bids / inside)
    assert not (place.bids / "work").exists()


@pytest.mark.parametrize("inside", ["sub-01", "models", "models/m/train", "group", "logs/x"])
def test_no_work_among_results(inside, place):
    with pytest.raises(UsageError, match="lies among the results"):
        plan(place, "-w", place.out / inside)


def test_work_beside_results_or_in_derivatives_is_fine(place, tmp_path):
    for work in (
        place.out / "work",
        place.out / "tmp",
        place.bids / "derivatives" / "work",
        tmp_path,
        place.bids.parent,
    ):
        plan(place, "-w", work)


def test_a_work_directory_whose_folders_hold_dataset_or_results_is_refused(tmp_path):
    place = make(tmp_path / "preprocess", "people")
    with pytest.raises(UsageError, match="in its folder preprocess"):
        plan(place, "-w", tmp_path)


def filled(folder, name):
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")


THEIRS = {
    "file": lambda folder: folder.write_text("mine"),
    "text": lambda folder: (folder.mkdir(), (folder / "notes.txt").write_text("mine")),
    "participants": lambda folder: (
        (folder / "sub-01").mkdir(parents=True),
        (folder / "sub-01" / "x.nii").write_text("x"),
    ),
    "models": lambda folder: ((folder / "net").mkdir(parents=True), (folder / "net" / "code.py").write_text("x")),
    "link": lambda folder: folder.symlink_to(folder.parent.parent),
    "broken_link": lambda folder: folder.symlink_to(folder.parent / "nowhere"),
    "link_in_it": lambda folder: (folder.mkdir(), (folder / "sub-01").symlink_to(folder.parent.parent)),
}


@pytest.mark.parametrize("name", ["preprocess", "train"])
@pytest.mark.parametrize("kind", THEIRS)
def test_folders_of_others_in_a_work_directory_are_neither_used_nor_emptied(kind, name, place, tmp_path):
    work = tmp_path / "scratch"
    work.mkdir()
    THEIRS[kind](work / name)
    before = contents(work)
    for more in ((), ("--clean-workdir",)):
        with pytest.raises(UsageError, match=f"has a {name} that brainage-bids did not make; give another folder"):
            plan(place, "-w", work, *more)
    assert contents(work) == before


def test_what_earlier_versions_left_is_ours(tmp_path):
    train, preprocess = tmp_path / "train", tmp_path / "preprocess"
    (train / "rnc-demo").mkdir(parents=True)
    for name in (
        "fold-1.pt",
        "fold-2.checkpoint.pt",
        "fold-2.head.checkpoint.pt",
        "chunks.json",
        "volumes-0123456789abcdef.npy",
    ):
        (train / "rnc-demo" / name).write_bytes(b"x")
    for name in ("crash", "nipype-host-12"):
        (preprocess / name).mkdir(parents=True)
    (preprocess / "sub-01").mkdir()
    (preprocess / "sub-01" / "status.json").write_text("{}")
    assert is_ours(train)
    assert is_ours(preprocess)


def test_a_run_cleans_up_after_itself_and_only_that(tmp_path, quick_pages):
    place, work = make_prepared(tmp_path, people=1), tmp_path / "scratch"
    folder = shared_model(tmp_path / "shared")
    participant(place, "--model", folder)
    assert not (place.out / "work").exists()
    (work / "others").mkdir(parents=True)
    participant(place, "--model", folder, "-w", work)
    assert [path.name for path in work.iterdir()] == ["others"]
    (work / "others").rmdir()
    participant(place, "--model", folder, "-w", work)
    assert work.is_dir()  # the user made it
    for name in ("preprocess", "train"):  # what a killed run leaves
        (work / name / "sub-01").mkdir(parents=True)
        (work / name / MARKER).write_text("")
        (work / name / "sub-01" / "left.nii.gz").write_text("")
    participant(place, "--model", folder, "-w", work)
    assert (work / "train" / "sub-01" / "left.nii.gz").exists()
    participant(place, "--model", folder, "-w", work, "--clean-workdir")
    assert not list(work.iterdir())


def test_a_training_does_not_follow_a_link_to_another_model(tmp_path):
    place = make(tmp_path, "people")
    theirs = shared_model(tmp_path / "theirs")
    (place.out / "models" / "rnc-demo").symlink_to(theirs)
    before = contents(theirs)
    for more in ((), ("--rerun",)):
        with pytest.raises(UsageError, match="is a link, and the training rnc-demo would replace the model"):
            run_inside([str(place.bids), str(place.out), "participant", "--train", "rnc-demo", *more])
    assert contents(theirs) == before
