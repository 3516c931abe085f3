"""Where no T1w image is found one sentence says what is there, and the way out."""

import pytest

from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.errors import InvalidDatasetError, NoInputError, NothingSelectedError, UsageError


def why(folder, **more):
    with pytest.raises(NothingSelectedError) as caught:
        read_dataset(DatasetQuery(folder, **more))
    message = str(caught.value)
    assert len(message) < 700
    return message


@pytest.mark.parametrize("below", ["sub-01", "sub-01/ses-1", "sub-01/ses-1/anat", "derivatives", "sub-01/ses-1/func"])
def test_a_folder_below_that_of_the_dataset(toy, below):
    toy.image("sub-01", "ses-1")
    toy.text("derivatives/readme", "x")
    toy.text("sub-01/ses-1/func/x.json", "{}")
    assert f"{toy.root}, as BIDS_DIR" in why(toy.root / below)


def test_the_folder_above_those_of_datasets(toy):
    toy.image("sub-01")
    told = why(toy.root.parent)
    assert f"give {toy.root} as BIDS_DIR" in told


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["rawdata/sub-01/anat/sub-01_T1w.nii.gz", "derivatives/x/y"], "rawdata as BIDS_DIR"),
        (["derivatives/fmriprep/sub-01/anat/sub-01_T1w.nii.gz"], "only derivatives"),
        (["sourcedata/x", "code/y"], "only code, sourcedata"),
        (["01/anat/01_T1w.nii.gz", "02/anat/x"], "01, 02 are not named like sub-01"),
        (["patient1/ses-1/anat/x.nii"], "patient1 are not named"),
        (["a.dcm", "b.dcm"], "a.dcm, b.dcm lie in it"),
        (["sub-01/Anat/sub-01_T1w.nii.gz"], "called Anat; rename them to anat"),
        (["sub-01/func/sub-01_task-rest_bold.nii.gz", "sub-02/anat/sub-02_T2w.nii"], "func/*_bold (1), anat/*_T2w (1)"),
        (["sub-01/anat/1.dcm"], ".dcm files; convert"),
        (["sub-01/anat/sub-01_T1w.json"], "hold no image"),
        (["sub-01/anat/sub-01_desc-brain_T1w.nii.gz"], "is not a raw magnitude image"),
        (["sub-01/anat/sub-01_T1.nii.gz"], "anat/*_T1 (1)"),
        (["notes.txt", "scripts/x.py"], "only scripts, "),
    ],
)
def test_what_is_there_is_told(toy, files, told):
    for name in files:
        toy.text(name, "x" * 2000)
    found = why(toy.root)
    assert told in found
    assert "filters" not in found


def test_bytes_in_names_are_told(toy):
    (toy.root / "sub-01\udcff/anat").mkdir(parents=True)
    why(toy.root).encode("utf-8")


def test_normalised_images_only_stop_the_run(toy):
    toy.image("sub-01", None, "space-MNI152")
    with pytest.raises(InvalidDatasetError, match="no native T1w image"):
        read_dataset(DatasetQuery(toy.root))


def test_labels_that_leave_nothing_are_named(toy):
    toy.image("sub-01")
    toy.image("sub-02", "ses-1")
    toy.text("sub-03/anat/sub-03_T2w.nii.gz", "x")
    assert "sub-03 has none in what the labels select; check --participant-label" in why(
        toy.root, participant_label=("03",)
    )
    assert "no participant is left; check --exclude-participant-label" in why(
        toy.root, exclude_participant_label=("01", "02", "03")
    )
    assert "check --participant-label and --session-label" in why(
        toy.root, participant_label=("01",), session_label=("1",)
    )


def test_a_participant_whose_folder_is_closed_can_be_asked_for(toy):
    toy.image("sub-01")
    (toy.root / "sub-02").symlink_to("sub-02")
    assert "sub-02 has none" in why(toy.root, participant_label=("02",))


def test_unit1_is_taken_where_no_t1w_is(toy):
    toy.image("sub-01")
    toy.image("sub-02", "ses-1")
    for name in ("sub-01/anat/sub-01", "sub-02/ses-2/anat/sub-02_ses-2", "sub-03/anat/sub-03"):
        toy.text(f"{name}_UNIT1.nii.gz", "x" * 2000)
    plain = read_dataset(DatasetQuery(toy.root))
    assert [scan.prefix for scan in plain.scans] == ["sub-01", "sub-02_ses-1"]
    assert [fault.message for fault in plain.faults if fault.code == "IMAGE_UNIT1"] == [
        "1 participants have no T1w image but UNIT1 (MP2RAGE): sub-03; --t1w-suffix UNIT1 takes it"
    ]
    asked = read_dataset(DatasetQuery(toy.root, t1w_suffix="UNIT1"))
    assert [scan.path.rpartition("/")[2] for scan in asked.scans] == [
        "sub-01_T1w.nii.gz", "sub-02_ses-1_T1w.nii.gz", "sub-03_UNIT1.nii.gz",
    ]  # fmt: skip
    assert "IMAGE_UNIT1" not in {fault.code for fault in asked.faults}
    assert "sub-03" not in asked.participants_without_scan
    with pytest.raises(UsageError, match="use T1w or UNIT1"):
        read_dataset(DatasetQuery(toy.root, t1w_suffix="T2w"))


def test_faults_of_unit1_images_that_nobody_asked_for_are_not_told(toy):
    toy.image("sub-01")
    toy.text("sub-01/anat/sub-01_UNIT1.nii.gz", "")
    toy.text("sub-01/anat/sub-02_UNIT1.nii.gz", "x")
    assert not [f for f in read_dataset(DatasetQuery(toy.root)).faults if f.code.startswith("IMAGE")]


def test_a_bids_dir_that_may_not_be_read(toy, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("brainage_bids.bids.find.os.scandir", refuse)
    with pytest.raises(NoInputError, match="cannot be read"):
        read_dataset(DatasetQuery(toy.root))
