"""Region tables of Grad-RAM maps, against the slow way: every map brought to the grid, every voxel looked at."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from brainage_bids.result_tables import SALIENCY_REGIONS
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats import saliency
from brainage_bids.stats.maps import axis_weights, mean_maps, resample, subsets
from brainage_bids.stats.region_contrasts import saliency_contrasts
from brainage_bids.stats.saliency import RegionReader, Regions, saliency_regions

GRID = VolumeSpec("MNI152NLin2009aSym", 4.0, (20, 24, 18), (-40.0, -50.0, -30.0))
CELLS = np.array([[32.0, 0, 0, -40], [0, 32.0, 0, -50], [0, 0, 32.0, -30], [0, 0, 0, 1]])
NAMES = {11: "Part_L", 12: "Part_R", 30: "Tiny", 99: "Gone"}


@pytest.fixture
def regions():
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[2:-2, 3:-3, 2:-3] = True
    labels = np.zeros(GRID.shape, dtype=np.int32)
    labels[3:9, 4:15, 4:12] = 11
    labels[11:17, 4:15, 4:12] = 12
    labels[10, 18, 8] = 30
    labels[0, 0, 0] = 99  # outside the brain
    return Regions(NAMES, {11: "L", 12: "R", 30: "both", 99: "both"}, np.where(inside, labels, 0), inside, GRID)


def people(folder, n=12, seed=1):
    rng = np.random.default_rng(seed)
    maps = [rng.normal(0.2, 1, (3, 4, 3)) for _ in range(n)]
    maps[2] = -np.abs(maps[2])  # nothing positive
    paths = []
    for i, values in enumerate(maps):
        paths.append(str(folder / f"map{i}.nii.gz"))
        nib.save(nib.Nifti1Image(values, CELLS), paths[-1])
    ages = np.linspace(25, 85, n)
    table = pd.DataFrame(
        {"map": paths, "age": ages, "sex": ["F", "M"] * (n // 2), "group": ["CN"] * 6 + ["AD"] * (n - 6)}
    )
    return maps, table


def run(tmp_path, regions, records):
    reader = RegionReader(regions, subsets(records))
    mean_maps(records, GRID, regions.inside, lambda s, k: tmp_path / "o" / f"{s}{k}.nii.gz", "m", visit=reader)
    return reader


def slowly(maps, regions):
    """Normalised, and signed in years, of every voxel of every person."""
    weights = axis_weights(CELLS, (3, 4, 3), GRID)
    normalised, signed = [], []
    for values in maps:
        grid = resample(np.maximum(values, 0), weights)
        low, high = grid[regions.inside].min(), grid[regions.inside].max()
        normalised.append((grid - low) / (high - low) if values.max() > 0 else np.zeros(GRID.shape))
        # every cell spread over the voxels it is interpolated to, its years divided among them
        spread = np.zeros(GRID.shape)
        for cell in np.ndindex(3, 4, 3):
            one = np.zeros((3, 4, 3))
            one[cell] = 1.0
            share = resample(one, weights)
            spread += values[cell] * share / share.sum()
        signed.append(spread)
    return np.array(normalised), np.array(signed)


def test_values_equal_the_slow_way(tmp_path, regions):
    maps, records = people(tmp_path)
    reader = run(tmp_path, regions, records)
    normalised, signed = slowly(maps, regions)
    got = np.array(reader.normalised)
    for column, label in enumerate(NAMES):
        where = regions.labels == label
        if not where.any():
            assert np.isnan(got[:, column]).all()
            continue
        np.testing.assert_allclose(got[:, column], normalised[:, where].mean(axis=1), atol=1e-12)
        years = np.array(reader.up)[:, column] + np.array(reader.down)[:, column]
        np.testing.assert_allclose(years, signed[:, where].sum(axis=1), atol=1e-12)
    assert list(np.flatnonzero(reader.empty)) == [2]
    assert reader.n_cells.tolist()[2:] == [1, 0]
    assert reader.volume_ml.tolist() == [6 * 11 * 8 * 0.064, 6 * 11 * 8 * 0.064, 0.064, 0.0]


def test_years_of_the_whole_grid_add_up_to_the_map(tmp_path):
    everywhere = Regions({1: "all"}, {1: "both"}, np.ones(GRID.shape, np.int32), np.ones(GRID.shape, bool), GRID)
    maps, records = people(tmp_path)
    reader = run(tmp_path, everywhere, records)
    years = np.array(reader.up)[:, 0] + np.array(reader.down)[:, 0]
    np.testing.assert_allclose(years, [values.sum() for values in maps], atol=1e-10)


def test_table_describes_every_group(tmp_path, regions):
    _, records = people(tmp_path)
    reader = run(tmp_path, regions, records)
    table = saliency_regions(reader, "m", threshold=0.3)
    assert list(table.columns) == SALIENCY_REGIONS.columns
    assert len(table) == len(NAMES) * len(subsets(records))
    assert set(table.group_by) == {"all", "age", "sex", "group"}
    values = np.array(reader.normalised)
    row = table[(table.group == "CN") & (table.name == "Part_L")].iloc[0]
    of_cn = values[:6, 0]
    assert row["n"] == 6
    assert row["n_empty"] == 1
    assert row["mean"] == pytest.approx(of_cn.mean())
    assert row["sd"] == pytest.approx(of_cn.std(ddof=1))
    low, high = stats.t.interval(0.95, 5, of_cn.mean(), stats.sem(of_cn))
    assert (row["ci_lo"], row["ci_hi"]) == pytest.approx((low, high))
    assert row["median"] == pytest.approx(np.median(of_cn))
    assert row["above_threshold"] == float(of_cn.mean() >= 0.3)
    everyone = table[(table.group_by == "all") & (table.status == "ok")]
    order = everyone.sort_values("mean", ascending=False)["name"].tolist()
    assert everyone.sort_values("rank")["name"].tolist() == order
    assert everyone["contribution_years"].tolist() == pytest.approx(
        (everyone.contribution_up_years + everyone.contribution_down_years).tolist()
    )
    left, right = (everyone[everyone.name == f"Part_{side}"].iloc[0] for side in "LR")
    want = (left["mean"] - right["mean"]) / (left["mean"] + right["mean"])
    assert left["laterality_index"] == right["laterality_index"] == pytest.approx(want)
    assert np.isnan(everyone[everyone.name == "Tiny"]["laterality_index"].iloc[0])
    gone, tiny = (table[table.name == name].iloc[0] for name in ("Gone", "Tiny"))
    without = {"model", "group_by", "group", "n", "n_empty", "index", "name", "hemisphere", "volume_ml", "n_cells"}
    assert set(gone[gone.notna()].index) == without | {"status", "note"}
    assert (gone["status"], gone["note"]) == (
        "skipped", "no voxel of this region inside the brain on the grid of the maps"
    )  # fmt: skip
    assert (tiny["status"], tiny["note"]) == (
        "ok", "one cell of the map: the model cannot tell the region from its neighbours"
    )  # fmt: skip
    assert (row["status"], row["note"], row["hemisphere"], row["index"]) == ("ok", "", "L", 11)
    assert set(row[row.notna()].index) == set(SALIENCY_REGIONS.columns)


def test_group_norm_is_the_mean_map_normalised_once(tmp_path, regions):
    maps, records = people(tmp_path)
    table = saliency_regions(run(tmp_path, regions, records), "m")
    mean = resample(np.mean([np.maximum(v, 0) for v in maps], axis=0), axis_weights(CELLS, (3, 4, 3), GRID))
    low, high = mean[regions.inside].min(), mean[regions.inside].max()
    want = ((mean - low) / (high - low))[regions.labels == 12].mean()
    got = table[(table.group_by == "all") & (table.name == "Part_R")]["groupnorm_mean"].iloc[0]
    assert got == pytest.approx(want, abs=1e-12)


def test_ranks_have_an_interval_that_narrows_with_people(tmp_path, regions):
    rng = np.random.default_rng(0)

    def widths(n):
        reader = RegionReader(regions, [("group=all", np.ones(n, bool))])
        reader.volume_ml, reader.n_cells = np.array([1.0, 1, 1, 0]), np.array([2, 2, 2, 0])
        reader.of_group = lambda place: np.zeros(4)
        centre = np.array([0.50, 0.52, 0.54, np.nan])
        reader.normalised = list(centre + rng.normal(0, 0.1, (n, 4)))
        reader.up, reader.down, reader.empty = reader.normalised, reader.normalised, [False] * n
        ends = saliency_regions(reader, "m")["rank_ci"].dropna()
        return [int(high) - int(low) for low, high in (end.split("-") for end in ends)]

    assert max(widths(8)) == 2
    assert max(widths(2000)) == 0


def test_few_people_have_no_interval(tmp_path, regions):
    _, records = people(tmp_path)
    assert saliency_regions(run(tmp_path, regions, records.iloc[:5]), "m")["rank_ci"].notna().any()
    assert saliency_regions(run(tmp_path, regions, records.iloc[:4]), "m")["rank_ci"].isna().all()
    records = records.iloc[:1].assign(group=None, sex=None)
    table = saliency_regions(run(tmp_path, regions, records), "m")
    row = table[table.name == "Part_L"].iloc[0]
    assert np.isfinite(row["mean"])
    assert np.isnan(row["sd"])
    assert np.isnan(row["ci_lo"])
    assert row["rank_ci"] is None


def test_contrasts_are_the_tests_of_regions(tmp_path):
    rng = np.random.default_rng(3)
    n = 40
    records = pd.DataFrame(
        {"age": rng.uniform(60, 80, n), "sex": ["F", "M"] * (n // 2), "group": ["CN"] * 20 + ["AD"] * 20}
    )
    values = rng.normal(0.5, 0.1, (n, 3))
    values[20:, 1] += 0.3
    values[:, 2] = np.nan
    records.loc[0, "age"] = np.nan
    found = saliency_contrasts(records, values, {1: "a", 2: "b", 3: "c"}, "m", ["CN"])
    assert set(found.contrast) == {"AD-CN", "M-F"}
    raw = found[(found.contrast == "AD-CN") & (found.variant == "raw") & (found.region == "b")].iloc[0]
    want = stats.ttest_ind(values[20:, 1], values[:20, 1], equal_var=False)
    assert raw["t"] == pytest.approx(want.statistic)
    adjusted = found[(found.contrast == "AD-CN") & (found.variant == "adjusted:age+sex")].set_index("region")
    assert adjusted.loc["b", "n_control"] == 19  # one has no age
    assert adjusted.loc["b", "p_fwe"] < 0.01 < adjusted.loc["a", "p_fwe"]
    assert adjusted.loc["c", "status"] == "constant_input"
    assert adjusted.loc["b", "family"] == "regions:AD-CN:m"
    assert "10000 permutations" in adjusted.loc["b", "note"]
    sexes = found[(found.contrast == "M-F") & (found.variant == "raw")].iloc[0]
    assert (sexes["n_case"], sexes["n_control"]) == (10, 10)  # controls only
    alone = saliency_contrasts(records, values, {1: "a", 2: "b", 3: "c"}, "m", [])
    assert set(alone.contrast) == {"M-F"}
    assert alone["n_case"].iloc[0] == 20


def test_equal_means_share_the_better_rank_and_missing_ones_have_none():
    ranks = saliency._ranks(np.array([0.4, 0.9, np.nan, 0.9, 0.1]))
    assert ranks[[0, 1, 3, 4]].tolist() == [3, 1, 1, 4]
    assert np.isnan(ranks[2])
