"""Wall, CPU time and memory of the group level on thousands of placeholder participants, and of mean maps.

Run ``python benchmarks/group.py [tables|maps] [PEOPLE]``; without arguments both, 10,000 people. Everything is made in
a temporary folder: the images are placeholders (the group level opens none), ages, scores and predictions are drawn
from a seed, everything below OUTPUT_DIR is laid out as the participant level leaves it. ``--keep FOLDER`` keeps it.
"""

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.volumes import VolumeIdentity
from brainage_bids.schema import PREDICTION_COLUMNS, QC_METRICS, Scan, VolumeSpec

SEED = 20251127
SITES = [f"site{letter}" for letter in "ABCDEFGH"]
CARD = Path(__file__).parent.parent / "brainage_bids" / "bundled" / "open-adults" / "model.json"
STRIDE = 16  # of the model's cells: 13 x 15 x 13 on the 1 mm grid
REPEATED = 100  # people with a second run in the first session, where there are sessions
STEPS = {  # what the breakdown times: module -> functions
    "app.datasets": "read_dataset",
    "app.group": "read_predictions read_results bias_corrected write_qc write_group_table",
    "app.group_maps": "mean_maps saliency_regions saliency_contrasts",
    "app.group_page": "group_page write_group_page",
    "stats.accuracy": "accuracy model_comparison",
    "stats.correlate": "correlations",
    "stats.dependent": "correlation_comparison",
    "stats.groups": "group_differences",
    "stats.roc": "roc",
    "stats.site": "site_effect",
    "stats.longitudinal": "longitudinal",
    "stats.reliability": "reliability",
    "report.groupfigures": "draw_all save_both",
    "report.gapfigures": "draw",
    "report.region_tables": "region_figures",
    "report.trajectories": "trajectories",
}


# --- the study ------------------------------------------------------------------------------------------------------


def draw_people(n, rng):
    """Return one dict per person; patients are older and look older still, their scores go with the gap."""
    span = {"control": (45, 85), "AD": (55, 90), "PD": (50, 88)}
    people = []
    for index in range(n):
        group = rng.choice(["control", "AD", "PD"], p=[0.4, 0.3, 0.3])
        gap = rng.normal({"control": 0.0, "AD": 6.0, "PD": 2.0}[group], 5.0)
        scores = {"adas11": None, "updrs3": None, "hy": None}
        if group == "PD":
            scores |= {"updrs3": float(np.clip(round(25 + gap + rng.normal(0, 9)), 0, 132)), "hy": rng.integers(1, 5)}
        else:
            level = 22 if group == "AD" else 6
            scores["adas11"] = float(np.clip(round(level + 0.5 * gap + rng.normal(0, 4), 2), 0, 70))
        row = {
            "participant_id": f"sub-{index:05d}",
            "age": round(rng.uniform(*span[group]), 1),
            "sex": rng.choice(["F", "M"]),
        }
        people.append({**row, "group": group, "site": rng.choice(SITES), **scores, "gap": gap})
    return people


def sessions_of(person, sessions):
    """Yield session label, run entities and age of every scan of a person."""
    if sessions == 1:
        yield None, (), person["age"]
        return
    for number in range(sessions):
        runs = (
            [(("run", "1"),), (("run", "2"),)] if number == 0 and int(person["participant_id"][4:]) < REPEATED else [()]
        )
        for entities in runs:
            yield f"ses-{number + 1}", entities, round(person["age"] + 1.5 * number, 1)


def write_rows(path, rows):
    names = list(rows[0])
    lines = ["\t".join("n/a" if row[name] is None else str(row[name]) for name in names) for row in rows]
    path.write_text("\n".join(["\t".join(names), *lines]) + "\n")


def make_study(root, n, own, elsewhere, sessions=1, maps=False):
    """Write BIDS_DIR, OUTPUT_DIR and the prediction files under ``root``; return the arguments of the group level."""
    rng, bids, out = np.random.default_rng(SEED), root / "bids", root / "out"
    bids.mkdir(parents=True)
    out.mkdir()
    people, models = draw_people(n, rng), [f"net{i}" for i in range(1, own + 1)]
    (bids / "dataset_description.json").write_text(
        json.dumps({"Name": "placeholder phantoms", "BIDSVersion": "1.10.0"})
    )
    write_rows(bids / "participants.tsv", [{k: v for k, v in one.items() if k != "gap"} for one in people])
    spec, outputs = VolumeSpec.on_grid(1), Outputs(out)
    given, events = {f"other{i}": [] for i in range(1, elsewhere + 1)}, []
    for person in people:
        ages = {}
        for session, entities, age in sessions_of(person, sessions):
            scan = Scan("", person["participant_id"], session, entities, age, "participants.tsv:age")
            image = bids / scan.participant_id / (session or "") / "anat" / f"{scan.prefix}_T1w.nii.gz"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(bytes(64))
            ages[session] = age
            make_outputs_of(scan, person["gap"], models, spec, outputs, rng, maps)
            events.append({"participant_id": scan.participant_id, "session_id": session, "prefix": scan.prefix,
                           "step": "predict", "status": "done", "reason": None})  # fmt: skip
            for rows in given.values():
                predicted = age + person["gap"] + rng.normal(0, 4)
                rows.append({"participant_id": scan.participant_id, "session_id": session, "predicted_age": predicted})
        if sessions > 1:
            rows = [{"session_id": session, "age": age} for session, age in ages.items()]
            write_rows(bids / person["participant_id"] / f"{person['participant_id']}_sessions.tsv", rows)
    for model in models:
        write_card(outputs.foreign_card(model), model, spec, rng)
    description = {"Name": "Brain ages of placeholder phantoms", "DatasetType": "derivative"}
    description |= {"BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "brainage-bids"}]}
    (out / "dataset_description.json").write_text(json.dumps(description))
    (out / "logs" / "20251127T000000-1").mkdir(parents=True)
    (out / "logs" / "20251127T000000-1" / "run.json").write_text(json.dumps({"Level": "participant", "Events": events}))
    arguments = [str(bids), str(out), "group"]
    for name, rows in given.items():
        kept = {(row["participant_id"], row["session_id"]): row for row in rows}  # one row per session
        write_rows(root / f"{name}.tsv", list(kept.values()))
        arguments += ["--predictions", f"{name}={root / name}.tsv"]
    return arguments


def make_outputs_of(scan, gap, models, spec, outputs, rng, maps):
    """Write what the participant level leaves of one scan: volume, predictions and their sidecars, page, maps."""
    volume = outputs.volume(scan, spec)
    volume.parent.mkdir(parents=True, exist_ok=True)
    for path in (volume, outputs.mask(scan, spec), outputs.participant_page(scan.participant_id)):
        path.touch()
    made_from = hashlib.sha256(scan.prefix.encode()).hexdigest()
    values = {
        "Sources": [f"bids:raw:{scan.prefix}_T1w.nii.gz"], "SkullStripped": True, "Resolution": "1 mm isotropic",
        "VolumeSpec": spec.to_dict(), "VolumeSpecFingerprint": spec.fingerprint, "Engine": "builtin",
        "EngineVersion": "3", "InputHash": made_from, "InputStat": [[64, 0]], "MaskSource": "deepbet",
        "QC": dict(zip(QC_METRICS, rng.normal(1, 0.1, len(QC_METRICS)).tolist(), strict=True)),
        "qc_pass": bool(rng.random() > 0.01), "qc_warn": [], "Notes": [], "Device": "cpu",
        "Software": {"brainage-bids": "0.1.0", "deepbet": "1.0.2", "torch": "2.13.0"},
    }  # fmt: skip
    sidecar_path(volume).write_text(json.dumps(values, indent=2) + "\n")
    rows = []
    for model in models:
        bag = gap + rng.normal(0, 3)
        ends = {"bag_corrected": bag * 0.9, "pred_lo": scan.age + bag - 11, "pred_hi": scan.age + bag + 11}
        rows.append({"model": model, "predicted_age": scan.age + bag, "chronological_age": scan.age,
                     "age_source": scan.age_source, "bag": bag, **ends, "flags": None})  # fmt: skip
        if maps:
            write_cells(outputs.saliency(scan, spec, model), spec, STRIDE, rng)
    if rows:
        path = outputs.prediction(scan)
        write_rows(path, rows)
        meanings = {name: {"Description": text} for name, text in PREDICTION_COLUMNS.items()}
        keys = {
            "Keys": dict.fromkeys(models, made_from[:32]),
            "Inputs": dict.fromkeys(models, VolumeIdentity.of(values).key),
        }
        sidecar_path(path).write_text(json.dumps({**meanings, **keys}, indent=2) + "\n")


def write_card(path, model, spec, rng):
    """Write the card of a phantom model: that of the bundled one with another name, grid and calibration."""
    ages = rng.uniform(20, 90, 500)
    calibration = [{"age": a, "predicted_age": 0.8 * a + 11 + rng.normal(0, 5), "fold": None} for a in ages]
    values = read_json(CARD) | {"name": model, "phantom": True, "volume_spec": spec.to_dict(), "notice": None}
    values |= {"calibration": calibration, "dataset": None, "who": "phantoms"}
    values["architecture"] = values["architecture"] | {"backbone": "3D ResNet-18", "total_stride": STRIDE}
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))


def write_cells(path, spec, stride, rng):
    """Write one signed map on the cells of a network of that stride, with its own affine."""
    cells = rng.normal(0.01, 0.05, [-(-n // stride) for n in spec.shape]).astype("float32")
    nib.save(nib.Nifti1Image(cells, np.array(spec.affine) @ np.diag([stride, stride, stride, 1.0])), path)


# --- measuring ------------------------------------------------------------------------------------------------------


def measured(command):
    """Run a command to its end; return its output, wall, user and system CPU time (s) and peak memory (GB)."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([sys.executable, *command], stdout=told, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        told.seek(0)
        text = told.read()
    if status:
        raise RuntimeError(f"{command} failed:\n{text[-3000:]}")
    return text, wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss / 2**20


def timed(function, seconds, name):
    def call(*arguments, **options):
        begin = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - begin

    return call


def run_timed(arguments):
    """Run the command in this process with a clock (CPU time) around its steps, and print them at the end."""
    from brainage_bids.cli import main

    seconds, begin = {}, time.process_time()
    for module, names in STEPS.items():
        where = importlib.import_module(f"brainage_bids.{module}")
        for name in names.split():
            setattr(where, name, timed(getattr(where, name), seconds, f"{module}.{name}"))
    seconds["imports"] = time.process_time() - begin
    sys.argv[1:] = arguments
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code
    for name, value in seconds.items():
        print(f"STEP\t{name}\t{value:.2f}")
    sys.exit(code)


def measure_tables(folder, people):
    print(f"{'study':52s} {'scans':>6s} {'wall s':>7s} {'user s':>7s} {'sys s':>6s} {'peak GB':>8s} {'page MB':>8s}")
    studies = {
        f"{people:,} people, 1 model here, 2 elsewhere": {"n": people, "own": 1, "elsewhere": 2},
        f"{people:,} people, 3 models here": {"n": people, "own": 3, "elsewhere": 0},
        f"{people // 2:,} people x 2 sessions, 1 here, 2 elsewhere": {
            "n": people // 2, "own": 1, "elsewhere": 2, "sessions": 2,
        },
        "2,000 people with maps, 1 model here": {"n": min(2000, people), "own": 1, "elsewhere": 0, "maps": True},
    }  # fmt: skip
    broken_down = {}
    for place, (title, study) in enumerate(studies.items()):
        arguments = make_study(folder / f"study{place}", **study)
        told, wall, user, system, peak = measured([__file__, "timed", *arguments])
        out = Path(arguments[1])
        scans = len((out / "group" / "brainage.tsv").read_text().splitlines()) - 1
        page = (out / "group.html").stat().st_size / 1e6
        print(f"{title:52s} {scans:6d} {wall:7.1f} {user:7.1f} {system:6.1f} {peak:8.2f} {page:8.1f}", flush=True)
        broken_down[title] = [line.split("\t")[1:] for line in told.splitlines() if line.startswith("STEP\t")]
    for title, steps in broken_down.items():
        print(f"\n{title}, CPU seconds by step (a step may hold another):")
        for name, value in sorted(steps, key=lambda step: -float(step[1])):
            print(f"  {name:40s} {float(value):7.2f}")


def measure_maps(folder):
    """Print time and memory of the mean maps of 250, 1,000 and 2,000 people, each in its own process."""
    print(f"{'mean maps':30s} {'people':>7s} {'wall s':>7s} {'user s':>7s} {'peak GB':>8s} {'MB more':>8s}")
    for resolution, stride in ((2, 16), (1, 16), (4, 1)):
        spec, rng = VolumeSpec.on_grid(resolution), np.random.default_rng(SEED)
        where = folder / f"maps{resolution}-{stride}"
        where.mkdir()
        for index in range(2000):
            write_cells(where / f"{index:04d}.nii.gz", spec, stride, rng)
        cells = " x ".join(str(-(-n // stride)) for n in spec.shape)
        for people in (250, 1000, 2000):
            command = [__file__, "average", str(where), str(people), str(resolution)]
            told, wall, user, _, peak = measured(command)
            more = told.split()[-1]
            print(
                f"{cells} cells, {resolution} mm".ljust(30),
                f"{people:7d} {wall:7.1f} {user:7.1f} {peak:8.2f} {more:>8s}",
            )


def average(folder, people, resolution):
    """Average the maps of the first people of a folder; print how much memory that took at most (MB)."""
    import pandas as pd

    from brainage_bids.preprocess.template import template_volume
    from brainage_bids.stats.maps import maps_grid, mean_maps

    grid = maps_grid(VolumeSpec.on_grid(resolution))
    rng = np.random.default_rng(SEED)
    records = pd.DataFrame(
        {
            "map": [str(path) for path in sorted(folder.glob("*.nii.gz"))[:people]],
            "age": rng.uniform(45, 90, people),
            "sex": rng.choice(["F", "M"], people),
            "group": rng.choice(["control", "AD", "PD"], people),
        }
    )
    _, mask = template_volume(grid, folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, that of the imports, is forgotten
    before = memory("VmRSS")
    with tempfile.TemporaryDirectory() as target:
        mean_maps(records, grid, mask, lambda subset, kind: Path(target) / f"{subset}-{kind}.nii.gz", "net1")
    print(round(memory("VmHWM") - before))


def memory(name):
    """Return a line of ``/proc/self/status`` (MB; Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main():
    if sys.argv[1:2] == ["timed"]:
        run_timed(sys.argv[2:])
    if sys.argv[1:2] == ["average"]:
        average(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["both", "tables", "maps"], default="both")
    parser.add_argument("people", nargs="?", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="an absent folder to make the data in, kept afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=options.keep is None)
        if options.what != "maps":
            measure_tables(folder, options.people)
        if options.what != "tables":
            measure_maps(folder)


if __name__ == "__main__":
    main()
