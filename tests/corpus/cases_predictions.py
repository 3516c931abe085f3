"""Predictions made elsewhere (``--predictions``)."""

from corpuscase import Case

ROWS = ("participant_id|age", "sub-01|30", "sub-02|40")


def _given(what, text, **promised):
    """The table ``ages.csv`` of a model called x, at the group level."""
    return Case(
        what,
        ROWS,
        {"../ages.csv": text},
        ("sub-01", "sub-02"),
        level="group",
        args=("--predictions", "x={beside}/ages.csv"),
        **promised,
    )


CASES = {
    "plain": _given(
        "a table as it should be", "participant_id,predicted_age\nsub-01,31\nsub-02,44\n", says=("2 scans",)
    ),
    "comma_as_separator_and_as_decimal_sign": _given(
        "1,60,5 under two columns", "participant_id,predicted_age\n01,60,5\n", rc=65, says=("3 cells under 2 columns",)
    ),
    "age_in_words": _given(
        "an age that is no number", "participant_id;predicted_age\n01;old\n", rc=65, says=("no number",)
    ),
    "ages_in_months": _given("ages of 840", "participant_id;predicted_age\n01;840\n02;730\n", rc=65, says=("years",)),
    "scan_twice": _given(
        "two rows of one scan", "participant_id;predicted_age\n01;60\nsub-01;61\n", rc=65, says=("more than once",)
    ),
    "no_rows": _given("a header only", "participant_id;predicted_age\n", rc=65, says=("no rows",)),
    "id_missing": _given(
        "a row without a participant", "participant_id;predicted_age\n;60\n", rc=65, says=("without participant",)
    ),
}
