"""Read text files from other sources as UTF-8, completely or not at all, and report what is wrong and where.

A file that is not UTF-8 text (a pointer to missing content, a spreadsheet, a web page, UTF-16) is refused and named as
what it is. Read with another encoding, it could give other letters and numbers.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

from brainage_bids.errors import BadDataError, NoInputError, shorten

POINTER_SIZE = 1024  # bytes; a pointer to content elsewhere is a shorter text
JSON_DEPTH = 100  # levels of nested objects; BIDS needs five
# Numbers that may not be finite. What follows the exponent keeps out the hashes, in which 3e12 is no number.
_LARGE = re.compile(r"[0-9][eE]\+?[0-9]{2,}(?:[\s,\]}]|\Z)", re.ASCII)
_LONG = re.compile(r"[0-9]{300}", re.ASCII)
_ANNEX = re.compile(rb"[./\\]*(?:\.git[/\\])?annex[/\\]objects[/\\]")
_FETCH = "fetch it with `datalad get` or `git annex get`"  # without file name, as one line reports many files
_LFS = b"version https://git-lfs"
_LINE = re.compile(r"\r\n|\r|\n")
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that is not UTF-8
_WEB_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)

_FORMATS = {  # first bytes of files that are often saved, or renamed, as tables
    b"PK\x03\x04": "is a spreadsheet or ZIP file (.xlsx, .ods), not text; export it as tab-separated UTF-8 text",
    b"\xd0\xcf\x11\xe0": "is an old Excel file (.xls), not text; export it as tab-separated UTF-8 text",
    b"\x1f\x8b": "is compressed (gzip), not text; unpack it",
    b"%PDF": "is a PDF file, not text; export the table as text",
    b"{\\rtf": "is a word processor's file (RTF), not text; save it as plain UTF-8 text",
    b"\xff\xfe\x00\x00": "is UTF-32 text; save it as UTF-8",
    b"\x00\x00\xfe\xff": "is UTF-32 text; save it as UTF-8",
    b"\xff\xfe": "is UTF-16 text (what spreadsheets call Unicode text); save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text (what spreadsheets call Unicode text); save it as UTF-8",
}


class Unreadable(BadDataError):
    """A file cannot be read; ``reason`` follows its name in the message and says why and what to do."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path, self.reason = path, reason


class NotFetched(Unreadable):
    """The content of a file is not here: a broken link, or a pointer of git-annex or git LFS."""

    exit_code = NoInputError.exit_code


class Ambiguous:
    """Replaces the value of a name that occurs several times in a JSON object with different values."""


def not_fetched(path: str | Path) -> str | None:
    """Return why the content of a file is not here and how to get it; None when it is here, or there is no file.

    Used for images, tables and sidecars. Finds broken links, git-annex pointers (also in a dataset unpacked with links
    as plain files) and git LFS pointers.
    """
    path = os.fspath(path)
    try:
        size = os.stat(path).st_size
    except ValueError:
        return None
    except OSError:
        return _broken_link(path)
    if not 0 < size < POINTER_SIZE or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as stream:
            head = stream.read(POINTER_SIZE)
    except OSError:
        return None  # reported when the file is read
    return _pointer(head)


def _pointer(content: bytes) -> str | None:
    if _ANNEX.match(content):
        return f"is not fetched: it is a git-annex pointer; {_FETCH}"
    if content.startswith(_LFS):
        return "is not fetched: it is a git LFS pointer; fetch it with `git lfs pull`"
    return None


def _broken_link(path: str) -> str | None:
    if not os.path.islink(path):
        return None
    target = os.readlink(path)
    if _ANNEX.search(os.fsencode(target)):
        return f"is not fetched: it is a broken link into git-annex; {_FETCH}"
    return f"is a broken link (to {shorten(target)}); fetch or restore what it points to"


def read_text(path: str | Path, keep_bytes: bool = False) -> str:
    """Read a file of UTF-8 text (a byte-order mark is accepted).

    Parameters
    ----------
    keep_bytes
        Keep bytes that are not UTF-8 (:func:`damaged` finds them) instead of refusing the whole file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    Unreadable
        When it is not fetched, cannot be opened, or is not UTF-8 text; the reason names the line.
    """
    return decode(read_bytes(path), path, keep_bytes)


def read_bytes(path: str | Path) -> bytes:
    """Read a file of a dataset.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    Unreadable
        When it is not fetched, or cannot be opened.
    """
    try:
        if stat.S_ISCHR(os.stat(path).st_mode):
            raise Unreadable(path, "is a device, not a file; give the path of a file")
        raw = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise Unreadable(path, "is a folder, not a file; rename or remove it") from error
    except PermissionError as error:
        raise Unreadable(path, f"cannot be read ({error.strerror}); check its permissions") from error
    except OSError as error:
        if reason := _broken_link(os.fspath(path)):
            raise NotFetched(path, reason) from error
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise
        raise _not_read(path, error) from error
    except ValueError as error:
        raise _not_read(path, error) from error
    if len(raw) < POINTER_SIZE and (reason := _pointer(raw)):
        raise NotFetched(path, reason)
    return raw


def _not_read(path: str | Path, error: OSError | ValueError) -> Unreadable:
    """Return the error for a loop of links, an impossible file name, or a failing disk."""
    reason = getattr(error, "strerror", None) or error
    return Unreadable(shorten(path, 200), f"cannot be read ({reason}); check its path and its disk")


def decode(raw: bytes, path: str | Path, keep_bytes: bool = False) -> str:
    """Return the text in the bytes of a file; see `read_text`.

    Raises
    ------
    Unreadable
        When it is not UTF-8 text.
    """
    for start, reason in _FORMATS.items():
        if raw.startswith(start):
            raise Unreadable(path, reason)
    if b"\0" in raw:
        raise Unreadable(path, _why_nul(raw))
    text = raw.decode("utf-8-sig", "surrogateescape")
    if _WEB_PAGE.match(text):
        raise Unreadable(path, "is a web page (line 1 is HTML or XML), not the file itself; download it again")
    if not keep_bytes and not text.isascii() and (bad := _NOT_UTF8.search(text)):
        byte, line = ord(bad[0]) - 0xDC00, line_at(text, bad.start())
        raise Unreadable(path, f"is not UTF-8 text: line {line} holds the byte 0x{byte:02x}; save it as UTF-8")
    return text


def _why_nul(raw: bytes) -> str:
    odd, even = raw[1::2].count(0), raw[0::2].count(0)
    if max(odd, even) > 0.4 * len(raw) / 2 > 4 * min(odd, even):
        return "is UTF-16 text without a byte-order mark (line 1); save it as UTF-8"
    line = len(re.split(rb"\r\n|\r|\n", raw[: raw.index(0)]))
    return f"is damaged or no text: line {line} holds a NUL byte; restore it or save it as UTF-8 text"


def split_lines(text: str) -> list[str]:
    """Split a text at the line ends of Unix, Windows and old Macs only."""
    return _LINE.split(text)


def line_at(text: str, position: int) -> int:
    """Return the line number of a position; the first line is 1."""
    return len(_LINE.findall(text, 0, position)) + 1


def damaged(text: str) -> bool:
    """Return whether a text read with ``keep_bytes`` holds a byte that is not UTF-8."""
    return _NOT_UTF8.search(text) is not None


def mended(text: str) -> str:
    """Return a text with each byte that is not UTF-8 replaced by a question mark in a box."""
    return _NOT_UTF8.sub("\ufffd", text)


# --- JSON -----------------------------------------------------------------------------------------------------------


def read_json(path: str | Path, odd: list[str] | None = None) -> Any:
    """Read JSON (a byte-order mark is accepted).

    Parameters
    ----------
    odd
        If given, small problems are added to this list, not raised. Impossible numbers (``NaN``, too large) become
        None, and a name with several values gets :class:`Ambiguous`.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    Unreadable
        When it cannot be read or is not JSON; the reason names the place.
    """
    return parse_json(read_text(path), path, odd)


def parse_json(text: str, path: str | Path, odd: list[str] | None = None) -> Any:
    """Return the value of a JSON text; see `read_json`. ``path`` is named in errors.

    Raises
    ------
    Unreadable
        When it is not JSON.
    """
    problems: list[str] = []

    def no_number(word: str) -> None:
        problems.append(f"holds {shorten(word, 20)}, which is not a usable number")

    def whole(digits: str) -> int | None:
        return int(digits) if len(digits) < 300 else no_number(digits)

    def real(digits: str) -> float | None:
        value = float(digits)
        return value if math.isfinite(value) else no_number(digits)

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(members)
        if len(values) < len(members):
            for name, value in members:
                if value != values[name]:
                    problems.append(f"gives {shorten(name)!r} several values")
                    values[name] = Ambiguous()
        return values

    hooks: dict[str, Any] = {"object_pairs_hook": pairs, "parse_constant": no_number}
    if _LARGE.search(text) or (max(map(len, text.split("\n"))) >= 300 and _LONG.search(text)):
        hooks |= {"parse_int": whole, "parse_float": real}  # without them numbers are read in C, four times as fast
    try:
        value = json.loads(text, **hooks)
        deep = text.count("{") + text.count("[") > JSON_DEPTH and _is_deep(value)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise Unreadable(path, f"is not JSON ({place}); repair or remove it" if text.strip() else "is empty") from error
    except RecursionError:
        deep = True
    if deep:
        raise Unreadable(path, f"is not JSON that can be used: it is nested deeper than {JSON_DEPTH}; repair it")
    if problems and odd is None:
        raise Unreadable(path, f"is not JSON: it {problems[0]}; repair it")
    if odd is not None:
        odd.extend(dict.fromkeys(problems))
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(JSON_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def is_ambiguous(value: Any) -> bool:
    """Return whether a JSON value is or contains :class:`Ambiguous`."""
    return isinstance(value, Ambiguous) or any(map(is_ambiguous, _inside(value)))
