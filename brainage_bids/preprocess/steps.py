"""The processing steps of one scan as functions: read, brain, align, volumes, pictures.

The builtin engine keeps everything in memory between steps; only `finish` writes files, and only into OUTPUT_DIR. The
other engines find brain and affine with their own programs and call `finish` too.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from brainage_bids import __version__
from brainage_bids.bids.files import atomic, write_json, write_text
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.devices import pick_device
from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import quality, recognise, resample
from brainage_bids.preprocess.done import input_hash, input_stat, remove_outputs
from brainage_bids.preprocess.intake import Brain, Native, read_prepared, read_scan
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.preprocess_options import ENGINE_VERSIONS
from brainage_bids.preprocess.template import Template, template_of, template_tissue, template_volume
from brainage_bids.processes import keep_heap
from brainage_bids.schema import DEFAULT_TEMPLATE, Prepared, Scan, VolumeSpec

if TYPE_CHECKING:
    from brainage_bids.preprocess.affine import Fit

SHIFTED_UP = "values below zero inside the brain were shifted up"


def run_builtin(job: Job) -> None:
    """Make the volumes of one scan with the builtin engine.

    Raises
    ------
    BadDataError
        When the image cannot be used, no brain is found or the registration fails; ``status.json`` has the reason.
    """
    from brainage_bids.preprocess.affine import set_threads

    device = str(pick_device(job.device))
    keep_heap()
    former = set_threads(job.threads)
    try:
        with job.step("brain"):
            native = None if job.scan.prepared else read_scan(job.scan.path, job.scan.second_inversion)
            brain = find_brain(native, device) if native else use_prepared(job.scan.prepared)
        fits = {}
        with job.step("align"):
            for name, spec in {spec.template: spec for spec in job.specs}.items():
                brain, fits[name] = align(native, brain, template_of(spec, job.outputs.root), device)
        finish(job, brain, fits, device)
    finally:
        set_threads(former)


def find_brain(native: Native, device: str = "cpu") -> Brain:
    """Mask the brain and correct the bias field."""
    from brainage_bids.preprocess import brain

    mask, source = brain.brain_mask(native, device != "cpu")
    return _corrected(native, mask, source)


def _corrected(native: Native, mask: np.ndarray, source: str, *notes: str) -> Brain:
    from brainage_bids.preprocess import brain

    data, shifted = brain.lift_negative(native.data, mask)
    corrected = brain.n4(data, mask, native.zooms)
    notes = (*native.warnings, *notes, *([SHIFTED_UP] if shifted else []))
    remarks = recognise.remarks(data, corrected, mask, source)
    return Brain(corrected, mask, native.affine, source, notes, remarks, native.says_mni)


def use_prepared(prepared: Prepared) -> Brain:
    """Return the brain with the mask and bias correction of another pipeline; neither is done again."""
    from brainage_bids.preprocess.brain import lift_negative

    native, mask = read_prepared(prepared)
    data, shifted = lift_negative(native.data, mask)
    notes = (*native.warnings, *([SHIFTED_UP] if shifted else []))
    remark = f"bias correction and brain mask are those of {prepared.name}: neither was done again"
    return Brain(data, mask, native.affine, prepared.name, notes, (remark,), native.says_mni)


def align(native: Native | None, brain: Brain, template: Template, device: str = "cpu") -> tuple[Brain, Fit]:
    """Register the brain to the template; if the result is suspect, try again with the head turned and keep the best.

    Without ``native`` the mask of another pipeline is kept, and only the registration is tried again.
    """
    from brainage_bids.preprocess import rescue
    from brainage_bids.preprocess.affine import register, wide_starts
    from brainage_bids.preprocess.brain import volume_ml

    fit = register(brain.data, brain.mask, brain.affine, template, device=device)
    if not rescue.suspect(fit.ncc, volume_ml(brain.mask, brain.zooms)):
        return brain, fit
    if native is None:
        turned = register(brain.data, brain.mask, brain.affine, template, wide_starts(), device)
        return brain, turned if turned.ncc >= fit.ncc + rescue.CLEARLY_BETTER else fit
    coarse = register(brain.data, brain.mask, brain.affine, template, device=device, coarse=True)
    gpu = device != "cpu"
    pose = rescue.search(native, template, device, gpu)
    if pose is None or pose.fit.ncc < coarse.ncc + rescue.CLEARLY_BETTER:
        return brain, fit
    mask = rescue.finest_mask(native, pose, template, device, gpu)
    note = "the head lies turned in its header; its brain was found in another pose"
    brain = _corrected(native, mask, "deepbet, head turned", note)
    starts = rescue.starts_in(rescue.upright(pose.fit))
    return brain, register(brain.data, brain.mask, brain.affine, template, starts, device)


def finish(
    job: Job,
    brain: Brain,
    fits: Mapping[str, Fit],
    device: str = "cpu",
    software: Mapping[str, str] = MappingProxyType({}),
    values_on: Callable[[VolumeSpec], np.ndarray] | None = None,
) -> None:
    """Resample to every grid, check the quality, write volumes, masks, transforms and sidecars, and draw two pictures.

    The sidecars of the volumes are written last: a volume with a sidecar is finished.

    Parameters
    ----------
    job
        Scan, grids and outputs.
    brain
        The scan with its mask.
    fits
        Template name to the registration with it.
    device
        Device of the engine; recorded.
    software
        Names and versions of the engine's own programs; recorded.
    values_on
        Returns the brain on a grid, resampled by the engine's own program, 0 where nothing was scanned; by default
        `resample` does it. Mask and intensity rule are always applied here.

    Raises
    ------
    BadDataError
        When the quality numbers show no brain or a failed registration; all files of the scan are then removed.
    """
    try:
        with job.step("volumes"):
            made = _volumes(job, brain, fits, values_on)
        with job.step("pictures", last=True):
            spec, (values, _), sidecar = made[0]
            _draw(job, brain, values, spec)
            for spec, _, sidecar in made:
                sidecar |= {"Device": device, "Software": {**versions(), **software}}
                write_json(sidecar_path(job.outputs.volume(job.scan, spec)), sidecar)
    except Exception:
        remove_outputs(job.scan, job.specs, job.outputs)
        raise


def _volumes(job: Job, brain: Brain, fits: Mapping[str, Fit], values_on: Callable | None) -> list[tuple]:
    """Write volumes, masks and transforms; return for each grid the spec, the arrays and the sidecar to write."""
    spec = job.specs[0]
    template = template_of(spec, job.outputs.root)
    metrics = quality.measure(brain, fits[spec.template], template)
    refuse, fail, warn = quality.judge(metrics)
    if refuse:
        raise BadDataError(
            f"no brain could be placed on the template: {'; '.join(refuse)}; look at the scan and exclude it"
        )
    notes = [*brain.notes, *recognise.mni_notes(brain, fits[spec.template].matrix, template)]
    origin = {"InputHash": input_hash(job.scan), "InputStat": input_stat(job.scan)}  # once for all grids
    made = []
    for spec in job.specs:
        where = (brain.affine, fits[spec.template].matrix, spec)
        if values_on is None:
            arrays = resample.volume_on_grid(brain.data, brain.mask, *where)
        else:
            inside = resample.mask_to_grid(brain.mask, *where)
            arrays = resample.intensity_rule(np.maximum(values_on(spec), 0), inside, spec.intensity), inside
        made.append((spec, arrays, _sidecar(job, brain, spec, origin)))
    for name, fit in fits.items():
        write_transform(job.outputs.transform(job.scan, name), fit.matrix, sources_of(job.scan), name)
    for spec, (values, inside), sidecar in made:
        sidecar |= {"QC": metrics, "qc_pass": not fail, "qc_warn": [*fail, *warn, *notes], "Notes": brain.remarks}
        volume, mask = job.outputs.volume(job.scan, spec), job.outputs.mask(job.scan, spec)
        save(mask, inside.astype(np.uint8), spec)
        shared = {
            key: sidecar[key]
            for key in ("Sources", "Resolution", "MaskSource", "VolumeSpec", "Engine", "EngineVersion")
        }
        write_json(sidecar_path(mask), {**shared, **_reference(spec, job.outputs), "Type": "Brain"})
        save(volume, values, spec)
    return made


def _sidecar(job: Job, brain: Brain, spec: VolumeSpec, origin: Mapping) -> dict:
    return {
        "Sources": sources_of(job.scan),
        "SkullStripped": True,
        "Resolution": f"{spec.resolution:g} mm isotropic",
        **_reference(spec, job.outputs),
        "VolumeSpec": spec.to_dict(),
        "VolumeSpecFingerprint": spec.fingerprint,
        "Engine": job.engine,
        "EngineVersion": ENGINE_VERSIONS[job.engine],
        **origin,
        "MaskSource": brain.source,
    }


def _reference(spec: VolumeSpec, outputs: Outputs) -> dict:
    """Return the link to the template for a space that is not defined in BIDS."""
    if spec.template == DEFAULT_TEMPLATE:
        return {}
    return {"SpatialReference": f"bids::{outputs.template_image(spec.template).relative_to(outputs.root).as_posix()}"}


def _draw(job: Job, brain: Brain, values: np.ndarray, spec: VolumeSpec) -> None:
    from brainage_bids.preprocess import pictures

    title, outputs = job.scan.prefix, job.outputs
    pictures.mask_picture(outputs.qc_figure(job.scan, "mask"), brain.data, brain.mask, brain.affine, title)
    _, inside = template_volume(spec, outputs.root)
    tissue = template_tissue(spec, outputs.root)
    pictures.template_picture(outputs.qc_figure(job.scan, "template"), values, inside, tissue, spec, title)


def save(path: Path, values: np.ndarray, spec: VolumeSpec) -> None:
    """Write an array in template space as compressed NIfTI, atomically; the same array gives the same bytes."""
    image = nib.Nifti1Image(values, np.asarray(spec.affine))
    code = "mni" if spec.template.startswith("MNI") else "aligned"
    image.set_sform(image.affine, code=code)
    image.set_qform(image.affine, code=code)
    image.header.set_xyzt_units("mm")
    with atomic(path) as temporary:
        nib.save(image, temporary)


def write_transform(path: Path, matrix: np.ndarray, sources: Sequence[str], template: str) -> None:
    """Write the affine as ITK text and its JSON sidecar.

    By ITK's convention the file maps points of the template (LPS+, mm) to points of the native scan. With it,
    ``sitk.Resample(T1w, template, transform)`` or ``antsApplyTransforms -i T1w -r template -t`` resample the scan to
    the template. To map coordinates from the scan to the template, use its inverse.

    Parameters
    ----------
    path
        The ``.txt`` file.
    matrix
        4 x 4, template world to native world (mm, RAS+).
    sources, template
        The scan's files (BIDS URIs) and the name of the template.
    """
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ to LPS+
    lps = flip @ matrix @ flip
    numbers = " ".join(repr(float(v)) for v in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    write_text(
        path,
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n",
    )
    meaning = "Resamples the T1w image to the template; as a map of points (LPS+ mm) it goes from template to T1w (ITK)"
    sidecar = {"Sources": sources, "Description": meaning, "Template": template, "MatrixRAS": matrix}
    write_json(path.with_suffix(".json"), sidecar)


def sources_of(scan: Scan) -> list[str]:
    """Return the BIDS URIs of the images that a scan's volume is made from."""
    dataset = scan.prepared.name if scan.prepared else "raw"
    return [f"bids:{dataset}:{_inside(path, scan.participant_id)}" for path in scan.inputs]


def _inside(path: str, participant_id: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[parts.index(participant_id) :] if participant_id in parts else parts[-1:])


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect the numbers."""
    names = ("deepbet", "SimpleITK", "torch", "nibabel", "scipy", "nilearn", "nipype", "numpy")
    return {"brainage-bids": __version__, **{name: importlib.metadata.version(name) for name in names}}
