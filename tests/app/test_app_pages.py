"""A page is current when it was made from what is there now, whatever its time of change."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from prepared import make_prepared, participant, shared_model

from brainage_bids.app import participant_pages as pages
from brainage_bids.bids.files import read_json, write_json
from brainage_bids.report.html import made_from_of


@pytest.fixture
def own(done, tmp_path, quick_pages):
    """The same to write into."""
    root = shutil.copytree(done.out.parent, tmp_path / "own")
    return type(done)(root / "bids", root / "out"), root / "shared"


def written(place):
    """Return the pages and their times of change."""
    return {path.name: path.stat().st_mtime_ns for path in place.out.glob("*.html")}


def test_pages_tell_what_they_were_made_from(done):
    found = {made_from_of(path) for path in done.out.glob("*.html")}
    assert len(found) == 3
    assert None not in found


def test_nothing_to_do_writes_no_page_also_where_the_folder_was_copied(own):
    place, folder = own
    for path in place.out.rglob("*"):
        os.utime(path)  # as a copy has it
    before = written(place)
    participant(place, "--model", folder)
    assert written(place) == before
    assert set(before) == {"sub-01.html", "sub-02.html", "qc.html"}


def test_a_run_interrupted_between_prediction_and_pages_leaves_no_old_page(own, tmp_path, monkeypatch):
    place, folder = own
    other = shared_model(tmp_path / "later9", bias=12.0)

    class Interrupted(Exception):
        pass

    def interrupted(*_):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(pages, "participant_pages", interrupted)
        with pytest.raises(Interrupted):
            participant(place, "--model", folder, "--model", other)
    assert "later9" not in (place.out / "sub-01.html").read_text()
    participant(place, "--model", folder, "--model", other)
    for name in ("sub-01.html", "sub-02.html"):
        assert "['later9', 'shared']" in (place.out / name).read_text()


def test_a_decision_changes_the_page_of_its_participant_and_that_of_the_quality(own):
    place, folder = own
    before, path = written(place), place.out / "qc.tsv"
    header, first, *rest = path.read_text().splitlines()
    cells = first.split("\t")
    cells[header.split("\t").index("qc_decision")] = "fail"
    path.write_text("\n".join([header, "\t".join(cells), *rest]) + "\n")
    participant(place, "--model", folder)
    after = written(place)
    assert {name for name in before if after[name] != before[name]} == {"sub-01.html", "qc.html"}


def test_quality_numbers_of_a_volume_are_those_on_the_pages(own):
    place, folder = own
    path = next(place.out.glob("sub-02/anat/*_desc-preproc_T1w.json"))
    before = written(place)
    write_json(path, read_json(path) | {"QC": {"snr": 12.0}})
    participant(place, "--model", folder)
    after = written(place)
    assert {name for name in before if after[name] != before[name]} == {"sub-02.html", "qc.html"}


@pytest.mark.parametrize("lost", ["removed", "of_an_earlier_version", "cut_short"])
def test_a_page_that_is_lost_or_tells_nothing_is_written(lost, own):
    place, folder = own
    page = place.out / "sub-01.html"
    page.unlink()
    if lost != "removed":
        page.write_text("<html><head><title>x</title></head>" if lost == "of_an_earlier_version" else "")
    participant(place, "--model", folder)
    assert made_from_of(page) is not None


def test_reports_only_writes_the_pages_asked_for_and_nothing_else(own):
    place, _ = own
    before = files_of(place.out)
    participant(place, "--reports-only", "--participant-label", "02")
    after = files_of(place.out)
    assert {name for name in after if after[name] != before.get(name)} == {"sub-02.html"}
    participant(place, "--reports-only")
    assert {name for name, changed in files_of(place.out).items() if changed != after[name]} == {
        "sub-01.html", "sub-02.html",
    }  # fmt: skip


def files_of(out):
    """Return the files of OUTPUT_DIR but logs, and their times of change."""
    paths = [
        path for path in out.rglob("*") if path.is_file() and path.relative_to(out).parts[0] not in ("logs", ".runs")
    ]
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in paths}


COUNT_OPENED = """
import collections, json, sys
opened = collections.Counter()
def count(event, args):
    if event == "open" and isinstance(args[0], str) and (args[1] or "r")[0] == "r":
        opened[args[0]] += 1
sys.addaudithook(count)
from brainage_bids.__main__ import main
try:
    main()
finally:
    print("OPENED" + json.dumps(opened))
    print("LOADED" + json.dumps([name for name in ("torch", "nipype", "matplotlib") if name in sys.modules]))
"""


def test_a_run_with_nothing_to_do_reads_each_file_once_and_loads_nothing_heavy(own):
    place, folder = own
    participant(place, "--model", folder)  # pages as this fixture draws them
    command = [sys.executable, "-c", COUNT_OPENED, place.bids, place.out, "participant", "--model", folder]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert "0 to do, 2 already there" in done.stderr
    opened = json.loads(next(line[6:] for line in done.stdout.splitlines() if line.startswith("OPENED")))
    ours = {
        path: n for path, n in opened.items()
        if path.endswith((".json", "_pred.tsv")) and ("_T1w.json" in path or "_pred." in path or "model.json" in path)
    }  # fmt: skip
    assert sum("_T1w.json" in path for path in ours) == 2
    assert sum("_pred." in path for path in ours) == 4
    assert set(ours.values()) == {1}
    assert json.loads(next(line[6:] for line in done.stdout.splitlines() if line.startswith("LOADED"))) == []


def test_a_run_over_one_session_keeps_the_others_on_the_page(tmp_path, quick_pages):
    place = make_prepared(tmp_path, people=1, sessions=("ses-1", "ses-2"))
    folder = shared_model(tmp_path / "shared")
    participant(place, "--model", folder)
    before = (place.out / "sub-01.html").read_text()
    assert "['sub-01_ses-1', 'sub-01_ses-2']" in before
    shared_model(folder, bias=12.0)
    participant(place, "--model", folder, "--session-label", "2")
    after = (place.out / "sub-01.html").read_text()
    assert after != before  # made from other predictions
    assert "['sub-01_ses-1', 'sub-01_ses-2']" in after
