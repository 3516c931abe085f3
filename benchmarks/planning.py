"""Wall time of ``--dry-run`` on thousands of participants, none of them and all of them already preprocessed.

Run ``python benchmarks/planning.py [PARTICIPANTS]``. The images are placeholders (planning opens none); their outputs
are placeholders with true sidecars.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from brainage_bids.bids.files import write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.preprocess.done import input_stat
from brainage_bids.preprocess.preprocess_options import ENGINE_VERSIONS
from brainage_bids.schema import Scan, VolumeSpec


def make_dataset(root, n):
    root.mkdir()
    description = {"Name": "placeholder phantoms", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    rows = ["participant_id\tage\tsex\tgroup"]
    for index in range(n):
        name = f"sub-{index:05d}"
        folder = root / name / "anat"
        folder.mkdir(parents=True)
        (folder / f"{name}_T1w.nii.gz").write_bytes(bytes(2048))
        (folder / f"{name}_T1w.json").write_text('{"MagneticFieldStrength": 3, "Manufacturer": "none"}')
        rows.append(f"{name}\t{20 + index % 60}\t{'FM'[index % 2]}\t{'AD' if index % 3 else 'CN'}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")


def make_outputs(bids, out):
    spec, outputs = VolumeSpec.on_grid(1), Outputs(out)
    for path in sorted(bids.glob("sub-*/anat/*.nii.gz")):
        scan = Scan(str(path), path.parent.parent.name)
        volume, mask = outputs.volume(scan, spec), outputs.mask(scan, spec)
        volume.parent.mkdir(parents=True)
        volume.touch()
        mask.touch()
        values = {"Engine": "builtin", "EngineVersion": ENGINE_VERSIONS["builtin"], "InputStat": input_stat(scan)}
        write_json(sidecar_path(volume), {**values, "VolumeSpecFingerprint": spec.fingerprint})
    write_json(
        out / "dataset_description.json",
        {
            "Name": "Brain ages of placeholder phantoms",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "brainage-bids"}],
        },
    )


def plan(bids, out):
    command = [sys.executable, "-m", "brainage_bids", str(bids), str(out), "participant", "--preprocess-only"]
    begin = time.monotonic()
    told = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t")[4] for line in told.splitlines() if line.startswith("sub-")]
    return time.monotonic() - begin, rows


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        bids, out = Path(folder) / "bids", Path(folder) / "out"
        make_dataset(bids, n)
        print("participants  already done  wall s (best of 3)")
        for expected in ("to do", "done"):
            if expected == "done":
                make_outputs(bids, out)
            runs = [plan(bids, out) for _ in range(3)]
            assert all(rows == [expected] * n for _, rows in runs)
            print(f"{n:12d}  {n if expected == 'done' else 0:12d}  {min(wall for wall, _ in runs):6.2f}")


if __name__ == "__main__":
    main()
