"""Model folders and recipes."""

import json
import shutil

from corpuscase import IMAGE, Case

from brainage_bids.app.models import BUNDLED

ROWS = ("participant_id|age", "sub-01|30")
ONE = ("sub-01",)


def model(change=None, weights=None, text=None):
    """Put a copy of the model of the package beside BIDS_DIR: with another model.json, or other bytes of weights."""

    def make(root):
        folder = root.parent / "m"
        shutil.copytree(BUNDLED / "open-adults", folder)
        card = json.loads((folder / "model.json").read_text())
        if change:
            change(card)
        (folder / "model.json").write_text(text or json.dumps(card))
        if weights is not None:
            (folder / "weights.safetensors").write_bytes(weights)

    return make


def spec(**values):
    """Change the volume that a model asks for."""
    return lambda card: card["volume_spec"].update(values)


def broken(what, make, *says, rc=65):
    """A model folder that must be refused in the plan."""
    return Case(
        what, ROWS, scans=ONE, make=make, args=("--model", "{beside}/m"), rc=rc, says=("/m", *says), max_lines=8
    )


def recipe(content):
    """Put a recipe beside BIDS_DIR."""
    text = content.encode() if isinstance(content, str) else content
    return lambda root: (root.parent / "r.toml").write_bytes(text)


def odd_recipe(what, content, *says, rc=64):
    """A recipe that must be refused."""
    make, args = recipe(content), ("--train", "{beside}/r.toml")
    return Case(what, ROWS, scans=ONE, make=make, args=args, rc=rc, says=says, max_lines=8)


TOML = """description = "x"
method = "l1"
[volume]
resolution = 4.0
[network]
depth = 18
[training]
epochs = 1
batch_size = 2
optimiser = "adam"
lr = 0.1
"""


def work(name, content):
    """Put something of the user into a work directory beside BIDS_DIR."""

    def make(root):
        path = root.parent / "scratch" / name
        path.parent.mkdir(parents=True)
        path.write_text(content)

    return make


CASES = {
    "model_that_is_not_there": Case(
        "--model with a name that is neither trained nor a folder",
        ROWS,
        scans=ONE,
        args=("--model", "rnc-nowhere"),
        rc=64,
        says=("rnc-nowhere",),
    ),
    "training_on_one_person": Case(
        "--train where one participant has an age", ROWS, scans=ONE, args=("--train", "rnc-demo"), rc=65
    ),
    "model_shape_negative": broken("negative voxels", model(spec(shape=[-48, 57, 48])), "volume_spec.shape is"),
    "model_shape_huge": broken("a grid of terabytes", model(spec(shape=[48000, 57000, 48000])), "volume_spec.shape is"),
    "model_shape_text": broken("a shape in words", model(spec(shape="48x57x48")), "volume_spec.shape is 48x57x48"),
    "model_resolution_null": broken("no voxel size", model(spec(resolution=None)), "volume_spec.resolution is None"),
    "model_origin_elsewhere": broken("a grid beside the head", model(spec(origin=[400, 400, 400])), "origin"),
    "model_template_path": broken("a template that leads out", model(spec(template="../x")), "template is ../x"),
    "model_without_members": broken("a key is missing", model(lambda card: card.pop("members")), "members is missing"),
    "model_of_another_format": broken("a newer version", model(lambda card: card.update(format=7)), "format is 7"),
    "model_calibration_words": broken(
        "held-out people in words", model(lambda card: card.update(calibration="see the paper")), "calibration is see"
    ),
    "model_long_value": broken(
        "a value of 100,000 letters", model(lambda card: card.update(training="x" * 100_000)), "100000 characters"
    ),
    "model_weights_text": broken("weights that are none", model(weights=b"not weights"), "no whole safetensors file"),
    "model_weights_empty": broken("weights of no bytes", model(weights=b""), "no whole safetensors file"),
    "model_weights_not_fetched": broken(
        "weights of git LFS", model(weights=b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull", rc=66
    ),
    "model_json_deep": broken(
        "lists in lists",
        lambda root: (model()(root), (root.parent / "m/model.json").write_text("[" * 100_000)),
        "deeper",
    ),
    "model_folder_without_anything": broken(
        "a folder of something else", lambda root: (root.parent / "m").mkdir(), "without model.json", rc=66
    ),
    "model_file_instead_of_folder": Case(
        "--model with the weights file",
        ROWS,
        scans=ONE,
        make=model(),
        args=("--model", "{beside}/m/weights.safetensors"),
        rc=64,
        says=("neither trained in",),
    ),
    "model_shared": Case(
        "a whole model from elsewhere is planned",
        ROWS,
        scans=ONE,
        make=model(),
        args=("--model", "{beside}/m"),
        planned=1,
    ),
    "recipe_cut_short": odd_recipe("a recipe cut short", TOML[:44], "not TOML"),
    "recipe_utf16": odd_recipe("a recipe in UTF-16", TOML.encode("utf-16"), "UTF-16", rc=65),
    "recipe_deep": odd_recipe("lists in lists", "x = " + "[" * 100_000, "not TOML"),
    "recipe_long_number": odd_recipe(
        "a number of 5,000 digits", TOML.replace("epochs = 1", "epochs = " + "9" * 5000), "TOML"
    ),
    "recipe_section_number": odd_recipe("a section that is a number", "network = 3\n" + TOML.partition("[network]")[0]),
    "recipe_text_for_number": odd_recipe("a number in words", TOML.replace("0.1", '"fast"'), "lr is 'fast'"),
    "recipe_nan": odd_recipe("no number", TOML.replace("0.1", "nan"), "lr is nan"),
    "recipe_long_name": odd_recipe(
        "a name that is no folder", f'name = "{"a" * 400}"\n' + TOML, "cannot name a folder"
    ),
    "work_in_the_dataset": Case(
        "-w BIDS_DIR", ROWS, scans=ONE, args=("-w", "{ds}"), rc=64, says=("work directory .* is BIDS_DIR",)
    ),
    "work_in_a_participant": Case(
        "-w BIDS_DIR/sub-01", ROWS, scans=ONE, args=("-w", "{ds}/sub-01"), rc=64, says=("only data belong",)
    ),
    "work_of_others": Case(
        "--clean-workdir where train/ is the user's",
        ROWS,
        scans=ONE,
        make=work("train/notes.txt", "mine"),
        args=("-w", "{beside}/scratch", "--clean-workdir"),
        rc=64,
        says=("train that brainage-bids did not make",),
    ),
    "results_among_images": Case(
        "OUTPUT_DIR is a link into a participant's folder",
        ROWS,
        files={"sub-01/anat/sub-01_T1w.nii.gz": IMAGE},
        make=lambda root: (root.parent / "out").symlink_to(root / "sub-01"),
        rc=64,
        says=("lies in sub-01 of BIDS_DIR",),
    ),
}
