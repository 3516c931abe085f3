"""Write the tables of the group level, and beside each a JSON file that explains its columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from brainage_bids.bids.files import write_json, write_tsv
from brainage_bids.bids.outputs import Outputs
from brainage_bids.result_tables import BY_NAME
from brainage_bids.schema import BRAINAGE_COLUMNS, DATASET, RATE_AGE
from brainage_bids.table_declaration import TEXT

BY_MODEL = {  # columns of brainage.tsv that end in the name of the model; the longest that fits counts
    "predicted_age_sd_": "SD of the ages that the trainings of the model predict (years)",
    "predicted_age_": "predicted age (years)",
    "conformal_p_": "one-sided conformal p: share of held-out healthy people who look at least this old for their age",
    "bag_corrected_": "brain age gap after removal of the age-bias line (years)",
    "bag_": "brain age gap: predicted minus chronological age (years)",
}
SCORE = "clinical score as found in the data"
BRAINAGE = {
    **BRAINAGE_COLUMNS,
    DATASET: TEXT[DATASET],
    RATE_AGE: "age for rates of change, where the ages of sessions are whole years: that of the first session plus "
    "the time since then by dates or labels (years)",
}


def write_group_table(
    outputs: Outputs, name: str, table: pd.DataFrame, about: Mapping[str, object] | None = None
) -> Path:
    """Write ``group/<name>.tsv`` and the JSON file that explains every column; ``about`` stands there beside them."""
    sidecar = {column: {"Description": words} for column, words in meanings_of(name, table.columns).items()}
    path = write_tsv(outputs.group_table(name), table)
    write_json(path.with_suffix(".json"), sidecar | dict(about or {}))
    return path


def meanings_of(table: str, columns: Iterable[str]) -> dict[str, str]:
    """Return what each of these columns of ``group/<table>.tsv`` means.

    In ``brainage`` a column of no known name is a clinical score.

    Raises
    ------
    KeyError
        When a column of another table is explained nowhere.
    """
    if table != "brainage":
        return {name: BY_NAME[table].meaning(name) for name in columns}
    by_model = {name: text for name in columns for start, text in reversed(BY_MODEL.items()) if name.startswith(start)}
    return {name: BRAINAGE.get(name, by_model.get(name, SCORE)) for name in columns}
