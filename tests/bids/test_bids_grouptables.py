"""Every column of the group tables is explained, in words of its own."""

import pandas as pd
import pytest

from brainage_bids import schema
from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.bids.grouptables import MEANINGS, OF_TABLE, meanings_of, write_group_table
from brainage_bids.bids.outputs import Outputs
from brainage_bids.result_tables import (
    ACCURACY,
    CALIBRATION,
    COHORT,
    COHORTSITES,
    CORRELATIONCOMPARISON,
    CORRELATIONS,
    FAILED,
    FLAGS,
    GROUPDIFF,
    LONGITUDINAL,
    MISSING,
    MODELCOMPARISON,
    PATIENTS,
    RELIABILITY,
    ROC,
    ROC_CURVES,
    SALIENCY_CONTRASTS,
    SALIENCY_REGIONS,
    SITE,
)

TABLES = {
    "accuracy": ACCURACY.columns,
    "calibration": CALIBRATION.columns,
    "cohort": [*COHORT.columns, schema.DATASET],
    "cohortsites": COHORTSITES.columns,
    "correlationcomparison": CORRELATIONCOMPARISON.columns,
    "correlations": CORRELATIONS.columns,
    "failed": [*FAILED.columns, schema.DATASET],
    "flags": FLAGS.columns,
    "groupdiff": GROUPDIFF.columns,
    "longitudinal": LONGITUDINAL.columns,
    "missing": MISSING.columns,
    "modelcomparison": MODELCOMPARISON.columns,
    "patients": PATIENTS.columns,
    "reliability": RELIABILITY.columns,
    "leftout": ["participant_id", "session_id", "run", schema.DATASET, "reason"],
    "roc": ROC.columns,
    "roc_curves": ROC_CURVES.columns,
    "saliency_contrasts": SALIENCY_CONTRASTS.columns,
    "saliency_regions": list(SALIENCY_REGIONS.columns),
    "site": SITE.columns,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_meaning(table):
    meanings = meanings_of(table, TABLES[table])
    assert list(meanings) == list(TABLES[table])
    assert all(words and words != name for name, words in meanings.items())


def test_no_meaning_is_left_over():
    columns = {name for table in TABLES.values() for name in table} | set(schema.BRAINAGE_COLUMNS)
    assert not set(MEANINGS) - columns
    for table, words in OF_TABLE.items():
        if table in TABLES:
            assert not set(words) - set(TABLES[table]), table


def test_a_table_is_written_with_its_explanations(tmp_path):
    outputs = Outputs(tmp_path)
    table = pd.DataFrame({"model": ["m"], "n": [3], "status": ["ok"], "note": [""]})
    path = write_group_table(outputs, "accuracy", table, {"Atlas": "x"})
    assert read_tsv(path).model.tolist() == ["m"]
    sidecar = read_json(path.with_suffix(".json"))
    assert sidecar["n"] == {"Description": "people"}
    assert sidecar["Atlas"] == "x"


def test_columns_of_models_and_scores():
    names = ["predicted_age_m", "bag_m", "bag_corrected_m", "conformal_p_m", "adas11", schema.DATASET]
    words = meanings_of("brainage", names)
    assert words["bag_m"].startswith("brain age gap: predicted minus")
    assert "line removed" not in words["bag_m"]
    assert "age-bias line" in words["bag_corrected_m"]
    assert words["adas11"] == "clinical score as found in the data"
    assert words[schema.DATASET].startswith("Name of the dataset")


def test_a_column_that_is_explained_nowhere_is_a_mistake():
    with pytest.raises(KeyError, match="'new' of accuracy"):
        meanings_of("accuracy", ["model", "new"])
