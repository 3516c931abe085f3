"""The ants engine: deepbet finds the brain, N4BiasFieldCorrection and antsRegistration do the rest.

ANTs' own brain extraction needs a whole-head template with priors that cannot be distributed, so deepbet makes the
mask. If the ANTs programs are not on PATH, antspyx runs the same command lines. This module only builds nodes.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
import SimpleITK as sitk
from nibabel.affines import voxel_sizes
from nipype import Workflow
from nipype.interfaces.ants import N4BiasFieldCorrection, Registration
from nipype.interfaces.ants.base import ANTSCommand, Info

from brainage_bids.devices import CPU, pick_device
from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import steps
from brainage_bids.preprocess.brain import N4_ITERATIONS, N4_TOLERANCE, brain_mask
from brainage_bids.preprocess.engines import antspyx_program, engine_files
from brainage_bids.preprocess.intake import read_scan
from brainage_bids.preprocess.interfaces import ScanNode, Step, ToolNode
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.template import Template

PROGRAMS = ("N4BiasFieldCorrection", "antsRegistration")
SEED = 1  # for the sample of points drawn by ANTs
STAGES = ("Rigid", "Affine")
METRIC, SAMPLING, SHARE = "GC", "Regular", 0.25  # global correlation, on a quarter of the voxels
ITERATIONS, SHRINK, SIGMAS = (1000, 500, 250), (8, 4, 2), (3, 2, 1)  # coarse to fine, template voxels
RIM_MM = 3.0  # margin around the template's brain, so that both sides of its surface are compared
MEMORY_GB = {"brain": 1.9, "n4": 1.0, "register": 1.5, "finish": 1.9}


def add_scan(workflow: Workflow, job: Job, name: Callable[[str], str]) -> None:
    """Add the nodes of one scan: brain, n4, strip, one register per template, finish. See `choose.add_scan`."""
    folder, templates = job.folder, engine_files.names(job, "template")
    regions, transforms = engine_files.names(job, "region"), engine_files.names(job, "transform")
    find = Step(job, "brain", find_brain, (), ("head", "mask", "shrink"))
    found = ScanNode(job, find, name("brain"), mem_gb=MEMORY_GB["brain"], n_procs=job.threads)
    n4 = N4BiasFieldCorrection(
        dimension=3,
        n_iterations=list(N4_ITERATIONS),
        convergence_threshold=N4_TOLERANCE,
        output_image=str(folder / engine_files.CORRECTED),
    )
    corrected = ToolNode(job, runnable(n4), name("n4"), "n4", mem_gb=MEMORY_GB["n4"])
    for given, wanted in (("head", "input_image"), ("mask", "mask_image"), ("shrink", "shrink_factor")):
        workflow.connect(found, given, corrected, wanted)
    strip = Step(job, "strip", strip_brain, ("corrected",), ("brain", *templates, *regions))
    stripped = ScanNode(job, strip, name("strip"), mem_gb=0.5)
    workflow.connect(corrected, "output_image", stripped, "corrected")
    last = ScanNode(job, Step(job, None, finish, transforms), name("finish"), mem_gb=MEMORY_GB["finish"])
    for k, (template, region, transform) in enumerate(zip(templates, regions, transforms, strict=True)):
        register = runnable(registration(str(folder / f"ants{k}_")))
        fit = ToolNode(job, register, name(f"register{k}"), "register", mem_gb=MEMORY_GB["register"])
        workflow.connect(stripped, "brain", fit, "moving_image")
        workflow.connect(stripped, template, fit, "fixed_image")
        workflow.connect(stripped, region, fit, "fixed_image_masks")
        workflow.connect(fit, "forward_transforms", last, transform)


def has_programs() -> bool:
    """Return whether the ANTs programs are on PATH; they are preferred to antspyx."""
    return all(shutil.which(program) for program in PROGRAMS)


def runnable(interface: ANTSCommand) -> ANTSCommand:
    """Set an interface to one thread, and to antspyx if the ANTs programs are missing; return it."""
    interface.inputs.environ = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "NSLOTS": "1"}
    if not has_programs():
        interface._cmd_prefix = f"{shlex.quote(sys.executable)} -m {antspyx_program.__name__} "
    return interface


def registration(prefix: str) -> Registration:
    """Return the settings of antsRegistration: centres of mass, then rigid, then affine, by global correlation.

    The result depends on threads, seed and sample: use one thread, a fixed seed and a regular sample.
    """
    each = len(STAGES)
    return Registration(
        dimension=3,
        float=False,
        random_seed=SEED,
        initial_moving_transform_com=1,
        transforms=list(STAGES),
        transform_parameters=[(0.1,)] * each,
        metric=[METRIC] * each,
        metric_weight=[1.0] * each,
        radius_or_number_of_bins=[1] * each,  # not used by a correlation, but required
        sampling_strategy=[SAMPLING] * each,
        sampling_percentage=[SHARE] * each,
        number_of_iterations=[list(ITERATIONS)] * each,
        convergence_threshold=[1e-6] * each,
        convergence_window_size=[10] * each,
        shrink_factors=[list(SHRINK)] * each,
        smoothing_sigmas=[list(SIGMAS)] * each,
        sigma_units=["vox"] * each,
        use_histogram_matching=False,
        collapse_output_transforms=True,
        output_transform_prefix=prefix,
    )


def find_brain(job: Job) -> dict[str, object]:
    """Read the scan, find its brain with deepbet and write the box of the brain for the programs."""
    from brainage_bids.preprocess.affine import set_threads

    native = read_scan(job.scan.path, job.scan.second_inversion)
    former = set_threads(job.threads)
    try:
        mask, source = brain_mask(native, pick_device(job.device).type != CPU)
    finally:
        set_threads(former)
    engine_files.keep_head(job, native)
    return engine_files.cut(job, native, mask, source)


def strip_brain(job: Job, corrected: str) -> dict[str, str]:
    """Write the brain, the templates, and for each a region of comparison (``region<k>``); return their paths."""
    paths = engine_files.strip(job, corrected)
    for template, region in zip(engine_files.templates(job), engine_files.names(job, "region"), strict=True):
        paths[region] = save_region(job.folder / f"{region}.nii.gz", template)
    return paths


def save_region(path: Path, template: Template) -> str:
    """Write the region where a brain is compared with a template, on the box of its brain; return the path.

    With the whole box, the zeros around the brain would count too, and brains would become too large.
    """
    zooms = voxel_sizes(template.affine)
    box, affine = engine_files.boxed(template.mask, template.affine)
    near = ndi.distance_transform_edt(~template.mask[box], sampling=zooms) <= RIM_MM
    return engine_files.save(path, near.astype(np.uint8), affine)


def finish(job: Job, **transforms: list[str]) -> None:
    """Read the transforms of antsRegistration and make the volumes, as every engine does."""
    with job.step("collect"):
        # both stages are collapsed into one affine
        matrices = [read_transform(Path(transforms[name][0])) for name in engine_files.names(job, "transform")]
        corrected = engine_files.gathered(job, str(job.folder / engine_files.CORRECTED))
        fits = engine_files.fits_of(job, corrected, matrices)
    steps.finish(job, corrected, fits, str(pick_device(job.device)), software())


def software() -> dict[str, str]:
    """Return name and version of ANTs or antspyx."""
    if has_programs():
        return {"ANTs": str(Info.version() or "unknown")}
    return {"antspyx": importlib.metadata.version("antspyx")}


def read_transform(path: Path) -> np.ndarray:
    """Return ITK's affine transform file as 4 x 4 on RAS+ mm: points of the fixed image to points of the moving one.

    Raises
    ------
    BadDataError
        When the file does not hold one affine transform.
    """
    try:
        transform = sitk.ReadTransform(str(path))
        transform = sitk.AffineTransform(transform)
    except RuntimeError as error:
        raise BadDataError(f"{path.name} holds no affine transform; look at the scan and exclude it") from error
    matrix, centre = np.eye(4), np.asarray(transform.GetCenter())
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS+ to RAS+
    return flip @ matrix @ flip
