"""The minc engine, with the programs of the paper: mincbeast (brain mask), bestlinreg (registration), mincresample.

The bias field is corrected by N4 (SimpleITK). BEaST needs the head in stereotaxic space: beast_normalize brings it
there, and the mask is mapped back by the inverse. This module builds the nodes and reads ``.xfm`` files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.ndimage as ndi
from nipype import Workflow
from nipype.interfaces.base import CommandLine, CommandLineInputSpec, File, TraitedSpec
from nipype.interfaces.minc import Beast, BestLinReg, Resample

from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.preprocess import brain, steps
from brainage_bids.preprocess.engines import engine_files
from brainage_bids.preprocess.interfaces import ScanNode, Step, ToolNode
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.resample import FWHM
from brainage_bids.schema import VolumeSpec

DATA = {  # environment variable: folder below $MINC_TOOLKIT/share, a file it must hold
    "MINC_BEAST_LIBRARY": ("beast-library-1.1", "default.2mm.conf"),
    "MINC_BEAST_MODEL": ("icbm152_model_09c", "."),
}
SMALL = {"MINC_FORCE_V2": "1", "MINC_COMPRESS": "4"}  # MINC 2 files, compressed where possible
MEMORY_GB = {"convert": 0.3, "normalize": 1.0, "beast": 2.5, "n4": 1.5, "fit": 1.0, "resample": 0.5, "finish": 1.9}
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class _ConvertInput(CommandLineInputSpec):
    in_file = File(exists=True, mandatory=True, argstr="%s", position=-2)
    out_file = File(mandatory=True, argstr="%s", position=-1)


class _ConvertOutput(TraitedSpec):
    out_file = File(exists=True)


class Convert(CommandLine):
    """Run ``nii2mnc`` or ``mnc2nii``, for which nipype has no interfaces."""

    input_spec = _ConvertInput
    output_spec = _ConvertOutput

    def _list_outputs(self) -> dict[str, str]:
        return {"out_file": self.inputs.out_file}


class _NormalizeInput(CommandLineInputSpec):
    model_dir = File(mandatory=True, argstr="-modeldir %s", position=0)
    in_file = File(exists=True, mandatory=True, argstr="%s", position=1)
    out_file = File(mandatory=True, argstr="%s", position=2)
    out_xfm = File(mandatory=True, argstr="%s", position=3)


class _NormalizeOutput(TraitedSpec):
    out_file = File(exists=True)
    out_xfm = File(exists=True)


class Normalize(CommandLine):
    """Run ``beast_normalize`` of mincbeast: bring intensities and position to those of its library."""

    _cmd = "beast_normalize"
    input_spec = _NormalizeInput
    output_spec = _NormalizeOutput

    def _list_outputs(self) -> dict[str, str]:
        return {"out_file": self.inputs.out_file, "out_xfm": self.inputs.out_xfm}


def data_folder(variable: str) -> Path:
    """Return the folder in an environment variable, or the default folder of the minc-toolkit."""
    toolkit = Path(os.environ.get("MINC_TOOLKIT", "/opt/minc"))
    return Path(os.environ.get(variable) or toolkit / "share" / DATA[variable][0])


def check_data() -> None:
    """Check that BEaST's library and model are there.

    Raises
    ------
    UsageError
        When one is missing; names the folder and the environment variable.
    """
    for variable, (_, wanted) in DATA.items():
        if not (data_folder(variable) / wanted).exists():
            raise UsageError(
                f"--engine minc needs {data_folder(variable) / wanted}, which is not there; install the BEaST library "
                f"of the minc-toolkit, or say in {variable} where it is"
            )


def add_scan(workflow: Workflow, job: Job, name: Callable[[str], str]) -> None:
    """Add the nodes of one scan: BEaST, n4, one fit per template, one volume per grid. See `choose.add_scan`."""

    def tool(interface: CommandLine, step: str, kind: str, **given: tuple) -> ToolNode:
        interface.inputs.environ.update(SMALL)
        node = ToolNode(job, interface, name(step), kind, mem_gb=MEMORY_GB[kind])
        for wanted, (source, field) in given.items():
            workflow.connect(source, field, node, wanted)
        return node

    def to_minc(source: ScanNode, field: str, stem: str, args: str) -> tuple:
        target = str(job.folder / f"{stem}.mnc")
        node = Convert("nii2mnc", args=args, out_file=target)
        return tool(node, f"{stem}_mnc", "convert", in_file=(source, field)), "out_file"

    def to_nifti(source: tuple, stem: str) -> tuple:
        node = Convert("mnc2nii", args="-quiet -float -nii", out_file=str(job.folder / f"{stem}.nii"))
        return tool(node, f"{stem}_nii", "convert", in_file=source), "out_file"

    mask = to_nifti(_masked(job, tool, to_minc, name), "mask")
    kinds, matrices = engine_files.names(job, "template"), engine_files.names(job, "matrix")
    sources, grids = ([f"{word}{k}" for k in range(len(job.specs))] for word in ("source", "grid"))
    correct = Step(job, "n4", correct_field, ("mask",), ("brain", *kinds, *sources, *grids))
    corrected = ScanNode(job, correct, name("n4"), mem_gb=MEMORY_GB["n4"])
    workflow.connect(*mask, corrected, "mask")
    volumes = [f"volume{k}" for k in range(len(job.specs))]
    last = ScanNode(job, Step(job, None, finish, (*matrices, *volumes)), name("finish"), mem_gb=MEMORY_GB["finish"])
    moving = to_minc(corrected, "brain", "brain", "-quiet -float")
    fits = {}
    for template, kind, matrix in zip(_template_names(job), kinds, matrices, strict=True):
        fit = fitted(str(job.folder / f"{matrix}.xfm"), str(job.folder / f"{matrix}.mnc"))
        fixed = to_minc(corrected, kind, kind, "-quiet -short")
        fits[template] = tool(fit, matrix, "fit", source=moving, target=fixed)
        workflow.connect(fits[template], "output_xfm", last, matrix)
    for spec, source, grid, volume in zip(job.specs, sources, grids, volumes, strict=True):
        given = {
            "input_file": to_minc(corrected, source, source, "-quiet -float"),
            "like": to_minc(corrected, grid, grid, "-quiet -byte"),
            "transformation": (fits[spec.template], "output_xfm"),
        }
        made = tool(resampled(str(job.folder / f"{volume}.mnc")), volume, "resample", **given)
        workflow.connect(*to_nifti((made, "output_file"), volume), last, volume)


def _masked(job: Job, tool: Callable, to_minc: Callable, name: Callable) -> tuple:
    """Add the nodes from the scan to BEaST's mask on the scan's grid; return node and field of the mask."""
    folder = job.folder
    read = ScanNode(job, Step(job, "read", engine_files.read_head, (), ("head",)), name("read"), mem_gb=0.5)
    head = to_minc(read, "head", "T1w", "-quiet -short")
    written = {"out_file": str(folder / "stx.mnc"), "out_xfm": str(folder / "stx.xfm")}
    normalize = Normalize(model_dir=str(data_folder("MINC_BEAST_MODEL")), **written)
    stereotaxic = tool(normalize, "normalize", "normalize", in_file=head)
    inside = tool(beast(str(folder / "stx_mask.mnc")), "beast", "beast", input_file=(stereotaxic, "out_file"))
    back = Resample(
        nearest_neighbour_interpolation=True, invert_transformation=True, output_file=str(folder / "mask.mnc")
    )
    given = {"input_file": (inside, "output_file"), "transformation": (stereotaxic, "out_xfm"), "like": head}
    return tool(back, "mask", "resample", **given), "output_file"


def _template_names(job: Job) -> list[str]:
    return list(dict.fromkeys(spec.template for spec in job.specs))


def beast(mask: str) -> Beast:
    """Return mincbeast set up as its README does: 2 mm configuration, mask on the grid of the input."""
    library = data_folder("MINC_BEAST_LIBRARY")
    return Beast(
        library_dir=str(library),
        configuration_file=str(library / DATA["MINC_BEAST_LIBRARY"][1]),
        fill_holes=True,
        median_filter=True,
        same_resolution=True,
        abspath=False,  # nipype's default is the opposite of mincbeast's
        output_file=mask,
    )


def fitted(xfm: str, moved: str) -> BestLinReg:
    """Return bestlinreg with twelve parameters; it maximises the cross-correlation."""
    return BestLinReg(args="-lsq12", output_xfm=xfm, output_mnc=moved)


def resampled(volume: str) -> Resample:
    """Return mincresample as the paper used it, cubic, 0 outside the scan."""
    # -nofill is given in args because nipype's own input for it is faulty and cannot be set
    return Resample(tricubic_interpolation=True, format_float=True, args="-nofill", output_file=volume)


def correct_field(job: Job, mask: str) -> dict[str, str]:
    """Correct the bias field inside BEaST's mask; write brain, templates, and the inputs of mincresample.

    If a grid is coarser than the scan, the brain is low-pass filtered as in `resample`; mincresample does not do so.
    """
    native = engine_files.kept_head(job)
    values = np.asarray(nib.as_closest_canonical(nib.load(mask)).dataobj)
    inside = engine_files.mask_of(values, native.data.shape, "mincbeast")
    data = brain.n4(brain.lift_negative(native.data, inside)[0], inside, native.zooms)
    cut = engine_files.cut(job, native, inside, "mincbeast", data)
    paths = engine_files.strip(job, cut["corrected"])
    image = nib.load(paths["brain"])
    for k, spec in enumerate(job.specs):
        sigma = np.sqrt(np.maximum(spec.resolution**2 - native.zooms**2, 0)) / FWHM / native.zooms
        smooth = ndi.gaussian_filter(engine_files.load(paths["brain"]), sigma, mode="constant", truncate=3)
        paths[f"source{k}"] = engine_files.save(job.folder / f"source{k}.nii.gz", smooth, image.affine)
        empty = np.zeros(spec.shape, dtype=np.uint8)
        paths[f"grid{k}"] = engine_files.save(job.folder / f"grid{k}.nii.gz", empty, np.asarray(spec.affine))
    for used in ("T1w.mnc", "stx.mnc", "stx_mask.mnc", "mask.mnc", "mask.nii"):  # large, and not needed again
        (job.folder / used).unlink(missing_ok=True)
    return paths


def finish(job: Job, **paths: str) -> None:
    """Read bestlinreg's transforms and mincresample's volumes, and write them as every engine does."""
    with job.step("collect"):
        matrices = [np.linalg.inv(read_xfm(Path(paths[name]))) for name in engine_files.names(job, "matrix")]
        corrected = engine_files.gathered(job, str(job.folder / engine_files.CORRECTED))
        fits = engine_files.fits_of(job, corrected, matrices)

    def values_on(spec: VolumeSpec) -> np.ndarray:
        image = nib.as_closest_canonical(nib.load(paths[f"volume{job.specs.index(spec)}"]))
        if image.shape != spec.shape or not np.allclose(image.affine, spec.affine, atol=1e-3):
            raise BadDataError("mincresample's volume is not on the grid that was asked for; report this")
        return np.asarray(image.dataobj, dtype=np.float32)

    steps.finish(job, corrected, fits, software={"MINC": version()}, values_on=values_on)


def version() -> str:
    """Return the version of the MINC programs, or ``unknown``."""
    from nipype.interfaces.minc.base import Info

    return str((Info.version() or {}).get("minc") or "unknown")


def read_xfm(path: Path) -> np.ndarray:
    """Return the matrix (4 x 4, source world to target world, RAS+ mm) of a linear MNI transform file.

    Raises
    ------
    BadDataError
        When the file does not hold exactly one linear transform.
    """
    try:
        text = "\n".join(line.split("%")[0] for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataError(f"{path.name} cannot be read ({error}); look at the scan and exclude it") from error
    kinds = re.findall(r"Transform_Type\s*=\s*(\w+)\s*;", text)
    body = re.search(r"Linear_Transform\s*=([^;]*);", text)
    inverted = re.search(r"Invert_Flag\s*=\s*True\s*;", text)
    numbers = re.findall(NUMBER, body.group(1)) if body else []
    if not text.startswith("MNI Transform File") or kinds != ["Linear"] or inverted or len(numbers) != 12:
        raise BadDataError(f"{path.name} is not one linear MNI transform; look at the scan and exclude it")
    matrix = np.eye(4)
    matrix[:3] = np.reshape([float(number) for number in numbers], (3, 4))
    return matrix
