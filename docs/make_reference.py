"""Write docs/reference.md from the code: every option of both commands, and the exit codes.

Run it after an option has changed: ``python docs/make_reference.py``. The test of the documentation fails until then.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from brainage_bids import cli, errors, stops, tools
from brainage_bids.option_groups import GROUPS, ONE_LEVEL

PAGE = Path(__file__).with_name("reference.md")
SIGNALS = {
    "SIGHUP": "the terminal was lost",
    "SIGINT": "Ctrl-C",
    "SIGTERM": "a scheduler or a person asked for the end",
}
KINDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "path": "PATH"}
SANE = 1000  # a largest value above this only catches slips of the keyboard and is not told
HEAD = """# Reference

Every option of both commands, and the exit codes. This page is made from the code: do not edit it by hand, but run
`python docs/make_reference.py`. Recipes for what people usually need are in [how-to](howto.md). What the words mean is
in [explanation](explanation.md).

## brainage-bids

```
brainage-bids BIDS_DIR OUTPUT_DIR {participant,group} [options]
```

Give the three arguments first, then the options. An option with `...` takes one value or several after one flag, and
may be repeated. A `_` inside a name works as `-` does. Most names that fMRIPrep, MRIQC and sMRIPrep have for the same
option are understood. An option of the other level is named in a warning and ignored. A dash under "default" means: not
set.

"""
CONFIG = """
A file of options (`--config-file FILE.toml`) holds their names without the dashes in front, and no headings. What
stands on the command line wins:

```toml
nprocs = 2
control = ["CN"]
dry-run = true
```

`--mem` takes a bare number as GB; `16G`, `16GB` and `16000M` are read as they say. What was understood is printed.
"""
TOOLS = """
## brainage-tools

```
brainage-tools COMMAND [options]
```

Everything that is not the BIDS App.
"""
CODES = """
## Exit codes

| code | meaning |
| --- | --- |
"""


def page() -> str:
    """Return the whole page."""
    app = typer.main.get_command(cli.app)
    context = typer.Context(app)
    known = {one.name: one for one in app.get_params(context)}
    parts = [HEAD, "### Arguments\n\n", *_arguments(known.values())]
    for title, names in GROUPS.items():
        rows = [(*_row(known[name], context), _level(name)) for name in names]
        parts.append(f"\n### {title}\n\n{_table(('option', 'meaning', 'default', 'level'), rows)}")
    parts += [CONFIG, TOOLS]
    for name, command in typer.main.get_command(tools.tools_app).commands.items():
        parts.append(f"\n### brainage-tools {name}\n\n{_plain(command.help)}\n\n")
        rows = [_row(one, context) for one in command.params]
        parts.append(_table(("option", "meaning", "default"), rows))
    parts += [CODES, *(f"| {code} | {meaning} |\n" for code, meaning in exit_codes())]
    parts.append(
        "\nAn error is one sentence that names the thing, its value and the way out. `-v -v` adds the traceback.\n"
    )
    return "".join(parts)


def exit_codes() -> list[tuple[str, str]]:
    """Return the codes and what they mean, in order."""
    told: dict[int, list[str]] = {0: ["All done."]}
    for one in vars(errors).values():
        if inspect.isclass(one) and issubclass(one, errors.BrainageError) and one is not errors.BrainageError:
            told.setdefault(one.exit_code, []).append(inspect.getdoc(one).splitlines()[0])
    told[errors.exit_code(Exception())] = ["A mistake in brainage-bids; `-v -v` shows where."]
    for signal in stops.SIGNALS:
        told[128 + signal] = [
            f"Stopped, {SIGNALS[signal.name]} ({signal.name}); the same command goes on where it was."
        ]
    return [(str(code), " ".join(words)) for code, words in sorted(told.items())]


def _arguments(known: Iterable[Any]) -> list[str]:
    rows = [
        (f"`{one.name.upper()}`", _plain(one.help) + _choices(one))
        for one in known
        if one.param_type_name == "argument"
    ]
    return [_table(("argument", "meaning"), rows)]


def _choices(one: Any) -> str:
    return ": " + " or ".join(f"`{word}`" for word in one.metavar.split("|")) if one.metavar else ""


def _row(one: Any, context: typer.Context) -> tuple[str, str, str]:
    """Return how an option is typed, its meaning and its default."""
    if one.param_type_name == "argument":
        return f"`{one.name.upper()}`", _plain(one.help), _default(one)
    names = [f"`{one.opts[0]}{_value(one, context)}`", *(f"`{name}`" for name in one.opts[1:] if "_" not in name)]
    return ", ".join(names), _plain(one.help) + _bounds(one), _default(one)


def _value(one: Any, context: typer.Context) -> str:
    """Return what follows an option: nothing after a flag, else the kind of its value."""
    found = re.search(r"<(?:list\[)?(\w+)", one.get_help_record(context)[0])
    return f" {KINDS[found[1]]}{' ...' if one.multiple else ''}" if found else ""


def _bounds(one: Any) -> str:
    high = None if one.max is None or one.max > SANE else one.max
    if one.min is None or one.count:
        return ""
    return f" (at least {one.min:g})" if high is None else f" ({one.min:g} to {high:g})"


def _default(one: Any) -> str:
    value = one.default() if callable(one.default) else one.default
    if getattr(one, "is_flag", False) or getattr(one, "count", False):
        return "off"
    if isinstance(value, list | tuple):
        return " ".join(f"`{item}`" for item in value) or "-"
    return "-" if value is None else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _level(name: str) -> str:
    return next((level for level, those in ONE_LEVEL.items() if name in those), "both")


def _plain(words: str | None) -> str:
    """Return the words of the help for a cell of a table; a page of the documentation becomes a link."""
    words = re.sub(r"docs/(\w+)\.md", lambda found: _link(found[1]), (words or "").strip())
    return words.replace("|", r"\|")


def _link(name: str) -> str:
    return f"[{name}]({name}.md)"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
