"""What options select, what stands for a person, and what is said where nothing is left."""

import json

from corpuscase import IMAGE, Case

ROWS = ("participant_id|age|sex", "sub-01|30|F", "sub-02|40|M")
TWO = ("sub-01", "sub-02")
NO_HINT = ("check the labels and the filter file", "the filters select")


def _filter(what, query, scans=TWO, **promised):
    """A filter file that holds ``query`` under t1w."""
    return _file(what, json.dumps({"t1w": query}), scans, **promised)


def _file(what, text, scans=TWO, **promised):
    return Case(what, ROWS, {"f.json": text}, scans, args=("--bids-filter-file", "{ds}/f.json"), **promised)


def _labels(what, text, **promised):
    return Case(what, ROWS, {"../l.txt": text}, TWO, args=("--participant-label", "{beside}/l.txt"), **promised)


def _nothing(what, files=(), says=(), **more):
    files = dict.fromkeys(files, IMAGE) | more.pop("texts", {})
    return Case(what, more.pop("rows", ROWS), files, rc=18, says=says, silent=NO_HINT, **more)


CASES = {
    # --- filter files
    "filter_under_T1w": _file("the key is T1w", '{"T1w": {"acquisition": "x"}}', rc=64, says=("'t1w', not 'T1w'",)),
    "filter_under_anat": _file("the key is anat", '{"anat": {}}', rc=64, says=("'t1w', not 'anat'",)),
    "filter_without_a_key": _file("the query alone", '{"acquisition": "x"}', rc=64, says=("under t1w",)),
    "filter_in_utf16": _file("saved as UTF-16", '{"t1w": {}}'.encode("utf-16"), rc=64, says=("UTF-16",)),
    "filter_nested_deep": _file("100,000 brackets", "[" * 100000, rc=64, says=("not JSON",)),
    "filter_of_a_huge_number": _file("5,000 digits", '{"t1w": {"run": ' + "9" * 5000 + "}}", rc=64),
    "filter_is_a_folder": Case("a folder", ROWS, scans=TWO, args=("--bids-filter-file", "{ds}"), rc=64),
    "filter_is_not_there": Case("no such file", ROWS, scans=TWO, args=("--bids-filter-file", "{ds}/no.json"), rc=66),
    "filter_with_ses_prefix": _filter(
        "labels with their prefix, as pybids does not take them", {"subject": "sub-01"}, rc=18, says=("pybids",)
    ),
    "filter_by_short_names": _filter("acq in place of acquisition", {"acq": "x"}, rc=64, says=("'acq' is not",)),
    "filter_bad_regex_in_a_list": _filter(
        "one of several is broken", {"acquisition": ["a", "*"], "regex_search": True}, rc=64, says=("regular exp",)
    ),
    "filter_unknown_query_word": _filter("Query.SOME", {"acquisition": "Query.SOME"}, rc=64, says=("Query.NONE",)),
    "filter_regex_any_case": _filter(
        "regular expressions ignore case",
        {"acquisition": "MP.*", "regex_search": True},
        ("sub-01_acq-mprage", "sub-02_acq-spgr"),
        planned=1,
    ),
    "filter_extension_bare": _filter("a list of extensions without dots", {"extension": ["nii.gz"]}, planned=2),
    "filter_other_suffix": _filter("T2w asked for", {"suffix": "T2w"}, rc=18, says=("filter",)),
    "filter_and_broken_sidecars": Case(
        "a broken JSON and a link to the parent beside the images",
        ROWS,
        {"f.json": {"t1w": {"subject": "01"}}, "sub-01/anat/sub-01_T1w.json": "{", "T1w.json": "["},
        TWO,
        links={"sub-02/anat/up": "../..", "up": "."},
        args=("--bids-filter-file", "{ds}/f.json"),
        planned=1,
    ),
    "filter_for_unit1": Case(
        "UNIT1 asked for in the filter file",
        ROWS,
        {"f.json": {"t1w": {"suffix": "UNIT1"}}},
        ("sub-01_UNIT1.nii.gz", "sub-02"),
        args=("--bids-filter-file", "{ds}/f.json"),
        ages={"sub-01": 30},
        planned=1,
    ),
    # --- databases
    "database_is_not_there": Case(
        "no database in the folder",
        ROWS,
        scans=TWO,
        args=("--bids-database-dir", "{beside}/db"),
        planned=2,
        says=("no layout_index.sqlite|holds no",),
    ),
    "database_is_none": Case(
        "a file of that name that is no database",
        ROWS,
        {"../db/layout_index.sqlite": "no database"},
        TWO,
        args=("--bids-database-dir", "{beside}/db"),
        rc=65,
        says=("cannot be read by this pybids",),
    ),
    # --- labels
    "labels_on_one_line": _labels("several labels on one line", "sub-01 02\n", planned=2),
    "labels_with_commas": _labels("commas and comments", "01, 02 # both\n", planned=2),
    "labels_of_a_table": _labels("participants.tsv as the list", "participant_id\tage\nsub-02\t40\n", planned=1),
    "labels_in_utf16": _labels("UTF-16", "sub-01".encode("utf-16"), rc=64, says=("UTF-16",)),
    "labels_in_a_spreadsheet": _labels("an xlsx file", b"PK\x03\x04" + b"\0" * 60, rc=64, says=("spreadsheet",)),
    "labels_none": _labels("an empty file", "# nobody\n", rc=64, says=("no label",)),
    "label_of_5000_digits": Case(
        "a label of 5,000 digits", ROWS, scans=TWO, args=("--participant-label", "5" * 5000), rc=64, says=("no label",)
    ),
    "label_path_too_long": Case(
        "a path longer than a file name may be", ROWS, scans=TWO, args=("--participant-label", "/" + "a" * 5000), rc=66
    ),
    # --- nothing there
    "only_unit1": _nothing("UNIT1 only", says=("--t1w-suffix UNIT1",), scans=("sub-01_UNIT1.nii.gz",)),
    "only_mgz": _nothing("FreeSurfer's format", ["sub-01/anat/sub-01_T1w.mgz"], (r"sub-01_T1w\.mgz",)),
    "only_img": _nothing(
        "Analyze", ["sub-01/anat/sub-01_T1w.img", "sub-01/anat/sub-01_T1w.hdr"], (r"sub-01_T1w\.img",)
    ),
    "only_gz_twice": _nothing("compressed twice", ["sub-01/anat/sub-01_T1w.nii.gz.gz"], (r"nii\.gz\.gz",)),
    "only_capitals": _nothing("T1W", ["sub-01/anat/sub-01_T1W.nii"], (r"sub-01_T1W\.nii",)),
    "only_without_anat": _nothing("no folder anat", ["sub-01/sub-01_T1w.nii.gz"], ("anat",)),
    "only_in_sessions_without_anat": _nothing(
        "sessions without anat", ["sub-01/ses-1/sub-01_ses-1_T1w.nii.gz"], ("sub-01/ses-1/sub-01_ses-1_T1w",)
    ),
    "only_t2w": _nothing("other images", ["sub-01/anat/sub-01_T2w.nii.gz"], (r"anat/\*_T2w \(1\)",)),
    "folders_without_sub": _nothing("01 for sub-01", ["01/anat/01_T1w.nii.gz"], ("folders 01.*sub-01",)),
    "folders_of_another_case": _nothing("Sub-01", ["Sub-01/anat/Sub-01_T1w.nii.gz"], ("Sub-01",)),
    "parent_of_the_dataset": _nothing(
        "the folder above", ["study/sub-01/anat/sub-01_T1w.nii.gz"], ("study as BIDS_DIR",), rows=(), description=False
    ),
    "only_derivatives": _nothing(
        "derivatives only", ["derivatives/x/sub-01/anat/sub-01_T1w.nii.gz"], ("only derivatives",), rows=()
    ),
    "only_sourcedata": _nothing("sourcedata only", ["sourcedata/01/x.dcm"], ("only sourcedata",), rows=()),
    "images_without_folders": _nothing("images in the root", ["one.nii.gz"], (r"one\.nii\.gz",), rows=()),
    "empty_folder": _nothing("nothing at all", rows=(), description=False, says=("is empty",)),
    "only_a_loop": _nothing("one looping link", links={"sub-01": "sub-01"}, says=("sub-01 cannot be read",)),
    # --- folders
    "loops_and_files_for_folders": Case(
        "links in circles, to nowhere, and a file, beside two good participants",
        ROWS,
        {"sub-05": "a file"},
        TWO,
        links={"sub-03": "sub-03", "sub-04": "nowhere", "sub-06/anat": "anat", "sub-07": "."},
        planned=2,
        says=("sub-03", "sub-04", "sub-05", "sub-06", "sub-07"),
    ),
    "name_that_is_no_utf8": Case(
        "bytes in a file name",
        ROWS,
        scans=TWO,
        make=lambda root: (root / "sub-01/anat/sub-01\udcff_T1w.nii.gz").write_bytes(IMAGE),
        planned=2,
        says=("IMAGE_NAME",),
    ),
    "folder_nearly_right": Case(
        "Sub-03 and sub-04_old beside two good participants",
        ROWS,
        {"Sub-03/anat/x.nii.gz": IMAGE, "sub-04_old/anat/sub-04_T1w.nii.gz": IMAGE},
        TWO,
        planned=2,
        says=("FOLDER_NAME", "Sub-03", "sub-04_old"),
    ),
    # --- which scan
    "localizer_beside_mprage": Case(
        "the alphabet is no reason", ROWS, scans=("sub-01_acq-localizer", "sub-01_acq-mprage", "sub-02"), planned=3,
        says=("sub-01_acq-mprage before sub-01_acq-localizer", "IMAGE_PART"),
    ),
    "agent_beside_plain": Case(
        "contrast agent", ROWS, scans=("sub-01", "sub-01_ce-gad", "sub-02"), planned=3,
        says=("sub-01 before sub-01_ce-gad",),
    ),
    "chunks": Case(
        "parts of a brain", ROWS, scans=("sub-01_chunk-1", "sub-01_chunk-2", "sub-02"), planned=3, says=("chunk-",)
    ),
    "echoes": Case(
        "several echoes", ROWS, scans=("sub-01_echo-1", "sub-01_echo-2", "sub-02"), planned=3,
        says=("IMAGE_ECHOES.*sub-01_echo-1",),
    ),
    "unit1_where_no_t1w_is": Case(
        "UNIT1 beside T1w, asked for", ROWS, scans=("sub-01", "sub-01_UNIT1.nii.gz", "sub-02_UNIT1.nii.gz"),
        args=("--t1w-suffix", "UNIT1"), ages={"sub-01": 30, "sub-02": 40}, planned=2,
    ),
    "unit1_not_asked_for": Case(
        "UNIT1 of one participant, not asked for", ROWS, scans=("sub-01", "sub-02_UNIT1.nii.gz"), planned=1,
        says=("IMAGE_UNIT1.*sub-02",),
    ),
    "t1w_suffix_unknown": Case("T2w as T1w", ROWS, scans=TWO, args=("--t1w-suffix", "T2w"), rc=64, says=("UNIT1",)),
    # --- arguments
    "memory_in_gb_doubted": Case(
        "8000 GB", ROWS, scans=TWO, args=("--mem", "80000"), planned=2, says=("80000 GB, but this machine has",)
    ),
    "memory_in_mb": Case("--mem_mb", ROWS, scans=TWO, args=("--mem_mb", "8000"), planned=2, says=("8.0 GB",)),
    "underscores": Case(
        "names with underscores", ROWS, scans=TWO, args=("--skip_bids_validation", "--n_procs", "1"), planned=2,
        description=False, says=("DESCRIPTION_MISSING",),
    ),
    "group_option_at_participant": Case(
        "--bias-fit", ROWS, scans=TWO, args=("--bias-fit", "none"), planned=2, says=("--bias-fit: of the group level",)
    ),
    "config_in_utf16": Case(
        "a config file saved as UTF-16", ROWS, {"../c.toml": "nprocs = 1".encode("utf-16")}, TWO,
        args=("--config-file", "{beside}/c.toml"), rc=64, says=("UTF-16",),
    ),
    "config_with_a_table": Case(
        "headings in a config file", ROWS, {"../c.toml": "[run]\nnprocs = 1\n"}, TWO,
        args=("--config-file", "{beside}/c.toml"), rc=64, says=("is a table",),
    ),
}  # fmt: skip
