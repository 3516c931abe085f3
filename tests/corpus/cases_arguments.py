"""What is typed: levels, options, folders."""

from corpuscase import Case

ROWS = ("participant_id|age", "sub-01|30")
ONE = ("sub-01",)

CASES = {
    "unknown_level": Case(
        "a level that does not exist", ROWS, scans=ONE, level="session", rc=17, says=("participant",)
    ),
    "unknown_engine": Case(
        "an engine that does not exist", ROWS, scans=ONE, args=("--engine", "freesurfer"), rc=64, says=("builtin",)
    ),
    "unknown_option": Case(
        "an option that does not exist", ROWS, scans=ONE, args=("--colour",), rc=64, says=("--colour",)
    ),
    "option_without_a_value": Case(
        "an empty variable of the shell", ROWS, scans=ONE, args=("--participant-label",), rc=64, says=("no value",)
    ),
    "memory_in_words": Case("--mem lots", ROWS, scans=ONE, args=("--mem", "lots"), rc=64, says=("--mem",)),
    "one_fold": Case("--folds 1", ROWS, scans=ONE, args=("--folds", "1"), rc=64, says=("folds",)),
    "config_file_that_is_no_toml": Case(
        "a config file that cannot be read",
        ROWS,
        {"../c.toml": "nprocs 4"},
        ONE,
        args=("--config-file", "{beside}/c.toml"),
        rc=64,
        says=("not TOML",),
    ),
    "unknown_recipe": Case(
        "a recipe with a slip of the keyboard",
        level="tools",
        args=("recipes", "rnc-hirez"),
        rc=64,
        says=("did you mean rnc-highrez",),
    ),
    "unknown_bias_fit": Case(
        "--bias-fit with a value that does not exist",
        ROWS,
        scans=ONE,
        level="group",
        args=("--bias-fit", "patients"),
        rc=64,
        says=("controls",),
    ),
    "group_before_participant": Case(
        "the group level where nothing was predicted", ROWS, scans=ONE, level="group", rc=66, says=("no prediction",)
    ),
    "nul_in_a_config_file": Case(
        "a NUL in the value of an option",
        ROWS,
        {"../c.toml": 'work-dir = "a\\u0000b"'},
        ONE,
        args=("--config-file", "{beside}/c.toml"),
        rc=64,
        says=("NUL",),
    ),
    "device_for_a_table": Case(
        "a device that never ends, for a table",
        ROWS,
        scans=ONE,
        level="group",
        args=("--predictions", "x=/dev/zero"),
        rc=65,
        says=("device",),
    ),
}
