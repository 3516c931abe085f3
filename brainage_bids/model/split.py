"""Who trains, who validates, who is held out: decided by person and family, before anything else."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainage_bids.errors import BadDataError
from brainage_bids.schema import AGE_BINS, SPLIT_COLUMNS

LEAST_TRAINABLE = 4
DRAWS = 200  # of validation and test people, at most


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
    least = max(LEAST_TRAINABLE, folds or 0)
    if people.trainable.sum() < LEAST_TRAINABLE or n_units < least:
        raise BadDataError(
            f"{int(people.trainable.sum())} people in {n_units} families can train, but at least {least} are needed; "
            "widen the training query, use fewer folds, or predict with an existing model"
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    if folds:
        fold = pd.concat([_deal(units[units.trainable], folds, rng), _deal(units[~units.trainable], folds, rng)])
        people["fold"], people["split"] = people.unit.map(fold).astype(object), "test"
    else:
        people["fold"] = None
        people["split"] = people.unit.map(_parts(units[units.trainable], val_share, test_share, rng)).astype(object)
        people.loc[~people.trainable, "split"] = None
    return people.sort_values("participant_id").reset_index(drop=True)[SPLIT_COLUMNS]


def fold_parts(
    table: pd.DataFrame, split: pd.DataFrame, fold: int | None, seed: int, val_share: float = 0.1
) -> tuple[list[str], list[str]]:
    """Return the participants that train and that validate in one fold, both sorted.

    Without folds they are read from the split; with folds a validation share of the trainable people outside the fold
    is set apart, by family and stratified like the split.
    """
    if fold is None:
        return tuple(sorted(split.participant_id[split.split == part]) for part in ("train", "val"))
    inside = set(split.participant_id[split.trainable & (split.fold != fold)])
    people = _people(table[table.participant_id.isin(inside)])
    units = _units(people)
    part = people.unit.map(
        _parts(units, val_share, 0.0, np.random.default_rng(np.random.SeedSequence([seed, 2, fold])))
    )
    return tuple(sorted(people.participant_id[part == name]) for name in ("train", "val"))


def split_folds(
    table: pd.DataFrame, folds: int | None, seed: int, val_share: float, test_share: float
) -> tuple[pd.DataFrame, dict[str, int | None], dict[str, tuple[list[str], list[str]]]]:
    """Return the split and, by name of each fold, which part it holds out and who trains and who validates in it.

    Without cross-validation there is one fold, ``main``, that holds nobody out.

    Raises
    ------
    BadDataError
        When too few people can train.
    """
    split = make_split(table, folds=folds, seed=seed, val_share=val_share, test_share=test_share)
    held_out = {f"fold-{k}": k for k in range(1, folds + 1)} if folds else {"main": None}
    parts = {name: fold_parts(table, split, fold, seed, val_share) for name, fold in held_out.items()}
    for name, (train, val) in parts.items():
        if len(train) < 2 or not val:
            raise BadDataError(
                f"member {name} would train on {len(train)} and validate on {len(val)} people; use fewer folds or "
                "widen the training query"
            )
    return split, held_out, parts


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
