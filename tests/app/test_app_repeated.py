"""People scanned more than once, from a BIDS dataset to the tables and the page; the ages come from elsewhere."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from commandline import run_here


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Ten people, three yearly sessions; patients age half a year a year faster; two runs in the first session."""
    root = tmp_path_factory.mktemp("repeated")
    bids, rng, people, given = root / "bids", np.random.default_rng(3), [], []
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    for i in range(1, 11):
        name, case, start = f"sub-{i:02d}", i > 5, 55.0 + 2 * i
        people.append({"participant_id": name, "age": start, "sex": "FM"[i % 2], "group": "AD" if case else "control",
                       "site": "AB"[i // 2 % 2]})  # fmt: skip
        sessions = []
        for year in range(3):
            session = f"ses-{year + 1}"
            sessions.append({"session_id": session, "age": start + year})
            age = start + year + 1 + 0.5 * case * year + rng.normal(0, 0.1)
            given.append({"participant_id": name, "session_id": session, "predicted_age": age})
            for run_label in ("_run-1", "_run-2") if year == 0 else ("",):
                path = bids / name / session / "anat" / f"{name}_{session}{run_label}_T1w.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nib.save(image, path)
        pd.DataFrame(sessions).to_csv(bids / name / f"{name}_sessions.tsv", sep="\t", index=False)
    pd.DataFrame(people).to_csv(bids / "participants.tsv", sep="\t", index=False)
    (bids / "dataset_description.json").write_text(json.dumps({"Name": "PHANTOM twice", "BIDSVersion": "1.10.0"}))
    pd.DataFrame(given).to_csv(root / "other.tsv", sep="\t", index=False)
    done = run_here(bids, root / "out", "group", "--predictions", f"other={root / 'other.tsv'}")
    assert done.returncode == 0, done.stderr
    return root / "out"


def table(out, name):
    return pd.read_csv(out / "group" / f"{name}.tsv", sep="\t", na_values="n/a")


def test_rates_and_the_mixed_model_find_the_planted_change(out):
    found = table(out, "longitudinal").set_index(["analysis", "group", "term"])
    assert found.loc[("bag_rate", "AD", "mean"), "estimate"] == pytest.approx(0.5, abs=0.1)
    assert found.loc[("bag_rate", "AD", "AD-control"), "p"] < 1e-3
    row = found.loc[("mixed", "all", "time:group=AD")]
    assert row["estimate"] == pytest.approx(0.5, abs=0.1)
    assert (row["n"], row["n_scans"], row["status"]) == (10, 30, "ok")


def test_two_runs_of_a_session_make_a_pair(out):
    found = table(out, "reliability").set_index("measure")
    assert found.loc["bag", "n"] == 10
    assert found.loc["bag", "status"] == "zero_variance"  # the same prediction was given for both runs


def test_sites_are_compared_among_controls(out):
    row = table(out, "site").iloc[0]
    assert (row["n"], row["n_sites"]) == (5, 2)


def test_cross_sectional_tests_still_take_one_scan_a_person(out):
    accuracy = table(out, "accuracy").set_index("subset")
    assert accuracy.loc["all", "n"] == 10


def test_the_page_shows_the_change(out):
    page = (out / "group.html").read_text()
    for shown in ("People scanned more than once", "time × group=AD", "Laird", "McGraw", "Do the sites differ"):
        assert shown in page, shown
    assert (out / "group" / "figures" / "trajectories-Other.png").is_file()
