"""Tables survive writing, reading and writing again."""

import errno
import gzip
import os

import numpy as np
import pandas as pd
import pytest

from brainage_bids.bids.files import atomic, cell_text, no_room, read_json, read_rows, read_tsv, write_json, write_tsv
from brainage_bids.errors import BadDataError, CannotCreateError, InputOutputError, NoRoomError


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


def test_a_column_of_numbers_is_written_as_each_number_alone(tmp_path):
    numbers = [0.1, -0.0, 3.0, -7.0, 1e15, 123456789012345.0, 1e300, 1e-7, np.nan, np.inf, -np.inf, 1 / 3]
    written = write_tsv(tmp_path / "t.tsv", pd.DataFrame({"x": numbers})).read_text().split("\n")
    assert written == ["x", *map(cell_text, numbers), ""]
    assert written[2:6] == ["0", "3", "-7", "1000000000000000.0"]


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_names_the_file_and_the_way_out_and_leaves_nothing(tmp_path, number):
    def write(temporary):
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))  # as a write does, without a name

    said = r"x\.tsv cannot be written: .*; make room there, then start the same"
    with pytest.raises(NoRoomError, match=said), atomic(tmp_path / "x.tsv") as temporary:
        write(temporary)
    assert list(tmp_path.iterdir()) == []
    assert NoRoomError.exit_code == 74


def test_what_the_block_could_not_read_is_not_blamed_on_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"), atomic(tmp_path / "x.tsv"):
        (tmp_path / "gone").read_text()
    with pytest.raises(gzip.BadGzipFile), atomic(tmp_path / "x.tsv"):
        gzip.decompress(b"no gzip")


def test_a_failing_disk_is_74_and_a_forbidden_folder_73(tmp_path):
    with pytest.raises(InputOutputError, match="check the disk") as caught, atomic(tmp_path / "x"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not isinstance(caught.value, NoRoomError)
    with pytest.raises(CannotCreateError, match=r"cannot create .*check the permissions"), atomic(tmp_path / "x"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_no_room_is_known_in_the_words_that_nipype_hands_on():
    said = "Exception raised while executing Node sub_01.\n\nTraceback:\n\tTraceback (most recent call last):\n"
    told = "/out/a.nii.gz cannot be written: No space left on device; make room there"
    assert no_room(RuntimeError(f"{said}\tbrainage_bids.errors.NoRoomError: {told}\n")) == told
    plain = no_room(RuntimeError(f"{said}\tOSError: [Errno 28] No space left on device: '/work/_node.pklz'\n"))
    assert plain.startswith("/work/_node.pklz cannot be written: No space left on device")
    hidden = RuntimeError("2 raised. Re-raising first.")
    hidden.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/work/x")
    assert no_room(hidden).startswith("/work/x cannot be written")
    assert no_room(RuntimeError(f"{said}\tOSError: [Errno 5] Input/output error\n")) is None
