"""One rule says which coefficient is primary: tables, captions, methods and the table of patients agree on it."""

import html
import re

import numpy as np
import pandas as pd
import pytest
from groupstudy import group_level, make_dataset, predictions

SYMBOL = {"spearman": "ρ", "pearson": "r"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root, rng, n = tmp_path_factory.mktemp("scores"), np.random.default_rng(4), 40
    people = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(n)], "age": rng.integers(55, 85, n)})
    people = people.assign(sex=rng.choice(["F", "M"], n), group=np.where(np.arange(n) < 20, "CN", "PD"))
    people["adas11"] = rng.integers(5, 40, n)
    people["cdr_global"] = rng.choice([0.5, 1, 2], n)
    people["NHY_OFF"] = rng.choice([1, 1.5, 2, 3], n)
    bids = make_dataset(root / "bids", people)
    given = predictions(root / "own.csv", people["participant_id"], people["age"] + rng.normal(1, 4, n))
    stage = ("--score", "H_Y=participants.tsv:NHY_OFF", "hoehn_yahr=participants.tsv:NHY_OFF")
    done = group_level(bids, root / "out", "--predictions", given, *stage)
    assert done.code == 0
    return done


def test_captions_take_the_statistic_of_the_primary_test(found):
    table = found.table("correlations")
    primary = table[table["q_fdr"].notna()].groupby("score")["statistic"].unique()
    assert primary.map(list).to_dict() == {
        "H_Y": ["spearman"], "hoehn_yahr": ["spearman"], "cdr_global": ["spearman"], "adas11": ["pearson"],
    }  # fmt: skip
    captions = [
        html.unescape(re.sub("<[^>]+>", "", one))
        for one in re.findall(r"<figcaption.*?</figcaption>", found.page, re.S)
    ]
    for score, (statistic,) in primary.items():
        name = {"cdr_global": "CDR global", "adas11": "ADAS-Cog-11"}.get(score, score)
        (caption,) = [one for one in captions if f"Model own and {name}." in one]
        symbols = re.findall(r"n = \d+, (\S+) = ", caption)
        assert symbols == [SYMBOL[statistic]] * 4, caption  # two groups: the gap drawn, and the primary test


def test_patients_and_methods_take_it_too(found):
    patients = found.table("patients")
    assert set(patients[patients["score"] == "cdr_global"]["statistic"]) == {"spearman"}
    assert set(patients[patients["score"] == "adas11"]["statistic"]) == {"pearson"}
    said = "Pearson's r (Fisher interval), and by Spearman's rank correlation for "
    methods = html.unescape(found.page)
    assert said in methods
    assert {"H_Y", "CDR global", "hoehn_yahr"} <= set(re.split(", | and |,", methods.partition(said)[2][:60]))
