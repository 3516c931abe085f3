"""The main job on real people: skull-stripped scans with depression scores (minutes; run by make test-slow)."""

import os
from pathlib import Path

import pandas as pd
import pytest
from commandline import run

from brainage_bids.bids.files import read_tsv

DATA = os.environ.get("BRAINAGE_TEST_DATA")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not DATA, reason="BRAINAGE_TEST_DATA is not set")
def test_sixty_real_people_get_out_of_fold_ages(tmp_path):
    bids, out = Path(DATA) / "ds002748-2mm", tmp_path / "out"
    done = run(bids, out, "participant", "--train", "rnc-demo", "--folds", "5", "--control", "control")
    assert done.returncode == 0, done.stderr
    scores = ("--score", "BDI=participants.tsv:BDI", "--score", "Zung=participants.tsv:Zung_SDS")
    done = run(bids, out, "group", "--control", "control", *scores)
    assert done.returncode == 0, done.stderr
    rows = read_tsv(out / "group" / "brainage.tsv").set_index("participant_id")
    people = read_tsv(bids / "participants.tsv").set_index("participant_id").loc[rows.index]
    assert len(rows) == 60
    assert rows["predicted_age_rnc-demo"].ne("n/a").all()
    assert rows.in_training.eq("0").all()
    assert (rows.age.astype(float) == people.age.astype(float)).all()
    for name, column in (("BDI", "BDI"), ("Zung", "Zung_SDS")):
        assert (
            pd.to_numeric(rows[name], "coerce").fillna(-1) == pd.to_numeric(people[column], "coerce").fillna(-1)
        ).all()
