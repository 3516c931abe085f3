"""Write a phantom cohort as a BIDS dataset, clearly labelled as synthetic, with the planted truth beside it.

The people come from `people`, their images from `head`. This module only writes the files.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from brainage_bids import __version__
from brainage_bids.bids.files import atomic, read_json, write_json, write_text, write_tsv
from brainage_bids.bids.outputs import sidecar_path
from brainage_bids.errors import BrainageError, CannotCreateError, UsageError, shorten
from brainage_bids.phantom.anatomy import Anatomy, build_anatomy
from brainage_bids.phantom.drawn_people import GROUPS, Group, Person, design_people, population, realised
from brainage_bids.phantom.head import DEFORMATION_SD_MM, check_voxel, draw_body, render
from brainage_bids.schema import DEFAULT_SEED

BIDS_VERSION = "1.10.0"
TRUTH_FILE = "planted.json"
MOST_WARP_MM = 3.0
SITE_CONTRAST = {"A": 0.0, "B": 0.12}  # shift of the contrast exponent: two scanners

README = """# PHANTOM cohort: no person was scanned

These {n} images are synthetic. Each was made by `brainage-bids` from the ICBM 2009a symmetric template (T1, grey and
white matter) bundled with nilearn: a random smooth deformation, a random head size and pose, a simple skull, scalp,
face and neck, a bias field and noise. Ages, diagnoses and clinical scores are drawn at random (seed
{seed}). The ageing is planted: ventricles grow, the cortex thins, the hippocampus shrinks with a planted brain age.
`planted.json` holds the truth.

Use it to try software and to test it. It says nothing about people.
"""

MEANINGS = {
    "participant_id": {"Description": "phantom participant"},
    "age": {"Description": "drawn chronological age", "Units": "year"},
    "sex": {"Description": "drawn sex; the images do not depend on it", "Levels": {"F": "female", "M": "male"}},
    "group": {
        "Description": "drawn diagnosis (phantom)",
        "Levels": {"CN": "healthy control", "AD": "Alzheimer's disease", "PD": "Parkinson's disease"},
    },
    "site": {"Description": "drawn scanner; site B has more contrast", "Levels": {"A": "site A", "B": "site B"}},
    "adas11": {"Description": "drawn ADAS-Cog-11 total, 0 to 70, AD only; tied to the planted brain age gap"},
    "updrs3": {"Description": "drawn MDS-UPDRS part III total, 0 to 132, PD only; tied to the planted brain age gap"},
}


def make_cohort(
    out_dir: str | Path,
    n: int = 60,
    seed: int = DEFAULT_SEED,
    voxel_mm: float = 3.0,
    progress: bool = True,
    workers: int = 2,
    groups: tuple[Group, ...] = GROUPS,
    warp_mm: float = DEFORMATION_SD_MM,
) -> Path:
    """Write a phantom BIDS dataset.

    The same arguments give the same bytes, whatever ``workers`` is. A larger cohort begins with the people of a smaller
    one. A folder with anything but the same cohort is refused. An interrupted run may be repeated; a whole cohort is
    left as it is.

    Parameters
    ----------
    out_dir
        Folder to write; created when missing.
    n
        Number of people, at least 6; with the default groups 3/5 controls (CN), 1/5 AD, 1/5 PD.
    seed
        Random seed, 0 or more.
    voxel_mm
        Voxel size, mm (0.8 to 8).
    progress
        Show a progress bar on standard error.
    workers
        Number of threads.
    groups
        Groups with their planted gaps and scores.
    warp_mm
        How much people differ in shape: SD of the random deformation, mm (0 to 3).

    Returns
    -------
    pathlib.Path
        ``out_dir``.

    Raises
    ------
    UsageError
        When an argument is out of range.
    CannotCreateError
        When ``out_dir`` is a file, is not writable or holds something else.
    """
    check_voxel(voxel_mm)
    if workers < 1:
        raise UsageError(f"workers is {workers}; use 1 or more")
    if not 0 <= warp_mm <= MOST_WARP_MM:
        raise UsageError(f"warp_mm is {warp_mm}; use 0 to {MOST_WARP_MM:g} mm")
    people = design_people(n, seed, groups)
    out = Path(out_dir)
    _claim(out, _description(n, seed, voxel_mm, groups, warp_mm))
    if (out / TRUTH_FILE).is_file() and all(_image(out, person).is_file() for person in people):  # written last
        return out
    write_text(out / "README.md", README.format(n=n, seed=seed))
    write_text(out / ".bidsignore", f"{TRUTH_FILE}\n")
    anatomy = build_anatomy(voxel_mm)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_write_person, out, anatomy, person, seed, voxel_mm, warp_mm) for person in people]
        try:
            truths = list(_shown(jobs, progress))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _write_tables(out, people, groups)
    truth = {
        "phantom": True,
        "seed": seed,
        "n": n,
        "voxel_mm": voxel_mm,
        "warp_mm": warp_mm,
        "population": population(groups),
        "realised": realised(people),
        "participants": truths,
    }
    write_json(out / TRUTH_FILE, truth)
    return out


def _description(n: int, seed: int, voxel_mm: float, groups: tuple[Group, ...], warp_mm: float) -> dict:
    shape = "" if warp_mm == DEFORMATION_SD_MM else f" warp_mm={warp_mm:g}"  # cohorts of before stay the same
    return {
        "Name": "PHANTOM cohort: synthetic T1w images with planted ageing (no person was scanned)",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "License": "CC0",
        "Authors": ["brainage-bids phantom generator"],
        "GeneratedBy": [
            {
                "Name": "brainage-bids phantom",
                "Version": __version__,
                "Description": f"n={n} seed={seed} voxel_mm={voxel_mm:g}{shape} groups={population(groups)}",
            }
        ],
    }


def _claim(out: Path, description: dict) -> None:
    """Write the description into a folder that is empty or holds the same cohort; raise for any other folder."""
    path = out / "dataset_description.json"
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
        same = taken and path.is_file() and read_json(path) == description
    except (OSError, BrainageError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CannotCreateError(
            f"cannot use {shorten(out, 200)} for the phantom cohort ({reason}); choose another folder"
        ) from error
    if taken and not same:
        raise CannotCreateError(f"{out} is not empty and holds something else; choose another folder or remove it")
    write_json(path, description)


def _image(out: Path, person: Person) -> Path:
    return out / person.participant_id / "anat" / f"{person.participant_id}_T1w.nii.gz"


def _write_person(out: Path, anatomy: Anatomy, person: Person, seed: int, voxel_mm: float, warp_mm: float) -> dict:
    rng = np.random.default_rng((seed, 4, person.index))
    body = draw_body(rng, voxel_mm, contrast=SITE_CONTRAST[person.site], warp_mm=warp_mm)
    image = render(anatomy, body, person.brain_age)
    path = _image(out, person)
    with atomic(path) as temporary:  # mtime 0, so that the same seed gives the same bytes
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))
    sidecar = {
        "Modality": "MR",
        "Manufacturer": "PHANTOM",
        "ManufacturersModelName": f"PHANTOM-{person.site}",
        "SeriesDescription": "synthetic T1w image, no person was scanned",
    }
    write_json(sidecar_path(path), sidecar)
    scores = {} if person.score_name is None else {person.score_name: person.score}
    return {
        "participant_id": person.participant_id,
        "group": person.group,
        "sex": person.sex,
        "site": person.site,
        "age": person.age,
        "gap": person.gap,
        **scores,
        **image.extra["truth"],
    }


def _write_tables(out: Path, people: list[Person], groups: tuple[Group, ...]) -> None:
    columns = ["participant_id", "age", "sex", "group", "site"]
    rows = {name: [getattr(person, name) for person in people] for name in columns}
    for name in dict.fromkeys(group.score.name for group in groups if group.score):
        rows[name] = [person.score if person.score_name == name else None for person in people]
    write_tsv(out / "participants.tsv", pd.DataFrame(rows))
    meanings = {name: MEANINGS.get(name, {"Description": "drawn clinical score (phantom)"}) for name in rows}
    write_json(out / "participants.json", meanings)


def _shown(jobs: list[Future], progress: bool) -> Iterator[dict]:
    from rich.console import Console
    from rich.progress import track

    finished: Iterable[Future] = jobs
    if progress:
        finished = track(jobs, description="phantom heads", console=Console(stderr=True), transient=True)
    for job in finished:
        yield job.result()
