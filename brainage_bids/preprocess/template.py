"""The template brain that scans are registered to: ICBM 2009a symmetric T1, carried by nilearn.

Its own grid (197 x 233 x 189) is not the grid of the output; that one is ``VolumeSpec``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.ndimage as ndi

from brainage_bids.errors import UsageError
from brainage_bids.schema import DEFAULT_TEMPLATE, VolumeSpec


@dataclass(frozen=True)
class Template:
    """A skull-stripped template: ``data`` float32 (0-1), ``mask`` bool, ``affine`` voxel to world (mm, RAS+)."""

    name: str
    data: np.ndarray
    mask: np.ndarray
    affine: np.ndarray


@lru_cache(maxsize=1)
def load_template(name: str = DEFAULT_TEMPLATE) -> Template:
    """Return the template called ``name``; treat its arrays as read-only.

    Raises
    ------
    UsageError
        For any template other than the embedded one.
    """
    check_template(name)
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    data = np.asarray(image.dataobj, dtype=np.float32)
    mask = ndi.binary_fill_holes(data > 0.05 * data.max())
    data.setflags(write=False)
    return Template(name, data, mask, np.asarray(image.affine, dtype=np.float64))


def check_template(name: str) -> None:
    """Raise when the builtin engine does not carry the template ``name``."""
    if name != DEFAULT_TEMPLATE:
        raise UsageError(f"the builtin engine has no template {name!r}; use {DEFAULT_TEMPLATE}, which it carries")


@lru_cache(maxsize=4)
def template_volume(spec: VolumeSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the template's T1 (float32, 0-1) and brain mask (bool) on the grid of ``spec``; both are read-only."""
    from brainage_bids.preprocess.resample import mask_to_grid, to_grid

    template = load_template(spec.template)
    identity = np.eye(4)
    inside = mask_to_grid(template.mask, template.affine, identity, spec)
    values = np.clip(to_grid(template.data, template.affine, identity, spec, 3), 0, None) * inside
    values = (values / values.max()).astype(np.float32)
    values.setflags(write=False)
    inside.setflags(write=False)
    return values, inside
