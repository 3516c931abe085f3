"""What a run says of the scans that fail: each reason, not each scan."""

import json
import logging

import pytest

from brainage_bids.app.run_record import RunRecord
from brainage_bids.bids.outputs import Outputs
from brainage_bids.schema import Scan


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("brainage_bids"), "propagate", True)
    caplog.set_level(logging.DEBUG, logger="brainage_bids")
    return caplog


def test_many_failures_of_one_kind_are_few_lines_on_the_screen_and_all_in_the_record(tmp_path, said):
    record = RunRecord(Outputs(tmp_path), "participant", "x", {})
    with record.running():
        for n in range(300):
            scan = Scan("x", f"sub-{n}", None)
            record.event(scan, "read", "failed", f"/data/sub-{n}/anat/sub-{n}_T1w.nii.gz is not fetched: a pointer")
        record.event(Scan("x", "sub-7", None), "mask", "failed", "no brain is found in 12 ml")
    lines = [entry.getMessage() for entry in said.records if entry.levelno >= logging.WARNING]
    assert len(lines) == 7
    assert lines[0].startswith("sub-0 failed at read: /data/sub-0/anat")
    assert "run.json" in lines[5]
    assert lines[6] == "sub-7 failed at mask: no brain is found in 12 ml"
    assert len(json.loads((record.folder / "run.json").read_text())["Events"]) == 301
    assert (record.folder / "brainage.log").read_text().count("failed at read") == 300
    assert len(record.failures) == 301
