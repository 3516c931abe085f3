"""The engines made of programs. None of FSL's or ANTs' programs and only minc-tools can be had here: *fakes* stand in.

A fake is a shell script that copies what its program would have made. It shows that files, transforms and failures find
their way through the chain, and nothing about the program itself.
"""

import os
import re
import shutil
import stat
import sys
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from commandline import run_here
from nipype import Workflow
from nipype.interfaces.base import isdefined

from brainage_bids.bids.files import read_json
from brainage_bids.bids.outputs import Outputs, sidecar_path
from brainage_bids.errors import BadDataError, UsageError
from brainage_bids.preprocess import brain, resample
from brainage_bids.preprocess.engines import ants, choose, engine_files, fsl
from brainage_bids.preprocess.intake import Brain, Native
from brainage_bids.preprocess.interfaces import Step, ToolNode
from brainage_bids.preprocess.job import Job
from brainage_bids.preprocess.preprocess_options import ENGINE_VERSIONS, PreprocessOptions
from brainage_bids.preprocess.template import load_template
from brainage_bids.preprocess.workflow import node_name, preprocess
from brainage_bids.schema import Scan, VolumeSpec

SPECS = (VolumeSpec.on_grid(4), VolumeSpec.on_grid(6, intensity="zscore"))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put a shell script of that name on PATH, before everything else."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\nHERE={folder}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return folder

    return write


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    """No program on PATH, no antspyx."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("engine", "names", "way_out"),
    [
        ("ants", "N4BiasFieldCorrection, antsRegistration", "pip install antspyx"),
        ("fsl", "bet, flirt", "install FSL"),
        ("minc", "nii2mnc, mnc2nii, beast_normalize, mincbeast, bestlinreg, mincresample", "minc-toolkit"),
    ],
)
def test_missing_programs_are_named_with_the_way_out(no_programs, tmp_path, engine, names, way_out):
    with pytest.raises(
        UsageError, match=f"--engine {engine} needs {names}, not found.*{way_out}.*builtin needs nothing"
    ):
        choose.check(engine, tmp_path)
    choose.check("builtin", tmp_path)


def test_an_engine_is_refused_before_anything_is_written(no_programs, tmp_path):
    options = PreprocessOptions(tmp_path / "work", engine="fsl", progress=False)
    with pytest.raises(UsageError, match="needs bet, flirt"):
        preprocess([Scan(str(tmp_path / "none.nii.gz"), "sub-01")], SPECS, Outputs(tmp_path / "out"), options)
    assert not list(tmp_path.iterdir())


def test_blanks_in_the_work_directory_are_refused(fake, tmp_path):
    fake("bet", "")
    fake("flirt", "")
    choose.check("fsl", tmp_path)
    with pytest.raises(UsageError, match=r"holds a blank.*choose another"):
        choose.check("fsl", tmp_path / "my work")


def test_beast_needs_its_library(fake, tmp_path, monkeypatch):
    for program in choose.PROGRAMS["minc"]:
        fake(program, "")
    monkeypatch.setenv("MINC_BEAST_LIBRARY", str(tmp_path / "library"))
    with pytest.raises(UsageError, match=r"library/default\.2mm\.conf, which is not there.*MINC_BEAST_LIBRARY"):
        choose.check("minc", tmp_path)


def job_of(tmp_path, scan, engine, specs=SPECS):
    folder = tmp_path / "work" / scan.prefix
    folder.mkdir(parents=True, exist_ok=True)
    return Job(scan, specs, Outputs(tmp_path / "out"), folder, engine)


def test_plain_images_and_the_way_back(tmp_path):
    """An oblique, sheared header: the programs see none of it, and their matrix comes back to the scan's world."""
    rng = np.random.default_rng(1)
    affine = np.array([[1.9, 0.4, 0.1, -60], [-0.3, 1.8, -0.5, -80], [0.0, 0.4, 2.1, -50], [0, 0, 0, 1]])
    native = Native(rng.uniform(1, 2, (60, 70, 50)).astype(np.float32), affine, ("odd",), True)
    mask = np.zeros(native.data.shape, dtype=bool)
    mask[20:40, 25:50, 10:30] = True
    job = job_of(tmp_path, Scan("x", "sub-01"), "fsl")
    head = nib.load(engine_files.keep_head(job, native))
    assert not head.affine[~np.eye(4, dtype=bool)][[0, 1, 3, 4, 6, 7]].any()
    np.testing.assert_allclose(head.affine @ [29.5, 34.5, 24.5, 1], [0, 0, 0, 1], atol=1e-4)
    assert head.header["sform_code"] == head.header["qform_code"] > 0
    paths = engine_files.cut(job, native, mask, "fsl bet", native.data * 2)
    box = nib.load(paths["mask"])
    assert mask.sum() == np.asarray(box.dataobj).sum()
    start = read_json(job.folder / "scan.json")["start"]
    to_native = engine_files.to_native(job, np.eye(4))
    for voxel in ((0, 0, 0, 1), (12, 5, 9, 1)):
        full = [*(np.asarray(voxel[:3]) + start), 1]
        np.testing.assert_allclose(to_native @ box.affine @ voxel, affine @ full, atol=1e-3)
    back = engine_files.gathered(job, paths["corrected"])
    np.testing.assert_array_equal(back.mask, mask)
    np.testing.assert_allclose(back.data[mask], 2 * native.data[mask], rtol=1e-6)
    assert (back.source, back.notes, back.says_mni) == ("fsl bet", ("odd",), True)


def test_correlation_of_the_template_with_itself():
    template = load_template()
    own = Brain(template.data, template.mask, template.affine, "given")
    assert engine_files.correlation(own, np.eye(4), template) == pytest.approx(1)
    shifted = np.eye(4)
    shifted[0, 3] = 8
    assert engine_files.correlation(own, shifted, template) < 0.8
    with pytest.raises(BadDataError, match="no usable matrix"):
        engine_files.correlation(own, np.zeros((4, 4)), template)


def command_lines(tmp_path, engine, **given):
    """Return the command line of every program of an engine, with dummies for the files that other nodes will make."""
    dummy = tmp_path / "dummy"
    dummy.touch()
    scan = Scan(str(tmp_path / "sub-01_T1w.nii.gz"), "sub-01")
    workflow = Workflow("nipype", base_dir=str(tmp_path))
    choose.add_scan(workflow, job_of(tmp_path, scan, engine), partial(node_name, scan))
    lines = {}
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        if not isinstance(node, ToolNode):
            assert isinstance(node.interface, Step)
            continue
        for _, _, data in workflow._graph.in_edges(node, data=True):
            for _, wanted in data["connect"]:
                assert not isdefined(getattr(node.inputs, wanted))
                setattr(node.inputs, wanted, given.get(wanted, str(dummy)))
        # BET gets its input relative to where it runs
        line = (
            node.interface.cmdline.replace(os.path.relpath(dummy), "IN")
            .replace(str(dummy), "IN")
            .replace(str(tmp_path / "work" / "sub-01"), "W")
        )
        lines[name.removeprefix("sub_01_")] = " ".join(line.split())
    return lines


def test_fsl_command_lines(no_programs, tmp_path):
    """`bet <input> <output> [options]`: -m binary brain mask, -R robust brain centre estimation.

    https://fsl.fmrib.ox.ac.uk/fsl/fslwiki/BET/UserGuide; `flirt -in <inputvol> -ref <refvol> -out <outputvol>
    -omat <matrix>`, -dof 12 affine, -cost and -searchcost {mutualinfo,corratio,normcorr,...},
    https://fsl.fmrib.ox.ac.uk/fsl/fslwiki/FLIRT/UserGuide.
    """
    assert command_lines(tmp_path, "fsl") == {
        "bet": "bet IN W/bet.nii.gz -m -R",
        "flirt0": "flirt -in IN -ref IN -out W/flirt0.nii.gz -omat W/flirt0.mat "
        "-cost normcorr -searchcost normcorr -dof 12",
    }


def test_ants_command_lines(fake, tmp_path):
    """Options as in https://github.com/ANTsX/ANTs/wiki/Anatomy-of-an-antsRegistration-call; GC: global correlation."""
    for program in ants.PROGRAMS:
        fake(program, "")
    stage = (
        "--transform {}[ 0.1 ] --metric GC[ IN, IN, 1, 1, Regular, 0.25 ] --convergence [ 1000x500x250, 1e-06, 10 ] "
        "--smoothing-sigmas 3.0x2.0x1.0vox --shrink-factors 8x4x2 --use-histogram-matching 0 "
        "--masks [ IN, NULL ]"
    )
    assert command_lines(tmp_path, "ants", shrink_factor=4) == {
        "n4": "N4BiasFieldCorrection -d 3 --input-image IN --mask-image IN --convergence [ 50x50x50x50, 0.001 ] "
        "--output W/corrected.nii.gz --shrink-factor 4",
        "register0": "antsRegistration --collapse-output-transforms 1 --dimensionality 3 --float 0 "
        "--initial-moving-transform [ IN, IN, 1 ] --initialize-transforms-per-stage 0 --interpolation Linear "
        f"--output W/ants0_ --random-seed 1 {stage.format('Rigid')} {stage.format('Affine')} "
        "--winsorize-image-intensities [ 0.0, 1.0 ] --write-composite-transform 0",
    }


def test_antspyx_runs_the_same_command_lines(no_programs, tmp_path):
    lines = command_lines(tmp_path, "ants", shrink_factor=4)
    for step, program in (("n4", "N4BiasFieldCorrection"), ("register0", "antsRegistration")):
        assert lines[step].startswith(
            f"{sys.executable} -m brainage_bids.preprocess.engines.antspyx_program {program} -"
        )


def test_ants_has_one_thread_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "8")
    environ = ants.runnable(ants.registration("x")).inputs.environ
    assert environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "1"


def test_minc_command_lines(no_programs, tmp_path, monkeypatch):
    """Usages as the programs and their README state them.

    `nii2mnc [options] filename.nii [filename.mnc]`, `mnc2nii [-q] [filetype] [datatype] filename.mnc [filename.nii]`,
    `mincresample [<options>] <infile> <outfile>` (their -help); `beast_normalize -modeldir MODEL input.mnc normal.mnc
    normal.xfm` and `mincbeast LIBRARY normal.mnc brainmask.mnc -conf LIBRARY/default.2mm.conf -same_res`
    (https://github.com/BIC-MNI/BEaST/blob/master/README.library; options in full
    in its manual page; what a configuration sets replaces -voxel_size to -selection_num, see mincbeast.c);
    `bestlinreg [options] source.mnc target.mnc output.xfm [output.mnc]`, -lsq12
    (https://github.com/BIC-MNI/EZminc/tree/master/scripts).
    """
    monkeypatch.setenv("MINC_BEAST_LIBRARY", "/L")
    monkeypatch.setenv("MINC_BEAST_MODEL", "/M")
    lines = command_lines(tmp_path, "minc")
    assert lines.pop("T1w_mnc") == "nii2mnc -quiet -short IN W/T1w.mnc"
    assert lines.pop("normalize") == "beast_normalize -modeldir /M IN W/stx.mnc W/stx.xfm"
    assert lines.pop("beast") == (
        "mincbeast -clobber -alpha 0.5 -configuration /L/default.2mm.conf -fill -median -selection_num 20 "
        "-patch_size 1 -same_resolution -search_area 2 -beta 0.5 -threshold 0.95 -voxel_size 4 /L IN W/stx_mask.mnc"
    )
    assert lines.pop("mask") == (
        "mincresample -clobber -invert_transformation -like IN -nearest_neighbour -transformation IN IN W/mask.mnc"
    )
    assert lines.pop("mask_nii") == "mnc2nii -quiet -float -nii IN W/mask.nii"
    assert lines.pop("brain_mnc") == "nii2mnc -quiet -float IN W/brain.mnc"
    assert lines.pop("template0_mnc") == "nii2mnc -quiet -short IN W/template0.mnc"
    assert lines.pop("matrix0") == "bestlinreg -lsq12 -clobber IN IN W/matrix0.xfm W/matrix0.mnc"
    for k in (0, 1):
        assert lines.pop(f"source{k}_mnc") == f"nii2mnc -quiet -float IN W/source{k}.mnc"
        assert lines.pop(f"grid{k}_mnc") == f"nii2mnc -quiet -byte IN W/grid{k}.mnc"
        assert lines.pop(f"volume{k}") == (
            f"mincresample -nofill -clobber -float -like IN -transformation IN -tricubic IN W/volume{k}.mnc"
        )
        assert lines.pop(f"volume{k}_nii") == f"mnc2nii -quiet -float -nii IN W/volume{k}.nii"
    assert not lines


@pytest.fixture
def no_n4(monkeypatch):
    """Leave the field as it is, to save time."""
    monkeypatch.setattr(brain, "n4", lambda data, mask, zooms: data)


@pytest.fixture
def known(head, brain_and_mask, save_scan, fake):
    """A scan of the phantom, whose true affine is the identity; its mask and its box; where fakes take files from."""
    _, mask, affine = brain_and_mask
    folder = fake("nothing", "")
    plain = engine_files.plain_affine(np.full(3, 3.0), mask.shape)
    engine_files.save(folder / "mask.nii.gz", mask.astype(np.uint8), plain)
    box, box_affine = engine_files.boxed(mask, affine)
    shape = mask[box].shape
    moving = engine_files.plain_affine(np.full(3, 3.0), shape)
    return save_scan(head), folder, (moving, shape), box_affine @ np.linalg.inv(moving)  # plain world to template world


def run_chain(tmp_path, scan, engine):
    """Run one scan in this process, so that it sees this PATH; return the outcome and where the results are."""
    (tmp_path / "plugin.yml").write_text("plugin: Linear\n")
    options = PreprocessOptions(
        tmp_path / "work", engine=engine, plugin_file=tmp_path / "plugin.yml", progress=False, device="cpu"
    )
    outputs = Outputs(tmp_path / "out")
    return preprocess([scan], SPECS, outputs, options)[0], outputs


def check_volumes(scan, outputs, data, brain_and_mask, engine):
    """The volumes are those that the true mask and the true affine give; ``data`` is the bias-corrected scan."""
    for spec in SPECS:
        expected, inside = resample.volume_on_grid(data, *brain_and_mask[1:], np.eye(4), spec)
        found = nib.load(outputs.volume(scan, spec)).get_fdata()
        mask = np.asarray(nib.load(outputs.mask(scan, spec)).dataobj) > 0
        assert (mask != inside).sum() < 0.002 * inside.sum()
        both = mask & inside
        assert np.corrcoef(found[both], expected[both])[0, 1] > 0.99
        sidecar = read_json(sidecar_path(outputs.volume(scan, spec)))
        assert (sidecar["Engine"], sidecar["EngineVersion"]) == (engine, ENGINE_VERSIONS[engine])
        assert sidecar["qc_pass"] is True
    matrix = read_json(outputs.transform(scan, SPECS[0].template).with_suffix(".json"))["MatrixRAS"]
    np.testing.assert_allclose(matrix, np.eye(4), atol=1e-3)
    return sidecar


FAKE_BET = 'cp "$1" "$2"; cp "$HERE/mask.nii.gz" "${2%.nii.gz}_mask.nii.gz"'
FAKE_FLIRT = """while [ $# -gt 0 ]; do case $1 in -in) IN=$2;; -out) OUT=$2;; -omat) MAT=$2;; esac; shift; done
cp "$IN" "$OUT"; cp "$HERE/known.mat" "$MAT" """


def test_fsl_chain_with_fakes(tmp_path, known, fake, brain_and_mask):
    scan, folder, (moving, shape), to_template = known
    fake("bet", FAKE_BET)
    fake("flirt", FAKE_FLIRT)
    template = load_template()
    box, fixed = engine_files.boxed(template.mask, template.affine)
    to_scaled = fsl._to_fsl(fixed, template.mask[box].shape) @ np.linalg.inv(fixed)
    flirt = to_scaled @ to_template @ moving @ np.linalg.inv(fsl._to_fsl(moving, shape))
    np.savetxt(folder / "known.mat", flirt, fmt="%.10f")
    outcome, outputs = run_chain(tmp_path, scan, "fsl")
    assert (outcome.status, outcome.reason) == ("done", None)
    sidecar = check_volumes(scan, outputs, brain.n4(*brain_and_mask[:2], np.full(3, 3.0)), brain_and_mask, "fsl")
    assert sidecar["MaskSource"] == "fsl bet"
    assert "FSL" in sidecar["Software"]
    assert not (tmp_path / "work").exists()
    assert run_chain(tmp_path, scan, "fsl")[0].status == "skipped"


@pytest.mark.parametrize(
    ("bet", "flirt", "step", "reason"),
    [
        (
            "echo some words; echo 'Segmentation fault at 7' >&2; exit 139",
            "",
            "bet",
            r"bet ended with exit code 139: Segm",
        ),
        ("exit 2", "", "bet", "bet ended with exit code 2: no output"),
        ("exit 0", "", "n4", r"No such file.*bet_mask\.nii\.gz"),
        (FAKE_BET, 'cp "$2" /dev/null', "flirt", r"flirt: .*No such file.*flirt0\.(nii\.gz|mat)"),
        (FAKE_BET.replace('mask.nii.gz" "$', 'empty.nii.gz" "$'), "", "n4", "bet found no brain"),
        (FAKE_BET, "echo 'no overlap'; exit 1", "flirt", "flirt ended with exit code 1: no overlap"),
        (FAKE_BET, FAKE_FLIRT, "collect", r"flirt0\.mat holds no FLIRT matrix"),
    ],
)
def test_a_failing_program_is_named_with_what_it_said_last(tmp_path, known, fake, no_n4, bet, flirt, step, reason):
    scan, folder, *_ = known
    fake("bet", bet)
    fake("flirt", flirt)
    (folder / "known.mat").write_text("no matrix")
    image = nib.load(folder / "mask.nii.gz")
    engine_files.save(folder / "empty.nii.gz", np.zeros(image.shape, np.uint8), image.affine)
    outcome, outputs = run_chain(tmp_path, scan, "fsl")
    assert (outcome.status, outcome.step) == ("failed", step)
    assert re.search(reason, outcome.reason), outcome.reason
    assert "\n" not in outcome.reason
    assert not [path for path in outputs.root.rglob("*sub-01*") if path.is_file()]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["crash"]
    (crash,) = (tmp_path / "work" / "crash").iterdir()
    if "Segm" in reason:
        assert "some words" in crash.read_text()


def test_a_program_that_is_gone_in_the_middle_is_said(tmp_path, known, fake, no_n4):
    scan = known[0]
    fake("bet", FAKE_BET + "; rm $HERE/flirt")
    fake("flirt", FAKE_FLIRT)
    outcome, _ = run_chain(tmp_path, scan, "fsl")
    assert (outcome.status, outcome.step) == ("failed", "flirt")
    assert 'No command "flirt" found' in outcome.reason


def test_ants_chain_with_fakes(tmp_path, known, fake, brain_and_mask, monkeypatch):
    scan, folder, _, to_template = known
    mask = brain_and_mask[1]
    monkeypatch.setattr(ants, "brain_mask", lambda native, gpu: (mask, "deepbet"))
    loop = "while [ $# -gt 0 ]; do case $1 in --input-image) IN=$2;; --output) OUT=$2;; esac; shift; done\n"
    loop += '[ "$OUT" ] || exit 0\n'  # it is asked for its version too
    fake("N4BiasFieldCorrection", loop + 'cp "$IN" "$OUT"')
    fake("antsRegistration", loop + 'cp "$HERE/known.mat" "${OUT}0GenericAffine.mat"')
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    lps = flip @ np.linalg.inv(to_template) @ flip
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(lps[:3, :3].ravel().tolist())
    affine.SetTranslation(lps[:3, 3].tolist())
    sitk.WriteTransform(affine, str(folder / "known.mat"))
    outcome, outputs = run_chain(tmp_path, scan, "ants")
    assert (outcome.status, outcome.reason) == ("done", None)
    sidecar = check_volumes(scan, outputs, brain_and_mask[0], brain_and_mask, "ants")
    assert sidecar["MaskSource"] == "deepbet"
    assert "ANTs" in sidecar["Software"]
    assert not (tmp_path / "work").exists()


@pytest.mark.skipif(not shutil.which("mincresample"), reason="needs minc-tools")
def test_minc_chain_with_real_minc_tools_and_fakes_for_the_rest(
    tmp_path, write_xfm, known, fake, no_n4, brain_and_mask, monkeypatch
):
    """nii2mnc, mincresample and mnc2nii are the real ones: mincresample's volume is that of our own resampling."""
    scan, folder, _, to_template = known
    fake("beast_normalize", 'cp "$3" "$4"; cp "$HERE/identity.xfm" "$5"')
    fake("mincbeast", 'for LAST; do :; done; nii2mnc -quiet "$HERE/mask.nii.gz" "$LAST"')
    fake("bestlinreg", 'while [ "${1#-}" != "$1" ]; do shift; done\ncp "$HERE/known.xfm" "$3"; cp "$2" "$4"')
    write_xfm(folder / "identity.xfm", np.eye(4))
    write_xfm(folder / "known.xfm", to_template)
    (folder / "default.2mm.conf").touch()
    monkeypatch.setenv("MINC_BEAST_LIBRARY", str(folder))
    monkeypatch.setenv("MINC_BEAST_MODEL", str(folder))
    outcome, outputs = run_chain(tmp_path, scan, "minc")
    assert (outcome.status, outcome.reason) == ("done", None)
    sidecar = check_volumes(scan, outputs, brain_and_mask[0], brain_and_mask, "minc")
    assert sidecar["MaskSource"] == "mincbeast"
    assert sidecar["Software"]["MINC"] != "unknown"
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_real_antspyx(tmp_path, save_scan, head, brain_and_mask):
    pytest.importorskip("ants")
    outcome, outputs = run_chain(tmp_path, save_scan(head), "ants")
    assert (outcome.status, outcome.reason) == ("done", None)
    scan = outcome.scan
    matrix = np.asarray(read_json(outputs.transform(scan, SPECS[0].template).with_suffix(".json"))["MatrixRAS"])
    template = load_template()
    points = np.argwhere(template.mask)[::997] @ template.affine[:3, :3].T + template.affine[:3, 3]
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.linalg.norm(moved - points, axis=1).mean() < 1.0
    sidecar = read_json(sidecar_path(outputs.volume(scan, SPECS[0])))
    assert "antspyx" in sidecar["Software"]
    assert sidecar["QC"]["template_ncc"] > 0.85


def test_an_unknown_engine_is_wrong_use(tmp_path):
    done = run_here(tmp_path, tmp_path / "out", "participant", "--engine", "spm")
    assert done.returncode == UsageError.exit_code
    assert "--engine 'spm' is not known; use one of builtin, ants, fsl, minc" in done.stderr
