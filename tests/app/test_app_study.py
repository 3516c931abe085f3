"""A study is ordinary runs side by side: named, resumable, compared on people none of them trained on."""

import shlex

import pytest
from commandline import run_here

from brainage_bids.app.recipe_study import StudyOptions, compare, list_runs, run_study
from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.bids.outputs import Outputs, is_study_model
from brainage_bids.errors import BadDataError, ParticipantsFailed, UsageError


def options(tmp_path, kind="batch-size", values=(), seeds=(1,), more=(), recipe="rnc-lowrez"):
    return StudyOptions(kind, tmp_path / "bids", tmp_path / "out", recipe, values, seeds, more)


def test_every_value_and_seed_is_a_command_of_its_own(tmp_path):
    lines = list_runs(options(tmp_path, seeds=(1, 2), more=("--control", "CN")))
    assert len(lines) == 8
    words = shlex.split(lines[-1])
    assert words[0] == "brainage-bids"
    assert words[3] == "participant"
    assert "training.batch_size=48" in words
    assert "name=rnc-lowrez_batch-size-48_seed-2" in words
    assert words[-4:] == ["--random-seed", "2", "--control", "CN"]


@pytest.mark.parametrize(("kind", "key", "count"), [
    ("batch-size", "training.batch_size", 4), ("depth", "network.depth", 3), ("resolution", "volume.resolution", 2),
    ("augmentation", "augmentation.enabled", 2),
])  # fmt: skip
def test_kinds_of_the_paper(tmp_path, kind, key, count):
    lines = list_runs(options(tmp_path, kind))
    assert len(lines) == count
    assert all(f"{key}=" in line for line in lines)


@pytest.mark.parametrize(("recipe", "sizes"), [
    ("rnc-highrez", ["8", "16", "24"]), ("rnc-lowrez", ["16", "24", "32", "48"]), ("rnc-demo", ["6", "12", "24", "48"]),
])  # fmt: skip
def test_batch_sizes_are_those_of_figure_3(tmp_path, recipe, sizes):
    assert [value for value, *_ in options(tmp_path, recipe=recipe).runs()] == sizes
    assert [value for value, *_ in options(tmp_path, recipe=recipe, values=("4", "9")).runs()] == ["4", "9"]


def test_wrong_kinds(tmp_path):
    with pytest.raises(UsageError, match="study 'batchsize' is unknown"):
        list_runs(options(tmp_path, "batchsize"))
    with pytest.raises(UsageError, match=r"training.lr needs --values"):
        list_runs(options(tmp_path, "training.lr"))
    assert len(list_runs(options(tmp_path, "training.lr", ("0.1", "0.01")))) == 2


def test_study_models_are_known_by_name():
    assert is_study_model("rnc-lowrez_batch-size-48_seed-2")
    assert not is_study_model("rnc-lowrez")


def test_failed_runs_are_named_and_the_others_compared(tmp_path):
    def run(argv):
        if "training.batch_size=6" in argv:
            raise BadDataError("too few people")

    with pytest.raises(ParticipantsFailed, match="1 runs of the study failed"):
        run_study(options(tmp_path, values=("6", "12")), run)
    table = read_tsv(Outputs(tmp_path / "out").study("rnc-lowrez_batch-size"))
    assert list(table.note) == ["too few people", "not run"]


def test_the_seeds_of_a_study_come_from_one_place(tmp_path):
    for more in (("--random-seed", "5"), ("--random-seed=5",)):
        with pytest.raises(UsageError, match="--seeds"):
            list(options(tmp_path, values=("6", "12"), more=more).runs())


def test_a_study_by_the_command_line(own_study):
    done = run_here("study", "ridge.components", own_study.bids, own_study.out, "--train", "pca-ridge", "--values", "0",
                    "1", "--folds", "2", "--nprocs", "1", program="brainage-tools")  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs = Outputs(own_study.out)
    table = read_tsv(outputs.study("pca-ridge_ridge.components"))
    assert list(table.status) == ["ok", "ok"]
    assert float(table.mae_diff[1]) == pytest.approx(float(table.mae[1]) - float(table.mae[0]))
    assert outputs.study("pca-ridge_ridge.components").with_suffix(".png").is_file()
    names = sorted(path.parent.name for path in outputs.models.glob("*_seed-*/model.json"))
    assert [name.split("_")[1] for name in names] == ["ridge.components-0", "ridge.components-1"]
    card = read_json(outputs.model(names[0]) / "model.json")
    assert card["test"] is None
    assert float(table.mae[0]) == pytest.approx(card["validation"]["mae"])


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_run_whose_model_cannot_be_read_is_a_row_with_the_reason(content, tmp_path):
    options = StudyOptions("depth", tmp_path, tmp_path, "rnc-demo", ("18",), (1,))
    folder = Outputs(tmp_path).model(next(options.runs())[2])
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(content)
    table = read_tsv(compare(options, {}))
    assert len(table) == 1
    assert "cannot be used" in table.note[0]
