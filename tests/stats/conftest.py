import pandas as pd
import pytest
from references import REFERENCE, edge_cases, reference_results

from brainage_bids.bids.files import numbers, read_tsv
from brainage_bids.stats import bias


@pytest.fixture(scope="session")
def expected():
    return reference_results()


@pytest.fixture(scope="session", name="edge_cases")
def cases():
    return edge_cases()


@pytest.fixture(scope="session")
def reference_table():
    """The 184 reference people in the shape of group/brainage.tsv, corrected on the 60 validation controls."""
    table = read_tsv(REFERENCE / "reference_table.tsv")
    for name in ("age", "pred_a", "pred_b", "adas11", "updrs3", "hy", "eicv_ml"):
        table[name] = numbers(table[name])
    table = table.assign(run=None, age_source="made", age_flags=None, qc_pass=1.0, in_training=0.0)
    for model in "ab":
        table = table.rename(columns={f"pred_{model}": f"predicted_age_{model}"})
        table[f"bag_{model}"] = table[f"predicted_age_{model}"] - table["age"]
        rows = pd.DataFrame({"age": table["age"], "predicted_age": table[f"predicted_age_{model}"], "fold": None})
        corrected = bias.correct_with_calibration(rows, rows[table["split"] == "val"])
        table[f"bag_corrected_{model}"] = corrected["bag_corrected"]
    return table


@pytest.fixture(scope="session")
def tested(reference_table):
    return reference_table[reference_table["split"] == "test"].reset_index(drop=True)
