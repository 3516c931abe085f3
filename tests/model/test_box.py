"""A model that reads only the box of the brain: what the box is, and that nothing else moves."""

import dataclasses
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from modelstudy import SPEC, make_table, tiny_recipe

from brainage_bids import gradram as gradram_of
from brainage_bids.bids.files import read_json, write_json
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.bids.volumes import check_spec
from brainage_bids.errors import BadDataError
from brainage_bids.model.box import MARGIN_MM, MOST_OUTSIDE, brain_box, share_outside
from brainage_bids.model.build import build_network
from brainage_bids.model.dataset import cache_volumes, load_volume, load_whole, open_volumes
from brainage_bids.model.explain import gradram, map_affine
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.predict import load_model, predict_table
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.recipe_files import load_recipe, recipe_names
from brainage_bids.model.train import train_model
from brainage_bids.schema import DEFAULT_BRAIN_MM, VolumeSpec

QUIET = ModelOptions(device="cpu", progress=False)
PAPERS_BOX = ((17, 176), (20, 211), (4, 163))  # of rnc-highrez; models know their box by it


def tiny_boxed_recipe():
    """A small network on an 8 mm grid, coarse enough for a box of every fourth voxel."""
    values = tiny_recipe().to_dict()
    values["volume"]["crop"], values["network"]["stage_strides"] = "brain", [2, 1, 1, 1]
    return Recipe.from_dict(values)


def test_hashes_of_before_hold():
    known = {1: "e8bbbeb6c57c3d23", 2: "77f5330b19e47404", 4: "b5a5380b6723a198"}
    assert {mm: VolumeSpec.on_grid(mm).fingerprint for mm in known} == known
    assert load_recipe("rnc-highrez").settled()["volume"] == {"resolution": 1.0}
    assert load_recipe("pca-ridge").settled()["volume"] == load_recipe("rnc-demo").settled()["volume"]
    old = load_recipe("rnc-highrez").to_dict()
    old["volume"] = {key: old["volume"][key] for key in ("resolution", "template", "intensity", "template_sha")}
    assert Recipe.from_dict(old) == load_recipe("rnc-highrez")
    assert load_recipe("rnc-highrez", ["volume.crop=brain"]).settled()["volume"] == {"resolution": 1.0, "crop": "brain"}


def test_a_spec_with_a_box_survives_json():
    spec = load_recipe("rnc-highrez", ["volume.crop=brain"]).spec
    assert spec.box == PAPERS_BOX
    assert spec.to_dict()["box"] == [[17, 176], [20, 211], [4, 163]]
    read = check_spec(json.loads(json.dumps(spec.to_dict())), "model.json")
    assert read == spec
    assert hash(read) == hash(spec)
    assert spec.whole == VolumeSpec.on_grid(1) == spec.whole.whole.cropped
    assert "box" not in spec.whole.to_dict()
    assert spec.fingerprint != spec.whole.fingerprint
    assert (spec.shape, spec.affine) == (spec.whole.shape, spec.whole.affine)
    assert spec.cropped.shape == (160, 192, 160)
    first = np.array(spec.affine) @ [17, 20, 4, 1]
    assert np.allclose(np.array(spec.cropped.affine)[:, 3], first)


@pytest.mark.parametrize("name", [name for name in recipe_names() if "noaug" not in name])
def test_a_box_holds_the_brain_in_steps_of_the_stride(name):
    recipe = load_recipe(name, ["volume.crop=brain"])
    spec, stride = recipe.spec, recipe.total_stride
    with torch.device("meta"):
        network = build_network(recipe)
    assert network.total_stride == stride
    for axis, ((first, last), side) in enumerate(zip(spec.box, spec.shape, strict=True)):
        assert 0 <= first < last < side
        low, high = (spec.origin[axis] + at * spec.resolution for at in (first - 0.5, last + 0.5))
        assert low <= DEFAULT_BRAIN_MM[2 * axis] - MARGIN_MM
        assert high >= DEFAULT_BRAIN_MM[2 * axis + 1] + MARGIN_MM
        assert (last - first + 1) % stride == 0 or (first, last) == (0, side - 1)


def test_a_box_stays_within_the_grid():
    spec = VolumeSpec.on_grid(8)
    assert spec.shape == (24, 28, 24)
    assert brain_box(spec, (-90, 90, -130, 90, -76, 110), 5) == ((0, 23), (0, 27), (0, 23))  # 25 do not fit
    assert brain_box(spec, (-100, 12, -107, 73, -72, 82), 8)[0] == (0, 15)  # no room on the left
    assert brain_box(spec, (-22, 100, -107, 73, -72, 82), 8)[0] == (8, 23)  # nor on the right
    assert brain_box(spec, DEFAULT_BRAIN_MM, 32) == ((0, 23), (0, 27), (0, 23))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def box_model(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("box")
    return train_model(table, tiny_boxed_recipe(), folder / "m", folder / "w", QUIET)


def test_what_is_loaded_is_a_part_of_the_volume(table, tmp_path):
    spec = dataclasses.replace(SPEC, box=((2, 18), (3, 27), (0, 16)))
    whole, read = load_whole(table.volume[0], spec), load_volume(table.volume[0], spec)
    assert np.array_equal(whole, load_volume(table.volume[0], SPEC))
    assert np.array_equal(read, whole[2:19, 3:28, 0:17])
    assert read.shape == spec.cropped.shape
    kept = open_volumes(cache_volumes(list(table.volume[:2]), spec, tmp_path))
    assert kept.shape == (2, 17, 25, 17)
    assert np.array_equal(kept[0], read.astype(np.float16))
    assert cache_volumes(list(table.volume[:2]), SPEC, tmp_path) != cache_volumes(
        list(table.volume[:2]), spec, tmp_path
    )
    with pytest.raises(BadDataError, match="only zeros in the box that the model reads"):
        load_volume(table.volume[0], dataclasses.replace(SPEC, box=((0, 1), (0, 1), (0, 1))))


def test_a_boxed_model_places_its_map_right(box_model, table):
    spec = load_model(box_model).spec
    assert spec.box == ((3, 22), (3, 26), (1, 20))
    row = predict_table(box_model, table.head(1), QUIET).iloc[0]
    image, sidecar = nib.load(table.saliency[0]), read_json(sidecar_path(Path(table.saliency[0])))
    assert np.allclose(image.affine, np.array(spec.cropped.affine) @ np.diag([4, 4, 4, 1]))
    assert image.affine[0, 3] == -96 + 3 * 8
    assert image.shape == (5, 6, 5)
    assert image.get_fdata().sum() + sidecar["Bias"] == pytest.approx(row.predicted_age, abs=1e-4)
    assert VolumeSpec.from_dict(sidecar["VolumeSpec"]) == spec
    card = (box_model / "MODEL_CARD.md").read_text()
    assert "the network reads the box of 20 x 24 x 20 voxels around the template's brain" in card


def test_the_python_door_takes_the_volume_whole_or_cropped(box_model, table):
    model, path = load_model(box_model), table.volume[0]
    age, cells = gradram_of(model, path, participant_id="sub-00")
    for values in (load_whole(path, model.spec), load_volume(path, model.spec)):
        again, same = gradram_of(model, values, participant_id="sub-00")
        assert again == age
        assert np.array_equal(same, cells)
    with pytest.raises(BadDataError, match=r"shape \(19, 24, 20\), but the model tiny-rnc needs"):
        gradram_of(model, load_volume(path, model.spec)[1:])


@pytest.mark.parametrize("crop", ["none", "brain"])
@pytest.mark.parametrize("where", [(48.0, -36.0, 18.0), (-32.0, -80.0, -14.0), (16.0, 32.0, 50.0)])
def test_a_bright_ball_is_shown_where_it_is(crop, where, tmp_path):
    # every layer passes on what is bright, so the mass of the map lies where the ball does, in mm
    recipe = load_recipe("rnc-demo", [f"volume.crop={crop}", "network.depth=10", "network.width=2"])
    network = build_network(recipe).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.endswith("bias"):
                parameter.fill_(0.01)
    spec = recipe.spec
    world = np.array(spec.origin)[:, None, None, None] + spec.resolution * np.indices(spec.shape)
    ball = (np.linalg.norm(world - np.array(where)[:, None, None, None], axis=0) < 16).astype(np.float32)
    path = tmp_path / "sub-1_T1w.nii.gz"
    nib.save(nib.Nifti1Image(ball, spec.affine), path)
    write_json(sidecar_path(path), {"VolumeSpec": spec.whole.to_dict()})
    _, cells = gradram(network, load_volume(path, spec))
    affine = map_affine(network, spec.cropped.affine)
    peak = affine @ [*np.unravel_index(cells.argmax(), cells.shape), 1]
    assert np.abs(peak[:3] - where).max() <= 16 + 1e-6  # half a cell of 32 mm


def test_who_is_cut_by_the_box_is_flagged(box_model, table, tmp_path):
    spec = load_model(box_model).spec
    data = np.zeros(spec.shape, dtype=np.float32)
    data[spec.slices] = load_volume(table.volume[0], spec)
    inside = np.count_nonzero(data[spec.slices])
    few, many = int(MOST_OUTSIDE * inside * 0.9), math.ceil(MOST_OUTSIDE * inside * 1.1) + 1
    rows = []
    for name, count in (("few", few), ("many", many)):
        outside = data.copy()
        outside[:3].ravel()[:count] = 0.5  # the box begins at the fourth voxel along x
        assert share_outside(outside, spec) == pytest.approx(count / (inside + count))
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(outside, spec.affine), path)
        write_json(sidecar_path(path), {"VolumeSpec": SPEC.to_dict()})
        rows.append(str(path))
    people = table.head(2).assign(participant_id=["sub-new", "sub-newer"], volume=rows, age=None)
    predicted = predict_table(box_model, people, QUIET, saliency=False)
    assert list(predicted["flags"]) == [[], ["brain_cropped"]]
    assert predicted.predicted_age[0] == predicted.predicted_age[1]  # the model does not see it


def test_a_volume_of_the_box_is_no_volume_on_disk(box_model, table, tmp_path):
    spec, path = load_model(box_model).spec, tmp_path / "box.nii.gz"
    nib.save(nib.Nifti1Image(load_volume(table.volume[0], spec), spec.cropped.affine), path)
    write_json(sidecar_path(path), {"VolumeSpec": spec.to_dict()})
    with pytest.raises(BadDataError, match="preprocess the scan for this model"):
        load_volume(path, spec)
