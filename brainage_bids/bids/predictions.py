"""Read ages predicted elsewhere (volBrain, brainageR, another model): ``NAME=FILE[:ID_COLUMN:AGE_COLUMN]``.

Reads one table of text; knows no dataset. A table whose ids or ages are doubtful is refused: a shifted row would give
people each other's brain age.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd

from brainage_bids.bids.aliases import normalise
from brainage_bids.bids.parse import AGE_MAX, clean, label, parse_numbers, parse_text
from brainage_bids.errors import BadDataError, NoInputError, UsageError

ID_COLUMNS = ("participantid", "subjectid", "subject", "sub", "id", "file", "filename", "patientid")
SESSION_ID_COLUMNS = ("sessionid", "session", "ses")
AGE_COLUMNS = (
    "predictedage",
    "brainpredictedage",
    "brainage",
    "predictedbrainage",
    "predage",
    "agepredicted",
    "prediction",
)


def read_predictions(text: str) -> tuple[str, pd.DataFrame]:
    """Read the value of ``--predictions``.

    Parameters
    ----------
    text
        ``NAME=FILE`` or ``NAME=FILE:ID_COLUMN:AGE_COLUMN``. The file is separated by tabs, semicolons or commas and may
        use the decimal comma; ids are with or without ``sub-``, also inside a BIDS file name.

    Returns
    -------
    name, table
        ``participant_id``, ``session_id`` (None where the file has none), ``predicted_age`` (years, NaN when missing)
        and, where the file has it, ``dataset``.

    Raises
    ------
    UsageError, NoInputError, BadDataError
        When the text, the file or its content is wrong.
    """
    match = re.fullmatch(r"\s*([A-Za-z0-9][0-9A-Za-z_.-]*)\s*=\s*(.+)", text)
    if not match:
        raise UsageError(f"--predictions {text!r} must be NAME=FILE or NAME=FILE:ID_COLUMN:AGE_COLUMN")
    name, rest = match.groups()
    path, columns = _split(rest.strip())
    header, rows = _rows(path, name)
    id_column = _pick(header, columns[0], ID_COLUMNS, name, path)
    age_column = _pick(header, columns[1], AGE_COLUMNS, name, path)
    sessions = [i for i, column in enumerate(header) if normalise(column) in SESSION_ID_COLUMNS and i != id_column]
    datasets = [i for i, column in enumerate(header) if normalise(column) == "dataset"][:1]
    who = [
        (*_person(row[id_column], row[sessions[0]] if sessions else "", name, path),
         (parse_text(row[datasets[0]]) if datasets else None))
        for row in rows
    ]  # fmt: skip
    ages = _ages([row[age_column] for row in rows], header[age_column], name, path)
    twice = (
        sorted({" ".join(filter(None, key)) for key in who if who.count(key) > 1}) if len(set(who)) < len(who) else []
    )
    if twice:
        raise BadDataError(f"--predictions {name}: {path} lists {twice[0]} more than once; keep one row per scan")
    table = pd.DataFrame(who, columns=["participant_id", "session_id", "dataset"], dtype="object")
    table.insert(2, "predicted_age", pd.Series(ages, dtype="float64"))
    table = table if datasets else table.drop(columns="dataset")
    return name, table


def _split(rest: str) -> tuple[Path, tuple[str | None, str | None]]:
    if Path(rest).is_file():
        return Path(rest), (None, None)
    parts = rest.rsplit(":", 2)
    if len(parts) == 3 and all(part.strip() for part in parts):
        return Path(parts[0]), (parts[1].strip(), parts[2].strip())
    return Path(rest), (None, None)


def _rows(path: Path, name: str) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        raise NoInputError(f"--predictions {name}: {path} is not there; check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataError(f"--predictions {name}: {path} is not UTF-8 text; save it so") from error
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if len(lines) < 2:
        raise BadDataError(f"--predictions {name}: {path} holds no rows; it needs a header and one row per scan")
    # The header decides: a comma inside the rows may be a decimal sign.
    separator = next((s for s in ("\t", ";", ",") if s in lines[0]), None)
    if separator is None:
        raise BadDataError(f"--predictions {name}: {path} has one column only; separate columns by tab, ; or comma")
    header, *rows = [[clean(cell) for cell in row] for row in csv.reader(lines, delimiter=separator)]
    while header and not header[-1]:
        header.pop()
    for number, row in enumerate(rows, start=2):
        if len(row) < len(header) or any(row[len(header) :]):
            raise BadDataError(
                f"--predictions {name}: row {number} of {path} has {len(row)} cells under {len(header)} columns; with "
                "decimal commas separate columns by tab or semicolon"
            )
    return header, rows


def _pick(header: list[str], asked: str | None, known: tuple[str, ...], name: str, path: Path) -> int:
    names = [normalise(column) for column in header]
    if asked is not None:
        found = [i for i, column in enumerate(header) if column == asked]
        found = found or [i for i, column in enumerate(names) if column == normalise(asked)]
    else:
        found = [names.index(alias) for alias in known if alias in names][:1]
    if len(found) != 1:
        what = f"one column {asked!r}" if asked else f"a column {' or '.join(known[:2])}"
        raise BadDataError(
            f"--predictions {name}: {path} does not have {what} (it has {', '.join(header)}); name the columns as "
            f"{name}=FILE:ID_COLUMN:AGE_COLUMN"
        )
    return found[0]


def _person(cell: str, session: str, name: str, path: Path) -> tuple[str, str | None]:
    """Return the labels of a row; an id may be a BIDS file name (``sub-01_ses-1_T1w.nii.gz``)."""
    stem = re.split(r"[\\/]", cell)[-1]
    inside = re.match(r"(sub-[0-9A-Za-z+]+)(?:_(ses-[0-9A-Za-z+]+))?(?=[_.]|$)", stem)
    try:
        participant = inside[1] if inside else label(cell, "sub")
        own = label(session, "ses") or (inside[2] if inside else None)
    except UsageError as error:
        raise BadDataError(f"--predictions {name}: {path}: {error}") from error
    if participant is None:
        raise BadDataError(f"--predictions {name}: {path} has a row without participant; fill it in or remove it")
    return participant, own


def _ages(cells: list[str], column: str, name: str, path: Path) -> list[float | None]:
    values, unreadable = parse_numbers(cells)
    if unreadable:
        raise BadDataError(
            f"--predictions {name}: {column!r} of {path} holds {cells[unreadable[0]]!r}, which is no number"
        )
    high = [value for value in values if value is not None and abs(value) > 2 * AGE_MAX]
    if high:
        raise BadDataError(f"--predictions {name}: {column!r} of {path} holds {high[0]:g}; ages must be in years")
    return values
