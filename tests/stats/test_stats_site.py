import numpy as np
import pytest

from brainage_bids.stats.site import apart, site_effect


def controls_of(tested):
    return tested[tested["group"] == "NC"]


def test_the_site_effect_matches_the_reference(tested, expected):
    row = site_effect(controls_of(tested), ["a"], ["NC"]).iloc[0]
    want = expected["site_effect_NC_bag_a"]
    assert row["f"] == pytest.approx(want["F"], rel=1e-8)
    assert row["p"] == pytest.approx(want["p"], rel=1e-8)
    assert (row["df_num"], row["df_den"], row["n_sites"]) == (want["df_num"], want["df_den"], 3)
    assert row["status"] == "ok"
    assert "A -1.23" in row["note"]


def test_a_planted_offset_of_one_site_is_found(tested):
    shifted = tested.assign(bag_a=tested["bag_a"] + 12.0 * (tested["site"] == "B"))
    assert site_effect(shifted, ["a"], ["NC"]).iloc[0]["p"] < 1e-6


def test_patients_do_not_enter_the_test(tested):
    moved = tested.assign(bag_a=np.where(tested["group"] == "NC", tested["bag_a"], 99.0))
    p, as_it_was = (site_effect(rows, ["a"], ["NC"]).iloc[0]["p"] for rows in (moved, tested))
    assert p == pytest.approx(as_it_was, rel=1e-12)


def test_one_site_is_skipped_and_small_ones_are_pooled(tested):
    assert site_effect(tested.assign(site="A"), ["a"], ["NC"]).iloc[0]["status"] == "skipped"
    assert site_effect(tested.assign(site=None), ["a"], ["NC"]).iloc[0]["status"] == "skipped"
    healthy = controls_of(tested)
    few = healthy.assign(site=["Z", "Z", *healthy["site"].iloc[2:]])
    row = site_effect(few, ["a"], ["NC"]).iloc[0]
    assert row["n_sites"] == 4
    assert "pooled as 'other': Z" in row["note"]


def test_sites_of_patients_alone_are_confounded(tested):
    apart = tested.assign(site=np.where(tested["group"] == "NC", tested["site"], "clinic"))
    assert site_effect(apart, ["a"], ["NC"]).iloc[0]["status"] == "confounded"
    assert site_effect(tested, ["a"], []).iloc[0]["status"] == "skipped"


def test_datasets_are_tested_like_sites(tested):
    both = site_effect(tested.assign(dataset=tested["site"]), ["a"], ["NC"]).set_index("effect")
    assert both.loc["dataset", "f"] == pytest.approx(both.loc["site", "f"], rel=1e-12)
    assert both.loc["dataset", "n_sites"] == 3
    one = site_effect(tested.assign(dataset="D"), ["a"], ["NC"])
    assert one["effect"].tolist() == ["site"]
    nested = tested.assign(dataset=np.where(tested["group"] == "NC", tested["site"], "clinic"))
    row = site_effect(nested, ["a"], ["NC"]).set_index("effect").loc["dataset"]
    assert row["status"] == "confounded"
    assert "no dataset has patients and controls" in row["note"]


def test_groups_that_share_no_dataset_with_controls(tested):
    where = np.where(tested["group"] == "AD", "clinic", "D")
    assert apart(tested.assign(dataset=where), ["NC"], "dataset") == ["AD"]
    assert apart(tested.assign(dataset=np.where(where == "clinic", None, where)), ["NC"], "dataset") == []
    assert apart(tested.assign(dataset="D"), ["NC"], "dataset") == []
    assert apart(tested.assign(dataset=where), [], "dataset") == []
