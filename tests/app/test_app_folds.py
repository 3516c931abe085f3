"""A model trained in folds on the people of the study: nobody is corrected or calibrated by the own fold.

The card is that of the bundled model, the prediction tables are written as the participant level writes them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from groupstudy import group_level, make_dataset

import brainage_bids
from brainage_bids.app.group_page import not_covered
from brainage_bids.bids.files import write_json, write_tsv
from brainage_bids.schema import PREDICTION_COLUMNS
from brainage_bids.stats.bias import correct_with_calibration

CARD = Path(brainage_bids.__file__).parent / "bundled" / "open-adults" / "model.json"


@pytest.fixture(scope="module")
def people():
    """The held-out people of the model, in its folds; one more control and one patient whom no fold held out."""
    table = pd.DataFrame(json.loads(CARD.read_text())["calibration"])
    more = pd.DataFrame({"age": [30.0, 45.0], "predicted_age": [35.0, 60.0], "fold": [None, None]})
    table = pd.concat([table.astype({"fold": object}), more], ignore_index=True)
    table["participant_id"] = [f"sub-{i:02d}" for i in range(len(table))]
    return table.assign(group=["CN"] * (len(table) - 1) + ["AD"], sex="F")


def written(root, people, folds=True):
    """Write dataset and prediction tables; without ``folds`` as an older version did."""
    bids, out = make_dataset(root / "bids", people[["participant_id", "age", "sex", "group"]]), root / "out"
    calibration = people.iloc[:-2]
    corrected = correct_with_calibration(people, calibration)
    card = json.loads(CARD.read_text()) | {"name": "ours"}
    write_json(out / "models" / "ours" / "model.json", card)
    described = {"Name": "Brain ages of reference people", "DatasetType": "derivative"}
    write_json(out / "dataset_description.json", described | {"GeneratedBy": [{"Name": "brainage-bids"}]})
    for row, gap in zip(people.to_dict("records"), corrected["bag_corrected"], strict=True):
        path = out / row["participant_id"] / "anat" / f"{row['participant_id']}_desc-brainage_pred.tsv"
        values = {"model": "ours", "predicted_age": row["predicted_age"], "chronological_age": row["age"]}
        values |= {"bag": row["predicted_age"] - row["age"], "bag_corrected": gap}
        values["flags"] = "" if row["fold"] is None else "out_of_fold"
        write_tsv(path, pd.DataFrame([values], columns=list(PREDICTION_COLUMNS)))
        if folds:
            write_json(path.with_suffix(".json"), {"Folds": {"ours": row["fold"]}})
    return bids, out


def by_hand(people):
    """Set each person against the people of the other folds: p, half width of the 90 % interval, gap in both forms."""
    rows = []
    for person in people.itertuples():
        others = people.iloc[:-2]
        others = others[others["fold"] != person.fold]
        slope, intercept = np.polyfit(others["age"].astype(float), others["predicted_age"].astype(float), 1)
        theirs = np.sort(others["predicted_age"] - slope * others["age"] - intercept)
        own = person.predicted_age - slope * person.age - intercept
        k = int(np.ceil(0.9 * (len(others) + 1)))
        half = np.sort(np.abs(theirs))[k - 1]
        rows.append(
            {"p": (1 + (theirs >= own).sum()) / (len(others) + 1), "half": half, "own": own, "cole": own / slope}
        )
    return pd.DataFrame(rows)


def test_folds_calibrate_each_other(people, tmp_path):
    bids, out = written(tmp_path, people)
    found, want = group_level(bids, out, "--bias-method", "cole"), by_hand(people)
    assert found.code == 0
    table = found.table("brainage", "participant_id").loc[people["participant_id"]]
    np.testing.assert_allclose(table["conformal_p_ours"], want["p"], atol=1e-9)
    np.testing.assert_allclose(table["bag_corrected_ours"], want["cole"], rtol=1e-9)
    row = found.table("calibration", "level").loc[90]
    controls = want.iloc[:-1]
    assert row["n_controls"] == len(controls)
    assert row["covered"] == (controls["own"].abs() <= controls["half"]).sum()
    assert row["half_width"] == pytest.approx(controls["half"].median())
    assert "each fold is calibrated by the others" in row["note"]
    assert found.lines["ours"]["source"] == "model_card"
    assert "Cole et al., 2018" in found.page


def test_a_fold_that_was_not_recorded_calibrates_nobody(people, tmp_path):
    bids, out = written(tmp_path, people, folds=False)
    found = group_level(bids, out)
    assert found.code == 0
    table = found.table("brainage", "participant_id").loc[people["participant_id"]]
    assert table["conformal_p_ours"].notna().tolist() == [fold is None for fold in people["fold"]]
    assert table["bag_corrected_ours"].notna().all()  # that of the participant level
    assert found.table("calibration", "level").loc[90, "n_controls"] == 1


def test_only_coverage_below_nominal_beyond_chance_is_warned_of():
    rows = [(95, 40, 30, 0.75, 0.60, 0.86), (90, 40, 34, 0.85, 0.71, 0.93), (80, 0, np.nan, np.nan, np.nan, np.nan)]
    columns = ["level", "n_controls", "covered", "coverage", "wilson_lo", "wilson_hi"]
    said = not_covered(pd.DataFrame(rows, columns=columns).assign(model="m"))
    assert len(said) == 1
    assert "m: controls differ from the calibration people; the 95 % interval holds 30 of 40 controls" in said[0]
    assert "75 %, 95 % CI 60 to 86 %" in said[0]
