"""One member for each site: nobody of the site, and nobody's family there, trains it."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from modelstudy import make_table

from brainage_bids.bids.files import read_json, read_tsv, write_json
from brainage_bids.errors import BadDataError
from brainage_bids.model.artifact import read_model_json
from brainage_bids.model.dataset import load_volume
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.places import MOST_PLACES
from brainage_bids.model.predict import load_model, predict_table, predict_volume
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.split import split_folds
from brainage_bids.model.train import train_model

RIDGE = load_recipe("pca-ridge", ("volume.resolution=8",))
LEAVE = ModelOptions(device="cpu", progress=False, folds="site")


def cohort(n=60, patients=0.3, places="ABC", seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"sub-{i:03d}" for i in range(n)]
    group = np.where(rng.random(n) < patients, "AD", "CN")
    place = rng.choice(list(places), n)
    return pd.DataFrame({
        "participant_id": ids, "session_id": None, "prefix": ids, "age": rng.uniform(18, 90, n),
        "sex": rng.choice(["F", "M"], n), "group": group, "site": place, "place": place, "family": None,
        "trainable": group == "CN",
    })  # fmt: skip


def divide(table, column="site"):
    return split_folds(table, column, 1, 0.1, 0.1)


def fold_of(divided):
    return divided.split.set_index("participant_id").fold


def test_every_site_is_left_out_once_with_its_patients():
    table = cohort()
    divided = divide(table)
    assert divided.left_out == {"fold-1": "site=A", "fold-2": "site=B", "fold-3": "site=C"}
    assert divided.held_out == {"fold-1": 1, "fold-2": 2, "fold-3": 3}
    place = table.set_index("participant_id").place
    assert fold_of(divided).map({1: "A", 2: "B", 3: "C"}).equals(place)
    assert (divided.split.split == "test").all()
    trainable = set(table.participant_id[table.trainable])
    for name, (train, val) in divided.parts.items():
        own = divided.left_out[name].removeprefix("site=")
        assert set(place[train]) | set(place[val]) == set("ABC") - {own}
        assert not set(train) & set(val)
        assert set(train) | set(val) == {person for person in trainable if place[person] != own}
        assert len(val) == round(0.1 * (len(train) + len(val)))
    assert not divided.barred
    here = table[table.place == "A"]
    assert f"site=A ({len(here)} people, {here.trainable.sum()} of them may train)" in divided.left_out_text


def test_whoever_has_a_scan_or_family_at_a_site_does_not_train_the_member_that_leaves_it_out():
    table = cohort(patients=0.2)
    table["family"] = [f"F{i // 3}" if i < 30 else None for i in range(60)]
    more = table.iloc[30:40].assign(
        place="A", prefix=lambda rows: rows.prefix + "_ses-2", age=lambda rows: rows.age + 2
    )
    both = pd.concat([table, more], ignore_index=True)
    divided = divide(both)
    unit = both.family.fillna(both.participant_id)
    near = {name: set(rows.place) for name, rows in both.groupby(unit)}
    unit_of = dict(zip(both.participant_id, unit, strict=True))
    for name, parts in divided.parts.items():
        own = divided.left_out[name].removeprefix("site=")
        assert not [person for part in parts for person in part if own in near[unit_of[person]]]
    first = both.drop_duplicates("participant_id").set_index("participant_id").place
    assert fold_of(divided).map({1: "A", 2: "B", 3: "C"}).equals(first[fold_of(divided).index])
    several = {p for p in both.participant_id[both.trainable] if len(near[unit_of[p]]) > 1}
    assert set(divided.barred) == several
    assert f"{len(several)} with scans or family at several places train for no member" in divided.left_out_text


def test_patients_where_nobody_trains_are_left_to_all_members_unless_family_trains():
    table = cohort(patients=0)
    lone = table.iloc[:4].assign(
        participant_id=["sub-p1", "sub-p2", "sub-p3", "sub-p4"], prefix=["sub-p1", "sub-p2", "sub-p3", "sub-p4"],
        place=["clinic", None, "clinic", "B"], trainable=False, group="AD", family=[None, None, "X", None],
    )  # fmt: skip
    table.loc[table.index[table.place == "C"][0], "family"] = "X"
    divided = divide(pd.concat([table, lone], ignore_index=True))
    fold = fold_of(divided)
    assert fold["sub-p1"] is None
    assert fold["sub-p2"] is None
    assert (fold["sub-p3"], fold["sub-p4"]) == (3, 2)  # the sibling is left out by the third member
    assert divided.split.set_index("participant_id").split["sub-p1"] is None
    assert "2 people at other places are predicted by the mean of all members" in divided.left_out_text


def test_order_of_rows_does_not_matter_and_the_seed_does():
    table = cohort()
    first, again = divide(table), divide(table.sample(frac=1, random_state=3))
    assert first.split.equals(again.split)
    assert first.parts == again.parts
    assert first.parts != split_folds(table, "site", 2, 0.1, 0.1).parts


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (None, r"by site: \d+ of \d+ people who may train have no value \(sub-000, .*, \.\.\.\); fill in"),
        ("A", r"all 60 people who may train have site 'A', so no member .*; use --folds 5"),
        ([f"p{i}" for i in range(60)], r"60 values \(p0, .*at most 30 \(50, or one for two people\)"),
    ],
)
def test_what_cannot_be_left_out_is_said(place, message):
    with pytest.raises(BadDataError, match=message):
        divide(cohort(patients=0).assign(place=place))


def test_a_member_with_too_few_others_to_train_on_is_named():
    table = cohort(patients=0).assign(place=["A", "A", "A", *"B" * 57])
    assert [len(part) for part in divide(table).parts["fold-2"]] == [2, 1]
    with pytest.raises(BadDataError, match="fold-2, which leaves out site=B, would train on 1 and validate on 1"):
        divide(table.drop(index=0))


def test_more_sites_than_anybody_trains_for_are_refused():
    table = cohort(200, patients=0).assign(place=[f"p{i // 3}" for i in range(200)])
    with pytest.raises(BadDataError, match=f"67 values .* at most {MOST_PLACES} "):
        divide(table)


def test_families_that_span_all_sites_leave_nobody_to_train():
    table = cohort(24, patients=0, places="AB").assign(place=["A", "B"] * 12, family=[f"F{i // 2}" for i in range(24)])
    with pytest.raises(BadDataError, match="fold-1, which leaves out site=A, would train on 0 and validate on 0"):
        divide(table)


# --- a training -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Twenty people: 14 controls at two scanners, patients there and at a clinic of their own."""
    table = make_table(tmp_path_factory.mktemp("volumes"))
    number = table.participant_id.str[-2:].astype(int)
    place = np.where(number % 2, "B", "A")
    return table.assign(place=np.where(number >= 18, "clinic", place))


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    root = tmp_path_factory.mktemp("model")
    return train_model(table, RIDGE, root / "m", root / "work", LEAVE)


def test_the_model_says_what_each_member_left_out(folder, table):
    card = read_model_json(folder / "model.json")
    assert [(fold["name"], fold["fold"], fold["left_out"]) for fold in card["members"]] == [
        ("fold-1", 1, "site=A"),
        ("fold-2", 2, "site=B"),
    ]
    assert card["effective_settings"]["folds"] == "site"
    assert card["validation"]["kind"] == "site left out"
    split = read_tsv(folder / "split.tsv").set_index("participant_id").fold
    assert split[["sub-00", "sub-01", "sub-14", "sub-18"]].tolist() == ["1", "2", "1", "n/a"]
    text = (folder / "MODEL_CARD.md").read_text()
    assert "2 members, each trained without the people of one place (site=A, site=B)" in text
    people = pd.DataFrame(card["calibration"])
    for fold, place in ((1, "A"), (2, "B")):
        mine, mean = people[people.fold == fold], card["members"][fold - 1]["train_mean_age"]
        error, null = (mine.predicted_age - mine.age).abs().mean(), (mean - mine.age).abs().mean()
        assert f"| Left out: site={place} | {len(mine)} | {error:.2f} | {null:.2f} |" in text


def test_the_people_of_a_site_are_predicted_by_the_member_that_left_it_out(folder, table):
    predicted = predict_table(folder, table, LEAVE, saliency=False).set_index(table.prefix)
    place = table.set_index("prefix").place
    held_out = predicted["flags"].map(lambda flags: "out_of_fold" in flags)
    assert held_out.equals(place != "clinic")
    assert predicted.fold[held_out].tolist() == place[held_out].map({"A": 1, "B": 2}).tolist()
    model = load_model(folder, "cpu")
    for row in table[place.to_numpy() == "clinic"].itertuples():
        volume = load_volume(row.volume, model.spec)
        members = [predict_volume(model, volume, [name])[0] for name in ("fold-1", "fold-2")]
        assert predicted.predicted_age[row.prefix] == pytest.approx(np.mean(members), rel=1e-6)
        stranger = table.loc[[row.Index]].assign(participant_id="sub-stranger99")
        again = predict_table(model, stranger, LEAVE, saliency=False).predicted_age[0]
        assert again == pytest.approx(np.mean(members), rel=1e-6)


def test_a_finished_model_is_kept_and_one_of_other_sites_is_not(folder, table, tmp_path):
    own = shutil.copytree(folder, tmp_path / "m")
    before = (own / "model.json").read_bytes()
    train_model(table, RIDGE, own, tmp_path / "work", LEAVE)
    assert (own / "model.json").read_bytes() == before
    train_model(table.assign(place=table.place.replace("B", "C")), RIDGE, own, tmp_path / "work", LEAVE)
    assert json.loads((own / "model.json").read_text())["members"][1]["left_out"] == "site=C"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ((3, "site=B"), r"members\[0\].left_out is 3; it must be COLUMN=VALUE"),
        (("A", "site=B"), r"members\[0\].left_out is A; it must be COLUMN=VALUE"),
        (("site=B", "site=B"), "members is .*each have a left_out of their own"),
        ((None, "site=B"), "members is .*each have a left_out of their own"),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(folder, tmp_path, changed, said):
    card = read_json(folder / "model.json")
    for member, value in zip(card["members"], changed, strict=True):
        member["left_out"] = value
    write_json(tmp_path / "model.json", card)
    with pytest.raises(BadDataError, match=said):
        read_model_json(tmp_path / "model.json")
