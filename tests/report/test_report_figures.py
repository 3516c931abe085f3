import itertools

import matplotlib
import numpy as np
import pytest
import statsmodels.api as sm
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from brainage_bids.report import figures
from brainage_bids.report.figure_files import draw_picture, save_both
from brainage_bids.report.paperfigures import ages_by_site


def test_line_band_is_statsmodels():
    rng = np.random.default_rng(3)
    x = rng.normal(20, 5, 25)
    y = 0.4 * x + rng.normal(0, 3, 25)
    grid, fit, half = figures.line_band(x, y)
    frame = sm.OLS(y, sm.add_constant(x)).fit().get_prediction(sm.add_constant(grid)).summary_frame(alpha=0.05)
    np.testing.assert_allclose(fit, frame["mean"], rtol=1e-9)
    np.testing.assert_allclose(fit + half, frame["mean_ci_upper"], rtol=1e-9)


@pytest.mark.parametrize("label", ["$x$", "$a_b$", r"cost $\x$ of $", "A_1"])
def test_labels_are_no_formulas(label):
    figure = Figure()
    axes = figure.subplots()
    axes.set_xticks([0], [label])
    axes.set_title(label)
    axes.plot([0, 1], [0, 1], label=label)
    axes.legend()
    assert draw_picture(figure).width > 0
    assert not axes.title.get_parse_math()
    figure.subplots().set_yscale("log")  # the numbers of matplotlib stay what they are
    assert draw_picture(figure).width > 0


def test_line_band_refuses_what_has_no_line():
    assert figures.line_band(np.ones(5), np.arange(5.0)) is None
    assert figures.line_band(np.arange(2.0), np.arange(2.0)) is None


def test_mean_interval_is_scipy():
    values = np.array([1.0, 4.0, 2.5, 8.0, -3.0])
    mean, half = figures.mean_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert figures.mean_interval(np.array([2.0])) == (2.0, 0.0)


def test_hexagons_above_two_thousand():
    age = np.linspace(20, 90, 2001)
    many = figures.age_scatter(age, age + 1, ["NC"] * 2001, ["NC"])
    few = figures.age_scatter(age[:50], age[:50] + 1, ["NC"] * 50, ["NC"])
    (bar,) = many.axes[0].child_axes  # the colour bar
    assert set(bar.get_yticks()) <= {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}
    assert bar.yaxis.get_minorticklocs().size == 0
    assert not few.axes[0].child_axes
    assert len(few.axes[0].collections[0].get_offsets()) == 50


def test_groups_differ_in_colour_and_marker():
    styles = figures.style([f"g{i}" for i in range(16)])
    assert len(set(styles.values())) == 16
    assert len({colour for colour, _ in list(styles.values())[:8]}) == 8


def test_interval_graphic_places_band_and_diamond():
    axes = figures.interval_graphic(
        [{"model": "a", "gap": -3.1, "half": 9.68}, {"model": "b", "gap": 12.0, "half": None}]
    ).axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(-9.68, 19.36)]
    diamonds = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
    assert diamonds == [-3.1, 12.0]
    assert axes.get_xlim()[1] > 12


def test_histogram_counts_everybody():
    figure = figures.age_histogram(
        {"NC": np.array([20.0, 24.9, 25.0, 90.0]), "AD": np.array([]), "PD": np.array([60.0])}
    )
    assert [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes] == [4, 1]


def test_files_are_the_same_twice(tmp_path):
    def draw():
        return figures.gap_violins({"NC": np.arange(8.0), "AD": np.array([1.0])}, "gap")

    first, paths = save_both(draw(), tmp_path / "a", dpi=50)
    second, others = save_both(draw(), tmp_path / "b", dpi=50)
    assert [path.name for path in paths] == ["a.png", "a.svg"]
    assert first.tobytes() == second.tobytes() == draw_picture(draw(), 50).tobytes()
    assert Image.open(paths[0]).convert("RGB").tobytes() == first.tobytes()
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in others]


def test_the_svg_is_that_of_matplotlib(tmp_path):
    def draw():
        return figures.age_scatter(np.linspace(20, 90, 2001), np.linspace(30, 80, 2001), ["NC"] * 2001, ["NC"])

    _, paths = save_both(draw(), tmp_path / "a", dpi=50)
    with matplotlib.rc_context({"svg.hashsalt": "brainage", "svg.fonttype": "path", "font.family": "sans-serif"}):
        draw().savefig(tmp_path / "b.svg", metadata={"Date": None, "Creator": None})
    assert paths[1].read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_fixed_margins_hold_all_labels():
    values = np.linspace(-99.5, 999.5, 2001)
    panel = {"group": "NC", "colour": "k", "marker": "o", "name": "ADAS-Cog-11", "title": "NC\nr = 0.10"}
    score = figures.score_scatter([panel | {"score": values, "gap": values}] * 4, "brain age gap (years)")
    many = np.repeat([61.0, 70.0], 20_000)
    for figure in (
        score,
        figures.age_histogram({"NC": many, "AD": many}),
        figures.age_scatter(values[:9], values[:9], ["NC"] * 9, ["NC"]),
        figures.bias_lines(values, values, values, values > 0, None),
        ages_by_site({"A": many, "B": many}, "people (controls)"),
    ):
        draw_picture(figure, 50)
        boxes = [axes.get_tightbbox() for axes in figure.axes]
        width, height = figure.get_size_inches() * 50
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_violins_draw_single_people_up_to_two_thousand_in_all():
    def dots(n):
        axes = figures.gap_violins({"NC": np.arange(float(n)), "AD": np.arange(float(n))}, "gap").axes[0]
        return sum(len(drawn.get_offsets()) for drawn in axes.collections if type(drawn).__name__ == "PathCollection")

    assert dots(1000) == 2000
    assert dots(1001) == 0
