"""Folders, names and links; which image is found."""

from corpuscase import Case

ROWS = ("participant_id|age|sex", "sub-01|30|F", "sub-02|40|M")
TWO = ("sub-01", "sub-02")

CASES = {
    "no_description": Case(
        "no dataset_description.json", ROWS, scans=TWO, description=False, rc=16, says=("DESCRIPTION_MISSING",)
    ),
    "broken_description": Case(
        "dataset_description.json is cut short",
        ROWS,
        {"dataset_description.json": "{"},
        TWO,
        rc=16,
        says=("DESCRIPTION_UNREADABLE",),
    ),
    "empty_image": Case(
        "an image of 0 bytes",
        ROWS,
        {"sub-01/anat/sub-01_T1w.nii.gz": b""},
        ("sub-02",),
        planned=2,
        says=("IMAGE_EMPTY",),
    ),
    "image_not_fetched": Case(
        "a link into an annex that was not fetched",
        ROWS,
        scans=("sub-02",),
        links={"sub-01/anat/sub-01_T1w.nii.gz": "../../.git/annex/objects/x"},
        planned=2,
        says=("IMAGE_NOT_FETCHED",),
    ),
    "image_of_another_person": Case(
        "sub-02's image in the folder of sub-01",
        ROWS,
        {"sub-01/anat/sub-02_T1w.nii.gz": b"x"},
        ("sub-02",),
        rc=16,
        says=("IMAGE_MISPLACED",),
    ),
    "image_twice": Case(
        "one scan as .nii and .nii.gz",
        ROWS,
        {"sub-01/anat/sub-01_T1w.nii": b"x" * 500},
        TWO,
        planned=2,
        says=("IMAGE_DUPLICATE",),
    ),
    "normalised_image": Case(
        "an image in a template's space beside the raw one",
        ROWS,
        scans=(*TWO, "sub-01_space-MNI152"),
        planned=2,
        says=("IMAGE_NORMALISED",),
    ),
    "processed_image": Case(
        "a processed image beside the raw one",
        ROWS,
        scans=(*TWO, "sub-01_desc-preproc"),
        planned=2,
        says=("IMAGE_NOT_RAW",),
    ),
    "unknown_entity": Case(
        "a name that BIDS does not know", ROWS, scans=(*TWO, "sub-01_foo-bar"), planned=2, says=("IMAGE_NAME",)
    ),
    "participant_without_image": Case(
        "a folder without a T1w image",
        ROWS,
        {"sub-02/func/sub-02_task-rest_bold.nii.gz": b"x"},
        ("sub-01",),
        planned=1,
        says=("PARTICIPANT_WITHOUT_SCAN.*sub-02",),
    ),
    "derivatives_and_sourcedata": Case(
        "images of other folders are not those of the dataset",
        ROWS,
        {"derivatives/x/sub-03/anat/sub-03_T1w.nii.gz": b"x", "sourcedata/sub-04/anat/sub-04_T1w.nii.gz": b"x"},
        TWO,
        planned=2,
        silent=("sub-03", "sub-04"),
    ),
    "unknown_label": Case(
        "a label that is not there names the nearest",
        ROWS,
        scans=TWO,
        args=("--participant-label", "1"),
        rc=64,
        says=("sub-01",),
    ),
    "everybody_excluded": Case(
        "the same label asked for and left out",
        ROWS,
        scans=TWO,
        args=("--participant-label", "01", "--exclude-participant-label", "01"),
        rc=18,
    ),
    "filter_that_is_no_json": Case(
        "a filter file that is cut short",
        ROWS,
        {"f.json": "{"},
        TWO,
        args=("--bids-filter-file", "{ds}/f.json"),
        rc=64,
        says=("not JSON",),
    ),
    "filter_with_an_unknown_entity": Case(
        "a filter by an entity that BIDS does not have",
        ROWS,
        {"f.json": {"t1w": {"colour": 1}}},
        TWO,
        args=("--bids-filter-file", "{ds}/f.json"),
        rc=64,
        says=("colour",),
    ),
}
