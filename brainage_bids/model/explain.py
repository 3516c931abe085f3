"""Grad-RAM: how many years each cell of the last stage adds to the predicted age.

The map is signed and in years; what is shown or averaged (rectified, scaled to [0, 1]) is derived from it elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from brainage_bids.bids.files import atomic
from brainage_bids.model.network import BrainNetwork


def gradram(model: BrainNetwork, volume: np.ndarray | Tensor) -> tuple[float, np.ndarray]:
    """Return the predicted age and the signed Grad-RAM map of one volume.

    With global average pooling and one linear layer the gradient of the age with respect to activation A_k is the
    constant w_k / Z, so the gradient-weighted sum (Selvaraju et al. 2017, equations 1-2, without the final ReLU)
    needs no backward pass: ``map = sum_k w_k A_k / Z``, and ``map.sum() + bias`` is the age.

    Parameters
    ----------
    model
        Network in evaluation mode.
    volume
        ``(D, H, W)`` on the grid the model was trained for, RAS+.

    Returns
    -------
    age
        Years.
    map
        Years per cell, float32 ``(d, h, w)`` on the grid of the last stage (see `map_affine`).

    Raises
    ------
    ValueError
        When the model is in training mode (ages would depend on batch statistics) or the volume is not 3D.
    """
    if model.training:
        raise ValueError("Grad-RAM needs the model in evaluation mode: call model.eval() first")
    x = torch.as_tensor(volume)
    if x.ndim != 3:
        raise ValueError(f"Grad-RAM takes one volume (D, H, W), not shape {tuple(x.shape)}")
    x = x[None, None].to(model.head.weight)  # (1, 1, D, H, W)
    # in full float32 a GPU gives the ages of the CPU to a millionth; its default for convolutions is a shorter format
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        activations = model.last_stage(x)[0].double()  # (F, d, h, w)
        weights = model.head.weight[0].double()  # (F,)
        cells = torch.einsum("k,kxyz->xyz", weights, activations) / activations[0].numel()  # (d, h, w)
        age = model.head.bias.double() + cells.sum()
    return float(age), cells.float().cpu().numpy()


def map_affine(model: BrainNetwork, image_affine: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Return the 4 x 4 voxel-to-world matrix (mm) of a Grad-RAM map.

    ``image_affine`` is that of what the network reads: of the box, where it reads one (`VolumeSpec.cropped`).
    Cell k is centred on input voxel ``s * k + o``, s the total stride and o the offset (0 for a ResNet); interpolating
    by array size instead misplaces cells by up to 13 mm.
    """
    to_voxel = np.diag([*[float(model.total_stride)] * 3, 1.0])
    to_voxel[:3, 3] = model.cell_offset
    return np.asarray(image_affine, dtype=float) @ to_voxel


def write_map(path: str | Path, cells: np.ndarray, affine: np.ndarray) -> Path:
    """Write a map atomically as float32 NIfTI with its own affine (mm, template space)."""
    image = nib.Nifti1Image(np.asarray(cells, dtype=np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    with atomic(path) as temporary:
        nib.save(image, temporary)
    return Path(path)
