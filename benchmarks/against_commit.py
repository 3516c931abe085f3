"""A run that has nothing to do, one page of a participant, and the group level: CPU seconds against an earlier commit.

Both commits run the same phantoms in turn, each on its own results, with one thread. The table gives the ratios.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BEFORE = "349e88d"  # the last commit before the inside was rebuilt
ROOT = Path(__file__).parents[1]
MAKE = "from brainage_bids.phantom.cohort import make_cohort as make; make({!r}, n={}, voxel_mm=4.0, progress=False)"


def cpu(code: Path, *arguments: object) -> float:
    """Run the command line of a commit; return its CPU seconds, those of its workers included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "brainage_bids", *map(str, arguments)]
    # not from the root of the repository: Python would take the package that lies there
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=code.parent)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(code: Path, bids: Path, out: Path, repeats: int) -> dict[str, float]:
    """Return the best CPU seconds of each task, after the results were made."""
    cpu(code, bids, out, "participant", "--nprocs", "2")
    page = next(out.glob("sub-*.html")).stem
    tasks = {
        "nothing to do": ("participant",),
        "the pages of all": ("participant", "--reports-only", "--nprocs", "1"),
        "the page of one": ("participant", "--reports-only", "--participant-label", page),
        "group": ("group",),
    }
    return {name: min(cpu(code, bids, out, *task) for _ in range(repeats)) for name, task in tasks.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place, bids = Path(folder), Path(folder) / "bids"
        old = place / "before"
        known = subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", old, options.before])
        if known.returncode:
            sys.exit(f"the commit {options.before} is not here (a shallow clone?); give another with --before")
        try:
            subprocess.run([sys.executable, "-c", MAKE.format(str(bids), options.people)], check=True)
            found = {code: measure(code, bids, place / f"out-{code.name}", options.repeats) for code in (old, ROOT)}
        finally:
            shutil.rmtree(old, ignore_errors=True)
            subprocess.run(["git", "-C", ROOT, "worktree", "prune"])
    before, now = found.values()
    print(f"{options.people} phantoms at 4 mm, the model of the package; CPU seconds, best of {options.repeats}")
    print(f"{'':20}{options.before:>10}{'now':>8}{'ratio':>8}")
    for task in now:
        print(f"{task:20}{before[task]:10.2f}{now[task]:8.2f}{before[task] / now[task]:8.1f}")
    each = (now["the pages of all"] - now["nothing to do"]) / options.people
    print(f"one page of a participant: {each:.2f} s of CPU")


if __name__ == "__main__":
    main()
