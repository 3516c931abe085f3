"""Codes in words for clinicians: flags, scores, subsets, statuses and test variants."""

from __future__ import annotations

import re

from brainage_bids.report.html import NOT_AVAILABLE, text

FLAGS = {
    "out_of_fold": "The prediction comes from a model that was trained without this person (cross-validation), "
    "so it is a fair prediction.",
    "in_training": "The model was trained on this person, so the gap is smaller than it would be for a new person; "
    "the row is left out of the statistics.",
    "in_validation": "The person helped to choose the epoch of the model; the row is left out of the statistics.",
    "age_extrapolated": "The age lies outside the ages the model was trained on, so the prediction is an extrapolation "
    "and may be far off.",
    "contrast_extrapolated": "Grey matter is brighter or darker against white than in the scans the model was "
    "trained on, as on another scanner or with another sequence; the model may read that as years, so the prediction "
    "may be far off.",
    "brain_cropped": "A part of the brain lies outside of the box that the model reads, so the model did not see it; "
    "look at how the scan lies on the template.",
    "bias_extrapolated": "The age lies outside the ages on which the age-bias line was fitted, so the corrected gap is "
    "less certain than its interval says.",
    "bias_offset": "Too few held-out people were there to fit an age-bias line; only a constant offset was removed.",
    "top_coded": "The dataset hides the exact age of the oldest people (for example 89+), so the true age may be "
    "higher and the brain age gap smaller than shown.",
    "possibly_top_coded": "The age is exactly 89, the cap of many datasets, so the true age may be higher and the "
    "brain age gap smaller than shown.",
    "age_not_session_specific": "The age was given once per person and not for this session; if the scan was made "
    "later, the gap is too large by the years in between.",
    "age_from_dates": "The age is an earlier one plus the time between the dates of acquisition.",
    "age_from_session_label": "The age is that at entry plus the time in the label of the session (ses-M024, "
    "ses-d0730).",
    "age_at_baseline": "Only an age at baseline is known; if the scan was made later, the gap is too large by the "
    "years in between.",
    "age_may_be_baseline": "The only scan is of a later session and the only age has no session; it may be the age "
    "at entry, and the gap then too large by the years in between.",
    "saturated": "All scans have the same predicted age, so the program that made them did not read these images.",
    "age_gap_implausible": "The age predicted elsewhere is 40 years or more from the true age; look at the id and the "
    "unit in that program's table, and at the scan.",
    "qc_warn": "A quality number of the scan is unusual; look at its pictures before using the numbers.",
}

SCORES = {
    "adas11": "ADAS-Cog-11",
    "adas13": "ADAS-Cog-13",
    "updrs3": "UPDRS-III",
    "hy": "Hoehn & Yahr",
    "mmse": "MMSE",
    "moca": "MoCA",
    "cdr_global": "CDR global",
    "cdr_sb": "CDR sum of boxes",
}

STATUSES = {
    "ok": "",
    "ok_no_ci": "too few people for a confidence interval",
    "insufficient_n": "too few people for this test",
    "constant_input": "all values are equal",
    "zero_variance": "no variation",
    "perfect": "a perfect relation, most likely two copies of one quantity",
    "degenerate": "no interval can be given",
    "no_controls": "no control group",
    "rank_deficient": "the covariates repeat each other",
    "confounded": "cannot be told apart from the group",
    "skipped": "not applicable",
}

REASONS = {
    "no_age": "no age is known",
    "qc_failed": "the image did not pass quality control",
    "in_training": "a model was trained on this person",
    "other_run": "another scan of the same session was taken",
    "other_session": "another session of the same person was taken",
}

_STATISTICS = {"pearson": "Pearson r", "spearman": "Spearman ρ", "kendall": "Kendall τ-b"}
_SEX = {"F": "women", "M": "men", "O": "other sex"}
_FACTS = {
    "age": "Age at the scan", "age_source": "Source of the age", "sex": "Sex", "group": "Group", "site": "Site",
    "recognised": "Recognised in the scan",
}  # fmt: skip
_METRICS = {
    "snr": "Signal-to-noise ratio",
    "cnr": "Contrast-to-noise ratio",
    "ncc": "Similarity to the template (normalised cross-correlation)",
    "dice": "Overlap with the template brain (Dice)",
    "mask_volume_ml": "Brain mask (mL)",
    "template_dice": "Overlap with the template (Dice)",
    "template_ncc": "Correlation with the template",
    "fov_cut_fraction": "Template brain outside the scan (share)",
    "mask_edge_fraction": "Brain surface cut by the scan's edge (share)",
    "scale_min": "Smallest scale of the affine",
    "scale_max": "Largest scale of the affine",
    "scale_volume": "Enlargement by the affine (volume)",
    "shear_max": "Largest shear of the affine",
    "rotation_deg": "Turn of the head (degrees)",
    "tissue_contrast": "White-grey contrast",
    "fwhm_mm": "Effective resolution (mm)",
    "fwhm_max_mm": "Effective resolution, worst axis (mm)",
}


def flags_in_words(flags: object) -> list[tuple[str, str]]:
    """Return ``(flag, sentence)`` for each flag of a ``;`` list; an unknown flag keeps its name."""
    names = [name.strip() for name in text(flags).split(";")]
    unknown = "No explanation is known for this flag; see the documentation of the step that set it."
    return [(name, FLAGS.get(name, unknown)) for name in names if name and name != NOT_AVAILABLE]


def score_name(name: str) -> str:
    """Return the usual spelling of a clinical score; other names stay as they are."""
    return SCORES.get(name, name)


def fact_name(name: str) -> str:
    """Return the label of a fact about a scan."""
    return _FACTS.get(name, SCORES.get(name, name.replace("_", " ")))


def metric_name(name: str) -> str:
    """Return the label of a QC metric. For unknown ones it is the name, with the unit from the end of the name."""
    known = _METRICS.get(name)
    if known:
        return known
    stem, unit = re.fullmatch(r"(.*?)(?:_(ml|mm|deg|s))?", name).groups()
    label = stem.replace("_", " ")
    return label[:1].upper() + label[1:] + (f" ({ {'ml': 'mL', 'deg': 'degrees'}.get(unit, unit) })" if unit else "")


def statistic_name(name: str) -> str:
    """Return a correlation coefficient's name with its symbol."""
    return _STATISTICS.get(name, name)


def variant_name(variant: str) -> str:
    """Return which gap was tested and what was held constant, in words."""
    name, _, covariates = text(variant).partition(":")
    held = (
        covariates.replace("+", ", ").replace(", ", " and ")
        if covariates.count("+") < 2
        else (", ".join(covariates.split("+")[:-1]) + " and " + covariates.split("+")[-1])
    )
    if name in {"partial", "ancova"} and covariates:
        return f"raw gap, adjusted for {held}"
    gap = {"raw": "raw gap", "corrected": "age-bias-corrected gap", "adjusted": "raw gap"}.get(name, text(variant))
    rest = {
        "age-overlap": ", people of overlapping ages",
        "age-matched": ", pairs matched by age",
        "one-sample": ", against zero",
    }
    if name == "adjusted" and covariates:
        return f"raw gap, adjusted for {held}"
    return gap + rest.get(covariates, "")


def subset_name(subset: str) -> str:
    """Return ``age=[20,40)`` as ``age 20 to under 40``, ``sex=F`` as ``women``, ``group=AD`` as ``AD``."""
    family, _, value = text(subset).partition("=")
    if family == "age" and (ends := re.fullmatch(r"\[([\d.]+),\s*([\d.]+|inf)\)", value)):
        low, high = ends.groups()
        return f"age {low} and above" if high == "inf" else f"age {low} to under {high}"
    if family == "age" and value.startswith("<"):
        return f"age under {value[1:]}"
    if family == "sex":
        return _SEX.get(value, f"sex {value}")
    named = {
        "all": "everyone",
        "group": value,
        "split": f"{value} set",
        "site": f"site {value}",
        "dataset": f"dataset {value}",
    }
    return named.get(family, text(subset))


def place_name(subset: str) -> str:
    """Return a place that a model left out, in words: ``site=A`` -> ``site A``."""
    return "all places" if text(subset) == "all" else subset_name(subset)


def family_of(subset: str) -> str:
    """Return the family of a subset: ``all``, ``group``, ``split``, ``age``, ``sex``, ``site`` or ``other``."""
    family = text(subset).partition("=")[0]
    return family if family in {"all", "group", "split", "age", "sex", "site"} else "other"
