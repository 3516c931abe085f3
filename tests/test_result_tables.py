"""Every table of results is declared once: each column is explained, and what is said of it can be done."""

import importlib
import inspect
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

import brainage_bids
from brainage_bids import schema
from brainage_bids.app.types import Analysis
from brainage_bids.bids.files import read_json, read_tsv
from brainage_bids.bids.grouptables import meanings_of, write_group_table
from brainage_bids.bids.outputs import Outputs
from brainage_bids.report.html_tables import FORMS
from brainage_bids.result_tables import BY_NAME, GROUP_TABLES
from brainage_bids.table_declaration import NUMBERS, TEXT

TEMPLATE = (Path(brainage_bids.__file__).parent / "report" / "templates" / "group.html").read_text()
declared = pytest.mark.parametrize("table", GROUP_TABLES, ids=lambda table: table.name)


@declared
def test_every_column_has_a_meaning(table):
    meanings = meanings_of(table.name, table.columns)
    assert list(meanings) == table.columns
    assert all(words and words != name for name, words in meanings.items())
    assert not set(table.own) - set(table.columns)
    assert not set(table.texts.split()) - set(table.columns)


def test_no_meaning_is_left_over():
    columns = {name for table in GROUP_TABLES for name in table.columns} | {*schema.BRAINAGE_COLUMNS, schema.DATASET}
    assert not {*TEXT, *NUMBERS} - columns


@declared
def test_the_page_shows_columns_that_there_are_in_forms_that_there_are(table):
    for name, page in table.pages.items():
        assert f"tables.{name}" in TEMPLATE
        for shown in page.columns:
            form, *columns = shown.form.split()
            assert form in FORMS
            known = {*table.columns, schema.DATASET, *(["ci", "g_ci"] if form == "line_estimate" else [])}
            assert not set(columns) - known


@pytest.mark.parametrize("table", [table for table in GROUP_TABLES if table.made_by], ids=lambda table: table.name)
def test_what_makes_a_table_takes_what_it_is_given(table):
    module, function, names = table.call
    takes = inspect.signature(getattr(importlib.import_module(f"brainage_bids.stats.{module}"), function)).parameters
    required = [name for name, one in takes.items() if one.default is inspect.Parameter.empty]
    assert len(required) <= len(names) <= len(takes)
    earlier = [other.name for other in GROUP_TABLES[: GROUP_TABLES.index(table)]]
    held = {*(one.name for one in fields(Analysis)), "selected_controls"}
    assert set(names) <= held | set(earlier)


def test_tables_have_names_of_their_own():
    assert len(BY_NAME) == len(GROUP_TABLES)


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
