"""What the steps of the group level hand to each other: the results of the participant level, one dataset or more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from brainage_bids.pipeline.datasets import Member


@dataclass(frozen=True)
class Pooled:
    """What is known of a joined study beside its table.

    Parameters
    ----------
    members
        The datasets in the order given; several may have the same Name.
    names
        The distinct Names.
    links
        Page of the participant of each row of the table, as seen from the first OUTPUT_DIR; empty where there is none.
    warnings
        Sentences for the reader.
    """

    members: tuple[Member, ...]
    names: tuple[str, ...]
    links: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """What the participant level left: table, failures, models, their maps, whom a person excluded, the engines.

    ``folds`` holds, by model and scan, the fold that held the person out, where one did.
    """

    table: pd.DataFrame
    failed: pd.DataFrame
    models: tuple[str, ...]
    cards: dict[str, dict]
    maps: pd.DataFrame
    excluded: frozenset[str] = frozenset()
    folds: dict[str, dict[str, object]] = field(default_factory=dict)
    engines: tuple[str, ...] = ()
    flags: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["prefix", "model", "flags"]))
    pooled: Pooled | None = None
