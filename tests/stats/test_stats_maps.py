import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from brainage_bids.errors import BadDataError, NoInputError
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats.maps import axis_weights, maps_grid, mean_maps, resample, subsets

GRID = VolumeSpec("MNI152NLin2009aSym", 4.0, (20, 24, 18), (-40.0, -50.0, -30.0))
CELLS = np.array([[32.0, 0, 0, -40], [0, 32.0, 0, -50], [0, 0, 32.0, -30], [0, 0, 0, 1]])


@pytest.fixture
def mask():
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[2:-2, 3:-3, 2:-3] = True
    return inside


def write(folder, values, affine=CELLS):
    path = folder / f"map{len(list(folder.glob('*.nii.gz')))}.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(values, dtype="float64"), affine), path)
    return path


def people(folder, maps):
    n = len(maps)
    ages, sexes, groups = [25.0, 85.0, 30.0, np.nan], ["F", "M", None, "F"], ["CN", "AD", "AD", None]
    paths = [str(write(folder, values)) for values in maps]
    return pd.DataFrame({"map": paths, "age": ages[:n], "sex": sexes[:n], "group": groups[:n]})


def random_maps(n=4):
    return list(np.random.default_rng(1).normal(0.2, 1, (n, 3, 4, 3)))


def world_trilinear(values, affine):
    """The slow way: every voxel's world position, mapped to cell coordinates, one at a time by scipy."""
    index = np.indices(GRID.shape).reshape(3, -1)
    world = np.array(GRID.affine) @ np.vstack([index, np.ones(index.shape[1])])
    cell = (np.linalg.inv(affine) @ world)[:3]
    return ndimage.map_coordinates(values, cell, order=1, mode="nearest").reshape(GRID.shape)


def load(table, subset, kind):
    path = table.set_index(["subset", "kind"]).loc[(subset, kind), "path"]
    return nib.load(path)


@pytest.mark.parametrize("flip", [False, True])
def test_resampling_equals_scipy_in_world_space(flip):
    affine = CELLS.copy()
    if flip:
        affine[0, 0], affine[0, 3] = -32.0, 24.0
    values = random_maps(1)[0]
    got = resample(values, axis_weights(affine, values.shape, GRID))
    np.testing.assert_allclose(got, world_trilinear(values, affine), atol=1e-12)


def test_cell_centres_keep_their_value_and_place():
    values = np.zeros((3, 4, 3))
    values[1, 2, 1] = 5.0
    grid = resample(values, axis_weights(CELLS, values.shape, GRID))
    assert np.unravel_index(grid.argmax(), grid.shape) == (8, 16, 8)  # 32 mm cells on 4 mm voxels
    assert grid.max() == 5.0


def test_constant_map_stays_constant_beyond_the_edge():
    weights = axis_weights(CELLS, (2, 1, 2), GRID)
    np.testing.assert_allclose(resample(np.full((2, 1, 2), 3.0), weights), 3.0)


def test_means_equal_the_slow_way(tmp_path, mask):
    maps = random_maps()
    maps[2] = -np.abs(maps[2])  # nothing positive
    records = people(tmp_path, maps)
    table = mean_maps(records, GRID, mask, lambda subset, kind: tmp_path / "out" / f"{subset}_{kind}.nii.gz", "m")
    scaled = []
    for values in maps:
        volume = world_trilinear(np.maximum(values, 0), CELLS)
        low, high = volume[mask].min(), volume[mask].max()
        scaled.append(np.where(mask, (volume - low) / (high - low), 0) if high > low else np.zeros(GRID.shape))
    members = {
        "group=all": [0, 1, 2, 3],
        "age=[20,40)": [0, 2],
        "age=[80,inf)": [1],
        "sex=F": [0, 3],
        "group=AD": [1, 2],
    }
    for subset, who in members.items():
        np.testing.assert_allclose(
            load(table, subset, "mean").get_fdata(), np.mean([scaled[i] for i in who], axis=0), atol=1e-6
        )
        signed = np.mean([world_trilinear(maps[i], CELLS) for i in who], axis=0) * mask
        np.testing.assert_allclose(load(table, subset, "signed").get_fdata(), signed, atol=1e-6)
    counts = table.drop_duplicates("subset").set_index("subset")
    assert set(counts.index) == {*members, "sex=M", "group=CN"}
    assert counts.loc["group=all", ["n", "n_empty"]].tolist() == [4, 1]
    assert counts.loc["group=AD", ["n", "n_empty"]].tolist() == [2, 1]
    assert counts.loc["sex=F", "n_empty"] == 0


def test_one_person_spans_zero_to_one_inside_the_mask_only(tmp_path, mask):
    table = mean_maps(people(tmp_path, random_maps(1)), GRID, mask, lambda s, k: tmp_path / f"{s}-{k}.nii", "m")
    image = load(table, "group=all", "mean")
    assert (image.get_fdata()[mask].min(), image.get_fdata()[mask].max()) == pytest.approx((0, 1), abs=1e-6)
    assert not image.get_fdata()[~mask].any()
    np.testing.assert_allclose(image.affine, GRID.affine)
    assert image.get_sform(coded=True)[1] == 4
    assert list(table.columns) == ["model", "subset", "n", "n_empty", "kind", "path"]


def test_maps_above_zero_everywhere_span_zero_to_one_too(tmp_path, mask):
    maps = [3 + np.abs(values) for values in random_maps(2)]
    records = people(tmp_path, maps).assign(age=[15.0, 25.0], group="CN")
    table = mean_maps(records, GRID, mask, lambda s, k: tmp_path / f"{s}-{k}.nii", "m", ["CN"])
    one = load(table, "age=<20", "mean").get_fdata()[mask]
    assert (one.min(), one.max()) == pytest.approx((0, 1), abs=1e-6)
    both = load(table, "group=all", "mean").get_fdata()[mask]
    other = load(table, "age=[20,40)", "mean").get_fdata()[mask]
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)


def test_flat_map_has_no_contrast_and_counts_as_empty(tmp_path, mask):
    table = mean_maps(people(tmp_path, [np.ones((3, 4, 3))]), GRID, mask, lambda s, k: tmp_path / f"{s}-{k}.nii", "m")
    assert table["n_empty"].tolist()[:2] == [1, 1]
    np.testing.assert_allclose(load(table, "group=all", "signed").get_fdata()[mask], 1.0)


def test_mask_from_a_file(tmp_path, mask):
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype("uint8"), np.array(GRID.affine)), path)
    records = people(tmp_path, random_maps(2))
    a = mean_maps(records, GRID, path, lambda s, k: tmp_path / f"a{s}-{k}.nii", "m")
    b = mean_maps(records, GRID, mask, lambda s, k: tmp_path / f"b{s}-{k}.nii", "m")
    for kind in ("mean", "signed"):
        np.testing.assert_array_equal(load(a, "group=all", kind).get_fdata(), load(b, "group=all", kind).get_fdata())
    nib.save(nib.Nifti1Image(mask.astype("uint8"), np.eye(4)), path)
    with pytest.raises(BadDataError, match="not on the grid"):
        mean_maps(records, GRID, path, lambda s, k: tmp_path / "x.nii", "m")


def test_nobody_gives_an_empty_table(mask):
    records = pd.DataFrame({"map": [], "age": [], "sex": [], "group": []})
    assert len(mean_maps(records, GRID, mask, lambda s, k: s, "m")) == 0


def test_faults_are_named(tmp_path, mask):
    def run(records, inside=mask):
        return mean_maps(records, GRID, inside, lambda s, k: tmp_path / f"out{s}-{k}.nii", "m")

    records = people(tmp_path, random_maps(2))
    with pytest.raises(BadDataError, match="does not fit the grid"):
        run(records, mask[1:])
    with pytest.raises(NoInputError, match=r"gone\.nii is missing"):
        run(records.assign(map=[records["map"][0], str(tmp_path / "gone.nii")]))
    for values, affine, match in (
        (np.ones((2, 4, 3)), CELLS, "other cells"),
        (np.full((3, 4, 3), np.nan), CELLS, "not a finite 3D map"),
        (np.ones((3, 4, 3)), CELLS @ np.diag([2, 1, 1, 1]), "other cells"),
    ):
        with pytest.raises(BadDataError, match=match):
            run(records.assign(map=[records["map"][0], str(write(tmp_path, values, affine))]))
    oblique = CELLS.copy()
    oblique[0, 1] = 3.0
    with pytest.raises(BadDataError, match="oblique"):
        run(records.assign(map=str(write(tmp_path, np.ones((3, 4, 3)), oblique))))


def test_grid_is_never_finer_than_two_millimetres():
    assert maps_grid(VolumeSpec()) == VolumeSpec.on_grid(2)
    assert maps_grid(GRID) is GRID


def test_ages_and_sexes_are_those_of_the_controls_where_there_are_any():
    records = pd.DataFrame({"age": [25, 30, 45, 85], "sex": ["F", "M", "F", "M"], "group": ["CN", "CN", "AD", "AD"]})
    found = {label: member.tolist() for label, member in subsets(records, ["CN"])}
    assert found["group=all"] == [True] * 4
    assert found["age=[20,40)"] == [True, True, False, False]
    assert found["sex=F"] == [True, False, False, False]
    assert found["group=AD"] == [False, False, True, True]
    assert "age=[80,inf)" not in found  # only a patient
    assert dict(subsets(records))["age=[80,inf)"].tolist() == [False, False, False, True]


def test_a_faint_map_counts_like_a_strong_one(tmp_path, mask):
    (strong,) = random_maps(1)
    found = []
    for name, values in (("strong", strong), ("faint", strong * 1e-8)):
        table = mean_maps(
            people(tmp_path, [values]), GRID, mask, lambda s, k, n=name: tmp_path / f"{n}{s}-{k}.nii", "m"
        )
        assert table["n_empty"].tolist() == [0] * len(table)
        found.append(load(table, "group=all", "mean").get_fdata())
    np.testing.assert_allclose(*found, atol=1e-6)
