"""Transform files of FLIRT, MINC and ITK, read into one convention: template world to native world, mm, RAS+."""

import numpy as np
import pytest
import SimpleITK as sitk

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess.engines import ants, fsl, minc

# What nitransforms 25.1 (nitransforms.io.fsl.FSLLinearTransform.to_ras, reference to moving) makes of FLIRT below for
# the two images of `pair`; it shares no line with ours.
FLIRT = np.array([[1.1, 0.05, -0.02, 3], [0.03, 0.95, 0.1, -4], [0.01, -0.08, 1.02, 5], [0, 0, 0, 1]])
TOLD = {
    1: [
        [0.910142735, 0.0460194996, -0.0223576516, -65.6978457],
        [0.0110856689, 0.0824438404, 0.972092061, 34.8834142],
        [-0.0275744370, -1.04540653, 0.103031511, -76.6007613],
        [0, 0, 0, 1],
    ],
    -1: [
        [0.910142735, 0.0460194996, -0.0223576516, -212.094688],
        [0.0110856689, 0.0824438404, 0.972092061, 33.5753052],
        [-0.0275744370, -1.04540653, 0.103031511, -73.3469777],
        [0, 0, 0, 1],
    ],
}


def pair(side):
    """Return affine and shape of a moving image with a determinant of that sign and of a fixed one with the other."""
    moving = np.array([[side * 1.0, 0, 0, -30], [0, 0, 2, -40], [0, -1.5, 0, 50], [0, 0, 0, 1]])
    fixed = np.diag([-side * 2.0, 2, 2, 1])
    fixed[:3, 3] = [90, -126, -72]
    return moving, (40, 50, 30), fixed, (60, 45, 33)


@pytest.mark.parametrize("side", [1, -1])
def test_flirt_matrices_agree_with_nitransforms(side):
    np.testing.assert_allclose(np.linalg.inv(fsl.world_matrix(FLIRT, *pair(side))), TOLD[side], atol=1e-6)


@pytest.mark.parametrize("moving_side", [1, -1])
@pytest.mark.parametrize("fixed_side", [1, -1])
def test_flirt_matrices_point_by_point(moving_side, fixed_side):
    """M. Jenkinson's description followed with single points instead of matrices."""
    moving, moving_shape = pair(moving_side)[:2]
    fixed, fixed_shape = pair(-fixed_side)[2:]
    found = fsl.world_matrix(FLIRT, moving, moving_shape, fixed, fixed_shape)
    for voxel in np.array([[0, 0, 0], [39, 0, 0], [3, 20, 7], [10, 49, 29]], dtype=float):
        swapped = voxel.copy()
        if np.linalg.det(moving[:3, :3]) > 0:  # "neurological"
            swapped[0] = moving_shape[0] - 1 - voxel[0]
        mm = swapped * np.sqrt((moving[:3, :3] ** 2).sum(axis=0))
        there = (FLIRT[:3, :3] @ mm + FLIRT[:3, 3]) / np.sqrt((fixed[:3, :3] ** 2).sum(axis=0))
        if np.linalg.det(fixed[:3, :3]) > 0:
            there[0] = fixed_shape[0] - 1 - there[0]
        world = moving[:3, :3] @ voxel + moving[:3, 3]
        np.testing.assert_allclose(found[:3, :3] @ world + found[:3, 3], fixed[:3, :3] @ there + fixed[:3, 3])


@pytest.mark.parametrize("text", ["", "1 0 0 0\n0 1 0 0\n", "1 0 0 0\n0 nan 0 0\n0 0 1 0\n0 0 0 1\n", "no matrix"])
def test_a_file_that_is_no_flirt_matrix_is_refused(tmp_path, text):
    (tmp_path / "flirt0.mat").write_text(text)
    with pytest.raises(BadDataError, match=r"flirt0\.mat holds no"):
        fsl.read_matrix(tmp_path / "flirt0.mat")


def test_xfm_there_and_back(tmp_path, write_xfm):
    matrix = np.array([[1.1, -2e-5, 0.3, -17.25], [0, 0.9, 0, 1e-9], [0.1, 0.2, 1, 4], [0, 0, 0, 1]])
    write_xfm(tmp_path / "a.xfm", matrix)
    np.testing.assert_array_equal(minc.read_xfm(tmp_path / "a.xfm"), matrix)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("MNI Transform File", "Insight Transform File"),
        ("Transform_Type = Linear;", "Transform_Type = Grid_Transform;"),
        ("Transform_Type = Linear;", "Transform_Type = Linear;\nInvert_Flag = True;"),
        (" 0.0 0.0 1.0 0.0;", " 0.0 0.0 1.0;"),
        (" 0.0 0.0 1.0 0.0;", " 0.0 0.0 1.0 0.0;\nTransform_Type = Linear;\nLinear_Transform = 1;"),
    ],
)
def test_xfm_that_is_not_one_linear_transform_is_refused(tmp_path, write_xfm, before, after):
    path = tmp_path / "a.xfm"
    write_xfm(path, np.eye(4))
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(BadDataError, match=r"a\.xfm is not one linear"):
        minc.read_xfm(path)


def test_itk_transforms_are_read_in_ras_with_their_centre(tmp_path):
    affine = sitk.AffineTransform(3)
    affine.SetMatrix([1, 0.1, 0, -0.1, 1, 0, 0, 0, 1.1])
    affine.SetTranslation([1, 2, 3])
    affine.SetCenter([10, 20, 30])
    for name in ("ants0_0GenericAffine.mat", "a.txt"):
        sitk.WriteTransform(affine, str(tmp_path / name))
        matrix = ants.read_transform(tmp_path / name)
        for point in ((0, 0, 0), (5, -7, 11)):
            ras = np.array([-1, -1, 1]) * point
            np.testing.assert_allclose(
                matrix[:3, :3] @ ras + matrix[:3, 3], np.array([-1, -1, 1]) * affine.TransformPoint(point)
            )
    (tmp_path / "b.txt").write_text("nothing")
    with pytest.raises(BadDataError, match=r"b\.txt holds no affine"):
        ants.read_transform(tmp_path / "b.txt")
