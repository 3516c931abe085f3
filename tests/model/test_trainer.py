import dataclasses
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from modelstudy import SPEC, make_table, tiny_recipe
from safetensors.torch import load_file
from sklearn.linear_model import BayesianRidge

from brainage_bids.bids.files import read_json, read_tsv, write_json
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.errors import BadDataError, InputOutputError, NoInputError, TryAgainError, UsageError
from brainage_bids.model import probes, trainer
from brainage_bids.model.artifact import hash_participant
from brainage_bids.model.card import tells_people_apart
from brainage_bids.model.contrast import median_intensity
from brainage_bids.model.dataset import cache_volumes, load_volume, open_volumes
from brainage_bids.model.linear import most_likely_ridge
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_files import load_recipe
from brainage_bids.model.settings import effective_settings, resolve_precision
from brainage_bids.model.split import make_split
from brainage_bids.model.train import _progress, train_model
from brainage_bids.schema import HISTORY_COLUMNS, VolumeSpec

QUIET = ModelOptions(device="cpu", progress=False)


def replaced(recipe, section, **values):
    """The recipe with other values in one section."""
    return dataclasses.replace(recipe, **{section: dataclasses.replace(getattr(recipe, section), **values)})


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="session")
def folds_model(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    options = dataclasses.replace(QUIET, folds=3)
    return train_model(table, tiny_recipe(), folder / "m", folder / "w", options, phantom=True)


def test_folder_describes_itself(folds_model, table):
    names = {"model.json", "weights.safetensors", "history.tsv", "MODEL_CARD.md", "split.tsv"}
    assert {path.name for path in folds_model.iterdir()} == names
    values = read_json(folds_model / "model.json")
    assert VolumeSpec.from_dict(values["volume_spec"]) == SPEC
    assert Recipe.from_dict(values["recipe"]) == tiny_recipe()
    assert [fold["name"] for fold in values["members"]] == ["fold-1", "fold-2", "fold-3"]
    assert values["training"]["n"] == 14
    assert values["training"]["groups"] == {"CN": 14}
    assert len(values["calibration"]) == values["validation"]["n"] == 14
    assert {row["fold"] for row in values["calibration"]} == {1, 2, 3}
    assert "sub-" not in json.dumps(values)
    assert {key.split(".")[0] for key in load_file(folds_model / "weights.safetensors")} == {
        "fold-1",
        "fold-2",
        "fold-3",
    }
    history = read_tsv(folds_model / "history.tsv")
    assert list(history.columns) == HISTORY_COLUMNS
    assert len(history) == 3 * (3 + 5)
    assert set(history.loss_excess[history.stage == "head"]) == {"n/a"}
    card = (folds_model / "MODEL_CARD.md").read_text()
    assert "PHANTOM MODEL" in card
    assert f"| 14 | {values['validation']['mae']:.2f} | {values['validation']['mae_null']:.2f} |" in card


def test_everybody_is_predicted_by_the_fold_that_never_saw_the_person(folds_model, table):
    predicted = predict_table(folds_model, table, QUIET)
    split = read_tsv(folds_model / "split.tsv").set_index("participant_id").fold.astype(int)
    assert [str(flags) for flags in predicted["flags"]] == ["['out_of_fold']"] * len(table)
    assert list(predicted.fold) == [split[person] for person in table.participant_id]
    model = load_model(folds_model)
    for row, age, fold in zip(table.to_dict("records"), predicted.predicted_age, predicted.fold, strict=True):
        direct = model.networks[f"fold-{fold}"](torch.from_numpy(load_volume(row["volume"], SPEC))[None, None]).item()
        assert age == pytest.approx(direct, abs=1e-4)
        sidecar = read_json(row["saliency"].replace(".nii.gz", ".json"))
        cells = nib.load(row["saliency"])
        assert cells.get_fdata().sum() + sidecar["Bias"] == pytest.approx(age, abs=1e-4)
        assert np.allclose(cells.affine, np.array(SPEC.affine) @ np.diag([8, 8, 8, 1]))
        assert sidecar["Units"] == "years"
    calibration = pd.DataFrame(read_json(folds_model / "model.json")["calibration"])
    first = table.assign(predicted=predicted.predicted_age)[table.trainable].drop_duplicates("participant_id")
    assert sorted(calibration.predicted_age) == pytest.approx(sorted(first.predicted), abs=1e-6)


def test_strangers_get_the_mean_of_the_folds(folds_model, table):
    model = load_model(folds_model)
    stranger = table.head(1).assign(participant_id="sub-new", age=95.0, prefix="sub-new")
    predicted = predict_table(model, stranger, QUIET, name="mine").iloc[0]
    x = torch.from_numpy(load_volume(stranger.volume[0], SPEC))[None, None]
    assert predicted.predicted_age == pytest.approx(np.mean([m(x).item() for m in model.networks.values()]), abs=1e-4)
    assert predicted["flags"] == ["age_extrapolated"]
    assert predicted.fold is None
    assert predicted.model == "mine"


def test_a_scan_of_another_contrast_is_flagged(folds_model, table, tmp_path):
    known = read_json(folds_model / "model.json")["training"]["intensity"]
    seen = [median_intensity(load_volume(path, SPEC)) for path in table.volume[table.trainable]]
    assert [known["median_min"], known["median_max"]] == pytest.approx([min(seen), max(seen)], abs=1e-3)
    image = nib.load(table.volume[0])
    path = tmp_path / "bright.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) ** 0.5, image.affine), path)
    write_json(sidecar_path(path), {"VolumeSpec": SPEC.to_dict()})
    other = table.head(2).assign(participant_id=["sub-old", "sub-new"], volume=[table.volume[0], str(path)])
    predicted = predict_table(folds_model, other, QUIET, saliency=False)
    assert list(predicted["flags"]) == [[], ["contrast_extrapolated"]]


def test_equal_short_ids_of_another_dataset_are_other_people(folds_model, table):
    model = load_model(folds_model)
    named = dataclasses.replace(model, card={**model.card, "dataset": "here"})
    other = table.tail(1).copy()
    other.attrs["dataset"] = "elsewhere"
    assert predict_table(named, other, QUIET, saliency=False)["flags"][0] == []
    other.attrs["dataset"] = "here"
    assert predict_table(named, other, QUIET, saliency=False)["flags"][0] == ["out_of_fold"]
    other.attrs["dataset"] = None  # a dataset without a Name may be the same
    assert predict_table(named, other, QUIET, saliency=False)["flags"][0] == ["out_of_fold"]


def test_a_single_fold_flags_its_training_people(table, tmp_path):
    folder = train_model(table, tiny_recipe("l1", patience=1, lr=1e-3), tmp_path / "m", tmp_path / "w", QUIET)
    predicted = predict_table(folder, table, QUIET, saliency=False).set_index("prefix")
    split = read_tsv(folder / "split.tsv").set_index("participant_id")
    flags = {"train": ["in_training"], "val": ["in_validation"]}
    for row in table.to_dict("records"):
        roles = [flag for flag in predicted["flags"][row["prefix"]] if flag != "age_extrapolated"]
        assert roles == flags.get(split.split[row["participant_id"]], [])
    assert (split.fold == "n/a").all()
    assert "PHANTOM" not in (folder / "MODEL_CARD.md").read_text()
    assert read_json(folder / "model.json")["test"]["n"] == 1


def test_a_study_leaves_the_test_people_alone(table, tmp_path, monkeypatch):
    split = make_split(table, folds=None, seed=QUIET.seed)
    looked = []
    monkeypatch.setattr("brainage_bids.model.train.load_volume", lambda path, spec: looked.append(path) or
                        load_volume(path, spec))  # fmt: skip
    options = dataclasses.replace(QUIET, test=False)
    folder = train_model(table, tiny_recipe("l1", epochs=1, lr=1e-3), tmp_path / "m", tmp_path / "w", options)
    assert read_json(folder / "model.json")["test"] is None
    assert "Test people" not in (folder / "MODEL_CARD.md").read_text()
    people = table.set_index("volume").participant_id[looked]
    assert set(people) == set(split.participant_id[split.split == "val"])


def test_the_range_of_ages_is_that_of_all_scans(table, tmp_path):
    rows = table[table.trainable]
    later = rows.assign(age=rows.age + 7, prefix=rows.prefix + "_later")
    both = pd.concat([rows, later], ignore_index=True)
    folder = train_model(both, tiny_recipe("l1", epochs=1, lr=1e-3), tmp_path / "m", tmp_path / "w", QUIET)
    card, split = read_json(folder / "model.json"), read_tsv(folder / "split.tsv")
    ages = both.age[both.participant_id.isin(split.participant_id[split.split == "train"])]
    assert (card["training"]["age_min"], card["training"]["age_max"]) == (ages.min(), ages.max())
    kept = split.participant_id[split.split == "test"]
    assert len(kept)
    known = {hash_participant(person, card["salt"]) for person in kept}
    assert set(card["members"][0]["test_participants"]) == known


@pytest.mark.parametrize(
    ("person", "unique"),
    [("sub-01", False), ("sub-0007", False), ("sub-control07", False), ("sub-patient112", False), ("sub-HC012", False),
     ("sub-3102", True), ("sub-ADNI011S0003", True), ("sub-IXI012", True), ("sub-OAS30001", True),
     ("sub-control1234", True)],
)  # fmt: skip
def test_which_ids_tell_people_apart(person, unique):
    assert tells_people_apart(person) == unique


@pytest.mark.parametrize("method", ["rnc", "l1"])
@pytest.mark.parametrize("stop_after", [2, 5])
def test_killed_run_resumes_bitwise(table, tmp_path, monkeypatch, method, stop_after):
    recipe = tiny_recipe(method, epochs=3 if method == "rnc" else 7, lr=1e-2)
    chunked = dataclasses.replace(QUIET, chunk_size=5)  # remembered by the work directory
    whole = train_model(table, recipe, tmp_path / "a", tmp_path / "wa", chunked)
    save, seen, often = trainer.save_checkpoint, [], dataclasses.replace(chunked, save_every=0.0)

    def save_then_die(path, values):
        save(path, values)
        seen.append(values["epoch"])
        if len(seen) == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", save_then_die)
        with pytest.raises(KeyboardInterrupt):
            train_model(table, recipe, tmp_path / "b", tmp_path / "wb", often)
    assert not (tmp_path / "b" / "model.json").exists()
    resumed = train_model(table, recipe, tmp_path / "b", tmp_path / "wb", QUIET)
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    columns = [name for name in HISTORY_COLUMNS if name != "seconds"]
    assert read_tsv(resumed / "history.tsv")[columns].equals(read_tsv(whole / "history.tsv")[columns])


def test_checkpoints_are_few_and_hold_what_their_stage_changes(table, tmp_path, monkeypatch):
    save, seen = trainer.save_checkpoint, []

    def keep(path, values):
        save(path, values)
        seen.append((path.name, values.get("epoch"), set(values["model"])))

    monkeypatch.setattr(trainer, "save_checkpoint", keep)
    recipe = tiny_recipe()
    train_model(table, recipe, tmp_path / "m", tmp_path / "w", QUIET)
    names = set(load_file(tmp_path / "m" / "weights.safetensors"))
    whole, head = ({name.removeprefix("main.") for name in names if start in name} for start in ("", ".head."))
    ends = recipe.training.epochs, recipe.head.epochs
    assert [(name, epoch) for name, epoch, _ in seen] == [
        ("main.encoder.checkpoint.pt", ends[0]), ("main.head.checkpoint.pt", ends[1]), ("main.pt", None),
    ]  # fmt: skip
    assert [tensors for *_, tensors in seen] == [whole, head, whole]
    assert not list((tmp_path / "w").glob("*.checkpoint.pt"))


@pytest.mark.parametrize("method", ["sgd", "ridge"])
def test_a_run_killed_between_the_stages_does_the_head_only(table, tmp_path, monkeypatch, method):
    recipe = replaced(tiny_recipe(), "head", method=method)
    whole = train_model(table, recipe, tmp_path / "a", tmp_path / "wa", QUIET)
    with monkeypatch.context() as patch:
        for name in ("fit_head", "HeadStage"):
            patch.setattr(trainer, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        patch.setitem(trainer.STAGES, "head", trainer.HeadStage)
        with pytest.raises(KeyboardInterrupt):
            train_model(table, recipe, tmp_path / "b", tmp_path / "wb", QUIET)
    monkeypatch.setitem(trainer.STAGES, "encoder", lambda *_: pytest.fail("the encoder is trained again"))
    resumed = train_model(table, recipe, tmp_path / "b", tmp_path / "wb", QUIET)
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_a_head_fitted_in_one_step_is_the_likeliest_ridge_on_the_features(table, tmp_path):
    recipe = replaced(tiny_recipe(), "head", method="ridge")
    folder = train_model(table, recipe, tmp_path / "m", tmp_path / "w", QUIET)
    model, card = load_model(folder, "cpu"), read_json(folder / "model.json")
    network, first = model.networks["main"], table.drop_duplicates("participant_id").query("trainable")
    hashed = set(card["members"][0]["training_participants"])
    chosen = first[[hash_participant(person, card["salt"]) in hashed for person in first.participant_id]]

    def features(rows):
        volumes = torch.stack([torch.from_numpy(load_volume(path, SPEC))[None] for path in rows.volume])
        with torch.no_grad():
            return network.embed(volumes).double().numpy()

    x, ages = features(chosen), chosen.age.to_numpy()
    ridge = BayesianRidge(max_iter=10_000, tol=1e-9).fit(x / np.sqrt(x.var(0).sum()), ages)
    expected = ridge.predict(features(first) / np.sqrt(x.var(0).sum()))
    found = network.age(torch.from_numpy(features(first)).float()).detach().numpy()
    assert np.abs(found - expected).mean() < 0.5  # the other one counts the unknown mean age as a value
    rows = read_tsv(folder / "history.tsv").query("stage == 'head'")
    assert rows.lr.tolist() == ["n/a"]
    on_training = network.age(torch.from_numpy(x).float()).detach().numpy()
    assert float(rows.loss.item()) == pytest.approx(np.abs(on_training - ages).mean(), abs=1e-3)
    assert card["validation"]["kind"] == "validation people"
    assert "were kept for validation" in (folder / "MODEL_CARD.md").read_text()


def test_a_ridge_head_does_not_mind_small_features():
    """SGD takes steps in proportion to the features; ten times smaller ones left it far from the ages."""
    ages = np.linspace(20, 80, 12)
    x = np.random.default_rng(0).standard_normal((12, 30)) + ages[:, None] / 20
    weights = [most_likely_ridge(scale * (x - x.mean(0)), ages)[0] * scale for scale in (1.0, 0.1)]
    assert weights[0] == pytest.approx(weights[1], rel=1e-6)


def test_finished_work_is_not_done_again(table, tmp_path, monkeypatch):
    folder = train_model(table, tiny_recipe(epochs=1), tmp_path / "m", tmp_path / "w", QUIET)
    before = (folder / "weights.safetensors").read_bytes()
    monkeypatch.setattr("brainage_bids.model.trainer.train_fold", lambda *_: pytest.fail("trained again"))
    train_model(table, tiny_recipe(epochs=1), folder, tmp_path / "w", QUIET)
    (folder / "model.json").unlink()
    train_model(table, tiny_recipe(epochs=1), folder, tmp_path / "w", QUIET)  # from the finished fold's file
    assert (folder / "weights.safetensors").read_bytes() == before


def retold(table, folder, hashed):
    """The same volumes in another folder, written now, with the hash of their scans or without."""
    rows = table.copy()
    for index, path in rows.volume.items():
        new = folder / Path(path).name
        shutil.copy(path, new)
        sidecar = read_json(sidecar_path(Path(path))) | (
            {"InputHash": f"h{index}", "Engine": "builtin"} if hashed else {}
        )
        sidecar_path(new).write_text(json.dumps(sidecar))
        rows.loc[index, "volume"] = str(new)
    return rows


def test_what_does_not_shape_a_model_does_not_train_it_anew(table, tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    here, copied = retold(table, one, True), retold(table, two, True)
    recipe = replaced(tiny_recipe("l1", epochs=1, lr=1e-3), "network", stage_strides=(2, 1, 1, 1))
    folder = train_model(here, recipe, tmp_path / "m", tmp_path / "w", QUIET)
    with monkeypatch.context() as patch:
        patch.setattr("brainage_bids.model.trainer.train_fold", lambda *_: pytest.fail("trained again"))
        train_model(copied, recipe, folder, tmp_path / "w2", QUIET)
        train_model(here, recipe, folder, tmp_path / "w2", dataclasses.replace(QUIET, device="auto"))
        train_model(here, recipe, folder, tmp_path / "w2", dataclasses.replace(QUIET, chunk_size=2))
        train_model(here, recipe, folder, tmp_path / "w2", dataclasses.replace(QUIET, memory=1.0))
        more = here[~here.trainable].tail(1).assign(participant_id="sub-new", prefix="sub-new_ses-1")
        train_model(pd.concat([here, more], ignore_index=True), recipe, folder, tmp_path / "w2", QUIET)
        for changed in (
            here.assign(age=here.age + (here.index == 3)),
            here.assign(trainable=here.trainable & (here.index > 0)),
            retold(table, one, False),
        ):
            with pytest.raises(pytest.fail.Exception, match="trained again"):
                train_model(changed, recipe, folder, tmp_path / "w3", QUIET)
            assert (folder / "model.json").is_file()  # until the new one is ready
        with pytest.raises(TryAgainError, match="--batch-size"):
            train_model(changed, recipe, folder, tmp_path / "w3", dataclasses.replace(QUIET, memory=1.0, seed=9))
        asked = dataclasses.replace(QUIET, precision="bfloat16")
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            train_model(here, recipe, folder, tmp_path / "w3", asked)


def test_fewer_people_than_a_batch_stop_with_the_way_out():
    recipe = load_recipe("rnc-highrez")
    with pytest.raises(BadDataError, match=r"only 11 people train a member.*--batch-size 5"):
        effective_settings(recipe, QUIET, 11)
    settings = effective_settings(recipe, dataclasses.replace(QUIET, epochs=100, batch_size=8), 11)
    assert (settings.batch_size, settings.epochs, settings.head_epochs) == (8, 100, 1000)
    assert "batch size 8 instead of the recipe's 24, as asked" in settings.lines()
    assert settings.views == 16


def test_divergence_and_collapse_are_named(table, tmp_path):
    with pytest.raises(UsageError, match=r"tiny-l1 diverged: the (loss|validation error) of main is (nan|inf)"):
        train_model(table, tiny_recipe("l1", optimiser="sgd", lr=100.0, momentum=0.9, epochs=50, clip_norm=0.0),
                    tmp_path / "m", tmp_path / "w", QUIET)  # fmt: skip
    stage = object.__new__(trainer.EncoderStage)
    stage.recipe, stage.fold = tiny_recipe(), type("M", (), {"name": "main"})
    stage.optimiser = torch.optim.SGD([torch.zeros(1)], 0.1)
    with pytest.raises(UsageError, match="collapsed: in epoch 3 main gives every scan the same features"):
        stage._refuse_collapse(torch.ones(4, 2, 8), 3)
    stage._refuse_collapse(torch.randn(4, 2, 8), 3)


def test_too_few_people(table, tmp_path):
    with pytest.raises(BadDataError, match="at least 4 are needed"):
        train_model(table.assign(trainable=table.index < 4), tiny_recipe(), tmp_path / "m", tmp_path / "w", QUIET)


def test_volumes_of_another_spec_are_refused(table, tmp_path):
    path = table.volume[0]
    with pytest.raises(BadDataError, match=r"was made for .* but the model needs"):
        load_volume(path, VolumeSpec.on_grid(8, intensity="zscore"))
    with pytest.raises(NoInputError, match="is not there"):
        load_volume(tmp_path / "x.nii.gz", SPEC)
    bad = tmp_path / "nan.nii.gz"
    nib.save(nib.Nifti1Image(np.full(SPEC.shape, np.nan, np.float32), SPEC.affine), bad)
    (tmp_path / "nan.json").write_text(json.dumps({"VolumeSpec": SPEC.to_dict()}))
    with pytest.raises(BadDataError, match="holds NaN"):
        load_volume(bad, SPEC)
    nib.save(nib.Nifti1Image(np.ones(SPEC.shape, np.float32), np.diag([-8, 8, 8, 1])), bad)
    with pytest.raises(BadDataError, match="not the grid its sidecar"):
        load_volume(bad, SPEC)


def test_volumes_are_cached_once_and_again_when_one_changes(table, tmp_path):
    paths, written = list(table.volume[:3]), []
    file = cache_volumes(paths, SPEC, tmp_path, written.append)
    assert written == [1, 2, 3]
    volumes = open_volumes(file)
    assert isinstance(volumes, np.memmap)
    assert np.array_equal(volumes[2], load_volume(paths[2], SPEC).astype(np.float16))
    assert cache_volumes(paths, SPEC, tmp_path, written.append) == file
    assert written == [1, 2, 3]
    assert cache_volumes(paths[::-1], SPEC, tmp_path) != file
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_said_before_a_volume_is_read(table, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    left = tmp_path / f".tmp-old-{cache_volumes(list(table.volume[:3]), SPEC, tmp_path / 'x').name}"
    left.write_bytes(b"of a run that was killed")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputOutputError, match=r"take 0\.0 GB in .*No space left on device; make room or .*--work-dir"):
        cache_volumes(list(table.volume[:3]), SPEC, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (MemoryError("none left"), TryAgainError),
        (torch.OutOfMemoryError("CUDA out of memory"), TryAgainError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"), TryAgainError),
        (RuntimeError("another thing"), RuntimeError),
        (torch.distributed.DistBackendError("another thing"), RuntimeError),  # a kind of RuntimeError
    ],
)
def test_too_little_memory_names_the_way_out(table, tmp_path, monkeypatch, error, raised):
    def fail(*_):
        raise error

    monkeypatch.setattr("brainage_bids.model.trainer.train_fold", fail)
    with pytest.raises(raised, match="--chunk-size" if raised is TryAgainError else "another thing"):
        train_model(table, tiny_recipe("l1"), tmp_path / "m", tmp_path / "w", QUIET)


def test_a_fold_that_fails_ends_the_others(table, tmp_path):
    recipe = tiny_recipe("l1", optimiser="sgd", lr=100.0, momentum=0.9, epochs=100_000, clip_norm=0.0)
    with pytest.raises(UsageError, match="diverged"):
        train_model(table, recipe, tmp_path / "m", tmp_path / "w", dataclasses.replace(QUIET, folds=3, workers=2))


def test_a_volume_too_small_for_the_network_is_said():
    with pytest.raises(BadDataError, match=r"24 x 28 x 24 voxels is too small .* finer"):
        effective_settings(load_recipe("sfcn-reg", ("volume.resolution=8",)), QUIET, 100)


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_only_where_the_card_has_it(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_precision("auto", torch.device("cuda")) == ("bfloat16" if native else "float32")
    assert resolve_precision("auto", torch.device("cpu")) == "float32"
    assert resolve_precision("float16", torch.device("cuda")) == "float16"


def test_broken_model_folders(folds_model, tmp_path):
    with pytest.raises(NoInputError, match=r"holds no model\.json"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_bytes((folds_model / "model.json").read_bytes())
    with pytest.raises(NoInputError, match="model folder is incomplete"):
        load_model(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadDataError, match="is no whole safetensors file"):
        load_model(tmp_path)


def test_options_are_checked():
    with pytest.raises(UsageError, match="folds is 1; it must be at least 2"):
        ModelOptions(folds=1)
    with pytest.raises(UsageError, match="precision is 'half'"):
        ModelOptions(precision="half")
    with pytest.raises(UsageError, match="do not work together"):
        ModelOptions(compile=True, recompute=True)


def test_ridge_probe_against_the_normal_equations():
    rng = np.random.default_rng(0)
    x, y, new = rng.standard_normal((9, 4)), rng.uniform(20, 80, 9), rng.standard_normal((3, 4))
    c = x - x.mean(0)
    penalty = 0.1 * (c**2).sum() / 9
    slow = (new - x.mean(0)) @ np.linalg.inv(c.T @ c + penalty * np.eye(4)) @ c.T @ (y - y.mean()) + y.mean()
    assert np.allclose(probes.ridge_probe(x, y, new), slow)


def test_a_model_of_several_datasets_knows_its_people_by_dataset_and_id(folds_model, table):
    model, person = load_model(folds_model), table.participant_id[0]
    salt = model.card["salt"]
    fold = {**model.card["members"][0], "training_participants": [hash_participant(f"here/{person}", salt)],
              "validation_participants": []}  # fmt: skip
    card = {**model.card, "dataset": "both", "members": [fold]}
    networks, held_out = {fold["name"]: model.networks["fold-1"]}, {f"there/{person}": "fold-1"}
    several = dataclasses.replace(model, card=card, networks=networks, held_out=held_out)
    scan = table.head(1).copy()
    for dataset, flags in (("here", ["in_training"]), ("there", ["out_of_fold"]), ("elsewhere", [])):
        scan.attrs["dataset"] = dataset
        assert predict_table(several, scan, QUIET, saliency=False)["flags"][0] == flags


def test_a_progress_bar_shows_the_epoch_and_its_error(capsys):
    row = {"member": "fold-1", "stage": "head", "epoch": 2, "loss": 1.25, "val_mae": 4.4}
    with _progress(True, 3, "rnc-demo") as report:
        report(row)
        report(2)
    assert "rnc-demo fold-1 head 2: loss 1.250, validation MAE 4.4 y" in " ".join(capsys.readouterr().out.split())
    with _progress(False, 3, "rnc-demo") as report:
        report(row)
    assert capsys.readouterr().out == ""
