"""The demo with several seeds, each a cohort of its own: what was planted, and what is found.

Run ``python benchmarks/demo_recovery.py [--seeds 1 2 3] [--work FOLDER]``. Each seed is taken through ``brainage-tools
demo`` as a reader would take it: about seven minutes of one core. A seed that is finished in FOLDER is kept. The
settings of the demo were chosen on other seeds (11 and 20251127).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from brainage_bids.app.demo import recovered

SEEDS = tuple(range(1, 11))
TARGETS = {"MAE": 5.0, "r": 0.6}  # years; correlation of a planted 0.8
LOOK_S = 0.5
HEAD = """| seed | MAE of controls, years | always the mean age | AD gap [95 % CI] (planted), years | \
ADAS-Cog-11, r [95 % CI] (planted) | CPU s |
| --- | --- | --- | --- | --- | --- |"""
TICK = os.sysconf("SC_CLK_TCK")


def cpu_of_session(session: int) -> dict[int, float]:
    """Return CPU seconds by process of a session; workers of a fork server are nobody's children that end."""
    seconds = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            cells = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(cells[3]) == session:
            seconds[int(stat.parent.name)] = (int(cells[11]) + int(cells[12])) / TICK
    return seconds


def run(folder: Path, seed: int, people: int | None) -> dict[str, float]:
    """Run the demo once; return its CPU seconds and its seconds of wall."""
    command = [sys.executable, "-c", "from brainage_bids.tools import main; main()", "demo", str(folder)]
    command += ["--random-seed", str(seed), *(["--n", str(people)] if people else [])]
    seen: dict[int, float] = {}
    begin = time.monotonic()
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        demo = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        while demo.poll() is None:
            seen |= cpu_of_session(demo.pid)
            time.sleep(LOOK_S)
    if demo.returncode:
        sys.exit(f"the demo with seed {seed} ended with {demo.returncode}; see {log.name}")
    return {"cpu": sum(seen.values()), "wall": time.monotonic() - begin}


def row_of(seed: int, folder: Path, took: dict[str, float]) -> dict:
    """Return what the demo in ``folder`` recovered."""
    found = recovered(folder / "bids", folder / "derivatives")
    gap = next(row for row in found["groups"] if row["case"] == "AD")
    score = next((row for row in found["scores"] if row["score"] == "adas11"), None)
    return {"seed": seed, "mae": found["mae"], "null": found["mae_null"], "gap": gap, "score": score, **took}


def shown(row: dict) -> str:
    """Return a row of the table."""
    gap, score = row["gap"], row["score"]
    found = f"{gap['found']:+.1f} [{gap['low']:.1f}, {gap['high']:.1f}] ({gap['planted']:+.1f})"
    r = f"{score['found']:.2f} [{score['low']:.2f}, {score['high']:.2f}] ({score['planted']:.2f})" if score else "n/a"
    return f"| {row['seed']} | {row['mae']:.2f} | {row['null']:.1f} | {found} | {r} | {row['cpu']:.0f} |"


def main() -> None:
    """Print the table, and how often each target was met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--work", type=Path, help="folder of the demos; by default one that is removed at the end")
    parser.add_argument("--people", type=int, help="by default as many as the demo has")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        print(HEAD, flush=True)
        rows = []
        for seed in options.seeds:
            place, kept = work / f"seed-{seed}", work / f"seed-{seed}.json"
            if not kept.is_file():
                kept.write_text(json.dumps(run(place, seed, options.people)))
            rows.append(row_of(seed, place, json.loads(kept.read_text())))
            print(shown(rows[-1]), flush=True)
    gaps, scores = [row["gap"] for row in rows], [row["score"] for row in rows if row["score"]]
    met = {
        f"MAE at most {TARGETS['MAE']:g} years": sum(row["mae"] <= TARGETS["MAE"] for row in rows),
        "the interval of the AD gap holds the planted one": sum(g["low"] <= g["planted"] <= g["high"] for g in gaps),
        "it excludes 0": sum(gap["low"] > 0 for gap in gaps),
        f"r of ADAS-Cog-11 at least {TARGETS['r']:g}": sum(score["found"] >= TARGETS["r"] for score in scores),
    }
    print("\n" + "; ".join(f"{what}: {count} of {len(rows)}" for what, count in met.items()))


if __name__ == "__main__":
    main()
