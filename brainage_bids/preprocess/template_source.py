"""Find a template: the embedded one, a file, or TemplateFlow (with its client and local cache).

The client is an optional package, imported only when needed.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from types import ModuleType

from brainage_bids.bids.outputs import Outputs
from brainage_bids.errors import UsageError
from brainage_bids.preprocess.template import Template, is_kept, load_template, read_template
from brainage_bids.schema import DEFAULT_TEMPLATE, VolumeSpec

_RES = re.compile(r"_res-(\d+)(?=_|$)")


def find_template(wanted: str) -> Template:
    """Return the template given to ``--template``.

    Parameters
    ----------
    wanted
        The name of the embedded template, the path of a T1w image (``.nii``, ``.nii.gz``), or a TemplateFlow name.

    Raises
    ------
    UsageError
        When it is not available, or is not an adult brain inside the grid of the volumes.
    """
    if wanted == DEFAULT_TEMPLATE:
        return load_template()
    if is_path(wanted):
        return from_file(Path(wanted))
    return from_templateflow(wanted)


def is_path(wanted: str) -> bool:
    """Return whether the value of ``--template`` is a file, not a name."""
    return wanted.endswith((".nii", ".nii.gz")) or os.sep in wanted


def template_for(spec: VolumeSpec, root: Path, model: Path | None = None) -> Template:
    """Return the template of a model's spec: from OUTPUT_DIR, from beside the model, or from TemplateFlow.

    Parameters
    ----------
    spec
        The spec of the model.
    root
        OUTPUT_DIR.
    model
        Folder of the model; if it was trained in another OUTPUT_DIR, the template is there.

    Raises
    ------
    UsageError
        When it is not found, or has another content than in training.
    """
    homes = [root, *([model.parent.parent] if model else [])]
    home = next((home for home in homes if is_kept(spec.template, Outputs(home))), None)
    if spec.template == DEFAULT_TEMPLATE or home is not None:
        template = load_template(spec.template, home)
    else:
        try:
            template = from_templateflow(spec.template)
        except UsageError as error:
            raise UsageError(
                f"the model needs the template {spec.template}, which is neither kept in {root} nor beside the model "
                f"({error}); give its file with --template PATH"
            ) from error
    if template.sha != spec.template_sha:
        raise UsageError(
            f"the model was trained on the template {spec.template} with content {spec.template_sha}, but the one "
            f"found here has {template.sha}; give the right file with --template PATH and a new OUTPUT_DIR"
        )
    return template


def from_file(path: Path) -> Template:
    """Return the template of a T1w image; its mask is ``X_desc-brain_mask.nii[.gz]`` beside ``X[_desc-brain]_T1w``.

    Without a mask the image must be skull-stripped. The label is the ``tpl-`` entity of the file name, else the letters
    and digits of the file name.

    Raises
    ------
    UsageError
        When there is no such file, its name gives no usable label, or it is not an adult brain inside the grid.
    """
    if not path.is_file():
        raise UsageError(
            f"--template {path} is not a file; give a T1w image (.nii, .nii.gz) or a name that TemplateFlow knows"
        )
    path = path.resolve()
    stem = _stem(path)
    labelled = re.search(r"(?:^|_)tpl-([0-9A-Za-z]+)", stem)
    label = labelled[1] if labelled else re.sub(r"[^0-9A-Za-z]", "", re.sub(r"_T1w$", "", stem))
    if not label:
        raise UsageError(f"--template {path} has no letter or digit in its name to call the space by; rename it")
    if label == DEFAULT_TEMPLATE:
        raise UsageError(
            f"--template {path} is called like the embedded template {DEFAULT_TEMPLATE}; leave --template out to use "
            "that one, or rename the file"
        )
    base = re.sub(r"(_desc-brain)?_T1w$", "", stem)
    masks = (path.with_name(f"{base}_desc-brain_mask{ending}") for ending in (".nii.gz", ".nii"))
    return read_template(path, next((mask for mask in masks if mask.is_file()), None), label)


def from_templateflow(name: str) -> Template:
    """Return a template from TemplateFlow: its T1w image and brain mask, ``res-1`` if there is one.

    Raises
    ------
    UsageError
        When the client is not installed, the name is unknown, the template has no T1w image with a brain mask, or its
        files are not in the cache and cannot be fetched.
    """
    api = _client(name)
    image, mask = _files(api, name)
    return read_template(image, mask, name)


def _client(name: str) -> ModuleType:
    try:
        from templateflow import api
    except ImportError as error:
        raise UsageError(
            f"the template {name!r} has to come from TemplateFlow, whose client is not installed: "
            "pip install templateflow"
        ) from error
    except OSError as error:  # the client creates its cache when imported
        raise UsageError(
            f"the cache of TemplateFlow cannot be used ({error}); set TEMPLATEFLOW_HOME to a folder that can be written"
        ) from error
    return api


def _files(api: ModuleType, name: str) -> tuple[Path, Path]:
    """Return the T1w image and the brain mask of a template, fetched if they were not in the cache."""
    images = {_stem(path).removesuffix("_T1w"): path for path in _listed(api, name, suffix="T1w", desc=None)}
    masks = {
        _stem(path).removesuffix("_desc-brain_mask"): path for path in _listed(api, name, suffix="mask", desc="brain")
    }
    both = [base for base in images if base in masks]
    if not both:
        known = api.templates()
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        fault = "has no T1w image with a brain mask" if name in known else "is not known to TemplateFlow"
        raise UsageError(
            f"the template {name!r} {fault}; the nearest names: {', '.join(near or known[:5])}; "
            "or give your own file with --template PATH"
        )
    if any("_cohort-" in base for base in both):
        raise UsageError(
            f"the template {name!r} has a T1w image for each of several cohorts; fetch the one you want and give its "
            "file with --template PATH"
        )
    best = min(both, key=_res)
    _fetch(api, name, best, (images[best], masks[best]))
    return images[best], masks[best]


def _listed(api: ModuleType, name: str, **query: str | None) -> list[Path]:
    return [path for path in api.ls(name, **query) if path.name.endswith((".nii", ".nii.gz"))]


def _res(base: str) -> int:
    """Return the number of ``res-``, 0 without one; in TemplateFlow ``res-1`` is usually the grid of 1 mm."""
    match = _RES.search(base)
    return int(match[1]) if match else 0


def _fetch(api: ModuleType, name: str, base: str, files: tuple[Path, Path]) -> None:
    match = _RES.search(base)
    res = int(match[1]) if match else None
    queries = ({"suffix": "T1w", "desc": None}, {"suffix": "mask", "desc": "brain"})
    for path, query in zip(files, queries, strict=True):
        if path.is_file() and path.stat().st_size > 0:
            continue
        try:
            api.get(name, resolution=res, **query)
        except (OSError, RuntimeError) as error:
            calls = "; ".join(
                f"get({name!r}, resolution={res}, suffix={q['suffix']!r}, desc={q['desc']!r})" for q in queries
            )
            raise UsageError(
                f"{path.name} is not in the cache of TemplateFlow and cannot be fetched ({_short(error)}); on a "
                f'machine with network run python -c "from templateflow.api import get; {calls}" and set '
                f"TEMPLATEFLOW_HOME to its cache (here: {path.parent.parent})"
            ) from error


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else type(error).__name__


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
