"""The anatomy of all phantoms of 4 mm, which takes seconds to build."""

import pytest

from brainage_bids.phantom.anatomy import build_anatomy


@pytest.fixture(scope="session")
def anatomy():
    return build_anatomy(4.0)
