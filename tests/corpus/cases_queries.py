"""Queries that choose rows: what is no plain comparison is refused, and nothing in it runs."""

from corpuscase import Case

PEOPLE = ("participant_id|age|sex|group", *(f"sub-{i:02d}|{20 + i}|{'FM'[i % 2]}|CN" for i in range(1, 31)))
SCANS = tuple(f"sub-{i:02d}" for i in range(1, 31))


def _trained(what, query, *says, rc=64, **promised):
    args = ("--train", "pca-ridge", "--train-on", query)
    return Case(what, PEOPLE, scans=SCANS, args=args, rc=rc, says=says, **promised)


def _touched(text):
    """A query in a configuration file; the command in it would leave a file."""
    return {"../options.toml": f"train-on = {text!r}\n"}


CASES = {
    "query_shell": _trained(
        "a shell command", '@pd.io.common.os.system("true") == 0', "--train-on", "@ is not allowed"
    ),
    "query_shell_in_file": Case(
        "the same in a configuration file",
        PEOPLE,
        _touched("@pd.io.common.os.system('true') == 0"),
        SCANS,
        args=("--train", "pca-ridge", "--config-file", "{beside}/options.toml"),
        rc=64,
        says=("@ is not allowed",),
    ),
    "query_attribute": _trained("an attribute", "age.__class__ == 1", "a dot"),
    "query_call": _trained("a call", "__import__('os').system('true')", "cannot be used"),
    "query_lambda": _trained("a lambda", "(lambda: 1)() == 1", "calls"),
    "query_index": _trained("square brackets", "age[0] > 1", "square brackets"),
    "query_one_equals_sign": _trained("= for ==", "sex = 'F'", "write == to compare"),
    "query_unknown_column": _trained("no such column", "split == 1", "'split' is not a column", "age, .*sex"),
    "query_no_quotes": _trained("text without quotation marks", "sex == F", "'F' is not a column"),
    "query_tower": _trained("a number without end", "age > 9**9**9**9", "range"),
    "query_deep": _trained("5000 brackets", "(" * 5000 + "age" + ")" * 5000 + " > 1", "nested"),
    "query_long": _trained("a megabyte", "age > 1 or " * 90_000 + "age > 2", "characters"),
    "query_text_times_number": _trained("a text of 100 GB", "'a' * 99999999999 == sex", "no number"),
    "query_text_against_number": _trained("text beside a number", "age > 'old'", "cannot be evaluated"),
    "query_empty": _trained("nothing", " ", "cannot be evaluated"),
    "query_no_question": _trained("no comparison", "age", "is not true or false"),
    "query_plain": _trained("an ordinary one", "sex == 'F' & age > 20 | age in [21, 23]", rc=0, planned=30),
}
