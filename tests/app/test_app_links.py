"""The pages of a real run: every link leads somewhere, and a browser has nothing to say against them."""

import pytest
from browser import broken_links, browse, needs_browser


def pages(study):
    found = sorted(study.out.glob("*.html"))
    assert {"group.html", "qc.html", "sub-001.html", "sub-003.html", "training_rnc-demo.html"} <= {
        p.name for p in found
    }
    return found


def test_every_link_and_part_is_there(study):
    assert {page.name: broken_links(page) for page in pages(study) if broken_links(page)} == {}


@needs_browser
@pytest.mark.parametrize("name", ["group", "qc", "sub-001", "sub-003", "training_rnc-demo"])
def test_pages_load_without_a_word_on_the_console(own_study, tmp_path, name):
    """``sub-003`` is the page of a scan that failed."""
    page = own_study.out / f"{name}.html"
    _, source = browse(page, tmp_path)
    assert broken_links(page, source) == []


@needs_browser
def test_the_viewer_and_the_table_of_a_real_group_page_answer(own_study, tmp_path):
    act = """later(function () {
      document.getElementById("viewer-peak").click();
      var kind = document.getElementById("viewer-kind");
      kind.value = kind.options[kind.options.length - 1].value; kind.dispatchEvent(new Event("change"));
      document.querySelectorAll("#scans th span")[1].click();
      var box = document.getElementById("needle"); box.value = "sub-00"; box.dispatchEvent(new Event("input")); });"""
    shown, _ = browse(own_study.out / "group.html", tmp_path, "", act)
    assert "Crosshair at x" in shown["viewer-value"]
    assert "8 of 13" in shown["hits"]  # sub-001 to sub-009 without sub-003, which failed
