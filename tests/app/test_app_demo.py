"""The demo of ``brainage-tools``: what it asks of the levels, and what is told at the end."""

import pandas as pd
from commandline import run_here
from groupstudy import make_dataset

from brainage_bids.app.demo import typical_people
from brainage_bids.bids.files import read_tsv, write_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import DatasetQuery
from brainage_bids.cli import run_inside


def test_the_demo_trains_in_folds_and_tells_what_was_planted(own_study, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("brainage_bids.app.participant.run_participant", asked.append)
    monkeypatch.setattr("brainage_bids.app.group.run_group", asked.append)
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "bids").symlink_to(own_study.bids)
    (folder / "derivatives").symlink_to(own_study.out)
    done = run_here("demo", folder, "--n", "30", "--nprocs", "2", "--random-seed", "3", program="brainage-tools")
    assert done.returncode == 0, done.stderr
    participant, group = asked
    assert (participant.train, participant.model.folds, participant.model.batch_size) == ("rnc-demo", 5, 5)
    assert (participant.preprocess.nprocs, participant.preprocess.seed, group.seed) == (2, 3, 3)
    assert participant.query.bids_dir == group.query.bids_dir
    said = done.stderr
    row = read_tsv(Outputs(own_study.out).group_table("accuracy")).set_index("subset").loc["group=CN"]
    assert f"MAE {float(row['mae']):.2f} years" in said
    assert "PHANTOM data" in said
    assert "planted" in said
    people = typical_people(DatasetQuery(bids_dir=own_study.bids), Outputs(own_study.out))
    pages = [line.split()[1] for line in said.splitlines() if line.startswith("open ")]
    assert set(people) == {"control", "patient"}  # so few controls have no interval, but a page
    names = [f"{person}.html" for person in people.values()]
    assert [page.rsplit("/", 1)[1] for page in pages] == [*names, "group.html"]


def test_the_typical_control_lies_within_its_interval_and_near_the_median(tmp_path):
    people = {"001": ("CN", 20, -9, 15), "002": ("CN", 40, 2, 60), "003": ("CN", 60, 30, 95), "004": ("CN", 50, 1, 60),
              "005": ("CN", 30, 4, 50), "006": ("AD", 70, 8, 90), "007": ("AD", 72, 30, 99),
              "008": ("CN", 90, 2, 99)}  # fmt: skip
    rows = [{"participant_id": f"sub-{name}", "age": age, "group": group} for name, (group, age, *_) in people.items()]
    bids, out = make_dataset(tmp_path / "bids", pd.DataFrame(rows)), tmp_path / "out"
    for name, (_, age, gap, high) in people.items():
        folder = out / f"sub-{name}" / "anat"
        folder.mkdir(parents=True)
        row = {"model": "rnc-demo", "predicted_age": age + gap, "chronological_age": age, "age_source": "x", "bag": gap,
               "bag_corrected": gap, "pred_lo": 10 if name != "002" else 45, "pred_hi": high,
               "flags": "out_of_fold;bias_extrapolated" if name == "008" else ""}  # fmt: skip
        write_tsv(folder / f"sub-{name}_desc-brainage_pred.tsv", pd.DataFrame([row]))
    # the median of the controls is 2: the gap of 002, who lies outside the interval, and of 008, who is too old
    assert typical_people(DatasetQuery(bids_dir=bids), Outputs(out)) == {"control": "sub-004", "patient": "sub-006"}


def test_the_methods_text_alone_is_written_on_demand(own_study):
    before = sorted(path for path in own_study.out.rglob("*") if path.is_file())
    citation = own_study.out / "logs" / "CITATION.md"
    had = citation.read_text()
    citation.unlink()
    run_inside([str(own_study.bids), str(own_study.out), "participant", "--boilerplate-only"])
    assert sorted(path for path in own_study.out.rglob("*") if path.is_file()) == before
    assert citation.read_text() == had
