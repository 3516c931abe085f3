"""The tables of a BIDS dataset, with look-up by participant, session and column.

Opens no file: `tablefile` reads one table, `tableset` reads all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from brainage_bids.bids.aliases import normalise
from brainage_bids.bids.faults import Fault
from brainage_bids.bids.sessions import session_key


@dataclass(frozen=True, eq=False)
class Table:
    """One table, or the sessions tables of all participants joined.

    Parameters
    ----------
    name
        Path below BIDS_DIR with forward slashes, as shown to the user.
    columns
        Names as written (stripped).
    rows
        Cells as text, one tuple per row.
    keys
        ``(participant_id, session_id)`` of every row, with prefixes; the session is None if the row has none.
    places
        ``(file, line)`` of every row.
    sidecar
        JSON sidecar by column name.
    doubts
        Faults of single columns: a repeated name, unreadable letters, or an unknown meaning. Such a column is not used;
        its fault is reported only if the column is needed.
    odd_ids
        Cells under participant_id that are not labels; their rows are left out.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: tuple[tuple[str, str | None], ...]
    places: tuple[tuple[str, int], ...]
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    doubts: Mapping[str, Fault] = field(default_factory=dict)
    odd_ids: tuple[str, ...] = ()

    @cached_property
    def rows_by_participant(self) -> dict[str, list[int]]:
        """Row numbers of every participant."""
        found: dict[str, list[int]] = {}
        for index, (participant, _) in enumerate(self.keys):
            found.setdefault(participant, []).append(index)
        return found

    @cached_property
    def by_normal_name(self) -> dict[str, tuple[str, ...]]:
        """Column names as written, by normalised name."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.columns:
            found[normalise(name)] = (*found.get(normalise(name), ()), name)
        return found

    def cells(self, column: str) -> list[str]:
        """Return the cells of a column."""
        position = self.columns.index(column)
        return [row[position] for row in self.rows]

    def is_sure(self, column: str, faults: list[Fault], sidecar: bool = True) -> bool:
        """Return whether a column may be read; if not, add its fault.

        ``sidecar`` says whether the sidecar is needed to read the cells.
        """
        fault = self.doubts.get(column)
        if fault is None or (fault.code.startswith("SIDECAR") and not sidecar):
            return True
        faults.append(fault)
        return False

    def about(self, column: str) -> Mapping[str, Any]:
        """Return the entry of a column in the JSON sidecar; empty when there is none."""
        entry = self.sidecar.get(column)
        if entry is None:
            entry = next((about for key, about in self.sidecar.items() if normalise(key) == normalise(column)), None)
        if isinstance(entry, str):
            return {"Description": entry}
        return entry if isinstance(entry, Mapping) else {}

    def named(self, asked: str) -> list[str]:
        """Return the columns a user may mean: the exact name, else names that are equal after normalisation."""
        return [asked] if asked in self.columns else list(self.by_normal_name.get(normalise(asked), ()))

    def find(self, aliases: Sequence[str]) -> list[str]:
        """Return the columns whose normalised name is one of the aliases, in the order of the aliases."""
        return [name for alias in aliases for name in self.by_normal_name.get(alias, ())]

    def session_rows(self, participant: str, session: str | None) -> list[int]:
        """Return the rows of one participant that belong to one session.

        A scan without session belongs to the only session that the table lists for the participant.
        """
        rows = [i for i in self.rows_by_participant.get(participant, ()) if self.keys[i][1] is not None]
        if session is None:
            return rows if len({self.keys[i][1] for i in rows}) == 1 else []
        exact = [i for i in rows if self.keys[i][1] == session]
        return exact or [i for i in rows if session_key(self.keys[i][1]) == session_key(session)]

    def participant_rows(self, participant: str) -> list[int]:
        """Return the rows of one participant that name no session."""
        return [i for i in self.rows_by_participant.get(participant, ()) if self.keys[i][1] is None]

    @cached_property
    def has_sessions(self) -> bool:
        """Whether some row names a session."""
        return any(session is not None for _, session in self.keys)

    @cached_property
    def has_participants(self) -> bool:
        """Whether some row names no session."""
        return any(session is None for _, session in self.keys)


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a dataset.

    Parameters
    ----------
    participants, sessions, phenotype
        The tables of each kind; None or empty when there are none.
    times
        Acquisition time of sessions, by participant and session.
    people
        Every participant with a folder, selected or not.
    """

    participants: Table | None
    sessions: tuple[Table, ...]
    phenotype: tuple[Table, ...]
    times: Mapping[tuple[str, str | None], datetime]
    people: frozenset[str] = frozenset()

    @property
    def ordered(self) -> tuple[Table, ...]:
        """Tables in order of preference: sessions, participants, phenotype."""
        first = (self.participants,) if self.participants else ()
        return (*self.sessions, *first, *self.phenotype)
