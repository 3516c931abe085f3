import re

import numpy as np
import pandas as pd
import pytest
from browser import browse, needs_browser
from reportpages import changed, check, study

from brainage_bids.report import flowchart
from brainage_bids.report.flowchart import Step, layout
from brainage_bids.report.group_html import GroupPage, flow_steps, write_group_page
from brainage_bids.report.paper_tables import fair_rows, general_reason, paper_tables


def cells(table):
    return [[cell["text"] for cell in row] for row in table["rows"]]


@pytest.fixture
def full_page(group_page):
    shared = {"group": "AD", "model": "m", "n": 20, "mae": 5.614, "ae_sd": 4.4, "bag_mean": 2.12, "bag_sd": 6.71}
    shared |= {"bag_p": 0.0123, "score": "adas11", "statistic": "pearson", "corr_n": 20, "status": "ok", "note": ""}
    patients = [shared | {"variant": "raw", "corr": 0.37, "corr_ci_lo": 0.1, "corr_ci_hi": 0.6, "corr_p": 0.009}]
    patients += [shared | {"variant": "partial:age+sex", "corr": 0.31, "corr_p": 0.0004}]
    missing = [("adas11", "all", 40, 20), ("adas11", "NC", 20, 20), ("age", "all", 40, 0), ("age", "NC", 20, 0)]
    flags = [("top_coded", "m", "all", 3, 40), ("top_coded", "m", "AD", 3, 20)]
    quality = [
        {"passed": True, "refused": False, "reasons": ["snr 7.2 is below 8 (noise)"], "decision": "fail"},
        {"passed": False, "refused": False, "reasons": ["snr 1e-3 is below 8 (noise)"], "decision": None},
        {"passed": False, "refused": True, "reasons": ["mask: 212 mL"], "decision": None},
    ]
    return changed(
        group_page,
        maps=None,
        patients=pd.DataFrame(patients),
        missing=pd.DataFrame(missing, columns="variable group n n_missing".split()),
        flags=pd.DataFrame(flags, columns="flag model group n n_scans".split()),
        quality=quality,
        qc_page="qc.html",
        trained_on={"m": 1294},
        files={"patients": "group/patients.tsv", "accuracy": "group/accuracy.tsv", "brainage": "group/brainage.tsv"},
        without_scan=2,
    )


def test_page_holds_the_tables_of_a_paper(tmp_path, full_page):
    write_group_page(tmp_path / "group.html", full_page, tmp_path / "group" / "figures")
    words, reader = check(tmp_path / "group.html")
    for shown in (
        "5.61 ± 4.40", "+2.12 ± 6.71", "0.0123",
        "+0.37 [+0.10 to +0.60], n = 20, p = 0.00900", "+0.31, n = 20, p <0.001", "1 294",
         "20 (50.0 %)", "20 (100.0 %)", "3 (15.0 %)", "hides the exact age", "snr is below 8",
        "no T1w image: 2", "no second scan: 1", "Copy methods and references",
    ):  # fmt: skip
        assert shown in words.replace("\u202f", " "), shown
    wanted = {"qc.html", "group/patients.tsv", "group/accuracy.tsv", "group/brainage.tsv", "group/figures/flow.svg"}
    assert wanted <= set(reader.links)
    assert {"svg", "button"} <= set(reader.tags)


@needs_browser
def test_copy_button_copies_methods_and_references(tmp_path, group_page):
    page = changed(group_page, maps=None, models=[], scores=[], bias=None, groupdiff=None)
    write_group_page(tmp_path / "group.html", page, tmp_path / "figures")
    script = """
      Object.defineProperty(navigator, "clipboard", { value: { writeText: function (text) {
        document.body.setAttribute("data-copied", text); return Promise.resolve(); } } });
      document.querySelector("button[data-copy]").click();"""
    _, source = browse(tmp_path / "group.html", tmp_path, "", script)
    copied = re.search(r'data-copied="([^"]*)"', source).group(1)
    assert "Tests are two-sided." in copied
    assert "Zha 2023" in copied
    assert "Copied." in source.split("<script>")[0]


def test_patients_stand_in_one_line_per_score(full_page):
    (line,) = cells(paper_tables(full_page)["patients"])
    assert line[:3] == ["AD", "m", "20"]
    without = full_page.frame("patients").iloc[:1].assign(score=None, variant=None)
    titles = [c["title"] for c in paper_tables(changed(full_page, patients=without))["patients"]["columns"]]
    assert "Score" not in titles


def test_groups_are_columns_and_everyone_comes_first(full_page):
    table = paper_tables(full_page)["missing"]
    assert [column["title"] for column in table["columns"]] == ["Variable", "Everyone, 40 scans", "NC, 20 scans"]
    assert cells(table) == [["ADAS-Cog-11", "20 (50.0 %)", "20 (100.0 %)"], ["Age", "0", "0"]]


def test_quality_counts_scans_once_per_reason(full_page):
    found = dict(cells(paper_tables(full_page)["quality"]))
    assert found["Scans looked at"] == "3"
    assert found["Passed every gate"] == "1 (33.3 %)"
    assert found["Did not pass a gate"] == "1 (33.3 %)"
    assert found["Could not be processed"] == "1 (33.3 %)"
    assert found["Reason: snr is below 8"] == "2 (66.7 %)"


def test_reasons_lose_the_numbers_of_one_scan_only():
    assert general_reason("fov cut fraction 5.9e-05 is above 0.01 (cut)") == "fov cut fraction is above 0.01"
    assert general_reason("voxels are far from cubes (0.9 x 0.9 x 3 mm)") == "voxels are far from cubes"
    assert general_reason("age below 18 years: the template is an adult's").startswith("age below 18 years")


def test_models_are_judged_on_the_fairest_rows(group_page):
    rows = [{"model": "m", "subset": subset, "n": 9, "mae": mae} for subset, mae in
            (("all", 1.0), ("group=NC", 2.0), ("split=test", np.nan))]  # fmt: skip
    assert [row["mae"] for row in fair_rows(changed(group_page, accuracy=pd.DataFrame(rows)))] == [2.0]
    assert [row["mae"] for row in fair_rows(changed(group_page, controls=[], accuracy=pd.DataFrame(rows)))] == [1.0]


def test_nothing_to_say_is_no_table():
    built = paper_tables(GroupPage("T", "0", study(2), ["m"]))
    assert set(built.values()) == {None}


def test_figures_of_several_sites_and_models(tmp_path):
    table = study(60).assign(site=[f"S{i % 9}" for i in range(60)])
    for name in ("predicted_age", "bag", "bag_corrected"):
        table[f"{name}_k"] = table[f"{name}_m"] + 1
    page = GroupPage("T", "0", table, ["m", "k"], ["NC"])
    paths = write_group_page(tmp_path / "group.html", page, tmp_path / "figures")
    assert {"ages-sites.svg", "gap-models.png"} <= {path.name for path in paths}
    words, reader = check(tmp_path / "group.html")
    assert "by site, stacked; 9 sites" in words
    assert any("other sites" in alt for _, alt in reader.images)
    assert f"k, AD: +{table.loc[table.group == 'AD', 'bag_k'].mean():.2f}" in words


def test_flow_counts_everybody_once(full_page):
    people, found, predicted, analysed = flow_steps(full_page)
    assert (people.count, people.left) == ("43", [("no T1w image", "2")])
    assert (found.count, found.left) == ("41", [("failed at mask", "1")])
    assert (predicted.count, list(predicted.left)) == ("40", [("no second scan", "1")])
    assert analysed.count == "39"
    assert dict(analysed.parts) == {"participants": "39", "NC": "19", "AD": "20"}


def test_boxes_of_the_flow_do_not_meet():
    long = "a reason of many words that has to be broken into several lines of text"
    steps = [Step("Found", "9", [(long, "2"), (long, "3")]), Step("Then", "4", (), [("NC", "2")]), Step("Kept", "4")]
    drawing = layout(steps)
    boxes = drawing["boxes"]
    for i, one in enumerate(boxes):
        assert one["x"] + one["w"] <= drawing["width"]
        assert one["y"] + one["h"] <= drawing["height"]
        assert all(one["y"] < row["y"] < one["y"] + one["h"] for row in one["rows"])
        for other in boxes[i + 1 :]:
            apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert flowchart.in_words(steps).count("left out") == 2
    assert layout([])["boxes"] == []
