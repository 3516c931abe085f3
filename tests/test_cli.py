"""The command line understands what users of BIDS Apps type, answers fast, and every ending has its exit code."""

import subprocess
import sys

import pytest

from brainage_bids import cli, errors, tools


def run(*args):
    return subprocess.run([sys.executable, "-m", "brainage_bids", *map(str, args)], capture_output=True, text=True)


def test_several_values_after_one_flag_are_repeated():
    argv = ["/data", "/out", "participant", "--participant-label", "01", "02", "--nprocs", "2", "--control", "CN", "HC"]
    assert cli.spread(argv) == [
        "/data", "/out", "participant", "--participant-label", "01", "--participant-label", "02",
        "--nprocs", "2", "--control", "CN", "--control", "HC",
    ]  # fmt: skip


def test_values_of_single_options_and_short_flags_are_left_alone():
    pairs = ["a", "b", "participant", "--derivatives", "x=/x", "y=/y", "--template", "t.nii"]
    assert cli.spread(pairs) == [*pairs[:5], "--derivatives", *pairs[5:]]
    argv = ["a", "b", "group", "-w", "work", "--score", "BDI=p.tsv:BDI", "-v", "-v"]
    assert cli.spread(argv) == argv


@pytest.mark.parametrize("rest", [["--nprocs", "2"], ["-v"], ["--model", "a"], []])
def test_an_option_that_lost_its_values_is_refused(rest):
    with pytest.raises(errors.UsageError, match="--participant-label has no value"):
        cli.spread(["/data", "/out", "participant", "--participant-label", *rest])


@pytest.mark.parametrize(
    ("text", "gb"), [("16", 16.0), ("16G", 16.0), ("16gb", 16.0), ("16000M", 16.0), ("0.5t", 500.0), (None, None)]
)
def test_memory_is_understood(text, gb):
    assert cli.memory_gb(text) == pytest.approx(gb)


@pytest.mark.parametrize("text", ["lots", "-4", "0", "4 apples"])
def test_memory_that_is_none_is_refused(text):
    with pytest.raises(errors.UsageError, match="--mem"):
        cli.memory_gb(text)


def test_config_file_fills_what_the_command_line_leaves_out(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('nprocs = 4\ncontrol = ["CN", "HC"]\ndry_run = true\nrerun = false\nfolds = 5\n')
    for given in (["--config-file", str(path)], [f"--config-file={path}"]):
        assert cli.from_config(["a", "b", "participant", *given, "--folds", "3"]) == [
            "a", "b", "participant", "--folds", "3", "--nprocs", "4", "--control", "CN", "--control", "HC", "--dry-run",
        ]  # fmt: skip


@pytest.mark.parametrize("given", [["--nthreads", "4"], ["--nprocs=4"], ["--n_cpus", "4"]])
@pytest.mark.parametrize("folder", [["-w", "/mine"], ["-w/mine"], ["--work-dir=/mine"]])
def test_the_command_line_wins_however_it_is_spelt(tmp_path, given, folder):
    path = tmp_path / "study.toml"
    path.write_text('nprocs = 2\nwork-dir = "/theirs"\nfolds = 5\n')
    argv = ["a", "b", "participant", *given, *folder]
    assert cli.from_config([*argv, "--config-file", str(path)]) == [*argv, "--folds", "5"]


def test_a_run_inside_another_program_is_recorded_as_its_own_command(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["brainage-tools", "study", "depth"])
    said, path = [], tmp_path / "more.toml"
    path.write_text("folds = 3\n")
    monkeypatch.setattr(cli, "app", lambda argv, **_: said.append((argv, cli._command_line())))
    monkeypatch.setattr(cli, "_spellings", dict)
    cli.run_inside(["/d", "/o", "participant", "--config-file", str(path)])
    assert said == [(["/d", "/o", "participant", "--folds", "3"],
                     f"brainage-bids /d /o participant --config-file {path}")]  # fmt: skip
    assert sys.argv[0] == "brainage-tools"


def test_config_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("nprocs 4")
    with pytest.raises(errors.UsageError, match="not TOML"):
        cli.from_config(["--config-file", str(path)])


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom brainage_bids import cli\nsys.argv=['brainage-bids','--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'nipype', 'pandas', 'numpy', 'nibabel', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--participant-label" in done.stdout
    assert "participant|group" in done.stdout


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("brainage-bids ")


def test_unknown_level_is_17(tmp_path):
    done = run(tmp_path, tmp_path / "out", "session")
    assert done.returncode == 17
    assert "participant or group" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("nowhere", "out", "participant"), 66, "not a folder"),
        (("nowhere", "out"), 64, "Missing argument"),
        (("nowhere", "out", "participant", "--no-such-option"), 64, "No such option"),
        ((".", "out", "participant", "--engine", "freesurfer"), 64, "use one of builtin, ants, fsl, minc"),
        ((".", "out", "group", "--bias-fit", "patients"), 64, "controls"),
        ((".", "out", "participant", "--folds", "1"), 64, "folds"),
    ],
)
def test_wrong_use_ends_with_its_code_and_one_sentence(tmp_path, monkeypatch, args, code, words):
    monkeypatch.chdir(tmp_path)
    done = run(*args)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_group_says_which_options_it_ignores(tmp_path):
    done = run(tmp_path, tmp_path / "out", "group", "--train", "rnc-demo", "--folds", "5")
    assert "--train, --folds: of the participant level, ignored by group" in done.stderr
    assert "ignored" not in run(tmp_path, tmp_path / "out", "group").stderr


def test_twice_verbose_shows_the_traceback():
    assert "Traceback" in run("nowhere", "out", "participant", "-v", "-v").stderr


def test_every_error_has_the_exit_code_of_the_contract():
    codes = {cls.__name__: cls.exit_code for cls in errors.BrainageError.__subclasses__()}
    assert codes == {
        "ParticipantsFailed": 1, "InvalidDatasetError": 16, "UnknownLevelError": 17, "NothingSelectedError": 18,
        "UsageError": 64, "BadDataError": 65, "NoInputError": 66, "CannotCreateError": 73, "InputOutputError": 74,
        "TryAgainError": 75,
    }  # fmt: skip


def test_recipes_are_listed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["brainage-tools", "recipes"])
    with pytest.raises(SystemExit, match="0"):
        tools.main()
    printed = capsys.readouterr().out
    assert "rnc-highrez" in printed
    assert "ResNet-18 width 64, 1 mm, Rank-N-Contrast, batch 24, 1000 epochs" in printed


@pytest.mark.parametrize(("name", "wanted", "ending"), [
    ("rnc-highrez", "lr = 0.5                    # paper 2.4.2", "test_share = 0.1            # paper 2.1"),
    ("resnet50-lowrez-noaug", 'optimiser = "adam"', "augmentation.enabled=false"),
])  # fmt: skip
def test_a_recipe_is_shown_with_its_sources(name, wanted, ending, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["brainage-tools", "recipes", name])
    with pytest.raises(SystemExit, match="0"):
        tools.main()
    printed = capsys.readouterr().out
    assert wanted in printed
    assert printed.strip().endswith(ending)


def test_an_unknown_recipe_is_not_shown(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["brainage-tools", "recipes", "rnc-hirez"])
    with pytest.raises(SystemExit, match="64"):
        tools.main()
    assert "did you mean rnc-highrez" in capsys.readouterr().err
