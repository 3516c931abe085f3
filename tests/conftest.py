"""Which tests go to the same worker."""

import pytest


def pytest_collection_modifyitems(items):
    """Keep each file, and the files of the one trained study, on one worker: what is costly is made once."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("study" if "study" in item.fixturenames else item.path.stem))
