"""The reference values, which other programs computed, and the edge cases of the specification."""

import json
from pathlib import Path

REFERENCE = Path(__file__).parent / "reference"


def reference_results():
    return json.loads((REFERENCE / "reference_results.json").read_text())


def edge_cases():
    """Return id -> case."""
    return {case["id"]: case for case in json.loads((REFERENCE / "edge_cases.json").read_text())}
