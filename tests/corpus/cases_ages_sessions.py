"""Ages: dates, names of sessions that tell time, and columns of one session each."""

from corpuscase import Case


def _dated(days, sessions=("ses-01", "ses-02")):
    return {
        f"sub-01/{session}/sub-01_{session}_scans.tsv": f"filename\tacq_time\nanat/x\t{day}T10:00:00\n"
        for session, day in zip(sessions, days, strict=True)
    }


def _sessions(what, rows, sessions, ages, files=None, **promise):
    scans = tuple(f"sub-01_{session}" for session in sessions)
    return Case(what, rows, files or {}, scans, ages=dict(zip(scans, ages, strict=True)), **promise)


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

CASES = {**DATES, **TIME, **WAVES}
