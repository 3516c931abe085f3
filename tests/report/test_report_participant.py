from dataclasses import replace

import pytest
from reportpages import check

from brainage_bids.report.participant_html import (
    ParticipantPage,
    ScanSection,
    interval_row,
    verdict,
    write_participant_page,
)


def written(tmp_path, page):
    return check(write_participant_page(tmp_path / "page.html", page))


def test_page_shows_the_numbers(tmp_path, participant):
    words, reader = written(tmp_path, participant)
    for shown in (
        "82.31",
        "71.20",
        "+11.11",
        "+9.95",
        "71.47 to 90.83",
        "ADAS-Cog-11",
        "24.3",
        "0.556",
        "32 x 32 x 32 mm",
    ):
        assert shown in words
    assert "+3.00 years" in words  # sum of the map
    assert "trained without this person" in words
    assert "Neurological convention" in words
    assert "not a diagnosis" in words
    assert len(reader.images) == 3  # interval, QC picture, map
    assert "PHANTOM" not in words


def test_hostile_labels_are_escaped(tmp_path, participant, scan):
    evil = "<script>alert(1)</script>"
    hostile = replace(
        scan, label=evil, facts={"group": evil}, qc_warn=(evil,), failed=evil, predictions=({"model": evil},)
    )
    page = replace(
        participant, participant_id=evil, sessions=(hostile,), methods=evil, command=evil, software={evil: evil}
    )
    words, reader = written(tmp_path, page)
    assert "script" not in reader.tags
    assert words.count("alert(1)") >= 8


def test_failed_scan_is_told(tmp_path, participant):
    words, reader = written(tmp_path, replace(participant, sessions=(ScanSection("ses-2", failed="mask: 212 mL"),)))
    assert "This scan failed. mask: 212 mL" in words.replace("  ", " ")
    assert "No prediction" not in words
    assert not reader.images


def test_empty_parts_become_sentences(tmp_path):
    words, _ = written(tmp_path, ParticipantPage("sub-02", "0.1.0", ()))
    assert "No scan of this participant was processed" in words
    words, _ = written(tmp_path, ParticipantPage("sub-02", "0.1.0", (ScanSection("T1w"),), phantom=True))
    assert "No prediction was made" in words
    assert "PHANTOM" in words


def test_missing_age_leaves_the_prediction(tmp_path, participant):
    row = {"model": "m", "predicted_age": 60.0, "chronological_age": float("nan"), "bag": None, "pred_lo": "n/a"}
    words, _ = written(tmp_path, replace(participant, sessions=(ScanSection("T1w", {"age": None}, (row,)),)))
    assert "60.00" in words
    assert "There is no corrected gap" in words


def test_unreadable_pictures_are_named_not_fatal(tmp_path, participant, scan):
    broken = tmp_path / "broken.nii.gz"
    broken.write_text("no")
    page = replace(
        participant, sessions=(replace(scan, figures={"mask": tmp_path / "gone.png"}, saliency={"m": broken}),)
    )
    words, reader = written(tmp_path, page)
    assert "gone.png" in words
    assert "broken.nii.gz" in words
    assert len(reader.images) == 1


def test_interval_is_half_the_distance():
    row = {"model": "m", "bag_corrected": "9.954", "pred_lo": "71.474", "pred_hi": "90.834"}
    assert interval_row(row) == {"model": "m", "gap": 9.954, "half": pytest.approx(9.68)}
    assert interval_row({"bag_corrected": "n/a"}) is None
    assert interval_row({"bag_corrected": 1.0, "pred_lo": None, "pred_hi": 3})["half"] is None


def test_an_interval_that_was_cut_at_age_zero_keeps_its_half_width(tmp_path, participant, scan):
    row = {"model": "m", "chronological_age": 28.0, "bag_corrected": -20.0, "pred_lo": 0.0, "pred_hi": 18.0}
    assert interval_row(row)["half"] == 10.0
    assert verdict(row).startswith("Below the band that holds 95 % of healthy held-out people (\u00b110.0 years")
    old = row | {"predicted_age": 11.0, "bag": -17.0, "pred_lo": -2.0}  # as earlier versions wrote it
    assert interval_row(old) == interval_row(row)
    page = replace(participant, sessions=(replace(scan, predictions=(old,), saliency={}),))
    shown = write_participant_page(tmp_path / "page.html", page).read_text(encoding="utf-8")
    assert "0.00 to 18.00" in shown


@pytest.mark.parametrize(("gap", "start"), [(9.0, "Within"), (-9.68, "Within"), (9.7, "Above"), (-12, "Below")])
def test_verdict_agrees_with_the_chronological_age(gap, start):
    age, half = 70.0, 9.68
    row = {"bag_corrected": gap, "pred_lo": age + gap - half - 1e-9, "pred_hi": age + gap + half + 1e-9}
    assert verdict(row).startswith(start)
    assert (row["pred_lo"] <= age <= row["pred_hi"]) == (start == "Within")


def test_no_verdict_where_the_model_does_not_know_such_scans():
    row = {"bag_corrected": 24.4, "pred_lo": 40.0, "pred_hi": 57.0, "flags": "contrast_extrapolated;qc_warn"}
    assert verdict(row).startswith("The model did not learn from scans of such a contrast: the band")
    assert "\u00b18.5 years around zero) says nothing about this gap" in verdict(row)
    both = verdict(row | {"flags": "out_of_fold;contrast_extrapolated;age_extrapolated"})
    assert "of such an age and a contrast" in both
    assert verdict(row | {"flags": "qc_warn"}).startswith("Above")


def test_what_a_person_decided_is_told(tmp_path, participant, scan):
    assert "A person decided" not in written(tmp_path, participant)[0]
    decided = replace(scan, qc_decision="fail", qc_comment="<b>moved</b>", qc_outdated=True)
    words, reader = written(tmp_path, replace(participant, sessions=(decided,)))
    assert "A person decided: fail (<b>moved</b>). The decision was made on an older volume" in words
    assert "b" not in reader.tags


def test_what_a_model_wants_known_is_said_first(tmp_path):
    page = ParticipantPage("sub-01", "1.0", (), notices=("open-x: a <starting> point.",))
    text = write_participant_page(tmp_path / "p.html", page).read_text(encoding="utf-8")
    assert "open-x: a &lt;starting&gt; point." in text
