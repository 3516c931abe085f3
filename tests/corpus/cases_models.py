"""Model folders and recipes."""

from corpuscase import Case

ROWS = ("participant_id|age", "sub-01|30")
ONE = ("sub-01",)

CASES = {
    "model_that_is_not_there": Case(
        "--model with a name that is neither trained nor a folder",
        ROWS,
        scans=ONE,
        args=("--model", "rnc-nowhere"),
        rc=64,
        says=("rnc-nowhere",),
    ),
    "training_on_one_person": Case(
        "--train where one participant has an age", ROWS, scans=ONE, args=("--train", "rnc-demo"), rc=65
    ),
}
