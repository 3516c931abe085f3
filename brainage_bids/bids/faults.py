"""List what can be wrong with a dataset (codes, severity, meaning), and format the messages.

An ``error`` would give wrong numbers and stops the run. A ``warning`` is only reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from brainage_bids.errors import cut_lines, shorten

ERROR, WARNING = "error", "warning"
FEW = 3  # messages of one kind are listed one by one up to this number

# code -> (severity, meaning); docs/faults.md prints this table
CODES: dict[str, tuple[str, str]] = {
    "DESCRIPTION_MISSING": (ERROR, "dataset_description.json is not there: this may not be a BIDS dataset"),
    "DESCRIPTION_UNREADABLE": (ERROR, "dataset_description.json is not JSON"),
    "DESCRIPTION_INCOMPLETE": (WARNING, "dataset_description.json lacks Name or BIDSVersion"),
    "DERIVATIVE_AS_INPUT": (WARNING, "BIDS_DIR says that it is a derivative; raw images are expected"),
    "DATABASE_OLD": (WARNING, "images are not in the database of --bids-database-dir; they are left out"),
    "FOLDER_UNREADABLE": (
        WARNING,
        "the folder of a participant, a session, images or phenotype tables cannot be read; it is left out",
    ),
    "FOLDER_NAME": (WARNING, "a folder is nearly named as one of a participant or session; it is left out"),
    "IMAGE_IGNORED": (WARNING, ".bidsignore names images or folders of participants, which are ignored"),
    "IMAGE_EMPTY": (WARNING, "an image has 0 bytes"),
    "IMAGE_NOT_FETCHED": (WARNING, "an image is a broken link, or a pointer of git-annex or git LFS: it is not here"),
    "IMAGE_DUPLICATE": (WARNING, "two files hold the same scan (.nii and .nii.gz); the first is used"),
    "IMAGE_NAME": (WARNING, "a T1w file name does not follow BIDS; the file is ignored"),
    "IMAGE_OUTSIDE_ANAT": (WARNING, "a T1w file does not lie in a folder anat; it is ignored"),
    "IMAGE_UNIT1": (WARNING, "participants have no T1w image but UNIT1 (MP2RAGE), which --t1w-suffix UNIT1 takes"),
    "IMAGE_PART": (WARNING, "images are named as a part of the brain (chunk-, a localizer, a slab)"),
    "IMAGE_ECHOES": (WARNING, "a scan has several echoes; each is predicted, the first stands for the person"),
    "IMAGE_MISPLACED": (ERROR, "the file name tells another participant or session than its folder"),
    "IMAGE_NOT_RAW": (WARNING, "a T1w file is processed (desc-, res-) or not a magnitude image; it is ignored"),
    "IMAGE_NORMALISED": (WARNING, "a T1w file lies in a template's space (space-); it is ignored"),
    "PREPARED_MERGED": (WARNING, "a derivative merged several scans into one image, which stands for all of them"),
    "PARTICIPANTS_MISSING": (WARNING, "there is no participants.tsv"),
    "PARTICIPANT_WITHOUT_ROW": (WARNING, "participants with a folder have no row in participants.tsv"),
    "PARTICIPANT_WITHOUT_FOLDER": (WARNING, "participants with a row in participants.tsv have no folder"),
    "PARTICIPANT_WITHOUT_SCAN": (WARNING, "participants with a folder have no T1w image"),
    "PARTICIPANT_DUPLICATED": (ERROR, "participants.tsv repeats participants and has no column that tells sessions"),
    "ROW_REPEATED": (WARNING, "a table repeats a row word for word; it is read once"),
    "TABLE_NOT_FETCHED": (ERROR, "a table or sidecar is a broken link, or a pointer of git-annex or git LFS"),
    "TABLE_UNREADABLE": (ERROR, "a table cannot be read"),
    "TABLE_ID_MISSING": (ERROR, "a table has no participant_id column"),
    "TABLE_COLUMN_REPEATED": (ERROR, "columns of one name differ; an error only where such a column is read"),
    "TABLE_LETTERS": (ERROR, "a cell is not UTF-8 text; an error only where its column is read"),
    "TABLE_NAME": (WARNING, "a table is named otherwise than the folder it lies in, or in another format; not read"),
    "TABLE_ROW_LENGTH": (ERROR, "a row has more cells than the table has columns, so cells may be misplaced"),
    "TABLE_BAD_ID": (WARNING, "a participant_id or session_id is not a BIDS label; the row is ignored"),
    "TABLE_IGNORED": (WARNING, ".bidsignore names a table, which is not read"),
    "IDS_DIFFER": (WARNING, "the ids of a table are written otherwise than the folders (zeros, case, .0, prefix)"),
    "SESSIONS_DIFFER": (WARNING, "the sessions of a table are named otherwise than the folders"),
    "SIDECAR_UNREADABLE": (WARNING, "a JSON sidecar cannot be read; an error where it tells the unit of ages"),
    "SIDECAR_VALUE": (WARNING, "a JSON sidecar holds no number where one should be (NaN), or a name several times"),
    "SIDECAR_CONFLICT": (ERROR, "sidecars of sessions tables give one column several units or levels, and it is read"),
    "AGE_AMBIGUOUS": (ERROR, "a table has several age columns that disagree"),
    "AGE_UNIT_UNKNOWN": (ERROR, "an age column exceeds 120 (or may be in weeks) and no unit is given"),
    "AGE_UNIT_CONFLICT": (WARNING, "sidecar and heading give the ages of a column different units; they are missing"),
    "AGE_BINS": (WARNING, "an age column holds ranges, or codes of ranges, and no ages; they are missing"),
    "AGE_DATES": (WARNING, "dates of acquisition contradict the order of sessions, or the ages; they are not used"),
    "AGE_CONFLICT": (ERROR, "a table gives one participant and session several ages"),
    "AGE_VALUE": (WARNING, "ages that cannot be used (sentinel, out of range, a range, not a number) are missing"),
    "AGE_MISSING": (WARNING, "scans have no age; they are predicted and left out of the statistics"),
    "AGE_NOT_SESSION_SPECIFIC": (WARNING, "scans of several sessions share one age per participant"),
    "AGE_AT_RECRUITMENT": (WARNING, "the only age is that at recruitment, years before the scan; it is not used"),
    "ASKED_FILE_UNKNOWN": (ERROR, "the file asked for with --age-column or --sex-column is not there"),
    "ASKED_COLUMN_UNKNOWN": (ERROR, "the column asked for with --age-column or --sex-column is not in its file"),
    "SEX_AMBIGUOUS": (WARNING, "a table has several sex columns that disagree; the first is used"),
    "SEX_VALUE": (WARNING, "sex values that are not recognised (numbers need Levels) are missing"),
    "GROUP_AMBIGUOUS": (ERROR, "a table has several group columns that disagree; choose one with --group-column"),
    "GROUP_COLUMN_UNKNOWN": (ERROR, "the column asked for with --group-column is in no table"),
    "GROUP_UNKNOWN": (WARNING, "no group column is recognised, and there are columns that may be it"),
    "GROUP_CONFLICT": (WARNING, "a table gives one participant and session several groups; none is used"),
    "GROUP_NAME": (ERROR, "a group is called all, which stands for everyone in the tables; rename it"),
    "CONTROL_UNKNOWN": (ERROR, "the value asked for with --control occurs nowhere in the group column"),
    "CONTROL_NONE": (WARNING, "no group value is recognised as healthy controls"),
    "SCORE_FILE_UNKNOWN": (ERROR, "the file asked for with --score is not there"),
    "SCORE_COLUMN_UNKNOWN": (ERROR, "the column asked for with --score is not in its file"),
    "SCORE_AMBIGUOUS": (ERROR, "a table has several columns for one score that disagree; choose one with --score"),
    "SCORE_CONFLICT": (WARNING, "a table gives one participant and session several values of a score; none is used"),
    "SCORE_SENTINEL": (WARNING, "numbers that stand for missing (-1, -4, 101, 999) are read as missing"),
    "SCORE_VALUE": (WARNING, "values that are no number or impossible for the score are read as missing"),
    "SCORE_OTHER_SESSION": (WARNING, "scores come from the nearest other session within --max-score-gap"),
    "SCORE_NOT_SESSION_SPECIFIC": (WARNING, "one score per participant is used for several sessions"),
    "SCORE_BASELINE_ONLY": (WARNING, "only a baseline score is there; later scans have none"),
    "SCORE_UNUSED": (WARNING, "people have values of a score, none of them of a session of their scans; none is used"),
    "SCORE_LOOKALIKE": (WARNING, "a column named cdr holds values that a global CDR cannot take; it is not used"),
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a dataset.

    Parameters
    ----------
    code
        Stable name, a key of :data:`CODES`.
    severity
        ``error`` or ``warning``.
    file
        File below BIDS_DIR, with forward slashes.
    row
        Line of the table as an editor counts it (the header is line 1); None when no single line is concerned.
    message
        One sentence: the subject, its value, and what to do.
    """

    code: str
    severity: str
    file: str
    row: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file}, line {self.row}"
        return f"{self.severity.upper()} {self.code} ({place}): {self.message}"


def make_fault(code: str, file: str, message: str, row: int | None = None, severity: str | None = None) -> Fault:
    """Return a fault with the severity of its code in :data:`CODES`, unless another is given."""
    return Fault(code, severity or CODES[code][0], file, row, message)


def errors_of(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults that stop a run."""
    return [fault for fault in faults if fault.severity == ERROR]


def told_once(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults without repetition; a warning that repeats an error is left out."""
    unique = list(dict.fromkeys(faults))
    stops = {(fault.code, fault.file, fault.row, fault.message) for fault in errors_of(unique)}
    return [f for f in unique if f.severity == ERROR or (f.code, f.file, f.row, f.message) not in stops]


def format_faults(faults: Sequence[Fault]) -> str:
    """Return the messages, few lines per kind of fault. Errors come first; faults of ages come last, to be seen."""
    kinds: dict[tuple, list[Fault]] = {}
    for fault in sorted(faults, key=lambda f: (f.severity != ERROR, f.code.startswith("AGE_"), f.code)):
        kinds.setdefault((fault.severity, fault.code), []).append(fault)
    return "\n".join(line for alike in kinds.values() for line in _lines_of(alike))


def _lines_of(alike: Sequence[Fault]) -> list[str]:
    """Return one line for each message; if there are many, one line with the first message and their number."""
    by_message: dict[str, list[Fault]] = {}
    for fault in alike:
        by_message.setdefault(fault.message, []).append(fault)
    head, messages = f"{alike[0].severity.upper()} {alike[0].code}", list(by_message)
    if len(messages) <= FEW:
        lines = [f"{head} ({_places(same)}): {message}" for message, same in by_message.items()]
    else:
        lines = [f"{head} ({_places(alike)}): {messages[0]}; {len(messages) - 1} more of this kind, -v lists them"]
    return [cut_lines(line) for line in lines]


def _places(faults: Sequence[Fault]) -> str:
    """Return where faults are: ``participants.tsv, lines 3, 7`` or ``300 files: a, b, c, d, e and 295 more``."""
    files = list(dict.fromkeys(fault.file for fault in faults))
    rows = list(dict.fromkeys(fault.row for fault in faults if fault.row is not None))
    if len(files) > 1:
        return f"{len(files)} files: {some(files)}"
    if len(rows) > FEW:
        return f"{files[0]}, {len(rows)} lines: {some(rows)}"
    return f"{files[0]}, line{'s' if len(rows) > 1 else ''} {some(rows)}" if rows else files[0]


def some(names: Iterable[object], limit: int = 5) -> str:
    """Return the first names, shortened when long, and the number of the others: ``a, b and 3 more``."""
    listed = list(names)
    head = ", ".join(shorten(name) for name in listed[:limit])
    return head if len(listed) <= limit else f"{head} and {len(listed) - limit} more"
