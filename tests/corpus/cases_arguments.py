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
    "empty_argument": Case(
        "an unset variable of the shell", ROWS, scans=ONE, args=("--work-dir", ""), rc=64, says=("is empty",)
    ),
    "empty_value": Case(
        "an unset variable of the shell", ROWS, scans=ONE, args=("--template=",), rc=64, says=("--template is empty",)
    ),
    "work_dir_that_leads_to_itself": Case(
        "a link in a circle",
        ROWS,
        scans=ONE,
        links={"../loop": "loop"},
        args=("-w", "{beside}/loop"),
        rc=64,
        says=("leads back to itself",),
    ),
    "output_dir_of_somebody_else": Case(
        "a README that is not ours",
        ROWS,
        {"../out/README.md": "my project"},
        ONE,
        rc=64,
        says=("README.md that brainage-bids did not make",),
    ),
    "tools_path_too_long": Case("a folder longer than a path", level="tools", args=("phantom", "x" * 5000), rc=73),
    "tools_loop": Case(
        "a link in a circle", links={"../loop": "loop"}, level="tools", args=("phantom", "{beside}/loop"), rc=64
    ),
    "tools_recipe_is_a_device": Case("/dev/zero for a recipe", level="tools", args=("recipes", "/dev/zero"), rc=66),
    "cores_without_end": Case("a number of 40 digits", ROWS, scans=ONE, args=("--nprocs", "9" * 40), rc=64),
    "seed_without_end": Case("a number of 40 digits", ROWS, scans=ONE, args=("--random-seed", "9" * 40), rc=64),
    "epochs_without_end": Case("a number of 40 digits", ROWS, scans=ONE, args=("--epochs", "9" * 40), rc=64),
    "gap_that_is_no_number": Case(
        "nan lies within every limit",
        ROWS,
        scans=ONE,
        args=("--max-score-gap", "nan"),
        rc=64,
        says=("greater than or equal|less than or equal",),
    ),
    "tools_voxels_that_are_no_number": Case(
        "nan",
        level="tools",
        args=("phantom", "{beside}/p", "--voxel-mm", "nan"),
        rc=64,
        says=("greater than or equal|less than or equal",),
    ),
    "tools_recipe_that_is_no_toml": Case(
        "a broken recipe is not shown",
        files={"../r.toml": "a=" + "[" * 5000},
        level="tools",
        args=("recipes", "{beside}/r.toml"),
        rc=64,
        says=("not TOML",),
    ),
    "plugin_file_with_words_for_numbers": Case(
        "n_procs: x",
        ROWS,
        {"../p.yml": "plugin: MultiProc\nplugin_args: {n_procs: x}"},
        ONE,
        args=("--use-plugin", "{beside}/p.yml"),
        rc=64,
        says=("n_procs is 'x'",),
    ),
}
