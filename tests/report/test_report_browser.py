"""Every kind of page in a real browser: it loads, its table is searched and sorted, nothing is said on the console."""

import re

import numpy as np
import pandas as pd
import pytest
from browser import broken_links, browse, needs_browser

from brainage_bids.report.group_html import write_group_page
from brainage_bids.report.participant_html import write_participant_page
from brainage_bids.report.quality_html import QcPage, QcRow, write_qc_page
from brainage_bids.report.training_html import TrainingPage, write_training_page

pytestmark = needs_browser


@pytest.fixture
def quality():
    rows = [QcRow(f"sub-{i:02d}", True, metrics={"snr": 30.0 - i, "template_ncc": 0.6}) for i in range(1, 12)]
    rows.append(QcRow("sub-99", False, reasons=("the mask is small",), comment="=1+1", metrics={"snr": 3.0}))
    return QcPage("Quality", "0", rows, {"snr": {"warn": (10.0, np.inf)}})


@pytest.fixture
def trained():
    history = [{"member": "main", "stage": "fit", "epoch": "1", "lr": "n/a", "loss": "3", "loss_excess": "n/a",
                "val_mae": "4", "val_mae_knn": "n/a", "seconds": "1"}]  # fmt: skip
    card = {"effective_settings": {"notes": []}, "members": [{"name": "main"}], "phantom": False, "test": None,
            "recipe": {"training": {}},
            "validation": {"kind": "out of fold", "n": 4, "mae": 5, "mae_null": 9}}  # fmt: skip
    return TrainingPage("pca-ridge", "0", card, pd.DataFrame(history))


def column(source, number):
    """Return the texts of a column of the table of scans, as it stands."""
    body = re.search(r'<table id="scans".*?<tbody>(.*?)</tbody>', source, re.S)[1]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row, re.S) for row in re.findall(r"<tr.*?</tr>", body, re.S)]
    return [re.sub(r"<[^>]+>", "", row[number]).strip() for row in rows]


def test_every_kind_of_page_loads_without_a_word_on_the_console(tmp_path, participant, group_page, quality, trained):
    write_group_page(tmp_path / "group.html", group_page, tmp_path / "group" / "figures")
    pages = [
        tmp_path / "group.html",
        write_participant_page(tmp_path / "sub-01.html", participant),
        write_qc_page(tmp_path / "qc.html", quality),
        write_training_page(tmp_path / "training.html", trained),
    ]
    for page in pages:
        _, source = browse(page, tmp_path)
        assert [bad for bad in broken_links(page, source) if not bad.startswith("no file")] == [], page.name


def test_what_fails_in_a_page_is_seen(tmp_path):
    """The watch itself: an exception and a picture that is not there."""
    page = tmp_path / "page.html"
    for body in ("<script>document.getElementById('gone').hidden = true;</script>", "<img src='gone.webp' alt='x'>"):
        page.write_text(f"<html><head></head><body>{body}</body></html>")
        with pytest.raises(AssertionError, match="CONSOLE"):
            browse(page, tmp_path)
    page.write_text("<html><head></head><body id='a'><a href='#b' id='a'></a><a href='c.html'></a></body></html>")
    assert broken_links(page) == ["id a is used twice", "no part #b", "no file c.html"]


def test_the_scans_of_the_quality_page_are_searched_and_sorted(tmp_path, quality):
    page = write_qc_page(tmp_path / "qc.html", quality)
    shown, source = browse(page, tmp_path)
    assert "hidden" not in shown["search"]
    assert column(source, 1)[0] == "sub-99"
    at = column(source, 1)
    heads = [re.sub(r"<[^>]+>", "", head) for head in re.findall(r"<th .*?>(.*?)</th>", source.split('id="scans"')[1])]
    snr = next(i for i, head in enumerate(heads) if "ignal" in head)
    click = f'later(function () {{ document.querySelectorAll("#scans th span")[{snr}].click(); }});'
    _, source = browse(page, tmp_path, "", click)
    assert column(source, 1) == ["sub-99", *(f"sub-{i:02d}" for i in range(11, 0, -1))]
    assert sorted(column(source, 1)) == sorted(at)
    find = """later(function () { var box = document.getElementById("needle"); box.value = "SUB-1";
              box.dispatchEvent(new Event("input")); });"""
    shown, source = browse(page, tmp_path, "", find)
    assert sorted(column(source, 1)) == ["sub-10", "sub-11"]
    assert "2 of 12" in shown["hits"]


def test_the_scans_of_the_group_page_are_searched_and_sorted(tmp_path, group_page):
    write_group_page(tmp_path / "group.html", group_page, tmp_path / "group" / "figures")
    click = 'later(function () { var at = document.querySelectorAll("#scans th span")[0]; at.click(); at.click(); });'
    _, source = browse(tmp_path / "group.html", tmp_path, "", click)
    people = column(source, 0)
    assert len(people) == 40
    assert people == sorted(people, reverse=True)
