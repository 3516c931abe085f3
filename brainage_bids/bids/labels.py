"""Read the labels of participants and sessions given to options, typed or in text files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from brainage_bids.bids.parse import label, natural_key
from brainage_bids.bids.text import Unreadable, read_text, split_lines
from brainage_bids.errors import NoInputError, UsageError, shorten

LONGEST = 200  # characters of a label; a file name has at most 255
_HEADINGS = {"sub": "participant_id", "ses": "session_id"}


def read_labels(
    entries: Iterable[str], prefix: str, known: Iterable[str], option: str, may_be_empty: bool = False
) -> tuple[str, ...]:
    """Return the labels given to an option, with their prefix; all are in the dataset.

    Parameters
    ----------
    entries
        Labels with or without prefix, separated by commas or blanks, or text files of labels. In a file, text after
        ``#`` is a comment; in a table the column ``participant_id`` or ``session_id`` is read.
    prefix
        ``sub`` or ``ses``.
    known
        Labels of the dataset.
    option
        Name of the option, for the message.
    may_be_empty
        Accept files without a label.

    Raises
    ------
    UsageError
        When a label is not in the dataset (the message names similar ones), or a file is not a list of labels.
    NoInputError
        When an entry looks like a file that is not there.
    """
    known = dict.fromkeys(known)
    entries = [str(entry) for entry in entries]
    words = [word for entry in entries for word in _words(entry, prefix, option)]
    asked = list(dict.fromkeys(filter(None, (_label(word, prefix, option) for word in words))))
    if entries and not asked and not may_be_empty:
        raise UsageError(f"{option}: {shorten(' '.join(entries))!r} holds no label; give at least one, or leave it out")
    unknown = [text for text in asked if text not in known]
    if unknown:
        listed = "; ".join(_nearest(text, known) for text in unknown[:5])
        more = f"; and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise UsageError(f"{option}: not in the dataset: {listed}{more}")
    return tuple(asked)


def _label(word: str, prefix: str, option: str) -> str | None:
    if len(word) > LONGEST:
        raise UsageError(f"{option}: {shorten(word)} is no label; give labels as in sub-01, or a text file of them")
    try:
        return label(word, prefix)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def _is_file(entry: str) -> bool:
    try:
        return Path(entry).is_file()
    except (OSError, ValueError):  # a list of labels longer than a file name may be
        return False


def _words(entry: str, prefix: str, option: str) -> list[str]:
    bare = re.fullmatch(r"[0-9A-Za-z+\-, ]*", entry)
    if _is_file(entry):
        return _words_of_file(entry, prefix, option)
    if not bare and ("/" in entry or "\\" in entry or "." in entry):
        raise NoInputError(f"{option}: {shorten(entry)!r} is neither a label nor a file that is there; check the path")
    return [word for word in re.split(r"[,;\s]+", entry) if word]


def _words_of_file(path: str, prefix: str, option: str) -> list[str]:
    try:
        lines = split_lines(read_text(path))
    except Unreadable as error:
        raise UsageError(f"{option}: {shorten(path)} {error.reason}") from error
    lines = [text for line in lines if (text := line.partition("#")[0].strip(" \xa0")).strip(" \t,;")]
    cut = next((mark for mark in "\t,;" if lines and mark in lines[0]), None)
    heads = [cell.strip() for cell in lines[0].split(cut)] if lines else []
    if _HEADINGS[prefix] in heads:  # a table
        column = heads.index(_HEADINGS[prefix])
        cells = [line.split(cut) for line in lines[1:]]
        return [row[column].strip() for row in cells if len(row) > column]
    return [word for line in lines for word in re.split(r"[,;\s]+", line) if word]


def _nearest(text: str, known: Collection[str]) -> str:
    if not known:
        return f"{text} (the dataset has none)"
    low = text.lower()
    numbers = [k for k in known if natural_key(k.lower()) == natural_key(low)]
    padded = [k for k in known if re.sub(r"0+(?=\d)", "", k.lower()) == re.sub(r"0+(?=\d)", "", low)]
    near = list(dict.fromkeys([*numbers, *padded, *difflib.get_close_matches(text, known, n=3, cutoff=0.5)]))
    return f"{text} (nearest: {', '.join(near[:3] or sorted(known, key=natural_key)[:3])})"
