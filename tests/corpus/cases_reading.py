"""Tables, sidecars and other text as they are found on disks: not fetched, in another format, written otherwise."""

import os

from corpuscase import Case

ROWS = ("participant_id|age|sex", "sub-01|30|F", "sub-02|40|M")
ONE, TWO = ("sub-01",), ("sub-01", "sub-02")
AGES = {"sub-01": 30, "sub-02": 40}
PLAIN = "participant_id\tage\nsub-01\t30\nsub-02\t40\n"
LINK = ".git/annex/objects/xx/yy/key"
ANNEX = "/annex/objects/MD5E-s10--0123456789abcdef.tsv\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
DEEP = "[" * 100_000
LONG = "x" * 5000
MANY = tuple(f"sub-{n:03d}" for n in range(1, 301))


def _table(content):
    return {"participants.tsv": content}


def _pointers(root):
    for name in MANY:
        (root / name / "anat" / f"{name}_T1w.nii.gz").write_text(LFS)


def _odd_name(root):
    (root / "sub-01" / "anat" / os.fsdecode(b"sub-01_acq-\xff_T1w.nii.gz")).write_bytes(b"\x1f\x8b" + b"\0" * 2000)


def _decision(root):
    out = root.parent / "out"
    out.mkdir()
    (out / "qc.tsv").write_text("participant_id\tsession_id\trun\tqc_decision\nsub-1\tn/a\tn/a\tfail\n")


def _pointer_decision(root):
    (root.parent / "out").mkdir()
    (root.parent / "out" / "qc.tsv").symlink_to(LINK)


def _refused(what, content, *says):
    """Return the case of a participants.tsv of other content, which stops the run and is named as what it is."""
    return Case(what, files=_table(content), scans=TWO, rc=16, says=says, silent=("PARTICIPANTS_MISSING",))


def _sidecar(what, content, *says):
    """Return the case of a broken participants.json, which stops the run and is named as what it is."""
    return Case(what, ROWS, {"participants.json": content}, TWO, rc=16, says=says)


def _linked(what, name, scans=TWO, target=LINK, **more):
    """Return the case of a file that is a link without target, which stops the run."""
    says = (f"{name}.*not fetched.*datalad get",)
    return Case(what, ROWS, scans=scans, links={name: target}, **{"rc": 16, "says": says, **more})


def _other_ids(what, written, folder, *says):
    """Return the case of an id that is nearly the folder's: the age is missing, and both are named."""
    pair = f"'{written}' in the table, '{folder}' the folder"
    rows = ("participant_id|age", f"{written}|30")
    return Case(what, rows, scans=(folder,), ages={folder: None}, says=(pair, *says))


SESSIONS = ("sub-01_ses-1", "sub-01_ses-2", "sub-02")

NOT_FETCHED = {
    "lfs_participants": _refused("participants.tsv is a git LFS pointer", LFS, "participants.tsv.*LFS.*git lfs pull"),
    "annex_participants": _refused("participants.tsv is a git-annex pointer", ANNEX, "participants.tsv.*datalad get"),
    "lfs_participants_json": _sidecar("participants.json is a git LFS pointer", LFS, "participants.json.*not fetched"),
    "link_of_a_zip": _sidecar("a link unpacked as a plain file", f"../{LINK}", "participants.json.*not fetched"),
    "sessions_not_fetched": _linked("the sessions table of one", "sub-01/sub-01_sessions.tsv", SESSIONS),
    "root_sessions_not_fetched": _linked("the sessions table of all", "sessions.tsv", SESSIONS),
    "scans_of_two_sessions_not_fetched": _linked(
        "dates that tell the ages of sessions apart", "sub-01/ses-2/sub-01_ses-2_scans.tsv", SESSIONS
    ),
    "scans_of_one_session_not_fetched": _linked(
        "a date that changes nothing", "sub-01/sub-01_scans.tsv", rc=0, ages=AGES
    ),
    "phenotype_not_fetched": _linked("a phenotype table", "phenotype/moca.tsv"),
    "image_sidecar_not_fetched": _linked("the sidecar of an image", "sub-01/anat/sub-01_T1w.json", rc=0, ages=AGES),
    "score_not_fetched": _linked("the file of --score", "clinic.tsv", args=("--score", "bdi=clinic.tsv:BDI")),
    "description_not_fetched": _linked("dataset_description.json", "dataset_description.json", description=False),
    "sessions_json_not_fetched": Case(
        "units of the sessions tables",
        files={"sub-01/sub-01_sessions.tsv": "session_id\tage\nses-1\t84\n"},
        scans=("sub-01_ses-1",),
        links={"sessions.json": LINK},
        rc=16,
        says=("sessions.json.*not fetched",),
    ),
    "broken_link": Case(
        "participants.tsv links to a file that is gone",
        scans=ONE,
        links={"participants.tsv": "../elsewhere/participants.tsv"},
        rc=16,
        says=(r"participants.tsv.*broken link \(to ../elsewhere",),
    ),
    "link_to_itself": _linked(
        "a loop", "participants.json", target="participants.json", says=("participants.json.*broken link",)
    ),
    "images_lfs_300": Case(
        "300 images are LFS pointers: one line",
        scans=MANY,
        make=_pointers,
        planned=300,
        max_lines=12,
        says=("300 files.*LFS",),
    ),
    "qc_not_fetched": Case(
        "qc.tsv of OUTPUT_DIR is an unfetched link",
        ROWS,
        scans=TWO,
        make=_pointer_decision,
        rc=66,
        says=("qc.tsv.*not fetched",),
    ),
}

FORMATS = {
    "utf_16": _refused("UTF-16 with a mark", PLAIN.encode("utf-16"), "participants.tsv.*UTF-16"),
    "utf_16_unmarked": _refused("UTF-16 without a mark", PLAIN.encode("utf-16-le"), "participants.tsv.*UTF-16.*line 1"),
    "utf_16_big": _refused("UTF-16, the other way round", PLAIN.encode("utf-16-be"), "participants.tsv.*UTF-16"),
    "nul_bytes": _refused("zeros at the end", PLAIN.encode() + b"\0" * 512, "participants.tsv.*line 4.*NUL"),
    "web_page_table": _refused("a page saved as the table", "<!DOCTYPE html>\n<html>403</html>", "web page.*HTML"),
    "xlsx": _refused("a spreadsheet renamed", b"PK\x03\x04" + b"\1" * 200, "participants.tsv.*spreadsheet"),
    "gzip": _refused("a compressed table", b"\x1f\x8b\x08" + b"\1" * 200, "participants.tsv.*gzip"),
    "blanks_for_tabs": _refused("columns separated by blanks", "participant_id  age\nsub-01  30\n", "blanks.*tabs"),
    "web_page_json": _sidecar("a page saved as the sidecar", "<html>", "participants.json.*web page"),
    "json_list": _sidecar("a list", "[1]", "participants.json.*not a JSON object but a list"),
    "json_comma": _sidecar("a comma too many", '{"age": {},\n}', "participants.json.*line 2"),
    "json_units_twice": _sidecar(
        "two units", '{"age": {"Units": "year", "Units": "month"}}', "participants.json.*age.*several"
    ),
    "sessions_by_commas": Case(
        "a sessions table separated by commas",
        ROWS,
        {"sub-01/sub-01_sessions.tsv": "session_id,age\nses-1,31\n"},
        ("sub-01_ses-1", "sub-02"),
        rc=16,
        says=("sub-01_sessions.tsv.*commas.*tabs",),
    ),
    "participants_csv": Case(
        "participants.csv only",
        files={"participants.csv": "participant_id,age\nsub-01,30\n"},
        scans=ONE,
        ages={"sub-01": None},
        says=("participants.csv.*participants.tsv",),
    ),
    "folder_for_table": Case(
        "a folder named participants.tsv",
        scans=ONE,
        make=lambda root: (root / "participants.tsv").mkdir(),
        rc=16,
        says=("participants.tsv.*is a folder",),
    ),
    "json_digits": Case(
        "a number of 5,000 digits about a column that nobody needs",
        ROWS,
        {"participants.json": '{"note": {"x": ' + "9" * 5000 + "}}"},
        TWO,
        ages=AGES,
        says=("participants.json.*5000 characters",),
    ),
    "json_deep_sessions": Case(
        "the sessions sidecar of one is nested 100,000 deep: that one only",
        files={
            "sub-01/sub-01_sessions.tsv": "session_id\tage\nses-1\t31\n",
            "sub-01/sub-01_sessions.json": DEEP,
            "sub-02/sub-02_sessions.tsv": "session_id\tage\nses-1\t41\n",
        },
        scans=("sub-01_ses-1", "sub-02_ses-1"),
        ages={"sub-01_ses-1": None, "sub-02_ses-1": 41},
        says=("sub-01_sessions.json.*nested",),
    ),
    "json_nan": Case(
        "the field strength of one image is NaN",
        ROWS,
        {"sub-01/anat/sub-01_T1w.json": '{"MagneticFieldStrength": NaN}'},
        TWO,
        ages=AGES,
        says=("sub-01_T1w.json.*NaN",),
        silent=("nanT",),
    ),
    "surrogate_in_a_sidecar": Case(
        "half a letter in the name of a hospital",
        ROWS,
        {"sub-01/anat/sub-01_T1w.json": '{"InstitutionName": "\\ud800"}'},
        TWO,
        ages=AGES,
    ),
    "description_deep": Case(
        "dataset_description.json is nested 100,000 deep",
        ROWS,
        {"dataset_description.json": DEEP},
        TWO,
        rc=16,
        says=("dataset_description.json.*nested",),
    ),
}

IDS = {
    "ids_floats": _other_ids("numbers with decimals", "1.0", "sub-01", r"\.0 of a spreadsheet", "zeros"),
    "ids_case": _other_ids("ids in small letters", "sub-ab", "sub-AB", "upper and lower case"),
    "ids_prefix_twice": _other_ids("the prefix twice", "sub-sub-01", "sub-01", "by the prefix"),
    "ids_without_dash": _other_ids("the prefix without its dash", "sub01", "sub-01"),
    "ids_underscore": _other_ids("a sign inside the ids", "sub-NC_1", "sub-NC1", "signs"),
    "ids_of_files": _other_ids("names of files", "sub-01_T1w.nii.gz", "sub-01", "more than a label"),
    "ids_of_nobody": Case(
        "other ids altogether",
        ("participant_id|age", "P7|30", "P8|40"),
        scans=TWO,
        ages={"sub-01": None},
        says=("none of its 2 ids.*P7.*sub-01",),
    ),
    "ids_of_a_phenotype_table": Case(
        "a phenotype table with unpadded ids",
        ROWS,
        {"phenotype/moca.tsv": "participant_id\tmoca\nsub-1\t20\nsub-2\t25\n"},
        TWO,
        ages=AGES,
        says=("phenotype/moca.tsv.*zeros.*sub-1.*sub-01",),
    ),
    "ids_of_a_score_file": Case(
        "a score file with unpadded ids",
        ROWS,
        {"clinic.tsv": "participant_id\tBDI\n1\t20\n2\t25\n"},
        TWO,
        args=("--score", "bdi=clinic.tsv:BDI"),
        ages=AGES,
        says=("clinic.tsv.*zeros",),
    ),
    "ids_of_a_covariate_file": Case(
        "a covariate file with unpadded ids",
        ROWS,
        {"clinic.tsv": "participant_id\teicv\n1\t20\n2\t25\n"},
        TWO,
        args=("--covariate", "age", "eicv=clinic.tsv:eicv"),
        level="group",
        rc=66,
        says=("clinic.tsv.*zeros",),
    ),
    "ids_of_a_decision": Case(
        "qc.tsv decides on sub-1 and the scan is sub-01",
        ROWS,
        scans=TWO,
        make=_decision,
        rc=65,
        says=("qc.tsv.*sub-1.*sub-01",),
    ),
    "sessions_named_otherwise": Case(
        "ses-baseline in the table, ses-01 the folder",
        files={"sub-01/sub-01_sessions.tsv": "session_id\tage\nses-baseline\t31\n"},
        scans=("sub-01_ses-01",),
        ages={"sub-01_ses-01": None},
        says=("ses-baseline.*ses-01",),
    ),
    "sessions_file_named_otherwise": Case(
        "sub-1_sessions.tsv in the folder sub-01",
        files={"sub-01/sub-1_sessions.tsv": "session_id\tage\nses-1\t31\n"},
        scans=("sub-01_ses-1",),
        ages={"sub-01_ses-1": None},
        says=("sub-1_sessions.tsv.*sub-01_sessions.tsv",),
    ),
}

OTHERS = {
    "letters_in_a_note": Case(
        "one letter of another encoding in a note",
        files=_table("participant_id\tage\tnote\nsub-01\t30\tf\xfcr\nsub-02\t40\t\n".encode("latin-1")),
        scans=TWO,
        ages=AGES,
        says=("participants.tsv, line 2.*note",),
    ),
    "letters_in_the_age": _refused(
        "a letter of another encoding in an age",
        "participant_id\tage\nsub-01\t30\xa0\nsub-02\t40\n".encode("latin-1"),
        "participants.tsv, line 2.*age.*UTF-8",
    ),
    "repeat_that_agrees": Case(
        "a column twice, the same both times",
        ("participant_id|age|age", "sub-01|30|30"),
        scans=ONE,
        ages={"sub-01": 30},
        says=("repeats.*age",),
    ),
    "repeat_of_a_phenotype_column": Case(
        "a score twice in a phenotype table",
        ROWS,
        {"phenotype/m.tsv": "participant_id\tmoca\tmoca\nsub-01\t1\t2\n"},
        TWO,
        ages=AGES,
        says=("phenotype/m.tsv.*moca",),
    ),
    "ignored_person": Case(
        ".bidsignore names a participant",
        ROWS,
        {".bidsignore": "sub-02/\n"},
        TWO,
        planned=1,
        ages={"sub-01": 30},
        says=("sub-02.*bidsignore",),
    ),
    "ignored_image": Case(
        ".bidsignore names some images",
        ROWS,
        {".bidsignore": "*_acq-test_T1w.nii.gz"},
        (*TWO, "sub-01_acq-test"),
        planned=2,
        says=("acq-test.*bidsignore",),
    ),
    "ignored_phenotype": Case(
        ".bidsignore names a phenotype table that is not fetched",
        ROWS,
        {".bidsignore": "phenotype/\n", "phenotype/x.tsv": LFS},
        TWO,
        ages=AGES,
        says=("x.tsv.*bidsignore",),
    ),
    "ignored_and_asked_for": Case(
        "a column of a table that .bidsignore names is asked for",
        ROWS,
        {".bidsignore": "participants.tsv"},
        TWO,
        args=("--age-column", "participants.tsv:age"),
        ages=AGES,
    ),
    "broken_and_asked_for": Case(
        "a column of a phenotype table that cannot be read is asked for",
        ROWS,
        {"phenotype/m.tsv": "<html>"},
        TWO,
        args=("--score", "bdi=phenotype/m.tsv:BDI"),
        rc=16,
        says=("phenotype/m.tsv.*web page",),
    ),
    "repeated_and_asked_for": Case(
        "--age-column names a column that stands twice",
        ("participant_id|years|years", "sub-01|30|31"),
        scans=ONE,
        args=("--age-column", "participants.tsv:years"),
        rc=16,
        says=("several columns named 'years'",),
    ),
    "age_column_not_fetched": Case(
        "--age-column names an unfetched link",
        ROWS,
        scans=TWO,
        links={"clinic.tsv": LINK},
        args=("--age-column", "clinic.tsv:age"),
        rc=16,
        says=("clinic.tsv.*not fetched",),
    ),
    "bidsignore_utf16": Case(
        ".bidsignore in UTF-16 ignores nothing",
        ROWS,
        {".bidsignore": "*\n".encode("utf-16")},
        TWO,
        ages=AGES,
        says=("bidsignore.*UTF-16",),
    ),
    "bad_rows_300": Case(
        "300 rows with bad ids are one line",
        ("participant_id|age", *(f"a b{n}|30" for n in range(300))),
        scans=ONE,
        ages={"sub-01": None},
        max_lines=12,
        says=("300 lines",),
    ),
    "odd_bytes_in_a_name": Case(
        "an image whose name is not UTF-8", ROWS, scans=TWO, make=_odd_name, ages=AGES, says=("sub-01_acq-",)
    ),
    "long_id": Case(
        "an id of 5,000 letters",
        ("participant_id|age", f"a_{LONG}|30", "sub-01|30"),
        scans=ONE,
        ages={"sub-01": 30},
        says=("characters",),
    ),
    "long_option": Case(
        "a value of 5,000 letters", ROWS, scans=TWO, args=("--group-column", LONG), rc=16, says=("characters",)
    ),
    "long_path": Case(
        "a path of 5,000 letters", ROWS, scans=TWO, args=("--model", f"/{LONG}"), rc=64, says=("characters",)
    ),
    "config_list_in_list": Case(
        "a list of lists in the config file",
        ROWS,
        {"../c.toml": "control = [['a']]"},
        TWO,
        args=("--config-file", "{beside}/c.toml"),
        rc=64,
        says=("control.*give text",),
    ),
}

CASES = NOT_FETCHED | FORMATS | IDS | OTHERS
