"""Runs that are killed, stopped or shared among workers: the same files come out, and no process is left."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.bids.files import read_json
from brainage_bids.preprocess.pool import SteadyPoolPlugin

SCRIPT = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from brainage_bids.bids.outputs import Outputs
    from brainage_bids.preprocess.preprocess_options import PreprocessOptions
    from brainage_bids.preprocess.workflow import preprocess
    from brainage_bids.schema import Scan, VolumeSpec
    if __name__ == "__main__":
        folder, nprocs = Path(sys.argv[1]), int(sys.argv[2])
        scans = [Scan(str(path), path.parent.parent.name) for path in sorted(folder.glob("bids/*/anat/*"))]
        options = PreprocessOptions(folder / f"work{nprocs}", nprocs=nprocs, progress=False)
        for outcome in preprocess(scans, [VolumeSpec.on_grid(4)], Outputs(folder / f"out{nprocs}"), options):
            print(outcome.scan.prefix, outcome.status, outcome.reason)
    """
)


@pytest.fixture
def cohort(tmp_path, head):
    for label, power in (("01", 1.0), ("02", 0.9), ("03", 1.1)):
        path = tmp_path / "bids" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.asarray(head.dataobj) ** power, head.affine), path)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def start(folder, nprocs):
    return subprocess.Popen(
        [sys.executable, str(folder / "script.py"), str(folder), str(nprocs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


@pytest.mark.slow
def test_number_of_workers_changes_no_bit(cohort):
    for nprocs in (1, 2):
        assert start(cohort, nprocs).communicate(timeout=400)[0].count(" done ") == 3
    one, two = (sorted((cohort / f"out{n}").rglob("*.nii.gz")) for n in (1, 2))
    assert len(one) == len(two) == 6
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()


def parents():
    """Return the parent of every running process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_programs_of_a_worker_end_with_the_run():
    plugin = SteadyPoolPlugin({"n_procs": 1})
    plugin.pool.submit(subprocess.call, ["sleep", "300"])
    deadline, found = time.time() + 60, []
    while not found and time.time() < deadline:
        time.sleep(0.1)
        found = [pid for pid, parent in parents().items() if parent in plugin.pool._processes]
    assert found
    plugin.close()
    while Path(f"/proc/{found[0]}").exists() and time.time() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{found[0]}").exists()


def workers(folder, process):
    """Wait until a scan is being worked on; return the workers: children of the fork server, itself a child."""
    deadline = time.time() + 120
    while not list(folder.glob("work2/*/*/status.json")) and time.time() < deadline:
        time.sleep(0.1)
    tree = parents()
    return [pid for pid, parent in tree.items() if tree.get(parent) == process.pid]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_worker_does_not_hang_the_run(cohort):
    process = start(cohort, 2)
    os.kill(workers(cohort, process)[-1], signal.SIGKILL)
    text, said = process.communicate(timeout=400)
    assert "a worker died" in said
    assert text.count(" done ") == 3  # tried again, one at a time


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_terminated_run_leaves_no_worker(cohort):
    process = start(cohort, 2)
    before = workers(cohort, process)
    assert before
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM  # only the command line heeds signals; a script just dies
    deadline = time.time() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in before) and time.time() < deadline:
        time.sleep(0.2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


def wait_for_step(folder, step, process):
    """Wait until any scan has reached a step."""
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        for path in folder.glob("work2/*/*/status.json"):
            with contextlib.suppress(OSError):
                if read_json(path)["step"] == step:
                    return
        time.sleep(0.02)
    raise AssertionError(f"no scan reached {step}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("step", ["brain", "align", "volumes", "pictures"])
def test_killed_and_run_again_gives_the_same_bits(cohort, step):
    assert start(cohort, 1).communicate(timeout=400)[0].count(" done ") == 3  # undisturbed
    process = start(cohort, 2)
    wait_for_step(cohort, step, process)
    before = workers(cohort, process)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.time() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in before) and time.time() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)  # no worker outlives its run
    text, _ = start(cohort, 2).communicate(timeout=400)
    assert text.count(" done ") + text.count(" skipped ") == 3
    one, two = (sorted((cohort / f"out{n}").rglob("*.nii.gz")) for n in (1, 2))
    assert [path.name for path in one] == [path.name for path in two]
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert not list((cohort / "out2").rglob(".tmp-*"))
