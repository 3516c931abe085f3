"""The options of ``brainage-bids`` by topic, as ``--help`` shows them, and which level uses each."""

from __future__ import annotations

import re

import typer
from typer.core import TyperCommand

GROUPS = {
    "Data": (
        "participant_label exclude_participant_label session_label bids_filter_file bids_database_dir t1w_suffix "
        "group_column control age_column sex_column score max_score_gap"
    ).split(),
    "Preprocessing": "engine template derivatives preprocess_only".split(),
    "Models": "model device precision".split(),
    "Training": (
        "train train_on folds ensemble batch_size epochs set_ chunk_size activation_checkpointing compile_ train_only"
    ).split(),
    "Group statistics": (
        "also predictions covariate bias_fit bias_method bias_query session_select atlas saliency_threshold"
    ).split(),
    "Resources": "nprocs omp_nthreads mem low_mem use_plugin work_dir clean_workdir".split(),
    "Running": (
        "dry_run rerun reports_only boilerplate_only stop_on_first_crash random_seed config_file verbose version "
        "install_completion show_completion help"
    ).split(),
    "Compatibility": "skip_bids_validation notrack resource_monitor".split(),
}
# Options that only one level uses; all others are for both.
ONE_LEVEL = {
    "participant": {
        *GROUPS["Training"],
        *GROUPS["Resources"],
        *"engine template preprocess_only device precision rerun reports_only boilerplate_only".split(),
        "stop_on_first_crash",
    },
    "group": set(GROUPS["Group statistics"]),
}


class CommandInGroups(TyperCommand):
    """A command whose ``--help`` shows the options in `GROUPS`, and which level uses each."""

    def format_options(self, ctx: typer.Context, formatter: object) -> None:
        """Write the arguments and the groups."""
        parameters = {parameter.name: parameter for parameter in self.get_params(ctx)}
        records = {name: _plain(*parameter.get_help_record(ctx)) for name, parameter in parameters.items()}
        with formatter.section("Arguments"):
            formatter.write_dl([records[n] for n, p in parameters.items() if p.param_type_name == "argument"])
        for title, names in GROUPS.items():
            level = next((level for level, options in ONE_LEVEL.items() if options.issuperset(names)), None)
            with formatter.section(f"{title} ({level} level)" if level else title):
                formatter.write_dl([records[name] if level else _with_level(name, *records[name]) for name in names])


def _with_level(name: str, option: str, text: str) -> tuple[str, str]:
    """Return an option and its help text, which starts with the level if only one level uses the option."""
    level = next((level for level, options in ONE_LEVEL.items() if name in options), None)
    return option, f"{level}: {text}" if level else text


def _plain(option: str, text: str) -> tuple[str, str]:
    """Return an option and its help text without programmers' notation: bounds of numbers, ``list[str]``."""
    text = re.sub(r"(; )?[\d.]*<=x<=\d+|(; )?x>=\d+", "", text).replace("[]", "").rstrip()
    return option.replace("<list[str]>", "<str> ...").replace(" range>", ">"), text
