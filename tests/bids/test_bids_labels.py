import pytest

from brainage_bids.bids.labels import read_labels
from brainage_bids.errors import NoInputError, UsageError

KNOWN = [f"sub-{k:02d}" for k in range(1, 10)]


def test_labels_with_and_without_prefix_and_from_a_file(tmp_path):
    file = tmp_path / "people.txt"
    file.write_text("participant_id\nsub-03\n# sub-01\n02\n")
    assert read_labels(["01", "sub-02"], "sub", KNOWN, "--x") == ("sub-01", "sub-02")
    assert read_labels(["01,02 03"], "sub", KNOWN, "--x") == ("sub-01", "sub-02", "sub-03")
    assert read_labels([str(file)], "sub", KNOWN, "--x") == ("sub-03", "sub-02")


def test_unknown_label_names_the_nearest():
    with pytest.raises(UsageError, match=r"--participant-label.*sub-7 \(nearest: sub-007"):
        read_labels(["7"], "sub", ["sub-007", "sub-100"], "--participant-label")
    with pytest.raises(UsageError, match="dataset has none"):
        read_labels(["1"], "ses", [], "--session-label")
    with pytest.raises(NoInputError, match=r"people\.txt"):
        read_labels(["people.txt"], "sub", ["sub-1"], "--participant-label")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("sub-01 sub-02\tsub-03\n", "01 02 03"),
        ("01, 02,03 ;04\n\n", "01 02 03 04"),
        ("sub-01 # not sub-02\n# sub-03\n04\n", "01 04"),
        ("\ufeff01\r\n02\r\n", "01 02"),
        ("participant_id\tage\nsub-01\t30\nsub-02\t40\n", "01 02"),
        ("age,participant_id\n,sub-01\n40,sub-02\n", "01 02"),
        ("participant_id\nsub-05\n", "05"),
        ("01 02\n03 03 01\n", "01 02 03"),
    ],
)
def test_files_of_labels(tmp_path, text, labels):
    file = tmp_path / "people.txt"
    file.write_bytes(text.encode())
    assert read_labels([str(file)], "sub", KNOWN, "--x") == tuple(f"sub-{one}" for one in labels.split())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sub-01".encode("utf-16"), "UTF-16"),
        ("sub-01".encode("utf-16-le"), "UTF-16"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04 a spreadsheet", "spreadsheet"),
        (b"sub-01\xe9", "not UTF-8"),
        (b"", "no label"),
        (b"# nobody\n", "no label"),
        (b"<html>404</html>", "web page"),
        (b"5" * 100000, "is no label"),
    ],
)
def test_files_that_hold_no_labels(tmp_path, content, told):
    file = tmp_path / "people.txt"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=told) as caught:
        read_labels([str(file)], "sub", KNOWN, "--participant-label")
    assert len(str(caught.value)) < 500


def test_nobody_may_be_excluded(tmp_path):
    file = tmp_path / "nobody.txt"
    file.write_text("# nobody\n")
    assert read_labels([str(file)], "sub", KNOWN, "--x", may_be_empty=True) == ()


@pytest.mark.parametrize("typed", ["5" * 5000, "/" + "a" * 5000, "a" * 255 + ".txt", "sub-" + "x" * 300, "x!" * 300])
def test_long_values_are_cut(typed):
    with pytest.raises((UsageError, NoInputError)) as caught:
        read_labels([typed], "sub", KNOWN, "--participant-label")
    assert len(str(caught.value)) < 500


def test_many_labels_are_read_in_linear_time(tmp_path):
    known = [f"sub-{k:06d}" for k in range(60000)]
    file = tmp_path / "people.txt"
    file.write_text("\n".join(known))
    seen = Counted(known)
    assert len(read_labels([str(file)], "sub", seen, "--x")) == 60000
    assert seen.turns == 1


class Counted(list):
    """A list that counts how often it is gone through."""

    turns = 0

    def __iter__(self):
        self.turns += 1
        return super().__iter__()

    def __contains__(self, item):
        raise AssertionError("a search through a list")
