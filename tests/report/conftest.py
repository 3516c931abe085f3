"""Synthetic pages: a brain-shaped ball, a coarse map with one hot cell, and a small study."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from reportpages import COARSE, GRID, ball, changed, study

from brainage_bids.report.group_html import GroupPage
from brainage_bids.report.participant_html import ParticipantPage, ScanSection


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Paths: ``volume``, ``map`` (hot cell at x = +32 mm, sum 3 years) and ``picture``."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    cells = np.zeros((7, 8, 7), np.float32)
    cells[4, 4, 3], cells[1, 2, 3] = 4.0, -1.0
    nib.save(nib.Nifti1Image(ball(), GRID), folder / "volume.nii.gz")
    nib.save(nib.Nifti1Image(cells, COARSE), folder / "map.nii.gz")
    Image.new("RGB", (60, 40), "grey").save(folder / "picture.png")
    return {"volume": folder / "volume.nii.gz", "map": folder / "map.nii.gz", "picture": folder / "picture.png"}


@pytest.fixture
def scan(files):
    row = {
        "model": "rnc-demo",
        "predicted_age": "82.3123",
        "chronological_age": 71.2,
        "age_source": "sessions.tsv:age",
        "bag": 11.1123,
        "bag_corrected": 9.954,
        "pred_lo": 71.474,
        "pred_hi": 90.834,
        "flags": "qc_warn;out_of_fold",
    }
    return ScanSection(
        "ses-1",
        {"age": 71.2, "sex": "F", "group": "AD", "scores": {"adas11": 24.33}},
        (row,),
        {"ncc": 0.5562},
        True,
        ("Similarity is low.",),
        {"mask": files["picture"]},
        files["volume"],
        {"rnc-demo": files["map"]},
    )


@pytest.fixture
def participant(scan):
    return ParticipantPage(
        "sub-01", "0.1.0", (scan,), "### Images\n\nN4 was run.", {"torch": "2.13"}, False, "brainage-bids in out"
    )


@pytest.fixture(scope="session")
def group_page(files):
    accuracy = {"model": "m", "n": 20, "n_missing": 0, "status": "ok", "note": ""}
    accuracy |= {
        "mae": 4.6526,
        "mae_ci_lo": 3.52,
        "mae_ci_hi": 5.79,
        "mae_null": 17.517,
        "bag_p": 0.0861,
        "bag_mean": -1.43,
    }
    correlation = {
        "model": "m",
        "group": "AD",
        "score": "adas11",
        "variant": "corrected",
        "statistic": "pearson",
        "n": 20,
        "n_missing": 0,
        "estimate": 0.63343,
        "ci_lo": 0.34092,
        "ci_hi": 0.81411,
        "df": 18,
        "p": 0.00029654,
        "status": "ok",
        "note": "n/a",
    }
    primary = correlation | {
        "variant": "partial:age+sex",
        "estimate": 0.659,
        "p": 0.01234,
        "q_fdr": 0.03702,
        "family": "scores",
    }
    difference = {
        "model": "m",
        "variant": "ancova:age+sex",
        "case": "AD",
        "control": "NC",
        "n_case": 20,
        "n_control": 20,
        "mean_diff": 5.167453,
        "ci_lo": 1.93,
        "ci_hi": 8.4,
        "t": 3.1746,
        "df": 86,
        "p": 0.002083,
        "status": "ok",
    }
    maps = [
        {"model": "m", "subset": s, "n": 9, "n_empty": 0, "kind": "signed", "path": str(files["map"])}
        for s in ("sex=F", "all")
    ]
    table = study()
    page = GroupPage(
        "A study",
        "0.1.0",
        table,
        ["m"],
        ["NC"],
        scores=["adas11"],
        participant_pages=True,
        underlay=str(files["volume"]),
        maps=pd.DataFrame(maps),
        bias={"m": {"slope": 0.9135, "intercept": 4.31, "n": 60, "age_min": 21, "age_max": 87, "source": "model_card"}},
        methods="### Group statistics\n\nTests are two-sided.",
        references=["Zha 2023"],
        software={"numpy": "2"},
    )
    return changed(
        page,
        accuracy=pd.DataFrame(
            [accuracy | {"subset": "group=NC", "r2": 0.9}, accuracy | {"subset": "age=[60,80)", "r2": -2.118}]
        ),
        correlations=pd.DataFrame([correlation, primary]),
        groupdiff=pd.DataFrame([difference]),
        failed=pd.DataFrame([{"participant_id": "sub-9", "session_id": None, "step": "mask", "reason": "212 mL"}]),
        leftout=pd.DataFrame([{"participant_id": "sub-0000", "session_id": None, "reason": "no second scan"}]),
    )
