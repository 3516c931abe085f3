import re

from brainage_bids.report import methods, references

VALUES = {
    "version": "0.1.0",
    "engines": ["builtin"],
    "grids": [
        {"template": "MNI152NLin2009aSym", "resolution": 1.0, "shape": (193, 229, 193), "intensity": "minmax"},
    ],
    "saliency": True,
    "lines": [
        {"name": "rnc-demo", "method": "beheshti", "source": "model_card", "n": 60},
        {"name": "bsa", "method": "offset", "source": "controls_crossfit", "n": 12},
    ],
    "controls": ["NC", "CN"],
    "groups": ["NC", "AD"],
    "scores": ["adas11"],
    "covariates": ["age", "sex"],
    "seed": 7,
    "maps": True,
    "n_bootstrap": 10000,
    "models": [
        {
            "name": "rnc-demo",
            "backbone": "3D ResNet-18",
            "loss": "rnc",
            "n_train": 1294,
            "age_min": 20,
            "age_max": 95,
            "folds": 5,
        },
        {"name": "bsa", "external": True},
    ],
}


def test_every_citation_is_listed_and_every_listed_one_cited():
    text = methods.group_methods(VALUES)
    cited = set(re.findall(r"[^\s(;]+(?: & [^\s,]+)?(?: et al\.)?, \d{4}", text))
    listed = references.references_for(text)
    known = {part.strip("()") for part in references.REFERENCES}
    assert cited <= known, cited - known
    assert len(listed) == len(cited) + 1  # nilearn is cited without a year
    assert listed == sorted(listed)


def test_group_text_contains_the_participant_text():
    assert methods.participant_methods(VALUES) in methods.group_methods(VALUES)


def test_values_appear():
    text = methods.group_methods(VALUES)
    for said in (
        "at 1 mm (193 x 229 x 193 voxels)",
        "1294 healthy people, aged 20 to 95",
        "held-out healthy people that the model was not trained on (rnc-demo: n = 60); the study's own controls",
        "(bsa: n = 12)",
        "or as a constant offset",
        "NC and CN",
        "seed 7",
        "10,000",
    ):
        assert said in text, said
    assert "bsa were made elsewhere" in text


def test_every_grid_and_every_intensity_rule_is_said():
    more = [*VALUES["grids"], {**VALUES["grids"][0], "resolution": 2.0, "shape": (96, 114, 96), "intensity": "zscore"}]
    text = methods.participant_methods({**VALUES, "grids": more})
    for said in ("once for each kind of model", "at 1 mm (193 x 229 x 193 voxels)", ", and to the MNI152NLin2009aSym",
                 "at 2 mm (96 x 114 x 96 voxels)", " or, for other models, "):  # fmt: skip
        assert said in text, said
    assert "resampled once, from" in methods.participant_methods({**VALUES, "grids": [*VALUES["grids"]] * 2})
    assert "Models were compared" not in methods.group_methods({**VALUES, "models": VALUES["models"][:1]})
    assert "Models were compared" in methods.group_methods(VALUES)


def test_nothing_is_claimed_that_was_not_given():
    text = methods.participant_methods({"engines": ["fsl"]})
    assert "deepbet" not in text
    assert "BET (Smith, 2002)" in text
    assert "Grad-RAM" not in text
    assert "### Brain age models" not in text
    assert "score" not in methods.group_methods({"groups": ["A"]})
    assert "synthetic images" in methods.participant_methods({"models": [{"name": "m", "n_train": 8, "phantom": True}]})


def test_every_engine_has_its_sentence_and_references():
    for engine, works in {"ants": "Avants", "fsl": "Jenkinson", "minc": "Eskildsen", "builtin": "Fisch"}.items():
        text = methods.participant_methods({"engines": [engine]})
        assert any(reference.startswith(works) for reference in references.references_for(text))
        assert "N4 (Tustison et al., 2010)" in text
    both = methods.participant_methods({"engines": ["ants", "builtin"]})
    assert "With the ants engine, the brain" in both
    assert "With the builtin engine, the brain" in both


def test_no_bias_correction_is_said():
    line = {"name": "m", "method": "none", "source": "none", "n": 0}
    assert "without correction" in methods.participant_methods({"lines": [line], "models": [{"name": "m"}]})
    assert "Age bias" not in methods.participant_methods({"lines": [line]})
    other = {"name": "o", "method": "beheshti", "source": "query: age > 60", "n": 31}
    both = methods.participant_methods({"lines": [line, other], "models": [{"name": "m"}, {"name": "o"}]})
    assert "people chosen by a query (age > 60), who were left out of all tests (o: n = 31)" in both
    assert "The gap of m was not corrected." in both
    assert "healthy" not in both


def test_people_who_are_not_healthy_are_not_called_so():
    line = {"name": "m", "method": "beheshti", "source": "model_card", "n": 71, "who": "adults, 41 with depression"}
    text = methods.participant_methods({"lines": [line], "models": [{"name": "m", "who": line["who"]}]})
    assert "estimated in adults, 41 with depression, each held out" in text
    assert "healthy" not in text


def test_citation_file_holds_text_and_references():
    text = methods.citation_text(methods.participant_methods(VALUES))
    assert "## References" in text
    assert "2511.22102" in text
    assert "2210.01189" in text


def test_prepared_scans_are_not_said_to_have_been_masked_here():
    alone = methods.participant_methods({"engines": ["prepared"]})
    assert "another pipeline had made" in alone
    assert "deepbet" not in alone
    both = methods.participant_methods({"engines": ["builtin", "prepared"]})
    assert "With the builtin engine, the brain was extracted with deepbet" in both
    assert "For scans that had been prepared" in both


def test_further_covariates_are_no_part_of_the_primary_tests():
    values = {"scores": ["adas11"], "controls": ["NC"], "groups": ["AD", "NC"]}
    plain = methods.group_methods({**values, "covariates": ["age", "sex"]})
    more = methods.group_methods({**values, "covariates": ["age", "sex", "site"]})
    for text in (plain, more):
        assert "raw gap with age and sex partialled out" in text
        assert "raw gap adjusted for age and sex (primary" in text
    assert "among them one that holds age, sex and site constant" in more
    assert "A further model also adjusts for age, sex and site." in more
    assert "among them" not in plain


def test_the_coefficient_of_the_primary_tests_is_told():
    one = methods.group_methods({"scores": ["adas11"], "ranked": []})
    assert "within each group by Pearson's r (Fisher interval); the other" in one
    two = methods.group_methods({"scores": ["adas11", "hy", "cdr_global"], "ranked": ["hy", "cdr_global"]})
    assert "and by Spearman's rank correlation for Hoehn & Yahr and CDR global, whose stages are ordinal" in two
    assert "within each group by Spearman's rank" in methods.group_methods({"scores": ["hy"], "ranked": ["hy"]})


def test_new_methods_are_cited():
    line = {"name": "a", "source": "model_card", "n": 40}
    values = {"scores": ["adas11"], "models": [{"name": "a"}], "lines": [{**line, "method": "cole"}]}
    text = methods.group_methods({**values, "correlationcomparison": True, "calibration": True})
    cited = " ".join(references.references_for(text))
    for author in ("Steiger JH", "Efron B", "Wilson EB", "Cole JH"):
        assert author in cited
    assert "Beheshti" not in cited
    without = " ".join(
        references.references_for(methods.group_methods({**values, "lines": [{**line, "method": "beheshti"}]}))
    )
    assert "Beheshti" in without
    for author in ("Steiger JH", "Wilson EB", "Cole JH"):
        assert author not in without


def test_sites_that_were_left_out_are_told():
    model = {**VALUES["models"][0], "left_out": "site", "folds": 3}
    text = methods.group_methods({**VALUES, "models": [model], "siteerror": True})
    assert "It was trained 3 times, each time without one site; every prediction for a person" in text
    assert "fold cross-validation" not in text
    assert "The error across sites (of a training without the person's site) was compared with" in text
    assert "error across sites" not in methods.group_methods(VALUES)
