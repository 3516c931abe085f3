"""The page of one training: loss, error and learning rate by epoch, the features of people, augmented volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainage_bids.report.figure_files import draw_picture
from brainage_bids.report.figures import COLOURS, GRID, INK, MARKERS
from brainage_bids.report.html import embed_image, number, write_page

STAGES = {
    "encoder": "Encoder: loss above its lower bound",
    "head": "Linear head: L1 loss (years)",
    "network": "Whole network: L1 loss (years)",
    "fit": "Fit: mean error (years)",
}


@dataclass(frozen=True)
class TrainingPage:
    """The content of the page.

    Parameters
    ----------
    name, version
        Name of the model, version of the software.
    card
        Content of ``model.json``.
    history
        ``member stage epoch lr loss loss_excess val_mae val_mae_knn seconds``; numbers or ``n/a``.
    embedding
        ``part age first second`` of people: their set, age (years) and two principal components; None without.
    shares
        Share of the variance that each of the two components explains.
    examples
        Rows of images in [0, 1]; the first of each row is not augmented.
    made_from
        Hash of the model, stored in the page.
    """

    name: str
    version: str
    card: Mapping[str, Any]
    history: pd.DataFrame
    embedding: pd.DataFrame | None = None
    shares: Sequence[float] = ()
    examples: Sequence[Sequence[np.ndarray]] = field(default=())
    made_from: str = ""


def write_training_page(path: str | Path, page: TrainingPage) -> Path:
    """Write the page.

    Raises
    ------
    CannotCreateError
        When the folder of ``path`` cannot be written.
    """
    history = page.history.assign(
        **{name: [number(value) for value in page.history[name]] for name in page.history.columns[2:]}
    ).astype(dict.fromkeys(page.history.columns[2:], float))
    figures = [_shown(curves(history), "Loss, validation error and learning rate by epoch.")]
    stages = [stage for stage in STAGES if stage in set(history.stage)]
    last = history.groupby(["member", "stage"], sort=False).last().reset_index()
    best = history[history.val_mae.notna()].groupby(["member", "stage"], sort=False).val_mae.min()
    rows = [
        {
            "member": row.member,
            "stage": row.stage,
            "epochs": int(row.epoch),
            "loss": row.loss,
            "excess": row.loss_excess,
            "best": best.get((row.member, row.stage)),
            "minutes": history[(history.member == row.member) & (history.stage == row.stage)].seconds.sum() / 60,
        }
        for row in last.itertuples()
    ]
    embedding = None
    if page.embedding is not None and len(page.embedding) > 2:
        embedding = _shown(embedding_figure(page.embedding, page.shares), "Two principal components of the features.")
    examples = _shown(examples_figure(page.examples), "Augmented volumes.") if page.examples else None
    values = {
        "page": page, "curves": figures[0], "embedding": embedding, "examples": examples, "rows": rows,
        "stages": stages, "notes": page.card["effective_settings"]["notes"],
        "settings": {key: value for key, value in page.card["effective_settings"].items() if key != "notes"},
        "validation": page.card["validation"], "test": page.card.get("test"), "title": f"Training of {page.name}",
        "warnings": page.card.get("warnings", []),
    }  # fmt: skip
    return write_page(path, "training.html", values, page.made_from)


def curves(history: pd.DataFrame) -> Figure:
    """Draw loss, validation error and learning rate by epoch: one row per stage, one line per member.

    A stage of one step, such as a head that is fitted at once, is drawn only if there is no other; the table has it.
    """
    epochs = history.groupby("stage").epoch.max()
    stages = [stage for stage in STAGES if epochs.get(stage, 0) > 1] or [stage for stage in STAGES if stage in epochs]
    figure = Figure(figsize=(9.5, 2.9 * len(stages)), layout="constrained")
    panels = figure.subplots(len(stages), 3, squeeze=False)
    members = list(dict.fromkeys(history.member))
    for line, stage in zip(panels, stages, strict=True):
        for index, member in enumerate(members):
            rows = history[(history.stage == stage) & (history.member == member)]
            look = {"color": COLOURS[index % 8], "linewidth": 1.2}
            if len(rows) < 3:
                look["marker"] = MARKERS[index % 8]
            loss = rows.loss_excess if stage == "encoder" else rows.loss
            line[0].plot(rows.epoch, loss, label=member, **look)
            known = rows[rows.val_mae.notna()]
            line[1].plot(known.epoch, known.val_mae, **look)
            if known.val_mae_knn.notna().any():
                line[1].plot(known.epoch, known.val_mae_knn, **{**look, "linestyle": (0, (2, 2))})
            line[2].plot(rows.epoch, rows.lr, **look)
        line[0].set_title(STAGES[stage], loc="left", fontsize=9)
        name = "Probe error: ridge; dotted: 5 nearest" if stage == "encoder" else "Validation MAE (years)"
        line[1].set_title(name, loc="left", fontsize=9)
        line[2].set_title("Learning rate", loc="left", fontsize=9)
        for axes in line:
            _plain(axes)
            axes.set_xlabel("epoch", fontsize=9)
    if len(members) > 1:
        panels[0][0].legend(fontsize=7, frameon=False, ncols=2)
    return figure


def embedding_figure(points: pd.DataFrame, shares: Sequence[float]) -> Figure:
    """Draw people by two principal components of their features; colour shows the age, the marker the set."""
    figure = Figure(figsize=(7.2, 5), layout="constrained")
    axes = figure.subplots()
    low, high = points.age.min(), points.age.max()
    drawn = None
    for index, (part, rows) in enumerate(points.groupby("part", sort=True)):
        drawn = axes.scatter(
            rows["first"], rows.second, 34, rows.age, marker=MARKERS[index % 8], cmap="viridis", vmin=low, vmax=high,
            edgecolors=INK, linewidths=0.4, label=f"{part} (n = {len(rows)})",
        )  # fmt: skip
    figure.colorbar(drawn, ax=axes, label="age (years)")
    for axis, name, share in ((axes.xaxis, "First", shares[0]), (axes.yaxis, "Second", shares[1])):
        axis.set_label_text(f"{name} component ({100 * share:.0f} % of the variance)")
    axes.legend(frameon=False, fontsize=8)
    _plain(axes)
    return figure


def examples_figure(rows: Sequence[Sequence[np.ndarray]]) -> Figure:
    """Draw the volumes of a few people, original and augmented."""
    columns = len(rows[0])
    shape = rows[0][0].shape
    width = 11.0
    figure = Figure(figsize=(width, width / columns * shape[0] / shape[1] * len(rows) + 0.3), layout="constrained")
    for line, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for index, (axes, image) in enumerate(zip(line, row, strict=True)):
            axes.imshow(image, cmap="gray", vmin=0, vmax=max(1e-6, float(np.max(row[0]))), interpolation="nearest")
            axes.axis("off")
            axes.set_title("as it is" if index == 0 else f"augmented {index}", fontsize=8)
    return figure


def _shown(figure: Figure, alt: str) -> dict[str, str]:
    return {"src": embed_image(draw_picture(figure), lossless=True), "alt": alt}


def _plain(axes: Axes) -> None:
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
