"""Datasets written at test time for the group level, and how it ended with them.

The images are a few bytes that nothing opens: the ages come from files.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from commandline import run_here

from brainage_bids.bids.files import numbers, read_tsv

TEXT = frozenset(
    "participant_id session_id run age_source age_flags sex group site model model_a model_b subset score variant "
    "statistic family status note case control analysis term measure step reason left_out_by kind".split()
)


@dataclass(frozen=True)
class Result:
    """How a run ended, what it wrote, and what it told on the screen."""

    code: int
    out: Path
    told: str

    def table(self, name: str, *index: str) -> pd.DataFrame:
        """Return a table of the group level: numbers as float64, what is n/a as missing."""
        table = read_tsv(self.out / "group" / f"{name}.tsv")
        for column in table.columns:
            values = table[column]
            table[column] = values.where(values != "n/a", None) if column in TEXT else numbers(values)
        return table.set_index(list(index)).sort_index(kind="stable") if index else table

    @property
    def lines(self) -> dict:
        return json.loads((self.out / "group" / "biascorrection.json").read_text())

    @property
    def page(self) -> str:
        return (self.out / "group.html").read_text()


def make_dataset(root: Path, people: pd.DataFrame, scans: tuple[str, ...] = ("",)) -> Path:
    """Write a dataset of the people, with a placeholder for every scan (``_run-1``, ...) of each."""
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "reference people", "BIDSVersion": "1.10.0"}))
    people.to_csv(root / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    for name in people["participant_id"].unique():
        for scan in scans:
            path = root / name / "anat" / f"{name}{scan}_T1w.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"placeholder")
    return root


def predictions(path: Path, people: pd.Series, ages: pd.Series) -> str:
    """Write a model's ages and return the value of ``--predictions``; the file's stem is the model's name."""
    table = pd.DataFrame({"participant_id": people, "predicted_age": ages})
    table.to_csv(path, index=False, na_rep="n/a")
    return f"{path.stem}={path}"


def group_level(bids: Path, out: Path, *options: object) -> Result:
    """Run ``brainage-bids BIDS OUT group`` in this process."""
    done = run_here(bids, out, "group", *options)
    return Result(done.returncode, out, done.stderr)
