import json
import os

import pytest

from brainage_bids.bids.derivative import prepare_output, source_of
from brainage_bids.bids.files import read_json, write_json
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.bids.reuse import parse_derivatives
from brainage_bids.bids.text import NotFetched
from brainage_bids.errors import InvalidDatasetError, NoInputError, UsageError

DESCRIBED = json.dumps({"Name": "prep", "BIDSVersion": "1.9.0", "DatasetType": "derivative"})


@pytest.fixture
def prep(tmp_path):
    """Write files below a derivative dataset: names with their folders, content without meaning."""
    root = tmp_path / "prep"
    root.mkdir()
    (root / "dataset_description.json").write_text(DESCRIBED)

    def make(*stems, mask=True):
        for stem in stems:
            parts = stem.split("_")
            folder = root.joinpath(*(part for part in parts[:2] if part.startswith(("sub-", "ses-"))), "anat")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{stem}_desc-preproc_T1w.nii.gz").write_bytes(b"image")
            if mask:
                (folder / f"{stem}_desc-brain_mask.nii.gz").write_bytes(b"mask")
        return f"fmriprep={root}"

    return make


def read(toy, *derivatives, **query):
    return read_dataset(DatasetQuery(toy.root, derivatives=derivatives, **query))


def chosen(dataset):
    """Prefix of each scan to the name of its prepared image, or the reason why there is none."""
    return {scan.prefix: scan.prepared.fault or scan.prepared.image.rsplit("/", 1)[1] for scan in dataset.scans}


def test_without_the_option_nothing_is_prepared(toy):
    toy.image("sub-01")
    assert read(toy).scans[0].prepared is None


def test_one_scan_a_participant(toy, prep):
    toy.image("sub-01")
    toy.image("sub-02", "ses-1")
    dataset = read(toy, prep("sub-01", "sub-02_ses-1", "sub-01_space-MNI152NLin2009cAsym"))
    assert chosen(dataset) == {
        "sub-01": "sub-01_desc-preproc_T1w.nii.gz",
        "sub-02_ses-1": "sub-02_ses-1_desc-preproc_T1w.nii.gz",
    }
    scan = dataset.scans[0]
    assert scan.inputs == (scan.prepared.image, scan.prepared.mask)
    assert scan.prepared.mask.endswith("sub-01_desc-brain_mask.nii.gz")
    assert scan.prepared.name == "fmriprep"


def test_acquisitions_are_told_apart_and_run_numbers_are_numbers(toy, prep):
    toy.image("sub-01", middle="acq-a_run-01")
    toy.image("sub-01", middle="acq-b_run-01")
    dataset = read(toy, prep("sub-01_acq-a_run-1", "sub-01_acq-b_run-1"))
    assert chosen(dataset) == {
        "sub-01_acq-a_run-01": "sub-01_acq-a_run-1_desc-preproc_T1w.nii.gz",
        "sub-01_acq-b_run-01": "sub-01_acq-b_run-1_desc-preproc_T1w.nii.gz",
    }
    other = read(toy, prep("sub-01_acq-c"), participant_label=("01",))  # an entity that no scan has fits none
    assert all("acq-c" not in text for text in chosen(other).values())


def test_merged_runs_are_one_scan_and_told(toy, prep):
    toy.image("sub-01", "ses-1", "run-1")
    toy.image("sub-01", "ses-1", "run-2")
    dataset = read(toy, prep("sub-01_ses-1"))
    assert chosen(dataset) == {"sub-01_ses-1_run-1": "sub-01_ses-1_desc-preproc_T1w.nii.gz"}
    fault = next(fault for fault in dataset.faults if fault.code == "PREPARED_MERGED")
    assert "sub-01_ses-1_run-2 (in sub-01_ses-1_run-1)" in fault.message


def test_an_image_without_session_stands_for_a_single_session_only(toy, prep):
    toy.image("sub-01", "ses-1")
    toy.image("sub-02", "ses-1")
    toy.image("sub-02", "ses-2")
    dataset = read(toy, prep("sub-01", "sub-02"))
    told = chosen(dataset)
    assert told["sub-01_ses-1"] == "sub-01_desc-preproc_T1w.nii.gz"
    assert "merged the 2 sessions of sub-02" in told["sub-02_ses-1"]
    one = read(toy, prep(), session_label=("1",))  # a filter does not make two sessions one
    assert "merged the 2 sessions" in chosen(one)["sub-02_ses-1"]


def test_what_is_missing_fails_alone_and_never_falls_back_to_the_raw_scan(toy, prep):
    for label in ("01", "02", "03"):
        toy.image(f"sub-{label}")
    option = prep("sub-01", "sub-02_space-MNI152NLin2009cAsym")
    prep("sub-03", mask=False)
    told = chosen(read(toy, option))
    assert told["sub-01"].endswith("nii.gz")
    assert "only images in space-MNI152NLin2009cAsym" in told["sub-02"]
    assert "brain size and atrophy" in told["sub-02"]
    assert "no desc-brain_mask" in told["sub-03"]


def test_a_folder_without_any_native_image_is_refused_at_once(toy, prep):
    toy.image("sub-01")
    toy.image("sub-02")
    option = prep("sub-01_space-MNI152NLin6Asym")
    with pytest.raises(UsageError, match="only images in space-MNI152NLin6Asym"):
        read(toy, option)
    one = read(toy, option, participant_label=("02",))  # one job a participant: that participant fails
    assert chosen(one) == {"sub-02": "fmriprep has no native desc-preproc_T1w for sub-02"}


def test_several_derivatives_are_asked_in_order(toy, prep, tmp_path):
    toy.image("sub-01")
    toy.image("sub-02")
    second = tmp_path / "second"
    (second / "sub-02" / "anat").mkdir(parents=True)
    (second / "dataset_description.json").write_text(DESCRIBED)
    for end in ("preproc_T1w", "brain_mask"):
        (second / "sub-02" / "anat" / f"sub-02_desc-{end}.nii").write_bytes(b"x")
    dataset = read(toy, prep("sub-01"), f"smriprep={second}")
    assert [scan.prepared.name for scan in dataset.scans] == ["fmriprep", "smriprep"]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("/data/fmriprep", UsageError, "NAME=PATH"),
        ("f-prep=/data", UsageError, "letters and digits"),
        ("raw={root}", UsageError, "taken"),
        ("a={root}/nowhere", NoInputError, "not a folder"),
        ("a={root}/empty", UsageError, "DatasetType"),
    ],
)
def test_wrong_options(tmp_path, prep, text, error, match):
    (tmp_path / "prep" / "empty").mkdir()
    with pytest.raises(error, match=match):
        parse_derivatives([text.format(root=tmp_path / "prep")])


def test_a_name_is_used_once(prep):
    with pytest.raises(UsageError, match="taken"):
        parse_derivatives([prep(), prep()])


def test_normalised_images_in_bids_dir_are_refused(toy):
    toy.image("sub-01", middle="space-MNI152NLin2009cAsym_desc-preproc")
    with pytest.raises(InvalidDatasetError, match="brain size and atrophy"):
        read(toy)
    toy.image("sub-02")
    dataset = read(toy)
    assert [scan.prefix for scan in dataset.scans] == ["sub-02"]
    assert "IMAGE_NORMALISED" in [fault.code for fault in dataset.faults]


def test_the_description_names_the_derivative_also_after_a_run_without_it(toy, prep, tmp_path):
    toy.image("sub-01")
    outputs = Outputs(tmp_path / "out")
    prepare_output(outputs, read(toy, prep("sub-01")), "1")
    prepare_output(outputs, read(toy), "1")
    told = read_json(outputs.root / "dataset_description.json")
    raw = os.path.relpath(toy.root, outputs.root)
    assert told["DatasetLinks"] == {"raw": raw, "fmriprep": "../prep"}
    assert [source["URL"] for source in told["SourceDatasets"]] == [raw, "../prep"]
    assert source_of(outputs.root)[1] == toy.root.resolve()
    # what an earlier version wrote is understood, and written anew
    told["DatasetLinks"] = {"raw": toy.root.as_uri(), "fmriprep": (tmp_path / "prep").as_uri(), "other": "doi:10.1/x"}
    write_json(outputs.root / "dataset_description.json", told)
    assert source_of(outputs.root)[1] == toy.root.resolve()
    prepare_output(outputs, read(toy), "1")
    links = {"raw": raw, "fmriprep": "../prep", "other": "doi:10.1/x"}
    assert read_json(outputs.root / "dataset_description.json")["DatasetLinks"] == links


def test_a_derivative_whose_description_is_not_fetched_is_told_so(prep, tmp_path):
    derivative = prep("sub-1")
    (tmp_path / "prep" / "dataset_description.json").unlink()
    (tmp_path / "prep" / "dataset_description.json").symlink_to(".git/annex/objects/xx")
    with pytest.raises(NotFetched, match=r"--derivatives fmriprep: .* is not fetched") as told:
        parse_derivatives([derivative])
    assert told.value.exit_code == NoInputError.exit_code
