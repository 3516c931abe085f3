"""The demo: the whole analysis of a phantom cohort, from scans to the group page."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.bids.scan_records import ScanRecords

LOG = logging.getLogger("brainage_bids")
# People differ less in shape than other phantoms do (1.8 mm): 35 are too few to learn that shape does not tell age.
WARP_MM = 1.2
BOX = "volume.crop=brain"  # two fifths fewer voxels to compute: the demo then takes about four minutes


def run_demo(out_dir: Path, n: int, nprocs: int, seed: int, progress: bool = True) -> None:
    """Make a phantom cohort in ``out_dir/bids`` and analyse it in ``out_dir/derivatives``; a second call continues."""
    from brainage_bids.app.group import run_group
    from brainage_bids.app.options import GroupOptions, ParticipantOptions
    from brainage_bids.app.participant import run_participant
    from brainage_bids.model.model_options import ModelOptions
    from brainage_bids.phantom.cohort import make_cohort
    from brainage_bids.preprocess.preprocess_options import PreprocessOptions

    begin = time.monotonic()
    bids_dir, output_dir = out_dir / "bids", out_dir / "derivatives"
    if not (bids_dir / "planted.json").is_file():
        LOG.info("[1/3] making a phantom cohort of %d people in %s", n, bids_dir)
        make_cohort(bids_dir, n=n, seed=seed, voxel_mm=4.0, workers=nprocs, progress=progress, warp_mm=WARP_MM)
    LOG.info("[2/3] participant level: preprocess, train rnc-demo in 5 folds, predict everybody out of fold")
    query, begins = DatasetQuery(bids_dir=bids_dir), f"brainage-bids {bids_dir.name} {output_dir.name}"
    batch = None if n >= 60 else n // 6  # the recipe's batch needs more people than a small cohort has
    run_participant(
        ParticipantOptions(
            query=query,
            output_dir=output_dir,
            preprocess=PreprocessOptions(work_dir=output_dir / "work", nprocs=nprocs, seed=seed, progress=progress),
            model=ModelOptions(
                folds=5, batch_size=batch, workers=nprocs, seed=seed, overrides=(BOX,), progress=progress
            ),
            train="rnc-demo",
            command=f"{begins} participant --train rnc-demo --folds 5 --set {BOX}",
        )
    )
    LOG.info("[3/3] group level: tables, mean maps, page")
    run_group(GroupOptions(query=query, output_dir=output_dir, seed=seed, command=f"{begins} group"))
    LOG.info("%s", summary(bids_dir, output_dir))
    LOG.info("done in %.0f s", time.monotonic() - begin)


def summary(bids_dir: Path, output_dir: Path) -> str:
    """Return the results next to the true (planted) values, and the paths of the pages."""
    outputs, found = Outputs(output_dir), recovered(bids_dir, output_dir)
    lines = [
        "",
        "PHANTOM data: these numbers say that the machinery works, nothing about people.",
        f"controls, out of fold: MAE {found['mae']:.2f} years (always guessing the mean age: {found['mae_null']:.2f})",
    ]
    for row in found["groups"]:
        lines.append(
            f"{row['case']} against {row['control']}: BAG {row['found']:+.1f} years "
            f"[{row['low']:.1f}, {row['high']:.1f}], planted {row['planted']:+.1f}"
        )
    for row in found["scores"]:
        lines.append(
            f"{row['score']} in {row['group']} (n = {row['n']}): r {row['found']:+.2f} "
            f"[{row['low']:.2f}, {row['high']:.2f}], planted {row['planted']:+.2f}"
        )
    typical = typical_people(DatasetQuery(bids_dir=bids_dir), outputs)
    lines += [f"open {outputs.participant_page(person)} (a typical {group})" for group, person in typical.items()]
    return "\n".join([*lines, f"open {outputs.group_page}"])


def recovered(bids_dir: Path, output_dir: Path) -> dict[str, Any]:
    """Return what the group level found, and what was planted.

    Parameters
    ----------
    bids_dir, output_dir
        A phantom cohort, and the results of both levels.

    Returns
    -------
    dict
        ``mae`` and ``mae_null`` of the controls, years; ``groups``, the gap of each group of patients adjusted for age
        and sex (``case control found low high planted``, years); ``scores``, its partial correlations with scores
        (``score group n found low high planted``). ``low`` and ``high`` are the 95 % interval.
    """
    outputs, planted = Outputs(output_dir), read_json(bids_dir / "planted.json")
    controls = read_tsv(outputs.group_table("accuracy")).set_index("subset").loc["group=CN"]
    found: dict[str, Any] = {name: float(controls[name]) for name in ("mae", "mae_null")}
    table = read_tsv(outputs.group_table("groupdiff"))
    rows = table[(table["variant"] == "ancova:age+sex") & (table["status"] == "ok")].to_dict("records")
    gaps = {label: group["gap_mean"] for label, group in planted["realised"].items()}
    found["groups"] = [
        {"case": row["case"], "control": row["control"], "planted": gaps[row["case"]] - gaps[row["control"]]}
        | _estimate(row, "mean_diff")
        for row in rows
    ]
    table = read_tsv(outputs.group_table("correlations"))
    rows = table[(table["family"] == "scores") & (table["status"] == "ok")].to_dict("records")
    truth = {label: group["score_correlation"] for label, group in planted["population"].items()}
    found["scores"] = [
        {name: row[name] for name in ("score", "group", "n")}
        | {"planted": truth[row["group"]]}
        | _estimate(row, "estimate")
        for row in rows
    ]
    return found


def _estimate(row: Mapping[str, Any], name: str) -> dict[str, float]:
    return {"found": float(row[name]), "low": float(row["ci_lo"]), "high": float(row["ci_hi"])}


def typical_people(query: DatasetQuery, outputs: Outputs) -> dict[str, str]:
    """Return for controls and AD patients the person to look at first.

    It is the one whose corrected gap is nearest the group's median. Controls whose age lies outside the interval do
    not count, and people beyond the ages of the age-bias line only where there is nobody else. A group without a
    corrected gap is left out.
    """
    gaps: dict[str, dict[str, float]] = {"CN": {}, "AD": {}}
    outside, beyond = set(), set()
    on_disk = ScanRecords(outputs)
    for scan in read_dataset(query).scans:
        for row in on_disk.predictions(scan).rows[:1]:
            if scan.group in gaps and math.isfinite(row["bag_corrected"]):
                gaps[scan.group][scan.participant_id] = row["bag_corrected"]
            if "bias_extrapolated" in row["flags"].split(";"):
                beyond.add(scan.participant_id)
            age = row["chronological_age"]
            if scan.group == "CN" and (age < row["pred_lo"] or age > row["pred_hi"]):  # few people have no interval
                outside.add(scan.participant_id)
    typical = {}
    for group, word in (("CN", "control"), ("AD", "patient")):
        people = gaps[group]
        inside = people.keys() - outside
        if candidates := sorted(inside - beyond or inside):
            middle = statistics.median(people.values())
            typical[word] = min(candidates, key=lambda person: abs(people[person] - middle))
    return typical
