"""The error across and within sites on the group page."""

import pandas as pd
import pytest
from reportpages import changed, check
from test_report_gapfigures import Album

from brainage_bids.report import sitefigure
from brainage_bids.report.group_html import write_group_page


def row(subset, kind, model, **more):
    values = {"left_out_by": "far", "model": model, "kind": kind, "subset": subset, "n": 20, "n_missing": 0}
    values |= {"mae": 6.123, "mae_ci_lo": 5.0, "mae_ci_hi": 7.5, "mae_null": 15.0, "bag_mean": 2.5, "bag_ci_lo": 1.0}
    values |= {"bag_ci_hi": 4.0, "pearson_r": 0.9, "n_both": 0, "status": "ok", "note": ""}
    return values | more


@pytest.fixture
def table():
    paired = {"n_both": 20, "mae_diff": 1.234, "ci_lo": 0.5, "ci_hi": 2.0, "p": 0.002, "shift": -3.21}
    paired |= {"shift_ci_lo": -4.0, "shift_ci_hi": -2.5}
    few = {"n": 2, "mae_ci_lo": None, "mae_ci_hi": None, "bag_mean": None, "status": "insufficient_n"}
    return pd.DataFrame(
        [
            row("all", "across", "far"),
            row("all", "within", "near", **paired),
            row("site=A", "across", "far"),
            row("site=A", "within", "near", **paired),
            row("site=B", "across", "far", **few),
        ]
    )


def test_the_page_shows_both_errors_and_their_difference(tmp_path, group_page, table):
    figures = write_group_page(tmp_path / "group.html", changed(group_page, siteerror=table), tmp_path / "figures")
    words, reader = check(tmp_path / "group.html")
    assert "sites-Far" in {path.stem for path in figures}
    for shown in ("Across sites", "site A", "+1.23 [+0.50 to +2.00]", "-3.21", "6.12 [5.00 to 7.50]", "too few people"):
        assert shown.replace("-", "−") in words or shown in words, shown
    alt = next(alt for _, alt in reader.images if alt.startswith("Error and mean gap by place"))
    assert "across (far, n = 20): MAE 6.12 years [95 % CI 5.00 to 7.50]; within (near, n = 20)" in alt


def test_a_study_without_such_models_has_no_such_part(tmp_path, group_page):
    write_group_page(tmp_path / "group.html", group_page, tmp_path / "figures")
    assert "Across sites" not in check(tmp_path / "group.html")[0]
    assert sitefigure.draw(group_page, Album()) == []


def test_the_largest_places_are_drawn_in_their_order(group_page, table):
    many = [row(f"site={i:02d}", "across", "far", n=10 + i) for i in range(30)]
    page = changed(group_page, siteerror=pd.DataFrame([row("all", "across", "far"), *many]))
    album = Album()
    (shown,) = sitefigure.draw(page, album)
    labels = [label.get_text().split("\n")[0] for label in album.figures[0].axes[0].get_yticklabels()]
    assert labels == ["all places", *(f"site {i:02d}" for i in range(6, 30))]
    assert "The 24 largest of 30 places." in shown["caption"]


def test_each_model_has_points_at_its_numbers(group_page, table):
    album = Album()
    sitefigure.draw(changed(group_page, siteerror=table), album)
    left, right = album.figures[0].axes
    named = {line.get_label() for line in left.get_lines()}
    assert {"across places: far", "within places: near", "always the mean age"} <= named
    points = [line.get_xdata()[0] for line in left.get_lines() if line.get_marker() in "o^"]
    assert points == pytest.approx([6.123] * 5)
    assert len([line for line in right.get_lines() if line.get_marker() in "o^"]) == 4  # one place has no mean gap
