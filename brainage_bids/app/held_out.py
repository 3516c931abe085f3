"""Which predictions were made by a member that held the person out, and which models differ in their folds only."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from brainage_bids.app.types import Results

_SETTINGS = ("epochs", "head_epochs", "batch_size")  # of a training, beside its recipe


def held_out_predictions(results: Results) -> pd.DataFrame:
    """Return ``prefix model place n_train train_mean_age`` of the predictions that are flagged out of fold.

    ``place`` is what the member left out, ``site=A``; None where folds are no places. ``n_train`` (people) and
    ``train_mean_age`` (years) of the member are NaN where it is not known which one held the person out.
    """
    members = {(name, member.get("fold")): member for name, card in results.cards.items() for member in card["members"]}
    rows = results.gaps[results.gaps["fold"].notna()]
    found = [members.get(key, {}) for key in zip(rows["model"], rows["fold"], strict=True)]
    table = rows[["prefix", "model"]].reset_index(drop=True)
    table["place"] = pd.Series([member.get("left_out") for member in found], dtype=object)
    for name in ("n_train", "train_mean_age"):
        table[name] = pd.Series([member.get(name) for member in found], dtype="float64")
    return table


def fold_pairs(cards: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """Return the pairs of models (across, within) of one recipe, where only the first leaves places out."""
    folds = {name: card for name, card in cards.items() if card["members"][0].get("fold") is not None}
    across = [name for name, card in folds.items() if _leaves_out(card)]
    within = [name for name, card in folds.items() if not _leaves_out(card)]
    return [(a, w) for a in across for w in within if _trained_like(folds[a]) == _trained_like(folds[w])]


def _leaves_out(card: Mapping) -> bool:
    return any(member.get("left_out") for member in card["members"])


def _trained_like(card: Mapping) -> tuple[dict, dict]:
    """Return recipe and settings of a training, without its name and what follows from the number of people."""
    recipe = {key: value for key, value in card["recipe"].items() if key not in ("name", "description")}
    settings = card.get("effective_settings") or {}
    follows = ("batch_size",) if recipe.get("method") == "ridge" else ()
    return recipe, {name: settings.get(name) for name in _SETTINGS if name not in follows}
