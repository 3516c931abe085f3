"""For all tests: which processes hear Ctrl-C, and which are measured."""

import os
import signal

# A shell ignores Ctrl-C for what runs in its background, which every command that a test starts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `make coverage` measures the processes of pytest. The commands that tests start would take a third longer.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
