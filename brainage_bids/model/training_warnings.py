"""What the course of a training says against its model: a head that is not done, or worse than its features allow."""

from __future__ import annotations

from collections.abc import Sequence

from brainage_bids.model.recipe import Recipe

WORSE = 1.0  # years, on validation people
LAST = "its best epoch is its last"


def training_warnings(history: Sequence[dict], recipe: Recipe) -> list[str]:
    """Return one sentence for each fault of a member.

    Parameters
    ----------
    history
        Rows of ``history.tsv``, of all members.
    recipe
        What was trained.

    Returns
    -------
    list of str
        Errors are mean absolute errors of validation people, years.
    """
    found = []
    for member in dict.fromkeys(row["member"] for row in history):
        rows = {
            stage: [row for row in history if (row["member"], row["stage"]) == (member, stage)]
            for stage in ("encoder", "head", "network")
        }
        for stage, what in (("head", "the head"), ("network", "the network")):
            if len(rows[stage]) > 1 and (best := _best(rows[stage])) is rows[stage][-1]:
                section = "head" if stage == "head" else "training"
                found.append(
                    f"{member}: {what} may not be trained to its end: {LAST} ({best['epoch']}, validation MAE "
                    f"{best['val_mae']:.1f} years); train longer with --set {section}.epochs=NUMBER"
                )
        probes = [row for row in rows["encoder"] if row["val_mae"] is not None]
        if not probes or not rows["head"]:
            continue
        probe = _best(probes) if recipe.training.keep == "best_probe" else probes[-1]
        head = _best(rows["head"])
        if head["val_mae"] - probe["val_mae"] > WORSE:
            found.append(
                f"{member}: the head reads the age worse than the features allow: validation MAE {head['val_mae']:.1f} "
                f"years, a ridge probe on the same features {probe['val_mae']:.1f}; use --set head.method=ridge, or "
                "more steps with --set head.epochs=NUMBER"
            )
    return found


def _best(rows: Sequence[dict]) -> dict:
    """Return the first row of the smallest error, as the training keeps it."""
    return min(rows, key=lambda row: row["val_mae"])
