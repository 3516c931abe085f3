"""The builtin engine and the ants engine (antspyx, or the ANTs programs where they are on PATH) on the same scans.

Three tables. *Whole scans*: wall and CPU seconds and peak memory of either engine, each scan in a process of its own,
libraries imported before the clock starts; how alike the two volumes are and how far apart the two affines put a point
of the brain. *Known moves*: the masked, bias-corrected brain of the builtin engine is moved by a known affine K and
resampled; either engine registers it at rest and moved; the error is the mean distance, in the template's brain,
between a point and where inv(A_moved) K A_rest sends it. *Speed*: antspyx doing what a site without a network for the
mask does (a head template is registered to the scan and carries its mask there; N4; affine; resampling) against the
builtin engine, same scan, same number of threads.

Run ``python benchmarks/engines.py HEADS --work FOLDER [--scans 3] [--moves 4] [--threads 1]
[--head-template T1.nii --head-mask MASK.nii]``; HEADS is searched for ``*_T1w.nii.gz``, then for ``*.nii.gz``. Without
a head template the third table is left out. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from capture_range import displacement, known_move

from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import Outputs
from brainage_bids.preprocess import steps
from brainage_bids.preprocess.affine import register, set_threads
from brainage_bids.preprocess.engines import ants as ants_engine
from brainage_bids.preprocess.engines import engine_files
from brainage_bids.preprocess.intake import read_scan
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.resample import to_grid
from brainage_bids.preprocess.template import load_template
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import Scan, VolumeSpec

SPEC = VolumeSpec.on_grid(1)
ENGINES = ("builtin", "ants")
SHARED = (  # imported once for all scans of a run, so not counted
    "deepbet", "matplotlib.backends.backend_agg", "matplotlib.figure", "brainage_bids.preprocess.interfaces",
    "brainage_bids.preprocess.pictures", "brainage_bids.preprocess.rescue",
)  # fmt: skip
VOXEL_MM, MARGIN_MM, NOISE = 1.2, 15.0, 0.02
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ to LPS+


def alone(task: Callable, threads: int, *args: object) -> dict:
    """Run a task in a fresh process and return what it says, with ``cpu_s`` and ``peak_gb`` of it and its children."""
    count = str(threads)
    os.environ |= {"OMP_NUM_THREADS": count, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": count, "NO_ET": "1"}
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(task, threads, *args).result()


def used() -> float:
    """Return the CPU seconds of this process and of the programs it has run."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_gb() -> float:
    """Return the peak memory of this process or of the largest program it has run, GB."""
    both = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(both) / 1024**2


def whole_scan(threads: int, path: str, engine: str, folder: Path) -> dict:
    """Make one volume with an engine."""
    for name in SHARED:
        importlib.import_module(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plugin.yml").write_text("plugin: Linear\n")
    options = PreprocessOptions(
        folder / "work", engine, threads, threads, plugin_file=folder / "plugin.yml", progress=False, device="cpu"
    )
    scan, outputs = Scan(path, "sub-01"), Outputs(folder / "out")
    load_template()
    cpu, begin = used(), time.monotonic()
    outcome = preprocess([scan], [SPEC], outputs, options)[0]
    wall = time.monotonic() - begin
    if outcome.status != "done":
        raise SystemExit(f"{engine} failed on {path} at {outcome.step}: {outcome.reason}")
    return {"wall_s": wall, "cpu_s": used() - cpu, "peak_gb": peak_gb()}


def side_by_side(paths: list[Path], work: Path, threads: int) -> pd.DataFrame:
    """Measure both engines on whole scans and compare what they made."""
    rows = []
    for path in paths:
        row: dict = {"scan": path.name}
        for engine in ENGINES:
            folder = work / engine / path.name.split(".")[0]
            shutil.rmtree(folder, ignore_errors=True)
            row |= {f"{engine} {key}": v for key, v in alone(whole_scan, threads, str(path), engine, folder).items()}
        row |= compare(*(work / engine / path.name.split(".")[0] / "out" for engine in ENGINES))
        rows.append(row)
        print(json.dumps(row), flush=True)
    return pd.DataFrame(rows)


def compare(first: Path, second: Path) -> dict:
    """Return the correlation of two volumes inside both masks, Dice of the masks, mm between the two affines."""
    scan, made = Scan("", "sub-01"), [Outputs(first), Outputs(second)]
    a, b = (nib.load(outputs.volume(scan, SPEC)).get_fdata() for outputs in made)
    inside, other = (nib.load(outputs.mask(scan, SPEC)).get_fdata() > 0 for outputs in made)
    both = inside & other
    ours, theirs = (
        np.asarray(read_json(outputs.transform(scan, SPEC.template).with_suffix(".json"))["MatrixRAS"])
        for outputs in made
    )
    return {
        "correlation": np.corrcoef(a[both], b[both])[0, 1],
        "dice": 2 * both.sum() / (inside.sum() + other.sum()),
        "apart_mm": displacement(ours, theirs, np.eye(4))[0],
    }


def moves_of_a_head(threads: int, path: str, moves: int, seed: int) -> list[dict]:
    """Register one brain at rest and moved, with both engines; return error and seconds of every case."""
    set_threads(threads)
    brain = steps.find_brain(read_scan(path))
    masked = np.where(brain.mask, brain.data, 0)
    rng = np.random.default_rng(seed)
    world = np.argwhere(brain.mask)[::50] @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    rest = {engine: fit(engine, masked, brain.mask, brain.affine)[0] for engine in ENGINES}
    rows = []
    for case in range(moves):
        move = known_move(rng, world.mean(axis=0), False)
        moved = world @ move[:3, :3].T + move[:3, 3]
        shape = tuple(int(n) for n in np.ceil((np.ptp(moved, axis=0) + 2 * MARGIN_MM) / VOXEL_MM))
        origin = tuple(float(v) for v in moved.min(axis=0) - MARGIN_MM)
        grid = VolumeSpec(SPEC.template, VOXEL_MM, shape, origin)
        inside = to_grid(brain.mask.astype(np.float32), brain.affine, np.linalg.inv(move), grid, 1) > 0.5
        data = np.maximum(to_grid(masked, brain.affine, np.linalg.inv(move), grid, 3), 0)
        data = data + rng.normal(0, NOISE * np.percentile(data[inside], 95), shape)
        for engine in ENGINES:
            matrix, seconds = fit(engine, np.maximum(data, 0) * inside, inside, np.asarray(grid.affine))
            mean, largest = displacement(rest[engine], matrix, move)
            case_of = {"scan": Path(path).name, "case": case, "engine": engine}
            rows.append({**case_of, "mean_mm": mean, "max_mm": largest, "cpu_s": seconds})
    return rows


def fit(engine: str, data: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the affine of an engine (template to native world) and the CPU seconds it took."""
    template, data = load_template(), data.astype(np.float32)
    begin = used()
    if engine == "builtin":
        return register(data, mask, affine, template).matrix, used() - begin
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = engine_files.plain_affine(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)), data.shape)
        box, boxed = engine_files.boxed(template.mask, template.affine)
        interface = ants_engine.runnable(ants_engine.registration(f"{folder}/"))
        interface.inputs.moving_image = engine_files.save(folder / "brain.nii.gz", data, plain)
        interface.inputs.fixed_image = engine_files.save(folder / "template.nii.gz", template.data[box], boxed)
        interface.inputs.fixed_image_masks = [ants_engine.save_region(folder / "region.nii.gz", template)]
        made = interface.run(cwd=folder).outputs.forward_transforms[0]
        matrix = ants_engine.read_transform(Path(made))
    return affine @ np.linalg.inv(plain) @ matrix, used() - begin


def propagation(threads: int, path: str, head: str, mask: str) -> dict:
    """Mask by a registered head template, N4, affine, resampling, all by antspyx with its usual settings."""
    import ants

    template = load_template()
    scan, head_t1, head_mask = (ants.image_read(str(name)) for name in (path, head, mask))
    grid = _ants(np.zeros(SPEC.shape), np.asarray(SPEC.affine))
    brain = _ants(template.data, template.affine)
    cpu, begin = used(), time.monotonic()
    there = ants.registration(scan, head_t1, "Affine")["fwdtransforms"]
    inside = ants.apply_transforms(scan, head_mask, there, interpolator="nearestNeighbor")
    tuned = {"iters": [50] * 4, "tol": 1e-3}
    corrected = ants.n4_bias_field_correction(scan, mask=inside, shrink_factor=4, convergence=tuned)
    onto = ants.registration(brain, corrected * inside, "Affine")["fwdtransforms"]
    made = ants.apply_transforms(grid, corrected * inside, onto, interpolator="bSpline")
    wall = time.monotonic() - begin
    for name in (*there, *onto):
        Path(name).unlink(missing_ok=True)
    lit = float((made.numpy() > 0).sum() / 1000)
    return {"wall_s": wall, "cpu_s": used() - cpu, "peak_gb": peak_gb(), "brain_ml": lit}


def _ants(data: np.ndarray, affine: np.ndarray):
    import ants

    lps = FLIP @ affine
    zooms = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    return ants.from_numpy(data.astype(np.float32), lps[:3, 3].tolist(), zooms.tolist(), direction=lps[:3, :3] / zooms)


def speed(paths: list[Path], work: Path, threads: int, head: Path, mask: Path) -> pd.DataFrame:
    """Time the builtin engine and antspyx's propagation one after the other, scan by scan."""
    rows = []
    for path in paths:
        folder = work / "speed" / path.name.split(".")[0]
        shutil.rmtree(folder, ignore_errors=True)
        own = alone(whole_scan, threads, str(path), "builtin", folder)
        other = alone(propagation, threads, str(path), str(head), str(mask))
        row = {"scan": path.name, "threads": threads}
        row |= {f"{name} {key}": value[key] for name, value in (("builtin", own), ("antspyx", other)) for key in own}
        row |= {"wall ratio": other["wall_s"] / own["wall_s"], "cpu ratio": other["cpu_s"] / own["cpu_s"]}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return pd.DataFrame(rows)


def show(title: str, table: pd.DataFrame) -> None:
    """Print a table as Markdown."""
    print(f"\n### {title}\n\n| {' | '.join(table.columns)} |\n|{' --- |' * len(table.columns)}")
    for row in table.itertuples(index=False):
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("heads", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--moves", type=int, default=4, help="known moves of each head; 0 leaves the table out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--head-template", type=Path)
    parser.add_argument("--head-mask", type=Path)
    args = parser.parse_args()
    paths = sorted(args.heads.rglob("*_T1w.nii.gz")) or sorted(args.heads.rglob("*.nii.gz"))
    paths, work = [path.resolve() for path in paths[: args.scans]], args.work.resolve()
    if not paths:
        parser.error(f"no *.nii.gz below {args.heads}")
    table = side_by_side(paths, work, args.threads)
    show("Whole scans", table)
    if args.moves:
        cases = [alone(moves_of_a_head, args.threads, str(path), args.moves, k) for k, path in enumerate(paths)]
        found = pd.DataFrame([row for rows in cases for row in rows])
        shown = found.groupby("engine").agg(
            cases=("mean_mm", "size"), median_mm=("mean_mm", "median"), worst_mm=("mean_mm", "max"),
            cpu_s=("cpu_s", "median"),
        )  # fmt: skip
        show("Known moves", shown.reset_index())
    if args.head_template:
        table = speed(paths, work, args.threads, args.head_template.resolve(), args.head_mask.resolve())
        show("Speed", table)
        print(f"\nantspyx takes {table['wall ratio'].median():.1f} times the wall of builtin, "
              f"{table['cpu ratio'].median():.1f} times its CPU (medians of {len(table)} scans)")  # fmt: skip


if __name__ == "__main__":
    main()
