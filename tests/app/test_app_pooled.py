"""The whole command line under torchrun: one process preprocesses, writes and predicts, both train."""

import json
import os
import subprocess
import sys

import pytest
from commandline import run_here


def test_torchrun_of_the_participant_level(own_study, tmp_path):
    train = ("participant", "--train", "rnc-demo", "--epochs", "2", "--batch-size", "2", "--device", "cpu",
             "--set", "name=together", "--train-on", "age > 0", "--nprocs", "1",
             "--participant-label", *(f"00{i}" for i in range(1, 7)))  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
               "brainage_bids", own_study.bids, own_study.out, *train]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, capture_output=True, text=True
    )
    # one phantom cannot be read, so the leading process ends with 1 after everything else is done
    card = json.loads((own_study.out / "models" / "together" / "model.json").read_text())
    assert card["effective_settings"]["processes"] == 2
    assert (own_study.out / "training_together.html").is_file()
    assert "1 of 6 scans failed" in done.stderr
    assert done.stderr.count("training together: batch size: 2") == 1  # only one process talks
    assert not (own_study.out / "work" / "train" / "together").exists()


def test_only_a_training_is_shared(own_study):
    study = own_study
    command = [sys.executable, "-m", "brainage_bids", study.bids, study.out, "participant", "--model", "rnc-demo"]
    env = {**os.environ, "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 64
    assert "start this without torchrun" in done.stderr


def test_train_only_stops_after_the_training(own_study):
    train = ("participant", "--train", "pca-ridge", "--train-only", "--train-on", "age > 0", "--nprocs", "1")
    done = run_here(own_study.bids, own_study.out, *train)
    assert done.returncode == 1, done.stderr  # the phantom that cannot be read
    assert (own_study.out / "models" / "pca-ridge" / "model.json").is_file()
    assert not list(own_study.out.glob("sub-*/anat/*Pcaridge*"))
    assert "--train-only needs --train" in run_here(own_study.bids, own_study.out, "participant", "--train-only").stderr


def test_a_model_that_comes_with_the_package_is_used_when_nothing_is_trained(study, tmp_path, monkeypatch):
    import shutil

    from brainage_bids.app import models
    from brainage_bids.app.page_values import notices
    from brainage_bids.bids.outputs import Outputs
    from brainage_bids.errors import NoInputError, UsageError

    monkeypatch.setattr(models, "BUNDLED", tmp_path / "bundled")
    with pytest.raises(NoInputError, match="no model is trained here and none is bundled"):
        models.bundled_model()
    shutil.copytree(study.out / "models" / "rnc-demo", tmp_path / "bundled" / "open-x")
    assert models.bundled_models() == ["open-x"]
    outputs = Outputs(tmp_path / "elsewhere")
    assert models.find_model("open-x", outputs, []) == (tmp_path / "bundled" / "open-x").resolve()
    with pytest.raises(UsageError, match=r"nor one that comes with brainage-bids \(open-x\)"):
        models.find_model("nothing", outputs, [])
    cards = [{"name": "open-x", "notice": "a starting point."}, {"name": "own"}]
    assert notices(cards) == ["open-x: a starting point."]
