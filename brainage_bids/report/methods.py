"""Write the methods text for a paper, with its references.

A sentence without its value is left out, so that the text claims nothing that was not done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from brainage_bids.report.readable_names import score_name
from brainage_bids.report.references import references_for

_INTENSITY = {
    "minmax": "clipped to the 0.5th and 99.5th percentile inside the mask and scaled to the range 0 to 1",
    "zscore": "clipped to the 0.5th and 99.5th percentile inside the mask and scaled to zero mean and unit variance",
}
_N4 = "intensity non-uniformity was corrected with N4 (Tustison et al., 2010)"
_ENGINES = {
    "builtin": f"The brain was extracted with deepbet (Fisch et al., 2024), {_N4}, and the brain was registered to the "
    "template with a 12-parameter affine transformation that maximises the normalised cross-correlation, starting from "
    "several poses.",
    "ants": f"The brain was extracted with deepbet (Fisch et al., 2024), {_N4}, and the brain was registered to the "
    "template with ANTs (Avants et al., 2011): a rigid, then a 12-parameter affine transformation that maximises the "
    "global correlation.",
    "fsl": f"The brain was extracted with BET (Smith, 2002), {_N4}, and the brain was registered to the template with "
    "FLIRT (Jenkinson et al., 2002), 12 parameters, normalised correlation.",
    "minc": f"The brain was extracted with BEaST (Eskildsen et al., 2012), {_N4}, the brain was registered to the "
    "template with bestlinreg (Collins et al., 1994), 12 parameters, cross-correlation, and resampled with "
    "mincresample, tricubic interpolation.",
}
_PREPARED = (
    "the bias-corrected native image and the brain mask that another pipeline had made (desc-preproc_T1w and "
    "desc-brain_mask) were used as they are, and the brain was registered to the template with a 12-parameter affine "
    "transformation that maximises the normalised cross-correlation."
)
_LOSSES = {
    "rnc": "in two stages: the encoder with the Rank-N-Contrast loss (Zha et al., 2023), as proposed for brain age by "
    "Crête et al. (Crête et al., 2025), then one linear layer on the frozen encoder with the L1 loss",
    "l1": "end to end with the L1 loss",
    "ridge": "by principal component analysis and ridge regression (Pedregosa et al., 2011)",
}


_FORMS = {  # method of the age-bias line -> text
    "beheshti": "with a line BAG = a * age + b (Beheshti et al., 2019)",
    "cole": "in the form (predicted age - b) / s - age of a line predicted age = s * age + b (Cole et al., 2018)",
    "offset": "as a constant offset, where there were too few people for a line",
}
QUERY = "query: "  # the source of a line starts with this if its people were chosen by --bias-query

_ATLASES = {  # part of the name of an atlas -> citation; the first match is used
    "aal2": " (Rolls et al., 2015)",
    "aal": " (Tzourio-Mazoyer et al., 2002)",
    "desikan": " (Desikan et al., 2006)",
    "destrieux": " (Destrieux et al., 2010)",
}


def participant_methods(values: Mapping[str, Any]) -> str:
    """Return the methods text of the participant level.

    Parameters
    ----------
    values
        All optional: ``version``; ``engines`` (``builtin``, ``ants``, ..., and ``prepared`` for scans that another
        pipeline masked and corrected); ``grids``, of each kind of volume: ``template``, ``resolution`` (mm), ``shape``
        (voxels) and ``intensity`` (``minmax``, ``zscore``); ``models``, a list of mappings with ``name`` and, where
        known, ``backbone`` (``3D ResNet-18``), ``loss`` (``rnc``, ``l1``, or a sentence part), ``n_train``,
        ``age_min``, ``age_max`` (years), ``folds``, ``left_out`` (column of which each fold is a value), ``external``
        (True: made elsewhere), ``phantom`` (True: synthetic images), ``who`` (the people it was trained on, ``healthy
        people`` by default), ``box`` (voxels that it reads of a volume, where not all);
        ``lines``, the age-bias line of each model: ``name``, ``method`` (``beheshti``, ``cole``, ``offset``, ``none``),
        ``source`` (``model_card``, ``controls_crossfit``, ``query: ...``), ``n`` people, ``who`` they are when
        not healthy people; ``saliency`` (True when maps were made); ``coverage`` (percent).
    """
    blocks = [
        "### Image processing",
        _preprocessing(values),
        "### Brain age models",
        *(_model(model) for model in values.get("models", ())),
    ]
    if values.get("models"):
        blocks += ["### Age bias and uncertainty", _bias(values)]
    if values.get("saliency"):
        blocks += ["### Maps", _saliency()]
    return _joined(blocks)


def group_methods(values: Mapping[str, Any]) -> str:
    """Return the methods text of the group level.

    Parameters
    ----------
    values
        Those of `participant_methods` and, all optional: ``controls`` (labels), ``groups`` (labels), ``scores``
        (names), ``ranked`` (those of them whose primary statistic is Spearman's), ``covariates`` (names),
        ``session_select``, ``n_bootstrap``, ``n_permutation``, ``seed``, ``pooled_datasets`` (names, where there are
        several), ``maps`` (True when averaged), ``atlas`` (`app.group_maps`), ``sites``, ``datasets``,
        ``longitudinal``, ``reliability``, ``correlationcomparison``, ``calibration``, ``siteerror`` (True where there
        are results).
    """
    blocks = [participant_methods(values), "### Group statistics", _selection(values), _accuracy(values)]
    if values.get("scores"):
        blocks.append(_correlation(values))
    if values.get("controls") and len(values.get("groups", ())) > 1:
        blocks.append(_groups(values))
    blocks += [_repeated(values), _multiplicity(values)]
    if values.get("maps"):
        blocks += ["### Mean maps", _mean_maps(), _regions(values.get("atlas") or {})]
    return _joined(blocks)


def citation_text(methods: str) -> str:
    """Return the text of ``CITATION.md``: what to cite, the methods paragraphs and their references."""
    intro = (
        "# How to cite\n\nThe text below was generated from what was run and may be copied into a paper; it is "
        "released under CC0. Please cite the works it names, and the version of the software."
    )
    listed = "\n".join(f"- {reference}" for reference in references_for(methods))
    return f"{intro}\n\n## Methods\n\n{methods}\n\n## References\n\n{listed}\n"


def _preprocessing(values: Mapping[str, Any]) -> str:
    parts = [
        "T1-weighted images were processed with brainage-bids"
        + (f" {values['version']}" if "version" in values else "")
        + ", a BIDS App (Gorgolewski et al., 2017) built on nipype (Gorgolewski et al., 2011)."
    ]
    engines = values.get("engines", ())
    for engine in engines:
        steps = _ENGINES.get(engine)
        if steps is None:
            parts.append(f"For scans that had been prepared, {_PREPARED}")
        else:
            parts.append(f"With the {engine} engine, {steps[0].lower()}{steps[1:]}" if len(engines) > 1 else steps)
    grids = values.get("grids", ())
    if grids:
        targets = list(dict.fromkeys(map(_grid, grids)))
        once = "once" if len(targets) == 1 else "once for each kind of model"
        parts.append(f"Each image was resampled {once}, from native space to {', and to '.join(targets)}.")
    scalings = list(
        dict.fromkeys(_INTENSITY[grid["intensity"]] for grid in grids if grid.get("intensity") in _INTENSITY)
    )
    if scalings:
        parts.append(f"Intensities were {' or, for other models, '.join(scalings)}, with zero outside the brain.")
    return " ".join(parts)


def _grid(values: Mapping[str, Any]) -> str:
    """Return template and grid of a volume in words."""
    size = f" at {values['resolution']:g} mm" if "resolution" in values else ""
    voxels = f" ({' x '.join(str(n) for n in values['shape'])} voxels)" if "shape" in values else ""
    origin = " (Fonov et al., 2009; Fonov et al., 2011)" if "MNI152NLin" in values["template"] else ""
    bundled = ", as bundled with nilearn (Nilearn contributors)" if values["template"] == "MNI152NLin2009aSym" else ""
    return f"the {values['template']} template{origin}{size}{voxels}{bundled}"


def _model(model: Mapping[str, Any]) -> str:
    name = model["name"]
    if model.get("external"):
        return f"Predictions named {name} were made elsewhere and taken over as given."
    text = f"Model {name}" + (f" is a {model['backbone']}" if "backbone" in model else "")
    if "ResNet" in model.get("backbone", ""):
        text += " (He et al., 2016)"
    if "SFCN" in model.get("backbone", ""):
        text += " (Peng et al., 2021)"
    if "loss" in model:
        text += (" trained " if "backbone" in model else " was trained ") + _LOSSES.get(model["loss"], model["loss"])
    elif "backbone" not in model:
        text += " was applied"
    sentences = [text + "."]
    if model.get("n_train"):
        ages = f", aged {model['age_min']:.0f} to {model['age_max']:.0f} years" if "age_min" in model else ""
        who = "synthetic images" if model.get("phantom") else model.get("who") or "healthy people"
        sentences.append(f"It was trained on {model['n_train']} {who}{ages}.")
    if model.get("box"):
        sentences.append(
            f"It reads the box of {' x '.join(map(str, model['box']))} voxels around the template's brain."
        )
    if model.get("left_out"):
        sentences.append(
            f"It was trained {model['folds']} times, each time without one {model['left_out']}; every prediction for a "
            f"person of the training dataset comes from the training without the person's own {model['left_out']}."
        )
    elif model.get("folds"):
        sentences.append(
            f"Every prediction for a person of the training dataset comes from {model['folds']}-fold cross-validation, "
            "split by participant."
        )
    return " ".join(sentences)


def _bias(values: Mapping[str, Any]) -> str:
    gap = "The brain age gap (BAG) is predicted minus chronological age at the scanned session, in years"
    fitted = [line for line in values.get("lines", ()) if line["method"] != "none"]
    if not fitted:
        return f"{gap}, without correction for age bias."
    forms = [form for method, form in _FORMS.items() if any(line["method"] == method for line in fitted)]
    people: dict[str, list[str]] = {}
    for line in fitted:
        name = f"{line['name']}: " if len(values["lines"]) > 1 else ""
        people.setdefault(_people_of(line), []).append(f"{name}n = {line['n']}")
    where = "; ".join(f"{who} ({', '.join(counts)})" for who, counts in people.items())
    without = [line["name"] for line in values["lines"] if line["method"] == "none"]
    rest = f" The gap of {', '.join(without)} was not corrected." if without else ""
    covered = (
        " Its coverage in the study's controls is given with Wilson's interval (Wilson, 1927)."
        if values.get("calibration")
        else ""
    )
    return (
        f"{gap}. Its dependence on age was removed {' or '.join(forms)}, estimated in {where}.{rest} "
        f"The {values.get('coverage', 95):g} % interval is split-conformal (Papadopoulos et al., 2002), from the "
        f"absolute corrected residuals of the same people; it is valid for people like them.{covered}"
    )


def _people_of(line: Mapping[str, Any]) -> str:
    """Return in words which people an age-bias line was fitted on."""
    if line["source"] == "controls_crossfit":
        return "the study's own controls, cross-fitted so that nobody is corrected by their own data"
    if line["source"].startswith(QUERY):
        return f"people chosen by a query ({line['source'].removeprefix(QUERY)}), who were left out of all tests"
    if line.get("who"):
        return f"{line['who']}, each held out by the model that predicted them"
    return "held-out healthy people that the model was not trained on"


def _saliency() -> str:
    return (
        "Maps of what the model relied on are regression activation maps (Grad-RAM), after Grad-CAM (Selvaraju et al., "
        "2017), of the last stage before pooling. They are signed and in years: the cells of a map and the model's "
        "constant add up to the predicted age. They were resampled in world space through the map's own affine."
    )


def _selection(values: Mapping[str, Any]) -> str:
    parts = [
        "Scans that failed a quality gate, that have no age or that the model was trained on do not enter the tests."
    ]
    if values.get("pooled_datasets"):
        parts.append(f"The datasets {_listed(values['pooled_datasets'])} were analysed together.")
    if values.get("session_select"):
        parts.append(f"One session per participant was used ({values['session_select']}).")
    if values.get("controls"):
        parts.append(f"Controls are the participants labelled {_listed(values['controls'])}.")
    return " ".join(parts)


def _accuracy(values: Mapping[str, Any]) -> str:
    boots = f" ({values['n_bootstrap']:,} resamples)" if values.get("n_bootstrap") else ""
    return (
        "Accuracy is the mean absolute error (MAE) of the uncorrected predictions, with a bootstrap 95 % confidence "
        f"interval{boots}, beside the MAE of always predicting the mean age; R2 is 1 - SSres/SStot with chronological "
        "age as the outcome."
        + (
            " Models were compared on the same people by a paired t-test of absolute errors, with the Wilcoxon "
            "signed-rank test as a check."
            if len(values.get("models", ())) > 1
            else ""
        )
        + (
            " The error across sites (of a training without the person's site) was compared with that within sites in "
            "the same people by a paired t-test."
            if values.get("siteerror")
            else ""
        )
    )


def _correlation(values: Mapping[str, Any]) -> str:
    parts = [
        f"The gap was correlated with clinical scores within each group by {_coefficient(values)}; the other "
        "coefficients and Kendall's tau-b stand beside. The primary analysis uses the raw gap with age and sex "
        "partialled out, because a correlation of the raw gap alone is confounded by age; other variants are "
        "sensitivity analyses"
        + (f", among them one that holds {_listed(further)} constant." if (further := _further(values)) else "."),
        "Below 200 people an interval from 10,000 bootstrap resamples (BCa; Efron, 1987) stands beside, as a check.",
    ]
    if values.get("correlationcomparison"):
        parts.append(
            "Correlations of one score with the gaps of two models were compared by Williams' t (Steiger, 1980)."
        )
    return " ".join(parts)


def _coefficient(values: Mapping[str, Any]) -> str:
    """Return the correlation coefficient of the primary tests; named for each score if they differ."""
    ranked = [score_name(score) for score in values.get("ranked", ())]
    pearson, spearman = "Pearson's r (Fisher interval)", "Spearman's rank correlation"
    if not ranked:
        return pearson
    if len(ranked) == len(values["scores"]):
        return spearman
    return f"{pearson}, and by {spearman} for {_listed(ranked)}, whose stages are ordinal"


def _groups(values: Mapping[str, Any]) -> str:
    more = f" A further model also adjusts for {_listed(further)}." if (further := _further(values)) else ""
    return (
        "Patient groups were compared with controls by analysis of covariance of the raw gap adjusted for age and sex "
        "(primary; HC3 standard errors as a check), and by Welch's t-test with Hedges' g and the Mann-Whitney test; "
        "separation is given as the area under the ROC curve with DeLong's interval (DeLong et al., 1988). Intervals "
        "for corrected gaps also count the error of the age-bias line (Zou & Donner, 2008)." + more
    )


def _further(values: Mapping[str, Any]) -> list[str]:
    """Return the covariates if they are others than those of the primary tests, else an empty list."""
    names = [str(name) for name in values.get("covariates", ())]
    return [] if set(names) <= {"age", "sex"} else names


def _repeated(values: Mapping[str, Any]) -> str:
    parts = []
    for what in ("sites", "datasets"):
        if values.get(what):
            parts.append(
                f"{what.capitalize()} were compared in controls by an F test of the gap with age and sex in the model."
            )
    if values.get("longitudinal"):
        parts.append(
            "In people with sessions at least half a year apart, the rate is the least-squares slope of predicted on "
            "chronological age of each person; rates of groups were compared by Welch's t-test. A linear mixed model "
            "of the gap on time, group and their product with a random intercept per person was fitted by restricted "
            "maximum likelihood (Laird & Ware, 1982), with Wald tests."
        )
    if values.get("reliability"):
        parts.append(
            "Agreement of two scans of one person (one session or at most 90 days apart) is given as ICC(2,1) and "
            "ICC(3,1) (McGraw & Wong, 1996), within-person standard deviation, and limits of agreement "
            "(Bland & Altman, 1986)."
        )
    return " ".join(parts)


def _multiplicity(values: Mapping[str, Any]) -> str:
    seed = f" Random numbers start from seed {values['seed']}." if values.get("seed") is not None else ""
    return (
        "Tests are two-sided; intervals are 95 %. The false discovery rate was controlled within each family of "
        "primary tests (Benjamini & Hochberg, 1995); sensitivity analyses carry no q value." + seed
    )


def _mean_maps() -> str:
    return (
        "For the normalised mean maps each person's map was scaled to the range 0 to 1 inside the brain before "
        "averaging; signed mean maps are plain averages in years. Anatomy is aligned by an affine transformation only, "
        "which suits the size of the cells."
    )


def _regions(atlas: Mapping[str, Any]) -> str:
    if not atlas:
        return ""
    cited = next((cite for name, cite in _ATLASES.items() if name in str(atlas["name"]).lower()), "")
    return (
        f"Each person's normalised map was averaged over the {atlas['regions']} regions of the atlas "
        f"{PurePath(atlas['name']).name}{cited}, laid on the template by world coordinates; the years that a region "
        "adds are the sum of the signed map in it. Intervals of ranks are percentile bootstraps over people. Groups "
        "were compared region by region with age (and sex) as covariates: t tests, false discovery rate over regions, "
        "and permutations (Freedman & Lane, 1983) with the largest statistic over regions (Westfall & Young, 1993)."
    )


def _listed(names: Sequence[str]) -> str:
    names = [str(name) for name in names]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def _joined(blocks: Sequence[str]) -> str:
    """Join paragraphs; leave out empty ones, and headings without text below them."""
    parts = [part for block in blocks for part in block.split("\n\n") if part]
    ends = [*parts[1:], "###"]
    used = [
        part
        for part, after in zip(parts, ends, strict=True)
        if not (part.startswith("###") and after.startswith("###"))
    ]
    return "\n\n".join(used)
