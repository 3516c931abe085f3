import numpy as np
import pytest

from brainage_bids.bids.predictions import read_predictions
from brainage_bids.errors import BadDataError, NoInputError, UsageError


def rows(table):
    return list(table.itertuples(index=False, name=None))


@pytest.mark.parametrize(
    "text",
    [
        "participant_id,predicted_age\n007,60.5\nsub-2,70\n",
        "participant_id;predicted_age\r\nsub-007;60,5\r\n2;70\r\n",
        "\ufeffparticipant_id\tpredicted_age\n007\t60,5\n2\t70\n",
        "predicted_age;x;participant_id\n60.5;a;sub-007_T1w.nii.gz\n70;b;/data/sub-2/anat/sub-2_T1w.nii.gz\n",
    ],
)
def test_separators_and_decimal_comma(tmp_path, text):
    file = tmp_path / "ages.csv"
    file.write_text(text, encoding="utf-8", newline="")
    name, table = read_predictions(f"BSA={file}")
    assert name == "BSA"
    assert rows(table) == [("sub-007", None, 60.5), ("sub-2", None, 70.0)]


def test_sessions_missing_values_and_named_columns(tmp_path):
    file = tmp_path / "ages.tsv"
    file.write_text("who\tsession_id\tA\tB\n1\t1\t5\t50\n1\tses-2\t6\tn/a\n")
    _, table = read_predictions(f"x={file}:who:B")
    assert rows(table)[0] == ("sub-1", "ses-1", 50.0)
    assert table["session_id"].tolist() == ["ses-1", "ses-2"]
    assert np.isnan(table["predicted_age"][1])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("participant_id,predicted_age\n1,60,5\n", "3 cells under 2 columns"),
        ("participant_id;predicted_age\n1;old\n", "'old', which is no number"),
        ("participant_id;predicted_age\n1;840\n", "must be in years"),
        ("participant_id;predicted_age\n1;60\nsub-1;61\n", "more than once"),
        ("participant_id;age\n1;60\n", "does not have a column predictedage"),
        ("participant_id;predicted_age\n;60\n", "without participant"),
        ("participant_id;predicted_age\n1;1.234\n2;1,5\n", "no number"),
        ("participant_id\n1\n", "one column only"),
        ("participant_id;predicted_age\n", "no rows"),
    ],
)
def test_doubtful_tables_are_refused(tmp_path, text, told):
    file = tmp_path / "ages.csv"
    file.write_text(text)
    with pytest.raises(BadDataError, match=told):
        read_predictions(f"x={file}")


def test_wrong_options(tmp_path):
    with pytest.raises(UsageError, match="NAME=FILE"):
        read_predictions("ages.csv")
    with pytest.raises(NoInputError, match="not there"):
        read_predictions(f"x={tmp_path / 'absent.csv'}:a:b")
