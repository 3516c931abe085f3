import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reportpages import check

from brainage_bids.report.quality_figure import strips
from brainage_bids.report.quality_html import QcPage, QcRow, column_values, rounded, worst_first, write_qc_page

GATES = {
    "snr": {"warn": (10.0, np.inf)},
    "template_ncc": {"refuse": (0.37, np.inf), "fail": (0.43, np.inf), "warn": (0.51, np.inf)},
    "mask_volume_ml": {"warn": (900.0, 2000.0)},
    "fov_cut_fraction": {"fail": (-np.inf, 0.05)},
}
EVIL = "<script>alert(1)</script>"


def scan(label="sub-01", passed=True, reasons=(), **more):
    metrics = {"snr": 18.0, "template_ncc": 0.62, "mask_volume_ml": 1400.0}
    return QcRow(label, passed, reasons=tuple(reasons), **{"metrics": metrics, **more})


def cohort(n=20):
    rng = np.random.default_rng(0)
    return [
        scan(f"sub-{i:02d}", metrics={"snr": rng.normal(18, 1), "template_ncc": rng.normal(0.62, 0.02)})
        for i in range(1, n + 1)
    ]


def written(tmp_path, rows, gates=GATES, **more):
    path = write_qc_page(tmp_path / "qc.html", QcPage("Quality of A", "0.1.0", rows, gates, **more))
    words, reader = check(path)
    return words, reader, path.read_text(encoding="utf-8")


@pytest.fixture
def pictures(tmp_path):
    found = {}
    for name in ("mask", "template"):
        Image.effect_noise((680, 544), 60).save(tmp_path / f"{name}.png")
        found[name] = (tmp_path / f"{name}.png", f"sub-01/figures/{name}.png")
    return found


def test_the_order_is_refused_failed_warned_and_then_the_unlike():
    rows = cohort()
    rows[3] = replace(rows[3], metrics={"snr": 60.0, "template_ncc": 0.62})
    rows += [
        scan("one-warning", reasons=["a"]),
        scan("two-warnings", reasons=["a", "b"]),
        scan("failed", passed=False, reasons=["a"]),
        QcRow("refused", False, refused=True, reasons=("a",)),
    ]
    ranked = worst_first(rows)
    assert [row.label for row, _ in ranked[:5]] == ["refused", "failed", "two-warnings", "one-warning", "sub-04"]
    snr = np.array([row.metrics.get("snr", np.nan) for row in rows])
    snr = snr[np.isfinite(snr)]
    middle = np.median(snr)
    expected = (60 - middle) / (1.4826 * np.median(np.abs(snr - middle)))
    assert ranked[4][1] == pytest.approx(expected)
    assert ranked[0][1] is None


def test_few_scans_have_no_distance():
    assert [z for _, z in worst_first(cohort(7))] == [None] * 7
    assert worst_first([]) == []


def test_the_page_shows_verdicts_reasons_decisions_and_links(tmp_path, pictures):
    rows = [
        *cohort(),
        scan("sub-90", False, ["template ncc 0.4 is below 0.43"], decision="pass", comment="looks fine", outdated=True,
             figures=pictures, page="sub-90.html"),
        scan("sub-91", decision="fail"),
        QcRow("sub-92", False, refused=True, reasons=("no brain could be placed",)),
    ]  # fmt: skip
    words, reader, source = written(tmp_path, rows)
    for shown in ("template ncc 0.4 is below 0.43", "looks fine", "no brain could be placed", "refused", "qc_decision"):
        assert shown in words
    assert "Decided on an older volume." in words
    assert re.search(r"Look again: sub-90\.", words)
    assert re.search(r"Scans 23 .*Refused: no volume was made 1 .*Failed a gate 1 .*training and statistics 21", words)
    assert {"sub-90.html", "sub-01/figures/mask.png", "sub-01/figures/template.png"} <= set(reader.links)
    assert len(reader.images) == 3  # the strips and two thumbnails
    assert source.index("sub-92") < source.rindex("sub-90") < source.rindex("sub-01")
    assert "0.37" in words  # a gate in the table
    assert "PHANTOM" not in words


def test_gates_with_one_end_are_told_so(tmp_path):
    words, _, _ = written(tmp_path, cohort())
    for limits in ("below 10", "below 0.43", "outside 900 to 2000", "above 0.05"):
        assert limits in words


def test_the_page_sorts_by_full_numbers(tmp_path):
    _, _, source = written(tmp_path, [scan(metrics={"snr": 18.126})])
    assert 'data-key="18.1"' in source
    assert 'id="scans"' in source


def test_only_the_worst_carry_pictures_and_the_page_stays_small(tmp_path, pictures, monkeypatch):
    rows = [replace(row, figures=pictures) for row in cohort(30)]
    monkeypatch.setattr("brainage_bids.report.quality_html.THUMBNAILS", 4)
    words, reader, source = written(tmp_path, rows)
    assert len(reader.images) == 1 + 2 * 4
    assert source.count('href="sub-01/figures/mask.png"') == 30
    assert "The first 4 scans have their pictures here" in words
    monkeypatch.setattr("brainage_bids.report.quality_html.PICTURE_BYTES", 1)
    assert len(written(tmp_path, rows)[1].images) == 2  # the strips, and the picture that used up the room


def test_five_thousand_scans_stay_below_15_mb(tmp_path):
    metrics = dict.fromkeys(("snr", "cnr", "template_ncc", "template_dice", "mask_volume_ml", "fwhm_mm"), 0.123456)
    row = QcRow("sub-0001_ses-1", True, reasons=("voxels are coarse (3.00 x 3.00 x 3.00 mm)",), metrics=metrics)
    path = write_qc_page(tmp_path / "qc.html", QcPage("Quality of A", "0.1.0", [row] * 5003, GATES))
    assert path.stat().st_size < 7_000_000  # 8 MB are left for pictures
    assert " 3 more scans are in" in path.read_text(encoding="utf-8")


def test_hostile_words_are_escaped(tmp_path):
    row = scan(EVIL, reasons=[EVIL], comment=EVIL, decision="fail", outdated=True, page=EVIL)
    words, reader, _ = written(tmp_path, [row])
    assert reader.tags.count("script") == 1
    assert words.count("alert(1)") >= 4


def test_a_picture_that_cannot_be_read_is_left_out(tmp_path):
    gone = {"mask": (tmp_path / "gone.png", "gone.png")}
    words, reader, _ = written(tmp_path, [scan(figures=gone)])
    assert len(reader.images) == 1
    assert "none" in words


def test_a_page_without_numbers_says_so(tmp_path):
    words, reader, _ = written(tmp_path, [QcRow("sub-01", False, refused=True, reasons=("empty",))], phantom=True)
    assert "No scan has numbers" in words
    assert "PHANTOM" in words
    assert not reader.images


def test_gates_far_from_the_points_are_not_drawn():
    rows = [scan(metrics={"template_ncc": value}) for value in (0.40, 0.60)]
    near = strips(*_strips_of(rows, "template_ncc")).axes[0]
    drawn = sorted(float(line.get_xdata()[0]) for line in near.lines)
    assert drawn == [0.37, 0.43, 0.51]
    far = strips(*_strips_of([scan(metrics={"snr": value}) for value in (30, 31)], "snr")).axes[0]
    assert not far.lines


def _strips_of(rows, name):
    return column_values(rows, [name]), np.array([row.passed for row in rows]), [name], GATES


@pytest.mark.parametrize(
    ("value", "shown"), [(1520.3, "1520"), (0.61234, "0.612"), (0.00001, "0"), (None, "n/a"), ("x", "n/a"), (18, "18")]
)
def test_numbers_have_three_digits(value, shown):
    assert rounded(value) == shown
