"""The benchmarks can be started: what they import is there, and what they time has the name that they give it."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_benchmark_can_be_imported(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    for place, functions in getattr(module, "STEPS", {}).items():
        timed = importlib.import_module(f"brainage_bids.{place}")
        assert all(hasattr(timed, function) for function in functions.split())
