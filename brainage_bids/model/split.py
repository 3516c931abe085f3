"""Who trains, who validates, who is held out: decided by person and family, before anything else."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from brainage_bids.errors import BadDataError
from brainage_bids.model.places import SHOWN, Places, find_places
from brainage_bids.schema import AGE_BINS, SPLIT_COLUMNS

LEAST_TRAINABLE = 4
DRAWS = 200  # of validation and test people, at most


@dataclass(frozen=True)
class Division:
    """Who is in which part of a training.

    Parameters
    ----------
    split
        ``participant_id trainable fold split``, see `make_split`.
    held_out
        By member the number of the fold that it holds out, 1 to K; None for the only member of a training without
        folds.
    parts
        By member its training and its validation participants, both sorted.
    left_out
        By member what it leaves out, ``site=A``; empty unless the folds are the values of a column.
    barred
        People who may train, but not for all members that leave out other places than theirs: those with scans at
        several places, or a family at another one.
    """

    split: pd.DataFrame
    held_out: dict[str, int | None]
    parts: dict[str, tuple[list[str], list[str]]]
    left_out: dict[str, str] = field(default_factory=dict)
    barred: tuple[str, ...] = ()

    @property
    def left_out_text(self) -> str:
        """Say which places are left out, by how many people; empty without places."""
        if not self.left_out:
            return ""
        named = []
        for name, place in self.left_out.items():
            mine = self.split[self.split.fold == self.held_out[name]]
            named.append(f"{place} ({len(mine)} people, {int(mine.trainable.sum())} of them may train)")
        more = ", ..." if len(named) > SHOWN else ""
        said = f"each member leaves out one of {len(named)}: {', '.join(named[:SHOWN])}{more}"
        if self.barred:
            said += (
                f"; {len(self.barred)} with scans or family at several places train for no member that leaves out one "
                "of these"
            )
        if nowhere := int(self.split.fold.isna().sum()):
            said += f"; {nowhere} people at other places are predicted by the mean of all members"
        return said


def make_split(
    table: pd.DataFrame, *, folds: int | None, seed: int, val_share: float = 0.1, test_share: float = 0.1
) -> pd.DataFrame:
    """Assign every participant, once, to a part (no folds) or to the fold that holds the person out.

    All scans of a person and all members of a family stay together. People are ordered by group, site, sex, age bin and
    age; folds are dealt out along that order, each run of K neighbours in random order. Validation and test people are
    drawn at random along the ages, see `_parts`.

    Parameters
    ----------
    table
        One row per scan: ``participant_id age sex group site family trainable``.
    folds
        Number of folds, or None.
    seed
        Same seed and same people give the same split, whatever the order of the rows.
    val_share, test_share
        Shares of the trainable people, used without folds only (paper 2.1: 0.1 and 0.1).

    Returns
    -------
    DataFrame
        ``participant_id trainable fold split``, sorted by participant. ``split`` is ``train``, ``val`` or ``test``;
        None for people who are not trainable when there are no folds; with folds it is ``test`` for everyone, since
        each person is held out by the network of that fold (1 to K).

    Raises
    ------
    BadDataError
        When fewer than four people (or than the folds need) can train.
    """
    people = _people(table)
    units = _units(people)
    n_units = int(units.trainable.sum())
    _refuse_few(people, n_units, max(LEAST_TRAINABLE, folds or 0))
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    if folds:
        fold = pd.concat([_deal(units[units.trainable], folds, rng), _deal(units[~units.trainable], folds, rng)])
        people["fold"], people["split"] = people.unit.map(fold).astype(object), "test"
    else:
        people["fold"] = None
        people["split"] = people.unit.map(_parts(units[units.trainable], val_share, test_share, rng)).astype(object)
        people.loc[~people.trainable, "split"] = None
    return people.sort_values("participant_id").reset_index(drop=True)[SPLIT_COLUMNS]


def _refuse_few(people: pd.DataFrame, n_units: int, least: int) -> None:
    n = int(people.trainable.sum())
    if n < LEAST_TRAINABLE or n_units < least:
        raise BadDataError(
            f"{n} people in {n_units} families can train, but at least {least} are needed; widen the training query, "
            "use fewer folds, or predict with an existing model"
        )


def split_by_place(table: pd.DataFrame, column: str) -> tuple[pd.DataFrame, Places]:
    """Assign every participant to the fold that leaves out the person's place, see `places.find_places`.

    Returns
    -------
    DataFrame
        As `make_split`; ``fold`` and ``split`` are None for people at places where nobody may train.
    Places
        The places, and who may not train for which of them.

    Raises
    ------
    BadDataError
        When too few people can train, or the places cannot be folds.
    """
    people = _people(table)
    units = _units(people)
    _refuse_few(people, int(units.trainable.sum()), LEAST_TRAINABLE)
    places = find_places(table, people, column)
    folds = [places.fold[person] for person in people.participant_id]
    people["fold"] = pd.Series(folds, people.index, dtype=object)
    people["split"] = pd.Series([None if fold is None else "test" for fold in folds], people.index, dtype=object)
    return people[SPLIT_COLUMNS], places


def fold_parts(
    table: pd.DataFrame,
    split: pd.DataFrame,
    fold: int | None,
    seed: int,
    val_share: float = 0.1,
    places: Places | None = None,
) -> tuple[list[str], list[str]]:
    """Return the participants that train and that validate in one fold, both sorted.

    Without folds they are read from the split; with folds a validation share of the trainable people outside the fold
    is set apart, by family and stratified like the split. ``places`` bars more people than those of the fold.
    """
    if fold is None:
        return tuple(sorted(split.participant_id[split.split == part]) for part in ("train", "val"))
    inside = set(split.participant_id[split.trainable & (split.fold != fold)])
    if places is not None:
        inside = {person for person in inside if fold not in places.barred[person]}
        if not inside:
            return [], []
    people = _people(table[table.participant_id.isin(inside)])
    units = _units(people)
    part = people.unit.map(
        _parts(units, val_share, 0.0, np.random.default_rng(np.random.SeedSequence([seed, 2, fold])))
    )
    return tuple(sorted(people.participant_id[part == name]) for name in ("train", "val"))


def split_folds(
    table: pd.DataFrame, folds: int | str | None, seed: int, val_share: float, test_share: float
) -> Division:
    """Return who trains, who validates and who is held out, for every member.

    Without cross-validation there is one member, ``main``, that holds nobody out. With the name of a column there is
    one for each of its values, read from ``table.place``.

    Raises
    ------
    BadDataError
        When too few people can train, or the values of the column cannot be folds.
    """
    places, left_out = None, {}
    if isinstance(folds, str):
        split, places = split_by_place(table, folds)
        held_out = {f"fold-{k}": k for k in range(1, len(places.names) + 1)}
        left_out = {name: places.left_out(k) for name, k in held_out.items()}
    else:
        split = make_split(table, folds=folds, seed=seed, val_share=val_share, test_share=test_share)
        held_out = {f"fold-{k}": k for k in range(1, folds + 1)} if folds else {"main": None}
    parts = {name: fold_parts(table, split, fold, seed, val_share, places) for name, fold in held_out.items()}
    for name, (train, val) in parts.items():
        if len(train) < 2 or not val:
            who = f"member {name}, which leaves out {left_out[name]}," if left_out else f"member {name}"
            raise BadDataError(
                f"{who} would train on {len(train)} and validate on {len(val)} people; use fewer folds or widen the "
                "training query"
            )
    healthy = split.participant_id[split.trainable] if places else ()
    return Division(split, held_out, parts, left_out, tuple(p for p in healthy if len(places.barred[p]) > 1))


def _people(table: pd.DataFrame) -> pd.DataFrame:
    """One row per participant, sorted by id: mean age, first known other values, trainable when any scan is."""
    known = table.assign(trainable=table.trainable.astype(bool)).sort_values(["participant_id", "prefix"])
    people = known.groupby("participant_id", sort=True).agg(
        age=("age", "mean"), sex=("sex", "first"), group=("group", "first"), site=("site", "first"),
        family=("family", "first"), trainable=("trainable", "any"),
    ).reset_index()  # fmt: skip
    person, family = "person " + people.participant_id, "family " + people.family.astype(str)
    people["unit"] = person.where(people.family.isna() | (people.family.astype(str) == ""), family)
    return people


def _units(people: pd.DataFrame) -> pd.DataFrame:
    """One row per family (or lone person), in the order of dealing; the index is the unit."""
    first = people.groupby("unit", sort=True).agg(
        age=("age", "mean"), sex=("sex", "first"), group=("group", "first"), site=("site", "first"),
        trainable=("trainable", "any"),
    )  # fmt: skip
    edges = [low for low, _ in AGE_BINS]
    first["bin"] = np.where(first.age.isna(), -1, np.searchsorted(edges, first.age.fillna(0), side="right"))
    for name in ("sex", "group", "site"):
        first[name] = first[name].astype(object).where(first[name].notna(), "").astype(str)
    return first.sort_values(["group", "site", "sex", "bin", "age"], kind="stable")


def _deal(units: pd.DataFrame, folds: int, rng: np.random.Generator) -> pd.Series:
    """Give each run of K neighbours in the order one random permutation of the folds 1..K."""
    rounds = -(-len(units) // folds)
    labels = np.concatenate([rng.permutation(folds) + 1 for _ in range(rounds)] or [np.zeros(0, int)])
    return pd.Series(labels[: len(units)], index=units.index)


def _parts(units: pd.DataFrame, val_share: float, test_share: float, rng: np.random.Generator) -> pd.Series:
    """Take the test and validation shares, at least one unit to validate.

    Units stand in the order of age; a draw takes one at a random place of each of as many equal runs as are wanted, so
    that the ages are those of all and everybody is drawn equally often, the oldest too. The first draw with about as
    many of each group, site and sex as there should be is taken, else the nearest of `DRAWS` (rerandomisation, Morgan
    and Rubin 2012; the best of many draws would keep rare people out). Evenly spaced places along an order of strata
    would not do: where the strata are as long as the steps, they are the youngest of every stratum.
    """
    total = len(units)
    wanted = (("test", round(test_share * total)), ("val", max(1, round(val_share * total))))
    by_age = np.argsort(units["age"].to_numpy(dtype=float), kind="stable")  # without an age: last
    kinds = [np.unique(units[name].to_numpy(), return_inverse=True)[1][by_age] for name in ("group", "site", "sex")]
    best, least = None, np.inf
    for _ in range(DRAWS):
        parts, unlike = np.full(total, "train", dtype=object), 0.0
        for name, count in wanted:
            left = np.flatnonzero(parts == "train")
            chosen = left[_one_of_each_run(len(left), count, rng)]
            parts[chosen], unlike = name, unlike + _unlike(kinds, chosen)
        if unlike < least:
            best, least = parts, unlike
        if least == 0.0:
            break
    return pd.Series(best, index=units.index[by_age], dtype=object)


def _one_of_each_run(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random place in each of ``count`` equal runs of ``total`` places."""
    ends = np.arange(count + 1) * total // max(count, 1)
    return rng.integers(ends[:-1], ends[1:])


def _unlike(kinds: list[np.ndarray], chosen: np.ndarray) -> float:
    """Return how far the mix of the ``chosen`` is beyond what is near enough: 1, or half of the square root of a count.

    Kinds that should be there less than once do not count.
    """
    distance = 0.0
    for kind in kinds:
        expected = len(chosen) * np.bincount(kind) / len(kind)
        apart = np.abs(np.bincount(kind[chosen], minlength=len(expected)) - expected)
        beyond = np.maximum(apart - np.maximum(1, np.sqrt(expected) / 2), 0)[expected >= 1]
        distance += float((beyond**2 / expected[expected >= 1]).sum())
    return distance
