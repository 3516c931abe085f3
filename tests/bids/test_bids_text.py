"""Text that is none is named as what it is; JSON that is none says where."""

import json

import pytest

from brainage_bids.bids.text import Ambiguous, NotFetched, Unreadable, is_ambiguous, not_fetched, read_json, read_text
from brainage_bids.errors import BadDataError, shorten

TABLE = "participant_id\tage\nsub-01\t50\nsub-02\t60\n"
ANNEX = "/annex/objects/MD5E-s10--0123456789abcdef0123456789abcdef.tsv\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TABLE.encode("utf-16"), "UTF-16"),
        (TABLE.encode("utf-16-le"), "UTF-16 text without a byte-order mark.*line 1"),
        (TABLE.encode("utf-16-be"), "UTF-16 text without a byte-order mark"),
        (TABLE.encode("utf-32"), "UTF-32"),
        (TABLE.replace("sub-02", "Köln").encode("latin-1"), "line 3 holds the byte 0xf6"),
        (TABLE.encode() + b"\0" * 50, "line 4 holds a NUL byte"),
        (b"\n <!DOCTYPE html><html></html>", "web page"),
        (b"<?xml version='1.0'?><Error/>", "web page"),
        (b"PK\x03\x04rest", "spreadsheet"),
        (b"\xd0\xcf\x11\xe0rest", "old Excel"),
        (b"\x1f\x8brest", "gzip"),
        (b"%PDF-1.4", "PDF"),
        (ANNEX.encode(), "not fetched.*git-annex.*datalad get"),
        (b"../.git/annex/objects/xx/yy/key", "not fetched.*git-annex"),
        (LFS.encode(), "not fetched.*git lfs pull"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, words):
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=f"participants.tsv .*{words}"):
        read_text(path)


def test_text_that_only_mentions_a_pointer_is_text(tmp_path):
    path = tmp_path / "notes.tsv"
    path.write_text("participant_id\tpath\nsub-01\t.git/annex/objects/xx\n")
    assert not_fetched(path) is None
    assert read_text(path).startswith("participant_id")


def test_links(tmp_path):
    link = tmp_path / "a.json"
    link.symlink_to(".git/annex/objects/xx/yy/key")
    with pytest.raises(NotFetched, match=r"broken link into git-annex; fetch it with `datalad get`") as told:
        read_json(link)
    assert told.value.exit_code == 66
    assert isinstance(told.value, BadDataError)
    link.unlink()
    link.symlink_to("a.json")
    assert "broken link" in not_fetched(link)
    link.unlink()
    link.symlink_to("elsewhere.json")
    assert "broken link (to elsewhere.json)" in not_fetched(link)
    assert not_fetched(tmp_path / "nothing") is None
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "nothing")


def test_a_folder_and_a_file_without_permission(tmp_path, monkeypatch):
    (tmp_path / "participants.tsv").mkdir()
    with pytest.raises(Unreadable, match="is a folder"):
        read_text(tmp_path / "participants.tsv")
    path = tmp_path / "a.tsv"
    path.write_text(TABLE)

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", denied)
    with pytest.raises(Unreadable, match=r"Permission denied.*check its permissions"):
        read_text(path)


# --- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{\n\n'a': 1}", "line 3, column 1"),
        ('{"a": 1', "line 1"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 300 + "]" * 300, "nested deeper"),
        ('{"a": ' + "9" * 5000 + "}", r"holds 99999.* \(5000 characters\)"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": 1e999}', "holds 1e999"),
        ('{"a":-1.5E+999}', r"holds -1.5E\+999"),
        ("[1,-Infinity]", "holds -Infinity"),
        ("9" * 400 + ".5", "holds 9999"),
        ('{"a": 1, "a": 2}', "gives 'a' several values"),
    ],
)
def test_broken_json_says_where(tmp_path, text, words):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(Unreadable, match=words):
        read_json(path)


def test_odd_json_can_be_read_when_asked(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"age": {"Units": "year", "Units": "month"}, "b": NaN, "c": 1, "c": 1}')
    odd = []
    values = read_json(path, odd)
    assert isinstance(values["age"]["Units"], Ambiguous)
    assert is_ambiguous(values["age"])
    assert not is_ambiguous(values["c"])
    assert values["b"] is None
    assert len(odd) == 2


def test_plain_json_is_read(tmp_path):
    path = tmp_path / "x.json"
    values = {"a": [1, -2.5, {"b": None}], "c": "ü", "d": 12345678901234567890}
    path.write_text("\ufeff" + json.dumps(values, ensure_ascii=False), encoding="utf-8")
    assert read_json(path) == values


def test_long_values_are_cut():
    assert shorten("a  b\nc") == "a b c"
    assert shorten("x" * 81) == "x" * 80 + "... (81 characters)"


def test_a_device_a_loop_and_a_name_that_can_be_none_are_told(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, told in (
        ("/dev/zero", "is a device"),
        (loop, "broken link|cannot be read"),
        ("a" * 5000, r"5000 characters\) cannot be read \(File name too long"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(Unreadable, match=told) as ended:
            read_text(path)
        assert "Errno" not in str(ended.value)
        assert len(str(ended.value)) < 400


def test_a_number_at_the_end_or_beside_a_hash_is_read_alike(tmp_path):
    path = tmp_path / "x.json"
    for text, value in (
        ("1e999", None),
        ('{"hash": "a3e12b", "n": 3e12}', {"hash": "a3e12b", "n": 3e12}),
        ('{"hash": "a3e12", "n":1e400}', {"hash": "a3e12", "n": None}),
    ):
        path.write_text(text)
        assert read_json(path, []) == value


@pytest.mark.parametrize(
    ("written", "usable"),
    [("1e308", True), ("-1.5E-9", True), ("9" * 299, True), ("1e999", False), ("9" * 300, False), ("NaN", False),
     ("-Infinity", False), ("9" * 299 + "e50", False), ("12345e99999", False), ("1.7e+308", True), ("1E+400", False)],
)  # fmt: skip
def test_numbers_of_json_are_finite_however_they_are_written(written, usable, tmp_path):
    path, odd = tmp_path / "x.json", []
    path.write_text(f'{{"a": [{written}]}}')
    value = read_json(path, odd)["a"][0]
    assert (value is not None) == usable
    assert bool(odd) != usable
    if not usable:
        with pytest.raises(BadDataError, match="not a usable number"):
            read_json(path)
