"""Run an ANTs program from the antspyx package: ``python -m <this module> PROGRAM ARGS``.

antspyx has the ANTs programs as functions with the same arguments. Each call runs in its own process, so that it uses
one thread, frees its memory, and cannot crash the main program.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the program; return its exit code."""
    from ants import lib

    program, *arguments = sys.argv[1:]
    return int(getattr(lib, program)(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())
