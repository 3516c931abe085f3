"""A model that cannot be used costs nothing: it is refused in one sentence before anything in OUTPUT_DIR changes."""

import sys

import pytest
from badmodels import BROKEN, copy_model
from handmade import contents, make, scans_of, volume

from brainage_bids.cli import run_inside
from brainage_bids.errors import BrainageError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset whose participant level is finished: volumes, maps, predictions and the card of a model."""
    place = make(tmp_path_factory.mktemp("good"), "people")
    for scan in scans_of(place):
        volume(place, scan)
    return place


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused_before_anything_is_touched(name, place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "templateflow", None)  # no word with the network
    change, code, words = BROKEN[name]
    folder = copy_model(tmp_path / "broken")
    change(folder)
    before = contents(place.out)
    for more in (("--dry-run",), ("-w", str(tmp_path / "work"))):
        with pytest.raises(BrainageError, match=words) as raised:
            run_inside([str(place.bids), str(place.out), "participant", "--model", str(folder), *more])
        assert raised.value.exit_code == code
        message = str(raised.value)
        assert "\n" not in message
        assert len(message) < 600
    assert contents(place.out) == before
    assert not (tmp_path / "work").exists()


def test_a_model_that_has_predicted_is_read_again_only_when_its_weights_are_others(own_study, monkeypatch):
    read = []
    monkeypatch.setattr("brainage_bids.model.predict.load_model", lambda *args: read.append(args) or 1 / 0)
    command = [str(own_study.bids), str(own_study.out), "participant", "--dry-run"]
    run_inside(command)
    assert not read
    weights = own_study.out / "models" / "rnc-demo" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ZeroDivisionError):
        run_inside(command)
    assert len(read) == 1
