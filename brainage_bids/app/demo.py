"""The demo: the whole analysis of a phantom cohort, from scans to the group page."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.bids.outputs import Outputs

LOG = logging.getLogger("brainage_bids")


def run_demo(out_dir: Path, n: int, nprocs: int, seed: int, progress: bool = True) -> None:
    """Make a phantom cohort in ``out_dir/bids`` and analyse it in ``out_dir/derivatives``; a second call continues."""
    from brainage_bids.app.group import run_group
    from brainage_bids.app.options import GroupOptions, ParticipantOptions
    from brainage_bids.app.participant import run_participant
    from brainage_bids.bids.read import DatasetQuery
    from brainage_bids.model.model_options import ModelOptions
    from brainage_bids.phantom.cohort import make_cohort
    from brainage_bids.preprocess.preprocess_options import PreprocessOptions

    begin = time.monotonic()
    bids_dir, output_dir = out_dir / "bids", out_dir / "derivatives"
    if not (bids_dir / "planted.json").is_file():
        LOG.info("[1/3] making a phantom cohort of %d people in %s", n, bids_dir)
        make_cohort(bids_dir, n=n, seed=seed, voxel_mm=4.0, workers=nprocs, progress=progress)
    LOG.info("[2/3] participant level: preprocess, train rnc-demo in 5 folds, predict everybody out of fold")
    query = DatasetQuery(bids_dir=bids_dir)
    batch = None if n >= 60 else n // 6  # the recipe's batch needs more people than a small cohort has
    run_participant(
        ParticipantOptions(
            query=query,
            output_dir=output_dir,
            preprocess=PreprocessOptions(work_dir=output_dir / "work", nprocs=nprocs, seed=seed, progress=progress),
            model=ModelOptions(folds=5, batch_size=batch, workers=nprocs, seed=seed, progress=progress),
            train="rnc-demo",
            command=f"brainage-bids {bids_dir.name} {output_dir.name} participant --train rnc-demo --folds 5",
        )
    )
    LOG.info("[3/3] group level: tables, mean maps, page")
    command = f"brainage-bids {bids_dir.name} {output_dir.name} group"
    run_group(GroupOptions(query=query, output_dir=output_dir, seed=seed, command=command))
    LOG.info("%s", summary(bids_dir, output_dir))
    LOG.info("done in %.0f s", time.monotonic() - begin)


def summary(bids_dir: Path, output_dir: Path) -> str:
    """Return the results next to the true (planted) values, and the paths of the pages."""
    outputs = Outputs(output_dir)
    planted = read_json(bids_dir / "planted.json")
    accuracy = read_tsv(outputs.group_table("accuracy")).set_index("subset")
    row = accuracy.loc["group=CN"]
    lines = [
        "",
        "PHANTOM data: these numbers say that the machinery works, nothing about people.",
        f"controls, out of fold: MAE {float(row['mae']):.2f} years "
        f"(always guessing the mean age: {float(row['mae_null']):.2f})",
    ]
    groups = read_tsv(outputs.group_table("groupdiff"))
    for r in groups[(groups["variant"] == "ancova:age+sex") & (groups["status"] == "ok")].to_dict("records"):
        truth = planted["realised"][r["case"]]["gap_mean"] - planted["realised"][r["control"]]["gap_mean"]
        lines.append(
            f"{r['case']} against {r['control']}: BAG {float(r['mean_diff']):+.1f} years "
            f"[{float(r['ci_lo']):.1f}, {float(r['ci_hi']):.1f}], planted {truth:+.1f}"
        )
    scores = read_tsv(outputs.group_table("correlations"))
    for r in scores[(scores["family"] == "scores") & (scores["status"] == "ok")].to_dict("records"):
        truth = planted["population"][r["group"]]["score_correlation"]
        lines.append(
            f"{r['score']} in {r['group']} (n = {r['n']}): r {float(r['estimate']):+.2f} "
            f"[{float(r['ci_lo']):.2f}, {float(r['ci_hi']):.2f}], planted {truth:+.2f}"
        )
    lines += [f"open {outputs.group_page}", f"open {output_dir / 'sub-001.html'}"]
    return "\n".join(lines)
