"""Queries of --train-on and --bias-query: the answers of pandas, and nothing that runs."""

import numpy as np
import pandas as pd
import pytest
from commandline import run_here
from handmade import make
from hypothesis import given, settings
from hypothesis import strategies as st

from brainage_bids.app.scan_queries import MAX_CHARACTERS, rows_where
from brainage_bids.errors import UsageError

TABLE = pd.DataFrame(
    {
        "age": [20.0, np.nan, 70.0, 50.0, 50.5],
        "sex": pd.Series(["F", None, "M", "F", "M"], dtype=object),
        "group": pd.Series(["CN", "AD", None, "", "a & b"], dtype="str"),
        "run": [1, 2, 3, -1, 0],
        "passed": [True, False, True, True, False],
        "years at school": [10.0, 12, np.nan, 16, 9],
    }
)


def same(query):
    expected = TABLE.index.isin(TABLE.query(query, engine="python").index)
    found = rows_where(TABLE, query, "--train-on")
    assert found.dtype == bool
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "query",
    [
        "age > 40",
        "age > 50 & sex == 'F'",  # & binds like and
        "age > 50 | sex == 'F' & passed",
        "20 < age <= 50.5",
        "age != 50",  # a missing value is unlike everything
        "age == age",  # the known ones
        "not age > 50",
        "~(age > 50) and passed",
        "~passed",
        "not passed or run == 1",
        "sex == None",
        "sex != None",
        "sex in ['F', None]",
        "sex not in ('F',)",
        "sex != 'F'",
        "'F' in sex",
        "sex in 'F'",
        "age in [20, 50 + 0.5]",
        "age == [20, 70]",
        "['F'] != sex",
        "run in age",
        "group == 'a & b'",
        'group == "a & b" | group == ""',
        "`years at school` >= 12",
        "`age` > 30 and `years at school`<13",
        "age - run * 2 > -1e1 + 3 ** 2",
        "age // 7 == 2 or age % 2 == 0 or -run < 0",
        "run / 0 > 1",
        "2 ** 3 > run",
        "passed == 1",
        "group > 'B'",
        "\n age > 40 \n",
        "(((age))) > 40",
        "age == 'twenty'",
        "True and age > 40",
        "group == '@pd.x()'",
    ],
)
def test_a_query_answers_as_pandas_does(query):
    same(query)


NUMBERS = st.sampled_from(["age", "run", "`years at school`", "20", "50", "3.5", "-1", "0"])
TEXTS = st.sampled_from(["sex", "group", "'F'", "'M'", "'CN'", "''", '"a & b"'])
SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


@st.composite
def questions(draw, depth=3):
    kind = draw(st.integers(0, 6 if depth else 3))
    if kind == 0:
        sign = st.sampled_from([" + ", " - ", " * "])
        left = draw(st.sampled_from(["age", "run", "`years at school`"]))
        return f"{left}{draw(sign)}{draw(NUMBERS)} {draw(SIGNS)} {draw(NUMBERS)}"
    if kind == 1:
        left = draw(st.sampled_from(["sex", "group"]))
        return f"{left} {draw(st.sampled_from(['==', '!=']))} {draw(TEXTS)}"
    if kind == 2:
        column, values = draw(
            st.sampled_from([("age", "[20, 50]"), ("sex", "['F']"), ("run", "(1, 2, 7)"), ("group", "['CN', 'x']")])
        )
        return f"{column} {draw(st.sampled_from(['in', 'not in', '==', '!=']))} {values}"
    if kind == 3:
        return f"{draw(NUMBERS)} {draw(SIGNS)} age {draw(SIGNS)} {draw(NUMBERS)}"
    inner = draw(questions(depth - 1))
    if kind == 4:
        return f"{draw(st.sampled_from(['not ', '~']))}({inner})"
    join = draw(st.sampled_from([" and ", " or ", " & ", " | "]))
    other = draw(questions(depth - 1))
    return f"{inner}{join}{other}" if kind == 5 else f"({inner}){join}({other})"


@given(questions())
@settings(max_examples=150, deadline=None)
def test_any_ordinary_query_answers_as_pandas_does(query):
    same(query)


def test_text_with_missing_values_is_ordered_among_what_is_there():
    """Pandas cannot compare None with text at all."""
    assert rows_where(TABLE, "sex < 'G'", "--train-on").tolist() == [True, False, False, True, False]


REFUSED = {
    "@pd.io.common.os.system('true')": "@",
    "@age > 5": "@",
    "age.sum() > 5": "cannot be used",
    "age.values": "a dot",
    "`age`.map(print)": "cannot be used",
    "__import__('os')": "calls",
    "abs(age) > 5": "calls",
    "age[0] > 5": "square brackets",
    "(lambda: 1)": "Lambda",
    "[x for x in age]": "ListComp",
    "f'{age}' == 'x'": "f-strings",
    "(a := age) > 5": ":=",
    "age > 5 if passed else passed": "if",
    "sex is None": "is",
    "sex == b'F'": "cannot be",
    "age == 1j": "cannot be",
    "age == ...": "cannot be",
    "age << 2 > 1": "LShift",
    "age ^ 2": "cannot be",
    "sex = 'F'": "write == to compare",
    "age >": "near character",
    "sex == “F”": "character",
    "": "evaluated",
    "()": "evaluated",
    "1 < 2": "names no column",
    "age": "is not true or false",
    "age > 5 and 1": "is not true or false",
    "~age > 50": "is not true or false",
    "age in 5": "list",
    "age in [run]": "numbers and text only",
    "age > 'a'": "comparison",
    "sex + 'x' == 'Fx'": "no number",
    "'%99999999999d' % run == 'x'": "no number",
    "'a' * 99999999999 == sex": "no number",
    "age > 9**9**9": "range",
    "age > (-8) ** 0.5": "root of a negative",
    "age > 1 / 0": "zero",
    "Sex == 'F'": "'Sex' is not a column; there are sex",
    "sex == F": "'F' is not a column",
    "`no such` > 1": "'no such' is not a column",
    "age > __class__": "is not a column",
    "age > " + "9" * 5000: "4300",
    "-" * 50_000 + "age > 1": "deep",
    "(" * 5000 + "age" + ")" * 5000: "nested",
    " or ".join(["age > 1"] * 2000): "too long",
    "age + " * 600 + "age > 1": "too long",
    "age > 1 " * 200_000: "characters",
    "age > 1\0": "null",
}


@pytest.mark.parametrize("query", REFUSED, ids=lambda query: query[:30])
def test_what_is_no_plain_comparison_is_refused_in_a_sentence(query):
    with pytest.raises(UsageError, match=r"--train-on .* cannot be evaluated: ") as caught:
        rows_where(TABLE, query, "--train-on")
    assert REFUSED[query] in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_long_list_of_people_is_no_long_query():
    people = [f"sub-{i:04d}" for i in range(5000)]
    table = pd.DataFrame({"participant_id": people})
    query = f"participant_id in {people[:4000]}"
    assert len(query) < MAX_CHARACTERS
    assert rows_where(table, query, "--train-on").sum() == 4000


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("option", ["--train-on", "--bias-query"])
def test_a_query_runs_no_command(tmp_path, option, by_file):
    place = make(tmp_path, "d")
    mark = tmp_path / "mark"
    query = f"@pd.io.common.os.system('touch {mark}') == 0"
    level = ["participant", "--dry-run", "--train", "pca-ridge"] if option == "--train-on" else ["group"]
    args = [option, query]
    if by_file:
        (tmp_path / "c.toml").write_text(f'{option[2:]} = "{query}"\n')
        args = ["--config-file", str(tmp_path / "c.toml")]
    done = run_here(place.bids, place.out, *level, *args)
    assert done.returncode == 64
    assert option in done.stderr
    assert not mark.exists()
