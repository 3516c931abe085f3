"""Translate the command line as people type it into the arguments that typer accepts."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from brainage_bids.bids.text import Unreadable, read_text
from brainage_bids.errors import NoInputError, UsageError, shorten

# Options that accept several values after one flag, as other BIDS Apps do.
OPTIONS_OF_SEVERAL_VALUES = {
    "--participant-label", "--participant_label", "--exclude-participant-label", "--session-label", "--session-id",
    "--session_label", "--model", "--control", "--score", "--covariate", "--predictions", "--derivatives", "--set",
    "--values", "--seeds", "--also", "--age-column", "--sex-column",
}  # fmt: skip

# Names of the same options in fMRIPrep, MRIQC, sMRIPrep and their older versions.
OTHER_NAMES = {
    "--n-procs": "--nprocs", "--num-threads": "--nprocs", "--n-threads": "--nprocs", "--n-jobs": "--nprocs",
    "--ants-nthreads": "--omp-nthreads", "--nthreads-per-proc": "--omp-nthreads",
    "--mem-gb": "--mem", "--memory-gb": "--mem", "--nipype-plugin": "--use-plugin", "--working-dir": "--work-dir",
    "--work-directory": "--work-dir", "--participant": "--participant-label", "--participants": "--participant-label",
    "--participant-id": "--participant-label", "--subject-label": "--participant-label",
    "--session": "--session-label", "--sessions": "--session-label", "--ses": "--session-label",
    "--skip-bids-validator": "--skip-bids-validation", "--bids-filters": "--bids-filter-file",
    "--bids-db": "--bids-database-dir", "--database-dir": "--bids-database-dir", "--seed": "--random-seed",
}  # fmt: skip
IN_MB = ("--mem-mb", "--memory-mb")
DOUBTFUL = 4.0  # a --mem of more than this many times the memory of the machine is probably a slip


def prepare_arguments(argv: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return the arguments in the form that typer accepts.

    Option names of other programs, and names with underscores, become our names. The options of ``--config-file`` are
    added. A flag with several values is repeated for each value.

    Parameters
    ----------
    argv
        The arguments as typed.
    known
        Each spelling of an option -> the first spelling of that option.

    Raises
    ------
    UsageError
        When an argument is not text, an option has no value or the config file cannot be understood.
    """
    refuse_odd(argv)
    with_config = from_config(renamed(argv, known), known)
    refuse_odd(with_config)
    return repeat_options(renamed(with_config, known))


def refuse_odd(argv: Iterable[str]) -> None:
    """Refuse arguments that are empty, not UTF-8, or contain a NUL character.

    An empty path would mean the current folder. The other two could not be written into any page or table.

    Raises
    ------
    UsageError
        When there is such an argument; the message names it.
    """
    for arg in argv:
        try:
            arg.encode("utf-8")
        except UnicodeEncodeError:
            shown = shorten(arg.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
            raise UsageError(f"{shown!r} holds bytes that are not UTF-8; rename the file or folder") from None
        if not arg or re.fullmatch(r"--[\w-]+=", arg):
            name = arg.rstrip("=") or "an argument"
            raise UsageError(f"{name} is empty, as an unset variable of the shell; give a value, or leave it out")
        if "\0" in arg:
            raise UsageError(f"{shorten(arg)!r} holds a NUL character, which no path and no name can; write it anew")


def resolved(path: Path) -> Path:
    """Return the absolute path, with links and ``..`` resolved.

    Raises
    ------
    UsageError
        When a link in the path leads back to itself.
    """
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:
        raise UsageError(
            f"{shorten(path)} cannot be followed: a link leads back to itself, or it is too long"
        ) from error


def renamed(argv: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return the arguments with our option names: ``--work_dir`` -> ``--work-dir``, ``--mem_mb 8`` -> ``--mem 8M``."""
    result: list[str] = []
    in_mb = False
    for at, arg in enumerate(argv):
        if arg == "--":
            return [*result, *argv[at:]]
        name, equals, value = arg.partition("=")
        dashed = "--" + name[2:].replace("_", "-")
        if in_mb:
            result.append(_megabytes(arg))
            in_mb = False
        elif not name.startswith("--") or name in known:
            result.append(arg)
        elif dashed in IN_MB and dashed not in known:
            result.append(f"--mem={_megabytes(value)}" if equals else "--mem")
            in_mb = not equals
        else:
            ours = OTHER_NAMES.get(dashed, dashed)
            result.append(ours + equals + value if ours in known else arg)
    return result


def _megabytes(text: str) -> str:
    return f"{text}M" if re.fullmatch(r"[\d.]+", text) else text


def repeat_options(argv: Sequence[str]) -> list[str]:
    """Turn ``--flag a b c`` into ``--flag a --flag b --flag c`` for the options that accept several values.

    The values of such a flag end at the next option. So the three positional arguments stand first, or after ``--``.

    Raises
    ------
    UsageError
        When such a flag has no value, as when a shell variable is empty. Without its value it would select everybody.
    """
    spread_args: list[str] = []
    flag, waiting = None, False  # the flag that the next values belong to; whether it still has no value
    for arg in (*argv, None):
        if flag is not None and arg is not None and (arg == "-" or not arg.startswith("-")):
            spread_args += [flag, arg]
            waiting = False
            continue
        if waiting:
            raise UsageError(f"{flag} has no value; give at least one, or leave it out")
        flag = arg if arg in OPTIONS_OF_SEVERAL_VALUES else None
        waiting = flag is not None
        if arg is not None and flag is None:
            spread_args.append(arg)
    return spread_args


def from_config(argv: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Append the options of ``--config-file FILE.toml`` that are not on the command line.

    Keys are option names without the leading dashes: ``nprocs = 2``, ``control = ["CN"]``, ``dry-run = true``.

    Raises
    ------
    UsageError
        When the file is not TOML, or does not contain options.
    NoInputError
        When the file does not exist.
    """
    argv = [part for arg in argv for part in (arg.split("=", 1) if arg.startswith("--config-file=") else [arg])]
    if "--config-file" not in argv:
        return argv
    at = argv.index("--config-file")
    if at + 1 == len(argv):
        raise UsageError("--config-file needs the path of a TOML file")
    path = Path(argv[at + 1])
    del argv[at : at + 2]
    values = _toml(path)
    given = {known.get(name, name) for arg in argv if arg.startswith("-") for name in (arg.partition("=")[0], arg[:2])}
    for key, value in values.items():
        if isinstance(value, dict):
            fault = f"[{shorten(key)}] is a table; write the options without headings"
            raise UsageError(f"--config-file {shorten(path)}: {fault}")
        flag = renamed([f"--{key}", "0"], known)[0]
        if known.get(flag, flag) in given or value is False:
            continue
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str | int | float):
                fault = f"{shorten(key)} is {shorten(repr(value))}; give text, numbers, true, or one list of them"
                raise UsageError(f"--config-file {shorten(path)}: {fault}")
            argv += [flag] if item is True else renamed([f"--{key}", str(item)], known)
    return argv


def _toml(path: Path) -> dict:
    try:
        return tomllib.loads(read_text(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoInputError(f"--config-file {shorten(path)} is not there; check the path") from error
    except Unreadable as error:
        raise UsageError(f"--config-file {shorten(path)} {error.reason}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise UsageError(f"--config-file {shorten(path)} is not TOML: {shorten(error)}") from error


def folds(text: str | None, most: int) -> int | str | None:
    """Return the value of ``--folds``: a number of folds, or the name of a column.

    Raises
    ------
    UsageError
        When it is a number that is not a whole one from 2 to ``most``.
    """
    name = None if text is None else text.strip()
    try:
        number = float(name or "nan")
    except ValueError:
        return name
    if name is None:
        return None
    if not re.fullmatch(r"\d{1,12}", name) or not 2 <= number <= most:
        raise UsageError(
            f"--folds {shorten(text)!r} is not a number of folds from 2 to {most}; give one, or the name of a column: "
            "--folds site leaves out one site after the other"
        )
    return int(number)


def memory_gb(text: str | None) -> float | None:
    """Return the value of ``--mem`` in GB. A number without a unit is GB; ``16G``, ``16GB`` and ``16000M`` work too.

    Raises
    ------
    UsageError
        When the text is not an amount of memory.
    """
    if text is None:
        return None
    amount = re.fullmatch(r"\s*(\d{1,12}(?:\.\d+)?)\s*([kmgt]?)b?\s*", text.lower())
    if not amount or float(amount[1]) == 0:
        raise UsageError(f"--mem {shorten(text)!r} is not an amount of memory; write for example 16 or 16G or 16000M")
    scale = {"": 1.0, "k": 1e-6, "m": 1e-3, "g": 1.0, "t": 1e3}[amount[2]]
    return float(amount[1]) * scale


def memory_doubt(gb: float) -> str | None:
    """Return a warning when this machine has far less memory than ``gb`` (GB), else None."""
    try:
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):  # this system does not say how much it has
        return None
    if gb <= DOUBTFUL * here:
        return None
    return (
        f"--mem: understood as {gb:g} GB, but this machine has {here:.0f} GB; a bare number is GB: if megabytes were "
        f"meant write --mem {gb:g}M; the memory of this machine is the limit"
    )
