"""The studies of ``simulation.py``: what is drawn in each part, given to the package, and true of its population.

Rows are named as in the tables of the group level, with the function in brackets.
"""

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import simulated as draw
from scipy import stats

from brainage_bids.stats import accuracy, bias, linerror, longitudinal, roc, saliency, site
from brainage_bids.stats.bootstrap import correlation_bca
from brainage_bids.stats.correlate import correlation, partial_correlation
from brainage_bids.stats.dependent import williams_t
from brainage_bids.stats.groups import ancova, match_by_age, welch
from brainage_bids.stats.region_contrasts import region_differences
from brainage_bids.stats.reliability import agreement

SEED = 20261121
LEVEL = 0.05
PERMUTATIONS = 499
LARGE = 500_000  # people of each sample that gives the true values
SCORES = (("adas11", "pearson"), ("adas11", "spearman"), ("hy", "spearman"))


class Study:
    """``found[name]`` = (significant, covered) of one study; shares where it holds many answers, NaN where none."""

    def __init__(self):
        self.found = {}

    def add(self, name, row, truth=None, test="p", interval=("ci_lo", "ci_hi")):
        """Note the p under ``test`` (None: no test) and whether the interval holds the truth (None: no interval)."""
        significant = np.mean(np.asarray(row[test]) <= LEVEL) if test else math.nan
        covered = math.nan
        if truth is not None:  # of many answers (regions) the share
            covered = np.mean((np.asarray(row[interval[0]]) <= truth) & (truth <= np.asarray(row[interval[1]])))
        self.found[name] = (float(significant), float(covered))


def cross_section(rng, population, truth):
    """Patients against controls, scores, areas under the curve, sites; one scan a person."""
    study = Study()
    case, control, heldout = population.study(rng)
    bag, healthy = case["bag_a"].to_numpy(), control["bag_a"].to_numpy()
    held = heldout.rename(columns={"predicted_age_a": "predicted_age"})
    for part in (case, control):
        part["corrected"] = bias._correct(part["age"].to_numpy(), part["predicted_age_a"].to_numpy(), held)[0][:, 0]
    line = bias.fit_line(held["age"], held["predicted_age"])

    study.add("accuracy bag_p of patients [one_sample_t]", accuracy.one_sample_t(bag), truth["bag"])
    row = welch(bag, healthy)
    study.add("groupdiff raw [welch]", row, truth["difference"])
    study.add("groupdiff raw, hedges_g [hedges_g]", row, truth["g"], None, ("g_ci_lo", "g_ci_hi"))
    row = ancova(case, control, "bag_a", ("age", "male"))
    study.add("groupdiff ancova:age+sex [ancova]", row, population.effect)
    study.add("groupdiff ancova:age+sex, p_hc3 [ancova]", row, None, "p_hc3")
    row = ancova(case, control, "bag_a", ("age", "male", "place"))
    study.add("groupdiff ancova:age+sex+site [ancova]", row, population.effect)
    row = welch(case["corrected"], control["corrected"])
    study.add("groupdiff corrected [welch]", row, population.effect)
    of_line = truth["difference"] - (line.slope - 1) * truth["years older"]
    study.add("groupdiff corrected, truth of this line [welch]", row, of_line, None)
    known, line_ci = dataclasses.asdict(line), ("line_ci_lo", "line_ci_hi")
    row |= linerror.of_difference(known, case["age"].mean() - control["age"].mean(), row)
    study.add("groupdiff corrected, line_ci [of_difference]", row, population.effect, None, line_ci)
    study.add(
        "groupdiff corrected, line_g_ci [of_difference]",
        row,
        truth["corrected g"],
        None,
        ("line_g_ci_lo", "line_g_ci_hi"),
    )
    pairs = np.array(match_by_age(case["age"].to_numpy(), control["age"].to_numpy()))
    study.add("groupdiff raw:age-matched [welch]", welch(bag[pairs[:, 0]], healthy[pairs[:, 1]]), population.effect)
    for name, row in _areas(case, control):
        study.add(f"roc {name}", row | {"p": float(row["ci_lo"] <= 0.5 <= row["ci_hi"])}, truth[name])  # 0: without 0.5
        if "corrected" not in name:
            study.add(f"roc {name}, logit_ci", row, truth[name], None, ("logit_ci_lo", "logit_ci_hi"))
    of_line = np.interp(line.slope, *truth["areas by slope"])
    row = roc.area(case["corrected"], control["corrected"])
    study.add("roc corrected, truth of this line [area]", row, of_line, None)
    gaps, ages = ([part[name] for part in (case, control)] for name in ("corrected", "age"))
    row |= roc.line_interval(row, gaps, ages, known)
    study.add("roc corrected, line_ci [line_interval]", row, truth["corrected [area]"], None, line_ci)
    row = accuracy.one_sample_t(case["corrected"])
    row |= linerror.of_mean(known, case["age"], row["mean"], row["ci_lo"], row["ci_hi"])
    study.add("groupdiff corrected:one-sample, line_ci [of_mean]", row, population.effect, None, line_ci)
    for name, row in _correlations(case):
        study.add(f"correlations {name}", row, truth[name] if "ci_lo" in row else None)
    study.add("(models a and b, one score) [williams_t]", williams_t(case["adas11"], case["bag_a"], case["bag_b"]))
    if not population.site:
        named = control.assign(site=control["place"].map(str), sex=control["male"].map(str))
        study.add("site [site_effect]", site._test(named, "bag_a", "site"))
    inside = (np.abs(control["corrected"]) <= bias.conformal_half_width(_corrected(line, held))).to_numpy()
    study.found["pred_lo to pred_hi, new controls [conformal_half_width]"] = (math.nan, inside.mean())
    old = (control["age"] >= 60).to_numpy()
    study.found["pred_lo to pred_hi, only those of 60-90 [conformal_half_width]"] = (math.nan, inside[old].mean())
    return study.found


def _corrected(line, people):
    return bias.corrected_bag(line, people["age"], people["predicted_age"] - people["age"])


def _areas(case, control):
    for name, column in (("raw [area]", "bag_a"), ("corrected [area]", "corrected")):
        yield name, roc.area(case[column], control[column])
    table = pd.concat([case, control], ignore_index=True)
    table["sex"] = np.array(["F", "M"], dtype=object)[table["male"]]
    is_case = np.arange(len(table)) < len(case)
    residual, design, _ = roc._adjusted(table, table["bag_a"].to_numpy(), ~is_case)
    yield "adjusted:age+sex [adjusted_area]", roc.adjusted_area(residual, design, is_case, ~is_case)


def _correlations(case):
    for score, kind in SCORES:
        for variant, gap in (("raw", "bag_a"), ("corrected", "corrected")):
            yield f"{variant} {kind} {score} [correlation]", correlation(case[gap], case[score], kind)
        row = partial_correlation(case["bag_a"], case[score], case[["age", "male"]], kind)
        yield f"partial:age+sex {kind} {score} [partial_correlation]", row


def cross_section_truth(population):
    """Return the true values by name, from large samples and the known line."""
    rng = np.random.default_rng(SEED)
    case, control = population.people(rng, LARGE, True), population.people(rng, LARGE, False)
    n = np.array([population.patients, draw.CONTROLS])
    spread = np.array([part["bag_a"].var() for part in (case, control)])
    truth = {"bag": case["bag_a"].mean(), "difference": case["bag_a"].mean() - control["bag_a"].mean()}
    truth["years older"] = case["age"].mean() - control["age"].mean()
    truth["g"] = truth["difference"] / math.sqrt((n - 1) @ spread / (n.sum() - 2))
    case["corrected"], control["corrected"] = case["bag_true"], control["bag_true"]
    spread = np.array([part["corrected"].var() for part in (case, control)])
    truth["corrected g"] = population.effect / math.sqrt((n - 1) @ spread / (n.sum() - 2))
    truth |= {name: row["auc"] for name, row in _areas(case, control)}
    slopes = np.linspace(0.7, 1.0, 7)
    areas = [roc.area(*(part["bag_a"] - (slope - 1) * part["age"] for part in (case, control))) for slope in slopes]
    truth["areas by slope"] = (slopes, [row["auc"] for row in areas])
    return truth | {name: row["estimate"] for name, row in _correlations(case)}


def errors(rng, population, truth):
    """Accuracy of one model, comparison of two; the intervals of the mean error from 10,000 resamples."""
    study, mae = Study(), ("mae_ci_lo", "mae_ci_hi")
    people = population.people(rng, draw.CONTROLS, False)
    for n in (draw.CONTROLS, 41, 15):  # the test set of the paper and the sizes of its age bins
        row = accuracy.accuracy_of(people["age"][:n], people["predicted_age_a"][:n])
        study.add(f"accuracy mae, n = {n} [mean_interval]", row, truth["mae"], None, mae)
    table = people.assign(group="NC", sex=np.array(["F", "M"], dtype=object)[people["male"]])
    row = accuracy._sex_difference(table, people["bag_a"].to_numpy(), ["NC"])
    study.add("accuracy sex=M-F [_sex_difference]", row, population.sex, "bag_p", ("bag_ci_lo", "bag_ci_hi"))
    row = accuracy.compare_errors(np.abs(people["bag_a"]), np.abs(people["bag_b"]))
    study.add("modelcomparison mae_diff, t [compare_errors]", row, truth["mae_diff"])
    study.add("modelcomparison wilcoxon_p [compare_errors]", row, None, "wilcoxon_p")
    bca = ("bca_ci_lo", "bca_ci_hi")
    study.add("modelcomparison mae_diff, BCa [mean_interval]", row, truth["mae_diff"], None, bca)
    return study.found


def errors_truth(population):
    """Return the mean error of model a and its difference from that of model b."""
    people = population.people(np.random.default_rng(SEED), LARGE, False)
    mae = [people[f"bag_{model}"].abs().mean() for model in "ab"]
    return {"mae": mae[0], "mae_diff": mae[0] - mae[1]}


def crossfit(rng, population, truth):
    """Gaps corrected by a line of the study's own controls, five folds."""
    study = Study()
    case, control, _ = population.study(rng)
    table = pd.concat([case.assign(group="AD"), control.assign(group="NC")], ignore_index=True)
    table = table.assign(participant_id=[f"sub-{i:03d}" for i in range(len(table))], session_id=None, run=None)
    gap = bias.corrected_gap(*bias.crossfit_folds(table, "a", ["NC"]))
    row = welch(gap[: len(case)], gap[len(case) :])
    study.add("groupdiff corrected, --bias-fit controls [welch]", row, truth["effect"])
    line = dataclasses.asdict(bias.fit_line(control["age"], control["predicted_age_a"]))
    row |= linerror.of_difference(line, case["age"].mean() - control["age"].mean(), row)
    ends = ("line_ci_lo", "line_ci_hi")
    study.add("groupdiff corrected, --bias-fit controls, line_ci [of_difference]", row, truth["effect"], None, ends)
    return study.found


def crossfit_truth(population):
    """Return the planted effect."""
    return {"effect": population.effect}


def sessions(rng, setting, truth):
    """Rates and the mixed model; the names in ``truth`` are those of the table."""
    study, controls = Study(), ["NC"]
    people = longitudinal.usable_people(draw.sessions(rng, *setting), "a")
    found = longitudinal._rate_rows(longitudinal.person_rates(people), controls)
    mixed = longitudinal.mixed_model(people, controls, ("age_bl", "sex"))
    for row in [*found, *({"analysis": "mixed:age_bl+sex", **row} for row in mixed)]:
        name = f"{row['analysis']} {row['group']} {row['term']}"
        if name in truth:
            where = "mixed_model" if "mixed" in name else "_rate_rows"
            study.add(f"longitudinal {name} [{where}]", row, truth[name], "p" if "p" in row else None)
        if name.endswith("time:group=AD"):
            row = {"p": _in_note(r"sandwich se \S+ p (\S+?);", row)}
            study.add(f"longitudinal {name}, sandwich p of the note [mixed_model]", row)
    return study.found


def sessions_truth(setting):
    """Return the true terms of the longitudinal table."""
    _, rate, _ = setting
    lost = draw.SLOPE - 1  # years a year by which a healthy gap falls
    mixed = {"group=AD": 0.0, "time": lost, "time:group=AD": rate, "age_bl": lost, "sex": 0.0}
    return {
        "rate AD mean": draw.SLOPE + rate,
        "bag_rate AD mean": lost + rate,
        "bag_rate AD AD-NC": rate,
        **{f"mixed:age_bl+sex all {term}": value for term, value in mixed.items()},
    }


def retest(rng, setting, truth):
    """Agreement of two scans; the limits as a promise for the next pair."""
    study, row = Study(), agreement(draw.retest(rng, *setting))
    for name in ("icc21", "icc31"):
        study.add(f"reliability {name} [agreement]", row, truth["icc"], None, (f"{name}_ci_lo", f"{name}_ci_hi"))
    spread = stats.norm(0, truth["sd"])
    inside = spread.cdf(row["ba_loa_hi"]) - spread.cdf(row["ba_loa_lo"])
    study.found["reliability ba_loa, the next pair [agreement]"] = (math.nan, inside)
    study.found["reliability rc, the next pair [agreement]"] = (math.nan, 2 * spread.cdf(row["rc"]) - 1)
    return study.found


def retest_truth(setting):
    """Return the intraclass correlation and the SD of the difference of two scans."""
    _, between, within = setting
    return {"icc": between**2 / (between**2 + within**2), "sd": math.sqrt(2) * within}


def regions(rng, effect, truth):
    """116 regions. With an effect the regions that have it give the power, the others the errors of the family."""
    study = Study()
    values, ageing, is_case, covariates = draw.regional(rng, effect)
    seed = int(rng.integers(2**31))
    planted = np.arange(draw.REGIONS) < (draw.AFFECTED if effect else draw.REGIONS)
    for name, data, held in (("", values, None), (" age and sex held,", ageing, covariates)):
        row = region_differences(data, is_case, held, PERMUTATIONS, seed)
        for column in ("p", "p_perm") + (("q_fdr", "p_fwe") if effect else ()):
            study.add(f"regiondiff{name} {column} of a region [region_differences]", row[planted], None, column)
        if not effect:
            for column in ("p_fwe", "q_fdr"):
                study.add(f"regiondiff{name} smallest {column} [region_differences]", {"p": row[column].min()})
        else:
            study.add(
                f"regiondiff{name} smallest p_fwe elsewhere [region_differences]", {"p": row["p_fwe"][~planted].min()}
            )
    if not effect:
        row = region_differences(ageing, is_case, None, 1, seed)
        study.add("regiondiff p of a region that follows age, not held [region_differences]", row)
    return study.found


def regions_truth(effect):
    """Nothing has an interval here."""
    return {}


def resampled(rng, population, truth):
    """Bootstrap intervals of correlations, as the group level makes them."""
    study, ends = Study(), ("bca_ci_lo", "bca_ci_hi")
    case, _, _ = population.study(rng)
    seed = int(rng.integers(2**31))
    for score, kind in SCORES:
        for variant, held in (("raw", None), ("partial:age+sex", case[["age", "male"]].to_numpy(dtype=float))):
            if (variant, score, kind) == ("partial:age+sex", "adas11", "spearman"):
                continue  # not a primary row
            x, y = (case[name].to_numpy() for name in ("bag_a", score))
            row = dict(zip(ends, correlation_bca(x, y, held, kind == "spearman", seed), strict=True))
            function = "correlation" if held is None else "partial_correlation"
            true = truth[f"{variant} {kind} {score} [{function}]"]
            study.add(f"correlations {variant} {kind} {score}, BCa [correlation_bca]", row, true, None, ends)
    return study.found


def maps(rng, setting, truth):
    """Means of regions and the ranks of these means; people differ in the level of the whole map, too."""
    study, people = Study(), setting[0]
    regions = len(truth["mean"])
    noise = 0.1 * rng.standard_normal((people, 1)) + 0.1 * rng.gamma(2, 1, (people, regions)) / math.sqrt(2)
    values = truth["mean"] + noise - 0.1 * math.sqrt(2)
    row = saliency._describe(values, 0.8, int(rng.integers(2**31)))
    study.add("saliency_regions mean [t]", row, truth["mean"], None)
    low, high = np.array([text.split("-") for text in row["rank_ci"]], dtype=float).T
    study.add("saliency_regions rank_ci [_rank_interval]", {"lo": low, "hi": high}, truth["rank"], None, ("lo", "hi"))
    return study.found


def maps_truth(setting):
    """Return the true means of 30 regions, ``step`` apart, and their ranks."""
    mean = 0.3 + setting[1] * np.arange(30)
    return {"mean": mean, "rank": 30.0 - np.arange(30)}


def _in_note(pattern, row):
    return float(re.search(pattern, row["note"] + ";").group(1))
