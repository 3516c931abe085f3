import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainage_bids.bids.files import as_written
from brainage_bids.bids.quality_decisions import (
    Decision,
    QcTable,
    check_decisions,
    effective_pass,
    is_outdated,
    read_qc,
    scan_key,
    update_qc,
)
from brainage_bids.errors import BadDataError
from brainage_bids.schema import QC_COLUMNS, Scan

COLUMNS = tuple(QC_COLUMNS)


def row(person="sub-01", session=None, run=None, volume="v1", **more):
    return {"participant_id": person, "session_id": session, "run": run, "qc_pass": 1, "qc_volume": volume, **more}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "qc.tsv"
    update_qc(path, COLUMNS, [row("sub-10", snr=12.345678901234567), row("sub-2"), row("sub-2", "ses-1", "run-1")])
    return path


def edit(path, person, **cells):
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    for line in lines[1:]:
        if line[lines[0].index("participant_id")] == person:
            for name, cell in cells.items():
                line[lines[0].index(name)] = cell
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")


def test_a_new_table_has_its_columns_full_precision_and_natural_order(path):
    lines = path.read_text().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert [line.split("\t")[0] for line in lines[1:]] == ["sub-2", "sub-2", "sub-10"]
    assert "12.345678901234567" in lines[3]
    assert read_qc(path).decision(("sub-10", None, None)) == Decision(None, "", "v1")
    assert read_qc(path.with_name("none.tsv")) == QcTable()


@pytest.mark.parametrize(
    ("cell", "verdict"),
    [("pass", "pass"), ("FAIL", "fail"), (" Exclude ", "fail"), ("accept", "pass"), ('"fail"', "fail"), ("", None),
     ("n/a", None), ("N/A", None)],
)  # fmt: skip
def test_decisions_are_understood(path, cell, verdict):
    edit(path, "sub-10", qc_decision=cell)
    assert read_qc(path).decision(("sub-10", None, None)).verdict == verdict


def test_other_words_are_an_error_that_names_row_and_value(path):
    edit(path, "sub-10", qc_decision="maybe")
    before = path.read_bytes()
    with pytest.raises(BadDataError, match=r"line 4 has the qc_decision 'maybe' for sub-10; write pass or fail"):
        read_qc(path)
    with pytest.raises(BadDataError, match="maybe"):
        update_qc(path, COLUMNS, [row()])
    assert path.read_bytes() == before
    assert not path.with_name(".lock").exists()


def test_what_a_person_wrote_stays_and_the_numbers_change(path):
    edit(path, "sub-10", qc_decision="Exclude", qc_comment='moved; "ghost" \\ é  twice')
    told = update_qc(path, COLUMNS, [row("sub-10", volume="v2", snr=7.5, qc_warn="dim"), row("sub-11")])
    again = read_qc(path)
    assert again.rows == told.rows
    cells = again.rows[("sub-10", None, None)]
    assert (cells["qc_decision"], cells["qc_comment"]) == ("Exclude", 'moved; "ghost" \\ é  twice')
    assert (cells["snr"], cells["qc_warn"]) == ("7.5", "dim")
    assert cells["qc_volume"] == "v1"  # what the decision was made on
    assert is_outdated(again.decision(("sub-10", None, None)), "v2")
    assert set(again.rows) == {("sub-2", None, None), ("sub-2", "ses-1", "run-1"), ("sub-10", None, None),
                               ("sub-11", None, None)}  # fmt: skip


def test_emptying_the_volume_confirms_a_decision(path):
    edit(path, "sub-10", qc_decision="fail", qc_volume="")
    told = update_qc(path, COLUMNS, [row("sub-10", volume="v2")]).decision(("sub-10", None, None))
    assert told == Decision("fail", "", "v2")
    assert not is_outdated(told, "v2")
    assert not is_outdated(Decision(None, "", "v1"), "v2")


def test_without_a_decision_the_row_follows_the_volume(path):
    assert update_qc(path, COLUMNS, [row("sub-10", volume="v2")]).rows[("sub-10", None, None)]["qc_volume"] == "v2"


def test_nothing_new_writes_nothing(path):
    before = path.stat().st_mtime_ns
    update_qc(path, COLUMNS, [row("sub-2")])
    assert path.stat().st_mtime_ns == before


def test_own_columns_and_their_order_stay(path):
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    turned = [["rater", *line[::-1]] if n == 0 else [f"J{n}", *line[::-1]] for n, line in enumerate(lines)]
    path.write_text("".join("\t".join(line) + "\n" for line in turned))
    update_qc(path, COLUMNS, [row("sub-10", snr=1.0), row("sub-77")])
    after = [line.split("\t") for line in path.read_text().splitlines()]
    assert after[0] == ["rater", *COLUMNS[::-1]]
    assert [line[0] for line in after[1:]] == ["J1", "J2", "J3", "n/a"]
    assert read_qc(path).rows[("sub-10", None, None)]["snr"] == "1"


def test_deleted_rows_come_back_and_the_others_keep_their_decisions(path):
    edit(path, "sub-10", qc_decision="fail")
    kept = [line for line in path.read_text().splitlines() if not line.startswith("sub-2")]
    path.write_text("\n".join(kept))
    table = update_qc(path, COLUMNS, [row("sub-2"), row("sub-10")])
    assert table.decision(("sub-10", None, None)).verdict == "fail"
    assert table.decision(("sub-2", None, None)).verdict is None


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_saved_by_spreadsheets_are_read(path, ends, encoding):
    edit(path, "sub-10", qc_decision="fail", qc_comment='"he said ""moved"", é"')
    content = path.read_text(encoding="utf-8").replace("\n", ends)
    path.write_bytes(content.encode(encoding))
    assert read_qc(path).decision(("sub-10", None, None)) == Decision("fail", 'he said "moved", é', "v1")
    update_qc(path, COLUMNS, [row("sub-10")])
    assert '\t"he said ""moved"", é"\t' in path.read_text(encoding="utf-8")


def test_a_spreadsheet_that_quotes_every_cell_is_read(path):
    edit(path, "sub-10", qc_decision="fail")
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    path.write_text("".join("\t".join(f'"{cell}"' for cell in line) + "\n" for line in lines))
    assert read_qc(path).decision(("sub-10", None, None)).verdict == "fail"
    assert len(update_qc(path, COLUMNS, [row("sub-10")]).rows) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("\t", ";"), "participant_id among them, separated by tabs"),
        (lambda t: t.replace("participant_id", "person"), "participant_id among them"),
        (lambda t: t.replace("sub-10", "10"), "participant_id '10', which is no label"),
        (lambda t: t + t.splitlines()[-1] + "\n", "repeats the row of sub-10"),
        (lambda t: t.replace("sub-10\t", "sub-10\tstray\t"), "look for a tab inside a cell"),
        (lambda t: t.replace("sub-10\t", 'sub-10\t"first\nsecond"\t'), "line break inside a cell"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_and_left_alone(path, change, words):
    path.write_text(change(path.read_text()))
    before = path.read_bytes()
    with pytest.raises(BadDataError, match=words):
        update_qc(path, COLUMNS, [row()])
    assert path.read_bytes() == before


def test_a_table_in_another_encoding_is_refused(path):
    path.write_bytes(path.read_bytes().replace(b"sub-10\t", b"sub-10\xe9\t"))
    with pytest.raises(BadDataError, match="not UTF-8 text"):
        read_qc(path)


TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\t\r\n"), max_size=20)


@settings(deadline=None, max_examples=50)
@given(comment=TEXT, extra=TEXT, verdict=st.sampled_from(["pass", "Exclude", "", "n/a"]), volume=st.integers(1, 3))
def test_any_text_survives_any_number_of_runs(tmp_path_factory, comment, extra, verdict, volume):
    path = tmp_path_factory.mktemp("qc") / "qc.tsv"
    header = ("mine", "participant_id", "qc_comment", "qc_decision")
    path.write_text("\t".join(header) + "\n" + "\t".join((extra, "sub-01", comment, verdict)) + "\n", encoding="utf-8")
    for turn in range(2):
        update_qc(path, COLUMNS, [row(volume=f"v{volume + turn}"), row("sub-02")])
    cells = read_qc(path).rows[("sub-01", None, None)]
    assert (cells["mine"], cells["qc_comment"]) == (as_written(extra), as_written(comment))
    assert cells["qc_decision"] == verdict
    assert (cells["qc_volume"] == f"v{volume}") == (verdict in ("pass", "Exclude"))


@pytest.mark.parametrize(
    ("gates", "verdict", "used"),
    [(True, None, True), (False, None, False), (None, None, None), (True, "fail", False), (False, "fail", False),
     (None, "fail", False), (True, "pass", True), (False, "pass", True), (None, "pass", None)],
)  # fmt: skip
def test_a_person_overrules_the_gates(gates, verdict, used):
    assert effective_pass(gates, verdict) is used


def test_the_key_of_a_scan():
    assert scan_key(Scan("x", "sub-1", "ses-2", (("acq", "a"), ("run", "1")))) == ("sub-1", "ses-2", "acq-a_run-1")


def test_what_a_person_wrote_is_no_formula_in_the_file_and_reads_as_it_was(path):
    edit(path, "sub-10", qc_decision="fail", qc_comment="=HYPERLINK(A1)")
    update_qc(path, COLUMNS, [row("sub-10", snr=-2.5)])
    once = path.read_bytes()
    assert b"\t'=HYPERLINK(A1)" in once
    assert b"\t-2.5\t" in once
    assert read_qc(path).decision(("sub-10", None, None)).comment == "=HYPERLINK(A1)"
    update_qc(path, COLUMNS, [row("sub-10", snr=-2.5)])
    assert path.read_bytes() == once


def test_a_decision_in_the_row_of_nobody_is_refused(path, tmp_path):
    edit(path, "sub-10", qc_decision="fail")
    scans = [Scan("x", "sub-010", None)]
    with pytest.raises(BadDataError, match="'sub-10', which is no scan; the scan is 'sub-010'"):
        check_decisions(path, scans, tmp_path)
    (tmp_path / "sub-10").mkdir()  # somebody else
    check_decisions(path, scans, tmp_path)
    (tmp_path / "sub-10").rmdir()
    check_decisions(path, [Scan("x", "sub-10", None)], tmp_path)
    check_decisions(path, [Scan("x", "sub-11", None)], tmp_path)
    path.write_text(path.read_text().replace("sub-10\tn/a", "sub-10\tses-01"))
    with pytest.raises(BadDataError, match="'sub-10 ses-01', which is no scan; the scan is 'sub-10 ses-1'"):
        check_decisions(path, [Scan("x", "sub-10", "ses-1")], tmp_path)


def test_a_table_that_is_not_fetched_is_not_absent(path):
    path.unlink()
    path.symlink_to(".git/annex/objects/xx")
    with pytest.raises(BadDataError, match="not fetched"):
        read_qc(path)
