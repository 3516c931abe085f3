"""A dataset whose volumes are made already, so that the participant level only has to predict and to write pages."""

import json
import shutil

import nibabel as nib
import numpy as np
from handmade import SPEC, Place
from safetensors.torch import load_file, save_file

from brainage_bids.app.models import BUNDLED
from brainage_bids.bids.files import write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.bids.read import DatasetQuery, read_dataset
from brainage_bids.cli import run_inside
from brainage_bids.preprocess.done import input_hash, input_stat
from brainage_bids.preprocess.preprocess_options import ENGINE_VERSIONS
from brainage_bids.preprocess.resample import intensity_rule
from brainage_bids.preprocess.template import template_volume


def make_prepared(root, people=2, sessions=("",)):
    """Write a dataset and its volumes: the brain of the template, a little darker for each scan."""
    bids, out = root / "bids", root / "out"
    for i in range(1, people + 1):
        for session in sessions:
            stem = "_".join(filter(None, (f"sub-{i:02d}", session)))
            path = bids.joinpath(f"sub-{i:02d}", session, "anat", f"{stem}_T1w.nii.gz")
            path.parent.mkdir(parents=True)
            path.write_bytes(b"an image that is not opened" + stem.encode())
    rows = [f"sub-{i:02d}\t{30 + i}\tF\tCN" for i in range(1, people + 1)]
    (bids / "participants.tsv").write_text("\n".join(["participant_id\tage\tsex\tgroup", *rows]) + "\n")
    (bids / "dataset_description.json").write_text(json.dumps({"Name": "prepared", "BIDSVersion": "1.10.0"}))
    values, inside = template_volume(SPEC)
    outputs = Outputs(out)
    for i, scan in enumerate(read_dataset(DatasetQuery(bids)).scans, start=1):
        brain = intensity_rule(values, inside, "minmax") ** (1 + 0.05 * i)
        outputs.anat(scan).mkdir(parents=True)
        for path, data in ((outputs.volume(scan, SPEC), brain), (outputs.mask(scan, SPEC), inside.astype(np.uint8))):
            nib.save(nib.Nifti1Image(data, SPEC.affine), path)
        told = {
            "VolumeSpec": SPEC.to_dict(), "VolumeSpecFingerprint": SPEC.fingerprint, "Engine": "builtin",
            "EngineVersion": ENGINE_VERSIONS["builtin"], "InputHash": input_hash(scan), "InputStat": input_stat(scan),
            "Sources": ["bids:raw:x"], "QC": {}, "qc_pass": True,
        }  # fmt: skip
        write_json(sidecar_path(outputs.volume(scan, SPEC)), told)
    write_json(out / "dataset_description.json", {
        "Name": "Brain ages of prepared", "DatasetType": "derivative", "GeneratedBy": [{"Name": "brainage-bids"}],
    })  # fmt: skip
    return Place(bids, out)


def shared_model(folder, bias=None):
    """Copy what a shared model folder must hold; with ``bias`` (years) every member has that one."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(BUNDLED / "open-adults" / "model.json", folder / "model.json")
    tensors = {name: t.clone() for name, t in load_file(BUNDLED / "open-adults" / "weights.safetensors").items()}
    for name, tensor in tensors.items():
        if bias is not None and name.endswith("head.bias"):
            tensor.fill_(bias)
    save_file(tensors, folder / "weights.safetensors")
    return folder


def participant(place, *more):
    """Run the participant level in this process."""
    run_inside([str(place.bids), str(place.out), "participant", "--nprocs", "1", *map(str, more)])
