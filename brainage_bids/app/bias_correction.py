"""The age-bias line of every model at the group level: which people it is fitted on, and the corrected gaps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from brainage_bids.app.models import model_calibration
from brainage_bids.app.pooled import with_unique_ids
from brainage_bids.app.scan_queries import rows_where
from brainage_bids.bids.read import Dataset
from brainage_bids.errors import BadDataError, UsageError

if TYPE_CHECKING:
    from brainage_bids.app.options import GroupOptions
    from brainage_bids.app.types import Results
    from brainage_bids.stats.bias import BiasLine

COLE = "cole"
UNKNOWN_FOLD = "unknown"  # some fold held the person out, but it was not recorded which
_FIELDS = "method slope intercept slope_se r n age_min age_max age_mean residual_sd source".split()


@dataclass(frozen=True)
class Corrected:
    """Result of the age-bias step.

    Parameters
    ----------
    gaps
        The gaps of `Results`, with ``bag_corrected`` (years) from these lines, and ``conformal_p``.
    lines
        Content of ``biascorrection.json``.
    fitting
        Rows that the line was fitted on (``--bias-query``), and other rows of the same people; none enters a test.
    calibrated
        Model -> result of `stats.conformal.calibrated` for every row; None without a line.
    """

    gaps: pd.DataFrame
    lines: dict[str, dict]
    fitting: pd.Index
    calibrated: dict[str, pd.DataFrame | None]


def bias_corrected(results: Results, dataset: Dataset, options: GroupOptions) -> Corrected:
    """Fit the age-bias line of every model and correct every gap with it.

    Raises
    ------
    UsageError
        When ``--bias-query`` cannot be evaluated or selects nobody who can fit a line.
    """
    from brainage_bids.stats.bias import corrected_gap
    from brainage_bids.stats.conformal import calibrated

    table, lines, intervals = with_unique_ids(results.table), {}, {}
    gaps = results.gaps.assign(conformal_p=float("nan"))
    fitters, fitting = _rows_to_fit(table, options.bias_query)
    for name in results.models:
        mine = (gaps["model"] == name).to_numpy()
        prefixes = gaps["prefix"][mine]
        source = _source(name, table, results, dataset, options, fitters)
        if isinstance(source, str):
            gaps.loc[mine, "bag_corrected"] = float("nan")
            warnings = [source] if source else []
            lines[name] = dict.fromkeys(_FIELDS) | {"n": 0, "method": "none", "source": "none", "warnings": warnings}
            intervals[name] = None
            continue
        rows, people, line, note = source
        intervals[name] = calibrated(rows, people)
        outside = intervals[name]["conformal_p"].mask(table.index.isin(fitting))
        gaps.loc[mine, "conformal_p"] = outside[prefixes].to_numpy()
        lines[name] = dataclasses.asdict(line) | {"note": note}
        try:
            gap = pd.Series(corrected_gap(rows, people, options.bias_method), index=table.index)
            # keep the correction of the participant level if only it knew which fold held the person out
            before = rows["fold"].eq(UNKNOWN_FOLD)[prefixes].to_numpy() & (options.bias_method != COLE)
            gaps.loc[mine, "bag_corrected"] = gaps["bag_corrected"][mine].where(before, gap[prefixes].to_numpy())
            if options.bias_method == COLE:
                lines[name]["method"] = COLE
        except BadDataError as error:
            gaps.loc[mine, "bag_corrected"] = float("nan")
            lines[name] |= {"method": "none", "warnings": [*line.warnings, f"no corrected gap: {error}"]}
    return Corrected(gaps, lines, fitting, intervals)


def _rows_to_fit(table: pd.DataFrame, query: str | None) -> tuple[pd.Index, pd.Index]:
    """Return the rows to fit the line on, one per person, and all rows of these people."""
    from brainage_bids.stats.cohort_tables import select_rows

    if not query:
        return pd.Index([]), pd.Index([])
    matching = table[rows_where(table, query, "--bias-query")]
    fitters = select_rows(matching)[0].index
    if fitters.empty:
        raise UsageError(
            f"--bias-query {query!r} selects no row (of {len(table)}) that is usable: age known, quality passed, not "
            "trained on; no age-bias line can be fitted"
        )
    people = set(matching["participant_id"])
    return fitters, table.index[table["participant_id"].isin(people)]


def _source(
    name: str,
    table: pd.DataFrame,
    results: Results,
    dataset: Dataset,
    options: GroupOptions,
    fitters: pd.Index,
) -> str | tuple[pd.DataFrame, pd.DataFrame, BiasLine, str]:
    """Return the rows to correct, the people of the line, the line and a note; or why there is no line (may be "")."""
    from brainage_bids.stats.bias import crossfit_folds, fit_line

    mine = results.gaps[results.gaps["model"] == name].set_index("prefix")
    rows = pd.DataFrame(
        {
            "age": table["age"],
            **{kind: mine[kind].reindex(table.index) for kind in ("predicted_age", "predicted_age_sd")},
            "fold": None,
        }
    )
    note = ""
    if len(fitters):
        people, source = rows.loc[fitters], f"query: {options.bias_query}"
    elif options.bias_fit == "none":
        return ""
    elif options.bias_fit == "controls" or name not in results.cards:
        if not dataset.controls:
            return "no control group to fit the line on"
        rows, people = crossfit_folds(table, name, dataset.controls, seed=options.seed)
        source = "controls_crossfit"
        note = "the line of all controls; each control was corrected by the line of the others (5 folds)"
    else:
        people, source = model_calibration(results.cards[name]), "model_card"
        rows["fold"] = mine["fold"].reindex(table.index)
        rows.loc[rows["fold"] == UNKNOWN_FOLD, "age"] = float("nan")  # the line may be fitted on this person
        if people["fold"].notna().any():
            note = "the line of all folds; the gap of each person was corrected without the person's own fold"
    return rows, people, fit_line(people["age"], people["predicted_age"], source), note
