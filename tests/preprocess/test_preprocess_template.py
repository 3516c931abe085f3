import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.bids.files import read_json, write_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.preprocess import template as room
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.template import (
    check_same,
    content_sha,
    is_kept,
    keep_template,
    load_template,
    template_of,
    template_volume,
)
from brainage_bids.preprocess.template_source import find_template, template_for
from brainage_bids.preprocess.workflow import preprocess
from brainage_bids.schema import DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA, VolumeSpec

STEP = 3  # mm


@pytest.fixture(scope="module")
def coarse():
    """The embedded template at 3 mm: values, mask, affine; its values are not 0 to 1 and its affine is not exact."""
    whole = load_template()
    data, mask = np.array(whole.data[::STEP, ::STEP, ::STEP]), whole.mask[::STEP, ::STEP, ::STEP]
    affine = whole.affine @ np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] += 0.1
    return 700 * data, mask, affine


@pytest.fixture
def files(tmp_path, coarse):
    """Write a template as whole head with mask, or skull-stripped; return the path of the T1w image."""
    data, mask, affine = coarse

    def write(name="tpl-Clinic_T1w.nii.gz", stripped=False, shift=0.0, scale=1.0, gain=1.0):
        moved = np.diag([scale, scale, scale, 1.0]) @ affine
        moved[:3, 3] += shift
        path = tmp_path / "files" / name
        path.parent.mkdir(exist_ok=True)
        head = np.where(mask, data, 0 if stripped else 100 + 50 * np.indices(data.shape).sum(axis=0) % 300)
        nib.save(nib.Nifti1Image((gain * head).astype(np.float32), moved), path)
        if not stripped:
            base = name.removesuffix("_T1w.nii.gz").removesuffix("_desc-brain")
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), moved), path.with_name(f"{base}_desc-brain_mask.nii.gz"))
        return path

    return write


def spec_of(template, resolution=6):
    return VolumeSpec.on_grid(resolution, template.name, template_sha=template.sha)


def test_the_embedded_template_is_the_known_one(monkeypatch):
    template = find_template(DEFAULT_TEMPLATE)
    assert template is load_template()
    assert template.sha == DEFAULT_TEMPLATE_SHA == content_sha(template.data, template.mask, template.affine)
    assert not template.data.flags.writeable
    monkeypatch.setattr(room, "DEFAULT_TEMPLATE_SHA", "0" * 12)
    room._embedded.cache_clear()
    with pytest.raises(UsageError, match="nilearn carries another"):
        load_template()
    monkeypatch.undo()
    assert load_template().sha == DEFAULT_TEMPLATE_SHA


def test_the_hash_sees_values_mask_and_place(coarse):
    data, mask, affine = coarse
    other_mask, other_affine = mask.copy(), affine.copy()
    other_mask[20, 20, 20] ^= True
    other_affine[0, 3] += 0.01
    first = content_sha(data, mask, affine)
    assert len({first, content_sha(data + 1, mask, affine), content_sha(data, other_mask, affine)}) == 3
    assert content_sha(data, mask, other_affine) != first
    assert content_sha(data.copy(), mask.copy(), affine.copy()) == first


def test_own_template_with_mask_and_stripped(files, coarse):
    data, mask, _ = coarse
    whole = find_template(str(files()))
    assert whole.name == "Clinic"
    np.testing.assert_array_equal(whole.mask, mask)
    np.testing.assert_allclose(whole.data, np.where(mask, data, 0) / data[mask].max(), rtol=1e-6)
    stripped = find_template(str(files("my head 2.nii.gz", stripped=True)))
    assert stripped.name == "myhead2"
    both = (stripped.mask & mask).sum() / mask.sum()
    assert both > 0.97
    assert stripped.sha != whole.sha


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scale": 0.5}, "mL"),
        ({"scale": 1.3}, "mL"),
        ({"shift": 40.0}, r"beyond the grid .*x -96 to 96"),
        ({"name": f"tpl-{DEFAULT_TEMPLATE}_T1w.nii.gz"}, "called like the embedded"),
        ({"name": "___.nii.gz", "stripped": True}, "no letter or digit"),
    ],
)
def test_wrong_templates_are_refused(files, changes, match):
    with pytest.raises(UsageError, match=match):
        find_template(str(files(**changes)))


def test_a_head_without_mask_a_mask_elsewhere_and_no_file_are_refused(files, tmp_path, coarse):
    path = files()
    mask = path.with_name("tpl-Clinic_desc-brain_mask.nii.gz")
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.diag([0, 0, 0.1, 0])), mask)
    with pytest.raises(UsageError, match="grid of the template"):
        find_template(str(path))
    mask.unlink()
    with pytest.raises(UsageError, match="not skull-stripped"):
        find_template(str(path))
    with pytest.raises(UsageError, match="not a file"):
        find_template(str(tmp_path / "nowhere_T1w.nii.gz"))


def test_the_kept_copy_is_the_same_template(files, tmp_path):
    template, outputs = find_template(str(files())), Outputs(tmp_path / "out")
    assert not is_kept("Clinic", outputs)
    keep_template(template, outputs)
    keep_template(template, outputs)
    kept = load_template("Clinic", outputs.root)
    assert kept.sha == template.sha
    np.testing.assert_array_equal(kept.data, template.data)
    np.testing.assert_array_equal(kept.affine, template.affine)
    again = find_template(str(outputs.template_image("Clinic")))  # the copy given by its path, for another OUTPUT_DIR
    assert (again.name, again.sha) == (template.name, template.sha)
    values, inside = template_volume(spec_of(template), outputs.root)
    assert values.shape == inside.shape == spec_of(template).shape
    assert inside.sum() * 0.216 == pytest.approx(1886, rel=0.03)


def test_templates_of_one_name_are_never_mixed(files, tmp_path):
    first, outputs = find_template(str(files())), Outputs(tmp_path / "out")
    second = find_template(str(files(shift=2.0)))
    assert first.name == second.name
    keep_template(first, outputs)
    for refuse in (lambda: keep_template(second, outputs), lambda: check_same(second, first, outputs)):
        with pytest.raises(UsageError, match="another template called Clinic"):
            refuse()
    assert spec_of(first).fingerprint != spec_of(second).fingerprint
    assert template_of(spec_of(first), outputs.root).sha == first.sha
    with pytest.raises(UsageError, match=second.sha):
        template_of(spec_of(second), outputs.root)
    with pytest.raises(UsageError, match=r"0{12}"):
        template_of(VolumeSpec(template_sha="0" * 12))


def test_a_changed_copy_is_refused(files, tmp_path):
    template, outputs = find_template(str(files())), Outputs(tmp_path / "out")
    keep_template(template, outputs)
    path = sidecar_path(outputs.template_image("Clinic"))
    write_json(path, read_json(path) | {"TemplateSha": "0" * 12})
    with pytest.raises(BadDataError, match="it was changed"):
        load_template("Clinic", outputs.root)


def test_the_template_of_a_model_comes_from_its_own_output_folder(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "templateflow", None)
    template, first, second = find_template(str(files())), Outputs(tmp_path / "out1"), tmp_path / "out2"
    keep_template(template, first)
    model = first.model("rnc-demo")
    assert template_for(spec_of(template), second, model).sha == template.sha
    with pytest.raises(UsageError, match=r"trained on the template Clinic with content 0{12}"):
        template_for(VolumeSpec.on_grid(6, "Clinic", template_sha="0" * 12), second, model)
    with pytest.raises(UsageError, match=r"Nowhere.*--template PATH"):
        template_for(VolumeSpec.on_grid(6, "Nowhere"), second, model)


def test_a_template_that_is_not_there_is_refused_at_the_door(tmp_path):
    with pytest.raises(UsageError, match="MNI305"):
        preprocess([], [VolumeSpec.on_grid(4, "MNI305")], Outputs(tmp_path), PreprocessOptions(tmp_path / "work"))


def test_spec_keeps_the_template_when_the_grid_changes():
    spec = VolumeSpec.on_grid(1, "Clinic", "zscore", "abc")
    assert VolumeSpec.from_dict(spec.to_dict()) == spec
    assert spec.at(2) == VolumeSpec.on_grid(2, "Clinic", "zscore", "abc")


# --- TemplateFlow ---------------------------------------------------------------------------------------------------


def test_without_the_client_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "templateflow", None)
    with pytest.raises(UsageError, match="pip install templateflow"):
        find_template("MNI152NLin2009cAsym")


CLIENT = """
import sys
from brainage_bids.errors import UsageError
from brainage_bids.preprocess.template_source import find_template
for name in sys.argv[1:]:
    try:
        found = find_template(name)
        print(name, found.name, found.data.shape, found.mask.sum())
    except UsageError as error:
        print(name, error)
"""


@pytest.fixture
def templateflow(tmp_path, files, monkeypatch):
    """Ask the client, in a process of its own, with a cache of three made-up templates and no network."""
    pytest.importorskip("templateflow")
    home = tmp_path / "home"
    pairs = {"One": ("res-02_", "res-01_"), "Plain": ("",), "Ages": ("cohort-1_", "cohort-2_"), "Empty": ("res-01_",)}
    for name, middles in pairs.items():
        for middle in middles:
            whole = files(f"tpl-{name}_{middle}T1w.nii.gz", gain=2.0 if middle == "res-01_" else 1.0)
            for path in (whole, whole.with_name(whole.name.replace("T1w", "desc-brain_mask"))):
                target = home / f"tpl-{name}" / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"" if name == "Empty" else path.read_bytes())
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    monkeypatch.setenv("TEMPLATEFLOW_AUTOUPDATE", "0")
    for proxy in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens

    def ask(*names):
        command = [sys.executable, "-c", CLIENT, *names]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        return dict(line.split(" ", 1) for line in run.stdout.splitlines())

    return ask


def test_templateflow_through_its_client_and_cache(templateflow, coarse):
    told = templateflow("One", "Plain", "Ages", "Empty", "Oone")
    assert told["One"] == f"One {coarse[1].shape} {coarse[1].sum()}"
    assert told["Plain"].startswith("Plain (")
    assert "cohorts" in told["Ages"]
    assert "tpl-Empty_res-01_T1w.nii.gz is not in the cache of TemplateFlow" in told["Empty"]
    assert "TEMPLATEFLOW_HOME" in told["Empty"]
    assert "get('Empty', resolution=1, suffix='T1w', desc=None)" in told["Empty"]
    assert "not known to TemplateFlow" in told["Oone"]
    assert "One" in told["Oone"]
