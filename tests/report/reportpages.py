"""Synthetic images and tables, and what any page of ours must be: self-contained, readable, without missing marks."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from PIL import Image

from brainage_bids.result_tables import BY_NAME

GRID = np.array([[4.0, 0, 0, -96], [0, 4, 0, -132], [0, 0, 4, -78], [0, 0, 0, 1]])
COARSE = np.array([[32.0, 0, 0, -96], [0, 32, 0, -132], [0, 0, 32, -78], [0, 0, 0, 1]])


def ball() -> np.ndarray:
    """A bright ellipsoid about the middle of MNI space, (49, 58, 49)."""
    index = np.indices((49, 58, 49))
    world = np.einsum("ij,j...->i...", GRID[:3, :3], index) + GRID[:3, 3][:, None, None, None]
    radius = (world[0] / 70) ** 2 + ((world[1] + 18) / 88) ** 2 + ((world[2] - 8) / 68) ** 2
    return np.where(radius < 1, 100.0, 0.0).astype(np.float32)


def study(n: int = 40, seed: int = 0) -> pd.DataFrame:
    """``brainage.tsv`` of n people: half NC, half AD; model m is 2 years off on average in AD."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(55, 85, n)
    group = np.where(np.arange(n) % 2, "AD", "NC")
    gap = rng.normal(0, 5, n) + np.where(group == "AD", 2.0, 0.0)
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i:04d}" for i in range(n)],
            "session_id": None,
            "run": None,
            "age": age,
            "sex": rng.choice(["F", "M"], n),
            "group": group,
            "site": "A",
            "qc_pass": 1,
            "in_training": 0,
            "adas11": np.where(group == "AD", rng.uniform(5, 40, n).round(), np.nan),
            "predicted_age_m": age + gap,
            "bag_m": gap,
            "bag_corrected_m": gap - 0.3,
        }
    )


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.links, self.words, self._skip, self.tags = [], [], [], 0, []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self._skip += tag in {"style", "script"}
        if tag == "img":
            self.images.append((values["src"], values.get("alt")))
        elif "src" in values or tag == "link":
            raise AssertionError(f"<{tag}> loads {values}")
        elif "href" in values:
            self.links.append(values["href"])

    def handle_endtag(self, tag):
        self._skip -= tag in {"style", "script"}

    def handle_data(self, data):
        if not self._skip:
            self.words.append(data)


def check(path):
    """Return the visible text, the links and the tags of a page after checking it."""
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://", source)
    reader = _Reader()
    reader.feed(source)
    for src, alt in reader.images:
        assert alt, "a picture without alternative text"
        kind, _, content = src.partition(";base64,")
        assert kind in ("data:image/webp", "data:image/png")
        Image.open(io.BytesIO(base64.b64decode(content, validate=True))).load()
    words = re.sub(r"\s+", " ", " ".join(reader.words))
    assert not re.search(r"\b(nan|None|inf|NaT)\b", words), re.search(r".{30}\b(nan|None|inf|NaT)\b.{30}", words)
    return words, reader


def changed(page, **parts):
    """Return a page with other parts; what is called like a table of the group level is one (None: not there)."""
    tables = {**page.tables, **{name: parts.pop(name) for name in list(parts) if name in BY_NAME}}
    return dataclasses.replace(page, tables={n: t for n, t in tables.items() if t is not None}, **parts)
