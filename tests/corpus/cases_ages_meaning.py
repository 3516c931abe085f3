"""Ages: units, codes and ranges, as sidecars, headings and whole columns tell them."""

from corpuscase import Case

ONE, TWO = ("sub-01",), ("sub-01", "sub-02")


def _told(**about):
    return {"participants.json": {"age": about}}


def _children(what, files, ages=(7, 8), **promise):
    """Ages 84 and 96 of two people: months, whatever word says so."""
    told = {"sub-01": ages[0], "sub-02": ages[1]} if ages else {}
    return Case(what, ("participant_id|age", "sub-01|84", "sub-02|96"), files, TWO, ages=told, **promise)


def _gone(what, files, says, values=("84", "96"), heading="age", **promise):
    """Ages that are missing with a word."""
    rows = (f"participant_id|{heading}", f"sub-01|{values[0]}", f"sub-02|{values[1]}")
    return Case(what, rows, files, TWO, ages={"sub-01": None, "sub-02": None}, says=(says,), **promise)


def _column(what, cells, ages, says="AGE_VALUE"):
    scans = tuple(f"sub-{i}" for i in range(len(cells)))
    rows = ("participant_id|age", *(f"{scan}|{cell}" for scan, cell in zip(scans, cells, strict=True)))
    return Case(what, rows, scans=scans, ages=dict(zip(scans, ages, strict=True)), says=(says,) if says else ())


UNITS = {
    "units_in_lower_case": _children("the key is units", _told(units="months")),
    "unit_not_units": _children("the key is Unit", _told(Unit="Months")),
    "long_name_says_months": _children("the long name says it", _told(LongName="Age (months)")),
    "description_in_brackets": _children("a unit in brackets", _told(Description="Age of participant [mo]")),
    "sidecar_is_a_sentence": _children(
        "the sidecar of the column is a text", {"participants.json": {"age": "age in months"}}
    ),
    "german_months": _children("the description is German", _told(Description="Alter in Monaten")),
    "french_units": _children("the unit is French", _told(Units="mois")),
    "six_month_visit_in_years": _children(
        "a visit is called by months, the age is in years",
        _told(Description="age in years at the 6-month visit"),
        (84, 96),
    ),
    "day_of_the_scan": _children("a day is named, no unit", _told(Description="age on the day of the scan"), (84, 96)),
    "units_that_say_nothing": _children("Units that are no unit", _told(Units="integer", Description="in months")),
    "units_against_description": _gone(
        "Units and description disagree",
        _told(Units="years", Description="age in months"),
        "AGE_UNIT_CONFLICT.*year.*month",
    ),
    "units_against_heading": _gone(
        "Units and heading disagree",
        {"participants.json": {"age_months": {"Units": "years"}}},
        "AGE_UNIT_CONFLICT",
        heading="age_months",
    ),
    "two_units_in_one_text": _gone(
        "the text names two units",
        _told(Description="age in years (adults) or in months (children)"),
        "AGE_UNIT_CONFLICT",
    ),
    "weeks_of_gestation_in_the_description": _gone(
        "counted from conception", _told(Description="postmenstrual age at scan in weeks"), "week", ("38", "42")
    ),
    "gestation_despite_units": _gone(
        "weeks, and not since birth", _told(Units="weeks", Description="Gestational age"), "week", ("38", "42")
    ),
    "sessions_json_above": Case(
        "the unit stands in the sessions.json of the root, the participant's own says more",
        ("participant_id|sex", "sub-01|F"),
        {
            "sessions.json": {"age": {"Units": "months"}},
            "sub-01/sub-01_sessions.json": {"age": {"Description": "age at the visit"}},
            "sub-01/sub-01_sessions.tsv": "session_id\tage\nses-1\t84\n",
        },
        ("sub-01_ses-1",),
        ages={"sub-01_ses-1": 7},
    ),
    "unit_in_some_sessions_tables": Case(
        "one participant's sessions.json says months in words, another's says nothing",
        ("participant_id|sex", "sub-01|F", "sub-02|M"),
        {
            "sub-01/sub-01_sessions.tsv": "session_id\tage\nses-1\t84\n",
            "sub-01/sub-01_sessions.json": {"age": {"Description": "age in months"}},
            "sub-02/sub-02_sessions.tsv": "session_id\tage\nses-1\t84\n",
        },
        ("sub-01_ses-1", "sub-02_ses-1"),
        rc=16,
        says=("SIDECAR_CONFLICT",),
    ),
    "phenotype_json": Case(
        "the unit stands in the description of a phenotype table",
        ("participant_id|sex", "sub-01|F"),
        {
            "phenotype/demo.tsv": "participant_id\tage\nsub-01\t84\n",
            "phenotype/demo.json": {"age": {"LongName": "Age in months"}},
        },
        ONE,
        ages={"sub-01": 7},
    ),
    "newborns_in_two_tables": Case(
        "gestation in participants.tsv, an age without a unit in sessions.tsv",
        ("participant_id|gestational_age", "sub-01|33.1"),
        {"sessions.tsv": "participant_id\tsession_id\tage_at_scan\nsub-01\tses-1\t41.3\n"},
        ("sub-01_ses-1",),
        ages={"sub-01_ses-1": None},
        says=("week",),
    ),
    "children_born_early": Case(
        "gestation in weeks and the age of school children: that is years",
        ("participant_id|gestational_age|age", "sub-01|30|8.5", "sub-02|28|9"),
        scans=TWO,
        ages={"sub-01": 8.5, "sub-02": 9},
    ),
    "only_postmenstrual_age": Case(
        "no age but the one since conception",
        ("participant_id|pma_at_scan", "sub-01|41"),
        scans=ONE,
        ages={"sub-01": None},
        says=("pma_at_scan.*weeks",),
    ),
}

LEVELS = {
    "levels_are_ranges_of_children": _gone("codes of groups", _told(Levels={"84": "7-8", "96": "8-9"}), "AGE_BINS"),
    "levels_in_lower_case": _gone("the key is levels", _told(levels={"1": "young", "2": "old"}), "Levels", ("1", "2")),
    "levels_with_objects": _gone(
        "levels as objects",
        _told(Levels={"1": {"Description": "18-25"}, "2": {"Description": "26+"}}),
        "AGE_BINS",
        ("1.0", "02"),
    ),
    "codes_in_the_description": _gone(
        "the description explains codes",
        _told(Description="age group (1=18-25, 2=26-40)"),
        "age groups",
        ("1", "2"),
    ),
    "age_category": _gone("the description says category", _told(Description="Age category"), "AGE_BINS", ("3", "4")),
    "levels_of_missing_ages": Case(
        "levels explain what stands for missing",
        ("participant_id|age", "sub-01|30", "sub-02|99"),
        _told(Levels={"99": "not reported"}),
        TWO,
        ages={"sub-01": 30, "sub-02": None},
    ),
    "levels_that_repeat_the_age": Case(
        "levels say no more than the cell",
        ("participant_id|age", "sub-01|30", "sub-02|89"),
        _told(Levels={"30": "30 years", "89": "89 or older"}),
        TWO,
        ages={"sub-01": 30, "sub-02": 89},
        says=("top_coded",),
    ),
    "range_of_exact_ages": _children(
        "the range of the sample is told", _told(Description="Age (range: 84-96)"), (84, 96)
    ),
    "levels_as_a_list": _gone("levels as a list", _told(Levels=["18-25", "26-40"]), "AGE_BINS", ("1", "2")),
}

BINS = {
    "bins_with_to": _column("22 to 25", ("22 to 25", "26 to 30", "36+"), (None,) * 3, "range"),
    "bins_of_pandas": _column("[20, 30)", ("[20, 30)", "[30, 40)", "(40.5, 50]"), (None,) * 3, "range"),
    "bins_with_a_long_dash": _column("18–25", ("18–25", "26—30", "> 60"), (None,) * 3, "range"),
    "bins_by_decade": _column("20s", ("20s", "30's", "60+"), (None,) * 3, "range"),
    "bins_open_below": _column("<25", ("<25", "25-40", "over 40"), (None,) * 3, "range"),
    "bins_with_a_bare_number": _column("36 beside bins", ("22-25", "26-30", "36"), (None,) * 3, "range"),
    "cap_of_exact_ages": _column("90+ caps exact ages", ("22", "90+", "71"), (22, 90, 71), "top_coded"),
    "no_cap_of_older_people": _column("65+ where others are older", ("22", "65+", "71"), (22, None, 71), "range"),
    "open_end_of_the_young": _column("36+ beside exact ages", ("22", "36+", "25"), (22, None, 25), "range"),
}

CASES = {**UNITS, **LEVELS, **BINS}
