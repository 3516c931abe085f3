"""Text that others will read: places are told from BIDS_DIR and OUTPUT_DIR on, and the folders above stay private.

Pages, tables and sidecars are handed over; ``logs/<run>`` keeps the whole command and paths for whoever ran it.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

# What goes before a path in a sentence; not a letter, else 1/2/3 and https://a/b would be paths.
_BEFORE = r"(?<![\w.:/~-])"
_OTHER = re.compile(_BEFORE + r"(?:~[\w.-]*|\.\.?)?/(?:[^\s/'\",;:()\[\]<>]+/)*(?=[^\s/'\",;:()\[\]<>])")
_PEOPLE = re.compile(r"--(?:exclude[-_])?(?:participants?|subject)(?:[-_](?:label|id))?$")
_LABEL = re.compile(r"\bsub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Places:
    """The two folders of a run, by whose names its places are told.

    Parameters
    ----------
    output_dir, bids_dir
        As given; BIDS_DIR may be unknown.
    """

    output_dir: Path
    bids_dir: Path | None = None

    def text(self, text: str) -> str:
        """Return text whose paths begin at BIDS_DIR or OUTPUT_DIR; of any other absolute path the name is left."""
        for name, root in self._roots():
            text = re.sub(_BEFORE + re.escape(root) + r"(?=[/\s'\",;:=)\]]|$)", name, text)
        return _OTHER.sub(lambda found: found[0] if found[0] == "/" else ".../", text)  # "a /b" is no folder

    def command(self, command: str) -> str:
        """Return a command line with its places told so, and people counted instead of named."""
        program, *arguments = shlex.split(command)
        told, people = [shlex.quote(program)], None  # people: how many labels stood after the flag that is last in told
        for argument in [*arguments, "--"]:
            name, equals, value = argument.partition("=")
            if people is not None and not argument.startswith("-"):
                people += 1
                continue
            if people is not None:
                told[-1] += f" ({people} label{'s' * (people != 1)})"
                people = None
            if argument.startswith("--") and _PEOPLE.match(name):
                told.append(name)
                people = int(bool(equals))
            elif argument.startswith("--") and equals:
                told.append(f"{name}={self._argument(value)}")
            else:
                told.append(self._argument(argument))
        return " ".join(told[:-1])

    def _argument(self, argument: str) -> str:
        """Return one argument; what is a file or folder from here on is taken for the place that it is."""
        parts = re.split(r"([=:,])", argument)
        full = [os.path.abspath(part) if os.sep in part and os.path.exists(part) else part for part in parts]
        if os.path.exists(argument) and any(os.path.realpath(argument) == root for _, root in self._roots()):
            full = [os.path.realpath(argument)]
        told = _LABEL.sub("sub-...", "".join(map(self.text, full)))
        return told if re.fullmatch(r"[\w./=:,+-]+", told) else shlex.quote(told)

    def _roots(self) -> list[tuple[str, str]]:
        """Return name and path of the two folders, in every form a message may hold, the longest first."""
        found = {}
        for name, root in (("OUTPUT_DIR", self.output_dir), ("BIDS_DIR", self.bids_dir)):
            if root is not None:
                for path in (os.fspath(root), os.path.abspath(root), os.path.realpath(root)):
                    if os.sep in path.strip(os.sep) or os.path.isabs(path):
                        found.setdefault(path.rstrip(os.sep), name)
        return sorted(((name, path) for path, name in found.items() if path), key=lambda pair: -len(pair[1]))
