"""The training page: complete in itself, the phantom said, missing numbers harmless."""

import numpy as np
import pandas as pd
import pytest

from brainage_bids.report.training_html import TrainingPage, curves, embedding_figure, write_training_page

CARD = {
    "effective_settings": {"device": "cpu", "batch_size": 6, "notes": ["training.lr=0.1, as asked"]},
    "validation": {"kind": "out of fold", "n": 14, "mae": 5.25, "mae_null": 9.5}, "test": None, "phantom": True,
    "members": [{"name": "main"}], "recipe": {"training": {"keep": "last"}},
}  # fmt: skip


def history(stages):
    rows = []
    for stage, epochs in stages:
        for epoch in range(1, epochs + 1):
            probe = epoch % 2 == 0 or stage != "encoder"
            rows.append({"member": "main", "stage": stage, "epoch": str(epoch), "lr": "0.1", "loss": f"{3 / epoch}",
                         "loss_excess": f"{1 / epoch}" if stage == "encoder" else "n/a",
                         "val_mae": "4.5" if probe else "n/a", "val_mae_knn": "n/a", "seconds": "60"})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def embedding():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"part": ["train"] * 6 + ["val"] * 2, "age": np.linspace(20, 80, 8),
                         "first": rng.normal(size=8), "second": rng.normal(size=8)})  # fmt: skip


def test_page_of_a_contrastive_training(tmp_path, embedding):
    examples = [[np.random.default_rng(0).random((12, 20)) for _ in range(3)] for _ in range(2)]
    page = TrainingPage("rnc-<x>", "1.0", CARD, history([("encoder", 6), ("head", 3)]), embedding, (0.6, 0.2), examples)
    text = write_training_page(tmp_path / "p.html", page).read_text(encoding="utf-8")
    assert "PHANTOM" in text
    assert "rnc-&lt;x&gt;" in text
    assert text.count("data:image/webp") == 3
    assert "training.lr=0.1, as asked" in text
    assert ">5.25<" in text
    assert ">9.50<" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_page_without_embedding_or_examples(tmp_path):
    page = TrainingPage("pca-ridge", "1.0", {**CARD, "phantom": False}, history([("fit", 1)]))
    text = write_training_page(tmp_path / "p.html", page).read_text(encoding="utf-8")
    assert "PHANTOM" not in text
    assert text.count("data:image/webp") == 1
    assert "Where the model puts the people" not in text


def test_what_the_training_is_warned_of_stands_on_top(tmp_path):
    said = "fold-1: the head may not be trained to its end: its best epoch is its last"
    page = TrainingPage("x", "1.0", {**CARD, "warnings": [said]}, history([("encoder", 6), ("head", 3)]))
    text = write_training_page(tmp_path / "p.html", page).read_text(encoding="utf-8")
    assert text.index("This training may not be done") < text.index(said) < text.index("Accuracy on people")
    page = TrainingPage("x", "1.0", CARD, history([("encoder", 6), ("head", 3)]))
    assert "may not be done" not in write_training_page(tmp_path / "q.html", page).read_text(encoding="utf-8")


def test_a_stage_of_one_step_has_no_curve(tmp_path):
    table = history([("encoder", 4), ("head", 1)])
    numbers = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in table.columns[2:]})
    assert len(curves(numbers).axes) == 3
    assert len(curves(numbers[numbers.stage == "head"]).axes) == 3


def test_figures_have_a_row_a_stage_and_a_mark_a_part(embedding):
    table = history([("encoder", 4), ("head", 2)])
    numbers = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in table.columns[2:]})
    assert len(curves(numbers).axes) == 6
    legend = embedding_figure(embedding, (0.5, 0.5)).axes[0].get_legend().get_texts()
    assert [entry.get_text() for entry in legend] == ["train (n = 6)", "val (n = 2)"]
