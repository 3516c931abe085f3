import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainage_bids.errors import BadDataError
from brainage_bids.report import html, readable_names


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0002965, "<0.001"),
        (0.0009999, "<0.001"),
        (0.001, "0.00100"),
        (0.04165, "0.0416"),
        (0.1, "0.100"),
        (1, "1.00"),
        (None, "n/a"),
    ],
)
def test_p_value(value, expected):
    assert html.p_value(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(6.4366, "6.44"), (-0.001, "0.00"), (-2.118, "−2.12"), ("4.5", "4.50"), (np.inf, "n/a"), ("n/a", "n/a")],
)
def test_decimals(value, expected):
    assert html.decimals(value) == expected


def test_decimals_sign_only_for_nonzero():
    assert [html.decimals(v, 1, sign=True) for v in (1, -1, 0.04)] == ["+1.0", "−1.0", "0.0"]


@pytest.mark.parametrize("missing", [None, float("nan"), "n/a", "", pd.NA, np.float32("nan"), pd.NaT])
def test_missing_is_one_word(missing):
    assert html.text(missing) == "n/a"
    assert html.number(missing) is None


def test_a_group_called_none_keeps_its_name():
    assert html.text("None") == "None"


def test_interval_needs_both_ends():
    assert html.interval(1, 2) == "1.00 to 2.00"
    assert html.interval(1, None) == "n/a"


def test_paragraphs_escape_and_structure():
    made = html.paragraphs("### Head <b>\n\none\ntwo <script>\n\n- a\n- b")
    assert made == "<h4>Head &lt;b&gt;</h4>\n<p>one two &lt;script&gt;</p>\n<ul><li>a</li><li>b</li></ul>"


def test_embedded_picture_keeps_its_colours_and_shrinks(tmp_path):
    Image.new("RGB", (400, 100), (0, 114, 178)).save(tmp_path / "x.png")
    src = html.embed_image(tmp_path / "x.png", lossless=True, max_width=200)
    picture = Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))
    assert picture.size == (200, 50)
    assert picture.convert("RGB").getpixel((100, 25)) == (0, 114, 178)


def test_embed_names_a_broken_picture(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(BadDataError, match=r"x\.png"):
        html.embed_image(tmp_path / "x.png")


def test_subset_names():
    names = [
        readable_names.subset_name(s)
        for s in ("age=[20,40)", "age=[80,inf)", "age=[80.0,inf)", "age=<20", "sex=F", "group=AD", "all", "odd")
    ]
    assert names == [
        "age 20 to under 40",
        "age 80 and above",
        "age 80.0 and above",
        "age under 20",
        "women",
        "AD",
        "everyone",
        "odd",
    ]


def test_every_flag_gets_a_sentence():
    assert [flag for flag, _ in readable_names.flags_in_words("top_coded; qc_warn")] == ["top_coded", "qc_warn"]
    assert "documentation" in readable_names.flags_in_words("new_flag")[0][1]
    assert readable_names.flags_in_words("n/a") == []


def test_variant_names():
    assert readable_names.variant_name("partial:age+sex+site") == "raw gap, adjusted for age, sex and site"
    assert readable_names.variant_name("partial:age") == "raw gap, adjusted for age"
    assert readable_names.variant_name("corrected") == "age-bias-corrected gap"
