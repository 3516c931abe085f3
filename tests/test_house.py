"""The house is as CONTRIBUTING.md says: names that are met once, files that can be read in one sitting."""

from collections import Counter
from pathlib import Path

import brainage_bids

FILES = sorted(Path(brainage_bids.__file__).parent.rglob("*.py"))
LONGEST = 520  # lines


def test_no_two_files_have_one_name():
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert not {name for name, n in names.items() if n > 1}


def test_no_file_is_too_long_to_read():
    assert not [path.name for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST]
