"""The command line of ``brainage-tools``: phantom data, the demo, recipes and studies."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from brainage_bids.argv import refuse_odd, repeat_options, resolved
from brainage_bids.cli import LARGEST_SEED, MOST_CORES, log_to_screen, run_application, run_inside
from brainage_bids.processes import own_cores
from brainage_bids.schema import DEFAULT_SEED

LOG = logging.getLogger("brainage_bids")

tools_app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Everything around the BIDS App: a phantom cohort, the demo, recipes, studies of hyperparameters.",
)


@tools_app.command(help="Make a phantom cohort: synthetic heads with planted ageing, disease effects and scores.")
def phantom(
    out_dir: Annotated[Path, typer.Argument(help="folder of the BIDS dataset to write")],
    n: Annotated[int, typer.Option("--n", min=6, max=100_000, help="people")] = 60,
    voxel_mm: Annotated[float, typer.Option(min=1.0, max=20.0, help="voxel size, mm")] = 3.0,
    random_seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="seed")] = DEFAULT_SEED,
) -> None:
    """Write a phantom BIDS dataset."""
    from brainage_bids.phantom.cohort import make_cohort

    log_to_screen(0)
    make_cohort(resolved(out_dir), n=n, seed=random_seed, voxel_mm=voxel_mm)
    LOG.info("phantom cohort of %d people: %s (the truth is in planted.json)", n, out_dir)


@tools_app.command(help="The whole path on a phantom cohort: preprocess, train rnc-demo, predict, group pages.")
def demo(
    out_dir: Annotated[Path, typer.Argument(help="folder to write everything into")] = Path("demo"),
    n: Annotated[int, typer.Option("--n", min=24, max=100_000, help="people")] = 72,
    nprocs: Annotated[int | None, typer.Option(min=1, max=MOST_CORES, help="scans at the same time")] = None,
    random_seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="seed")] = DEFAULT_SEED,
) -> None:
    """Run the demo."""
    from brainage_bids.app.demo import run_demo

    log_to_screen(0)
    run_demo(resolved(out_dir), n=n, nprocs=nprocs or own_cores(), seed=random_seed)


@tools_app.command(
    help="List the recipes that --train understands; with a name show that one, every number with its source."
)
def recipes(
    name: Annotated[str | None, typer.Argument(help="a recipe, or a TOML file")] = None,
) -> None:
    """Print one line per packaged recipe, or the content of one."""
    from brainage_bids.app.recipe_list import describe_recipes, show_recipe

    typer.echo(show_recipe(name) if name else describe_recipes())


@tools_app.command(
    help="Train a recipe once for every value of one setting and compare the errors on validation people. Other "
    "options are those of brainage-bids and go to every run.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def study(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="batch-size, depth, resolution, augmentation, or SECTION.KEY")],
    bids_dir: Annotated[Path, typer.Argument(help="folder of the BIDS dataset")],
    output_dir: Annotated[Path, typer.Argument(help="folder for everything that is written")],
    train: Annotated[str, typer.Option(help="the recipe to vary")] = "rnc-lowrez",
    values: Annotated[list[str], typer.Option(help="values to try; default: those of the paper")] = [],  # noqa: B006
    seeds: Annotated[list[int], typer.Option(help="repeat every value with these seeds")] = [DEFAULT_SEED],  # noqa: B006
    show: Annotated[
        bool, typer.Option("--list", help="print the command of every run, one a line, for jobs of their own")
    ] = False,
) -> None:
    """Run a study."""
    from brainage_bids.app.recipe_study import StudyOptions, list_runs, run_study

    log_to_screen(0)
    options = StudyOptions(kind, resolved(bids_dir), resolved(output_dir), train, tuple(values), tuple(seeds),
                           tuple(context.args))  # fmt: skip
    if show:
        typer.echo("\n".join(list_runs(options)))
        return
    run_study(options, run_inside)


def prepare_arguments(typed: list[str]) -> list[str]:
    """Return the arguments in the form that typer accepts."""
    refuse_odd(typed)
    return repeat_options(typed)


def main() -> None:
    """Entry point of ``brainage-tools``."""
    run_application(tools_app, prepare_arguments, "brainage-tools")
