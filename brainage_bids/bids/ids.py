"""Report how the ids in a table differ from the folder names of a dataset.

A row is never matched to a folder of another name: 1 and 01 may be two people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from brainage_bids.bids.faults import Fault, make_fault, some
from brainage_bids.bids.parse import natural_key
from brainage_bids.bids.sessions import unpadded
from brainage_bids.bids.tables import Table
from brainage_bids.errors import shorten

_PREFIX = re.compile(r"(?:sub[-_ ]*)+(?=[0-9A-Za-z])", re.IGNORECASE)
_FILE_NAME = re.compile(r"(sub-[0-9A-Za-z+]+)_(?:[a-z]+-\S+|T1w\S*)")
_FLOAT = re.compile(r"(?<=\d)\.0*$")
_SIGNS = re.compile(r"[^0-9A-Za-z+]")


def how_ids_differ(ids: Iterable[str], people: Iterable[str]) -> str | None:
    """Return a sentence on ids that are nearly the name of a folder, or when no id at all is one; else None.

    Parameters
    ----------
    ids
        Ids as written, with or without ``sub-``.
    people
        Names of the folders: ``sub-01``.
    """
    folders, written = sorted(set(people), key=natural_key), list(dict.fromkeys(ids))
    known = set(folders)
    exact = {name for name in written if _label(name) in known}
    taken = {_label(name) for name in exact}
    waiting: dict[str, str] = {}
    for folder in folders:
        if folder not in taken:
            waiting.setdefault(id_key(folder), folder)
    pairs = [(name, waiting[id_key(name)]) for name in written if name not in exact and id_key(name) in waiting]
    if pairs:
        ways = dict.fromkeys(way for pair in pairs for way in _ways(*pair))
        name, folder = shorten(pairs[0][0]), pairs[0][1]
        count = "1 id is" if len(pairs) == 1 else f"{len(pairs)} ids are"
        return (
            f"{count} spelled differently from the folders, by {' and '.join(ways) or 'signs'}: {name!r} in the table, "
            f"{folder!r} the folder; such rows are not used: spell the ids like the folders"
        )
    if written and folders and not exact:
        return (
            f"none of its {len(written)} ids is a folder (ids: {some(written, 3)}; folders: {some(folders, 3)}), so it "
            "is not used: spell the ids like the folders"
        )
    return None


def _label(written: str) -> str:
    return f"sub-{written[4:] if written.casefold().startswith('sub-') else written}"


def _split(written: str) -> tuple[str, str, str]:
    """Return an id without anything after its label, then also without ``.0``, then also without prefix."""
    whole = _FILE_NAME.fullmatch(written)
    alone = whole[1] if whole else written
    number = _FLOAT.sub("", alone)
    return alone, number, _PREFIX.sub("", number, count=1) if _PREFIX.match(number) else number


def id_key(written: str) -> str:
    """Return a key shared by all spellings of an id. Used in messages only, never to match a row to a folder."""
    return unpadded(_SIGNS.sub("", _split(written)[2]).casefold())


def _ways(written: str, folder: str) -> list[str]:
    alone, number, bare = _split(written)
    tight, wanted = _SIGNS.sub("", bare), folder.removeprefix("sub-")
    plain = number == bare or number.casefold() == f"sub-{bare}".casefold()
    ways = {
        "more than a label": alone != written,
        "the .0 of a spreadsheet": number != alone,
        "the prefix sub-": not plain,
        "blanks or signs": tight != bare,
        "leading zeros": tight.casefold() != wanted.casefold(),
        "upper and lower case": unpadded(tight) != unpadded(wanted),
    }
    return [way for way, is_so in ways.items() if is_so]


def id_faults(table: Table, people: Iterable[str]) -> list[Fault]:
    """Return a fault for a table whose ids are spelled differently from the folders."""
    columns = table.named("participant_id")
    ids = table.cells(columns[0]) if columns else [participant for participant, _ in table.keys]
    sentence = how_ids_differ([*ids, *table.odd_ids], people)
    return [make_fault("IDS_DIFFER", table.name, sentence)] if sentence else []


def session_faults(table: Table, folders: Mapping[str, Sequence[str | None]]) -> list[Fault]:
    """Return faults for a table whose sessions match no session folder of the same person."""
    others, unclear = [], []
    for participant, rows in table.rows_by_participant.items():
        named = list(dict.fromkeys(table.keys[i][1] for i in rows if table.keys[i][1] is not None))
        here = [session for session in folders.get(participant, ()) if session is not None]
        if participant not in folders or not named or set(named) & set(here):
            continue
        if here:
            others.append(f"{participant}: {some(named, 2)} in the table, {some(here, 2)} the folder")
        elif len(named) > 1:
            unclear.append(f"{participant}: {some(named, 3)}")
    messages = []
    if others:
        messages.append(
            f"the sessions of {len(others)} participants have other names than their folders ({some(others, 2)}), "
            "so they match no scan; use the same names"
        )
    if unclear:
        messages.append(
            f"{len(unclear)} participants have several sessions in the table and no session folder "
            f"({some(unclear, 2)}), so the session of their scan is unknown; add session folders or keep one row"
        )
    return [make_fault("SESSIONS_DIFFER", table.name, message) for message in messages]
