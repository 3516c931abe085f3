"""A prediction is that of the weights that are there; a model counts once it has worked; an age is one or a failure."""

import json
import shutil

import numpy as np
import pytest
from prepared import participant, shared_model

from brainage_bids.app.group import gather
from brainage_bids.app.options import GroupOptions
from brainage_bids.bids.files import read_json, read_tsv, write_json
from brainage_bids.bids.read import DatasetQuery
from brainage_bids.cli import run_inside
from brainage_bids.errors import BadDataError, ParticipantsFailed, UsageError

pytestmark = pytest.mark.usefixtures("quick_pages")


@pytest.fixture
def own(done, tmp_path):
    """The same to write into, and the folder of the model."""
    root = shutil.copytree(done.out.parent, tmp_path / "own")
    for path in (root / "bids").rglob("*_T1w.nii.gz"):  # as recorded, or its volume would be made again
        other = done.bids / path.relative_to(root / "bids")
        assert path.stat().st_mtime_ns == other.stat().st_mtime_ns
    return type(done)(root / "bids", root / "out"), root / "shared"


def rows(place):
    """Return age by scan and model."""
    tables = [read_tsv(path) for path in sorted(place.out.glob("sub-*/anat/*_pred.tsv"))]
    return {(i, row.model): float(row.predicted_age) for i, t in enumerate(tables, 1) for row in t.itertuples()}


def sidecars(place):
    return sorted(place.out.glob("sub-*/anat/*_pred.json"))


def last_run(place):
    newest = max((place.out / "logs").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return read_json(newest)


def collected(place, **more):
    return gather(GroupOptions(DatasetQuery(place.bids), place.out, **more))[2]


def test_a_shared_folder_of_two_files_predicts_and_is_registered_with_its_weights(done):
    assert set(rows(done)) == {(1, "shared"), (2, "shared")}
    card = read_json(done.out / "models" / "shared" / "card.json")
    told = [read_json(path)["Weights"]["shared"] for path in sidecars(done)]
    assert {card.pop("weights_sha256")} == set(told)
    assert card == read_json(done.out.parent / "shared" / "model.json")
    assert "desc-gradramShared" in (done.out / "descriptions.tsv").read_text()


def test_nothing_is_predicted_again_while_the_weights_are_the_same(own):
    place, folder = own
    before = {path: path.read_bytes() for path in [*sidecars(place), *place.out.glob("sub-*/anat/*_saliency.nii.gz")]}
    participant(place, "--model", folder)
    assert "prediction with shared: 0 to do, 2 already there" in last_run(place)["Notes"]
    assert {path: path.read_bytes() for path in before} == before


def test_other_weights_under_the_same_model_json_are_another_model(own):
    place, folder = own
    before = rows(place)
    shared_model(folder, bias=10.0)
    participant(place, "--model", folder)
    assert "prediction with shared: 2 to do, 0 already there" in last_run(place)["Notes"]
    after = rows(place)
    assert all(abs(after[key] - before[key]) > 1 for key in before)
    assert collected(place).table["predicted_age_shared"].tolist() == [after[1, "shared"], after[2, "shared"]]


def test_predictions_of_other_weights_do_not_enter_the_group_level(own):
    place, folder = own
    shared_model(folder, bias=10.0)
    participant(place, "--model", folder, "--participant-label", "01")
    found = collected(place)
    assert found.table.index.tolist() == ["sub-01"]
    assert found.failed.participant_id.tolist() == ["sub-02"]


def test_the_weights_of_a_model_trained_here_are_those_in_its_folder(own):
    place, folder = own
    (place.out / "models" / "shared" / "card.json").unlink()
    for name in ("model.json", "weights.safetensors"):
        shutil.copyfile(folder / name, place.out / "models" / "shared" / name)
    assert len(collected(place).table) == 2
    shared_model(place.out / "models" / "shared", bias=10.0)
    assert len(collected(place).table) == 0
    (place.out / "models" / "shared" / "weights.safetensors").unlink()  # to save room
    assert len(collected(place).table) == 2


def test_predictions_of_a_version_that_noted_no_weights_stay_and_are_noted(own):
    place, folder = own
    for path in sidecars(place):
        values = read_json(path)
        del values["Weights"]
        write_json(path, values)
    assert len(collected(place).table) == 2
    participant(place, "--model", folder)
    assert "prediction with shared: 0 to do, 2 already there" in last_run(place)["Notes"]
    shared_model(folder, bias=10.0)
    participant(place, "--model", folder)
    assert "prediction with shared: 2 to do, 0 already there" in last_run(place)["Notes"]


def test_an_age_that_nobody_has_is_a_failure_of_that_scan_and_registers_nothing(own, tmp_path):
    place, _ = own
    before, told = rows(place), (place.out / "descriptions.tsv").read_text()
    with pytest.raises(ParticipantsFailed, match="2 of 2 scans failed"):
        participant(place, "--model", shared_model(tmp_path / "odd", bias=500.0))
    events = [event for event in last_run(place)["Events"] if event["status"] == "failed"]
    assert [event["step"] for event in events] == ["predict:odd"] * 2
    assert all("years for sub-0" in event["reason"] for event in events)
    assert rows(place) == before
    assert not (place.out / "models" / "odd").exists()
    assert (place.out / "descriptions.tsv").read_text() == told
    assert collected(place).models == ("shared",)


def test_what_such_a_model_said_before_does_not_stay(own):
    place, folder = own
    shared_model(folder, bias=500.0)
    for _ in range(2):  # and it is not "already there" the second time
        with pytest.raises(ParticipantsFailed, match="2 of 2 scans failed"):
            participant(place, "--model", folder)
    assert rows(place) == {}
    assert not list(place.out.glob("sub-*/anat/*_saliency.*"))


@pytest.mark.parametrize("age", ["n/a", "2.7e61", "-400"])
def test_an_absurd_age_of_an_earlier_version_is_neither_already_there_nor_used(own, age):
    place, folder = own
    path = next(place.out.glob("sub-01/anat/*_pred.tsv"))
    good, table = rows(place), read_tsv(path)
    lines = [line.replace(table.predicted_age[0], age) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    assert collected(place).table.index.tolist() == ["sub-02"]
    participant(place, "--model", folder)
    assert rows(place) == good


def test_a_broken_table_or_sidecar_of_a_prediction_is_written_again(own):
    place, folder = own
    good = rows(place)
    next(place.out.glob("sub-01/anat/*_pred.tsv")).write_text("model\tpredicted_age\nshared\n")
    next(place.out.glob("sub-02/anat/*_pred.json")).write_text("[]")
    found = collected(place)
    assert len(found.table) == 0
    assert found.failed.reason.str.contains(r"sub-0\d_desc-brainage_pred").all()  # each says its own file
    participant(place, "--model", folder)
    assert rows(place) == good
    assert len(collected(place).table) == 2


@pytest.mark.parametrize("spec", [[1], {"shape": [1, 2, 3]}, "words"])
def test_a_broken_sidecar_of_a_volume_costs_its_scan_only(spec, own, tmp_path):
    place, _ = own
    path = next(place.out.glob("sub-01/anat/*_desc-preproc_T1w.json"))
    write_json(path, read_json(path) | {"VolumeSpec": spec})
    found = collected(place)
    assert found.table.index.tolist() == ["sub-02"]
    assert found.failed.participant_id.tolist() == ["sub-01"]
    with pytest.raises(ParticipantsFailed, match="1 of 2 scans failed"):
        participant(place, "--model", shared_model(tmp_path / "new"))
    reason = next(event["reason"] for event in last_run(place)["Events"] if event["status"] == "failed")
    assert "is not a NIfTI image" in reason  # its volume was to be made again, and the images here are none
    assert set(rows(place)) == {(1, "new"), (1, "shared")}  # of sub-02; what sub-01 had was of the broken volume
    assert not list(place.out.glob("sub-01/anat/*_pred.tsv"))


# --- cards in OUTPUT_DIR that cannot be read -------------------------------------------------------------------------

BROKEN_CARDS = {
    "empty": b"",
    "utf16": "{}".encode("utf-16"),
    "list": b"[]",
    "deep": b"[" * 100_000,
    "no_keys": b"{}",
}


@pytest.mark.parametrize("name", [*BROKEN_CARDS, "spec"])
def test_a_broken_card_that_nobody_used_is_named_and_left_out(name, own, capsys):
    place, folder = own
    content = BROKEN_CARDS.get(name)
    if content is None:
        values = read_json(folder / "model.json")
        values["volume_spec"]["shape"] = [-48, 57, 48]
        content = json.dumps(values).encode()
    (place.out / "models" / "bad").mkdir()
    (place.out / "models" / "bad" / "card.json").write_bytes(content)
    for command in ((str(place.bids), str(place.out), "group", "--dry-run"), None):
        capsys.readouterr()
        if command:
            run_inside(list(command))
        else:
            participant(place, "--reports-only")
        said = [line for line in capsys.readouterr().err.splitlines() if "models/bad/card.json" in line]
        assert len(said) == 1
    assert "bad" not in collected(place).cards


def test_a_broken_card_of_a_model_whose_predictions_are_there_stops_the_group_level_with_a_way_out(own, tmp_path):
    place, folder = own
    participant(place, "--model", shared_model(tmp_path / "other", bias=12.0))
    (place.out / "models" / "shared" / "card.json").write_bytes(b"{")
    with pytest.raises(BadDataError, match=r"shared/card\.json is not JSON .*name the others with --model"):
        run_inside([str(place.bids), str(place.out), "group", "--dry-run"])
    assert collected(place, models=("other",)).models == ("other",)
    participant(place, "--reports-only")
    participant(place, "--model", folder)  # nothing to predict, and the card is whole again
    assert collected(place).models == ("other", "shared")


def test_models_whose_results_would_have_one_name_are_refused(own, tmp_path):
    place, _ = own
    for name in ("Shared", "sha.red"):
        other = shared_model(tmp_path / name)
        if name == "Shared":
            with pytest.raises(UsageError, match="'Shared' and 'shared' would share the files of their maps"):
                participant(place, "--model", other, "--dry-run")
        else:
            participant(place, "--model", other, "--dry-run")  # ShaRed is another label
    with pytest.raises(UsageError, match="cannot name files and columns"):
        participant(place, "--model", shared_model(tmp_path / "a\tb"), "--dry-run")
    with pytest.raises(UsageError, match="cannot name files and columns"):
        participant(place, "--model", shared_model(tmp_path / "___"), "--dry-run")


def test_maps_of_other_weights_are_those_of_the_present_ones(own):
    import nibabel as nib

    place, folder = own
    path = next(place.out.glob("sub-01/anat/*_saliency.nii.gz"))
    before = np.asarray(nib.load(path).dataobj)
    tensors_of = shared_model(folder)
    from safetensors.torch import load_file, save_file

    tensors = {name: t.clone() * 1.01 for name, t in load_file(tensors_of / "weights.safetensors").items()}
    save_file(tensors, folder / "weights.safetensors")
    participant(place, "--model", folder)
    assert np.asarray(nib.load(path).dataobj) == pytest.approx(before * 1.01 * 1.01, rel=1e-4, abs=1e-6)
