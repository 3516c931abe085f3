"""The error family. Each error knows the exit code it becomes; only the command line turns one into the other.

The codes follow the draft BIDS execution specification and sysexits.
"""

from __future__ import annotations

LONGEST_LINE = 700  # characters of a line that a person is told


def shorten(value: object, limit: int = 80) -> str:
    """Return a value as the text of one line for a message, cut when it is long: ``abcd... (5000 characters)``."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else f"{text[:limit].rstrip()}... ({len(text)} characters)"


def cut_lines(text: str) -> str:
    """Return a message with the middle of every line cut that is long; what is wrong and the way out stay."""
    room = LONGEST_LINE // 2 - 20
    cut = [
        line if len(line) <= LONGEST_LINE else f"{line[:room]} ... ({len(line)} characters) ... {line[-room:]}"
        for line in text.splitlines()
    ]
    return "\n".join(cut)


class BrainageError(Exception):
    """Base of every error a user may meet; the message is one sentence: the thing, its value, the way out."""

    exit_code = 1


class ParticipantsFailed(BrainageError):
    """Some participants failed; the others are finished and the failures are listed."""

    exit_code = 1


class InvalidDatasetError(BrainageError):
    """The BIDS dataset has faults that make its numbers unsafe to use."""

    exit_code = 16


class UnknownLevelError(BrainageError):
    """The analysis level is neither participant nor group."""

    exit_code = 17


class NothingSelectedError(BrainageError):
    """The filters leave no scan."""

    exit_code = 18


class UsageError(BrainageError):
    """The command line asks for something that cannot be."""

    exit_code = 64


class BadDataError(BrainageError):
    """A file is there, but what it holds cannot be used."""

    exit_code = 65


class NoInputError(BrainageError):
    """An input that the command needs is not there."""

    exit_code = 66


class CannotCreateError(BrainageError):
    """An output cannot be created."""

    exit_code = 73


class InputOutputError(BrainageError):
    """Reading or writing failed half way (disk full, network file system gone)."""

    exit_code = 74


class NoRoomError(InputOutputError):
    """There is no room for what is written: a full disk, a used-up quota. It ends a run, whatever is left to do."""


class TryAgainError(BrainageError):
    """A passing condition (a lock, memory) stopped the run; running again may work."""

    exit_code = 75


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error becomes; 70 is a mistake of ours."""
    if isinstance(error, BrainageError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return InputOutputError.exit_code if isinstance(error, OSError) else 70
