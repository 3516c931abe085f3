"""The works that the methods paragraphs cite, in full."""

from __future__ import annotations

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
    "(Zou & Donner, 2008)": "Zou GY, Donner A. Construction of confidence limits about effect measures: a general "
    "approach. Stat Med 27:1693-1702 (2008). doi:10.1002/sim.3095",
}


def references_for(source: str) -> list[str]:
    """Return the references a text cites, in alphabetical order."""
    cited = [full for label, full in REFERENCES.items() if label.strip("()") in source]
    return sorted(cited)
