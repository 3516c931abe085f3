from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from validator import bids_errors, needs_validator

from brainage_bids.bids.derivative import check_output, describe_model, prepare_output
from brainage_bids.bids.files import read_json, read_tsv, write_json, write_text, write_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import Dataset
from brainage_bids.errors import UsageError
from brainage_bids.schema import Scan, VolumeSpec

SCANS = (
    Scan("x", "sub-01", age=35.0, sex="M", group="NC"),
    Scan("x", "sub-02", "ses-1", (("acq", "mprage"), ("run", "1")), age=40.5, sex="F", group="NA"),
    Scan("x", "sub-03"),
)


def dataset(root, scans=SCANS, name="toy"):
    return Dataset(Path(root) / "bids", name, tuple(scans))


def test_descriptive_files(tmp_path):
    outputs = Outputs(tmp_path / "out")
    prepare_output(outputs, dataset(tmp_path), "1.2.3")
    told = read_json(outputs.root / "dataset_description.json")
    assert told["DatasetType"] == "derivative"
    assert told["GeneratedBy"] == [{"Name": "brainage-bids", "Version": "1.2.3"}]
    assert told["SourceDatasets"][0]["URL"].endswith("/bids")
    people = read_tsv(outputs.root / "participants.tsv")
    assert people.to_dict("list") == {
        "participant_id": ["sub-01", "sub-02", "sub-03"],
        "age": ["35", "40.5", "n/a"],
        "sex": ["M", "F", "n/a"],
        "group": ["NC", "NA", "n/a"],
    }
    describe_model(outputs, "rnc-demo")
    assert "desc-gradramRncDemo" in read_tsv(outputs.root / "descriptions.tsv")["desc_id"].tolist()
    assert not list(outputs.root.glob(".lock"))


def test_a_second_run_merges(tmp_path):
    outputs = Outputs(tmp_path / "out")
    prepare_output(outputs, dataset(tmp_path, SCANS[1:]), "1")
    prepare_output(outputs, dataset(tmp_path, [SCANS[0]]), "1")
    prepare_output(outputs, dataset(tmp_path, [SCANS[0]]), "1")
    people = read_tsv(outputs.root / "participants.tsv")
    assert people["participant_id"].tolist() == ["sub-01", "sub-02", "sub-03"]
    assert people["age"].tolist() == ["35", "40.5", "n/a"]


def test_parallel_runs_lose_nobody(tmp_path):
    outputs = Outputs(tmp_path / "out")
    scans = [Scan("x", f"sub-{n:02d}", age=20.0 + n) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda scan: prepare_output(outputs, dataset(tmp_path, [scan]), "1"), scans))
    people = read_tsv(outputs.root / "participants.tsv")
    assert people["age"].astype(float).tolist() == [scan.age for scan in scans]


def test_a_run_that_starts_while_another_makes_the_folder(tmp_path):
    """The files of the other run appear just as this one looks what the folder holds."""
    data = dataset(tmp_path)

    class Folder(type(Path())):
        def iterdir(self):
            prepare_output(Outputs(Path(self)), data, "1")
            return super().iterdir()

    (tmp_path / "out").mkdir()
    check_output(Folder(tmp_path / "out"), data)
    assert (tmp_path / "out" / "README.md").is_file()


def test_wrong_output_folders(tmp_path):
    bids = tmp_path / "bids"
    bids.mkdir()
    with pytest.raises(UsageError, match="is BIDS_DIR"):
        check_output(bids, dataset(tmp_path))
    other = tmp_path / "other"
    write_text(other / "sub-01" / "x.txt", "x")
    with pytest.raises(UsageError, match="did not make"):
        check_output(other, dataset(tmp_path))
    for told in ({"Name": "raw"}, {"DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}):
        write_json(other / "dataset_description.json", told)
        with pytest.raises(UsageError, match="did not make"):
            prepare_output(Outputs(other), dataset(tmp_path), "1")
        assert read_json(other / "dataset_description.json") == told
    with pytest.raises(UsageError, match="is a file"):
        check_output(other / "sub-01" / "x.txt", dataset(tmp_path))
    mine = Outputs(tmp_path / "mine")
    prepare_output(mine, dataset(tmp_path), "1")
    with pytest.raises(UsageError, match="mixed up"):
        prepare_output(mine, dataset(tmp_path, name="another"), "1")


@pytest.fixture
def full_tree(tmp_path):
    """OUTPUT_DIR with one file of every name that Outputs spells; the images are blank."""
    outputs, spec = Outputs(tmp_path / "out"), VolumeSpec.on_grid(2.0)
    prepare_output(outputs, dataset(tmp_path), "1")
    describe_model(outputs, "rnc-demo")
    image = nib.Nifti1Image(np.zeros((4, 4, 4), "float32"), np.eye(4))
    image.header.set_xyzt_units(2)
    images = [outputs.group_map(spec, "rnc-demo", "age=[20,40)", "mean")]
    images += [outputs.template_image("Clinic"), outputs.template_mask("Clinic")]
    own = VolumeSpec.on_grid(2.0, "Clinic")
    images += [outputs.volume(SCANS[0], own), outputs.mask(SCANS[0], own)]
    for scan in SCANS[:2]:
        images += [outputs.volume(scan, spec), outputs.mask(scan, spec), outputs.saliency(scan, spec, "rnc-demo")]
        write_text(outputs.transform(scan, spec.template), "#Insight Transform File V1.0\n")
        write_json(outputs.transform(scan, spec.template).with_suffix(".json"), {})
        write_tsv(outputs.prediction(scan), pd.DataFrame({"model": ["rnc-demo"], "predicted_age": [3.0]}))
        write_text(outputs.participant_page(scan.participant_id), "<html></html>")
        write_text(outputs.qc_figure(scan, "mask"), "png")
    for path in images:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.to_filename(path)
        kind = {"Type": "Brain"} if "_mask" in path.name else {}
        told = {"Sources": ["bids:raw:x"], "SkullStripped": True, "Resolution": "2 mm", **kind}
        if "space-Clinic" in path.name:
            told["SpatialReference"] = "bids::tpl-Clinic/tpl-Clinic_desc-brain_T1w.nii.gz"
        write_json(path.with_name(path.name.replace(".nii.gz", ".json")), told)
    for name in ("model.json", "weights.safetensors", "history.tsv", "MODEL_CARD.md", "split.tsv"):
        write_text(outputs.model("rnc-demo") / name, "{}")
    write_tsv(outputs.group_table("brainage"), pd.DataFrame({"participant_id": ["sub-01"]}))
    write_json(outputs.bias_correction, {})
    write_tsv(outputs.study("rnc-lowrez_depth"), pd.DataFrame({"setting": ["network.depth"]}))
    write_tsv(outputs.qc_table, pd.DataFrame({"participant_id": ["sub-01"], "qc_decision": [""]}))
    for path in (
        outputs.group_page,
        outputs.training_page("rnc-demo"),
        outputs.group_figures / "a.png",
        outputs.run_log("r1") / "brainage.log",
    ):
        write_text(path, "x")
    write_text(outputs.root / "logs" / "CITATION.md", "x")
    write_text(outputs.root / "work" / "node" / "result.txt", "x")
    return outputs


@needs_validator
def test_the_tree_is_valid_bids_and_nothing_is_ignored_for_nothing(full_tree):
    assert bids_errors(full_tree.root) == []
    ignore = full_tree.root / ".bidsignore"
    lines = ignore.read_text().split()
    for line in lines:
        ignore.write_text("\n".join(other for other in lines if other != line) + "\n")
        assert bids_errors(full_tree.root), f"{line} needs not be ignored"
