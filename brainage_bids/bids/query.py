"""Select images with pybids, for ``--bids-filter-file`` and ``--bids-database-dir``.

pybids is imported only for these options. It reads no metadata, since one broken sidecar would stop it. It enters only
folders that can hold an anatomical image, since it would follow a link to a parent folder forever.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainage_bids.bids.text import Unreadable, read_json
from brainage_bids.errors import BadDataError, NoInputError, UsageError, shorten

if TYPE_CHECKING:
    from bids import BIDSLayout

DATABASE = "layout_index.sqlite"  # name of the database file of pybids
BASE = {"datatype": "anat", "suffix": "T1w", "part": ["mag", None], "extension": [".nii", ".nii.gz"]}
_NAME = r"[0-9A-Za-z+]+"
_SEEN = re.compile(rf"/(sub-{_NAME}(/ses-{_NAME})?(/anat(/[^/]+_(T1w|UNIT1)\.nii(\.gz)?)?)?)?")
_NOT_SEEN = re.compile(rf"^(?!{_SEEN.pattern}$)", re.ASCII)
LOG = logging.getLogger("brainage_bids")


def read_filter(path: str | Path) -> dict[str, Any]:
    """Read the ``t1w`` query of a ``--bids-filter-file`` (JSON, as in the NiPreps apps).

    ``Query.NONE``, ``Query.ANY``, ``Query.REQUIRED`` and ``Query.OPTIONAL`` mean the same as in pybids.

    Raises
    ------
    NoInputError
        When the file is not there.
    UsageError
        When it is not a JSON object of queries, or the query of T1w images has another name.
    """
    shown = f"--bids-filter-file {shorten(path)}"
    try:
        queries = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoInputError(f"{shown} is not there; check the path") from error
    except Unreadable as error:
        raise UsageError(f"{shown} {error.reason}") from error
    example = '{"t1w": {"acquisition": "mprage"}}'
    if not isinstance(queries, dict):
        raise UsageError(f"{shown} holds no JSON object; it must look like {example}")
    if "t1w" not in queries:
        near = next((key for key in queries if re.fullmatch(r"[\W_]*(t1w?|anat|unit1)[\W_]*", key.lower())), None)
        if near is not None:
            raise UsageError(f"{shown}: the query of T1w images is called 't1w', not {shorten(near)!r}; rename it")
        if _looks_like_a_query(queries):
            raise UsageError(f"{shown} holds the query itself; put it under t1w, as in {example}")
        return {}
    if not isinstance(queries["t1w"], dict):
        raise UsageError(f"{shown}: t1w holds no JSON object; it must look like {example}")
    return queries["t1w"]


def _looks_like_a_query(queries: Mapping[str, Any]) -> bool:
    return bool(queries) and not any(isinstance(value, dict) for value in queries.values())


@dataclass(frozen=True)
class Answer:
    """Image paths below BIDS_DIR: those that pybids selects, and all anatomical images in its index."""

    selected: frozenset[str]
    indexed: frozenset[str]


def select_paths(
    root: Path, query: Mapping[str, Any], database: Path | None, suffixes: Sequence[str], closed: Iterable[str] = ()
) -> Answer:
    """Ask pybids for the images of a query.

    Parameters
    ----------
    root
        BIDS_DIR.
    query
        As in a filter file; its values replace those of `BASE`.
    database
        Folder of an existing pybids index; None: the dataset is indexed for this run.
    suffixes
        Used when the query names no suffix.
    closed
        Folders below ``root`` that cannot be read; they would stop pybids.

    Raises
    ------
    UsageError
        When pybids cannot understand the query, or the database belongs to another dataset.
    BadDataError
        When the database or the dataset cannot be read by pybids.
    """
    _check_regex(query)
    with _quiet():
        layout = _layout(root, database, closed)
        asked = {**BASE, "suffix": list(suffixes), **{key: _value(value) for key, value in query.items()}}
        for word in ("return_type", "absolute_paths"):  # these set the form of the answer, not the selection
            asked.pop(word, None)
        try:
            files = layout.get(return_type="object", **asked)
        except Exception as error:  # pybids raises many kinds of errors
            raise UsageError(f"--bids-filter-file: pybids cannot answer this query: {_why(error)}") from error
        indexed = layout.get(return_type="object", suffix=["T1w", "UNIT1"], extension=BASE["extension"])
        return Answer(*(frozenset(_below(str(f.path), layout.root) for f in group) for group in (files, indexed)))


def _value(value: Any) -> Any:
    from bids.layout import Query

    if isinstance(value, list):
        return [_value(item) for item in value]
    name = value.removeprefix("Query.") if isinstance(value, str) and value.startswith("Query.") else None
    if name is None:
        return value
    if name not in Query.__members__:
        known = ", ".join(f"Query.{word}" for word in Query.__members__)
        raise UsageError(f"--bids-filter-file: {shorten(value)!r} is not known to pybids; use {known}")
    return Query[name]


def _check_regex(query: Mapping[str, Any]) -> None:
    """Refuse a broken regular expression before pybids fails on it inside its database."""
    if not query.get("regex_search"):
        return
    for key, value in query.items():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str) or item.startswith("Query."):
                continue
            try:
                re.compile(item)
            except (re.error, RecursionError, OverflowError) as error:
                raise UsageError(
                    f"--bids-filter-file: {key} {shorten(item)!r} is no regular expression ({error}); repair it, or "
                    "leave regex_search out"
                ) from error


def _why(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return shorten(lines[0].partition("If you're sure")[0].rstrip(" ."), 200)


def _below(path: str, root: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings of pybids; they concern its developers, not the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _layout(root: Path, database: Path | None, closed: Iterable[str]) -> BIDSLayout:
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    if database is not None and (database / DATABASE).is_file():
        return _opened(root, database)
    if database is not None:
        LOG.warning(
            "--bids-database-dir %s holds no %s: the dataset is indexed for this run, and no database is written",
            shorten(database),
            DATABASE,
        )
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[_NOT_SEEN, *_shut(root, closed)])
    try:
        return BIDSLayout(root, validate=False, indexer=indexer)
    except Exception as error:
        raise BadDataError(f"pybids cannot index {root} ({_why(error)}); leave --bids-filter-file out") from error


def _shut(root: Path, closed: Iterable[str]) -> list[re.Pattern]:
    """Return patterns of the folders that cannot be entered, also because of a parent folder."""
    levels = {parent for path in closed for parent in (Path(path), *Path(path).parents) if parent != Path(".")}
    shut = [path.as_posix() for path in levels if not os.access(root / path, os.R_OK | os.X_OK)]
    return [re.compile(rf"^/{re.escape(path)}(/|$)") for path in shut]


def _opened(root: Path, database: Path) -> BIDSLayout:
    from bids.layout import BIDSLayout
    from bids.layout.db import ConnectionManager

    try:
        indexed = str(ConnectionManager(database).layout_info.root)
    except Exception as error:  # not a database, or made by another version of pybids
        raise BadDataError(
            f"--bids-database-dir {shorten(database)}: {DATABASE} cannot be read by this pybids ({_why(error)}); "
            "create it again, or leave the option out"
        ) from error
    if os.path.realpath(indexed) != os.path.realpath(root):
        raise UsageError(
            f"--bids-database-dir {shorten(database)} is the database of {shorten(indexed)}, not of {shorten(root)}; "
            "give that of this dataset, or leave the option out"
        )
    try:
        return BIDSLayout(root, validate=False, database_path=database)
    except Exception as error:
        raise BadDataError(f"--bids-database-dir {shorten(database)} cannot be used ({_why(error)})") from error
