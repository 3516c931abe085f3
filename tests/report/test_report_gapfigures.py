"""ROC curves, the interval of the controls, and the tables beside them, on the group page."""

import numpy as np
import pandas as pd
import pytest
from reportpages import changed, check

from brainage_bids.report import gapfigures
from brainage_bids.report.group_html import write_group_page

PAIR = {"case": "AD", "control": "NC"}


@pytest.fixture
def curves():
    points = {"threshold": [np.nan, 3.0, 1.0, -2.0], "fpr": [0, 0.25, 0.5, 1], "tpr": [0, 0.5, 1, 1]}
    parts = [pd.DataFrame(points).assign(model="m", variant=variant, **PAIR) for variant in ("raw", "corrected")]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def page(group_page, curves):
    row = {"model": "m", "n_calibration": 60, "n_controls": 20, "status": "ok", "note": ""}
    covered = {"level": 95, "half_width": 8.5, "covered": 14, "coverage": 0.7, "wilson_lo": 0.481, "wilson_hi": 0.8545}
    few = {"level": 90, "status": "insufficient_n", "note": "5 calibration people, 90 % needs 9"}
    compared = {"group": "AD", "score": "adas11", "variant": "raw", "model_a": "m", "model_b": "k", "n": 28}
    compared |= {"n_missing": 2, "r_a": 0.633, "r_b": 0.387, "r_between": 0.8, "t": 2.621, "df": 25, "p": 0.0147}
    return changed(
        group_page,
        roc_curves=curves,
        calibration=pd.DataFrame([row | covered, row | few]),
        correlationcomparison=pd.DataFrame([compared | {"status": "ok", "note": ""}]),
    )


def test_the_page_shows_curves_interval_and_comparison(tmp_path, page):
    figures = write_group_page(tmp_path / "group.html", page, tmp_path / "figures")
    words, reader = check(tmp_path / "group.html")
    assert {"roc-AD", "interval-M"} <= {path.stem for path in figures}
    for shown in ("14 of 20", "0.70 [0.48 to 0.85]", "5 calibration people", "2.62 (25)", "0.0147", "+0.63", "+0.39"):
        assert shown in words, shown
    said = " ".join(alt for _, alt in reader.images)
    assert "ROC curves of AD against NC" in said
    assert "14 of 20 controls lie within 8.50 years (70 %)" in said


def test_models_lie_over_each_other_and_the_corrected_gap_is_drawn(tmp_path, page, curves):
    other = curves.assign(model="k")
    album = Album()
    shown = gapfigures._roc(changed(page, roc_curves=pd.concat([curves, other])), album)
    assert len(shown) == 1
    lines = album.figures[0].axes[0].get_lines()
    assert len(lines) == 3  # chance and two models
    assert "age-bias-corrected gap" in shown[0]["caption"]
    raw_only = gapfigures._roc(changed(page, roc_curves=curves[curves["variant"] == "raw"]), Album())
    assert "raw gap" in raw_only[0]["caption"]


def test_the_band_is_the_line_and_its_half_width():
    age = np.array([20.0, 40, 60, 80])
    predicted = 0.5 * age + 20 + np.array([0.0, 5, -5, 5.01])
    figure = gapfigures.band_figure(age, predicted, {"slope": 0.5, "intercept": 20.0, "half": 5.0})
    axes = figure.axes[0]
    labels = {text.get_text() for text in axes.get_legend().get_texts()}
    assert {"controls inside (n = 3)", "controls outside (n = 1)"} <= labels
    edges = axes.collections[0].get_paths()[0].vertices
    assert edges[edges[:, 0] == 20][:, 1].min() == 25
    assert edges[edges[:, 0] == 80][:, 1].max() == 65


def test_nothing_to_draw(page):
    rows = page.table.assign(predicted_age_m=np.nan)
    bare = changed(page, roc_curves=None, calibration=None)
    assert gapfigures.draw(bare, rows, Album()) == {"roc": [], "calibration": []}
    assert gapfigures.draw(changed(page, roc_curves=None), rows, Album()) == {"roc": [], "calibration": []}


class Album:
    """Keeps the figures instead of writing them."""

    def __init__(self):
        self.figures = []

    def add(self, name, figure, caption, alt, **more):
        self.figures.append(figure)
        return {"name": name, "caption": caption, "alt": alt}
