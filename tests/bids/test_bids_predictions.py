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
        ("participant_id;age\n1;60\n", "does not have a column predicted_age"),
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


def read(tmp_path, text, columns=""):
    file = tmp_path / "ages.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_predictions(f"x={file}{columns}")[1]


@pytest.mark.parametrize(
    "text",
    [
        '"File","brain.predicted_age","lower.CI","upper.CI"\n"sub-1_T1w",60.5,5,7\n"sub-2_T1w",70,6,8\n',  # brainageR
        "File,brain.predicted_age,lower.CI,upper.CI\nsub-1,60.5,5,7\nFile,brain.predicted_age,lower.CI,upper.CI\n"
        "sub-2,70,6,8\n",  # files put one after the other, each with its header
        '"","participant_id","predicted_age"\n"1","sub-1",60.5\n"2","sub-2",70\n',  # row names of R
        ",predicted_age\nsub-1,60.5\nsub-2,70\n",  # the index of pandas
        "Unnamed: 0,predicted_age\nsub-1,60.5\nsub-2,70\n",
        "# made by x 1.2\n# 3 May\nparticipant_id,predicted_age\nsub-1,60.5\n# repeated\nsub-2,70\n",
        "#participant_id,predicted_age\nsub-1,60.5\nsub-2,70\n",
        'sep=;\nparticipant_id;predicted_age\n"1";"60,5"\n"2";"70,0"\n',
        '"participant_id,predicted_age"\n"sub-1,60.5"\n"sub-2,70"\n',
        " Subject ID ; Predicted Age (years) \n 1 ; 60,5 \n 2 ; 70 \n",
        "path,pred\n/in/sub-1/anat/t1.nii.gz,60.5\n/in/sub-2/anat/t1.nii.gz,70\n",  # SynthBA
        "SubjID,age,predAge,devAge,AE\n1,58,60.5,2.5,2.5\n2,71,70,-1,1\n",  # ENIGMA
        "id,prediction\n1,60.5\n2,70\n",  # pyment
        "participant_id,age,predicted_age,brain_age_gap,PAD\n1,58,60.5,2.5,2.5\n2,71,70,-1,-1\n",
    ],
)
def test_tables_of_other_programs_are_read(tmp_path, text):
    assert rows(read(tmp_path, text)) == [("sub-1", None, 60.5), ("sub-2", None, 70.0)]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("BrainAGE", r"'BrainAGE' may hold gaps .* x=FILE:ID_COLUMN:AGE_COLUMN"),
        ("brain_age_gap", r"no predicted ages, but gaps \(brain_age_gap\)"),
        ("Brain-PAD", r"gaps \(Brain-PAD\)"),
        ("PAD", r"gaps \(PAD\)"),
        ("BAG_corrected", r"gaps \(BAG_corrected\)"),
        ("delta", r"gaps \(delta\)"),
        ("brainageR_age_difference", r"gaps"),
        ("predicted_age_corrected", r"only predicted_age_corrected"),
    ],
)
def test_a_gap_by_its_name_is_no_age(tmp_path, header, told):
    with pytest.raises(BadDataError, match=told):
        read(tmp_path, f"participant_id,{header}\nsub-1,60\nsub-2,61\n")


@pytest.mark.parametrize(
    "header",
    ["brain_age,predicted_age", "BrainAGE,pred_age", "predicted_age,predicted_age_corrected", "pred,prediction"],
)
def test_none_of_several_columns_is_chosen(tmp_path, header):
    text = f"participant_id,{header}\nsub-1,60,61\nsub-2,70,71\n"
    with pytest.raises(
        BadDataError, match=r"2 columns that may .*{}.*x=FILE:ID_COLUMN:AGE_COLUMN".format(header.split(",")[1])
    ):
        read(tmp_path, text)
    assert rows(read(tmp_path, text, f":participant_id:{header.split(',')[1]}"))[0] == ("sub-1", None, 61.0)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("-7;4", "looks like a gap"), ("-60;-61", "holds -60, which is no age"), ("-99;61", "holds -99"),
        ("239;60", "holds 239; ages must be in years"), ("1" + "0" * 400 + ";60", "holds inf"),
        ("n/a;", "holds no age"),
        ("x" * 5000 + ";60", r"\(5000 characters\)', which is no number"),
    ],
)  # fmt: skip
def test_values_that_are_no_ages_are_refused(tmp_path, cells, told):
    one, two = cells.split(";")
    with pytest.raises(BadDataError, match=told) as told:
        read(tmp_path, f"participant_id;predicted_age\n1;{one}\n2;{two}\n")
    assert len(str(told.value)) < 400


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("participant_id,predicted_age\n1,60,5\n", "row 2 has 3 cells under 2 columns"),
        ('"participant_id"\t"predicted_age"\n"1"\t"sub-1"\t60\n', "row names"),
        (",predicted_age\n0,60\n1,61\n", "does not have a column participant_id"),
        ("participant_id,predicted_age\n\"sub-1,60\nsub-2,61\n", "row 2 has a quotation mark"),
        ("sub-1,60\nsub-2,61\n", r"predicted_age \(it has sub-1, 60\)"),
        ("PK\x03\x04abc", "spreadsheet"),
        ("<!DOCTYPE html>\n<html>", "web page"),
        ("participant_id,predicted_age\n1,60\n".encode("utf-16"), "UTF-16"),
        ("participant_id,predicted_age\n1,60\n".encode("utf-16-le"), "UTF-16"),
        ("participant_id,predicted_age,ö\n1,60,é\n".encode("latin-1"), "not UTF-8"),
        ("../.git/annex/objects/Xx/Zz/MD5E-s1--a.csv/MD5E-s1--a.csv", "not fetched"),
    ],
)  # fmt: skip
def test_files_that_are_no_such_table_say_why(tmp_path, text, told):
    with pytest.raises((BadDataError, NoInputError), match=told):
        read(tmp_path, text)


def test_runs_and_acquisitions_are_part_of_the_key(tmp_path):
    def keys(table):
        return list(zip(table["participant_id"], table["session_id"], table["run"], strict=True))

    named = read(tmp_path, "File,predicted_age\nsub-01_ses-1_run-1_T1w.nii.gz,60\nsub-01_ses-1_run-2_T1w.nii.gz,61\n")
    assert keys(named) == [("sub-01", "ses-1", "run-1"), ("sub-01", "ses-1", "run-2")]
    told = read(tmp_path, "participant_id,session,acq,run,predicted_age\n01,1,mprage,1,60\n01,1,mprage,02,61\n")
    assert keys(told) == [("sub-01", "ses-1", "acq-mprage_run-1"), ("sub-01", "ses-1", "acq-mprage_run-02")]
    ours = read(tmp_path, "participant_id,run,predicted_age\nsub-01,acq-a_run-1,60\nsub-01,acq-a_run-2,61\n")
    assert keys(ours)[1] == ("sub-01", None, "acq-a_run-2")
    path = read(
        tmp_path, "path,pred\n/d/sub-01/ses-2/anat/sub-01_ses-2_acq-x_space-MNI_desc-preproc_T1w.nii,60\nsub-2,6\n"
    )
    assert keys(path)[0] == ("sub-01", "ses-2", "acq-x")


def test_a_row_repeated_word_for_word_is_read_once_and_sixty_thousand_take_no_time(tmp_path):
    assert len(read(tmp_path, "id,predicted_age\n1,60\n1,60\n")) == 1
    lines = "".join(f"{i},{40 + i % 40}\n" for i in range(60_000))
    assert len(read(tmp_path, "id,predicted_age\n" + lines + "59999,79\n")) == 60_000
    with pytest.raises(BadDataError, match="lists sub-59999 more than once, in row 60002"):
        read(tmp_path, "id,predicted_age\n" + lines + "59999,41\n")


def test_ids_that_are_no_labels_are_kept_as_they_are(tmp_path):
    assert read(tmp_path, "id,predicted_age\n1.0,60\nIXI-002,61\n")["participant_id"].tolist() == ["1.0", "IXI-002"]
