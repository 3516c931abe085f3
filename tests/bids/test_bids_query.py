"""Filter files and databases give what pybids gives; `selection` is their only user."""

import json
import subprocess
import sys
import warnings

import pytest

from brainage_bids.bids.query import read_filter, select_paths
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.errors import BadDataError, NoInputError, NothingSelectedError, UsageError

QUERIES = [
    {}, {"acquisition": "mprage"}, {"acquisition": ["mprage", "spgr"]}, {"acquisition": None}, {"acquisition": "*"},
    {"acquisition": "Query.NONE"}, {"acquisition": "Query.ANY"}, {"acquisition": ["Query.NONE", "mprage"]},
    {"acquisition": "Query.OPTIONAL"}, {"acquisition": "MP", "regex_search": True}, {"acquisition": []},
    {"acquisition": "^mp$", "regex_search": True}, {"run": 1}, {"run": "01"}, {"run": [None, 2]}, {"run": 1.0},
    {"session": "1"}, {"session": 1}, {"session": "ses-1"}, {"subject": ["01", "02"]}, {"subject": "sub-01"},
    {"subject": "0.", "regex_search": True}, {"ceagent": None}, {"part": "mag"}, {"part": None}, {"echo": 1},
    {"suffix": "T2w"}, {"suffix": "UNIT1"}, {"suffix": ["T1w", "UNIT1"]}, {"suffix": "T1.*", "regex_search": True},
    {"extension": "nii.gz"}, {"extension": ".nii"}, {"datatype": "func"}, {"desc": None}, {"space": None},
    {"colour": 1}, {"colour": 1, "invalid_filters": "allow"}, {"colour": 1, "invalid_filters": "drop"},
    {"scope": "raw"}, {"return_type": "id", "target": "subject"}, {"acquisition": {"a": 1}}, {"acquisition": True},
]  # fmt: skip
NAMES = (
    "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz sub-01/ses-1/anat/sub-01_ses-1_acq-mprage_run-01_T1w.nii.gz "
    "sub-01/ses-1/anat/sub-01_ses-1_acq-mprage_run-2_T1w.nii.gz sub-01/ses-2/anat/sub-01_ses-2_acq-MPRAGE_T1w.nii "
    "sub-02/anat/sub-02_T1w.nii.gz sub-02/anat/sub-02_ce-gad_T1w.nii.gz sub-02/anat/sub-02_part-mag_T1w.nii.gz "
    "sub-02/anat/sub-02_acq-mp_echo-1_T1w.nii.gz sub-3/anat/sub-3_acq-spgr_T1w.nii.gz sub-04/anat/sub-04_UNIT1.nii.gz"
).split()


@pytest.fixture
def tree(toy):
    for name in NAMES:
        toy.text(name, "x" * 2000)
    return toy


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """The tree as pybids sees it whole."""
    from bids import BIDSLayout
    from bids.layout import BIDSLayoutIndexer

    root = tmp_path_factory.mktemp("oracle")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    for name in (*NAMES, "sub-01/func/sub-01_task-rest_bold.nii.gz", "derivatives/a/sub-01/anat/sub-01_T1w.nii.gz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x" * 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return root, BIDSLayout(root, validate=False, indexer=BIDSLayoutIndexer(validate=False, index_metadata=False))


@pytest.mark.parametrize("query", QUERIES, ids=json.dumps)
def test_a_query_selects_what_pybids_selects(oracle, query):
    from bids.layout import Query

    def value(given):
        if isinstance(given, list):
            return [value(item) for item in given]
        return getattr(Query, given[6:]) if isinstance(given, str) and given.startswith("Query.") else given

    root, layout = oracle
    base = {"datatype": "anat", "suffix": "T1w", "part": ["mag", None], "extension": [".nii", ".nii.gz"]}
    asked = {**base, **{key: value(item) for key, item in query.items() if key != "return_type"}}
    try:
        theirs = {path.removeprefix(f"{root}/") for path in layout.get(return_type="file", **asked)}
    except Exception:
        with pytest.raises(UsageError, match="pybids cannot answer"):
            select_paths(root, query, None, ["T1w"])
        return
    assert select_paths(root, query, None, ["T1w"]).selected == theirs


def test_the_scan_of_folders_finds_what_pybids_finds(tree):
    plain = [scan.path for scan in read_dataset(DatasetQuery(tree.root)).scans]
    answer = select_paths(tree.root, {}, None, ["T1w"])
    assert {path.removeprefix(f"{tree.root}/") for path in plain} == answer.selected
    assert len(plain) == 9


def filtered(toy, text, **more):
    file = toy.root.parent / "filter.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [scan.prefix for scan in read_dataset(DatasetQuery(toy.root, filter_file=file, **more)).scans]


def test_a_filter_file_is_applied_with_the_labels(tree):
    assert filtered(tree, '{"t1w": {"ceagent": "gad"}}') == ["sub-02_ce-gad"]
    assert filtered(tree, '{"bold": {"run": 7}}', participant_label=("3",)) == ["sub-3_acq-spgr"]
    with pytest.raises(NothingSelectedError, match=r"pybids selects none of 1 images.*--bids-filter-file"):
        filtered(tree, '{"t1w": {"ceagent": "gad"}}', participant_label=("3",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "must look like"),
        ('"t1w"', "must look like"),
        ('{"t1w": []}', "must look like"),
        ('{"T1w": {"acquisition": "x"}}', "called 't1w', not 'T1w'"),
        ('{"T1W": {}}', "called 't1w', not 'T1W'"),
        ('{"t1": {}}', "called 't1w', not 't1'"),
        ('{"anat": {}}', "called 't1w', not 'anat'"),
        ('{"acquisition": "mprage"}', "put it under t1w"),
        ('{"t1w": {"colour": 1}}', "'colour' is not a recognized entity"),
        ('{"t1w": {"acq": "x"}}', "'acq' is not a recognized entity"),
        ('{"t1w": {"acquisition": "(", "regex_search": true}}', "no regular expression"),
        ('{"t1w": {"acquisition": ["a", "*"], "regex_search": true}}', "no regular expression"),
        ('{"t1w": {"acquisition": "Query.SOME"}}', "Query.SOME.*use Query.NONE"),
        ('{"t1w": {"run": 1, "run": 2}}', "several values"),
        ("[" * 100000, "not JSON"),
        ('{"t1w": {"run": ' + "9" * 5000 + "}}", "not JSON"),
        ('{"t1w": {}}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_filter_files_that_cannot_be_used(tree, text, told):
    with pytest.raises(UsageError, match=told) as caught:
        filtered(tree, text)
    assert len(str(caught.value)) < 600


def test_a_filter_file_that_is_not_there_or_a_folder(tmp_path):
    with pytest.raises(NoInputError, match="not there"):
        read_filter(tmp_path / "filter.json")
    with pytest.raises(UsageError, match="is a folder"):
        read_filter(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_filter("x" * 5000)


def test_what_would_stop_or_trap_an_index_does_not(tree):
    tree.text("sub-01/ses-1/anat/sub-01_ses-1_T1w.json", "{ broken")
    tree.text("T1w.json", "[")
    for link in ("sub-02/loop", "sub-02/anat/up", "up", "sub-3/ses-1"):
        (tree.root / link).symlink_to(tree.root)
    (tree.root / "sub-05").symlink_to("sub-05")
    assert filtered(tree, '{"t1w": {"subject": "3"}}') == ["sub-3_acq-spgr"]


@pytest.mark.parametrize("description", ["{", '{"DatasetType": "derivative"}', None])
def test_a_dataset_without_a_description_that_can_be_used(tree, description):
    file = tree.root / "dataset_description.json"
    file.unlink() if description is None else file.write_text(description)
    assert filtered(tree, '{"t1w": {"subject": "3"}}', skip_validation=True) == ["sub-3_acq-spgr"]


@pytest.mark.parametrize("description", ["[1]", '{"DatasetType": "derivative", "GeneratedBy": 3}'])
def test_a_description_that_stops_pybids_is_told(tree, description):
    (tree.root / "dataset_description.json").write_text(description)
    with pytest.raises(BadDataError, match="pybids cannot index"):
        filtered(tree, '{"t1w": {"subject": "3"}}', skip_validation=True)


# --- databases ------------------------------------------------------------------------------------------------------


def made(root, folder):
    from bids import BIDSLayout

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        BIDSLayout(root, database_path=folder)
    return folder


def of_database(toy, folder, **more):
    dataset = read_dataset(DatasetQuery(toy.root, database_dir=folder, **more))
    return {scan.participant_id for scan in dataset.scans}, {fault.code: fault for fault in dataset.faults}


def test_a_prepared_database_is_used_and_what_is_newer_is_named(tree, tmp_path):
    folder = made(tree.root, tmp_path / "db")
    people, faults = of_database(tree, folder)
    assert people == {"sub-01", "sub-02", "sub-3"}
    assert "DATABASE_OLD" not in faults
    tree.image("sub-07")
    people, faults = of_database(tree, folder)
    assert people == {"sub-01", "sub-02", "sub-3"}
    assert "sub-07/anat/sub-07_T1w.nii.gz" in faults["DATABASE_OLD"].message
    file = tmp_path / "filter.json"
    file.write_text('{"t1w": {"acquisition": "spgr"}}')
    assert of_database(tree, folder, filter_file=file)[0] == {"sub-3"}


def test_a_database_may_be_of_the_same_folder_under_another_name(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree.root)
    assert of_database(tree, made(tmp_path / "link", tmp_path / "db"))[0] == {"sub-01", "sub-02", "sub-3"}


def test_a_database_of_another_dataset_is_refused(tree, tmp_path):
    other = tmp_path / "other"
    (other / "sub-01/anat").mkdir(parents=True)
    (other / "dataset_description.json").write_text('{"Name": "o", "BIDSVersion": "1.8.0"}')
    with pytest.raises(UsageError, match=r"is the database of .*other, not of"):
        of_database(tree, made(other, tmp_path / "db"))


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\0" * 2000])
def test_what_is_no_database_is_refused(tree, tmp_path, content):
    (tmp_path / "db").mkdir()
    (tmp_path / "db/layout_index.sqlite").write_bytes(content)
    with pytest.raises(BadDataError, match="cannot be read by this pybids"):
        of_database(tree, tmp_path / "db")


def test_where_no_database_is_none_is_written(tree, tmp_path, caplog):
    for folder in (tmp_path / "none", tmp_path):
        caplog.clear()
        assert of_database(tree, folder)[0] == {"sub-01", "sub-02", "sub-3"}
        assert "holds no layout_index.sqlite" in caplog.text
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "layout_index.sqlite").exists()


def test_plain_runs_do_not_pay_for_pybids(tree):
    code = (
        "import sys\nfrom brainage_bids.bids.read import DatasetQuery, read_dataset\n"
        f"read_dataset(DatasetQuery({str(tree.root)!r}, participant_label=('01',), t1w_suffix='UNIT1'))\n"
        "assert 'bids' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
