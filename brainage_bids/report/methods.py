"""Methods paragraphs to copy into a paper, and the references they cite.

Knows nothing of files or HTML: plain values in, plain text out (``#`` headings, blank lines between paragraphs).
A sentence whose value is not given is left out, so that nothing is claimed that was not done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

REFERENCES = {
    "(Benjamini & Hochberg, 1995)": "Benjamini Y, Hochberg Y. Controlling the false discovery rate: a practical and "
    "powerful approach to multiple testing. J R Stat Soc B 57:289-300 (1995). doi:10.1111/j.2517-6161.1995.tb02031.x",
    "(Avants et al., 2011)": "Avants BB, Tustison NJ, Song G, Cook PA, Klein A, Gee JC. A reproducible evaluation of "
    "ANTs similarity metric performance in brain image registration. NeuroImage 54:2033-2044 (2011). "
    "doi:10.1016/j.neuroimage.2010.09.025",
    "(Beheshti et al., 2019)": "Beheshti I, Nugent S, Potvin O, Duchesne S. Bias-adjustment in neuroimaging-based "
    "brain age frameworks: A robust scheme. NeuroImage: Clinical 24:102063 (2019). doi:10.1016/j.nicl.2019.102063",
    "(Bland & Altman, 1986)": "Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of "
    "clinical measurement. Lancet 327:307-310 (1986). doi:10.1016/S0140-6736(86)90837-8",
    "(Laird & Ware, 1982)": "Laird NM, Ware JH. Random-effects models for longitudinal data. Biometrics 38:963-974 "
    "(1982). doi:10.2307/2529876",
    "(McGraw & Wong, 1996)": "McGraw KO, Wong SP. Forming inferences about some intraclass correlation coefficients. "
    "Psychol Methods 1:30-46 (1996). doi:10.1037/1082-989X.1.1.30",
    "(Collins et al., 1994)": "Collins DL, Neelin P, Peters TM, Evans AC. Automatic 3D intersubject registration of MR "
    "volumetric data in standardized Talairach space. J Comput Assist Tomogr 18:192-205 (1994).",
    "(Desikan et al., 2006)": "Desikan RS, Ségonne F, Fischl B, et al. An automated labeling system for subdividing "
    "the human cerebral cortex on MRI scans into gyral based regions of interest. NeuroImage 31:968-980 (2006). "
    "doi:10.1016/j.neuroimage.2006.01.021",
    "(Destrieux et al., 2010)": "Destrieux C, Fischl B, Dale A, Halgren E. Automatic parcellation of human cortical "
    "gyri and sulci using standard anatomical nomenclature. NeuroImage 53:1-15 (2010). "
    "doi:10.1016/j.neuroimage.2010.06.010",
    "(Freedman & Lane, 1983)": "Freedman D, Lane D. A nonstochastic interpretation of reported significance levels. "
    "J Bus Econ Stat 1:292-298 (1983). doi:10.1080/07350015.1983.10509354",
    "(Rolls et al., 2015)": "Rolls ET, Joliot M, Tzourio-Mazoyer N. Implementation of a new parcellation of the "
    "orbitofrontal cortex in the automated anatomical labeling atlas. NeuroImage 122:1-5 (2015). "
    "doi:10.1016/j.neuroimage.2015.07.075",
    "(Tzourio-Mazoyer et al., 2002)": "Tzourio-Mazoyer N, Landeau B, Papathanassiou D, et al. Automated anatomical "
    "labeling of activations in SPM using a macroscopic anatomical parcellation of the MNI MRI single-subject brain. "
    "NeuroImage 15:273-289 (2002). doi:10.1006/nimg.2001.0978",
    "(Westfall & Young, 1993)": "Westfall PH, Young SS. Resampling-based multiple testing: examples and methods for "
    "p-value adjustment. Wiley, New York (1993).",
    "(Crête et al., 2025)": "Crête SJC, Kersten-Oertel M, Xiao Y. MRI-Based Brain Age Estimation with Supervised "
    "Contrastive Learning of Continuous Representation. arXiv:2511.22102 (2025).",
    "(DeLong et al., 1988)": "DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more "
    "correlated receiver operating characteristic curves. Biometrics 44:837-845 (1988). doi:10.2307/2531595",
    "(Efron, 1987)": "Efron B. Better bootstrap confidence intervals. J Am Stat Assoc 82:171-185 (1987). "
    "doi:10.1080/01621459.1987.10478410",
    "(Eskildsen et al., 2012)": "Eskildsen SF, Coupé P, Fonov V, et al. BEaST: brain extraction based on nonlocal "
    "segmentation technique. NeuroImage 59:2362-2373 (2012). doi:10.1016/j.neuroimage.2011.09.012",
    "(Fisch et al., 2024)": "Fisch L, Zumdick S, Barkhau C, et al. deepbet: Fast brain extraction of T1-weighted MRI "
    "using convolutional neural networks. Comput Biol Med 179:108845 (2024). doi:10.1016/j.compbiomed.2024.108845",
    "(Fonov et al., 2009)": "Fonov VS, Evans AC, McKinstry RC, Almli CR, Collins DL. Unbiased nonlinear average "
    "age-appropriate brain templates from birth to adulthood. NeuroImage 47(S1):S102 (2009). "
    "doi:10.1016/S1053-8119(09)70884-5",
    "(Fonov et al., 2011)": "Fonov V, Evans AC, Botteron K, Almli CR, McKinstry RC, Collins DL. Unbiased average "
    "age-appropriate atlases for pediatric studies. NeuroImage 54:313-327 (2011). doi:10.1016/j.neuroimage.2010.07.033",
    "(Gorgolewski et al., 2011)": "Gorgolewski K, Burns CD, Madison C, et al. Nipype: a flexible, lightweight and "
    "extensible neuroimaging data processing framework in Python. Front Neuroinform 5:13 (2011). "
    "doi:10.3389/fninf.2011.00013",
    "(Gorgolewski et al., 2017)": "Gorgolewski KJ, Alfaro-Almagro F, Auer T, et al. BIDS Apps: Improving ease of use, "
    "accessibility, and reproducibility of neuroimaging data analysis methods. PLoS Comput Biol 13:e1005209 (2017). "
    "doi:10.1371/journal.pcbi.1005209",
    "(He et al., 2016)": "He K, Zhang X, Ren S, Sun J. Deep residual learning for image recognition. CVPR 770-778 "
    "(2016). doi:10.1109/CVPR.2016.90",
    "(Jenkinson et al., 2002)": "Jenkinson M, Bannister P, Brady M, Smith S. Improved optimization for the robust and "
    "accurate linear registration and motion correction of brain images. NeuroImage 17:825-841 (2002). "
    "doi:10.1006/nimg.2002.1132",
    "(Nilearn contributors)": "Nilearn contributors. nilearn: statistical learning for neuroimaging in Python. "
    "doi:10.5281/zenodo.8397156",
    "(Papadopoulos et al., 2002)": "Papadopoulos H, Proedrou K, Vovk V, Gammerman A. Inductive confidence machines for "
    "regression. ECML 345-356 (2002). doi:10.1007/3-540-36755-1_29",
    "(Pedregosa et al., 2011)": "Pedregosa F, Varoquaux G, Gramfort A, et al. Scikit-learn: machine learning "
    "in Python. J Mach Learn Res 12:2825-2830 (2011).",
    "(Peng et al., 2021)": "Peng H, Gong W, Beckmann CF, Vedaldi A, Smith SM. Accurate brain age prediction with "
    "lightweight deep neural networks. Med Image Anal 68:101871 (2021). doi:10.1016/j.media.2020.101871",
    "(Selvaraju et al., 2017)": "Selvaraju RR, Cogswell M, Das A, Vedantam R, Parikh D, Batra D. Grad-CAM: Visual "
    "explanations from deep networks via gradient-based localization. ICCV 618-626 (2017). doi:10.1109/ICCV.2017.74",
    "(Smith, 2002)": "Smith SM. Fast robust automated brain extraction. Hum Brain Mapp 17:143-155 (2002). "
    "doi:10.1002/hbm.10062",
    "(Steiger, 1980)": "Steiger JH. Tests for comparing elements of a correlation matrix. Psychol Bull 87:245-251 "
    "(1980). doi:10.1037/0033-2909.87.2.245",
    "(Tustison et al., 2010)": "Tustison NJ, Avants BB, Cook PA, et al. N4ITK: Improved N3 bias correction. IEEE Trans "
    "Med Imaging 29:1310-1320 (2010). doi:10.1109/TMI.2010.2046908",
    "(Cole et al., 2018)": "Cole JH, Ritchie SJ, Bastin ME, et al. Brain age predicts mortality. Mol Psychiatry "
    "23:1385-1392 (2018). doi:10.1038/mp.2017.62",
    "(Wilson, 1927)": "Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat "
    "Assoc 22:209-212 (1927). doi:10.1080/01621459.1927.10502953",
    "(Zha et al., 2023)": "Zha K, Cao P, Son J, Yang Y, Katabi D. Rank-N-Contrast: Learning continuous representations "
    "for regression. NeurIPS 36 (2023). arXiv:2210.01189",
}

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


_ATLASES = {  # by what the name of an atlas holds, the first that fits
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
        pipeline masked and corrected); ``template``; ``resolution`` (mm); ``shape`` (voxels); ``intensity``
        (``minmax``, ``zscore``); ``models``, a list of mappings with ``name`` and, where known, ``backbone``
        (``3D ResNet-18``), ``loss`` (``rnc``, ``l1``, or a sentence part), ``n_train``, ``age_min``, ``age_max``
        (years), ``folds``, ``external`` (True: made elsewhere), ``phantom`` (True: synthetic images), ``who``
        (the people it was trained on, ``healthy people`` by default);
        ``bias_n`` (people who gave the age-bias line); ``saliency`` (True when maps were made); ``coverage`` (percent).
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
        (names), ``covariates`` (names), ``session_select``, ``n_bootstrap``, ``n_permutation``, ``seed``,
        ``together`` (names of the datasets, where there are several), ``bias_method`` (``beheshti``, ``cole``),
        ``bias_source`` (``model_card``, ``controls_crossfit``, ``offset``, ``none``), ``maps`` (True when averaged),
        ``atlas`` (`pipeline.regions`), ``sites``, ``datasets``, ``longitudinal``, ``reliability``,
        ``correlationcomparison``, ``calibration`` (True where there are results).
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


def references_for(source: str) -> list[str]:
    """Return the references a text cites, in alphabetical order."""
    cited = [full for label, full in REFERENCES.items() if label.strip("()") in source]
    return sorted(cited)


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
        said = _ENGINES.get(engine)
        if said is None:
            parts.append(f"For scans that had been prepared, {_PREPARED}")
        else:
            parts.append(f"With the {engine} engine, {said[0].lower()}{said[1:]}" if len(engines) > 1 else said)
    if "template" in values:
        parts.append(_grid(values))
    if (scaling := _INTENSITY.get(values.get("intensity", ""))) is not None:
        parts.append(f"Intensities were {scaling}, with zero outside the brain.")
    return " ".join(parts)


def _grid(values: Mapping[str, Any]) -> str:
    size = f" at {values['resolution']:g} mm" if "resolution" in values else ""
    voxels = f" ({' x '.join(str(n) for n in values['shape'])} voxels)" if "shape" in values else ""
    origin = " (Fonov et al., 2009; Fonov et al., 2011)" if "MNI152NLin" in values["template"] else ""
    bundled = ", as bundled with nilearn (Nilearn contributors)" if values["template"] == "MNI152NLin2009aSym" else ""
    where = f"{values['template']} template{origin}{size}{voxels}{bundled}"
    return f"Each image was resampled once, from native space to the {where}."


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
    if model.get("folds"):
        sentences.append(
            f"Every prediction for a person of the training dataset comes from {model['folds']}-fold cross-validation, "
            "split by participant."
        )
    return " ".join(sentences)


def _bias(values: Mapping[str, Any]) -> str:
    if values.get("bias_source") == "none":
        return "The brain age gap (BAG) is predicted minus chronological age in years, without correction for age bias."
    who = {
        "controls_crossfit": "the study's own controls, cross-fitted so that nobody is corrected by their own data",
        "offset": "healthy people, as a constant offset because they were too few for a line",
    }.get(values.get("bias_source", ""), "held-out healthy people that the model was not trained on")
    form = "with a line BAG = a * age + b (Beheshti et al., 2019)"
    if values.get("bias_method") == "cole":
        form = "in the form (predicted age - b) / s - age of a line predicted age = s * age + b (Cole et al., 2018)"
    covered = (
        " Its coverage in the study's controls is given with Wilson's interval (Wilson, 1927)."
        if values.get("calibration")
        else ""
    )
    count = f" (n = {values['bias_n']})" if values.get("bias_n") else ""
    return (
        "The brain age gap (BAG) is predicted minus chronological age at the scanned session, in years. Its dependence "
        f"on age was removed {form} estimated in {who}{count}. "
        f"The {values.get('coverage', 95):g} % interval is split-conformal (Papadopoulos et al., 2002), from the "
        f"absolute corrected residuals of held-out healthy people; it is valid for healthy people like them.{covered}"
    )


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
    if values.get("together"):
        parts.append(f"The datasets {_listed(values['together'])} were analysed together.")
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
        "age as the outcome. Models were compared on the same people by a paired t-test of absolute errors, with the "
        "Wilcoxon signed-rank test as a check."
    )


def _correlation(values: Mapping[str, Any]) -> str:
    parts = [
        "The gap was correlated with clinical scores within each group by Pearson's r (Fisher interval), and by rank "
        "coefficients for ordinal scales. The primary analysis uses the raw gap with age and sex partialled "
        "out, because a correlation of the raw gap alone is confounded by age; other variants are sensitivity analyses"
        + (f", among them one that holds {_listed(further)} constant." if (further := _further(values)) else "."),
        "Below 200 people an interval from 10,000 bootstrap resamples (BCa; Efron, 1987) stands beside, as a check.",
    ]
    if values.get("correlationcomparison"):
        parts.append(
            "Correlations of one score with the gaps of two models were compared by Williams' t (Steiger, 1980)."
        )
    return " ".join(parts)


def _groups(values: Mapping[str, Any]) -> str:
    more = f" A further model also adjusts for {_listed(further)}." if (further := _further(values)) else ""
    return (
        "Patient groups were compared with controls by analysis of covariance of the raw gap adjusted for age and sex "
        "(primary; HC3 standard errors as a check), and by Welch's t-test with Hedges' g and the Mann-Whitney test; "
        "separation is given as the area under the ROC curve with DeLong's interval (DeLong et al., 1988)." + more
    )


def _further(values: Mapping[str, Any]) -> list[str]:
    """Return the covariates, where they are not those of the primary tests."""
    names = [str(name) for name in values.get("covariates", ())]
    return [] if set(names) <= {"age", "sex"} else names


def _repeated(values: Mapping[str, Any]) -> str:
    parts = []
    for what in ("sites", "datasets"):
        if values.get(what):
            said = (
                f"{what.capitalize()} were compared in controls by an F test of the gap with age and sex in the model."
            )
            parts.append(said)
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
    """Join paragraphs, leaving out empty ones and headings with nothing under them."""
    parts = [part for block in blocks for part in block.split("\n\n") if part]
    ends = [*parts[1:], "###"]
    kept = [
        part
        for part, after in zip(parts, ends, strict=True)
        if not (part.startswith("###") and after.startswith("###"))
    ]
    return "\n\n".join(kept)
