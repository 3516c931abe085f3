import hashlib

import nibabel as nib
import numpy as np
import pytest
from commandline import run_here
from scipy import ndimage
from validator import bids_errors, needs_validator

from brainage_bids.bids.files import numbers, read_json, read_tsv
from brainage_bids.errors import CannotCreateError, UsageError
from brainage_bids.phantom.cohort import make_cohort


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("phantom") / "bids", n=25, seed=11, voxel_mm=5.0, progress=False)


def test_tree_is_whole_and_labelled(cohort):
    assert "PHANTOM" in read_json(cohort / "dataset_description.json")["Name"]
    assert read_json(cohort / "dataset_description.json")["License"] == "CC0"
    assert (cohort / ".bidsignore").read_text().split() == ["planted.json"]
    assert "no person was scanned" in (cohort / "README.md").read_text()
    table = read_tsv(cohort / "participants.tsv")
    assert list(table.columns) == "participant_id age sex group site adas11 updrs3".split()
    assert set(read_json(cohort / "participants.json")) == set(table.columns)
    for name in table["participant_id"]:
        assert {p.name for p in (cohort / name / "anat").iterdir()} == {f"{name}_T1w.nii.gz", f"{name}_T1w.json"}
    assert not list(cohort.rglob(".tmp-*"))


@needs_validator
def test_validator_finds_no_error(cohort):
    assert bids_errors(cohort) == []


def test_planted_truth_is_complete_and_agrees_with_the_table(cohort):
    truth, table = read_json(cohort / "planted.json"), read_tsv(cohort / "participants.tsv")
    assert (truth["phantom"], truth["seed"], truth["n"]) == (True, 11, 25)
    assert truth["population"]["AD"]["gap_mean"] == 10.0
    assert truth["realised"]["CN"]["n"] == 15
    people = truth["participants"]
    assert [p["participant_id"] for p in people] == table["participant_id"].tolist()
    np.testing.assert_allclose([p["age"] for p in people], numbers(table["age"]))
    for person, group, adas in zip(people, table["group"], table["adas11"], strict=True):
        assert person["brain_age"] == pytest.approx(person["age"] + person["gap"])
        assert person["group"] == group
        assert (adas == "n/a") == (person.get("adas11") is None)
        assert np.shape(person["native_to_template"]) == (4, 4)
        assert person["ventricle_ml"] > 0
    by_group = [p["gap"] for p in people if p["group"] == "AD"]
    assert truth["realised"]["AD"]["gap_mean"] == pytest.approx(np.mean(by_group))


def test_people_that_differ_less_in_shape_are_the_same_people(tmp_path, cohort):
    alike = make_cohort(tmp_path / "alike", n=6, seed=11, voxel_mm=5.0, progress=False, warp_mm=0.6)
    usual, less_unlike = (read_json(folder / "planted.json")["participants"] for folder in (cohort, alike))
    for more, less in zip(usual[:6], less_unlike, strict=True):
        assert less["warp_rms_mm"] == pytest.approx(more["warp_rms_mm"] / 3)
        for name in ("age", "gap", "native_to_template", "ventricle_mm", "cortex_mm", "hippocampus_mm", "noise"):
            assert less[name] == more[name]
    assert read_json(alike / "planted.json")["warp_mm"] == 0.6
    with pytest.raises(CannotCreateError, match="holds something else"):
        make_cohort(alike, n=6, seed=11, voxel_mm=5.0, progress=False)
    with pytest.raises(UsageError, match="warp_mm is -1; use 0 to 3 mm"):
        make_cohort(tmp_path / "x", n=6, warp_mm=-1)


def test_bytes_depend_on_neither_workers_nor_cohort_size(tmp_path, cohort):
    small, options = tmp_path / "small", ("--n", "6", "--random-seed", "11", "--voxel-mm", "5")
    done = run_here("phantom", small, *options, program="brainage-tools")
    assert done.returncode == 0, done.stderr
    assert "phantom cohort of 6 people" in done.stderr
    large = digests(cohort)
    images = {name: value for name, value in digests(small).items() if name.startswith("sub-")}
    assert len(images) == 12
    assert images.items() <= large.items()
    assert len({value for name, value in large.items() if name.endswith(".nii.gz")}) == 25  # nobody twice
    before, again = digests(small), {"n": 6, "seed": 11, "voxel_mm": 5.0, "progress": False}
    at = (small / "sub-002" / "anat" / "sub-002_T1w.nii.gz").stat().st_mtime_ns
    make_cohort(small, **again, workers=2)  # repeating is allowed and changes nothing
    assert (small / "sub-002" / "anat" / "sub-002_T1w.nii.gz").stat().st_mtime_ns == at
    (small / "sub-002" / "anat" / "sub-002_T1w.nii.gz").unlink()
    make_cohort(small, **again, workers=1)  # an image that is not there is made
    assert digests(small) == before
    with pytest.raises(CannotCreateError, match="holds something else"):
        make_cohort(small, n=6, seed=12, voxel_mm=5.0, progress=False)


def template_voxels(cohort, person, step=3.0):
    """Scan carried to the template by the true affine, relative to its own median."""
    name = person["participant_id"]
    image = nib.load(cohort / name / "anat" / f"{name}_T1w.nii.gz")
    grid = np.diag([step, step, step, 1.0])
    grid[:3, 3] = (-36, -66, -12)
    move = np.linalg.inv(image.affine) @ np.linalg.inv(person["native_to_template"]) @ grid
    data = ndimage.affine_transform(image.get_fdata(), move[:3, :3], move[:3, 3], output_shape=(25, 37, 17), order=1)
    return data / np.median(data)


def test_planted_age_can_be_read_from_the_images(cohort):
    people = read_json(cohort / "planted.json")["participants"]
    ages = np.array([p["brain_age"] for p in people])
    dark = np.array([(template_voxels(cohort, p) < 0.5).sum() for p in people], dtype=float)
    assert np.corrcoef(dark, ages)[0, 1] > 0.8
    errors = []
    for out in range(len(people)):  # leave one out, a straight line
        kept = np.arange(len(people)) != out
        errors.append(abs(np.polyval(np.polyfit(dark[kept], ages[kept], 1), dark[out]) - ages[out]))
    assert np.mean(errors) < 0.5 * np.abs(ages - np.median(ages)).mean()


def test_raw_intensity_does_not_tell_age(cohort):
    people = read_json(cohort / "planted.json")["participants"]
    means = []
    for person in people:
        name = person["participant_id"]
        means.append(nib.load(cohort / name / "anat" / f"{name}_T1w.nii.gz").get_fdata().mean())
    assert abs(np.corrcoef(means, [p["brain_age"] for p in people])[0, 1]) < 0.5


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CannotCreateError, match="not empty"):
        make_cohort(tmp_path, n=6, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("wrong", "message"), [({"n": 5}, "too small"), ({"voxel_mm": 20}, "20 mm"), ({"workers": 0}, "workers is 0")]
)
def test_wrong_arguments_write_nothing(tmp_path, wrong, message):
    with pytest.raises(UsageError, match=message):
        make_cohort(tmp_path / "out", progress=False, **wrong)
    assert not (tmp_path / "out").exists()
