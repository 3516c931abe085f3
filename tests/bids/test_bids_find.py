import os

import pytest

from brainage_bids.bids.find import ENTITIES, find_images, without_repeats
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.errors import NoInputError


def codes(found):
    return [fault.code for fault in found.faults]


def test_finds_raw_images_in_order(toy):
    toy.image("sub-10")
    toy.image("sub-2", "ses-10")
    toy.image("sub-2", "ses-2", "run-2")
    toy.image("sub-2", "ses-2", "run-10_acq-mprage")
    toy.text("derivatives/x/sub-3/anat/sub-3_T1w.nii.gz", "x")
    toy.text("sub-2/ses-2/func/sub-2_ses-2_task-rest_bold.nii.gz", "x")
    found = find_images(toy.root)
    assert [(i.participant_id, i.session_id, i.entities) for i in found.images] == [
        ("sub-2", "ses-2", (("acq", "mprage"), ("run", "10"))),
        ("sub-2", "ses-2", (("run", "2"),)),
        ("sub-2", "ses-10", ()),
        ("sub-10", None, ()),
    ]
    assert found.sessions == {"sub-2": ("ses-2", "ses-10"), "sub-10": (None,)}
    assert not found.faults


def test_empty_images_and_broken_links_are_kept_and_told(toy):
    toy.image("sub-1", content=b"")
    (toy.root / "sub-2/anat").mkdir(parents=True)
    (toy.root / "sub-2/anat/sub-2_T1w.nii.gz").symlink_to("nowhere")
    toy.image("sub-3", content=b"/annex/objects/MD5E-s10--aa")
    found = find_images(toy.root)
    assert len(found.images) == 3
    assert codes(found) == ["IMAGE_EMPTY", "IMAGE_NOT_FETCHED", "IMAGE_NOT_FETCHED"]


def test_image_of_another_person_is_an_error(toy):
    toy.text("sub-1/anat/sub-2_T1w.nii.gz", "x")
    found = find_images(toy.root)
    assert not found.images
    assert (found.faults[0].code, found.faults[0].severity) == ("IMAGE_MISPLACED", "error")


def test_processed_and_misnamed_images_are_left_out(toy):
    toy.image("sub-1", None, "space-MNI152")
    toy.image("sub-1", None, "part-phase")
    toy.image("sub-1", None, "foo-bar")
    toy.image("sub-1", None, "part-mag")
    found = find_images(toy.root)
    assert [i.entities for i in found.images] == [(("part", "mag"),)]
    assert sorted(codes(found)) == ["IMAGE_NAME", "IMAGE_NORMALISED", "IMAGE_NOT_RAW"]


def test_the_same_scan_twice(toy):
    toy.image("sub-1")
    toy.text("sub-1/anat/sub-1_T1w.nii", "x")
    kept, faults = without_repeats(find_images(toy.root).images)
    assert [os.path.basename(image.path) for image in kept] == ["sub-1_T1w.nii"]
    assert [(fault.code, fault.file) for fault in faults] == [("IMAGE_DUPLICATE", "sub-1/anat/sub-1_T1w.nii.gz")]


@pytest.mark.parametrize(
    "name",
    ["t1w.nii.gz", "T1W.nii.gz", "T1w.NII.GZ", "T1w.nii.gz.gz", "T1w.mgz", "T1w.img", "T1w (1).nii.gz",
     "T1w_defaced.nii.gz", "T1w.nrrd", "T1w.nii.bz2"],
)  # fmt: skip
def test_names_nearly_right_are_named(toy, name):
    toy.image("sub-1")
    toy.text(f"sub-2/anat/sub-2_{name}", "x")
    found = find_images(toy.root)
    assert len(found.images) == 1
    assert [(fault.code, fault.file) for fault in found.faults] == [("IMAGE_NAME", f"sub-2/anat/sub-2_{name}")]


@pytest.mark.parametrize(
    "name",
    ["mod-T1w_defacemask.nii.gz", "acq-T1w_T2w.nii.gz", "T1map.nii.gz", "T1w.json", "from-T1w_to-x_xfm.h5",
     "inplaneT1.nii.gz", "desc-T1w_mask.nii.gz"],
)  # fmt: skip
def test_other_images_are_not_taken_for_misnamed_ones(toy, name):
    toy.image("sub-1")
    toy.text(f"sub-1/anat/sub-1_{name}", "x")
    toy.text("sub-1/anat/._sub-1_T1w.nii.gz", "left by a Mac")
    assert not find_images(toy.root).faults


def test_folders_that_are_none_concern_their_participant(toy):
    toy.image("sub-01")
    toy.image("sub-02", "ses-1")
    (toy.root / "sub-03").symlink_to("sub-03")
    (toy.root / "sub-04").symlink_to("nowhere")
    toy.text("sub-05", "a file")
    (toy.root / "sub-06").mkdir()
    (toy.root / "sub-06/anat").symlink_to("anat")
    (toy.root / "sub-07").mkdir()
    (toy.root / "sub-07/anat").symlink_to("../..")  # to the dataset itself
    (toy.root / "sub-02/ses-2").symlink_to("ses-2")
    toy.text("sub-02/ses-3/anat", "a file")
    found = find_images(toy.root)
    assert [image.participant_id for image in found.images] == ["sub-01", "sub-02"]
    assert {fault.code for fault in found.faults} == {"FOLDER_UNREADABLE"}
    files = ["sub-02/ses-2", "sub-02/ses-3/anat", "sub-03", "sub-04", "sub-05", "sub-06/anat"]
    assert sorted(fault.file for fault in found.faults) == files
    assert {fault.severity for fault in found.faults} == {"warning"}
    assert found.closed == ("sub-03", "sub-04")


def test_a_folder_that_may_not_be_read_concerns_its_participant(toy, monkeypatch):
    for person in ("sub-01", "sub-02", "sub-03"):
        toy.image(person)
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith(("sub-02", "sub-03/anat")):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(toy.root)
    assert [image.participant_id for image in found.images] == ["sub-01"]
    assert [fault.file for fault in found.faults] == ["sub-02", "sub-03/anat"]
    assert found.closed == ("sub-02",)
    assert "sub-02" not in found.sessions


def test_a_folder_of_tables_that_may_not_be_read_is_named(toy, monkeypatch):
    toy.image("sub-01")
    toy.table("participants.tsv", "participant_id|age", "sub-01|30")
    toy.table("phenotype/moca.tsv", "participant_id|moca", "sub-01|25")
    listdir = os.listdir

    def refuse(path="."):
        if os.path.basename(path) == "phenotype":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    dataset = read_dataset(DatasetQuery(toy.root))
    assert [(f.code, f.file) for f in dataset.faults if "Permission" in f.message] == [
        ("FOLDER_UNREADABLE", "phenotype")
    ]
    assert [scan.age for scan in dataset.scans] == [30]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_without_permission_stop_neither_the_scan_nor_pybids(toy, tmp_path):
    for person in ("sub-01", "sub-02", "sub-03", "sub-05"):
        toy.image(person)
    toy.image("sub-04", "ses-1")
    toy.table("participants.tsv", "participant_id|age", *(f"sub-0{k}|30" for k in range(1, 6)))
    shut = {"sub-02": 0, "sub-03/anat": 0, "sub-04/ses-1": 0, "sub-05/anat": 0o444}
    for folder, mode in shut.items():
        (toy.root / folder).chmod(mode)
    (tmp_path / "f.json").write_text('{"t1w": {"run": null}}')
    try:
        for more in ({}, {"filter_file": tmp_path / "f.json"}):
            dataset = read_dataset(DatasetQuery(toy.root, **more))
            assert [scan.prefix for scan in dataset.scans] == ["sub-01"]
            codes = [fault.code for fault in dataset.faults]
            assert codes.count("FOLDER_UNREADABLE") == 4
            assert "PARTICIPANT_WITHOUT_FOLDER" not in codes
    finally:
        for folder in shut:
            (toy.root / folder).chmod(0o755)


def test_folders_nearly_named_right_are_named(toy):
    toy.image("sub-01")
    toy.text("sub-02_old/anat/sub-02_T1w.nii.gz", "x")
    toy.text("Sub-03/anat/Sub-03_T1w.nii.gz", "x")
    toy.text("sub_04/anat/sub_04_T1w.nii.gz", "x")
    toy.text("sub-01/ses_2/anat/x_T1w.nii.gz", "x")
    toy.text("sub-01/ses-b c/anat/x_T1w.nii.gz", "x")
    toy.text("sub-01.html", "x")
    toy.text("subjects/readme", "x")
    found = find_images(toy.root)
    assert [image.participant_id for image in found.images] == ["sub-01"]
    named = {fault.file for fault in found.faults if fault.code == "FOLDER_NAME"}
    assert {"sub-02_old", "Sub-03", "sub_04", "sub-01/ses-b c"} <= named


def test_images_outside_of_anat_are_named(toy):
    toy.image("sub-01")
    toy.text("sub-02/sub-02_T1w.nii.gz", "x")
    toy.text("sub-03/ses-1/sub-03_ses-1_T1w.nii", "x")
    found = find_images(toy.root)
    assert [(fault.code, fault.file) for fault in found.faults] == [
        ("IMAGE_OUTSIDE_ANAT", "sub-02/sub-02_T1w.nii.gz"),
        ("IMAGE_OUTSIDE_ANAT", "sub-03/ses-1/sub-03_ses-1_T1w.nii"),
    ]


def test_what_is_no_file_is_no_image(toy):
    toy.image("sub-01")
    (toy.root / "sub-02/anat/sub-02_T1w.nii.gz").mkdir(parents=True)
    os.mkfifo(toy.root / "sub-02/anat/sub-02_run-1_T1w.nii")
    found = find_images(toy.root)
    assert len(found.images) == 1
    assert codes(found) == ["IMAGE_NAME", "IMAGE_NAME"]


def test_unit1_and_its_second_inversion(toy):
    toy.text("sub-01/anat/sub-01_acq-x_UNIT1.nii.gz", "x")
    toy.text("sub-01/anat/sub-01_acq-x_inv-2_part-mag_MP2RAGE.nii.gz", "x")
    toy.text("sub-02/anat/sub-02_UNIT1.nii", "x")
    toy.text("sub-02/anat/sub-02_inv-1_MP2RAGE.nii", "x")
    found = find_images(toy.root)
    assert not found.images
    first, second = found.unit1
    assert first.second_inversion.endswith("sub-01_acq-x_inv-2_part-mag_MP2RAGE.nii.gz")
    assert (first.entities, first.suffix, second.second_inversion) == ((("acq", "x"),), "UNIT1", None)


def test_names_that_are_no_text_can_be_printed(toy):
    toy.image("sub-01")
    odd = os.fsdecode(b"sub-02/anat/sub-02\xff_T1w.nii.gz")
    (toy.root / "sub-02/anat").mkdir(parents=True)
    (toy.root / odd).write_bytes(b"x")
    found = find_images(toy.root)
    assert codes(found) == ["IMAGE_NAME"]
    for fault in found.faults:
        str(fault).encode("utf-8")


def test_no_folder(tmp_path):
    with pytest.raises(NoInputError, match="not a folder"):
        find_images(tmp_path / "absent")


@pytest.mark.parametrize(
    ("session", "entities"),
    [(None, ""), ("ses-02", ""), ("ses-M024", "acq-mprage_ce-gd_rec-norm_run-2"), (None, "acq-a_run-01")],
)
def test_entities_are_those_of_pybids(toy, session, entities):
    from bids.layout import parse_file_entities

    toy.image("sub-007", session, entities or None)
    (image,) = find_images(toy.root).images
    theirs = {name: str(value) for name, value in parse_file_entities(image.path).items()}
    ours = {ENTITIES[key]: value for key, value in image.entities}
    assert theirs.pop("subject") == image.participant_id.removeprefix("sub-")
    assert theirs.pop("session", None) == (image.session_id and image.session_id.removeprefix("ses-"))
    assert (theirs.pop("suffix"), theirs.pop("extension"), theirs.pop("datatype")) == ("T1w", ".nii.gz", "anat")
    assert {name: value.lstrip("0") for name, value in ours.items()} == {n: v.lstrip("0") for n, v in theirs.items()}
