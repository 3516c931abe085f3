"""What may enter the group level: predictions of today's volumes and trainings, and others' of the right scan."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from handmade import SPEC, card, joined_results, make, predict, scans_of, tables, volume

from brainage_bids.app.group import with_test_people
from brainage_bids.app.scan_predictions import forget_other_grids, forget_stale
from brainage_bids.bids.files import read_json, read_tsv, write_json, write_tsv
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.bids.volumes import VolumeIdentity
from brainage_bids.errors import UsageError
from brainage_bids.model.artifact import SAME_MODEL, hash_participant, trained_as
from brainage_bids.schema import VolumeSpec


def told(place, scan, **more):
    """Say in the sidecar of a prediction table what the participant level would say."""
    path = sidecar_path(Outputs(place.out).prediction(scan))
    write_json(path, (read_json(path) if path.is_file() else {}) | more)


def identity(place, scan, **changed):
    return VolumeIdentity.of(read_json(sidecar_path(Outputs(place.out).volume(scan, SPEC))) | changed).key


def test_predictions_of_other_volumes_or_trainings_are_not_used(tmp_path, caplog):
    place = make(tmp_path, "A")
    scans = scans_of(place)
    for scan in scans[:4]:
        volume(place, scan)
    told(place, scans[0], Inputs={"m": identity(place, scans[0])}, Trainings={"m": "f"})
    told(place, scans[1], Inputs={"m": identity(place, scans[1], Engine="ants")})
    told(place, scans[2], Inputs={"m": identity(place, scans[2], InputHash="another scan")})
    told(place, scans[3], Inputs={"m": identity(place, scans[3])}, Trainings={"m": "an earlier one"})
    with caplog.at_level(logging.WARNING, logger="brainage_bids"):
        _, collected, _ = joined_results(place)
    assert collected.table.index.tolist() == [scans[0].prefix, scans[4].prefix, scans[5].prefix]
    assert collected.failed.participant_id.tolist() == [scan.participant_id for scan in scans[1:4]]
    assert collected.failed.reason.str.contains("another volume or by an earlier training").all()
    assert "3 predictions were made from other volumes" in caplog.text


def test_a_training_is_known_by_all_that_its_card_says(tmp_path):
    place = make(tmp_path, "A")
    scan, kept = scans_of(place)[0], read_json(Outputs(place.out).foreign_card("m"))
    volume(place, scan)
    told(place, scan, Inputs={"m": identity(place, scan)}, Trainings={"m": trained_as(kept)})
    assert scan.prefix in joined_results(place)[1].table.index
    # trained again on another device: as asked for it is the same
    kept["calibration"][0]["predicted_age"] += 0.5
    write_json(Outputs(place.out).foreign_card("m"), kept)
    assert scan.prefix not in joined_results(place)[1].table.index


@pytest.mark.parametrize("key", SAME_MODEL)
def test_models_of_one_name_that_differ_are_refused(key, tmp_path):
    places = make(tmp_path / "a", "A"), make(tmp_path / "b", "B")
    path = Outputs(places[1].out).foreign_card("m")
    card = read_json(path)
    assert joined_results(places[0], f"{places[1].bids}={places[1].out}")[1].models == ("m",)
    change = {
        "fingerprint": "g", "members": [{}, {}], "calibration": card["calibration"][1:],
        "volume_spec": VolumeSpec.on_grid(2).to_dict(), "architecture": {**card["architecture"], "total_stride": 16},
    }  # fmt: skip
    write_json(path, card | {key: change[key]})
    with pytest.raises(UsageError, match=r"the model m of .* than the one of that name in"):
        joined_results(places[0], f"{places[1].bids}={places[1].out}")


def test_people_of_the_test_are_those_that_every_model_kept(tmp_path):
    outputs, selected = Outputs(tmp_path), pd.DataFrame({"participant_id": ["sub-1", "sub-2", "sub-3"]})

    def split(name, parts, fold=None):
        outputs.model(name).mkdir(parents=True)
        table = pd.DataFrame({"participant_id": selected.participant_id, "trainable": True, "fold": fold})
        write_tsv(outputs.model(name) / "split.tsv", table.assign(split=parts))
        cards[name] = {"members": [{"fold": fold}], "salt": "s"}
        write_json(outputs.model(name) / "model.json", cards[name])

    def parts(*models, table=selected):
        return with_test_people(table, outputs, models, cards).get("split", pd.Series()).tolist()

    cards = {"gone": {"members": [{"fold": None}], "salt": "s"}}
    split("a", ["test", "test", "val"])
    split("b", ["train", "test", "test"])
    split("folds", "test", fold=1)
    assert parts("a", "folds", "gone") == ["test", "test", None]
    assert parts("a", "b") == [None, "test", None]
    assert parts("folds", "gone") == []
    assert parts("a", table=selected.assign(dataset="A")) == []
    # what model.json says counts, without split.tsv and against it
    cards["b"]["members"][0]["test_participants"] = [hash_participant("sub-1", "s"), "0" * 16]
    assert parts("a", "b") == ["test", None, None]
    (outputs.model("b") / "split.tsv").unlink()
    assert parts("b") == ["test", None, None]


def test_only_the_models_asked_for_are_compared(tmp_path):
    place = make(tmp_path, "A")
    write_json(Outputs(place.out).foreign_card("other"), card("other"))
    for scan in scans_of(place):
        predict(place, scan, {"m": scan.age + 1} if scan.participant_id == "sub-01" else
                {"m": scan.age + 1, "other": scan.age + 2})  # fmt: skip
    assert joined_results(place)[1].models == ("m", "other")
    _, collected, _ = joined_results(place, models=("other",))
    assert collected.models == ("other",)
    assert set(collected.cards) == {"other"}
    assert collected.failed.participant_id.tolist() == ["sub-01"]
    assert collected.failed.reason.tolist() == ["predicted by m only, not by a model asked for with --model"]
    assert not [column for column in collected.table if column.endswith("_m")]
    assert joined_results(place, models=(str(tmp_path / "models" / "m"), "other"))[1].models == ("m", "other")
    with pytest.raises(UsageError, match=r"--model mm: no prediction of it that .*; models known there: m, other"):
        joined_results(place, models=("m", "mm"))


@pytest.mark.parametrize("broken", ["_pred.tsv", "_pred.json"])
def test_predictions_that_cannot_be_read_stop_no_other_scan(broken, tmp_path, caplog):
    place = make(tmp_path, "A")
    scan, outputs = scans_of(place)[0], Outputs(place.out)
    volume(place, scan)
    told(place, scan, Inputs={"m": "another volume"})
    path = outputs.prediction(scan).with_name(outputs.prediction(scan).name.replace("_pred.tsv", broken))
    path.write_text("a\tb\nc\n" if broken.endswith("tsv") else "[")
    forget_stale(scan, ScanRecords(outputs))
    assert path.name in caplog.text
    assert path.is_file()
    results = joined_results(place)[1]
    assert scan.prefix not in results.table.index
    assert path.name in results.failed.reason.iloc[0]


def test_the_corrected_gap_is_of_the_age_of_today(tmp_path):
    place = make(tmp_path, "A")
    before, _ = tables(place)
    table = read_tsv(place.bids / "participants.tsv")
    table.loc[0, "age"] = str(float(table.loc[0, "age"]) - 10)
    write_tsv(place.bids / "participants.tsv", table)
    after, _ = tables(place)
    moved = after["bag_m"] - before["bag_m"]
    assert moved.tolist() == [10.0, 0, 0, 0, 0, 0]
    line = np.polyfit(
        [p["age"] for p in card("m")["calibration"]], [p["predicted_age"] for p in card("m")["calibration"]], 1
    )
    assert (after["bag_corrected_m"] - before["bag_corrected_m"]).iloc[0] == pytest.approx(10 * line[0])
    assert np.isfinite(after["bag_corrected_m"]).all()


def test_a_changed_scan_takes_its_volumes_on_other_grids_along(tmp_path):
    place, fine = make(tmp_path, "A"), VolumeSpec.on_grid(2)
    scan, outputs = scans_of(place)[0], Outputs(place.out)
    volume(place, scan)
    old = outputs.volume(scan, fine)
    write_json(sidecar_path(old), read_json(sidecar_path(outputs.volume(scan, SPEC))) | {"VolumeSpec": fine.to_dict()})
    old.write_bytes(b"an image")
    outputs.transform(scan, fine.template).write_text("the transform of the new volume")
    told(place, scan, Inputs={"m": VolumeIdentity.of(read_json(sidecar_path(old))).key})
    forget_other_grids(scan, [SPEC], ScanRecords(outputs), "builtin")
    assert not old.exists()
    assert not sidecar_path(old).exists()
    assert sidecar_path(outputs.volume(scan, SPEC)).exists()
    assert outputs.transform(scan, fine.template).exists()
    forget_stale(scan, ScanRecords(outputs))
    assert not outputs.prediction(scan).exists()


def external(folder, text):
    (folder / "vb.csv").write_text(text)
    return {"predictions": (f"vb={folder / 'vb.csv'}",)}


def repeated(tmp_path):
    """Six people at 61 to 66 years in ses-1 and two years later in ses-2, one dataset."""
    place = make(tmp_path, "A", session="ses-01")
    later = make(tmp_path / "later", "A", session="ses-02")
    for scan in scans_of(later):
        target = place.bids / scan.participant_id / "ses-02" / "anat"
        target.mkdir(parents=True)
        (target / f"{scan.prefix}_T1w.nii.gz").write_bytes(Path(scan.path).read_bytes())
        rows = [("ses-01", 60 + int(scan.participant_id[-1])), ("ses-02", 62 + int(scan.participant_id[-1]))]
        table = pd.DataFrame(rows, columns=["session_id", "age"])
        table.to_csv(place.bids / scan.participant_id / f"{scan.participant_id}_sessions.tsv", sep="\t", index=False)
    for scan in scans_of(place):
        predict(place, scan, {"m": scan.age + 1})
    return place


def test_one_prediction_for_all_sessions_of_a_person_is_not_used(tmp_path, caplog):
    place = repeated(tmp_path)
    rows = "".join(f"sub-0{i},{60 + i}\n" for i in range(1, 7))
    with caplog.at_level(logging.WARNING, logger="brainage_bids"):
        _, collected, _ = joined_results(place, **external(tmp_path, "participant_id,predicted_age\n" + rows))
    assert collected.table["predicted_age_vb"].isna().all()
    assert "6 participants have several sessions and a prediction without one" in caplog.text


def test_sessions_of_predictions_are_matched_in_any_spelling(tmp_path, caplog):
    place = repeated(tmp_path)
    rows = "".join(f"sub-0{i},{s},{60 + i + 3 * s}\n" for i in range(1, 7) for s in (1, 2))
    text = "participant_id,session_id,predicted_age\n" + rows + "sub-01,9,70\nsub-77,1,70\n"
    with caplog.at_level(logging.WARNING, logger="brainage_bids"):
        _, collected, _ = joined_results(place, **external(tmp_path, text))
    found = collected.table.sort_values(["session_id", "participant_id"])["predicted_age_vb"].tolist()
    assert found == [64.0 + i for i in range(6)] + [67.0 + i for i in range(6)]
    assert "2 rows belong to no scan of the study (sub-01 ses-9, sub-77 ses-1)" in caplog.text


def test_ages_that_were_not_taken_at_the_session_give_no_rate(tmp_path):
    place = repeated(tmp_path)
    _, before = tables(place)
    assert int(before["longitudinal"].query("group == 'all' and analysis == 'rate'").n.iloc[0]) == 6
    for number in (1, 2, 3):  # the first session now has the age of participants.tsv only
        path = place.bids / f"sub-0{number}" / f"sub-0{number}_sessions.tsv"
        table = read_tsv(path)
        write_tsv(path, table[table.session_id == "ses-02"])
    _, collected, _ = joined_results(place)
    flagged = collected.table["age_flags"].fillna("").str.contains("age_not_session_specific")
    assert flagged.sum() == 3
    _, after = tables(place)
    assert int(after["longitudinal"].query("group == 'all' and analysis == 'rate'").n.iloc[0]) == 3


def test_a_failed_scan_does_not_stand_for_a_person_with_another(tmp_path):
    place = repeated(tmp_path)
    first = scans_of(place)[0]
    Outputs(place.out).prediction(first).unlink()
    rows = "".join(f"sub-0{i},{60 + i}\n" for i in range(1, 7))
    _, collected, _ = joined_results(place, **external(tmp_path, "participant_id,predicted_age\n" + rows))
    assert first.prefix not in collected.table.index
    assert collected.failed[["participant_id", "session_id"]].values.tolist() == [["sub-01", "ses-01"]]


def test_models_whose_columns_would_be_one_are_refused(tmp_path):
    place = make(tmp_path, "A")
    external(tmp_path, "participant_id,predicted_age\nsub-01,60\n")
    with pytest.raises(UsageError, match="'m' and 'corrected_m' would share the column 'bag_corrected_m'"):
        joined_results(place, predictions=(f"corrected_m={tmp_path / 'vb.csv'}",))


def test_labels_that_differ_in_signs_have_maps_of_their_own():
    from brainage_bids.app.group_maps import _map_path

    outputs, taken = Outputs(Path("/out")), {}
    subsets = ["group=MCI+", "group=MCI-", "group=ad", "group=Ad", "group=健康", "group=患者", "group=all", "group=All"]
    paths = [_map_path(outputs, taken, SPEC, "m", subset, kind) for subset in subsets for kind in ("mean", "signed")]
    assert len({str(path).lower() for path in paths}) == len(paths)
    assert paths == [
        _map_path(outputs, taken, SPEC, "m", subset, kind) for subset in subsets for kind in ("mean", "signed")
    ]
    assert json.dumps(str(paths[0])) == json.dumps(str(outputs.group_map(SPEC, "m", "group=MCI+", "mean")))
