"""The errors of this program. Each class has the exit code that the command line ends with.

The codes follow the draft BIDS execution specification and sysexits.
"""

from __future__ import annotations

LONGEST_LINE = 700  # characters of a line of a message


def shorten(value: object, limit: int = 80) -> str:
    """Return a value as one line of text for a message; long text is cut: ``abcd... (5000 characters)``."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else f"{text[:limit].rstrip()}... ({len(text)} characters)"


def cut_lines(text: str) -> str:
    """Return a message with the middle of every long line removed; the start and the end of a line are kept."""
    room = LONGEST_LINE // 2 - 20
    cut = [
        line if len(line) <= LONGEST_LINE else f"{line[:room]} ... ({len(line)} characters) ... {line[-room:]}"
        for line in text.splitlines()
    ]
    return "\n".join(cut)


class BrainageError(Exception):
    """Base of every error a user may see. The message is one sentence: what is wrong, its value, and what to do."""

    exit_code = 1


class ParticipantsFailed(BrainageError):
    """Some participants failed; the others are finished and the failures are listed."""

    exit_code = 1


class InvalidDatasetError(BrainageError):
    """The BIDS dataset has errors that could make results wrong."""

    exit_code = 16


class UnknownLevelError(BrainageError):
    """The analysis level is neither participant nor group."""

    exit_code = 17


class NothingSelectedError(BrainageError):
    """No scan is left after the filters."""

    exit_code = 18


class UsageError(BrainageError):
    """The command line is wrong, or asks for something impossible."""

    exit_code = 64


class BadDataError(BrainageError):
    """A file exists, but its content cannot be used."""

    exit_code = 65


class NoInputError(BrainageError):
    """An input that the command needs does not exist."""

    exit_code = 66


class CannotCreateError(BrainageError):
    """An output cannot be created."""

    exit_code = 73


class InputOutputError(BrainageError):
    """Reading or writing failed, for example because a network drive is gone."""

    exit_code = 74


class NoRoomError(InputOutputError):
    """The same code: the disk is full or the quota is used up. This always ends the run."""


class TryAgainError(BrainageError):
    """A temporary condition (a lock, too little memory) stopped the run; running again may work."""

    exit_code = 75


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error; 70 means a bug of ours."""
    if isinstance(error, BrainageError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return InputOutputError.exit_code if isinstance(error, OSError) else 70
