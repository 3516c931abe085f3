"""Check JSON that people may have edited: a rule for each key, and one sentence for the first that does not hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from brainage_bids.errors import BadDataError, shorten

WAY_OUT = "copy the model folder again, or train the model again"
Check = tuple[Callable[[Any], bool], str]  # the rule, and what it asks for in words


def between(least: float, most: float, kind: type | tuple[type, ...] = (int, float)) -> Callable[[Any], bool]:
    """Return the rule that a number of this kind lies between two ends, both included."""
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most


def list_of(rule: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
    """Return the rule that a list has at least ``least`` values, which all keep a rule."""
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(rule, value))


def or_none(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return the rule that a value is missing or keeps a rule."""
    return lambda value: value is None or rule(value)


def matches(pattern: str) -> Callable[[Any], bool]:
    """Return the rule that a text matches a pattern from end to end."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def kind_of(*kinds: type) -> Callable[[Any], bool]:
    """Return the rule that a value is of one of these types."""
    return lambda value: isinstance(value, kinds)


def check_keys(values: Mapping[str, Any], checks: Mapping[str, Check], source: str | Path, inside: str = "") -> None:
    """Raise unless every key, by path, is there and keeps its rule; a ``?`` at its end: it may be missing.

    Raises
    ------
    BadDataError
        Naming the first key that does not, its value and the rule.
    """
    for key, (rule, wanted) in checks.items():
        names, found = key.removesuffix("?").split("."), values
        for at, name in enumerate(names):
            if not isinstance(found, dict):
                refuse(source, inside + ".".join(names[:at]), found, "a table of keys")
            if name not in found and not key.endswith("?"):
                raise BadDataError(f"{source}: {inside}{'.'.join(names[: at + 1])} is missing; {WAY_OUT}")
            found = found.get(name)
        if not (rule(found) or (found is None and key.endswith("?"))):
            refuse(source, inside + ".".join(names), found, wanted)


def refuse(source: str | Path, key: str, value: Any, wanted: str) -> NoReturn:
    """Raise the error of a key that breaks its rule."""
    told = shorten(value if isinstance(value, str) else repr(value), 60)
    raise BadDataError(f"{source}: {key} is {told or 'empty'}; it must be {wanted}: {WAY_OUT}")


def kind_in_words(value: Any) -> str:
    """Return what kind of JSON value this is, in words."""
    kinds: Sequence[tuple[type, str]] = ((list, "a list"), (str, "text"), (bool, "true or false"), (type(None), "null"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "a number")
