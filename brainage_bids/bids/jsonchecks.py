"""Check JSON that people may have edited: one rule for each key, and an error for the first rule that is broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from brainage_bids.errors import BadDataError, shorten

WAY_OUT = "copy the model folder again, or train the model again"
Check = tuple[Callable[[Any], bool], str]  # the rule, and the same in words


def between(least: float, most: float, kind: type | tuple[type, ...] = (int, float)) -> Callable[[Any], bool]:
    """Return the rule that a value is a number of this kind from ``least`` to ``most``."""
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most


def list_of(rule: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
    """Return the rule that a value is a list of at least ``least`` items that all satisfy a rule."""
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(rule, value))


def or_none(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return the rule that a value is missing or satisfies a rule."""
    return lambda value: value is None or rule(value)


def matches(pattern: str) -> Callable[[Any], bool]:
    """Return the rule that a text matches a pattern from end to end."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def kind_of(*kinds: type) -> Callable[[Any], bool]:
    """Return the rule that a value is of one of these types."""
    return lambda value: isinstance(value, kinds)


def check_keys(values: Mapping[str, Any], checks: Mapping[str, Check], source: str | Path, inside: str = "") -> None:
    """Raise unless every key is there and satisfies its rule.

    Keys are paths with dots (``a.b``). A key that ends in ``?`` may be missing.

    Raises
    ------
    BadDataError
        Names the first wrong key, its value and the rule.
    """
    for key, (rule, wanted) in checks.items():
        names, value = key.removesuffix("?").split("."), values
        for at, name in enumerate(names):
            if not isinstance(value, dict):
                refuse(source, inside + ".".join(names[:at]), value, "a table of keys")
            if name not in value and not key.endswith("?"):
                raise BadDataError(f"{source}: {inside}{'.'.join(names[: at + 1])} is missing; {WAY_OUT}")
            value = value.get(name)
        if not (rule(value) or (value is None and key.endswith("?"))):
            refuse(source, inside + ".".join(names), value, wanted)


def refuse(source: str | Path, key: str, value: Any, wanted: str) -> NoReturn:
    """Raise `BadDataError` for a key that breaks its rule."""
    shown = shorten(value if isinstance(value, str) else repr(value), 60)
    raise BadDataError(f"{source}: {key} is {shown or 'empty'}; it must be {wanted}: {WAY_OUT}")


def kind_in_words(value: Any) -> str:
    """Return the kind of a JSON value in words."""
    kinds: Sequence[tuple[type, str]] = ((list, "a list"), (str, "text"), (bool, "true or false"), (type(None), "null"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "a number")
