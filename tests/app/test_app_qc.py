"""The quality table and page from sidecars alone: no image, no preprocessing."""

import json
from types import SimpleNamespace

import pytest

from brainage_bids.app import quality_table
from brainage_bids.app.run_record import RunRecord
from brainage_bids.bids.files import read_tsv, write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.quality_decisions import read_qc, scan_key
from brainage_bids.bids.scan_records import ScanRecords
from brainage_bids.bids.volumes import VolumeIdentity
from brainage_bids.errors import BadDataError
from brainage_bids.schema import QC_COLUMNS, QC_METRICS, Scan, VolumeSpec

SPEC = VolumeSpec.on_grid(2)


def sidecar(**more):
    metrics = dict.fromkeys(QC_METRICS, 1.0)
    return {"VolumeSpec": SPEC.to_dict(), "InputHash": "a", "Engine": "builtin", "EngineVersion": "2", "QC": metrics,
            "qc_pass": True, "qc_warn": [], **more}  # fmt: skip


class Place:
    """An OUTPUT_DIR with sidecars."""

    def __init__(self, root):
        self.outputs = Outputs(root)
        self.scans = []

    def add(self, label, values=None, **facts):
        scan = Scan(f"/d/sub-{label}_T1w.nii.gz", f"sub-{label}", **facts)
        self.scans.append(scan)
        if values is not None:
            self.set(scan, values)
        return scan

    def set(self, scan, values):
        write_json(sidecar_path(self.outputs.volume(scan, SPEC)), values)

    def write(self, failed=(), scans=None):
        record = RunRecord(self.outputs, "participant", "x", {})
        for scan, reason in failed:
            record.event(scan, "volumes", "failed", reason)
        quality_table.write_qc(
            ScanRecords(self.outputs), SimpleNamespace(name="Study", scans=scans or self.scans), record
        )
        return record

    def decide(self, label, verdict):
        path = self.outputs.qc_table
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        at = lines[0].index("qc_decision")
        for line in lines:
            line[at] = verdict if line[0] == f"sub-{label}" else line[at]
        path.write_text("".join("\t".join(line) + "\n" for line in lines))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "brainage_bids.report.quality_html._figure", lambda rows, metrics, gates: None
    )  # seconds, and tested elsewhere
    return Place(tmp_path)


def test_every_scan_with_an_outcome_has_a_row(place):
    place.add("1", sidecar(qc_warn=["dim", "bent"]), session_id="ses-1", entities=(("run", "2"),))
    place.add("2", sidecar(qc_pass=False, qc_warn=["lost"]))
    lost = place.add("3")
    place.add("4")  # never processed
    record = place.write([(lost, "no brain could be placed")])
    rows = read_tsv(place.outputs.qc_table)
    assert list(rows.columns) == list(QC_COLUMNS)
    assert rows[["participant_id", "session_id", "run", "qc_pass", "qc_warn"]].to_numpy().tolist() == [
        ["sub-1", "ses-1", "run-2", "1", "dim | bent"],
        ["sub-2", "n/a", "n/a", "0", "lost"],
        ["sub-3", "n/a", "n/a", "0", "no brain could be placed"],
    ]
    assert rows.snr.tolist() == ["1", "1", "n/a"]
    assert rows.qc_volume[2] == "refused"
    assert "2 of 3 scans do not pass" in record.notes[0]
    page = place.outputs.qc_page.read_text()
    assert page.index("sub-3<") < page.index("sub-2<") < page.index("sub-1_ses-1_run-2<")


def test_every_column_is_explained_with_unit_and_gates(place):
    place.add("1", sidecar())
    place.write()
    told = json.loads(sidecar_path(place.outputs.qc_table).read_text())
    assert list(told) == list(QC_COLUMNS)
    assert told["mask_volume_ml"]["Units"] == "mL"
    assert set(told["template_ncc"]["Gates"]) == {"refuse", "fail", "warn"}
    assert set(told["qc_decision"]["Levels"]) == {"pass", "fail"}


@pytest.mark.parametrize(("age", "young"), [(17.99, True), (18.0, False), (None, False)])
def test_children_are_flagged_by_their_age(place, age, young):
    place.add("1", sidecar(), age=age)
    place.write()
    words = read_tsv(place.outputs.qc_table).qc_warn[0]
    assert words == ("age below 18 years: the template is an adult's" if young else "n/a")


def test_the_gates_decide_unless_a_person_does(place):
    for label, passed in (("1", True), ("2", False), ("3", True), ("4", False)):
        place.add(label, sidecar(qc_pass=passed))
    assert quality_table.passing(place.scans, ScanRecords(place.outputs)) == [True, False, True, False]
    place.write()
    place.decide("3", "exclude")
    place.decide("4", "Accept")
    assert quality_table.passing(place.scans, ScanRecords(place.outputs)) == [True, False, False, True]
    assert place.write().notes[0].endswith("decided in qc.tsv: 1 pass, 1 fail; look at qc.html")


def test_a_decision_on_an_older_volume_is_kept_and_told(place):
    scan, other = place.add("1", sidecar()), place.add("2", sidecar())
    place.write()
    place.decide("1", "fail")
    assert len(place.write().notes) == 1
    for each in (scan, other):
        place.set(each, sidecar(InputHash="b"))
    record = place.write()
    assert "sub-1: decided on an older volume" in record.notes[1]
    assert "sub-2" not in record.notes[1]
    assert "Decided on an older volume" in place.outputs.qc_page.read_text()
    assert read_qc(place.outputs.qc_table).decision(scan_key(scan)).verdict == "fail"
    assert len(place.write().notes) == 2  # said until somebody looks


def test_a_pass_given_to_a_refused_scan_is_old_once_there_is_a_volume(place):
    scan = place.add("1")
    place.write([(scan, "empty")])
    place.decide("1", "pass")
    assert quality_table.passing([scan], ScanRecords(place.outputs)) == [False]
    place.set(scan, sidecar(qc_pass=False))
    assert "decided on an older volume" in place.write().notes[1]


def test_runs_over_some_participants_keep_the_rows_of_the_others(place):
    for n in range(40):
        place.add(f"{n:02d}", sidecar())
    place.write()
    before = place.outputs.qc_page.stat().st_mtime_ns
    place.set(place.scans[7], sidecar(qc_warn=["new"]))
    place.write(scans=place.scans[7:8])
    rows = read_tsv(place.outputs.qc_table)
    assert len(rows) == 40
    assert rows.qc_warn.tolist() == ["n/a"] * 7 + ["new"] + ["n/a"] * 32
    assert place.outputs.qc_page.stat().st_mtime_ns == before  # a run over so few leaves the page to the others
    place.write(scans=place.scans[:2])
    assert place.outputs.qc_page.stat().st_mtime_ns > before


def test_a_broken_table_is_left_alone(place):
    place.add("1", sidecar())
    place.write()
    place.decide("1", "perhaps")
    before = place.outputs.qc_table.read_bytes()
    with pytest.raises(BadDataError, match="'perhaps' for sub-1"):
        place.write()
    assert place.outputs.qc_table.read_bytes() == before


def test_volumes_of_other_engines_and_inputs_are_other_volumes():
    ids = {
        VolumeIdentity.of(sidecar(**change)).decision_key
        for change in ({}, {"InputHash": "b"}, {"Engine": "ants"}, {"QC": {}})
    }
    assert len(ids) == 3
    assert all(name.startswith("v") for name in ids)
