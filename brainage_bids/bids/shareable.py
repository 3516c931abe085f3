"""Shorten paths in texts that are shared, so that they begin at BIDS_DIR or OUTPUT_DIR and show no private folders.

This is for pages, tables and sidecars. ``logs/<run>`` keeps the full command and paths for the person who ran it.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

# A path begins after anything but these characters; otherwise 1/2/3 and https://a/b would be paths.
_BEFORE = r"(?<![\w.:/~-])"
_OTHER = re.compile(_BEFORE + r"(?:~[\w.-]*|\.\.?)?/(?:[^\s/'\",;:()\[\]<>]+/)*(?=[^\s/'\",;:()\[\]<>])")
_PEOPLE = re.compile(r"--(?:exclude[-_])?(?:participants?|subject)(?:[-_](?:label|id))?$")
_LABEL = re.compile(r"\bsub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Places:
    """The two folders of a run; their names replace them in paths.

    Parameters
    ----------
    output_dir, bids_dir
        As given; BIDS_DIR may be unknown.
    """

    output_dir: Path
    bids_dir: Path | None = None

    def text(self, text: str) -> str:
        """Return a text with paths that begin at BIDS_DIR or OUTPUT_DIR; other absolute paths keep their last part."""
        for name, root in self._roots():
            text = re.sub(_BEFORE + re.escape(root) + r"(?=[/\s'\",;:=)\]]|$)", name, text)
        return _OTHER.sub(lambda found: found[0] if found[0] == "/" else ".../", text)  # "a /b" is not a path

    def command(self, command: str) -> str:
        """Return a command line with shortened paths, and the number of participants instead of their labels."""
        program, *arguments = shlex.split(command)
        words, people = [shlex.quote(program)], None  # people: number of labels after the option that is last in words
        for argument in [*arguments, "--"]:
            name, equals, value = argument.partition("=")
            if people is not None and not argument.startswith("-"):
                people += 1
                continue
            if people is not None:
                words[-1] += f" ({people} label{'s' * (people != 1)})"
                people = None
            if argument.startswith("--") and _PEOPLE.match(name):
                words.append(name)
                people = int(bool(equals))
            elif argument.startswith("--") and equals:
                words.append(f"{name}={self._argument(value)}")
            else:
                words.append(self._argument(argument))
        return " ".join(words[:-1])

    def _argument(self, argument: str) -> str:
        """Return one argument with shortened paths, also those relative to the working directory."""
        parts = re.split(r"([=:,])", argument)
        full = [os.path.abspath(part) if os.sep in part and os.path.exists(part) else part for part in parts]
        if os.path.exists(argument) and any(os.path.realpath(argument) == root for _, root in self._roots()):
            full = [os.path.realpath(argument)]
        short = _LABEL.sub("sub-...", "".join(map(self.text, full)))
        return short if re.fullmatch(r"[\w./=:,+-]+", short) else shlex.quote(short)

    def _roots(self) -> list[tuple[str, str]]:
        """Return name and path of the two folders, in every form a message may contain, the longest first."""
        roots = {}
        for name, root in (("OUTPUT_DIR", self.output_dir), ("BIDS_DIR", self.bids_dir)):
            if root is not None:
                for path in (os.fspath(root), os.path.abspath(root), os.path.realpath(root)):
                    if os.sep in path.strip(os.sep) or os.path.isabs(path):
                        roots.setdefault(path.rstrip(os.sep), name)
        return sorted(((name, path) for path, name in roots.items() if path), key=lambda pair: -len(pair[1]))
