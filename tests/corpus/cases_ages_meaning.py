"""Ages: what sidecars, headings, dates and names of sessions say of them."""

from corpuscase import Case

ONE, TWO = ("sub-01",), ("sub-01", "sub-02")
TWO_SESSIONS = ("sub-01_ses-01", "sub-01_ses-02")


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


def _heading(heading, cells=("30", "41.5"), ages=(30, 41.5)):
    rows = (f"participant_id|{heading}", *(f"sub-0{i}|{cell}" for i, cell in enumerate(cells, start=1)))
    scans = tuple(f"sub-0{i}" for i in range(1, len(cells) + 1))
    return Case(f"an age under {heading}", rows, scans=scans, ages=dict(zip(scans, ages, strict=True)))


def _column(what, cells, ages, says="AGE_VALUE"):
    scans = tuple(f"sub-{i}" for i in range(len(cells)))
    rows = ("participant_id|age", *(f"{scan}|{cell}" for scan, cell in zip(scans, cells, strict=True)))
    return Case(what, rows, scans=scans, ages=dict(zip(scans, ages, strict=True)), says=(says,) if says else ())


def _dated(days, sessions=("ses-01", "ses-02")):
    return {
        f"sub-01/{session}/sub-01_{session}_scans.tsv": f"filename\tacq_time\nanat/x\t{day}T10:00:00\n"
        for session, day in zip(sessions, days, strict=True)
    }


def _sessions(what, rows, sessions, ages, files=None, **promise):
    scans = tuple(f"sub-01_{session}" for session in sessions)
    return Case(what, rows, files or {}, scans, ages=dict(zip(scans, ages, strict=True)), **promise)


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
        "groups of ages",
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

DATES = {
    "dates_in_the_wrong_order": _sessions(
        "the second session is dated a year before the first",
        ("participant_id|age", "sub-01|30"),
        ("ses-01", "ses-02"),
        (30, 30),
        _dated(("2020-01-01", "2019-01-01")),
        says=("WARNING.*date.*before",),
    ),
    "dates_a_life_apart": _sessions(
        "one date of the two is a placeholder",
        ("participant_id|age", "sub-01|30"),
        ("ses-01", "ses-02"),
        (30, 30),
        _dated(("1900-01-01", "2019-01-01")),
        says=("WARNING.*date",),
    ),
    "one_date_for_all": _sessions(
        "all dates are one placeholder: nothing is known of the time between",
        ("participant_id|age", "sub-01|30"),
        ("ses-01", "ses-02"),
        (30, 30),
        _dated(("1925-01-01", "1925-01-01")),
        says=("age_not_session_specific",),
    ),
    "dates_against_ages": _sessions(
        "ages two years apart, dates nine",
        ("participant_id|session_id|age", "sub-01|ses-01|30", "sub-01|ses-02|32.1", "sub-01|ses-03|n/a"),
        ("ses-01", "ses-02"),
        (30, 32.1),
        _dated(("2010-01-01", "2019-01-01")),
        says=("WARNING.*date.*ages",),
    ),
    "dates_against_labels": _sessions(
        "sessions named by months, dates twelve years apart",
        ("participant_id|age_bl", "sub-01|60"),
        ("ses-M000", "ses-M024"),
        (60, 62),
        _dated(("2000-01-01", "2012-01-01"), ("ses-M000", "ses-M024")),
        says=("WARNING.*date",),
    ),
    "dates_beyond_a_life": _sessions(
        "dates that would make a person older than people get",
        ("participant_id|age", "sub-01|95"),
        ("ses-01", "ses-02"),
        (95, 95),
        _dated(("1990-01-01", "2019-01-01")),
        says=("WARNING.*date",),
    ),
    "dates_that_are_right": _sessions(
        "three years between two sessions",
        ("participant_id|age", "sub-01|30"),
        ("ses-01", "ses-02"),
        (30, 33),
        _dated(("2016-01-01", "2019-01-01")),
        silent=("AGE_DATES",),
    ),
    "sessions_without_an_order": _sessions(
        "names that tell no order: the earlier date is the first",
        ("participant_id|age", "sub-01|30"),
        ("ses-post", "ses-pre"),
        (32, 30),
        _dated(("2019-01-01", "2017-01-01"), ("ses-post", "ses-pre")),
        silent=("AGE_DATES",),
    ),
}

TIME = {
    "days_since_entry": _sessions(
        "days of OASIS-3, the first scan not at entry",
        ("participant_id|AgeatEntry", "sub-01|65.19"),
        ("ses-d0129", "ses-d3132"),
        (65.54, 73.77),
    ),
    "days_since_entry_plain_age": _sessions(
        "one age per person and sessions named by days",
        ("participant_id|age", "sub-01|65.19"),
        ("ses-d0129", "ses-d3132"),
        (65.54, 73.77),
        says=("age_from_session_label",),
    ),
    "months_since_entry_plain_age": _sessions(
        "one age per person, scanned at month 0 and 18",
        ("participant_id|age", "sub-01|65"),
        ("ses-M00", "ses-M18"),
        (65, 66.5),
    ),
    "weeks_in_a_word": _sessions(
        "ses-week26", ("participant_id|age_at_baseline", "sub-01|65"), ("ses-baseline", "ses-week26"), (65, 65.5)
    ),
    "follow_up_in_years": _sessions(
        "names of ABCD",
        ("participant_id|baseline_age", "sub-01|10"),
        ("ses-baselineYear1Arm1", "ses-2YearFollowUpYArm1"),
        (10, 12),
    ),
    "waves_are_no_weeks": _sessions(
        "ses-w4 may be the fourth wave: nothing is added",
        ("participant_id|age", "sub-01|65"),
        ("ses-w1", "ses-w4"),
        (65, 65),
        says=("AGE_NOT_SESSION_SPECIFIC",),
    ),
    "sessions_of_other_images": Case(
        "one session with a T1w, another with its row in the table but without one",
        ("participant_id|age|mmse", "sub-01|30|29"),
        {"sub-01/sub-01_sessions.tsv": "session_id\nses-a\nses-b\n"},
        ("sub-01_ses-a", "sub-01_ses-b_task-x_bold.nii.gz"),
        ages={"sub-01_ses-a": 30},
        silent=("not_session_specific", "SCORE_NOT_SESSION"),
    ),
}

WAVES = {
    "wave_before_age": _sessions(
        "W1_age", ("participant_id|W1_age|W2_age", "sub-01|40|44"), ("ses-wave1", "ses-wave2"), (40, 44)
    ),
    "wave_in_full": _sessions(
        "age_wave1 for ses-W01",
        ("participant_id|age_wave1|age_wave2", "sub-01|40|44"),
        ("ses-W01", "ses-W02"),
        (40, 44),
    ),
    "wave_of_a_numbered_session": _sessions(
        "age_wave2 for ses-02", ("participant_id|age_wave1|age_wave2", "sub-01|40|44"), ("ses-01", "ses-02"), (40, 44)
    ),
    "suffix_of_the_image": _sessions(
        "age_ses-T1_T1w",
        ("participant_id|age_ses-T1_T1w|age_ses-T2_T1w", "sub-01|40|44"),
        ("ses-T1", "ses-T2"),
        (40, 44),
    ),
    "wave_and_unit": _sessions(
        "age_W1_months",
        ("participant_id|age_W1_months|age_W2_months", "sub-01|84|96"),
        ("ses-wave1", "ses-wave2"),
        (7, 8),
    ),
    "numbered_scans": _sessions(
        "age_at_scan_2 for ses-2",
        ("participant_id|age_at_scan_1|age_at_scan_2", "sub-01|40|44"),
        ("ses-1", "ses-2"),
        (40, 44),
    ),
    "bare_numbers_are_no_waves": _sessions(
        "age_1 may mean anything",
        ("participant_id|age_1|age_2", "sub-01|40|44"),
        ("ses-1", "ses-2"),
        (None, None),
        says=("age_1", "--age-column"),
    ),
    "wave_in_a_long_table": Case(
        "rows of wave 1 and W2 for folders ses-wave1 and ses-wave2",
        files={"sessions.tsv": "participant_id\twave\tage\nsub-01\t1\t40\nsub-01\tW2\t44\n"},
        scans=("sub-01_ses-wave1", "sub-01_ses-wave2"),
        ages={"sub-01_ses-wave1": 40, "sub-01_ses-wave2": 44},
    ),
    "brain_age_of_a_session_brain": _sessions(
        "a session that is called brain does not make brain_age its age",
        ("participant_id|brain_age", "sub-01|40"),
        ("ses-brain",),
        (None,),
        says=("AGE_MISSING",),
    ),
}

HEADINGS = {
    **{
        f"heading_{i}": _heading(name)
        for i, name in enumerate(
            (
                "AGE_AT_SCAN",
                "Age at time of scan (years)",
                "age_at_imaging",
                "Subject_Age",
                "PTAGE",
                "Age_in_Yrs",
                "age_at_acquisition",
                "ScanAge",
                "chronological_age",
                "age_at_exam",
                "age_at_scan_1",
                "Age (decimal years)",
            )
        )
    },
    **{
        f"heading_of_months_{i}": _heading(name, ("84", "96"), (7, 8))
        for i, name in enumerate(("age_at_mri_months", "mriAgeInMonths", "Age (mos)", "months_of_age"))
    },
    "heading_of_days": _heading("agedays", ("7305", "10957.5"), (20, 30)),
    **{
        f"heading_no_age_{i}": Case(
            f"{name} is no age at the scan",
            (f"participant_id|{name}", "sub-01|30"),
            scans=ONE,
            ages={"sub-01": None},
            says=("AGE_MISSING",),
            silent=(f"perhaps '{name}'",),
        )
        for i, name in enumerate(
            (
                "brain_age",
                "age_of_onset",
                "AgeAtDiagnosis",
                "paternal_age",
                "bone_age",
                "years_of_education",
                "mental_age",
                "language",
                "brainAge_gap",
                "age_group",
                "disease_duration_years",
                "predicted_age",
            )
        )
    },
    "near_miss_in_another_file": Case(
        "an age in a table that is read for nothing",
        ("participant_id|sex", "sub-01|F"),
        {"demographics.csv": "participant_id,volunteer age\n01,33\n"},
        ONE,
        ages={"sub-01": None},
        says=("volunteer age.*--age-column demographics.csv:volunteer age",),
    ),
    "date_of_birth": Case(
        "a date of birth and dates of scans",
        ("participant_id|dob", "sub-01|1980-05-01"),
        _dated(("2020-01-01",), ("ses-01",)),
        ("sub-01_ses-01",),
        ages={"sub-01_ses-01": None},
        says=("dob.*acq_time", "birth"),
    ),
    "year_of_birth": Case(
        "a year of birth",
        ("participant_id|YearOfBirth", "sub-01|1980"),
        scans=ONE,
        ages={"sub-01": None},
        says=("YearOfBirth.*birth",),
    ),
}

_VOLUNTEERS = ("participant_id|age_of_volunteer|code", "sub-01|84|1", "sub-02|96|2")
OPTIONS = {
    "age_column_with_unit": Case(
        "a column and its unit",
        _VOLUNTEERS,
        scans=TWO,
        args=("--age-column", "participants.tsv:age_of_volunteer:months"),
        ages={"sub-01": 7, "sub-02": 8},
    ),
    "age_column_of_a_sessions_table": Case(
        "a column of the sessions tables",
        ("participant_id|sex", "sub-01|F"),
        {"sub-01/sub-01_sessions.tsv": "session_id\tyears_lived\nses-01\t30\nses-02\t31\n"},
        TWO_SESSIONS,
        args=("--age-column", "sub-*_sessions.tsv:years_lived"),
        ages={"sub-01_ses-01": 30, "sub-01_ses-02": 31},
    ),
    "age_column_beside_the_dataset": Case(
        "a file elsewhere, separated by commas",
        ("participant_id|sex", "sub-01|F"),
        {"../ages.csv": "participant_id,years\nsub-01,30\n"},
        ONE,
        args=("--age-column", "{beside}/ages.csv:years"),
        ages={"sub-01": 30},
    ),
    "age_column_settles_a_quarrel": Case(
        "two ages that disagree; the user names the right one",
        ("participant_id|age|age_at_scan", "sub-01|72|75"),
        scans=ONE,
        args=("--age-column", "participants.tsv:age_at_scan"),
        ages={"sub-01": 75},
    ),
    "age_column_of_each_session": Case(
        "one column for each wave",
        ("participant_id|years_w1|years_w2", "sub-01|40|44"),
        {
            "w1.tsv": "participant_id\tsession_id\tx\nsub-01\tses-01\t40\n",
            "w2.tsv": "participant_id\tsession_id\tx\nsub-01\tses-02\t44\n",
        },
        TWO_SESSIONS,
        args=("--age-column", "w1.tsv:x", "w2.tsv:x"),
        ages={"sub-01_ses-01": 40, "sub-01_ses-02": 44},
    ),
    "age_column_of_this_dataset": Case(
        "NAME is the dataset's",
        _VOLUNTEERS,
        scans=TWO,
        args=("--age-column", "case=participants.tsv:age_of_volunteer"),
        ages={"sub-01": 84, "sub-02": 96},
    ),
    "age_column_of_another_dataset": Case(
        "NAME is another's",
        _VOLUNTEERS,
        scans=TWO,
        args=("--age-column", "ADNI=participants.tsv:age_of_volunteer"),
        rc=64,
        says=("'ADNI'.*'case'",),
    ),
    "age_column_unknown": Case(
        "a column that is not there",
        _VOLUNTEERS,
        scans=TWO,
        args=("--age-column", "participants.tsv:age_of_voluntier"),
        rc=64,
        says=("age_of_voluntier.*nearest.*age_of_volunteer",),
    ),
    "age_file_unknown": Case(
        "a file that is not there",
        _VOLUNTEERS,
        scans=TWO,
        args=("--age-column", "demographics.tsv:age"),
        rc=66,
        says=("demographics.tsv.*participants.tsv",),
    ),
    "age_unit_unknown": Case(
        "a unit that is none",
        _VOLUNTEERS,
        scans=TWO,
        args=("--age-column", "participants.tsv:age_of_volunteer:moons"),
        rc=64,
        says=("'moons'.*month",),
    ),
    "age_column_of_no_form": Case(
        "no file", _VOLUNTEERS, scans=TWO, args=("--age-column", "age_of_volunteer"), rc=64, says=("FILE:COLUMN",)
    ),
    "sex_column": Case(
        "a column of sexes under another name",
        ("participant_id|age|geslacht", "sub-01|30|f", "sub-02|40|m"),
        scans=TWO,
        args=("--sex-column", "participants.tsv:geslacht"),
        says=("Sex from participants.tsv:geslacht",),
    ),
    "sex_column_unknown": Case(
        "a column of sexes that is not there",
        _VOLUNTEERS,
        scans=TWO,
        args=("--sex-column", "participants.tsv:sx"),
        rc=64,
        says=("'sx'.*code",),
    ),
    "sex_with_a_unit": Case(
        "a sex has no unit",
        _VOLUNTEERS,
        scans=TWO,
        args=("--sex-column", "participants.tsv:code:years"),
        rc=64,
        says=("no unit",),
    ),
}


def _people(heading, values, n=30):
    cells = [values[i % len(values)] for i in range(n)]
    return (f"participant_id|age|{heading}", *(f"sub-{i:02}|{20 + i}|{cell}" for i, cell in enumerate(cells)))


ALL = tuple(f"sub-{i:02}" for i in range(30))
GROUPS = {
    "group_under_another_name": Case(
        "the plan names the column",
        _people("condit", ("CON", "SCZ")),
        scans=ALL,
        says=("condit.*--group-column",),
        silent=("WARNING.*condit",),
    ),
    "group_coded": Case(
        "training on everybody while a coded column may be the diagnosis",
        _people("patient_code", ("0", "1", "2")),
        scans=ALL,
        args=("--train", "pca-ridge"),
        says=("WARNING.*patient_code",),
    ),
    "group_of_controls_only_by_value": Case(
        "the values give it away",
        _people("wording", ("healthy control", "schizophrenia")),
        scans=ALL,
        args=("--train", "pca-ridge"),
        says=("WARNING.*wording",),
    ),
    "group_asked": Case(
        "who trains is said by a query",
        _people("condit", ("CON", "SCZ")),
        scans=ALL,
        args=("--train", "pca-ridge", "--train-on", "age > 21"),
        silent=("WARNING.*condit",),
    ),
    "handedness_is_no_group": Case(
        "columns of few values that are no diagnosis",
        _people("handedness", ("R", "L")),
        scans=ALL,
        args=("--train", "pca-ridge"),
        silent=("GROUP_UNKNOWN", "the dataset has no group column"),
    ),
    "many_values_are_no_group": Case(
        "a column of many values",
        _people("motto", tuple(f"word{i}" for i in range(9))),
        scans=ALL,
        args=("--train", "pca-ridge"),
        silent=("GROUP_UNKNOWN",),
    ),
}

CASES = {**UNITS, **LEVELS, **BINS, **DATES, **TIME, **WAVES, **HEADINGS, **OPTIONS, **GROUPS}
