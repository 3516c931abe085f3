"""Columns of ages, sexes and groups: known headings, near misses, and columns that the user names."""

from corpuscase import Case

ONE, TWO = ("sub-01",), ("sub-01", "sub-02")
TWO_SESSIONS = ("sub-01_ses-01", "sub-01_ses-02")


def _heading(heading, cells=("30", "41.5"), ages=(30, 41.5)):
    rows = (f"participant_id|{heading}", *(f"sub-0{i}|{cell}" for i, cell in enumerate(cells, start=1)))
    scans = tuple(f"sub-0{i}" for i in range(1, len(cells) + 1))
    return Case(f"an age under {heading}", rows, scans=scans, ages=dict(zip(scans, ages, strict=True)))


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
        {"sub-01/ses-01/sub-01_ses-01_scans.tsv": "filename\tacq_time\nanat/x\t2020-01-01T10:00:00\n"},
        ("sub-01_ses-01",),
        ages={"sub-01_ses-01": None},
        says=("dob.*acq_time", "birth.*--age-column"),
    ),
    "year_of_birth": Case(
        "a year of birth",
        ("participant_id|YearOfBirth", "sub-01|1980"),
        scans=ONE,
        ages={"sub-01": None},
        says=("YearOfBirth.*birth.*--age-column",),
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

CASES = {**HEADINGS, **OPTIONS, **GROUPS}
