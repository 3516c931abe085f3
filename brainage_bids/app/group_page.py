"""The group page: collects its content and passes it to `brainage_bids.report`. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from brainage_bids import __version__
from brainage_bids.app.page_values import is_phantom, methods_values, notices
from brainage_bids.app.pooled import confounding, template_root
from brainage_bids.app.quality_table import quality_rows
from brainage_bids.app.run_record import RunRecord, software
from brainage_bids.bids.outputs import Outputs
from brainage_bids.bids.read import Dataset
from brainage_bids.report.group_html import GroupPage, write_group_page
from brainage_bids.report.methods import group_methods
from brainage_bids.report.references import references_for
from brainage_bids.schema import VolumeSpec
from brainage_bids.stats.correlate import primary_statistic
from brainage_bids.stats.siteerror import WITHIN

if TYPE_CHECKING:
    import pandas as pd

    from brainage_bids.app.group_maps import Saliency
    from brainage_bids.app.options import GroupOptions
    from brainage_bids.app.types import Analysis, Results


def group_page(
    options: GroupOptions,
    outputs: Outputs,
    dataset: Dataset,
    results: Results,
    analysis: Analysis,
    tables: Mapping[str, pd.DataFrame],
    saliency: Saliency,
    record: RunRecord,
) -> None:
    """Write ``group.html`` and its figures."""
    maps, table, lines, scores = saliency.maps, analysis.table, analysis.lines, analysis.scores
    pooled = results.pooled
    pairs = [(m.outputs, m.dataset) for m in pooled.datasets] if pooled else [(outputs, dataset)]
    cards = [results.cards[name] for name in results.models if name in results.cards]
    specs = [VolumeSpec.from_dict(card["volume_spec"]) for card in cards]
    values = methods_values(specs, cards, results.engines)
    methods = group_methods(
        {
            **values,
            "models": [*values["models"], *_external(results)],
            "controls": sorted(set(dataset.controls) & set(analysis.selected["group"].dropna())),
            "groups": sorted(table["group"].dropna().unique()),
            "scores": scores,
            "ranked": [score for score in scores if primary_statistic(score) == "spearman"],
            "covariates": list(options.covariates),
            "session_select": options.session_select,
            "seed": options.seed,
            "lines": [
                {"name": name, **line, "who": results.cards.get(name, {}).get("who")} for name, line in lines.items()
            ],
            "maps": not maps.empty,
            "atlas": saliency.atlas,
            **{name: not tables[name].empty for name in ("longitudinal", "reliability", "correlationcomparison")},
            "siteerror": bool((tables["siteerror"].kind == WITHIN).any()),
            "calibration": bool((tables["calibration"].status == "ok").any()),
            **{
                f"{what}s": bool(((tables["site"].effect == what) & (tables["site"].status == "ok")).any())
                for what in ("site", "dataset")
            },
            "pooled_datasets": list(pooled.names) if pooled and len(pooled.names) > 1 else None,
        }
    )
    page = GroupPage(
        title=f"Brain age in {dataset.name}",
        version=__version__,
        table=table.reset_index(),
        models=list(results.models),
        controls=list(dataset.controls),
        tables=tables,
        sessions=analysis.sessions,
        bias=lines,
        maps=maps,
        atlas=saliency.atlas,
        underlay=_underlay(maps, specs, outputs, results),
        scores=scores,
        methods=methods,
        software=software(),
        references=references_for(methods),
        warnings=[
            *(confounding(analysis.selected, dataset.controls) if pooled else ()),
            *(pooled.warnings if pooled else ()),
            *([analysis.choice] if analysis.choice else ()),
            *_warnings(dataset, results, lines, all(is_phantom(part) for _, part in pairs)),
            *not_covered(tables["calibration"]),
        ],
        phantom=any(is_phantom(part) for _, part in pairs) or any(card.get("phantom") for card in cards),
        participant_pages=any(outputs.root.glob("sub-*.html")),
        links=[pooled.links.get(key, "") for key in table.index] if pooled else None,
        quality=[row for root, _ in pairs for row in quality_rows(root)],
        qc_page=outputs.qc_page.name if outputs.qc_page.is_file() else None,
        trained_on={card["name"]: card["training"]["n"] for card in cards},
        files=_files(outputs),
        without_scan=sum(len(part.participants_without_scan) for _, part in pairs),
    )
    write_group_page(outputs.group_page, page, outputs.group_figures)
    record.note(f"group: {len(table)} scans, {len(results.failed)} without result, page written")


def _files(outputs: Outputs) -> dict[str, str]:
    """Return the name of every table of the group level -> its address relative to the page."""
    tables = [*outputs.group_table("brainage").parent.glob("*.tsv"), outputs.bias_correction, outputs.qc_table]
    return {path.stem: path.relative_to(outputs.root).as_posix() for path in sorted(tables) if path.is_file()}


def _external(results: Results) -> list[dict]:
    return [{"name": name, "external": True} for name in results.models if name not in results.cards]


def _warnings(dataset: Dataset, results: Results, lines: Mapping[str, Mapping], phantoms: bool) -> list[str]:
    warnings = []
    if not dataset.controls:
        warnings.append("No control group was found: there are no group comparisons. Name it with --control VALUE.")
    if len(results.failed):
        warnings.append(f"{len(results.failed)} scans have no result; they are listed below with the reason.")
    for name, line in lines.items():
        warnings += [f"{name}: {text}" for text in line.get("warnings", ())]
    for name in results.models:
        if of_training := results.cards.get(name, {}).get("warnings"):
            more = f" ({len(of_training) - 1} more on its training page)" if len(of_training) > 1 else ""
            warnings.append(f"{name}, training of {of_training[0]}{more}")
    warnings += notices([card for name, card in results.cards.items() if name in results.models])
    for name, card in results.cards.items():
        if name in results.models and card.get("phantom") and not phantoms:
            warnings.append(f"{name} was trained on phantoms: its ages say nothing about people.")
    return warnings


def not_covered(calibration: pd.DataFrame) -> list[str]:
    """Return a warning for each model whose intervals contain fewer controls than they should, beyond chance."""
    too_low = calibration[calibration["wilson_hi"] < calibration["level"] / 100]
    return [
        f"{row.model}: controls differ from the calibration people; the {row.level:g} % interval holds {row.covered:g} "
        f"of {row.n_controls} controls ({100 * row.coverage:.0f} %, 95 % CI {100 * row.wilson_lo:.0f} to "
        f"{100 * row.wilson_hi:.0f} %), so single people's intervals are too narrow here."
        for row in too_low.itertuples()
    ]


def _underlay(maps: pd.DataFrame, specs: Sequence[VolumeSpec], outputs: Outputs, results: Results) -> object | None:
    if maps.empty or not specs:
        return None
    from brainage_bids.preprocess.template import template_volume

    grid = specs[0].at(2)
    data, _ = template_volume(grid, template_root(results, outputs, grid))
    return data, grid.affine
