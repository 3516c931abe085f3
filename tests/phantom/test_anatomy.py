import numpy as np
import pytest
from scipy import ndimage

from brainage_bids.phantom import anatomy as an


def at(anatomy, field, point):
    index = np.round((np.array(point) - an.GRID_ORIGIN_MM) / anatomy.spacing).astype(int)
    return field[tuple(index)]


def test_fields_share_one_grid_and_are_finite(anatomy):
    fields = [anatomy.tissue, anatomy.brain, anatomy.shell, anatomy.ventricle, anatomy.cortex, anatomy.hippocampus]
    assert {field.shape for field in fields} == {anatomy.tissue.shape}
    assert all(field.dtype == np.float32 and np.isfinite(field).all() for field in fields)


def test_known_places(anatomy):
    deepest = np.array(np.unravel_index(anatomy.ventricle.argmin(), anatomy.ventricle.shape))
    x, y, z = deepest * anatomy.spacing + an.GRID_ORIGIN_MM
    assert (3 < abs(x) < 35, -60 < y < 35, -4 < z < 30) == (True, True, True)
    assert anatomy.ventricle.min() < -2 < 5 < at(anatomy, anatomy.ventricle, (30, 10, 30))
    assert at(anatomy, anatomy.tissue, (28, 28, 22)) > 0.8  # white matter
    assert at(anatomy, anatomy.brain, (0, 0, 40)) > 0.99
    assert at(anatomy, anatomy.shell, (0, 120, 90)) == pytest.approx(0.0, abs=1e-3)  # air
    assert at(anatomy, anatomy.hippocampus, (27, -22, -14)) > 4.0  # the core survives
    assert at(anatomy, anatomy.cortex, (28, 28, 22)) == pytest.approx(7.0, abs=0.3)  # white matter never thins
    assert at(anatomy, anatomy.cortex, (30, -60, -35)) > 6.5  # nor does the cerebellum


def test_template_is_symmetric_but_the_marker_is_not(anatomy):
    centre = round(-an.GRID_ORIGIN_MM[0] / anatomy.spacing)
    left, right = anatomy.ventricle[centre - 30 : centre], anatomy.ventricle[centre + 1 : centre + 31]
    np.testing.assert_allclose(left[::-1], right, atol=0.3)
    assert anatomy.marker[centre:].sum() > 100 * anatomy.marker[:centre].sum()


def test_ventricle_distance_has_unit_slope(anatomy):
    slope = np.sqrt(sum(g**2 for g in np.gradient(anatomy.ventricle, anatomy.spacing)))
    band = (anatomy.ventricle > 3) & (anatomy.ventricle < 10)
    assert np.median(slope[band]) == pytest.approx(1.0, abs=0.1)


def test_push_points_outward_and_fades(anatomy):
    size = np.sqrt((anatomy.push**2).sum(axis=0))
    distance = anatomy.ventricle[::2, ::2, ::2]
    assert size.max() < 1.1
    assert size[distance > 60].max() == 0.0
    slope = np.stack(np.gradient(distance))
    near = (distance > 3) & (distance < 10)
    assert ((anatomy.push * slope).sum(axis=0)[near] > 0).mean() > 0.99


def test_template_ventricles_have_a_plausible_volume(anatomy):
    assert 12 < an.template_ventricle_ml(anatomy) < 25


def test_ageing_increases_strictly():
    levels = np.array([an.ageing(age) for age in np.linspace(0, 130, 200)])
    assert (np.diff(levels, axis=0) > 0).all()


def test_sigmoid_matches_the_literal_formula():
    x = np.linspace(-20, 20, 81)
    np.testing.assert_allclose(an.sigmoid(x), 1 / (1 + np.exp(-x)), atol=1e-12)
    assert an.sigmoid(np.array([-1e6, 1e6])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("edge", [False, True], ids=["inside", "at the edge of the array"])
def test_depth_is_that_of_the_whole_array(edge):
    mask = np.zeros((12, 9, 15), dtype=bool)
    mask[0 if edge else 3 : 8, 2:6, 4 : 15 if edge else 11] = True
    mask[5, 4, 7] = False
    np.testing.assert_array_equal(an._depth(mask, an._box(mask, 1)), ndimage.distance_transform_edt(mask))
