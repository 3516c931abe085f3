import json

import pytest

from brainage_bids.bids.find import ENTITIES, find_images, matches_filter, read_filter, read_labels
from brainage_bids.errors import NoInputError, UsageError


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
    found = find_images(toy.root)
    assert len(found.images) == 1
    assert codes(found) == ["IMAGE_DUPLICATE"]


def test_no_folder(tmp_path):
    with pytest.raises(NoInputError, match="not a folder"):
        find_images(tmp_path / "absent")


def test_labels_with_and_without_prefix_and_from_a_file(tmp_path):
    file = tmp_path / "people.txt"
    file.write_text("participant_id\nsub-03\n# sub-01\n02\n")
    known = ["sub-01", "sub-02", "sub-03"]
    assert read_labels(["01", "sub-02"], "sub", known, "--x") == ("sub-01", "sub-02")
    assert read_labels(["01,02 03"], "sub", known, "--x") == ("sub-01", "sub-02", "sub-03")
    assert read_labels([str(file)], "sub", known, "--x") == ("sub-03", "sub-02")


def test_unknown_label_names_the_nearest():
    with pytest.raises(UsageError, match=r"--participant-label.*sub-7 \(nearest: sub-007"):
        read_labels(["7"], "sub", ["sub-007", "sub-100"], "--participant-label")
    with pytest.raises(UsageError, match="dataset has none"):
        read_labels(["1"], "ses", [], "--session-label")
    with pytest.raises(NoInputError, match=r"people\.txt"):
        read_labels(["people.txt"], "sub", ["sub-1"], "--participant-label")


@pytest.mark.parametrize(
    ("query", "runs"),
    [
        ({}, ["acq-a_run-1", "acq-b_run-02", ""]),
        ({"acquisition": "a"}, ["acq-a_run-1"]),
        ({"acquisition": ["a", "b"]}, ["acq-a_run-1", "acq-b_run-02"]),
        ({"acquisition": None}, [""]),
        ({"acquisition": "Query.ANY"}, ["acq-a_run-1", "acq-b_run-02"]),
        ({"acquisition": "*", "run": 2}, ["acq-b_run-02"]),
        ({"acquisition": ["a", None]}, ["acq-a_run-1", ""]),
        ({"session": "01"}, ["acq-a_run-1", "acq-b_run-02", ""]),
        ({"session": "1"}, []),
        ({"suffix": "T1w", "datatype": "anat", "extension": ".nii.gz", "reconstruction": None}, 3),
        ({"suffix": "T2w"}, []),
        ({"acquisition": "^[ab]$", "regex_search": True}, 2),
    ],
)
def test_filter_file(toy, tmp_path, query, runs):
    for middle in ("acq-a_run-1", "acq-b_run-02", ""):
        toy.image("sub-1", "ses-01", middle)
    file = tmp_path / "filter.json"
    file.write_text(json.dumps({"t1w": query, "bold": {"run": 7}}))
    rule = read_filter(file)
    kept = ["_".join(map("-".join, i.entities)) for i in find_images(toy.root).images if matches_filter(i, rule)]
    assert len(kept) == runs if isinstance(runs, int) else sorted(kept) == sorted(runs)


def test_wrong_filter_files(tmp_path):
    file = tmp_path / "filter.json"
    with pytest.raises(NoInputError, match="not there"):
        read_filter(file)
    for text, told in [
        ("{", "not JSON"),
        ("[]", "must look like"),
        ('{"t1w": {"colour": 1}}', "unknown entity 'colour'"),
    ]:
        file.write_text(text)
        with pytest.raises(UsageError, match=told):
            read_filter(file)


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
