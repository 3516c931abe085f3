"""Run a program of ANTs out of the antspyx package: ``python -m <this module> PROGRAM ARGS``.

antspyx holds the programs of ANTs as functions that take the same arguments. A process of their own for each call gives
them their one thread and takes their memory and their crashes away, as with the real programs.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run it; return its exit code."""
    from ants import lib

    program, *arguments = sys.argv[1:]
    return int(getattr(lib, program)(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())
