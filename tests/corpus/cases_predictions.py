"""Predictions made elsewhere (``--predictions``)."""

from corpuscase import Case

ROWS = ("participant_id|age", "sub-01|30", "sub-02|40")


def _given(what, text, **promised):
    """The table ``ages.csv`` of a model called x, at the group level."""
    return Case(
        what,
        ROWS,
        {"../ages.csv": text},
        ("sub-01", "sub-02"),
        level="group",
        args=("--predictions", "x={beside}/ages.csv"),
        **promised,
    )


CASES = {
    "plain": _given(
        "a table as it should be", "participant_id,predicted_age\nsub-01,31\nsub-02,44\n", says=("2 scans",)
    ),
    "comma_as_separator_and_as_decimal_sign": _given(
        "1,60,5 under two columns", "participant_id,predicted_age\n01,60,5\n", rc=65, says=("3 cells under 2 columns",)
    ),
    "age_in_words": _given(
        "an age that is no number", "participant_id;predicted_age\n01;old\n", rc=65, says=("no number",)
    ),
    "ages_in_months": _given("ages of 840", "participant_id;predicted_age\n01;840\n02;730\n", rc=65, says=("years",)),
    "scan_twice": _given(
        "two rows of one scan", "participant_id;predicted_age\n01;60\nsub-01;61\n", rc=65, says=("more than once",)
    ),
    "no_rows": _given("a header only", "participant_id;predicted_age\n", rc=65, says=("no rows",)),
    "id_missing": _given(
        "a row without a participant", "participant_id;predicted_age\n;60\n", rc=65, says=("without participant",)
    ),
    "brainager": _given(
        "what brainageR collates",
        '"File","brain.predicted_age","lower.CI","upper.CI"\n"sub-01_T1w",31.2,25,38\n',
        says=("2 scans|1 scans",),
    ),
    "volbrain_like": _given(
        "semicolons, decimal commas, a title in words",
        "Subject;Sex;Predicted Age (years)\r\nsub-01;F;31,5\r\nsub-02;M;44,1\r\n",
        says=("2 scans",),
    ),
    "row_names_of_r": _given(
        "a first column without a name beside the ids",
        '"","participant_id","predicted_age"\n"1","sub-01",31\n"2","sub-02",44\n',
        says=("2 scans",),
    ),
    "row_names_without_a_heading": _given(
        "write.table of R: the header is a cell short",
        "participant_id\tpredicted_age\n1\tsub-01\t31\n2\tsub-02\t44\n",
        rc=65,
        says=("3 cells under 2 columns", "row names"),
    ),
    "index_of_pandas": _given("the ids have no heading", ",predicted_age\nsub-01,31\nsub-02,44\n", says=("2 scans",)),
    "numbered_rows_are_no_ids": _given(
        "an unnamed column that counts the rows", ",predicted_age\n0,31\n1,44\n", rc=65, says=("participant_id",)
    ),
    "comment_lines": _given(
        "lines of # before and between",
        "# tool 1.0\nparticipant_id,predicted_age\n#\nsub-01,31\nsub-02,44\n",
        says=("2 scans",),
    ),
    "quoted_lines": _given(
        "every line in quotes", '"participant_id,predicted_age"\n"sub-01,31"\n"sub-02,44"\n', says=("2 scans",)
    ),
    "open_quote": _given(
        "a quotation mark that is not closed",
        'participant_id,predicted_age\n"sub-01,31\nsub-02,44\n',
        rc=65,
        says=("row 2", "quotation"),
    ),
    "column_called_brainage": _given(
        "BrainAGE is a gap",
        "participant_id,BrainAGE\nsub-01,1.5\nsub-02,-3\n",
        rc=65,
        says=("BrainAGE.*gap", "x=FILE:ID_COLUMN:AGE_COLUMN"),
    ),
    "column_called_pad": _given(
        "brain-PAD is a gap", "participant_id,brainPAD\nsub-01,1.5\nsub-02,3\n", rc=65, says=("brainPAD", "not ages")
    ),
    "gap_under_the_name_of_an_age": _given(
        "brain_age that holds gaps", "participant_id,brain_age\nsub-01,1.5\nsub-02,-3\n", rc=65, says=("gap",)
    ),
    "several_ages": _given(
        "two columns that may be meant",
        "participant_id,brain_age,predicted_age\nsub-01,31,33\n",
        rc=65,
        says=("brain_age, predicted_age", "x=FILE:ID_COLUMN:AGE_COLUMN"),
    ),
    "age_beside_a_gap": _given(
        "the gap stands beside the age",
        "participant_id,predicted_age,brain_age_gap\nsub-01,31,1\nsub-02,44,4\n",
        says=("2 scans",),
    ),
    "only_the_true_age": _given(
        "no predicted age", "participant_id,age\nsub-01,30\n", rc=65, says=("predicted_age", "participant_id, age")
    ),
    "scale_from_0_to_1": _given(
        "ages divided by 100", "participant_id,predicted_age\nsub-01,0.31\nsub-02,0.44\n", rc=65, says=("0 to 1",)
    ),
    "negative_age": _given(
        "a minus before one age", "participant_id,predicted_age\nsub-01,-31\nsub-02,44\n", rc=65, says=("-31",)
    ),
    "age_of_239": _given(
        "an age nobody reaches", "participant_id,predicted_age\nsub-01,239\nsub-02,44\n", rc=65, says=("239",)
    ),
    "missing_as_minus_999": _given(
        "-999 for missing", "participant_id,predicted_age\nsub-01,-999\nsub-02,44\n", rc=65, says=("-999", "empty")
    ),
    "no_age_at_all": _given(
        "all ages missing", "participant_id,predicted_age\nsub-01,n/a\nsub-02,\n", rc=65, says=("no age",)
    ),
    "ids_without_zeros": _given(
        "1 for 01",
        "participant_id,predicted_age\n1,31\n2,44\n",
        rc=65,
        says=("leading zeros", "'sub-1' in the table, 'sub-01' the folder"),
    ),
    "ids_of_a_spreadsheet": _given(
        "1.0 for 01", "participant_id,predicted_age\n1.0,31\n2.0,44\n", rc=65, says=(r"\.0", "leading zeros")
    ),
    "ids_with_the_prefix_stuck": _given(
        "SUB01 for sub-01", "participant_id,predicted_age\nSUB01,31\nSUB02,44\n", rc=65, says=("prefix",)
    ),
    "ids_of_others": _given(
        "nobody is known", "participant_id,predicted_age\nanna,31\nbert,44\n", rc=65, says=("sub-anna", "sub-01")
    ),
    "one_of_two_unknown": _given(
        "some rows match nobody",
        "participant_id,predicted_age\nsub-01,31\nsub-2,44\n",
        says=("1 rows belong to no scan", "leading zeros"),
    ),
    "session_that_is_not_there": _given(
        "sessions the study has not",
        "participant_id,session_id,predicted_age\nsub-01,9,31\nsub-02,9,44\n",
        rc=65,
        says=("ses-9",),
    ),
    "page_in_place_of_the_file": _given(
        "an HTML page", "<!DOCTYPE html>\n<html><body>sign in</body></html>\n", rc=65, says=("web page",)
    ),
    "spreadsheet": _given("an xlsx called csv", b"PK\x03\x04" + b"\0" * 60, rc=65, says=("spreadsheet",)),
    "utf16": _given(
        "Unicode text of Excel", "participant_id\tpredicted_age\nsub-01\t31\n".encode("utf-16"), rc=65, says=("UTF-16",)
    ),
    "not_fetched": _given(
        "a pointer of git LFS",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        rc=66,
        says=("not fetched", "git lfs pull"),
    ),
    "long_cell": _given(
        "a cell of 10,000 characters",
        "participant_id,predicted_age\nsub-01," + "x" * 10000 + "\n",
        rc=65,
        says=("10000 characters",),
    ),
    "file_that_is_not_there": Case(
        "a file that is not there",
        ROWS,
        scans=("sub-01", "sub-02"),
        level="group",
        args=("--predictions", "x={beside}/none.csv"),
        rc=66,
        says=("none.csv is not there",),
    ),
    "folder_for_a_file": Case(
        "a folder",
        ROWS,
        scans=("sub-01", "sub-02"),
        level="group",
        args=("--predictions", "x={beside}"),
        rc=65,
        says=("folder",),
    ),
    "no_name": Case(
        "a file without NAME=",
        ROWS,
        scans=("sub-01", "sub-02"),
        level="group",
        args=("--predictions", "{beside}/none.csv"),
        rc=64,
        says=("NAME=FILE",),
    ),
    "path_too_long": Case(
        "a path longer than a file name may be",
        ROWS,
        scans=("sub-01", "sub-02"),
        level="group",
        args=("--predictions", "x=" + "a" * 5000),
        rc=65,
        says=(r"5000 characters\) cannot be read",),
    ),
}
