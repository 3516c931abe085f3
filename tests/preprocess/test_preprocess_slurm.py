"""The SLURM plugin on a real Slurm, one node is enough; skipped where ``sbatch`` or a running controller is missing."""

import os
import shutil
import subprocess
import threading
import time

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.bids.outputs import Outputs
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import VolumeSpec

SPECS = (VolumeSpec.on_grid(4),)
QUEUE = ["squeue", "--noheader", "--format=%A %j"]


def slurm_is_up():
    if shutil.which("sbatch") is None:
        return False
    return subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=30).returncode == 0


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not slurm_is_up(), reason="no Slurm runs here")]


def cancel(name, work, scan):
    """Kill the job of one scan as soon as its worker has begun."""
    deadline = time.time() + 120
    while time.time() < deadline and not list(work.glob(f"*/{scan}/status.json")):
        time.sleep(0.05)
    listed = subprocess.run(QUEUE, capture_output=True, text=True, check=True).stdout.split("\n")
    for line in listed:
        if name in line:
            subprocess.run(["scancel", "--signal=KILL", "--full", line.split()[0]], check=True)


def test_scans_run_as_slurm_jobs_and_a_killed_one_is_reported(tmp_path, head, save_scan, monkeypatch):
    monkeypatch.delenv("LOGNAME", raising=False)
    scans = [save_scan(head, "01"), save_scan(nib.Nifti1Image(np.zeros((40, 40, 40), np.int16), 4 * np.eye(4)), "02")]
    scans.append(save_scan(head, "03"))
    plugin = tmp_path / "slurm.yml"
    plugin.write_text("plugin: SLURM\nplugin_args: {sbatch_args: '--mem 2G', max_jobs: 2}\n")
    work = tmp_path / "work"
    options = PreprocessOptions(work, plugin_file=plugin, progress=False)
    killer = threading.Thread(target=cancel, args=("sub_03", work, "sub-03"))
    killer.start()
    outcomes = preprocess(scans, SPECS, Outputs(tmp_path / "out"), options)
    killer.join()
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "failed"], outcomes
    assert "one single value" in outcomes[1].reason
    assert "worker process died" in outcomes[2].reason
    assert "LOGNAME" in os.environ
    again = preprocess(scans, SPECS, Outputs(tmp_path / "out"), options)
    assert [outcome.status for outcome in again] == ["skipped", "failed", "done"]
