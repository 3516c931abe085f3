import dataclasses

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from brainage_bids.errors import UsageError
from brainage_bids.phantom import head
from brainage_bids.phantom.anatomy import GRID_ORIGIN_MM, MARKER_CENTRE_MM, ageing


def body_of(seed=3, **changes):
    return dataclasses.replace(head.draw_body(np.random.default_rng(seed), 4.0), **changes)


def neutral_body():
    """A body at the template's own pose and shape, seen by a perfect scanner."""
    plain = body_of(storage="RAS", zooms=(4.0,) * 3, noise=0.0, gain=1000.0, gamma=1.0, offsets_mm=(0.0, 0.0, 0.0))
    return dataclasses.replace(
        plain, template_to_native=np.eye(4), warp=np.zeros_like(plain.warp), bias=np.zeros((4, 4, 4))
    )


def values_near(image, world, radius_mm=4.0):
    """Mean intensity in a ball around a world point, whatever the storage."""
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(apply_affine(image.affine, index) - world, axis=-1)
    return image.get_fdata()[distance < radius_mm].mean()


def test_neutral_body_shows_the_template(anatomy):
    image = head.render(anatomy, neutral_body(), 20.0)
    assert image.extra["truth"]["native_to_template"] == np.eye(4).tolist()
    core = (np.array((28, 28, 22)) - GRID_ORIGIN_MM) / anatomy.spacing
    expected = ndimage.map_coordinates(anatomy.tissue, core[:, None], order=1)[0]
    assert values_near(image, (28, 28, 22), 4.0) / 1000 == pytest.approx(expected, abs=0.05)


def test_same_seed_same_bytes_other_seed_other_head(anatomy):
    first, again, other = (head.render(anatomy, body_of(seed), 60.0) for seed in (3, 3, 4))
    assert first.to_bytes() == again.to_bytes()
    assert first.extra["truth"] == again.extra["truth"]
    assert first.extra["truth"]["native_to_template"] != other.extra["truth"]["native_to_template"]


def test_ventricles_grow_with_age_and_the_brain_mask_hardly(anatomy):
    truths = [head.render(anatomy, body_of(), age).extra["truth"] for age in range(20, 106, 17)]
    ventricles = [truth["ventricle_ml"] for truth in truths]
    assert (np.diff(ventricles) > 1.0).all()
    assert 5 < ventricles[0] < 25 < ventricles[-1] < 90
    brains = np.array([truth["brain_ml"] for truth in truths])
    assert np.ptp(brains) / brains.mean() < 0.01


def test_ventricle_volume_matches_a_count_of_dark_voxels(anatomy):
    def dark_ml(age):
        image = head.render(anatomy, neutral_body(), age)
        i, j, k = np.meshgrid(*map(np.arange, image.shape), indexing="ij")
        world = apply_affine(image.affine, np.stack([i, j, k], axis=-1))
        deep = (np.abs(world - (0, -12, 14)) < (26, 46, 20)).all(axis=-1)
        return ((image.get_fdata() < 500) & deep).sum() * 0.064, image.extra["truth"]["ventricle_ml"]

    (young_dark, young), (old_dark, old) = dark_ml(25), dark_ml(90)
    assert old_dark - young_dark == pytest.approx(old - young, rel=0.45)


def test_age_is_not_in_the_gain(anatomy):
    young, old = (head.render(anatomy, neutral_body(), age).get_fdata() for age in (20, 100))
    assert np.percentile(young, 99) == pytest.approx(np.percentile(old, 99), rel=0.01)
    outside = head.render(anatomy, neutral_body(), 20).extra["mask"].get_fdata() == 0
    grown = ndimage.binary_erosion(outside, iterations=2)
    assert (np.abs(young - old)[grown] > 20).mean() < 0.01  # only a little skull base moves


@pytest.mark.parametrize("storage", ["RAS", "LAS", "PSR", "LIA"])
def test_marker_keeps_its_world_side_in_every_storage(anatomy, storage):
    body = body_of(5, storage=storage)
    image = head.render(anatomy, body, 30.0, marker=True)
    assert nib.aff2axcodes(image.affine) == tuple(storage)
    truth = image.extra["truth"]
    right = np.array(truth["marker_native_mm"])
    left = apply_affine(body.template_to_native, np.array(MARKER_CENTRE_MM) * (-1, 1, 1))
    assert right[0] > left[0]
    assert values_near(image, right) < 0.5 * values_near(image, left)
    np.testing.assert_allclose(apply_affine(np.array(truth["native_to_template"]), right), MARKER_CENTRE_MM)


def test_storage_changes_nothing_but_the_storage(anatomy):
    plain, turned = (head.render(anatomy, body_of(6, storage=s), 50.0) for s in ("RAS", "PSR"))
    back = nib.as_closest_canonical(turned)
    np.testing.assert_array_equal(back.get_fdata(), plain.get_fdata())
    np.testing.assert_allclose(back.affine, plain.affine)


def test_pose_stays_in_its_limits_and_head_in_the_field_of_view(anatomy):
    for seed in range(40):
        body = body_of(seed)
        assert body.rotation_deg <= head.MAX_ROTATION_DEG
        assert body.shift_mm <= head.MAX_SHIFT_MM
        assert 0.8 < body.scale < 1.03
    mask = nib.as_closest_canonical(head.render(anatomy, body_of(7), 50.0).extra["mask"]).get_fdata()
    assert not any(mask.take(edge, axis).any() for axis in range(3) for edge in (0, -1))


def test_warp_has_no_affine_part_in_the_brain():
    warp = body_of(8).warp
    points = np.stack(np.meshgrid(*head._knots(), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = (((points - (0, -17, 0)) / (90, 110, 90)) ** 2).sum(axis=1) < 1
    design = np.column_stack([np.ones(inside.sum()), points[inside]])
    np.testing.assert_allclose(design.T @ warp.reshape(3, -1).T[inside], 0.0, atol=1e-6)
    assert warp.reshape(3, -1).T[inside].std() > 0.5


def test_tissue_never_folds(anatomy):
    step = 2 * anatomy.spacing
    axes = [o + step * np.arange(n) for o, n in zip(GRID_ORIGIN_MM, anatomy.push.shape[1:], strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    move = head._displacement(anatomy, body_of(9), ageing(100.0).ventricle_mm, points)
    gradient = np.stack([np.stack(np.gradient(part, step)) for part in move]).transpose(2, 3, 4, 0, 1)
    origin = np.array(GRID_ORIGIN_MM, dtype=np.float32).reshape(3, 1, 1, 1)
    distance = head._sample(anatomy.ventricle, (points + move - origin) / anatomy.spacing)
    tissue = (anatomy.brain[::2, ::2, ::2] > 0.5) & (distance > 0.5)
    assert np.linalg.det(gradient + np.eye(3))[tissue].min() > 0


def test_spread_matches_einsum():
    rng = np.random.default_rng(0)
    values, bases = rng.normal(size=(2, 3, 4)), [rng.normal(size=(n, k)) for n, k in ((5, 2), (6, 3), (7, 4))]
    np.testing.assert_allclose(
        head._spread(values, bases), np.einsum("abc,xa,yb,zc->xyz", values, *bases), rtol=1e-4, atol=1e-5
    )


def test_make_head_is_an_image_with_its_truth():
    image = head.make_head(age=70, seed=1, voxel_mm=6.0, storage="LPS")
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.get_data_dtype() == np.int16
    assert image.extra["truth"]["brain_age"] == 70
    assert image.extra["mask"].shape == image.shape
    assert 900 < image.extra["truth"]["brain_ml"] < 1900


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"age": -3}, "age is -3"),
        ({"voxel_mm": 0.1}, "0.1 mm"),
        ({"storage": "RLS"}, "'RLS'"),
        ({"storage": "RA"}, "RA"),
    ],
)
def test_make_head_refuses(wrong, message):
    with pytest.raises(UsageError, match=message):
        head.make_head(**wrong)
