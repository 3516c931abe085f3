"""Several datasets in one group run; the results of the participant level are written by hand, nothing is trained."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from commandline import run_here
from handmade import PEOPLE, SPEC, Place, card, joined_results, make, predict, scans_of, tables, volume

from brainage_bids.app.datasets import parse_also
from brainage_bids.app.pooled import confounding, with_unique_ids
from brainage_bids.bids.derivative import prepare_output
from brainage_bids.bids.files import read_tsv, write_json, write_tsv
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.read import DatasetQuery, parse_column_option, read_dataset
from brainage_bids.errors import BadDataError, InvalidDatasetError, NoInputError, UsageError
from brainage_bids.schema import BRAINAGE_COLUMNS
from brainage_bids.stats.cohort_tables import every_session, select_rows


@pytest.fixture
def two(tmp_path):
    """The same labels, sexes, ages, sites and groups twice; only the gaps differ."""
    return make(tmp_path / "a", "A", gap=2.0), make(tmp_path / "b", "B", gap=7.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Both levels of two datasets by the command line: B has its own score, model, decision, failure and pages."""
    root = tmp_path_factory.mktemp("also")
    a = make(root / "a", "PHANTOM A", adas11=[5, 6, 4, 20, 25, 22])
    b = make(root / "b", "PHANTOM B", (*PEOPLE, "AD"), gap=7.0, mmse=[29, 30, 28, 20, 21, 25, 19])
    for place in (a, b):
        for scan in scans_of(place)[:3]:
            volume(place, scan)
    *scored, last = scans_of(b)
    for scan in scored:
        predict(b, scan, {"m": scan.age + 7, "n": scan.age + 1})
    write_json(Outputs(b.out).foreign_card("n"), card("n"))
    Outputs(b.out).prediction(last).unlink()
    event = {"participant_id": "sub-07", "session_id": None, "prefix": "sub-07", "step": "mask", "status": "failed",
             "reason": "no brain"}  # fmt: skip
    write_json(Outputs(b.out).run_log("1") / "run.json", {"Events": [event]})
    keys = "participant_id\tsession_id\trun\tqc_pass\tqc_warn\tqc_decision\tqc_comment\n"
    (b.out / "qc.tsv").write_text(keys + "sub-02\tn/a\tn/a\t1\tn/a\tfail\tmoved\n")
    (b.out / "sub-03.html").write_text("page")
    before = {path: path.read_bytes() for path in b.out.rglob("*") if path.is_file()}
    done = run_here(a.bids, a.out, "group", "--also", b.out)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in b.out.rglob("*") if path.is_file()} == before
    return a.out


def group_table(out, name):
    return pd.read_csv(out / "group" / f"{name}.tsv", sep="\t", na_values="n/a", keep_default_na=False)


def test_one_table_tells_the_same_labels_apart(finished):
    found = read_tsv(finished / "group" / "brainage.tsv")
    start = [*BRAINAGE_COLUMNS, "dataset", "adas11", "mmse"]
    assert list(found.columns)[: len(start)] == start
    assert found.groupby("dataset", sort=False).size().to_dict() == {"PHANTOM A": 6, "PHANTOM B": 6}
    assert set(found["site"]) == {"PHANTOM A: 1", "PHANTOM B: 1"}
    assert (found.loc[found["dataset"] == "PHANTOM A", "predicted_age_n"] == "n/a").all()
    assert (found.loc[found["dataset"] == "PHANTOM B", "adas11"] == "n/a").all()


def test_statistics_hold_everyone_once(finished):
    accuracy = group_table(finished, "accuracy").set_index(["model", "subset"])
    assert accuracy.loc[("m", "all"), "n"] == 11  # 12 people with an age, one excluded in B's qc.tsv
    assert accuracy.loc[("m", "dataset=PHANTOM B"), "n"] == 2  # controls only
    by_hand = [2 + i % 3 for i in range(1, 7)] + [7.0] * 5
    assert accuracy.loc[("m", "all"), "bag_mean"] == pytest.approx(np.mean(by_hand))
    pair = group_table(finished, "modelcomparison").set_index("subset").loc["all"]
    assert pair["n"] == 5  # those that both models have predicted
    scored = group_table(finished, "correlations").set_index(["model", "score", "group", "variant"])
    assert scored.loc[("m", "adas11", "all", "raw"), "n"].tolist() == [6, 6, 6]  # Pearson, Spearman, Kendall
    assert scored.loc[("m", "mmse", "AD", "raw"), "n"].tolist() == [3, 3, 3]


def test_failures_and_cohort_name_the_dataset(finished):
    failed = read_tsv(finished / "group" / "failed.tsv")
    assert failed.to_dict("records") == [{"participant_id": "sub-07", "session_id": "n/a", "step": "mask",
                                          "reason": "no brain", "dataset": "PHANTOM B"}]  # fmt: skip
    cohort = group_table(finished, "cohort").set_index(["dataset", "group"])["n"]
    assert cohort[("PHANTOM A", "CN")] == 3
    assert (cohort[("all", "CN")], cohort[("all", "all")]) == (6, 12)


def test_site_and_dataset_are_covariates(finished):
    site = group_table(finished, "site").set_index(["model", "effect"])
    assert (site.loc[("m", "site"), "n_sites"], site.loc[("m", "dataset"), "n"]) == (2, 5)
    variants = set(group_table(finished, "groupdiff").query("model == 'm'")["variant"])
    assert {"ancova:age+sex+site", "ancova:age+sex+dataset"} <= variants


def test_maps_of_all_datasets_are_averaged(finished):
    path = next((finished / "group" / "maps").glob("*GroupAllSigned_saliency.nii.gz"))
    mean = nib.load(path).get_fdata()
    people = [1, 2, 3, 1, 3]  # three of A with a map, two of B: sub-02 was decided to fail
    cells = np.mean([np.random.default_rng(i).normal(size=(6, 7, 6)) for i in people], axis=0)
    assert mean[24, 32, 24] == pytest.approx(cells[3, 4, 3], abs=1e-5)  # 8 voxels of 4 mm a cell


def test_the_page_links_into_the_other_folder(finished):
    page = (finished / "group.html").read_text()
    assert 'href="../../b/out/sub-03.html"' in page
    assert "Brain age in PHANTOM A and PHANTOM B" in page
    assert "n has no prediction in PHANTOM A" in page
    assert "The datasets PHANTOM A and PHANTOM B were analysed together." in page
    assert "cannot be told apart" not in page  # each dataset has both groups


def test_dataset_is_an_effect_that_is_found(two):
    selected, found = tables(*two[:1], two[1].out, covariates=("age", "dataset"))
    assert selected["participant_id"].nunique() == len(selected) == 12
    row = found["site"].set_index("effect").loc["dataset"]
    assert (row["n"], row["n_sites"], row["status"]) == (6, 2, "ok")
    assert row["p"] < 0.01
    assert "A 2" not in row["note"]
    assert "A 3.00, B 8.00" in row["note"]
    assert "ancova:age+dataset" in set(found["groupdiff"]["variant"])


def test_no_dataset_has_both_groups(tmp_path):
    a, b = make(tmp_path / "a", "A", ("AD",) * 4), make(tmp_path / "b", "B", ("CN",) * 4)
    selected, found = tables(a, b.out)
    rows = found["groupdiff"].set_index("variant")
    assert rows.loc["ancova:age+sex+dataset", "status"] == "confounded"
    assert "dataset and group cannot be told apart" in rows.loc["ancova:age+sex", "note"]
    said = "No dataset has both patients and controls: group and dataset cannot be told apart."
    assert confounding(selected, ["CN"]) == [said]
    mixed = pd.concat([selected, selected.iloc[:1].assign(group="PD", dataset="B")])
    assert confounding(mixed, ["CN"]) == [said.replace("patients", "AD")]


def test_two_folders_of_one_dataset_hold_the_same_people(tmp_path):
    a = make(tmp_path / "a", "A", session="ses-1")
    later = make(tmp_path / "b", "A", session="ses-2", gap=4.0)
    pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(1, 7)], "age": range(63, 69)}).to_csv(
        later.bids / "participants.tsv", sep="\t", index=False
    )
    dataset, collected, _ = joined_results(a, later.out)
    people = with_unique_ids(collected.table)
    assert len(people) == 12
    assert people["participant_id"].nunique() == 6
    assert set(people["site"].dropna()) == {"1"}
    assert len(select_rows(people)[0]) == 6
    assert len(every_session(people)) == 12
    assert dataset.name == "A"


def test_a_dataset_processed_in_two_parts_has_no_failures(tmp_path):
    a = make(tmp_path / "a", "A")
    part = Outputs(tmp_path / "part")
    prepare_output(part, read_dataset(DatasetQuery(a.bids)), "0")
    for scan in scans_of(a)[3:]:
        part.prediction(scan).parent.mkdir(parents=True)
        Outputs(a.out).prediction(scan).rename(part.prediction(scan))
    write_json(part.foreign_card("m"), card("m"))
    _, alone, _ = joined_results(a)
    _, both, _ = joined_results(a, part.root)
    assert (len(alone.table), len(alone.failed)) == (3, 3)
    assert (len(both.table), len(both.failed)) == (6, 0)


def test_one_scan_in_two_folders_is_one_row(tmp_path):
    a = make(tmp_path / "a", "A")
    second = Place(a.bids, tmp_path / "again")
    prepare_output(Outputs(second.out), read_dataset(DatasetQuery(a.bids)), "0")
    first, other, *_ = scans_of(a)
    predict(second, first, {"n": 70.0})
    write_json(Outputs(second.out).foreign_card("n"), card("n"))
    (second.out / "qc.tsv").write_text(f"participant_id\tqc_decision\n{first.participant_id}\tfail\n")
    _, collected, _ = joined_results(a, second.out)
    row = collected.table.loc[f"A/{first.prefix}"]
    assert len(collected.table) == 6
    assert (row["predicted_age_m"], row["predicted_age_n"], row["qc_pass"]) == (64.0, 70.0, 0)
    assert np.isnan(collected.table.loc[f"A/{other.prefix}", "predicted_age_n"])


def test_folders_that_share_a_name_by_chance_are_refused(tmp_path):
    a, b = make(tmp_path / "a", "bids"), make(tmp_path / "b", "bids")
    (b.bids / "dataset_description.json").write_text(json.dumps({"BIDSVersion": "1.10.0"}))
    with pytest.raises(UsageError, match="both called 'bids', not both by a Name"):
        joined_results(a, b.out)


@pytest.mark.parametrize(("column", "told"), [("age", "two values of age"), ("sex", "two sexes")])
def test_two_people_of_one_name_and_label_are_refused(tmp_path, column, told):
    a, b = make(tmp_path / "a", "A"), make(tmp_path / "b", "A")
    table = read_tsv(b.bids / "participants.tsv")
    table[column] = {"age": "80", "sex": "F"}[column]
    write_tsv(b.bids / "participants.tsv", table)
    with pytest.raises(UsageError, match=f"{told}.*different Names"):
        joined_results(a, b.out)


def test_other_weights_and_other_volumes_of_one_name_are_refused(two):
    a, b = two
    write_json(Outputs(b.out).foreign_card("m"), card("m", shift=0.5))
    with pytest.raises(UsageError, match=r"the model m of .* has other weights"):
        joined_results(a, b.out)
    write_json(Outputs(b.out).foreign_card("m"), card("m", spec=SPEC.at(2)))
    with pytest.raises(UsageError, match=r"the model m of .* needs other volumes"):
        joined_results(a, b.out)
    for place, mark in ((a, "a"), (b, "b")):  # under one model.json
        write_json(Outputs(place.out).foreign_card("m"), card("m") | {"weights_sha256": mark * 64})
    with pytest.raises(UsageError, match=r"the model m of .* has other weights"):
        joined_results(a, b.out)
    write_json(Outputs(b.out).foreign_card("m"), card("m"))  # by an earlier version
    joined_results(a, b.out)
    Outputs(b.out).foreign_card("m").unlink()
    with pytest.raises(UsageError, match="lacks the model card"):
        joined_results(a, b.out)


def test_a_dataset_that_moved_is_asked_for(tmp_path, two):
    a, b = two
    moved = b.bids.rename(tmp_path / "moved=here:now")
    with pytest.raises(NoInputError, match=r"its dataset 'B' is not at .*--also BIDS2="):
        joined_results(a, b.out)
    with pytest.raises(NoInputError, match=r"holds results of 'B', but .* is 'A'"):
        joined_results(a, f"{a.bids}={b.out}")
    assert len(joined_results(a, f"{moved}={b.out}")[1].table) == 12


def test_how_also_is_read(tmp_path, two):
    a, b = two
    assert parse_also(str(a.out)) == (None, a.out)
    assert parse_also(f"{a.bids}={b.out}") == (a.bids, b.out)
    odd = tmp_path / "x=y:z"
    odd.mkdir()
    assert parse_also(str(odd)) == (None, odd)
    assert parse_also(f"{odd}={odd}") == (odd, odd)
    with pytest.raises(NoInputError, match="names no folder"):
        parse_also(f"{a.bids}:{b.out}")
    with pytest.raises(NoInputError, match="holds no results of brainage-bids"):
        joined_results(a, b.bids)
    with pytest.raises(UsageError, match="given twice"):
        joined_results(a, a.out)
    done = run_here(a.bids, a.out, "participant", "--also", b.out)
    assert (done.returncode, "group level" in done.stderr) == (64, True)


def test_people_who_left_the_dataset_are_told(two):
    a, b = two
    (b.bids / "sub-06").rename(b.bids / "gone")
    _, collected, _ = joined_results(a, b.out)
    assert len(collected.table) == 11
    assert "1 participants of" in collected.pooled.warnings[0]
    assert "sub-06" in collected.pooled.warnings[0]


def test_scans_that_were_never_asked_for_are_no_failures(two):
    a, b = two
    Outputs(b.out).prediction(scans_of(b)[0]).unlink()
    _, collected, _ = joined_results(a, b.out)
    assert (len(collected.table), len(collected.failed)) == (11, 0)


def test_options_need_only_fit_one_dataset(tmp_path):
    a = make(tmp_path / "a", "A", ("well", "well", "AD"), BDI=[1, 2, 3])
    b = make(tmp_path / "b", "B", ("fine", "AD", "AD"))
    asked = {"controls": ("well", "FINE"), "scores": (("BDI", "participants.tsv", "BDI"),)}
    dataset, collected, _ = joined_results(a, b.out, **asked)
    assert dataset.controls == ("well", "fine")
    assert collected.table["BDI"].notna().sum() == 3
    with pytest.raises(InvalidDatasetError, match="--control nobody"):
        joined_results(a, b.out, controls=("well", "nobody"))
    with pytest.raises(InvalidDatasetError, match="--score x"):
        joined_results(a, b.out, controls=("well", "fine"), scores=(("x", "participants.tsv", "x"),))


def test_a_group_column_of_one_dataset(tmp_path):
    a = make(tmp_path / "a", "A", arm=["control", "x", "x"], groups=("q", "q", "q"))
    b = make(tmp_path / "b", "B", ("CN", "AD", "AD"))
    dataset, collected, _ = joined_results(a, b.out, group_column="arm")
    assert collected.table["group"].tolist() == ["control", "x", "x", "CN", "AD", "AD"]
    assert dataset.controls == ("control", "CN")


def test_a_column_of_ages_of_one_dataset(tmp_path):
    a = make(tmp_path / "a", "A", ("CN", "AD", "AD"))
    b = make(tmp_path / "b", "B", ("CN", "AD", "AD"))
    rows = (b.bids / "participants.tsv").read_text().replace("age\t", "years_at_mri\t", 1)
    (b.bids / "participants.tsv").write_text(rows)
    for text in ("participants.tsv:years_at_mri", "B=participants.tsv:years_at_mri:years"):
        request = parse_column_option(text, "--age-column")
        _, collected, _ = joined_results(a, b.out, age_columns=(request,))
        assert collected.table["age"].tolist() == [61.0, 62.0, 63.0] * 2
    for text, error in (("participants.tsv:x", UsageError), ("x.tsv:age", NoInputError), ("C=x.tsv:age", UsageError)):
        with pytest.raises(error, match=r"--age-column '(x|age)' of "):
            joined_results(a, b.out, age_columns=(parse_column_option(text, "--age-column"),))


def test_a_label_that_is_control_in_one_dataset_only_is_refused(tmp_path):
    a, b = make(tmp_path / "a", "A", ("1", "2", "2")), make(tmp_path / "b", "B", ("1", "2", "2"))
    levels = {"group": {"Levels": {"1": "healthy control", "2": "AD"}}}
    (a.bids / "participants.json").write_text(json.dumps(levels))
    with pytest.raises(UsageError, match="group '1' is a control group in 'A' and not in 'B'"):
        joined_results(a, b.out)
    _, collected, _ = joined_results(a, b.out, controls=("1",))
    assert collected.pooled.warnings == ("Group 1, 2 is a code in several datasets; it is taken to mean the same.",)


def test_predictions_made_elsewhere_name_the_dataset_of_a_label(tmp_path, two):
    a, b = two
    file = tmp_path / "other.tsv"
    file.write_text("participant_id\tpredicted_age\nsub-01\t70\n")
    with pytest.raises(BadDataError, match="sub-01 is in more than one dataset; add a column dataset"):
        joined_results(a, b.out, predictions=(f"other={file}",))
    file.write_text("participant_id\tpredicted_age\tdataset\nsub-01\t70\tB\nsub-02\t71\tA\n")
    _, collected, _ = joined_results(a, b.out, predictions=(f"other={file}",))
    found = collected.table["predicted_age_other"].dropna()
    assert found.to_dict() == {"A/sub-02": 71.0, "B/sub-01": 70.0}
    assert collected.models == ("m", "other")
    file.write_text("participant_id\tpredicted_age\nsub-01\t70\nsub-09\t71\n")
    unique = make(tmp_path / "c", "C", ("CN", "AD"), first=8)
    _, collected, _ = joined_results(unique, a.out, predictions=(f"other={file}",))
    assert collected.table["predicted_age_other"].dropna().to_dict() == {"C/sub-09": 71.0, "A/sub-01": 70.0}


def test_datasets_preprocessed_unlike_each_other_are_told(two):
    a, b = two
    for place in two:
        volume(place, scans_of(place)[0])
    assert not joined_results(a, b.out)[1].pooled.warnings
    path = sidecar_path(Outputs(b.out).volume(scans_of(b)[0], SPEC))
    write_json(path, {**json.loads(path.read_text()), "Engine": "ants"})
    assert "builtin 3; B: ants 3" in joined_results(a, b.out)[1].pooled.warnings[0]


def test_one_dataset_has_no_dataset_column(two):
    _, collected, _ = joined_results(two[0])
    assert "dataset" not in collected.table
    assert collected.pooled is None
    assert list(collected.table["site"].unique()) == ["1"]
