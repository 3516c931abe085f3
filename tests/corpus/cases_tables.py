"""Tables, sidecars, groups and scores."""

from corpuscase import Case

ONE, TWO = ("sub-01",), ("sub-01", "sub-02")


def _table(content):
    return {"participants.tsv": content}


CASES = {
    "row_too_long": Case(
        "a row with more cells than columns",
        files=_table("participant_id\tage\nsub-01\t\t50\n"),
        scans=ONE,
        rc=16,
        says=("TABLE_ROW_LENGTH",),
    ),
    "commas_for_tabs": Case(
        "participants.tsv is a csv",
        files=_table("participant_id,age\nsub-01,50\n"),
        scans=ONE,
        rc=16,
        says=("TABLE_ID_MISSING",),
    ),
    "age_column_twice": Case(
        "two columns called age",
        files=_table("participant_id\tage\tage\nsub-01\t50\t60\n"),
        scans=ONE,
        rc=16,
        says=("TABLE_COLUMN_REPEATED",),
    ),
    "empty_table": Case("participants.tsv of 0 bytes", files=_table(""), scans=ONE, rc=16, says=("TABLE_UNREADABLE",)),
    "latin_1": Case(
        "letters of another encoding in a column that nobody needs",
        files=_table("participant_id\tage\tplace\nsub-01\t50\tKöln\n".encode("latin-1")),
        scans=ONE,
        ages={"sub-01": 50},
        says=("participants.tsv, line 2.*place.*UTF-8",),
    ),
    "latin_1_group": Case(
        "letters of another encoding in a column that is read",
        files=_table("participant_id\tage\tgroup\nsub-01\t50\tgesünder\n".encode("latin-1")),
        scans=ONE,
        rc=16,
        says=("participants.tsv, line 2.*group.*UTF-8",),
    ),
    "byte_order_mark": Case(
        "UTF-8 with a mark, as a spreadsheet writes it",
        files=_table("\ufeffparticipant_id\tage\nsub-01\t50\n"),
        scans=ONE,
        ages={"sub-01": 50},
    ),
    "windows_line_ends": Case(
        "CRLF", files=_table("participant_id\tage\r\nsub-01\t50\r\n"), scans=ONE, ages={"sub-01": 50}
    ),
    "participant_twice": Case(
        "a participant with two ages and no column of sessions",
        ("participant_id|age", "sub-01|50", "sub-01|51"),
        scans=("sub-01_ses-2",),
        rc=16,
        says=("PARTICIPANT_DUPLICATED",),
    ),
    "row_twice": Case(
        "a row that stands twice word for word",
        ("participant_id|age", "sub-01|50", "sub-01|50"),
        scans=ONE,
        ages={"sub-01": 50},
        says=("ROW_REPEATED",),
    ),
    "no_table": Case("no participants.tsv", scans=ONE, ages={"sub-01": None}, says=("PARTICIPANTS_MISSING",)),
    "broken_sidecar": Case(
        "participants.json is cut short",
        ("participant_id|age", "sub-01|50"),
        {"participants.json": "{"},
        ONE,
        rc=16,
        says=("participants.json",),
    ),
    "rows_and_folders_miss_each_other": Case(
        "a row without a folder, a folder without a row",
        ("participant_id|age", "sub-02|50"),
        scans=ONE,
        ages={"sub-01": None},
        says=("PARTICIPANT_WITHOUT_ROW.*sub-01", "PARTICIPANT_WITHOUT_FOLDER.*sub-02"),
    ),
    "two_group_columns": Case(
        "two group columns that disagree",
        ("participant_id|age|group|diagnosis", "sub-01|50|patient|AD"),
        scans=ONE,
        rc=16,
        says=("GROUP_AMBIGUOUS",),
    ),
    "group_column_that_is_not_there": Case(
        "--group-column with a slip of the keyboard",
        ("participant_id|age|arm", "sub-01|50|x"),
        scans=ONE,
        args=("--group-column", "amr"),
        rc=16,
        says=("GROUP_COLUMN_UNKNOWN",),
    ),
    "control_that_is_not_there": Case(
        "--control with a value that nobody has",
        ("participant_id|age|group", "sub-01|50|x"),
        scans=ONE,
        args=("--control", "HC"),
        rc=16,
        says=("CONTROL_UNKNOWN",),
    ),
    "group_called_all": Case(
        "a group whose name means everybody",
        ("participant_id|age|group", "sub-01|50|all", "sub-02|60|NC"),
        scans=TWO,
        rc=16,
        says=("GROUP_NAME",),
    ),
    "score_file_that_is_not_there": Case(
        "--score names a file that is not there",
        ("participant_id|age", "sub-01|50"),
        scans=ONE,
        args=("--score", "bdi=clinic.tsv:BDI"),
        rc=16,
        says=("clinic.tsv",),
    ),
    "adas13_is_no_adas11": Case(
        "a total of another version of a scale is not taken for it",
        ("participant_id|age|adas13", "sub-01|50|20"),
        scans=ONE,
        ages={"sub-01": 50},
        silent=("adas11",),
    ),
}
