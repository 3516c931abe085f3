"""The slice viewer: what it stores of a map, and (where a browser is installed) what it says and does."""

import base64
import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from browser import browse, needs_browser
from reportpages import GRID, ball, check, study

from brainage_bids.report.group_html import GroupPage, write_group_page
from brainage_bids.report.viewer import FIELD_MM, viewer_data


def smooth_map(folder, name, sign=1.0):
    """A linear ramp over the ball, 0 outside, on 4 mm voxels: its value at (x, y, z) mm is known."""
    index = np.indices((49, 58, 49))
    world = np.einsum("ij,j...->i...", GRID[:3, :3], index) + GRID[:3, 3][:, None, None, None]
    values = np.where(ball() > 0, sign * ramp(world), 0.0)
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(values.astype(np.float32), GRID), path)
    return str(path)


def ramp(world):
    return 0.5 + np.asarray(world[0]) / 400 + np.asarray(world[2]) / 800


def map_rows(folder):
    one, other = smooth_map(folder, "one"), smooth_map(folder, "other", -1.0)
    shared = {"model": "m", "n": 9, "n_empty": 2, "cell_mm": 32}
    return pd.DataFrame(
        [
            shared | {"subset": "group=all", "kind": "mean", "path": one},
            shared | {"subset": "group=all", "kind": "signed", "path": other},
            shared | {"subset": "age=[60,80)", "kind": "mean", "path": one, "n": 4},
            shared | {"subset": "sex=F", "kind": "mean", "path": one, "n": 5},
            shared | {"model": "k", "subset": "group=</script>", "kind": "mean", "path": one, "n": 3},
        ]
    )


def decoded(stored, grid):
    levels = np.frombuffer(base64.b64decode(stored["data"]), np.uint8).reshape(grid["shape"]).astype(float)
    return (levels - 127) / 127 * stored["scale"] if stored["kind"] == "signed" else levels / 255 * stored["scale"]


def node(grid, place):
    return tuple(round((p - o) / grid["step"]) for p, o in zip(place, grid["origin"], strict=True))


def test_stored_values_are_those_of_the_file(tmp_path):
    data = viewer_data(map_rows(tmp_path), (ball(), GRID))
    for stored, sign in zip(data["maps"][:2], (1, -1), strict=True):
        values = decoded(stored, data["grid"])
        for place in ((0, -20, 10), (-40, -60, 30), (48, 20, -18)):
            assert values[node(data["grid"], place)] == pytest.approx(sign * ramp(place), abs=stored["scale"] / 127)


def test_maps_do_not_fade_at_the_edge_of_the_brain(tmp_path):
    """Outside the brain the nearest inner value is kept, for the viewer cuts with the template; the file has 0."""
    data = viewer_data(map_rows(tmp_path), (ball(), GRID))
    outside = node(data["grid"], (0, -20, 90))
    assert decoded(data["maps"][0], data["grid"])[outside] > 0.3
    bare = viewer_data(map_rows(tmp_path), None)
    assert decoded(bare["maps"][0], bare["grid"])[outside] == 0
    assert bare["underlay"] is None


def test_zeros_inside_the_brain_stay_zero(tmp_path):
    values = np.where(ball() > 0, 1.0, 0.0)
    values[20:28, 24:32, 18:26] = 0.0
    nib.save(nib.Nifti1Image(values.astype(np.float32), GRID), tmp_path / "hole.nii.gz")
    rows = map_rows(tmp_path).iloc[:1].assign(path=str(tmp_path / "hole.nii.gz"))
    data = viewer_data(rows, (ball(), GRID))
    place = GRID[:3, :3] @ (24, 28, 22) + GRID[:3, 3]
    assert decoded(data["maps"][0], data["grid"])[node(data["grid"], place)] == 0


def test_underlay_is_zero_only_outside(tmp_path):
    dark = ball() * np.where(np.arange(49) < 12, 1e-5, 1.0)[:, None, None]
    data = viewer_data(map_rows(tmp_path), (dark, GRID))["underlay"]
    levels = np.frombuffer(base64.b64decode(data["data"]), np.uint8).reshape(data["shape"])
    assert levels[node(data, (-66, -18, 8))] == 1  # dark but brain
    assert levels[node(data, (0, -18, 88))] == 0


@pytest.mark.parametrize(("budget", "step", "left"), [(5_000_000, 4.0, 0), (1_300_000, 6.0, 0), (945_000, 12.0, 2)])
def test_the_grid_follows_the_budget(tmp_path, budget, step, left):
    data = viewer_data(map_rows(tmp_path), (ball(), GRID), budget)
    assert data["grid"]["step"] == step
    assert data["left"] == left
    assert len(data["maps"]) == 5 - left
    ends = np.add(data["grid"]["origin"], np.multiply(step, np.subtract(data["grid"]["shape"], 1)))
    assert np.all(ends >= [high for _, high in FIELD_MM])
    assert len(json.dumps(data)) < budget + 5000


def test_nothing_readable_is_no_viewer(tmp_path):
    assert viewer_data(None, None) is None
    assert viewer_data(map_rows(tmp_path).assign(path=str(tmp_path / "gone.nii.gz")), None) is None


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    shown = GroupPage("T", "0", study(4), maps=map_rows(folder), underlay=(ball(), GRID))
    write_group_page(folder / "group.html", shown, folder / "group" / "figures")
    return folder / "group.html"


def test_page_with_a_viewer_is_self_contained_and_safe(page):
    words, reader = check(page)
    assert "Look through the maps" in words
    assert reader.tags.count("script") == 2  # the data and the programs
    assert {"canvas", "select", "input", "noscript"} <= set(reader.tags)


def place_of(shown):
    return [float(n.replace("−", "-")) for n in re.findall(r"[xyz] (−?\d+)", shown["viewer-value"])]


@needs_browser
def test_browser_shows_value_and_place(page, tmp_path):
    shown, source = browse(page, tmp_path)
    assert f"Crosshair at x 0, y −20, z 10 mm: {ramp((0, -20, 10)):.3f}"[:-1] in shown["viewer-value"]
    assert "everyone, n = 9 (2 maps without a positive value)" in shown["viewer-who"]
    assert "32 mm wide" in shown["viewer-who"]
    assert '<optgroup label="Sex"><option value="sex=F">women</option></optgroup>' in source
    assert re.search(r'<div id="viewer"(?![^>]*hidden)', source)


@needs_browser
def test_address_sets_the_view(page, tmp_path):
    shown, _ = browse(page, tmp_path, "#viewer=m,all,signed,-40,-60,30,0.95")
    value = float(re.search(r"mm: −(\d\.\d+) years per cell, hidden", shown["viewer-value"]).group(1))
    assert value == pytest.approx(ramp((-40, -60, 30)), abs=0.01)
    assert "x −40, y −60, z 30" in shown["viewer-value"]
    assert "viewer=m,all,signed,-40,-60,30,0.95" in shown["viewer-link"]


@needs_browser
def test_nonsense_in_the_address_does_no_harm(page, tmp_path):
    shown, _ = browse(page, tmp_path, "#viewer=no,such,map,9999,x,-9999,7")
    assert "x 80, y −20, z −78 mm: outside the brain" in shown["viewer-value"]


@needs_browser
def test_keys_sliders_clicks_and_lists_work(page, tmp_path):
    script = """
    addEventListener("load", function () {
      var get = function (name) { return document.getElementById("viewer-" + name); };
      var key = function (plane, name, shift) {
        get(plane).dispatchEvent(new KeyboardEvent("keydown", { key: name, shiftKey: shift, bubbles: true })); };
      key("axial", "ArrowLeft"); key("axial", "ArrowUp", true); key("axial", "PageUp"); key("sagittal", "ArrowDown");
      get("x").value = 12; get("x").dispatchEvent(new Event("input"));
      key("coronal", "ArrowRight");
      get("subset").value = "sex=F"; get("subset").dispatchEvent(new Event("change"));
    });"""
    shown, _ = browse(page, tmp_path, "", script)
    assert "x 14, y −10, z 10 mm" in shown["viewer-value"]  # 12 + 2, -20 + 10, 10 + 2 - 2
    assert "women, n = 5" in shown["viewer-who"]
    assert "x = 14 mm" in shown["viewer-sagittal"]


@needs_browser
def test_click_and_peak(page, tmp_path):
    click = """
    later(function () {
      var canvas = document.getElementById("viewer-axial"), box = canvas.getBoundingClientRect();
      canvas.dispatchEvent(new MouseEvent("click",
        { clientX: box.left + box.width * 100.5 / 161, clientY: box.top + box.height * 50.5 / 201 })); });"""
    shown, _ = browse(page, tmp_path, "", click)
    assert place_of(shown) == pytest.approx([20, 34, 10], abs=1)  # a browser may round to its pixels
    peak = 'later(function () { document.getElementById("viewer-peak").click(); });'
    shown, _ = browse(page, tmp_path, "", peak)
    place = place_of(shown)
    value = float(re.search(r"mm: (\d\.\d+)", shown["viewer-value"]).group(1))
    assert value == pytest.approx(ramp(place), abs=0.01)
    assert place[0] > 50  # the ramp grows to the right
