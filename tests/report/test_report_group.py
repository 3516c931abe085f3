import json
import re

import numpy as np
import pandas as pd
import pytest
from browser import browse, needs_browser
from reportpages import changed, check, study

from brainage_bids.report import html_tables
from brainage_bids.report.group_html import GroupPage, flow, write_group_page
from brainage_bids.report.groupdata import analysed_rows, group_order
from brainage_bids.result_tables import ACCURACY


def written(tmp_path, page):
    figures = write_group_page(tmp_path / "group.html", page, tmp_path / "figures")
    assert all(path.is_file() for path in figures)
    return *check(tmp_path / "group.html"), {path.name for path in figures}


@pytest.fixture(scope="module")
def plain(group_page, tmp_path_factory):
    """Words, tags and names of the figures of the page as it is."""
    return written(tmp_path_factory.mktemp("plain"), group_page)


def test_page_shows_the_numbers(plain):
    words, reader, figures = plain
    for shown in (
        "4.65 [3.52 to 5.79]",
        "17.52",
        "−2.12",
        "r = 0.63 [0.34 to 0.81], p <0.001",
        "+0.66 [+0.34 to +0.81]",
        "0.0370",
        "+5.17 [+1.93 to +8.40]",
        "0.00208",
        "20 / 20",
        "212 mL",
        "no second scan",
        "Zha 2023",
        "−0.087",
        "ADAS-Cog-11",
    ):
        assert shown in words, shown
    assert "sub-0007.html" in reader.links
    expected = {
        "ages",
        "flow",
        "scatter-M",
        "gap-M",
        "score-Adas11-M",
        "groupdiff",
        "bias-M",
        "map-M-signed-Sex",
        "map-M-signed-Everyone",
    }
    assert figures == {f"{name}.{kind}" for name in expected for kind in ("png", "svg")}
    assert len(reader.images) == len(expected) - 1  # the flow diagram is SVG inside the page
    assert {f"figures/{name}" for name in figures} <= set(reader.links)
    assert "Left out of the statistics: no second scan" in words


def test_r2_of_an_age_bin_is_grey(group_page):
    built = html_tables.declared(ACCURACY.pages["accuracy"], group_page.rows("accuracy"))
    place = [column["title"] for column in built["columns"]].index("R²")
    assert [row[place]["style"] for row in built["rows"]] == ["", "grey"]


def test_primary_correlations_come_first_and_others_fold(plain):
    words, reader, _ = plain
    assert words.index("Primary tests") < words.index("Sensitivity analyses (1 rows)")
    assert "details" in reader.tags


def test_hostile_names_are_escaped(tmp_path, group_page):
    evil = "<script>alert(1)</script>"
    table = group_page.table.replace({"group": {"AD": evil}, "participant_id": {"sub-0003": evil}})
    page = changed(group_page, table=table, title=evil, warnings=[evil], methods=evil, references=[evil])
    words, reader, figures = written(tmp_path, page)
    assert reader.tags.count("script") == 2  # the maps of the viewer, and our own programs
    assert words.count("alert(1)") > 10
    assert all("<" not in name and "/" not in name for name in figures)
    assert not any("<" in link for link in reader.links)


def test_bare_page(tmp_path):
    """No ages, groups, models, scores, controls or maps: sentences instead of figures."""
    table = pd.DataFrame({"participant_id": ["sub-1"], "session_id": [None], "age": [None], "group": [None]})
    words, reader, figures = written(tmp_path, GroupPage("T", "0", table))
    assert figures == {"flow.png", "flow.svg"}
    assert not reader.images
    for said in (
        "No model gave predictions",
        "No control group",
        "no age histogram",
        "no clinical score",
        "No mean maps",
        "one group only",
    ):
        assert said in words, said


def test_empty_study(tmp_path):
    table = pd.DataFrame(columns=["participant_id", "session_id", "age", "group"])
    words, _, _ = written(tmp_path, GroupPage("T", "0", table, ["m"], ["NC"], scores=["mmse"]))
    assert "No scan has a result" in words


@pytest.mark.parametrize("n", [1, 2, 5])
def test_tiny_studies(tmp_path, n):
    words, _, figures = written(tmp_path, GroupPage("T", "0", study(n), ["m"], ["NC"], scores=["adas11"]))
    assert "gap-M.png" in figures
    assert "sub-0000" in words


def test_corrected_rows_show_the_interval_that_counts_the_line(tmp_path, group_page):
    row = {"model": "m", "variant": "corrected", "case": "AD", "control": "NC", "n_case": 20, "n_control": 20}
    row |= {"mean_diff": 3.0, "ci_lo": 1.11, "ci_hi": 4.89, "line_ci_lo": 0.22, "line_ci_hi": 5.78}
    row |= {"hedges_g": 0.6, "g_ci_lo": 0.31, "g_ci_hi": 0.91, "line_g_ci_lo": 0.04, "line_g_ci_hi": 1.16, "p": 0.002}
    row |= {"status": "ok", "note": "", "t": 3.0, "df": 38.0}
    words, _, _ = written(tmp_path, changed(group_page, groupdiff=pd.DataFrame([row]), maps=None, scores=[]))
    for shown in ("0.22", "5.78", "0.04", "1.16"):
        assert shown in words
    assert "1.11" not in words
    row |= {"variant": "raw", "line_ci_lo": np.nan, "line_ci_hi": np.nan}
    words, _, _ = written(tmp_path, changed(group_page, groupdiff=pd.DataFrame([row]), maps=None, scores=[]))
    assert "1.11" in words


def test_rows_without_an_estimate_keep_their_note(tmp_path, group_page):
    row = {"model": "m", "variant": "raw", "case": "AD", "control": "NC", "n_case": 2, "n_control": 20}
    row |= {"mean_diff": np.nan, "p": None, "status": "insufficient_n", "note": "needs 3 per group"}
    words, _, figures = written(tmp_path, changed(group_page, groupdiff=pd.DataFrame([row]), maps=None, scores=[]))
    assert "too few people for this test; needs 3 per group" in words
    assert "groupdiff.png" not in figures


def test_text_cells_read_back_from_a_file_work_alike(tmp_path, group_page):
    as_text = group_page.table.astype(object).where(group_page.table.notna(), "n/a").astype(str)
    first, _, _ = written(tmp_path, changed(group_page, maps=None))
    second, _, _ = written(tmp_path, changed(group_page, maps=None, table=as_text))
    assert first == second


def test_a_missing_map_is_named(tmp_path, group_page):
    maps = group_page.maps.assign(path=[str(tmp_path / "gone.nii.gz"), group_page.maps["path"][1]])
    words, _, figures = written(tmp_path, changed(group_page, maps=maps))
    assert "gone.nii.gz" in words
    assert "map-M-signed-Everyone.png" in figures


def thousands(tmp_path, n, models, **more):
    table = study(n)
    for model in models[1:]:
        made = {f"{kind}_{model}": table[f"{kind}_m"] for kind in ("predicted_age", "bag", "bag_corrected")}
        table = table.assign(**made)
    page = changed(GroupPage("T", "0", table, models, ["NC"], participant_pages=True), **more)
    write_group_page(tmp_path / "group.html", page, tmp_path / "figures")
    return tmp_path / "group.html"


def test_twenty_people_and_twenty_thousand(tmp_path):
    """The page holds every scan, also those of a large study with three models, and stays small enough to mail."""
    small = thousands(tmp_path / "20", 20, ["m"])
    large = thousands(tmp_path / "20000", 20_000, list("mkl"))
    assert small.stat().st_size < 2e6
    assert large.stat().st_size < 15e6
    words, reader = check(large)
    assert "20 000" in words.replace("\u202f", " ")
    assert not any(link.startswith("sub-") for link in reader.links)
    source = large.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="scans-data">(.*?)</script>', source, re.S).group(1))
    assert len(data["rows"]) == 20_000
    assert data["rows"][-1][0] == "sub-19999"
    assert not any(path.stat().st_size > 5e6 for path in large.parent.rglob("*.svg"))  # density, not a mark per person
    assert "sub-0019.html" in check(small)[1].links


@needs_browser
def test_long_table_is_searched_and_sorted(tmp_path):
    left = pd.DataFrame([{"participant_id": "sub-2499", "session_id": "n/a", "reason": "no_age"}])
    page = thousands(tmp_path, 2500, ["m"], leftout=left)
    rows = r"<tr[^>]*><td[^>]*><a href=\"(sub-\d+\.html)\">"
    _, source = browse(page, tmp_path)
    assert re.findall(rows, source)[:2] == ["sub-0000.html", "sub-0001.html"]
    assert len(re.findall(rows, source)) == 200
    assert "the first 200 are shown" in source
    script = """addEventListener("load", function () {
      var head = document.querySelectorAll("#scans th span")[0]; head.click(); head.click();
      document.getElementById("more").click(); });"""
    _, source = browse(page, tmp_path, "", script)
    assert re.findall(rows, source)[:2] == ["sub-2499.html", "sub-2498.html"]
    assert len(re.findall(rows, source)) == 400
    assert source.count('<tr class="note"><td class="w"><a href="sub-2499.html">') == 1
    script = """addEventListener("load", function () {
      var box = document.getElementById("needle"); box.value = "SUB-12"; box.dispatchEvent(new Event("input")); });"""
    shown, source = browse(page, tmp_path, "", script)
    assert "100 of 2500" in shown["hits"]
    assert set(re.findall(rows, source)) == {f"sub-12{i:02d}.html" for i in range(100)}


def test_left_out_rows_leave_the_pictures(group_page):
    assert "sub-0000" not in set(analysed_rows(group_page)["participant_id"])
    assert len(analysed_rows(group_page)) == 39
    steps = dict(flow(group_page))
    assert steps["Scans found"] == "41"
    assert steps["Scans in the statistics"] == "39 (39 participants)"


def test_left_out_by_run_spares_the_other_run(group_page):
    twice = pd.concat([group_page.table.assign(run="run-1"), group_page.table.assign(run="run-2")])
    left = pd.DataFrame([{"participant_id": "sub-0001", "session_id": "n/a", "run": "run-2", "reason": "worse run"}])
    rows = analysed_rows(changed(group_page, table=twice, leftout=left))
    assert list(rows.loc[rows["participant_id"] == "sub-0001", "run"]) == ["run-1"]


def test_controls_come_first_and_the_unstated_last():
    rows = pd.DataFrame({"group": ["PD", "group not stated", "AD", "NC"]})
    assert group_order(rows, ["NC"]) == ["NC", "AD", "PD", "group not stated"]


def test_phantom_banner(tmp_path, group_page):
    words, _, _ = written(tmp_path, changed(group_page, phantom=True, maps=None, scores=[]))
    assert "PHANTOM" in words


def test_controls_who_are_not_in_the_statistics_are_no_controls(tmp_path, group_page, plain):
    words, _, _ = plain
    assert "The error is judged on healthy people." in words
    assert "No control group." not in words
    patients = group_page.table.assign(group="AD")
    words, _, _ = written(tmp_path, changed(group_page, table=patients, maps=None, scores=[]))
    assert "No control group. No control is left in the statistics" in words
    assert "The error is judged on healthy people." not in words


def test_nothing_is_said_to_be_removed_that_was_not(tmp_path, group_page):
    said = "The correction below was estimated in people who were not used for training, and removed."
    line = {"m": {"method": "none", "source": "none", "n": 0, "warnings": []}}
    assert said not in written(tmp_path, changed(group_page, bias=line, maps=None, scores=[]))[0]
    line["m"]["method"] = "beheshti"
    assert said in written(tmp_path, changed(group_page, bias=line, maps=None, scores=[]))[0]


def repeated_page():
    """Two groups of four people with three sessions, the second ages faster; tables as the group level has them."""
    rows = [
        {"participant_id": f"sub-{group}{i}", "session_id": f"ses-{year}", "age": 60.0 + i + year, "group": group,
         "predicted_age_m": 61.0 + i + year * rate, "bag_m": 1.0 + year * (rate - 1), "bag_corrected_m": np.nan}
        for group, rate in (("NC", 1.0), ("AD", 1.5)) for i in range(4) for year in (0, 1, 2)
    ]  # fmt: skip
    head = {"model": "m", "n": 4, "n_scans": 12, "sd": 0.1, "status": "ok", "note": ""}
    mixed = head | {"analysis": "mixed:age_bl+sex", "group": "all", "note": "said"}
    change = pd.DataFrame([
        head | {"analysis": "bag_rate", "group": "AD", "term": "mean", "estimate": 0.5, "ci_lo": 0.4, "ci_hi": 0.6},
        head | {"analysis": "bag_rate", "group": "AD", "term": "AD-NC", "estimate": 0.5, "p": 0.0123},
        mixed | {"term": "time:group=AD", "estimate": 0.51},
        mixed | {"term": "var_residual", "estimate": 0.2, "note": "said; of this row"},
    ])  # fmt: skip
    agree = pd.DataFrame([{"model": "m", "measure": "bag", "n": 7, "icc21": 0.9451, "icc21_ci_lo": 0.81,
                           "icc21_ci_hi": 0.99, "status": "ok", "note": ""}])  # fmt: skip
    site = pd.DataFrame([{"model": "m", "n": 4, "n_sites": 2, "f": 3.25, "df_num": 1, "df_den": 2, "p": 0.21,
                          "status": "confounded", "note": ""}])  # fmt: skip
    table = pd.DataFrame(rows)
    return GroupPage(title="PHANTOM twice", version="0", table=table, models=["m"], controls=["NC"], sessions=table,
                     tables={"longitudinal": change, "reliability": agree, "site": site})  # fmt: skip


def test_people_scanned_more_than_once(tmp_path):
    words, _, figures = written(tmp_path, repeated_page())
    for shown in ("People scanned more than once", "+0.50 [+0.40 to +0.60]", "AD − NC", "0.0123", "time × group=AD",
                  "age at the first scan + sex", "variance: residual", "0.945 [0.810 to 0.990]", "3.25",
                  "cannot be told apart from the group", "NC: 4 people; AD: 4 people"):  # fmt: skip
        assert shown in words, shown
    assert words.count("said") == words.count("of this row") == 1
    assert {"trajectories-M.png", "trajectories-M.svg"} <= figures


def test_no_repeated_scans_no_section(plain):
    words, _, figures = plain
    assert "People scanned more than once" not in words
    assert not any(name.startswith("trajectories") for name in figures)


def test_many_trajectories_are_thinned_and_said(tmp_path):
    page = repeated_page()
    many = pd.concat(
        [page.sessions.assign(participant_id=page.sessions["participant_id"] + f"x{i}") for i in range(60)]
    )
    words, _, _ = written(tmp_path, changed(page, sessions=many.reset_index(drop=True)))
    assert "80 people are not drawn" in words  # 240 a group, 200 of them drawn
