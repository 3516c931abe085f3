"""Model folders that must be refused: ways to break a copy of the model of the package, and the sentence to say."""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file

from brainage_bids.app.models import BUNDLED

GOOD = BUNDLED / "open-adults"


def copy_model(folder):
    """Copy what a shared model folder must hold, and no more."""
    folder.mkdir(parents=True)
    for name in ("model.json", "weights.safetensors"):
        shutil.copyfile(GOOD / name, folder / name)
    return folder


def card(path, value, *more):
    """Set a key of model.json, or with ``KeyError`` remove it; ``more`` are further pairs of path and value."""

    def change(folder):
        values = json.loads((folder / "model.json").read_text())
        for place, new in zip((path, *more[::2]), (value, *more[1::2]), strict=True):
            *outer, last = place.split(".")
            inside = values
            for name in outer:
                inside = inside[int(name) if name.isdigit() else name]
            if new is KeyError:
                del inside[last]
            else:
                inside[int(last) if last.isdigit() else last] = new
        (folder / "model.json").write_text(json.dumps(values))

    return change


def text(content):
    """Replace model.json by bytes."""
    return lambda folder: (folder / "model.json").write_bytes(content)


def weights(change):
    """Change the tensors."""

    def changed(folder):
        tensors = load_file(folder / "weights.safetensors")
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        change(tensors)
        save_file(tensors, folder / "weights.safetensors")

    return changed


def file(content):
    """Replace the weights by bytes; by a function of the bytes that are there; by a folder (None)."""

    def change(folder):
        path = folder / "weights.safetensors"
        before = path.read_bytes()
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content(before) if callable(content) else content)

    return change


def pickled(folder):
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "weights.safetensors").items()}
    torch.save(tensors, folder / "weights.safetensors")


def unlink(name):
    return lambda folder: (folder / name).unlink()


def json_folder(folder):
    (folder / "model.json").unlink()
    (folder / "model.json").mkdir()


def all_of(value):
    """Set every number of every tensor."""
    return weights(lambda tensors: [tensor.fill_(value) for tensor in tensors.values()])


def one(value):
    """Set one voxel of one member."""
    return weights(lambda tensors: tensors["fold-3.weight"].__setitem__((20, 20, 20), value))


def times(factor):
    return weights(lambda tensors: [tensor.mul_(factor) for tensor in tensors.values()])


def kinds(dtype):
    return weights(lambda tensors: tensors.update({name: t.to(dtype) for name, t in tensors.items()}))


def drop(name):
    return weights(lambda tensors: tensors.pop(name))


def add(name, *shape):
    return weights(lambda tensors: tensors.update({name: torch.zeros(shape)}))


MEMBER = json.loads((GOOD / "model.json").read_text())["members"][0]
CALIBRATED = {"age": 30.0, "predicted_age": 31.0, "fold": 1}
SPEC, RECIPE = "volume_spec.", "recipe.volume."
NETWORK = ("recipe.method", "l1", "architecture.total_stride", 32)

BROKEN = {  # name -> how to break it, exit code, what is said
    # --- model.json as a file
    "json_empty": (text(b""), 65, r"model\.json is empty"),
    "json_cut_short": (text(b'{"format": 1, "name": "x"'), 65, r"is not JSON \(line 1"),
    "json_utf16": (text('{"format": 1}'.encode("utf-16")), 65, "UTF-16"),
    "json_nul": (text(b"\0" * 100), 65, "NUL byte"),
    "json_deep": (text(b"[" * 100_000 + b"]" * 100_000), 65, "nested deeper"),
    "json_long_number": (text(b'{"format": ' + b"1" * 5000 + b"}"), 65, "not a usable number"),
    "json_nan": (text(b'{"format": NaN}'), 65, "NaN"),
    "json_web_page": (text(b"<!DOCTYPE html><html></html>"), 65, "web page"),
    "json_list": (text(b"[1, 2]"), 65, "is a list"),
    "json_text": (text(b'"model"'), 65, "is text"),
    "json_pointer": (text(b"/annex/objects/MD5E-s19480--0123456789abcdef.json\n"), 66, "git-annex pointer"),
    "json_gone": (unlink("model.json"), 66, r"folder without model\.json"),
    "json_folder": (json_folder, 66, r"folder without model\.json"),
    # --- keys that are missing or of a wrong kind
    **{
        f"without_{key.replace('.', '_')}": (card(key, KeyError), 65, rf"{key} is missing")
        for key in (
            "name", "volume_spec", "recipe", "training", "training.n", "training.age_mean", "members", "calibration",
            "architecture", "architecture.total_stride", "salt", "seed", "volume_spec.shape", "volume_spec.origin",
            "recipe.method",
        )
    },
    "without_format": (card("format", KeyError), 65, "format is missing"),
    "without_member_name": (card("members.2.name", KeyError), 65, r"members\[2\]\.name is missing"),
    "format_newer": (card("format", 2), 65, "format is 2; it must be 1; update"),
    "training_number": (card("training", 3), 65, "training is 3; it must be a table of keys"),
    "age_as_text": (card("training.age_min", "19"), 65, r"training\.age_min is 19; it must be an age"),
    "age_of_months": (card("training.age_max", 660.0), 65, r"training\.age_max is 660"),
    "age_mean_outside": (card("training.age_mean", 80.0), 65, "between age_min and age_max"),
    "contrast_upside_down": (card("training.intensity", {"median_min": 0.7, "median_max": 0.6}), 65, "median_min"),
    "salt_number": (card("salt", 7), 65, "salt is 7; it must be text"),
    # --- the volume
    "shape_negative": (card(SPEC + "shape", [-48, 57, 48]), 65, r"volume_spec\.shape is \[-48, 57, 48\]"),
    "shape_zero": (card(SPEC + "shape", [0, 57, 48]), 65, r"volume_spec\.shape is \[0"),
    "shape_huge": (card(SPEC + "shape", [48000, 57000, 48000]), 65, r"volume_spec\.shape"),
    "shape_large": (card(SPEC + "shape", [480, 570, 480]), 65, "50 to 500 mm along each axis"),
    "shape_text": (card(SPEC + "shape", "48x57x48"), 65, r"volume_spec\.shape is 48x57x48"),
    "shape_fractions": (card(SPEC + "shape", [48.0, 57.0, 48.0]), 65, r"volume_spec\.shape"),
    "shape_of_two": (card(SPEC + "shape", [48, 57]), 65, "three positive numbers"),
    "shape_true": (card(SPEC + "shape", [True, True, True]), 65, r"volume_spec\.shape"),
    "shape_of_another_recipe": (card(SPEC + "shape", [48, 57, 47]), 65, r"it must be \[48, 57, 48\], as the recipe"),
    "resolution_zero": (card(SPEC + "resolution", 0), 65, r"volume_spec\.resolution is 0"),
    "resolution_negative": (card(SPEC + "resolution", -4.0), 65, r"volume_spec\.resolution is -4"),
    "resolution_text": (card(SPEC + "resolution", "4 mm"), 65, r"volume_spec\.resolution is 4 mm"),
    "resolution_of_both": (card(SPEC + "resolution", 1e-9, RECIPE + "resolution", 1e-9), 65, "voxel size"),
    "origin_far": (card(SPEC + "origin", [9000.0, 0.0, 0.0]), 65, r"volume_spec\.origin"),
    "origin_beside": (card(SPEC + "origin", [96.0, -132.0, -78.0]), 65, "holds the point 0, 0, 0"),
    "origin_of_two": (card(SPEC + "origin", [1.0, 2.0]), 65, r"volume_spec\.origin"),
    "affine_beside": (card(SPEC + "affine", [[0.0] * 4] * 4), 65, r"volume_spec\.affine .*left out"),
    "intensity_unknown": (card(SPEC + "intensity", "whitestripe"), 65, "minmax or zscore"),
    "intensity_of_another_recipe": (card(SPEC + "intensity", "zscore"), 65, "it must be minmax, as the recipe"),
    "spec_version_newer": (card(SPEC + "version", 9), 65, r"volume_spec\.version is 9"),
    "box_beyond_the_grid": (card(SPEC + "box", [[4, 48], [5, 53], [1, 41]]), 65, "in this order and within"),
    "box_upside_down": (card(SPEC + "box", [[44, 4], [5, 53], [1, 41]]), 65, "in this order and within"),
    "box_of_two": (card(SPEC + "box", [[4, 44], [5, 53]]), 65, "first and last voxel along each of the three axes"),
    "box_negative": (card(SPEC + "box", [[-4, 44], [5, 53], [1, 41]]), 65, "first and last voxel along each"),
    "box_beside_the_brain": (card(SPEC + "box", [[0, 20], [5, 53], [1, 41]]), 65, "holds the point 0, 0, 0"),
    "box_thin": (card(SPEC + "box", [[20, 26], [5, 53], [1, 41]]), 65, "50 to 500 mm along each axis"),
    "box_of_another_recipe": (card(SPEC + "box", [[5, 44], [6, 53], [1, 40]]), 65, "must be left out, as the recipe"),
    "box_of_the_recipe_alone": (card(RECIPE + "crop", "brain"), 65, r"volume_spec\.box is None; it must be \[\[6, 42"),
    "template_path": (card(SPEC + "template", "../../elsewhere"), 65, r"volume_spec\.template is \.\./"),
    "template_unknown": (card(SPEC + "template", "Nowhere", RECIPE + "template", "Nowhere"), 64, "template Nowhere"),
    "template_changed": (card(SPEC + "template_sha", "0" * 12, RECIPE + "template_sha", "0" * 12), 64, "0{12}"),
    "template_sha_number": (card(SPEC + "template_sha", 3), 65, "12 hexadecimal digits"),
    # --- the recipe
    "recipe_list": (card("recipe", []), 65, "recipe is"),
    "recipe_unknown_method": (card("recipe.method", "forest"), 65, r"recipe\.method is forest"),
    "recipe_unknown_key": (card("recipe.ridge.strength", 1), 65, "'strength' is unknown"),
    "recipe_of_a_giant": (card(*NETWORK, "recipe.network.width", 10**9), 65, r"width is 1000000000"),
    "recipe_of_another_network": (card(*NETWORK), 65, "tensor"),
    "recipe_of_a_large_network": (
        card(*NETWORK, "recipe.network.width", 1024, "recipe.network.depth", 101), 65, "tensor",
    ),
    # --- members
    "members_none": (card("members", []), 65, "members is"),
    "members_table": (card("members", {"fold-1": {}}), 65, "members is"),
    "members_text": (card("members", ["fold-1"]), 65, "members is"),
    "member_twice": (card("members", [MEMBER, MEMBER]), 65, "members of different names"),
    "member_more": (card("members.0", MEMBER, "members.1.name", "extra"), 65, r"lacks the tensor extra\."),
    "member_fewer": (card("members", [MEMBER | {"fold": None}], "calibration", []), 65, r"does not ask for"),
    "member_name_with_dot": (card("members.0.name", "a.b"), 65, r"members\[0\]\.name is a\.b"),
    "member_name_number": (card("members.0.name", 1), 65, r"members\[0\]\.name is 1"),
    "member_folds_alike": (card("members.1.fold", 1), 65, "as many members for each fold"),
    "member_fold_missing": (card("members.1.fold", None), 65, "as many members for each fold"),
    "member_hashes_text": (card("members.0.training_participants", "all"), 65, "training_participants is all"),
    "member_hashes_labels": (card("members.0.training_participants", ["sub-01"]), 65, "a list of hashes"),
    # --- calibration
    "calibration_text": (card("calibration", "none"), 65, "calibration is none"),
    "calibration_without_age": (card("calibration", [{"predicted_age": 3.0, "fold": 1}]), 65, "calibration is"),
    "calibration_null": (card("calibration", [CALIBRATED | {"predicted_age": None}]), 65, "calibration is"),
    "calibration_absurd": (card("calibration", [CALIBRATED | {"predicted_age": 1e60}]), 65, "calibration is"),
    "calibration_of_another_fold": (card("calibration", [CALIBRATED | {"fold": 9}]), 65, "calibration is of fold 9"),
    "stride_of_another_network": (card("architecture.total_stride", 8), 65, r"total_stride is 8, .* has 1"),
    "stride_negative": (card("architecture.total_stride", -1), 65, r"architecture\.total_stride is -1"),
    # --- the weights
    "weights_gone": (unlink("weights.safetensors"), 66, "weights.safetensors is not there"),
    "weights_empty": (file(b""), 65, "no whole safetensors file"),
    "weights_folder": (file(None), 66, "weights.safetensors"),
    "weights_text": (file(b"no weights"), 65, "no whole safetensors file"),
    "weights_cut_short": (file(lambda all_: all_[: len(all_) // 2]), 65, "no whole safetensors file"),
    "weights_pickled": (pickled, 65, "no whole safetensors file"),
    "weights_pointer": (file(b"version https://git-lfs.github.com/spec/v1\n"), 66, "git LFS pointer"),
    "weights_nan": (one(float("nan")), 65, r"fold-3\.weight holds numbers that are not finite"),
    "weights_inf": (one(float("inf")), 65, r"fold-3\.weight holds numbers that are not finite"),
    "weights_1e30": (all_of(1e30), 65, r"an age of (-?\d.*e\+\d+|inf|nan) years"),
    "weights_thousandfold": (times(1000), 65, "an age of .* years"),
    "weights_half": (kinds(torch.float16), 65, "type torch.float16"),
    "weights_double": (kinds(torch.float64), 65, "type torch.float64"),
    "weights_whole_numbers": (kinds(torch.int32), 65, "type torch.int32"),
    "weights_of_another_grid": (
        weights(lambda tensors: tensors.update({"fold-2.weight": torch.zeros(48, 57, 47)})), 65, r"\(48, 57, 47\)",
    ),
    "weights_lack_a_tensor": (drop("fold-2.head.bias"), 65, r"lacks the tensor fold-2\.head\.bias"),
    "weights_lack_a_member": (
        weights(lambda tensors: [tensors.pop(k) for k in list(tensors) if k[:6] == "fold-5"]), 65, r"lacks .*fold-5"
    ),
    "weights_hold_more": (add("fold-2.spare", 3), 65, r"does not ask for, fold-2\.spare"),
    "weights_hold_a_member_more": (add("fold-9.weight", 48, 57, 48), 65, r"does not ask for, fold-9\.weight"),
}  # fmt: skip
