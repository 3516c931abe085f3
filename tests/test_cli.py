"""The command line understands what users of BIDS Apps type, answers fast, and every ending has its exit code."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
import typer
from commandline import run, run_here

from brainage_bids import cli, errors, option_groups


def test_a_run_inside_another_program_is_recorded_as_its_own_command(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["brainage-tools", "study", "depth"])
    said, path = [], tmp_path / "more.toml"
    path.write_text("folds = 3\n")
    known = cli._spellings()
    monkeypatch.setattr(cli, "_spellings", lambda: known)
    monkeypatch.setattr(cli, "app", lambda argv, **_: said.append((argv, cli._command_line())))
    cli.run_inside(["/d", "/o", "participant", "--config-file", str(path)])
    assert said == [(["/d", "/o", "participant", "--folds", "3"],
                     f"brainage-bids /d /o participant --config-file {path}")]  # fmt: skip
    assert sys.argv[0] == "brainage-tools"


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
    done = run_here(tmp_path, tmp_path / "out", "session")
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
    done = run_here(*args)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


COMMAND = typer.main.get_command(cli.app)
OPTIONS = {parameter.name: parameter for parameter in COMMAND.params if parameter.opts[0].startswith("-")}
# what changes the screen, is understood before, or is accepted for compatibility
OF_NO_LEVEL = {
    "config_file", "verbose", "notrack", "resource_monitor", "version", "help", "install_completion", "show_completion",
}  # fmt: skip
VALUES = {"bias_fit": "none", "bias_method": "cole", "engine": "ants", "covariate": "age", "score": "a=b.tsv:c",
          "mem": "1", "precision": "float32", "saliency_threshold": "0.1", "derivatives": "a=b",
          "age_column": "a.tsv:b", "sex_column": "a.tsv:b"}  # fmt: skip


def test_help_shows_every_option_once_in_a_group_and_says_of_which_level_it_is():
    said = run_here("--help").stdout
    shown = [name for names in option_groups.GROUPS.values() for name in names]
    assert sorted(shown) == sorted({*OPTIONS, "help"})
    parts = dict(zip(option_groups.GROUPS, re.split(r"^(?:\w.*):$", said, flags=re.M)[2:], strict=True))
    for title, names in option_groups.GROUPS.items():
        for name in set(names) - {"help"}:
            assert re.search(rf"^  .*{OPTIONS[name].opts[0]}\b", parts[title], re.M), name
    assert "Training (participant level):" in said
    assert "Group statistics (group level):" in said
    assert re.search(r"--engine <str> +participant: builtin", said)
    assert "x<=" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_the_options(shell):
    typed = "brainage-bids /d /o participant --particip"
    settings = {"_BRAINAGE_BIDS_COMPLETE": f"complete_{shell}", "COMP_WORDS": typed, "COMP_CWORD": "4",
                "_TYPER_COMPLETE_ARGS": typed}  # fmt: skip
    program = [sys.executable, "-c", "from brainage_bids.cli import main; main()"]
    done = subprocess.run(program, env={**os.environ, **settings}, capture_output=True, text=True)
    assert "--participant-label" in done.stdout
    assert "--train" not in done.stdout


def handed_over(monkeypatch, folder, level, *more):
    """What a level is asked to do by a command line."""
    asked = []
    monkeypatch.setattr("brainage_bids.app.participant.run_participant", asked.append)
    monkeypatch.setattr("brainage_bids.app.group.run_group", asked.append)
    cli.run_inside([str(folder), str(folder / "out"), level, *more])
    return dataclasses.replace(asked[0], command="")


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - OF_NO_LEVEL))
def test_a_level_takes_an_option_or_names_it_as_ignored(name, tmp_path, monkeypatch, capsys):
    parameter = OPTIONS[name]
    given = [parameter.opts[0]] if parameter.is_flag else [parameter.opts[0], VALUES.get(name, "7")]
    for level in cli.LEVELS:
        if (name, level) == ("also", "participant"):
            continue  # refused
        without = handed_over(monkeypatch, tmp_path, level)
        capsys.readouterr()
        taken = handed_over(monkeypatch, tmp_path, level, *given) != without
        ignored = f"{parameter.opts[0]}: of the" in capsys.readouterr().err
        assert taken != ignored, f"{level}: taken {taken}, named {ignored}"
        assert ignored == (name in option_groups.ONE_LEVEL["group" if level == "participant" else "participant"])


def test_group_says_which_options_it_ignores(tmp_path):
    done = run_here(tmp_path, tmp_path / "out", "group", "--train", "rnc-demo", "--folds", "5")
    assert "--train, --folds: of the participant level, ignored by group" in done.stderr
    assert "ignored" not in run_here(tmp_path, tmp_path / "out", "group").stderr


def test_twice_verbose_shows_the_traceback():
    assert "Traceback" in run_here("nowhere", "out", "participant", "-v", "-v").stderr


def test_every_error_has_the_exit_code_of_the_contract():
    codes = {cls.__name__: cls.exit_code for cls in errors.BrainageError.__subclasses__()}
    assert codes == {
        "ParticipantsFailed": 1, "InvalidDatasetError": 16, "UnknownLevelError": 17, "NothingSelectedError": 18,
        "UsageError": 64, "BadDataError": 65, "NoInputError": 66, "CannotCreateError": 73, "InputOutputError": 74,
        "TryAgainError": 75,
    }  # fmt: skip


def test_recipes_are_listed():
    done = run_here("recipes", program="brainage-tools")
    assert done.returncode == 0
    assert "rnc-highrez" in done.stdout
    assert "ResNet-18 width 64, 1 mm, Rank-N-Contrast, batch 24, 1000 epochs" in done.stdout


@pytest.mark.parametrize(("name", "wanted", "ending"), [
    ("rnc-highrez", "lr = 0.5                    # paper 2.4.2", "test_share = 0.1            # paper 2.1"),
    ("resnet50-lowrez-noaug", 'optimiser = "adam"', "augmentation.enabled=false"),
])  # fmt: skip
def test_a_recipe_is_shown_with_its_sources(name, wanted, ending):
    done = run_here("recipes", name, program="brainage-tools")
    assert done.returncode == 0
    assert wanted in done.stdout
    assert done.stdout.strip().endswith(ending)


def test_an_unknown_recipe_is_not_shown():
    done = run_here("recipes", "rnc-hirez", program="brainage-tools")
    assert done.returncode == 64
    assert "did you mean rnc-highrez" in done.stderr
