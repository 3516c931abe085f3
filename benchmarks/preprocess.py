"""Wall time a scan of the builtin preprocessing, one and two scans at a time, imports and pictures included.

Run ``python benchmarks/preprocess.py [BIDS_DIR]``; without a dataset, six phantom heads of 1.5 mm are made.
"""

import sys
import tempfile
import time
from pathlib import Path

from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.phantom.cohort import make_cohort
from brainage_bids.preprocess.options import PreprocessOptions
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import VolumeSpec


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bids = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else root / "bids"
        if len(sys.argv) < 2:
            make_cohort(bids, n=6, voxel_mm=1.5, progress=False)
        scans = read_dataset(DatasetQuery(bids_dir=bids)).scans[:12]
        print("at once  scans  done  wall s  wall s a scan")
        for nprocs in (1, 2):
            out = root / f"out{nprocs}"
            options = PreprocessOptions(out / "work", nprocs=nprocs, progress=False)
            begin = time.monotonic()
            outcomes = preprocess(scans, [VolumeSpec.on_grid(1)], Outputs(out), options)
            wall = time.monotonic() - begin
            done = sum(outcome.status == "done" for outcome in outcomes)
            print(f"{nprocs:7d}  {len(scans):5d}  {done:4d}  {wall:6.1f}  {wall / len(scans):6.1f}")


if __name__ == "__main__":
    main()
