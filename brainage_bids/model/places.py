"""One member for each site, or other place: whom it leaves out, and who may not train it although it predicts others.

A place is a value of one column, by default the site. Knows nothing of networks; `split` makes the training parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from brainage_bids.errors import BadDataError, shorten

PLACE = "place"  # column of the table of a training: the value that decides which member leaves the scan out
MOST_PLACES = 50  # each is a training
SHOWN = 10  # names in a message


@dataclass(frozen=True)
class Places:
    """Which member leaves out whom.

    Parameters
    ----------
    column
        Name of the column, as asked for.
    names
        Value of the column that each member leaves out: fold ``k`` leaves out ``names[k - 1]``.
    fold
        By participant the fold that leaves the person out; None for people at places where nobody may train.
    barred
        By participant the folds in which the person may neither train nor validate: those of all places of the person
        and of the family.
    """

    column: str
    names: tuple[str, ...]
    fold: Mapping[str, int | None]
    barred: Mapping[str, frozenset[int]]

    def left_out(self, fold: int) -> str:
        """Return what a fold leaves out, ``site=A``."""
        return f"{self.column}={self.names[fold - 1]}"


def find_places(table: pd.DataFrame, people: pd.DataFrame, column: str) -> Places:
    """Find the places where people may train, and give each a fold, in the order of their names.

    A person is left out with the place of the first scan. Who has scans at several places, or a family at another one,
    trains no member that leaves out one of them: leakage is worse than a smaller training. A person at a place where
    nobody may train goes with the next place of the person, then of the family; without any, no member has seen the
    person, and all may predict.

    Parameters
    ----------
    table
        One row per scan: ``participant_id prefix`` and `PLACE`.
    people
        One row per person: ``participant_id trainable unit``; a unit is a family or a lone person.
    column
        Name of the column that `PLACE` was read from, for messages and for the model card.

    Raises
    ------
    BadDataError
        When somebody who may train has no place, or there is only one place, or there are too many.
    """
    own = _places_of_people(table)
    trainable = people.participant_id[people.trainable]
    if nowhere := [person for person in trainable if not own[person]]:
        raise BadDataError(
            f"folds by {column}: {len(nowhere)} of {len(trainable)} people who may train have no value "
            f"({_some(nowhere)}); fill in {column}, or leave these people out of the training"
        )
    names = sorted({own[person][0] for person in trainable})
    most = min(MOST_PLACES, len(trainable) // 2)
    if len(names) < 2:
        only = f"all {len(trainable)} people who may train have {column} {shorten(names[0])!r}" if names else "nobody"
        raise BadDataError(
            f"folds by {column}: {only}, so no member could leave it out and train on others; use --folds 5"
        )
    if len(names) > most:
        raise BadDataError(
            f"folds by {column}: {len(names)} values ({_some(names)}) among {len(trainable)} people who may train, and "
            f"each is a training; at most {most} ({MOST_PLACES}, or one for two people): choose a column with fewer "
            "values, or use --folds 5"
        )
    numbers = {name: number for number, name in enumerate(names, 1)}
    unit_of = dict(zip(people.participant_id, people.unit, strict=True))
    mine = {person: [numbers[name] for name in own[person] if name in numbers] for person in unit_of}
    family: dict[str, list[int]] = {}
    for person, unit in unit_of.items():
        family.setdefault(unit, []).extend(mine[person])
    fold = {person: next(iter([*mine[person], *family[unit]]), None) for person, unit in unit_of.items()}
    barred = {person: frozenset(family[unit]) for person, unit in unit_of.items()}
    return Places(column, tuple(names), fold, barred)


def _places_of_people(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return by participant the distinct places, in the order of the scans."""
    found: dict[str, dict[str, None]] = {}
    rows = table.sort_values(["participant_id", "prefix"])
    for person, place in zip(rows.participant_id, rows[PLACE], strict=True):
        mine = found.setdefault(person, {})
        if place is not None and not pd.isna(place) and str(place).strip():
            mine[str(place).strip()] = None
    return {person: list(mine) for person, mine in found.items()}


def _some(names: list[str]) -> str:
    shown = ", ".join(shorten(name) for name in names[:SHOWN])
    return shown + (", ..." if len(names) > SHOWN else "")
