"""Where the reference values lie; a module of its own, since every folder of tests has a ``conftest``."""

from pathlib import Path

REFERENCE = Path(__file__).parent.parent / "reference"
