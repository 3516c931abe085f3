"""Who trains: healthy people, each scan at an age that is its own."""

import pandas as pd
from handmade import make

from brainage_bids.app.training import trainable_rows
from brainage_bids.bids.read import DatasetQuery, read_dataset, scans_table


def test_one_age_for_several_sessions_trains_once(tmp_path):
    place = make(tmp_path, "A")
    for person in ("sub-01", "sub-02"):
        first = place.bids / person / "anat" / f"{person}_T1w.nii.gz"
        for session in ("ses-1", "ses-2", "ses-3"):
            path = place.bids / person / session / "anat" / f"{person}_{session}_T1w.nii.gz"
            path.parent.mkdir(parents=True)
            path.write_bytes(first.read_bytes())
        first.unlink()
    sessions = pd.DataFrame({"session_id": ["ses-1", "ses-2", "ses-3"], "age": [61, 63, 65]})
    sessions.to_csv(place.bids / "sub-02" / "sub-02_sessions.tsv", sep="\t", index=False)
    dataset = read_dataset(DatasetQuery(place.bids))
    table = scans_table(dataset.scans, dataset.score_names)
    chosen, rule = trainable_rows(table, dataset, "age > 0")
    left = table[~chosen]
    assert left.participant_id.tolist() == ["sub-01", "sub-01"]  # sub-02 has an age for each session
    assert left.session_id.tolist() == ["ses-2", "ses-3"]
    assert rule == "--train-on age > 0; without 2 later sessions of people whose one age stands for several"
