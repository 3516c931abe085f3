"""Ages, their units and where they come from."""

from corpuscase import Case

ONE, TWO = ("sub-01",), ("sub-01", "sub-02")


def _units(words):
    return {"participants.json": {"age": {"Units": words}}}


CASES = {
    "age_in_months_without_a_unit": Case(
        "ages beyond 120 and no unit",
        ("participant_id|age", "sub-01|864"),
        scans=ONE,
        rc=16,
        says=("AGE_UNIT_UNKNOWN",),
    ),
    "age_in_months_said_to_be_years": Case(
        "ages beyond 120 that the sidecar calls years",
        ("participant_id|age", "sub-01|864"),
        _units("years"),
        ONE,
        rc=16,
        says=("AGE_UNIT_UNKNOWN",),
    ),
    "age_in_months": Case(
        "the sidecar says months", ("participant_id|age", "sub-01|864"), _units("months"), ONE, ages={"sub-01": 72}
    ),
    "age_in_days": Case(
        "the sidecar says days", ("participant_id|age", "sub-01|7305"), _units("days"), ONE, ages={"sub-01": 20}
    ),
    "postmenstrual_weeks": Case(
        "weeks since conception are no age since birth",
        ("participant_id|age", "sub-01|40"),
        _units("weeks PMA"),
        ONE,
        rc=16,
        says=("AGE_UNIT_UNKNOWN",),
    ),
    "interview_age": Case(
        "interview_age is in months by convention (NDA)",
        ("participant_id|interview_age", "sub-01|864"),
        scans=ONE,
        ages={"sub-01": 72},
    ),
    "scan_age_beside_birth_age": Case(
        "newborns: both in weeks, in one table",
        ("participant_id|birth_age|scan_age", "sub-01|38|40"),
        scans=ONE,
        rc=16,
        says=("week",),
    ),
    "two_ages_that_disagree": Case(
        "two age columns, three years apart",
        ("participant_id|age|age_at_scan", "sub-01|72|75"),
        scans=ONE,
        rc=16,
        says=("AGE_AMBIGUOUS",),
    ),
    "two_ages_that_agree": Case(
        "the same age, once in whole years",
        ("participant_id|age|age_at_scan", "sub-01|72|72.4"),
        scans=ONE,
        ages={"sub-01": 72.4},
    ),
    "words_and_numbers_for_missing": Case(
        "each spelling of a missing age",
        ("participant_id|age", "sub-01|n/a", "sub-02|NaN", "sub-03|", "sub-04|999", "sub-05|-4", "sub-06|20"),
        scans=tuple(f"sub-0{i}" for i in range(1, 7)),
        ages={**{f"sub-0{i}": None for i in range(1, 6)}, "sub-06": 20},
        says=("5 of 6 scans have no age",),
    ),
    "age_range": Case(
        "a range of ages is no age",
        ("participant_id|age", "sub-01|35-40", "sub-02|20"),
        scans=TWO,
        ages={"sub-01": None, "sub-02": 20},
        says=("AGE_VALUE",),
    ),
    "top_coded": Case(
        "89+ is kept as 89 and flagged",
        ("participant_id|age", "sub-01|89+", "sub-02|20"),
        scans=TWO,
        ages={"sub-01": 89, "sub-02": 20},
        says=("top_coded",),
    ),
    "age_at_recruitment": Case(
        "the age at recruitment is years before the scan",
        ("participant_id|age_at_recruitment", "sub-01|50"),
        scans=ONE,
        ages={"sub-01": None},
        says=("AGE_AT_RECRUITMENT",),
    ),
    "decimal_comma": Case(
        "40,5 is forty and a half",
        ("participant_id|age", "sub-01|40,5", "sub-02|30"),
        scans=TWO,
        ages={"sub-01": 40.5, "sub-02": 30},
    ),
    "comma_in_days": Case(
        "a comma in days may separate thousands",
        ("participant_id|age", "sub-01|26,298"),
        _units("days"),
        ONE,
        ages={"sub-01": None},
        says=("AGE_VALUE",),
    ),
    "session_label_in_months": Case(
        "age at baseline, sessions named by months",
        ("participant_id|age_bl", "sub-01|70"),
        scans=("sub-01_ses-M000", "sub-01_ses-M024"),
        ages={"sub-01_ses-M000": 70, "sub-01_ses-M024": 72},
    ),
    "one_age_for_two_sessions": Case(
        "one age for sessions of unknown distance",
        ("participant_id|age", "sub-01|60"),
        scans=("sub-01_ses-1", "sub-01_ses-2"),
        ages={"sub-01_ses-1": 60, "sub-01_ses-2": 60},
        says=("AGE_NOT_SESSION_SPECIFIC",),
    ),
    "sessions_tables_of_two_units": Case(
        "sessions tables whose sidecars disagree about the unit",
        ("participant_id|sex", "sub-01|F", "sub-02|M"),
        {
            "sub-01/sub-01_sessions.tsv": "session_id\tage\nses-1\t84\n",
            "sub-01/sub-01_sessions.json": {"age": {"Units": "month"}},
            "sub-02/sub-02_sessions.tsv": "session_id\tage\nses-1\t8\n",
            "sub-02/sub-02_sessions.json": {"age": {"Units": "year"}},
        },
        ("sub-01_ses-1", "sub-02_ses-1"),
        rc=16,
        says=("SIDECAR_CONFLICT",),
    ),
}
