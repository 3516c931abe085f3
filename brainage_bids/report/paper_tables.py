"""Tables for a paper about the study: a summary of models and patients, missing values, flags and image quality.

Only rounds and words the results of the group level.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from brainage_bids.report import readable_names
from brainage_bids.report.groupdata import UNSTATED, GroupPage
from brainage_bids.report.html import NOT_AVAILABLE, count, decimals, number, p_value, text
from brainage_bids.report.html_tables import Column, Row, estimate, note, plain, plus_minus

_MEASURED = re.compile(r" -?[\d.]+(?:e-?\d+)? is (below|above) ")
_BRACKETS = re.compile(r"\s*\([^()]*\)\s*$")
_MOST_REASONS = 12


def paper_tables(page: GroupPage) -> dict[str, Any]:
    """Return the tables ``models patients missing flags quality``; None for a table without rows."""
    built = {
        "models": (fair_rows(page), lambda rows: _models(rows, page.trained_on)),
        "patients": (page.rows("patients"), _patients),
        "missing": (page.rows("missing"), _missing),
        "flags": (page.rows("flags"), _flags),
        "quality": (list(page.quality or ()), _quality),
    }
    return {name: make(rows) if rows else None for name, (rows, make) in built.items()}


def fair_rows(page: GroupPage) -> list[dict[str, Any]]:
    """Return for each model the fairest row of accuracy: its test set, else the controls, else everyone."""
    chosen = []
    for model in page.models:
        by_subset = {text(r.get("subset")): r for r in page.rows("accuracy") if text(r.get("model")) == model}
        pooled = "+".join(sorted(label for label in page.controls if f"group={label}" in by_subset))
        for subset in ("split=test", f"group={pooled}", *(f"group={label}" for label in page.controls), "all"):
            if number((by_subset.get(subset) or {}).get("mae")) is not None:
                chosen.append(by_subset[subset])
                break
    return chosen


def _models(rows: list[Row], trained_on: Mapping[str, int]) -> dict[str, Any]:
    columns: list[Column] = [
        ("Model", "w", lambda r: text(r.get("model"))),
        ("Trained on (people)", "n", lambda r: count(trained_on.get(text(r.get("model"))))),
        ("Judged on", "w", lambda r: readable_names.subset_name(r.get("subset"))),
        ("n", "n", lambda r: count(r.get("n"))),
        ("MAE ± SD (years)", "n", lambda r: plus_minus(r.get("mae"), r.get("ae_sd"))),
        ("Mean gap (years)", "n", lambda r: decimals(r.get("bag_mean"), sign=True)),
        ("p of mean gap = 0", "n", lambda r: p_value(r.get("bag_p"))),
        ("R²", "n", lambda r: decimals(r.get("r2"))),
    ]
    return plain("The models in short, uncorrected predictions; all subsets are in the next table", columns, rows)


def _patients(rows: list[Row]) -> dict[str, Any]:
    """Return one line per group, model and score: the raw correlation, as in the paper, and the primary test."""
    lines: dict[tuple, dict] = {}
    for row in rows:
        line = lines.setdefault(tuple(text(row.get(key)) for key in ("group", "model", "score")), {**row})
        if text(row.get("variant")) != NOT_AVAILABLE:
            line["raw" if row["variant"] == "raw" else "adjusted"] = row
    columns: list[Column] = [
        ("Population", "w", lambda r: text(r.get("group"))),
        ("Model", "w", lambda r: text(r.get("model"))),
        ("n", "n", lambda r: count(r.get("n"))),
        ("MAE ± SD (years)", "n", lambda r: plus_minus(r.get("mae"), r.get("ae_sd"))),
        ("Gap, mean ± SD (years)", "n", lambda r: plus_minus(r.get("bag_mean"), r.get("bag_sd"), 2, True)),
        ("p of mean gap = 0", "n", lambda r: p_value(r.get("bag_p"))),
        ("Score", "long", lambda r: readable_names.score_name(text(r.get("score")))),
        ("Correlation, raw gap", "long", lambda r: _correlation(r.get("raw"))),
        ("Adjusted for age and sex", "long", lambda r: _correlation(r.get("adjusted"))),
        ("Note", "note", note),
    ]
    return plain("Patients: error, gap and its correlation with clinical scores", columns, list(lines.values()))


def _correlation(row: Row | None) -> str:
    if not row or number(row.get("corr")) is None:
        return NOT_AVAILABLE
    p = p_value(row.get("corr_p"))
    result = f"{estimate(row, 'corr', 'corr_ci_lo', 'corr_ci_hi', sign=True)}, n = {count(row.get('corr_n'))}"
    return result + ("" if p == NOT_AVAILABLE else f", p {p}" if p.startswith("<") else f", p = {p}")


def _missing(rows: list[Row]) -> dict[str, Any]:
    return _by_group(
        "Scans without a value, of all scans with a result",
        rows,
        [("Variable", "variable", _variable)],
        lambda row: _share(row["n_missing"], row["n"]),
        lambda row: f"{count(row['n'])} scans",
    )


def _flags(rows: list[Row]) -> dict[str, Any]:
    columns = [("Flag", "flag", text), ("Model", "model", text)]
    built = _by_group("Flags of the predictions", rows, columns, lambda row: _share(row["n"], row["n_scans"]), None)
    flags = [line[0]["text"] for line in built["rows"]]
    built["notes"] = [
        readable_names.FLAGS.get(flag, "") if flag not in flags[i + 1 :] else "" for i, flag in enumerate(flags)
    ]  # the meaning of a flag is shown below its last model
    return built


def _by_group(caption: str, rows: list[Row], keys: list[tuple], cell, head) -> dict[str, Any]:
    """Return a table with one line per key and one column per group, everyone first."""
    groups = list(dict.fromkeys(text(row.get("group")) for row in rows))
    groups.sort(key=lambda label: (label != "all", label == NOT_AVAILABLE, label))
    if set(groups) == {"all", NOT_AVAILABLE}:
        groups = ["all"]
    lines: dict[tuple, dict] = {}
    sizes: dict[str, str] = {}
    for row in rows:
        key = tuple(text(row.get(name)) for _, name, _ in keys)
        group = text(row.get("group"))
        lines.setdefault(key, {})[group] = cell(row)
        sizes[group] = f", {head(row)}" if head else ""
    columns: list[Column] = [
        (title, "w", lambda line, i=i, show=show: show(line["key"][i])) for i, (title, _, show) in enumerate(keys)
    ]
    names = {"all": "Everyone", NOT_AVAILABLE: UNSTATED}
    columns += [
        (f"{names.get(group, group)}{sizes.get(group, '')}", "n", lambda line, group=group: line.get(group, "0"))
        for group in groups
    ]
    return plain(caption, columns, [{**cells, "key": key} for key, cells in lines.items()])


def _variable(name: str) -> str:
    if name.startswith("predicted_age_"):
        return f"Predicted age, {name.removeprefix('predicted_age_')}"
    return name.capitalize() if name in ("age", "sex", "group", "site") else readable_names.score_name(name)


def _share(part: Any, whole: Any) -> str:
    some, all_ = number(part) or 0, number(whole) or 0
    return "0" if not some else f"{count(some)} ({100 * some / all_:.1f} %)" if all_ else count(some)


def _quality(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of verdicts and of reasons; reasons are counted without the numbers of single scans."""
    verdicts = [
        ("Scans looked at", len(rows)),
        ("Passed every gate", sum(bool(row["passed"]) for row in rows)),
        ("Did not pass a gate", sum(not row["passed"] and not row["refused"] for row in rows)),
        ("Could not be processed", sum(bool(row["refused"]) for row in rows)),
        ("Passed with a warning", sum(bool(row["passed"] and row["reasons"]) for row in rows)),
        ("Taken in by a person (qc_decision pass)", sum(row["decision"] == "pass" for row in rows)),
        ("Left out by a person (qc_decision fail)", sum(row["decision"] == "fail" for row in rows)),
    ]
    lines = verdicts[:3] + [line for line in verdicts[3:] if line[1]]
    reasons = Counter(reason for row in rows for reason in dict.fromkeys(map(general_reason, row["reasons"])))
    lines += [(f"Reason: {reason}", n) for reason, n in reasons.most_common(_MOST_REASONS)]
    if len(reasons) > _MOST_REASONS:
        lines.append(("Other reasons", sum(reasons.values()) - sum(n for _, n in reasons.most_common(_MOST_REASONS))))
    columns: list[Column] = [
        ("Quality control", "long", lambda line: line[0]),
        ("Scans", "n", lambda line: _share(line[1], len(rows)) if line[1] != len(rows) else count(line[1])),
    ]
    return plain("Image quality", columns, lines)


def general_reason(reason: str) -> str:
    """Return a reason of the gates without the numbers of one scan: ``snr 7.2 is below 8`` -> ``snr is below 8``."""
    return _BRACKETS.sub("", _MEASURED.sub(r" is \1 ", reason))
