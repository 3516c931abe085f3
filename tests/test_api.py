"""The public Python API: names, documentation, examples, and what it must refuse."""

import ast
import doctest
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from modelstudy import make_volume

import brainage_bids
from brainage_bids import accuracy, gradram, load_model, predict, preprocess, read_dataset, select_rows, train_model
from brainage_bids.app.api_tables import SELECTION
from brainage_bids.errors import BadDataError, NoInputError, UsageError
from brainage_bids.model.explain import gradram as gradram_of_network
from brainage_bids.schema import VolumeSpec

TINY = {"recipe": "pca-ridge", "settings": ["volume.resolution=8"], "device": "cpu"}


def fresh(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- names ----------------------------------------------------------------------------------------------------------


def test_importing_loads_nothing_heavy():
    fresh(
        "import sys, brainage_bids\n"
        "assert set(brainage_bids.__all__) <= set(dir(brainage_bids))\n"
        "import brainage_bids.api\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'nibabel', 'nipype'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )


def test_preprocess_is_a_function_and_a_package_whatever_is_imported_first():
    fresh(
        "import inspect\n"
        "from brainage_bids import preprocess\n"
        "import brainage_bids.preprocess.preprocess_options as options\n"
        "import brainage_bids\n"
        "from brainage_bids.preprocess import preprocess_options as same\n"
        "assert brainage_bids.preprocess is preprocess and options is same and callable(preprocess)\n"
        "assert 'output_dir' in inspect.signature(preprocess).parameters\n"
        "assert '>>> ' in inspect.getdoc(preprocess)\n"
    )
    fresh("import brainage_bids.preprocess.job\nimport brainage_bids\nassert callable(brainage_bids.preprocess)\n")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'predictions'"):
        _ = brainage_bids.predictions


def test_type_checkers_see_the_names_that_are_there():
    tree = ast.parse(Path(brainage_bids.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(one.names[0].name, one.names[0].asname, one.module) for one in block.body}
    assert {name for name, _, _ in seen} == {asname for _, asname, _ in seen} == set(brainage_bids.__all__)
    for name, _, module in seen:
        assert inspect.unwrap(getattr(brainage_bids, name)).__module__ == module


@pytest.mark.parametrize("name", brainage_bids.__all__)
def test_every_function_is_documented_and_typed(name):
    function = getattr(brainage_bids, name)
    text, signature = inspect.getdoc(function), inspect.signature(function)
    for part in ("Parameters\n-------", "Returns\n-------", "Examples\n--------", ">>> "):
        assert part in text
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.name in text


def test_preprocess_takes_what_read_dataset_takes():
    assert tuple(inspect.signature(read_dataset).parameters)[1:] == SELECTION


def test_every_example_runs(tmp_path, monkeypatch):
    """In their order in one folder: the phantom of the first is that of the others, and of docs/api.md."""
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for name in brainage_bids.__all__:
        for test in finder.find(inspect.unwrap(getattr(brainage_bids, name)), name, globs={}):
            ran = runner.run(test)
            assert ran.attempted > 1
            assert ran.failed == 0, f"the example of {name} fails; see above"
    page, known = (Path(__file__).parents[1] / "docs" / "api.md").read_text(), {}
    for piece in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        exec(piece, known)
    assert known["left_out"]["reason"].isna().sum() == 0
    assert set(known["errors"]["model"]) == {"pca-ridge", "open-adults"}


def test_the_page_names_every_function():
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
    assert [name for name in brainage_bids.__all__ if f"`{name}(" not in page] == []


# --- training and prediction ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Fourteen people, the first two with two scans; 10 controls, 4 patients."""
    folder, rng, rows = tmp_path_factory.mktemp("volumes"), np.random.default_rng(0), []
    for number in range(14):
        for session in ("ses-1", "ses-2")[: 1 + (number < 2)]:
            person, age = f"sub-{number:02d}", 20.0 + 5 * number + (session == "ses-2")
            path = folder / f"{person}_{session}_space-MNI_res-8_desc-preproc_T1w.nii.gz"
            group = "CN" if number < 10 else "AD"
            rows.append({"participant_id": person, "session_id": session, "age": age, "sex": "FM"[number % 2],
                         "group": group, "volume": str(path)})  # fmt: skip
            make_volume(path, age, rng)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory):
    return train_model(scans, model_dir=tmp_path_factory.mktemp("models") / "tiny", controls=["CN"], **TINY)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu")


def test_a_person_is_in_one_part_only_and_patients_in_none(folder, scans):
    split = pd.read_csv(folder / "split.tsv", sep="\t", keep_default_na=False).set_index("participant_id")["split"]
    assert split.index.is_unique
    assert set(split[[f"sub-{number:02d}" for number in range(10)]]) == {"train", "val", "test"}
    assert set(split[[f"sub-{number:02d}" for number in range(10, 14)]]) == {"n/a"}


def test_the_same_training_is_kept_and_leaves_no_work(folder, scans):
    before = (folder / "model.json").stat().st_mtime_ns
    assert train_model(scans, model_dir=folder, controls=["CN"], **TINY) == folder
    assert (folder / "model.json").stat().st_mtime_ns == before
    assert not (folder / "work").exists()


def test_who_was_trained_on_is_marked_and_leaves_the_tests(model, folder, scans):
    people = predict(model, scans, by_model=True)
    split = pd.read_csv(folder / "split.tsv", sep="\t").set_index("participant_id")["split"]
    used = people["participant_id"].map(split).isin(["train", "val"])
    assert (people["in_training"] == used.astype(int)).all()
    kept, _ = select_rows(people)
    assert set(kept["participant_id"]) == set(people.loc[~used, "participant_id"])
    tested = accuracy(kept, [model.name], controls=["CN"]).set_index("subset")
    assert tested.loc["all", "n"] == len(kept)


def test_labels_without_prefix_are_the_same_people(model, scans):
    plain = [person.removeprefix("sub-") for person in scans["participant_id"]]
    paths = scans["volume"].tolist()
    named, read = predict(model, paths, participant_ids=plain), predict(model, paths)
    pd.testing.assert_frame_equal(named, read)
    assert named["in_training"].sum() > 0
    assert named["bag"].isna().all()


def test_rows_keep_their_place_and_a_failed_one_its_reason(model, scans, tmp_path, caplog):
    wrong = tmp_path / "sub-77_T1w.nii.gz"
    make_volume(wrong, 40, np.random.default_rng(1), VolumeSpec.on_grid(6))
    table = scans.iloc[[3, 2, 1]].assign(volume=[None, str(wrong), scans["volume"][1]], reason=["no brain", None, None])
    table.index = [5, 5, 9]
    found = predict(model, table)
    assert found.index.tolist() == [5, 5, 9]
    assert found["status"].tolist() == ["failed", "failed", "done"]
    assert found["reason"].iloc[0] == "no brain"
    assert "preprocess the scan for this model" in found["reason"].iloc[1]
    assert found["predicted_age"].isna().tolist() == [True, True, False]
    assert "sub-01 cannot be predicted: no brain" in caplog.text


def test_a_second_model_forgets_nothing_of_the_first(model, scans):
    once = predict(model, scans, by_model=True)
    marked = predict(model, once.assign(in_training=1), by_model=True)
    assert marked["in_training"].tolist() == [1] * len(scans)


def test_the_map_adds_up_to_the_age_by_path_and_by_values(model, scans):
    path = scans["volume"][4]
    age, cells = gradram(model, path)
    network = next(iter(model.networks.values()))
    assert age == pytest.approx(predict(model, [path])["predicted_age"][0], abs=1e-4)
    assert age == pytest.approx(cells.sum(dtype=float) + float(network.head.bias), abs=1e-3)
    values = np.asarray(nib.load(path).dataobj)
    again, same = gradram(model, values)
    assert (again, same.tolist()) == (age, cells.tolist())
    assert gradram(network, values)[0] == gradram_of_network(network, values)[0]


def test_a_person_is_explained_by_the_member_that_held_the_person_out(scans, tmp_path):
    folds = load_model(train_model(scans, model_dir=tmp_path / "m", train_on="age > 0", folds=2, **TINY), device="cpu")
    path = scans["volume"][6]
    found = predict(folds, scans)
    assert found["flags"].str.contains("out_of_fold").all()
    assert not found["in_training"].any()
    assert gradram(folds, path)[0] == pytest.approx(found["predicted_age"][6], abs=1e-4)
    values = np.asarray(nib.load(path).dataobj)
    with pytest.raises(UsageError, match=r"has 2 members.*participant_id"):
        gradram(folds, values)
    assert gradram(folds, values, participant_id="04")[0] == gradram(folds, path)[0]


def test_each_value_of_a_column_is_left_out_in_turn(scans, tmp_path):
    table = scans.assign(scanner=[float(person[-1] in "13579") for person in scans["participant_id"]])
    folder = train_model(table, model_dir=tmp_path / "m", train_on="age > 0", folds="scanner", **TINY)
    model = load_model(folder, device="cpu")
    assert [member["left_out"] for member in model.card["members"]] == ["scanner=0", "scanner=1"]
    assert predict(model, table)["flags"].str.contains("out_of_fold").all()
    for folds, message in (("scaner", "the table has no column 'scaner'"), (1, "folds is 1; it must be at least 2")):
        with pytest.raises(UsageError, match=message):
            train_model(table, model_dir=tmp_path / "n", train_on="age > 0", folds=folds, **TINY)


def test_failed_and_poor_scans_do_not_train(scans, tmp_path, caplog):
    table = scans.assign(qc_pass=[False] + [None] * 2 + [True] * 13)
    table.loc[15, "volume"] = None
    where = train_model(table, model_dir=tmp_path / "m", train_on="age > 0", **TINY)
    people = pd.read_csv(where / "split.tsv", sep="\t").set_index("participant_id")["trainable"]
    assert "sub-13" not in people.index
    assert "1 of 16 rows have no volume" in caplog.text
    assert people["sub-00"] == people["sub-01"] == True  # noqa: E712  sub-00 has another scan
    assert json.loads((where / "model.json").read_text())["training"]["n"] <= 13


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({"age": None}, {}, "no column 'age' .*participant_id"),
        ({}, {}, "groups are AD, CN, the controls not named; give controls"),
        ({}, {"controls": ["HC"]}, "groups are AD, CN, the controls HC"),
        ({}, {"train_on": "diagnosis == 'CN'"}, "diagnosis"),
        ({}, {"controls": "CN", "recipe": "pca-rigde"}, "pca-rigde.*pca-ridge"),
    ],
)
def test_a_training_that_cannot_be_is_refused(scans, tmp_path, change, more, words):
    table = scans.drop(columns=list(change))
    with pytest.raises(UsageError, match=words):
        train_model(table, model_dir=tmp_path / "m", **{**TINY, **more})
    assert not (tmp_path / "m").exists()


def test_ages_ids_and_folders_are_looked_at(scans, tmp_path):
    with pytest.raises(UsageError, match=r"an age is no number of years .*89\+"):
        train_model(scans.astype({"age": object}).replace({"age": {20.0: "89+"}}), model_dir=tmp_path / "m", **TINY)
    with pytest.raises(UsageError, match="no participant_id"):
        train_model(scans.assign(participant_id=None), model_dir=tmp_path / "m", **TINY)
    with pytest.raises(UsageError, match="is in two rows"):
        train_model(pd.concat([scans, scans]), model_dir=tmp_path / "m", train_on="age > 0", **TINY)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(UsageError, match="full holds something else than a model"):
        train_model(scans, model_dir=tmp_path / "full", train_on="age > 0", **TINY)
    with pytest.raises(BadDataError, match=r"people .* can train, but at least 4"):
        train_model(scans, model_dir=tmp_path / "m", train_on="age < 30", **TINY)


def test_a_volume_of_nobody_is_not_predicted(model, scans, tmp_path):
    nobody = tmp_path / "brain.nii.gz"
    make_volume(nobody, 40, np.random.default_rng(1))
    with pytest.raises(UsageError, match=r"brain.nii.gz has no participant label.*participant_ids"):
        predict(model, [str(nobody)])
    with pytest.raises(UsageError, match="ages has 1 values for 2 volumes"):
        predict(model, scans["volume"][:2].tolist(), ages=[40.0])
    with pytest.raises(UsageError, match="a table has columns participant_id and age"):
        predict(model, scans, ages=[40.0])
    with pytest.raises(BadDataError, match=r"shape \(3, 3, 3\), but the model pca-ridge needs \(24, 28, 24\)"):
        gradram(model, np.ones((3, 3, 3)))


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NoInputError, match=r"'open-adult' is neither a folder nor .*open-adults"):
        load_model("open-adult")
    with pytest.raises(NoInputError, match=r"holds no model.json"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"resolution": 0}, "resolution is 0; .*0.5 to 16 mm"),
        ({"resolution": float("nan")}, "resolution is nan"),
        ({"resolution": 2, "model": "open-adults"}, "resolution and model each set the grid"),
        ({"nprocs": 0}, "nprocs is 0"),
        ({"participant": "01"}, "'participant' is no argument.*participants"),
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused(tmp_path, more, words):
    with pytest.raises(UsageError, match=words):
        preprocess(tmp_path / "bids", tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NoInputError, match="nowhere"):
        read_dataset(tmp_path / "nowhere")
