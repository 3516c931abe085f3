"""The demo and the phantoms of ``brainage-tools``: what they ask of the levels, and what is told at the end."""

import logging

import pytest

from brainage_bids import tools
from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.cli import run_inside


def called(monkeypatch, *args):
    log = logging.getLogger("brainage_bids")
    before = log.handlers[:], log.level, log.propagate
    monkeypatch.setattr("sys.argv", ["brainage-tools", *map(str, args)])
    try:
        with pytest.raises(SystemExit) as ended:
            tools.main()
    finally:
        log.handlers[:], log.level, log.propagate = before
    return ended.value.code


def test_phantoms_are_a_dataset_with_its_truth(tmp_path, monkeypatch, capsys):
    assert called(monkeypatch, "phantom", tmp_path / "made", "--n", "6", "--voxel-mm", "8") == 0
    assert len(read_tsv(tmp_path / "made" / "participants.tsv")) == 6
    assert len(list((tmp_path / "made").glob("sub-*/anat/*_T1w.nii.gz"))) == 6
    assert "population" in read_json(tmp_path / "made" / "planted.json")
    assert "phantom cohort of 6 people" in capsys.readouterr().err


def test_the_demo_trains_in_folds_and_tells_what_was_planted(own_study, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("brainage_bids.app.participant.run_participant", asked.append)
    monkeypatch.setattr("brainage_bids.app.group.run_group", asked.append)
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "bids").symlink_to(own_study.bids)
    (folder / "derivatives").symlink_to(own_study.out)
    assert called(monkeypatch, "demo", folder, "--n", "30", "--nprocs", "2", "--random-seed", "3") == 0
    participant, group = asked
    assert (participant.train, participant.model.folds, participant.model.batch_size) == ("rnc-demo", 5, 5)
    assert (participant.preprocess.nprocs, participant.preprocess.seed, group.seed) == (2, 3, 3)
    assert participant.query.bids_dir == group.query.bids_dir
    said = capsys.readouterr().err
    row = read_tsv(Outputs(own_study.out).group_table("accuracy")).set_index("subset").loc["group=CN"]
    assert f"MAE {float(row['mae']):.2f} years" in said
    assert "PHANTOM data" in said
    assert "planted" in said
    assert "group.html" in said


def test_the_methods_text_alone_is_written_on_demand(own_study, capsys):
    before = sorted(path for path in own_study.out.rglob("*") if path.is_file())
    citation = own_study.out / "logs" / "CITATION.md"
    had = citation.read_text()
    citation.unlink()
    run_inside([str(own_study.bids), str(own_study.out), "participant", "--boilerplate-only"])
    assert sorted(path for path in own_study.out.rglob("*") if path.is_file()) == before
    assert citation.read_text() == had
