"""The command line of ``brainage-bids``: reads the options, calls one level, and turns errors into exit codes.

Only this file, `option_groups` and `tools` import typer. Heavy packages (torch, nipype, pandas) are imported after the
arguments were read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from brainage_bids import __version__, argv
from brainage_bids.errors import BrainageError, InputOutputError, UnknownLevelError, UsageError, cut_lines, shorten
from brainage_bids.option_groups import ONE_LEVEL, CommandInGroups
from brainage_bids.processes import own_cores
from brainage_bids.schema import DEFAULT_SEED, DEFAULT_TEMPLATE
from brainage_bids.stops import Stopped, heeded

LEVELS = ("participant", "group")
MOST_CORES, MOST, LARGEST_SEED = 4096, 1_000_000, 2**32 - 1  # upper limits; a larger number is a typing error
LOG = logging.getLogger("brainage_bids")

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


def _spellings() -> dict[str, str]:
    """Return each spelling of an option -> the first spelling of that option: ``-w`` -> ``--work-dir``."""
    parameters = typer.main.get_command(app).params
    return {name: parameter.opts[0] for parameter in parameters for name in parameter.opts}


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"brainage-bids {__version__}")
        raise typer.Exit


@app.command(
    cls=CommandInGroups,
    help="Brain age, brain age gap and Grad-RAM maps from T1-weighted MRI in BIDS.",
    context_settings={"max_content_width": 120},
)
def bids_app(
    context: typer.Context,
    bids_dir: Annotated[Path, typer.Argument(help="folder of the BIDS dataset")],
    output_dir: Annotated[Path, typer.Argument(help="folder for everything that is written")],
    level: Annotated[str, typer.Argument(metavar="participant|group", help="analysis level")],
    participant_label: Annotated[
        list[str],
        typer.Option(
            "--participant-label", "--participant_label", help="only these participants (or text files of labels)"
        ),
    ] = [],  # noqa: B006
    exclude_participant_label: Annotated[
        list[str], typer.Option("--exclude-participant-label", help="not these participants")
    ] = [],  # noqa: B006
    session_label: Annotated[
        list[str], typer.Option("--session-label", "--session-id", "--session_label", help="only these sessions")
    ] = [],  # noqa: B006
    bids_filter_file: Annotated[
        Path | None, typer.Option(help='JSON filters as in the NiPreps apps, e.g. {"t1w": {"acquisition": "mprage"}}')
    ] = None,
    bids_database_dir: Annotated[
        Path | None, typer.Option(help="folder of a database of the dataset that pybids made (layout_index.sqlite)")
    ] = None,
    t1w_suffix: Annotated[
        str, typer.Option(help="UNIT1: take the MP2RAGE image of participants who have no T1w image")
    ] = "T1w",
    skip_bids_validation: Annotated[
        bool, typer.Option("--skip-bids-validation", help="accept a dataset without dataset_description.json")
    ] = False,
    model: Annotated[
        list[str],
        typer.Option(
            help="one trained in OUTPUT_DIR, a folder, or open-adults; default: all trained there, else open-adults; "
            "group: only these of the models that predicted"
        ),
    ] = [],  # noqa: B006
    train: Annotated[str | None, typer.Option(help="train this recipe first (see brainage-tools recipes)")] = None,
    train_on: Annotated[
        str | None, typer.Option(help="who trains, e.g. 'age > 40 and group == \"CN\"'; default: the healthy controls")
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            help="out-of-fold prediction for everyone: a number of folds, or site (or a column): each left out in turn"
        ),
    ] = None,
    ensemble: Annotated[
        int,
        typer.Option(min=1, max=100, help="trainings of each fold; the predicted age is their mean"),
    ] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="people per batch, instead of the recipe's")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="epochs of the first stage, instead of the recipe's")
    ] = None,
    set_: Annotated[
        list[str], typer.Option("--set", help="any value of the recipe, SECTION.KEY=VALUE, e.g. training.lr=0.1")
    ] = [],  # noqa: B006
    chunk_size: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="images that the network takes at once; default: as many as fit")
    ] = None,
    activation_checkpointing: Annotated[
        bool, typer.Option("--activation-checkpointing", help="train in less memory and a third more time")
    ] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="compile the network (torch.compile)")] = False,
    engine: Annotated[str, typer.Option(help="builtin, or where installed ants, fsl, minc")] = "builtin",
    template: Annotated[
        str | None,
        typer.Option(help=f"default {DEFAULT_TEMPLATE}; a TemplateFlow name, or a T1w file (see docs/templates.md)"),
    ] = None,
    derivatives: Annotated[
        list[str], typer.Option(help="start from native desc-preproc_T1w of fMRIPrep and the like, NAME=PATH")
    ] = [],  # noqa: B006
    preprocess_only: Annotated[
        bool, typer.Option("--preprocess-only", help="stop after the volumes, with --train those of the recipe")
    ] = False,
    train_only: Annotated[bool, typer.Option("--train-only", help="stop after the training of --train")] = False,
    group_column: Annotated[str | None, typer.Option(help="column that holds the diagnosis")] = None,
    control: Annotated[list[str], typer.Option(help="value of that column that means healthy control")] = [],  # noqa: B006
    age_column: Annotated[
        list[str],
        typer.Option(help="column of ages instead of the recognised ones, [NAME=]FILE:COLUMN[:UNIT], NAME a dataset's"),
    ] = [],  # noqa: B006
    sex_column: Annotated[list[str], typer.Option(help="the same for sexes, [NAME=]FILE:COLUMN")] = [],  # noqa: B006
    score: Annotated[list[str], typer.Option(help="clinical score, NAME=FILE:COLUMN")] = [],  # noqa: B006
    covariate: Annotated[
        list[str],
        typer.Option(help="all covariates of one further variant (age sex site ...); a column as NAME=FILE:COLUMN"),
    ] = [],  # noqa: B006
    predictions: Annotated[list[str], typer.Option(help="predictions made elsewhere, NAME=FILE[:idcol:agecol]")] = [],  # noqa: B006
    also: Annotated[list[str], typer.Option(help="further datasets, OUTPUT_DIR or BIDS_DIR=OUTPUT_DIR of each")] = [],  # noqa: B006
    bias_fit: Annotated[str, typer.Option(help="where the age-bias line comes from: model, controls, none")] = "model",
    bias_method: Annotated[str, typer.Option(help="form of the corrected gap: beheshti, cole")] = "beheshti",
    bias_query: Annotated[
        str | None, typer.Option(help="rows that fit the age-bias line and leave the tests (a query like --train-on)")
    ] = None,
    session_select: Annotated[
        str, typer.Option(help="session for cross-sectional tests: first, last, closest:MONTHS, LABEL")
    ] = "first",
    max_score_gap: Annotated[float, typer.Option(min=0, help="months between scan and score at most")] = 6.0,
    atlas: Annotated[
        str, typer.Option(help="regions of the Grad-RAM tables: aal2, aal, a path, ... (docs/howto.md); none")
    ] = "aal2",
    saliency_threshold: Annotated[
        float,
        typer.Option(min=0, max=1, help="a region with this mean of the normalised map is called relevant"),
    ] = 0.8,
    work_dir: Annotated[Path | None, typer.Option("--work-dir", "-w", help="default: OUTPUT_DIR/work")] = None,
    nprocs: Annotated[
        int | None,
        typer.Option(
            "--nprocs",
            "--nthreads",
            "--n-cpus",
            "--n_cpus",
            min=1,
            max=MOST_CORES,
            help="cores in all, default every one; this / omp-nthreads scans at a time",
        ),
    ] = None,
    omp_nthreads: Annotated[int, typer.Option(min=1, max=MOST_CORES, help="threads of one scan")] = 1,
    mem: Annotated[str | None, typer.Option(help="memory to stay under, a bare number is GB")] = None,
    low_mem: Annotated[
        bool, typer.Option("--low-mem", help="one scan at a time, networks released between scans")
    ] = False,
    use_plugin: Annotated[Path | None, typer.Option(help="nipype plugin file, as in fMRIPrep")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan, write nothing")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="do again what is already done, training too")] = False,
    reports_only: Annotated[bool, typer.Option("--reports-only", help="only write the pages again")] = False,
    boilerplate_only: Annotated[
        bool, typer.Option("--boilerplate-only", help="only write logs/CITATION.md, the methods text")
    ] = False,
    stop_on_first_crash: Annotated[
        bool, typer.Option("--stop-on-first-crash", help="stop at the first failure")
    ] = False,
    clean_workdir: Annotated[
        bool, typer.Option("--clean-workdir", help="empty the work directory before starting")
    ] = False,
    random_seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="seed of everything random")] = DEFAULT_SEED,
    config_file: Annotated[Path | None, typer.Option(help="TOML file of options; the command line wins")] = None,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, show_default=False, help="more words; twice: tracebacks")
    ] = 0,
    notrack: Annotated[
        bool, typer.Option("--notrack", help="accepted for compatibility: there is no telemetry")
    ] = False,
    resource_monitor: Annotated[
        bool, typer.Option("--resource-monitor", help="accepted for compatibility: nothing is monitored")
    ] = False,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print it")] = False,
) -> None:
    """Check the options, then run one level."""
    del notrack, resource_monitor, version
    del config_file  # its options are in argv already (`argv.from_config`)
    if level not in LEVELS:
        raise UnknownLevelError(f"analysis level {level!r} is not known; use participant or group")
    if not bids_dir.is_dir():
        from brainage_bids.errors import NoInputError

        raise NoInputError(f"BIDS_DIR {bids_dir} is not a folder; check the path (in a container: the bind mount)")
    if bias_fit not in ("model", "controls", "none"):
        raise UsageError(f"--bias-fit {bias_fit!r} is not known; use model, controls or none")
    if bias_method not in ("beheshti", "cole"):
        raise UsageError(f"--bias-method {bias_method!r} is not known; use beheshti or cole")
    if also and level != "group":
        raise UsageError("--also joins the results of several datasets at the group level; it has no use before")
    memory = argv.memory_gb(mem)
    log_to_screen(verbose)
    if memory is not None:
        LOG.info("memory: %.1f GB", memory)
        if use_plugin is None and (doubt := argv.memory_doubt(memory)):
            LOG.warning("%s", doubt)
            memory = None
    say_ignored(context, level)

    from brainage_bids.bids.read import DatasetQuery, parse_column_option, parse_score_option
    from brainage_bids.model.model_options import ModelOptions
    from brainage_bids.preprocess.preprocess_options import ENGINE_VERSIONS, PreprocessOptions

    if engine not in ENGINE_VERSIONS:
        raise UsageError(f"--engine {engine!r} is not known; use one of {', '.join(ENGINE_VERSIONS)}")
    bids_dir, output_dir = argv.resolved(bids_dir), argv.resolved(output_dir)
    work = argv.resolved(work_dir or output_dir / "work")
    argv.refuse_odd(map(str, (bids_dir, output_dir, work)))
    parts = argv.folds(folds, MOST)
    held = [parse_score_option(text, "--covariate") for text in covariate if "=" in text]
    query = DatasetQuery(
        bids_dir=bids_dir,
        participant_label=tuple(participant_label),
        exclude_participant_label=tuple(exclude_participant_label),
        session_label=tuple(session_label),
        filter_file=bids_filter_file,
        database_dir=bids_database_dir,
        t1w_suffix=t1w_suffix,
        group_column=group_column,
        age_columns=tuple(parse_column_option(text, "--age-column") for text in age_column),
        sex_columns=tuple(parse_column_option(text, "--sex-column") for text in sex_column),
        controls=tuple(control),
        scores=(*(parse_score_option(text) for text in score), *held),
        max_score_gap=max_score_gap,
        skip_validation=skip_bids_validation,
        derivatives=tuple(derivatives),
        fold_column=parts if isinstance(parts, str) and train and level == "participant" else None,
    )
    command = _command_line()
    if level == "group":
        from brainage_bids.app.group import run_group
        from brainage_bids.app.options import GroupOptions

        run_group(
            GroupOptions(
                query=query,
                output_dir=output_dir,
                models=tuple(model),
                also=tuple(also),
                predictions=tuple(predictions),
                covariates=tuple(text.partition("=")[0].strip() for text in covariate) or ("age", "sex"),
                bias_fit=bias_fit,
                bias_query=bias_query,
                bias_method=bias_method,
                session_select=session_select,
                atlas=atlas,
                saliency_threshold=saliency_threshold,
                seed=random_seed,
                dry_run=dry_run,
                command=command,
            )
        )
        return
    from brainage_bids.app.options import ParticipantOptions
    from brainage_bids.app.participant import run_participant

    run_participant(
        ParticipantOptions(
            query=query,
            output_dir=output_dir,
            preprocess=PreprocessOptions(
                engine=engine,
                work_dir=work,
                nprocs=nprocs or own_cores(),
                omp_nthreads=omp_nthreads,
                mem_gb=memory,
                plugin_file=use_plugin,
                low_mem=low_mem,
                seed=random_seed,
                rerun=rerun,
                stop_on_first_crash=stop_on_first_crash,
                device=device,
                progress=sys.stderr.isatty() or verbose > 0,
            ),
            model=ModelOptions(
                device=device,
                precision=precision,
                batch_size=batch_size,
                epochs=epochs,
                folds=parts,
                ensemble=ensemble,
                workers=nprocs or own_cores(),
                chunk_size=chunk_size,
                recompute=activation_checkpointing,
                compile=compile_,
                memory=None if memory is None else memory * 1e9,
                overrides=tuple(set_),
                seed=random_seed,
                progress=sys.stderr.isatty() or verbose > 0,
            ),
            models=tuple(model),
            template=template,
            train=train,
            train_on=train_on,
            preprocess_only=preprocess_only,
            train_only=train_only,
            dry_run=dry_run,
            rerun=rerun,
            reports_only=reports_only,
            boilerplate_only=boilerplate_only,
            clean_workdir=clean_workdir,
            command=command,
        )
    )


def say_ignored(context: typer.Context, level: str) -> None:
    """Warn about options that belong to the other level."""
    (other,) = set(LEVELS) - {level}
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in ONE_LEVEL[other] and context.get_parameter_source(parameter.name).name != "DEFAULT"
    ]
    if given:
        LOG.warning("%s: of the %s level, ignored by %s", ", ".join(given), other, level)


class OnScreen(logging.Formatter):
    """Formats a message for the screen: long lines are shortened (the log file has them in full)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text to print."""
        return cut_lines(super().format(record))


def log_to_screen(verbose: int) -> None:
    r"""Print log messages on stderr without a prefix. Bytes that a terminal cannot show are written as ``\udcff``."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OnScreen("%(message)s"))
    handler.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False


def _command_line() -> str:
    import shlex

    return shlex.join(["brainage-bids", *sys.argv[1:]])


def run_application(application: typer.Typer, prepare: Callable[[list[str]], list[str]], program: str) -> None:
    """Run one of the two applications and end the process with its exit code."""
    show_traceback = sum(arg.count("v") for arg in sys.argv[1:] if re.fullmatch("-v+|--verbose", arg)) > 1
    # Without these, nipype asks its server for the latest version when it is imported.
    os.environ.setdefault("NO_ET", "1")
    os.environ.setdefault("NIPYPE_NO_ET", "1")
    try:
        with heeded(lambda stop: typer.echo(f"brainage-bids: {stop}", err=True)):
            code = application(prepare(sys.argv[1:]), standalone_mode=False, prog_name=program)
        sys.exit(code if isinstance(code, int) else 0)
    except Stopped as stop:  # its message is printed already
        sys.exit(stop.exit_code)
    except BrainageError as error:
        _fail(error, error.exit_code, show_traceback)
    except (typer.TyperException, typer.Abort) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else "stopped"
        _fail(UsageError(f"{message.rstrip('.')}; see {program} --help"), UsageError.exit_code, show_traceback)
    except KeyboardInterrupt:
        _fail(UsageError("stopped by the keyboard; the same command goes on where it was"), 130, False)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            message = f"{shorten(error.filename)} is longer than a path may be; check the options"
            _fail(error, UsageError.exit_code, show_traceback, message)
        _fail(error, InputOutputError.exit_code, show_traceback, _os_error_message(error))
    except Exception as error:  # a bug of ours; 70 is EX_SOFTWARE
        message = f"unexpected {type(error).__name__}: {error}; this is a mistake in brainage-bids, -v -v shows where"
        _fail(error, 70, show_traceback, message)


def _os_error_message(error: OSError) -> str:
    from brainage_bids.bids.files import no_room

    where = f"{error.filename}: " if error.filename else ""
    return no_room(error) or f"{where}{error.strerror or error}; check the path, its permissions and the disk"


def _fail(error: BaseException, code: int, show_traceback: bool, message: str | None = None) -> None:
    if show_traceback:
        import traceback

        traceback.print_exception(error)
    typer.echo(cut_lines(f"brainage-bids: {message or error}"), err=True)
    sys.exit(code)


def prepare_arguments(typed: Sequence[str]) -> list[str]:
    """Return the arguments in the form that typer accepts (`argv.prepare_arguments`)."""
    return argv.prepare_arguments(typed, _spellings())


def run_inside(typed: Sequence[str]) -> None:
    """Run ``brainage-bids`` from another program. Errors are raised; the run record shows this command."""
    before = sys.argv
    sys.argv = ["brainage-bids", *typed]
    try:
        app(prepare_arguments(typed), standalone_mode=False, prog_name="brainage-bids")
    finally:
        sys.argv = before


def main() -> None:
    """Entry point of ``brainage-bids``."""
    run_application(app, prepare_arguments, "brainage-bids")
