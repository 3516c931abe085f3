"""Nothing that is handed over tells where the data lie: all of OUTPUT_DIR but logs/<run> and work/ is searched."""

import gzip
import json


def _content(path):
    raw = path.read_bytes()
    return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw


def test_no_file_tells_the_folders_above_the_data(study):
    own = (study.out / "logs", study.out / "work")
    files = [path for path in study.out.rglob("*") if path.is_file() and not any(top in path.parents for top in own)]
    files += [path for path in (study.out / "logs").glob("*") if path.is_file()]
    assert len(files) > 150
    secret = str(study.bids.parent).encode()
    assert [path.relative_to(study.out).as_posix() for path in files if secret in _content(path)] == []


def test_places_are_told_by_name_and_the_run_keeps_the_paths(study):
    failed = (study.out / "group" / "failed.tsv").read_text()
    assert "BIDS_DIR/sub-003/anat/sub-003_T1w.nii.gz" in failed
    page = (study.out / "sub-001.html").read_text()
    assert "brainage-bids BIDS_DIR OUTPUT_DIR participant" in page
    links = json.loads((study.out / "dataset_description.json").read_text())["DatasetLinks"]
    assert links["raw"] == "../bids"
    records = [json.loads(path.read_text()) for path in (study.out / "logs").glob("*/run.json")]
    assert all(str(study.bids) in record["Command"] for record in records)
    assert str(study.bids) in study.participant.stderr  # who runs it sees the whole path
