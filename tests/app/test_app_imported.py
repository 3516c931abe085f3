"""Predictions made elsewhere: each belongs to its scan, and what cannot be ages of these people is refused."""

import logging

import numpy as np
import pytest
from handmade import joined_results, make, scans_of, tables

from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.stats.describe import flag_counts

MANY = ("CN",) * 30  # 61 to 90 years old


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make(tmp_path_factory.mktemp("many"), "A", MANY)


def given(folder, place, ages, ids=None, header="participant_id,predicted_age"):
    """Write the ages, one per scan, as a table, and return the option."""
    people = [scan.participant_id for scan in scans_of(place)] if ids is None else ids
    rows = "".join(f"{person},{age}\n" for person, age in zip(people, ages, strict=True))
    (folder / "x.csv").write_text(f"{header}\n{rows}")
    return {"predictions": (f"x={folder / 'x.csv'}",)}


def ages_of(place):
    return np.array([scan.age for scan in scans_of(place)])


RNG = np.random.default_rng(5)
WRONG = {
    "gap": (lambda age: RNG.normal(0, 3, age.size).clip(-4.9), "gaps or standard scores"),
    "gap without minus": (lambda age: RNG.uniform(1, 8, age.size), "gaps, not ages"),
    "scale": (lambda age: age / 100, "a scale from 0 to 1"),
    "standard scores": (lambda age: (age - age.mean()) / age.std(), "gaps or standard scores"),
    "decades": (lambda age: age / 10, "no ages of these people"),
    "others": (lambda age: age - 45, "no ages of these people"),
    "moved": (lambda age: np.roll(MIXED, 1), None),
}
MIXED = RNG.permutation(np.arange(61, 91))


@pytest.mark.parametrize("name", [name for name, (_, told) in WRONG.items() if told])
def test_what_is_no_age_of_these_people_is_refused(tmp_path, place, name):
    make_ages, told = WRONG[name]
    with pytest.raises(BadDataError, match=rf"--predictions x: .*{told}.*x=FILE:ID_COLUMN:AGE_COLUMN"):
        joined_results(place, **given(tmp_path, place, make_ages(ages_of(place))))


@pytest.mark.parametrize(("unit", "number"), [("months", 12), ("weeks", 52.2), ("days", 365)])
def test_ages_of_children_in_another_unit_are_refused(tmp_path, unit, number):
    place = make(tmp_path, "A")
    table = place.bids / "participants.tsv"
    table.write_text("\n".join(line.replace("\t6", "\t0.") for line in table.read_text().split("\n")))
    ages = ages_of(place)
    assert ages.max() < 1
    with pytest.raises(BadDataError, match="no ages of these people|" + unit):
        joined_results(place, **given(tmp_path, place, (ages * number * (1.1 if number < 100 else 0.4)).tolist()))


def test_ids_moved_by_a_row_are_refused(tmp_path):
    place = make(tmp_path, "A", MANY)
    table = place.bids / "participants.tsv"
    lines = table.read_text().splitlines()
    for i, age in enumerate(MIXED, start=1):
        cells = lines[i].split("\t")
        lines[i] = "\t".join([cells[0], str(age), *cells[2:]])
    table.write_text("\n".join(lines) + "\n")
    ages = ages_of(place)
    assert abs(np.corrcoef(ages[1:], ages[:-1])[0, 1]) < 0.4
    right = ages + np.random.default_rng(1).normal(0, 3, 30)
    _, collected, _ = joined_results(place, **given(tmp_path, place, right))
    assert np.allclose(collected.table["predicted_age_x"], right)
    for by in (1, -1):
        with pytest.raises(BadDataError, match="moved by a row"):
            joined_results(place, **given(tmp_path, place, np.roll(right, by)))


def test_doubtful_predictions_are_told_and_flagged(tmp_path, place, caplog):
    ages = ages_of(place)
    far = np.where(np.arange(30) == 4, ages + 41, ages + 2)
    loose = np.random.default_rng(2).normal(75, 3, 30)
    for values, told in ((far, "1 scans are 40 years or more from their age (sub-05)"),
                         (loose, "do not follow the ages"),
                         (np.full(30, 70.0), "all 30 scans have the predicted age 70")):  # fmt: skip
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="brainage_bids"):
            _, collected, _ = joined_results(place, **given(tmp_path, place, values))
        assert told in caplog.text
    counts = flag_counts(collected.flags, collected.table).set_index(["flag", "model", "group"])
    assert counts.loc[("saturated", "x", "all"), "n"] == 30
    _, collected, _ = joined_results(place, **given(tmp_path, place, far))
    flags = collected.flags.set_index(["model", "prefix"])["flags"]
    assert flags["x", "sub-05"] == "age_gap_implausible"
    assert flags["x", "sub-06"] == "n/a"


def test_flags_of_the_age_are_those_of_our_own_models(tmp_path):
    place = make(tmp_path, "A")
    table = place.bids / "participants.tsv"
    table.write_text(table.read_text().replace("sub-01\t61", "sub-01\t89+"))
    _, collected, _ = joined_results(place, **given(tmp_path, place, [90, 61, 62, 64, 66, 67]))
    flags = collected.flags.set_index(["model", "prefix"])["flags"]
    assert flags["x", "sub-01"] == "top_coded"


@pytest.mark.parametrize(
    ("spell", "told"),
    [
        (lambda i: f"sub-{i}", r"by leading zeros: 'sub-1' in the table, 'sub-01' the folder"),
        (lambda i: f"SUB{i:02d}", r"by the prefix sub-"),
        (lambda i: f"{i}.0", r"by the \.0 of a spreadsheet"),
        (lambda i: f"person{i + 100}", r"ids: sub-person101.*folders: sub-01, sub-02, sub-03 and 27 more"),
    ],
)
def test_ids_that_match_nobody_are_refused_with_the_difference(tmp_path, place, spell, told):
    ids = [spell(i + 1) for i in range(9)]
    with pytest.raises(BadDataError, match=rf"--predictions x: no id matches: .*{told}"):
        joined_results(place, **given(tmp_path, place, [60] * 9, ids))


def test_some_that_match_nobody_are_told_with_the_difference(tmp_path, place, caplog):
    ids = [scan.participant_id for scan in scans_of(place)][9:] + [f"sub-{i}" for i in range(1, 10)]
    with caplog.at_level(logging.WARNING, logger="brainage_bids"):
        joined_results(place, **given(tmp_path, place, [*ages_of(place)[9:], *ages_of(place)[:9]], ids))
    assert "9 rows belong to no scan of the study" in caplog.text
    assert "by leading zeros: 'sub-1' in the table, 'sub-01' the folder" in caplog.text


def test_sessions_that_match_none_are_refused(tmp_path):
    place = make(tmp_path, "A", session="ses-bl")
    ids = [f"{scan.participant_id},1" for scan in scans_of(place)]
    with pytest.raises(BadDataError, match="the file has the sessions ses-1, the study ses-bl"):
        joined_results(place, **given(tmp_path, place, [60] * 6, ids, "participant_id,session_id,predicted_age"))


def test_two_runs_have_two_predictions(tmp_path, caplog):
    place = make(tmp_path, "A")
    for scan in scans_of(place):
        image = place.bids / scan.participant_id / "anat" / f"{scan.participant_id}_T1w.nii.gz"
        for run in (1, 2):
            image.with_name(f"{scan.participant_id}_acq-a_run-0{run}_T1w.nii.gz").write_bytes(image.read_bytes())
        image.unlink()
    names = [f"sub-0{i}_run-{run}_T1w.nii.gz" for i in range(1, 7) for run in (1, 2)]
    ages = [60 + i + run for i in range(1, 7) for run in (1, 2)]
    _, collected, _ = joined_results(place, **given(tmp_path, place, ages, names, "File,predicted_age"))
    assert collected.table["predicted_age_x"].tolist() == ages
    assert collected.table.index[0] == "sub-01_acq-a_run-01"
    names[0] = "sub-01"  # one that names no run is of the scan that has none of its own
    _, collected, _ = joined_results(place, **given(tmp_path, place, ages, names, "File,predicted_age"))
    assert collected.table["predicted_age_x"].tolist() == ages
    names[0] = "sub-01_acq-a_T1w"
    with pytest.raises(BadDataError, match="rows of one scan"):
        joined_results(place, **given(tmp_path, place, ages, [names[1], *names[:1], *names[2:]], "File,predicted_age"))


def test_a_name_is_given_once(tmp_path, place):
    option = given(tmp_path, place, ages_of(place))["predictions"]
    with pytest.raises(UsageError, match="--predictions x: two tables have this name"):
        joined_results(place, predictions=option * 2)


def test_statistics_take_the_predictions(tmp_path, place):
    selected, found = tables(place, **given(tmp_path, place, ages_of(place) + 1))
    assert found["accuracy"].query("model == 'x' and subset == 'all'")["mae"].tolist() == [pytest.approx(1.0)]
    assert len(selected) == 30
