import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageDraw
from reportpages import COARSE, GRID, ball

from brainage_bids.errors import BadDataError
from brainage_bids.report import brain_slices


def hot_cell(x: float) -> brain_slices.Brain:
    """A map with one hot cell centred on world x (mm), y = -4, z = 18."""
    cells = np.zeros((7, 8, 7), np.float32)
    cells[round((x + 96) / 32), 4, 3] = 5.0
    return brain_slices.Brain(cells, COARSE)


def hottest_column(picture: Image.Image, row: int, column: int) -> float:
    """Return where the red pixels of a panel of the three by six lie: 0 at its left edge, 1 at its right."""
    pixels = np.asarray(picture).astype(int)[:, : picture.width - brain_slices.BAR_WIDTH]
    height, width = pixels.shape[0] / 3, pixels.shape[1] / 6
    panel = pixels[int(row * height) : int((row + 1) * height), int(column * width) : int((column + 1) * width)]
    red = panel[..., 0] - panel[..., 2] > 60
    assert red.sum() > 20
    return red.nonzero()[1].mean() / panel.shape[1]


@pytest.fixture
def letters(monkeypatch):
    """Where the letters of a slice are written: letter -> column (pixels)."""
    written, draw = {}, ImageDraw.ImageDraw.text

    def text(pen, place, words, *args, **settings):
        written[words] = place[0]
        return draw(pen, place, words, *args, **settings)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


@pytest.mark.parametrize(("x", "side"), [(32, "R"), (-32, "L")])
@pytest.mark.parametrize("panel", [(0, 3), (1, 3)])  # axial z = 18, coronal y = -12
@pytest.mark.parametrize("flipped", [False, True])
def test_right_is_drawn_where_the_letter_says(x, side, panel, flipped, letters):
    overlay = hot_cell(x)
    if flipped:  # the same map stored as LAS
        overlay = brain_slices.Brain(
            overlay.data[::-1], COARSE @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        )
    picture = brain_slices.overlay_picture(brain_slices.Brain(ball(), GRID), overlay)
    column = hottest_column(picture, *panel)
    assert letters["L"] < brain_slices.PANEL_WIDTH / 2 < letters["R"]  # neurological convention, as the caption says
    assert ("R" if column > 0.5 else "L") == side


def test_up_is_up():
    cells = np.zeros((7, 8, 7), np.float32)
    cells[3, 4, 5] = 5.0  # high in the head
    picture = brain_slices.overlay_picture(None, brain_slices.Brain(cells, COARSE))
    pixels = np.asarray(picture).astype(int)[:, : picture.width - brain_slices.BAR_WIDTH]
    coronal = pixels[pixels.shape[0] // 3 : 2 * pixels.shape[0] // 3]
    rows = (coronal[..., 0] - coronal[..., 2] > 60).nonzero()[0]
    assert rows.mean() < 0.45 * coronal.shape[0]


def test_sample_follows_the_affine_of_the_map():
    cells = np.random.default_rng(0).normal(size=(7, 8, 7)).astype(np.float32)
    centres = np.indices(cells.shape).reshape(3, -1).T @ COARSE[:3, :3].T + COARSE[:3, 3]
    np.testing.assert_allclose(
        brain_slices.sample(brain_slices.Brain(cells, COARSE), centres), cells.ravel(), atol=1e-6
    )


def test_sample_interpolates_linearly_along_an_oblique_affine():
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ COARSE
    ramp = np.einsum("i,i...->...", [1.0, 2.0, -1.0], np.indices((7, 8, 7)).astype(float))
    inside = np.random.default_rng(1).uniform(0, 6, (50, 3))
    world = inside @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(
        brain_slices.sample(brain_slices.Brain(ramp, affine), world), inside @ [1.0, 2.0, -1.0], atol=1e-9
    )


def test_sample_holds_one_cell_outside_and_stops():
    cells = np.full((3, 4, 3), 2.0, np.float32)
    last = COARSE[:3, 3] + 32 * np.array([2, 3, 2])
    values = brain_slices.sample(
        brain_slices.Brain(cells, COARSE), last + np.array([[0, 0, 0], [31, 0, 0], [33, 0, 0]])
    )
    np.testing.assert_array_equal(values, [2.0, 2.0, np.nan])


def test_signed_scale_is_symmetric_and_shared():
    template = brain_slices.Brain(ball(), GRID)
    limit = brain_slices.scale_limit(template, [hot_cell(32), brain_slices.Brain(-2 * hot_cell(32).data, COARSE)], True)
    assert limit == brain_slices.scale_limit(template, [brain_slices.Brain(-2 * hot_cell(32).data, COARSE)], True)
    assert 0 < limit <= 10
    assert brain_slices.scale_limit(None, [hot_cell(32)], False) == 1.0
    figure = brain_slices.map_rows_figure(template, [("a", hot_cell(32)), ("b", hot_cell(-32))], True, "years", limit)
    bar = figure.axes[-1]
    assert bar.get_xlim() == pytest.approx((-limit, limit))
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", "b"]


def test_cell_size_and_cleaning(tmp_path):
    cells = np.full((3, 3, 3, 1), np.nan, np.float32)
    nib.save(nib.Nifti1Image(cells, COARSE), tmp_path / "m.nii.gz")
    loaded = brain_slices.load(tmp_path / "m.nii.gz")
    assert loaded.cell_mm == (32.0, 32.0, 32.0)
    assert not loaded.data.any()


def test_load_refuses(tmp_path):
    (tmp_path / "bad.nii.gz").write_text("no")
    with pytest.raises(BadDataError, match=r"bad\.nii\.gz"):
        brain_slices.load(tmp_path / "bad.nii.gz")
    with pytest.raises(BadDataError, match="2 dimensions"):
        brain_slices.load((np.ones((3, 3)), np.eye(4)))
    with pytest.raises(BadDataError, match="inverted"):
        brain_slices.load((np.ones((3, 3, 3)), np.diag([1.0, 1, 0, 1])))
