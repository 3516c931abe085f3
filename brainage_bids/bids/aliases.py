"""Column names for sex, group, site and scores in public data, and the values they may take.

Names are compared after :func:`normalise`, whole and in the given order, never in part: ``adas13`` is not ``adas11``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


def normalise(name: str) -> str:
    """Return a column name or group value in lower case with only letters a-z and digits left."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


# --- who and when ---------------------------------------------------------------------------------------------------

SESSION_COLUMNS = (
    "sessionid", "session", "ses", "visit", "visitid", "visitcode", "viscode", "eventid", "timepoint", "wave",
)  # fmt: skip

SEX = (
    "sex", "gender", "ptgender", "biologicalsex", "sexf3100", "ptsex", "sexatbirth", "sexassignedatbirth",
    "assignedsexatbirth", "birthsex", "biosex", "biolsex", "subjectsex", "subjectgender", "participantsex",
    "participantgender", "patientsex", "patientgender", "sexgender", "gendersex", "sexorgender", "sexmf", "gendermf",
    "sexfm", "genderfm",
)  # fmt: skip
GROUP = (
    "group", "diagnosis", "diagnosisbl", "diagnosissc", "diagnostic", "dx", "dxbl", "dxgroup", "researchgroup",
    "cohort", "cohortdefinition", "concohort", "pathology",
)  # fmt: skip
SITE = (
    "site", "siteid", "center", "centre", "blindedsite", "sitename", "sitenumber", "siteno", "sitenum", "sitecode",
    "studysite", "scansite", "scanningsite", "mrisite", "imagingsite", "acquisitionsite", "recruitmentsite", "datasite",
    "centerid", "centreid", "centername", "centrename", "studycenter", "studycentre", "scancenter", "scancentre",
    "imagingcenter", "imagingcentre", "institution", "institutionname", "hospital", "scannersite", "scanner",
    "scannerid", "mriscanner",
)  # fmt: skip
FAMILY = ("familyid", "blindedfamily")
MEDICATION_STATE = ("pdstate", "updrsstate", "medstate")

# --- groups ---------------------------------------------------------------------------------------------------------

CONTROL_VALUES = frozenset(
    "cn nc hc con ctl ctrl control controls healthycontrol healthycontrols healthy healthyvolunteer healthyvolunteers "
    "normalcontrol normalcontrols cognitivelynormal".split()
)
DISEASE_VALUES = {
    **dict.fromkeys(("ad", "dementia", "alzheimersdisease", "alzheimerdisease"), "AD"),
    **dict.fromkeys(("mci", "emci", "lmci"), "MCI"),
    **dict.fromkeys(("pd", "parkinsonsdisease", "parkinsondisease", "pddenovo"), "PD"),
}
PPMI_COHORT_CODES = {"1": "PD", "2": "control"}

# --- scores ---------------------------------------------------------------------------------------------------------

SCORE_SENTINELS = frozenset({-1.0, -4.0})


@dataclass(frozen=True)
class ScoreRule:
    """A recognised clinical score.

    Parameters
    ----------
    title
        Name in full.
    aliases
        Normalised column names, in order.
    low, high, step
        Possible values: ``low`` to ``high`` in multiples of ``step`` (0: any number between).
    sentinels
        Numbers that mean missing.
    """

    title: str
    aliases: tuple[str, ...]
    low: float
    high: float
    step: float = 1.0
    sentinels: frozenset[float] = frozenset({-4.0, -1.0, 999.0})


SCORE_RULES = {
    "adas11": ScoreRule(
        "ADAS-Cog-11",
        ("adas11", "adascog11", "adascog11total", "adas11total", "adastotal11"),
        0.0, 70.0, step=0.0,  # word tasks are averaged over trials, so thirds occur
    ),
    "updrs3": ScoreRule(
        "MDS-UPDRS part III",
        (
            "np3totoff", "np3tot", "np3toton", "updrs3off", "updrs3", "updrs3on", "updrs3score", "updrs3scoreon",
            "updrsiii", "updrsiiioff", "updrsiiion", "updrsiiitotal", "updrspartiii", "mdsupdrsiii", "mdsupdrs3",
            "mdsupdrs3total",
        ),
        0.0, 132.0,
    ),
    "hy": ScoreRule(
        "Hoehn & Yahr stage",
        (
            "nhyoff", "nhy", "nhyon", "hy", "hny", "handy", "hystage", "hoehnyahr", "hoehnyahrstage", "hoehnyahrscore",
            "hoehnyahroff", "hoehnyahron", "hoehnandyahr", "hoehnyahrstagescor",
        ),
        0.0, 5.0, step=0.5, sentinels=frozenset({-4.0, -1.0, 101.0, 999.0}),
    ),
    "mmse": ScoreRule("Mini-Mental State Examination", ("mms", "mmse", "mmsetot", "mmsetotal", "mmscore"), 0.0, 30.0),
    "moca": ScoreRule("Montreal Cognitive Assessment", ("moca", "mcatot", "mocatotal"), 0.0, 30.0),
    "cdr_global": ScoreRule("Clinical Dementia Rating, global", ("cdrglobal", "cdglobal", "cdr"), 0.0, 3.0, step=0.5),
    "cdr_sb": ScoreRule("Clinical Dementia Rating, sum of boxes", ("cdrsb", "sumbox"), 0.0, 18.0, step=0.5),
}  # fmt: skip


def canonical_score(name: str) -> str | None:
    """Return the canonical name of a score or of its column; None when it is not recognised."""
    key = normalise(name)
    return next((canon for canon, rule in SCORE_RULES.items() if key == normalise(canon) or key in rule.aliases), None)


def score_state(name: str) -> str:
    """Return the medication state in a column name: ``off``, ``on`` or an empty string."""
    key = normalise(name)
    return "off" if key.endswith("off") else "on" if key.endswith("on") else ""
