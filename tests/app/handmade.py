"""Small datasets whose participant level is written by hand: nothing is preprocessed, nothing is trained."""

import hashlib
import json
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd

from brainage_bids.app.group import analyse, gather, make_tables
from brainage_bids.app.options import GroupOptions
from brainage_bids.bids.derivative import prepare_output
from brainage_bids.bids.files import write_json, write_tsv
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.schema import PREDICTION_COLUMNS, VolumeSpec

SPEC = VolumeSpec.on_grid(4)
IMAGE = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
PEOPLE = ("CN", "CN", "CN", "AD", "AD", "AD")


@dataclass(frozen=True)
class Place:
    bids: object
    out: object


def card(name, shift=0.0, spec=SPEC):
    people = [{"age": 50.0 + i, "predicted_age": 51.0 + 0.9 * i + i % 3 + shift, "fold": None} for i in range(30)]
    return {
        "name": name, "fingerprint": "f", "volume_spec": spec.to_dict(), "calibration": people, "members": [{}],
        "architecture": {"backbone": "3D ResNet-18", "total_stride": 8}, "recipe": {"method": "l1"}, "phantom": True,
        "training": {"n": 30, "age_mean": 64.5, "age_min": 50, "age_max": 79},
    }  # fmt: skip


def make(root, name, groups=PEOPLE, gap=2.0, first=1, session=None, **columns):
    """Write a dataset and what the participant level would leave of it; person i is 60 + i years old."""
    bids, out = root / "bids", root / "out"
    people = []
    for i, group in enumerate(groups, start=first):
        person = f"sub-{i:02d}"
        stem = f"{person}_{session}" if session else person
        path = bids.joinpath(*filter(None, [person, session]), "anat", f"{stem}_T1w.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(IMAGE, path)
        people.append({"participant_id": person, "age": 60 + i, "sex": "FM"[i % 2], "group": group, "site": "1"})
    table = pd.DataFrame(people).assign(**columns)
    table.to_csv(bids / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    (bids / "dataset_description.json").write_text(json.dumps({"Name": name, "BIDSVersion": "1.10.0"}))
    place = Place(bids, out)
    dataset = read_dataset(DatasetQuery(bids))
    prepare_output(Outputs(out), dataset, "0")
    for scan in dataset.scans:
        predict(place, scan, {"m": scan.age + gap + int(scan.participant_id[-1]) % 3})
    write_json(Outputs(out).foreign_card("m"), card("m"))
    return place


def predict(place, scan, ages):
    rows = [
        {**dict.fromkeys(PREDICTION_COLUMNS), "model": model, "predicted_age": age, "chronological_age": scan.age,
         "bag": age - scan.age, "flags": "n/a"}
        for model, age in ages.items()
    ]  # fmt: skip
    write_tsv(Outputs(place.out).prediction(scan), pd.DataFrame(rows))


def contents(root):
    """Return what lies in a folder: path -> hash."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scans_of(place):
    return read_dataset(DatasetQuery(place.bids)).scans


def joined_results(first, *also, **more):
    asked = ("controls", "scores", "group_column", "age_columns")
    query = DatasetQuery(first.bids, **{k: more.pop(k) for k in asked if k in more})
    options = GroupOptions(query, first.out, also=tuple(map(str, also)), **more)
    _, dataset, collected = gather(options)
    return dataset, collected, options


def tables(first, *also, **more):
    dataset, collected, options = joined_results(first, *also, **more)
    analysis = analyse(options, Outputs(first.out), dataset, collected)
    return analysis.selected, make_tables(analysis)


def volume(place, scan):
    """Write what mean maps, quality and methods need to know of a volume, and a map."""
    outputs = Outputs(place.out)
    values = {"VolumeSpec": SPEC.to_dict(), "qc_pass": True, "QC": {}, "Engine": "builtin", "EngineVersion": 3,
              "Sources": ["bids:raw:x"]}  # fmt: skip
    write_json(sidecar_path(outputs.volume(scan, SPEC)), values)
    affine = np.diag([32.0, 32, 32, 1])
    affine[:3, 3] = SPEC.origin
    cells = np.random.default_rng(int(scan.participant_id[-1])).normal(size=(6, 7, 6))
    nib.save(nib.Nifti1Image(cells.astype(np.float32), affine), outputs.saliency(scan, SPEC, "m"))
