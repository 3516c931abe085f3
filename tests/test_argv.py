"""What people type, in the words of other BIDS Apps and of older versions, becomes what typer takes."""

import pytest

from brainage_bids import argv, cli, errors

KNOWN = cli._spellings()


def test_several_values_after_one_flag_are_repeated():
    typed = [
        "/data",
        "/out",
        "participant",
        "--participant-label",
        "01",
        "02",
        "--nprocs",
        "2",
        "--control",
        "CN",
        "HC",
    ]
    assert argv.repeat_options(typed) == [
        "/data", "/out", "participant", "--participant-label", "01", "--participant-label", "02",
        "--nprocs", "2", "--control", "CN", "--control", "HC",
    ]  # fmt: skip


def test_values_of_single_options_and_short_flags_are_left_alone():
    pairs = ["a", "b", "participant", "--derivatives", "x=/x", "y=/y", "--template", "t.nii"]
    assert argv.repeat_options(pairs) == [*pairs[:5], "--derivatives", *pairs[5:]]
    typed = ["a", "b", "group", "-w", "work", "--score", "BDI=p.tsv:BDI", "-v", "-v"]
    assert argv.repeat_options(typed) == typed


@pytest.mark.parametrize("rest", [["--nprocs", "2"], ["-v"], ["--model", "a"], []])
def test_an_option_that_lost_its_values_is_refused(rest):
    with pytest.raises(errors.UsageError, match="--participant-label has no value"):
        argv.repeat_options(["/data", "/out", "participant", "--participant-label", *rest])


@pytest.mark.parametrize(
    ("text", "gb"), [("16", 16.0), ("16G", 16.0), ("16gb", 16.0), ("16000M", 16.0), ("0.5t", 500.0), (None, None)]
)
def test_memory_is_understood(text, gb):
    assert argv.memory_gb(text) == pytest.approx(gb)


@pytest.mark.parametrize("text", ["lots", "-4", "0", "4 apples"])
def test_memory_that_is_none_is_refused(text):
    with pytest.raises(errors.UsageError, match="--mem"):
        argv.memory_gb(text)


def test_config_file_fills_what_the_command_line_leaves_out(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('nprocs = 4\ncontrol = ["CN", "HC"]\ndry_run = true\nrerun = false\nfolds = 5\n')
    for given in (["--config-file", str(path)], [f"--config-file={path}"]):
        assert argv.from_config(["a", "b", "participant", *given, "--folds", "3"], KNOWN) == [
            "a", "b", "participant", "--folds", "3", "--nprocs", "4", "--control", "CN", "--control", "HC", "--dry-run",
        ]  # fmt: skip


@pytest.mark.parametrize("given", [["--nthreads", "4"], ["--nprocs=4"], ["--n_cpus", "4"]])
@pytest.mark.parametrize("folder", [["-w", "/mine"], ["-w/mine"], ["--work-dir=/mine"]])
def test_the_command_line_wins_however_it_is_spelt(tmp_path, given, folder):
    path = tmp_path / "study.toml"
    path.write_text('nprocs = 2\nwork-dir = "/theirs"\nfolds = 5\n')
    typed = ["a", "b", "participant", *given, *folder]
    assert argv.from_config([*typed, "--config-file", str(path)], KNOWN) == [*typed, "--folds", "5"]


def test_config_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("nprocs 4")
    with pytest.raises(errors.UsageError, match="not TOML"):
        argv.from_config(["--config-file", str(path)], KNOWN)


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        (["--skip_bids_validation"], ["--skip-bids-validation"]),
        (["--work_dir", "/a_b"], ["--work-dir", "/a_b"]),
        (["--n_procs=3"], ["--nprocs=3"]),
        (["--omp_nthreads", "2"], ["--omp-nthreads", "2"]),
        (["--ants-nthreads", "2"], ["--omp-nthreads", "2"]),
        (["--mem_gb", "8"], ["--mem", "8"]),
        (["--mem_mb", "8000"], ["--mem", "8000M"]),
        (["--mem-mb=8000"], ["--mem=8000M"]),
        (["--mem_mb", "8G"], ["--mem", "8G"]),
        (["--session_id", "1", "2"], ["--session-id", "1", "--session-id", "2"]),
        (["--bids_filter_file", "f_f.json"], ["--bids-filter-file", "f_f.json"]),
        (["--participant_label", "a_b"], ["--participant_label", "a_b"]),
        (["--colour_blind"], ["--colour_blind"]),
        (["--", "--work_dir"], ["--", "--work_dir"]),
    ],
)
def test_names_of_other_programs(typed, ours):
    assert argv.prepare_arguments(typed, KNOWN) == ours


def test_no_name_of_another_program_hides_one_of_ours():
    assert not set(argv.OTHER_NAMES) & set(KNOWN)
    assert set(argv.OTHER_NAMES.values()) <= set(KNOWN)


def test_names_of_other_programs_in_a_config_file(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("mem_mb = 8000\nn_procs = 2\n")
    typed = ["a", "b", "participant", "--config-file", str(path)]
    assert argv.prepare_arguments(typed, KNOWN) == [*typed[:3], "--mem", "8000M", "--nprocs", "2"]
    assert argv.prepare_arguments([*typed, "--mem", "4"], KNOWN) == [*typed[:3], "--mem", "4", "--nprocs", "2"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nprocs = 4".encode("utf-16"), "UTF-16"),
        (b"\xff\xfe\xfd", "UTF-16|UTF-8"),
        (b"nprocs = " + b"9" * 5000, "not TOML"),
        (b"a = " + b"[" * 20000, "not TOML"),
        (b"[nprocs]\na = 1", "is a table"),
    ],
)
def test_config_files_that_cannot_be_used(tmp_path, content, told):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(errors.UsageError, match=told) as caught:
        argv.from_config(["--config-file", str(path)], KNOWN)
    assert len(str(caught.value)) < 500


def test_a_config_file_that_is_not_there_or_a_folder(tmp_path):
    with pytest.raises(errors.NoInputError, match="not there"):
        argv.from_config(["--config-file", str(tmp_path / "c.toml")], KNOWN)
    with pytest.raises(errors.UsageError, match="is a folder"):
        argv.from_config(["--config-file", str(tmp_path)], KNOWN)


def test_a_path_that_is_not_utf8_is_refused():
    with pytest.raises(errors.UsageError, match=r"data\\\\xff.*not UTF-8"):
        argv.prepare_arguments(["/data\udcff", "out", "participant"], KNOWN)


def test_more_memory_than_the_machine_can_have_is_doubted(monkeypatch):
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16e9 / 4096}
    monkeypatch.setattr(argv.os, "sysconf", sizes.get)
    assert argv.memory_doubt(8) is None
    assert argv.memory_doubt(20) is None
    assert "8000 GB, but this machine has 16 GB" in argv.memory_doubt(8000)
