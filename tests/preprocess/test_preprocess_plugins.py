import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype.pipeline.plugins import SLURMPlugin

from brainage_bids.bids.outputs import Outputs
from brainage_bids.errors import UsageError
from brainage_bids.preprocess import plugins, pool
from brainage_bids.preprocess.engines import choose
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.pool import steady_scheduler
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.workflow import _say_large, build_workflow
from brainage_bids.schema import Scan, VolumeSpec


def options(tmp_path, **changes):
    return PreprocessOptions(tmp_path / "work", **{"progress": False, **changes})


def callback(node, status):
    return None


def write_plugin(tmp_path, text):
    path = tmp_path / "plugin.yml"
    path.write_text(text)
    return path


def test_plugin_file_is_handed_to_nipype(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("LOGNAME", raising=False)
    path = write_plugin(tmp_path, "plugin: SLURM\nplugin_args:\n  sbatch_args: --mem 4G\n")
    found, poll = plugins.choose_plugin(options(tmp_path, plugin_file=path), callback)
    assert isinstance(found["plugin"], SLURMPlugin)
    assert found["plugin"].plugin_args == {"sbatch_args": "--mem 4G", "status_callback": callback}
    assert poll >= 2  # a scheduler is not asked twenty times a second
    assert os.environ["LOGNAME"]


@pytest.mark.parametrize("name", ["MultiProc", "LegacyMultiProc"])
def test_multiproc_is_the_steady_pool(tmp_path, name):
    path = write_plugin(tmp_path, f"plugin: {name}\nplugin_args: {{n_procs: 1, memory_gb: 3}}\n")
    found, poll = plugins.choose_plugin(options(tmp_path, nprocs=8, plugin_file=path), callback)
    pool = found["plugin"]
    try:
        assert (type(pool).__name__, pool.processors, pool.memory_gb) == ("SteadyPoolPlugin", 1, 3)
        assert poll < 0.5
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_procs: 2\n", "no 'plugin' entry"),
        ("plugin: Dask\n", "'Dask' is not known; use one of Linear, MultiProc, SLURM"),
        ("plugin: SLURMGraph\n", "never reports a failure.*use SLURM"),
        ("plugin: MultiProc\nplugin_args: 4\n", "plugin_args '4' is no list"),
        ("plugin: [\n", "cannot be read"),
    ],
)
def test_plugin_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        plugins.choose_plugin(options(tmp_path, plugin_file=write_plugin(tmp_path, text)), callback)


def test_a_killed_job_and_a_silent_scheduler_end_nothing(tmp_path, monkeypatch, caplog):
    plugin = steady_scheduler("SLURM", {})
    plugin._pending = {7: str(tmp_path)}
    plugin._config = {"execution": {"job_finished_timeout": 0.01}}

    def silent(self, taskid):
        raise RuntimeError("squeue: error: Unable to contact slurm controller")

    monkeypatch.setattr(SLURMPlugin, "_is_pending", silent)
    assert plugin._get_result(7) is None  # still waited for
    assert "Unable to contact" in caplog.text
    monkeypatch.setattr(SLURMPlugin, "_is_pending", lambda self, taskid: False)
    result = plugin._get_result(7)  # gone, without a result
    assert isinstance(result["traceback"], list)
    assert "results file does not exist" in "".join(result["traceback"])


def test_a_scheduler_that_refuses_a_job_is_asked_again(tmp_path, monkeypatch, caplog):
    plugin, answers, waited = steady_scheduler("SLURM", {}), [], []

    def refuse(self, scriptfile, node):
        answers.append(scriptfile)
        if len(answers) < 3:
            raise RuntimeError("\n".join(("sbatch failed", "sbatch: error: QOSMaxSubmitJobPerUserLimit")))
        return 17

    monkeypatch.setattr(SLURMPlugin, "_submit_batchtask", refuse)
    monkeypatch.setattr(pool.time, "sleep", waited.append)
    plugin.pending_tasks = []
    assert [plugin._submit_batchtask("x.sh", None) for _ in range(3)] == [None, None, 17]
    assert waited == [2.0, 4.0]
    assert "refused a job (sbatch: error: QOSMaxSubmitJobPerUserLimit)" in caplog.text
    answers.clear()
    monkeypatch.setattr(SLURMPlugin, "_submit_batchtask", lambda *_: (_ for _ in ()).throw(RuntimeError("never")))
    for _ in range(pool.REFUSALS - 1):
        assert plugin._submit_batchtask("x.sh", None) is None
    with pytest.raises(RuntimeError, match="never"):  # none of ours runs: waiting will not help
        plugin._submit_batchtask("x.sh", None)
    plugin.pending_tasks = [(17, 0)]
    assert plugin._submit_batchtask("x.sh", None) is None


def test_a_blank_in_the_work_directory_is_nothing_for_a_scheduler(tmp_path):
    choose.check("builtin", tmp_path / "a b")
    with pytest.raises(UsageError, match=r"holds a blank .* batch scripts"):
        choose.check("builtin", tmp_path / "a b", scheduler=True)


def test_missing_plugin_file_and_missing_scheduler_are_named(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"gone.yml cannot be read"):
        plugins.read_plugin_file(tmp_path / "gone.yml")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="SLURM needs sbatch"):
        plugins.read_plugin_file(write_plugin(tmp_path, "plugin: SLURM\n"))


@pytest.mark.parametrize("value", ["n_procs: x", "n_procs: 0", "n_procs: true", "n_procs: 1.5", "memory_gb: -1",
                                   "memory_gb: .nan", "n_procs: 99999999999"])  # fmt: skip
def test_settings_that_are_no_numbers_are_refused(tmp_path, value):
    with pytest.raises(UsageError, match=f"{value.split(':')[0]} is .*; give a number above 0"):
        plugins.read_plugin_file(write_plugin(tmp_path, f"plugin: MultiProc\nplugin_args:\n  {value}\n"))


def test_low_memory_means_one_at_a_time(tmp_path):
    assert plugins.at_once(options(tmp_path, nprocs=8, omp_nthreads=2)) == 4
    assert plugins.at_once(options(tmp_path, nprocs=8, low_mem=True)) == 1


SCHEDULER = """#!{python}
# a scheduler of one machine: each job is a process, its number the job's
import os, signal, subprocess, sys
program, args = os.path.basename(sys.argv[0]), sys.argv[1:]
if program == "sbatch":
    quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
    job = subprocess.Popen(["bash", args[-1]], start_new_session=True, **quiet)
    print("Submitted batch job", job.pid)
elif program == "squeue":
    number = args[-1]
    try:
        state = open(f"/proc/{{number}}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        state = "Z"
    print(number if state != "Z" else "")
else:
    for number in args:
        os.killpg(int(number), signal.SIGKILL)
    open(os.environ["CANCELLED"], "w").write(" ".join(args))
"""


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Put a scheduler of this one machine on PATH; return the file of the jobs that it cancelled."""
    for program in ("sbatch", "squeue", "scancel"):
        path = tmp_path / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(SCHEDULER.format(python=sys.executable))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CANCELLED", str(tmp_path / "cancelled"))
    return tmp_path / "cancelled"


def test_jobs_of_a_scheduler_are_taken_back_where_the_run_ends(tmp_path, scheduler):
    job = subprocess.Popen(["sleep", "300"], start_new_session=True)
    plugin = steady_scheduler("SLURM", {})
    plugin._pending = {job.pid: str(tmp_path)}
    assert plugin._is_pending(job.pid)
    plugin.close()
    assert job.wait(timeout=10) == -9
    assert scheduler.read_text() == str(job.pid)
    plugin._pending = {}
    plugin.close()  # nothing to take back


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_run_with_a_scheduler_is_stopped_with_its_jobs(tmp_path, save_scan, head, scheduler):
    save_scan(head)
    plugin = write_plugin(tmp_path, "plugin: SLURM\n")
    command = [sys.executable, "-m", "brainage_bids", tmp_path / "bids", tmp_path / "out", "participant",
               "--preprocess-only", "--skip-bids-validation", "--use-plugin", plugin]  # fmt: skip
    run = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 200
    while not list(tmp_path.glob("out/work/preprocess/*/*/status.json")) and time.time() < deadline:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    run.terminate()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 143, said
    assert "SLURM: 1 jobs are cancelled" in said
    number = int(scheduler.read_text())
    while Path(f"/proc/{number}").exists() and time.time() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{number}").exists()


def test_memory_set_aside_follows_the_matrix(tmp_path, save_scan, caplog):
    def job(shape, label):
        image = nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4))
        scan = save_scan(image, label)
        return Job(scan, (VolumeSpec.on_grid(1),), Outputs(tmp_path), tmp_path / "work" / label)

    jobs = [job((160, 192, 192), "01"), job((320, 320, 300), "02")]
    jobs.append(dataclasses.replace(jobs[0], scan=Scan(str(tmp_path / "none.nii.gz"), "sub-03")))
    assert [one.memory_gb for one in jobs] == pytest.approx([1.9, 1.3 + 0.05 * 30.72, 1.9])
    workflow = build_workflow(jobs, options(tmp_path), tmp_path / "work", 0.1)
    needs = {node.name: node.mem_gb for node in workflow._get_all_nodes()}
    assert needs == pytest.approx({"sub_01": 1.9, "sub_02": 2.836, "sub_03": 1.9})
    _say_large(jobs, 2.5)
    assert "1 scans take more memory than --mem 2.5 allows, sub-02 about 2.8 GB; each of them runs alone" in caplog.text
