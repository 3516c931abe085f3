"""The Python API gives what the command line gives."""

import json
from pathlib import Path

import pandas as pd

import brainage_bids
from brainage_bids.bids.read import DatasetQuery, scans_table
from brainage_bids.bids.read import read_dataset as read

PREDICTED = ["predicted_age", "bag", "bag_corrected", "pred_lo", "pred_hi"]


def test_dataset_volumes_model_and_ages_are_those_of_the_command_line(own_study):
    bids, out = own_study.bids, own_study.out
    dataset = read(DatasetQuery(bids_dir=bids))
    scans = brainage_bids.read_dataset(bids)
    pd.testing.assert_frame_equal(scans, scans_table(dataset.scans, dataset.score_names))
    assert scans.attrs["controls"] == ["CN"]

    made = brainage_bids.preprocess(bids, out, recipe="rnc-demo")
    assert made["participant_id"].tolist() == scans["participant_id"].tolist()
    broken = made["participant_id"] == "sub-003"
    assert made["status"].tolist() == ["failed" if one else "skipped" for one in broken]
    assert made.loc[broken, ["volume", "mask", "qc_pass"]].isna().all(axis=None)
    assert made.loc[broken, "reason"].item()
    volumes = sorted(map(str, out.glob("sub-*/anat/*res-4_desc-preproc_T1w.nii.gz")))
    assert sorted(made.loc[~broken, "volume"]) == volumes

    # the same people, volumes and settings: to the training it is the same model, and it is not trained again
    theirs = out / "models" / "rnc-demo"
    before = (theirs / "model.json").read_bytes()
    settings = {"folds": 2, "epochs": 2, "batch_size": 2, "device": "cpu"}
    assert brainage_bids.train_model(made, "rnc-demo", theirs, **settings) == theirs
    assert (theirs / "model.json").read_bytes() == before
    assert json.loads(before)["phantom"]

    model = brainage_bids.load_model(theirs, device="cpu")
    found = brainage_bids.predict(model, made).set_index("prefix")
    assert found.loc["sub-003", "status"] == "failed"
    for path in sorted(out.glob("sub-*/anat/*_pred.tsv")):
        row = pd.read_csv(path, sep="\t").set_index("model").loc["rnc-demo"]
        mine = found.loc[path.name.removesuffix("_desc-brainage_pred.tsv")]
        pd.testing.assert_series_equal(mine[PREDICTED], row[PREDICTED], check_names=False, check_dtype=False)
        assert mine["flags"] == row["flags"]
    assert len(found) == 14


def test_a_voxel_size_is_that_of_the_volumes(own_study):
    one = {"participants": "sub-001"}
    made = brainage_bids.preprocess(own_study.bids, own_study.out.parent / "other", resolution=8, **one)
    sidecar = json.loads(Path(made["volume"][0].replace(".nii.gz", ".json")).read_text())
    assert (made["status"][0], sidecar["VolumeSpec"]["resolution"]) == ("done", 8.0)
    for_model = brainage_bids.preprocess(own_study.bids, own_study.out, model="open-adults", **one)
    assert for_model["status"].tolist() == ["skipped"]
