"""The options of ``brainage-bids`` in groups: which level looks at each, and ``--help`` in their order."""

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
        "train train_on folds batch_size epochs set_ chunk_size activation_checkpointing compile_ train_only"
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
# Parameters that only one level looks at; every other one belongs to both.
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
    """A command whose ``--help`` shows the options in `GROUPS`, and which level looks at each."""

    def format_options(self, ctx: typer.Context, formatter: object) -> None:
        """Write the arguments and the groups."""
        parameters = {parameter.name: parameter for parameter in self.get_params(ctx)}
        told = {name: _plain(*one.get_help_record(ctx)) for name, one in parameters.items()}
        with formatter.section("Arguments"):
            formatter.write_dl([told[n] for n, one in parameters.items() if one.param_type_name == "argument"])
        for title, names in GROUPS.items():
            whole = next((level for level, those in ONE_LEVEL.items() if those.issuperset(names)), None)
            with formatter.section(f"{title} ({whole} level)" if whole else title):
                formatter.write_dl([told[name] if whole else _of_level(name, *told[name]) for name in names])


def _of_level(name: str, option: str, words: str) -> tuple[str, str]:
    """Return an option and its words, with the level before them where only one looks at it."""
    level = next((level for level, those in ONE_LEVEL.items() if name in those), None)
    return option, f"{level}: {words}" if level else words


def _plain(option: str, words: str) -> tuple[str, str]:
    """Return an option and its words without what only a programmer reads: bounds of numbers, ``list[str]``."""
    words = re.sub(r"(; )?[\d.]*<=x<=\d+|(; )?x>=\d+", "", words).replace("[]", "").rstrip()
    return option.replace("<list[str]>", "<str> ...").replace(" range>", ">"), words
