"""Select rows of a table with a query such as ``group == "CN" and age > 40``, safely.

The result is that of ``DataFrame.query``. But that function can run any Python code (``@pd.io...``), and a query may
come from a file of somebody else. So queries are parsed and evaluated here. Allowed are columns, numbers, text, lists,
comparisons, arithmetic and ``and or not in``.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
import warnings
from functools import reduce

import numpy as np
import pandas as pd

from brainage_bids.errors import UsageError, shorten

MAX_CHARACTERS = 100_000
MAX_PARTS = 1000  # values of a list are not counted
SHOWN = 60  # characters of a query in an error message
LISTED = 20  # columns of a table in an error message
_ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
_EQUAL = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_ARITHMETIC = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_REFUSED = {
    ast.Call: "calls", ast.Attribute: "a dot after a name", ast.Subscript: "square brackets after a name",
    ast.JoinedStr: "f-strings", ast.Set: "curly brackets", ast.Dict: "curly brackets", ast.NamedExpr: ":=",
    ast.Is: "is", ast.IsNot: "is not", ast.IfExp: "if ... else",
}  # fmt: skip
# Text in quotation marks is not changed; `names in backticks` and & | outside of it are rewritten, as pandas does.
_PIECES = re.compile(r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|`([^`\n]*)`|([&|@])""")


class _Refused(Exception):
    """The query cannot be evaluated; the message says why."""


def rows_where(table: pd.DataFrame, query: str, option: str) -> pd.Series:
    """Return which rows of ``table`` a query selects, bool ``(n,)``, as ``DataFrame.query`` would.

    A missing value matches only ``!=`` and ``not in``. ``&`` and ``|`` mean ``and`` and ``or``.

    Parameters
    ----------
    table, query
        The table and the query.
    option
        Option that the query was given with, for error messages: ``--train-on``.

    Raises
    ------
    UsageError
        When the query cannot be read, names no column, contains something that is not allowed, or is not a yes or no.
    """
    try:
        tree, names = _parsed(query)
        if sum(not isinstance(node, ast.Constant | ast.expr_context) for node in ast.walk(tree)) > MAX_PARTS:
            raise _Refused(f"it is too long (more than {MAX_PARTS:,} parts; a list in square brackets counts as one)")
        result = _value(tree, _columns(table, names))
        if not isinstance(result, pd.Series):
            raise _Refused("it names no column")
        return _truth(result)
    except _Refused as error:
        why = str(error)
    except (RecursionError, MemoryError):
        why = "it is nested too deeply"
    except (TypeError, ValueError, ArithmeticError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
    raise UsageError(f"{option} {shorten(query, SHOWN)!r} cannot be evaluated: {why}")


# --- text to tree ---------------------------------------------------------------------------------------------------


def _parsed(query: str) -> tuple[ast.expr, dict[str, str]]:
    """Return the tree, and for each column in backticks: its name in the tree -> its name in the table."""
    if len(query) > MAX_CHARACTERS:
        raise _Refused(f"it has {len(query):,} characters, more than {MAX_CHARACTERS:,}")
    prefix = "column_"
    while prefix in query:
        prefix += "_"
    names: dict[str, str] = {}

    def rewritten(piece: re.Match) -> str:
        text, name, sign = piece.groups()
        if sign == "@":
            raise _Refused("@ is not allowed: only columns of the table have a meaning")
        if name is not None:
            known = next((key for key, value in names.items() if value == name), f"{prefix}{len(names)}")
            names[known] = name
            return f" {known} "
        return text or {"&": " and ", "|": " or "}[sign]

    text = _PIECES.sub(rewritten, query).replace("\n", " ").strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text, mode="eval").body, names
        except SyntaxError as error:
            alone = re.search(r"(?<![<>=!])=(?!=)", re.sub(_PIECES, "", query))
            hint = "write == to compare" if alone else f"{error.msg} near character {error.offset or 1}"
            raise _Refused(hint) from error


def _columns(table: pd.DataFrame, names: dict[str, str]) -> dict[str, pd.Series | str]:
    """Return name in the tree -> column; a name in backticks that is no column remains text."""
    plain = {name: table[name] for name in table.columns if isinstance(name, str)}
    return plain | {key: plain.get(name, name) for key, name in names.items()}


# --- tree to rows ---------------------------------------------------------------------------------------------------


def _value(node: ast.expr, columns: dict[str, pd.Series | str]) -> object:
    """Return the value of a part of the query: a column, a number, text, a list, True or False."""
    match node:
        case ast.Name(id=name):
            return _column(name, columns)
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            values = [_value(part, columns) for part in parts]
            if any(isinstance(value, pd.Series | list) for value in values):
                raise _Refused("a list may hold numbers and text only")
            return values
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [_value(part, columns) for part in (left, *others)]
            pairs = zip(values[:-1], ops, values[1:], strict=True)
            return reduce(operator.and_, [_compared(a, op, b) for a, op, b in pairs])
        case ast.BoolOp(op=op, values=parts):
            join = operator.and_ if isinstance(op, ast.And) else operator.or_
            return reduce(join, [_truth(_value(part, columns)) for part in parts])
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=part):
            return ~_truth(_value(part, columns))
        case ast.UnaryOp(op=op, operand=part):
            value = _number(_value(part, columns))
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _calculated(_value(left, columns), op, _value(right, columns))
    raise _refusal(node)


def _refusal(node: ast.AST) -> _Refused:
    what = _REFUSED.get(type(node)) or f"{type(getattr(node, 'op', node)).__name__} (of Python)"
    return _Refused(f"{what} cannot be used: write comparisons of columns, such as age > 40 and sex == 'F'")


def _column(name: str, columns: dict[str, pd.Series | str]) -> pd.Series:
    column = columns.get(name, name)
    if isinstance(column, pd.Series):
        return column
    known = [key for key, value in columns.items() if isinstance(value, pd.Series) and value.name == key]
    near = difflib.get_close_matches(column, known, n=3)
    names = [*near, *(name for name in known if name not in near)]
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    quotes = "" if near else " (text stands in quotation marks)"
    raise _Refused(f"{shorten(column, SHOWN)!r} is not a column{quotes}; there are {listed}")


def _truth(value: object) -> pd.Series | np.bool_:
    """Return True or False for every row; a missing value is False."""
    if isinstance(value, bool | np.bool_):
        return np.bool_(value)
    if isinstance(value, pd.Series):
        if pd.api.types.is_bool_dtype(value.dtype):
            return value.fillna(False).astype(bool)
        if value.dtype == object and value.dropna().map(type).eq(bool).all():
            return value.eq(True)
        raise _Refused(f"{value.name or 'a number'} is not true or false; compare it with something, as in age > 40")
    raise _Refused(f"{shorten(value, SHOWN)!r} is not true or false; compare it with a column, as in age > 40")


def _number(value: object) -> object:
    if isinstance(value, pd.Series):
        is_number = pd.api.types.is_numeric_dtype(value.dtype) and not pd.api.types.is_bool_dtype(value.dtype)
        if not is_number:
            raise _Refused(f"{value.name or 'a yes or no'} is no number, and calculations need numbers")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _Refused(f"{shorten(value, SHOWN)!r} is no number, and calculations need numbers")
    return value


def _calculated(left: object, op: ast.operator, right: object) -> object:
    left, right = _number(left), _number(right)
    if not isinstance(left, pd.Series) and not isinstance(right, pd.Series):
        left, right = float(left), float(right)  # integers of Python have no limit: 9**9**9 would never end
    result = _ARITHMETIC[type(op)](left, right)
    if isinstance(result, complex):
        raise _Refused("it takes the root of a negative number")
    return result


def _compared(left: object, op: ast.cmpop, right: object) -> object:
    if isinstance(op, ast.In | ast.NotIn) or (
        type(op) in _EQUAL and (isinstance(left, list) or isinstance(right, list))
    ):
        result = _among(left, right)
        return result if isinstance(op, ast.In | ast.Eq) else ~result
    if type(op) in _EQUAL:
        return _EQUAL[type(op)](left, right)
    if type(op) not in _ORDER:
        raise _refusal(op)
    if isinstance(left, list) or isinstance(right, list):
        raise _Refused("a list can only be compared with in, not in, == and !=")
    return _ordered(left, _ORDER[type(op)], right)


def _among(left: object, right: object) -> pd.Series:
    if isinstance(right, pd.Series) and (isinstance(left, str | list)):  # 'F' in sex, ['F', 'M'] == sex
        left, right = right, left
    if isinstance(right, str):
        right = [right]
    if not isinstance(left, pd.Series) or not isinstance(right, pd.Series | list):
        raise _Refused("in needs a column on its left and a list on its right, as in group in ['CN', 'SCD']")
    return left.isin(right)


def _ordered(left: object, compare, right: object) -> object:
    """Compare with < <= > >=. A missing value gives False; pandas cannot compare it with text."""
    columns = [value for value in (left, right) if isinstance(value, pd.Series)]
    if not any(value.dtype == object for value in columns):
        return compare(left, right)
    known = reduce(operator.and_, [value.notna() for value in columns])
    left, right = (value[known] if isinstance(value, pd.Series) else value for value in (left, right))
    return compare(left, right).reindex(known.index, fill_value=False).astype(bool)
