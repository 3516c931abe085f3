"""Make OUTPUT_DIR a BIDS derivative dataset: description, README, participants, descriptions and .bidsignore.

Results are written elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

from brainage_bids.bids.files import MISSING, read_json, read_tsv, write_json, write_text, write_tsv
from brainage_bids.bids.outputs import Outputs, model_label
from brainage_bids.bids.parse import natural_key
from brainage_bids.bids.read import Dataset
from brainage_bids.bids.runs import locked
from brainage_bids.bids.text import NotFetched, Unreadable
from brainage_bids.errors import (
    BadDataError,
    CannotCreateError,
    NoInputError,
    UsageError,
    shorten,
)

APP = "brainage-bids"
NAME = "Brain ages of {}"
BIDS_VERSION = "1.10.0"
RESULTS = re.compile(r"(sub-|tpl-).*|models|group|logs|study|work")  # folders of OUTPUT_DIR that a run writes into

# Only files that the BIDS validator does not know yet. Folders have no trailing slash: with one, the validator would
# match the folder but not the files in it.
IGNORED = ("*.html", "figures", "group", "models", "study", "work", "*_pred.*", "*_saliency.*", "*_xfm.*", "qc.*")

DESCRIPTIONS = {
    "preproc": "T1w image, bias-corrected, skull-stripped, aligned to the template and scaled as the model needs it",
    "brain": "brain mask on the grid of the preprocessed image",
    "brainage": "brain ages predicted from the scan (years), one row per model",
    "mask": "picture of the brain mask over the original image, for quality control",
    "template": "picture of the preprocessed image over the template, for quality control",
}

PARTICIPANT_MEANINGS = {
    "participant_id": {"Description": "participant"},
    "age": {"Description": "age at the first scan used", "Units": "year"},
    "sex": {"Description": "sex", "Levels": {"F": "female", "M": "male", "O": "other"}},
    "group": {"Description": "group as written in the source dataset"},
}

OVERWRITTEN = ("README.md", ".bidsignore", "descriptions.tsv", "group.html")  # never those of another program

README = """# Brain age

Brain ages, brain age gaps and Grad-RAM maps of `{name}`, made by {app} {version} from T1-weighted images.

- `sub-*.html`, `group.html`: pages to read in a browser.
- `qc.html`, `qc.tsv`: quality of every scan; write `pass` or `fail` under `qc_decision` to overrule the gates.
- `sub-*/[ses-*/]anat/*_desc-brainage_pred.tsv`: predicted ages (years), one row per model.
- `sub-*/[ses-*/]anat/*_saliency.nii.gz`: signed contribution of each place to the predicted age (years).
- `group/*.tsv`: tables of the statistics; every column is explained in the JSON file beside its table.
- `models/`: models trained here, with their model cards.
- `logs/`: what was run, with which settings and versions; `logs/CITATION.md` is the text for a methods section.

The numbers are for research and not for diagnosis.
"""


def prepare_output(outputs: Outputs, dataset: Dataset, version: str) -> None:
    """Create or update the files that make OUTPUT_DIR a derivative of ``dataset``.

    Participants of earlier runs stay in the list, even when several runs write at the same time.

    Raises
    ------
    UsageError
        When OUTPUT_DIR is BIDS_DIR, a raw dataset, or holds the results of another program or dataset.
    CannotCreateError
        When OUTPUT_DIR cannot be created.
    """
    root = Path(outputs.root)
    name = NAME.format(dataset.name)
    check_output(root, dataset)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreateError(f"OUTPUT_DIR {root} cannot be created: {error.strerror}; choose another") from error
    with locked(root):
        write_json(root / "dataset_description.json", _description(root, dataset, name, version))
    write_text(root / "README.md", README.format(name=dataset.name, app=APP, version=version))
    write_text(root / ".bidsignore", "\n".join(IGNORED) + "\n")
    with locked(root):
        _merge(root / "participants.tsv", "participant_id", _participants(dataset))
        write_json(root / "participants.json", PARTICIPANT_MEANINGS)
    add_descriptions(outputs, DESCRIPTIONS)


def add_descriptions(outputs: Outputs, meanings: Mapping[str, str]) -> Path:
    """Add labels of the ``desc`` entity and their meaning to ``descriptions.tsv``; return its path. Other rows stay."""
    path = Path(outputs.root) / "descriptions.tsv"
    rows = {label: {"desc_id": f"desc-{label}", "description": meaning} for label, meaning in meanings.items()}
    with locked(Path(outputs.root)):
        _merge(path, "desc_id", {row["desc_id"]: row for row in rows.values()})
    return path


def describe_model(outputs: Outputs, model: str) -> Path:
    """Add the ``desc`` label of a model's maps to ``descriptions.tsv``; return its path."""
    meaning = f"signed Grad-RAM map of the model {model}: contribution of each place to the predicted age (years)"
    return add_descriptions(outputs, {f"gradram{model_label(model)}": meaning})


def source_of(root: Path) -> tuple[str, Path | None]:
    """Return the Name of the dataset that results were made from, and its folder at that time (None: unknown).

    Raises
    ------
    NoInputError
        When the folder does not hold results of this program.
    """
    description, programs = _read_description(root / "dataset_description.json")
    name = str(description.get("Name", ""))
    if APP not in programs or not name.startswith(NAME.format("")):
        raise NoInputError(f"{root} holds no results of {APP}; give the OUTPUT_DIR of a participant run")
    return name.removeprefix(NAME.format("")), _folder_of(root, _links(description).get("raw", ""))


def _link(root: Path, folder: Path) -> str:
    """Return a link to a dataset relative to OUTPUT_DIR, so that the folders above both stay private."""
    return quote(Path(os.path.relpath(os.path.realpath(folder), os.path.realpath(root))).as_posix())


def _folder_of(root: Path, link: str) -> Path | None:
    """Return the folder of a link: a relative one, or a ``file:`` URI of an earlier version."""
    uri = urlparse(link)
    if uri.scheme not in ("", "file") or not uri.path:
        return None
    return Path(os.path.normpath(Path(os.path.realpath(root)) / unquote(uri.path)))


def _read_description(path: Path) -> tuple[dict, list[str]]:
    """Return a dataset_description.json (empty when absent or broken) and the programs that made the dataset.

    Raises
    ------
    NotFetched
        When its content is not here.
    """
    try:
        description = read_json(path)
    except NotFetched:
        raise
    except (BadDataError, OSError):
        description = {}
    description = description if isinstance(description, dict) else {}
    programs = description.get("GeneratedBy")
    programs = programs if isinstance(programs, list) else []
    return description, [str(program.get("Name")) for program in programs if isinstance(program, dict)]


def _links(description: Mapping) -> dict[str, str]:
    links = description.get("DatasetLinks")
    return {str(name): str(link) for name, link in links.items()} if isinstance(links, dict) else {}


def check_output(root: Path, dataset: Dataset) -> None:
    """Raise when OUTPUT_DIR must not be written to; nothing is created.

    Raises
    ------
    UsageError
        When OUTPUT_DIR is BIDS_DIR, lies among its images, is a file or a raw dataset, or holds the results of another
        program or dataset.
    """
    ours = NAME.format(dataset.name)
    _check_apart(root, Path(dataset.bids_dir))
    if root.exists() and not root.is_dir():
        raise UsageError(f"OUTPUT_DIR {root} is a file; choose a folder")
    if not root.is_dir():
        return
    # Listed before the description is looked for: a run beside this one writes its description first.
    there = {entry.name for entry in root.iterdir()}
    path = root / "dataset_description.json"
    if not os.path.lexists(path):
        if any(name == "participants.tsv" or name.startswith("sub-") for name in there):
            raise UsageError(f"OUTPUT_DIR {root} holds a dataset that {APP} did not make; choose an empty folder")
        if taken := [file for file in OVERWRITTEN if file in there]:
            raise UsageError(f"OUTPUT_DIR {root} holds a {taken[0]} that {APP} did not make; choose an empty folder")
        return
    description, programs = _read_description(path)
    if description.get("DatasetType") != "derivative" or APP not in programs:
        raise UsageError(f"OUTPUT_DIR {root} holds a dataset that {APP} did not make; choose an empty folder")
    if description.get("Name") != ours:
        raise UsageError(
            f"OUTPUT_DIR {root} holds {shorten(description.get('Name'))!r}, not results of {dataset.name!r}: "
            "participants of the same label would be mixed up; choose another folder"
        )


def _check_apart(root: Path, bids_dir: Path) -> None:
    """Raise when results would lie among the images of BIDS_DIR, or BIDS_DIR among results."""
    here, bids = (Path(os.path.realpath(path)) for path in (root, bids_dir))
    if here == here.parent:
        raise UsageError(f"OUTPUT_DIR {root} is the root of the file system; choose a folder of its own")
    instead = f"choose another, for instance {bids}/derivatives/{APP}"
    if here == bids:
        raise UsageError(f"OUTPUT_DIR {root} is BIDS_DIR; {instead}")
    if here.is_relative_to(bids):
        for part in here.relative_to(bids).parts:
            if part.startswith(("sub-", ".")):
                raise UsageError(f"OUTPUT_DIR {root} lies in {part} of BIDS_DIR, among the data; {instead}")
    if bids.is_relative_to(here) and RESULTS.fullmatch(first := bids.relative_to(here).parts[0]):
        raise UsageError(f"BIDS_DIR {bids} lies in {first} of OUTPUT_DIR {root}, where results are written; {instead}")
    if not here.is_dir():
        return
    for entry in os.scandir(here):
        if entry.is_symlink() and RESULTS.fullmatch(entry.name):
            target = Path(os.path.realpath(entry.path))
            if target.is_relative_to(bids) and not here.is_relative_to(bids):
                raise UsageError(
                    f"{entry.name} in OUTPUT_DIR {root} is a link into BIDS_DIR ({target}): results would be written "
                    "there; remove the link"
                )


def _description(root: Path, dataset: Dataset, name: str, version: str) -> dict:
    """Return the content of dataset_description.json; source datasets of earlier runs stay in it."""
    links = _links(_read_description(root / "dataset_description.json")[0])
    links = {name: _link(root, folder) if (folder := _folder_of(root, link)) else link for name, link in links.items()}
    links |= {"raw": _link(root, dataset.bids_dir)}
    links |= {derivative.name: _link(root, derivative.root) for derivative in dataset.derivatives}
    source = {"URL": links["raw"]}
    raw = Path(dataset.bids_dir) / "dataset_description.json"
    with contextlib.suppress(NotFetched):
        if doi := str(_read_description(raw)[0].get("DatasetDOI") or ""):
            source["DOI"] = doi if doi.startswith(("doi:", "https://")) else f"doi:{doi}"
    return {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": APP, "Version": version}],
        "SourceDatasets": [source, *({"URL": uri} for label, uri in links.items() if label != "raw")],
        "DatasetLinks": links,
    }


def _participants(dataset: Dataset) -> dict[str, dict]:
    """Return one row per selected participant, from the first scan that has an age."""
    rows: dict[str, dict] = {}
    for scan in dataset.scans:
        row = {"participant_id": scan.participant_id, "age": scan.age, "sex": scan.sex, "group": scan.group}
        known = rows.setdefault(scan.participant_id, row)
        rows[scan.participant_id] = {key: value if known[key] is None else known[key] for key, value in row.items()}
    return rows


def _merge(path: Path, key: str, rows: Mapping[str, Mapping]) -> None:
    """Write rows into a table. They replace rows of the same key; other rows and columns stay."""
    import pandas as pd

    merged: dict[str, dict] = {}
    if path.is_file():
        before = read_tsv(path)
        if key not in before:
            raise Unreadable(path, f"has no column {key} any more; restore this name, or remove the file")
        merged = {row[key]: row for row in before.to_dict("records") if row[key]}
    for name, row in rows.items():
        merged[name] = {**merged.get(name, {}), **row}
    columns = dict.fromkeys(column for row in merged.values() for column in row)
    ordered = [merged[name] for name in sorted(merged, key=natural_key)]
    filled = {column: pd.Series([row.get(column, MISSING) for row in ordered], dtype="object") for column in columns}
    write_tsv(path, pd.DataFrame(filled))
