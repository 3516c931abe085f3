"""Read ages predicted elsewhere (volBrain, brainageR, another model): ``NAME=FILE[:ID_COLUMN:AGE_COLUMN]``.

A table with doubtful ids or ages is refused: after a shift of rows, people would get the brain age of someone else.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from brainage_bids.bids.aliases import SESSION_COLUMNS, normalise
from brainage_bids.bids.faults import some
from brainage_bids.bids.files import is_file
from brainage_bids.bids.foreign import UNNAMED, ForeignTable, read_foreign
from brainage_bids.bids.parse import AGE_MAX, label, parse_numbers, parse_text
from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten

ID_COLUMNS = (
    "participantid", "participant", "subjectid", "subject", "subjid", "sub", "id", "mrid", "file", "filename",
    "filepath", "path", "image", "imagepath", "patientid",
)  # fmt: skip
RUN_COLUMNS = ("run", "runid")
ACQUISITION_COLUMNS = ("acq", "acquisition")
AGE_COLUMNS = frozenset(
    "predictedage brainpredictedage brainage predictedbrainage predage agepredicted agepred predicted pred prediction "
    "predictions estimatedage ageestimated estimatedbrainage brainageestimate brainagepredicted brainagepred "
    "predbrainage spareba".split()
)
CORRECTED = ("corrected", "adjusted", "unbiased")  # ages after correction of the age bias
GAP_WORDS = re.compile(r"gap|delta|pad$|bag$|residual|diff|accelerat|deviation|deverr|devage|excess")
FRANKE = re.compile(r"[Bb]rain[ _.-]?AGE(?![A-Za-z])")  # brain age gap estimate (Franke et al. 2010), in this spelling
WAY_OUT = "name the columns as NAME=FILE:ID_COLUMN:AGE_COLUMN"
AGE_BEYOND = AGE_MAX + 30.0  # years; a prediction may exceed the age that people reach, but not by far
AGE_BEFORE = -5.0  # years; a model may predict a newborn to be somewhat below 0
_UNIT = re.compile(r"(in)?(years?|yrs?)$")
_NOT_OF_A_SCAN = frozenset({"sub", "ses", "space", "res", "den", "desc", "label", "from", "to", "mode", "hemi"})


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
        ``participant_id``, ``session_id`` (None if the file has none), ``predicted_age`` (years, NaN when missing)
        and, if the file has them, ``run`` (entities joined: ``acq-mprage_run-1``) and ``dataset``. An id that is not a
        BIDS label stays as written.

    Raises
    ------
    UsageError, NoInputError, BadDataError
        When the text, the file or its content is wrong.
    """
    match = re.fullmatch(r"\s*([A-Za-z0-9][0-9A-Za-z_.-]*)\s*=\s*(.+)", text, re.DOTALL)
    if not match:
        raise UsageError(f"--predictions {shorten(text)!r} must be NAME=FILE or NAME=FILE:ID_COLUMN:AGE_COLUMN")
    name, rest = match.groups()
    path, columns = _split(rest.strip())
    try:
        return name, _read(read_foreign(path), path, columns)
    except (BadDataError, NoInputError) as error:
        kind = NoInputError if error.exit_code == NoInputError.exit_code else BadDataError
        raise kind(f"--predictions {name}: {str(error).replace('NAME=FILE', f'{name}=FILE')}") from error


def _read(table: ForeignTable, path: Path, asked: tuple[str | None, str | None]) -> pd.DataFrame:
    age = _named(table, asked[1], path) if asked[1] else _age_column(table, path)
    who = _named(table, asked[0], path) if asked[0] else _id_column(table, age, path)
    sessions, runs, acquisitions, datasets = (
        next((cells for i, cells in _columns(table, names) if i not in (who, age)), [""] * len(table.rows))
        for names in (SESSION_COLUMNS, RUN_COLUMNS, ACQUISITION_COLUMNS, ("dataset",))
    )
    ages = _ages(table.cells(age), table.columns[age], path)
    rows: dict[tuple, float | None] = {}
    for cells in zip(table.cells(who), sessions, acquisitions, runs, datasets, ages, table.lines, strict=True):
        key, value, line = (*_scan(*cells[:4], path, cells[6]), parse_text(cells[4])), cells[5], cells[6]
        if rows.setdefault(key, value) != value:
            shown = " ".join(part for part in key if part)
            raise BadDataError(
                f"{path} lists {shown} more than once, in row {line} with another age; keep one row per scan, or add "
                "session_id and run"
            )
    table_out = pd.DataFrame(list(rows), columns=["participant_id", "session_id", "run", "dataset"], dtype="object")
    table_out.insert(2, "predicted_age", pd.Series(list(rows.values()), dtype="float64"))
    return table_out.drop(columns=[column for column in ("run", "dataset") if table_out[column].isna().all()])


def _split(rest: str) -> tuple[Path, tuple[str | None, str | None]]:
    if is_file(rest):
        return Path(rest), (None, None)
    parts = rest.rsplit(":", 2)
    if len(parts) == 3 and all(part.strip() for part in parts):
        return Path(parts[0]), (parts[1].strip(), parts[2].strip())
    return Path(rest), (None, None)


# --- which column ---------------------------------------------------------------------------------------------------


def _named(table: ForeignTable, asked: str, path: Path) -> int:
    """Return the index of the column a user named: the exact name, else one that differs in case and signs only."""
    matches = [i for i, column in enumerate(table.columns) if column == asked]
    normal = normalise(asked)
    matches = matches or [i for i, column in enumerate(table.columns) if normal and normalise(column) == normal]
    if len(matches) != 1:
        raise BadDataError(
            f"{path} does not have one column {shorten(asked)!r} (it has {some(table.columns, 8)}); {WAY_OUT}"
        )
    return matches[0]


def _id_column(table: ForeignTable, age: int, path: Path) -> int:
    columns = [i for i, _ in _columns(table, ID_COLUMNS) if i != age]
    unnamed = age != 0 and UNNAMED.fullmatch(table.columns[0])
    if not columns and unnamed and not _counts(table.cells(0)):
        return 0
    if len({normalise(table.columns[i]) for i in columns[:2]}) < len(columns[:2]):
        raise BadDataError(f"{path} has two columns {shorten(table.columns[columns[0]])!r}; rename or remove one")
    if not columns:
        raise BadDataError(
            f"{path} does not have a column participant_id or subject_id (it has {some(table.columns, 8)}); {WAY_OUT}"
        )
    return columns[0]


def _counts(cells: list[str]) -> bool:
    """Return whether cells only number the rows (0, 1, 2, ...), like row names of R and pandas."""
    try:
        return [int(cell) - int(cells[0]) for cell in cells] == [*range(len(cells))]
    except ValueError:
        return False


def _age_column(table: ForeignTable, path: Path) -> int:
    """Return the index of the only column named as predicted ages; raise if there are several, or only gaps."""
    kinds = [_kind(column) for column in table.columns]
    ages = [i for i, kind in enumerate(kinds) if kind == "age"]
    others = [i for i, kind in enumerate(kinds) if kind in ("corrected", "gap")]
    shown = some((table.columns[i] for i in (*ages, *others)), 8)
    if len(ages) == 1 and not any(kinds[i] == "corrected" for i in others):
        if FRANKE.search(table.columns[ages[0]]):
            raise BadDataError(
                f"{path}: the column {shorten(table.columns[ages[0]])!r} may hold gaps (BrainAGE: brain age gap "
                f"estimate) instead of predicted ages; where it holds ages {WAY_OUT}"
            )
        return ages[0]
    if ages:
        raise BadDataError(
            f"{path} has {len(ages) + len(others)} columns that may hold the predicted ages ({shown}); {WAY_OUT}, with "
            "the age that was not corrected"
        )
    if others and all(kinds[i] == "gap" for i in others):
        raise BadDataError(
            f"{path} has no predicted ages, but gaps ({shown}), which are not ages; give the column of the predicted "
            f"ages: {WAY_OUT}"
        )
    what = f"only {shown}" if others else f"it has {some(table.columns, 8)}"
    raise BadDataError(f"{path} does not have a column predicted_age ({what}); {WAY_OUT}")


def _kind(column: str) -> str | None:
    """Return ``age``, ``corrected`` (an age after bias correction), ``gap`` or None, by the name of a column."""
    name = _UNIT.sub("", normalise(column))
    bare = name
    for word in CORRECTED:
        bare = bare.replace("bias" + word, "").replace(word, "")
    if bare in AGE_COLUMNS:
        return "age" if bare == name else "corrected"
    return "gap" if GAP_WORDS.search(bare) else None


def _columns(table: ForeignTable, names: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    """Return index and cells of the columns with these names, in the order of the names."""
    normal = [normalise(column) for column in table.columns]
    return [(i, table.cells(i)) for name in names for i, column in enumerate(normal) if column == name]


# --- rows -----------------------------------------------------------------------------------------------------------


def _scan(cell: str, session: str, acquisition: str, run: str, path: Path, line: int) -> tuple:
    """Return participant, session and run of a row; an id may be a BIDS file name or path."""
    if parse_text(cell) is None:
        raise BadDataError(f"{path} has a row without participant, row {line}; fill it in or remove it")
    parts = re.split(r"[\\/]", cell)
    inside: dict[str, str] = {}
    for part in parts:  # the file name comes last and overrides its folders
        stem = re.sub(r"(\.[A-Za-z]\w*)+$", "", part)
        pairs = [pair.split("-", 1) for pair in stem.split("_") if re.fullmatch(r"[a-z]+-[0-9A-Za-z+]+", pair)]
        if "sub-" in part or "ses-" in part:
            inside |= dict(pairs)
    participant = f"sub-{inside['sub']}" if "sub" in inside else _label(parts[-1], "sub")
    session_id = _label(re.sub(r"\.0+$", "", session), "ses") or (f"ses-{inside['ses']}" if "ses" in inside else None)
    entities = {key: value for key, value in inside.items() if "sub" in inside and key not in _NOT_OF_A_SCAN}
    for key, words in (("acq", acquisition), ("run", run)):
        for word in (parse_text(words) or "").split("_"):
            name, sign, value = word.rpartition("-")
            entities |= {name if sign else key: value} if word else {}
    return participant, session_id, "_".join(f"{key}-{value}" for key, value in entities.items()) or None


def _label(cell: str, prefix: str) -> str | None:
    """Return a label with its prefix; other text stays as it is and matches nobody."""
    try:
        return label(cell, prefix)
    except UsageError:
        return cell


def _ages(cells: list[str], column: str, path: Path) -> list[float | None]:
    """Read the predicted ages; raise when they cannot be ages in years."""
    values, unreadable = parse_numbers(cells)
    what = f"{shorten(column)!r} of {path}"
    if unreadable:
        raise BadDataError(f"{what} holds {shorten(cells[unreadable[0]])!r}, which is no number")
    known = [value for value in values if value is not None]
    if not known:
        raise BadDataError(f"{what} holds no age; name another column as NAME=FILE:ID_COLUMN:AGE_COLUMN")
    low = [value for value in known if value < AGE_BEFORE]
    high = [value for value in known if value > AGE_BEYOND]
    if len(low) == len(known) or (low and sorted(known)[len(known) // 2] > -AGE_BEFORE):
        raise BadDataError(f"{what} holds {low[0]:g}, which is no age; leave the cell of a missing age empty")
    if low:
        raise BadDataError(
            f"{what} holds {low[0]:g} and looks like a gap, not an age; give the column of the predicted ages as "
            "NAME=FILE:ID_COLUMN:AGE_COLUMN"
        )
    if high:
        raise BadDataError(f"{what} holds {high[0]:g}; ages must be in years, {AGE_BEYOND:g} at most")
    return values
