"""``--folds site`` from the command line to the group page: one member for each site."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commandline import run_here
from groupstudy import group_level, make_dataset
from handmade import make

import brainage_bids
from brainage_bids.app.held_out import fold_pairs
from brainage_bids.bids.files import read_json, read_tsv, write_json, write_tsv
from brainage_bids.bids.read import DatasetQuery, raise_on_errors, read_dataset
from brainage_bids.errors import UsageError
from brainage_bids.schema import PREDICTION_COLUMNS

BUNDLED = Path(brainage_bids.__file__).parent / "bundled" / "open-adults" / "model.json"
RIDGE = ("participant", "--train", "pca-ridge", "--nprocs", "1", "--train-on", "age > 0")


@pytest.fixture
def sites(tmp_path):
    """Twelve people at two scanners."""
    groups = ("CN",) * 8 + ("AD",) * 4
    place = make(tmp_path, "A", groups, scanner=["Prisma", "Trio"] * 6, site=["X", "Y", "Z"] * 4)
    shutil.rmtree(place.out)
    return place


def dry(place, folds, *more):
    """Return code, output and messages of a dry run."""
    done = run_here(place.bids, place.out, *RIDGE, "--folds", folds, "--dry-run", *more)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("folds", "left_out"),
    [
        ("site", "3: site=X (4 people, 4 of them may train), site=Y (4 people"),
        ("scanner", "2: scanner=Prisma (6 people, 6 of them may train), scanner=Trio (6 people"),
        ("Scanner", "2: Scanner=Prisma (6 people"),
    ],
)
def test_the_plan_says_what_each_member_leaves_out(sites, folds, left_out):
    code, out, messages = dry(sites, folds)
    assert code == 0, messages
    assert f"each member leaves out one of {left_out}" in out
    assert not sites.out.exists()


@pytest.mark.parametrize(
    ("folds", "more", "code", "said"),
    [
        ("scaner", (), 64, "--folds scaner: no table has such a column (nearest: scanner"),
        (
            "group",
            ("--train-on", "group == 'CN'"),
            65,
            "all 8 people who may train have group 'CN', so no member could",
        ),
        ("participant_id", (), 65, "folds by participant_id: 12 values"),
        ("2.5", (), 64, "--folds '2.5' is not a number of folds from 2"),
        ("1", (), 64, "or the name of a column: --folds site leaves out one site after the other"),
    ],
)
def test_what_cannot_be_left_out_is_said_before_any_work(sites, folds, more, code, said):
    ended, _, messages = dry(sites, folds, *more)
    assert ended == code
    assert said in messages


def test_people_without_a_site_are_named(tmp_path):
    place = make(tmp_path, "A", ("CN",) * 9, site=["X", "Y", None, "X", "Y", "X", None, "X", "Y"])
    shutil.rmtree(place.out)
    code, _, messages = dry(place, "site")
    assert code == 65
    assert "folds by site: 2 of 9 people who may train have no value (sub-03, sub-07); fill in site" in messages
    code, plan, _ = dry(place, "site", "--train-on", "site in ['X', 'Y']")
    assert code == 0
    assert "2 people at other places are predicted by the mean of all members" in plan


def test_the_column_is_that_of_the_session(tmp_path):
    place = make(tmp_path, "A", ("CN",) * 3, session="ses-1")
    rows = {"session_id": ["ses-1", "ses-2"], "coil": ["32", "64"]}
    pd.DataFrame(rows).to_csv(place.bids / "sub-01" / "sub-01_sessions.tsv", sep="\t", index=False)
    found = read_dataset(DatasetQuery(place.bids, fold_column="coil"))
    assert found.places == {"sub-01_ses-1": "32"}
    with pytest.raises(UsageError, match=r"--folds cohort: no table has such a column \(it has|nearest"):
        raise_on_errors(read_dataset(DatasetQuery(place.bids, fold_column="cohort")))


# --- the group level ------------------------------------------------------------------------------------------------


def member(number, **more):
    empty = {"training_participants": [], "validation_participants": []}
    return {"name": f"fold-{number}", "fold": number, "train_mean_age": 50.0 + number, **empty, **more}


def card(name, members, method="l1", epochs=3):
    people = [{"age": 50.0 + i, "predicted_age": 51.0 + 0.9 * i + i % 3, "fold": 1 + i % 2} for i in range(30)]
    return {
        "name": name, "fingerprint": name, "volume_spec": read_json(BUNDLED)["volume_spec"], "calibration": people,
        "members": members, "architecture": {"backbone": "3D ResNet-18", "total_stride": 8},
        "recipe": {"name": name, "method": method, "training": {"lr": 0.1}}, "phantom": True,
        "effective_settings": {"epochs": epochs}, "training": {"n": 30, "age_mean": 64.5, "age_min": 50, "age_max": 79},
    }  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two models of one recipe on 24 controls and 6 patients; scanner B makes the one that did not know it 8 years off.

    The last control has trained model near, and so no error that counts.
    """
    root, rng = tmp_path_factory.mktemp("sites"), np.random.default_rng(2)
    people = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(30)]})
    people = people.assign(age=rng.uniform(40, 80, 30).round(2), sex="F", group=["CN"] * 24 + ["AD"] * 6)
    people = people.assign(site=np.resize(["A", "B"], 30), fold=np.resize([1, 2], 30))
    bids, out = make_dataset(root / "bids", people.drop(columns="fold")), root / "out"
    described = {"Name": "Brain ages of reference people", "DatasetType": "derivative"}
    write_json(out / "dataset_description.json", described | {"GeneratedBy": [{"Name": "brainage-bids"}]})
    places = [member(1, left_out="site=A"), member(2, left_out="site=B")]
    for name, members in (("far", places), ("near", [member(1), member(2)])):
        write_json(out / "models" / name / "model.json", card(name, members))
    people["near"] = people.age + rng.normal(0, 3, 30)
    people["far"] = people.near + np.where(people.site == "B", 8.0, 0.0)
    for row in people.to_dict("records"):
        path = out / row["participant_id"] / "anat" / f"{row['participant_id']}_desc-brainage_pred.tsv"
        trained = row["participant_id"] == "sub-23"
        rows = [
            {"model": name, "predicted_age": row[name], "chronological_age": row["age"], "bag": row[name] - row["age"],
             "flags": "" if trained and name == "near" else "out_of_fold"}
            for name in ("far", "near")
        ]  # fmt: skip
        write_tsv(path, pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS)))
        folds = {"far": row["fold"], "near": None if trained else 3 - row["fold"]}
        write_json(path.with_suffix(".json"), {"Folds": folds})
    return people, group_level(bids, out)


def test_the_group_level_compares_the_errors_of_the_same_people(compared):
    people, found = compared
    assert found.code == 0
    table = found.table("siteerror", "subset", "kind")
    counted = people.iloc[:23]  # controls whom both models held out
    far, near = ((counted[name] - counted.age).abs() for name in ("far", "near"))
    assert table.loc[("all", "across"), "n"] == 24
    row = table.loc[("all", "within")]
    assert (row["n"], row["n_missing"], row["n_both"]) == (23, 1, 23)
    assert row["mae_diff"] == pytest.approx((far - near).mean())
    assert table.loc[("site=B", "within"), "shift"] == pytest.approx(8.0)
    assert table.loc[("site=A", "within"), "shift"] == pytest.approx(0.0, abs=1e-9)
    here = people[(people.site == "B") & (people.group == "CN")]
    row = table.loc[("site=B", "across")]
    assert row["mae"] == pytest.approx((here.far - here.age).abs().mean())
    assert row["mae_null"] == pytest.approx((here.age - 52.0).abs().mean())  # the mean age of those who trained fold 2


def test_the_page_and_the_methods_tell_of_it(compared):
    _, found = compared
    assert "Across sites" in found.page
    assert (found.out / "group" / "figures" / "sites-Far.png").is_file()
    assert "It was trained 2 times, each time without one site" in found.page
    assert "compared with that within sites in the same people by a paired t-test" in found.page
    meanings = json.loads((found.out / "group" / "siteerror.json").read_text())
    assert "across minus within" in meanings["mae_diff"]["Description"]


def test_models_are_compared_that_differ_in_their_folds_only():
    places, plain = [member(1, left_out="site=A"), member(2, left_out="site=B")], [member(1), member(2)]
    cards = {
        "far": card("far", places), "near": card("near", plain), "alone": card("alone", [{"fold": None}]),
        "ridge": card("ridge", plain, method="ridge"), "longer": card("longer", plain, epochs=9),
        "scanner": card("scanner", [member(1, left_out="scanner=x"), member(2, left_out="scanner=y")]),
    }  # fmt: skip
    assert fold_pairs(cards) == [("far", "near"), ("scanner", "near")]


# --- phantoms through both levels -----------------------------------------------------------------------------------


def test_phantoms_of_two_scanners_train_and_are_predicted_by_the_other_scanner(own_study, quick_pages):
    bids, out = own_study.bids, own_study.out
    done = run_here(bids, out, *RIDGE, "--folds", "site", "--set", "name=across")
    assert done.returncode == 1, done.stderr  # one image is cut short
    members = read_json(out / "models" / "across" / "model.json")["members"]
    assert [member["left_out"] for member in members] == ["site=A", "site=B"]
    assert "training across: each member leaves out one of 2: site=A (" in done.stderr
    people = read_tsv(bids / "participants.tsv").set_index("participant_id").site
    for person, site in people.drop("sub-003").items():
        sidecar = read_json(out / person / "anat" / f"{person}_desc-brainage_pred.json")
        assert sidecar["Folds"]["across"] == {"A": 1, "B": 2}[site]
