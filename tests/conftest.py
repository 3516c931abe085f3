"""For all tests: commands they start hear Ctrl-C, also where the tests themselves run in the background of a shell."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # such a shell ignores it, which every command would inherit
