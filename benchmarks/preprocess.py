"""Builtin preprocessing of whole heads on one core and on two: wall, memory, and what lies in the work directory.

Run ``python benchmarks/preprocess.py [BIDS_DIR]``; without a dataset, six phantom heads of 1.5 mm are made. Imports,
pictures and the start of the workers are included in the wall; pages are not. Two cores are used in two ways: two
threads for one scan after another, and two scans at a time.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.phantom.cohort import make_cohort
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import VolumeSpec


class Watcher(threading.Thread):
    """Follow a work directory: most files and most megabytes at any moment."""

    def __init__(self, folder):
        """Take the folder to follow."""
        super().__init__(daemon=True)
        self.folder, self.files, self.megabytes, self.ended = folder, 0, 0.0, threading.Event()

    def run(self):
        """Look ten times a second until told that the run has ended."""
        while not self.ended.wait(0.1):
            sizes = []
            for path in self.folder.rglob("*"):
                try:
                    sizes += [path.stat().st_size] if path.is_file() else []
                except OSError:
                    continue
            self.files, self.megabytes = max(self.files, len(sizes)), max(self.megabytes, sum(sizes) / 1e6)


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bids = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else root / "bids"
        if len(sys.argv) < 2:
            make_cohort(bids, n=6, voxel_mm=1.5, progress=False)
        scans = read_dataset(DatasetQuery(bids_dir=bids)).scans[:12]
        print("cores  threads  scans  done  wall s  s a scan  median s of a scan  peak GB a worker  files  MB of work")
        for nprocs, threads in ((1, 1), (2, 2), (2, 1)):
            out = root / f"out{nprocs}{threads}"
            options = PreprocessOptions(out / "work", nprocs=nprocs, omp_nthreads=threads, progress=False)
            watcher = Watcher(out / "work")
            watcher.start()
            begin = time.monotonic()
            outcomes = preprocess(scans, [VolumeSpec.on_grid(1)], Outputs(out), options)
            wall = time.monotonic() - begin
            watcher.ended.set()
            done = [outcome for outcome in outcomes if outcome.status == "done"]
            print(
                f"{nprocs:5d}  {threads:7d}  {len(scans):5d}  {len(done):4d}  {wall:6.1f}  {wall / len(scans):8.2f}"
                f"  {median(o.seconds for o in done):18.2f}  {max(o.peak_gb for o in done):16.2f}"
                f"  {watcher.files:5d}  {watcher.megabytes:10.2f}"
            )


if __name__ == "__main__":
    main()
