"""The model that comes with the package: small, complete, honest, and it knows its people."""

import numpy as np
import pytest
import torch

from brainage_bids.app.models import BUNDLED, TESTED, _template_brain, bundled_models, open_model
from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.model.predict import check_answer, folds_for, load_model, predict_volume


def test_it_is_small_and_complete():
    assert bundled_models() == ["open-adults"]
    files = {path.name: path.stat().st_size for path in (BUNDLED / "open-adults").iterdir()}
    assert set(files) == {"model.json", "weights.safetensors", "history.tsv", "MODEL_CARD.md", "split.tsv"}
    assert sum(files.values()) < 10_000_000


def test_it_says_what_it_is():
    card = read_json(BUNDLED / "open-adults" / "model.json")
    errors = np.array([abs(row["predicted_age"] - row["age"]) for row in card["calibration"]])
    assert len(errors) == card["training"]["n"] == 71
    assert errors.mean() == pytest.approx(card["validation"]["mae"])
    text = (BUNDLED / "open-adults" / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in ("not a clinical instrument", "19 to 55 years", "41 with depression", f"{errors.mean():.2f}",
                 f"{card['validation']['mae_null']:.2f}", "95 % CI"):  # fmt: skip
        assert words in text
    assert card["validation"]["mae"] < card["validation"]["mae_null"]
    assert not card["phantom"]


def test_it_predicts_and_its_terms_add_up():
    model = load_model(BUNDLED / "open-adults", "cpu")
    volume = np.random.default_rng(0).random(model.spec.shape, dtype=np.float32)
    age, cells = predict_volume(model, volume, list(model.networks))
    bias = np.mean([network.head.bias.item() for network in model.networks.values()])
    assert age == pytest.approx(cells.sum(dtype=float) + bias, abs=1e-2)
    empty, _ = predict_volume(model, torch.zeros(model.spec.shape).numpy(), list(model.networks))
    assert empty == pytest.approx(bias, abs=1e-3)


def test_it_answers_the_brain_of_its_template_and_is_known_to():
    model = open_model("open-adults", BUNDLED / "open-adults")
    assert (model.content, model.weights) in TESTED  # after a change of the model: these are its hashes
    check_answer(load_model(model.folder, "cpu"), _template_brain(model.spec, ()))


def test_its_people_are_predicted_out_of_fold_and_nobody_else_is():
    model = load_model(BUNDLED / "open-adults", "cpu")
    known = read_tsv(BUNDLED / "open-adults" / "split.tsv").participant_id
    dataset, person = known[0].rsplit("/", 1)
    assert folds_for(model, person, dataset)[1] == ["out_of_fold"]
    assert folds_for(model, person, "another study") == (list(model.networks), [])
