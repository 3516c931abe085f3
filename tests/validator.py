"""The validator of BIDS; tests that need it are skipped where it is not installed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VALIDATOR = shutil.which("bids-validator-deno", path=Path(sys.executable).parent) or shutil.which("bids-validator-deno")
needs_validator = pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")


def bids_errors(root):
    """Return code and place of every error."""
    done = subprocess.run([VALIDATOR, root, "--json"], capture_output=True, text=True, timeout=120)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [(issue["code"], issue.get("location")) for issue in issues if issue.get("severity") == "error"]
