"""The fsl engine: BET finds the brain, N4 (SimpleITK) corrects the bias field, FLIRT registers with 12 parameters.

This module builds the nodes and reads FLIRT's matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nipype import Workflow
from nipype.interfaces.fsl import BET, FLIRT

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import brain, steps
from brainage_bids.preprocess.engines import engine_files
from brainage_bids.preprocess.interfaces import ScanNode, Step, ToolNode
from brainage_bids.preprocess.job import Job

PROGRAMS = ("bet", "flirt")
DOF = 12
COST = "normcorr"  # both images are T1w; the quality gates measure the same thing
ROBUST = True  # BET repeats its estimate of the brain's centre, which a neck would otherwise pull down
MEMORY_GB = {"bet": 1.0, "n4": 1.5, "flirt": 1.0, "finish": 1.9}


def add_scan(workflow: Workflow, job: Job, name: Callable[[str], str]) -> None:
    """Add the nodes of one scan: read, bet, n4, one flirt per template, finish. See `choose.add_scan`."""
    folder = job.folder
    read = ScanNode(job, Step(job, "read", engine_files.read_head, (), ("head",)), name("read"), mem_gb=0.5)
    bet = BET(
        robust=ROBUST, mask=True, out_file=str(folder / "bet.nii.gz"), output_type="NIFTI_GZ"
    )  # -n (no brain image) cannot be combined with -R, which needs it
    found = ToolNode(job, bet, name("bet"), "bet", mem_gb=MEMORY_GB["bet"])
    workflow.connect(read, "head", found, "in_file")
    kinds, matrices = engine_files.names(job, "template"), engine_files.names(job, "matrix")
    correct = Step(job, "n4", correct_field, ("mask",), ("brain", *kinds))
    corrected = ScanNode(job, correct, name("n4"), mem_gb=MEMORY_GB["n4"])
    workflow.connect(found, "mask_file", corrected, "mask")
    last = ScanNode(job, Step(job, None, finish, matrices), name("finish"), mem_gb=MEMORY_GB["finish"])
    for k, (kind, matrix) in enumerate(zip(kinds, matrices, strict=True)):
        flirt = FLIRT(
            dof=DOF,
            cost=COST,
            cost_func=COST,
            out_matrix_file=str(folder / f"flirt{k}.mat"),
            out_file=str(folder / f"flirt{k}.nii.gz"),
            output_type="NIFTI_GZ",
        )
        fit = ToolNode(job, flirt, name(f"flirt{k}"), "flirt", mem_gb=MEMORY_GB["flirt"])
        workflow.connect(corrected, "brain", fit, "in_file")
        workflow.connect(corrected, kind, fit, "reference")
        workflow.connect(fit, "out_matrix_file", last, matrix)


def correct_field(job: Job, mask: str) -> dict[str, str]:
    """Correct the bias field inside BET's mask and write the brain and the templates for FLIRT."""
    native = engine_files.kept_head(job)
    inside = engine_files.mask_of(engine_files.load(mask), native.data.shape, "bet")
    data = brain.n4(brain.lift_negative(native.data, inside)[0], inside, native.zooms)
    paths = engine_files.cut(job, native, inside, "fsl bet", data)
    return engine_files.strip(job, paths["corrected"])


def finish(job: Job, **matrices: str) -> None:
    """Read FLIRT's matrices and make the volumes, as every engine does."""
    with job.step("collect"):
        moving = nib.load(job.folder / engine_files.BRAIN)
        to_box = []
        for kind, matrix in zip(engine_files.names(job, "template"), engine_files.names(job, "matrix"), strict=True):
            fixed = nib.load(job.folder / f"{kind}.nii.gz")
            flirt = read_matrix(Path(matrices[matrix]))
            to_box.append(np.linalg.inv(world_matrix(flirt, moving.affine, moving.shape, fixed.affine, fixed.shape)))
        corrected = engine_files.gathered(job, str(job.folder / engine_files.CORRECTED))
        fits = engine_files.fits_of(job, corrected, to_box)
    steps.finish(job, corrected, fits, software={"FSL": version()})


def version() -> str:
    """Return the version of FSL, or ``unknown``."""
    from nipype.interfaces.fsl import Info

    return str(Info.version() or "unknown")


def read_matrix(path: Path) -> np.ndarray:
    """Return FLIRT's matrix (4 x 4): scaled voxels of the input to scaled voxels of the reference.

    Raises
    ------
    BadDataError
        When the file does not hold such a matrix.
    """
    try:
        matrix = np.array([line.split() for line in path.read_text().splitlines()], dtype=float)
    except (OSError, ValueError) as error:
        raise BadDataError(f"{path.name} holds no FLIRT matrix ({error}); look at the scan and exclude it") from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        raise BadDataError(f"{path.name} holds no usable FLIRT matrix; look at the scan and exclude it")
    return matrix


def world_matrix(
    flirt: np.ndarray,
    moving_affine: np.ndarray,
    moving_shape: Sequence[int],
    fixed_affine: np.ndarray,
    fixed_shape: Sequence[int],
) -> np.ndarray:
    """Return input world to reference world (4 x 4, mm) for a matrix of FLIRT.

    FLIRT's own coordinates are voxel numbers times the voxel size. If the determinant of an image's affine is positive
    ("neurological" storage), its first axis is counted from the other end (M. Jenkinson, FSL mailing list,
    27 July 2009, https://www.jiscmail.ac.uk/cgi-bin/wa-jisc.exe?A2=FSL;ind0907).

    Parameters
    ----------
    flirt
        4 x 4, from ``-omat``.
    moving_affine, fixed_affine
        4 x 4, voxel to world of the input and of the reference.
    moving_shape, fixed_shape
        Their numbers of voxels.
    """
    to_moving = _to_fsl(moving_affine, moving_shape) @ np.linalg.inv(moving_affine)
    from_fixed = fixed_affine @ np.linalg.inv(_to_fsl(fixed_affine, fixed_shape))
    return from_fixed @ flirt @ to_moving


def _to_fsl(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the matrix (4 x 4) from voxels to FSL's scaled voxels."""
    zooms = voxel_sizes(affine)
    scaled = np.diag([*zooms, 1.0])
    if np.linalg.det(affine[:3, :3]) > 0:
        swap = np.diag([-1.0, 1.0, 1.0, 1.0])
        swap[0, 3] = shape[0] - 1
        scaled = scaled @ swap
    return scaled
