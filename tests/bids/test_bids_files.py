"""Tables survive writing, reading and writing again."""

import pandas as pd
import pytest

from brainage_bids.bids.files import read_json, read_rows, read_tsv, write_json, write_tsv
from brainage_bids.errors import BadDataError


def test_cells_survive_any_number_of_rewrites(tmp_path):
    table = pd.DataFrame(
        {"participant_id": ["sub-1", "sub-2"], 'what "he" said': ['a "quoted" word', "back\\slash, comma"]}
    )
    path = write_tsv(tmp_path / "t.tsv", table)
    once = path.read_bytes()
    for _ in range(3):
        write_tsv(path, read_tsv(path))
    assert path.read_bytes() == once
    assert list(read_tsv(path).iloc[:, 1]) == ['a "quoted" word', "back\\slash, comma"]


def test_missing_numbers_and_line_breaks(tmp_path):
    table = pd.DataFrame({"x": [1.0, None, 0.1], "text": ["two\nlines", None, "tab\there"]})
    assert write_tsv(tmp_path / "t.tsv", table).read_text() == "x\ttext\n1\ttwo lines\nn/a\tn/a\n0.1\ttab here\n"


def test_a_table_without_rows_keeps_its_header(tmp_path):
    assert write_tsv(tmp_path / "t.tsv", pd.DataFrame(columns=["a", "b"])).read_text() == "a\tb\n"


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "'=x", "''-y", "-", "＝1+1"]
HARMLESS = ["'quoted'", "a=b", "n/a", "-2.5", "+3", "1e-3", "'", "it's"]


def test_a_spreadsheet_runs_no_cell_and_reading_gives_the_text_back(tmp_path):
    table = pd.DataFrame({"=head": [*FORMULAS, *HARMLESS], "x": [-float(i) for i in range(16)]})
    path = write_tsv(tmp_path / "t.tsv", table)
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert [line[0] for line in lines[1:]] == [f"'{text}" for text in FORMULAS] + HARMLESS
    assert lines[0][0] == "'=head"
    assert lines[3][1] == "-2"
    assert list(read_tsv(path)["=head"]) == [*FORMULAS, *HARMLESS]
    assert [row["=head"] for row in read_rows(path)] == [*FORMULAS, *HARMLESS]
    once = path.read_bytes()
    assert write_tsv(path, read_tsv(path)).read_bytes() == once


@pytest.mark.parametrize(("text", "words"), [("a\tb\n1\n", "line 2 has 1 cell"), ("", "empty"), ("a\ta\n", "several")])
def test_a_table_that_is_none_is_refused(tmp_path, text, words):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(BadDataError, match=words):
        read_tsv(tmp_path / "t.tsv")


def test_what_utf8_cannot_hold_is_written_so_that_it_can_be_read(tmp_path):
    odd = b"/data/\xff".decode("utf-8", "surrogateescape")
    assert read_json(write_json(tmp_path / "x.json", {"path": odd})) == {"path": odd}
    assert list(read_tsv(write_tsv(tmp_path / "x.tsv", pd.DataFrame({"path": [odd]})))["path"]) == ["/data/\\udcff"]
