"""Which template a run is made on; plans only, no image is preprocessed but the template itself."""

import dataclasses
import sys

import nibabel as nib
import numpy as np
import pytest

from brainage_bids.app.models import BUNDLED
from brainage_bids.app.options import ParticipantOptions
from brainage_bids.app.plan import make_plan
from brainage_bids.app.templates import keep_templates
from brainage_bids.bids.files import read_json, write_json
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import DatasetQuery
from brainage_bids.errors import UsageError
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.preprocess.preprocess_options import PreprocessOptions
from brainage_bids.preprocess.template import brain_mm, load_template
from brainage_bids.preprocess.template_source import find_template
from brainage_bids.schema import DEFAULT_BRAIN_MM, DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA, VolumeSpec


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Write the embedded template at 3 mm as two templates of one name and different content."""
    paths = []
    for number in (1, 2):
        whole = load_template()
        data = np.array(whole.data[::3, ::3, ::3]) * whole.mask[::3, ::3, ::3]
        affine = whole.affine @ np.diag([3, 3, 3, 1.0])
        affine[0, 3] += number
        path = tmp_path_factory.mktemp("own") / "tpl-Clinic_T1w.nii.gz"
        nib.save(nib.Nifti1Image(data, affine), path)
        paths.append(path)
    return paths


@pytest.fixture
def plan(tmp_path):
    def make(**options):
        outputs = Outputs(tmp_path / options.pop("out", "out"))
        model = ModelOptions(overrides=options.pop("overrides", ()))
        common = (DatasetQuery(tmp_path), outputs.root, PreprocessOptions(tmp_path / "work"), model)
        return make_plan(ParticipantOptions(*common, **options), outputs)

    return make


def model(folder, template, sha, intensity="minmax"):
    spec = VolumeSpec.on_grid(4, template, intensity, sha)
    card = read_json(BUNDLED / "open-adults" / "model.json")
    card["recipe"]["volume"] |= {"template": template, "intensity": intensity, "template_sha": sha}
    card["recipe"]["ridge"]["ignore_contrast"] = False
    write_json(folder / "model.json", card | {"volume_spec": spec.to_dict()})
    return str(folder)


def test_two_models_of_one_name_are_refused(plan, tmp_path):
    one, two = (model(tmp_path / place / "rnc", DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA) for place in "ab")
    assert len(plan(models=(one, one)).models) == 1
    with pytest.raises(UsageError, match=r"two models are called 'rnc': .*/a/rnc and .*/b/rnc"):
        plan(models=(one, two))
    trained = model(tmp_path / "x" / "rnc-demo", DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA)
    with pytest.raises(UsageError, match="two models are called 'rnc-demo'"):
        plan(train="rnc-demo", models=(trained,))


def test_two_intensity_rules_on_one_grid_are_refused(plan, tmp_path):
    paths = []
    for rule in ("minmax", "zscore"):
        paths.append(model(tmp_path / rule, DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA, rule))
    assert len(plan(models=(paths[1],)).specs) == 1
    with pytest.raises(UsageError, match="at 4 mm, with minmax and zscore intensities"):
        plan(models=tuple(paths))


def test_the_embedded_template_is_the_default(plan, tmp_path):
    assert plan(preprocess_only=True).specs == (VolumeSpec.on_grid(1),)
    assert plan(preprocess_only=True, template=DEFAULT_TEMPLATE).templates == ()
    trained = plan(train="rnc-demo")
    assert trained.recipe.spec == trained.specs[0] == VolumeSpec.on_grid(4)
    old = VolumeSpec.on_grid(4).to_dict()
    del old["template_sha"]  # a model of a version that did not pin the content
    assert VolumeSpec.from_dict(old) == VolumeSpec.on_grid(4)


def test_the_template_asked_for_is_in_the_spec_of_volume_and_recipe(plan, own):
    template = find_template(str(own[0]))
    wanted = {"template": str(own[0])}
    for made in (plan(preprocess_only=True, **wanted), plan(train="rnc-demo", **wanted)):
        assert [(spec.template, spec.template_sha) for spec in made.specs] == [("Clinic", template.sha)]
        assert [kept.sha for kept in made.templates] == [template.sha]
    recipe = plan(train="rnc-demo", **wanted).recipe
    assert recipe.to_dict()["volume"]["template_sha"] == template.sha
    assert type(recipe).from_dict(recipe.to_dict()) == recipe  # as it is stored with the model


def test_a_recipe_may_name_its_template_and_the_command_line_wins(plan, own, tmp_path):
    recipe = tmp_path / "mine.toml"
    text = (
        f'description = "x"\nmethod = "l1"\n[volume]\nresolution = 4.0\ntemplate = "{own[0]}"\n[network]\ndepth = 18\n'
        '[training]\nepochs = 1\nbatch_size = 2\noptimiser = "adam"\nlr = 0.1\n'
    )
    recipe.write_text(text)
    assert plan(train=str(recipe)).specs[0].template == "Clinic"
    made = plan(train=str(recipe), template=DEFAULT_TEMPLATE)
    assert (made.specs, made.templates) == ((VolumeSpec.on_grid(4),), ())


def test_the_box_is_that_of_the_brain_of_the_template(plan, own):
    boxed = {"overrides": ("volume.crop=brain",), "train": "rnc-demo"}
    embedded, other = plan(**boxed), plan(template=str(own[0]), **boxed)
    assert embedded.recipe.volume.brain_mm == brain_mm(load_template()) == DEFAULT_BRAIN_MM
    assert other.recipe.volume.brain_mm == brain_mm(other.templates[0]) != DEFAULT_BRAIN_MM
    assert [made.specs[0].box for made in (embedded, other)] == [None, None]  # the volumes have the whole grid
    assert other.specs[0] == other.recipe.spec.whole != other.recipe.spec
    assert plan(template=str(own[0]), train="rnc-demo").recipe.settled()["volume"].keys() == {
        "resolution", "template", "template_sha",
    }  # fmt: skip


def test_a_model_refuses_another_template(plan, own, tmp_path):
    embedded = model(tmp_path / "a", DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA)
    with pytest.raises(UsageError, match=rf"trained on the template {DEFAULT_TEMPLATE} .* asks for Clinic"):
        plan(models=(embedded,), template=str(own[0]))
    sha = find_template(str(own[0])).sha
    clinic = model(tmp_path / "b", "Clinic", sha)
    with pytest.raises(UsageError, match=rf"Clinic \(content {sha}\), but --template asks for {DEFAULT_TEMPLATE}"):
        plan(models=(clinic,), template=DEFAULT_TEMPLATE)
    with pytest.raises(UsageError, match="trained on the template Clinic"):  # same name, other content
        plan(models=(clinic,), template=str(own[1]))
    changed = model(tmp_path / "c", DEFAULT_TEMPLATE, "0" * 12)
    with pytest.raises(UsageError, match=r"content 0{12}"):
        plan(models=(changed,))


def test_a_model_brings_or_asks_for_its_template(plan, own, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "templateflow", None)
    template = find_template(str(own[0]))
    there = Outputs(tmp_path / "there")
    keep_templates([template], there)
    beside = model(there.model("m"), "Clinic", template.sha)
    assert [kept.sha for kept in plan(models=(beside,)).templates] == [template.sha]
    alone = model(tmp_path / "alone", "Clinic", template.sha)
    with pytest.raises(UsageError, match="--template PATH"):
        plan(models=(alone,))
    made = plan(models=(alone,), template=str(own[0]))
    assert made.specs == (VolumeSpec.on_grid(4, "Clinic", template_sha=template.sha),)
    keep_templates(made.templates, Outputs(tmp_path / "out"))
    assert plan(models=(alone,)).specs == made.specs  # kept: no --template needed any more
    assert plan(models=(alone,), template="Clinic").specs == made.specs  # nor the file to name it


def test_one_output_folder_holds_one_template_of_a_name(plan, own, tmp_path):
    keep_templates([find_template(str(own[0]))], Outputs(tmp_path / "out"))
    with pytest.raises(UsageError, match="another template called Clinic"):
        plan(preprocess_only=True, template=str(own[1]))
    assert plan(preprocess_only=True, template=str(own[1]), out="other").specs[0].template == "Clinic"


def test_the_spec_of_a_volume_is_compared_whole():
    spec = VolumeSpec.on_grid(4)
    assert dataclasses.replace(spec, template_sha="0" * 12) != spec
    assert dataclasses.replace(spec, template_sha="0" * 12).fingerprint != spec.fingerprint


def test_preprocess_only_makes_the_volumes_of_a_recipe_and_trains_nothing(plan):
    made = plan(train="rnc-demo", preprocess_only=True)
    assert [spec.resolution for spec in made.specs] == [4.0]
    assert made.recipe is None
    assert made.models == ()
