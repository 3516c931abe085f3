"""The options of ``brainage-bids`` in groups: which level looks at each, and ``--help`` in their order."""

from __future__ import annotations

import re

import typer
from typer.core import TyperCommand

# Parameters that only one level looks at; every other one belongs to both.
ONE_LEVEL = {
    "participant": (
        "train train_on folds device precision batch_size epochs set_ chunk_size activation_checkpointing compile_ "
        "engine template preprocess_only train_only work_dir nprocs omp_nthreads mem low_mem use_plugin rerun "
        "reports_only boilerplate_only stop_on_first_crash clean_workdir"
    ).split(),
    "group": (
        "covariate predictions also bias_fit bias_method bias_query session_select atlas saliency_threshold"
    ).split(),
}
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


class CommandInGroups(TyperCommand):
    """A command whose ``--help`` shows the options in `GROUPS`, and which level looks at each."""

    def format_options(self, ctx: typer.Context, formatter: object) -> None:
        """Write the arguments and the groups."""
        found = {parameter.name: parameter for parameter in self.get_params(ctx)}
        told = {name: _plain(*record) for name, one in found.items() if (record := one.get_help_record(ctx))}
        level_of = {name: level for level, names in ONE_LEVEL.items() for name in names}
        arguments = [told.pop(name) for name, one in found.items() if one.param_type_name == "argument"]
        with formatter.section("Arguments"):
            formatter.write_dl(arguments)
        for title, names in GROUPS.items():
            levels = {level_of.get(name) for name in names}
            alone = levels.pop() if len(levels) == 1 else None
            with formatter.section(f"{title} ({alone} level)" if alone else title):
                formatter.write_dl(
                    [
                        (option, f"{level_of[name]}: {words}" if name in level_of and not alone else words)
                        for name in names
                        for option, words in [told.pop(name)]
                    ]
                )


def _plain(option: str, words: str) -> tuple[str, str]:
    """Return an option and its words without what only a programmer reads: bounds of numbers, ``list[str]``."""
    words = re.sub(r"(; )?[\d.]*<=x<=\d+|(; )?x>=\d+", "", words).replace("[]", "").rstrip()
    return option.replace("<list[str]>", "<str> ...").replace(" range>", ">"), words
