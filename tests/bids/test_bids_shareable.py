"""What others will read tells places from BIDS_DIR and OUTPUT_DIR on."""

import pytest

from brainage_bids.bids.shareable import Places

PLACES = Places("/srv/jane/study/out", "/srv/jane/study")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/srv/jane/study/sub-01/anat/x.nii.gz is empty", "BIDS_DIR/sub-01/anat/x.nii.gz is empty"),
        ("in /srv/jane/study/out/qc.tsv, line 2", "in OUTPUT_DIR/qc.tsv, line 2"),
        ("'/srv/jane/study'", "'BIDS_DIR'"),
        ("(/srv/jane/study/out)", "(OUTPUT_DIR)"),
        ("/srv/jane/study2/x is no folder", ".../x is no folder"),
        ("/home/jane/models/m/model.json: no", ".../model.json: no"),
        ("~jane/m and ../jane/m and ./m", ".../m and .../m and .../m"),
        ("/tmp is full, 3 /min", "/tmp is full, 3 /min"),
        (
            "sform / qform, n/a, 1/2/3, mm/year, https://a.org/b/c",
            "sform / qform, n/a, 1/2/3, mm/year, https://a.org/b/c",
        ),
        ("sub-01/anat/x.nii.gz", "sub-01/anat/x.nii.gz"),
        ("", ""),
    ],
)
def test_text(text, told):
    assert PLACES.text(text) == told


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            "brainage-bids /srv/jane/study /srv/jane/study/out participant --participant-label 01 02 sub-03 --nprocs 2",
            "brainage-bids BIDS_DIR OUTPUT_DIR participant --participant-label (3 labels) --nprocs 2",
        ),
        ("brainage-bids a b group --participant_label=01", "brainage-bids a b group --participant_label (1 label)"),
        ("b --exclude-participant-label 07 -w /scratch/jane/w", "b --exclude-participant-label (1 label) -w .../w"),
        ("b --model=/home/jane/m --model rnc", "b --model=.../m --model rnc"),
        ("b --predictions v=/home/jane/v.csv:id:age", "b --predictions v=.../v.csv:id:age"),
        ("b --derivatives prep=/srv/jane/study/derivatives/p", "b --derivatives prep=BIDS_DIR/derivatives/p"),
        ("""b --train-on 'age > 40 and participant_id != "sub-007"'""",
         """b --train-on 'age > 40 and participant_id != "sub-..."'"""),
        ("b --score m=phenotype/mmse.tsv:MMSE", "b --score m=phenotype/mmse.tsv:MMSE"),
    ],
)  # fmt: skip
def test_command(command, told):
    assert PLACES.command(command) == told


def test_relative_places_are_the_places_they_are(tmp_path, monkeypatch):
    home = tmp_path / "jane"
    for name in ("bids", "out", "model"):
        (home / name).mkdir(parents=True)
    monkeypatch.chdir(home / "out")
    for bids, out in (("../bids", "."), (home / "bids", home / "out")):
        places = Places(out, bids)
        told = places.command("brainage-bids ../bids . group --model ../model --also ../bids=../model")
        assert told == "brainage-bids BIDS_DIR OUTPUT_DIR group --model .../model --also BIDS_DIR=.../model"
    (tmp_path / "link").symlink_to(home / "bids")
    assert Places(home / "out", tmp_path / "link").text(f"{home}/bids/x {tmp_path}/link/x") == "BIDS_DIR/x BIDS_DIR/x"
