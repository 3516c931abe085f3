"""Which scan stands for a person, from the volumes' quality to the group page and the training set."""

import nibabel as nib
from handmade import IMAGE, SPEC, Place, card, make, predict, tables

from brainage_bids.app.training import trainable_rows
from brainage_bids.bids.files import write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.read import DatasetQuery, read_dataset, scans_table
from brainage_bids.cli import run_inside


def with_more_scans(root, **scans):
    """A study whose people have these scans of one session: ending of the name -> warnings of quality."""
    place = make(root, "study")
    for person in [path.name for path in place.bids.glob("sub-*")]:
        anat = place.bids / person / "anat"
        (anat / f"{person}_T1w.nii.gz").unlink()
        for entities in scans:
            nib.save(IMAGE, anat / f"{person}_{entities}_T1w.nii.gz")
    outputs = Outputs(place.out)
    for scan in read_dataset(DatasetQuery(place.bids)).scans:
        predict(place, scan, {"m": scan.age + 1})
        warned = [f"warning {k}" for k in range(scans[scan.run])]
        values = {"VolumeSpec": SPEC.to_dict(), "qc_pass": True, "QC": {}, "qc_warn": warned, "Engine": "builtin",
                  "EngineVersion": 3, "Sources": ["bids:raw:x"]}  # fmt: skip
        write_json(sidecar_path(outputs.volume(scan, SPEC)), values)
    write_json(outputs.foreign_card("m"), card("m"))
    return Place(place.bids, place.out)


def test_the_run_with_fewer_warnings_is_tested(tmp_path):
    selected, _ = tables(with_more_scans(tmp_path, **{"run-1": 2, "run-2": 1}))
    assert set(selected["run"]) == {"run-2"}


def test_no_quality_makes_a_localizer_stand_for_a_person(tmp_path):
    selected, found = tables(with_more_scans(tmp_path, **{"acq-localizer": 0, "acq-mprage": 3, "acq-mprage_ce-gad": 0}))
    assert set(selected["run"]) == {"acq-mprage"}
    assert found["reliability"].empty


def test_the_choice_is_told_on_the_page_and_in_the_record(tmp_path):
    place = with_more_scans(tmp_path, **{"run-1": 2, "run-2": 1})
    run_inside([str(place.bids), str(place.out), "group", "--atlas", "none"])
    told = "6 sessions have several T1w images"
    assert told in (place.out / "group.html").read_text()
    (record,) = place.out.glob("logs/*/brainage.log")
    assert "sub-01_run-2 before sub-01_run-1" in record.read_text()
    assert "qc_warnings" not in (place.out / "group/brainage.tsv").read_text()
    assert (place.out / "group/leftout.tsv").read_text().count("other_run") == 6


def test_what_shows_a_contrast_agent_or_a_part_does_not_train_beside_a_better_scan(tmp_path):
    place = make(tmp_path, "study")
    anat = place.bids / "sub-01/anat"
    for entities in ("ce-gad", "acq-localizer", "run-2"):
        nib.save(IMAGE, anat / f"sub-01_{entities}_T1w.nii.gz")
    (place.bids / "sub-02/anat/sub-02_T1w.nii.gz").rename(place.bids / "sub-02/anat/sub-02_ce-gad_T1w.nii.gz")
    dataset = read_dataset(DatasetQuery(place.bids))
    table = scans_table(dataset.scans, ())
    chosen, rule = trainable_rows(table, dataset, "age > 0")
    left = set(table.loc[~chosen, "prefix"])
    assert left == {"sub-01_ce-gad", "sub-01_acq-localizer"}
    assert "without 2 scans with contrast agent or of a part of the brain" in rule
