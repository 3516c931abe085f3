"""Small datasets written at test time; the images are a few bytes, since nothing here opens one."""

import json
from pathlib import Path

import pytest


class Toy:
    """A BIDS dataset under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.text("dataset_description.json", json.dumps({"Name": "toy", "BIDSVersion": "1.8.0"}))

    def text(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def table(self, name: str, *rows: str) -> Path:
        """Write rows whose cells are separated by ``|`` here and by tabs in the file."""
        return self.text(name, "\n".join(row.replace("|", "\t") for row in rows) + "\n")

    def image(self, participant: str, session: str | None = None, middle: str = "", content: bytes = b"image") -> Path:
        folder = self.root.joinpath(*filter(None, [participant, session]), "anat")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ("_".join(filter(None, [participant, session, middle])) + "_T1w.nii.gz")
        path.write_bytes(content)
        return path


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "bids").mkdir()
    return Toy(tmp_path / "bids")
