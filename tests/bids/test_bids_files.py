"""Tables survive writing, reading and writing again."""

import pandas as pd

from brainage_bids.bids.files import read_tsv, write_tsv


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
